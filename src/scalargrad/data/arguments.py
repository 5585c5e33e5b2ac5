"""Checks of the arguments that several data sets share."""

from __future__ import annotations

import math
import numbers


def count(name: str, value: int) -> int:
    """`value` as an int of at least 1; `TypeError` or `ValueError` naming `name` if it is not."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} is {value!r}: expected a whole number")
    if value < 1:
        raise ValueError(f"{name} is {value}: expected 1 or more")
    return int(value)


def deviation(name: str, value: float) -> float:
    """`value` as a finite float not below 0; `TypeError` or `ValueError` naming `name` if not."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is {value!r}: expected a number")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value}: expected a finite standard deviation, 0 or more")
    return float(value)
