"""Checks of arguments, with messages that say what was expected."""

from __future__ import annotations

import operator
from typing import Any

from ..coerce import shown


def whole(n: Any, name: str, least: int) -> int:
    """n as an int; `TypeError` if it is none, `ValueError` if it is less than `least`."""
    try:
        if isinstance(n, bool):
            raise TypeError
        number = operator.index(n)
    except TypeError:
        raise TypeError(f"{name}: expected an int, got {shown(n)}") from None
    if number < least:
        raise ValueError(f"{name}: expected {least} or more, got {number}")
    return number


def one_of(x: Any, name: str, choices: tuple[Any, ...]) -> None:
    """`ValueError` if x is none of the choices."""
    if x not in choices:
        raise ValueError(f"{name}: expected {' or '.join(map(repr, choices))}, got {x!r}")
