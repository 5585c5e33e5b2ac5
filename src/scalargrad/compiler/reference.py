"""The reference executor: runs a Loops program by the letter of its contract.

It is slow and obviously right: every sum is added term by term in the stated order, every
operation goes through the op table's own compiled arithmetic. Back ends and passes are tested
against it, and it against the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import ops, rules
from ..errors import ShapeError
from .loops import (
    INTEGERS,
    MINUS,
    SKIP_LEFT,
    SKIP_RIGHT,
    Apply,
    Contract,
    Group,
    Indicator,
    Instruction,
    Loops,
    Operand,
    Repeat,
    Scatter,
    Segment,
    Space,
    Take,
    Walk,
    addresses,
    counters,
    spelled,
    turn,
)

Numbers: TypeAlias = NDArray[Any]  # one row per element, one column per example (or one in all)
Memory: TypeAlias = dict[Space, Numbers]


def execute(
    loops: Loops, inputs: Mapping[Space, ArrayLike], batch: int | None = None
) -> dict[Space, NDArray[Any]]:
    """Run a program on `inputs` and give every space it writes.

    A batched space is an array of shape (batch, size), any other one of shape (size,). `batch` is
    the number of examples of a batched program. Results not written before are nan; a gradient
    that is to be resumed is an input. Raises `ShapeError` for an input of another shape.
    """
    examples = 1 if batch is None else batch
    memory = _memory(loops, inputs, examples)
    with np.errstate(all="ignore"):
        for step in loops.instructions:
            _RUN[type(step)](loops, step, memory)
    written = [space for space in Space if loops.size(space) and space not in INTEGERS]
    return {
        space: memory[space].T.copy() if space.batched else memory[space][:, 0].copy()
        for space in written
    }


def _memory(loops: Loops, inputs: Mapping[Space, ArrayLike], examples: int) -> Memory:
    memory: Memory = {}
    given = dict(inputs)
    given.setdefault(Space.CONSTANT, loops.constants)
    if loops.size(Space.SCALAR):
        given.setdefault(Space.SCALAR, np.array([1.0 / examples, float(examples)]))
    for space in Space:
        size = loops.size(space)
        shape = (examples, size) if space.batched else (size,)
        kind = np.int64 if space in INTEGERS else np.float64
        if space in given:
            array = np.asarray(given[space], kind)
            if array.shape != shape:
                raise ShapeError(f"{space.name}: expected shape {shape}, got {array.shape}")
        elif size and (space in INTEGERS or space in (Space.PARAMETER, Space.STATE)):
            raise ShapeError(f"{space.name}: expected {size} numbers, got none")
        else:
            array = np.full(shape, 0 if space in INTEGERS else np.nan, kind)
        memory[space] = (array if space.batched else array[None]).T.copy()
    return memory


def _read(loops: Loops, operand: Operand, rows: NDArray[np.int64], memory: Memory) -> Numbers:
    numbers: Numbers = memory[operand.space][addresses(operand, rows, loops.table)]
    return numbers


def _write(
    loops: Loops, result: Operand, rows: NDArray[np.int64], numbers: Numbers, memory: Memory
) -> None:
    memory[result.space][addresses(result, rows, loops.table)] = numbers


# --- sums ----------------------------------------------------------------------------------------


def _contract(loops: Loops, step: Contract, memory: Memory) -> None:
    lanes = counters(step.lanes)
    width = memory[step.result.space].shape[1]
    if step.resume:
        sums = _read(loops, step.result, lanes, memory).copy()
    else:
        sums = np.full((len(lanes), width), step.start)
    for group in step.groups:
        _add_group(loops, step.op, group, lanes, sums, memory)
    _write(loops, step.result, lanes, sums, memory)


def _add_group(
    loops: Loops,
    op: int,
    group: Group,
    lanes: NDArray[np.int64],
    sums: Numbers,
    memory: Memory,
) -> None:
    parts = [_terms(loops, segment, lanes, memory) for segment in spelled(group, lanes.shape[1])]
    if group.over == 0:
        for owner, terms, present in parts:
            _accumulate(op, sums, owner, terms, present)
        return
    for example in range(memory[Space.EXAMPLE].shape[1])[:: group.over]:
        for owner, terms, present in parts:
            column = [example if terms.shape[1] > 1 else 0]
            _accumulate(op, sums, owner, terms[:, column], present[:, column])


def _terms(
    loops: Loops, segment: Segment, lanes: NDArray[np.int64], memory: Memory
) -> tuple[NDArray[np.int64], Numbers, NDArray[np.bool_]]:
    """For every term: the lane it belongs to, its number, and whether it counts."""
    # The lane's number rides along as one more outermost counter, of slope and stride 0.
    tagged = np.column_stack((np.arange(len(lanes)), lanes))
    inner = [loop._replace(slopes=(0, *loop.slopes)) for loop in segment.loops]
    rows = counters(inner, tagged)
    owner, rows = rows[:, 0], rows[:, 1:]
    left = _read(loops, segment.left, rows, memory)
    if segment.right is None:
        terms, absent = left, np.zeros(left.shape, bool)
    else:
        terms, absent = _product(left, _read(loops, segment.right, rows, memory), segment.skip)
    return owner, (-terms if segment.minus else terms), ~absent


def _product(left: Numbers, right: Numbers, skip: int) -> tuple[Numbers, NDArray[np.bool_]]:
    """left * right, and where it does not count."""
    terms = left * right
    absent = np.zeros(terms.shape, bool)
    if skip & SKIP_RIGHT:
        absent |= right == 0.0
    if skip & SKIP_LEFT:
        absent |= left == 0.0
    return terms, absent


def _accumulate(
    op: int,
    sums: Numbers,
    owner: NDArray[np.int64],
    terms: Numbers,
    present: NDArray[np.bool_],
) -> None:
    """Add each lane's terms, which follow one another, first to last."""
    if not len(owner):
        return
    starts = np.flatnonzero(np.concatenate(([True], owner[1:] != owner[:-1])))
    counts = np.diff(np.append(starts, len(owner)))
    for k in range(counts.max()):
        picked = starts[counts > k] + k
        lanes = owner[picked]
        before = sums[lanes]
        if op == ops.ADD:
            after = before + terms[picked]
        else:
            after = _each(op, (before, terms[picked]), 0.0)
        sums[lanes] = np.where(present[picked], after, before)


# --- other instructions --------------------------------------------------------------------------


def _each(op: int, operands: tuple[Numbers, ...], const: float) -> Numbers:
    """The op on every element, by the op table's compiled arithmetic."""
    shape = np.broadcast_shapes(*(x.shape for x in operands))
    columns = [np.broadcast_to(x, shape).ravel().tolist() for x in operands]
    if op == ops.WHERE:
        condition, a, b = columns
        numbers = [rules.evaluate(op, x, y, c) for c, x, y in zip(condition, a, b)]
    elif len(columns) == 2:
        numbers = [rules.evaluate(op, x, y, 0.0) for x, y in zip(*columns)]
    else:
        numbers = [rules.evaluate(op, x, 0.0, const) for x in columns[0]]
    return np.array(numbers, np.float64).reshape(shape)


def _apply(loops: Loops, step: Apply, memory: Memory) -> None:
    lanes = counters(step.lanes)
    operands = tuple(_read(loops, operand, lanes, memory) for operand in step.operands)
    _write(loops, step.result, lanes, _each(step.op, operands, step.const), memory)


def _indicator(loops: Loops, step: Indicator, memory: Memory) -> None:
    lanes = counters(step.lanes)
    candidate = addresses(step.candidate, lanes, loops.table)[:, None]
    chosen = _read(loops, step.index, lanes, memory)
    _write(loops, step.result, lanes, (chosen == candidate).astype(np.float64), memory)


def _take(loops: Loops, step: Take, memory: Memory) -> None:
    lanes = counters(step.lanes)
    chosen = _read(loops, step.index, lanes, memory)
    columns = []
    for example in range(chosen.shape[1]):
        rows = np.column_stack((lanes, chosen[:, example]))
        source = _read(loops, step.source, rows, memory)
        columns.append(source[:, example if source.shape[1] > 1 else 0])
    _write(loops, step.result, lanes, np.column_stack(columns), memory)


def _scatter(loops: Loops, step: Scatter, memory: Memory) -> None:
    lanes = counters(step.lanes)
    chosen = _read(loops, step.index, lanes, memory)
    added = _read(loops, step.source, lanes, memory)
    examples = range(memory[Space.EXAMPLE].shape[1])[::-1] if step.over else [0]
    for example in examples:
        rows = np.column_stack((lanes, chosen[:, example if chosen.shape[1] > 1 else 0]))
        places = addresses(step.result, rows, loops.table).tolist()
        terms = added[:, example if added.shape[1] > 1 else 0]
        for place, term in zip(places, terms.tolist()):
            memory[step.result.space][place] += term


def _walk(loops: Loops, step: Walk, memory: Memory) -> None:
    for i in range(len(step.code)):
        terms = range(int(step.first[i]), int(step.first[i + 1]))
        left = [memory[Space(int(step.left_space[t]))][step.left[t]] for t in terms]
        out, code, const = memory[Space(int(step.space[i]))], int(step.code[i]), step.const[i]
        if code in (ops.MAXIMUM, ops.MINIMUM):
            folded = left[0]
            for factor in left[1:]:
                folded = _each(code, (folded, factor), 0.0)
            out[step.at[i]] = folded
            continue
        if code != ops.ADD:
            out[step.at[i]] = _each(code, tuple(left), float(const))
            continue
        total = np.full(out.shape[1], const)
        for t, factor in zip(terms, left):
            term, absent = factor, np.zeros(factor.shape, bool)
            if step.right[t] >= 0:
                right = memory[Space(int(step.right_space[t]))][step.right[t]]
                term, absent = _product(factor, right, int(step.style[t]))
            term = -term if step.style[t] & MINUS else term
            total = np.where(absent, total, total + term)
        out[step.at[i]] = total


def _repeat(loops: Loops, step: Repeat, memory: Memory) -> None:
    for number in range(step.count):
        for inner in step.body:
            _RUN[type(inner)](loops, turn(inner, number), memory)


_RUN: dict[type[Instruction], Any] = {
    Contract: _contract,
    Apply: _apply,
    Indicator: _indicator,
    Take: _take,
    Scatter: _scatter,
    Walk: _walk,
    Repeat: _repeat,
}
