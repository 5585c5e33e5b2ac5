"""After the first stage: the sums and maxima of one that nobody writes down.

In causal attention, position k has a softmax over k + 1 scores. The first has one score only: it
is its own maximum, and its exponential is its own sum, so the tape has no nodes for them, and all
that follows from the first position is unlike what follows from the others, layer after layer.
Where x - x or x / x stands beside y - max(y, ...) or y / (y + ...), with y like x, the maximum or
the sum of one is put in.

It changes no bit. As x is read nowhere else, its gradient is the same sum: what the left operand
gets, then what the right one gets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .flat import FOLD_MAXIMUM, FOLD_MINIMUM, LONE, Flat
from .loops import MINUS

FOLDS = (ops.ADD, FOLD_MAXIMUM, FOLD_MINIMUM)


def add_singles(flat: Flat, outputs: NDArray[np.int32]) -> tuple[Flat, NDArray[np.int32]]:
    """The graph, and the nodes of the outputs, with sums and maxima of one."""
    pairs = _pairs(flat)
    same = pairs.one == pairs.two
    if not same.any() or same.all():
        return flat, outputs
    alone = same & (flat.kind[pairs.one] != ops.LEAF) & (_uses(flat)[pairs.one] == 2)
    sort = pairs.sorts(flat)
    models = np.flatnonzero(
        np.isin(flat.kind[pairs.two], FOLDS) & ~same & np.isin(sort, sort[alone])
    )
    models = models[np.unique(pairs.two[models], return_index=True)[1]]
    models = models[_folded(flat, pairs.two[models], pairs.one[models])]
    sorts, model = np.unique(sort[models], return_index=True)
    chosen = np.flatnonzero(alone & np.isin(sort, sorts))
    chosen = chosen[np.argsort(pairs.reader[chosen])]
    if not len(chosen):
        return flat, outputs
    kinds = flat.kind[pairs.two[models[model]]][np.searchsorted(sorts, sort[chosen])]
    return _inserted(flat, outputs, pairs.reader[chosen], pairs.one[chosen], kinds)


class _Pairs(NamedTuple):
    """Differences and quotients `node` of the operands `one` and `two`; `reader` reads `two`.

    That is the node itself, or a `detach` in between.
    """

    node: NDArray[np.int64]
    one: NDArray[np.int32]
    two: NDArray[np.int32]
    reader: NDArray[np.int64]

    def sorts(self, flat: Flat) -> NDArray[np.int64]:
        """A number for what each is, and its first operand."""
        sort: NDArray[np.int64] = (self.reader == self.node).astype(np.int64)
        for field in (flat.kind, flat.space):
            sort = (sort << 8 | field[self.node]) << 8 | field[self.one]
        return sort


def _pairs(flat: Flat) -> _Pairs:
    node = np.flatnonzero(np.isin(flat.kind, (ops.ADD, ops.DIV)) & (np.diff(flat.first) == 2))
    t = flat.first[node]
    plain = (flat.right[t] < 0) & (flat.right[t + 1] < 0)
    difference = plain & (flat.style[t] == 0) & (flat.style[t + 1] == MINUS)
    difference &= np.signbit(flat.const[node])
    kept = (flat.kind[node] == ops.DIV) | difference
    node, t = node[kept], t[kept]
    one, second = flat.left[t], flat.left[t + 1]
    two, reader = second.copy(), node.copy()
    detached = flat.kind[second] == ops.DETACH
    two[detached] = flat.left[flat.first[second[detached]]]
    reader[detached] = second[detached]
    return _Pairs(node, one, two, reader)


def _uses(flat: Flat) -> NDArray[np.int64]:
    """How often each node is read."""
    operands = np.concatenate((flat.left, flat.right[flat.right >= 0]))
    uses: NDArray[np.int64] = np.bincount(operands, minlength=len(flat))
    return uses


def _folded(flat: Flat, folds: NDArray[np.int32], operands: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether each of the sums or maxima is one of single terms, the operand among them."""
    counts = (flat.first[folds + 1] - flat.first[folds]).astype(np.int64)
    begin = np.cumsum(counts) - counts
    terms = np.arange(counts.sum()) + np.repeat(flat.first[folds] - begin, counts)
    owner = np.repeat(np.arange(len(folds)), counts)
    single = (flat.right[terms] < 0) & (flat.style[terms] == 0)
    there = flat.left[terms] == operands[owner]
    found = np.zeros(len(folds), bool)
    found[owner[there]] = True
    found[owner[~single]] = False
    return found


def _inserted(
    flat: Flat,
    outputs: NDArray[np.int32],
    reader: NDArray[np.int64],
    operand: NDArray[np.int32],
    kind: NDArray[np.uint8],
) -> tuple[Flat, NDArray[np.int32]]:
    """The graph with a node in front of each reader, between its last operand and itself."""
    n = len(flat)
    shift = np.searchsorted(reader, np.arange(n), side="right")
    number = (np.arange(n) + shift).astype(np.int32)
    left = number[flat.left]
    left[flat.first[reader + 1] - 1] = number[reader] - 1
    right = np.where(flat.right >= 0, number[flat.right], -1).astype(np.int32)
    sizes = np.insert(np.diff(flat.first), reader, 1)
    at = flat.first[reader]
    rank = flat.rank[reader]
    new = Flat(
        np.insert(flat.kind, reader, kind),
        np.insert(flat.const, reader, np.where(kind == ops.ADD, -0.0, 0.0)),
        np.insert(flat.space, reader, flat.space[operand]),
        np.insert(flat.slot, reader, 0),
        np.insert(flat.extra, reader, LONE),
        np.insert(flat.rank, reader, rank),
        np.concatenate(([0], np.cumsum(sizes))).astype(np.int32),
        np.insert(left, at, number[operand]),
        np.insert(right, at, -1),
        np.insert(flat.style, at, 0),
        np.insert(flat.origin, at, rank - 1),  # the reader passes on to its left operand first
    )
    return new, number[outputs]
