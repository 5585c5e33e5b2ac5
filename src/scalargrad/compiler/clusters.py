"""Nests of sums and operations: the instructions of a cluster in the loops that they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from .. import ops
from . import vectormath
from .arithmetic import FORMS, Arithmetic, heavy, lane_by_lane
from .binding import Binder, Piece, touched, unit_of
from .fuse import Cluster, divides
from .ir import Function
from .loops import Apply, Contract, Group, Instruction, Loop, Operand, Segment, Space
from .nests import Block, Nest, Spot, Tile, copy_block
from .phases import Touched
from .sums import Listed, Part, Source, Sums
from .tiles import (
    Axis,
    Division,
    Plan,
    Ref,
    Use,
    collapse,
    divide,
    in_panels,
    narrow,
    panel,
    plan,
    typical,
)

_EXACT, _FAST = 40.0, 12.0  # cycles of exp and its like: for a number, and for a vector of them
# Vectors of terms that are added in the time of one of quotients or roots: with 32 vector
# registers, as AVX-512 has, or fewer.
_DIVIDER = 6.0, 13.0
_CIRCLE = ops.SIN, ops.COS

# What is listed is worth it from so many tiles for each vector on, and so many products in all.
_TILES, _MANY = 8, 1 << 20


@dataclass
class _Member:
    """An instruction of a cluster, bound to memory."""

    step: Contract | Apply
    result: int
    stored: bool
    operands: list[Source] = field(default_factory=list)
    groups: list[tuple[Group, list[Part]]] = field(default_factory=list)
    before: Source | None = None  # what a resumed sum starts from


@dataclass(frozen=True, slots=True)
class _Spare:
    """Another way to run a nest: by lists of the terms of a part."""

    axes: tuple[Axis, ...]
    refs: list[Ref]
    plan: Plan
    listed: Listed


class ClusterCode:
    """A cluster bound to memory, and its code."""

    def __init__(self, binder: Binder, cluster: Cluster) -> None:
        self.binder = binder
        self.reads, self.writes = touched(cluster.reads), touched(cluster.writes)
        first = cluster.steps[0]
        assert isinstance(first, Contract | Apply)
        self.batched = first.result.space.batched
        # Workers divide the examples, where there are any.
        self.own = 0 if self.batched and binder.several else None
        self.loops, self.lanes = first.lanes, len(first.lanes)
        self.axes = binder.axes(first.lanes, self.batched)
        self.uses: list[Use] = []
        self._known: dict[Use, int] = {}
        self._owner: dict[Operand, int] = {}
        self.each = 1  # how many examples a step along their axis is
        self.inverse: dict[int, str] = {}
        self.circular: dict[int, int] = {}
        self.quick, self.divider = False, 0.0
        self.waiting: list[Block] = []
        self.members = [
            self._member(k, step, k not in cluster.dead) for k, step in enumerate(cluster.steps)
        ]
        if binder.module.pairs or binder.module.circles:
            self._pair_angles()
        self._plan()

    def _pair_angles(self) -> None:
        """Sines and cosines of the same angles, which are computed at once: 0 or 1 for each."""
        found: list[dict[Source, int]] = [{}, {}]
        for number, member in enumerate(self.members):
            if isinstance(member.step, Apply) and member.step.op in _CIRCLE:
                found[_CIRCLE.index(member.step.op)][member.operands[0]] = number
        for source in found[0].keys() & found[1].keys():
            self.circular |= {numbers[source]: which for which, numbers in enumerate(found)}

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
    ) -> Source:
        own = operand
        if len(operand.strides) > self.lanes and not any(operand.strides[self.lanes :]):
            own = operand._replace(strides=operand.strides[: self.lanes])
        if own in self._owner:
            return Source(member=self._owner[own])
        ref = self.binder.bind(operand, self.batched, (*self.loops, *inner), self.lanes, over)
        return Source(self._use(ref, terms))

    def _member(self, number: int, step: Instruction, stored: bool) -> _Member:
        assert isinstance(step, Contract | Apply)
        result = self._use(self.binder.bind(step.result, self.batched, self.loops))
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

    def _part(self, segment: Segment, over: int) -> Part:
        terms = self.binder.terms(segment, self.batched, self.lanes, over)
        left = self._source(segment.left, terms, segment.loops, over)
        right = None
        if segment.right is not None:
            right = self._source(segment.right, terms, segment.loops, over)
        return Part(left, right, terms, segment.minus, segment.skip)

    def _plan(self) -> None:
        binder, axes = self.binder, self.axes
        refs = [use.ref for use in self.uses]
        results = {member.result for member in self.members}
        first = refs[self.members[0].result]
        padded = self.batched and bool(axes) and first.padded
        if padded and all(ref.padded or not ref.moves(0) for ref in refs):
            axes = (Axis(binder.padded), *axes[1:])
        straight = not any(any(axis.slopes) for use in self.uses for axis in use.terms)
        if straight and len(axes) > 1:
            axes, moved = collapse(axes, refs, self.own)
            refs = list(moved)
        uses = [Use(ref, use.terms) for ref, use in zip(refs, self.uses)]
        operands = [k for k in range(len(uses)) if k not in results]
        stored = [refs[member.result] for member in self.members if member.stored]
        module = binder.module
        calls = any(
            isinstance(m.step, Apply) and lane_by_lane(module, m.step.op, m.step.const)
            for m in self.members
        )
        # The CPUs with vectors of 32 bytes and more are those that can mask them.
        masks = module.width * module.size >= 32 and not calls
        read = [uses[k] for k in operands]
        waits = module.divides * sum(divides(m.step) for m in self.members)
        self.divider = divider = _DIVIDER[module.registers < 32] * waits
        chosen = plan(axes, stored or [first], read, binder.machine, masks, self.own, divider)
        long = sum(
            8 if isinstance(m.step, Apply) and heavy(m.step.op, m.step.const) else 1
            for m in self.members
        )
        if all(not use.terms for use in uses):
            chosen = chosen._replace(width=min(chosen.width, max(8 // long, 1)))
        size = panel(axes, read, chosen, module.width)
        if size > 1:
            self.each = size if chosen.vector == self.own else 1
            axes, refs, chosen = in_panels(axes, refs, chosen, size)
            read = [Use(refs[k], uses[k].terms) for k in operands]
        sources, made = list(refs), len(binder.pieces)
        copied, places = binder.copies(
            axes, read, chosen, self.reads, self.waiting, self.own, self.each
        )
        self.reads += tuple(places)
        for k, ref in zip(operands, copied):
            refs[k] = ref
        self.refs, self.axes, self.plan = refs, axes, chosen
        self.spare: _Spare | None = None
        few = module.registers < 32  # with more come wider vectors, of which fewer are all zero
        if few and size > 1 and chosen.rows is not None and not binder.written:
            copies = dict(zip([operands[k] for k in sorted(chosen.copies)], places))
            self.spare = self._spared(copies, sources, made)
        stored = [refs[member.result] for member in self.members if member.stored]
        self.split = divide(axes, stored, refs, uses, chosen, binder.module.width, self.own)

    def _spared(
        self, copies: Mapping[int, Touched], sources: list[Ref], made: int
    ) -> _Spare | None:
        """Another way, if terms of the caller's numbers may be zero for whole vectors of them.

        `sources` are the refs before some were copied, by the pieces from number `made` on.
        """
        axes, refs, plan = narrow(self.axes, self.refs, self.plan, self.binder.machine)
        _, sources, _ = narrow(self.axes, sources, self.plan, self.binder.machine)
        assert plan.vector is not None
        assert plan.rows is not None
        first, depth = plan.vector - 2, len(axes)
        if axes[plan.rows].extent < _TILES * plan.height:
            return None
        for part in self._long_parts():
            found = [s.ref for s in (part.left, part.right) if s is not None and s.ref in copies]
            given = [k for k in found if self.uses[k].ref.slot == Space.EXAMPLE]
            # What others read of the same copy has to be there in any case.
            if not given or list(copies.values()).count(copies[given[0]]) > 1:
                continue
            source = sources[given[0]]
            if any(source.strides[k] for k in range(depth) if not first <= k <= plan.vector):
                continue
            binder, alone = self.binder, plan._replace(copies=frozenset((0,)))
            [copy], [place] = binder.copies(
                axes,
                [Use(source, part.terms)],
                alone,
                self.reads,
                self.waiting,
                self.own,
                self.each,
            )

            def by_term(ref: Ref, *more: int) -> Ref:
                steps = (*ref.strides[first : plan.vector], ref.strides[depth], *more)
                return ref._replace(strides=steps)

            shape = axes[first].extent, axes[first + 1].extent, part.terms[0].extent
            both = copies[given[0]], place
            own = by_term(source, source.strides[plan.vector])
            gaps, places = binder.gaps(own, by_term(copy), both, shape, made)
            self.reads += places
            steps = [0] * depth
            steps[first : first + 2] = gaps.lists.strides[:2]
            refs[given[0]] = copy
            lists = gaps.lists._replace(strides=tuple(steps))
            return _Spare(axes, [*refs, lists], plan, Listed(part, gaps, len(refs)))
        return None

    def _long_parts(self) -> Iterator[Part]:
        """The products that a sum has in one loop, if there are many in all."""
        numbers = prod(axis.extent for axis in self.axes)
        for member in self.members:
            for group, parts in member.groups:
                assert isinstance(member.step, Contract)
                alone = len(parts) == 1 or not (group.over or group.shared)
                for part in parts if alone and member.step.op == ops.ADD else ():
                    if part.right is not None and len(part.terms) == 1:
                        terms = part.terms[0].extent
                        if terms * numbers >= _MANY:
                            yield part

    def piece(self) -> Piece:
        """The cluster, ready to be written."""
        unit = self.each * unit_of(self.plan, self.split, self.own, self.binder.module.width)
        split = self.split is not None
        return Piece(self.write, self.reads, self.writes, split, self._cycles(), unit)

    def _cycles(self) -> float:
        module, total = self.binder.module, 0.0
        lanes = 1 if self.plan.vector is None else module.width
        for member in self.members:
            numbers = prod(typical(self.axes))
            if isinstance(member.step, Apply) and heavy(member.step.op, member.step.const):
                calls = lane_by_lane(module, member.step.op, member.step.const)
                total += numbers * (_EXACT if calls else _FAST / lanes)
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
        spare = self.spare

        def usual() -> list[str]:
            nest = Nest(function, self.axes, self.refs, self.plan, self.split, division)
            self._run(nest, None)
            return []

        def listed() -> list[str]:
            assert spare is not None
            at = self.split
            if at is not None and self.plan.vector is not None and at > self.plan.vector:
                at += 1  # beyond the axis that was cut
            nest = Nest(function, spare.axes, spare.refs, spare.plan, at, division)
            self._run(nest, spare.listed)
            return []

        if spare is None:
            usual()
        else:
            function.choose(spare.listed.gaps.exist(function), [], listed, usual)

    def _run(self, nest: Nest, listed: Listed | None) -> None:
        self.nest, self.listed, self.inverse = nest, listed, {}
        written = {nest.refs[member.result] for member in self.members}
        nest.keep(ref for ref in nest.refs if ref not in written)
        if self.binder.module.fast:
            self._invert_divisors()
            self._spare_the_divider()
        nest.run(self._body)

    def _invert_divisors(self) -> None:
        """Divide once by what all lanes are divided by, and multiply."""
        one = self.nest.arithmetic(1)
        for number, member in enumerate(self.members):
            if not isinstance(member.step, Apply) or member.step.op != ops.DIV:
                continue
            divisor = member.operands[1]
            ref = self.nest.refs[divisor.ref]
            axes = range(len(self.nest.axes))
            if divisor.member < 0 and len(axes) and not any(ref.moves(k) for k in axes):
                scalar = self.nest.load(self.nest.real, ref, self.nest.start(ref))
                self.inverse[number] = one.divide(one.constant(1.0), scalar)

    def _spare_the_divider(self) -> None:
        """Divide by products where all would wait for the CPU's one divider."""
        operations = [m for m in self.members if isinstance(m.step, Apply)]
        divisors = [m.operands[1] for m in operations if m.step.op == ops.DIV]
        self.quick = len(set(divisors)) < len(divisors)

    def _quotient(self, m: Arithmetic, a: str, b: str, known: dict[str, str]) -> str:
        """a / b; `known` are the reciprocals computed so far."""
        if not self.quick:
            return m.divide(a, b)
        if b not in known:
            known[b] = vectormath.reciprocal(m, b)
        return m.multiply(a, known[b])

    def _body(self, tile: Tile) -> None:
        values: list[list[str]] = []
        known: dict[str, str] = {}
        circle: dict[Source, list[tuple[str, str]]] = {}
        seen: dict[tuple[int, Spot], str] = {}

        def number(source: Source, k: int) -> str:
            if source.member >= 0:
                return values[source.member][k]
            return tile.read(
                self.nest.refs[source.ref], tile.cursors[source.ref], tile.spots[k], seen
            )

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
            elif k in self.circular:
                source = member.operands[0]
                if source not in circle:
                    circle[source] = [
                        m.sine_and_cosine(number(source, j))
                        for j, m in enumerate(map(tile.arithmetic, tile.spots))
                    ]
                computed = [pair[self.circular[k]] for pair in circle[source]]
            elif isinstance(member.step, Apply):
                form, const = FORMS[member.step.op], member.step.const
                computed = [
                    form(tile.arithmetic(spot), *(number(x, k) for x in member.operands), const)
                    for k, spot in enumerate(tile.spots)
                ]
            else:
                depth = len(self.nest.axes)
                sums = Sums(
                    tile, member.step, self.nest.refs, depth, values, self.divider, self.listed
                )
                if member.before is None:
                    computed = sums.start()
                else:
                    computed = [number(member.before, k) for k in range(len(tile.spots))]
                for group, parts in member.groups:
                    computed = sums.group(group, parts, computed)
            values.append(computed)
            if member.stored:
                tile.store(self.nest.refs[member.result], tile.cursors[member.result], computed)
