"""What every picture asks of its arguments, with one message for each way to get it wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scalargrad.errors import ShapeError

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Flags = NDArray[np.bool_]

LARGEST: Final = 1e150
"""Numbers beyond this are not drawn: the width of an axis, or a square, would overflow."""


def floats(name: str, values: ArrayLike) -> Floats:
    """`values` as a float64 array, or a `TypeError` naming the argument."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be an array of numbers, got {_kind(values)}: "
            f"pass a list or array of equal-length rows of plain numbers"
        ) from error


def vector(name: str, values: ArrayLike) -> Floats:
    """`values` as a float64 array of shape `(n,)` with `n >= 1`."""
    return _one_dimensional(name, floats(name, values))


def drawable(values: Floats) -> Flags:
    """Which numbers are neither nan, nor infinite, nor beyond `LARGEST`."""
    return np.asarray(np.abs(values) <= LARGEST)


def all_drawable(name: str, values: Floats, remedy: str) -> None:
    """Raise `ValueError` unless every number is drawable."""
    bad = values[~drawable(values)]
    if len(bad):
        raise ValueError(f"{name} holds {bad[0]:g}, a number that cannot be drawn: {remedy}")


def labels(name: str, values: ArrayLike) -> Labels:
    """`values` as an int64 array of shape `(n,)`; class labels are whole numbers."""
    array = vector(name, values)
    whole = np.isfinite(array) & (array == np.round(array))
    if not whole.all():
        at = int(np.argmin(whole))
        raise ValueError(
            f"{name} must hold whole numbers (class labels), got {array[at]:g} at position {at}: "
            f"take the argmax of scores first, and number classes that have names"
        )
    return array.astype(np.int64)


def same_length(name: str, values: Sequence[Any] | NDArray[Any], **others: Any) -> None:
    """Raise `ShapeError` naming both arguments unless each of `others` is as long as `values`."""
    for other, entries in others.items():
        if len(entries) != len(values):
            raise ShapeError(
                f"{name} has length {len(values)} and {other} has length {len(entries)}: "
                f"both must have one entry for each example"
            )


def class_names(name: str, names: Sequence[str], **label_arrays: Labels) -> list[str]:
    """`names` as strings, after checking that every label is a position in it."""
    known = [str(entry) for entry in names]
    for argument, array in label_arrays.items():
        outside = (array < 0) | (array >= len(known))
        if outside.any():
            raise ValueError(
                f"{argument} holds the label {array[outside][0]}, but {name} has {len(known)} "
                f"entries: {name} names the classes 0 to {len(known) - 1}, so labels must be "
                f"positions in it"
            )
    return known


def _one_dimensional(name: str, array: Floats) -> Floats:
    if array.ndim != 1:
        raise ShapeError(
            f"{name} must have one dimension, got shape {array.shape}: "
            f"pass one number for each example"
        )
    if not len(array):
        raise ShapeError(f"{name} is empty: pass at least one entry")
    return array


def _kind(values: object) -> str:
    text = repr(values)
    return f"{type(values).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
