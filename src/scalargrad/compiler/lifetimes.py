"""Memory that is no longer read is used again: blocks by the times at which they are needed.

What a program computes on its way is short-lived. Put where nothing else is needed any more, it
stays in the nearest caches, whatever the size of the whole.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import NamedTuple


class Span(NamedTuple):
    """A block of memory: its size, and the first and the last time at which it is needed."""

    size: int
    first: int
    last: int


def first_fit(spans: Sequence[Span]) -> tuple[list[int], int]:
    """Where each block begins, and the size of the whole.

    Blocks needed at the same time do not meet. Each goes to the lowest place that is free.
    """
    places = [0] * len(spans)
    end = 0
    taken: list[tuple[int, int, int]] = []  # last time, begin, end
    holes: list[tuple[int, int]] = []  # begin, end
    for k in sorted(range(len(spans)), key=lambda k: spans[k].first):
        size, first, last = spans[k]
        while taken and taken[0][0] < first:
            _, *freed = heappop(taken)
            _release(holes, *freed)
        fitting = next((hole for hole in holes if hole[1] - hole[0] >= size), None)
        if fitting is None and holes and holes[-1][1] == end:
            fitting = holes[-1]
        begin = end
        if fitting is not None:
            begin = fitting[0]
            holes.remove(fitting)
            if begin + size < fitting[1]:
                insort(holes, (begin + size, fitting[1]))
        end = max(end, begin + size)
        places[k] = begin
        heappush(taken, (last, begin, begin + size))
    return places, end


def _release(holes: list[tuple[int, int]], begin: int, end: int) -> None:
    """Add a hole, as one with those that it touches."""
    for hole in [hole for hole in holes if hole[1] == begin or hole[0] == end]:
        holes.remove(hole)
        begin, end = min(begin, hole[0]), max(end, hole[1])
    insort(holes, (begin, end))
