"""What the compiled modules need of `cython` when they run as plain Python without it installed."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

compiled = False


def _same(thing: T) -> T:
    return thing


def _decorator(*arguments: Any, **options: Any) -> Callable[[T], T]:
    return _same


class _WithoutLock:
    """A decorator, and what a `with` statement takes, of code that needs no lock of Python's."""

    def __call__(self, thing: T) -> T:
        return thing

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


nogil = _WithoutLock()
cclass = final = no_gc = cfunc = ccall = inline = _same
freelist = exceptval = _decorator

double = float
int = uint = char = uchar = ushort = ulong = longlong = ulonglong = builtins.int
Py_ssize_t = size_t = builtins.int
bint = bool
address, pointer = _same, list
void = NULL = None


def declare(kind: Any, value: Any = None, visibility: str = "") -> Any:
    """The initial value of a C variable."""
    return value


def cast(kind: Any, thing: Any) -> Any:
    """The thing itself; a float cast to an integer type is truncated as in C."""
    return builtins.int(thing) if kind is builtins.int else thing
