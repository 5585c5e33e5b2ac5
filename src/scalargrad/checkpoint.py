"""Files that are whole or not there: saved models and training checkpoints.

A file is written beside its final name, flushed to the disk, then renamed over it, so that a
process killed at any moment, or a full disk, leaves the old file or the new one and never a
piece (`atomic_write`).

Arrays are kept in the safetensors format, which other libraries read, and everything else as
JSON in its metadata: loading runs no code, whoever wrote the file. Numbers come back with the
same bits. A SHA-256 over the whole content tells a damaged file from a good one.

    save_checkpoint("run.safetensors", model=..., optimizer=..., extra={"epoch": 3})
    model, optimizer, extra = load_checkpoint("run.safetensors")
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from .errors import CheckpointError

Array = NDArray[Any]
PathLike = str | os.PathLike[str]
Content = bytes | str | Callable[[BinaryIO], object]

VERSION = 1
ABANDONED = 3600.0  # seconds after which a temporary file has no writer any more
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
LOADERS = {"arrays": "load_arrays", "model": "load_model", "checkpoint": "load_checkpoint"}

# --- writing a file whole -------------------------------------------------------------------------


def atomic_write(path: PathLike, content: Content) -> None:
    """Write a file so that its name always holds the old content or the new, both complete.

    `content` is bytes, text (UTF-8) or a function that writes to the binary file it is given. A
    link is followed; an existing file's permissions are kept. When anything goes wrong the old
    file is as it was and nothing is left behind. Raises `OSError` naming the path and, when the
    disk is full, the space that is left; what `content` raises passes through.
    """
    target = _target(path)
    with _staged(target, content) as temporary:
        _publish(temporary, target)


def _target(path: PathLike) -> Path:
    """Where a write to `path` ends up; `OSError` where a file cannot be."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "its folder does not exist: make it first", str(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder: name a file inside it", str(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "is a device or pipe, which cannot be replaced", str(path))
    return target


@contextlib.contextmanager
def _staged(target: Path, content: Content) -> Iterator[Path]:
    """A finished temporary file in target's folder, removed at the end if it is still there."""
    prefix = f".{target.name[:60]}."
    _sweep(target.parent, prefix)
    temporary = target.parent / f"{prefix}{secrets.token_hex(8)}.tmp"
    try:
        with _explaining(target):
            _write(temporary, target, content)
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write(temporary: Path, target: Path, content: Content) -> None:
    with open(temporary, "xb") as file:
        if target.exists():
            shutil.copymode(target, temporary)
        if callable(content):
            content(file)
        else:
            file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def _publish(temporary: Path, target: Path) -> None:
    with _explaining(target):
        os.replace(temporary, target)
    if hasattr(os, "O_DIRECTORY"):
        # The new name itself must survive a power cut; file systems that cannot promise it say so.
        with contextlib.suppress(OSError):
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _sweep(folder: Path, prefix: str) -> None:
    """Remove what killed writers left; a recent one may belong to a writer still at work."""
    for path in glob.glob(glob.escape(str(folder / prefix)) + "*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - os.stat(path).st_mtime > ABANDONED:
                os.unlink(path)


@contextlib.contextmanager
def _explaining(target: Path) -> Iterator[None]:
    """Turn an `OSError` into one of the same kind that names the file and says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(target.parent).free
            reason += f" ({free:,} bytes are free in its folder): make room and save again"
        message = f"cannot be written: {reason}; what was there before is unchanged"
        raise OSError(error.errno, message, str(target)) from error


# --- numbers, text and containers as JSON ---------------------------------------------------------
#
# What JSON has, it holds as it is. The rest is an object with one key that starts with "$":
# {"$array": name}, {"$tuple": [...]}, {"$float": bits of an inf or nan}, {"$int": hexadecimal}.
# A key of the user's that starts with "$" gets one more.

_PLAIN_INT = 2**53  # JSON readers other than Python's keep integers exact up to here


@singledispatch
def _encode(x: object, place: str, arrays: dict[str, Array]) -> Any:
    """x as JSON; arrays go into `arrays` under the name of their place."""
    raise TypeError(
        f"{place}: a {type(x).__name__} cannot be saved: expected numbers, strings, None, NumPy "
        "arrays, or dictionaries, lists and tuples of these"
    )


@_encode.register
def _(x: bool | str | None, place: str, arrays: dict[str, Array]) -> Any:
    return x


@_encode.register
def _(x: int, place: str, arrays: dict[str, Array]) -> Any:
    return int(x) if abs(x) <= _PLAIN_INT else {"$int": hex(x)}


@_encode.register
def _(x: float, place: str, arrays: dict[str, Array]) -> Any:
    return float(x) if abs(x) < float("inf") else {"$float": struct.pack(">d", x).hex()}


@_encode.register
def _(x: np.generic, place: str, arrays: dict[str, Array]) -> Any:
    number = x.item()
    if isinstance(number, np.generic):
        raise TypeError(f"{place}: a {type(x).__name__} cannot be saved exactly: use a float64")
    return _encode(number, place, arrays)


@_encode.register
def _(x: list, place: str, arrays: dict[str, Array]) -> Any:  # type: ignore[type-arg]
    return [_encode(item, f"{place}/{k}", arrays) for k, item in enumerate(x)]


@_encode.register
def _(x: tuple, place: str, arrays: dict[str, Array]) -> Any:  # type: ignore[type-arg]
    return {"$tuple": [_encode(item, f"{place}/{k}", arrays) for k, item in enumerate(x)]}


@_encode.register
def _(x: Mapping, place: str, arrays: dict[str, Array]) -> Any:  # type: ignore[type-arg]
    encoded = {}
    for key, item in x.items():
        name = _text(key, place)
        marked = "$" + name if name.startswith("$") else name
        encoded[marked] = _encode(item, f"{place}/{_segment(name)}", arrays)
    return encoded


@_encode.register
def _(x: np.ndarray, place: str, arrays: dict[str, Array]) -> Any:
    arrays[place] = _storable(x, place)
    return {"$array": place}


def _text(key: Any, place: str) -> str:
    try:
        key.encode()
    except (AttributeError, UnicodeEncodeError):
        raise TypeError(f"{place}: expected keys that are text, got {key!r}") from None
    return str(key)


def _segment(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")  # as in JSON pointers (RFC 6901)


def _storable(x: Any, name: str) -> Array:
    """x with C order and the machine's byte order; `TypeError` for what is no array of numbers."""
    if not isinstance(x, np.ndarray) or x.dtype.name not in DTYPES:
        got = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
        raise TypeError(f"{name}: expected a NumPy array of {', '.join(DTYPES)}, got {got}")
    return np.asarray(x, dtype=x.dtype.newbyteorder("="), order="C")


def _decode(x: Any, arrays: Mapping[str, Array]) -> Any:
    """What `_encode` was given."""
    if isinstance(x, list):
        return [_decode(item, arrays) for item in x]
    if not isinstance(x, dict):
        return x
    if len(x) == 1:
        ((key, item),) = x.items()
        if key in _TAGS:
            return _TAGS[key](item, arrays)
    return {_unmarked(key): _decode(item, arrays) for key, item in x.items()}


def _unmarked(key: str) -> str:
    if key.startswith("$") and not key.startswith("$$"):
        raise ValueError(f"unknown kind of entry {key!r}")
    return key.removeprefix("$")


_TAGS: Mapping[str, Callable[[Any, Mapping[str, Array]], Any]] = {
    "$array": lambda name, arrays: arrays[name],
    "$tuple": lambda items, arrays: tuple(_decode(items, arrays)),
    "$float": lambda bits, arrays: struct.unpack(">d", bytes.fromhex(bits))[0],
    "$int": lambda digits, arrays: int(digits, 16),
}


def _json(x: object, indent: int | None = None) -> str:
    return json.dumps(x, allow_nan=False, indent=indent)


def _encoded(x: object, name: str) -> tuple[Any, dict[str, Array]]:
    arrays: dict[str, Array] = {}
    try:
        return _encode(x, name, arrays), arrays
    except RecursionError:
        raise ValueError(f"{name}: nested too deeply to be saved, or contains itself") from None


# --- one file: arrays and a document --------------------------------------------------------------


def _digest(document: str, arrays: Mapping[str, Array]) -> str:
    """SHA-256 of the document and of every array's name, type, shape and bytes."""
    digest = hashlib.sha256()
    names = sorted(arrays)
    shapes = [[name, arrays[name].dtype.str, arrays[name].shape] for name in names]
    digest.update(_json([document, shapes]).encode())
    for name in names:
        digest.update(arrays[name].reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


# The metadata has one entry: safetensors writes several in an order that changes between runs.
_SEAL = re.compile(r'\{"sha256": "([0-9a-f]{64})", (.*)')


def _sealed(document: str, digest: str) -> str:
    """The document, a JSON object, with its digest as the first entry: what `_SEAL` matches."""
    return f'{{"sha256": "{digest}", {document[1:]}'


def _packed(kind: str, content: Any, arrays: dict[str, Array]) -> tuple[bytes, str]:
    """The bytes of the file, and their digest."""
    document = _json({"version": VERSION, "kind": kind, "content": content})
    digest = _digest(document, arrays)
    try:
        return safetensors_bytes(arrays, {"scalargrad": _sealed(document, digest)}), digest
    except SafetensorError as error:
        raise ValueError(
            f"{kind}: {len(document):,} characters of numbers and text beside the arrays are more "
            f"than a safetensors file holds ({error}): put long lists into NumPy arrays"
        ) from error


def _unpacked(path: PathLike, kind: str) -> tuple[Any, dict[str, Array]]:
    """The content and the arrays of a file written as `kind`, or `CheckpointError`."""
    name = os.fspath(path)
    try:
        mode = os.stat(name).st_mode
        if stat.S_ISREG(mode):
            with safe_open(name, framework="numpy") as file:
                metadata = file.metadata() or {}
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, f"no saved {kind} is there", name) from error
    except PermissionError as error:
        raise CheckpointError(f"{name}: may not be read: change its permissions") from error
    except (SafetensorError, OSError, ValueError, TypeError, MemoryError) as error:
        raise _damaged(name, str(error) or type(error).__name__) from error
    if not stat.S_ISREG(mode):
        what = "a folder: name a file inside it" if stat.S_ISDIR(mode) else "a device or pipe"
        raise CheckpointError(f"{name}: expected a saved {kind}, got {what}")
    if "scalargrad" not in metadata:
        raise CheckpointError(
            f"{name}: a safetensors file, but not one of scalargrad's, or damaged: for a file of "
            "another library use safetensors.numpy.load_file"
        )
    sealed = _SEAL.fullmatch(metadata["scalargrad"])
    document = "{" + sealed[2] if sealed else ""
    if not sealed or _digest(document, arrays) != sealed[1]:
        raise _damaged(name, "its content does not match its SHA-256")
    return _opened(name, document, kind), arrays


def _opened(name: str, document: str, kind: str) -> Any:
    with _reading(name):
        fields = json.loads(document)
        version, found, content = fields["version"], fields["kind"], fields["content"]
    if version != VERSION:
        raise CheckpointError(
            f"{name}: format {version!r}, and this scalargrad reads format {VERSION}: "
            "use the version of scalargrad that wrote it"
        )
    if found != kind:
        raise CheckpointError(
            f"{name}: expected a saved {kind}, got a saved {found}: "
            f"read it with {LOADERS.get(str(found), 'what wrote it')}"
        )
    return content


@contextlib.contextmanager
def _reading(path: PathLike) -> Iterator[None]:
    """`CheckpointError` for content that is not arranged as the functions above arrange it."""
    try:
        yield
    except (KeyError, ValueError, TypeError, RecursionError, struct.error) as error:
        raise _damaged(os.fspath(path), repr(error)) from error


def _damaged(name: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{name}: damaged, cut short or not a file of scalargrad's: {reason}. "
        "Restore it from a copy, or save it again"
    )


# --- what users save ------------------------------------------------------------------------------


def save_arrays(
    path: PathLike, arrays: Mapping[str, Array], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write named arrays, and numbers and text about them, to one safetensors file.

    The arrays keep their names, so `safetensors.numpy.load_file` reads them too. Raises
    `TypeError` for what is no array of numbers, `OSError` as `atomic_write`.
    """
    content, stored = _named_arrays(arrays, metadata or {}, "metadata")
    atomic_write(path, _packed("arrays", content, stored)[0])


def load_arrays(path: PathLike) -> tuple[dict[str, Array], dict[str, Any]]:
    """What `save_arrays` was given: (arrays, metadata), bit for bit and in the same order.

    Memory grows with the file's true size, whatever its header claims. Raises
    `FileNotFoundError`, and `CheckpointError` for a file that is damaged, unreadable or something
    else.
    """
    return _load_named(path, "arrays", "metadata")


def save_model(path: PathLike, state: Mapping[str, Array], config: Mapping[str, Any]) -> None:
    """Write a model's arrays and its configuration to one safetensors file, and a JSON beside it.

    `load_model` reads the safetensors file alone. `model.json` beside `model.safetensors` is a
    copy of the configuration for people; it is absent rather than wrong if the process is killed
    between the two. Raises as `save_arrays`, and `ValueError` if `path` itself ends in .json.
    """
    target = _target(path)
    beside = _target(Path(path).with_suffix(".json"))
    if beside == target:
        raise ValueError(f"path: expected a name such as model.safetensors, got {str(path)!r}")
    content, stored = _named_arrays(state, config, "config")
    packed, digest = _packed("model", content, stored)
    shapes = {name: list(array.shape) for name, array in stored.items()}
    copy = {"model": target.name, "sha256": digest, "config": content["config"], "arrays": shapes}
    with _staged(target, packed) as model, _staged(beside, _json(copy, indent=2) + "\n") as text:
        beside.unlink(missing_ok=True)
        _publish(model, target)
        _publish(text, beside)


def load_model(path: PathLike) -> tuple[dict[str, Array], dict[str, Any]]:
    """What `save_model` was given: (state, config). Raises as `load_arrays`."""
    return _load_named(path, "model", "config")


def _named_arrays(
    arrays: Mapping[str, Array], fields: Mapping[str, Any], what: str
) -> tuple[Any, dict[str, Array]]:
    if not isinstance(arrays, Mapping):
        raise TypeError(
            "arrays: expected a dictionary of arrays such as model.state_dict(), got "
            f"{type(arrays).__name__}"
        )
    stored = {_text(name, "arrays"): _storable(array, name) for name, array in arrays.items()}
    if "__metadata__" in stored:
        raise ValueError("arrays: the name '__metadata__' is taken by the safetensors format")
    encoded, inside = _encoded(fields, what)
    if inside:
        raise TypeError(
            f"{next(iter(inside))}: an array cannot be kept here: put it among the arrays, "
            "or use .tolist()"
        )
    return {"names": list(stored), what: encoded}, stored


def _load_named(path: PathLike, kind: str, what: str) -> tuple[dict[str, Array], dict[str, Any]]:
    content, arrays = _unpacked(path, kind)
    with _reading(path):
        fields = _decode(content[what], {})
        return {name: arrays[name] for name in content["names"]}, fields


class Checkpoint(NamedTuple):
    """What `load_checkpoint` returns: the three dictionaries that `save_checkpoint` was given."""

    model: dict[str, Any]
    optimizer: dict[str, Any]
    extra: dict[str, Any]


def save_checkpoint(
    path: PathLike,
    *,
    model: Mapping[str, Any],
    optimizer: Mapping[str, Any],
    extra: Mapping[str, Any],
) -> None:
    """Write all that a training run needs to go on as if it had not stopped, to one file.

    `model` and `optimizer` are their `state_dict()`; `extra` is the rest: epoch, step, history,
    the states of random generators (`random.Random.getstate()`, a NumPy bit generator's
    `.state`). Dictionaries with text keys, lists and tuples may be nested and hold floats, also
    inf and nan, integers of any size, text, None and NumPy arrays; all return with the same
    bits. Raises `TypeError` naming the place of anything else, `OSError` as `atomic_write`.
    """
    content: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for name, tree in (("model", model), ("optimizer", optimizer), ("extra", extra)):
        content[name], found = _encoded(tree, name)
        arrays |= found
    atomic_write(path, _packed("checkpoint", content, arrays)[0])


def load_checkpoint(path: PathLike) -> Checkpoint:
    """What `save_checkpoint` was given, as (model, optimizer, extra).

    Memory grows with the file's true size, whatever its header claims, and nothing in the file
    is run. Raises `FileNotFoundError`, and `CheckpointError` for a file that is damaged, unreadable
    or something else.
    """
    content, arrays = _unpacked(path, "checkpoint")
    with _reading(path):
        return Checkpoint(**_decode(content, arrays))
