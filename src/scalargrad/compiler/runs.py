"""The terms of a pack's nodes, run by run, and how they go on within a node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .affine import Found, Rows, nest
from .cuts import labels
from .flat import Flat
from .layout import Layout
from .loops import Loop, Space
from .survey import survey

# Above so many ways in which the terms of its nodes go on, a pack keeps its order.
MANY_KINDS = 16


@dataclass
class Run:
    """The terms number r of every node of a pack: consecutive terms of one sort.

    a, b     the addresses of the first term's factors, a row each
    count    how many terms there are
    inner    what the terms of a node look like from the first on, by `pattern` (see `runs_of`)
    """

    left: Space
    right: Space | None
    style: int
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    count: NDArray[np.int64]
    step: Rows | None = None
    pattern: NDArray[np.int64] | None = None
    patterns: list[Rows] = field(default_factory=list)
    all_a: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    all_b: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    irregular: bool = False
    found: dict[int, list[Found]] = field(default_factory=dict)

    def pieces(self, pattern: int) -> list[Found]:
        """The loops of a pattern."""
        if pattern not in self.found:
            self.found[pattern] = nest(self.patterns[pattern]) or []
        return self.found[pattern]


def runs_of(
    flat: Flat,
    layout: Layout,
    nodes: NDArray[np.int32],
    sort: NDArray[np.int32],
    rows: bool,
    patterns: bool,
) -> list[Run]:
    """The terms of all nodes, cut where the sort of term changes.

    `sort` is what the factors of a run agree in. Only with `rows` have runs several terms, and only
    with `patterns` may these be unevenly apart.
    """
    found = survey(flat, nodes, layout.address, sort, layout.canonical, rows)
    runs = []
    for r, term in enumerate(found.sample.tolist()):
        right = int(flat.right[term])
        part = slice(int(found.begin[r]), int(found.begin[r + 1]))
        run = Run(
            Space(int(flat.space[flat.left[term]])),
            Space(int(flat.space[right])) if right >= 0 else None,
            int(flat.style[term]),
            found.a[r],
            found.b[r],
            found.count[r],
            all_a=found.all_a[part],
            all_b=found.all_b[part],
        )
        if part.stop - part.start > len(nodes):
            if found.even[r]:
                _step(run, found.step[r])
            elif patterns:
                _patterns(run, np.cumsum(run.count) - run.count)
            else:
                run.irregular = True
        runs.append(run)
    return runs


def _step(run: Run, step: Rows) -> None:
    """Terms that are evenly spaced in each node."""
    several = run.count > 1
    if not several.all():
        # A single term goes on in any way: as most do.
        number = labels(np.ascontiguousarray(step[several]))
        step[~several] = step[several][(number == np.bincount(number).argmax()).argmax()]
    run.step = step


def _patterns(run: Run, heads: NDArray[np.int64]) -> None:
    """Terms that are not evenly spaced: nodes with the same spacings share a pattern."""
    known: dict[bytes, int] = {}
    run.pattern = np.zeros(len(heads), np.int64)
    if (run.count == run.count[0]).all():
        shape = (len(heads), int(run.count[0]))
        rows = np.stack((run.all_a.reshape(shape), run.all_b.reshape(shape)), axis=2)
        relative = rows - rows[:, :1]
        if (relative == relative[:1]).all():
            run.patterns.append(relative[0])
            return
    for k, (head, count) in enumerate(zip(heads.tolist(), run.count.tolist())):
        terms = slice(head, head + count)
        relative = np.column_stack((run.all_a[terms], run.all_b[terms]))
        relative -= relative[0]
        key = relative.tobytes()
        if key not in known:
            if len(known) == MANY_KINDS:
                run.irregular = True
                return
            known[key] = len(run.patterns)
            run.patterns.append(relative)
        run.pattern[k] = known[key]


def split(runs: list[Run]) -> list[Run] | None:
    """Every term a run of its own, where all nodes have equally many, not too many.

    None where that is so already.
    """
    total = sum(int(run.count[0]) for run in runs)
    if total == len(runs) or total > 64 or any((run.count != run.count[0]).any() for run in runs):
        return None
    split = []
    for run in runs:
        shape = (len(run.count), int(run.count[0]))
        a, b = run.all_a.reshape(shape), run.all_b.reshape(shape)
        one = np.ones(shape[0], np.int64)
        for k in range(shape[1]):
            columns = a[:, k].copy(), b[:, k].copy()
            split.append(
                Run(
                    *(run.left, run.right, run.style, *columns, one),
                    all_a=columns[0],
                    all_b=columns[1],
                )
            )
    return split


def inner_loops(
    run: Run, item: int, count: int, growth: tuple[int, ...], depth: int
) -> Iterator[tuple[tuple[int, tuple[int, ...]], tuple[int, tuple[int, ...]], tuple[Loop, ...]]]:
    """Offsets and strides of both factors and the loops, for each segment of a run.

    Of the node `item`, with so many terms; `growth` is how many more there are along each of the
    `depth` lane loops.
    """
    if run.pattern is not None:
        for part in run.pieces(int(run.pattern[item])):
            loops = tuple(
                Loop(loop.extent, (0,) * depth + loop.slopes if loop.slopes else ())
                for loop in part.loops
            )
            strides = np.array(part.steps, np.int64).reshape(len(loops), 2)
            yield (
                (int(part.first[0]), tuple(strides[:, 0].tolist())),
                (int(part.first[1]), tuple(strides[:, 1].tolist())),
                loops,
            )
    elif run.step is None or (count == 1 and not any(growth)):
        yield (0, ()), (0, ()), ()
    else:
        slopes = growth if any(growth) else ()
        step = run.step[item].tolist()
        yield (0, (step[0],)), (0, (step[1],)), (Loop(count, slopes),)


def kinds_of(runs: list[Run]) -> NDArray[np.int64]:
    """A number for each node of a pack, equal where the terms go on in the same way."""
    columns = [run.pattern[:, None] for run in runs if run.pattern is not None]
    columns += [run.step for run in runs if run.step is not None]
    if not columns:
        return np.zeros(len(runs[0].a), np.int64)
    return labels(np.ascontiguousarray(np.hstack(columns)))


def by_kind(runs: list[Run]) -> NDArray[np.int64] | None:
    """An order that brings nodes of the same kind together, if they are mixed and kinds are few.

    The gradients of queries and of keys, say, are one pack but two triangles.
    """
    kinds = kinds_of(runs) if runs else np.zeros(1, np.int64)
    changes = int((kinds[1:] != kinds[:-1]).sum())
    highest = int(kinds.max())
    if highest == 0 or highest >= MANY_KINDS or changes == highest:
        return None
    return np.argsort(kinds, kind="stable")
