"""Tandem repeats: where a sequence does the same again and again, moving evenly.

An item of the sequence has a kind, and a vector of numbers that moves: of that only a hash is
given, one that is linear (`linear_hash`), so that the hash of a difference is the difference of
hashes. Items s, s + 1, ... are `turns` turns of one `period` if each has the kind of the item a
period later, and if from turn to turn its numbers change by the same amounts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FEWEST = 3  # turns: only from three on can be seen that a movement is even
# Periods are distances at which an item comes again, or a run of so many of them, as that tells turns
# from the turns within them. For each: after how many others alike, and how many periods are tried.
LENGTHS = {1: (12, 24), 64: (4, 16)}
ROUNDS = 4  # in each, periods of what is in no repeat yet
ALL_BUT = 16  # that is not looked for if it is less than a part of so many


class Tandem(NamedTuple):
    """`turns` turns of `period` items each, the first of which is item `start`."""

    start: int
    period: int
    turns: int

    @property
    def stop(self) -> int:
        """The item after the last."""
        return self.start + self.period * self.turns

    @property
    def saved(self) -> int:
        """The items that need not be written down."""
        return self.period * (self.turns - 1)


def linear_hash(numbers: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A hash of each of the vectors numbers[first[k]:first[k + 1]] that is linear modulo 2**64."""
    sizes = np.diff(first)
    place = np.arange(len(numbers)) - np.repeat(first[:-1], sizes)
    # Multiplied and shifted, places are as good as drawn at random.
    weight = (place.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    weight ^= weight >> np.uint64(29)
    weight *= np.uint64(0xBF58476D1CE4E5B9)
    weight ^= weight >> np.uint64(32)
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(numbers.astype(np.uint64) * weight)))
    hashes: NDArray[np.uint64] = sums[first[1:]] - sums[first[:-1]]
    return hashes


def mixed(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers hashed, one by one."""
    mixed = numbers.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    return mixed.view(np.int64)


def find_tandems(
    kinds: NDArray[np.int64], hashes: NDArray[np.uint64], least: int = 1
) -> list[Tandem]:
    """Tandem repeats that do not overlap, in order; each saves `least` items or more.

    Those that save most are taken first.
    """
    distances = _distances(kinds)
    runs: dict[int, list[_Run]] = {}
    free = np.ones(len(kinds), bool)
    for _ in range(ROUNDS):
        left = np.count_nonzero(free)
        for period in _frequent(distances, free):
            if period not in runs:
                runs[period] = _runs(kinds, hashes, period)
                for run in runs[period]:
                    free[run.first : run.last + 2 * period] = False
        if not left // ALL_BUT < np.count_nonzero(free) < left:
            break
    return _chosen([run for own in runs.values() for run in own], len(kinds), least)


class _Distances(NamedTuple):
    """Pairs of equal runs of items: where the first begins, and how much later the other does.

    Of the frequent distances, `tried` are periods to be tried.
    """

    start: NDArray[np.intp]
    apart: NDArray[np.intp]
    tried: int


def _distances(kinds: NDArray[np.int64]) -> list[_Distances]:
    """Those of all lengths, none further apart than a period can be long."""
    found: list[_Distances] = []
    runs, length = kinds, 1
    for wanted, (hops, count) in LENGTHS.items():
        while length < wanted and len(runs) > length:
            # Twice as long: a run, and the one that follows it.
            runs, length = mixed(runs[:-length]) + runs[length:], 2 * length
        order = np.argsort(runs, kind="stable")
        pairs = []
        for hop in range(1, min(hops, len(runs) - 1) + 1):
            apart = order[hop:] - order[:-hop]
            near = np.flatnonzero(runs[order[hop:]] == runs[order[:-hop]])
            near = near[apart[near] <= len(kinds) // FEWEST]
            if not len(near):
                break
            pairs.append((order[near], apart[near]))
        if length == wanted and pairs:
            start, between = map(np.concatenate, zip(*pairs))
            found.append(_Distances(start, between, count))
    return found


def _frequent(distances: Sequence[_Distances], free: NDArray[np.bool_]) -> list[int]:
    """The most frequent distances of what begins at free places: a period is among them."""
    found: dict[int, None] = {}
    for start, apart, tried in distances:
        tally = np.bincount(apart if free.all() else apart[free[start]])
        frequent = np.argsort(-tally, kind="stable")[:tried].tolist()
        found |= dict.fromkeys(period for period in frequent if tally[period] >= FEWEST - 1)
    return list(found)


class _Run(NamedTuple):
    """From each of the items first ... last - 1 on, three periods are evenly apart."""

    first: int
    last: int
    period: int

    def within(self, low: int, high: int) -> _Run:
        """What is left of it in items low ... high - 1."""
        return _Run(max(self.first, low), min(self.last, high - 2 * self.period), self.period)

    @property
    def tandem(self) -> Tandem:
        """Its whole turns."""
        return Tandem(self.first, self.period, (self.last - self.first) // self.period + 2)


def _chosen(runs: Sequence[_Run], size: int, least: int) -> list[Tandem]:
    """Of the runs among `size` items, those that save most first, and what they leave of others."""
    waiting: list[tuple[int, int, int, _Run]] = []

    def wait(number: int, run: _Run) -> None:
        saved = run.tandem.saved
        if run.last - run.first >= run.period and saved >= least:
            heappush(waiting, (-saved, run.period, number, run))

    for number, run in enumerate(runs):
        wait(number, run)
    found: list[Tandem] = []
    free = [(0, size)]  # in order
    while waiting:
        _, _, number, run = heappop(waiting)
        end = run.last + 2 * run.period
        k = max(bisect_right(free, (run.first, size)) - 1, 0)
        if free and free[k][0] <= run.first and end <= free[k][1]:
            found.append(run.tandem)
            low, high = free[k]
            free[k : k + 1] = [
                part for part in ((low, run.first), (run.tandem.stop, high)) if part[0] < part[1]
            ]
            continue
        while k < len(free) and free[k][0] < end:
            wait(number, run.within(*free[k]))
            k += 1
    return sorted(found)


def _runs(kinds: NDArray[np.int64], hashes: NDArray[np.uint64], period: int) -> list[_Run]:
    """The longest repeats of one period."""
    if len(kinds) < FEWEST * period:
        return []
    same = kinds[period:] == kinds[:-period]
    change = hashes[period:] - hashes[:-period]
    even = same[period:] & same[:-period] & (change[period:] == change[:-period])
    edges = np.flatnonzero(np.diff(np.concatenate(([False], even, [False])).astype(np.int8)))
    return [_Run(a, b, period) for a, b in edges.reshape(-1, 2).tolist() if b - a >= period]
