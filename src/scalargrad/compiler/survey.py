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

CONSTANT = cython.declare(cython.uchar, int(Space.CONSTANT))


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
    address: NDArray[np.int64],
    sort: NDArray[np.int32],
    canonical: NDArray[np.int64],
    rows: bool,
) -> Survey:
    """The runs of the nodes of a pack, at most one term long unless `rows`.

    `sort` is what factors of one run agree in. Where all terms of a run read equal constants they
    read them at the same, canonical, place. Raises `VerifyError` if the nodes do not have the
    same sequence of runs.
    """
    terms = _Terms(flat, address, sort, canonical, rows)
    runs, n = terms.runs(nodes[0]), len(nodes)
    counts, samples = np.zeros((runs, n), np.int64), np.zeros(runs, np.int32)
    same_a, same_b = np.ones(runs + 1, np.uint8), np.ones(runs + 1, np.uint8)
    terms.count(nodes, counts if runs else np.zeros((1, 1), np.int64), samples, same_a, same_b)
    begins = np.zeros(runs + 1, np.int64)
    np.cumsum(counts.sum(axis=1), out=begins[1:])
    found = Survey(
        a=np.zeros((runs, n), np.int64),
        b=np.zeros((runs, n), np.int64),
        count=counts,
        step=np.zeros((runs, n, 2), np.int64),
        even=np.ones(runs, np.uint8),
        all_a=np.empty(begins[runs], np.int64),
        all_b=np.empty(begins[runs], np.int64),
        begin=begins,
        sample=samples,
    )
    if runs:
        terms.fill(nodes, found, same_a, same_b)
    return found


@cython.final
@cython.cclass
class _Terms:
    """The terms of a flat graph, and what they are told apart by."""

    first: cython.int[::1]
    left: cython.int[::1]
    right: cython.int[::1]
    style: cython.uchar[::1]
    space: cython.uchar[::1]
    address: cython.longlong[::1]
    sort: cython.int[::1]
    canonical: cython.longlong[::1]
    several: cython.bint

    def __init__(
        self,
        flat: Flat,
        address: NDArray[np.int64],
        sort: NDArray[np.int32],
        canonical: NDArray[np.int64],
        several: bool,
    ) -> None:
        self.first, self.left, self.right = flat.first.data, flat.left.data, flat.right.data
        self.style, self.space, self.sort = flat.style.data, flat.space.data, sort.data
        self.address, self.canonical, self.several = address.data, canonical.data, several

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _begins(self, i: cython.int, t: cython.int) -> cython.bint:
        """Whether term t of node i is of another sort than the term before it."""
        if t == self.first[i] or not self.several:
            return True
        a: cython.int = self.left[t]
        b: cython.int = self.right[t]
        other_a: cython.int = self.left[t - 1]
        other_b: cython.int = self.right[t - 1]
        if self.style[t] != self.style[t - 1] or self.sort[a] != self.sort[other_a]:
            return True
        if b < 0 or other_b < 0:
            return b != other_b
        return self.sort[b] != self.sort[other_b]

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _is_constant(self, j: cython.int, k: cython.int) -> cython.bint:
        """Whether operand j, if there is one, is a constant, and the one that operand k is."""
        if j < 0 or self.space[j] != CONSTANT:
            return False
        return self.canonical[self.address[j]] == self.canonical[self.address[k]]

    def runs(self, i: cython.int) -> int:
        """How many runs a node has."""
        count: cython.int = 0
        t: cython.int
        for t in range(self.first[i], self.first[i + 1]):
            count += self._begins(i, t)
        return count

    def count(
        self,
        nodes_: NDArray[np.int32],
        count_: NDArray[np.int64],
        sample_: NDArray[np.int32],
        same_a_: NDArray[np.uint8],
        same_b_: NDArray[np.uint8],
    ) -> None:
        """Count the terms of each run in each node, and see of which runs all read one constant."""
        node: cython.int[::1] = nodes_.data
        count: cython.longlong[:, ::1] = count_.data
        sample: cython.int[::1] = sample_.data
        same_a: cython.uchar[::1] = same_a_.data
        same_b: cython.uchar[::1] = same_b_.data
        runs: cython.int = len(sample)
        i: cython.int
        k: cython.int
        r: cython.int
        t: cython.int
        for k in range(len(node)):
            i = node[k]
            r = -1
            for t in range(self.first[i], self.first[i + 1]):
                if self._begins(i, t):
                    r += 1
                    if r == runs:
                        break
                    if k == 0:
                        sample[r] = t
                count[r, k] += 1
                if same_a[r]:
                    same_a[r] = self._is_constant(self.left[t], self.left[sample[r]])
                if same_b[r]:
                    same_b[r] = self._is_constant(self.right[t], self.right[sample[r]])
            if r != runs - 1:
                raise VerifyError(f"node {i} does not have the runs of its pack")

    def fill(
        self,
        nodes_: NDArray[np.int32],
        found: Survey,
        same_a_: NDArray[np.uint8],
        same_b_: NDArray[np.uint8],
    ) -> None:
        """Fill in the addresses, and the steps from term to term."""
        node: cython.int[::1] = nodes_.data
        same_a: cython.uchar[::1] = same_a_.data
        same_b: cython.uchar[::1] = same_b_.data
        count: cython.longlong[:, ::1] = found.count.data
        a: cython.longlong[:, ::1] = found.a.data
        b: cython.longlong[:, ::1] = found.b.data
        step: cython.longlong[:, :, ::1] = found.step.data
        even: cython.uchar[::1] = found.even.data
        all_a: cython.longlong[::1] = found.all_a.data
        all_b: cython.longlong[::1] = found.all_b.data
        place: cython.longlong[::1] = found.begin.copy().data
        k: cython.int
        r: cython.int
        t: cython.int
        u: cython.int
        x: cython.longlong
        y: cython.longlong
        for k in range(len(node)):
            t = self.first[node[k]]
            for r in range(len(even)):
                for u in range(count[r, k]):
                    x = self.address[self.left[t]]
                    y = self.address[self.right[t]] if self.right[t] >= 0 else 0
                    if same_a[r]:
                        x = self.canonical[x]
                    if same_b[r]:
                        y = self.canonical[y]
                    all_a[place[r]] = x
                    all_b[place[r]] = y
                    if u == 0:
                        a[r, k] = x
                        b[r, k] = y
                    elif u == 1:
                        step[r, k, 0] = x - a[r, k]
                        step[r, k, 1] = y - b[r, k]
                    elif (
                        x - all_a[place[r] - 1] != step[r, k, 0]
                        or y - all_b[place[r] - 1] != step[r, k, 1]
                    ):
                        even[r] = 0
                    place[r] += 1
                    t += 1
