"""What the compiled modules need of `cython` when they run as plain Python without it installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

compiled = False


def _same(thing: T) -> T:
    return thing


def _decorator(*arguments: Any, **options: Any) -> Callable[[T], T]:
    return _same


cclass = final = no_gc = cfunc = inline = nogil = _same
freelist = exceptval = _decorator

double = float
int = uint = ulonglong = longlong = Py_ssize_t = int
bint = bool


def cast(kind: Any, thing: T) -> T:
    """The thing itself: plain Python has nothing to convert."""
    return thing
