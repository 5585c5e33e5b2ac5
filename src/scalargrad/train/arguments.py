"""Checks of arguments, and how a wrong one is shown."""

from __future__ import annotations

import numbers
from typing import Any


def shown(x: Any) -> str:
    """x with its type, cut short: for messages."""
    text = repr(x)
    return f"{type(x).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def positive_count(name: str, n: Any) -> int:
    """n as an int of at least 1, else `TypeError` or `ValueError` naming the argument."""
    if isinstance(n, bool) or not isinstance(n, numbers.Integral):
        raise TypeError(f"{name}: expected a whole number, got {shown(n)}")
    if n < 1:
        raise ValueError(f"{name}: expected 1 or more, got {n}")
    return int(n)


def function_name(function: Any) -> str:
    """The name of a function, or of a callable's type: the same in every process."""
    return getattr(function, "__qualname__", None) or type(function).__qualname__
