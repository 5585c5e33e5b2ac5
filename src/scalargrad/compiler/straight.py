"""Walks of one example written out: an instruction for each operation, its numbers in registers.

What LLVM takes for a function grows faster than the function, so a long walk is cut into parts. These
are compiled quickly: LLVM's best would be an order of their instructions that is no better, and take
ten times as long. A number that nobody reads outside of its function is not stored.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .arithmetic import Arithmetic
from .forms import Term, value
from .fuse import readers
from .ir import Function
from .loops import Space, Walk

if TYPE_CHECKING:
    from .binding import Binder

PART = 1500  # operations and terms of a function


def write(binder: Binder, step: Walk, function: Function) -> None:
    """The code of a short walk."""
    part = np.zeros(len(step.code), np.int64)
    _part(binder, step, _stored(binder, step, part), range(len(part)), function)


def in_parts(binder: Binder, step: Walk, function: Function) -> None:
    """Functions that do parts of a walk, and their calls."""
    weight = 1 + np.diff(step.first)
    part = (np.cumsum(weight) - weight) // PART
    stored = _stored(binder, step, part)
    cuts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(part)]
    for low, high in pairwise(cuts):
        name = f"part{binder.streams.functions}"
        binder.streams.functions += 1
        own = Function(binder.module, name, quick=True)
        _part(binder, step, stored, range(low, high), own)
        binder.module.finish(own)
        function.do(f"call void @{name}(ptr %env)")


def _part(
    binder: Binder, step: Walk, stored: NDArray[np.bool_], own: range, function: Function
) -> None:
    """The code of some operations."""
    f, m, real = function, Arithmetic(function, 1), binder.module.real
    known: dict[tuple[int, int], str] = {}

    def pointer(space: int, place: int) -> str:
        layout = binder.memory.layout(Space(space), place)
        return f.at(real, f.pointer(space), layout.address(place))

    def number(space: int, place: int) -> str:
        found = known.get((space, place))
        if found is None:
            if space == Space.CONSTANT:
                found = m.constant(float(binder.constants[place]))
            else:
                found = f.emit(f"load {real}, ptr {pointer(space, place)}, align {m.module.size}")
            known[space, place] = found
        return found

    begin, end = int(step.first[own.start]), int(step.first[own.stop])
    first = (step.first[own.start : own.stop + 1] - begin).tolist()
    left = [*zip(step.left_space[begin:end].tolist(), step.left[begin:end].tolist())]
    right = [*zip(step.right_space[begin:end].tolist(), step.right[begin:end].tolist())]
    style = step.style[begin:end].tolist()
    results = [
        *zip(step.space.tolist()[own.start : own.stop], step.at.tolist()[own.start : own.stop])
    ]
    for k, i in enumerate(own):
        terms: list[Term] = []
        for t in range(first[k], first[k + 1]):
            factor = number(*right[t]) if right[t][1] >= 0 else None
            terms.append((number(*left[t]), factor, style[t]))
        result = known[results[k]] = value(m, int(step.code[i]), float(step.const[i]), terms)
        if stored[i]:
            f.do(f"store {real} {result}, ptr {pointer(*results[k])}, align {m.module.size}")


def _stored(binder: Binder, step: Walk, part: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each result has to be stored: all but temporaries that only their own part reads.

    What other instructions read is known by the interval that it lies in.
    """
    stored: NDArray[np.bool_] = step.space != Space.TEMPORARY
    places = step.at[~stored]
    if not len(places):
        return stored
    low, high = int(places.min()), int(places.max()) + 1
    wanted = binder.readers[low:high] > readers(binder.loops, (step,), high)[low:]
    writer = np.full(high - low, -1, np.int64)
    writer[places - low] = part[~stored]
    owner = np.repeat(part, np.diff(step.first))
    for space, read in ((step.left_space, step.left), (step.right_space, step.right)):
        own = (space == Space.TEMPORARY) & (read >= low) & (read < high)
        elsewhere = writer[read[own] - low] != owner[own]
        wanted[read[own][elsewhere] - low] = True
    stored[~stored] = wanted[places - low]
    return stored
