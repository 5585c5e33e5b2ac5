"""NumPy's functions on Values: `np.exp(v)`, `np.float64(2) * v`, and arrays of Values."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from . import ops
from .coerce import is_real

RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
}
# What is asked of a number and answered by a bool.
QUESTIONS: dict[str, Callable[[Any], bool]] = {
    "isfinite": math.isfinite,
    "isinf": math.isinf,
    "isnan": math.isnan,
}
HAVE = (
    f"of NumPy's functions Values have {', '.join(ops.BY_UFUNC)}, and what NumPy makes of these "
    "(square, dot, mean, std ...); of their own they have relu, sigmoid, softplus, gelu and erfc"
)


def call(cls: Any, ufunc: Any, method: str, inputs: tuple[Any, ...], options: Any) -> Any:
    """`cls.__array_ufunc__`: scalars give a cls, or a bool, and arrays give arrays of them.

    Raises `TypeError` for a function that Values do not have.
    """
    if method == "__call__" and not options and all(_is_scalar(x, cls) for x in inputs):
        row = ops.BY_UFUNC.get(ufunc.__name__)
        if row is not None:
            return cls.apply(row.name, *inputs)
        if ufunc.__name__ in RELATIONS:
            return RELATIONS[ufunc.__name__](*(x if isinstance(x, cls) else cls(x) for x in inputs))
        if ufunc.__name__ in QUESTIONS:
            return QUESTIONS[ufunc.__name__](*inputs)
    import numpy

    def boxed(x: Any) -> Any:
        array = numpy.empty((), dtype=object)
        array[()] = x
        return array if isinstance(x, cls) else x

    try:
        return getattr(ufunc, method)(*(boxed(x) for x in inputs), **options)
    except (AttributeError, TypeError) as error:
        if ufunc.__name__ in ops.BY_UFUNC:
            raise
        raise TypeError(f"numpy.{ufunc.__name__} of a Value: {HAVE}") from error


def _is_scalar(x: Any, cls: Any) -> bool:
    return isinstance(x, cls) or is_real(x)
