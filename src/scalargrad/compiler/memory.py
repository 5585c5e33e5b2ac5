"""How the spaces of a program lie in memory, for one batch size.

A batched array has its examples side by side (a vector register then holds one element of several
examples), or one after the other (it then holds several elements of one example). The caller's
arrays come one after the other. Temporaries are cut into regions that no operand straddles, and
each region takes the form that costs fewer copies, counted roughly, where it is used.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from .fuse import region, touched
from .loops import (
    Apply,
    Contract,
    Indicator,
    Loop,
    Loops,
    Nest,
    Operand,
    Space,
    Take,
    Walk,
    leaves,
)

_COPY, _SCATTER = 0.7, 1.5


@dataclass(frozen=True, slots=True)
class Layout:
    """Element e of example b is number `offset + (e - start) * element + b * example`.

    `padded`: what follows the last example up to a whole vector may be read and written.
    """

    start: int
    offset: int
    element: int
    example: int
    padded: bool = False

    def address(self, place: int) -> int:
        """Where an element of the first example is."""
        return self.offset + (place - self.start) * self.element


class Memory:
    """The layouts of all spaces of a program."""

    def __init__(self, loops: Loops, batch: int, lanes: int) -> None:
        self.loops, self.batch, self.lanes = loops, batch, lanes
        self.lengths = {
            space: loops.size(space) * (batch if space.batched else 1) for space in Space
        }
        self._plain = {
            space: Layout(0, 0, 1, loops.size(space) if space.batched else 0) for space in Space
        }
        self._starts: list[int] = []
        self._regions: list[Layout] = []
        if batch >= lanes > 1 and loops.size(Space.BATCHED):
            self._arrange()

    def layout(self, space: Space, place: int) -> Layout:
        """The layout around an element of a space."""
        if space != Space.BATCHED or not self._regions:
            return self._plain[space]
        return self._regions[max(bisect_right(self._starts, place) - 1, 0)]

    def addresses(
        self, space: Space, places: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where elements of the first example are, and how far the next example is from each."""
        plain = [self._plain[space]]
        layouts = (self._regions if space == Space.BATCHED else []) or plain
        form = np.array([(k.start, k.offset, k.element, k.example) for k in layouts], np.int64)
        which = np.maximum(np.searchsorted(form[:, 0], places, side="right") - 1, 0)
        start, offset, element, example = form[which].T
        return offset + (places - start) * element, example

    def _arrange(self) -> None:
        bounds = self._bounds()
        beside, after = [0.0] * len(bounds), [0.0] * len(bounds)
        starts = [low for low, _ in bounds]
        for step, counts in leaves(self.loops.instructions):
            for place, side, one in self._costs(step):
                k = max(bisect_right(starts, place) - 1, 0)
                beside[k] += side * prod(counts)
                after[k] += one * prod(counts)
        padded = -(-self.batch // self.lanes) * self.lanes
        offset = 0
        for k, (low, high) in enumerate(bounds):
            size = high - low + 1
            if size > 1 and after[k] < beside[k]:
                self._regions.append(Layout(low, offset, 1, size))
                offset += -(-size * self.batch // self.lanes) * self.lanes
            else:
                self._regions.append(Layout(low, offset, padded, 1, True))
                offset += size * padded
        self._starts = starts
        self.lengths[Space.BATCHED] = offset

    def _bounds(self) -> list[tuple[int, int]]:
        """The batched temporaries cut where no operand reaches across."""
        found = sorted(
            (r.low, r.high)
            for step in self.loops.instructions
            for regions in touched(self.loops, step)
            for r in regions
            if r.space == Space.BATCHED
        )
        bounds: list[tuple[int, int]] = []
        for low, high in found:
            if bounds and low <= bounds[-1][1]:
                bounds[-1] = bounds[-1][0], max(high, bounds[-1][1])
            else:
                bounds.append((low, high))
        return bounds or [(0, self.loops.size(Space.BATCHED) - 1)]

    def _costs(self, step: Nest | Walk) -> Iterator[tuple[int, float, float]]:
        """(a place of the region, cost with examples side by side, one after the other)."""
        if isinstance(step, Walk):
            # It touches all it touches as one region, and goes over the examples in turn.
            return
        wide = self._wide(step.lanes, step.result)
        if step.result.space == Space.BATCHED and not wide:
            size = self._size(step.result, step.lanes)
            yield step.result.base, 0.0, _SCATTER * size * self.batch
        for operand, loops in self._reads(step):
            reached = region(operand, loops, len(step.lanes), self.loops.table)
            if operand.space != Space.BATCHED or reached is None:
                continue
            size = self._size(operand, loops) * self.batch
            if step.result.space.batched:
                yield reached.low, 0.0, 0.0 if wide else _COPY * size
            elif any(operand.strides[: len(step.lanes)]):
                along = self._wide(step.lanes, operand)
                yield reached.low, _COPY * size, 0.0 if along else _COPY * size

    def _reads(self, step: Nest) -> Iterator[tuple[Operand, tuple[Loop, ...]]]:
        if isinstance(step, Contract):
            for group in step.groups:
                for segment in group.segments:
                    for operand in (segment.left, segment.right):
                        if operand is not None:
                            yield operand, (*step.lanes, *segment.loops)
        elif isinstance(step, Apply):
            for operand in step.operands:
                yield operand, step.lanes
        elif isinstance(step, Take):
            yield step.source, (*step.lanes, Loop(step.count))
        else:
            assert isinstance(step, Indicator)

    def _wide(self, lanes: tuple[Loop, ...], operand: Operand) -> bool:
        """Whether neighbouring lanes of an operand fill vectors."""
        if operand.indirect or any(any(loop.slopes) for loop in lanes):
            return False
        extents = [loop.extent for loop, s in zip(lanes, operand.strides) if s == 1]
        return max(extents, default=0) >= self.lanes

    def _size(self, operand: Operand, loops: tuple[Loop, ...]) -> float:
        size = 1.0
        for loop, stride in zip(loops, operand.strides):
            size *= loop.extent if stride else 1
        return size
