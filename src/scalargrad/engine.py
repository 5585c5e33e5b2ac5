"""Backpropagation, one number at a time.

A `Value` is a number that remembers how it was made. Arithmetic on Values builds a graph: every
result keeps the operation and the operands it came from. `backward()` walks that graph from a
result to everything it depends on, and applies the chain rule at each node:

    operand.grad += d(result)/d(operand) * result.grad

Nodes are visited in descending creation number. A result is always younger than its operands, so
when a node's turn comes, every node that uses it has already added its part: no sorting by
dependencies is needed, and the order, hence every bit of the answer, is the same in every run.
The order and the accumulation into `grad` are the contract that compiled programs reproduce.

This file is ordinary Python; installed, it is compiled by Cython. `SCALARGRAD_PURE=1` runs the
source you are reading, so that a debugger can step through it. What a Value stores and how it is
read is in `node.py`; what each operation computes, and its derivative, in `ops.py` and `rules.py`.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from . import _uncompiled as cython  # type: ignore[no-redef]

from . import diagnose, ops
from .coerce import Number, combines, refuse_modulo
from .modes import detect_anomaly as detect_anomaly
from .modes import no_grad as no_grad

if cython.compiled:
    from cython.cimports.scalargrad import clock, order, rules, watch
    from cython.cimports.scalargrad.coerce import real
else:
    from . import _plain, clock, order, rules, watch
    from .coerce import real
    from .node import MODIFIED, Node  # compiled, engine.pxd has them

compiled: bool = cython.compiled


@cython.final
@cython.no_gc
@cython.cclass
class Value(Node):
    """A float64 that knows how it was made, and the derivative of a result with respect to it.

    `data` is the number and `grad` the gradient, 0.0 until a `backward()` adds to it. `operands`
    are the Values it was computed from, in order, by the operation named `op` (`""` for a leaf).
    `label` is a name for drawings and messages.

    Accepts any real number (int, float, NumPy scalar or 0-d array, `numbers.Real`). Anything
    else is a `TypeError`. Arithmetic is IEEE 754: `Value(1) / 0` is inf, `Value(0).log()` is
    -inf, and nothing raises (`detect_anomaly()` does, when wanted). `==` and `hash` mean the
    node, not the number; `<`, `float(v)`, `round(v)`, `format(v, ".3f")` mean the number. (Where a
    function called with numbers is compiled or differentiated, `==` means theirs there, too.)

        >>> a, b = Value(2.0), Value(-3.0)
        >>> c = a * b + a**2
        >>> c.backward()
        >>> a.grad, b.grad
        (1.0, 2.0)
    """

    __slots__ = ()

    def __init__(self, data: Number, label: Any = "") -> None:
        number: cython.double = real(data, "data")
        if self.number == 0:
            _new_leaf(self, number)
        else:
            self.data = number
        self.label = label

    # --- arithmetic ------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Value:
        b: Value | None = _lift(other)
        return NotImplemented if b is None else _sum(self, b)

    def __radd__(self, other: Any) -> Value:
        a: Value | None = _lift(other)
        return NotImplemented if a is None else _sum(a, self)

    def __sub__(self, other: Any) -> Value:
        b: Value | None = _lift(other)
        return NotImplemented if b is None else _node(self._data - b._data, rules.SUB, self, b)

    def __rsub__(self, other: Any) -> Value:
        a: Value | None = _lift(other)
        return NotImplemented if a is None else _node(a._data - self._data, rules.SUB, a, self)

    def __mul__(self, other: Any) -> Value:
        b: Value | None = _lift(other)
        return NotImplemented if b is None else _product(self, b)

    def __rmul__(self, other: Any) -> Value:
        a: Value | None = _lift(other)
        return NotImplemented if a is None else _product(a, self)

    def __truediv__(self, other: Any) -> Value:
        b: Value | None = _lift(other)
        return NotImplemented if b is None else _binary(rules.DIV, self, b)

    def __rtruediv__(self, other: Any) -> Value:
        a: Value | None = _lift(other)
        return NotImplemented if a is None else _binary(rules.DIV, a, self)

    def __pow__(self, other: Any, modulo: Any = None) -> Value:
        refuse_modulo(modulo)
        b: Value | None = _lift(other, "exponent")
        if b is None:
            return NotImplemented
        if isinstance(other, Value):
            return _binary(rules.POWER, self, b)
        return _unary(rules.POW, self, b._data)

    def __rpow__(self, other: Any, modulo: Any = None) -> Value:
        refuse_modulo(modulo)
        a: Value | None = _lift(other, "base")
        return NotImplemented if a is None else _binary(rules.POWER, a, self)

    def __neg__(self) -> Value:
        return _node(-self._data, rules.NEG, self, None)

    def __pos__(self) -> Value:
        return self

    def __abs__(self) -> Value:
        return _unary(rules.ABS, self)

    def abs(self) -> Value:
        """|a|; derivative sign(a), 0 at 0."""
        return _unary(rules.ABS, self)

    def relu(self) -> Value:
        """max(0, a); derivative 0 where the result is 0, else 1 (as PyTorch, also for nan)."""
        return _unary(rules.RELU, self)

    def leaky_relu(self, slope: Any = 0.01) -> Value:
        """a where a > 0, else slope * a (Maas et al., 2013)."""
        return _unary(rules.LEAKY_RELU, self, real(slope, "slope"))

    def exp(self) -> Value:
        """e^a."""
        return _unary(rules.EXP, self)

    def log(self) -> Value:
        """Natural logarithm; -inf at 0, nan below."""
        return _unary(rules.LOG, self)

    def sqrt(self) -> Value:
        """Square root; nan below 0."""
        return _unary(rules.SQRT, self)

    def tanh(self) -> Value:
        """Hyperbolic tangent; derivative 1 - tanh(a)^2."""
        return _unary(rules.TANH, self)

    def sigmoid(self) -> Value:
        """1/(1 + e^-a), without overflow; derivative y * (1 - y)."""
        return _unary(rules.SIGMOID, self)

    def sin(self) -> Value:
        """Sine of an angle in radians."""
        return _unary(rules.SIN, self)

    def cos(self) -> Value:
        """Cosine of an angle in radians."""
        return _unary(rules.COS, self)

    def softplus(self) -> Value:
        """log(1 + e^a), without overflow; derivative sigmoid(a)."""
        return _unary(rules.SOFTPLUS, self)

    def gelu(self) -> Value:
        """a * Phi(a), Phi the normal distribution function: the exact GELU, not its tanh form."""
        return _unary(rules.GELU, self)

    def erfc(self) -> Value:
        """The complementary error function 2/sqrt(pi) * integral of e^-t^2 from a to infinity."""
        return _unary(rules.ERFC, self)

    def detach(self) -> Value:
        """The same number as a new leaf: no gradient flows back through it."""
        if watch.tracer() is None:
            return _leaf(self._data)
        return _node(self._data, rules.DETACH, self, None)

    # --- the chain rule --------------------------------------------------------------------------

    def backward(self) -> None:
        """Add d(self)/d(leaf) to `grad` of every leaf that self depends on.

        The gradients of the results in between are set afresh, so calling this twice adds the
        same leaf gradients twice, and graphs that share a part do not disturb each other.
        A node whose gradient is exactly 0.0 passes nothing on: the branch a `where` did not take
        gives no nan. Raises `StaleGraphError`, before any leaf's gradient changes, if the data
        of a Value in the graph was written after it was used.
        """
        v: Node
        i: cython.Py_ssize_t
        watch.read(self, "backward()")
        tape: order.Found = _tape(self)
        checked: cython.bint = watch.anomalies()
        self._grad += 1.0
        for i in range(tape.count - 1, -1, -1):
            v = cython.cast(Node, order.at(tape, i))
            if checked:
                watch.backward(v)
            else:
                _propagate(v)

    def _backward(self) -> None:
        """Pass this node's gradient on to its operands: one step of `backward`, by hand."""
        watch.read(self, "_backward()")
        _propagate(self)

    @staticmethod
    def apply(name: str, *operands: Any, const: Any = 0.0) -> Value:
        """The result of the operation called `name` in `ops.TABLE`, on Values or numbers.

        `const` is the exponent, slope or index of an operation that has one. Raises `KeyError`
        for an unknown name, `TypeError` for a wrong number of operands and `IndexError` for the
        index of a candidate that `take` has not.
        """
        op, constant = ops.called(name, len(operands), const)
        values = tuple([_operand(x) for x in operands])
        if op.arity == 1:
            return _unary(op.code, values[0], constant)
        if op.arity == 2:
            return _binary(op.code, values[0], values[1])
        return _many(op.code, values, constant)


if not cython.compiled:
    _plain.finish(Value)


# --- making nodes -------------------------------------------------------------------------------


@cython.cfunc
@cython.inline
def _new_leaf(v: Value, data: cython.double) -> Value:
    clock.alive += 1
    clock.time += 1
    v.number = clock.time
    v._data = data
    return v


@cython.cfunc
@cython.inline
def _leaf(data: cython.double) -> Value:
    return _new_leaf(Value.__new__(Value), data)


@cython.cfunc
@cython.inline
def _node(
    data: cython.double,
    code: cython.int,
    a: Node,
    b: Node | None,
    const: cython.double = 0.0,
) -> Value:
    out: Value = _leaf(data)
    out.code = code
    out.const = const
    out.a = a
    out.b = b  # type: ignore[assignment]
    return _watched(out) if watch.blocks else out


@cython.cfunc
def _watched(v: Value) -> Value:
    """v, a result just made; a leaf if this thread is under `no_grad`."""
    if not watch.made(v, v.number, v._data):
        v.a = v.b = v.rest = None  # type: ignore[assignment]
        v.code = rules.LEAF
    return v


@cython.cfunc
@cython.inline
def _sum(a: Value, b: Value) -> Value:
    return _node(a._data + b._data, rules.ADD, a, b)


@cython.cfunc
@cython.inline
def _product(a: Value, b: Value) -> Value:
    return _node(a._data * b._data, rules.MUL, a, b)


@cython.cfunc
def _unary(code: cython.int, a: Node, const: cython.double = 0.0) -> Value:
    return _node(rules.forward(code, a._data, 0.0, const), code, a, None, const)


@cython.cfunc
def _binary(code: cython.int, a: Node, b: Node) -> Value:
    return _node(rules.forward(code, a._data, b._data, 0.0), code, a, b)


@cython.cfunc
def _many(code: cython.int, operands: tuple[Node, ...], const: cython.double) -> Value:
    """A node of `where` (condition, a, b) or `take` (candidates; const is the index)."""
    out: Value = _leaf(_selected(code, operands, const)._data)
    out.code = code
    out.const = const
    out.rest = operands
    return _watched(out) if watch.blocks else out


def choose(candidates: tuple[Value, ...], index: cython.Py_ssize_t) -> Value:
    """The node of a `take` of candidate number `index`; other nodes may share the tuple."""
    return _many(rules.TAKE, candidates, index)


def are_values(xs: list[Any]) -> bool:
    """Whether all of these are Values."""
    found: cython.bint = True
    for x in xs:
        found &= type(x) is Value
    return found


def dot(a: list[Value], b: list[Any]) -> Any:
    """a[0]*b[0] + a[1]*b[1] + ..., from left to right; b is as long as a, which is not empty.

    The nodes of `reduce(add, map(mul, a, b))`, made without a call for each.
    """
    k: cython.Py_ssize_t
    x: Value
    total: Any = None
    for k in range(len(a)):
        x, y = a[k], b[k]
        product = _product(x, y) if type(y) is Value else x * y
        if k == 0:
            total = product
        elif type(total) is Value and type(product) is Value:
            total = _sum(total, product)
        else:
            total = total + product
    return total


@cython.cfunc
@cython.inline
def _selected(code: cython.int, operands: tuple[Node, ...], const: cython.double) -> Node:
    """The operand that `where` or `take` gives."""
    if code == rules.WHERE:
        return operands[1] if cython.cast(Node, operands[0])._data != 0.0 else operands[2]
    return operands[cython.cast(cython.Py_ssize_t, const)]


@cython.cfunc
@cython.inline
def _lift(x: Any, name: str = "operand") -> Value | None:
    """x as a Value; None for a type that may know how to combine itself with a Value."""
    if isinstance(x, Value):
        return cython.cast(Value, x)
    if type(x) is float:
        return _leaf(x)
    return _leaf(real(x, name)) if type(x) is int or combines(x, name) else None


@cython.cfunc
def _operand(x: Any) -> Value:
    if isinstance(x, Value):
        return x
    if hasattr(x, "as_value"):  # a traced integer or comparison
        return x.as_value()
    return _leaf(real(x, "operand"))


# --- the tape -----------------------------------------------------------------------------------


@cython.cfunc
def _tape(root: Node) -> order.Found:
    """Every result that root depends on, root included, by ascending creation number.

    The gradients of those results are set to 0 on the way.
    """
    v: Node
    w: Node
    i: cython.Py_ssize_t = 0
    mark: cython.ulonglong = clock.marks(1)
    found: order.Found = order.Found()
    _reach(root, mark, found)
    while i < found.count:  # which grows meanwhile
        v = cython.cast(Node, order.at(found, i))
        i += 1
        if is_stale(v):
            raise diagnose.stale_error(v, bool(v.flags & MODIFIED))
        v._grad = 0.0
        if v.a is None:
            for w in v.rest:
                _reach(w, mark, found)
        else:
            _reach(v.a, mark, found)
            if v.b is not None:
                _reach(v.b, mark, found)
    found.sort()
    return found


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def _reach(v: Node, mark: cython.ulonglong, found: order.Found) -> cython.int:
    if v.code != rules.LEAF and v.mark != mark:
        v.mark = mark
        order.push(found, v, v.number)
    return 0


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def is_stale(v: Node) -> cython.bint:
    """Whether the data of v or of an operand was written after v was computed."""
    w: Node
    computed: cython.ulonglong = max(v.number, v.version)
    changed: cython.bint = v.flags & MODIFIED
    if v.a is None:
        for w in v.rest:
            changed |= w.version > computed
        return changed
    return changed or v.a.version > computed or (v.b is not None and v.b.version > computed)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _propagate(v: Node) -> cython.void:
    """The chain rule at one node: operand.grad += dv/d(operand) * v.grad."""
    g: cython.double = v._grad
    d: cython.double
    if g == 0.0 or v.code == rules.LEAF:
        return
    a: Node = v.a
    b: Node = v.b
    code: cython.int = v.code
    if code == rules.ADD:
        a._grad += g
        b._grad += g
    elif code == rules.MUL:
        a._grad += b._data * g
        b._grad += a._data * g
    elif code == rules.SUB:
        a._grad += g
        b._grad -= g
    elif code == rules.NEG:
        a._grad -= g
    elif v.a is None:
        a = _selected(code, v.rest, v.const)
        a._grad += g
    else:
        # Here a partial of exactly 0 passes nothing on either, so that the side a `maximum` or a
        # relu did not take gets no nan from 0 * inf. (A product is plain IEEE arithmetic, above.)
        data_b: cython.double = 0.0 if b is None else b._data
        d = rules.partial(code, 0, a._data, data_b, v.const, v._data)
        if d != 0.0:
            a._grad += d * g
        if b is not None:
            d = rules.partial(code, 1, a._data, data_b, v.const, v._data)
            if d != 0.0:
                b._grad += d * g
