"""The order in which examples are drawn, and their numbers put side by side for native code."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if cython.compiled:
    from cython.cimports.libc.string import memcpy

WORDS = 1 << 16  # drawn from a generator at a time


def shuffled(count: int, rng: random.Random) -> NDArray[np.intp]:
    """The numbers from 0 to `count`, as `rng.shuffle` would leave a list of them, and the rng."""
    i: cython.Py_ssize_t = count - 1
    j: cython.Py_ssize_t
    k: cython.Py_ssize_t
    found = np.arange(count, dtype=np.intp)
    order: cython.Py_ssize_t[::1] = found.data
    width: cython.int = count.bit_length()
    while i > 0:
        # Each exchange takes at least one word of the generator, of which `getrandbits` gives the
        # first bits for so few of them, and for many all, the first word lowest.
        some = min(i, WORDS)
        drawn = rng.getrandbits(32 * some).to_bytes(4 * some, "little")
        words: cython.uint[::1] = np.frombuffer(drawn, "<u4").astype(np.uintc).data
        for k in range(some):
            while (1 << (width - 1)) > i + 1:
                width -= 1
            j = words[k] >> (32 - width)
            if j <= i:
                order[i], order[j] = order[j], order[i]
                i -= 1
    return found


@cython.final
@cython.cclass
class Gather:
    """Copies chosen rows of a table, side by side, into columns of an array from `column` on.

    Both have two axes, the table one row for each example, the array one for each that is chosen.
    """

    table: cython.uchar[:, ::1]
    into: cython.uchar[:, ::1]
    start: cython.Py_ssize_t

    def __init__(self, table: NDArray[np.generic], into: NDArray[np.generic], column: int) -> None:
        self.table = table.view(np.uint8).data
        self.into = into.view(np.uint8).data
        self.start = column * into.itemsize

    def __call__(self, chosen: NDArray[np.intp]) -> None:
        """Copy these rows."""
        k: cython.Py_ssize_t
        size: cython.Py_ssize_t = self.table.shape[1]
        rows: cython.Py_ssize_t[::1] = chosen
        for k in range(len(rows)):
            if cython.compiled:
                memcpy(
                    cython.address(self.into[k, self.start]),
                    cython.address(self.table[rows[k], 0]),
                    size,
                )
            else:
                for j in range(size):
                    self.into[k, self.start + j] = self.table[rows[k], j]
