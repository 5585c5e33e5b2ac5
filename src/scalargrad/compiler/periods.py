"""Periods of packs: the steps of a recurrence, before any loop is recovered.

A pack is like one a period before if its nodes do the same, and what they read moves evenly: leaves,
and results by their place among all results, pack after pack. It moves forwards, and in a gradient
also backwards. The instructions of such packs will be those of a repeat, and may be many without
being much code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..ops import LEAF
from .flat import Flat
from .loops import Space
from .packs import LEAVES, WHOLE, Packs
from .tandems import Tandem, find_tandems, linear_hash, mixed

# Whether very many packs have periods at all is first seen in some places of them.
VERY_MANY, PLACES, WINDOW = 1 << 15, 4, 1 << 12
PART = 16  # of a graph's nodes that the turns of a period must be, at least


def periods(flat: Flat, packs: Packs, least: int) -> list[Tandem]:
    """Where packs come again and again: tandem repeats that save at least so many packs."""
    if len(packs) > VERY_MANY and not _places_with_periods(flat, packs):
        return []
    return _periods(flat, packs, _places(flat, packs), 0, len(packs), least)


def within(flat: Flat, packs: Packs, tandems: Sequence[Tandem], least: int) -> list[Tandem]:
    """Where packs come again and again within a turn of each: in the first one, as in all."""
    place = _places(flat, packs)
    return [
        inner
        for tandem in tandems
        for inner in _periods(flat, packs, place, tandem.start, tandem.start + tandem.period, least)
    ]


def turns(flat: Flat) -> NDArray[np.intp]:
    """The nodes at which turns of periods begin, and end: of the graph's nodes in their order.

    That is the order of the program, and in a gradient its reverse, in which one step comes after
    the other; by their levels, what does not wait for the rest of its step runs ahead of it. There
    are none unless they make up most of the graph.
    """
    results = np.flatnonzero(flat.kind != LEAF).astype(np.int32)
    pack = flat.space.astype(np.int32)
    pack[results] = np.arange(LEAVES, LEAVES + len(results))
    single = Packs(pack, results, np.arange(len(results) + 1, dtype=np.int32), pack[results])
    if len(results) > PLACES * WINDOW and 2 * _places_with_periods(flat, single) < PLACES:
        return WHOLE
    found = periods(flat, single, len(results) // PART)
    if 2 * sum(tandem.stop - tandem.start for tandem in found) <= len(results):
        return WHOLE
    places = np.concatenate([np.arange(t.start, t.stop + 1, t.period) for t in found])
    begins: NDArray[np.intp] = results[places[places < len(results)]].astype(np.intp)
    return begins


def _places(flat: Flat, packs: Packs) -> NDArray[np.int32]:
    """The place of each node among all in packs."""
    place = np.empty(len(flat), np.int32)
    place[packs.members] = np.arange(len(packs.members), dtype=np.int32)
    return place


def _places_with_periods(flat: Flat, packs: Packs) -> int:
    """In how many of some places of a long list most packs have a period."""
    place = _places(flat, packs)
    starts = np.linspace(0, len(packs) - WINDOW, PLACES).astype(int).tolist()
    there = [_periods(flat, packs, place, k, k + WINDOW, WINDOW // 4) for k in starts]
    return sum(map(bool, there))


def _periods(
    flat: Flat, packs: Packs, place: NDArray[np.int32], low: int, high: int, least: int
) -> list[Tandem]:
    """The tandem repeats of packs low ... high - 1; `place[i]` is that of node i in all of them."""
    packed = packs.first[low : high + 1].astype(np.int64)
    members = packs.members[packed[0] : packed[-1]]
    packed -= packed[0]
    counts = (flat.first[members + 1] - flat.first[members]).astype(np.int64)
    begin = np.concatenate(([0], np.cumsum(counts)))
    terms = np.arange(begin[-1]) + np.repeat(flat.first[members] - begin[:-1], counts)
    key, moving = mixed(flat.style[terms].astype(np.int64)), np.zeros(high - low, np.uint64)
    first = begin[packed]
    for which, operand in enumerate((flat.left[terms], flat.right[terms])):
        pack = packs.pack[operand].astype(np.int64)
        result = (operand >= 0) & (pack >= LEAVES)
        key = mixed(key + np.where(operand < 0, -1, np.where(result, LEAVES, pack)))
        leaf = (operand >= 0) & ~result & (pack != Space.CONSTANT)
        moves = np.where(result, place[operand], np.where(leaf, flat.slot[operand], 0))
        moving += linear_hash(moves, first) << np.uint64(2 * which)
    gradient = flat.space[members] > Space.BATCHED
    slots = np.where(gradient | (counts == 0), flat.slot[members], 0).astype(np.int64)
    moving += linear_hash(slots, packed) << np.uint64(4)
    node = mixed(flat.const[members].view(np.int64) + flat.kind[members])
    node = mixed(mixed(node + flat.space[members]) + counts)
    kinds = linear_hash(key, first) + (linear_hash(node, packed) << np.uint64(1))
    return find_tandems(kinds.view(np.int64), moving, least)
