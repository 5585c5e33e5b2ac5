"""Capturing: everything that some Values depend on, in order, as a tape.

The walk is that of `Value.backward`, except that it collects the leaves too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

try:
    import cython
except ModuleNotFoundError:
    from . import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad import order, rules
    from cython.cimports.scalargrad.clock import marks
    from cython.cimports.scalargrad.node import Node
else:
    from . import _plain, order, rules
    from .clock import marks
    from .node import Node

from .tape import Tape

if TYPE_CHECKING:
    from .engine import Value

MOST = cython.declare(cython.longlong, 2**31 - 1)  # nodes that int32 can number


def reachable(
    roots: Sequence[Value], since: cython.ulonglong = 0
) -> tuple[list[Value], cython.Py_ssize_t]:
    """What roots depend on, themselves included, and how many leaves there are among it.

    The leaves come first, then the results, each by ascending creation number. Results older
    than the creation number `since` count as leaves: what they depend on is not looked at.
    """
    v: Node
    w: Node
    mark: cython.ulonglong = marks(1)
    leaves: order.Found = order.Found()
    results: order.Found = order.Found()
    # The latest found is the next looked at: what was made together is found together, and lies
    # together in memory.
    pending: order.Found = order.Found()
    lists: set = set()  # candidates that several nodes share are looked at once
    for v in roots:
        _reach(v, mark, since, leaves, results, pending)
    while pending.count > 0:
        v = order.pop(pending)
        if v.a is None:
            if v.code == rules.TAKE:
                if id(v.rest) in lists:
                    continue
                lists.add(id(v.rest))
            for w in v.rest:
                _reach(w, mark, since, leaves, results, pending)
        else:
            _reach(v.a, mark, since, leaves, results, pending)
            if v.b is not None:
                _reach(v.b, mark, since, leaves, results, pending)
    leaves.sort()
    results.sort()
    return order.listed(leaves, results), leaves.count


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def _reach(
    v: Node,
    mark: cython.ulonglong,
    since: cython.ulonglong,
    leaves: order.Found,
    results: order.Found,
    pending: order.Found,
) -> cython.int:
    if v.mark != mark:
        v.mark = mark
        if v.code == rules.LEAF or v.number < since:
            order.push(leaves, v, v.number)
        else:
            order.push(results, v, v.number)
            order.push(pending, v, v.number)
    return 0


def capture(roots: Sequence[Value], since: cython.ulonglong = 0) -> tuple[list[Value], Tape]:
    """The nodes that roots depend on, as `reachable` gives them, and their tape.

    The roots are the outputs of the tape.
    """
    leaves: cython.Py_ssize_t
    nodes: list
    nodes, leaves = reachable(roots, since)
    if len(nodes) > MOST:
        raise ValueError(f"outputs: expected a graph of at most 2^31 - 1 nodes, got {len(nodes)}")
    return nodes, _taped(nodes, leaves, roots)


def _taped(nodes: list, leaves: cython.Py_ssize_t, roots: Sequence[Value]) -> Tape:
    """The tape of nodes whose leaves come first."""
    v: Node
    w: Node
    i: cython.Py_ssize_t
    k: cython.Py_ssize_t
    n: cython.Py_ssize_t = len(nodes)
    op, lhs, rhs = np.zeros(n, np.uint8), np.full(n, -1, np.int32), np.full(n, -1, np.int32)
    codes: cython.uchar[::1] = op.data
    left: cython.int[::1] = lhs.data
    right: cython.int[::1] = rhs.data
    const: list = []
    many: list = []
    index: list = []
    outputs: list = []
    places: dict = {}  # where in `many` the candidates of a `take` are
    # Node i is marked with first + i, so that an operand tells its place. Until the last mark is
    # read nothing may run that lets another thread in: no Python code, and no new list.
    first: cython.ulonglong = marks(n)
    for i in range(leaves):
        v = cython.cast(Node, nodes[i])
        v.mark = first + i
    for i in range(leaves, n):
        v = cython.cast(Node, nodes[i])
        v.mark = first + i
        codes[i] = v.code
        if v.a is None:
            left[i] = len(many)
            right[i] = len(v.rest)
            if v.code == rules.TAKE:
                many.append(len(index))
                index.append(int(v.const))
                k = places.get(id(v.rest), -1)
                many.append(len(many) + 1 if k < 0 else k)
                if k >= 0:
                    continue
                places[id(v.rest)] = len(many)
            for w in v.rest:
                many.append(w.mark - first)
        else:
            left[i] = cython.cast(cython.int, v.a.mark - first)
            if v.b is not None:
                right[i] = cython.cast(cython.int, v.b.mark - first)
            elif v.code == rules.POW or v.code == rules.LEAKY_RELU:
                right[i] = len(const)
                const.append(v.const)
    for w in roots:
        outputs.append(w.mark - first)
    return Tape(
        leaves=leaves,
        op=op,
        lhs=lhs,
        rhs=rhs,
        const=np.array(const, np.float64),
        many=np.array(many, np.int32),
        index=np.array(index, np.int64),
        outputs=np.array(outputs, np.int32),
    )


if not cython.compiled:
    reachable = _plain.one_at_a_time(reachable)
    capture = _plain.one_at_a_time(capture)
