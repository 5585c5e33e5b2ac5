"""Which instructions run in the same loops: results stay in registers for those that follow.

Instructions with the same lanes can share their loops where each reads of the others' results
only those of its own lane: then no lane depends on another one still. At most one of a cluster is
a sum with loops of its own. A temporary that nobody else reads is then never stored at all.

An update rule runs over all parameters at once. It is first cut along the sums that compute the
gradients where that is worth it: where nobody else reads them and the rule is short, for a gradient
is then used while it is still in registers, and never stored; and where the rule divides or takes
roots, as Adam's does, and the sums are short, for the CPU's divider is then busy while the next
sums are computed. (Other long rules run faster straight through.)

An instruction may move up to the cluster it joins, past instructions that neither write what it
reads, nor read or write what it writes. The body of a repeat has clusters of its own, which are
right for every turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .distinct import distinct
from .loops import (
    Apply,
    Contract,
    Indicator,
    Instruction,
    Loop,
    Loops,
    Operand,
    Repeat,
    Scatter,
    Space,
    Walk,
    count,
    mapped,
    segments,
    work,
)

WINDOW = 16  # how many clusters an instruction may move up
MOST = 24  # instructions of a cluster
SHORT = 4  # instructions of an update rule that is worth cutting
MANY = 8192  # parameters; fewer stay in the nearest cache from gradient to update anyway
WIDE = 64  # parameters a gradient nest, on average, from which a long rule is written out for each
FEW = 16  # terms a gradient, on average, up to which sums take no longer than divisions
_LOCAL = (Space.TEMPORARY, Space.BATCHED)


class Region(NamedTuple):
    """Elements of a space that an instruction may touch: from the lowest to the highest.

    Inside repeats that is in the first turn; `turns` says how far it moves in each turn of the
    repeats around, and how many there are.
    """

    space: Space
    low: int
    high: int
    operand: Operand | None = None  # where it is read or written at each lane's own place
    turns: tuple[tuple[int, int], ...] = ()
    steps: tuple[tuple[int, int], ...] = ()  # strides and extents of the loops, where known

    def meets(self, other: Region) -> bool:
        """Whether an element may be common to both, in the same turn."""
        if self.space != other.space:
            return False
        low, high = other.low, other.high
        for (own, count_), (others, _) in zip(self.turns, other.turns):
            reach = (others - own) * (count_ - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
        return self.low <= high and low <= self.high

    def whole(self, outer: int = 0) -> Region:
        """The elements in all turns of the repeats inside the `outer` outermost."""
        if len(self.turns) == outer:
            return self
        low, high = self.low, self.high
        for move, count_ in self.turns[outer:]:
            reach = move * (count_ - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
        steps = (*self.steps, *self.turns[outer:])
        return Region(self.space, low, high, None, self.turns[:outer], steps)

    def within(self, period: int) -> tuple[int, int]:
        """The lowest and highest element, when elements a multiple of `period` apart are one."""
        all_turns = self.whole()
        low, high = all_turns.low, all_turns.high
        for step, extent in all_turns.steps:
            reach = step * (extent - 1)
            if reach and not step % period:
                low, high = low - min(reach, 0), high - max(reach, 0)
        return low, high


@dataclass
class Cluster:
    """Instructions that share their loops, in order."""

    steps: list[Instruction]
    reads: list[Region]
    writes: list[Region]
    heavy: bool
    dead: set[int] = field(default_factory=set)  # steps whose result need not be stored
    inner: list[Cluster] = field(default_factory=list)  # of the body of a repeat

    def lanes(self) -> tuple[Loop, ...] | None:
        """The loops they share; None if the cluster takes no one in."""
        first = self.steps[0]
        return first.lanes if isinstance(first, Contract | Apply) else None

    @property
    def batched(self) -> bool:
        """Whether the results are."""
        first = self.steps[0]
        return not isinstance(first, Walk | Repeat) and first.result.space.batched


def region(
    operand: Operand,
    loops: tuple[Loop, ...],
    lanes: int,
    table: NDArray[np.int32],
    counts: tuple[int, ...] = (),
) -> Region | None:
    """What an operand reaches; None if there is no lane, or no term.

    `counts` are the turns of the repeats around: where these grow, it is the largest of them.
    """
    low = high = operand.base
    extents: list[int] = []
    for loop, stride in zip(loops, operand.strides):
        outer = (max(slope, 0) * max(e - 1, 0) for slope, e in zip(loop.slopes, extents))
        later = (max(move, 0) * (turns - 1) for move, turns in zip(loop.moves, counts))
        extents.append(loop.extent + sum(outer) + sum(later))
        if extents[-1] <= 0:
            return None
        reach = stride * (extents[-1] - 1)
        low, high = low + min(reach, 0), high + max(reach, 0)
    own = operand if not any(operand.strides[lanes:]) else None
    if own is not None and len(own.strides) > lanes:
        own = own._replace(strides=own.strides[:lanes])
    moves = operand.moves + (0,) * (len(counts) - len(operand.moves))
    turns = tuple(zip(moves, counts))
    if operand.indirect:
        places = Region(operand.space, low, high, None, turns).whole()
        entries = table[max(places.low, 0) : places.high + 1]
        low, high = int(entries.min(initial=0)), int(entries.max(initial=0))
        still = tuple((0, turns_) for turns_ in counts)
        return Region(operand.space, low, high, own, still, ((1, high - low + 1),))
    return Region(operand.space, low, high, own, turns, tuple(zip(operand.strides, extents)))


def touched(
    loops: Loops, step: Instruction, counts: tuple[int, ...] = ()
) -> tuple[list[Region], list[Region]]:
    """What an instruction reads and writes; `counts` are the turns of the repeats around it."""
    if isinstance(step, Repeat):
        both = [touched(loops, inner, (*counts, step.count)) for inner in step.body]
        return (
            [r.whole(len(counts)) for reads, _ in both for r in reads],
            [w.whole(len(counts)) for _, writes in both for w in writes],
        )
    if isinstance(step, Walk):
        used = step.right >= 0
        reads = [*_spread(step.left_space, step.left)]
        reads += _spread(step.right_space[used], step.right[used])
        return reads, [*_spread(step.space, step.at)]
    depth = len(step.lanes)

    def reached(operand: Operand, inner: tuple[Loop, ...] = ()) -> Iterator[Region]:
        found = region(operand, (*step.lanes, *inner), depth, loops.table, counts)
        if found is not None:
            yield found

    if isinstance(step, Scatter):
        writes = [*reached(step.result, (Loop(step.count),))]
        return [*writes, *reached(step.index), *reached(step.source)], writes
    writes = [*reached(step.result)]
    if isinstance(step, Contract):
        reads = [*writes] if step.resume else []
        for _, segment in segments(step):
            for operand in (segment.left, segment.right):
                if operand is not None:
                    reads += reached(operand, segment.loops)
        return reads, writes
    if isinstance(step, Apply):
        return [r for operand in step.operands for r in reached(operand)], writes
    if isinstance(step, Indicator):
        return [*reached(step.index)], writes
    return [*reached(step.index), *reached(step.source, (Loop(step.count),))], writes


def readers(loops: Loops, steps: Iterable[Instruction], size: int) -> NDArray[np.int32]:
    """How many of these instructions may read each of the first `size` temporaries."""
    change = np.zeros(size + 1, np.int32)
    for step in steps:
        found = [r for r in touched(loops, step)[0] if r.space == Space.TEMPORARY]
        own = [r for r in found if r.low < size and r.high >= 0]
        for low, high in _joined((max(r.low, 0), min(r.high + 1, size)) for r in own):
            change[low] += 1
            change[high] -= 1
    return np.cumsum(change[:-1], dtype=np.int32)


def _joined(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same places in intervals that do not overlap."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(intervals):
        if joined and low <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(high, joined[-1][1])
        else:
            joined.append((low, high))
    return joined


def _spread(spaces: NDArray[np.uint8], places: NDArray[np.int32]) -> Iterator[Region]:
    for space in distinct(spaces):
        own = places[spaces == space]
        low, high = int(own.min()), int(own.max())
        yield Region(Space(int(space)), low, high, steps=((1, high - low + 1),))


def _is_heavy(step: Instruction) -> bool:
    """Whether an instruction does more for a lane than read a few numbers."""
    if isinstance(step, Contract):
        return any(group.over or segment.loops for group, segment in segments(step))
    return not isinstance(step, Apply)


def _conflict(reads: list[Region], writes: list[Region], cluster: Cluster) -> bool:
    """Whether an instruction must stay behind a cluster."""
    return (
        any(r.meets(w) for r in reads for w in cluster.writes)
        or any(w.meets(r) for w in writes for r in cluster.reads)
        or any(w.meets(v) for w in writes for v in cluster.writes)
    )


def same_lane(a: Region, b: Region) -> bool:
    """Whether two regions are apart, or met only by each lane at its own element."""
    return not a.meets(b) or (a.operand is not None and a.operand == b.operand)


def _joins(
    step: Instruction, reads: list[Region], writes: list[Region], cluster: Cluster, last: bool
) -> bool:
    """Whether an instruction can share the loops of a cluster, to some use."""
    if not isinstance(step, Contract | Apply) or len(cluster.steps) >= MOST:
        return False
    if cluster.lanes() != step.lanes or cluster.batched != step.result.space.batched:
        return False
    heavy = _is_heavy(step)
    if heavy:
        return False
    if not (
        all(same_lane(r, w) for r in reads for w in cluster.writes)
        and all(same_lane(w, r) for w in writes for r in cluster.reads)
        and all(same_lane(w, v) for w in writes for v in cluster.writes)
    ):
        return False
    return last or not cluster.heavy or any(r.meets(w) for r in reads for w in cluster.writes)


def _shaped(step: Instruction, cluster: Cluster) -> Instruction:
    """An instruction with one loop, written with the loops of a cluster that has as many lanes."""
    lanes = cluster.lanes()
    if lanes is None or len(lanes) < 2 or not all(loop.even for loop in lanes):
        return step
    if not isinstance(step, Contract | Apply) or _is_heavy(step) or len(step.lanes) != 1:
        return step
    if prod(loop.extent for loop in lanes) != step.lanes[0].extent:
        return step
    steps = [prod(loop.extent for loop in lanes[k + 1 :]) for k in range(len(lanes))]
    return _mapped(
        step,
        lanes,
        lambda operand: operand._replace(strides=tuple(operand.strides[0] * k for k in steps)),
    )


def fuse(
    loops: Loops, unread: frozenset[Space] = frozenset(), batch: int = 1, divider: bool = False
) -> list[Cluster]:
    """The instructions of a program in clusters, in an order that gives the same results.

    `unread` are the gradients that the caller will not read, which then need not be stored;
    `divider` says that quotients and roots are left to the CPU's divider.
    """
    stored = Space.PARAMETER_GRADIENT not in unread
    clusters = _clustered(loops, _cut_updates(loops, stored, batch if divider else 0), ())
    _mark_dead(clusters, (*_LOCAL, *unread))
    return clusters


def _clustered(
    loops: Loops, steps: Sequence[Instruction], counts: tuple[int, ...]
) -> list[Cluster]:
    clusters: list[Cluster] = []
    for step in steps:
        if isinstance(step, Contract) and step.resume and not step.groups:
            continue  # it adds nothing to what is there
        reads, writes = touched(loops, step, counts)
        for cluster in clusters[: -WINDOW - 1 : -1]:
            shaped = _shaped(step, cluster)
            own = (reads, writes) if shaped is step else touched(loops, shaped, counts)
            if _joins(shaped, *own, cluster, cluster is clusters[-1]):
                cluster.steps.append(shaped)
                cluster.reads += own[0]
                cluster.writes += own[1]
                break
            if _conflict(reads, writes, cluster):
                clusters.append(Cluster([step], reads, writes, _is_heavy(step)))
                break
        else:
            clusters.append(Cluster([step], reads, writes, _is_heavy(step)))
        if isinstance(step, Repeat):
            clusters[-1].inner = _clustered(loops, step.body, (*counts, step.count))
    return clusters


def _leaves(clusters: Sequence[Cluster]) -> Iterator[Cluster]:
    """The clusters, those of repeats in place of the repeats."""
    for cluster in clusters:
        yield from _leaves(cluster.inner) if cluster.inner else (cluster,)


class _Readers:
    """What is read by others than the cluster that computes it, in one space."""

    def __init__(self) -> None:
        self.reads: set[Region] = set()
        self._bounds: dict[int, NDArray[np.int64]] = {}

    def read(self, write: Region) -> bool:
        """Whether what is written may be read, in any turn.

        What is written again and again at one distance is read only by what meets it modulo that.
        """
        period = abs(write.turns[-1][0]) if write.turns else 0
        if period not in self._bounds:
            self._bounds[period] = np.array(
                [
                    (w.low, w.high, *(r.within(period) if period else (w.low, w.high)))
                    for r in self.reads
                    for w in (r.whole(),)
                ],
                np.int64,
            ).reshape(-1, 4)
        low, high, first, last = self._bounds[period].T
        whole = write.whole()
        met = (low <= whole.high) & (high >= whole.low)
        if period:
            start, end = write.within(period)
            met &= ((first - start) % period <= end - start) | (
                (start - first) % period <= last - first
            )
        return bool(met.any())


def _mark_dead(clusters: list[Cluster], spaces: tuple[Space, ...]) -> None:
    """Find the results in these spaces that are read only in the cluster that computes them."""
    readers = {space: _Readers() for space in spaces}
    single = list(_leaves(clusters))
    for cluster in single:
        # What a cluster reads at the places that it writes is its own: all is written only once.
        own = {(w.space, w.operand) for w in cluster.writes if w.operand is not None}
        for r in cluster.reads:
            if r.space in readers and (r.space, r.operand) not in own:
                readers[r.space].reads.add(r._replace(operand=None))
    for cluster in single:
        if len(cluster.steps) < 2:
            continue
        for k, step in enumerate(cluster.steps):
            if not isinstance(step, Contract | Apply) or step.result.space not in readers:
                continue
            if isinstance(step, Contract) and step.resume:
                continue
            write = next((w for w in cluster.writes if w.operand == step.result), None)
            if write is not None and not readers[step.result.space].read(write):
                cluster.dead.add(k)


# --- update rules --------------------------------------------------------------------------------


def divides(step: Instruction) -> bool:
    """Whether an instruction needs the CPU's divider."""
    return isinstance(step, Apply) and step.op in (ops.DIV, ops.SQRT)


def _cut_updates(loops: Loops, stored: bool, batch: int) -> list[Instruction]:
    """The instructions, the update rules at their end cut along the gradients and put behind them.

    Nothing is changed where there is no update, where it is not worth it, or where gradients lie
    where only a table knows. A `batch` of 0 says that the divider is not needed.
    """
    steps = list(loops.instructions)
    cut = len(steps)
    while cut and _is_update(loops, steps[cut - 1]):
        cut -= 1
    rules = [step for step in steps[cut:] if isinstance(step, Contract | Apply)]
    before = steps[:cut]
    gradients = [step for step in before if _writes_gradient(step)]
    whole = sum(count(step.lanes) for step in gradients if isinstance(step, Contract | Apply))
    parameters = loops.size(Space.PARAMETER)
    if not rules or len(gradients) < 2 or whole != parameters:
        return steps
    waits = batch > 0 and any(map(divides, rules)) and parameters >= WIDE * len(gradients)
    beside = waits and sum(work(step, batch) for step in gradients) <= FEW * parameters
    kept = not stored and parameters >= MANY and len(rules) <= SHORT
    if not beside and not kept:
        return steps
    if any(_reads_gradient(loops, step) for step in before):
        return steps
    ordered = [step for step in before if step not in gradients or not _may_wait(loops, step)]
    for step in gradients:
        if not isinstance(step, Contract | Apply) or step.result.indirect:
            return steps
        if not all(loop.even for loop in step.lanes):
            return steps
        if _may_wait(loops, step):
            ordered.append(step)
        ordered += [_part(rule, step.result, step.lanes) for rule in rules]
    return ordered


def _is_update(loops: Loops, step: Instruction) -> bool:
    """Whether an instruction does the same to every parameter, one after the other."""
    everything = (Loop(loops.size(Space.PARAMETER)),)
    if not isinstance(step, Contract | Apply) or step.lanes != everything or _is_heavy(step):
        return False
    spaces = (Space.PARAMETER, Space.STATE, Space.TEMPORARY)
    operands = [step.result, *_operands(step)]
    return step.result.space in spaces and all(
        not operand.indirect
        and operand.strides in ((0,), (1,))
        and (operand.base == 0 or operand.space not in (Space.PARAMETER, Space.PARAMETER_GRADIENT))
        for operand in operands
    )


def _operands(step: Contract | Apply) -> list[Operand]:
    if isinstance(step, Apply):
        return list(step.operands)
    factors = (f for _, segment in segments(step) for f in (segment.left, segment.right))
    return [factor for factor in factors if factor is not None]


def _writes_gradient(step: Instruction) -> bool:
    if isinstance(step, Walk | Repeat):
        return False
    return step.result.space == Space.PARAMETER_GRADIENT


def _reads_gradient(loops: Loops, step: Instruction) -> bool:
    own = isinstance(step, Contract) and step.resume
    reads = touched(loops, step)[0]
    return not own and any(r.space == Space.PARAMETER_GRADIENT for r in reads)


def _may_wait(loops: Loops, step: Instruction) -> bool:
    """Whether a gradient can be computed when other parameters were updated already."""
    if not isinstance(step, Contract | Apply):
        return False
    own = step.result._replace(space=Space.PARAMETER)
    return all(
        r.operand == own
        for r in touched(loops, step)[0]
        if r.space in (Space.PARAMETER, Space.STATE)
    )


def _part(step: Contract | Apply, at: Operand, lanes: tuple[Loop, ...]) -> Contract | Apply:
    """An update of the parameters whose gradient is at the places of `at`."""

    def moved(operand: Operand) -> Operand:
        if operand.strides == (0,):
            return operand._replace(strides=(0,) * len(lanes))
        return operand._replace(base=operand.base + at.base, strides=at.strides)

    return _mapped(step, lanes, moved)


def _mapped(
    step: Contract | Apply, lanes: tuple[Loop, ...], moved: Callable[[Operand], Operand]
) -> Contract | Apply:
    """An instruction without loops of its own on other lanes, its operands moved there."""
    made = replace(mapped(step, moved), lanes=lanes)
    assert isinstance(made, Contract | Apply)
    return made
