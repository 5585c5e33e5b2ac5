"""Walks of one example written out: an instruction for each operation, its numbers in registers.

What LLVM takes for a function grows faster than the function, so a long walk is cut into several.
There its best is not asked for either: it would look for an order of the instructions that is no
better, and takes ten times as long. What nobody reads outside of its function is not stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .arithmetic import Arithmetic
from .forms import Term, value
from .fuse import touched
from .ir import Function
from .loops import Space, Walk

if TYPE_CHECKING:
    from .binding import Binder

PART = 500  # operations of a function


def write(binder: Binder, step: Walk, function: Function) -> None:
    """The code of a walk, or of functions that do parts of it, and their calls."""
    stored, count = _stored(binder, step), len(step.code)
    if count <= PART:
        _part(binder, step, stored, range(count), function)
        return
    for low in range(0, count, PART):
        name = f"part{binder.streams.functions}"
        binder.streams.functions += 1
        part = Function(binder.module, name, quick=True)
        _part(binder, step, stored, range(low, min(low + PART, count)), part)
        binder.module.finish(part)
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


def _stored(binder: Binder, step: Walk) -> NDArray[np.bool_]:
    """Whether each result has to be stored: all but temporaries that only its own part reads."""
    count = len(step.code)
    if not count:
        return np.zeros(0, bool)
    part = np.arange(count) // PART
    owner = np.repeat(part, np.diff(step.first))
    writer = np.full(binder.loops.size(Space.TEMPORARY), -1, np.int64)
    temporary = step.space == Space.TEMPORARY
    writer[step.at[temporary]] = part[temporary]
    wanted = np.zeros(len(writer), bool)
    for space, places in ((step.left_space, step.left), (step.right_space, step.right)):
        own = (space == Space.TEMPORARY) & (places >= 0)
        read = places[own]
        wanted[read[writer[read] != owner[own]]] = True
    for other in binder.loops.instructions:
        if other is not step:
            for region in touched(binder.loops, other)[0]:
                if region.space == Space.TEMPORARY:
                    wanted[region.low : region.high + 1] = True
    stored: NDArray[np.bool_] = ~temporary
    stored[temporary] = wanted[step.at[temporary]]
    return stored
