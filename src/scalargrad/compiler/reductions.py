"""Sums whose terms share vectors, for fast mode.

A nest of few lanes with many terms each has no lanes to fill a vector register. There neighbouring
terms fill it, several registers are summed side by side, and their lanes are added at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import ops
from .arithmetic import FORMS, Arithmetic
from .ir import Counter, vector
from .nests import Cursor, Nest, Spot, Tile
from .tiles import Piece, Ref

SUMS = 4  # registers side by side, so that none waits for the one before
NOTHING = {ops.ADD: -0.0, ops.MAXIMUM: -math.inf, ops.MINIMUM: math.inf}


def reducible(nest: Nest, factors: Sequence[Ref], axis: int, extent: int) -> bool:
    """Whether the terms along an axis can share vectors."""
    if not nest.module.fast or nest.plan.vector is not None:
        return False
    steps = {factor.step(axis) for factor in factors}
    return extent >= 2 * nest.module.width > 2 and steps <= {-1, 0, 1} and steps != {0}


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
    """The terms along an axis folded, as many as fill whole vectors: a number for each spot."""
    nest, function, lanes = tile.nest, tile.function, tile.nest.module.width
    m, count = nest.arithmetic(lanes), extent // lanes
    side = min(count, max(SUMS // len(tile.spots), 1))

    def read(ref: Ref, cursor: Cursor, spot: Spot, at: Counter) -> str:
        if ref.number is not None:
            return m.constant(ref.number)
        step = ref.step(axis)
        first = function.add(at, lanes - 1) if step == -1 else at
        place = nest.move(ref, tile.shifted(ref, cursor, spot), axis, first)
        if step == 0:
            return m.splat(nest.load(nest.real, ref, place))
        numbers = nest.load_vector(nest.real, ref, place, Piece(0, lanes, lanes))
        return numbers if step == 1 else tile.reversed(nest.real, numbers, lanes)

    def folded(sums: Sequence[str], at: Counter) -> list[str]:
        after = []
        for spot, total in zip(tile.spots, sums):
            terms = [read(ref, cursor, spot, at) for ref, cursor in factors]
            after.append(m.folded(op, total, terms[0], terms[1] if len(terms) > 1 else None, minus))
        return after

    width = len(tile.spots)

    def several(counter: Counter, carried: list[str]) -> list[str]:
        after: list[str] = []
        for k in range(side):
            at = function.add(counter, k * lanes)
            after += folded(carried[k * width : (k + 1) * width], at)
        return after

    start = [m.constant(NOTHING[op])] * (side * width)
    stop = count // side * side * lanes
    sums = function.loop(stop, side * lanes, [m.kind] * len(start), start, several)
    for at in range(stop, count * lanes, lanes):
        sums[:width] = folded(sums[:width], at)
    return [_total(nest, op, sums[k::width]) for k in range(width)]


def _total(nest: Nest, op: int, sums: Sequence[str]) -> str:
    """All lanes of some registers folded into one number."""
    width = nest.module.width
    total = sums[0]
    for other in sums[1:]:
        total = joined(nest.arithmetic(width), op, total, other)
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
