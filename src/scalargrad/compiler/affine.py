"""Finding loops in lists of numbers: the heart of the sixth stage.

`nest(rows)` takes a list of integer vectors, a row for each lane (where its result lies, where
its operands lie), and finds loops that enumerate them: a first row, and for each loop an extent
and the vector that is added from one turn to the next. Where a user's loops filled the rows these
are those loops. Rows that follow one another at constant difference are a run; the first rows
of the runs are rows again, with the length of the run as one more number. If the lengths grow
evenly, the inner loop's extent depends on the outer counter: a triangle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .cuts import greedy, labels
from .loops import Loop

MANY = 2**31

Rows: TypeAlias = NDArray[np.int64]
_Cut: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.int64]], Rows]


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
    kinds = np.zeros(len(rows), np.int64) if kinds is None else kinds
    found = _nest(rows, kinds, greedy, limit)
    if len(rows) < 3 or (found is not None and len(found) == 1 and len(found[0].loops) < 3):
        return found
    other = _nest(rows, kinds, _modal, limit)
    if found is None or other is None:
        return other if found is None else found
    return min(found, other, key=_cost)


def _cost(found: list[Found]) -> int:
    return sum(2 + len(nest.loops) for nest in found)


def _nest(rows: Rows, kinds: NDArray[np.int64], cut: _Cut, limit: int) -> list[Found] | None:
    width = rows.shape[1]
    heads = np.arange(len(rows))
    steps: list[Rows] = []  # innermost first; each has a row per head
    while len(rows) > 1:
        starts, lengths, step = _runs(rows, kinds, cut, width)
        if len(starts) == len(rows):
            break
        kinds = _kinds(kinds[starts], step, lengths)
        step = _borrow(step, lengths, kinds)
        rows = np.column_stack((rows[starts], lengths))
        steps = [s[starts] for s in steps] + [step]
        heads = heads[starts]
    if len(rows) > limit:
        return None
    return [_found(rows[k], int(heads[k]), width, [s[k] for s in steps]) for k in range(len(rows))]


def _runs(rows: Rows, kinds: NDArray[np.int64], cut: _Cut, width: int) -> tuple[Rows, Rows, Rows]:
    """Where runs start, how long they are, and their constant difference (0 for a run of one).

    Any two lengths differ by a constant: only three inner loops or more show a triangle.
    """
    difference = np.diff(rows, axis=0)
    starts = cut(labels(difference), kinds)
    lengths = np.diff(np.append(starts, len(rows)))
    pairs = starts[lengths == 2]
    uneven = pairs[(difference[pairs, width:] != 0).any(axis=1)]
    if len(uneven):
        starts = np.sort(np.concatenate((starts, uneven + 1)))
        lengths = np.diff(np.append(starts, len(rows)))
    step = np.zeros((len(starts), rows.shape[1]), np.int64)
    several = lengths > 1
    step[several] = difference[starts[several]]
    return starts, lengths, step


def _kinds(kinds: NDArray[np.int64], step: Rows, lengths: Rows) -> NDArray[np.int64]:
    """Runs may share an outer loop if their kinds and steps agree; a run of one has any step.

    It is given the most frequent step of its kind.
    """
    number = labels(np.column_stack((kinds, step)))
    single = lengths == 1
    if single.any() and not single.all():
        for kind in np.unique(kinds[single]).tolist():
            others = number[~single & (kinds == kind)]
            if len(others):
                values, counts = np.unique(others, return_counts=True)
                number[single & (kinds == kind)] = values[counts.argmax()]
    return number


def _borrow(step: Rows, lengths: Rows, kinds: NDArray[np.int64]) -> Rows:
    """Give runs of one the step of their kind."""
    single = np.flatnonzero(lengths == 1)
    several = np.flatnonzero(lengths > 1)
    if len(single) and len(several):
        known, first = np.unique(kinds[several], return_index=True)
        place = np.minimum(np.searchsorted(known, kinds[single]), len(known) - 1)
        match = known[place] == kinds[single]
        step[single[match]] = step[several[first[place[match]]]]
    return step


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


# --- where to cut ----------------------------------------------------------------------------------


def _modal(step: NDArray[np.int64], kinds: NDArray[np.int64]) -> Rows:
    """As `greedy`, but only the most frequent difference continues a run."""
    same = kinds[1:] == kinds[:-1]
    counts = np.bincount(step[same])
    if not len(counts):
        return np.arange(len(kinds))
    joined = same & (step == counts.argmax())
    return np.concatenate(([0], np.flatnonzero(~joined) + 1))
