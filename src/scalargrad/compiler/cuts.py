"""The two compiled steps of finding loops: numbering equal rows, and cutting a list into runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad.compiler.hashing import mix
else:
    from .hashing import mix


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _equal(row: cython.longlong[:, :], i: cython.int, j: cython.int) -> cython.bint:
    """Whether two rows are equal."""
    k: cython.int = 0
    while k < row.shape[1] and row[i, k] == row[j, k]:
        k += 1
    return k == row.shape[1]


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _hash(row: cython.longlong[:, :], i: cython.int) -> cython.ulonglong:
    h: cython.ulonglong = 0
    k: cython.int
    for k in range(row.shape[1]):
        h = mix(h, row[i, k])
    return h


def labels(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each row, in order of first appearance, equal where the rows are equal."""
    n: cython.int = len(rows)
    numbers = np.zeros(n, np.int64)
    if n == 0 or rows.shape[1] == 0:
        return numbers
    row: cython.longlong[:, :] = rows.data
    out: cython.longlong[::1] = numbers.data
    slots: cython.int = 16
    while slots < 2 * n:
        slots *= 2
    # An evenly stepping list has one difference: the table stays unused until a second appears.
    table: cython.int[::1] = np.full(16, -1, np.int32).data
    speaker: cython.int[::1] = np.zeros(n, np.int32).data
    hashes: cython.ulonglong[::1] = np.zeros(1, np.uint64).data
    filled: cython.bint = False
    count: cython.int = 1
    i: cython.int
    j: cython.int
    place: cython.int
    h: cython.ulonglong
    for i in range(1, n):
        if _equal(row, i, i - 1):
            out[i] = out[i - 1]
            continue
        if not filled:
            filled = True
            table = np.full(slots, -1, np.int32).data
            hashes = np.zeros(n, np.uint64).data
            hashes[0] = _hash(row, 0)
            table[cython.cast(cython.int, hashes[0] & (slots - 1))] = 0
        h = _hash(row, i)
        place = cython.cast(cython.int, h & (slots - 1))
        j = table[place]
        while j >= 0 and not (hashes[j] == h and _equal(row, i, speaker[j])):
            place = (place + 1) & (slots - 1)
            j = table[place]
        if j < 0:
            j = count
            table[place] = j
            hashes[j] = h
            speaker[j] = i
            count += 1
        out[i] = j
    return numbers


def runs(
    rows: NDArray[np.int64], kinds: NDArray[np.int64], step: NDArray[np.int64] | None, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut rows into runs: where they start, their first rows with the length added, their steps.

    A run goes on as long as the difference is that of its first two rows and, with `step`, as
    long as `step[i]`, the label of the difference between rows i and i + 1, is 1. The columns from
    `width` on are lengths of inner loops: two rows that differ there are no run, for any two
    lengths differ by a constant, and only three show a triangle. The step of a run of one is 0.
    """
    n: cython.int = len(rows)
    m: cython.int = rows.shape[1]
    row: cython.longlong[:, ::1] = rows.data
    kind: cython.longlong[::1] = kinds.data
    modal: cython.bint = step is not None
    joined: cython.longlong[::1] = (kinds if step is None else step).data
    first_length: cython.int = width
    starts = np.empty(n, np.int64)
    start: cython.longlong[::1] = starts.data
    count: cython.int = 0
    i: cython.int = 0
    j: cython.int
    k: cython.int
    while i < n:
        start[count] = i
        count += 1
        j = i + 1
        if j < n and kind[j] == kind[i] and not (modal and joined[i] != 1):
            j += 1
            while j < n and kind[j] == kind[i] and not (modal and joined[j - 1] != 1):
                for k in range(m):
                    if row[j, k] - row[j - 1, k] != row[i + 1, k] - row[i, k]:
                        break
                else:
                    j += 1
                    continue
                break
            if j == i + 2:
                for k in range(first_length, m):
                    if row[i + 1, k] != row[i, k]:
                        j = i + 1
                        break
        i = j
    heads = np.empty((count, m + 1), np.int64)
    steps = np.zeros((count, m), np.int64)
    head: cython.longlong[:, ::1] = heads.data
    difference: cython.longlong[:, ::1] = steps.data
    c: cython.int
    for c in range(count):
        i = start[c]
        j = start[c + 1] if c + 1 < count else n
        for k in range(m):
            head[c, k] = row[i, k]
            if j > i + 1:
                difference[c, k] = row[i + 1, k] - row[i, k]
        head[c, m] = j - i
    return starts[:count], heads, steps
