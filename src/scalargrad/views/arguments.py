"""Checks of arguments, with messages that say what was expected."""

from __future__ import annotations

from typing import Any


def one_of(x: Any, name: str, choices: tuple[Any, ...]) -> None:
    """`ValueError` if x is none of the choices."""
    if x not in choices:
        raise ValueError(f"{name}: expected {' or '.join(map(repr, choices))}, got {x!r}")
