"""What hyper-parameters may be."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

Limit = tuple[str, Callable[[float], bool]]

_NOT_NEGATIVE: Limit = ("a finite number, 0 or more", lambda x: 0.0 <= x < math.inf)
_FRACTION: Limit = ("a number from 0 to below 1", lambda x: 0.0 <= x < 1.0)
LIMITS: Mapping[str, Limit] = {
    "lr": _NOT_NEGATIVE,
    "start": _NOT_NEGATIVE,
    "end": _NOT_NEGATIVE,
    "factor": _NOT_NEGATIVE,
    "momentum": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "eps": _NOT_NEGATIVE,
    "alpha": _FRACTION,
    "betas[0]": _FRACTION,
    "betas[1]": _FRACTION,
}


def checked_number(name: str, x: Any, where: str = "") -> float:
    """x as a float; `TypeError` or `ValueError` where `LIMITS` does not allow it."""
    expected, allowed = LIMITS[name]
    if isinstance(x, bool) or not isinstance(x, numbers.Real):
        raise TypeError(f"{name}: expected {expected}, got {type(x).__name__} {x!r}{where}")
    number = float(x)
    if not allowed(number):
        raise ValueError(f"{name}: expected {expected}, got {number!r}{where}")
    return number


def checked_count(name: str, x: Any) -> int:
    """x as an int; `TypeError` or `ValueError` unless it is a number of steps."""
    if isinstance(x, bool) or not isinstance(x, numbers.Integral):
        raise TypeError(f"{name}: expected a whole number of steps, got {type(x).__name__} {x!r}")
    if x < 1:
        raise ValueError(f"{name}: expected 1 step or more, got {x}")
    return int(x)


def checked_pair(betas: Any) -> tuple[float, float]:
    """The two decay rates of Adam; `ValueError` for anything else."""
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas: expected two numbers (beta1, beta2), got {betas!r}")
    return checked_number("betas[0]", betas[0]), checked_number("betas[1]", betas[1])
