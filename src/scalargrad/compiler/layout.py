"""Where every number lies.

Leaves and gradients lie where the caller puts them. The results of a pack lie one after the
other, in the order of its members, packs one after the other: so the operands that a loop of the
user's program read with constant steps are again constant steps apart. Where a pack is a
triangle, its rows are padded to one length, because a triangle without gaps has no constant step
from row to row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import VerifyError
from .flat import SCATTER, Flat
from .loops import Space


class Layout:
    """`address[i]`: the place of node i in `space[i]`, -1 as long as it has none.

    `constants` are the numbers of the constant leaves in their order, and `canonical[k]` is the
    first place that holds the same number as place k.
    """

    def __init__(self, flat: Flat) -> None:
        self.space = flat.space
        leaf = flat.kind == 0
        placed = leaf | (flat.space > Space.BATCHED)
        self.address: NDArray[np.int64] = np.where(placed, flat.slot.astype(np.int64), -1)
        constant = np.flatnonzero(leaf & (flat.space == Space.CONSTANT))
        self.address[constant] = np.arange(len(constant))
        self.constants: NDArray[np.float64] = flat.const[constant]
        _, first, number = np.unique(
            self.constants.view(np.int64), return_index=True, return_inverse=True
        )
        self.canonical: NDArray[np.int64] = first[number.reshape(-1)].astype(np.int64)
        self.sizes = {Space.TEMPORARY: 0, Space.BATCHED: 0}

    def __str__(self) -> str:
        places = zip(self.space.tolist(), self.address.tolist())
        return "\n".join(f"v{i} at {Space(s).short}[{k}]" for i, (s, k) in enumerate(places))

    def reserve(self, space: Space, size: int) -> int:
        """The first of `size` new places in a temporary space."""
        base = self.sizes[space]
        self.sizes[space] += size
        return base

    def constant(self, number: float) -> int:
        """The place of a constant that an instruction needs."""
        bits = np.float64(number).view(np.int64)
        known = np.flatnonzero(self.constants.view(np.int64) == bits)
        if len(known):
            return int(known[0])
        self.constants = np.append(self.constants, number)
        return len(self.constants) - 1


def verify_layout(flat: Flat, layout: Layout) -> None:
    """Raises `VerifyError` if a node has no place, or two results share one."""
    missing = np.flatnonzero(layout.address < 0)
    if len(missing):
        raise VerifyError(f"layout: node {missing[0]} has no place")
    results = (flat.kind != 0) & (flat.kind != SCATTER)
    place = flat.space[results].astype(np.int64) << 40 | layout.address[results]
    if len(np.unique(place)) != len(place):
        raise VerifyError("layout: two results share a place")
