"""Copying and pickling Values: whole graphs, of any depth, without recursion."""

from __future__ import annotations

import operator
import sys
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from . import _uncompiled as cython

from . import node, ops

if cython.compiled:
    from cython.cimports.scalargrad import rules, watch
    from cython.cimports.scalargrad.engine import Value, is_stale
    from cython.cimports.scalargrad.node import MODIFIED
else:
    from . import rules, watch
    from .engine import Value, is_stale
    from .node import MODIFIED

from .capture import reachable


def shallow(v: Value) -> Value:
    """A copy of v with the same operands."""
    watch.read(v, "copy.copy()")
    return _copied(v, v.operands)


def deep(v: Value, memo: dict[int, Any]) -> Value:
    """A copy of v and of everything it depends on, but for what memo has copies of."""
    watch.read(v, "copy.deepcopy()")
    found: dict[int, Value] = {id(v): v}
    stack = [v]
    while stack:
        for operand in stack.pop().operands:
            if id(operand) not in memo and id(operand) not in found:
                found[id(operand)] = operand
                stack.append(operand)
    for w in sorted(found.values(), key=operator.attrgetter("number")):
        memo[id(w)] = _copied(w, tuple([memo[id(x)] for x in w.operands]))
    return memo[id(v)]


def reduce(v: Value) -> tuple[Any, ...]:
    """What pickle keeps of v.

    A result brings its graph as one flat list, because pickling operand by operand would recurse.
    Leaves stay objects of their own, so a model and a loss pickled together still share their
    parameters. Two results pickled together share their leaves, but no results in between: pickle
    a `Graph` of both for that.
    """
    watch.read(v, "pickling")
    if v.code == rules.LEAF:
        return _leaf, (v._data, v._grad, v.label)
    return _last, packed(*reachable([v]))


def packed(nodes: list[Value], leaves: int) -> tuple[list[Value], list[tuple[Any, ...]]]:
    """The leaves and a record of each result, of nodes in the order of `reachable`."""
    v: Value
    place = {id(v): i for i, v in enumerate(nodes)}
    records: list = []
    for v in nodes[leaves:]:
        operands = tuple([place[id(x)] for x in v.operands])
        stale: bool = is_stale(v)
        records.append((v.op, operands, v._data, v._grad, v.const, v.label, stale))
    return nodes[:leaves], records


def unpacked(leaves: list[Value], records: list[tuple[Any, ...]]) -> list[Value]:
    """The nodes that were `packed`."""
    nodes: list = list(leaves)
    for name, places, *fields in records:
        nodes.append(_made(name, tuple([nodes[i] for i in places]), *fields))
    return nodes


def _copied(v: Value, operands: tuple[Value, ...]) -> Value:
    """A copy of v with these operands; a copy of a stale result is stale."""
    stale: bool = v.code != rules.LEAF and is_stale(v)
    return _made(v.op, operands, v._data, v._grad, v.const, v.label, stale)


def _leaf(data: float, grad: float, label: str) -> Value:
    return _made("", (), data, grad, 0.0, label, False)


def _last(leaves: list[Value], records: list[tuple[Any, ...]]) -> Value:
    nodes = unpacked(leaves, records)
    return nodes[len(nodes) - 1]


def _made(
    name: str,
    operands: tuple[Value, ...],
    data: float,
    grad: float,
    const: float,
    label: str,
    stale: bool,
) -> Value:
    out: Value = Value(data, label)
    out._grad = grad
    if name == "":
        return out
    out.code = ops.BY_NAME[name].code
    out.const = const
    if len(operands) > 2 or out.code == rules.TAKE:
        out.rest = operands
    else:
        out.a = operands[0]
        out.b = operands[1] if len(operands) == 2 else None
    if stale:
        out.flags |= MODIFIED
    return out


node.copying = sys.modules[__name__]
