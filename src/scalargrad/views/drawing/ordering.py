"""The order within each column: barycentres, swept from side to side, and the best order seen.

Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures"
(1981); neighbours are then exchanged as long as that saves crossings, as in Gansner et al., "A
technique for drawing directed graphs" (1993).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from itertools import pairwise
from math import fsum

from .layering import Layers

SWEEPS = 24
PATIENCE = 6  # sweeps without fewer crossings before giving up
Columns = list[list[int]]
Links = list[list[tuple[int, float]]]  # of each item: its neighbours, and where at them


def ordered(layers: Layers, at: Sequence[float]) -> Columns:
    """The items of each column in an order with few crossings.

    `at` says for each arrow where at its target it arrives, from 0 (first) to 1.
    """
    before, after = _links(layers, at)
    order = _first_order(layers)
    best, fewest = [list(column) for column in order], _crossings(order, after)
    waited = 0
    for sweep in range(SWEEPS):
        if not fewest or waited > PATIENCE:
            break
        _sweep(order, before if sweep % 2 == 0 else after, sweep % 2 == 0)
        _exchange(order, before, after)
        count = _crossings(order, after)
        waited += 1
        if count < fewest:
            best, fewest, waited = [list(column) for column in order], count, 0
    return best


def _links(layers: Layers, at: Sequence[float]) -> tuple[Links, Links]:
    """The neighbours of each item in the column before and in the one after it.

    With each comes what is to be added to its position, for an arrow that arrives beside its middle.
    """
    joined: dict[tuple[int, int, float], None] = {}
    for way, place in zip(layers.ways, at):
        for source, target in pairwise(way):
            joined[source, target, place - 0.5 if target == way[-1] else 0.0] = None
    before: Links = [[] for _ in layers.column]
    after: Links = [[] for _ in layers.column]
    for source, target, place in joined:
        after[source].append((target, place))
        before[target].append((source, 0.0))
    return before, after


def _first_order(layers: Layers) -> Columns:
    """Items in the order of a walk from the last box to its operands, depth first."""
    arriving: dict[int, list[tuple[int, ...]]] = {}
    for way in layers.ways:
        arriving.setdefault(way[-1], []).append(way)
    order: Columns = [[] for _ in layers.columns]
    seen: set[int] = set()

    def visit(item: int) -> None:
        if item not in seen:
            seen.add(item)
            order[layers.column[item]].append(item)

    for last in reversed(layers.columns[-1]):
        waiting: list[tuple[int, ...]] = [(last,)]
        while waiting:
            way = waiting.pop()
            new = way[0] not in seen
            for item in reversed(way):
                visit(item)
            if new:
                waiting += reversed(arriving.get(way[0], []))
    return order


def _positions(order: Columns) -> dict[int, int]:
    return {item: k for column in order for k, item in enumerate(column)}


def _crossings(order: Columns, after: Links) -> int:
    """How many pairs of arrows cross."""
    position = _positions(order)
    total = 0
    for column in order:
        ends: list[float] = []
        for item in column:
            new = sorted(position[target] + place for target, place in after[item])
            total += sum(len(ends) - bisect_right(ends, end) for end in new)
            for end in new:
                insort(ends, end)
    return total


def _sweep(order: Columns, links: Links, rightwards: bool) -> None:
    """Sort each column by the mean position of the neighbours on one side; who has none stays."""
    position = _positions(order)
    for column in order if rightwards else reversed(order):
        means = {
            item: fsum(position[other] + place for other, place in links[item]) / len(links[item])
            if links[item]
            else float(position[item])
            for item in column
        }
        column.sort(key=means.__getitem__)
        position.update((item, k) for k, item in enumerate(column))


def _exchange(order: Columns, before: Links, after: Links) -> None:
    """Exchange neighbours in a column wherever that saves crossings."""
    position = _positions(order)
    for column in order:
        for k in range(len(column) - 1):
            a, b = column[k], column[k + 1]
            if sum(_saved(a, b, links, position) for links in (before, after)) > 0:
                column[k], column[k + 1] = b, a
                position[a], position[b] = k + 1, k


def _saved(a: int, b: int, links: Links, position: dict[int, int]) -> int:
    """How many crossings there are fewer when b stands before a."""
    ends_b = sorted(position[other] + place for other, place in links[b])
    saved = 0
    for other, place in links[a]:
        end = position[other] + place
        below = bisect_right(ends_b, end)
        equal = below - bisect_right(ends_b, end - 1e-9)
        saved += (below - equal) - (len(ends_b) - below)
    return saved
