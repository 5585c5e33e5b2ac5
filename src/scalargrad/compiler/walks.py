"""Walks: the parts of a program without structure, as one list of scalar operations."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .flat import FOLD_MAXIMUM, FOLD_MINIMUM, INDICATOR, OVER, SCATTER, Flat
from .layout import Layout
from .loops import MINUS, SKIP_LEFT, SKIP_RIGHT, Origin, Space, Walk
from .steps import FEW

PRODUCT = 1  # of a term's code, whose other bits are its style

BATCHED = np.array([space.batched for space in Space])


def term_code(style: NDArray[np.uint8], product: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """What tells apart the code of terms of sums."""
    return np.where(product, style << 1 | PRODUCT, (style & MINUS) << 1).astype(np.uint8)


class Walks:
    """Nodes that wait to be walked through, unbatched and batched ones apart.

    An unbatched node reads no batched one, so the walk of the unbatched ones comes first.
    """

    def __init__(self, flat: Flat, layout: Layout, accumulate: bool) -> None:
        self.flat, self.layout, self.accumulate = flat, layout, accumulate
        Nodes = NDArray[np.int32]
        self.waiting: dict[bool, list[tuple[Nodes, Nodes]]] = {False: [], True: []}

    def take(self, nodes: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether each node can be walked through: it selects nothing and goes over no batch."""
        flat = self.flat
        free = ~np.isin(flat.kind[nodes], (ops.TAKE, INDICATOR, SCATTER))
        gradient = flat.space[nodes] > Space.BATCHED
        return free & ~(gradient & self._over[nodes])

    @cached_property
    def _over(self) -> NDArray[np.bool_]:
        """Whether a node has terms that are added for each example."""
        return self._some(self.flat.style & OVER != 0)

    def add(self, nodes: NDArray[np.int32], level: NDArray[np.int32]) -> None:
        """Let nodes wait, which read none of their own level; they have places at once, if not before.

        In a level, those done by the same code follow one another, as those of equally many terms.
        """
        order = np.argsort(level.astype(np.int64) << 32 | self._alike(nodes), kind="stable")
        nodes, level = nodes[order], level[order]
        spaces = self.flat.space[nodes]
        for space in (Space.TEMPORARY, Space.BATCHED):
            own = nodes[(spaces == space) & (self.layout.address[nodes] < 0)]
            base = self.layout.reserve(space, len(own))
            self.layout.address[own] = base + np.arange(len(own))
        batched = BATCHED[spaces]
        for side in (False, True):
            if (batched == side).any():
                self.waiting[side].append((nodes[batched == side], level[batched == side]))

    def _alike(self, nodes: NDArray[np.int32]) -> NDArray[np.int64]:
        """A number below 2^32 for each node, the same where the same is done to as many terms."""
        flat = self.flat
        counts = flat.first[nodes + 1] - flat.first[nodes]
        sums = flat.kind[nodes] == ops.ADD
        steps = sums & (counts <= FEW)
        skipping, products = self._skips[nodes], sums & self._products[nodes]
        bits = flat.const[nodes].view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(52)
        number = np.minimum(counts, 63) << 20 | products << 12 | bits.astype(np.int64)
        kind = flat.kind[nodes].astype(np.int64)
        alike: NDArray[np.int64] = kind << 26 | np.where(steps, skipping, number)
        return alike

    @cached_property
    def _products(self) -> NDArray[np.bool_]:
        """Whether there are products among the terms of each node."""
        return self._some(self.flat.right >= 0)

    @cached_property
    def _skips(self) -> NDArray[np.bool_]:
        """Whether some of the terms of each node are left out where a factor is zero."""
        return self._some(self.flat.style & (SKIP_LEFT | SKIP_RIGHT) != 0)

    def _some(self, terms: NDArray[np.bool_]) -> NDArray[np.bool_]:
        before = np.cumsum(np.append(False, terms), dtype=np.int32)[self.flat.first]
        some: NDArray[np.bool_] = before[1:] > before[:-1]
        return some

    def flush(self) -> list[Walk]:
        """The walks of all that wait."""
        made = []
        for batched in (False, True):
            if self.waiting[batched]:
                nodes, levels = map(np.concatenate, zip(*self.waiting[batched]))
                made.append(self._walk(nodes, levels))
                self.waiting[batched] = []
        return made

    def _walk(self, nodes: NDArray[np.int32], level: NDArray[np.int32]) -> Walk:
        flat, address = self.flat, self.layout.address
        space, const = flat.space[nodes], flat.const[nodes]
        code = flat.kind[nodes].copy()
        code[code == FOLD_MAXIMUM] = ops.MAXIMUM
        code[code == FOLD_MINIMUM] = ops.MINIMUM
        # A gradient that is added to has its present number as its first term.
        present = (space > Space.BATCHED) & self.accumulate
        const[present] = -0.0
        begin = flat.first[nodes]
        counts = flat.first[nodes + 1] - begin
        first = np.zeros(len(nodes) + 1, np.int32)
        np.cumsum(counts + present, out=first[1:])
        before = np.cumsum(counts, dtype=np.int32) - counts
        number = np.arange(int(counts.sum()), dtype=np.int32)
        terms = np.repeat(begin - before, counts) + number
        at = np.repeat(first[:-1] + present - before, counts) + number
        total = int(first[-1])
        left_space, left = np.empty(total, np.uint8), np.empty(total, np.int32)
        right_space, right = np.zeros(total, np.uint8), np.full(total, -1, np.int32)
        style = np.zeros(total, np.uint8)
        left_space[at], left[at] = flat.space[flat.left[terms]], address[flat.left[terms]]
        own = first[:-1][present]
        left_space[own], left[own] = space[present], address[nodes[present]]
        factor = flat.right[terms]
        used = factor >= 0
        right_space[at[used]], right[at[used]] = flat.space[factor[used]], address[factor[used]]
        style[at] = flat.style[terms]
        self._even(code, first, right_space, right, style)
        rank = flat.rank[nodes]
        return Walk(
            code=code,
            space=space,
            at=address[nodes].astype(np.int32),
            const=const,
            first=first,
            left_space=left_space,
            left=left,
            right_space=right_space,
            right=right,
            style=style,
            level=level,
            origin=Origin((int(rank.min()), int(rank.max()))),
        )

    def _even(
        self,
        code: NDArray[np.uint8],
        first: NDArray[np.int32],
        right_space: NDArray[np.uint8],
        right: NDArray[np.int32],
        style: NDArray[np.uint8],
    ) -> None:
        """Have sums of many terms, of which some are products, be of nothing else.

        x is x * 1.0, and -x is x * -1.0: code that makes no difference between terms is quicker.
        """
        counts = np.diff(first)
        uneven = np.zeros(len(code), bool)
        kinds = term_code(style, right >= 0)
        owner = np.repeat(np.arange(len(code)), counts)
        changes = np.flatnonzero((owner[1:] == owner[:-1]) & (kinds[1:] != kinds[:-1]))
        uneven[owner[changes]] = True
        uneven &= (code == ops.ADD) & (counts > FEW)
        single = np.flatnonzero(uneven[owner] & (right < 0))
        if len(single):
            one, minus = self.layout.constant(1.0), self.layout.constant(-1.0)
            right_space[single] = Space.CONSTANT
            right[single] = np.where(style[single] & MINUS, minus, one)
            style[single] = 0
