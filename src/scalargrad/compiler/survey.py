"""The compiled step of recovery: where the terms of a pack's nodes lie, run by run.

A run is consecutive terms of a node whose factors lie in the same packs and that have the same
style; all nodes of a pack have the same sequence of runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

from ..errors import VerifyError
from .flat import Flat
from .loops import Space


@dataclass(frozen=True)
class Survey:
    """The r runs of n nodes.

    a, b       int64[r, n]     addresses of the factors of the first term
    count      int64[r, n]     how many terms there are
    step       int64[r, n, 2]  from the first term to the second, in a and b; 0 for a single term
    even       uint8[r]        whether every term is that step from the one before, in all nodes
    all_a, all_b  int64[t]     all addresses, run by run, in a run node by node
    begin      int64[r + 1]    where runs begin in them
    sample     int32[r]        a term of each run
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    count: NDArray[np.int64]
    step: NDArray[np.int64]
    even: NDArray[np.uint8]
    all_a: NDArray[np.int64]
    all_b: NDArray[np.int64]
    begin: NDArray[np.int64]
    sample: NDArray[np.int32]


def survey(
    flat: Flat,
    nodes: NDArray[np.int32],
    address_: NDArray[np.int64],
    sort_: NDArray[np.int32],
    canonical_: NDArray[np.int64],
    rows: bool,
) -> Survey:
    """The runs of the nodes of a pack, at most one term long unless `rows`.

    `sort` is what factors of one run agree in. Where all terms of a run read equal constants they
    read them at the same, canonical, place. Raises `VerifyError` if the nodes do not have the
    same sequence of runs.
    """
    first: cython.int[::1] = flat.first.data
    left: cython.int[::1] = flat.left.data
    right: cython.int[::1] = flat.right.data
    style: cython.uchar[::1] = flat.style.data
    space: cython.uchar[::1] = flat.space.data
    node: cython.int[::1] = nodes.data
    address: cython.longlong[::1] = address_.data
    sort: cython.int[::1] = sort_.data
    canonical: cython.longlong[::1] = canonical_.data
    several: cython.bint = rows
    n: cython.int = len(nodes)
    runs: cython.int = 0
    total: cython.Py_ssize_t = 0
    CONSTANT: cython.int = int(Space.CONSTANT)
    i: cython.int
    k: cython.int
    r: cython.int
    t: cython.int
    u: cython.int
    place: cython.Py_ssize_t
    x: cython.longlong
    y: cython.longlong
    i = node[0]
    for t in range(first[i], first[i + 1]):
        if t == first[i] or not several or _differs(t, left, right, style, sort):
            runs += 1
    counts = np.zeros((runs, n), np.int64)
    samples = np.zeros(runs, np.int32)
    count: cython.longlong[:, ::1] = counts.data if runs else np.zeros((1, 1), np.int64).data
    sample: cython.int[::1] = samples.data
    # Whether all terms of the run read the same constant, on either side.
    same_a: cython.uchar[::1] = np.ones(runs + 1, np.uint8).data
    same_b: cython.uchar[::1] = np.ones(runs + 1, np.uint8).data
    for k in range(n):
        i = node[k]
        r = -1
        for t in range(first[i], first[i + 1]):
            if t == first[i] or not several or _differs(t, left, right, style, sort):
                r += 1
                if r == runs:
                    break
                if k == 0:
                    sample[r] = t
            count[r, k] += 1
            total += 1
            u = sample[r]
            if same_a[r] and (
                space[left[t]] != CONSTANT
                or canonical[address[left[t]]] != canonical[address[left[u]]]
            ):
                same_a[r] = 0
            if same_b[r] and (
                right[t] < 0
                or space[right[t]] != CONSTANT
                or canonical[address[right[t]]] != canonical[address[right[u]]]
            ):
                same_b[r] = 0
        if r != runs - 1:
            raise VerifyError(f"node {i} does not have the runs of its pack")
    firsts_a, firsts_b = np.zeros((runs, n), np.int64), np.zeros((runs, n), np.int64)
    steps, evens = np.zeros((runs, n, 2), np.int64), np.ones(runs, np.uint8)
    all_as, all_bs = np.empty(total, np.int64), np.empty(total, np.int64)
    begins = np.zeros(runs + 1, np.int64)
    np.cumsum(counts.sum(axis=1), out=begins[1:])
    found = Survey(firsts_a, firsts_b, counts, steps, evens, all_as, all_bs, begins, samples)
    if runs == 0:
        return found
    a: cython.longlong[:, ::1] = firsts_a.data
    b: cython.longlong[:, ::1] = firsts_b.data
    step: cython.longlong[:, :, ::1] = steps.data
    even: cython.uchar[::1] = evens.data
    all_a: cython.longlong[::1] = all_as.data
    all_b: cython.longlong[::1] = all_bs.data
    fill: cython.longlong[::1] = begins.copy().data
    for k in range(n):
        t = first[node[k]]
        for r in range(runs):
            place = fill[r]
            for u in range(count[r, k]):
                x = address[left[t]]
                y = address[right[t]] if right[t] >= 0 else 0
                if same_a[r]:
                    x = canonical[x]
                if same_b[r]:
                    y = canonical[y]
                all_a[place + u] = x
                all_b[place + u] = y
                if u == 0:
                    a[r, k] = x
                    b[r, k] = y
                elif u == 1:
                    step[r, k, 0] = x - a[r, k]
                    step[r, k, 1] = y - b[r, k]
                elif (
                    x - all_a[place + u - 1] != step[r, k, 0]
                    or y - all_b[place + u - 1] != step[r, k, 1]
                ):
                    even[r] = 0
                t += 1
            fill[r] += count[r, k]
    return found


@cython.cfunc
@cython.inline
def _differs(
    t: cython.int,
    left: cython.int[::1],
    right: cython.int[::1],
    style: cython.uchar[::1],
    sort: cython.int[::1],
) -> cython.bint:
    """Whether term t is of another sort than the term before it."""
    if style[t] != style[t - 1] or sort[left[t]] != sort[left[t - 1]]:
        return True
    if right[t] < 0 or right[t - 1] < 0:
        return right[t] != right[t - 1]
    return sort[right[t]] != sort[right[t - 1]]
