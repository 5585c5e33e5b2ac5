"""Walks: the parts of a program without structure, as one list of scalar operations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .flat import FOLD_MAXIMUM, FOLD_MINIMUM, INDICATOR, OVER, Flat
from .layout import Layout
from .loops import Origin, Space, Walk


class Walks:
    """Nodes that wait to be walked through, unbatched and batched ones apart.

    An unbatched node reads no batched one, so the walk of the unbatched ones comes first.
    """

    def __init__(self, flat: Flat, layout: Layout, accumulate: bool) -> None:
        self.flat, self.layout, self.accumulate = flat, layout, accumulate
        self.waiting: dict[bool, list[NDArray[np.int32]]] = {False: [], True: []}

    def takes(self, nodes: NDArray[np.int32]) -> bool:
        """Whether a pack can be walked through: it selects nothing, goes over no batch, and adds to
        no number that is there already."""
        flat, node = self.flat, int(nodes[0])
        if flat.kind[node] in (ops.TAKE, INDICATOR):
            return False
        if flat.space[node] <= Space.BATCHED:
            return True
        style = flat.style[flat.first[node] : flat.first[node + 1]]
        return not self.accumulate and not bool((style & OVER).any())

    def add(self, nodes: NDArray[np.int32]) -> None:
        """Let nodes of one pack wait; they have their places at once."""
        space = Space(int(self.flat.space[nodes[0]]))
        if space <= Space.BATCHED:
            base = self.layout.reserve(space, len(nodes))
            self.layout.address[nodes] = base + np.arange(len(nodes))
        self.waiting[space.batched].append(nodes)

    def flush(self) -> list[Walk]:
        """The walks of all that wait."""
        made = []
        for batched in (False, True):
            if self.waiting[batched]:
                made.append(self._walk(np.concatenate(self.waiting[batched])))
                self.waiting[batched] = []
        return made

    def _walk(self, nodes: NDArray[np.int32]) -> Walk:
        flat, address = self.flat, self.layout.address
        counts = flat.first[nodes + 1] - flat.first[nodes]
        first = np.zeros(len(nodes) + 1, np.int32)
        np.cumsum(counts, out=first[1:])
        terms = np.arange(first[-1]) + np.repeat(flat.first[nodes] - first[:-1], counts)
        left, right = flat.left[terms], flat.right[terms]
        code = flat.kind[nodes].copy()
        code[code == FOLD_MAXIMUM] = ops.MAXIMUM
        code[code == FOLD_MINIMUM] = ops.MINIMUM
        rank = flat.rank[nodes]
        return Walk(
            code=code,
            space=flat.space[nodes],
            at=address[nodes].astype(np.int32),
            const=flat.const[nodes],
            first=first,
            left_space=flat.space[left],
            left=address[left].astype(np.int32),
            right_space=np.where(right >= 0, flat.space[right], 0).astype(np.uint8),
            right=np.where(right >= 0, address[right], -1).astype(np.int32),
            style=flat.style[terms],
            origin=Origin((int(rank.min()), int(rank.max()))),
        )
