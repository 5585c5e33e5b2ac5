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


def labels(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each row, in order of first appearance, equal where the rows are equal."""
    n: cython.int = len(rows)
    width: cython.int = rows.shape[1]
    numbers = np.zeros(n, np.int64)
    if n == 0 or width == 0:
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
    k: cython.int
    place: cython.int
    h: cython.ulonglong
    for i in range(1, n):
        j = i - 1
        for k in range(width):
            if row[i, k] != row[j, k]:
                break
        else:
            out[i] = out[j]
            continue
        if not filled:
            filled = True
            table = np.full(slots, -1, np.int32).data
            hashes = np.zeros(n, np.uint64).data
            h = 0
            for k in range(width):
                h = mix(h, row[0, k])
            hashes[0] = h
            table[cython.cast(cython.int, h & (slots - 1))] = 0
        h = 0
        for k in range(width):
            h = mix(h, row[i, k])
        place = cython.cast(cython.int, h & (slots - 1))
        while True:
            j = table[place]
            if j < 0:
                table[place] = count
                hashes[count] = h
                speaker[count] = i
                out[i] = count
                count += 1
                break
            if hashes[j] == h:
                for k in range(width):
                    if row[i, k] != row[speaker[j], k]:
                        break
                else:
                    out[i] = j
                    break
            place = (place + 1) & (slots - 1)
    return numbers


def greedy(step: NDArray[np.int64], kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where runs start, if each takes the difference of its first two rows and goes on with it.

    `step[i]` is the label of the difference between rows i and i + 1; rows of different kinds
    are never in one run.
    """
    n: cython.int = len(kinds)
    starts = np.zeros(n, np.int64)
    out: cython.longlong[::1] = starts.data
    d: cython.longlong[::1] = step.data
    kind: cython.longlong[::1] = kinds.data
    count: cython.int = 0
    i: cython.int = 0
    j: cython.int
    while i < n:
        out[count] = i
        count += 1
        j = i + 1
        if j < n and kind[j] == kind[i]:
            j += 1
            while j < n and kind[j] == kind[i] and d[j - 1] == d[i]:
                j += 1
        i = j
    return starts[:count]
