"""Walks of one example whose numbers are all in one array, so that a place is a mere index.

That array is the temporaries', which most numbers of a walk are. Behind them there is room for
copies of the others: of what the walk reads, made before it, and of what it writes, copied back.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .apart import COPIES, Copies, copied, place_of
from .environment import WALKS
from .forms import Way
from .ir import Counter, Function, vector
from .loops import Space, Walk
from .phases import Touched

if TYPE_CHECKING:
    from .binding import Binder


class Near(NamedTuple):
    """A walk ready to be written, and the memory of its copies."""

    binder: Binder
    step: Walk
    copies: tuple[Copies, ...]
    scratch: Touched

    def write(self, function: Function) -> None:
        """The code: copies, a call of the interpreter, copies back."""
        f, streams = function, self.binder.streams
        start, runs = streams.add(self.step, np.ones(COPIES + 1, np.int64), Way.NEAR)
        numbers = f.pointer(Space.TEMPORARY)
        for copies in self.copies:
            self._carry(f, copies, 0, copies.read, False)
        stream = f.at(streams.kind, f.pointer(WALKS), start)
        f.do(f"call void @near(ptr {numbers}, ptr {stream}, i64 {runs})")
        for copies in self.copies:
            self._carry(f, copies, *copies.written, True)

    def _carry(self, f: Function, copies: Copies, low: int, high: int, back: bool) -> None:
        """Copy those from number `low` to `high` to the temporaries, or back from there."""
        places = copies.places[low:high]
        if not len(places):
            return
        streams, module, first = self.binder.streams, self.binder.module, int(places[0])
        real, size = module.real, module.size
        own = f.at(real, f.pointer(copies.space), first)
        copy = f.at(real, f.pointer(Space.TEMPORARY), copies.first + low)
        whole = (np.diff(places) == 1).all()
        listed = 0 if whole else streams.put(places - first)

        def some(kind: str, k: Counter, _: list[str]) -> list[str]:
            ends = (
                f.at(kind, own, k if whole else place_of(f, streams, listed, k)),
                f.at(kind, copy, k),
            )
            to, source = ends if back else reversed(ends)
            number = f.emit(f"load {kind}, ptr {source}, align {size}")
            f.do(f"store {kind} {number}, ptr {to}, align {size}")
            return []

        width = module.width if whole else 1
        vectors = len(places) // width
        f.loop(vectors, 1, [], [], partial(some, vector(real, width)))
        own, copy = (f.at(real, each, vectors * width) for each in (own, copy))
        f.loop(len(places) - vectors * width, 1, [], [], partial(some, real))


def prepare(binder: Binder, step: Walk) -> Near | None:
    """A walk of one example done so, if its indices are not too large for the stream."""
    lengths = binder.memory.lengths
    low = lengths[Space.TEMPORARY]
    step, copies, count = copied(step, Space.TEMPORARY, binder.memory, low)
    if low + count >> binder.streams.shift:
        return None
    lengths[Space.TEMPORARY] += count
    return Near(binder, step, copies, Touched(Space.TEMPORARY, low, max(low + count - 1, low)))
