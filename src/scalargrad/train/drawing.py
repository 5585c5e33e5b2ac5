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


def shuffled(count: int, rng: random.Random) -> NDArray[np.intp]:
    """The numbers from 0 to `count`, as `rng.shuffle` would leave a list of them, and the rng."""
    i: cython.Py_ssize_t
    j: cython.Py_ssize_t
    found = np.arange(count)
    order: cython.Py_ssize_t[::1] = found.data
    bits = rng.getrandbits
    width: cython.int = count.bit_length()
    for i in range(count - 1, 0, -1):
        while (1 << (width - 1)) > i + 1:
            width -= 1
        j = bits(width)
        while j > i:
            j = bits(width)
        order[i], order[j] = order[j], order[i]
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
