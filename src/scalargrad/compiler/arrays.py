"""Loops as operations on whole arrays: what a nest does, done for all its lanes at once.

    results = run(loops, {Space.PARAMETER: [p], Space.EXAMPLE: [x]}, examples, dtype, library)

Every array has the examples as its first axis, of length 1 where it is the same for all. What a
nest writes is an array of its own, and `Apart` remembers which of them has which element of a
space; so nothing is written twice, and a read is slices of one array, of several one after the
other, or, where they follow no pattern, a look-up. A repeat has an array for each space, which its
turns read and write at places that move (`Turning`). A walk goes through its operations level by
level (see `levels`). The number of operations is that of the nests, however large they are.

The `library` does the operations: JAX, or one that writes them down. Sums are added in any order,
and what XLA does to arithmetic (fusing a product with the sum after it, numbers below 1e-307 as 0,
its own exp and tanh) is done: the results are close, not equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, Protocol, TypeAlias

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
from .points import (
    Block,
    Box,
    Even,
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
MOST_RUNS = 16  # of what a turn wrote; more are written one by one

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


# --- memories ------------------------------------------------------------------------------------


class Memory(Protocol):
    """Where the numbers are."""

    loops: Loops
    examples: int
    dtype: Any
    library: Library

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

    def __init__(self, arrays: list[Array], size: int, library: Library) -> None:
        self.arrays, self._library = arrays, library
        self.owner = np.zeros(size, np.int32)
        self.place = np.zeros(size, np.int64)

    def define(self, addresses: Integers, numbers: Array) -> None:
        """Have the numbers at those addresses."""
        self.owner[addresses] = len(self.arrays)
        self.place[addresses] = np.arange(addresses.size).reshape(addresses.shape)
        self.arrays.append(numbers.reshape(len(numbers), -1))

    def fetch(self, addresses: Integers) -> Array:
        """The numbers at any addresses."""
        owner, place, library = self.owner[addresses], self.place[addresses], self._library
        if (owner == owner.flat[0]).all():
            return _at(library, self.arrays[owner.flat[0]], place)
        owner, place = owner.ravel(), place.ravel()
        lead = max(len(self.arrays[k]) for k in np.unique(owner))
        parts = blocks(owner, place)
        if parts is not None:
            x = library.concatenate([self._block(block, lead) for block in parts], axis=1)
            return x.reshape(lead, *addresses.shape)
        places, pieces, begin = np.empty_like(place), [], 0
        for k in np.unique(owner).tolist():
            own = owner == k
            low, high = int(place[own].min()), int(place[own].max()) + 1
            places[own] = place[own] - low + begin
            pieces.append(_spread(library, library.cut(self.arrays[k], low, high), lead))
            begin += high - low
        x = library.concatenate(pieces, axis=1)
        return _at(library, x, places.reshape(addresses.shape))

    def _block(self, block: Block, lead: int) -> Array:
        turns, library = np.arange(block.turns)[:, None], self._library
        columns = []
        for run in block.runs:
            places = run.base + run.step * turns + np.arange(run.length)
            columns.append(_spread(library, _at(library, self.arrays[run.owner], places), lead))
        return library.concatenate(columns, axis=2).reshape(lead, -1)


class Apart:
    """A memory in which whatever was written is an array of its own."""

    def __init__(
        self,
        loops: Loops,
        inputs: Mapping[Space, Sequence[Array]],
        examples: int,
        dtype: Any,
        library: Library,
    ) -> None:
        self.loops, self.examples, self.dtype, self.library = loops, examples, dtype, library
        arrays = [library.constant(np.zeros((1, 1), dtype))]
        self._pieces = {space: Pieces(arrays, loops.size(space), library) for space in Space}
        for space, parts in inputs.items():
            ends = np.cumsum([part.shape[1] for part in parts]).tolist()
            for part, end in zip(parts, ends if loops.size(space) else ()):
                self.define(space, np.arange(end - part.shape[1], end), part)

    def define(self, space: Space, addresses: Integers, numbers: Array) -> None:
        """Have the numbers at those addresses."""
        self._pieces[space].define(addresses, numbers)

    def fetch(self, space: Space, addresses: Integers) -> Array:
        """The numbers at any addresses."""
        if space == Space.CONSTANT:
            return _literal(self.library, self.loops.constants[addresses], self.dtype)
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
        numbers = self.library.broadcast_to(numbers, (lead, *points.shape))
        self.define(operand.space, addresses, numbers)


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
        self.library = outer.library
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
        return self.library.take(self.library.constant(self.loops.table), places + shift, axis=0)

    def read(self, operand: Operand, points: Points) -> Array:
        """See `Memory`."""
        space, shift = operand.space, self._shift(operand.moves)
        if shift is None and space == Space.CONSTANT:
            return self.outer.read(operand, points)
        reached = area_of(operand, points, self.counts, self.loops)
        if operand.indirect and shift is not None:
            self._settle_all(space, reached)
            places = self.addresses(operand, points) - self.areas[space].low
            return self.library.take(self._spaces[space], places)
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
        numbers = self.library.broadcast_to(numbers, (len(x), *points.shape))
        if operand.indirect and shift is not None:
            places = self.addresses(operand, points).reshape(-1) - low
            self._spaces[space] = self.library.put(x, places, numbers.reshape(len(x), -1))
            return
        addresses = np.broadcast_to(self.outer.addresses(operand, points), points.shape)
        kind = space, operand.moves
        if kind not in self._fresh:
            nothing = self.library.constant(np.zeros((1, 1), self.dtype))
            self._fresh[kind] = Pieces([nothing], self.loops.size(space), self.library)
        self._fresh[kind].define(addresses, numbers)
        self._waiting.setdefault(kind, []).append(addresses.ravel())

    def _look(self, space: Space, addresses: Integers, shift: Array | None) -> Array:
        """Numbers from the array of a space."""
        x, low = self._spaces[space], self.areas[space].low
        if shift is None:
            return _at(self.library, x, addresses - low)
        first, count = int(addresses.min()), int(np.ptp(addresses)) + 1
        if count > WASTE * addresses.size:
            return self.library.take(x, addresses + (shift - low))
        x = self.library.window(x, first - low + shift, count)
        return _at(self.library, x, addresses - first)

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
            numbers = _spread(self.library, self._fresh[kind].fetch(addresses), len(x))
            places = addresses - low if shift is None else addresses + (shift - low)
            self._spaces[space] = self.library.put(x, places, numbers)
            return
        for run in runs:
            start = int(run[0]) - low
            numbers = _spread(self.library, self._fresh[kind].fetch(run), len(x))
            x = self.library.write(x, numbers, start if shift is None else start + shift)
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


# --- reading -------------------------------------------------------------------------------------


def _literal(library: Library, numbers: NDArray[np.float64], dtype: Any) -> Array:
    """Constants; a single one where all are equal."""
    first = numbers.flat[0]
    if (
        np.array_equal(numbers, np.full_like(numbers, first), equal_nan=True)
        and (np.signbit(numbers) == np.signbit(first)).all()
    ):
        numbers = numbers[(slice(0, 1),) * numbers.ndim]
    with np.errstate(over="ignore"):  # beyond float32 is inf
        return library.constant(numbers[None].astype(dtype))


def _at(library: Library, x: Array, places: Integers) -> Array:
    """x[:, places]."""
    pattern = even(places)
    if pattern is None or pattern.overlaps:
        return library.take(x, places.astype(np.int32))
    return seen(library, x, pattern)


def _spread(library: Library, x: Array, lead: int) -> Array:
    return library.broadcast_to(x, (lead, *x.shape[1:]))


def seen(library: Library, x: Array, pattern: Even) -> Array:
    """x[:, places] for places of a pattern that does not overlap: by slices and reshapes."""
    shape = pattern.shape
    axes = [k for k, stride in enumerate(pattern.strides) if stride and shape[k] > 1]
    axes.sort(key=lambda k: -abs(pattern.strides[k]))
    back = [k for k in axes if pattern.strides[k] < 0]
    base = pattern.base + sum(pattern.strides[k] * (shape[k] - 1) for k in back)
    span = 1 + sum(abs(pattern.strides[k]) * (shape[k] - 1) for k in axes)
    for k in axes[:-1]:
        stride, extent = abs(pattern.strides[k]), shape[k]
        span -= stride * (extent - 1)
        length = x.shape[-1]
        start = min(base, length - extent * stride)
        if start < 0 or base - start + span > stride:
            # The last row is cut short: fill it up.
            x = library.pad(x, base + extent * stride - length)
            start = base
        x = _slice(library, x, start, extent * stride)
        x = x.reshape(*x.shape[:-1], extent, stride)
        base -= start
    step = abs(pattern.strides[axes[-1]]) if axes else 1
    x = _slice(library, x, base, span, step)
    x = x if axes else x.reshape(x.shape[:-1])
    order = sorted(range(len(axes)), key=axes.__getitem__)
    if axes != sorted(axes):
        x = x.transpose(0, *(1 + place for place in order))
    flipped = [1 + place for place, k in enumerate(sorted(axes)) if k in back]
    x = library.flip(x, flipped) if flipped else x
    kept = set(axes)
    full = (x.shape[0], *(extent if k in kept else 1 for k, extent in enumerate(shape)))
    return library.broadcast_to(x.reshape(full), (x.shape[0], *shape))


def _slice(library: Library, x: Array, start: int, count: int, step: int = 1) -> Array:
    if step == 1 and count == x.shape[-1]:
        return x
    return library.cut(x, start, start + count, step)


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
        x = library.concatenate([_spread(library, part, lead) for part in parts], axis=1)
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
    present = present if step.over else _spread(library, present, lead)
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
        arrays[space] = _spread(memory.library, x, memory.examples) if batched else x
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
        numbers = _spread(library, memory.fetch(Space(space), turns.at[own]), lead)
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
