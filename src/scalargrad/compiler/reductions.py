"""Sums whose terms share vectors, for fast mode.

A nest of few lanes with many terms each has no lanes to fill a vector register. There neighbouring
terms fill it, several registers are summed side by side, and their lanes are added at the end. So
it is, too, where lanes are not neighbours in memory but terms are; as many lanes as a register
holds then have their registers added up together, and what follows has them in one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import ops
from .arithmetic import FORMS, Arithmetic
from .ir import Counter, vector
from .nests import Nest, Spot, Tile
from .places import Cursor
from .stores import some_lanes
from .tiles import Piece, Ref

SUMS = 4  # registers side by side, so that none waits for the one before
NOTHING = {ops.ADD: -0.0, ops.MAXIMUM: -math.inf, ops.MINIMUM: math.inf}


def reducible(nest: Nest, factors: Sequence[Ref], axis: int, extent: int) -> bool:
    """Whether the terms along an axis can share vectors."""
    whole, lanes = nest.plan.turned, nest.module.width
    if not nest.module.fast or (nest.plan.vector is not None and not whole):
        return False
    steps = {factor.step(axis) for factor in factors}
    return extent >= (1 if whole else 2) * lanes > 1 and steps <= {-1, 0, 1} and steps != {0}


def joined(m: Arithmetic, op: int, a: str, b: str) -> str:
    """Two partial results of a fold as one."""
    return m.add(a, b) if op == ops.ADD else FORMS[op](m, a, b, 0.0)


def reduced(
    tile: Tile,
    op: int,
    minus: bool,
    factors: Sequence[tuple[Ref, Cursor]],
    axis: int,
    extent: int,
) -> list[str]:
    """The terms along an axis folded, as many as fill whole vectors: the results of each spot."""
    fold = _Fold(tile, op, minus, factors, axis)
    return fold.by_spot(fold.run(extent // tile.nest.module.width))


class _Fold:
    """Folds of a tile whose terms along an axis share vectors: one for each lane of each spot."""

    def __init__(
        self,
        tile: Tile,
        op: int,
        minus: bool,
        factors: Sequence[tuple[Ref, Cursor]],
        axis: int,
    ) -> None:
        self.tile, self.nest, self.function = tile, tile.nest, tile.function
        self.op, self.minus, self.factors, self.axis = op, minus, factors, axis
        self.lanes, self.across = tile.nest.module.width, tile.nest.plan.vector
        self.m = tile.nest.arithmetic(self.lanes)
        self.sums = [
            (spot, lane) for spot in tile.spots for lane in range(tile.parts[spot[1]].valid)
        ]
        # Where all factors run backwards, they meet without being reversed.
        self.backwards = all(ref.step(axis) != 1 for ref, _ in factors)

    def run(self, count: int) -> list[str]:
        """The folds of so many vectors of terms, all lanes of each together."""
        width, lanes = len(self.sums), self.lanes
        side = min(count, max(SUMS // width, 1))

        def several(counter: Counter, carried: list[str]) -> list[str]:
            after: list[str] = []
            for k in range(side):
                at = self.function.add(counter, k * lanes)
                after += self._step(carried[k * width : (k + 1) * width], at)
            return after

        start = [self.m.constant(NOTHING[self.op])] * (side * width)
        stop = count // side * side * lanes
        kinds = [self.m.kind] * len(start)
        totals = self.function.loop(stop, side * lanes, kinds, start, several)
        for at in range(stop, count * lanes, lanes):
            totals[:width] = self._step(totals[:width], at)
        return [_together(self.m, self.op, totals[k::width]) for k in range(width)]

    def by_spot(self, totals: list[str]) -> list[str]:
        """The lanes of each total folded; with a vector of sums for each spot, side by side."""
        if self.across is None:
            return [_total(self.nest, self.op, total) for total in totals]
        results = []
        for spot in self.tile.spots:
            piece = self.tile.parts[spot[1]]
            own, totals = totals[: piece.valid], totals[piece.valid :]
            own += [self.m.constant(NOTHING[self.op])] * (self.lanes - piece.valid)
            every = turned(self.m, self.op, own)
            lanes = some_lanes(self.function, self.nest.real, every, self.lanes, 0, piece.width)
            results.append(lanes)
        return results

    def _step(self, totals: Sequence[str], at: Counter) -> list[str]:
        """One vector of terms, from `at` on, folded into each total."""
        seen: dict[tuple[int, Spot, int], str] = {}

        def read(ref: Ref, cursor: Cursor, spot: Spot, lane: int) -> str:
            own = self.across is not None and ref.moves(self.across)
            key = id(ref), self.tile.key(ref, spot), lane if own else 0
            if key not in seen:
                seen[key] = self._fetch(ref, cursor, spot, lane, at)
            return seen[key]

        after = []
        for (spot, lane), total in zip(self.sums, totals):
            left, *right = [read(ref, cursor, spot, lane) for ref, cursor in self.factors]
            other = right[0] if right else None
            after.append(self.m.folded(self.op, total, left, other, self.minus))
        return after

    def _fetch(self, ref: Ref, cursor: Cursor, spot: Spot, lane: int, at: Counter) -> str:
        """The numbers of a factor for a vector of terms."""
        if ref.number is not None:
            return self.m.constant(ref.number)
        nest, lanes, step = self.nest, self.lanes, ref.step(self.axis)
        first = self.function.add(at, lanes - 1) if step == -1 else at
        place = nest.move(ref, self.tile.shifted(ref, cursor, spot, lane), self.axis, first)
        if step == 0:
            return self.m.splat(nest.load(nest.real, ref, place))
        numbers = nest.load_vector(nest.real, ref, place, Piece(0, lanes, lanes))
        if self.backwards or step == 1:
            return numbers
        return self.tile.reversed(nest.real, numbers, lanes)


def _together(m: Arithmetic, op: int, parts: Sequence[str]) -> str:
    """Partial results folded, lane by lane."""
    total = parts[0]
    for other in parts[1:]:
        total = joined(m, op, total, other)
    return total


def _total(nest: Nest, op: int, total: str) -> str:
    """All lanes of a register folded into one number."""
    width = nest.module.width
    while width > 1:
        full, half = vector(nest.real, width), width // 2
        parts = []
        for first in (0, half):
            picks = ", ".join(f"i32 {first + k}" for k in range(half))
            take = f"shufflevector {full} {total}, {full} poison, <{half} x i32> <{picks}>"
            if half == 1:
                take = f"extractelement {full} {total}, i32 {first}"
            parts.append(nest.function.emit(take))
        total = joined(nest.arithmetic(half), op, *parts)
        width = half
    return total


def turned(m: Arithmetic, op: int, rows: Sequence[str]) -> str:
    """All lanes of each of a square of registers folded: one register with a lane for each.

    Each round folds two registers into one with half as many lanes of either: first inside pieces
    of 16 bytes, then of whole such pieces. CPUs have one instruction for either.
    """
    count, current = len(rows), list(rows)
    short = 16 // m.module.size
    while len(current) > 1:
        inside = len(rows) // len(current) < short
        unit, group = (1, short) if inside else (short, count)
        halves = []
        for a, b in zip(current[::2], current[1::2]):
            parts = []
            for half in (0, 1):
                picks = [
                    first + source + k + lane
                    for first in range(0, count, group)
                    for source in (0, count)
                    for k in range(half * unit, group, 2 * unit)
                    for lane in range(unit)
                ]
                parts.append(m.function.shuffled(m.real, count, a, b, picks))
            halves.append(joined(m, op, *parts))
        current = halves
    return current[0]
