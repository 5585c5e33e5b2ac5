"""Reading arguments quickly, where they are like those of the call before.

A compiled function that computes a few hundred numbers takes about a microsecond; looking at its
arguments must not take ten. Most calls are like the one before, so a `Filler` expects just that,
and says so where it was wrong.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

# What a Filler expects of an argument: one float or int, a list or tuple of them, an array of one
# shape, an array with an axis of examples in front, or None, a bool or a str.
KINDS = ("float", "integer", "floats", "integers", "array", "batch", "static")
FLOAT = cython.declare(cython.int, 0)
INTEGER = cython.declare(cython.int, 1)
FLOATS = cython.declare(cython.int, 2)
INTEGERS = cython.declare(cython.int, 3)
ARRAY = cython.declare(cython.int, 4)
BATCH = cython.declare(cython.int, 5)
STATIC = cython.declare(cython.int, 6)


class Step(NamedTuple):
    """What to expect of an argument, and where its numbers go.

    `kind` is one of `KINDS` and `type` the argument's type. It fills `size` columns from `start`
    on. `shape` and `letters` are those of (one example of) an array, and the `kind`s of dtype it
    may have; `value` is the very thing to expect if it is static.
    """

    kind: str
    start: int
    size: int
    type: type
    shape: tuple[int, ...] = ()
    letters: str = ""
    value: Any = None


@cython.final
@cython.cclass
class Filler:
    """Writes the arguments of calls into rows, as long as they are exactly as in `steps`."""

    steps: list
    kinds: list
    types: list
    width: cython.Py_ssize_t
    batched: cython.bint
    rows: Any
    first: cython.double[::1]
    places: list

    def __init__(self, steps: list[Step], width: int, batched: bool) -> None:
        self.steps = steps
        self.kinds = [KINDS.index(step.kind) for step in steps]
        self.types = [step.type for step in steps]
        self.width = width
        self.batched = batched
        self._make_room(1)

    def fill(self, arguments: tuple[Any, ...]) -> Any:
        """The rows for these arguments, overwritten by the next call; None if they are others."""
        i: cython.Py_ssize_t
        kind: cython.int
        if len(arguments) != len(self.kinds):
            return None
        if self.batched and not self._fits(arguments):
            return None
        for i in range(len(arguments)):
            x = arguments[i]
            kind = self.kinds[i]
            if type(x) is not self.types[i]:
                return None
            if kind <= INTEGERS:
                if not self._write(kind, x, i):
                    return None
            elif kind == STATIC:
                if x != self.steps[i].value:
                    return None
            else:
                step = self.steps[i]
                if x.dtype.kind not in step.letters or (kind == ARRAY and x.shape != step.shape):
                    return None
                self.places[i][...] = x
        return self.rows

    @cython.cfunc
    def _write(self, kind: cython.int, x: Any, i: cython.Py_ssize_t) -> cython.bint:
        """Write numbers into the first row, and one that all examples share into every row."""
        step = self.steps[i]
        at: cython.Py_ssize_t = step.start
        row: cython.double[::1] = self.first
        if kind <= INTEGER:
            if self.batched:
                self.places[i][...] = x
            else:
                row[at] = x
            return True
        if len(x) != step.size:
            return False
        wanted = float if kind == FLOATS else int
        for item in x:
            if type(item) is not wanted:
                return False
            row[at] = item
            at += 1
        return True

    def _fits(self, arguments: tuple[Any, ...]) -> bool:
        """Whether all batches have one length, at least 1, and the shapes expected."""
        i: cython.Py_ssize_t
        count: cython.Py_ssize_t = -1
        for i in range(len(arguments)):
            if self.kinds[i] != BATCH:
                continue
            x = arguments[i]
            if type(x) is not self.types[i] or x.ndim == 0 or x.shape[1:] != self.steps[i].shape:
                return False
            if count >= 0 and len(x) != count:
                return False
            count = len(x)
        if count < 1:
            return False
        if count != len(self.rows):
            self._make_room(count)
        return True

    def _make_room(self, count: int) -> None:
        self.rows = np.empty((count, self.width))
        self.first = self.rows[0].data
        self.places = []
        for step in self.steps:
            place = self.rows[:, step.start : step.start + step.size]
            if step.kind == "array":
                place = place.reshape(step.shape)
            elif step.kind == "batch":
                place = place.reshape(count, *step.shape)
            self.places.append(place)
