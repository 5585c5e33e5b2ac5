"""How the spaces of a program lie in memory, for one batch size.

A batched array has its examples side by side (a vector register then holds one element of several
examples), or one after the other (it then holds several elements of one example). The caller's
arrays come one after the other. Temporaries are cut into regions that no operand straddles, and
each region takes the form that costs fewer copies, counted roughly, where it is used. What that
is depends on the other regions used there: so all are reconsidered until none changes, from all
of one form and from all of the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

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
    Scatter,
    Space,
    Take,
    Walk,
    leaves,
)

_COPY, _SCATTER, _ALONE = 0.7, 1.5, 4.0
_APART = 0.2  # to read a number for all lanes whose neighbours in the sum have lines of their own
_NEAR = 2048  # numbers that a level-1 cache holds besides what else is read
_FEW = 16  # vector registers
BESIDE, AFTER = 0, 1  # examples side by side, or one after the other
SWEEPS = 4  # over all regions, while any of them changes its form


class Layout(NamedTuple):
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


@dataclass(slots=True)
class _Way:
    """A way to run a nest: the form it wants of regions, and what others cost it."""

    form: int
    always: float = 0.0
    regions: dict[int, float] = field(default_factory=dict)


class _Need(NamedTuple):
    """The ways to run a nest, of which it takes the cheapest."""

    ways: tuple[_Way, ...]

    def cost(self, forms: list[int]) -> float:
        """Of copies and scattered results, if the regions have these forms."""
        return min(
            way.always + sum(cost for k, cost in way.regions.items() if forms[k] != way.form)
            for way in self.ways
        )


def _settled(start: int, sizes: list[int], users: list[list[_Need]]) -> list[int]:
    """The form of every region that suits the others', all of one form to begin with."""
    forms = [start if size > 1 else BESIDE for size in sizes]
    for _ in range(SWEEPS):
        before = list(forms)
        for k, size in enumerate(sizes):
            if size > 1:
                costs = []
                for form in (BESIDE, AFTER):
                    forms[k] = form
                    costs.append(sum(need.cost(forms) for need in users[k]))
                forms[k] = AFTER if costs[AFTER] < costs[BESIDE] else BESIDE
        if forms == before:
            break
    return forms


class Memory:
    """The layouts of all spaces of a program."""

    def __init__(self, loops: Loops, batch: int, lanes: int, registers: int) -> None:
        self.loops, self.batch, self.lanes, self.registers = loops, batch, lanes, registers
        self.lengths = {
            space: loops.size(space) * (batch if space.batched else 1) for space in Space
        }
        self._plain = {
            space: Layout(0, 0, 1, loops.size(space) if space.batched else 0) for space in Space
        }
        self._starts: list[int] = []
        self._regions: list[Layout] = []
        if loops.size(Space.BATCHED):
            self._arrange()

    def layout(self, space: Space, place: int) -> Layout:
        """The layout around an element of a space."""
        if space != Space.BATCHED or not self._regions:
            return self._plain[space]
        return self._regions[max(bisect_right(self._starts, place) - 1, 0)]

    def block(self, place: int) -> tuple[int, int]:
        """Where the region around an element of BATCHED begins, and its size."""
        k = max(bisect_right(self._starts, place) - 1, 0)
        ends = (
            self._regions[k + 1].offset
            if k + 1 < len(self._regions)
            else self.lengths[Space.BATCHED]
        )
        return self._regions[k].offset, ends - self._regions[k].offset

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
        self._starts = [low for low, _ in bounds]
        sizes = [high - low + 1 for low, high in bounds]
        forms = self._forms(sizes) if self.batch >= self.lanes > 1 else [AFTER] * len(sizes)
        padded = -(-self.batch // self.lanes) * self.lanes
        offset = 0
        for form, (low, high) in zip(forms, bounds):
            size = high - low + 1
            if form == AFTER:
                self._regions.append(Layout(low, offset, 1, size))
                offset += -(-size * self.batch // self.lanes) * self.lanes
            else:
                self._regions.append(Layout(low, offset, padded, 1, True))
                offset += size * padded
        self.lengths[Space.BATCHED] = offset

    def _forms(self, sizes: list[int]) -> list[int]:
        """The form of every region: examples side by side, or one after the other."""
        needs: list[_Need] = []
        users: list[list[_Need]] = [[] for _ in sizes]
        for step, counts in leaves(self.loops.instructions):
            for need in self._needs(step, float(prod(counts))):
                needs.append(need)
                for k in {k for way in need.ways for k in way.regions}:
                    users[k].append(need)
        found = [_settled(start, sizes, users) for start in (BESIDE, AFTER)]
        return min(found, key=lambda forms: sum(need.cost(forms) for need in needs))

    def _bounds(self) -> list[tuple[int, int]]:
        """The batched temporaries cut where no operand reaches across."""
        found: list[tuple[int, int]] = []
        for step in self.loops.instructions:
            own = [
                (r.low, r.high)
                for regions in touched(self.loops, step)
                for r in regions
                if r.space == Space.BATCHED
            ]
            if own and isinstance(step, Walk):  # whose operands may all lie anywhere
                own = [(min(low for low, _ in own), max(high for _, high in own))]
            found += own
        found.sort()
        bounds: list[tuple[int, int]] = []
        for low, high in found:
            if bounds and low <= bounds[-1][1]:
                bounds[-1] = bounds[-1][0], max(high, bounds[-1][1])
            else:
                bounds.append((low, high))
        return bounds or [(0, self.loops.size(Space.BATCHED) - 1)]

    def _abreast(self, step: Walk) -> _Need:
        """What a walk costs whose examples do not go abreast."""
        way, own = _Way(BESIDE), step.at[step.space == Space.BATCHED]
        if len(own):
            k = max(bisect_right(self._starts, int(own[0])) - 1, 0)
            way.regions[k] = _ALONE * len(own) * self.batch
        return _Need((way,))

    def _needs(self, step: Nest | Walk, times: float) -> tuple[_Need, ...]:
        """What a nest costs with vectors of examples, or of lanes if there are enough of them."""
        if isinstance(step, Walk):
            return (self._abreast(step),)
        lanes, result = step.lanes, step.result
        if not result.space.batched:
            return self._sums_over_examples(step, times)
        ways = [_Way(BESIDE)]
        across = self._across(lanes, result)
        if across is not None:
            ways.append(_Way(AFTER))
        for way in ways:
            self._add(way, result, lanes, lanes, times * _SCATTER)
            for operand, loops in self._reads(step):
                if way.form == BESIDE:
                    if operand.space.batched:
                        self._add(way, operand, loops, lanes, times * _COPY)
                elif across is not None and operand.strides[across]:
                    self._add(way, operand, loops, lanes, times * _COPY, operand.strides[across])
        return (_Need(tuple(ways)),)

    def _sums_over_examples(self, step: Nest, times: float) -> tuple[_Need, ...]:
        """What a nest costs whose vectors are of lanes, and whose terms are the examples.

        What moves along the vectors should come one example after the other. Of an operand that
        all lanes share each term is one number: if the examples are all its terms, they should lie
        side by side, where the CPU has few registers and tiles are small, so that these numbers
        are read often.
        """
        vectors, numbers = _Way(AFTER), _Way(BESIDE)
        along = self._across(step.lanes, step.result) if self.registers <= _FEW else None
        for operand, loops in self._reads(step):
            if operand.space != Space.BATCHED:
                continue
            alone = along is not None and not operand.strides[along] and loops == step.lanes
            if along is not None and alone and self._size(operand, loops) * self.batch > _NEAR:
                tiles = step.lanes[along].extent / (2 * self.lanes)
                self._add(numbers, operand, loops, step.lanes, times * tiles * _APART)
            elif self._across(step.lanes, operand) is not None:
                self._add(vectors, operand, loops, step.lanes, times * _COPY)
        return _Need((vectors,)), _Need((numbers,))

    def _add(
        self,
        way: _Way,
        operand: Operand,
        loops: tuple[Loop, ...],
        lanes: tuple[Loop, ...],
        cost: float,
        stride: int = 1,
    ) -> None:
        """Count an operand in a way that wants it in a form, and its neighbours `stride` apart."""
        reached = region(operand, loops, len(lanes), self.loops.table)
        if reached is None:
            return
        cost *= self._size(operand, loops) * (self.batch if operand.space.batched else 1)
        if abs(stride) != 1 or operand.indirect:
            way.always += cost
        elif operand.space == Space.BATCHED:
            k = max(bisect_right(self._starts, reached.low) - 1, 0)
            way.regions[k] = way.regions.get(k, 0.0) + cost
        elif operand.space.batched and way.form == BESIDE:
            way.always += cost

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
        elif isinstance(step, Scatter):
            yield step.source, step.lanes
        else:
            assert isinstance(step, Indicator)

    def _across(self, lanes: tuple[Loop, ...], operand: Operand) -> int | None:
        """The lane loop along which an operand fills vectors, if there is one."""
        if operand.indirect or not all(loop.even for loop in lanes):
            return None
        fitting = [
            k
            for k, (loop, stride) in enumerate(zip(lanes, operand.strides))
            if stride == 1 and loop.extent >= self.lanes
        ]
        return fitting[0] if fitting else None

    def _size(self, operand: Operand, loops: tuple[Loop, ...]) -> float:
        size = 1.0
        for loop, stride in zip(loops, operand.strides):
            size *= loop.extent if stride else 1
        return size
