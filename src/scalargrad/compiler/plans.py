"""The cheapest plan for a loop nest, and the axis that workers divide among themselves.

What a plan costs is roughly counted, in cycles: its loads, its gathers where lanes are no
neighbours in memory, its sums by tiles, and its stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2, prod
from typing import NamedTuple

from .tiles import (
    Axis,
    Plan,
    Ref,
    Use,
    across,
    can_copy,
    free,
    in_panels,
    longest,
    panel,
    ragged,
    slant,
    tiles,
    typical,
)

# Costs, in cycles.
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


class Machine(NamedTuple):
    """What plans depend on.

    Numbers in a vector register, registers, instructions that add a product to a sum, and whether
    the terms of a sum may share a register.
    """

    lanes: int
    registers: int
    steps: int
    reduces: bool = False


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
        tiled = _Tiling(axes, results, uses, chosen, vectors, machine, divider).best(most)
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


# --- what vectors cost ---------------------------------------------------------------------------


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


# --- tiles of sums -------------------------------------------------------------------------------


class _Tiling:
    """What tiles of sums cost, by how many rows and vectors each has."""

    def __init__(
        self,
        axes: Sequence[Axis],
        results: Sequence[Ref],
        uses: Sequence[Use],
        plan: Plan,
        count: int,
        machine: Machine,
        divider: float,
    ) -> None:
        """The vector axis has `count` vectors; for `divider`, see `plan`."""
        self.plan, self.count, self.machine, self.divider = plan, count, machine, divider
        self.rows = 1 if plan.rows is None else axes[plan.rows].extent
        inner = plan.vector, plan.rows
        self.outer = prod(e for k, e in enumerate(typical(axes)) if k not in inner)
        self.sums = self._operands_by_terms(axes, uses)
        self.most = max((terms for terms, _ in self.sums), default=1.0)
        self.crossing = sum(map(plan.crosses, results))
        few = machine.registers <= _FEW
        # CPUs with many registers also have products that take a number for all lanes from memory;
        # and while the divider is busy there is time to read.
        self.single = 1.0 if few and not divider else 0.5
        # With many registers, tiles are larger than that anyway, and sums the longer part.
        self.stored = _STORED if machine.steps == 1 and few else 0.0

    def _operands_by_terms(
        self, axes: Sequence[Axis], uses: Sequence[Use]
    ) -> list[tuple[float, list[int]]]:
        """How many terms, and how many operands of them differ by lane, by row, and by both."""
        plan = self.plan
        counts: dict[tuple[Axis, ...], list[int]] = {}
        for use in uses:
            own = counts.setdefault(use.terms, [0, 0, 0])
            lanes = plan.vector is not None and use.ref.moves(plan.vector)
            rows = plan.rows is not None and use.ref.moves(plan.rows)
            if lanes or rows:
                own[2 if lanes and rows else 0 if lanes else 1] += 1
        return [(prod(typical((*axes, *terms))[len(axes) :]), own) for terms, own in counts.items()]

    def best(self, widest: int) -> Plan:
        """The plan with the cheapest tiles of at most so many vectors that registers can hold."""
        steps, registers = self.machine.steps, self.machine.registers
        highest = min(self.rows, max(self.machine.lanes, 12) if self.crossing else 12)
        shapes = [
            (h, w)
            for h in range(1, highest + 1)
            for w in range(1, min(widest, 13) + 1)
            # Sums, the vectors that all rows share, a number for all lanes, and products.
            if h * w + (w if h > 1 else 0) + 1 + steps <= registers
        ]
        height, width = min(shapes, key=lambda shape: self._all(*shape))
        return self.plan._replace(height=height, width=width)

    def _all(self, height: int, width: int) -> float:
        """The cycles of all tiles, those left over at the ends among them, and of their code."""
        cycles = code = 0.0
        down = (self.rows // height, height), (int(self.rows % height > 0), self.rows % height)
        across = (self.count // width, width), (int(self.count % width > 0), self.count % width)
        for number, part in down:
            for again, piece in across:
                if number and again:
                    cycles += number * again * self._tile(part, piece)
                    code += part * piece
        return cycles * self.outer + _CODE * code * min(self.most, 4.0)

    def _tile(self, height: int, width: int) -> float:
        """The cycles of one tile: its sums, its divisions and its stores."""
        sums, divisions = self._sums(height, width), self.divider * height * width
        whole, rest = divmod(height, self.machine.lanes)
        stores = self.crossing * width * self.machine.lanes * (_CROSS * whole + _SCATTER * rest)
        stores += 6.0 + self.stored * max(height * width - _UNDERWAY, 0)
        return stores + (max(sums, divisions) if height * width <= _QUEUED else sums + divisions)

    def _sums(self, height: int, width: int) -> float:
        cycles = 0.0
        for terms, (lanes, rows, both) in self.sums:
            loads = both * height * width + lanes * width + self.single * rows * height
            cycles += terms * (max(float(height * width), loads, _LATENCY) + 0.5)
        return cycles


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
