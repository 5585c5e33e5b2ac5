"""Where nests find their numbers: addresses as arrays, and the patterns that are found in them.

A back end that works on whole arrays asks for all the addresses of an operand at once, and then
how to get the numbers there with few operations: by slices, if they are evenly apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .distinct import distinct
from .loops import Loop, Operand, counters

Integers: TypeAlias = NDArray[np.int64]

LONGEST = 8  # runs in a period
MOST_RUNS = 32  # in all blocks together


def rectangular(loops: Sequence[Loop]) -> bool:
    """Whether no extent depends on another counter."""
    return all(loop.even for loop in loops)


class Box:
    """All combinations of the counters of rectangular loops: an axis for each loop."""

    def __init__(self, loops: Sequence[Loop]) -> None:
        self.shape = tuple(loop.extent for loop in loops)

    def places(self, operand: Operand) -> Integers:
        """The operand's places; an axis that makes no difference to them has length 1."""
        found = np.full((1,) * len(self.shape), operand.base, np.int64)
        for axis, (extent, stride) in enumerate(zip(self.shape, operand.strides)):
            if stride:
                steps = [1] * len(self.shape)
                steps[axis] = extent
                found = found + (np.arange(extent) * stride).reshape(steps)
        return found


class Rows:
    """Any combinations of counters, `rows[index]`: as many axes as `index` has."""

    def __init__(self, rows: Integers, index: Integers) -> None:
        self.rows, self.index = rows, index
        self.shape = index.shape

    def places(self, operand: Operand) -> Integers:
        """The operand's places."""
        strides = np.array(operand.strides, np.int64)
        found: Integers = (operand.base + self.rows[:, : len(strides)] @ strides)[self.index]
        return found


Points: TypeAlias = Box | Rows


def points_of(loops: Sequence[Loop]) -> Points:
    """The combinations of the counters: with an axis for each loop if they are a box, else one."""
    if rectangular(loops):
        return Box(loops)
    rows = counters(loops)
    return Rows(rows, np.arange(len(rows)))


class Ragged(NamedTuple):
    """Lanes with different numbers of terms, as a matrix: a row for each of `lanes`.

    Where not `present`, the matrix has a term that does not count.
    """

    lanes: Integers
    terms: Rows
    present: NDArray[np.bool_]


def ragged(lanes: Sequence[Loop], loops: Sequence[Loop]) -> list[Ragged]:
    """The terms of all lanes that have some: matrices of lanes with about as many terms."""
    rows = counters(lanes)
    tagged = np.column_stack((np.arange(len(rows)), rows))
    inner = [loop._replace(slopes=(0, *loop.slopes)) for loop in loops]
    terms = counters(inner, tagged)
    owner, terms = terms[:, 0], terms[:, 1:]
    count = np.bincount(owner, minlength=len(rows))
    start = np.cumsum(count) - count
    if len(rows) * count.max(initial=0) <= 4 * len(terms):
        size = np.where(count > 0, 1, 0)
    else:
        size = np.frexp(count)[1]  # lanes whose numbers of terms are within a factor of 2
    found = []
    for each in distinct(size[count > 0]).tolist():
        picked = np.flatnonzero(size == each)
        k = np.arange(count[picked].max())
        present = k < count[picked, None]
        index = np.where(present, start[picked, None] + k, start[picked, None])
        found.append(Ragged(picked, Rows(terms, index), present))
    return found


# --- patterns ------------------------------------------------------------------------------------


class Even(NamedTuple):
    """Places base + sum(stride * counter) for the counters of a box."""

    base: int
    strides: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def overlaps(self) -> bool:
        """Whether slices and reshapes cannot get there: rows that begin before the last ended."""
        span = 1
        for stride, extent in sorted(zip(map(abs, self.strides), self.shape)):
            if stride and extent > 1:
                if stride < span:
                    return True
                span += stride * (extent - 1)
        return False


def even(places: Integers) -> Even | None:
    """The pattern of places that are evenly apart along every axis; None for others."""
    base = int(places.flat[0])
    strides = []
    expected = np.full((1,) * places.ndim, base, np.int64)
    for axis, extent in enumerate(places.shape):
        second = tuple(int(k == axis) for k in range(places.ndim))
        stride = int(places[second]) - base if extent > 1 else 0
        shape = [1] * places.ndim
        shape[axis] = extent
        expected = expected + (np.arange(extent) * stride).reshape(shape)
        strides.append(stride)
    if not np.array_equal(expected, places):
        return None
    return Even(base, tuple(strides), places.shape)


class Run(NamedTuple):
    """`length` numbers in a row from one array, in turns that are `step` apart."""

    owner: int
    base: int
    step: int
    length: int


class Block(NamedTuple):
    """Runs one after the other, in turns."""

    runs: tuple[Run, ...]
    turns: int


def blocks(owner: NDArray[np.int32], place: Integers) -> list[Block] | None:
    """Numbers of several arrays, one after the other, as few blocks; None if there are too many."""
    breaks = np.flatnonzero((np.diff(owner) != 0) | (np.diff(place) != 1)) + 1
    first = np.concatenate(([0], breaks))
    count = np.diff(np.append(first, len(owner)))
    whose, base = owner[first], place[first]
    found: list[Block] = []
    at = runs_found = 0
    while at < len(first):
        if runs_found > MOST_RUNS:
            return None
        period, turns = _turns(whose[at:], base[at:], count[at:])
        following = at + (period if turns > 1 else 0)
        runs = tuple(
            Run(int(whose[k]), int(base[k]), int(base[following + k - at] - base[k]), int(count[k]))
            for k in range(at, at + period)
        )
        found.append(Block(runs, turns))
        runs_found += period
        at += period * turns
    return found


def _turns(owner: NDArray[np.int32], base: Integers, count: NDArray[np.int64]) -> tuple[int, int]:
    """The period in which most of the first runs come again, and how often it is there.

    That is at least three times: two turns are always evenly apart.
    """
    best = (1, 1)
    for period in range(1, min(LONGEST, len(owner) // 2) + 1):
        turns = len(owner) // period
        steps = np.diff(base[: turns * period].reshape(turns, period), axis=0)
        same = (steps == steps[:1]).all(axis=1)
        for part in (owner, count):
            table = part[: turns * period].reshape(turns, period)
            same &= (table[1:] == table[:1]).all(axis=1)
        turns = 1 + (len(same) if same.all() else int(np.argmin(same)))
        if turns > 2 and turns * period > best[0] * best[1]:
            best = period, turns
    return best
