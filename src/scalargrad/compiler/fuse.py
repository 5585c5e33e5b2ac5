"""Which instructions run in the same loops: results stay in registers for those that follow.

Instructions with the same lanes can share their loops where each reads of the others' results
only those of its own lane: then no lane depends on another one still. At most one of a cluster is
a sum with loops of its own. A temporary that nobody else reads is then never stored at all.

An instruction may move up to the cluster it joins, past instructions that neither write what it
reads, nor read or write what it writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .loops import (
    Apply,
    Contract,
    Indicator,
    Instruction,
    Loop,
    Loops,
    Operand,
    Space,
    Walk,
    segments,
)

WINDOW = 16  # how many clusters an instruction may move up
MOST = 24  # instructions of a cluster
_LOCAL = (Space.TEMPORARY, Space.BATCHED)


class Region(NamedTuple):
    """Elements of a space that an instruction may touch: from the lowest to the highest."""

    space: Space
    low: int
    high: int
    operand: Operand | None = None  # where it is read or written at each lane's own place

    def meets(self, other: Region) -> bool:
        """Whether an element may be common to both."""
        return self.space == other.space and self.low <= other.high and other.low <= self.high


@dataclass
class Cluster:
    """Instructions that share their loops, in order."""

    steps: list[Instruction]
    reads: list[Region]
    writes: list[Region]
    heavy: bool
    dead: set[int] = field(default_factory=set)  # steps whose result need not be stored

    def lanes(self) -> tuple[Loop, ...] | None:
        """The loops they share; None if the cluster takes no one in."""
        first = self.steps[0]
        return first.lanes if isinstance(first, Contract | Apply) else None

    @property
    def batched(self) -> bool:
        """Whether the results are."""
        first = self.steps[0]
        return isinstance(first, Contract | Apply) and first.result.space.batched


def region(
    operand: Operand, loops: tuple[Loop, ...], lanes: int, table: NDArray[np.int32]
) -> Region | None:
    """What an operand reaches; None if there is no lane, or no term."""
    low = high = operand.base
    extents: list[int] = []
    for loop, stride in zip(loops, operand.strides):
        outer = (max(slope, 0) * max(e - 1, 0) for slope, e in zip(loop.slopes, extents))
        extents.append(loop.extent + sum(outer))
        if extents[-1] <= 0:
            return None
        reach = stride * (extents[-1] - 1)
        low, high = low + min(reach, 0), high + max(reach, 0)
    own = operand if not any(operand.strides[lanes:]) else None
    if own is not None and len(own.strides) > lanes:
        own = own._replace(strides=own.strides[:lanes])
    if operand.indirect:
        entries = table[max(low, 0) : high + 1]
        low, high = int(entries.min(initial=0)), int(entries.max(initial=0))
    return Region(operand.space, low, high, own)


def touched(loops: Loops, step: Instruction) -> tuple[list[Region], list[Region]]:
    """What an instruction reads and writes."""
    if isinstance(step, Walk):
        used = step.right >= 0
        reads = [*_spread(step.left_space, step.left)]
        reads += _spread(step.right_space[used], step.right[used])
        return reads, [*_spread(step.space, step.at)]
    depth = len(step.lanes)

    def reached(operand: Operand, inner: tuple[Loop, ...] = ()) -> Iterator[Region]:
        found = region(operand, (*step.lanes, *inner), depth, loops.table)
        if found is not None:
            yield found

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


def _spread(spaces: NDArray[np.uint8], places: NDArray[np.int32]) -> Iterator[Region]:
    for space in np.unique(spaces):
        own = places[spaces == space]
        yield Region(Space(int(space)), int(own.min()), int(own.max()))


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


def _same_lane(a: Region, b: Region) -> bool:
    """Whether two regions are apart, or met only by each lane at its own element."""
    return not a.meets(b) or (a.operand is not None and a.operand == b.operand)


def _joins(step: Instruction, reads: list[Region], writes: list[Region], cluster: Cluster) -> bool:
    """Whether an instruction can share the loops of a cluster, to some use."""
    if not isinstance(step, Contract | Apply) or len(cluster.steps) >= MOST:
        return False
    if cluster.lanes() != step.lanes or cluster.batched != step.result.space.batched:
        return False
    heavy = _is_heavy(step)
    if heavy:
        return False
    if not (
        all(_same_lane(r, w) for r in reads for w in cluster.writes)
        and all(_same_lane(w, r) for w in writes for r in cluster.reads)
        and all(_same_lane(w, v) for w in writes for v in cluster.writes)
    ):
        return False
    return not cluster.heavy or any(r.meets(w) for r in reads for w in cluster.writes)


def fuse(loops: Loops) -> list[Cluster]:
    """The instructions of a program in clusters, in an order that gives the same results."""
    clusters: list[Cluster] = []
    for step in loops.instructions:
        reads, writes = touched(loops, step)
        for cluster in clusters[: -WINDOW - 1 : -1]:
            if _joins(step, reads, writes, cluster):
                cluster.steps.append(step)
                cluster.reads += reads
                cluster.writes += writes
                break
            if _conflict(reads, writes, cluster):
                clusters.append(Cluster([step], reads, writes, _is_heavy(step)))
                break
        else:
            clusters.append(Cluster([step], reads, writes, _is_heavy(step)))
    _mark_dead(clusters)
    return clusters


def _mark_dead(clusters: list[Cluster]) -> None:
    """Find the temporaries that are read only in the cluster that computes them."""
    readers: dict[Space, list[tuple[int, int, int]]] = {space: [] for space in _LOCAL}
    for number, cluster in enumerate(clusters):
        for low, high, space in {(r.low, r.high, r.space) for r in cluster.reads}:
            if space in readers:
                readers[space].append((low, high, number))
    arrays = {space: np.array(found, np.int64).reshape(-1, 3) for space, found in readers.items()}
    for number, cluster in enumerate(clusters):
        if len(cluster.steps) < 2:
            continue
        for k, step in enumerate(cluster.steps):
            if not isinstance(step, Contract | Apply) or step.result.space not in arrays:
                continue
            own = next((w for w in cluster.writes if w.operand == step.result), None)
            found = arrays[step.result.space]
            if (
                own is not None
                and not (
                    (found[:, 0] <= own.high) & (found[:, 1] >= own.low) & (found[:, 2] != number)
                ).any()
            ):
                cluster.dead.add(k)
