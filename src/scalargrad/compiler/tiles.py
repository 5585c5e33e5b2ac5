"""How a loop nest is to be run: axes, places in memory, vectors and tiles.

A nest has axes, one for each lane loop and, where its result is batched, one for the examples.
Its numbers are `Ref`s: places in memory with a stride for every axis. A `Plan` says

    vector   the axis whose neighbouring lanes share a vector register, if any; where its extent
             depends on other axes, the lanes beyond the end are masked
    again    instead of that, whether all vectors are whole, and the last ends where the axis does:
             some of its lanes have been computed before, and are again
    rows     a second axis of which several lanes are computed at once, so that a number that does
             not depend on it is loaded once for all of them
    height   how many rows, and `width` how many vectors, make one tile of accumulators
    copies   the operands to be copied beforehand so that neighbouring lanes are neighbours in memory,
             and what a tile reads lies in one piece
    turned   whether neighbouring terms share a register while they are added, and only the results
             are turned so that the lanes do: where sums need no copies for it
    around   whether the loop over the rows is around the others, and not in them

Any plan gives the same bits: lanes do not depend on one another. `plans` chooses one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Axis(NamedTuple):
    """A counter from 0 to `extent + sum(slope * counter of the axes before)`.

    In each turn of the repeats around it goes on longer by so much: `turns` has, for each of them,
    how much that is, and how many turns there are.
    """

    extent: int
    slopes: tuple[int, ...] = ()
    turns: tuple[tuple[int, int], ...] = ()

    def slope(self, axis: int) -> int:
        """How much longer it is for each step along an axis before it."""
        return self.slopes[axis] if axis < len(self.slopes) else 0


class Ref(NamedTuple):
    """A number for every combination of counters.

    It lies at `base + sum(stride * counter)` of the array in a slot of the environment. With
    `beyond`, that is a place in the index table; the number then lies at
    `entry * scale + shift + sum(beyond * counter)`. `padded`: what follows the last example up to
    a whole vector may be read and written. `number`: the number itself, where it is known. `turns`:
    how far the base, or the place in the table, moves with each turn of the repeats around.
    `block`: where the block of memory begins in which it lies, before blocks are moved.
    """

    slot: int
    base: int
    strides: tuple[int, ...]
    beyond: tuple[int, ...] | None = None
    scale: int = 1
    shift: int = 0
    padded: bool = False
    number: float | None = None
    turns: tuple[int, ...] = ()
    block: int = 0

    def step(self, axis: int | None) -> int | None:
        """How far neighbours along an axis are apart; None if only the table knows."""
        if axis is None or self.number is not None:
            return 0
        if self.beyond is None:
            return self.strides[axis]
        return self.beyond[axis] if self.strides[axis] == 0 else None

    def moves(self, axis: int) -> bool:
        """Whether the number depends on the counter of an axis."""
        return self.step(axis) != 0


class Use(NamedTuple):
    """An operand of a nest, and the axes of the terms it is read for, after those of the lanes."""

    ref: Ref
    terms: tuple[Axis, ...] = ()


class Plan(NamedTuple):
    """See the module."""

    vector: int | None = None
    rows: int | None = None
    width: int = 1
    height: int = 1
    copies: frozenset[int] = frozenset()
    turned: bool = False
    around: bool = False
    again: bool = False

    def crosses(self, result: Ref) -> bool:
        """Whether the rows of a result are neighbours in memory, and the lanes of a vector not."""
        if self.vector is None or self.rows is None:
            return False
        return result.step(self.vector) not in (None, 0, 1, -1) and result.step(self.rows) == 1


class Piece(NamedTuple):
    """A vector of lanes: the first, the width of the register, how many lanes of it are real.

    Where only the running program knows that, `mask` names which lanes are real, and `left` how many
    lanes there are from the first on: perhaps none, or more than the register holds. Of the real ones
    those before `begin` may not count.
    """

    first: int
    width: int
    valid: int
    mask: str = ""
    left: str | int = 0
    begin: int = 0

    @property
    def full(self) -> bool:
        """Whether all lanes count."""
        return self.valid == self.width and not self.mask and not self.begin

    @property
    def lanes(self) -> range:
        """The lanes that count, where that is known."""
        return range(self.begin, self.valid)

    def some(self, low: int, high: int) -> Piece:
        """The lanes of it that are also lanes `low` to `high` of the tile."""
        begin = max(low - self.first, 0)
        return self._replace(begin=begin, valid=max(min(self.valid, high - self.first), begin))


def pieces(extent: int, lanes: int, padded: bool, first: int = 0) -> list[Piece]:
    """An axis cut into vectors, from one of them on; the last is narrower, or partly idle."""
    whole, rest = divmod(extent, lanes)
    cut = [Piece(k * lanes, lanes, lanes) for k in range(first, whole)]
    if rest and first <= whole:
        width = lanes if padded else 1 << (rest - 1).bit_length()
        cut.append(Piece(whole * lanes, width, width if padded else rest))
    return cut


def free(axes: Sequence[Axis], uses: Sequence[Use]) -> list[int]:
    """The axes that no other extent depends on."""
    bound = {
        k
        for axis in (*axes, *(axis for use in uses for axis in use.terms))
        for k, slope in enumerate(axis.slopes)
        if slope
    }
    return [k for k in range(len(axes)) if k not in bound]


def across(axes: Sequence[Axis], uses: Sequence[Use]) -> list[int]:
    """The axes that vectors may run along: at most the last loops over terms depend on them."""
    bound = {k for axis in axes for k, slope in enumerate(axis.slopes) if slope}
    for use in uses:
        for axis in use.terms[:-1]:
            bound |= {k for k, slope in enumerate(axis.slopes) if slope}
    return [k for k in range(len(axes)) if k not in bound]


def slant(uses: Sequence[Use], vector: int) -> int:
    """How many terms more or fewer a lane has than the one before, along an axis."""
    return max((abs(use.terms[-1].slope(vector)) for use in uses if use.terms), default=0)


def ragged(axis: Axis) -> bool:
    """Whether an extent depends on other axes, or on the turn."""
    return any(axis.slopes) or bool(axis.turns)


def longest(axes: Sequence[Axis]) -> list[int]:
    """The largest extent of every axis."""
    extents: list[int] = []
    for axis in axes:
        outer = (max(slope, 0) * max(e - 1, 0) for slope, e in zip(axis.slopes, extents))
        later = (max(move, 0) * (count - 1) for move, count in axis.turns)
        extents.append(axis.extent + sum(outer) + sum(later))
    return extents


def typical(axes: Sequence[Axis]) -> list[float]:
    """The mean extent of every axis."""
    extents: list[float] = []
    for axis in axes:
        extent = axis.extent + sum(move * (count - 1) / 2.0 for move, count in axis.turns)
        for slope, outer in zip(axis.slopes, extents):
            extent += slope * max(outer - 1.0, 0.0) / 2.0
        extents.append(max(extent, 0.0))
    return extents


def can_copy(ref: Ref, axes: Sequence[Axis], vector: int) -> bool:
    """Whether an operand's numbers form a plain block; a ragged `vector` is filled up to one."""
    if ref.number is not None or ref.beyond is not None:
        return False
    moving = [k for k, axis in enumerate(axes) if ref.strides[k] and ragged(axis)]
    if any(axes[k].turns for k in moving):
        return False
    if moving != [vector]:
        return not moving
    # So the first and the last place of the block are among those that are read.
    return min(ref.strides[: vector + 1]) >= 0


def panel(axes: Sequence[Axis], uses: Sequence[Use], plan: Plan, lanes: int) -> int:
    """How many lanes make a panel: those of a tile, where sums read copies; else 1.

    With an axis for its panels, and another for the lanes of a panel, what a tile reads of a copy
    lies in one piece, and not in a few numbers here and there.
    """
    every = (*axes, *(axis for use in uses for axis in use.terms))
    if not any(uses[k].terms for k in plan.copies) or any(map(ragged, every)):
        return 1
    assert plan.vector is not None
    size, extent = plan.width * lanes, axes[plan.vector].extent
    return size if extent > size and extent % size == 0 else 1


def in_panels(
    axes: Sequence[Axis], refs: Sequence[Ref], plan: Plan, size: int
) -> tuple[tuple[Axis, ...], list[Ref], Plan]:
    """The vector axis as two: its panels, and the lanes of a panel."""
    assert plan.vector is not None
    at = plan.vector

    def cut(strides: tuple[int, ...]) -> tuple[int, ...]:
        return (*strides[:at], strides[at] * size, *strides[at:])

    parts = (*axes[:at], Axis(axes[at].extent // size), Axis(size), *axes[at + 1 :])
    moved = [
        ref._replace(
            strides=cut(ref.strides),
            beyond=None if ref.beyond is None else cut(ref.beyond),
        )
        for ref in refs
    ]
    rows = plan.rows if plan.rows is None or plan.rows < at else plan.rows + 1
    return parts, moved, plan._replace(vector=at + 1, rows=rows)


class Division(NamedTuple):
    """How workers divide tiles: into chunks of so many, or as evenly as can be if `chunks` is 0."""

    tiles: int = 1
    chunks: int = 0

    def finer(self, unit: int, own: int) -> Division:
        """The same chunks for tiles of `own` examples, a part of the `unit` that it was for."""
        return self._replace(tiles=self.tiles * unit // own) if self.chunks else self


def speedup(count: int, unit: int, workers: int) -> float:
    """How much sooner workers are ready who divide `count` things, so many staying together."""
    units = -(-count // unit)
    return count / min(-(-units // workers) * unit, count)


def fitting(plan: Plan, examples: int, lanes: int, most: int) -> Plan:
    """The plan with tiles of 2^k examples, `most` at most, if these are the axis `examples`.

    So the tiles of one nest are so many whole tiles of another one.
    """
    height, width = plan.height, plan.width
    if plan.rows == examples:
        height = _power(min(height, most))
    if plan.vector == examples:
        width = _power(min(width, max(most // lanes, 1)))
    return plan._replace(height=height, width=width)


def _power(count: int) -> int:
    """The highest power of two that is no more."""
    return 1 << count.bit_length() - 1


def cut(
    axes: Sequence[Axis], refs: Sequence[Ref], plan: Plan, lanes: int
) -> tuple[list[Piece], int]:
    """The vectors of the vector axis after its whole tiles, and how many those tiles have."""
    assert plan.vector is not None
    moving = [ref for ref in refs if ref.moves(plan.vector)]
    padded = all(ref.padded and ref.step(plan.vector) == 1 for ref in moving)
    extent = axes[plan.vector].extent
    whole = (-(-extent // lanes) if padded else extent // lanes) // plan.width * plan.width
    return pieces(extent, lanes, padded, whole), whole


def tiles(axis: int, axes: Sequence[Axis], refs: Sequence[Ref], plan: Plan, lanes: int) -> int:
    """How many tiles there are along an axis, the last perhaps smaller than the others."""
    if axis == plan.vector:
        rest, whole = cut(axes, refs, plan, lanes)
        return whole // plan.width + bool(rest)
    return -(-axes[axis].extent // (plan.height if axis == plan.rows else 1))


def collapse(
    axes: Sequence[Axis], refs: Sequence[Ref], keep: int | None = None
) -> tuple[tuple[Axis, ...], tuple[Ref, ...]]:
    """Pairs of axes, other than `keep`, that every number passes as if they were one, made one."""
    if any(map(ragged, axes)):
        return tuple(axes), tuple(refs)
    left = list(range(len(axes)))
    extents = [axis.extent for axis in axes]
    merged = True
    while merged:
        merged = False
        for outer in left:
            for inner in left:
                if (
                    outer != inner
                    and keep not in (outer, inner)
                    and all(
                        ref.number is not None
                        or _stride(ref, outer) == _times(_stride(ref, inner), extents[inner])
                        for ref in refs
                    )
                ):
                    extents[inner] *= extents[outer]
                    left.remove(outer)
                    merged = True
                    break
            if merged:
                break
    count = len(axes)

    def narrowed(strides: tuple[int, ...]) -> tuple[int, ...]:
        return (*(strides[k] for k in left), *strides[count:])

    moved = tuple(
        ref._replace(
            strides=narrowed(ref.strides),
            beyond=None if ref.beyond is None else narrowed(ref.beyond),
        )
        for ref in refs
    )
    return tuple(Axis(extents[k]) for k in left), moved


def _stride(ref: Ref, axis: int) -> tuple[int, int]:
    return ref.strides[axis], 0 if ref.beyond is None else ref.beyond[axis]


def _times(strides: tuple[int, int], extent: int) -> tuple[int, int]:
    return strides[0] * extent, strides[1] * extent
