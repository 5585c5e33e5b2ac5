"""What an optimiser is given, checked: parameters to move, and states to go on from."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine import Value
from ..errors import StateError

Floats = NDArray[np.float64]


def checked_parameters(parameters: Any) -> tuple[Value, ...]:
    """The parameters; `TypeError` or `ValueError` unless they are leaves, each there once."""
    expected = "expected an iterable of Values such as model.parameters()"
    if isinstance(parameters, Value | str | Mapping) or not isinstance(parameters, Iterable):
        hint = ": a learning rate is passed by name, lr=..." if callable(parameters) else ""
        if isinstance(parameters, numbers.Real):
            hint = f": a learning rate is passed by name, lr={parameters!r}"
        raise TypeError(f"parameters: {expected}, got {type(parameters).__name__}{hint}")
    values = tuple(parameters)
    if not values:
        raise ValueError(f"parameters: {expected}, got none: has the model any parameters?")
    place: dict[Value, int] = {}
    for k, v in enumerate(values):
        if not isinstance(v, Value):
            hint = (
                ": groups with options of their own are not supported, use one optimizer for each"
                if isinstance(v, Mapping)
                else ""
            )
            raise TypeError(f"parameters: {expected}, got {type(v).__name__} at {k}{hint}")
        if v.op:
            raise ValueError(
                f"parameters: the Value at {k} is the result of {v.op!r}, so it is computed "
                "afresh each time and cannot be learned: pass the leaves it is computed from"
            )
        if place.setdefault(v, k) != k:
            raise ValueError(
                f"parameters: the Value at {k} is the one at {place[v]} again, and would move "
                "twice a step: pass each parameter once"
            )
    return values


def same_names(what: str, entries: Any, names: Iterable[str]) -> None:
    """Raises `StateError` unless the entries have these names."""
    if not isinstance(entries, Mapping):
        raise StateError(f"{what}: expected a dictionary, got {type(entries).__name__}")
    expected = tuple(names)
    missing = [name for name in expected if name not in entries]
    extra = [name for name in entries if name not in expected]
    if missing or extra:
        raise StateError(
            f"{what}: expected the entries {list(expected)}, got {list(entries)} "
            f"(missing {missing}, unknown {extra}): was it saved by another optimizer, "
            "or with other options?"
        )


def slot_array(slot: str, array: Any, count: int) -> Floats:
    """The array of a slot; `StateError` unless it has a float64 for each parameter."""
    if getattr(array, "dtype", None) != np.float64 or array.shape != (count,):
        got = f"{array.dtype} of shape {array.shape}" if hasattr(array, "dtype") else type(array)
        raise StateError(
            f"{slot}: expected a float64 array of shape ({count},), one number per parameter, "
            f"got {got}: is it from a model of another size?"
        )
    checked: Floats = array
    return checked
