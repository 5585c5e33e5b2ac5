"""Walks of a batch, several examples abreast.

Where the numbers of some examples lie side by side, an operation of a walk is done to whole
vectors of them. The interpreter then reads in its stream once for many examples what it is to do.

What does not lie so is copied to memory that does: numbers that all examples share into every
lane, once; those of the caller's arrays, which come example after example, to and fro for as many
examples as go abreast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .apart import COPIES, Copies, copied, place_of
from .environment import SCRATCH, WALKS
from .forms import Way
from .ir import Counter, Function
from .loops import Space, Walk
from .memory import Layout
from .phases import Touched

if TYPE_CHECKING:
    from .binding import Binder

BYTES = 512  # of a number, of as many examples as go abreast


class Abreast(NamedTuple):
    """A walk ready to be written, and the memory of its copies."""

    binder: Binder
    step: Walk
    region: Layout | None  # how its numbers lie, if it has some that are the program's own
    copies: tuple[Copies, ...]
    lanes: int  # of all vectors that go abreast
    scratch: Touched

    def write(self, function: Function) -> None:
        """The code: copies, and calls of the interpreter for some examples after the others."""
        binder, f, width = self.binder, function, self.binder.module.width
        streams, real = binder.streams, binder.module.real
        elements = np.ones(COPIES + 1, np.int64)
        elements[Space.BATCHED], elements[COPIES] = binder.padded, self.lanes
        start, runs = streams.add(self.step, elements, Way.ABREAST)
        stream = f.at(streams.kind, f.pointer(WALKS), start)
        bases = f"%bases{start}"
        f.entry.append(f"  {bases} = alloca [{COPIES + 1} x ptr], align 8")
        moved = binder.module.moved.get((SCRATCH, self.scratch.low), 0)
        memory = f.at(real, f.pointer(SCRATCH), self.scratch.low + moved)
        f.do(f"store ptr {memory}, ptr {f.at('ptr', bases, COPIES)}")
        listed = {copies.space: streams.put(copies.places) for copies in self.copies}
        for copies in self.copies:
            if not copies.space.batched:
                self._spread(f, copies, listed[copies.space], memory)

        region = self.region

        def some(first: Counter, _: list[str]) -> list[str]:
            if region is not None:
                shift = binder.module.moved.get((Space.BATCHED, region.offset), 0)
                begin = f.add(f.multiply(first, width), region.address(0) + shift)
                pointer = f.at(real, f.pointer(Space.BATCHED), begin)
                f.do(f"store ptr {pointer}, ptr {f.at('ptr', bases, int(Space.BATCHED))}")
            vectors = f.smaller(f.subtract(binder.padded // width, first), self.lanes // width)
            left = f.subtract(binder.batch, f.multiply(first, width))
            examples = f.smaller(left, self.lanes)
            own = [copies for copies in self.copies if copies.space.batched]
            for copies in own:
                self._carry(f, copies, listed[copies.space], memory, first, examples, False)
            f.do(f"call void @abreast(ptr {bases}, ptr {stream}, i64 {runs}, i64 {vectors})")
            for copies in own:
                self._carry(f, copies, listed[copies.space], memory, first, examples, True)
            return []

        f.loop(binder.padded // width, self.lanes // width, [], [], some)

    def _spread(self, f: Function, copies: Copies, listed: int, memory: str) -> None:
        """Copy what all examples share into every lane."""
        binder, real, width = self.binder, self.binder.module.real, self.binder.module.width
        source, kind = f.pointer(copies.space), f"<{width} x {real}>"

        def one(k: Counter, _: list[str]) -> list[str]:
            place = place_of(f, binder.streams, listed, k)
            number = f.emit(f"load {real}, ptr {f.at(real, source, place)}")
            whole = f.splat(real, number, width)
            target = f.at(real, memory, f.multiply(f.add(k, copies.first), self.lanes))
            for vector in range(self.lanes // width):
                f.do(f"store {kind} {whole}, ptr {f.at(kind, target, vector)}, align {self._size}")
            return []

        f.loop(copies.read, 1, [], [], one)

    def _carry(
        self,
        f: Function,
        copies: Copies,
        listed: int,
        memory: str,
        first: Counter,
        examples: Counter,
        back: bool,
    ) -> None:
        """Copy what each example has of its own, or back what the walk wrote of it."""
        binder, real, layout = self.binder, self.binder.module.real, copies.layout
        low, high = copies.written if back else (0, copies.read)
        begin = f.multiply(f.multiply(first, binder.module.width), layout.example)
        source = f.at(real, f.pointer(copies.space), begin)

        def one(k: Counter, _: list[str]) -> list[str]:
            k = f.add(k, low)
            own = f.at(real, source, place_of(f, binder.streams, listed, k))
            copy = f.at(real, memory, f.multiply(f.add(k, copies.first), self.lanes))

            def each(lane: Counter, _: list[str]) -> list[str]:
                ends = f.at(real, own, f.multiply(lane, layout.example)), f.at(real, copy, lane)
                where, to = reversed(ends) if back else ends
                f.do(f"store {real} {f.emit(f'load {real}, ptr {where}')}, ptr {to}")
                return []

            f.loop(examples, 1, [], [], each)
            return []

        f.loop(high - low, 1, [], [], one)

    @property
    def _size(self) -> int:
        return self.binder.module.size


def prepare(binder: Binder, step: Walk) -> Abreast | None:
    """A batched walk done so, if there are enough examples, and its results lie side by side."""
    module = binder.module
    if module.width == 1 or binder.batch < module.width:
        return None
    region = _region(binder, step)
    if region is not None and not region.padded:
        return None
    vectors = max(BYTES // (module.width * module.size), 1)
    lanes = min(vectors * module.width, binder.padded)
    step, copies, count = copied(step, Space.BATCHED, binder.memory)
    if count * lanes >> binder.streams.shift:
        return None
    low, size = binder.scratch, max(count, 1) * lanes
    binder.scratch += size
    return Abreast(binder, step, region, copies, lanes, Touched(SCRATCH, low, low + size - 1))


def _region(binder: Binder, step: Walk) -> Layout | None:
    """How the batched temporaries of a walk lie, which are in one region."""
    used = step.right >= 0
    for spaces, places in (
        (step.space, step.at),
        (step.left_space, step.left),
        (step.right_space[used], step.right[used]),
    ):
        own = places[spaces == Space.BATCHED]
        if len(own):
            return binder.memory.layout(Space.BATCHED, int(own.min()))
    return None
