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
from .nests import Cursor, Nest, Spot, Tile
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
    nest, function, lanes = tile.nest, tile.function, tile.nest.module.width
    m, count = nest.arithmetic(lanes), extent // lanes
    across = nest.plan.vector
    sums = [(spot, lane) for spot in tile.spots for lane in range(tile.parts[spot[1]].valid)]
    side = min(count, max(SUMS // len(sums), 1))
    # Where all factors run backwards, they meet without being reversed.
    backwards = all(ref.step(axis) != 1 for ref, _ in factors)

    def fetch(ref: Ref, cursor: Cursor, spot: Spot, lane: int, at: Counter) -> str:
        if ref.number is not None:
            return m.constant(ref.number)
        step = ref.step(axis)
        first = function.add(at, lanes - 1) if step == -1 else at
        place = nest.move(ref, tile.shifted(ref, cursor, spot, lane), axis, first)
        if step == 0:
            return m.splat(nest.load(nest.real, ref, place))
        numbers = nest.load_vector(nest.real, ref, place, Piece(0, lanes, lanes))
        return numbers if backwards or step == 1 else tile.reversed(nest.real, numbers, lanes)

    def folded(totals: Sequence[str], at: Counter) -> list[str]:
        seen: dict[tuple[int, Spot, int], str] = {}

        def read(ref: Ref, cursor: Cursor, spot: Spot, lane: int) -> str:
            own = across is not None and ref.moves(across)
            key = id(ref), tile.key(ref, spot), lane if own else 0
            if key not in seen:
                seen[key] = fetch(ref, cursor, spot, lane, at)
            return seen[key]

        after = []
        for (spot, lane), total in zip(sums, totals):
            terms = [read(ref, cursor, spot, lane) for ref, cursor in factors]
            after.append(m.folded(op, total, terms[0], terms[1] if len(terms) > 1 else None, minus))
        return after

    width = len(sums)

    def several(counter: Counter, carried: list[str]) -> list[str]:
        after: list[str] = []
        for k in range(side):
            at = function.add(counter, k * lanes)
            after += folded(carried[k * width : (k + 1) * width], at)
        return after

    start = [m.constant(NOTHING[op])] * (side * width)
    stop = count // side * side * lanes
    totals = function.loop(stop, side * lanes, [m.kind] * len(start), start, several)
    for at in range(stop, count * lanes, lanes):
        totals[:width] = folded(totals[:width], at)
    single = [_together(m, op, totals[k::width]) for k in range(width)]
    if across is None:
        return [_total(nest, op, total) for total in single]
    results = []
    for spot in tile.spots:
        piece = tile.parts[spot[1]]
        own, single = single[: piece.valid], single[piece.valid :]
        own += [m.constant(NOTHING[op])] * (lanes - piece.valid)
        every = turned(m, op, own)
        results.append(some_lanes(function, nest.real, every, lanes, 0, piece.width))
    return results


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
