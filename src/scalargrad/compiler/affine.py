"""Finding loops in lists of numbers: the heart of the sixth stage.

`nest(rows)` takes a list of integer vectors, a row for each lane (where its result lies, where
its operands lie), and finds loops that enumerate them: a first row, and for each loop an extent
and the vector that is added from one turn to the next. Where a user's loops filled the rows these
are those loops. Rows that follow one another at constant difference are a run; the first rows
of the runs are rows again, with the length of the run as one more number. If the lengths grow
evenly, the inner loop's extent depends on the outer counter: a triangle.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .cuts import labels, runs
from .distinct import distinct
from .loops import Loop

MANY = 2**31
MOST_LOOPS = 8  # one inside the other; without structure, more would only merge pair by pair
FEW_KINDS = 16  # rows of more kinds than this have no structure to complete

Rows: TypeAlias = NDArray[np.int64]


class Found(NamedTuple):
    """Loops around one row: `first` is the row where all counters are 0, `item` its number,
    `loops` the loops, outermost first, and `steps` what each adds to the row."""

    first: Rows
    item: int
    loops: tuple[Loop, ...]
    steps: tuple[Rows, ...]


def nest(
    rows: Rows, kinds: NDArray[np.int64] | None = None, limit: int = MANY
) -> list[Found] | None:
    """Loops that enumerate the rows in order; only rows of one kind share a loop.

    None if it would take more than `limit` nests.
    """
    if len(rows) == 1:
        return [Found(rows[0], 0, (), ())]
    rows = np.ascontiguousarray(rows, np.int64)
    kinds = np.zeros(len(rows), np.int64) if kinds is None else kinds
    found = _nest(rows, kinds, False, limit)
    if len(rows) < 3 or (found is not None and len(found) == 1 and len(found[0].loops) < 3):
        return found
    other = _nest(rows, kinds, True, limit)
    if found is None or other is None:
        return other if found is None else found
    return min(found, other, key=_cost)


def _cost(found: list[Found]) -> int:
    return sum(2 + len(nest.loops) for nest in found)


def _nest(rows: Rows, kinds: NDArray[np.int64], modal: bool, limit: int) -> list[Found] | None:
    """Runs of rows, runs of runs, and so on; with `modal` only by the most frequent difference,
    otherwise each run by the difference of its first two rows."""
    width = rows.shape[1]
    heads = np.arange(len(rows))
    steps: list[Rows] = []  # innermost first; each has a row per head
    while len(rows) > 1 and len(steps) < MOST_LOOPS:
        starts, rows, step = runs(rows, kinds, _modal(rows, kinds) if modal else None, width)
        if len(starts) == len(heads):
            rows = rows[:, :-1]
            break
        before = kinds[starts]
        kinds = labels(np.column_stack((before, step)))
        single = rows[:, -1] == 1
        if single.any():
            _borrow(step, kinds, before, single)
        if len(rows) > limit and np.count_nonzero(np.bincount(kinds)) > limit:
            return None  # each kind has a nest of its own
        steps = [s[starts] for s in steps] + [step]
        heads = heads[starts]
    if len(rows) > limit:
        return None
    return [_found(rows[k], int(heads[k]), width, [s[k] for s in steps]) for k in range(len(rows))]


def _modal(rows: Rows, kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 where the difference to the next row is the most frequent one within a kind, else 0."""
    number = labels(np.diff(rows, axis=0))
    counts = np.bincount(number[kinds[1:] == kinds[:-1]])
    most = counts.argmax() if len(counts) else -1
    joined: NDArray[np.int64] = (number == most).astype(np.int64)
    return joined


def _borrow(
    step: Rows, kinds: NDArray[np.int64], before: NDArray[np.int64], single: NDArray[np.bool_]
) -> None:
    """A run of one has any step: give it the most frequent one of what was its kind before."""
    lone = distinct(before[single])
    if len(lone) > FEW_KINDS:
        return
    for kind in lone.tolist():
        others = np.flatnonzero(~single & (before == kind))
        if len(others):
            most = np.bincount(kinds[others]).argmax()
            lonely = single & (before == kind)
            step[lonely] = step[others[(kinds[others] == most).argmax()]]
            kinds[lonely] = most


def _found(row: Rows, item: int, width: int, steps: list[Rows]) -> Found:
    """Put together what was found: row = numbers, then the extents of the loops from inside."""
    depth = len(steps)
    loops = []
    for level in range(depth - 1, -1, -1):
        column = width + level
        slopes = tuple(int(steps[outer][column]) for outer in range(depth - 1, level, -1))
        loops.append(Loop(int(row[column]), slopes if any(slopes) else ()))
    kept = [k for k, loop in enumerate(loops) if loop.extent != 1 or loop.slopes]
    vectors = [steps[depth - 1 - k][:width] for k in kept]
    inner = tuple(_without(loops[k], k, kept) for k in kept)
    return Found(row[:width], item, inner, tuple(vectors))


def _without(loop: Loop, k: int, kept: list[int]) -> Loop:
    """The loop when only the outer loops `kept` remain (the others turn once)."""
    slopes = tuple(loop.slopes[j] for j in kept if j < k and j < len(loop.slopes))
    return Loop(loop.extent, slopes if any(slopes) else ())
