"""Operands bound to memory: where each is for a nest's counters, and copies to a better layout.

A `Binder` knows how a program's numbers lie in memory. What is bound and ready to be written is a
`Piece`; copies that a nest wants of its operands become pieces before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import prod
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import serial
from .copying import Block, copy_block, examples_at_once, mould_of_copy
from .distinct import distinct
from .environment import SCRATCH, WALKS
from .fuse import Region, readers, region
from .gaps import PASS, Gaps
from .ir import Function, Module, Passenger
from .lifetimes import Span, first_fit
from .loops import (
    BATCH,
    IN_OUT,
    RESULTS,
    Instruction,
    Loop,
    Loops,
    Operand,
    Repeat,
    Segment,
    Space,
    Walk,
    leaves,
)
from .memory import Memory
from .moulds import Mould
from .phases import Touched
from .places import LINE
from .plans import Machine
from .tiles import Axis, Division, Plan, Ref, Use, fitting, longest, ragged


class Boarded(Passenger, Protocol):
    """A passenger that has something to do at the end."""

    def finish(self) -> None:
        """Write what is left."""


Begin: TypeAlias = Callable[[Function], Boarded]


class Ride(NamedTuple):
    """A sum that can be written into another nest, see `riders`.

    Its `terms` are added one after the other; `begin(function, place, each)` writes what comes
    before them. Then `each` of them are to be added at every such place.
    """

    terms: int
    begin: Callable[[Function, int, int], Boarded]


class Room(NamedTuple):
    """A place, PER_TILE or PER_PASS, where there is time for others' sums.

    How often it is passed, and how many vectors of numbers are computed meanwhile.
    """

    place: int
    times: int
    work: float


class Piece(NamedTuple):
    """A cluster, a copy or another instruction, ready to be written.

    write(function, division)  writes the code: of everything, or of a worker's part
    split                      whether there are parts
    cycles                     what it takes, roughly
    unit                       where examples are divided, how many make a tile; else 0
    ride                       its sum, if that can ride along with another piece
    rooms                      where others' sums can ride along with it
    carry(function, begin)     writes the code with such sums
    riders                     what begins them
    mould()                    what its code has in common with others, where it may
    """

    write: Callable[[Function, Division | None], None]
    reads: tuple[Touched, ...]
    writes: tuple[Touched, ...]
    split: bool = False
    cycles: float = 0.0
    unit: int = 0
    ride: Ride | None = None
    rooms: tuple[Room, ...] = ()
    carry: Callable[[Function, Sequence[Begin]], None] | None = None
    riders: tuple[Begin, ...] = ()
    mould: Callable[[], Mould | None] = lambda: None


def touched(regions: Sequence[Region]) -> tuple[Touched, ...]:
    """The regions as what a task of a phase touches."""
    whole = (region.whole() for region in regions)
    return tuple(Touched(r.space, r.low, r.high, r.space.batched) for r in whole)


def unit_of(plan: Plan, split: int | None, own: int | None, lanes: int) -> int:
    """How many examples make a tile, where the axis to be divided is theirs; else 0."""
    if split is None or split != own:
        return 0
    return plan.width * lanes if split == plan.vector else plan.height if split == plan.rows else 1


def _write_copy(block: Block, function: Function, division: Division | None) -> None:
    copy_block(function, block, division)


@dataclass
class Binder:
    """Where the numbers of one program are, and the pieces of it that are ready."""

    loops: Loops
    module: Module
    batch: int
    several: bool = False  # whether workers may share the program
    scratch: int = 0
    pieces: list[Piece] = field(default_factory=list)
    copied: dict[tuple[Any, ...], tuple[Touched, tuple[int, ...]]] = field(default_factory=dict)
    # The spaces that each of the repeats around writes to, and how often it turns.
    written: list[frozenset[Space]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    most: int = 0  # examples of a tile that is to fit others; 0 where tiles are as they like

    def __post_init__(self) -> None:
        self.slots = WALKS + 1
        self.constants = self.loops.constants
        self.memory = Memory(self.loops, self.batch, self.module.width, self.module.registers)
        self.streams = serial.Streams(max(self.memory.lengths.values()), self.module)
        steps = 1 if self.module.fast and self.module.fused else 2
        self.machine = Machine(self.module.width, self.module.registers, steps, self.module.fast)
        self.repeats = any(isinstance(step, Repeat) for step in self.loops.instructions)
        self.padded = -(-self.batch // self.module.width) * self.module.width

    @cached_property
    def readers(self) -> NDArray[np.int32]:
        """How many instructions may read each temporary."""
        return readers(self.loops, self.loops.instructions, self.loops.size(Space.TEMPORARY))

    # --- binding ---------------------------------------------------------------------------------

    def bind(
        self,
        operand: Operand,
        batched: bool,
        loops: Sequence[Loop],
        lanes: int | None = None,
        over: int = 0,
    ) -> Ref:
        """An operand in memory, under `loops` of which the first `lanes` are those of the lanes.
        Its axes: the examples if the result is batched, the lanes, the examples if its group goes
        over them, and the loops of its segment.
        """
        lanes = len(loops) if lanes is None else lanes
        known = self._number(operand)
        first = (0,) if batched else ()
        middle = (0,) if over else ()
        strides = operand.strides
        if known is not None:
            return Ref(operand.space, 0, (*first, *strides, *middle), number=known)
        layout = self.memory.layout(operand.space, self._within(operand, lanes, loops))
        example = layout.example if operand.space.batched else 0
        first = (example,) if batched else ()
        middle = (over * example,) if over else ()
        start = (self.batch - 1) * example if over < 0 else 0
        if operand.indirect:
            zero = (0,) * len(strides)
            return Ref(
                operand.space,
                operand.base,
                ((0,) * len(first) + strides[:lanes] + (0,) * len(middle) + strides[lanes:]),
                beyond=(*first, *zero[:lanes], *middle, *zero[lanes:]),
                scale=layout.element,
                shift=layout.address(0) + start,
                padded=layout.padded,
                turns=operand.moves,
                block=layout.offset,
            )
        scaled = tuple(stride * layout.element for stride in strides)
        return Ref(
            operand.space,
            layout.address(operand.base) + start,
            (*first, *scaled[:lanes], *middle, *scaled[lanes:]),
            padded=layout.padded,
            turns=tuple(move * layout.element for move in operand.moves),
            block=layout.offset,
        )

    def constant(self, number: float) -> int:
        """The place of a constant, which is added to the program's if it has no such one."""
        known = np.flatnonzero(self.constants.view(np.int64) == np.float64(number).view(np.int64))
        if len(known):
            return int(known[0])
        self.constants = np.append(self.constants, number)
        self.memory.lengths[Space.CONSTANT] = len(self.constants)
        return len(self.constants) - 1

    def _within(self, operand: Operand, lanes: int, loops: Sequence[Loop]) -> int:
        """An element that the operand reaches."""
        if operand.space != Space.BATCHED:
            return 0
        reached = region(operand, tuple(loops), lanes, self.loops.table, tuple(self.counts))
        return 0 if reached is None else reached.low

    def _number(self, operand: Operand) -> float | None:
        if operand.indirect or any(operand.strides) or any(operand.moves):
            return None
        if operand.space == Space.CONSTANT:
            return float(self.loops.constants[operand.base])
        if operand.space == Space.SCALAR and operand.base == BATCH:
            return float(self.batch)
        return None

    def axes(self, lanes: Sequence[Loop], batched: bool) -> tuple[Axis, ...]:
        """The axes of a nest."""
        if not batched:
            return tuple(Axis(loop.extent, loop.slopes, self._turns(loop)) for loop in lanes)
        own = tuple(
            Axis(loop.extent, (0, *loop.slopes) if loop.slopes else (), self._turns(loop))
            for loop in lanes
        )
        return (Axis(self.batch), *own)

    def _turns(self, loop: Loop) -> tuple[tuple[int, int], ...]:
        """How much longer a loop is in each turn of the repeats around, which turn so often."""
        return tuple(zip(loop.moves, self.counts))

    def terms(self, segment: Segment, batched: bool, lanes: int, over: int) -> tuple[Axis, ...]:
        """The axes of a segment's terms."""
        result: list[Axis] = [Axis(self.batch)] if over else []
        for loop in segment.loops:
            slopes = loop.slopes
            if slopes:
                slopes = (
                    *((0,) if batched else ()),
                    *slopes[:lanes],
                    *((0,) if over and len(slopes) > lanes else ()),
                    *slopes[lanes:],
                )
            result.append(Axis(loop.extent, slopes, self._turns(loop)))
        return tuple(result)

    def fitted(self, plan: Plan, examples: int) -> Plan:
        """The plan, its tiles of examples fitting those of other nests where that is wanted."""
        lanes = self.module.width
        if self.most:
            return fitting(plan, examples, lanes, self.most)
        # One row of tiles is as quick in other widths.
        lone = plan.vector == examples and plan.height == 1 and self.repeats
        return fitting(plan, examples, lanes, self.batch) if lone else plan

    # --- copies ----------------------------------------------------------------------------------

    def copies(
        self,
        axes: Sequence[Axis],
        uses: Sequence[Use],
        chosen: Plan,
        reads: Sequence[Touched],
        waiting: list[Block],
        examples: int | None,
        each: int = 1,
    ) -> tuple[list[Ref], list[Touched]]:
        """The refs of the uses, those to be copied replaced by their copies; and where these are.

        Copies are made before the repeats around; those that each turn must make are added to
        `waiting`. `reads` is what the cluster reads, `examples` the axis of its own examples, along
        which a step is `each` of them.
        """
        assert chosen.vector is not None or not chosen.copies
        refs, places = [use.ref for use in uses], []
        for number in sorted(chosen.copies):
            use = uses[number]
            own = tuple(t for t in reads if t.array == use.ref.slot)
            axes_, along = (*axes, *use.terms), chosen.vector or 0
            refs[number], place = self._copy(use, axes_, along, own, waiting, examples, each)
            places.append(place)
        return refs, places

    def _copy(
        self,
        use: Use,
        axes: Sequence[Axis],
        along: int,
        reads: tuple[Touched, ...],
        waiting: list[Block],
        examples: int | None,
        each: int,
    ) -> tuple[Ref, Touched]:
        ref, lanes = use.ref, self.module.width
        moving = [k for k in range(len(axes)) if ref.strides[k]]
        most = longest(axes)
        # What only moves closer together is copied in the order in which this nest reads it: the
        # terms of each panel. Else counted upwards, so that all nests share one copy.
        packed = ref.strides[along] == 1
        back = [] if packed else [k for k in moving if ref.strides[k] < 0]
        base = ref.base + sum(ref.strides[k] * (most[k] - 1) for k in back)
        depth = len(axes) - len(use.terms) if packed else 0
        others = [k for k in moving if k != along]
        order = [along, *sorted(others, key=lambda k: (k < depth, abs(ref.strides[k])))]
        extents = tuple(most[k] for k in order)
        strides = tuple(-ref.strides[k] if k in back else ref.strides[k] for k in order)
        turning = any(ref.turns) or any(ref.slot in spaces for spaces in self.written)
        key = (ref.slot, base, extents, strides, ref.turns, len(self.written) if turning else 0)
        if key not in self.copied:
            steps, size = [1], -(-extents[0] // lanes) * lanes
            for extent in extents[1:]:
                steps.append(size)
                size *= extent
            own = order.index(examples) if examples in order else None
            place = Touched(SCRATCH, self.scratch, self.scratch + size - 1, own is not None)
            self.copied[key] = (place, tuple(steps))
            source = Ref(ref.slot, base, strides, turns=ref.turns, block=ref.block)
            target = Ref(SCRATCH, self.scratch, tuple(steps), block=self.scratch)
            block = Block(source, target, extents, own)
            if turning:
                waiting.append(block)
            else:
                write = partial(_write_copy, block)
                unit, cycles = each * examples_at_once(block, lanes), float(prod(extents))
                mould = partial(mould_of_copy, self.module, block)
                self.pieces.append(Piece(write, reads, (place,), True, cycles, unit, mould=mould))
            self.scratch += size
        place, steps_ = self.copied[key]
        if ragged(axes[along]):
            # What filled it up may not have been computed yet.
            del self.copied[key]
        start, full = place.low, [0] * len(ref.strides)
        for k, step in zip(order, steps_):
            sign = -1 if k in back else 1
            full[k] = sign * step
            start += step * (most[k] - 1) if sign < 0 else 0
        return Ref(SCRATCH, start, tuple(full), padded=True, block=place.low), place

    def gaps(
        self,
        source: Ref,
        copy: Ref,
        copies: Sequence[Touched],
        shape: tuple[int, int, int],
        at: int,
    ) -> tuple[Gaps, tuple[Touched, ...]]:
        """The lists of terms that are not all zero, and where they are.

        The axes of source and copy, and their extents `shape`, are those of `Gaps`. Of the two
        `copies` among the pieces from number `at` on, the first is made only if there are no
        lists, the second only if there are.
        """
        panels, vectors, terms = shape
        few, answer = self._reserved(1, ())
        steps = vectors * (terms + 1), terms + 1, 0
        lists, place = self._reserved(panels * vectors * (terms + 1) + PASS, steps)
        found = Gaps(source, few, copy, lists, *shape)
        for k, piece in enumerate(self.pieces[at:], at):
            for made, wanted in zip(copies, (False, True)):
                if made in piece.writes:
                    write = found.only(piece.write, wanted)
                    read = (*piece.reads, answer)
                    self.pieces[k] = piece._replace(write=write, reads=read, mould=lambda: None)
                    self.copied = {k: v for k, v in self.copied.items() if v[0] != made}
                    reads = piece.reads
        self.pieces.insert(at, Piece(lambda f, _: found.look(f), reads, (answer,)))
        write, cycles = found.only(found.write, True), float(panels * vectors * terms)
        self.pieces.append(Piece(write, (copies[1], answer), (place,), True, cycles))
        return found, (answer, place, copies[1])

    def _reserved(self, size: int, strides: tuple[int, ...]) -> tuple[Ref, Touched]:
        """Room for so many numbers in whole cache lines, so that what follows stays aligned."""
        line, begin = LINE // self.module.size, self.scratch
        self.scratch += -(-size // line) * line
        place = Touched(SCRATCH, begin, self.scratch - 1)
        return Ref(SCRATCH, begin, strides, block=begin), place

    # --- memory ----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let what is no longer read make room for what comes later, one piece after the other."""
        times: dict[tuple[int, int], tuple[int, int, int]] = {}
        for now, piece in enumerate(self.pieces):
            for array, low, high, _ in (*piece.reads, *piece.writes):
                if array == Space.BATCHED:
                    begin, size = self.memory.block(low)
                elif array == SCRATCH:
                    begin, size = low, high - low + 1
                else:
                    continue
                first = times.get((array, begin), (size, now, now))[1]
                times[array, begin] = size, first, now
        for array in (Space.BATCHED, SCRATCH):
            blocks = [begin for slot, begin in times if slot == array]
            places, size = first_fit([Span(*times[array, begin]) for begin in blocks])
            for begin, place in zip(blocks, places):
                self.module.moved[array, begin] = place - begin
            if array == SCRATCH:
                self.scratch = size
            else:
                self.memory.lengths[Space.BATCHED] = size

    def forget(self, step: Instruction) -> None:
        """Copies of what an instruction overwrites are no longer true."""
        for space in spaces_written(step).intersection((*IN_OUT, *RESULTS)):
            self.copied = {k: v for k, v in self.copied.items() if k[0] != space}


def spaces_written(step: Instruction) -> frozenset[Space]:
    """The spaces that an instruction writes to."""
    found: set[Space] = set()
    for leaf, _ in leaves((step,)):
        if isinstance(leaf, Walk):
            found.update(Space(int(s)) for s in distinct(leaf.space))
        else:
            found.add(leaf.result.space)
    return frozenset(found)
