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

if cython.compiled:
    from cython.cimports.cpython.buffer import (
        Py_buffer,
        PyBUF_FORMAT,
        PyBUF_STRIDES,
        PyBuffer_IsContiguous,
        PyBuffer_Release,
        PyObject_GetBuffer,
    )

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
# Letters of a buffer's format, and of its order.
FLOATING = cython.declare(cython.char, 100)  # d
LONG = cython.declare(cython.char, 108)  # l
LONGER = cython.declare(cython.char, 113)  # q
ROWS_FIRST = cython.declare(cython.char, 67)  # C


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
    starts: list
    sizes: list
    width: cython.Py_ssize_t
    batched: cython.bint
    rows = cython.declare(object, visibility="readonly")
    numbers: cython.double[:, ::1]
    places: list

    def __init__(self, steps: list[Step], width: int, batched: bool) -> None:
        self.steps = steps
        self.kinds = [KINDS.index(step.kind) for step in steps]
        self.types = [step.type for step in steps]
        self.starts = [step.start for step in steps]
        self.sizes = [step.size for step in steps]
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
            elif not (self._copied(x, i) or self._assigned(x, i)):
                return None
        return self.rows

    @cython.cfunc
    def _write(self, kind: cython.int, x: Any, i: cython.Py_ssize_t) -> cython.bint:
        """Write numbers into the first row, and one that all examples share into every row."""
        b: cython.Py_ssize_t
        at: cython.Py_ssize_t = self.starts[i]
        number: cython.double
        if kind <= INTEGER:
            number = x
            for b in range(len(self.numbers)):
                self.numbers[b, at] = number
            return True
        if len(x) != self.sizes[i]:
            return False
        wanted = float if kind == FLOATS else int
        for item in x:
            if type(item) is not wanted:
                return False
            self.numbers[0, at] = item
            at += 1
        return True

    @cython.cfunc
    def _copied(self, x: Any, i: cython.Py_ssize_t) -> cython.bint:
        """Write an array of the usual kind by itself: NumPy takes longer to look at it."""
        if not cython.compiled:
            return False
        view = cython.declare(Py_buffer)
        try:
            PyObject_GetBuffer(x, cython.address(view), PyBUF_FORMAT | PyBUF_STRIDES)
        except (BufferError, ValueError):
            return False
        done: cython.bint = self._copy(cython.address(view), i)
        PyBuffer_Release(cython.address(view))
        return done

    @cython.cfunc
    def _copy(self, view: cython.pointer[Py_buffer], i: cython.Py_ssize_t) -> cython.bint:
        """Write what a buffer holds, if those are float64 or int64 and lie as expected."""
        b: cython.Py_ssize_t
        k: cython.Py_ssize_t
        axis: cython.Py_ssize_t
        step = self.steps[i]
        shape: tuple = step.shape
        first: cython.Py_ssize_t = self.kinds[i] == BATCH
        if view.ndim != first + len(shape) or not PyBuffer_IsContiguous(view, ROWS_FIRST):
            return False
        if first and view.shape[0] != len(self.numbers):
            return False
        for axis in range(len(shape)):
            if view.shape[first + axis] != shape[axis]:
                return False
        letter: cython.char = view.format[0]
        if view.itemsize != 8 or view.format[1] != 0:
            return False
        at: cython.Py_ssize_t = self.starts[i]
        size: cython.Py_ssize_t = self.sizes[i]
        rows: cython.Py_ssize_t = len(self.numbers) if first else 1
        floats: cython.pointer[cython.double] = cython.cast(cython.pointer[cython.double], view.buf)
        integers: cython.pointer[cython.longlong] = cython.cast(
            cython.pointer[cython.longlong], view.buf
        )
        if letter == FLOATING and step.letters == "f":
            for b in range(rows):
                for k in range(size):
                    self.numbers[b, at + k] = floats[b * size + k]
        elif letter in (LONG, LONGER) and step.letters == "iu":
            for b in range(rows):
                for k in range(size):
                    self.numbers[b, at + k] = cython.cast(cython.double, integers[b * size + k])
        else:
            return False
        return True

    @cython.cfunc
    def _assigned(self, x: Any, i: cython.Py_ssize_t) -> cython.bint:
        """Have NumPy write an array."""
        place = self.places[i]
        if x.dtype.kind not in self.steps[i].letters or x.shape != place.shape:
            return False
        place[...] = x
        return True

    def _fits(self, arguments: tuple[Any, ...]) -> bool:
        """Whether all batches have one length, at least 1; there is room for so many then."""
        i: cython.Py_ssize_t
        count: cython.Py_ssize_t = -1
        for i in range(len(arguments)):
            if self.kinds[i] != BATCH:
                continue
            x = arguments[i]
            if type(x) is not self.types[i] or x.ndim == 0:
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
        self.numbers = self.rows.data
        self.places = []
        for step in self.steps:
            place = self.rows[:, step.start : step.start + step.size]
            if step.kind == "array":
                place = place.reshape(step.shape)
            elif step.kind == "batch":
                place = place.reshape(count, *step.shape)
            self.places.append(place)
