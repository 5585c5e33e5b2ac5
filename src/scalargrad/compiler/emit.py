"""Loops to LLVM IR: every instruction becomes a function, and `run` calls them in order.

The code is for one batch size and one machine. Numbers live in one array per space, whose
addresses `run` finds in its only argument, the environment: a pointer for each `Space`, one to
the index table, one to scratch memory for operands copied to a better layout, and one to the
stream of operations without structure.

A program that is worth it can be shared by several workers. Its long nests then ask which part of
their tiles is to be computed, `run` computes all of them, and `share(environment, phase, worker,
workers)` what one worker has to do in one phase: see `phases`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import numpy as np

from .. import ops
from . import serial, vectormath
from .arithmetic import FORMS, Arithmetic, heavy
from .environment import SCRATCH, WALKS
from .fuse import Cluster, Region, fuse, region
from .ir import Counter, Function, Module, vector
from .loops import (
    BATCH,
    IN_OUT,
    RESULTS,
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
    leaves,
    work,
)
from .memory import Memory
from .nests import Block, Cursor, Nest, Spot, Tile, copy_block, examples_at_once
from .phases import BY_EXAMPLES, SHARED, SINGLE, Task, Touched, phases
from .reductions import joined, reduced, reducible
from .team import TRIAL
from .tiles import (
    Axis,
    Division,
    Machine,
    Plan,
    Ref,
    Use,
    collapse,
    divide,
    longest,
    plan,
    ragged,
    typical,
)

UNROLLED = 24  # a sum of so few terms, for all lanes of a tile together, is written out

# In cycles, roughly: what a nest must take to be shared, and a program for each of its workers.
LONG, WORTH = 1_500.0, 100_000.0
MANY = 3000  # pieces of a program that is not looked at for what could be shared
PORTION = "ptr %env, i64 %worker, i64 %workers"


@dataclass(frozen=True, slots=True)
class Piece:
    """A cluster, a copy or another instruction, ready to be written.

    write(function, division)  writes the code: of everything, or of a worker's part
    split                      whether there are parts
    cycles                     what it takes, roughly
    unit                       where examples are divided, how many make a tile; else 0
    """

    write: Callable[[Function, Division | None], None]
    reads: tuple[Touched, ...]
    writes: tuple[Touched, ...]
    split: bool = False
    cycles: float = 0.0
    unit: int = 0


def _touched(regions: Sequence[Region]) -> tuple[Touched, ...]:
    whole = (region.whole() for region in regions)
    return tuple(Touched(r.space, r.low, r.high, r.space.batched) for r in whole)


def _form(piece: Piece, chunk: int) -> int:
    """How a piece is done, where so many examples belong together."""
    if piece.split and chunk and piece.unit and chunk % piece.unit == 0:
        return BY_EXAMPLES
    return SHARED if piece.split and piece.cycles >= LONG else SINGLE


def _write_copy(block: Block, function: Function, division: Division | None) -> None:
    copy_block(function, block, division)


@dataclass
class Emitter:
    """The state of one program's emission."""

    loops: Loops
    module: Module
    batch: int
    unread: frozenset[Space] = frozenset()
    scratch: int = 0
    pieces: list[Piece] = field(default_factory=list)
    copied: dict[tuple[Any, ...], tuple[Touched, tuple[int, ...]]] = field(default_factory=dict)
    # The spaces that each of the repeats around writes to.
    written: list[frozenset[Space]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.slots = WALKS + 1
        self.memory = Memory(self.loops, self.batch, self.module.width)
        self.streams = serial.Streams(max(self.memory.lengths.values()))
        steps = 1 if self.module.fast and self.module.fused else 2
        self.machine = Machine(self.module.width, self.module.registers, steps, self.module.fast)
        self.padded = -(-self.batch // self.module.width) * self.module.width
        total = sum(work(step, self.batch) for step in self.loops.instructions)
        self.several = total / self.module.width > 2 * WORTH
        self.phases = 0  # of `share`; 0 if the program is for one worker
        self.workers = 1  # more are of no use
        self.cycles = self.shared = 0.0  # of the program, and of its shared pieces

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
            )
        scaled = tuple(stride * layout.element for stride in strides)
        return Ref(
            operand.space,
            layout.address(operand.base) + start,
            (*first, *scaled[:lanes], *middle, *scaled[lanes:]),
            padded=layout.padded,
            turns=tuple(move * layout.element for move in operand.moves),
        )

    def _within(self, operand: Operand, lanes: int, loops: Sequence[Loop]) -> int:
        """An element that the operand reaches."""
        if operand.space != Space.BATCHED:
            return 0
        reached = region(operand, tuple(loops), lanes, self.loops.table)
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
            return tuple(Axis(loop.extent, loop.slopes) for loop in lanes)
        own = tuple(Axis(loop.extent, (0, *loop.slopes) if loop.slopes else ()) for loop in lanes)
        return (Axis(self.batch), *own)

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
            result.append(Axis(loop.extent, slopes))
        return tuple(result)

    # --- copies ----------------------------------------------------------------------------------

    def copies(
        self,
        axes: Sequence[Axis],
        uses: Sequence[Use],
        chosen: Plan,
        reads: Sequence[Touched],
        waiting: list[Block],
        examples: int | None,
    ) -> tuple[list[Ref], list[Touched]]:
        """The refs of the uses, those to be copied replaced by their copies; and where these are.

        Copies are made before the repeats around; those that each turn must make are added to
        `waiting`. `reads` is what the cluster reads, `examples` the axis of its own examples.
        """
        assert chosen.vector is not None or not chosen.copies
        refs, places = [use.ref for use in uses], []
        for number in sorted(chosen.copies):
            use = uses[number]
            own = tuple(t for t in reads if t.array == use.ref.slot)
            axes_, along = (*axes, *use.terms), chosen.vector or 0
            refs[number], place = self._copy(use, axes_, along, own, waiting, examples)
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
    ) -> tuple[Ref, Touched]:
        ref, lanes = use.ref, self.module.width
        moving = [k for k in range(len(axes)) if ref.strides[k]]
        most = longest(axes)
        # Counted upwards, whichever way this nest goes: so all nests share one copy.
        base = ref.base + sum(min(ref.strides[k], 0) * (most[k] - 1) for k in moving)
        order = [
            along,
            *sorted((k for k in moving if k != along), key=lambda k: abs(ref.strides[k])),
        ]
        extents = tuple(most[k] for k in order)
        strides = tuple(abs(ref.strides[k]) for k in order)
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
            source = Ref(ref.slot, base, strides, turns=ref.turns)
            block = Block(source, Ref(SCRATCH, self.scratch, tuple(steps)), extents, own)
            if turning:
                waiting.append(block)
            else:
                write = partial(_write_copy, block)
                unit, cycles = examples_at_once(block, lanes), float(prod(extents))
                self.pieces.append(Piece(write, reads, (place,), True, cycles, unit))
            self.scratch += size
        place, steps_ = self.copied[key]
        if ragged(axes[along]):
            # What filled it up may not have been computed yet.
            del self.copied[key]
        start, full = place.low, [0] * len(ref.strides)
        for k, step in zip(order, steps_):
            sign = 1 if ref.strides[k] > 0 else -1
            full[k] = sign * step
            start += step * (most[k] - 1) if sign < 0 else 0
        return Ref(SCRATCH, start, tuple(full), padded=True), place

    def forget(self, step: Instruction) -> None:
        """Copies of what an instruction overwrites are no longer true."""
        for space in _written(step).intersection((*IN_OUT, *RESULTS)):
            self.copied = {k: v for k, v in self.copied.items() if k[0] != space}

    # --- the program -----------------------------------------------------------------------------

    def prepare(self, cluster: Cluster) -> Piece:
        """A cluster, bound to memory; the copies that it needs become pieces before it."""
        step = cluster.steps[0]
        if isinstance(step, Repeat):
            piece = self._repeat(step, cluster)
        elif isinstance(step, Contract | Apply):
            piece = _Cluster(self, cluster).piece()
        else:
            piece = _PIECE[type(step)](self, cluster)
        for member in cluster.steps:
            self.forget(member)
        return piece

    def _repeat(self, step: Repeat, cluster: Cluster) -> Piece:
        self.written.append(_written(step))
        inner = [self.prepare(each) for each in cluster.inner]
        # Copies made in a turn are of that turn.
        self.copied = {k: v for k, v in self.copied.items() if k[-1] < len(self.written)}
        self.written.pop()

        def write(function: Function, _: Division | None) -> None:
            def body() -> None:
                for piece in inner:
                    piece.write(function, None)

            function.repeat(step.count, body)

        copies = tuple(t for piece in inner for t in piece.reads if t.array == SCRATCH)
        return Piece(
            write,
            (*_touched(cluster.reads), *copies),
            _touched(cluster.writes),
            cycles=step.count * sum(piece.cycles for piece in inner),
        )

    def run(self) -> None:
        """Write the module."""
        for cluster in fuse(self.loops, self.unread):
            piece = self.prepare(cluster)
            self.pieces.append(piece)
        self._write()

    def _write(self) -> None:
        """Write the pieces, in functions that belong to one phase each."""
        chunk = self._chunk()
        forms = [_form(piece, chunk) for piece in self.pieces]
        shared = [form != SINGLE for form in forms]
        self.cycles = sum(piece.cycles for piece in self.pieces)
        self.shared = sum(p.cycles for p, some in zip(self.pieces, shared) if some)
        order = [(0, False, k) for k in range(len(self.pieces))]
        if self.several and self.shared >= 2 * WORTH and len(self.pieces) <= MANY:
            found = phases([Task(p.reads, p.writes, f) for p, f in zip(self.pieces, forms)])
            order = sorted((phase, not s, k) for k, (phase, s) in enumerate(zip(found, shared)))
            order = [(phase, not single, k) for phase, single, k in order]
            self.phases, self.workers = 1 + max(found), int(self.shared / WORTH)
        else:
            self.shared = 0.0
        functions: list[tuple[int, bool, str]] = []
        function: Function | None = None
        for phase, some, k in order:
            if function is None or (phase, some) != functions[-1][:2] or function.long:
                if function is not None:
                    self.module.finish(function)
                functions.append((phase, some, f"nests{len(functions)}"))
                function = Function(self.module, functions[-1][2], PORTION if some else "ptr %env")
            piece = self.pieces[k]
            division = Division() if some else None
            if some and forms[k] == BY_EXAMPLES:
                division = Division(chunk // piece.unit, -(-self.batch // chunk))
            piece.write(function, division)
        if function is not None:
            self.module.finish(function)
        serial.finish(self)
        self._run(functions)
        if self.phases:
            self._share(functions)

    def _chunk(self) -> int:
        """How many examples belong together: so that most of the work is divided by them."""
        pieces = [piece for piece in self.pieces if piece.split]
        units = {piece.unit for piece in pieces if 0 < 2 * piece.unit <= self.batch}
        divided = {
            unit: sum(p.cycles for p in pieces if p.unit and unit % p.unit == 0) for unit in units
        }
        return max(sorted(units), key=lambda unit: divided[unit], default=0)

    def _run(self, functions: Sequence[tuple[int, bool, str]]) -> None:
        main = Function(self.module, "run", linkage="")
        for _, shared, name in functions:
            main.do(f"call void @{name}(ptr %env{', i64 0, i64 1' if shared else ''})")
        self.module.finish(main)

    def _share(self, functions: Sequence[tuple[int, bool, str]]) -> None:
        """What one worker does in one phase."""
        main = Function(
            self.module, "share", "ptr %env, i64 %phase, i64 %worker, i64 %workers", linkage=""
        )
        labels, end = [main.label() for _ in range(self.phases)], main.label()
        cases = " ".join(f"i64 {k}, label %{label}" for k, label in enumerate(labels))
        first = main.emit("icmp eq i64 %worker, 0")
        main.do(f"switch i64 %phase, label %{end} [ {cases} ]")
        for phase, label in enumerate(labels):
            main.begin(label)
            for _, _, name in (f for f in functions if f[0] == phase and f[1]):
                main.do(f"call void @{name}(ptr %env, i64 %worker, i64 %workers)")
            alone = [name for at, shared, name in functions if at == phase and not shared]
            if alone:
                own = main.label()
                main.do(f"br i1 {first}, label %{own}, label %{end}")
                main.begin(own)
                for name in alone:
                    main.do(f"call void @{name}(ptr %env)")
            main.do(f"br label %{end}")
        main.begin(end)
        self.module.finish(main)
        together = Function(self.module, "together", linkage="")
        together.declare("void", "lead", "ptr", "ptr", "ptr", "i64", "i64", "i64", "ptr")
        trial = ", ".join(f"i64 {number}" for number in TRIAL)
        self.module.definitions.append(f"@trial = internal global [{len(TRIAL)} x i64] [{trial}]")
        together.do(
            "call void @lead(ptr %env, ptr @run, ptr @share, "
            f"i64 {self.phases}, i64 {self.workers}, i64 {int(self.cycles)}, ptr @trial)"
        )
        self.module.finish(together)


def _written(step: Instruction) -> frozenset[Space]:
    """The spaces that an instruction writes to."""
    found: set[Space] = set()
    for leaf, _ in leaves((step,)):
        if isinstance(leaf, Walk):
            found.update(Space(int(s)) for s in np.unique(leaf.space))
        else:
            found.add(leaf.result.space)
    return frozenset(found)


# --- clusters of sums and operations --------------------------------------------------------------

_EXACT, _FAST = 40.0, 12.0  # cycles of exp and its like: for a number, and for a vector of them


@dataclass(frozen=True, slots=True)
class _Source:
    """Where an operand comes from: a ref of the nest, or an earlier result of the cluster."""

    ref: int = -1
    member: int = -1


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment in memory: its operands, and the axes of its terms."""

    left: _Source
    right: _Source | None
    terms: tuple[Axis, ...]
    minus: bool
    skip: int


@dataclass
class _Member:
    """An instruction of a cluster, bound to memory."""

    step: Contract | Apply
    result: int
    stored: bool
    operands: list[_Source] = field(default_factory=list)
    groups: list[tuple[Group, list[_Part]]] = field(default_factory=list)
    before: _Source | None = None  # what a resumed sum starts from


def _unit(plan: Plan, split: int | None, own: int | None, lanes: int) -> int:
    """How many examples make a tile, where the axis to be divided is theirs; else 0."""
    if split is None or split != own:
        return 0
    return plan.width * lanes if split == plan.vector else plan.height if split == plan.rows else 1


class _Cluster:
    """A cluster bound to memory, and its code."""

    def __init__(self, emitter: Emitter, cluster: Cluster) -> None:
        self.emitter = emitter
        self.reads, self.writes = _touched(cluster.reads), _touched(cluster.writes)
        first = cluster.steps[0]
        assert isinstance(first, Contract | Apply)
        self.batched = first.result.space.batched
        # Workers divide the examples, where there are any.
        self.own = 0 if self.batched and emitter.several else None
        self.loops, self.lanes = first.lanes, len(first.lanes)
        self.axes = emitter.axes(first.lanes, self.batched)
        self.uses: list[Use] = []
        self._known: dict[Use, int] = {}
        self._owner: dict[Operand, int] = {}
        self.inverse: dict[int, str] = {}
        self.quick = False
        self.waiting: list[Block] = []
        self.members = [
            self._member(k, step, k not in cluster.dead) for k, step in enumerate(cluster.steps)
        ]
        self._plan()

    def _use(self, ref: Ref, terms: tuple[Axis, ...] = ()) -> int:
        use = Use(ref, terms)
        if use not in self._known:
            self._known[use] = len(self.uses)
            self.uses.append(use)
        return self._known[use]

    def _source(
        self,
        operand: Operand,
        terms: tuple[Axis, ...] = (),
        inner: tuple[Loop, ...] = (),
        over: int = 0,
    ) -> _Source:
        own = operand
        if len(operand.strides) > self.lanes and not any(operand.strides[self.lanes :]):
            own = operand._replace(strides=operand.strides[: self.lanes])
        if own in self._owner:
            return _Source(member=self._owner[own])
        ref = self.emitter.bind(operand, self.batched, (*self.loops, *inner), self.lanes, over)
        return _Source(self._use(ref, terms))

    def _member(self, number: int, step: Instruction, stored: bool) -> _Member:
        assert isinstance(step, Contract | Apply)
        result = self._use(self.emitter.bind(step.result, self.batched, self.loops))
        member = _Member(step, result, stored)
        if isinstance(step, Apply):
            member.operands = [self._source(operand) for operand in step.operands]
        else:
            member.before = self._source(step.result) if step.resume else None
            for group in step.groups:
                parts = [self._part(segment, group.over) for segment in group.segments]
                member.groups.append((group, parts))
        self._owner[step.result] = number
        return member

    def _part(self, segment: Segment, over: int) -> _Part:
        terms = self.emitter.terms(segment, self.batched, self.lanes, over)
        left = self._source(segment.left, terms, segment.loops, over)
        right = None
        if segment.right is not None:
            right = self._source(segment.right, terms, segment.loops, over)
        return _Part(left, right, terms, segment.minus, segment.skip)

    def _plan(self) -> None:
        emitter, axes = self.emitter, self.axes
        refs = [use.ref for use in self.uses]
        results = {member.result for member in self.members}
        first = refs[self.members[0].result]
        padded = self.batched and bool(axes) and first.padded
        if padded and all(ref.padded or not ref.moves(0) for ref in refs):
            axes = (Axis(emitter.padded), *axes[1:])
        straight = not any(any(axis.slopes) for use in self.uses for axis in use.terms)
        if straight and len(axes) > 1:
            axes, moved = collapse(axes, refs, self.own)
            refs = list(moved)
        uses = [Use(ref, use.terms) for ref, use in zip(refs, self.uses)]
        operands = [k for k in range(len(uses)) if k not in results]
        stored = [refs[member.result] for member in self.members if member.stored]
        module = emitter.module
        calls = not module.fast and any(
            isinstance(m.step, Apply) and heavy(m.step.op, m.step.const) for m in self.members
        )
        # The CPUs with vectors of 32 bytes and more are those that can mask them.
        masks = module.width * module.size >= 32 and not calls
        read = [uses[k] for k in operands]
        chosen = plan(axes, stored or [first], read, emitter.machine, masks, self.own)
        long = sum(
            8 if isinstance(m.step, Apply) and heavy(m.step.op, m.step.const) else 1
            for m in self.members
        )
        if all(not use.terms for use in uses):
            chosen = chosen._replace(width=min(chosen.width, max(8 // long, 1)))
        copied, places = emitter.copies(axes, read, chosen, self.reads, self.waiting, self.own)
        self.reads += tuple(places)
        for k, ref in zip(operands, copied):
            refs[k] = ref
        self.refs, self.axes, self.plan = refs, axes, chosen
        stored = [refs[member.result] for member in self.members if member.stored]
        self.split = divide(axes, stored, refs, uses, chosen, emitter.module.width, self.own)

    def piece(self) -> Piece:
        """The cluster, ready to be written."""
        unit = _unit(self.plan, self.split, self.own, self.emitter.module.width)
        split = self.split is not None
        return Piece(self.write, self.reads, self.writes, split, self._cycles(), unit)

    def _cycles(self) -> float:
        module, total = self.emitter.module, 0.0
        lanes = 1 if self.plan.vector is None else module.width
        for member in self.members:
            numbers = prod(typical(self.axes))
            if isinstance(member.step, Apply) and heavy(member.step.op, member.step.const):
                total += numbers * (_FAST / lanes if module.fast else _EXACT)
            elif isinstance(member.step, Apply):
                total += numbers / lanes
            for _, parts in member.groups:
                for part in parts:
                    total += prod(typical((*self.axes, *part.terms))) / lanes
        return total

    def write(self, function: Function, division: Division | None) -> None:
        """Write the code."""
        for block in self.waiting:
            copy_block(function, block)
        self.nest = Nest(function, self.axes, self.refs, self.plan, self.split, division)
        if self.emitter.module.fast:
            self._invert_divisors()
            self._spare_the_divider()
        self.nest.run(self._body)

    def _invert_divisors(self) -> None:
        """Divide once by what all lanes are divided by, and multiply."""
        one = self.nest.arithmetic(1)
        for number, member in enumerate(self.members):
            if not isinstance(member.step, Apply) or member.step.op != ops.DIV:
                continue
            divisor = member.operands[1]
            ref = self.refs[divisor.ref]
            axes = range(len(self.nest.axes))
            if divisor.member < 0 and len(axes) and not any(ref.moves(k) for k in axes):
                scalar = self.nest.load(self.nest.real, ref, self.nest.start(ref))
                self.inverse[number] = one.divide(one.constant(1.0), scalar)

    def _spare_the_divider(self) -> None:
        """Divide by products where all would wait for the CPU's one divider."""
        operations = [m for m in self.members if isinstance(m.step, Apply)]
        divisors = [m.operands[1] for m in operations if m.step.op == ops.DIV]
        roots = any(m.step.op == ops.SQRT for m in operations)
        self.quick = roots or len(set(divisors)) < len(divisors)

    def _quotient(self, m: Arithmetic, a: str, b: str, known: dict[str, str | None]) -> str:
        """a / b; `known` are the reciprocals computed so far, None for those that are not."""
        if b not in known:
            known[b] = vectormath.reciprocal(m, b) if self.quick else None
        inverse = known[b]
        return m.divide(a, b) if inverse is None else m.multiply(a, inverse)

    def _body(self, tile: Tile) -> None:
        values: list[list[str]] = []
        known: dict[str, str | None] = {}
        seen: dict[tuple[int, Spot], str] = {}

        def number(source: _Source, k: int) -> str:
            if source.member >= 0:
                return values[source.member][k]
            return tile.read(self.refs[source.ref], tile.cursors[source.ref], tile.spots[k], seen)

        for k, member in enumerate(self.members):
            if k in self.inverse:
                computed = [
                    m.multiply(number(member.operands[0], j), m.splat(self.inverse[k]))
                    for j, m in enumerate(map(tile.arithmetic, tile.spots))
                ]
            elif isinstance(member.step, Apply) and member.step.op == ops.DIV:
                above, below = member.operands
                computed = [
                    self._quotient(tile.arithmetic(spot), number(above, j), number(below, j), known)
                    for j, spot in enumerate(tile.spots)
                ]
            elif isinstance(member.step, Apply):
                form, const = FORMS[member.step.op], member.step.const
                computed = [
                    form(tile.arithmetic(spot), *(number(x, k) for x in member.operands), const)
                    for k, spot in enumerate(tile.spots)
                ]
            else:
                sums = _Sums(tile, member.step, self.refs, len(self.nest.axes), values)
                if member.before is None:
                    computed = sums.start()
                else:
                    computed = [number(member.before, k) for k in range(len(tile.spots))]
                for group, parts in member.groups:
                    computed = sums.group(group, parts, computed)
            values.append(computed)
            if member.stored:
                result = self.refs[member.result]
                for spot, value in zip(tile.spots, computed):
                    tile.write(result, tile.cursors[member.result], spot, value)


class _Sums:
    """The sums of one tile while their code is written."""

    def __init__(
        self,
        tile: Tile,
        step: Contract,
        refs: Sequence[Ref],
        depth: int,
        earlier: Sequence[Sequence[str]],
    ) -> None:
        self.tile, self.step, self.refs, self.depth = tile, step, refs, depth
        self.earlier = earlier
        self.nest, self.function = tile.nest, tile.function
        self.kinds = [tile.arithmetic(spot).kind for spot in tile.spots]

    def start(self) -> list[str]:
        """What the sums start from."""
        return [self.tile.arithmetic(spot).constant(self.step.start) for spot in self.tile.spots]

    def group(self, group: Group, parts: Sequence[_Part], values: list[str]) -> list[str]:
        """Add the terms of a group."""
        common = bool(group.over) + group.shared
        cursors = [list(self.tile.cursors)] * len(parts)
        return self._together(parts, 0, common, list(self.tile.counters), cursors, values)

    def _together(
        self,
        parts: Sequence[_Part],
        level: int,
        common: int,
        counters: list[Counter],
        cursors: Sequence[list[Cursor]],
        values: list[str],
    ) -> list[str]:
        """The loops that all parts have in common, and in them each part's own."""
        if level == common or len(parts) == 1:
            for part, own in zip(parts, cursors):
                values = self._loops(part, level, counters, own, values)
            return values

        def inside(counter: Counter, carried: list[str]) -> list[str]:
            moved = []
            for part, own in zip(parts, cursors):
                moved.append(list(own))
                self._advance(part, level, counter, moved[-1])
            known = [*counters, counter]
            return self._together(parts, level + 1, common, known, moved, carried)

        return self.function.loop(parts[0].terms[level].extent, 1, self.kinds, values, inside)

    def _advance(self, part: _Part, level: int, counter: Counter, cursors: list[Cursor]) -> None:
        for place in {s.ref for s in (part.left, part.right) if s is not None and s.ref >= 0}:
            ref, axis = self.refs[place], self.depth + level
            cursors[place] = self.nest.move(ref, cursors[place], axis, counter)

    def _loops(
        self,
        part: _Part,
        level: int,
        counters: list[Counter],
        cursors: list[Cursor],
        values: list[str],
    ) -> list[str]:
        if level == len(part.terms):
            return self._add(part, cursors, values)
        extent = self.nest.extent(part.terms[level], counters)

        def inside(counter: Counter, carried: list[str]) -> list[str]:
            moved = list(cursors)
            self._advance(part, level, counter, moved)
            return self._loops(part, level + 1, [*counters, counter], moved, carried)

        if isinstance(extent, int) and level + 1 == len(part.terms):
            done, values = self._reduced(part, level, extent, cursors, values)
            if done:
                for k in range(done, extent):
                    values = inside(k, values)
                return values
        if isinstance(extent, int) and extent * self._inner(part, level) <= UNROLLED:
            for k in range(extent):
                values = inside(k, values)
            return values
        if isinstance(extent, int) and level + 1 == len(part.terms):
            return self._unrolled(extent, inside, values)
        return self.function.loop(extent, 1, self.kinds, values, inside)

    def _reduced(
        self, part: _Part, level: int, extent: int, cursors: list[Cursor], values: list[str]
    ) -> tuple[int, list[str]]:
        """The terms that share vectors added: how many these were, and the sums."""
        places = [s.ref for s in (part.left, part.right) if s is not None]
        factors = [(self.refs[k], cursors[k]) for k in places if k >= 0]
        refs, axis, op = [ref for ref, _ in factors], self.depth + level, self.step.op
        if part.skip or min(places) < 0 or not reducible(self.nest, refs, axis, extent):
            return 0, values
        m, width = self.nest.arithmetic(1), self.nest.module.width
        partial = reduced(self.tile, op, part.minus, factors, axis, extent)
        values = [joined(m, op, *pair) for pair in zip(values, partial)]
        return extent // width * width, values

    def _unrolled(
        self,
        extent: int,
        inside: Callable[[Counter, list[str]], list[str]],
        values: list[str],
    ) -> list[str]:
        """The innermost loop, a few terms at a time where a tile alone is too little work."""
        times = next((n for n in (8, 4, 2) if n * len(self.kinds) <= UNROLLED), 1)
        times = min(times, extent)
        whole = extent // times * times

        # In fast mode every term of a pass has sums of its own: additions need not wait in line.
        apart = times if self.nest.module.fast and self.step.op == ops.ADD else 1
        width = len(self.kinds)
        nothing = [self.tile.arithmetic(spot).constant(-0.0) for spot in self.tile.spots]

        def several(counter: Counter, carried: list[str]) -> list[str]:
            sums = [carried[k * width : (k + 1) * width] for k in range(apart)]
            for k in range(times):
                sums[k % apart] = inside(self.function.add(counter, k), sums[k % apart])
            return [value for part in sums for value in part]

        carried = self.function.loop(
            whole, times, self.kinds * apart, values + nothing * (apart - 1), several
        )
        values = self._joined([carried[k * width : (k + 1) * width] for k in range(apart)])
        for k in range(whole, extent):
            values = inside(k, values)
        return values

    def _joined(self, sums: list[list[str]]) -> list[str]:
        """Partial sums added up, in pairs."""
        while len(sums) > 1:
            pairs = zip(sums[::2], sums[1::2])
            odd = sums[len(sums) // 2 * 2 :]
            sums = odd + [
                [
                    self.tile.arithmetic(spot).add(a, b)
                    for spot, a, b in zip(self.tile.spots, first, second)
                ]
                for first, second in pairs
            ]
        return sums[0]

    def _inner(self, part: _Part, level: int) -> int:
        """How many additions one pass of a loop would write out; many if it cannot be said."""
        total = len(self.kinds)
        for axis in part.terms[level + 1 :]:
            total *= UNROLLED if any(axis.slopes) else axis.extent
        return total

    def _add(self, part: _Part, cursors: list[Cursor], values: list[str]) -> list[str]:
        """One term for every lane of the tile."""
        seen: dict[tuple[int, Spot], str] = {}
        return [self._term(part, cursors, k, value, seen) for k, value in enumerate(values)]

    def _term(
        self,
        part: _Part,
        cursors: list[Cursor],
        k: int,
        value: str,
        seen: dict[tuple[int, Spot], str],
    ) -> str:
        m = self.tile.arithmetic(self.tile.spots[k])
        left = self._number(part.left, cursors, k, seen)
        right = None
        if part.right is not None:
            right = self._number(part.right, cursors, k, seen)
        after = m.folded(self.step.op, value, left, right, part.minus)
        if right is None or not part.skip:
            return after
        for flag, factor in ((SKIP_RIGHT, right), (SKIP_LEFT, left)):
            if part.skip & flag:
                after = m.select(m.compare("oeq", factor, m.constant(0.0)), value, after)
        return after

    def _number(
        self,
        source: _Source,
        cursors: list[Cursor],
        k: int,
        seen: dict[tuple[int, Spot], str],
    ) -> str:
        if source.member >= 0:
            return self.earlier[source.member][k]
        spot = self.tile.spots[k]
        return self.tile.read(self.refs[source.ref], cursors[source.ref], spot, seen)


# --- other nests ---------------------------------------------------------------------------------


def _other(
    emitter: Emitter,
    cluster: Cluster,
    axes: tuple[Axis, ...],
    refs: Sequence[Ref],
    chosen: Plan,
    body: Callable[[Tile], None],
) -> Piece:
    """A nest whose body is written by a function; its result is the first of the refs."""
    own = 0 if cluster.batched and emitter.several else None
    split = divide(axes, refs[:1], refs, (), chosen, emitter.module.width, own)

    def write(function: Function, division: Division | None) -> None:
        Nest(function, axes, refs, chosen, split, division).run(body)

    reads, writes = _touched(cluster.reads), _touched(cluster.writes)
    unit = _unit(chosen, split, own, emitter.module.width)
    return Piece(write, reads, writes, split is not None, prod(typical(axes)), unit)


def _indicator(emitter: Emitter, cluster: Cluster) -> Piece:
    step = cluster.steps[0]
    assert isinstance(step, Indicator)
    batched = step.result.space.batched
    axes = emitter.axes(step.lanes, batched)
    result = emitter.bind(step.result, batched, step.lanes)
    index = emitter.bind(step.index, batched, step.lanes)
    candidate = _counting(step.candidate, batched)
    uses = [Use(index)] if candidate is None else [Use(index), Use(candidate)]
    chosen = plan(axes, [result], uses, emitter.machine)._replace(copies=frozenset(), width=1)

    def body(tile: Tile) -> None:
        function = tile.function
        for spot in tile.spots:
            m = tile.arithmetic(spot)
            kind = vector("i64", m.width)
            number = tile.fetch(index, tile.cursors[1], spot, "i64")
            if candidate is None:
                wanted = _counted(tile, step.candidate, batched, spot)
            else:
                wanted = _entries(tile, candidate, tile.cursors[2], spot)
            equal = function.emit(f"icmp eq {kind} {number}, {wanted}")
            value = m.select(equal, m.constant(1.0), m.constant(0.0))
            tile.write(result, tile.cursors[0], spot, value)

    return _other(emitter, cluster, axes, [result, *(use.ref for use in uses)], chosen, body)


def _counting(candidate: Operand, batched: bool) -> Ref | None:
    """Candidates that stand in the table, as a ref on the table itself."""
    if not candidate.indirect:
        return None
    strides = (0, *candidate.strides) if batched else candidate.strides
    beyond = (0,) * len(strides)
    return Ref(Space.TEMPORARY, candidate.base, strides, beyond, turns=candidate.moves)


def _entries(tile: Tile, ref: Ref, cursor: Cursor, spot: Spot) -> str:
    """The entries of the table themselves."""
    function, piece = tile.function, tile.parts[spot[1]]
    entries = []
    for lane in range(piece.valid if ref.step(tile.nest.plan.vector) is None else 1):
        table = tile.shifted(ref, cursor, spot, lane).table
        assert table is not None
        pointer = function.at("i32", table.pointer, table.offset)
        entry = function.emit(f"load i32, ptr {pointer}, align 4")
        entries.append(function.emit(f"sext i32 {entry} to i64"))
    if len(entries) == 1:
        return function.splat("i64", entries[0], piece.width)
    result, kind = "zeroinitializer", vector("i64", piece.width)
    for lane, entry in enumerate(entries):
        result = function.emit(f"insertelement {kind} {result}, i64 {entry}, i32 {lane}")
    return result


def _counted(tile: Tile, candidate: Operand, batched: bool, spot: Spot) -> str:
    """Candidates numbered by the counters."""
    function, piece = tile.function, tile.parts[spot[1]]
    strides = (0, *candidate.strides) if batched else candidate.strides
    first: Counter = function.add(candidate.base, function.distance(candidate.moves))
    for counter, stride in zip(tile.counters, strides):
        first = function.add(first, function.multiply(counter, stride))
    step = 0 if tile.nest.plan.vector is None else strides[tile.nest.plan.vector]
    first = function.add(first, piece.first * step)
    if isinstance(first, int):
        if piece.width == 1:
            return str(first)
        lanes = ", ".join(f"i64 {first + k * step}" for k in range(piece.width))
        return f"<{lanes}>"
    start = function.splat("i64", first, piece.width)
    if piece.width == 1 or not step:
        return start
    lanes = ", ".join(f"i64 {k * step}" for k in range(piece.width))
    return function.emit(f"add {vector('i64', piece.width)} {start}, <{lanes}>")


def _take(emitter: Emitter, cluster: Cluster) -> Piece:
    step = cluster.steps[0]
    assert isinstance(step, Take)
    batched = step.result.space.batched
    axes = emitter.axes(step.lanes, batched)
    result = emitter.bind(step.result, batched, step.lanes)
    index = emitter.bind(step.index, batched, step.lanes)
    loops = (*step.lanes, Loop(step.count))
    source = emitter.bind(step.source, batched, loops, len(step.lanes))
    uses = [Use(index), Use(source)]
    chosen = plan(axes, [result], uses, emitter.machine)._replace(copies=frozenset(), width=1)
    last = len(axes)

    def chosen_place(tile: Tile, spot: Spot, lane: int) -> Cursor:
        nest = tile.nest
        place = tile.shifted(index, tile.cursors[1], spot, lane)
        number = nest.load("i64", index, place)
        return nest.move(source, tile.cursors[2], last, number)

    def body(tile: Tile) -> None:
        nest, function = tile.nest, tile.function
        for spot in tile.spots:
            piece = tile.parts[spot[1]]
            if piece.width == 1 or index.step(chosen.vector) == 0:
                value = tile.fetch(source, chosen_place(tile, spot, 0), spot)
            else:
                kind, value = vector(nest.real, piece.width), "poison"
                for lane in range(piece.valid):
                    at = tile.shifted(source, chosen_place(tile, spot, lane), spot, lane)
                    one = nest.load(nest.real, source, at)
                    value = function.emit(
                        f"insertelement {kind} {value}, {nest.real} {one}, i32 {lane}"
                    )
            tile.write(result, tile.cursors[0], spot, value)

    return _other(emitter, cluster, axes, [result, index, source], chosen, body)


def _walk(emitter: Emitter, cluster: Cluster) -> Piece:
    step = cluster.steps[0]
    assert isinstance(step, Walk)
    return Piece(
        lambda function, _: serial.write(emitter, function, step),
        _touched(cluster.reads),
        _touched(cluster.writes),
    )


_PIECE: dict[type[Instruction], Callable[[Emitter, Cluster], Piece]] = {
    Indicator: _indicator,
    Take: _take,
    Walk: _walk,
}
