import functools
import gzip
import math
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def header(kind: str, lengths: tuple[int, ...]) -> bytes:
    return struct.pack(f">BBBB{len(lengths)}I", 0, 0, CODES[kind], len(lengths), *lengths)


def encode(array: np.ndarray) -> bytes:
    assert math.prod(array.shape) == array.size
    big = array.astype(array.dtype.newbyteorder(">"), copy=False)
    return header(array.dtype.str[1:], array.shape) + big.tobytes()


@pytest.fixture(scope="session")
def idx_header() -> Callable[[str, tuple[int, ...]], bytes]:
    """The header of an IDX file, whatever follows it."""
    return header


@pytest.fixture(scope="session")
def idx_bytes() -> Callable[[np.ndarray], bytes]:
    """A whole IDX file, written independently of the reader under test."""
    return encode


@pytest.fixture(scope="session")
def zipped() -> Callable[[bytes], bytes]:
    return functools.partial(gzip.compress, mtime=0)


@pytest.fixture(scope="session")
def peak_memory():
    """`with peak_memory() as peak: ...`, then `peak()` bytes were allocated at most at once."""

    @contextmanager
    def measure() -> Iterator[Callable[[], int]]:
        tracemalloc.start()
        peak = []
        try:
            yield lambda: peak[0]
        finally:
            peak.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    return measure


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(__file__).parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there")
    return folder
