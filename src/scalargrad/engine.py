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
source you are reading, so that a debugger can step through it. What each operation computes, and
its derivative, is in `ops.py` and `rules.py`.
"""

from __future__ import annotations

import functools
import math
import operator
import threading
from collections.abc import Callable, Sequence
from typing import Any, SupportsFloat

try:
    import cython
except ModuleNotFoundError:
    from . import _uncompiled as cython  # type: ignore[no-redef]

from . import diagnose, ops
from .coerce import is_real, real, shown
from .errors import StaleGraphError
from .lines import node_line
from .modes import current, listen
from .modes import detect_anomaly as detect_anomaly
from .modes import no_grad as no_grad

if cython.compiled:
    from cython.cimports.cpython.list import PyList_GET_ITEM
    from cython.cimports.cpython.mem import PyMem_Free, PyMem_Malloc
    from cython.cimports.scalargrad import order, rules
else:
    from . import order, rules

compiled: bool = cython.compiled

MODIFIED_FLAG = 1
MODIFIED = cython.declare(cython.int, MODIFIED_FLAG)  # the data of this result was overwritten
LABELLED = cython.declare(cython.int, 2)  # flag: `_labels` has an entry for this node
MOST = 2**53  # integers nearer to 0 are floats without further ado
_labels = cython.declare(dict, {})  # creation number -> label; few Values have one
# Ticks when a Value is made or its data written, so that "written after" is a comparison.
_clock = cython.declare(cython.ulonglong, 0)
_alive = cython.declare(cython.longlong, 0)
_traversals = cython.declare(cython.ulonglong, 0)
_watchers = cython.declare(cython.int, 0)  # how many `_modes` contexts are open, in any thread
_freeing = cython.declare(cython.int, 0)  # depth of nested deallocation
_unfreed = cython.declare(list, [])

Number = SupportsFloat  # int, float, NumPy real scalars, 0-d arrays, any numbers.Real


@cython.final
@cython.no_gc
@cython.freelist(65536)
@cython.cclass
class Value:
    """A float64 that knows how it was made, and the derivative of a result with respect to it.

    `data` is the number and `grad` the gradient, 0.0 until a `backward()` adds to it. `operands`
    are the Values it was computed from, in order, by the operation named `op` (`""` for a leaf).
    `label` is a name for drawings and messages.

    Accepts any real number (int, float, NumPy scalar or 0-d array, `numbers.Real`). Anything
    else is a `TypeError`. Arithmetic is IEEE 754: `Value(1) / 0` is inf, `Value(0).log()` is
    -inf, and nothing raises (`detect_anomaly()` does, when wanted). `==` and `hash` mean the
    node, not the number; `<`, `float(v)`, `round(v)`, `format(v, ".3f")` mean the number.

        >>> a, b = Value(2.0), Value(-3.0)
        >>> c = a * b + a**2
        >>> c.backward()
        >>> a.grad, b.grad
        (1.0, 2.0)
    """

    # fmt: off
    __slots__ = (
        "_data", "_grad", "a", "b", "code", "const", "flags", "mark", "number", "rest", "version",
    )
    # fmt: on

    _data: cython.double
    _grad: cython.double
    const: cython.double
    number: cython.ulonglong
    mark: cython.ulonglong
    a: Value
    b: Value
    rest: tuple[Value, ...]
    version: cython.ulonglong
    code: cython.ushort
    flags: cython.ushort

    def __init__(self, data: Number, label: Any = "") -> None:
        number: cython.double = _real(data, "data")
        if self.number == 0:
            _new_leaf(self, number)
        else:
            self.data = number
        self.label = label

    def __dealloc__(self) -> None:
        # Without this a long chain would be freed by recursion, node inside node, and overflow
        # the C stack: past some depth the operands wait in a list for the outermost call.
        global _freeing, _alive
        if self.number == 0:  # __init__ raised
            return
        _alive -= 1
        if self.flags & LABELLED:
            del _labels[self.number]
        if self.code == rules.LEAF:
            return
        if _freeing > 200:
            _unfreed.append((self.a, self.b, self.rest))
            return
        _freeing += 1
        self.a = self.b = self.rest = None  # type: ignore[assignment]
        _freeing -= 1
        if _freeing == 0:
            while len(_unfreed) > 0:
                _unfreed.pop()

    # --- reading ---------------------------------------------------------------------------------

    @property
    def data(self) -> float:
        """The number. Writing it makes graphs built from the old number stale: see `backward`."""
        if _watchers:
            _watch_read(self, ".data")
        return self._data

    @data.setter
    def data(self, data: Number) -> None:
        global _clock
        if _watchers:
            _watch_write(self, ".data")
        self._data = _real(data, "data")
        _clock += 1
        self.version = _clock
        if self.code != rules.LEAF:
            self.flags |= MODIFIED

    @property
    def grad(self) -> float:
        """d(result)/d(this), summed over the `backward()` calls since it was last set to 0."""
        if _watchers:
            _watch_read(self, ".grad")
        return self._grad

    @grad.setter
    def grad(self, grad: Number) -> None:
        if _watchers:
            _watch_write(self, ".grad")
        self._grad = _real(grad, "grad")

    @property
    def label(self) -> str:
        """A name for drawings and messages."""
        return _labels[self.number] if self.flags & LABELLED else ""

    @label.setter
    def label(self, label: Any) -> None:
        if not isinstance(label, str):
            raise TypeError(f"label: expected a str, got {shown(label)}")
        if label:
            _labels[self.number] = str(label)
            self.flags |= LABELLED
        elif self.flags & LABELLED:
            del _labels[self.number]
            self.flags &= ~LABELLED

    @property
    def op(self) -> str:
        """The name of the operation that made this Value, as in `ops.TABLE`; "" for a leaf."""
        return "" if self.code == rules.LEAF else ops.BY_CODE[self.code].name

    @property
    def operands(self) -> tuple[Value, ...]:
        """The Values this one was computed from, in order, duplicates kept."""
        if self.rest is not None:
            return self.rest
        if self.a is None:
            return ()
        return (self.a,) if self.b is None else (self.a, self.b)

    def __repr__(self) -> str:
        return f"Value(data={self._data!r}, grad={self._grad!r})"

    def __float__(self) -> float:
        if _watchers:
            _watch_read(self, "float()")
        return self._data

    def __int__(self) -> int:
        return int(float(self))

    def __bool__(self) -> bool:
        if _watchers and current.tracer is not None:
            return bool(current.tracer.truth(self))
        return self._data != 0.0

    def __round__(self, ndigits: Any = None) -> float:
        return round(float(self), ndigits)

    def __format__(self, spec: str) -> str:
        return format(float(self), spec) if spec else repr(self)

    def __hash__(self) -> int:
        return object.__hash__(self)

    # --- arithmetic ------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Value:
        b: Value | None = _lift(other)
        return NotImplemented if b is None else _node(self._data + b._data, rules.ADD, self, b)

    def __radd__(self, other: Any) -> Value:
        a: Value | None = _lift(other)
        return NotImplemented if a is None else _node(a._data + self._data, rules.ADD, a, self)

    def __sub__(self, other: Any) -> Value:
        b: Value | None = _lift(other)
        return NotImplemented if b is None else _node(self._data - b._data, rules.SUB, self, b)

    def __rsub__(self, other: Any) -> Value:
        a: Value | None = _lift(other)
        return NotImplemented if a is None else _node(a._data - self._data, rules.SUB, a, self)

    def __mul__(self, other: Any) -> Value:
        b: Value | None = _lift(other)
        return NotImplemented if b is None else _node(self._data * b._data, rules.MUL, self, b)

    def __rmul__(self, other: Any) -> Value:
        a: Value | None = _lift(other)
        return NotImplemented if a is None else _node(a._data * self._data, rules.MUL, a, self)

    def __truediv__(self, other: Any) -> Value:
        b: Value | None = _lift(other)
        return NotImplemented if b is None else _binary(rules.DIV, self, b)

    def __rtruediv__(self, other: Any) -> Value:
        a: Value | None = _lift(other)
        return NotImplemented if a is None else _binary(rules.DIV, a, self)

    def __pow__(self, other: Any, modulo: Any = None) -> Value:
        _refuse_modulo(modulo)
        b: Value | None = _lift(other, "exponent")
        if b is None:
            return NotImplemented
        if isinstance(other, Value):
            return _binary(rules.POWER, self, b)
        return _unary(rules.POW, self, b._data)

    def __rpow__(self, other: Any, modulo: Any = None) -> Value:
        _refuse_modulo(modulo)
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
        """max(0, a); derivative 1 where the result is positive, else 0."""
        return _unary(rules.RELU, self)

    def leaky_relu(self, slope: Any = 0.01) -> Value:
        """a where a > 0, else slope * a (Maas et al., 2013)."""
        return _unary(rules.LEAKY_RELU, self, _real(slope, "slope"))

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
        if _watchers and current.tracer is not None:
            return _node(self._data, rules.DETACH, self, None)
        return _leaf(self._data)

    def __lt__(self, other: Any) -> bool:
        return _compare(operator.lt, self, other)

    def __le__(self, other: Any) -> bool:
        return _compare(operator.le, self, other)

    def __gt__(self, other: Any) -> bool:
        return _compare(operator.gt, self, other)

    def __ge__(self, other: Any) -> bool:
        return _compare(operator.ge, self, other)

    # --- the chain rule --------------------------------------------------------------------------

    def backward(self) -> None:
        """Add d(self)/d(leaf) to `grad` of every leaf that self depends on.

        The gradients of the results in between are set afresh, so calling this twice adds the
        same leaf gradients twice, and graphs that share a part do not disturb each other.
        A node whose gradient is exactly 0.0 passes nothing on: the branch a `where` did not take
        gives no nan. Raises `StaleGraphError`, before any leaf's gradient changes, if the data
        of a Value in the graph was written after it was used.
        """
        v: Value
        i: cython.Py_ssize_t
        if _watchers:
            _watch_read(self, "backward()")
        tape: list = _tape(self)
        last: cython.Py_ssize_t = len(tape) - 1
        self._grad += 1.0
        if _watchers and current.anomaly:
            for i in range(last, -1, -1):
                _propagate_checked(tape[i])
            return
        for i in range(last, -1, -1):
            v = tape[i]
            _propagate(v)

    # --- what micrograd and microgpt call these things -------------------------------------------

    def _backward(self) -> None:
        """Pass this node's gradient on to its operands: one step of `backward`, by hand."""
        if _watchers:
            _watch_read(self, "_backward()")
        _propagate(self)

    @property
    def _prev(self) -> set[Value]:
        return set(self.operands)

    @property
    def _children(self) -> tuple[Value, ...]:
        return self.operands

    @property
    def _op(self) -> str:
        return (
            ""
            if self.code == rules.LEAF
            else ops.BY_CODE[self.code].symbol.format(c=ops.constant_text(self.const))
        )

    @property
    def _local_grads(self) -> tuple[float, ...]:
        if _watchers:
            _watch_read(self, "_local_grads")
        return local_gradients(self)

    # --- NumPy -----------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Let `np.exp(v)` and `np.float64(2) * v` give Values, and arrays give arrays of Values."""
        if method == "__call__" and not options and all(_is_scalar(x) for x in inputs):
            row = ops.BY_UFUNC.get(ufunc.__name__)
            if row is not None:
                return Value.apply(row.name, *inputs)
            if ufunc.__name__ in _RELATIONS:
                return _RELATIONS[ufunc.__name__](*(_operand(x) for x in inputs))
        import numpy

        def boxed(x: Any) -> Any:
            array = numpy.empty((), dtype=object)
            array[()] = x
            return array if isinstance(x, Value) else x

        return getattr(ufunc, method)(*(boxed(x) for x in inputs), **options)

    # --- building, copying -----------------------------------------------------------------------

    @staticmethod
    def apply(name: str, *operands: Any, const: Any = 0.0) -> Value:
        """The result of the operation called `name` in `ops.TABLE`, on Values or numbers.

        `const` is the exponent, slope or index of an operation that has one. Raises `KeyError`
        for an unknown name, `TypeError` for a wrong number of operands and `IndexError` for the
        index of a candidate that `take` has not.
        """
        if name not in ops.BY_NAME:
            raise KeyError(f"name: expected one of {', '.join(ops.BY_NAME)}, got {name!r}")
        row = ops.BY_NAME[name]
        if len(operands) != row.arity and (row.arity is not None or not operands):
            wanted = "at least 1" if row.arity is None else row.arity
            raise TypeError(f"{name}: expected {wanted} operands, got {len(operands)}")
        constant: cython.double = _real(const, row.constant or "const")
        if row.code == rules.TAKE and not (
            0 <= constant < len(operands) and constant == math.floor(constant)
        ):
            raise IndexError(f"index: expected 0 to {len(operands) - 1}, got {shown(const)}")
        values = tuple(_operand(x) for x in operands)
        if row.arity == 1:
            return _unary(row.code, values[0], constant)
        if row.arity == 2:
            return _binary(row.code, values[0], values[1])
        return _many(row.code, values, constant)

    def __copy__(self) -> Value:
        if _watchers:
            _watch_read(self, "copy.copy()")
        return _rebuilt(self, self.operands)

    def __deepcopy__(self, memo: dict[int, Any]) -> Value:
        if _watchers:
            _watch_read(self, "copy.deepcopy()")
        found: dict[int, Value] = {id(self): self}
        stack = [self]
        while stack:
            for operand in stack.pop().operands:
                if id(operand) not in memo and id(operand) not in found:
                    found[id(operand)] = operand
                    stack.append(operand)
        for v in sorted(found.values(), key=operator.attrgetter("number")):
            memo[id(v)] = _rebuilt(v, tuple([memo[id(x)] for x in v.operands]))
        return memo[id(self)]

    def __reduce__(self) -> tuple[Any, ...]:
        # One flat record for the whole graph, because pickling operand by operand would recurse.
        # Leaves stay objects of their own, so a model and a loss pickled together still share
        # their parameters; two results pickled together each bring their graph, and share leaves.
        if _watchers:
            _watch_read(self, "pickling")
        if self.code == rules.LEAF:
            return _unpickle_leaf, (self._data, self._grad, self.label)
        v: Value
        leaves, results, _ = reachable([self])
        place = {id(v): ~i for i, v in enumerate(leaves)}
        records: list[tuple[Any, ...]] = []
        for v in results:
            place[id(v)] = len(records)
            operands = tuple([place[id(x)] for x in v.operands])
            fields = (v._data, v._grad, v.const, v.label, bool(_is_stale(v)))
            records.append((v.op, operands, *fields))
        return _unpickle_graph, (leaves, records)


if not cython.compiled:
    Value.__del__ = Value.__dealloc__  # type: ignore[attr-defined]

    def _zeroed(cls: type, *arguments: Any, **options: Any) -> Any:
        v: Any = object.__new__(cls)
        v.a = v.b = v.rest = None
        v._data = v._grad = v.const = 0.0
        v.mark = v.version = v.code = v.flags = 0
        _number.__set__(v, 0)
        return v

    def _set_number(v: Value, number: int) -> None:
        if v.number != 0:
            raise AttributeError("attribute 'number' of 'Value' objects is not writable")
        _number.__set__(v, number)

    def _no_subclass(cls: type) -> None:
        raise TypeError("type 'scalargrad.engine.Value' is not an acceptable base type")

    def _one_at_a_time(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def locked(*arguments: Any) -> Any:
            with _lock:
                return function(*arguments)

        return locked

    # Compiled, a traversal holds the interpreter lock; here it needs one of its own.
    _lock = threading.RLock()
    Value.backward = _one_at_a_time(Value.backward)  # type: ignore[method-assign]

    # What Cython gives a compiled class: fields that start from zero, one of them read-only, and
    # no subclasses.
    _number: Any = vars(Value)["number"]
    setattr(Value, "number", property(_number.__get__, _set_number))  # noqa: B010
    Value.__new__ = staticmethod(_zeroed)  # type: ignore[assignment,method-assign]
    Value.__init_subclass__ = classmethod(_no_subclass)  # type: ignore[assignment,arg-type]


# --- making nodes -------------------------------------------------------------------------------


@cython.cfunc
@cython.inline
def _new_leaf(v: Value, data: cython.double) -> Value:
    global _clock, _alive
    _alive += 1
    _clock += 1
    v.number = _clock
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
    a: Value,
    b: Value | None,
    const: cython.double = 0.0,
) -> Value:
    out: Value = _leaf(data)
    out.code = code
    out.const = const
    out.a = a
    out.b = b  # type: ignore[assignment]
    if _watchers:
        _watch_made(out)
    return out


@cython.cfunc
def _unary(code: cython.int, a: Value, const: cython.double = 0.0) -> Value:
    return _node(rules.forward(code, a._data, 0.0, const), code, a, None, const)


@cython.cfunc
def _binary(code: cython.int, a: Value, b: Value) -> Value:
    return _node(rules.forward(code, a._data, b._data, 0.0), code, a, b)


@cython.cfunc
def _many(code: cython.int, operands: tuple[Value, ...], const: cython.double) -> Value:
    """A node of `where` (condition, a, b) or `take` (candidates; const is the index)."""
    v: Value
    if code == rules.WHERE:
        v = operands[1] if cython.cast(Value, operands[0])._data != 0.0 else operands[2]
    else:
        v = operands[cython.cast(cython.Py_ssize_t, const)]
    out: Value = _leaf(v._data)
    out.code = code
    out.const = const
    out.rest = operands
    if _watchers:
        _watch_made(out)
    return out


@cython.cfunc
@cython.inline
def _lift(x: Any, name: str = "operand") -> Value | None:
    """x as a Value; None for a type that may know how to combine itself with a Value."""
    if isinstance(x, Value):
        return x
    if type(x) is float:
        return _leaf(x)
    return _leaf(_real(x, name)) if type(x) is int else _lift_other(x, name)


@cython.cfunc
def _lift_other(x: Any, name: str) -> Value | None:
    if isinstance(x, str | bytes | complex | list | tuple | dict | set | None):
        raise TypeError(f"{name}: expected a Value or a real number, got {shown(x)}")
    return _leaf(_real(x, name)) if is_real(x) else None


def _refuse_modulo(modulo: Any) -> None:
    if modulo is not None:
        raise TypeError(f"modulo: expected None, got {shown(modulo)}: pow() here is not modular")


@cython.cfunc
def _operand(x: Any) -> Value:
    if isinstance(x, Value):
        return x
    if hasattr(x, "as_value"):  # a traced integer or comparison
        return x.as_value()
    return _leaf(_real(x, "operand"))


def _is_scalar(x: Any) -> bool:
    return isinstance(x, Value) or is_real(x)


@cython.cfunc
def _real(x: Any, name: str) -> cython.double:
    if type(x) is float:
        return x
    if type(x) is int and -MOST < x < MOST:
        return float(x)
    return real(x, name)


_RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "equal": operator.is_,
    "not_equal": operator.is_not,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
}


@cython.cfunc
def _compare(relation: Callable[[Any, Any], bool], a: Value, other: Any) -> Any:
    b: Value | None = _lift(other)
    if b is None:
        return NotImplemented
    if _watchers and current.tracer is not None:
        return current.tracer.compare(relation, a, b)
    return relation(a._data, b._data)


# --- the tape -----------------------------------------------------------------------------------


@cython.cfunc
def _tape(root: Value) -> list:
    """Every result that root depends on, root included, by ascending creation number.

    The gradients of those results are set to 0 on the way.
    """
    global _traversals
    _traversals += 1
    v: Value
    w: Value
    found: list = [root]
    root.mark = _traversals
    for v in found:  # grows while it is read
        if v.code == rules.LEAF:
            continue
        if _is_stale(v):
            raise _stale_error(v)
        v._grad = 0.0
        if v.rest is not None:
            for w in v.rest:
                _reach(w, found)
        else:
            _reach(v.a, found)
            if v.b is not None:
                _reach(v.b, found)
    _sort(found)
    return found


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def _reach(w: Value, found: list) -> cython.int:
    if w.code != rules.LEAF and w.mark != _traversals:
        w.mark = _traversals
        found.append(w)
    return 0


@cython.cfunc
def _sort(nodes: list) -> cython.void:
    """Order nodes by ascending creation number, in place."""
    i: cython.Py_ssize_t
    keys: cython.p_ulonglong = cython.NULL
    if cython.compiled:
        keys = cython.cast(cython.p_ulonglong, PyMem_Malloc(8 * len(nodes) + 8))
        if keys == cython.NULL:
            raise MemoryError(f"no memory to order {len(nodes)} nodes")
        for i in range(len(nodes)):  # borrowed: no reference is counted
            keys[i] = cython.cast(Value, PyList_GET_ITEM(nodes, i)).number
    try:
        order.sort(nodes, keys)
    finally:
        if cython.compiled:
            PyMem_Free(keys)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _is_stale(v: Value) -> cython.bint:
    """Whether the data of v or of an operand was written after v was computed."""
    w: Value
    computed: cython.ulonglong = max(v.number, v.version)
    changed: cython.bint = v.flags & MODIFIED
    if v.rest is not None:
        for w in v.rest:
            changed |= w.version > computed
        return changed
    return changed or v.a.version > computed or (v.b is not None and v.b.version > computed)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _propagate(v: Value) -> cython.void:
    """The chain rule at one node: operand.grad += dv/d(operand) * v.grad."""
    g: cython.double = v._grad
    d: cython.double
    if g == 0.0 or v.code == rules.LEAF:
        return
    a: Value = v.a
    b: Value = v.b
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
    elif code == rules.WHERE:
        a = v.rest[1] if cython.cast(Value, v.rest[0])._data != 0.0 else v.rest[2]
        a._grad += g
    elif code == rules.TAKE:
        a = v.rest[cython.cast(cython.Py_ssize_t, v.const)]
        a._grad += g
    else:
        # Here a partial of exactly 0 passes nothing on either, so that the side a `maximum` or a
        # relu did not take gets no nan from 0 * inf. (A product is plain IEEE arithmetic, above.)
        d = rules.partial(code, 0, a._data, 0.0 if b is None else b._data, v.const, v._data)
        if b is not None:
            e: cython.double = rules.partial(code, 1, a._data, b._data, v.const, v._data)
            if d != 0.0:
                a._grad += d * g
            if e != 0.0:
                b._grad += e * g
        elif d != 0.0:
            a._grad += d * g


def local_gradients(v: Value) -> tuple[float, ...]:
    """dv/d(operand) for each operand of v, in order."""
    if v.code == rules.LEAF:
        return ()
    row = ops.BY_CODE[v.code]
    constant = (v.const,) if row.constant else ()
    return tuple(row.partials(*_operand_data(v), *constant, v._data))


@cython.cfunc
def _operand_data(v: Value) -> list[float]:
    w: Value
    data: list = []
    for w in v.operands:
        data.append(w._data)
    return data


def reachable(
    roots: Sequence[Value], since: cython.ulonglong = 0
) -> tuple[list[Value], list[Value], int]:
    """The leaves and the results that roots depend on, each by ascending creation number.

    Results older than the creation number `since` count as leaves: what they depend on is not
    looked at.

    Also returns a number `base` such that no mark from base to base + the number of nodes is in
    use: `replay.capture` numbers the nodes with it, at no cost of a dictionary.
    """
    global _traversals
    _traversals += 1
    v: Value
    w: Value
    leaves: list = []
    results: list = []
    for v in roots:
        _reach_all(v, leaves, results, since)
    for v in results:  # grows while it is read
        if v.rest is not None:
            for w in v.rest:
                _reach_all(w, leaves, results, since)
        else:
            _reach_all(v.a, leaves, results, since)
            if v.b is not None:
                _reach_all(v.b, leaves, results, since)
    _sort(leaves)
    _sort(results)
    base: cython.ulonglong = _traversals + 1
    _traversals += 1 + len(leaves) + len(results)
    return leaves, results, base


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def _reach_all(w: Value, leaves: list, results: list, since: cython.ulonglong) -> cython.int:
    if w.mark != _traversals:
        w.mark = _traversals
        if w.code == rules.LEAF or w.number < since:
            leaves.append(w)
        else:
            results.append(w)
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def now() -> cython.ulonglong:
    """The clock: as long as it stands still, no Value was made and no data written."""
    return _clock


@cython.cfunc
@cython.exceptval(check=False)
def watched() -> cython.bint:
    """Whether some mode is on, in any thread: results and numbers may then be looked at."""
    return _watchers != 0


def tick() -> int:
    """A new tick of the clock, for data that another module is about to write."""
    global _clock
    _clock += 1
    return _clock


if not cython.compiled:
    reachable = _one_at_a_time(reachable)


def live_values() -> int:
    """How many Values exist now: 0 growth over a training step means that nothing leaks."""
    return _alive


# --- copies ---------------------------------------------------------------------------------------


@cython.cfunc
def _rebuilt(v: Value, operands: tuple[Value, ...]) -> Value:
    """A copy of v with these operands; a copy of a stale result is stale."""
    out: Value = _leaf(v._data)
    out._grad, out.const, out.code = v._grad, v.const, v.code
    out.label = v.label
    if v.code != rules.LEAF:
        _set_operands(out, operands)
        if _is_stale(v):
            out.flags |= MODIFIED
    return out


@cython.cfunc
def _set_operands(out: Value, operands: tuple[Value, ...]) -> cython.void:
    if len(operands) > 2 or out.code == rules.TAKE:
        out.rest = operands
    else:
        out.a = operands[0]
        out.b = operands[1] if len(operands) == 2 else None  # type: ignore[assignment]


def _unpickle_leaf(data: float, grad: float, label: str) -> Value:
    out: Value = _leaf(data)
    out._grad = grad
    out.label = label
    return out


def _unpickle_graph(leaves: list[Value], records: list[tuple[Any, ...]]) -> Value:
    out: Value = _leaf(0.0)
    made: list[Value] = []
    for name, places, data, grad, const, label, stale in records:
        out = _unpickle_leaf(data, grad, label)
        out.const = const
        out.code = ops.BY_NAME[name].code
        _set_operands(out, tuple(leaves[~i] if i < 0 else made[i] for i in places))
        if stale:
            out.flags |= MODIFIED
        made.append(out)
    return out


# --- inside a `with` block of modes.py --------------------------------------------------------------


def _count_watchers(change: int) -> None:
    global _watchers
    _watchers += change


listen(_count_watchers)


def _watch_made(v: Value) -> None:
    here: dict = current.__dict__  # one look-up of this thread's modes, where it set any
    lines = here.get("lines")
    if lines is not None:
        lines[v.number] = node_line()
    if here.get("anomaly", False):
        diagnose.check_value(v, v._data)
    if not here.get("grad", True):
        if here.get("tracer") is not None:
            here["tracer"].refuse_no_grad()
        v.a = v.b = v.rest = None  # type: ignore[assignment]
        v.code = rules.LEAF


def _watch_read(v: Value, what: str) -> None:
    if current.tracer is not None:
        current.tracer.read(v, what)


def _watch_write(v: Value, what: str) -> None:
    if current.tracer is not None:
        current.tracer.wrote(v, what)


forbid_while_tracing = _watch_read  # for other modules that are about to read v's numbers


def _propagate_checked(v: Value) -> None:
    finite = [math.isfinite(operand.grad) for operand in v.operands]
    _propagate(v)
    for operand, was_finite, partial in zip(v.operands, finite, local_gradients(v)):
        if was_finite and not math.isfinite(operand.grad):
            raise diagnose.gradient_error(v, operand, partial)


def _stale_error(v: Value) -> StaleGraphError:
    w: Value
    changed: Value = v
    if not v.flags & MODIFIED:
        for w in v.operands:
            if w.version > max(v.number, v.version):
                changed = w
    return diagnose.stale_error(v, changed)
