"""What counts as a real number, and how anything else is named in an error."""

from __future__ import annotations

import numbers
from typing import Any


def is_real(x: Any) -> bool:
    """Whether x is an int, a float, any `numbers.Real`, a NumPy real scalar or a real 0-d array."""
    if isinstance(x, numbers.Real):
        return True
    kind = getattr(getattr(x, "dtype", None), "kind", None)
    return getattr(x, "shape", None) == () and kind in ("b", "i", "u", "f")


def shown(x: Any) -> str:
    """The type of x and what it is, shortened: for `got ...` in messages."""
    if isinstance(x, int) and x.bit_length() > 1024:
        return f"an int of {x.bit_length()} bits"
    text = repr(x)
    return f"{type(x).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def real(x: Any, name: str) -> float:
    """x as a float; a `TypeError` naming the argument if x is not a real number."""
    if is_real(x):
        try:
            return float(x)
        except OverflowError:
            raise OverflowError(
                f"{name}: expected a number that float64 can hold (up to 1.8e308), got {shown(x)}"
            ) from None
    hint = ": use value.data or value.detach()" if hasattr(x, "operands") else ""
    raise TypeError(f"{name}: expected a real number, got {shown(x)}{hint}")
