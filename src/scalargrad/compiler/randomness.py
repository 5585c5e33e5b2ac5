"""Whether a function drew random numbers: a program would use those of one call for ever.

Nobody is told when a generator draws, but its state is another afterwards. So the generators are
found that a function can reach: those that all programs share, and those in its closure, in the
globals that it names, and in the objects that it finds there, with the methods of these. One that
it makes for itself, or asks another module for, is not found.
"""

from __future__ import annotations

import functools
import random
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..engine import Value

MOST = 20_000  # objects looked at
PACKAGE = __name__.partition(".")[0]
# What holds no generator, and there may be many of.
PLAIN = (Value, int, float, complex, str, bytes, type(None), np.ndarray, types.ModuleType, type)


class Generators:
    """The generators that a function may draw from, and their states when it was called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        # The generator behind numpy.random.rand and its like.
        shared = [random, np.random.mtrand._rand]
        self._states = [(x, _state(x)) for x in (*shared, *_reachable(function))]

    def put_back(self) -> bool:
        """Whether the function drew from any of them: it is as if it had not."""
        drawn = [(x, state) for x, state in self._states if not _equal(_state(x), state)]
        for x, state in drawn:
            _set(x, state)
        return bool(drawn)


def _state(x: Any) -> Any:
    """The state of a generator, a copy."""
    if isinstance(x, np.random.Generator):
        return x.bit_generator.state
    return x.get_state(legacy=False) if isinstance(x, np.random.RandomState) else x.getstate()


def _equal(state: Any, other: Any) -> bool:
    """Whether two states are the same; NumPy's are dicts with arrays and dicts in them."""
    if isinstance(state, dict):
        return state.keys() == other.keys() and all(_equal(state[k], other[k]) for k in state)
    return bool(np.array_equal(state, other) if isinstance(state, np.ndarray) else state == other)


def _set(x: Any, state: Any) -> None:
    if isinstance(x, np.random.Generator):
        x.bit_generator.state = state
    elif isinstance(x, np.random.RandomState):
        x.set_state(state)
    else:
        x.setstate(state)


def _reachable(function: Callable[..., Any]) -> Iterator[Any]:
    generators = (random.Random, np.random.Generator, np.random.RandomState)
    pending: list[Any] = [function]
    seen: dict[int, Any] = {}
    while pending and len(seen) < MOST:
        x = pending.pop()
        if issubclass(type(x), PLAIN) or id(x) in seen:
            continue
        seen[id(x)] = x
        if issubclass(type(x), generators):
            if not isinstance(x, random.SystemRandom):
                yield x
        else:
            pending += _parts(x)


def _parts(x: Any) -> list[Any]:
    """The objects that a function, or another object, has at hand. None of their code is run."""
    kind = type(x)
    if kind in (list, tuple, set, frozenset):
        # Of numbers there is nothing but numbers in a list, as a rule.
        return [] if x and issubclass(type(next(iter(x))), PLAIN) else list(x)
    if issubclass(kind, dict):
        return list(dict.values(x))
    if kind is types.FunctionType:
        return _of_function(x)
    if kind is types.MethodType:
        return [x.__func__, x.__self__]
    if kind is functools.partial:
        return [x.func, *x.args, *x.keywords.values()]
    own = kind.__module__.partition(".")[0] == PACKAGE
    if own and "__wrapped__" in getattr(x, "__dict__", ()):  # a compiled function, say
        return [x.__wrapped__]
    methods = [
        method
        for base in kind.__mro__
        if base.__module__.partition(".")[0] not in (PACKAGE, "builtins")
        for method in vars(base).values()
    ]
    try:
        return [*object.__getattribute__(x, "__dict__").values(), *methods]
    except (AttributeError, TypeError):  # an object that has slots
        return methods


def _of_function(function: types.FunctionType) -> list[Any]:
    parts = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        try:
            parts.append(cell.cell_contents)
        except ValueError:  # a name that has no value yet
            continue
    if (function.__module__ or "").partition(".")[0] != PACKAGE:
        names = _names(function.__code__)
        parts += [function.__globals__[name] for name in names if name in function.__globals__]
    return parts


def _names(code: types.CodeType) -> set[str]:
    """What code names, and that of the functions in it."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))
