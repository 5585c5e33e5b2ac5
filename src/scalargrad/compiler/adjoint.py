"""The derivative of a graph, as a graph.

The chain rule at a node y = f(a, b) is: a.grad += df/da * y.grad, b.grad += df/db * y.grad. The
engine does that with numbers. Here it is done with Values, so a gradient is itself the result of
a graph, which can be frozen, compiled, or differentiated again.

The walk is the engine's: nodes in descending creation number, operands in order, each contribution
added when its turn comes. Where values and gradients are finite, so is every bit the same:

- The sums of the differentiated Values start from 0.0, as in the engine. Those in between start
  with their first contribution. A zero there may get another sign, but gradients only flow through
  products and sums, where the sign of a zero cannot touch a number that is not zero.
- The engine passes nothing on from a node whose gradient g is 0, nor through a partial d of 0 (but
  for products, plain IEEE arithmetic). Multiplied out that is 0 as well, unless the other factor
  is inf or nan. So where a partial is infinite though the value is finite (a root at 0), and below
  it, the contribution is d * g if that is finite, and otherwise 0 if d or g is 0. It is not simply
  0 where g is 0: d * g has a derivative there, which the next differentiation needs.
- On the side that a `where`, `maximum`, `relu` ... did not take, the values themselves may be inf
  or nan. `_find_risky` finds the nodes that can be: they come from an operation with a pole, or
  `exp`, and reach the outputs through selections only. What they are a factor of is guarded in the
  same way; a factor of many products is once and for all replaced by `where(|t| < inf, t, 0)`.

Overflow is not foreseen: `where(x < 1e200, x * x * x, 0)` has the derivative nan, not 0, at 1e300.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import attrgetter
from typing import TypeAlias

import numpy as np

from .. import ops
from ..engine import Value
from ..errors import ShapeError
from ..graph import Graph
from ..modes import current
from ..tape import Tape
from .verify import verify

Scalar: TypeAlias = Value | float  # a float where a gradient is a known number, as a seed of 1.0
IndexOf: TypeAlias = Callable[[Value], Value | None]

_UNARY = [row.code for row in ops.TABLE if row.arity == 1]
_WITH_CONSTANT = [row.code for row in ops.TABLE if row.constant]
_POLES = frozenset({ops.DIV, ops.POW, ops.POWER, ops.EXP, ops.LOG, ops.SQRT})
_NEVER_ZERO = frozenset({ops.LOG, ops.SQRT})  # partials 1/a and 0.5/y
_COMPARES = frozenset({ops.LESS, ops.LESS_EQUAL})
_BLOCKS = _COMPARES | {ops.DETACH}  # partials 0.0
_SELECTS = frozenset(
    {ops.WHERE, ops.TAKE, ops.MAXIMUM, ops.MINIMUM, ops.RELU, ops.LEAKY_RELU, ops.ABS}
)
_MANY_PRODUCTS = 4  # uses from which making an operand finite is cheaper than guarding each use


def _has_pole(code: int, const: float) -> bool:
    """Whether finite operands can give the operation an infinite result, or nan."""
    if code == ops.POW:  # whole powers have none
        return not (const >= 0.0 and const.is_integer())
    return code in _POLES


def _is_root(code: int, const: float) -> bool:
    """Whether a partial can be infinite where the result is finite."""
    return code in (ops.SQRT, ops.POWER) or (code == ops.POW and 0.0 < const < 1.0)


def _can_vanish(code: int, slot: int, const: float) -> bool:
    """Whether the partial can be 0 at finite operands."""
    if code == ops.LEAKY_RELU:
        return const == 0.0
    return code not in _NEVER_ZERO and not (code == ops.DIV and slot == 0)


class Derivative:
    """How the outputs of a graph change with some of its Values, its variables.

    `backward(seeds)` gives, for each variable, sum over the outputs of seed * d(output)/d(variable):
    the transposed Jacobian applied to the seeds. `forward(directions)` gives, for each output, sum
    over the variables of d(output)/d(variable) * direction: the Jacobian applied to a direction.
    Both are Values in the graph of the variables and what else the outputs depend on, and both can
    be asked for several times.

    `index_of` tells, for a `take` node, the Value that holds its index if that may change from
    call to call, else None. Unless given it is asked of the trace that runs, if one does.
    """

    def __init__(
        self, graph: Graph, variables: Sequence[Value], index_of: IndexOf | None = None
    ) -> None:
        self.graph = graph
        self._index_of = index_of or _traced_index
        self._nodes = graph.nodes
        newest = max(v.number for v in graph.outputs)
        # Nothing older than the oldest variable depends on one.
        oldest = min((v.number for v in variables), default=newest + 1)
        leaves, n = graph.tape.leaves, len(graph)
        leaf = bisect_left(self._nodes, oldest, 0, leaves, key=attrgetter("number"))
        first = bisect_left(self._nodes, oldest, leaves, n, key=attrgetter("number"))
        place = {id(self._nodes[i]): i for i in (*range(leaf, leaves), *range(first, n))}
        self._variables = [place.get(id(v), -1) for v in variables]
        self._starts = {i for i in self._variables if i >= 0}
        self._codes: list[int] = graph.tape.op.tolist()
        self._operands, self._constants = _operands(graph.tape, first)
        self._active, self._order = self._depending(first)
        self._risky = self._find_risky(first)
        self._above_roots, self._below_roots = self._find_roots()
        # Fresh leaves, not module constants: a trace takes older Values for parameters.
        self._zero, self._infinity = Value(0.0), Value(math.inf)
        self._partials: dict[int, tuple[Scalar, ...]] = {}
        self._finite: dict[int, Value] = {}
        self._equal: dict[tuple[int, int], Value] = {}
        self.origins: list[tuple[int, int]] = []

    # --- the two directions ------------------------------------------------------------------------

    def backward(self, seeds: Sequence[Scalar] | None = None) -> list[Value]:
        """The gradient of sum(seed * output) with respect to each variable; seeds 1.0 by default.

        Raises `ShapeError` for a wrong number of seeds.
        """
        outputs = self.graph.tape.outputs.tolist()
        seeds = [1.0] * len(outputs) if seeds is None else seeds
        if len(seeds) != len(outputs):
            raise ShapeError(f"seeds: expected one per output ({len(outputs)}), got {len(seeds)}")
        flow = _Flow(len(self._nodes), self._starts, self._zero)
        for j, seed in zip(outputs, seeds):
            flow.add(j, seed)
        for i in reversed(self._order):
            g = flow.at[i]
            if g is None or _is_zero(g):
                continue
            self._pass_back(i, g, flow)
            if self.graph.lines:
                self.origins.append((Value(0.0).number, self._nodes[i].number))
        return [flow.value(j) for j in self._variables]

    def forward(self, directions: Sequence[Scalar]) -> list[Value]:
        """How fast each output changes when every variable moves at the speed given for it.

        Raises `ShapeError` for a wrong number of directions.
        """
        if len(directions) != len(self._variables):
            raise ShapeError(
                f"directions: expected one per variable ({len(self._variables)}), "
                f"got {len(directions)}"
            )
        flow = _Flow(len(self._nodes), (), self._zero)
        for j, direction in zip(self._variables, directions):
            if j >= 0:
                flow.add(j, direction)
        for i in self._order:
            self._pass_on(i, flow)
        return [flow.value(j) for j in self.graph.tape.outputs.tolist()]

    # --- one node, backward --------------------------------------------------------------------------

    def _pass_back(self, i: int, g: Scalar, flow: _Flow) -> None:
        """The chain rule at node i, whose gradient is g: `engine._propagate`, on Values."""
        active, code, operands = self._active, self._codes[i], self._operands[i]
        if code == ops.MUL:
            a, b = operands
            if active[a]:
                flow.add(a, self._product(b, g))
            if active[b]:
                flow.add(b, self._product(a, g))
        elif code == ops.WHERE:
            condition, a, b = operands
            if active[a]:
                flow.add(a, self._where(self._nodes[condition], g, self._zero))
            if active[b]:
                flow.add(b, self._where(self._nodes[condition], self._zero, g))
        elif code == ops.TAKE:
            for j, taken in self._candidates(i):
                if active[j]:
                    flow.add(j, g if taken is None else self._where(taken, g, self._zero))
        else:
            for slot, (j, d) in enumerate(zip(operands, self._partials_of(i))):
                if not active[j] or _is_zero(d):
                    continue
                if isinstance(d, float) and d == -1.0:
                    flow.subtract(j, g)
                else:
                    flow.add(j, self._guarded(i, slot, d, g, self._below_roots[i]))

    def _product(self, other: int, g: Scalar) -> Scalar:
        """Node `other` times g, for a product that has it as a factor."""
        d, uses = self._nodes[other], self._risky.get(other, 0)
        if isinstance(g, float):
            return d if g == 1.0 else d * g
        if uses == 0:
            return d * g
        if uses > _MANY_PRODUCTS:
            return self._made_finite(other) * g
        return self._if_finite(d * g, [g])

    def _guarded(self, i: int, slot: int, d: Scalar, g: Scalar, g_may_be_infinite: int) -> Scalar:
        """d * g, or 0 wherever the engine passes nothing on; d is a partial of node i."""
        if isinstance(d, float):
            return g if d == 1.0 else d * g
        if isinstance(g, float) and math.isfinite(g):
            return d if g == 1.0 else d * g
        code, const, g = self._codes[i], self._constants.get(i, 0.0), _value(g)
        if code == ops.RELU:  # d is 0 or 1, as y is 0 or not
            return self._where(self._nodes[i], g, self._zero)
        d_may_hide_it = g_may_be_infinite and _can_vanish(code, slot, const)
        if code in _SELECTS:  # d is one of a few numbers, without a derivative
            return self._where(d, d * g, self._zero) if d_may_hide_it else d * g
        zeros = []
        if _is_root(code, const) or i in self._risky:
            zeros.append(g)
        if d_may_hide_it:
            zeros.append(d)
        return self._if_finite(d * g, zeros)

    def _if_finite(self, product: Value, zeros: Sequence[Value]) -> Value:
        """The product; if it is inf or nan, then 0 where one of `zeros` is 0."""
        if not zeros:
            return product
        otherwise = product
        for factor in zeros:
            otherwise = self._where(factor, otherwise, self._zero)
        return self._where(self._is_finite(product), product, otherwise)

    # --- one node, forward ---------------------------------------------------------------------------

    def _pass_on(self, i: int, flow: _Flow) -> None:
        """The speed of node i from the speeds of its operands."""
        code, operands = self._codes[i], self._operands[i]
        speeds = [flow.at[j] for j in operands]
        if code == ops.WHERE:
            a, b = (self._zero if t is None else t for t in speeds[1:])
            flow.add(i, self._where(self._nodes[operands[0]], a, b))
        elif code == ops.TAKE:
            flow.add(i, self._taken_speed(i, flow))
        else:
            for slot, (t, d) in enumerate(zip(speeds, self._partials_of(i))):
                if t is None or _is_zero(t) or _is_zero(d):
                    continue
                if isinstance(d, float) and d == -1.0:
                    flow.subtract(i, t)
                else:
                    flow.add(i, self._guarded(i, slot, d, t, self._above_roots[operands[slot]]))

    def _taken_speed(self, i: int, flow: _Flow) -> Scalar:
        speed: Scalar = 0.0
        for j, taken in self._candidates(i):
            t = flow.at[j]
            if t is not None:
                speed = t if taken is None else self._where(taken, t, speed)
        return speed

    # --- about one node ------------------------------------------------------------------------------

    def _partials_of(self, i: int) -> tuple[Scalar, ...]:
        found = self._partials.get(i)
        if found is None:
            row = ops.BY_CODE[self._codes[i]]
            nodes = [self._nodes[j] for j in self._operands[i]]
            constants = (self._constants[i],) if row.constant else ()
            found = self._partials[i] = row.partials(*nodes, *constants, self._nodes[i])
        return found

    def _where(self, condition: Value, a: Scalar, b: Scalar) -> Value:
        return Value.apply("where", condition, a, b)

    def _candidates(self, i: int) -> Iterator[tuple[int, Value | None]]:
        """The candidates that a `take` may take and, unless its index is fixed, whether it does."""
        index = self._index_of(self._nodes[i])
        if index is None:
            yield self._operands[i][int(self._constants[i])], None
            return
        for k, j in enumerate(self._operands[i]):
            yield j, self._equals(index, k)

    def _equals(self, index: Value, k: int) -> Value:
        """1.0 where the index is k, else 0.0."""
        key = (index.number, k)
        if key not in self._equal:
            number = Value(float(k))
            at_most = Value.apply("less_equal", index, number)
            self._equal[key] = at_most * Value.apply("less_equal", number, index)
        return self._equal[key]

    def _made_finite(self, j: int) -> Value:
        if j not in self._finite:
            node = self._nodes[j]
            self._finite[j] = self._where(self._is_finite(node), node, self._zero)
        return self._finite[j]

    def _is_finite(self, x: Value) -> Value:
        return Value.apply("less", abs(x), self._infinity)

    # --- about the graph -----------------------------------------------------------------------------

    def _depending(self, first: int) -> tuple[bytearray, list[int]]:
        """Which nodes depend on a variable, and the results among them in order."""
        active, order = bytearray(len(self._codes)), []
        for i in self._starts:
            active[i] = 1
        for i in range(first, len(self._codes)):
            code = self._codes[i]
            if code in _BLOCKS:
                continue
            for j in self._operands[i][code == ops.WHERE :]:
                if active[j]:
                    active[i] = 1
                    order.append(i)
                    break
        return active, order

    def _find_risky(self, first: int) -> dict[int, int]:
        """The nodes that may be inf or nan while every output is finite: node -> products it is in.

        They reach the outputs only through selections, which may have decided against them, and
        they come from an operation with a pole, or from such a node.
        """
        tape = self.graph.tape
        kinds = set(np.unique(tape.op[first:]).tolist())
        if kinds.isdisjoint(_SELECTS):
            return {}
        # Where the graph begins in the middle of a computation, nothing is known of its beginning.
        begun = [i for i in range(tape.leaves) if self._nodes[i].code != ops.LEAF]
        if kinds.isdisjoint(_POLES) and not begun:
            return {}
        used = self._surely_used(first)
        risky = {i: 0 for i in begun if not used[i]}
        for i in range(first, len(self._codes)):
            code, operands = self._codes[i], self._operands[i]
            if code == ops.MUL and risky:
                for j in operands:
                    if j in risky:
                        risky[j] += 1
            if used[i] or code in _COMPARES or i in self._starts:
                continue
            pole = code in _POLES and _has_pole(code, self._constants.get(i, 0.0))
            if pole or not risky.keys().isdisjoint(operands):
                risky[i] = 0
        return risky

    def _find_roots(self) -> tuple[bytearray, bytearray]:
        """Which nodes depend on a root, and which a root depends on.

        Speeds of the former and gradients of the latter may be infinite where values are finite.
        """
        above, below = bytearray(len(self._codes)), bytearray(len(self._codes))
        roots = [i for i in self._order if _is_root(self._codes[i], self._constants.get(i, 0.0))]
        if not roots:
            return above, below
        for i in roots:
            above[i] = 1
            for j in self._operands[i]:
                below[j] = 1
        for i in self._order:
            if any(above[j] for j in self._operands[i]):
                above[i] = 1
        for i in reversed(self._order):
            if below[i]:
                for j in self._operands[i]:
                    below[j] = 1
        return above, below

    def _surely_used(self, first: int) -> bytearray:
        """Which nodes reach an output by a path without selections: they are as finite as it is."""
        used = bytearray(len(self._codes))
        for i in self.graph.tape.outputs.tolist():
            used[i] = 1
        for i in range(len(self._codes) - 1, first - 1, -1):
            code = self._codes[i]
            if not used[i] or code in _COMPARES:
                continue
            if code not in _SELECTS:
                for j in self._operands[i]:
                    used[j] = 1
            elif code == ops.TAKE and self._index_of(self._nodes[i]) is None:
                used[self._operands[i][int(self._constants[i])]] = 1
        return used


class _Flow:
    """Gradients, or speeds, as they add up at each node; those of `starts` begin with 0.0."""

    __slots__ = ("at", "starts", "zero")

    def __init__(self, size: int, starts: Collection[int], zero: Value) -> None:
        self.at: list[Scalar | None] = [None] * size
        self.starts, self.zero = starts, zero

    def add(self, j: int, part: Scalar) -> None:
        before = self.at[j]
        if before is not None:
            self.at[j] = before + part
        else:
            self.at[j] = self.zero + part if j in self.starts else part

    def subtract(self, j: int, part: Scalar) -> None:
        before = self.at[j]
        if before is not None:
            self.at[j] = before - part
        else:
            self.at[j] = self.zero - part if j in self.starts else -part

    def value(self, j: int) -> Value:
        found = self.at[j] if j >= 0 else None
        return _value(0.0 if found is None else found)


def _operands(tape: Tape, first: int) -> tuple[list[tuple[int, ...]], dict[int, float]]:
    """The operands of every node, none for those before `first`; the constants of those with one."""
    op, lhs, rhs = tape.op[first:], tape.lhs[first:].tolist(), tape.rhs[first:].tolist()
    operands: list[tuple[int, ...]] = [()] * first
    operands += zip(lhs, rhs)
    for i in np.flatnonzero(np.isin(op, _UNARY)).tolist():
        operands[first + i] = (lhs[i],)
    for i in (first + np.flatnonzero((op == ops.WHERE) | (op == ops.TAKE))).tolist():
        operands[i] = tape.operands(i)
    with_constant = (first + np.flatnonzero(np.isin(op, _WITH_CONSTANT))).tolist()
    return operands, {i: tape.constant(i) for i in with_constant}


def _traced_index(node: Value) -> Value | None:
    tracer = current.tracer
    found: Value | None = None if tracer is None else tracer.index_of(node)
    return found


def _value(x: Scalar) -> Value:
    return x if isinstance(x, Value) else Value(x)


def _is_zero(x: Scalar) -> bool:
    return isinstance(x, float) and x == 0.0


# --- whole graphs -----------------------------------------------------------------------------------


def gradients(
    outputs: Value | Sequence[Value],
    variables: Sequence[Value],
    seeds: Sequence[Scalar] | None = None,
) -> list[Value]:
    """The gradient of sum(seed * output) with respect to each variable, as Values.

    Seeds are 1.0 unless given. A variable may be any Value; one that no output depends on has the
    gradient 0. Unlike `backward`, nothing is written to any `grad`.
    """
    return Derivative(graph_down_to(outputs, variables), variables).backward(seeds)


def graph_down_to(outputs: Value | Sequence[Value], variables: Sequence[Value]) -> Graph:
    """The graph of the outputs, without what is older than every variable."""
    return Graph(outputs, since=min((v.number for v in variables), default=0))


def adjoint(
    graph: Graph, variables: Sequence[Value] | None = None, index_of: IndexOf | None = None
) -> Graph:
    """A graph whose outputs are those of `graph`, then the gradient of each variable.

    The gradients are those of `graph.backward()`, the sum of the outputs differentiated, for the
    leaves of the graph unless other variables are given. Source lines carry over: an operation of
    the derivative has the line of the operation it differentiates.
    """
    derivative = Derivative(graph, graph.leaves if variables is None else variables, index_of)
    found = derivative.backward()
    both = Graph([*graph.outputs, *found])
    verify(both.tape)
    if not graph.lines:
        return both
    made_by = graph.lines.get
    lines = {v.number: made_by(v.number, "") for v in graph.nodes[graph.tape.leaves :]}
    newest = [number for number, _ in derivative.origins]
    for v in both.nodes:
        if v.number not in lines and newest:
            k = min(bisect_left(newest, v.number), len(newest) - 1)
            lines[v.number] = graph.lines.get(derivative.origins[k][1], "")
    both.lines = lines
    return both
