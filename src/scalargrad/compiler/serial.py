"""Walks as LLVM IR: short ones written out, long ones as a loop that interprets tables.

A long walk written out would take LLVM minutes. Its tables hold, for every operation, which kind
it is and where its terms begin, and for every term the addresses of its factors. The addresses are
those of one frame's memory: the frame fills them in (`Tables.resolve`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .arithmetic import FORMS, Arithmetic
from .ir import Counter, Function
from .loops import MINUS, SKIP_LEFT, SKIP_RIGHT, Operand, Space, Walk
from .nests import Nest, Spot, Tile
from .tiles import Axis, Plan, Ref

if TYPE_CHECKING:
    from .emit import Emitter

WRITTEN_OUT = 512  # terms of a walk whose code is written out
SLOTS = 10  # of the environment, for one walk's tables
ONE, KIND, FIRST, STYLE, START, LEFT, RIGHT, RESULT, STEPS, COUNT = range(SLOTS)


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """The tables of a long walk.

    kind       int32[n]    which of the kinds of operation, as numbered in the code
    first      int32[n+1]  where the terms of each begin
    style      int32[t]    MINUS, SKIP_RIGHT, SKIP_LEFT
    start      real[n]     where each sum starts
    factors    (space int64[], place int64[]) for the left and right factors and the results;
               space -1 for a right factor that is missing, which is 1
    steps      int64[]     numbers from one example to the next, for the same three, end to end
    """

    kind: NDArray[np.int32]
    first: NDArray[np.int32]
    style: NDArray[np.int32]
    start: NDArray[np.float64]
    factors: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]
    steps: NDArray[np.int64]

    def resolve(
        self, slots: NDArray[np.uintp], one: int, size: int
    ) -> tuple[NDArray[np.uintp], ...]:
        """The addresses of left factors, right factors and results in one frame."""
        bases = np.append(slots, np.uintp(one))  # space -1 is the last
        return tuple(
            bases[space] + place.astype(np.uintp) * np.uintp(size) for space, place in self.factors
        )


def write(emitter: Emitter, function: Function, step: Walk) -> None:
    """The code of a walk."""
    if not len(step.code):
        return
    if len(step.left) <= WRITTEN_OUT:
        _straight(emitter, function, step)
    else:
        _interpreted(emitter, function, step)


def _batched(step: Walk) -> bool:
    return Space(int(step.space[0])).batched


# --- short walks ---------------------------------------------------------------------------------


def _straight(emitter: Emitter, function: Function, step: Walk) -> None:
    batched, count = _batched(step), len(step.code)
    axes: tuple[Axis, ...] = (Axis(emitter.batch),) if batched else ()
    known: dict[tuple[int, int], Ref] = {}

    def ref(space: int, place: int) -> Ref:
        key = (int(space), int(place))
        if key not in known:
            known[key] = emitter.bind(Operand(Space(key[0]), key[1]), batched, ())
        return known[key]

    results = [ref(step.space[i], step.at[i]) for i in range(count)]
    lefts = [ref(s, a) for s, a in zip(step.left_space, step.left)]
    rights = [ref(s, a) if a >= 0 else None for s, a in zip(step.right_space, step.right)]
    refs = list(known.values())
    where = {id(r): k for k, r in enumerate(refs)}
    wide = batched and emitter.batch > 1 and emitter.module.width > 1
    if wide and all(r.padded or not r.moves(0) for r in refs):
        axes = (Axis(emitter.padded),)
    nest = Nest(function, axes, refs, Plan(0) if wide else Plan())

    def at(tile: Tile, spot: Spot) -> None:
        m = tile.arithmetic(spot)
        seen: dict[int, str] = {}

        def number(r: Ref) -> str:
            if id(r) not in seen:
                seen[id(r)] = tile.fetch(r, tile.cursors[where[id(r)]], spot)
            return seen[id(r)]

        for i in range(count):
            span = range(int(step.first[i]), int(step.first[i + 1]))
            value = _operation(m, step, i, span, lefts, rights, number)
            seen[id(results[i])] = value
            tile.write(results[i], tile.cursors[where[id(results[i])]], spot, value)

    def body(tile: Tile) -> None:
        for spot in tile.spots:
            at(tile, spot)

    nest.run(body)


def _operation(
    m: Arithmetic,
    step: Walk,
    i: int,
    span: range,
    lefts: Sequence[Ref],
    rights: Sequence[Ref | None],
    number: Callable[[Ref], str],
) -> str:
    code, const = int(step.code[i]), float(step.const[i])
    if code != ops.ADD:
        return FORMS[code](m, *(number(lefts[t]) for t in span), const)
    total = m.constant(const)
    for t in span:
        factor, style = rights[t], int(step.style[t])
        left, right = number(lefts[t]), None if factor is None else number(factor)
        after = m.folded(ops.ADD, total, left, right, bool(style & MINUS))
        for flag, zero in ((SKIP_RIGHT, right), (SKIP_LEFT, left)):
            if style & flag and zero is not None and right is not None:
                after = m.select(m.compare("oeq", zero, m.constant(0.0)), total, after)
        total = after
    return total


# --- long walks ----------------------------------------------------------------------------------


def tables(emitter: Emitter, step: Walk) -> tuple[Tables, list[tuple[int, float]]]:
    """The tables of a walk, and its kinds of operation: the op with its constant."""
    with_constant = [code for code, row in ops.BY_CODE.items() if row.constant]
    const = np.where(np.isin(step.code, with_constant), step.const, 0.0)
    pairs = np.column_stack((step.code.astype(np.float64), const))
    unique, numbers = np.unique(pairs, axis=0, return_inverse=True)
    kinds = [(int(code), constant) for code, constant in unique.tolist()]
    batched = _batched(step)
    factors, steps = [], []
    for spaces, places in (
        (step.left_space, step.left),
        (step.right_space, step.right),
        (step.space, step.at),
    ):
        address, stride = _addresses(emitter, spaces, places, batched)
        factors.append((np.where(places < 0, -1, spaces.astype(np.int64)), address))
        steps.append(stride)
    made = Tables(
        numbers.ravel().astype(np.int32),
        step.first.astype(np.int32),
        np.where(step.right < 0, step.style & MINUS, step.style).astype(np.int32),
        step.const.astype(np.float64),
        tuple(factors),
        np.concatenate(steps),
    )
    return made, kinds


def _addresses(
    emitter: Emitter, spaces: NDArray[np.uint8], places: NDArray[np.int32], batched: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    address, stride = np.zeros(len(places), np.int64), np.zeros(len(places), np.int64)
    for space in np.unique(spaces[places >= 0]).tolist():
        own = np.flatnonzero((spaces == space) & (places >= 0))
        address[own], steps = emitter.memory.addresses(Space(space), places[own])
        if batched:
            stride[own] = steps
    return address, stride


def _interpreted(emitter: Emitter, function: Function, step: Walk) -> None:
    made, kinds = tables(emitter, step)
    base = emitter.slots
    emitter.slots += SLOTS
    emitter.tables.append(made)
    code = _Interpreter(emitter, function, step, base, kinds)
    if _batched(step):
        function.loop(emitter.batch, 1, [], [], code.example)
    else:
        code.example(0, [])


class _Interpreter:
    """The loop over the operations of a long walk."""

    def __init__(
        self,
        emitter: Emitter,
        function: Function,
        step: Walk,
        base: int,
        kinds: Sequence[tuple[int, float]],
    ) -> None:
        self.function, self.kinds, self.base = function, kinds, base
        self.m = Arithmetic(function, 1)
        self.real = emitter.module.real
        self.count, self.terms = len(step.code), len(step.left)
        self.batched = _batched(step)

    def entry(self, table: int, kind: str, place: Counter) -> str:
        """An entry of a table."""
        pointer = self.function.at(kind, self.function.pointer(self.base + table), place)
        return self.function.emit(f"load {kind}, ptr {pointer}")

    def factor(self, table: int, place: Counter, before: int, example: Counter) -> str:
        """The pointer to a factor or result; `before` entries of `steps` come before its own."""
        pointer = self.entry(table, "ptr", place)
        if not self.batched:
            return pointer
        step = self.entry(STEPS, "i64", self.function.add(place, before))
        distance = self.function.emit(f"mul i64 {step}, {example}")
        return self.function.at(self.real, pointer, distance)

    def number(self, table: int, place: Counter, before: int, example: Counter) -> str:
        """A factor."""
        pointer = self.factor(table, place, before, example)
        return self.function.emit(f"load {self.real}, ptr {pointer}")

    def example(self, example: Counter, _: list[str]) -> list[str]:
        """All operations for one example."""

        def operation(i: Counter, _: list[str]) -> list[str]:
            self._operation(i, example)
            return []

        return self.function.loop(self.count, 1, [], [], operation)

    def _operation(self, i: Counter, example: Counter) -> None:
        f = self.function
        first = f.emit(f"sext i32 {self.entry(FIRST, 'i32', i)} to i64")
        kind = self.entry(KIND, "i32", i)
        labels, done = [f.label() for _ in self.kinds], f.label()
        cases = " ".join(f"i32 {k}, label %{label}" for k, label in enumerate(labels))
        f.do(f"switch i32 {kind}, label %{labels[0]} [ {cases} ]")
        values = []
        for (code, const), label in zip(self.kinds, labels):
            f.begin(label)
            if code == ops.ADD:
                value = self._sum(i, first, example)
            else:
                arity = ops.BY_CODE[code].arity or 0
                operands = [self.number(LEFT, f.add(first, k), 0, example) for k in range(arity)]
                value = FORMS[code](self.m, *operands, const)
            values.append(f"[ {value}, %{f.block} ]")
            f.do(f"br label %{done}")
        f.begin(done)
        result = f.emit(f"phi {self.real} {', '.join(values)}")
        pointer = self.factor(RESULT, i, 2 * self.terms, example)
        f.do(f"store {self.real} {result}, ptr {pointer}")

    def _sum(self, i: Counter, first: str, example: Counter) -> str:
        f, m = self.function, self.m
        last = f.emit(f"sext i32 {self.entry(FIRST, 'i32', f.add(i, 1))} to i64")
        length = f.emit(f"sub i64 {last}, {first}")
        zero = m.constant(0.0)

        def term(k: Counter, carried: list[str]) -> list[str]:
            t = f.add(first, k)
            left = self.number(LEFT, t, 0, example)
            right = self.number(RIGHT, t, self.terms, example)
            style = self.entry(STYLE, "i32", t)
            product = m.multiply(left, right)
            minus = self._flag(style, MINUS)
            total = m.add(carried[0], m.select(minus, m.negative(product), product))
            for flag, factor in ((SKIP_RIGHT, right), (SKIP_LEFT, left)):
                absent = m.compare("oeq", factor, zero)
                both = f.emit(f"and i1 {absent}, {self._flag(style, flag)}")
                total = m.select(both, carried[0], total)
            return [total]

        return f.loop(length, 1, [self.real], [self.entry(START, self.real, i)], term)[0]

    def _flag(self, style: str, flag: int) -> str:
        masked = self.function.emit(f"and i32 {style}, {flag}")
        return self.function.emit(f"icmp ne i32 {masked}, 0")


def fill(
    tables_: Sequence[Tables], environment: NDArray[np.uintp], first: int, real: Any
) -> list[NDArray[Any]]:
    """Put the tables of a frame into its environment, from a slot on; keep what is returned."""
    kept: list[NDArray[Any]] = []
    size = np.dtype(real).itemsize
    for number, made in enumerate(tables_):
        one = np.ones(1, real)
        left, right, result = made.resolve(environment[: len(Space)], one.ctypes.data, size)
        start = made.start.astype(real)
        arrays = (one, made.kind, made.first, made.style, start, left, right, result, made.steps)
        base = first + number * SLOTS
        for slot, array in enumerate(arrays):
            environment[base + slot] = array.ctypes.data
        kept += arrays
    return kept
