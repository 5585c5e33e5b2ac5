"""Columns: every box left of whatever uses it, and the columns that an arrow passes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layers:
    """Items in columns: the boxes by their numbers, then the points where arrows pass a column.

    `ways` has for each arrow the items from its source to its target, one in every column.
    Arrows from one box share their points for as long as they run side by side.
    """

    columns: tuple[tuple[int, ...], ...]
    column: tuple[int, ...]  # of each item
    ways: tuple[tuple[int, ...], ...]


def layered(count: int, arrows: Sequence[tuple[int, int]]) -> Layers:
    """The columns of `count` boxes with arrows (source, target), source < target.

    A box stands one column left of the first that uses it, so leaves are beside their use.
    """
    distance = [0] * count
    for source, target in sorted(arrows, key=lambda arrow: -arrow[1]):
        distance[source] = max(distance[source], distance[target] + 1)
    deepest = max(distance, default=0)
    column = [deepest - d for d in distance]
    points: dict[tuple[int, int], int] = {}
    ways = []
    for source, target in arrows:
        passed = range(column[source] + 1, column[target])
        for c in passed:
            if (source, c) not in points:
                points[source, c] = len(column)
                column.append(c)
        ways.append((source, *(points[source, c] for c in passed), target))
    columns: list[list[int]] = [[] for _ in range(deepest + 1)]
    for item, c in enumerate(column):
        columns[c].append(item)
    return Layers(tuple(map(tuple, columns)), tuple(column), tuple(ways))
