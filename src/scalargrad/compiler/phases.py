"""In which phase each task of a program runs, when several workers share the program.

A task is shared (each worker does its part of the lanes) or single (the first worker does it).
Within a phase nobody waits, so of two tasks that touch the same elements, and not only to read
them, the later one has to be in a later phase. Not so if one worker does both, in their order:
where both are single, or both are divided by examples, all in the same way, and what they touch
belongs to an example. Every task runs as early as that allows.

The single tasks of a phase make `chains`: what one of them has to do with another keeps both with
one worker. Different chains are for different workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SINGLE, SHARED, BY_EXAMPLES = range(3)


class Touched(NamedTuple):
    """Elements of an array that a task may read or write: from the lowest to the highest.

    `own`: for each example there are others, and a task divided by examples touches its own.
    """

    array: int
    low: int
    high: int
    own: bool = False


class Task(NamedTuple):
    """What a task touches, and how it is done: SINGLE, SHARED or BY_EXAMPLES."""

    reads: Sequence[Touched]
    writes: Sequence[Touched]
    form: int


@dataclass
class _Log:
    """Who touched what of one array so far: rows of (low, high, phase or task, form)."""

    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty((16, 4), np.int64))
    count: int = 0

    def add(self, low: int, high: int, phase: int, form: int) -> None:
        if self.count == len(self.rows):
            self.rows = np.concatenate((self.rows, np.empty_like(self.rows)))
        self.rows[self.count] = low, high, phase, form
        self.count += 1

    def met(self, low: int, high: int) -> NDArray[np.int64]:
        """The rows with some of these elements."""
        rows = self.rows[: self.count]
        found: NDArray[np.int64] = rows[(rows[:, 0] <= high) & (rows[:, 1] >= low)]
        return found

    def after(self, low: int, high: int, form: int) -> int:
        """The first phase in which a task may touch these elements."""
        met = self.met(low, high)
        waits = (met[:, 3] != form) | (form == SHARED)
        return int(np.max(met[:, 2] + waits, initial=0))


def _form(task: Task, touched: Touched) -> int:
    return SHARED if task.form == BY_EXAMPLES and not touched.own else task.form


def phases(tasks: Sequence[Task]) -> list[int]:
    """The phase of each task, from 0; tasks of one phase keep their order."""
    read: dict[int, _Log] = {}
    written: dict[int, _Log] = {}
    result = []
    for task in tasks:
        found = [(written, t) for t in (*task.reads, *task.writes)]
        found += [(read, t) for t in task.writes]
        phase = max(
            (
                log[t.array].after(t.low, t.high, _form(task, t))
                for log, t in found
                if t.array in log
            ),
            default=0,
        )
        for log, regions in ((read, task.reads), (written, task.writes)):
            for t in regions:
                log.setdefault(t.array, _Log()).add(t.low, t.high, phase, _form(task, t))
        result.append(phase)
    return result


def chains(tasks: Sequence[Task], found: Sequence[int]) -> list[int]:
    """A number for each task, of phases `found`: the same for single ones that must keep order."""
    leader = list(range(len(tasks)))

    def first(k: int) -> int:
        while leader[k] != k:
            k = leader[k]
        return k

    read: dict[tuple[int, int], _Log] = {}
    written: dict[tuple[int, int], _Log] = {}
    for k, task in enumerate(tasks):
        if task.form != SINGLE:
            continue
        met = [(written, t) for t in (*task.reads, *task.writes)]
        met += [(read, t) for t in task.writes]
        for log, t in met:
            if (found[k], t.array) in log:
                for other in log[found[k], t.array].met(t.low, t.high)[:, 2].tolist():
                    leader[first(k)] = first(other)
        for log, regions in ((read, task.reads), (written, task.writes)):
            for t in regions:
                log.setdefault((found[k], t.array), _Log()).add(t.low, t.high, k, SINGLE)
    return [first(k) for k in range(len(tasks))]
