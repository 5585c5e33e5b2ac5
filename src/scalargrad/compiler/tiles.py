"""How a loop nest is to be run: which axis becomes vectors, which is unrolled, what is copied.

A nest has axes, one for each lane loop and, where its result is batched, one for the examples.
Its numbers are `Ref`s: places in memory with a stride for every axis. `plan` chooses

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

by counting, roughly, the cycles of each choice. Any plan gives the same bits: lanes do not depend
on one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2, prod
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


class Machine(NamedTuple):
    """What plans depend on.

    Numbers in a vector register, registers, instructions that add a product to a sum, and whether
    the terms of a sum may share a register.
    """

    lanes: int
    registers: int
    steps: int
    reduces: bool = False


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


# --- costs, in cycles ----------------------------------------------------------------------------

_LOAD, _GATHER, _SCATTER, _SCALAR = 0.5, 1.2, 1.5, 2.4
_COPY = 0.7  # to copy a number, at most
_CROSS = 2.5  # to store a vector of a tile along the rows
_JOIN = 12.0  # to add up the lanes of a register
_TURN = 3.0  # to add up two registers into one, half of whose lanes are of each
_ALONE = 2.0  # of terms that no other lane shares
_LATENCY = 4.0  # of an addition: so many must be under way at once
_TEAMS = (2, 2, 4, 8)  # numbers of workers for whom work is to be divided evenly
_EVEN = 1.7  # the speed-up of two workers that is enough
_TURNS = 64.0  # numbers, or some lines, that a worker should write before it is another's turn
_UNEVEN = 0.6  # of the speed-up that is left where other loops get longer along the axis
# Of a tile of more sums than fused instructions can be under way, each costs so much more: while
# their results wait to be stored, little of the next tile fits into the CPU's queues.
_UNDERWAY, _STORED = 8, 3.5
_QUEUED = 4  # vectors of a tile that may wait for the divider while the next sums are under way
_FEW = 16  # vector registers
_NEAR = 4096  # numbers that a level-1 cache holds
_OFTEN = 8  # times that numbers are read from a copy for it to be worth it
_CODE = 1.5  # what an operation more in the code is worth: it must be compiled, too


def _copies_and_cost(
    axes: Sequence[Axis],
    results: Sequence[Ref],
    uses: Sequence[Use],
    vector: int,
    machine: Machine,
    turned: bool,
    again: bool,
) -> tuple[float, frozenset[int]]:
    extents = typical(axes)
    most = longest(axes)[vector]
    lanes = min(machine.lanes, most)
    vectors = extents[vector] / lanes + 0.5 if again else -(-most // machine.lanes)
    steps = prod(extents[:vector] + extents[vector + 1 :]) * vectors
    cost = steps * _TURN * (machine.lanes - 1) if turned else 0.0
    apart = slant(uses, vector) * (lanes - 1)  # terms that some lanes have and others have not
    rows = _best_rows(axes, uses, free(axes, uses), vector) if any(u.terms for u in uses) else None
    for result in results:
        if rows is not None and extents[rows] >= lanes and Plan(vector, rows).crosses(result):
            cost += steps * _CROSS
        else:
            cost += steps * (1.0 if result.step(vector) in (1, -1) else _SCATTER * lanes)
    copies = set()
    for number, use in enumerate(uses):
        terms = steps * prod(typical((*axes, *use.terms))[len(axes) :])
        step = use.ref.step(vector)
        if apart and use.terms and any(use.terms[-1].slopes):
            cost += steps * apart * (1.0 + (_GATHER * lanes / 2 if step else _LOAD))
        cost += terms
        if turned and use.terms:
            last = use.terms[-1].extent
            cost += terms * (_LOAD + _GATHER * lanes * (last % machine.lanes) / last)
            continue
        if step in (-1, 0, 1):
            cost += 0.0 if use.ref.number is not None else _LOAD * terms
            continue
        gather = _GATHER * lanes * terms
        if can_copy(use.ref, (*axes, *use.terms), vector):
            whole = zip(longest((*axes, *use.terms)), use.ref.strides)
            each = min(_COPY, (log2(machine.lanes) + 2.0) / machine.lanes)  # squares, by rounds
            copied = each * prod(extent for extent, stride in whole if stride) + _LOAD * terms
            if copied < gather:
                copies.add(number)
                gather = copied
        cost += gather
    return cost, frozenset(copies)


def _can_mask(
    axes: Sequence[Axis], results: Sequence[Ref], uses: Sequence[Use], vector: int
) -> bool:
    """Whether vectors can run along a ragged axis.

    There is always a first lane, and masks keep the others from places that they do not have.
    """
    axis = axes[vector]
    fewest = axis.extent + sum(min(move, 0) * (count - 1) for move, count in axis.turns)
    if fewest < 1 or min(axis.slopes, default=0) < 0:
        return False
    if any(result.step(vector) != 1 for result in results):
        return False
    return all(
        use.ref.step(vector) in (0, 1) or can_copy(use.ref, (*axes, *use.terms), vector)
        for use in uses
    )


def _scalar_cost(axes: Sequence[Axis], uses: Sequence[Use], machine: Machine) -> float:
    lanes = prod(typical(axes))
    terms = [prod(typical((*axes, *use.terms))[len(axes) :]) for use in uses]
    most = max(sum(terms), 1.0)
    sums = [use for use in uses if use.terms]
    if (
        machine.reduces
        and sums
        and all(_reduces(len(axes), use, 2 * machine.lanes) for use in sums)
    ):
        return lanes * (_JOIN + _ALONE * most / machine.lanes)
    return _SCALAR * lanes * most


def _reduces(depth: int, use: Use, fewest: int) -> bool:
    """Whether the innermost terms of an operand, if there are so many, can share vectors."""
    last = use.terms[-1]
    step = use.ref.step(depth + len(use.terms) - 1)
    return not ragged(last) and last.extent >= fewest and step in (-1, 0, 1)


def _turns(axes: Sequence[Axis], uses: Sequence[Use], vector: int, machine: Machine) -> bool:
    """Whether the terms of sums can share vectors, and none is read again for other lanes."""
    sums = [use for use in uses if use.terms]
    others = [k for k in range(len(axes)) if k != vector and axes[k].extent > 1]
    return (
        machine.reduces
        and bool(sums)
        and not ragged(axes[vector])
        and all(_reduces(len(axes), use, machine.lanes) for use in sums)
        and all(use.ref.moves(k) for use in sums for k in others)
    )


def _best_rows(
    axes: Sequence[Axis], uses: Sequence[Use], candidates: Sequence[int], vector: int | None
) -> int | None:
    """The axis along which most operands stand still, weighted with how often they are read."""
    best, found = 0.0, None
    for axis in candidates:
        if axis == vector or axes[axis].extent < 2:
            continue
        score = min(axes[axis].extent, 8) / 8.0
        for use in uses:
            if use.terms and not use.ref.moves(axis):
                score += 4.0
        if score > best:
            best, found = score, axis
    return found


def _tile(
    axes: Sequence[Axis],
    results: Sequence[Ref],
    uses: Sequence[Use],
    plan: Plan,
    count: int,
    widest: int,
    machine: Machine,
    divider: float,
) -> Plan:
    """The number of rows and of vectors, at most `widest`, of a tile; `count` make the vector axis."""
    rows = 1 if plan.rows is None else axes[plan.rows].extent
    extents = typical(axes)
    outer = prod(e for k, e in enumerate(extents) if k not in (plan.vector, plan.rows))
    sums: dict[tuple[Axis, ...], list[int]] = {}
    for use in uses:
        counts = sums.setdefault(use.terms, [0, 0, 0])
        across = plan.vector is not None and use.ref.moves(plan.vector)
        down = plan.rows is not None and use.ref.moves(plan.rows)
        if across or down:
            counts[2 if across and down else 0 if across else 1] += 1
    weighted = [
        (prod(typical((*axes, *terms))[len(axes) :]), counts) for terms, counts in sums.items()
    ]
    most = max((terms for terms, _ in weighted), default=1.0)

    # CPUs with many registers also have products that take a number for all lanes from memory;
    # and while the divider is busy there is time to read.
    single = 0.5 if machine.registers > _FEW or divider else 1.0

    def passes(height: int, width: int) -> float:
        cycles = 0.0
        for terms, (across, down, both) in weighted:
            loads = both * height * width + across * width + single * down * height
            cycles += terms * (max(float(height * width), loads, _LATENCY) + 0.5)
        return cycles

    crossing = sum(map(plan.crosses, results))
    # With many registers, tiles are larger than that anyway, and sums the longer part.
    stored = _STORED if machine.steps == 1 and machine.registers <= _FEW else 0.0

    def busy(height: int, width: int) -> float:
        sums, divisions = passes(height, width), divider * height * width
        whole, rest = divmod(height, machine.lanes)
        stores = crossing * width * machine.lanes * (_CROSS * whole + _SCATTER * rest)
        stores += 6.0 + stored * max(height * width - _UNDERWAY, 0)
        return stores + (max(sums, divisions) if height * width <= _QUEUED else sums + divisions)

    def total(height: int, width: int) -> float:
        cycles = code = 0.0
        for number, part in zip((rows // height, int(rows % height > 0)), (height, rows % height)):
            for again, piece in zip(
                (count // width, int(count % width > 0)), (width, count % width)
            ):
                if number and again:
                    cycles += number * again * busy(part, piece)
                    code += part * piece
        return cycles * outer + _CODE * code * min(most, 4.0)

    shapes = [
        (h, w)
        for h in range(1, min(rows, max(machine.lanes, 12) if crossing else 12) + 1)
        for w in range(1, min(widest, 13) + 1)
        # Sums, the vectors that all rows share, a number for all lanes, and products.
        if h * w + (w if h > 1 else 0) + 1 + machine.steps <= machine.registers
    ]
    height, width = min(shapes, key=lambda shape: total(*shape))
    return plan._replace(height=height, width=width)


def plan(
    axes: Sequence[Axis],
    results: Sequence[Ref],
    uses: Sequence[Use],
    machine: Machine,
    masks: bool = False,
    divided: int | None = None,
    divider: float = 0.0,
    repeats: bool = False,
) -> Plan:
    """The cheapest way to run a nest, with several tiles along the axis `divided`, if possible.

    `masks` says that lanes which do not count cost nothing, and `divider` for how many cycles each
    vector needs the CPU's divider after its sums; `repeats` that lanes may be computed again.
    """
    extents = longest(axes)
    candidates = free(axes, uses)
    best, chosen = _scalar_cost(axes, uses, machine), Plan()
    for axis in across(axes, uses):
        if extents[axis] < 2:
            continue
        again = False
        if ragged(axes[axis]):
            masked = axis in candidates and masks and _can_mask(axes, results, uses, axis)
            again = not masked
            if again and not (repeats and typical(axes)[axis] >= machine.lanes):
                continue
        for turned in (False, True):
            if turned and not (axis in candidates and _turns(axes, uses, axis, machine)):
                continue
            cost, copies = _copies_and_cost(axes, results, uses, axis, machine, turned, again)
            if cost < best:
                best, chosen = cost, Plan(axis, copies=copies, turned=turned, again=again)
    vectors = 1
    if chosen.vector is not None:
        vectors = -(-extents[chosen.vector] // machine.lanes)
    most = max(vectors // 2, 1) if chosen.vector == divided else vectors
    if chosen.again or (chosen.vector is not None and slant(uses, chosen.vector)):
        most = 1
    if chosen.turned:
        return chosen._replace(width=min(most, max(machine.registers // (2 * machine.lanes), 1)))
    if any(use.terms for use in uses):
        candidates = [axis for axis in candidates if not ragged(axes[axis])]
        chosen = chosen._replace(rows=_best_rows(axes, uses, candidates, chosen.vector))
        tiled = _tile(axes, results, uses, chosen, vectors, most, machine, divider)
        few = machine.registers <= _FEW  # so tiles are small, and read more for every product
        return _in_order(axes, results, uses, tiled, machine.lanes) if few else tiled
    return chosen._replace(width=min(most, 4))


def narrow(
    axes: Sequence[Axis], refs: Sequence[Ref], plan: Plan, machine: Machine
) -> tuple[tuple[Axis, ...], list[Ref], Plan]:
    """Panels cut into single vectors, and tiles as many rows high as registers allow."""
    axes, refs, plan = in_panels(axes, refs, plan, machine.lanes)
    assert plan.rows is not None
    # Besides the sums: the vector that all rows share, a number for all lanes, and products.
    most = max(machine.registers - 4, 1)
    return axes, refs, plan._replace(width=1, height=min(most, axes[plan.rows].extent))


def _in_order(
    axes: Sequence[Axis], results: Sequence[Ref], uses: Sequence[Use], plan: Plan, lanes: int
) -> Plan:
    """The plan in the order of memory, where there are panels, or where they are worth a copy.

    Then rows of tiles go along the panels: what they share stays near, and all the rest (panels,
    results, what is read once) is passed in its order, as CPUs foresee it.
    """
    if plan.vector is None or any(result.step(plan.vector) != 1 for result in results):
        return plan
    packed = {k for k, use in enumerate(uses) if _scattered(axes, use, plan, lanes)}
    ordered = plan._replace(copies=plan.copies | packed, around=True)
    return ordered if panel(axes, uses, ordered, lanes) > 1 else plan


def _scattered(axes: Sequence[Axis], use: Use, plan: Plan, lanes: int) -> bool:
    """Whether many tiles read the same numbers of an operand, a tile's width here and there."""
    ref, every = use.ref, (*axes, *use.terms)
    if plan.vector is None or plan.rows is None or not use.terms:
        return False
    if ref.step(plan.vector) != 1 or ref.moves(plan.rows) or not can_copy(ref, every, plan.vector):
        return False
    size = prod(axis.extent for axis, stride in zip(every, ref.strides) if stride)
    apart = min(map(abs, ref.strides[len(axes) :]))
    tiles = axes[plan.rows].extent / plan.height
    return size > _NEAR and apart > plan.width * lanes and tiles >= _OFTEN


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


def divide(
    axes: Sequence[Axis],
    results: Sequence[Ref],
    refs: Sequence[Ref],
    uses: Sequence[Use],
    plan: Plan,
    lanes: int,
    first: int | None = None,
) -> int | None:
    """The axis whose tiles several workers divide best among themselves, or None.

    That is `first`, if two workers can; then each keeps to its own examples all the way. Tiles
    stay whole, so that a sum is computed by the same code however many workers there are.
    """
    best: tuple[float, int | None] = (1.0, None)
    even = free(axes, uses)
    for axis in range(len(axes)):
        if ragged(axes[axis]) or axes[axis].extent < 2:
            continue
        count = tiles(axis, axes, refs, plan, lanes)
        if axis == first and count > 1 and count / -(-count // 2) > _EVEN:
            return axis
        speedup = sum(count / -(-count // workers) for workers in _TEAMS) / len(_TEAMS)
        speedup *= 1.0 if axis in even else _UNEVEN
        for result in results:
            # Where workers take turns along a cache line, it goes back and forth between them.
            step = abs(result.strides[axis])
            if result.beyond is not None or any(abs(other) > step for other in result.strides):
                speedup /= 1.0 + _TURNS / max(step * axes[axis].extent / 2, 1.0)
        best = max(best, (speedup, axis), key=lambda found: found[0])
    return best[1]


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
