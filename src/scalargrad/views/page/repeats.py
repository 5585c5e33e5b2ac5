"""Stretches of a sequence that repeat: `abcabcabc` is three times `abc`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LONGEST = 1024  # that a turn may be


class Repeat(NamedTuple):
    """So many equal turns of `period` items each, from item `start` on."""

    start: int
    period: int
    turns: int

    @property
    def end(self) -> int:
        """The item after the last turn."""
        return self.start + self.period * self.turns


def shortest(items: NDArray[np.int64]) -> list[Repeat]:
    """The repeats of the shortest turns there are, in order, without overlaps; or none."""
    for period in range(1, min(LONGEST, len(items) // 2) + 1):
        same = items[period:] == items[:-period]
        least = _least(period)
        if int(np.count_nonzero(same)) >= period * (least - 1):
            found = _repeats(same, period, least)
            if found:
                return found
    return []


def _least(period: int) -> int:
    """How many turns make a repeat: more if they are short, for these may be chance."""
    return 6 if period == 1 else 4 if period < 4 else 3 if period < 8 else 2


def _repeats(same: NDArray[np.bool_], period: int, least: int) -> list[Repeat]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], same, [False]))))
    long = np.flatnonzero(edges[1::2] - edges[::2] >= period * (least - 1))
    found: list[Repeat] = []
    for k in long.tolist():
        first, last = int(edges[2 * k]), int(edges[2 * k + 1])
        start = max(first, found[-1].end) if found else first
        turns = (last + period - start) // period
        if turns >= least:
            found.append(Repeat(start, period, turns))
    return found
