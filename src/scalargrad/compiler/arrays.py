"""Loops as operations on whole arrays: what a nest does, done for all its lanes at once.

    results = run(loops, {Space.PARAMETER: [p], Space.EXAMPLE: [x]}, examples, dtype, library)

Every array has the examples as its first axis, of length 1 where it is the same for all; where
the numbers are, `memories` knows. A walk goes through its operations level by level (see `levels`).
The number of operations is that of the nests, however large they are.

The `library` does the operations: JAX, or one that writes them down. Sums are added in any order,
and what XLA does to arithmetic (fusing a product with the sum after it, numbers below 1e-307 as 0,
its own exp and tanh) is done: the results are close, not equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .levels import FIRST, TERMS, Turns, turns_of
from .library import Array, Library, State
from .loops import (
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
    Scatter,
    Segment,
    Space,
    Take,
    Walk,
    counters,
    leaves,
)
from .memories import Apart, Area, Memory, Turning, area_of
from .points import Box, Points, Rows, points_of, ragged, rectangular
from .slices import spread

NEUTRAL = {ops.ADD: 0.0, ops.MAXIMUM: -np.inf, ops.MINIMUM: np.inf}


def run(
    loops: Loops,
    inputs: Mapping[Space, Sequence[Array]],
    examples: int,
    dtype: Any,
    library: Library,
) -> dict[Space, Array]:
    """Run a program: every space it writes as an array [examples or 1, size].

    `inputs` are such arrays, of one space one or several that stand side by side, of `dtype` or,
    for indices, of integers. A gradient that is to be
    resumed is an input. JAX can trace this.
    """
    memory = Apart(loops, inputs, examples, dtype, library)
    for step in loops.instructions:
        _run(step, memory)
    return {
        space: memory.fetch(space, np.arange(loops.size(space)))
        for space in sorted(_written(loops.instructions))
        if loops.size(space) and space not in (Space.TEMPORARY, Space.BATCHED)
    }


def _written(steps: Sequence[Instruction]) -> set[Space]:
    """The spaces that instructions write to."""
    found: set[Space] = set()
    for leaf, _ in leaves(steps):
        if isinstance(leaf, Walk):
            found.update(map(Space, np.unique(leaf.space).tolist()))
        else:
            found.add(leaf.result.space)
    return found


def _run(step: Instruction, memory: Memory) -> None:
    if isinstance(step, Walk):
        assert isinstance(memory, Apart)
        _walk(step, memory)
    elif isinstance(step, Repeat):
        _repeat(step, memory)
    elif 0 not in points_of(step.lanes).shape:
        _NESTS[type(step)](step, memory)


# --- multiplying ---------------------------------------------------------------------------------


def dot(library: Library, left: Array, right: Array, summed: Sequence[int]) -> Array:
    """sum(left * right) over the axes `summed`, which stay with length 1; shapes are broadcast.

    One product of matrices; some axis of `summed` is longer than 1 in both.
    """
    rank = left.ndim
    own = [[k for k in range(rank) if x.shape[k] > 1] for x in (left, right)]
    for mine, other in ((0, 1), (1, 0)):
        alone = tuple(k for k in own[mine] if k in summed and k not in own[other])
        x = (left, right)[mine]
        if alone:
            x = library.FOLDS[ops.ADD](x, axis=alone, keepdims=True)
            own[mine] = [k for k in own[mine] if k not in alone]
        left, right = (x, right) if mine == 0 else (left, x)
    free = [[k for k in own[0] if k not in own[1]], [k for k in own[1] if k not in own[0]]]
    if free[1] and (not free[0] or free[1][0] < free[0][0]):
        left, right, own, free = right, left, own[::-1], free[::-1]
    both = [k for k in own[0] if k in own[1]]
    summed_pair, kept_pair = (
        ([own[0].index(k) for k in chosen], [own[1].index(k) for k in chosen])
        for chosen in ([k for k in both if k in summed], [k for k in both if k not in summed])
    )
    shape = [max(a, b) for a, b in zip(left.shape, right.shape)]
    x = library.product(
        left.reshape([left.shape[k] for k in own[0]]),
        right.reshape([right.shape[k] for k in own[1]]),
        summed_pair,
        kept_pair,
    )
    made = [k for k in both if k not in summed] + free[0] + free[1]
    order = sorted(range(len(made)), key=made.__getitem__)
    if order != list(range(len(made))):
        x = x.transpose(order)
    return x.reshape([shape[k] if k in made else 1 for k in range(rank)])


# --- nests ---------------------------------------------------------------------------------------


def _contract(step: Contract, memory: Memory) -> None:
    lanes = points_of(step.lanes)
    terms = [
        term
        for group in step.groups
        for segment in group.segments
        if (term := _term(step, group, segment, memory)) is not None
    ]
    if step.resume:
        terms.insert(0, memory.read(step.result, lanes))
    elif step.op != ops.ADD or step.start != 0.0 or not terms:
        start = np.full((1,) * (1 + len(lanes.shape)), step.start, memory.dtype)
        terms.insert(0, memory.library.constant(start))
    total = terms[0]
    for term in terms[1:]:
        total = memory.library.OPS[step.op](total, term, 0.0)
    memory.write(step.result, lanes, total)


def _term(step: Contract, group: Group, segment: Segment, memory: Memory) -> Array | None:
    """The terms of a segment, added up for each lane; None if there are none."""
    loops, depth = (*step.lanes, *segment.loops), len(step.lanes)
    if not rectangular(loops):
        return _ragged_term(step, group, segment, memory)
    box = Box(loops)
    if 0 in box.shape:
        return None
    summed = (*((0,) if group.over else ()), *range(depth + 1, len(loops) + 1))
    x = _folded(step.op, _ascending(segment, depth), box, summed, None, group, memory)
    return x.reshape(x.shape[: depth + 1])


def _ascending(segment: Segment, depth: int) -> Segment:
    """The same terms, in an order in which the left factor goes up."""

    def turned(operand: Operand, axis: int, extent: int) -> Operand:
        strides = list(operand.strides)
        base = operand.base + strides[axis] * (extent - 1)
        strides[axis] = -strides[axis]
        return operand._replace(base=base, strides=tuple(strides))

    left, right = segment.left, segment.right
    for axis, loop in enumerate(segment.loops, depth):
        if left.strides[axis] < 0:
            left = turned(left, axis, loop.extent)
            right = None if right is None else turned(right, axis, loop.extent)
    return segment._replace(left=left, right=right)


def _ragged_term(step: Contract, group: Group, segment: Segment, memory: Memory) -> Array | None:
    matrices = ragged(step.lanes, segment.loops)
    if not matrices:
        return None
    lanes, library = points_of(step.lanes), memory.library
    summed = (*((0,) if group.over else ()), 2)
    found = [
        _folded(step.op, segment, each.terms, summed, each.present, group, memory)
        for each in matrices
    ]
    count = int(np.prod(lanes.shape, dtype=np.int64))
    owners = np.concatenate([each.lanes for each in matrices])
    if not np.array_equal(owners, np.arange(count)):
        missing = np.setdiff1d(np.arange(count), owners)
        neutral = np.full((1, len(missing), 1), NEUTRAL[step.op], memory.dtype)
        parts = [*found, library.constant(neutral)] if len(missing) else found
        lead = max(len(x) for x in parts)
        x = library.concatenate([spread(library, part, lead) for part in parts], axis=1)
        x = library.take(x, np.argsort(np.concatenate((owners, missing))))
    else:
        (x,) = found
    return x.reshape(len(x), *lanes.shape)


def _folded(
    op: int,
    segment: Segment,
    points: Points,
    summed: tuple[int, ...],
    present: NDArray[np.bool_] | None,
    group: Group,
    memory: Memory,
) -> Array:
    """The terms at all points, added up over the axes `summed`, which stay with length 1."""
    library = memory.library
    left = memory.read(segment.left, points)
    right = left if segment.right is None else memory.read(segment.right, points)
    full = (memory.examples if group.over else 1, *points.shape)
    shape = [max(a, b) for a, b in zip(left.shape, right.shape)]
    together = [k for k in summed if left.shape[k] > 1 and right.shape[k] > 1]
    product = segment.right is not None
    plain = op == ops.ADD and not segment.skip and present is None
    if product and plain and together and prod(shape) > library.SMALL:
        x = dot(library, left, right, summed)
        x = -x if segment.minus else x
    else:
        x = left * right if product else left
        x = -x if segment.minus else x
        if product and segment.skip:
            absent = (right == 0.0) & bool(segment.skip & SKIP_RIGHT)
            absent |= (left == 0.0) & bool(segment.skip & SKIP_LEFT)
            x = library.where(absent, NEUTRAL[op], x)
        if present is not None:
            x = library.where(present[None], x, NEUTRAL[op])
            shape = list(x.shape)
        x = library.FOLDS[op](x, axis=summed, keepdims=True) if summed else x
    # Axes along which all terms are equal.
    times = int(np.prod([full[k] for k in summed if shape[k] == 1], dtype=np.int64))
    return x * float(times) if times > 1 and op == ops.ADD else x


def _apply(step: Apply, memory: Memory) -> None:
    lanes = points_of(step.lanes)
    operands = [memory.read(operand, lanes) for operand in step.operands]
    made = memory.library.OPS[step.op](*operands, float(step.const))
    memory.write(step.result, lanes, made)


def _indicator(step: Indicator, memory: Memory) -> None:
    lanes = points_of(step.lanes)
    chosen = memory.read(step.index, lanes)
    candidate = memory.addresses(step.candidate, lanes)
    memory.write(step.result, lanes, (chosen == candidate[None]).astype(memory.dtype))


def _take(step: Take, memory: Memory) -> None:
    lanes = points_of(step.lanes)
    source = memory.read(step.source, _candidates(step, lanes))
    chosen = memory.read(step.index, lanes)
    if source.shape[-1] > 1:
        source = memory.library.choose(source, chosen.reshape(*chosen.shape, 1))
    memory.write(step.result, lanes, source.reshape(source.shape[:-1]))


def _scatter(step: Scatter, memory: Memory) -> None:
    assert isinstance(memory, Apart)  # no repeat has one
    lanes, space = points_of(step.lanes), step.result.space
    places = memory.addresses(step.result, _candidates(step, lanes))
    reached, slot = np.unique(places, return_inverse=True)
    slot = np.broadcast_to(slot.reshape(places.shape), (*lanes.shape, step.count))
    chosen, library = memory.read(step.index, lanes), memory.library
    chosen = library.broadcast_to(chosen, (len(chosen), *lanes.shape))
    slots = library.choose(library.constant(slot[None]), chosen.reshape(*chosen.shape, 1))
    added = memory.read(step.source, lanes)
    lead = memory.examples if step.over or space.batched else 1
    slots, added = (
        library.broadcast_to(x, (lead, *lanes.shape)).reshape(lead, -1)
        for x in (slots.reshape(slots.shape[:-1]), added)
    )
    present = memory.fetch(space, reached)
    present = present if step.over else spread(library, present, lead)
    memory.define(space, reached, library.add_at(present, slots, added, together=bool(step.over)))


def _candidates(step: Take | Scatter, lanes: Points) -> Points:
    """All that may be selected: the lanes, with an axis more."""
    loops = (*step.lanes, Loop(step.count))
    if isinstance(lanes, Box):
        return Box(loops)
    rows = counters(loops)
    return Rows(rows, np.arange(len(rows)).reshape(*lanes.shape, step.count))


_NESTS: dict[Any, Any] = {
    Contract: _contract,
    Apply: _apply,
    Indicator: _indicator,
    Take: _take,
    Scatter: _scatter,
}


# --- repeats -------------------------------------------------------------------------------------


def _repeat(step: Repeat, memory: Memory) -> None:
    if isinstance(memory, Turning):
        done = _turned(step, memory.outer, memory.arrays, memory.areas, memory.counts, memory.turns)
        memory.arrays = {**memory.arrays, **done}
        return
    assert isinstance(memory, Apart)
    areas = _areas(step, memory.loops)
    written = _written((step,))
    arrays = {}
    for space, (low, high) in areas.items():
        x = memory.fetch(space, np.arange(low, high + 1))
        batched = space.batched and space in written
        arrays[space] = spread(memory.library, x, memory.examples) if batched else x
    for space, x in _turned(step, memory, arrays, areas, (), ()).items():
        memory.define(space, np.arange(areas[space].low, areas[space].high + 1), x)


def _turned(
    step: Repeat,
    outer: Apart,
    arrays: dict[Space, Array],
    areas: Mapping[Space, Area],
    counts: tuple[int, ...],
    turns: tuple[Array, ...],
) -> dict[Space, Array]:
    """The arrays that the repeat writes, after it."""
    moving = {space: arrays[space] for space in sorted(_written((step,))) if space in arrays}

    def turn(number: Array, present: State) -> State:
        own = (*counts, step.count)
        inner = Turning(outer, {**arrays, **present}, areas, own, (*turns, number))
        for each in step.body:
            _run(each, inner)
        after = inner.arrays
        return {space: after[space] for space in present}

    return outer.library.repeat(step.count, turn, moving)


def _areas(step: Repeat, loops: Loops) -> dict[Space, Area]:
    """What is reached of each space."""
    areas: dict[Space, Area] = {}

    def touch(operand: Operand, points: Points, counts: tuple[int, ...]) -> None:
        if 0 not in points.shape:
            own = area_of(operand, points, counts, loops)
            known = areas.get(operand.space, own)
            areas[operand.space] = Area(min(known.low, own.low), max(known.high, own.high))

    for leaf, counts in leaves((step,)):
        assert not isinstance(leaf, Walk)
        lanes = points_of(leaf.lanes)
        touch(leaf.result, lanes, counts)
        if isinstance(leaf, Contract):
            for group in leaf.groups:
                for segment in group.segments:
                    terms = points_of((*leaf.lanes, *segment.loops))
                    touch(segment.left, terms, counts)
                    if segment.right is not None:
                        touch(segment.right, terms, counts)
        elif isinstance(leaf, Apply):
            for operand in leaf.operands:
                touch(operand, lanes, counts)
        else:
            touch(leaf.index, lanes, counts)
            if isinstance(leaf, Take):
                touch(leaf.source, points_of((*leaf.lanes, Loop(leaf.count))), counts)
    return areas


# --- walks ---------------------------------------------------------------------------------------


def _walk(step: Walk, memory: Apart) -> None:
    if not len(step.code):
        return
    turns, library = turns_of(step), memory.library
    lead = memory.examples if Space(int(step.space[0])).batched else 1
    turn, tables = _turn_of(turns, memory.dtype, library)
    slots = library.scan(turn, _slots(turns, memory, lead), tables)
    results = library.take(slots, turns.result, axis=0).transpose(1, 0)
    for space in np.unique(step.space).tolist():
        own = step.space == space
        numbers = library.take(results, np.flatnonzero(own))
        memory.define(Space(space), step.at[own].astype(np.int64), numbers)


def _slots(turns: Turns, memory: Apart, lead: int) -> Array:
    """The memory of a walk before it, [slots, examples]."""
    library = memory.library
    start = np.zeros((turns.size, 1), memory.dtype)
    start[1] = 1.0
    slots = library.broadcast_to(library.constant(start), (turns.size, lead))
    for space in np.unique(turns.space).tolist():
        own = np.flatnonzero(turns.space == space)
        numbers = spread(library, memory.fetch(Space(space), turns.at[own]), lead)
        slots = library.put(slots, FIRST + own, numbers.transpose(1, 0), axis=0)
    return slots


def _turn_of(
    turns: Turns, dtype: Any, library: Library
) -> tuple[Callable[..., Array], list[NDArray[Any]]]:
    """What is done in a turn, and the tables of which each turn gets a row."""
    sums, each = turns.sums, turns.each
    count, width = sums.result.shape
    # All that a turn reads is fetched at once, and all that it makes is put back at once.
    reads = [sums.left, sums.right]
    reads += [np.moveaxis(one.operands, 2, 1) for one in each.values()]
    places = np.concatenate([x.reshape(count, -1) for x in reads], axis=1)
    results = np.concatenate([sums.result, *(one.result for one in each.values())], axis=1)
    reals = [sums.start[..., None], sums.sign[..., None]]
    reals += [one.const[..., None] for one in each.values()]
    skips = [(sums.style & bit)[..., None] != 0 for bit in (SKIP_LEFT, SKIP_RIGHT)]
    used = [k for k, skip in enumerate(skips) if skip.any()]
    begin = 2 * width * TERMS

    def turn(slots: Array, places: Array, results: Array, *rows: Array) -> Array:
        start, sign, *rest = rows
        lead = slots.shape[1]

        def read(first: int, *shape: int) -> Array:
            last = first + int(np.prod(shape))
            own = library.take(places, np.arange(first, last), axis=0)
            return library.take(slots, own, axis=0).reshape(*shape, lead)

        factors = read(0, width, TERMS), read(begin // 2, width, TERMS)
        terms = sign * (factors[0] * factors[1])
        for k, skip in zip(used, rest[len(each) :]):
            terms = library.where(skip & (factors[k] == 0.0), 0.0, terms)
        made = [start + library.FOLDS[ops.ADD](terms, axis=1)]
        at = begin
        for (code, one), const in zip(each.items(), rest):
            own, arity = one.operands.shape[1:]
            operands = [read(at + k * own, own) for k in range(arity)]
            made.append(library.OPS[code](*operands, const))
            at += own * arity
        return library.put(slots, results, library.concatenate(made, axis=0), axis=0)

    tables = [places, results, *(x.astype(dtype) for x in reals), *(skips[k] for k in used)]
    return turn, tables
