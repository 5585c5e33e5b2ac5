"""Functions of several numbers: softmax, logsumexp, dot, maximum, where, take ...

They take Values and real numbers in any mixture, lists of them where more than one is meant, and
give Values. Each is written in the arithmetic of `Value` alone, one example at a time, and adds
from left to right, so what a function does is what its body says, and the compiler sees the same
program that runs eagerly. None of them looks at a number to decide what to do.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

from . import engine
from .engine import Value
from .errors import ShapeError

Scalar: TypeAlias = Value | float
LARGEST_FLOAT = 1.7976931348623157e308


@runtime_checkable
class Condition(Protocol):
    """A comparison whose outcome is a number in the graph: 1.0 where it holds, else 0.0.

    While a program is traced, comparing two Values gives such an object in place of a bool.
    """

    def as_value(self) -> Value:
        """The outcome, 1.0 or 0.0, as a node of the graph."""


@runtime_checkable
class TracedIndex(Protocol):
    """An integer argument of a traced program: it selects among candidates on every call anew."""

    is_traced_index: bool

    def take(self, values: Sequence[Scalar]) -> Value:
        """The candidate this index selects."""

    def take_row(self, rows: Sequence[Sequence[Scalar]]) -> list[Value]:
        """The row of a table that this index selects."""


Index: TypeAlias = int | TracedIndex

# --- arguments ------------------------------------------------------------------------------------


def as_value(x: Any, name: str = "x") -> Value:
    """x itself if it is a Value, else a new leaf holding the real number x.

    Raises `TypeError`, naming the argument as `name`, for anything that is not a real number.
    """
    if isinstance(x, Value):
        return x
    if hasattr(x, "as_value"):  # a traced integer or comparison
        value: Value = x.as_value()
        return value
    try:
        return Value(x)
    except TypeError:
        text = repr(x)
        shown = text if len(text) <= 60 else text[:57] + "..."
        raise TypeError(
            f"{name}: expected a Value or a real number, got {type(x).__name__} {shown}"
        ) from None


def as_values(x: Iterable[Any], name: str = "x") -> list[Value]:
    """The numbers of x, each as a Value, in order.

    Raises `TypeError` for an x that is not a list, array or other ordered collection of real
    numbers, and names the item that is not one.
    """
    if type(x) is not list and (
        not hasattr(x, "__iter__") or isinstance(x, set | frozenset | dict)
    ):
        raise TypeError(
            f"{name}: expected a list of Values or real numbers, got {type(x).__name__}"
        )
    items = list(x)
    if engine.are_values(items):
        return items
    try:
        return [item if isinstance(item, Value) else Value(item) for item in items]
    except TypeError:
        return [as_value(item, f"{name}[{k}]") for k, item in enumerate(items)]


def _some_values(x: Iterable[Any], name: str) -> list[Value]:
    values = as_values(x, name)
    if not values:
        raise ShapeError(f"{name}: expected at least one number, got an empty list")
    return values


def require_index(index: Any, name: str) -> int:
    """index as an int; `TypeError`, naming the argument, for a bool, a float or a Value."""
    try:
        if isinstance(index, bool):
            raise TypeError
        return operator.index(index)
    except TypeError:
        remedy = "convert it with int(...), an array with .astype(int), if it is a whole number"
        if hasattr(index, "__len__"):
            remedy = "one number selects, such as numpy.argmax of a list of zeros with a 1 in it"
        raise TypeError(
            f"{name}: expected an int, got {type(index).__name__} {index!r}: {remedy}"
        ) from None


# --- choosing -------------------------------------------------------------------------------------


def maximum(a: Scalar, *others: Scalar) -> Value:
    """The largest of the arguments; nan if any of them is nan.

    Where two are equal the gradient is shared between them, half each, as in PyTorch and JAX.
    Unlike `max`, the choice is part of the graph: it is made again when the program is replayed
    or compiled. For a list, `maximum(*numbers)`. Raises `TypeError` for what is not a number.
    """
    return _extreme("maximum", a, others)


def minimum(a: Scalar, *others: Scalar) -> Value:
    """The smallest of the arguments; nan if any of them is nan. Equal ones share the gradient.

    See `maximum`.
    """
    return _extreme("minimum", a, others)


def _extreme(op: str, a: Scalar, others: Sequence[Scalar]) -> Value:
    try:
        return reduce(lambda x, y: Value.apply(op, x, y), others, as_value(a, "a"))
    except TypeError as error:
        if not others and hasattr(a, "__iter__"):
            raise TypeError(f"{error}: pass its numbers one by one, as {op}(*numbers)") from None
        for k, x in enumerate(others):
            as_value(x, f"others[{k}]")
        raise


def where(condition: bool | Condition, a: Scalar, b: Scalar) -> Value:
    """a where the condition holds, else b, as `numpy.where` on single numbers.

    `condition` is a comparison such as `x > 0`. Only the chosen side receives a gradient, so a
    side that was not taken may be inf or nan without harm:
    `where(x > 0, x.log(), 0.0)` has derivative 0 at x <= 0.

    Raises `TypeError` for a condition that is not the outcome of a comparison.
    """
    chosen: float | Value
    if isinstance(condition, bool) or _is_numpy_bool(condition):
        chosen = 1.0 if condition else 0.0
    elif isinstance(condition, Condition):
        chosen = condition.as_value()
    else:
        raise TypeError(
            f"condition: expected a comparison such as x > 0, got {type(condition).__name__} "
            f"{condition!r}"
        )
    try:
        return Value.apply("where", chosen, a, b)
    except TypeError:
        as_value(a, "a")
        as_value(b, "b")
        raise


def _is_numpy_bool(x: Any) -> bool:
    return getattr(x, "shape", None) == () and getattr(x.dtype, "kind", "") == "b"


def take(values: Sequence[Any], index: Index) -> Any:
    """`values[index]`, with the choice kept in the graph.

    `values` is a list of numbers, which gives a Value, or a list of rows of equal length (an
    embedding table), which gives the row as a list of Values, one `take` per column. `index` is
    an integer argument of a program being traced, so that one program serves every index; or an
    int, and then the chosen candidate is the only one that the graph knows of. The chosen
    candidate receives the gradient; the others receive none.

    Raises `IndexError` for an index outside 0 ... len(values) - 1 (a negative one too, which
    would hide mistakes), `TypeError` for one that is not an int, and `ShapeError` for no values
    or rows of different lengths.
    """
    if not hasattr(values, "__iter__"):
        raise TypeError(
            "values: expected a list of numbers, or of rows of numbers, got "
            f"{type(values).__name__} {values!r}"
        )
    candidates = list(values)
    if not candidates:
        raise ShapeError("values: expected at least one candidate to take from, got none")
    if hasattr(candidates[0], "__len__"):
        for k, row in enumerate(candidates):
            if len(row) != len(candidates[0]):
                raise ShapeError(
                    f"values[{k}] has {len(row)} numbers, values[0] has {len(candidates[0])}: "
                    "expected rows of equal length"
                )
        return take_row(candidates, index)
    if _is_traced(index):
        return index.take(candidates)
    k = _within(index, len(candidates))
    return _chosen(as_value(candidates[k], f"values[{k}]"))


def take_row(rows: Sequence[Sequence[Scalar]], index: Index) -> list[Value]:
    """`take(rows, index)` for rows that are known to be equally long."""
    if _is_traced(index):
        return index.take_row(rows)
    return [_chosen(x) for x in rows[_within(index, len(rows))]]


def _is_traced(index: Index) -> TypeGuard[TracedIndex]:
    return not isinstance(index, int) and isinstance(index, TracedIndex)


def _within(index: Any, count: int) -> int:
    k = require_index(index, "index")
    if not 0 <= k < count:
        raise IndexError(f"index {k} is out of range for {count} values: expected 0 to {count - 1}")
    return k


def _chosen(x: Scalar) -> Value:
    # A node of its own, as where the index is traced: what its users pass on adds up here first.
    return Value.apply("take", x, const=0)


# --- sums -----------------------------------------------------------------------------------------


def total(x: Iterable[Scalar]) -> Value:
    """x[0] + x[1] + ..., from left to right; 0 for an empty list.

    The same sum as Python's `sum`, without the 0 that `sum` starts from.
    """
    values = as_values(x)
    return reduce(operator.add, values) if values else Value(0.0)


def dot(a: Sequence[Scalar], b: Sequence[Scalar]) -> Value:
    """a[0]*b[0] + a[1]*b[1] + ..., from left to right; 0 for empty lists.

    Raises `ShapeError` if the two are not equally long.
    """
    left = as_values(a, "a")
    if not hasattr(b, "__len__"):
        raise TypeError(f"b: expected a list of Values or real numbers, got {type(b).__name__}")
    if len(left) != len(b):
        raise ShapeError(f"dot: a has {len(left)} numbers, b has {len(b)}: expected equally many")
    try:
        value: Value = engine.dot(left, list(b)) if left else Value(0.0)
    except TypeError:
        as_values(b, "b")
        raise
    return value


def mean(x: Iterable[Scalar]) -> Value:
    """The sum of x divided by how many there are. Raises `ShapeError` for an empty list."""
    values = _some_values(x, "x")
    return values[0] if len(values) == 1 else reduce(operator.add, values) / len(values)


def variance(x: Iterable[Scalar]) -> Value:
    """The mean squared distance from the mean, as `numpy.var`: divided by n, not n - 1.

    Raises `ShapeError` for an empty list.
    """
    values = _some_values(x, "x")
    centre = mean(values)
    return mean([(value - centre) ** 2 for value in values])


# --- exponentials ---------------------------------------------------------------------------------


def _shifted(values: list[Value], shift: Value) -> list[Value]:
    return [value - shift for value in values]


def _constant_maximum(values: list[Value]) -> Value:
    # Mathematically the shift cancels, so no gradient need flow through it. The `detach` is a
    # node, not a new leaf: replayed with other data, the graph finds the new maximum.
    return Value.apply("detach", maximum(*values))


def logsumexp(x: Iterable[Scalar]) -> Value:
    """log(e^x[0] + e^x[1] + ...), a smooth maximum; its gradient is softmax(x).

    With m the largest of x this is m + log(sum of e^(x[k] - m)), so nothing overflows. As
    `scipy.special.logsumexp`: -inf when every x is -inf, inf when any is inf. Raises `ShapeError`
    for an empty list.
    """
    values = _some_values(x, "x")
    # An infinite m would give inf - inf = nan.
    m = minimum(maximum(_constant_maximum(values), -LARGEST_FLOAT), LARGEST_FLOAT)
    return total(value.exp() for value in _shifted(values, m)).log() + m


def softmax(x: Iterable[Scalar]) -> list[Value]:
    """e^x[k] / (e^x[0] + e^x[1] + ...) for each k: positive numbers that add up to 1.

    Computed from x[k] - max(x), which changes nothing but cannot overflow. Raises `ShapeError` for
    an empty list.
    """
    values = _some_values(x, "x")
    exponentials = [value.exp() for value in _shifted(values, _constant_maximum(values))]
    normaliser = total(exponentials)
    return [exponential / normaliser for exponential in exponentials]


def log_softmax(x: Iterable[Scalar]) -> list[Value]:
    """log(softmax(x)), accurate also where softmax(x) would round to 0: x[k] - logsumexp(x).

    Raises `ShapeError` for an empty list.
    """
    values = _some_values(x, "x")
    shifted = _shifted(values, _constant_maximum(values))
    log_normaliser = total(value.exp() for value in shifted).log()
    return [value - log_normaliser for value in shifted]
