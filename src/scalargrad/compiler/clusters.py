"""Nests of sums and operations: the instructions of a cluster in the loops that they share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import lcm, prod

from .. import ops
from . import vectormath
from .arithmetic import FORMS, Arithmetic, heavy, lane_by_lane
from .binding import Begin, Binder, Piece, Ride, Room, touched, unit_of
from .copying import Block, copy_block, examples_at_once
from .fuse import Cluster, divides
from .ir import PER_PASS, PER_TILE, Function
from .loops import IN_OUT, Apply, Contract, Group, Instruction, Loop, Operand, Segment, Space
from .moulds import Mould, mould_of
from .nests import Nest, Spot, Tile
from .phases import Touched
from .plans import divide, narrow, plan
from .riders import Rider
from .sums import Listed, Part, Source, Sums, terms_at_once
from .tiles import (
    Axis,
    Division,
    Plan,
    Ref,
    Use,
    collapse,
    in_panels,
    panel,
    ragged,
    tiles,
    typical,
)
from .totals import Total, backwards, depends, holds

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


def _repeats(member: _Member) -> bool:
    """Whether what a member computes may be computed again: it reads nothing that is written."""
    resumes = isinstance(member.step, Contract) and member.step.resume
    return not resumes and member.step.result.space not in IN_OUT


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
        if binder.module.pairs or binder.module.approximates:
            self._pair_angles()
        self._plan()
        self.totals: list[Total] = []
        self.absorbed: list[Cluster] = []

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
        straight = not any(ragged(axis) for use in self.uses for axis in use.terms)
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
        again = not calls and all(map(_repeats, self.members))
        chosen = plan(
            axes, stored or [first], read, binder.machine, masks, self.own, divider, again
        )
        if self.own is not None:
            chosen = binder.fitted(chosen, self.own)
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
        # How many examples make a tile of the nest, and of each copy made in it; and of all.
        units = [unit_of(chosen, self.split, self.own, module.width)]
        units += [examples_at_once(block, module.width) for block in self.waiting]
        self.units = [self.each * unit for unit in units]
        self.unit = lcm(*self.units)

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

    def absorb(self, cluster: Cluster) -> bool:
        """Compute a sum over the examples in these loops, if they suit it."""
        step, binder, lanes = cluster.steps[0], self.binder, self.binder.module.width
        assert isinstance(step, Contract)
        axes = binder.axes(self.loops, self.batched)
        if self.own is not None or self.spare is not None or axes != self.axes:
            return False
        if any(depends(cluster, other) for other in self.absorbed):
            return False
        if not holds(axes, self.refs, self.plan, lanes):
            return False
        if self.totals and self.totals[0].step.groups[-1].over != step.groups[-1].over:
            return False
        known = len(self.uses)
        *before, last = step.groups
        part = self._part(last.segments[0], 0)
        sources = [source.ref for source in (part.left, part.right) if source is not None]
        refs = [self.refs[k] if k < known else self.uses[k].ref for k in sources if k >= 0]
        if any(ref.step(self.plan.vector) not in (0, 1) for ref in refs):
            for use in self.uses[known:]:
                del self._known[use]
            del self.uses[known:]
            return False
        groups = [(g, [self._part(segment, 0) for segment in g.segments]) for g in before]
        result = self._use(binder.bind(step.result, True, self.loops))
        first = Source(result) if step.resume else None
        self.totals.append(Total(step, result, first, groups, part))
        self.absorbed.append(cluster)
        added = [use.ref for use in self.uses[len(self.refs) :]]
        if last.over < 0:
            if len(self.totals) == 1:
                self.refs = [backwards(ref, binder.batch) for ref in self.refs]
            added = [backwards(ref, binder.batch) for ref in added]
        self.refs += added
        self.reads += touched(cluster.reads)
        self.writes += touched(cluster.writes)
        return True

    def piece(self) -> Piece:
        """The cluster, ready to be written."""
        return Piece(
            self.write,
            self.reads,
            self.writes,
            self.split is not None,
            self._cycles(),
            self.unit,
            self._ride(),
            self._rooms(),
            self._carry,
            mould=self._mould,
        )

    def _mould(self) -> Mould | None:
        if self.spare is not None or self.totals or self.waiting:
            return None
        members = tuple(map(self._described, self.members))
        return mould_of(self.binder.module, self.refs, self.axes, self.plan, self.split, members)

    def _described(self, member: _Member) -> Hashable:
        """All that the code of a member depends on."""
        step = member.step
        number = step.const if isinstance(step, Apply) else step.start
        return (
            *(type(step), step.op, self.binder.module.written(number), member.before),
            *(member.result, member.stored, *member.operands),
            *((group.over, group.shared, *parts) for group, parts in member.groups),
        )

    def _tiles(self) -> int:
        """How many tiles there are; 0 if only the running program knows."""
        if any(map(ragged, self.axes)):
            return 0
        lanes = self.binder.module.width
        axes = range(len(self.axes))
        return prod(tiles(axis, self.axes, self.refs, self.plan, lanes) for axis in axes)

    def _ride(self) -> Ride | None:
        """The sum of the cluster, if it is one vector, whose additions wait in line."""
        first, module = self.members[0], self.binder.module
        vectors = prod(typical(self.axes)) / (1 if self.plan.vector is None else module.width)
        # In fast mode several parts of a sum are under way.
        if module.fast or self.spare or not first.groups or self._tiles() != 1 or vectors > 1:
            return None
        _, parts = first.groups[-1]
        if len(parts) != 1 or len(parts[0].terms) != 1 or ragged(parts[0].terms[0]):
            return None
        return Ride(parts[0].terms[0].extent, self._begin)

    def _rooms(self) -> tuple[Room, ...]:
        """Where other sums can be written into the code."""
        count = self._tiles()
        if not count or self.spare is not None:
            return ()
        rooms = [Room(PER_TILE, count, self._cycles() / count)]
        sums = self.plan.height * self.plan.width
        for _, parts in self.members[0].groups:
            for part in parts:
                extents = [0 if ragged(axis) else axis.extent for axis in part.terms]
                if extents and all(extents):
                    together = terms_at_once(self.binder.module, sums, extents[-1])
                    passes = count * prod(extents[:-1]) * (extents[-1] // together)
                    rooms.append(Room(PER_PASS, passes, float(together * sums)))
        return tuple(rooms)

    def _cycles(self) -> float:
        module, total = self.binder.module, 0.0
        lanes = 1 if self.plan.vector is None else module.width
        numbers = prod(typical(self.axes))
        total += len(self.totals) * numbers / lanes
        for member in self.members:
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
        spare = self.spare
        own = None if division is None else division.finer(self.unit, self.units[0])
        self._copy(function, division)

        def usual() -> list[str]:
            self._open(Nest(function, self.axes, self.refs, self.plan, self.split, own), None)
            self._run()
            return []

        def listed() -> list[str]:
            assert spare is not None
            at = self.split
            if at is not None and self.plan.vector is not None and at > self.plan.vector:
                at += 1  # beyond the axis that was cut
            self._open(
                Nest(function, spare.axes, spare.refs, spare.plan, at, division), spare.listed
            )
            self._run()
            return []

        if spare is None:
            usual()
        else:
            function.choose(spare.listed.gaps.exist(function), [], listed, usual)

    def _run(self) -> None:
        self.nest.run(self._body, self._whole if self.totals else None)

    def _whole(self, first: Tile, loops: Callable[[], None]) -> None:
        """Sum over the examples that the loops go through."""
        function, before = self.nest.function, self.nest.function.passengers
        for total in self.totals:
            total.begin(*self._started(first, total, [], {}))
        function.passengers = [*before, *self.totals]
        loops()
        function.passengers = before
        for total in self.totals:
            first.store(self.refs[total.result], first.cursors[total.result], total.state)

    def _carry(self, function: Function, begin: Sequence[Begin]) -> None:
        """Write the code, and others' sums with it."""
        riders = [each(function) for each in begin]
        self._copy(function)
        self._open(Nest(function, self.axes, self.refs, self.plan), None)
        function.passengers = riders
        self._run()
        function.passengers = ()
        for rider in riders:
            rider.finish()

    def _begin(self, function: Function, place: int, each: int) -> Rider:
        """Write what comes before the sum, so many terms of which are to be added at a place."""
        self._copy(function)
        self._open(Nest(function, self.axes, self.refs, self.plan), None)
        found: list[Tile] = []
        self.nest.run(found.append)
        [tile] = found
        *before, (_, [part]) = self.members[0].groups
        sums, values = self._started(tile, self.members[0], [], {})
        for group, parts in before:
            values = sums.group(group, parts, values)
        return Rider(sums, part, values, place, each, partial(self._compute, tile, {}))

    def _copy(self, function: Function, division: Division | None = None) -> None:
        for block, unit in zip(self.waiting, self.units[1:]):
            copy_block(
                function, block, None if division is None else division.finer(self.unit, unit)
            )

    def _open(self, nest: Nest, listed: Listed | None) -> None:
        self.nest, self.listed, self.inverse = nest, listed, {}
        results = [m.result for m in self.members] + [total.result for total in self.totals]
        written = {nest.refs[result] for result in results}
        nest.keep(ref for ref in nest.refs if ref not in written)
        if self.binder.module.fast:
            self._invert_divisors()
            self._spare_the_divider()

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

    def _started(
        self,
        tile: Tile,
        member: _Member | Total,
        earlier: list[list[str]],
        seen: dict[tuple[int, Spot], str],
    ) -> tuple[Sums, list[str]]:
        """The sums of a member, and the numbers that they start from."""
        assert isinstance(member.step, Contract)
        depth = len(self.nest.axes)
        sums = Sums(
            tile, member.step, self.nest.refs, depth, earlier, self.divider, self.listed, seen
        )
        if member.before is None:
            return sums, sums.start()
        ref, cursor = self.nest.refs[member.before.ref], tile.cursors[member.before.ref]
        return sums, [tile.read(ref, cursor, spot, seen) for spot in tile.spots]

    def _body(self, tile: Tile) -> None:
        """Write the code of a tile."""
        # Short code for one vector after the other leaves registers for sums.
        parts = [part for m in self.members for _, parts in m.groups for part in parts]
        apart = self.totals and not any(part.terms for part in parts)
        seen: dict[tuple[int, Spot], str] = {}
        for part in map(tile.alone, tile.spots) if apart else (tile,):
            self._compute(part, seen)

    def _compute(
        self, tile: Tile, seen: dict[tuple[int, Spot], str], first: list[str] | None = None
    ) -> None:
        """Write the code of a tile, in which some numbers were `seen` already.

        `first` is what its first instruction has computed.
        """
        values: list[list[str]] = []
        known: dict[str, str] = {}
        circle: dict[Source, list[tuple[str, str]]] = {}

        def number(source: Source, k: int) -> str:
            if source.member >= 0:
                return values[source.member][k]
            return tile.read(
                self.nest.refs[source.ref], tile.cursors[source.ref], tile.spots[k], seen
            )

        for k, member in enumerate(self.members):
            if k == 0 and first is not None:
                computed = first
            elif k in self.inverse:
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
                sums, computed = self._started(tile, member, values, seen)
                for group, parts in member.groups:
                    computed = sums.group(group, parts, computed)
            values.append(computed)
            if member.stored:
                tile.store(self.nest.refs[member.result], tile.cursors[member.result], computed)
        for total in self.totals:
            sums = Sums(tile, total.step, self.nest.refs, len(self.nest.axes), values)
            total.add(sums, tile, seen)
