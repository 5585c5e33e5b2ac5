"""The code of sums: loops over the terms of all their segments, side by side for a tile's lanes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from .. import ops
from .gaps import PASS, Gaps, any_negative_zero, entries, entry
from .ir import PER_PASS, Counter, Module
from .loops import SKIP_LEFT, SKIP_RIGHT, Contract, Group
from .nests import Spot, Tile
from .places import Cursor, Known
from .reductions import joined, reduced, reducible
from .tiles import Axis, Ref, ragged

UNROLLED = 24  # a sum of so few terms, for all lanes of a tile together, is written out
# Terms that a pass of a loop adds, at least: with 32 vector registers, as AVX-512 has, or fewer.
_LEAST = 1, 4


class Source(NamedTuple):
    """Where an operand comes from: a ref of the nest, or an earlier result of the cluster."""

    ref: int = -1
    member: int = -1


class Part(NamedTuple):
    """A segment in memory: its operands, and the axes of its terms."""

    left: Source
    right: Source | None
    terms: tuple[Axis, ...]
    minus: bool
    skip: int


class Listed(NamedTuple):
    """A part of which only some terms are to be added, and the ref of the lists of them."""

    part: Part
    gaps: Gaps
    lists: int


def terms_at_once(module: Module, width: int, extent: int) -> int:
    """How many of so many terms a pass of a loop adds, for `width` sums."""
    times = next((n for n in (8, 4, 2) if n * width <= UNROLLED), 1)
    return min(max(times, _LEAST[module.registers < 32]), extent)


class Sums:
    """The sums of one tile while their code is written."""

    def __init__(
        self,
        tile: Tile,
        step: Contract,
        refs: Sequence[Ref],
        depth: int,
        earlier: Sequence[Sequence[str]],
        meanwhile: float = 0.0,
        listed: Listed | None = None,
        seen: dict[tuple[int, Spot], str] | None = None,
    ) -> None:
        """`meanwhile` is how many terms can be added while the CPU's divider has others' sums.

        Of the part that is `listed`, only those terms are added. `seen` is what was read in the tile
        outside of loops over terms.
        """
        self.tile, self.step, self.refs, self.depth = tile, step, refs, depth
        self.earlier, self.meanwhile, self.listed = earlier, meanwhile, listed
        self._seen = {} if seen is None else seen
        self.nest, self.function = tile.nest, tile.function
        self.kinds = [tile.arithmetic(spot).kind for spot in tile.spots]

    def start(self) -> list[str]:
        """What the sums start from."""
        return [self.tile.arithmetic(spot).constant(self.step.start) for spot in self.tile.spots]

    def group(self, group: Group, parts: Sequence[Part], values: list[str]) -> list[str]:
        """Add the terms of a group."""
        common = bool(group.over) + group.shared
        cursors = [list(self.tile.cursors)] * len(parts)
        return self._together(parts, 0, common, list(self.tile.counters), cursors, values)

    def _together(
        self,
        parts: Sequence[Part],
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
            known: Known = {}
            moved = [
                self._advanced(part, level, counter, own, known)
                for part, own in zip(parts, cursors)
            ]
            passed = [*counters, counter]
            return self._together(parts, level + 1, common, passed, moved, carried)

        return self.function.loop(parts[0].terms[level].extent, 1, self.kinds, values, inside)

    def _advanced(
        self,
        part: Part,
        level: int,
        counter: Counter,
        cursors: Sequence[Cursor],
        known: Known | None = None,
    ) -> list[Cursor]:
        """All cursors, those of a part moved by the counter of one of its loops."""
        moved, known = list(cursors), {} if known is None else known
        for place in {s.ref for s in (part.left, part.right) if s is not None and s.ref >= 0}:
            ref, axis = self.refs[place], self.depth + level
            moved[place] = self.nest.move(ref, cursors[place], axis, counter, known)
        return moved

    def _loops(
        self,
        part: Part,
        level: int,
        counters: list[Counter],
        cursors: list[Cursor],
        values: list[str],
    ) -> list[str]:
        if level == len(part.terms):
            return self._add(part, cursors, values)
        axis, across = part.terms[level], self.nest.plan.vector
        extent = self.nest.extent(axis, counters)
        if self.listed is not None and part is self.listed.part:
            return self._listed(self.listed, cursors, values)
        slope = 0 if across is None else axis.slope(across)
        if not slope:
            return self._even(part, level, extent, counters, cursors, values)
        # The terms that all lanes have, then those that some still have.
        low, high = self.tile.lanes()
        fewest = self.function.add(extent, slope * (low if slope > 0 else high - 1))
        values = self._even(part, level, fewest, counters, cursors, values)
        for k in range(abs(slope) * (high - low - 1)):
            gone = k // abs(slope) + 1
            moved = self._advanced(part, level, self.function.add(fewest, k), cursors)
            left = (low + gone, high) if slope > 0 else (low, high - gone)
            values = self._some(part, moved, left, values)
        return values

    def _some(
        self, part: Part, cursors: list[Cursor], lanes: tuple[int, int], values: list[str]
    ) -> list[str]:
        """One term more for some lanes of the tile."""
        tile, seen = self.tile.some(*lanes), dict[tuple[int, Spot], str]()
        sums = Sums(tile, self.step, self.refs, self.depth, self.earlier)
        after = list(values)
        for k, (_, number) in enumerate(tile.spots):
            piece = tile.parts[number]
            if piece.lanes:
                m, term = (
                    tile.arithmetic(tile.spots[k]),
                    sums.term(part, cursors, k, values[k], seen),
                )
                after[k] = m.select(self.nest.mask(piece), term, values[k])
        return after

    def _even(
        self,
        part: Part,
        level: int,
        extent: Counter,
        counters: list[Counter],
        cursors: list[Cursor],
        values: list[str],
    ) -> list[str]:
        """So many terms for all lanes of the tile."""

        def inside(counter: Counter, carried: list[str]) -> list[str]:
            moved = self._advanced(part, level, counter, cursors)
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
            return self._unrolled(part, extent, cursors, values)
        return self.function.loop(extent, 1, self.kinds, values, inside)

    def _reduced(
        self, part: Part, level: int, extent: int, cursors: list[Cursor], values: list[str]
    ) -> tuple[int, list[str]]:
        """The terms that share vectors added: how many these were, and the sums."""
        places = [s.ref for s in (part.left, part.right) if s is not None]
        factors = [(self.refs[k], cursors[k]) for k in places if k >= 0]
        refs, axis, op = [ref for ref, _ in factors], self.depth + level, self.step.op
        if part.skip or min(places) < 0 or not reducible(self.nest, refs, axis, extent):
            return 0, values
        width = self.nest.module.width
        partial = reduced(self.tile, op, part.minus, factors, axis, extent)
        spots = zip(self.tile.spots, values, partial)
        values = [joined(self.tile.arithmetic(spot), op, a, b) for spot, a, b in spots]
        return extent // width * width, values

    def _unrolled(
        self, part: Part, extent: int, cursors: list[Cursor], values: list[str]
    ) -> list[str]:
        """The innermost loop, a few terms at a time where a tile alone is too little work."""
        level = len(part.terms) - 1
        module, width = self.nest.module, len(self.kinds)
        times = terms_at_once(module, width, extent)
        whole = extent // times * times

        # In fast mode terms of a pass have sums of their own, as many as registers hold besides
        # what is read: additions need not wait in line. (Where all wait for the divider, what
        # counts is how few instructions there are.)
        apart = 1
        if module.fast and self.step.op == ops.ADD and extent > self.meanwhile:
            apart = max(min(times, module.registers * 3 // 4 // width), 1)
        nothing = [self.tile.arithmetic(spot).constant(-0.0) for spot in self.tile.spots]

        def several(counter: Counter, carried: list[str]) -> list[str]:
            sums = [carried[k * width : (k + 1) * width] for k in range(apart)]
            self.function.ride(PER_PASS)
            moved = self._advanced(part, level, counter, cursors)
            for k in range(times):
                term = self._advanced(part, level, k, moved)
                sums[k % apart] = self._add(part, term, sums[k % apart])
            return [value for part in sums for value in part]

        carried = self.function.loop(
            whole, times, self.kinds * apart, values + nothing * (apart - 1), several
        )
        values = self._joined([carried[k * width : (k + 1) * width] for k in range(apart)])
        for k in range(whole, extent):
            values = self._add(part, self._advanced(part, level, k, cursors), values)
        return values

    def _listed(self, listed: Listed, cursors: list[Cursor], values: list[str]) -> list[str]:
        """The terms of a part that are listed, or all of them where a sum comes to them as -0.0."""
        function, kind = self.function, entries(self.function)
        every = ""
        # What starts with 0.0 is never -0.0, and to fast mode zeros are all the same.
        if not self.nest.module.fast and math.copysign(1.0, self.step.start) < 0.0:
            every = any_negative_zero(function, values, self.tile.parts[0].width)
        count, first = listed.gaps.listed(self.tile, self.tile.cursors[listed.lists], every)

        def read(first: str, counter: Counter, times: int) -> list[str]:
            return [entry(function, first, function.add(counter, k)) for k in range(times)]

        def through(first: str, stop: Counter, times: int, values: list[str]) -> list[str]:
            def several(counter: Counter, carried: list[str]) -> list[str]:
                now, carried = carried[:times], carried[times:]
                # Read a pass ahead: so what is at these places is on its way in time.
                after = read(first, function.add(counter, times), times)
                for number in now:
                    moved = self._advanced(
                        listed.part, 0, listed.gaps.term(function, number), cursors
                    )
                    carried = self._add(listed.part, moved, carried)
                return [*after, *carried]

            kinds, ahead = [kind] * times + self.kinds, read(first, 0, times)
            return function.loop(stop, times, kinds, ahead + values, several)[times:]

        if len(values) < self.nest.plan.height:
            return through(
                first, count, 1, values
            )  # of the last rows, it takes no time to speak of
        whole = function.emit(f"and i64 {count}, {-PASS}")
        values = through(first, whole, PASS, values)
        rest = function.subtract(count, whole)
        return through(function.at(self.nest.real, first, whole), rest, 1, values)

    def some(self, part: Part, first: Counter, count: int, values: list[str]) -> list[str]:
        """Add so many terms of a part with one loop, from the `first` on."""
        moved = self._advanced(part, 0, first, self.tile.cursors)
        for k in range(count):
            values = self._add(part, self._advanced(part, 0, k, moved), values)
        return values

    def rest(self, part: Part, first: int, values: list[str]) -> list[str]:
        """Add all terms of a part with one loop from the `first` on."""
        left = part.terms[0].extent - first
        if left * len(values) <= UNROLLED:
            return self.some(part, first, left, values)
        return self._unrolled(part, left, self._advanced(part, 0, first, self.tile.cursors), values)

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

    def _inner(self, part: Part, level: int) -> int:
        """How many additions one pass of a loop would write out; many if it cannot be said."""
        total = len(self.kinds)
        for axis in part.terms[level + 1 :]:
            total *= UNROLLED if ragged(axis) else axis.extent
        return total

    def _add(self, part: Part, cursors: list[Cursor], values: list[str]) -> list[str]:
        """One term for every lane of the tile."""
        seen: dict[tuple[int, Spot], str] = {} if part.terms else self._seen
        return [self.term(part, cursors, k, value, seen) for k, value in enumerate(values)]

    def term(
        self,
        part: Part,
        cursors: list[Cursor],
        k: int,
        value: str,
        seen: dict[tuple[int, Spot], str],
    ) -> str:
        """A sum with one more term, at a spot of the tile; what was `seen` is not read again."""
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
        source: Source,
        cursors: list[Cursor],
        k: int,
        seen: dict[tuple[int, Spot], str],
    ) -> str:
        if source.member >= 0:
            return self.earlier[source.member][k]
        spot = self.tile.spots[k]
        return self.tile.read(self.refs[source.ref], cursors[source.ref], spot, seen)
