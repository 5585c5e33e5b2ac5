"""NumPy's functions on Values: `np.exp(v)`, `np.float64(2) * v`, and arrays of Values."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from . import ops
from .coerce import is_real

# As Python's: `==` means the node, the others the numbers.
RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "equal": operator.is_,
    "not_equal": operator.is_not,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
}


def call(cls: Any, ufunc: Any, method: str, inputs: tuple[Any, ...], options: Any) -> Any:
    """`cls.__array_ufunc__`: scalars give a cls, or a bool, and arrays give arrays of them."""
    if method == "__call__" and not options and all(_is_scalar(x, cls) for x in inputs):
        row = ops.BY_UFUNC.get(ufunc.__name__)
        if row is not None:
            return cls.apply(row.name, *inputs)
        if ufunc.__name__ in RELATIONS:
            return RELATIONS[ufunc.__name__](*(x if isinstance(x, cls) else cls(x) for x in inputs))
    import numpy

    def boxed(x: Any) -> Any:
        array = numpy.empty((), dtype=object)
        array[()] = x
        return array if isinstance(x, cls) else x

    return getattr(ufunc, method)(*(boxed(x) for x in inputs), **options)


def _is_scalar(x: Any, cls: Any) -> bool:
    return isinstance(x, cls) or is_real(x)
