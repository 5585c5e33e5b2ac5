"""Sorting by creation number, in linear time.

Keys are unique and, within one graph, nearly dense: each node is placed in a table by its key.
Where other graphs were built in between the table would be mostly holes, so there the keys are
radix-sorted instead, 11 bits a pass. Neither looks at any node that was not given.
"""

from __future__ import annotations

import operator
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from . import _uncompiled as cython

if cython.compiled:
    from cython.cimports.cpython.list import PyList_GET_ITEM, PyList_SET_ITEM
    from cython.cimports.cpython.mem import PyMem_Calloc, PyMem_Free

RADIX_BITS = cython.declare(cython.int, 11)
RADIX = cython.declare(cython.int, 2048)


@cython.cfunc
@cython.exceptval(-1, check=False)
def sort(nodes: list, keys: cython.p_ulonglong) -> cython.int:
    """Order nodes by ascending key, in place; keys[i] belongs to nodes[i] (and is scratch after).

    Uncompiled, where there are no C arrays, the keys are read from the nodes' `number`.
    """
    if not cython.compiled:
        nodes.sort(key=operator.attrgetter("number"))
        return 0
    n: cython.Py_ssize_t = len(nodes)
    i: cython.Py_ssize_t
    if n < 2:
        return 0
    lowest: cython.ulonglong = keys[0]
    highest: cython.ulonglong = keys[0]
    for i in range(n):
        lowest = min(lowest, keys[i])
        highest = max(highest, keys[i])
    if highest - lowest < 4 * cython.cast(cython.ulonglong, n) + 64:
        return _place(nodes, keys, lowest, highest - lowest + 1)
    return _radix_sort(nodes, keys, lowest, highest - lowest)


# The nodes change places within the list only, so their reference counts stay as they are.


@cython.cfunc
@cython.exceptval(-1, check=False)
def _place(
    nodes: list, keys: cython.p_ulonglong, lowest: cython.ulonglong, span: cython.ulonglong
) -> cython.int:
    i: cython.Py_ssize_t
    k: cython.Py_ssize_t = 0
    table: cython.pp_void = cython.cast(cython.pp_void, PyMem_Calloc(span, 8))
    if table == cython.NULL:
        raise MemoryError(f"no memory to order {len(nodes)} nodes")
    for i in range(len(nodes)):
        table[keys[i] - lowest] = cython.cast(cython.p_void, PyList_GET_ITEM(nodes, i))
    for i in range(span):
        if table[i] != cython.NULL:
            PyList_SET_ITEM(nodes, k, cython.cast(object, table[i]))
            k += 1
    PyMem_Free(table)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _radix_sort(
    nodes: list, keys: cython.p_ulonglong, lowest: cython.ulonglong, largest: cython.ulonglong
) -> cython.int:
    i: cython.Py_ssize_t
    k: cython.Py_ssize_t
    n: cython.Py_ssize_t = len(nodes)
    digit: cython.Py_ssize_t
    count: cython.Py_ssize_t
    start: cython.Py_ssize_t
    shift: cython.int = 0
    # Two arrays of (key, node) pairs, sorted from one into the other, and the digits' starts.
    memory: cython.p_ulonglong = cython.cast(cython.p_ulonglong, PyMem_Calloc(4 * n + RADIX, 8))
    if memory == cython.NULL:
        raise MemoryError(f"no memory to order {n} nodes")
    source: cython.p_ulonglong = memory
    target: cython.p_ulonglong = memory + 2 * n
    starts: cython.p_ulonglong = memory + 4 * n
    for i in range(n):
        source[2 * i] = keys[i] - lowest
        source[2 * i + 1] = cython.cast(
            cython.ulonglong, cython.cast(cython.p_void, PyList_GET_ITEM(nodes, i))
        )
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
        PyList_SET_ITEM(
            nodes, i, cython.cast(object, cython.cast(cython.p_void, source[2 * i + 1]))
        )
    PyMem_Free(memory)
    return 0


def sorted_by(nodes: list[Any], numbers: list[int]) -> list[Any]:
    """nodes ordered by `numbers`, from Python: what `sort` does for the engine."""
    if not cython.compiled:
        return [node for _, node in sorted(zip(numbers, nodes), key=operator.itemgetter(0))]
    i: cython.Py_ssize_t
    ordered: list = list(nodes)
    keys: cython.p_ulonglong = cython.cast(cython.p_ulonglong, PyMem_Calloc(len(ordered) + 1, 8))
    for i in range(len(ordered)):
        keys[i] = numbers[i]
    sort(ordered, keys)
    PyMem_Free(keys)
    return ordered
