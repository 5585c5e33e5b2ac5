"""What Cython gives a compiled class, for the class as plain Python."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

# Compiled, a traversal holds the interpreter lock; uncompiled it needs one of its own.
_lock = threading.RLock()


def one_at_a_time(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, run by one thread at a time."""

    @functools.wraps(function)
    def locked(*arguments: Any) -> Any:
        with _lock:
            return function(*arguments)

    return locked


def finish(cls: Any) -> None:
    """Give `Value` fields that start from zero, one of them read-only, and no subclasses."""
    number = cls.number

    def zeroed(cls: type, *arguments: Any, **options: Any) -> Any:
        v: Any = object.__new__(cls)
        v.a = v.b = v.rest = None
        v._data = v._grad = v.const = 0.0
        v.mark = v.version = v.code = v.flags = 0
        number.__set__(v, 0)
        return v

    def set_number(v: Any, value: int) -> None:
        if v.number != 0:
            raise AttributeError("attribute 'number' of 'Value' objects is not writable")
        number.__set__(v, value)

    def no_subclass(cls: type) -> None:
        raise TypeError("type 'scalargrad.engine.Value' is not an acceptable base type")

    cls.number = property(number.__get__, set_number)
    cls.__new__ = staticmethod(zeroed)
    cls.__init_subclass__ = classmethod(no_subclass)
    cls.__del__ = cls.__dealloc__
    cls.backward = one_at_a_time(cls.backward)
