"""Reading arguments quickly, where they are like those of the call before.

A compiled function that computes a few hundred numbers takes about a microsecond; looking at its
arguments must not take ten. Most calls are like the one before, so a `Filler` expects just that,
and says so where it was wrong.
"""

from __future__ import annotations

from typing import Any

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
    from cython.cimports.cpython.float import PyFloat_AS_DOUBLE
    from cython.cimports.cpython.ref import PyObject
    from cython.cimports.scalargrad.compiler.filler import borrowed
else:

    def PyFloat_AS_DOUBLE(x: float) -> float:
        """The number that a float is."""
        return x

    def borrowed(items: list[Any] | tuple[Any, ...]) -> list[Any] | tuple[Any, ...]:
        """The items themselves: only compiled code can do without counting who holds them."""
        return items


from .structure import Array, Batched, Items, Keyed, Row, Scalar, Signature, Static

# What a Slot expects: a float or an int; a list or tuple of them; an array; a list or tuple, or a
# dict, of what other Slots expect; None, a bool or a str; an array or a list with a part for every
# example of a batch.
FLOAT = cython.declare(cython.int, 0)
INTEGER = cython.declare(cython.int, 1)
FLOATS = cython.declare(cython.int, 2)
INTEGERS = cython.declare(cython.int, 3)
ARRAY = cython.declare(cython.int, 4)
ITEMS = cython.declare(cython.int, 5)
KEYED = cython.declare(cython.int, 6)
STATIC = cython.declare(cython.int, 7)
BATCH = cython.declare(cython.int, 8)
EXAMPLES = cython.declare(cython.int, 9)
# Where a number goes that all examples share.
EVERY = cython.declare(cython.Py_ssize_t, -1)
# The kinds of dtype that arrays of numbers and of integers have.
LETTERS = {"number": "f", "index": "iu"}
ROOMS = 4  # numbers of examples whose rows are kept: those of all batches, and of the last one
# Letters of a buffer's format, and of its order.
FLOATING = cython.declare(cython.char, 100)  # d
LONG = cython.declare(cython.char, 108)  # l
LONGER = cython.declare(cython.char, 113)  # q
ROWS_FIRST = cython.declare(cython.char, 67)  # C


@cython.final
@cython.cclass
class Slot:
    """What to expect of an argument or a part of one, and where its numbers go.

    That is of type `expected`, and fills `size` columns from `start` on. `shape` and `letters` are
    those of (one example of) an array, and the kinds of dtype it may have; `extra` is the very
    thing to expect if it is static, or the keys of a dict; `place` is where NumPy wrote an array
    last, in a row of `rows`.
    """

    kind: cython.int
    expected: type
    start: cython.Py_ssize_t
    size: cython.Py_ssize_t
    shape: tuple
    letters: str
    extra: Any
    parts: list
    rows: Any
    row: cython.Py_ssize_t
    place: Any

    def __init__(self, signature: Signature, start: int) -> None:
        self.start, self.size, self.parts = start, signature.size, []
        self.rows, self.row = None, 0
        if isinstance(signature, Scalar):
            integer = signature.kind == "index"
            self.kind, self.expected = (INTEGER, int) if integer else (FLOAT, float)
        elif isinstance(signature, Row):
            self.kind = INTEGERS if signature.kind == "index" else FLOATS
            self.expected = signature.sequence
        elif isinstance(signature, Array):
            self._expect_array(ARRAY, signature)
        elif isinstance(signature, Static):
            self.kind, self.expected, self.extra = STATIC, signature.type, signature.value
        elif isinstance(signature, Batched) and signature.sequence is np.ndarray:
            self._expect_array(BATCH, signature.item)
        elif isinstance(signature, Batched):
            self.kind, self.expected = EXAMPLES, signature.sequence
            self.parts.append(Slot(signature.item, start))
        else:
            self._expect_parts(signature)

    def _expect_array(self, kind: int, item: Signature) -> None:
        assert isinstance(item, Array | Scalar)
        self.kind, self.expected = kind, np.ndarray
        self.shape = item.shape if isinstance(item, Array) else ()
        self.letters = LETTERS[item.kind]

    def _expect_parts(self, signature: Items | Keyed) -> None:
        if isinstance(signature, Keyed):
            self.kind, self.expected, self.extra = KEYED, dict, signature.keys
        else:
            self.kind, self.expected = ITEMS, signature.sequence
        start = self.start
        for item in signature.items:
            self.parts.append(Slot(item, start))
            start += item.size


@cython.final
@cython.cclass
class Filler:
    """Writes the arguments of calls into rows, as long as they are like those of `signatures`.

    The rows have `width` columns, and there is one for each example of a batch; for the same
    number of examples they are the same as long as there are not too many others.
    """

    root: Slot
    width: cython.Py_ssize_t
    examples: cython.Py_ssize_t
    rooms: dict
    rows = cython.declare(object, visibility="readonly")
    numbers: cython.double[:, ::1]

    def __init__(self, signatures: tuple[Signature, ...], width: int) -> None:
        self.root, self.width, self.rooms = Slot(Items(tuple, signatures), 0), width, {}
        self._make_room(1)

    def fill(self, arguments: tuple[Any, ...]) -> Any:
        """The rows for these arguments, overwritten by the next call; None if they are others."""
        self.examples = 0
        try:
            if self._write(self.root, arguments, EVERY):
                return self.rows
            if self.examples > 0 and self.examples != len(self.numbers):
                self._make_room(self.examples)
                if self._write(self.root, arguments, EVERY):
                    return self.rows
        except (OverflowError, ValueError):  # an integer beyond float64: the thorough way names it
            pass
        return None

    @cython.cfunc
    def _write(self, slot: Slot, x: Any, row: cython.Py_ssize_t) -> cython.bint:
        """Write x into its columns of one row or of every row, if it is as expected."""
        b: cython.Py_ssize_t
        number: cython.double
        if type(x) is not slot.expected:
            return False
        if slot.kind <= INTEGER:
            number = x
            if row != EVERY:
                self.numbers[row, slot.start] = number
                return True
            for b in range(len(self.numbers)):
                self.numbers[b, slot.start] = number
            return True
        if slot.kind <= INTEGERS:
            return self._write_row(slot, x, max(row, 0))
        if slot.kind == ARRAY:
            return self._copied(slot, x, max(row, 0), 1) or self._assigned(slot, x, max(row, 0), 1)
        if slot.kind == ITEMS:
            return self._write_items(slot, x, row)
        if slot.kind == KEYED:
            return self._write_keyed(slot, x, row)
        if slot.kind == STATIC:
            return x == slot.extra
        return self._write_batch(slot, x)

    @cython.cfunc
    def _write_row(self, slot: Slot, x: Any, row: cython.Py_ssize_t) -> cython.bint:
        at: cython.Py_ssize_t = slot.start
        end: cython.Py_ssize_t = at + slot.size
        if len(x) != slot.size:
            return False
        if slot.kind == FLOATS and (slot.expected is list or slot.expected is tuple):
            return self._write_floats(x, row, at)
        wanted = float if slot.kind == FLOATS else int
        for item in x:
            if type(item) is not wanted or at == end:
                return False
            self.numbers[row, at] = item
            at += 1
        return at == end

    @cython.cfunc
    def _write_floats(self, x: Any, row: cython.Py_ssize_t, at: cython.Py_ssize_t) -> cython.bint:
        """Write a list or tuple, which stays as it is: to ask a float runs nobody's code."""
        k: cython.Py_ssize_t
        items: cython.pointer[cython.pointer[PyObject]] = borrowed(x)
        for k in range(len(x)):
            if type(cython.cast(object, items[k])) is not float:
                return False
            self.numbers[row, at + k] = PyFloat_AS_DOUBLE(cython.cast(object, items[k]))
        return True

    @cython.cfunc
    def _write_items(self, slot: Slot, x: Any, row: cython.Py_ssize_t) -> cython.bint:
        k: cython.Py_ssize_t = 0
        count: cython.Py_ssize_t = len(slot.parts)
        if len(x) != count:
            return False
        for item in x:
            if k == count or not self._write(slot.parts[k], item, row):
                return False
            k += 1
        return k == count

    @cython.cfunc
    def _write_keyed(self, slot: Slot, x: dict, row: cython.Py_ssize_t) -> cython.bint:
        k: cython.Py_ssize_t = 0
        count: cython.Py_ssize_t = len(slot.parts)
        keys: tuple = slot.extra
        if len(x) != count:
            return False
        for key, item in x.items():
            if k == count or (key is not keys[k] and key != keys[k]):
                return False
            if not self._write(slot.parts[k], item, row):
                return False
            k += 1
        return k == count

    @cython.cfunc
    def _write_batch(self, slot: Slot, x: Any) -> cython.bint:
        """Write what has a part for every example; remember how many, if there are others."""
        b: cython.Py_ssize_t = 0
        count: cython.Py_ssize_t = len(self.numbers)
        if slot.kind == BATCH and x.ndim == 0:
            return False
        if len(x) != count:
            self.examples = len(x)
            return False
        if slot.kind == BATCH:
            return self._copied(slot, x, 0, count) or self._assigned(slot, x, 0, count)
        part: Slot = slot.parts[0]
        for item in x:
            if b == count or not self._write(part, item, b):
                return False
            b += 1
        return b == count

    # --- arrays ------------------------------------------------------------------------------

    @cython.cfunc
    def _copied(
        self, slot: Slot, x: Any, row: cython.Py_ssize_t, rows: cython.Py_ssize_t
    ) -> cython.bint:
        """Write an array of the usual kind by itself: NumPy takes longer to look at it."""
        if not cython.compiled:
            return False
        view = cython.declare(Py_buffer)
        try:
            PyObject_GetBuffer(x, cython.address(view), PyBUF_FORMAT | PyBUF_STRIDES)
        except (BufferError, ValueError):
            return False
        done: cython.bint = self._copy(slot, cython.address(view), row, rows)
        PyBuffer_Release(cython.address(view))
        return done

    @cython.cfunc
    def _copy(
        self,
        slot: Slot,
        view: cython.pointer[Py_buffer],
        row: cython.Py_ssize_t,
        rows: cython.Py_ssize_t,
    ) -> cython.bint:
        """Write what a buffer holds, if those are float64 or int64 and lie as expected."""
        b: cython.Py_ssize_t
        k: cython.Py_ssize_t
        axis: cython.Py_ssize_t
        first: cython.Py_ssize_t = slot.kind == BATCH
        if view.ndim != first + len(slot.shape) or not PyBuffer_IsContiguous(view, ROWS_FIRST):
            return False
        if first and view.shape[0] != rows:
            return False
        for axis in range(len(slot.shape)):
            if view.shape[first + axis] != slot.shape[axis]:
                return False
        letter: cython.char = view.format[0]
        if view.itemsize != 8 or view.format[1] != 0:
            return False
        at: cython.Py_ssize_t = slot.start
        size: cython.Py_ssize_t = slot.size
        floats: cython.pointer[cython.double] = cython.cast(cython.pointer[cython.double], view.buf)
        integers: cython.pointer[cython.longlong] = cython.cast(
            cython.pointer[cython.longlong], view.buf
        )
        if letter == FLOATING and slot.letters == "f":
            for b in range(rows):
                for k in range(size):
                    self.numbers[row + b, at + k] = floats[b * size + k]
        elif letter in (LONG, LONGER) and slot.letters == "iu":
            for b in range(rows):
                for k in range(size):
                    self.numbers[row + b, at + k] = cython.cast(
                        cython.double, integers[b * size + k]
                    )
        else:
            return False
        return True

    @cython.cfunc
    def _assigned(
        self, slot: Slot, x: Any, row: cython.Py_ssize_t, rows: cython.Py_ssize_t
    ) -> cython.bint:
        """Have NumPy write an array."""
        if slot.rows is not self.rows or slot.row != row:
            columns = slice(slot.start, slot.start + slot.size)
            shape = (rows, *slot.shape) if slot.kind == BATCH else slot.shape
            slot.rows, slot.row = self.rows, row
            slot.place = self.rows[row : row + rows, columns].reshape(shape)
        if x.dtype.kind not in slot.letters or x.shape != slot.place.shape:
            return False
        slot.place[...] = x
        return True

    def _make_room(self, count: int) -> None:
        rows = self.rooms.pop(count, None)
        self.rows = np.empty((count, self.width)) if rows is None else rows
        self.rooms[count] = self.rows
        if len(self.rooms) > ROOMS:
            del self.rooms[next(iter(self.rooms))]
        self.numbers = self.rows.data
