"""The nodes that a walk finds, and sorting them by creation number, in linear time.

Numbers are unique and, within one graph, nearly dense: each node is placed in a table by its
number. Where other graphs were built in between the table would be mostly holes, so there the
numbers are radix-sorted instead, 11 bits a pass. Neither looks at any node that was not found.
"""

from __future__ import annotations

import operator
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from . import _uncompiled as cython  # type: ignore[no-redef]

if cython.compiled:
    from cython.cimports.cpython.list import PyList_New, PyList_SET_ITEM
    from cython.cimports.cpython.mem import PyMem_Calloc, PyMem_Free, PyMem_Realloc
    from cython.cimports.cpython.ref import Py_INCREF
    from cython.cimports.scalargrad.order import PyObject_GC_UnTrack

RADIX_BITS = cython.declare(cython.int, 11)
RADIX = cython.declare(cython.int, 2048)


@cython.final
@cython.cclass
class Found:
    """Nodes in the order in which a walk finds them, until `sort` puts them in that of their numbers.

    `push(found, node, number)` adds one. Compiled, no reference is counted, so whoever walks must
    hold what the walk starts from.
    """

    pairs: cython.p_ulonglong
    count: cython.Py_ssize_t
    room: cython.Py_ssize_t

    def __init__(self) -> None:
        self.count = self.room = 0
        if not cython.compiled:  # a list of pairs in place of a C array
            self.pairs = []

    def __dealloc__(self) -> None:
        PyMem_Free(self.pairs)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def grow(self) -> cython.int:
        """Make room for more."""
        room: cython.Py_ssize_t = 2 * self.room + 64
        pairs: cython.p_void = PyMem_Realloc(self.pairs, 16 * room)
        if pairs == cython.NULL:
            raise MemoryError(f"no memory for a graph of {room} nodes")
        self.pairs = cython.cast(cython.p_ulonglong, pairs)
        self.room = room
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def sort(self) -> cython.int:
        """Order the nodes by ascending number."""
        if not cython.compiled:
            self.pairs.sort(key=operator.itemgetter(0))
            return 0
        i: cython.Py_ssize_t
        if self.count < 2:
            return 0
        lowest: cython.ulonglong = self.pairs[0]
        highest: cython.ulonglong = lowest
        for i in range(self.count):
            lowest = min(lowest, self.pairs[2 * i])
            highest = max(highest, self.pairs[2 * i])
        if highest - lowest < 4 * cython.cast(cython.ulonglong, self.count) + 64:
            return _place(self, lowest, highest - lowest + 1)
        return _radix_sort(self, lowest, highest - lowest)


if not cython.compiled:

    def push(found: Found, node: Any, number: int) -> None:
        """Add a node."""
        found.pairs.append((number, node))
        found.count += 1

    def at(found: Found, i: int) -> Any:
        """Node i."""
        return found.pairs[i][1]

    def pop(found: Found) -> Any:
        """The node added last, taken out."""
        found.count -= 1
        return found.pairs.pop()[1]


@cython.cfunc
@cython.exceptval(-1, check=False)
def _place(found: Found, lowest: cython.ulonglong, span: cython.Py_ssize_t) -> cython.int:
    i: cython.Py_ssize_t
    k: cython.Py_ssize_t = 0
    pairs: cython.p_ulonglong = found.pairs
    table: cython.p_ulonglong = cython.cast(cython.p_ulonglong, PyMem_Calloc(span, 8))
    if table == cython.NULL:
        raise MemoryError(f"no memory to order {found.count} nodes")
    for i in range(found.count):
        table[pairs[2 * i] - lowest] = pairs[2 * i + 1]
    for i in range(span):
        pairs[2 * k] = lowest + i
        pairs[2 * k + 1] = table[i]  # a hole is overwritten by what comes next
        k += table[i] != 0
    PyMem_Free(table)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _radix_sort(found: Found, lowest: cython.ulonglong, largest: cython.ulonglong) -> cython.int:
    i: cython.Py_ssize_t
    k: cython.Py_ssize_t
    n: cython.Py_ssize_t = found.count
    digit: cython.Py_ssize_t
    count: cython.Py_ssize_t
    start: cython.Py_ssize_t
    shift: cython.int = 0
    # Two arrays of pairs, sorted from one into the other and back, and the digits' starts.
    memory: cython.p_ulonglong = cython.cast(cython.p_ulonglong, PyMem_Calloc(4 * n + RADIX, 8))
    if memory == cython.NULL:
        raise MemoryError(f"no memory to order {n} nodes")
    source: cython.p_ulonglong = memory
    target: cython.p_ulonglong = memory + 2 * n
    starts: cython.p_ulonglong = memory + 4 * n
    for i in range(n):
        source[2 * i] = found.pairs[2 * i] - lowest
        source[2 * i + 1] = found.pairs[2 * i + 1]
    while shift < 64 and largest >> shift > 0:
        for i in range(RADIX):
            starts[i] = 0
        for i in range(n):
            starts[(source[2 * i] >> shift) & (RADIX - 1)] += 1
        start = 0
        for i in range(RADIX):
            count = starts[i]
            starts[i] = start
            start += count
        for i in range(n):
            digit = (source[2 * i] >> shift) & (RADIX - 1)
            k = starts[digit]
            starts[digit] += 1
            target[2 * k] = source[2 * i]
            target[2 * k + 1] = source[2 * i + 1]
        source, target = target, source
        shift += RADIX_BITS
    for i in range(n):
        found.pairs[2 * i] = source[2 * i] + lowest
        found.pairs[2 * i + 1] = source[2 * i + 1]
    PyMem_Free(memory)
    return 0


@cython.cfunc
def listed(found: Found, others: Found) -> list[Any]:
    """The nodes found, then the others."""
    if not cython.compiled:
        return [node for _, node in found.pairs + others.pairs]
    i: cython.Py_ssize_t
    nodes: list = PyList_New(found.count + others.count)
    for i in range(found.count):
        Py_INCREF(at(found, i))
        PyList_SET_ITEM(nodes, i, at(found, i))
    for i in range(others.count):
        Py_INCREF(at(others, i))
        PyList_SET_ITEM(nodes, found.count + i, at(others, i))
    # Nothing points back from a node, so the garbage collector need not go through them.
    PyObject_GC_UnTrack(nodes)
    return nodes


def sorted_by(nodes: list[Any], numbers: list[int]) -> list[Any]:
    """nodes ordered by `numbers`, from Python."""
    i: cython.Py_ssize_t
    found: Found = Found()
    for i in range(len(nodes)):
        push(found, nodes[i], numbers[i])
    found.sort()
    return listed(found, Found())
