"""What a number remembers: the storage of a `Value` and everything that reads or writes it.

The arithmetic that makes nodes, and the chain rule that walks them, are in `engine.py`.
"""

from __future__ import annotations

import importlib
import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

try:
    import cython
except ModuleNotFoundError:
    from . import _uncompiled as cython  # type: ignore[no-redef]

from . import ops, ufuncs
from .coerce import Number, combines, is_real, shown

if cython.compiled:
    from cython.cimports.scalargrad import clock, rules, watch
    from cython.cimports.scalargrad.coerce import real
else:
    from . import clock, rules, watch
    from .coerce import real

if TYPE_CHECKING:
    from .engine import Value
    from .views.explanation import Explanation

MODIFIED = cython.declare(cython.int, 1)  # flag: the data of this result was overwritten
LABELLED = cython.declare(cython.int, 2)  # flag: `_labels` has an entry for this node
_labels = cython.declare(dict, {})  # creation number -> label; few Values have one
_freeing = cython.declare(cython.int, 0)  # depth of nested deallocation
_unfreed = cython.declare(list, [])
# Modules that need Value and enter themselves here.
copying: Any = None  # `copies`
explaining: Any = None  # `views.explanation`, when it is first asked for


@cython.no_gc
@cython.freelist(65536)
@cython.cclass
class Node:
    """The base of `Value`: its number, its gradient, its operands, and what they are called."""

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
    a: Node
    b: Node
    rest: tuple[Node, ...]
    version: cython.ulonglong
    code: cython.ushort
    flags: cython.ushort

    def __dealloc__(self) -> None:
        # Without this a long chain would be freed by recursion, node inside node, and overflow
        # the C stack: past some depth the operands wait in a list for the outermost call.
        global _freeing
        if self.number == 0:  # __init__ raised
            return
        clock.alive -= 1
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

    @property
    def data(self) -> float:
        """The number. Writing it makes graphs built from the old number stale: see `backward`."""
        watch.read(self, ".data")
        return self._data

    @data.setter
    def data(self, data: Number) -> None:
        watch.written(self, ".data")
        self._data = real(data, "data")
        self.version = clock.tick()
        if self.code != rules.LEAF:
            self.flags |= MODIFIED

    @property
    def grad(self) -> float:
        """d(result)/d(this), summed over the `backward()` calls since it was last set to 0."""
        watch.read(self, ".grad")
        return self._grad

    @grad.setter
    def grad(self, grad: Number) -> None:
        watch.written(self, ".grad")
        # A sum that starts from 0.0 is never -0.0, and compiled programs count on that.
        self._grad = real(grad, "grad") + 0.0

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
            return self.rest  # type: ignore[return-value]  # every Node is a Value
        if self.a is None:
            return ()
        return (self.a,) if self.b is None else (self.a, self.b)  # type: ignore[return-value]

    def explain(self, root: Any = None, names: Any = None) -> Explanation:
        """The chain rule at this node, in numbers: text to print.

        It says how this Value was computed, and what each operand receives: the local derivative,
        as a formula and a number, times the gradient that arrived here, which is `grad`. With a
        `root` that depends on this Value the gradient is d(root)/d(this) instead, computed anew
        and stored nowhere, and the text says what it is made of: the sum, over everything this
        Value is used in, of d(use)/d(this) * d(root)/d(use).

            >>> w, x = Value(2.0, "w"), Value(3.0, "x")
            >>> loss = w * x + w
            >>> print(w.explain(loss))
            w = 2, a leaf
            <BLANKLINE>
            d(root)/d(w) is 4, a sum over the uses of w:
            <BLANKLINE>
              used in  data  d(use)/d(w)  d(root)/d(use)  contributes
              6 + w       8  1                         1            1
              w * x       6  x = 3                     1            3
              sum                                                   4
            <BLANKLINE>
            w.grad is 0: backward() has not been called since it was last set to 0.

        Values are called by their labels, or by the variables of `names`, a dictionary such as
        `locals()` or a network; a Value with neither by its number. Lines of the program are
        shown inside `with sg.detect_anomaly():`, which records them. Raises `StaleGraphError` if
        a number was written after it was used.
        """
        if explaining is None:
            importlib.import_module(".views", __package__)
        return explaining.explain(self, root, names)

    def __repr__(self) -> str:
        return f"Value(data={self._data!r}, grad={self._grad!r})"

    def __float__(self) -> float:
        watch.read(self, "float()")
        if watch.derivatives:
            watch.converted(self)
        return self._data

    def __int__(self) -> int:
        watch.read(self, "int()")
        return int(self._data)

    def __trunc__(self) -> int:
        watch.read(self, "math.trunc()")
        return math.trunc(self._data)

    def __floor__(self) -> int:
        watch.read(self, "math.floor()")
        return math.floor(self._data)

    def __ceil__(self) -> int:
        watch.read(self, "math.ceil()")
        return math.ceil(self._data)

    def __bool__(self) -> bool:
        tracer = watch.tracer()
        return self._data != 0.0 if tracer is None else bool(tracer.truth(self))

    def __round__(self, ndigits: Any = None) -> float:
        watch.read(self, "round()")
        return round(self._data, ndigits)

    def __format__(self, spec: str) -> str:
        if not spec:
            return repr(self)
        watch.read(self, "format()")
        return format(self._data, spec)

    def __lt__(self, other: Any) -> bool:
        return _compare(operator.lt, self, other)

    def __le__(self, other: Any) -> bool:
        return _compare(operator.le, self, other)

    def __gt__(self, other: Any) -> bool:
        return _compare(operator.gt, self, other)

    def __ge__(self, other: Any) -> bool:
        return _compare(operator.ge, self, other)

    def __eq__(self, other: object) -> Any:
        return _equal(self, other, True)

    def __ne__(self, other: object) -> Any:
        return _equal(self, other, False)

    def __hash__(self) -> int:
        return object.__hash__(self)

    # --- what micrograd and microgpt call these things -------------------------------------------

    @property
    def _prev(self) -> set[Value]:
        return set(self.operands)

    @property
    def _children(self) -> tuple[Value, ...]:
        return self.operands

    @property
    def _op(self) -> str:
        return ops.symbol(self.code, self.const)

    @property
    def _local_grads(self) -> tuple[float, ...]:
        watch.read(self, "_local_grads")
        operands = [v.data for v in self.operands]
        return ops.local_gradients(self.code, operands, self.const, self._data)

    # --- NumPy and copying -----------------------------------------------------------------------

    def conjugate(self) -> Value:
        """This Value, which is real: `np.var` and `np.vdot` ask for it."""
        return self  # type: ignore[return-value]  # every Node is a Value

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Let `np.exp(v)` and `np.float64(2) * v` give Values, and arrays give arrays of Values."""
        return ufuncs.call(type(self), ufunc, method, inputs, options)

    def __copy__(self) -> Value:
        return copying.shallow(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Value:
        return copying.deep(self, memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return copying.reduce(self)


@cython.cfunc
def _equal(a: Node, other: Any, expected: cython.bint) -> Any:
    if (watch.blocks or watch.derivatives) and (isinstance(other, Node) or is_real(other)):
        return watch.equal(a, other, expected)
    return NotImplemented


@cython.cfunc
def _compare(relation: Callable[[Any, Any], bool], a: Node, other: Any) -> Any:
    if not isinstance(other, Node) and not combines(other, "operand"):
        return NotImplemented
    tracer = watch.tracer()
    if tracer is not None:
        return tracer.compare(relation, a, other)
    b = cython.cast(Node, other)._data if isinstance(other, Node) else real(other, "operand")
    return relation(a._data, b)
