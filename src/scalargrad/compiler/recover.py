"""Recovery: the loops of one pack.

For every node of a pack, a row of numbers: where its operands lie, and how many there are. The
loops that enumerate the rows (`affine.nest`) are the loops of the instruction; the differences
from row to row are the strides of its operands. Where no loops can be found, the addresses
themselves are kept, in the index table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .affine import MANY, Found, Rows, nest
from .choices import choices, is_choice
from .cuts import labels
from .distinct import distinct
from .flat import FOLD_MAXIMUM, FOLD_MINIMUM, INDICATOR, OVER, Flat, is_batched
from .layout import Layout
from .loops import (
    MINUS,
    SKIP_LEFT,
    SKIP_RIGHT,
    Apply,
    Contract,
    Group,
    Indicator,
    Loop,
    Nest,
    Operand,
    Origin,
    Segment,
    Space,
    Take,
    counters,
)
from .packs import Packs
from .runs import Run, by_kind, inner_loops, kinds_of, runs_of, split

_FOLDS = {ops.ADD: ops.ADD, FOLD_MAXIMUM: ops.MAXIMUM, FOLD_MINIMUM: ops.MINIMUM}
_STARTS = {FOLD_MAXIMUM: -np.inf, FOLD_MINIMUM: np.inf}

# A pack is left to the index table when its loops come to more nests than this, and to more than
# one for so many nodes.
FEW_NESTS, NODES_PER_NEST = 12, 24

# A pack of so many nodes that can be walked through is first tried on so few.
MANY_NODES, SAMPLE = 1024, 256

# A node alone in its pack, with so few terms, is written down as it is.
PLAIN_TERMS = 4

# Nodes whose operands are looked at, and distances in the pack at which they are compared, before
# loops are looked for in a pack that can be walked through.
FIRST, APART = 32, 4

# A plan of this cost is taken as it is.
ENOUGH = 12


@dataclass(frozen=True)
class Plan:
    """One way to cut a pack: the nodes in an order, their runs of terms, the loops found."""

    nodes: NDArray[np.int32]
    runs: list[Run]
    extra: list[NDArray[np.int64]]
    found: list[Found] | None

    @property
    def cost(self) -> int:
        """About how much code it is."""
        return MANY if self.found is None else len(self.found) * (2 + len(self.runs))


class Tables:
    """The index table while it grows."""

    def __init__(self) -> None:
        self.parts: list[NDArray[np.int32]] = []
        self.size = 0

    def add(self, entries: NDArray[np.int64]) -> int:
        """The place of new entries."""
        base = self.size
        self.parts.append(entries.astype(np.int32).ravel())
        self.size += entries.size
        return base

    def array(self) -> NDArray[np.int32]:
        """The whole table."""
        return np.concatenate(self.parts) if self.parts else np.empty(0, np.int32)


class Recovery:
    """Turns packs into nests, one after the other, placing their results."""

    def __init__(self, flat: Flat, packs: Packs, layout: Layout, accumulate: bool = False) -> None:
        self.flat, self.layout, self.accumulate = flat, layout, accumulate
        self.coarse = packs.coarse
        # What operands must agree in to be read by one loop.
        self._space = flat.space.astype(np.int32)
        self._sort = self._space if packs.coarse else packs.pack
        self.batched = is_batched(flat)
        self.tables = Tables()

    def nests(
        self, nodes: NDArray[np.int32], origin: Origin, worth: int = 0
    ) -> tuple[list[Nest], NDArray[np.int32]]:
        """The instructions that compute a pack, whose operands have their places.

        Where a nest would do less work than `worth`, its nodes are given back instead.
        """
        if is_choice(self.flat, nodes):
            return _numbered(choices(self, nodes), origin), nodes[:0]
        if worth and not self.batched[nodes[0]] and self._scattered(nodes[:FIRST]):
            return [], nodes
        kind = int(self.flat.kind[nodes[0]])
        if len(nodes) == 1 and self._is_plain(int(nodes[0]), kind):
            if worth:
                return [], nodes
            return _numbered([self._single(nodes, kind)], origin), nodes[:0]
        # If the first of very many have no loops, then not all have.
        sampled = worth and len(nodes) > MANY_NODES
        if sampled and self._best_plan(nodes[:SAMPLE], kind).found is None:
            return [], nodes
        plan = self._best_plan(nodes, kind)
        few = max(4 * FEW_NESTS, len(nodes), 2 * len(plan.runs))
        if plan.found is None or self._pieces(plan) > few:
            made, rest = self._with_tables(plan, kind, worth)
        elif len(nodes) + self._terms(plan.runs) < worth * len(plan.found):
            return [], nodes
        else:
            made = [
                self._nest(plan.nodes, kind, plan.runs, plan.extra, found) for found in plan.found
            ]
            rest = nodes[:0]
        return _numbered(made, origin), rest

    def _placed(self, nodes: NDArray[np.int32]) -> bool:
        """Whether the results of a pack have their places already, as gradients have."""
        return bool(self.layout.address[nodes[0]] >= 0)

    def _is_plain(self, node: int, kind: int) -> bool:
        """Whether a node has so few terms that none of them need a loop."""
        count = int(self.flat.first[node + 1] - self.flat.first[node])
        return 0 < count <= PLAIN_TERMS and kind not in (ops.TAKE, INDICATOR)

    def _single(self, nodes: NDArray[np.int32], kind: int) -> Nest:
        """The instruction of a single plain node, each of its terms on its own."""
        flat, node = self.flat, int(nodes[0])
        parts = []
        for t in range(int(flat.first[node]), int(flat.first[node + 1])):
            style, left, right = int(flat.style[t]), int(flat.left[t]), int(flat.right[t])
            factor = None if right < 0 else self._operand(right)
            parts.append((style, segment(self._operand(left), factor, (), style)))
        space = Space(int(flat.space[node]))
        if not self._placed(nodes):
            self.layout.address[node] = self.layout.reserve(space, 1)
        result = Operand(space, int(self.layout.address[node]))
        return self.instruction(nodes, kind, result, (), parts, [])

    def _operand(self, node: int) -> Operand:
        """Where one number lies."""
        space, place = Space(int(self.flat.space[node])), int(self.layout.address[node])
        if space == Space.CONSTANT:
            place = int(self.layout.canonical[place])
        return Operand(space, place)

    def _scattered(self, nodes: NDArray[np.int32]) -> bool:
        """Whether what the nodes read first lies all over: loops would have them in equal steps."""
        flat, address = self.flat, self.layout.address
        terms = np.minimum(flat.first[nodes], len(flat.left) - 1)
        for operand in (flat.left[terms], flat.right[terms]):
            places = address[operand]
            steps = [places[k:] - places[:-k] for k in range(1, APART + 1)]
            if all(4 * len(distinct(step)) > 3 * len(step) for step in steps):
                return True
        return False

    def _pieces(self, plan: Plan) -> int:
        """How many segments the nests of a plan would have."""
        return sum(
            1 if run.pattern is None else len(run.pieces(int(run.pattern[found.item])))
            for run in plan.runs
            for found in plan.found or ()
        )

    def _terms(self, runs: list[Run]) -> int:
        return sum(int(run.count.sum()) for run in runs)

    def _best_plan(self, nodes: NDArray[np.int32], kind: int) -> Plan:
        """The way to cut a pack into loops that needs the fewest."""
        if kind == INDICATOR:
            extra = self._indices(nodes, candidates=True)
            return Plan(nodes, [], extra, self._loops(nodes, [], extra))
        runs = self._runs(nodes)
        if kind == ops.TAKE:
            extra = self._indices(nodes, candidates=False)
            even = all(run.pattern is None for run in runs)
            return Plan(nodes, runs, extra, self._loops(nodes, runs, extra) if even else None)
        best = Plan(nodes, runs, [], self._loops(nodes, runs, []))
        order = by_kind(runs) if best.cost > ENOUGH else None
        if order is not None:
            arranged = self._runs(nodes[order])
            found = self._loops(nodes[order], arranged, [])
            best = min(best, Plan(nodes[order], arranged, [], found), key=_cost)
        if kind in _FOLDS and best.cost > ENOUGH:
            parts = split(best.runs)
            if parts is not None:
                found = self._loops(best.nodes, parts, [])
                best = min(best, Plan(best.nodes, parts, [], found), key=_cost)
        return best

    # --- rows ------------------------------------------------------------------------------------

    def _indices(self, nodes: NDArray[np.int32], candidates: bool) -> list[NDArray[np.int64]]:
        columns = [self.flat.slot[nodes].astype(np.int64)]
        if candidates:
            columns.append(self.flat.extra[nodes].astype(np.int64))
        return columns

    def _runs(self, nodes: NDArray[np.int32]) -> list[Run]:
        kind = int(self.flat.kind[nodes[0]])
        sort = self._space if kind == ops.TAKE else self._sort
        # Each operand of an operation has its own place: only sums have rows of terms.
        rows = kind in _FOLDS or kind == ops.TAKE
        return runs_of(self.flat, self.layout, nodes, sort, rows, not self.coarse)

    # --- nests -----------------------------------------------------------------------------------

    def _loops(
        self, nodes: NDArray[np.int32], runs: list[Run], extra: list[NDArray[np.int64]]
    ) -> list[Found] | None:
        if any(run.irregular for run in runs):
            return None
        columns = [column for run in runs for column in (run.a, run.b, run.count)] + extra
        if self._placed(nodes):
            columns.append(self.layout.address[nodes])
        elif not columns:
            columns.append(self.flat.slot[nodes].astype(np.int64))
        label = kinds_of(runs) if runs else np.zeros(len(nodes), np.int64)
        limit = max(FEW_NESTS, len(nodes) // NODES_PER_NEST)
        return nest(np.column_stack(columns), label, limit)

    def _nest(
        self,
        nodes: NDArray[np.int32],
        kind: int,
        runs: list[Run],
        extra: list[NDArray[np.int64]],
        found: Found,
    ) -> Nest:
        space = Space(int(self.flat.space[nodes[0]]))
        lanes = found.loops
        steps = np.array(found.steps, np.int64).reshape(len(lanes), len(found.first))
        result = self.place(nodes, space, found, steps)

        def column(k: int) -> tuple[int, tuple[int, ...]]:
            return int(found.first[k]), tuple(steps[:, k].tolist())

        parts: list[tuple[int, Segment]] = []
        for r, run in enumerate(runs):
            a, b = column(3 * r), column(3 * r + 1)
            count, growth = column(3 * r + 2)
            for part in inner_loops(run, found.item, count, growth, len(lanes)):
                (offset_a, inner_a), (offset_b, inner_b), loops = part
                left = Operand(run.left, a[0] + offset_a, a[1] + inner_a)
                right = None
                if run.right is not None:
                    right = Operand(run.right, b[0] + offset_b, b[1] + inner_b)
                parts.append((run.style, segment(left, right, loops, run.style)))
        return self.instruction(
            nodes,
            kind,
            result,
            lanes,
            parts,
            [column(3 * len(runs) + k) for k in range(len(extra))],
        )

    def place(self, nodes: NDArray[np.int32], space: Space, found: Found, steps: Rows) -> Operand:
        """Where the results of a nest lie; new temporaries are placed."""
        if self._placed(nodes[found.item :]):
            return Operand(space, int(found.first[-1]), tuple(steps[:, -1].tolist()))
        extents = [loop.extent for loop in found.loops]
        ragged = [bool(loop.slopes) for loop in found.loops]
        rows = counters(found.loops) if any(ragged) else None
        if rows is not None:
            # One more than the longest row has: were it full, it would run on into the next, and
            # whoever reads it would see one long row among short ones.
            extents = [1 + most + uneven for most, uneven in zip(rows.max(axis=0).tolist(), ragged)]
        strides = [1] * len(extents)
        for k in range(len(extents) - 2, -1, -1):
            strides[k] = strides[k + 1] * extents[k + 1]
        size = strides[0] * extents[0] if extents else 1
        base = self.layout.reserve(space, size)
        places = np.arange(size) if rows is None else rows @ np.array(strides, np.int64)
        items = nodes[found.item : found.item + len(places)]
        self.layout.address[items] = base + places
        return Operand(space, base, tuple(strides))

    def instruction(
        self,
        nodes: NDArray[np.int32],
        kind: int,
        result: Operand,
        lanes: tuple[Loop, ...],
        parts: list[tuple[int, Segment]],
        indices: Sequence[tuple[int, tuple[int, ...]]],
        indirect: bool = False,
    ) -> Nest:
        """The instruction of nodes like the first of these, with the operands of its parts."""
        node = int(nodes[0])
        const = float(self.flat.const[node])
        if kind in _FOLDS:
            start = _STARTS.get(kind, const)
            resume = self.accumulate and result.space > Space.BATCHED
            return Contract(result, lanes, _groups(parts), start, resume, _FOLDS[kind])
        if kind == INDICATOR:
            index = Space.EXAMPLE_INDEX if result.space.batched else Space.INDEX
            chosen, candidate = (Operand(index, *x, indirect) for x in indices)
            return Indicator(result, lanes, chosen, candidate)
        if kind == ops.TAKE:
            index = Space.EXAMPLE_INDEX if self.flat.extra[node] else Space.INDEX
            chosen = Operand(index, *indices[0], indirect)
            source = parts[0][1].left
            if len(source.strides) == len(lanes):
                source = source._replace(strides=(*source.strides, 0))
            return Take(result, lanes, chosen, source, int(const))
        constant = const if ops.BY_CODE[kind].constant else 0.0
        operands = tuple(segment.left for _, segment in parts)
        return Apply(result, lanes, kind, operands, constant)

    # --- tables ----------------------------------------------------------------------------------

    def _with_tables(
        self, plan: Plan, kind: int, worth: int
    ) -> tuple[list[Nest], NDArray[np.int32]]:
        """A nest for all nodes with as many terms, its addresses in the index table.

        To look an address up takes as long as to walk: only the examples of a batch, which share
        it, make that worth a nest.
        """
        nodes, runs = plan.nodes, plan.runs
        if worth and not self.batched[nodes[0]]:
            return [], nodes
        counts = np.column_stack([run.count for run in runs] or [np.zeros(len(nodes), np.int64)])
        group = labels(np.ascontiguousarray(counts))
        order = np.argsort(group, kind="stable")
        sizes = np.bincount(group)
        made, rest = [], []
        for chosen in np.split(order, np.cumsum(sizes)[:-1]):
            if len(chosen) * (1 + int(counts[chosen[0]].sum())) < worth:
                rest.append(nodes[chosen])
            else:
                made.append(self._table_nest(nodes, kind, runs, plan.extra, chosen))
        return made, np.concatenate(rest) if rest else nodes[:0]

    def _table_nest(
        self,
        nodes: NDArray[np.int32],
        kind: int,
        runs: list[Run],
        extra: list[NDArray[np.int64]],
        chosen: NDArray[np.int64],
    ) -> Nest:
        space, n = Space(int(self.flat.space[nodes[0]])), len(chosen)
        lanes = (Loop(n),)
        items = nodes[chosen]
        if self._placed(items):
            result = self._indexed(space, self.layout.address[items][:, None], ())
        else:
            base = self.layout.reserve(space, n)
            self.layout.address[items] = base + np.arange(n)
            result = Operand(space, base, (1,))
        parts = []
        for run in runs:
            count = int(run.count[chosen[0]])
            heads = (np.cumsum(run.count) - run.count)[chosen]
            terms = heads[:, None] + np.arange(count)
            inner = (1,) if count > 1 else ()
            loops = (Loop(count),) if count > 1 else ()
            left = self._indexed(run.left, run.all_a[terms], inner)
            right = None
            if run.right is not None:
                right = self._indexed(run.right, run.all_b[terms], inner)
            parts.append((run.style, segment(left, right, loops, run.style)))
        indices = [(self.tables.add(column[chosen]), (1,)) for column in extra]
        return self.instruction(items, kind, result, lanes, parts, indices, indirect=True)

    def _indexed(self, space: Space, places: NDArray[np.int64], inner: tuple[int, ...]) -> Operand:
        """An operand at `places`, a row per lane and a column per term: direct if they are even."""
        rows, columns = places.shape
        step = int(places[1, 0] - places[0, 0]) if rows > 1 else 0
        pace = int(places[0, 1] - places[0, 0]) if columns > 1 else 0
        even = places[0, 0] + step * np.arange(rows)[:, None] + pace * np.arange(columns)
        if np.array_equal(even, places):
            return Operand(space, int(places[0, 0]), (step, *([pace] if inner else [])))
        return Operand(space, self.tables.add(places), (columns, *inner), indirect=True)


def _numbered(made: Sequence[Nest], origin: Origin) -> list[Nest]:
    """The nests of one pack, each with its origin."""
    parts = [origin._replace(part=(k, len(made))) for k in range(1, len(made) + 1)]
    return [replace(step, origin=part) for step, part in zip(made, parts)]


def _cost(plan: Plan) -> int:
    return plan.cost


def segment(left: Operand, right: Operand | None, loops: tuple[Loop, ...], style: int) -> Segment:
    """Terms of a sum, counted as the style says."""
    return Segment(left, right, loops, bool(style & MINUS), style & (SKIP_LEFT | SKIP_RIGHT))


def _groups(parts: list[tuple[int, Segment]]) -> tuple[Group, ...]:
    """Segments one after the other; those that are for each example together."""
    once = tuple(segment for style, segment in parts if not style & OVER)
    each = tuple(segment for style, segment in parts if style & OVER)
    groups = [Group(once)] if once else []
    return (*groups, Group(each, -1)) if each else tuple(groups)
