"""Before packing: the candidates of one selection are brought into one space.

`take([parameter, result, constant], index)` is one address computed from the index only if all
candidates lie in one space. Where they do not, the selection reads copies. So does what adds to
chosen candidates, if what it adds is no result, or not one for each example that it goes over.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .flat import OVER, SCATTER, Flat
from .loops import Space


def copy_candidates(flat: Flat, outputs: NDArray[np.int32]) -> tuple[Flat, NDArray[np.int32]]:
    """The graph, and the nodes of the outputs, with copies of the candidates that need them."""
    mixed = [i for i in np.flatnonzero(flat.kind == ops.TAKE).tolist() if _is_mixed(flat, i)]
    mixed += _adding_from_elsewhere(flat)
    if not mixed:
        return flat, outputs
    copied = flat.kind[mixed] != SCATTER
    counts = np.where(copied, np.diff(flat.first)[mixed], 1).tolist()
    before = np.repeat(mixed, counts)  # each copy is a node placed before its selection
    terms = np.concatenate([flat.first[i] + np.arange(n) for i, n in zip(mixed, counts)])
    n, added = len(flat), len(before)
    shift = np.searchsorted(before, np.arange(n), side="right").astype(np.int32)
    number = np.arange(n, dtype=np.int32) + shift
    batched = np.array([space.batched for space in Space])[flat.space]
    space = np.full(added, Space.TEMPORARY, np.uint8)
    for place, (i, count) in zip(np.cumsum(counts) - counts, zip(mixed, counts)):
        candidates = flat.left[flat.first[i] : flat.first[i + 1]]
        if batched[candidates].any() or flat.style[flat.first[i]] & OVER:
            space[place : place + count] = Space.BATCHED
    zeros = np.zeros(added, np.int32)
    copies = np.arange(added, dtype=np.int32) + before.astype(np.int32)
    left = np.where(flat.left >= 0, number[flat.left], -1)
    candidates = left[terms].copy()
    left[terms] = copies
    sizes = np.insert(np.diff(flat.first), before, 1)
    at = flat.first[before]
    right = np.where(flat.right >= 0, number[flat.right], -1)
    new = Flat(
        np.insert(flat.kind, before, ops.ADD),
        np.insert(flat.const, before, -0.0),
        np.insert(flat.space, before, space),
        np.insert(flat.slot, before, zeros),
        np.insert(flat.extra, before, zeros),
        np.insert(flat.rank, before, flat.rank[before]),
        np.concatenate(([0], np.cumsum(sizes))).astype(np.int32),
        np.insert(left, at, candidates).astype(np.int32),
        np.insert(right, at, -1).astype(np.int32),
        np.insert(flat.style, at, 0),
        np.insert(flat.origin, at, 0),
    )
    return new, number[outputs]


def _adding_from_elsewhere(flat: Flat) -> list[int]:
    """What adds to chosen candidates something that must be copied."""
    nodes = np.flatnonzero(flat.kind == SCATTER)
    added = flat.first[nodes]
    wanted = np.where(flat.style[added] & OVER, Space.BATCHED, Space.TEMPORARY)
    found: list[int] = nodes[flat.space[flat.left[added]] != wanted].tolist()
    return found


def _is_mixed(flat: Flat, i: int) -> bool:
    spaces = flat.space[flat.left[flat.first[i] : flat.first[i + 1]]]
    return bool((spaces != spaces[0]).any())
