"""Loops as operations on whole arrays: what a nest does, done for all its lanes at once.

    results = run(loops, {Space.PARAMETER: p, Space.EXAMPLE: x}, examples, dtype)

Every array has the examples as its first axis, of length 1 where it is the same for all. What a
nest writes is an array of its own, and `Apart` remembers which of them has which element of a
space; so nothing is written twice, and a read is slices of one array, of several one after the
other, or, where they follow no pattern, a look-up. A repeat has an array for each space, which its
turns read and write at places that move (`Turning`). A walk goes through its operations level by
level (see `levels`). The number of operations is that of the nests, however large they are.

Sums are added in any order, and what XLA does to arithmetic (fusing a product with the sum after
it, numbers below 1e-307 as 0, its own exp and tanh) is done: the results are close, not equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .jax import OPS, Array, dot, jnp, lax, seen, took
from .levels import FIRST, TERMS, Turns, turns_of
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
from .points import (
    Block,
    Box,
    Integers,
    Points,
    Rows,
    blocks,
    even,
    points_of,
    ragged,
    rectangular,
)

WASTE = 8  # a slice that has this many times the numbers that are wanted is not worth it
SMALL = 512  # products that are rather added up together with what is around them
MOST_RUNS = 16  # of what a turn wrote; more are written one by one

NEUTRAL = {ops.ADD: 0.0, ops.MAXIMUM: -np.inf, ops.MINIMUM: np.inf}
FOLDS = {ops.ADD: jnp.sum, ops.MAXIMUM: jnp.max, ops.MINIMUM: jnp.min}


def run(
    loops: Loops, inputs: Mapping[Space, Array], examples: int, dtype: Any
) -> dict[Space, Array]:
    """Run a program: every space it writes as an array [examples or 1, size].

    `inputs` are such arrays, of `dtype` or, for indices, of integers. A gradient that is to be
    resumed is an input. JAX can trace this.
    """
    memory = Apart(loops, inputs, examples, dtype)
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


# --- memories ------------------------------------------------------------------------------------


class Memory(Protocol):
    """Where the numbers are."""

    loops: Loops
    examples: int
    dtype: Any

    def read(self, operand: Operand, points: Points) -> Array:
        """The operand's numbers; axes that make no difference to it may have length 1."""

    def write(self, operand: Operand, points: Points, numbers: Array) -> None:
        """Write the numbers of all points."""

    def addresses(self, operand: Operand, points: Points) -> Any:
        """The operand's addresses."""


class Pieces:
    """Which of `arrays` has the number at each address of a space, and where in it.

    Array 0 has the number of all that was never written.
    """

    def __init__(self, arrays: list[Array], size: int) -> None:
        self.arrays = arrays
        self.owner = np.zeros(size, np.int32)
        self.place = np.zeros(size, np.int64)

    def define(self, addresses: Integers, numbers: Array) -> None:
        """Have the numbers at those addresses."""
        self.owner[addresses] = len(self.arrays)
        self.place[addresses] = np.arange(addresses.size).reshape(addresses.shape)
        self.arrays.append(numbers.reshape(len(numbers), -1))

    def fetch(self, addresses: Integers) -> Array:
        """The numbers at any addresses."""
        owner, place = self.owner[addresses], self.place[addresses]
        if (owner == owner.flat[0]).all():
            return _at(self.arrays[owner.flat[0]], place)
        owner, place = owner.ravel(), place.ravel()
        lead = max(len(self.arrays[k]) for k in np.unique(owner))
        parts = blocks(owner, place)
        if parts is not None:
            x = jnp.concatenate([self._block(block, lead) for block in parts], axis=1)
            return x.reshape(lead, *addresses.shape)
        places, pieces, begin = np.empty_like(place), [], 0
        for k in np.unique(owner).tolist():
            own = owner == k
            low, high = int(place[own].min()), int(place[own].max()) + 1
            places[own] = place[own] - low + begin
            pieces.append(_spread(self.arrays[k][:, low:high], lead))
            begin += high - low
        return _at(jnp.concatenate(pieces, axis=1), places.reshape(addresses.shape))

    def _block(self, block: Block, lead: int) -> Array:
        turns = np.arange(block.turns)[:, None]
        columns = [
            _spread(
                _at(self.arrays[run.owner], run.base + run.step * turns + np.arange(run.length)),
                lead,
            )
            for run in block.runs
        ]
        return jnp.concatenate(columns, axis=2).reshape(lead, -1)


class Apart:
    """A memory in which whatever was written is an array of its own."""

    def __init__(
        self, loops: Loops, inputs: Mapping[Space, Array], examples: int, dtype: Any
    ) -> None:
        self.loops, self.examples, self.dtype = loops, examples, dtype
        arrays = [jnp.zeros((1, 1), dtype)]
        self._pieces = {space: Pieces(arrays, loops.size(space)) for space in Space}
        for space, numbers in inputs.items():
            if loops.size(space):
                self.define(space, np.arange(loops.size(space)), numbers)

    def define(self, space: Space, addresses: Integers, numbers: Array) -> None:
        """Have the numbers at those addresses."""
        self._pieces[space].define(addresses, numbers)

    def fetch(self, space: Space, addresses: Integers) -> Array:
        """The numbers at any addresses."""
        if space == Space.CONSTANT:
            return _literal(self.loops.constants[addresses], self.dtype)
        return self._pieces[space].fetch(addresses)

    def addresses(self, operand: Operand, points: Points) -> Integers:
        """See `Memory`."""
        places = points.places(operand)
        return self.loops.table[places].astype(np.int64) if operand.indirect else places

    def read(self, operand: Operand, points: Points) -> Array:
        """See `Memory`."""
        return self.fetch(operand.space, self.addresses(operand, points))

    def write(self, operand: Operand, points: Points, numbers: Array) -> None:
        """See `Memory`."""
        lead = self.examples if operand.space.batched else 1
        addresses = np.broadcast_to(self.addresses(operand, points), points.shape)
        self.define(operand.space, addresses, jnp.broadcast_to(numbers, (lead, *points.shape)))


Kind: TypeAlias = tuple[Space, tuple[int, ...]]  # what moves alike


class Turning:
    """A memory in which each space is one array, and operands move with the turns of repeats.

    `areas` says where the array of a space begins and ends. What was written in this turn is kept
    apart too, by its addresses in the first turn: operands that move alike find it there. It gets
    into the array when somebody else may want it, and at the end of the turn.
    """

    def __init__(
        self,
        outer: Apart,
        arrays: dict[Space, Array],
        areas: Mapping[Space, Area],
        counts: tuple[int, ...],
        turns: tuple[Array, ...],
    ) -> None:
        self.loops, self.examples, self.dtype = outer.loops, outer.examples, outer.dtype
        self.outer, self.areas, self.counts, self.turns = outer, areas, counts, turns
        self._spaces = arrays
        self._fresh: dict[Kind, Pieces] = {}
        self._waiting: dict[Kind, list[Integers]] = {}

    @property
    def arrays(self) -> dict[Space, Array]:
        """The arrays, with all that was written."""
        for kind in list(self._waiting):
            self._settle(kind)
        return self._spaces

    @arrays.setter
    def arrays(self, arrays: dict[Space, Array]) -> None:
        self._spaces = arrays

    def _shift(self, moves: tuple[int, ...]) -> Array | None:
        """How far what so moves has moved; None if it does not."""
        steps = [(move, turn) for move, turn in zip(moves, self.turns) if move]
        return sum(move * turn for move, turn in steps) if steps else None

    def addresses(self, operand: Operand, points: Points) -> Any:
        """See `Memory`."""
        places, shift = points.places(operand), self._shift(operand.moves)
        if not operand.indirect:
            return places if shift is None else places + shift
        if shift is None:
            return self.loops.table[places].astype(np.int64)
        return jnp.take(jnp.asarray(self.loops.table), places + shift, mode="clip")

    def read(self, operand: Operand, points: Points) -> Array:
        """See `Memory`."""
        space, shift = operand.space, self._shift(operand.moves)
        if shift is None and space == Space.CONSTANT:
            return self.outer.read(operand, points)
        reached = area_of(operand, points, self.counts, self.loops)
        if operand.indirect and shift is not None:
            self._settle_all(space, reached)
            return took(
                self._spaces[space], self.addresses(operand, points) - self.areas[space].low
            )
        addresses = self.outer.addresses(operand, points)
        kind = space, operand.moves
        fresh = self._fresh.get(kind)
        written = None if fresh is None else fresh.owner[addresses] > 0
        if fresh is not None and written is not None and written.all():
            return fresh.fetch(addresses)
        self._settle_all(space, reached, None if written is None or written.any() else kind)
        return self._look(space, addresses, shift)

    def write(self, operand: Operand, points: Points, numbers: Array) -> None:
        """See `Memory`."""
        space, shift = operand.space, self._shift(operand.moves)
        x, low = self._spaces[space], self.areas[space].low
        numbers = jnp.broadcast_to(numbers, (len(x), *points.shape))
        if operand.indirect and shift is not None:
            places = self.addresses(operand, points).ravel() - low
            self._spaces[space] = x.at[:, places].set(
                numbers.reshape(len(x), -1), unique_indices=True
            )
            return
        addresses = np.broadcast_to(self.outer.addresses(operand, points), points.shape)
        kind = space, operand.moves
        if kind not in self._fresh:
            self._fresh[kind] = Pieces([jnp.zeros((1, 1), self.dtype)], self.loops.size(space))
        self._fresh[kind].define(addresses, numbers)
        self._waiting.setdefault(kind, []).append(addresses.ravel())

    def _look(self, space: Space, addresses: Integers, shift: Array | None) -> Array:
        """Numbers from the array of a space."""
        x, low = self._spaces[space], self.areas[space].low
        if shift is None:
            return _at(x, addresses - low)
        first, count = int(addresses.min()), int(np.ptp(addresses)) + 1
        if count > WASTE * addresses.size:
            return took(x, addresses + (shift - low))
        x = lax.dynamic_slice_in_dim(x, first - low + shift, count, axis=1)
        return _at(x, addresses - first)

    def _settle_all(self, space: Space, reached: Area, but: Kind | None = None) -> None:
        """Have in the array what this turn wrote to an area, except what moves in some way."""
        for kind, waiting in list(self._waiting.items()):
            if kind == but or kind[0] != space:
                continue
            low, high = _ends(kind[1], self.counts)
            if any(
                reached.low <= each.max() + high and each.min() + low <= reached.high
                for each in waiting
            ):
                self._settle(kind)

    def _settle(self, kind: Kind) -> None:
        """Have in the array what was written of a kind."""
        space, shift = kind[0], self._shift(kind[1])
        addresses = np.sort(np.concatenate(self._waiting.pop(kind)))
        x, low = self._spaces[space], self.areas[space].low
        runs = np.split(addresses, np.flatnonzero(np.diff(addresses) != 1) + 1)
        if len(runs) > MOST_RUNS:
            numbers = _spread(self._fresh[kind].fetch(addresses), len(x))
            places = addresses - low if shift is None else addresses + (shift - low)
            self._spaces[space] = x.at[:, places].set(numbers, unique_indices=True)
            return
        for run in runs:
            start = int(run[0]) - low
            numbers = _spread(self._fresh[kind].fetch(run), len(x))
            x = lax.dynamic_update_slice_in_dim(
                x, numbers, start if shift is None else start + shift, axis=1
            )
        self._spaces[space] = x


class Area(NamedTuple):
    """The addresses from low to high."""

    low: int
    high: int


def _ends(moves: tuple[int, ...], counts: tuple[int, ...]) -> Area:
    """How far down and up repeats of so many turns move."""
    ends = [move * (count - 1) for move, count in zip(moves, counts)]
    return Area(sum(min(end, 0) for end in ends), sum(max(end, 0) for end in ends))


def area_of(operand: Operand, points: Points, counts: tuple[int, ...], loops: Loops) -> Area:
    """What an operand reaches in all turns of repeats around it."""
    places, (down, up) = points.places(operand), _ends(operand.moves, counts)
    low, high = int(places.min()) + down, int(places.max()) + up
    if not operand.indirect:
        return Area(low, high)
    reached = loops.table[low : high + 1]
    return Area(int(reached.min()), int(reached.max()))


def _literal(numbers: NDArray[np.float64], dtype: Any) -> Array:
    """Constants; a single one where all are equal."""
    first = numbers.flat[0]
    if (
        np.array_equal(numbers, np.full_like(numbers, first), equal_nan=True)
        and (np.signbit(numbers) == np.signbit(first)).all()
    ):
        numbers = numbers[(slice(0, 1),) * numbers.ndim]
    with np.errstate(over="ignore"):  # beyond float32 is inf
        return jnp.asarray(numbers[None].astype(dtype))


def _at(x: Array, places: Integers) -> Array:
    """x[:, places]."""
    pattern = even(places)
    if pattern is None or pattern.overlaps:
        return took(x, places.astype(np.int32))
    return seen(x, pattern)


def _spread(x: Array, lead: int) -> Array:
    return jnp.broadcast_to(x, (lead, *x.shape[1:]))


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
        terms.insert(0, jnp.full((1,) * (1 + len(lanes.shape)), step.start, memory.dtype))
    total = terms[0]
    for term in terms[1:]:
        total = OPS[step.op](total, term, 0.0)
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
    lanes = points_of(step.lanes)
    summed = (*((0,) if group.over else ()), 2)
    found = [
        _folded(step.op, segment, each.terms, summed, each.present, group, memory)
        for each in matrices
    ]
    count = int(np.prod(lanes.shape, dtype=np.int64))
    owners = np.concatenate([each.lanes for each in matrices])
    if not np.array_equal(owners, np.arange(count)):
        missing = np.setdiff1d(np.arange(count), owners)
        neutral = jnp.full((1, len(missing), 1), NEUTRAL[step.op], memory.dtype)
        parts = [*found, neutral] if len(missing) else found
        lead = max(len(x) for x in parts)
        x = jnp.concatenate([_spread(part, lead) for part in parts], axis=1)
        x = took(x, np.argsort(np.concatenate((owners, missing))))
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
    left = memory.read(segment.left, points)
    right = left if segment.right is None else memory.read(segment.right, points)
    full = (memory.examples if group.over else 1, *points.shape)
    shape = [max(a, b) for a, b in zip(left.shape, right.shape)]
    together = [k for k in summed if left.shape[k] > 1 and right.shape[k] > 1]
    product = segment.right is not None
    plain = op == ops.ADD and not segment.skip and present is None
    if product and plain and together and prod(shape) > SMALL:
        x = dot(left, right, summed)
        x = -x if segment.minus else x
    else:
        x = left * right if product else left
        x = -x if segment.minus else x
        if product and segment.skip:
            absent = (right == 0.0) & bool(segment.skip & SKIP_RIGHT)
            absent |= (left == 0.0) & bool(segment.skip & SKIP_LEFT)
            x = jnp.where(absent, NEUTRAL[op], x)
        if present is not None:
            x = jnp.where(present[None], x, NEUTRAL[op])
            shape = list(x.shape)
        x = FOLDS[op](x, axis=summed, keepdims=True) if summed else x
    # Axes along which all terms are equal.
    times = int(np.prod([full[k] for k in summed if shape[k] == 1], dtype=np.int64))
    return x * float(times) if times > 1 and op == ops.ADD else x


def _apply(step: Apply, memory: Memory) -> None:
    lanes = points_of(step.lanes)
    operands = [memory.read(operand, lanes) for operand in step.operands]
    memory.write(step.result, lanes, OPS[step.op](*operands, float(step.const)))


def _indicator(step: Indicator, memory: Memory) -> None:
    lanes = points_of(step.lanes)
    chosen = memory.read(step.index, lanes)
    candidate = memory.addresses(step.candidate, lanes)
    memory.write(step.result, lanes, (chosen == candidate[None]).astype(memory.dtype))


def _take(step: Take, memory: Memory) -> None:
    lanes = points_of(step.lanes)
    source = memory.read(step.source, _candidates(step, lanes))
    chosen = memory.read(step.index, lanes)[..., None]
    if source.shape[-1] > 1:
        source = jnp.take_along_axis(source, chosen, axis=-1, mode="clip")
    memory.write(step.result, lanes, source[..., 0])


def _scatter(step: Scatter, memory: Memory) -> None:
    assert isinstance(memory, Apart)  # no repeat has one
    lanes, space = points_of(step.lanes), step.result.space
    places = memory.addresses(step.result, _candidates(step, lanes))
    reached, slot = np.unique(places, return_inverse=True)
    slot = np.broadcast_to(slot.reshape(places.shape), (*lanes.shape, step.count))
    chosen = memory.read(step.index, lanes)
    chosen = jnp.broadcast_to(chosen, (len(chosen), *lanes.shape))[..., None]
    slots = jnp.take_along_axis(jnp.asarray(slot)[None], chosen, axis=-1, mode="clip")[..., 0]
    added = memory.read(step.source, lanes)
    lead = memory.examples if step.over or space.batched else 1
    slots, added = (
        jnp.broadcast_to(x, (lead, *lanes.shape)).reshape(lead, -1) for x in (slots, added)
    )
    present = memory.fetch(space, reached)
    if step.over:
        found = present.at[0, slots].add(added)
    else:
        found = _spread(present, lead).at[np.arange(lead)[:, None], slots].add(added)
    memory.define(space, reached, found)


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
        arrays[space] = _spread(x, memory.examples) if batched else x
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

    def turn(number: Array, present: dict[Space, Array]) -> dict[Space, Array]:
        own = (*counts, step.count)
        inner = Turning(outer, {**arrays, **present}, areas, own, (*turns, number))
        for each in step.body:
            _run(each, inner)
        after = inner.arrays
        return {space: after[space] for space in present}

    done: dict[Space, Array] = lax.fori_loop(0, step.count, turn, moving)
    return done


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
    turns = turns_of(step)
    lead = memory.examples if Space(int(step.space[0])).batched else 1
    turn, tables = _turn_of(turns, memory.dtype)
    slots = lax.scan(turn, _slots(turns, memory, lead), tables)[0]
    results = slots[turns.result].T
    for space in np.unique(step.space).tolist():
        own = step.space == space
        memory.define(Space(space), step.at[own].astype(np.int64), results[:, np.flatnonzero(own)])


def _slots(turns: Turns, memory: Apart, lead: int) -> Array:
    """The memory of a walk before it, [slots, examples]."""
    slots = jnp.zeros((turns.size, lead), memory.dtype).at[1].set(1.0)
    for space in np.unique(turns.space).tolist():
        own = np.flatnonzero(turns.space == space)
        numbers = _spread(memory.fetch(Space(space), turns.at[own]), lead)
        slots = slots.at[FIRST + own].set(numbers.T)
    return slots


def _turn_of(turns: Turns, dtype: Any) -> tuple[Callable[[Array, Any], Any], tuple[Any, ...]]:
    """What is done in a turn, and the tables of which each turn gets a row."""
    sums, each = turns.sums, turns.each
    count, width = sums.result.shape
    # All that a turn reads is fetched at once, and all that it makes is put back at once.
    reads = [sums.left, sums.right]
    reads += [np.moveaxis(one.operands, 2, 1) for one in each.values()]
    places = np.concatenate([x.reshape(count, -1) for x in reads], axis=1)
    results = np.concatenate([sums.result, *(one.result for one in each.values())], axis=1)
    reals = [sums.start, sums.sign, *(one.const for one in each.values())]
    skips = [(sums.style & bit) != 0 for bit in (SKIP_LEFT, SKIP_RIGHT)]
    used = [skip if skip.any() else None for skip in skips]

    def turn(slots: Array, row: Any) -> tuple[Array, None]:
        places, results, (start, sign, *consts), skips = row
        numbers = slots[places]
        lead = slots.shape[1]
        begin = 2 * width * TERMS
        left, right = numbers[:begin].reshape(2, width, TERMS, lead)
        terms = sign[..., None] * (left * right)
        for factor, skip in zip((left, right), skips):
            if skip is not None:
                terms = jnp.where(skip[..., None] & (factor == 0.0), 0.0, terms)
        made = [start[:, None] + terms.sum(axis=1)]
        for (code, one), const in zip(each.items(), consts):
            own, arity = one.operands.shape[1:]
            operands = numbers[begin : begin + own * arity].reshape(arity, own, lead)
            made.append(OPS[code](*operands, const[:, None]))
            begin += own * arity
        return slots.at[results].set(jnp.concatenate(made)), None

    return turn, (places, results, [x.astype(dtype) for x in reals], used)
