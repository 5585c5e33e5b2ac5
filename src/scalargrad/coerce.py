"""What counts as a real number, and how anything else is named in an error."""

from __future__ import annotations

import numbers
from typing import Any, SupportsFloat

try:
    import cython
except ModuleNotFoundError:
    from . import _uncompiled as cython  # type: ignore[no-redef]

Number = SupportsFloat  # int, float, NumPy real scalars, 0-d arrays, any numbers.Real

MOST = cython.declare(object, 2**53)  # integers nearer to 0 are floats without further ado


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
    if type(x) is float:
        return x
    if type(x) is int and -MOST < x < MOST:
        return float(x)
    if is_real(x):
        try:
            return float(x)
        except OverflowError:
            raise OverflowError(
                f"{name}: expected a number that float64 can hold (up to 1.8e308), got {shown(x)}"
            ) from None
    hint = ": use value.data or value.detach()" if hasattr(x, "operands") else ""
    raise TypeError(f"{name}: expected a real number, got {shown(x)}{hint}")


def combines(x: Any, name: str) -> bool:
    """Whether x is a real number; False for a type that may know how to combine with a Value.

    A `TypeError` naming the argument for what never can, such as a string or a list.
    """
    if isinstance(x, str | bytes | complex | list | tuple | dict | set | None):
        raise TypeError(f"{name}: expected a Value or a real number, got {shown(x)}")
    return is_real(x)


def refuse_modulo(modulo: Any) -> None:
    """A `TypeError` if `pow()` was given a third argument."""
    if modulo is not None:
        raise TypeError(f"modulo: expected None, got {shown(modulo)}: pow() here is not modular")
