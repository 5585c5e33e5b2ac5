"""Checking whole numbers, such as the sizes of layers, and the inputs that layers are given."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..coerce import shown
from ..engine import Value
from ..errors import ShapeError
from ..functional import as_values


def size(n: Any, name: str, least: int = 1) -> int:
    """n as an int of at least `least`, else `TypeError` or `ValueError` naming the argument."""
    try:
        if isinstance(n, bool):
            raise TypeError
        n = operator.index(n)
    except TypeError:
        raise TypeError(f"{name}: expected an int, got {shown(n)}") from None
    if n < least:
        raise ValueError(f"{name}: expected at least {least}, got {n}")
    return int(n)


def inputs(x: Any, count: int, what: str, remedy: str) -> list[Value]:
    """x as a list of `count` Values; a single number is a list of one.

    Raises `ShapeError`, saying `what` was called and where the length is set (`remedy`), for
    any other number of them: inputs are never cut short. `TypeError` for what is no number.
    """
    bare = isinstance(x, Value) or (not hasattr(x, "__len__") and not hasattr(x, "__iter__"))
    one = bare or getattr(x, "shape", None) == ()
    try:
        values = as_values([x] if one else x)
    except TypeError as error:
        if not one and any(isinstance(row, list | tuple | np.ndarray) for row in x):
            raise TypeError(
                f"{error}: {what} takes one example at a time; for a list of them call it for "
                'each, [model(x) for x in xs], or compile with batch="mean"'
            ) from None
        raise
    if len(values) != count:
        plural = "" if count == 1 else "s"
        raise ShapeError(f"{what} expected {count} input{plural}, got {len(values)}: {remedy}")
    return values
