"""MNIST: 70,000 handwritten digits of 28 × 28 pixels, in four IDX files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .download import download as fetch
from .examples import Examples, Split
from .idx import read_idx

Part = Literal["train", "test"]
Pixels = Literal["float64", "float32", "uint8"]

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)

_SIDE = 28
_CLASSES = 10
_LABELS_START = 8


class _File(NamedTuple):
    """One of the four files, with the length and SHA-256 of its published gzip archive."""

    name: str
    size: int
    sha256: str

    @property
    def spellings(self) -> tuple[str, ...]:
        """File names it goes by: as published and as some programs unpack it."""
        dotted = self.name.replace("-idx", ".idx")
        return self.name, dotted, f"{self.name}.gz", f"{dotted}.gz"


class _Pair(NamedTuple):
    """The two files of one part."""

    images: _File
    labels: _File


_PARTS: dict[Part, _Pair] = {
    "train": _Pair(
        images=_File(
            "train-images-idx3-ubyte",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        labels=_File(
            "train-labels-idx1-ubyte",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
    ),
    "test": _Pair(
        images=_File(
            "t10k-images-idx3-ubyte",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        labels=_File(
            "t10k-labels-idx1-ubyte",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
}


@overload
def mnist(
    directory: str | os.PathLike[str],
    *,
    part: None = None,
    dtype: Pixels = "float64",
    download: bool = False,
    mirrors: Sequence[str] = MIRRORS,
) -> Split: ...


@overload
def mnist(
    directory: str | os.PathLike[str],
    *,
    part: Part,
    dtype: Pixels = "float64",
    download: bool = False,
    mirrors: Sequence[str] = MIRRORS,
) -> Examples: ...


def mnist(
    directory: str | os.PathLike[str],
    *,
    part: Part | None = None,
    dtype: Pixels = "float64",
    download: bool = False,
    mirrors: Sequence[str] = MIRRORS,
) -> Split | Examples:
    """Read MNIST, or any data set in the same form (Fashion-MNIST, KMNIST), from a folder.

    Each file may be plain or gzip-compressed, and named as published (`t10k-images-idx3-ubyte`) or
    with a dot (`t10k-images.idx3-ubyte`), with or without `.gz`.

    Args:
        directory: the folder with the files.
        part: "train" (60,000 images in MNIST) or "test" (10,000) to read only those two files;
            None reads all four.
        dtype: "float64" or "float32" for pixels from 0.0 (paper) to 1.0 (ink); "uint8" for 0 to
            255 as stored, an eighth of the memory.
        download: fetch the files that are missing, verify their SHA-256 and keep them in
            `directory`. Files that are there are never replaced.
        mirrors: addresses of folders to download the gzip files of MNIST from, tried in order.

    Returns:
        `Split(train, test)`, or with `part` only those `Examples(x, y)`: x of shape (n, 784), rows
        of pixels from the top left; y int64 of shape (n,), each 0 to 9.

    Raises:
        DataError: a file is missing, damaged, or not what its name says, or the images and labels
            do not belong together; the message names the file and, inside it, the byte.
        TypeError, ValueError: `part`, `dtype` or `mirrors` is none of those above.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document
    recognition, Proceedings of the IEEE 86, 1998.
    """
    if part is not None and part not in _PARTS:
        raise ValueError(f"part is {part!r}: expected 'train', 'test' or None for both")
    if dtype not in ("float64", "float32", "uint8"):
        raise ValueError(f"dtype is {dtype!r}: expected 'float64', 'float32' or 'uint8'")
    if isinstance(mirrors, str):
        raise TypeError(f"mirrors is {mirrors!r}: expected a list of addresses")
    folder = Path(directory)
    parts: tuple[Part, ...] = ("train", "test") if part is None else (part,)
    if download:
        _download_missing(folder, parts, mirrors)
    paths = _locate(folder, parts)
    examples = [_examples(*paths[each], dtype) for each in parts]
    return Split(*examples) if part is None else examples[0]


def _find(folder: Path, file: _File) -> Path | None:
    """The path of `file` under the first of its spellings that is there."""
    return next((path for name in file.spellings if (path := folder / name).is_file()), None)


def _download_missing(folder: Path, parts: tuple[Part, ...], mirrors: Sequence[str]) -> None:
    for file in (file for part in parts for file in _PARTS[part]):
        if _find(folder, file) is None:
            archive = f"{file.name}.gz"
            urls = [f"{mirror.rstrip('/')}/{archive}" for mirror in mirrors]
            fetch(urls, folder / archive, size=file.size, sha256=file.sha256)


def _locate(folder: Path, parts: tuple[Part, ...]) -> dict[Part, tuple[Path, Path]]:
    """Where the images and labels of each part are; one error names everything that is missing."""
    found: dict[Part, tuple[Path, Path]] = {}
    missing: list[_File] = []
    for part in parts:
        images, labels = (_find(folder, file) for file in _PARTS[part])
        if images is not None and labels is not None:
            found[part] = images, labels
        missing += [f for f, path in zip(_PARTS[part], (images, labels)) if path is None]
    if missing:
        looked_for = "; ".join(" or ".join(file.spellings) for file in missing)
        there = "".join(f"part={part!r} reads the files that are there, " for part in found)
        raise DataError(
            f"{folder} is not a folder with all of MNIST's files. Missing: {looked_for}. "
            f"Put them there ({there}download=True fetches what is missing)"
        )
    return found


def _examples(images_path: Path, labels_path: Path, dtype: Pixels) -> Examples:
    """One part, once its two files are known to belong together."""
    labels = read_idx(labels_path, dtype="uint8", shape=(None,))
    beyond = np.flatnonzero(labels >= _CLASSES)
    if beyond.size:
        first = int(beyond[0])
        raise DataError(
            f"{labels_path}, byte {_LABELS_START + first} of the uncompressed data: "
            f"label {labels[first]} of example {first}, expected 0 to {_CLASSES - 1}; "
            "replace the file by an intact copy"
        )
    images = read_idx(images_path, dtype="uint8", shape=(None, _SIDE, _SIDE))
    if len(images) != len(labels) or len(images) == 0:
        raise DataError(
            f"{images_path}, byte 4, says {len(images)} images and {labels_path}, byte 4, says "
            f"{len(labels)} labels: expected as many of one as of the other, and at least 1; "
            "take both files from the same data set"
        )
    return Examples(_pixels(images, dtype), labels.astype(np.int64))


def _pixels(
    images: NDArray[np.uint8], dtype: Pixels
) -> NDArray[np.uint8 | np.float32 | np.float64]:
    rows = images.reshape(len(images), _SIDE * _SIDE)
    return rows if dtype == "uint8" else np.divide(rows, 255, dtype=np.dtype(dtype))
