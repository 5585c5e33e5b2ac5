"""Random Loops programs of one instruction, with inputs: what back ends are tested on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from scalargrad import ops
from scalargrad.compiler.loops import (
    MINUS,
    SKIP_LEFT,
    SKIP_RIGHT,
    Apply,
    Contract,
    Group,
    Indicator,
    Instruction,
    Loop,
    Loops,
    Operand,
    Repeat,
    Segment,
    Space,
    Take,
    Walk,
    addresses,
    counters,
)

SPECIAL = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-310, 710.0, -750.0, 0.5)
READABLE = (Space.PARAMETER, Space.ARGUMENT, Space.CONSTANT)
BATCHES = (1, 2, 7, 8, 9, 64, 100)
FOLDS = (ops.ADD, ops.ADD, ops.ADD, ops.MAXIMUM, ops.MINIMUM)


class Case:
    """A program with its inputs; spaces grow as operands need them."""

    def __init__(self, draw: Any, batch: int | None) -> None:
        self.draw = draw
        self.batch = batch
        self.sizes: dict[Space, int] = {}
        self.table: list[int] = []
        self.steps: list[Instruction] = []

    def loops(
        self, most: int = 3, extents: tuple[int, ...] = (0, 1, 2, 3, 5, 8, 17)
    ) -> tuple[Loop, ...]:
        """Lane or reduction loops, some triangular."""
        draw = self.draw
        result: list[Loop] = []
        for k in range(draw(st.integers(0, most))):
            extent = draw(st.sampled_from(extents))
            slopes: tuple[int, ...] = ()
            if k and draw(st.integers(0, 3)) == 0:
                slopes = (*(0,) * (k - 1), draw(st.sampled_from((0, 1))))
            result.append(Loop(extent, slopes))
        return tuple(result)

    def operand(self, space: Space, loops: tuple[Loop, ...], rows: np.ndarray) -> Operand:
        """An operand that stays in its space, which grows if need be."""
        draw = self.draw
        strides = tuple(
            draw(st.sampled_from((0, 1, 1, 1, 2, 3, 7, 8, 16, 24, -1, -2))) for _ in loops
        )
        reach = rows @ np.array(strides, np.int64) if len(rows) else np.zeros(1, np.int64)
        base = int(-reach.min()) + draw(st.sampled_from((0, 0, 1, 5)))
        top = base + int(reach.max()) + 1
        if draw(st.integers(0, 4)) == 0:
            start, many = len(self.table), draw(st.integers(1, 40))
            self.table += draw(st.lists(st.integers(0, many - 1), min_size=top, max_size=top))
            self.sizes[space] = max(self.sizes.get(space, 0), many)
            return Operand(space, start + base, strides, indirect=True)
        self.sizes[space] = max(self.sizes.get(space, 0), top)
        return Operand(space, base, strides)

    def result(self, space: Space, loops: tuple[Loop, ...], rows: np.ndarray) -> Operand:
        """A result that writes every element of a new region exactly once."""
        draw = self.draw
        start = self.sizes.get(space, 0)
        count = len(rows)
        if any(any(loop.slopes) for loop in loops) or draw(st.integers(0, 5)) == 0:
            # A numbering of the lanes, in some order, that only a table can hold.
            extents = rows.max(axis=0) + 1 if count else np.ones(len(loops), np.int64)
            strides = np.append(np.cumprod(extents[::-1])[::-1][1:], 1)[: len(loops)]
            place, base = rows @ strides, len(self.table)
            slots = np.zeros(int(place.max(initial=0)) + 1, np.int64)
            slots[place] = start + np.array(draw(st.permutations(range(count))), np.int64)
            self.table += slots.tolist()
            self.sizes[space] = start + count
            return Operand(space, base, tuple(int(s) for s in strides), indirect=True)
        order = draw(st.permutations(range(len(loops))))
        strides_ = [0] * len(loops)
        step = 1
        for axis in order:
            strides_[axis] = step
            step *= max(loops[axis].extent, 1)
        self.sizes[space] = start + max(count, 0)
        return Operand(space, start, tuple(strides_))

    def program(self) -> Loops:
        """The program so far."""
        draw = self.draw
        constants = draw(_numbers(self.sizes.get(Space.CONSTANT, 0)))
        return Loops(
            tuple(self.steps),
            self.sizes,
            constants,
            np.array(self.table, np.int32),
            self.batch is not None,
        )

    def inputs(self) -> dict[Space, np.ndarray]:
        """Numbers for every space that is read."""
        draw, batch = self.draw, self.batch or 1
        given: dict[Space, np.ndarray] = {}
        for space, size in self.sizes.items():
            if space in (Space.PARAMETER, Space.ARGUMENT, Space.STATE):
                given[space] = draw(_numbers(size))
            if space in (Space.PARAMETER_GRADIENT, Space.ARGUMENT_GRADIENT):
                given[space] = draw(_numbers(size))
            if space in (Space.EXAMPLE, Space.EXAMPLE_GRADIENT):
                given[space] = draw(_numbers(size * batch)).reshape(batch, size)
            seed = draw(st.integers(0, 1000))
            if space == Space.INDEX:
                given[space] = np.random.default_rng(seed).integers(0, 4, size)
            if space == Space.EXAMPLE_INDEX:
                given[space] = np.random.default_rng(seed).integers(0, 4, (batch, size))
        return given


@st.composite
def _numbers(draw: Any, size: int) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    numbers = rng.normal(size=size)
    for _ in range(draw(st.integers(0, 3))):
        if size:
            numbers[draw(st.integers(0, size - 1))] = draw(st.sampled_from(SPECIAL))
    return numbers


def _result_space(draw: Any, batch: int | None, batched: bool) -> Space:
    if batched:
        return draw(st.sampled_from((Space.BATCHED, Space.EXAMPLE_OUTPUT, Space.EXAMPLE_GRADIENT)))
    return draw(st.sampled_from((Space.OUTPUT, Space.PARAMETER_GRADIENT, Space.TEMPORARY)))


def _source(draw: Any, batched: bool) -> Space:
    choices = (*READABLE, Space.EXAMPLE, Space.EXAMPLE) if batched else READABLE
    return draw(st.sampled_from(choices))


@st.composite
def contract_cases(draw: Any) -> tuple[Loops, dict[Space, np.ndarray], int | None]:
    """A contraction of any form."""
    batch = draw(st.sampled_from((None, *BATCHES)))
    case = Case(draw, batch)
    lanes = case.loops()
    rows = counters(lanes)
    batched = batch is not None and draw(st.booleans())
    resume = draw(st.integers(0, 3)) == 0
    space = _result_space(draw, batch, batched)
    if resume:
        space = Space.EXAMPLE_GRADIENT if batched else Space.PARAMETER_GRADIENT
    groups = []
    for _ in range(draw(st.integers(0, 2))):
        over = 0
        if batch is not None and not batched:
            over = draw(st.sampled_from((0, 1, -1)))
        parts = []
        for _ in range(draw(st.integers(1, 2))):
            inner = case.loops(2, (1, 2, 3, 4, 9, 30))
            full = counters(inner, rows)
            reads = batched or over != 0
            left = case.operand(_source(draw, reads), (*lanes, *inner), full)
            right = None
            if draw(st.booleans()):
                right = case.operand(_source(draw, reads), (*lanes, *inner), full)
            skip = draw(st.sampled_from((0, 0, SKIP_LEFT, SKIP_RIGHT, SKIP_LEFT | SKIP_RIGHT)))
            parts.append(
                Segment(left, right, inner, draw(st.booleans()), skip if right is not None else 0)
            )
        groups.append(Group(tuple(parts), over))
    case.steps.append(
        Contract(
            case.result(space, lanes, rows),
            lanes,
            tuple(groups),
            draw(st.sampled_from((-0.0, 0.0, 1.5))),
            resume,
            draw(st.sampled_from(FOLDS)),
        )
    )
    return case.program(), case.inputs(), batch


@st.composite
def apply_cases(draw: Any) -> tuple[Loops, dict[Space, np.ndarray], int | None]:
    """An operation of the op table on lanes."""
    batch = draw(st.sampled_from((None, *BATCHES)))
    case = Case(draw, batch)
    lanes = case.loops()
    rows = counters(lanes)
    batched = batch is not None and draw(st.booleans())
    op = draw(st.sampled_from([row for row in ops.TABLE if row.arity is not None]))
    operands = tuple(case.operand(_source(draw, batched), lanes, rows) for _ in range(op.arity))
    const = draw(st.sampled_from((2.0, -1.0, 1.0, 0.5, 3.0, -2.5, 0.0))) if op.constant else 0.0
    space = _result_space(draw, batch, batched)
    case.steps.append(Apply(case.result(space, lanes, rows), lanes, op.code, operands, const))
    return case.program(), case.inputs(), batch


@st.composite
def select_cases(draw: Any) -> tuple[Loops, dict[Space, np.ndarray], int | None]:
    """An indicator or a take."""
    batch = draw(st.sampled_from((None, *BATCHES)))
    case = Case(draw, batch)
    lanes = case.loops()
    rows = counters(lanes)
    batched = batch is not None and draw(st.booleans())
    space = _result_space(draw, batch, batched)
    own = batched and draw(st.booleans())
    index = case.operand(Space.EXAMPLE_INDEX if own else Space.INDEX, lanes, rows)
    if draw(st.booleans()):
        candidate = case.operand(Space.CONSTANT, lanes, rows)
        case.steps.append(Indicator(case.result(space, lanes, rows), lanes, index, candidate))
        return case.program(), case.inputs(), batch
    full = counters((Loop(4),), rows)
    source = case.operand(_source(draw, own), (*lanes, Loop(4)), full)
    case.steps.append(Take(case.result(space, lanes, rows), lanes, index, source, 4))
    return case.program(), case.inputs(), batch


@st.composite
def walk_cases(draw: Any) -> tuple[Loops, dict[Space, np.ndarray], int | None]:
    """Operations without structure, each on earlier results and inputs; some add to gradients."""
    batch = draw(st.sampled_from((None, *BATCHES)))
    batched = batch is not None and draw(st.booleans())
    count = draw(st.integers(1, 40))
    inputs = [Space.PARAMETER, Space.CONSTANT, *([Space.EXAMPLE] if batched else [])]
    home = Space.BATCHED if batched else Space.TEMPORARY
    gradient = Space.EXAMPLE_GRADIENT if batched else Space.PARAMETER_GRADIENT
    rows = [row for row in ops.TABLE if row.arity is not None]
    results: list[tuple[int, int]] = []
    sizes = {home: 0, gradient: 0}
    code, const, first, terms, level = [], [], [0], [], []
    for i in range(count):
        row = draw(st.sampled_from(rows))
        many = row.arity
        if row.code in (ops.ADD, ops.MAXIMUM, ops.MINIMUM):
            many = draw(st.integers(row.code != ops.ADD, 5))
        code.append(row.code)
        alike = draw(st.booleans())
        highest = draw(st.sampled_from((MINUS, MINUS | SKIP_LEFT | SKIP_RIGHT)))
        styles = st.integers(0, highest)
        styles = st.just(draw(styles)) if alike else styles
        if row.code == ops.ADD:
            const.append(draw(st.sampled_from((-0.0, 0.0, 2.0))))
        else:
            const.append(draw(st.sampled_from((2.0, -1.0, 1.0, 0.5))) if row.constant else 0.0)

        def place(i: int = i) -> tuple[int, int]:
            if i and draw(st.booleans()):
                return results[draw(st.integers(0, i - 1))]
            return int(draw(st.sampled_from(inputs))), draw(st.integers(0, 3))

        space = draw(st.sampled_from((home, home, gradient)))
        result = int(space), sizes[space]
        if row.code == ops.ADD and space == gradient and draw(st.booleans()):
            const[-1] = -0.0
            terms.append((*result, 0, -1, 0))
        for _ in range(many):
            product = row.code == ops.ADD and (alike or draw(st.booleans()))
            right = place() if product else (0, -1)
            terms.append((*place(), *right, draw(styles)))
        results.append(result)
        sizes[space] += 1
        read = [term[k : k + 2] for term in terms[first[-1] :] for k in (0, 2) if term[k + 1] >= 0]
        known = dict(zip(results, level))
        level.append(1 + max((known.get(pair, 0) for pair in read), default=0))
        first.append(len(terms))
    columns = list(zip(*terms)) if terms else [()] * 5
    walk = Walk(
        np.array(code, np.uint8),
        np.array([space for space, _ in results], np.uint8),
        np.array([at for _, at in results], np.int32),
        np.array(const),
        np.array(first, np.int32),
        np.array(columns[0], np.uint8),
        np.array(columns[1], np.int32),
        np.array(columns[2], np.uint8),
        np.array(columns[3], np.int32),
        np.array(columns[4], np.uint8),
        np.array(level, np.int32),
    )
    case = Case(draw, batch)
    case.sizes = dict.fromkeys(inputs, 4) | sizes
    case.steps.append(walk)
    # What nobody reads but the walk need not be anywhere after it.
    low = draw(st.integers(0, sizes[home]))
    some = draw(st.integers(0, sizes[home] - low))
    if some:
        out = Space.EXAMPLE_OUTPUT if batched else Space.OUTPUT
        case.sizes[out] = some
        forwards = draw(st.booleans())
        source = Operand(home, low, (1,)) if forwards else Operand(home, low + some - 1, (-1,))
        case.steps.append(Apply(Operand(out, 0, (1,)), (Loop(some),), ops.DETACH, (source,)))
    return case.program(), case.inputs(), batch


@st.composite
def chain_cases(draw: Any) -> tuple[Loops, dict[Space, np.ndarray], int | None]:
    """Instructions that read one another's results: lane by lane, turned round, or all over.

    Regions of the temporaries have 12 elements. A last instruction copies them all out.
    """
    batch = draw(st.sampled_from((None, 1, 3, 8, 20)))
    shapes = {(12,): ((1,), (-1,), (0,)), (3, 4): ((4, 1), (1, 3), (-4, 1), (0, 1), (4, 0))}
    written = {Space.TEMPORARY: 0, Space.BATCHED: 0}
    steps: list[Instruction] = []

    def source(batched: bool, lanes: tuple[int, ...]) -> Operand:
        spaces = [Space.PARAMETER, *(space for space, count in written.items() if count)]
        spaces = [space for space in spaces if batched or not space.batched]
        space = draw(st.sampled_from(spaces))
        region = 12 * draw(st.integers(0, max(written.get(space, 1) - 1, 0)))
        strides = draw(st.sampled_from(shapes[lanes]))
        base = sum(-s * (e - 1) for s, e in zip(strides, lanes) if s < 0)
        return Operand(space, region + base, strides)

    for _ in range(draw(st.integers(2, 8))):
        batched = batch is not None and draw(st.booleans())
        home = Space.BATCHED if batched else Space.TEMPORARY
        extents = draw(st.sampled_from(list(shapes)))
        lanes = tuple(map(Loop, extents))
        natural = shapes[extents][0]
        result = Operand(home, 12 * written[home], natural)
        if draw(st.integers(0, 2)):
            row = draw(st.sampled_from([ops.BY_CODE[c] for c in (ops.ADD, ops.MUL, ops.RELU)]))
            operands = tuple(source(batched, extents) for _ in range(row.arity))
            steps.append(Apply(result, lanes, row.code, operands))
        else:
            over = 0 if batch is None or batched else draw(st.sampled_from((0, 1, -1)))
            inner = draw(st.sampled_from(((), (Loop(5),))))
            left, right = (source(batched or bool(over), extents) for _ in range(2))
            if inner:  # one of the factors is the same for all terms
                left = left._replace(strides=(*left.strides, 0))
                spread = Operand(Space.ARGUMENT, 0, (*(0 for _ in lanes), 1))
                right = draw(st.sampled_from((spread, right._replace(strides=(*right.strides, 0)))))
            group = Group((Segment(left, right, inner),), over)
            steps.append(Contract(result, lanes, (group,)))
        written[home] += 1
    sizes = {Space.PARAMETER: 12, Space.ARGUMENT: 5}
    for space, out in (
        (Space.TEMPORARY, Space.OUTPUT),
        (Space.BATCHED, Space.EXAMPLE_OUTPUT),
    ):
        count = 12 * written[space]
        if count:
            sizes |= {space: count, out: count}
            copy = (Operand(space, 0, (1,)),)
            steps.append(Apply(Operand(out, 0, (1,)), (Loop(count),), ops.DETACH, copy))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    inputs = {Space.PARAMETER: rng.normal(size=12), Space.ARGUMENT: rng.normal(size=5)}
    return Loops(tuple(steps), sizes, batched=batch is not None), inputs, batch


@st.composite
def recurrences(
    draw: Any, batches: Sequence[int | None] = (None, None, 1, 3, 9)
) -> tuple[Loops, dict[Space, np.ndarray], int | None]:
    """A recurrence of a few instructions with several lanes, turns of turns among them."""
    batch = draw(st.sampled_from(batches))
    home, source = (
        (Space.TEMPORARY, Space.ARGUMENT) if batch is None else (Space.BATCHED, Space.EXAMPLE)
    )
    width = draw(st.sampled_from((1, 2, 5, 8, 19)))
    lanes = () if width == 1 and draw(st.booleans()) else (Loop(width),)
    one, none = (1,) * len(lanes), (0,) * len(lanes)
    period, count, outer = draw(st.integers(1, 5)), draw(st.integers(2, 7)), draw(st.integers(1, 3))
    size = width * period
    drift = draw(st.sampled_from((0, 1, -1)))

    def moved(base: int, step: int, stride: tuple[int, ...], space: Space = home) -> Operand:
        moves = (step * count, step) if outer > 1 else (step,)
        return Operand(space, base, stride, moves=moves if any(moves) else ())

    body = []
    for k in range(period):
        result = moved(width * (1 + k), size, one)
        back = moved(width * draw(st.integers(0, k)), size, one)
        kind = draw(st.integers(0, 3))
        if kind == 0 and width > 1 and lanes:
            row = back._replace(strides=(*none, 1))
            matrix = Operand(Space.PARAMETER, 60, (1, width) if draw(st.booleans()) else (width, 1))
            terms = Segment(row, matrix, (Loop(width),), draw(st.booleans()))
            body.append(Contract(result, lanes, (Group((terms,)),)))
        elif kind == 1:
            weight = moved(30, drift, none, Space.PARAMETER)
            given_ = moved(25, draw(st.integers(-1, 2)), one, source)
            body.append(Contract(result, lanes, (Group((Segment(back, weight), Segment(given_))),)))
        elif kind == 2:
            body.append(Apply(result, lanes, ops.TANH, (back,)))
        else:
            body.append(Apply(result, lanes, ops.DIV, (back, Operand(Space.PARAMETER, 3, none))))
    repeat: Any = Repeat(tuple(body), count)
    if outer > 1:
        repeat = Repeat((repeat,), outer)
    turns = count * outer
    start = Contract(Operand(home, 0, one), lanes, (Group((Segment(Operand(source, 0, one)),)),))
    out = Space.OUTPUT if batch is None else Space.EXAMPLE_OUTPUT
    last = Operand(home, width + size * draw(st.integers(0, turns - 1)), one)
    end = Contract(Operand(out, 0, one), lanes, (Group((Segment(last),)),))
    other = Contract(
        Operand(out, width, one), lanes, (Group((Segment(last._replace(base=turns * size)),)),)
    )
    sizes = {
        home: width + size * turns,
        source: 100,
        Space.PARAMETER: 60 + width * width,
        out: 2 * width,
    }
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    shape = {s: (batch or 1, n) if s.batched else (n,) for s, n in sizes.items()}
    inputs = {s: rng.normal(size=shape[s]) for s in (source, Space.PARAMETER)}
    loops = Loops((start, repeat, end, other), sizes, batched=batch is not None)
    return loops, inputs, batch


KINDS = {
    "contractions": contract_cases(),
    "operations": apply_cases(),
    "selections": select_cases(),
    "walks": walk_cases(),
    "instructions that read one another": chain_cases(),
    "repeats": recurrences(),
}


def places_written(loops: Loops) -> dict[Space, np.ndarray]:
    """Which elements of each space the nests of a program write."""
    written: dict[Space, np.ndarray] = {}
    for step in loops.nests:
        places = addresses(step.result, counters(step.lanes), loops.table)
        before = written.get(step.result.space, np.empty(0, np.int64))
        written[step.result.space] = np.union1d(before, places)
    return written
