"""IDX, the file format of MNIST: a magic number, the shape, then the elements.

| bytes       | content                                        |
|-------------|------------------------------------------------|
| 0, 1        | zero                                           |
| 2           | element type: a key of `ELEMENTS`              |
| 3           | number of dimensions d                         |
| 4 ... 3 + 4d| length of each dimension, big-endian, 32 bits  |
| 4 + 4d ...  | the elements, big-endian, last index fastest   |

Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits.
"""

from __future__ import annotations

import gzip
import math
import os
import stat
import struct
import sys
import zlib
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

ELEMENTS = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

# The least number of dimensions that every NumPy this package supports can hold.
_MOST_DIMENSIONS = 32

# Deflate's shortest code for its longest match is 2 bits for 258 bytes, so no gzip file holds more
# than 1,032 times its own size.
_DEFLATE_LIMIT = 1032

_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK = 1 << 16


def read_idx(
    path: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    shape: tuple[int | None, ...] | None = None,
) -> NDArray[Any]:
    """The array in an IDX file, plain or gzip-compressed (told apart by content, not by name).

    A damaged or hostile file costs no more memory than the elements it really holds: a shape that
    the file is too small for is refused before anything is allocated, and a compressed file is
    never inflated further than its header promises.

    Args:
        path: the file.
        dtype: element type the file must have, as NumPy names it ("uint8"); None takes any.
        shape: lengths the dimensions must have, None where any length will do; `shape=None` takes
            any shape. `(None, 28, 28)` is MNIST's images, `(None,)` its labels.

    Returns:
        A writable array in this machine's byte order, of the file's shape and element type.

    Raises:
        DataError: the file is not IDX, is not what `dtype` and `shape` expect, is cut short, is
            damaged, or goes on after its last element. The message names the file and the byte.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: not a regular file; expected an IDX file, plain or gzip")
    with path.open("rb") as file:
        source = _Source(path, file, status.st_size)
        elements, lengths = _header(source, dtype, shape)
        promised = math.prod(lengths) * elements.itemsize
        source.require(promised)
        data = source.take(promised)
        source.finish()
    # Equal to frombuffer(...).reshape(lengths), which refuses an array without elements.
    array = np.ndarray(lengths, elements, buffer=data)
    return (
        array if elements.isnative else array.byteswap(inplace=True).view(elements.newbyteorder())
    )


class _Source:
    """A plain or gzip file read once from start to end, which names itself and the byte it is at."""

    def __init__(self, path: Path, file: BufferedReader, size: int) -> None:
        self._path, self._size = path, size
        self.compressed = file.peek(2)[:2] == _GZIP_MAGIC
        self._stream = gzip.GzipFile(fileobj=file) if self.compressed else file
        self._offset = 0

    def error(self, offset: int, problem: str) -> DataError:
        """A `DataError` for `problem` at `offset`, counted after decompression."""
        where = f"byte {offset} of the uncompressed data" if self.compressed else f"byte {offset}"
        return DataError(f"{self._path}, {where}: {problem}; replace the file by an intact copy")

    def require(self, count: int) -> None:
        """Refuse the file unless it can hold exactly `count` more bytes, judging by its size."""
        held = self._size * _DEFLATE_LIMIT if self.compressed else self._size - self._offset
        if count > held:
            most = f"at most {held}" if self.compressed else f"only {held}"
            raise self.error(
                self._offset,
                f"the header promises {count} bytes of elements, but a file of {self._size} bytes "
                f"holds {most}",
            )
        if count < held and not self.compressed:
            raise self._trailing(self._offset + count)

    def take(self, count: int) -> bytearray:
        """The next `count` bytes."""
        data = bytearray()
        while len(data) < count:
            block = self._read(min(_BLOCK, count - len(data)))
            if not block:
                raise self.error(
                    self._offset, f"the data end here, {count - len(data)} bytes too early"
                )
            data += block
        return data

    def finish(self) -> None:
        """Refuse the file unless nothing is left to read; verifies gzip's checksum on the way."""
        if self._read(1):
            raise self._trailing(self._offset - 1)

    def _trailing(self, offset: int) -> DataError:
        return self.error(offset, "the file goes on after the last element its header promises")

    def _read(self, count: int) -> bytes:
        try:
            block = self._stream.read1(count)
        except EOFError as error:
            raise self.error(
                self._offset, f"the gzip stream is cut short at byte {self._size} of the file"
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise self.error(
                self._offset, f"the gzip stream is damaged here or soon after ({error})"
            ) from error
        self._offset += len(block)
        return block


def _header(
    source: _Source, dtype: str | None, shape: tuple[int | None, ...] | None
) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Element type and lengths of the dimensions, as far as the file's header can be believed."""
    magic = bytes(source.take(4))
    zeros, code, dimensions = magic[:2], magic[2], magic[3]
    if zeros != b"\0\0" or code not in ELEMENTS or not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise source.error(0, f"magic number 0x{magic.hex()} is not that of an IDX file")
    elements = np.dtype(ELEMENTS[code])
    if dtype is not None and elements.newbyteorder("=") != np.dtype(dtype):
        raise source.error(2, f"elements of type {elements.name}, expected {dtype}")
    if shape is not None and dimensions != len(shape):
        raise source.error(3, f"{dimensions} dimensions, expected {len(shape)}")
    lengths = struct.unpack(f">{dimensions}I", source.take(4 * dimensions))
    for axis, (length, expected) in enumerate(zip(lengths, shape or (), strict=bool(shape))):
        if expected is not None and length != expected:
            raise source.error(4 + 4 * axis, f"dimension {axis} is {length}, expected {expected}")
    # A length of zero hides the others from the product, but not from NumPy.
    if math.prod(length or 1 for length in lengths) * elements.itemsize > sys.maxsize:
        raise source.error(4, f"no array can have the shape {lengths}")
    return elements, lengths
