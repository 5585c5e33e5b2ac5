"""Numbers out of arrays: by slices and reshapes where their places follow a pattern.

Every array has the examples as its first axis, of length 1 where it is the same for all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .library import Array, Library
from .points import Even, Integers, even


def literal(library: Library, numbers: NDArray[np.float64], dtype: Any) -> Array:
    """Constants; a single one where all are equal."""
    first = numbers.flat[0]
    if (
        np.array_equal(numbers, np.full_like(numbers, first), equal_nan=True)
        and (np.signbit(numbers) == np.signbit(first)).all()
    ):
        numbers = numbers[(slice(0, 1),) * numbers.ndim]
    with np.errstate(over="ignore"):  # beyond float32 is inf
        return library.constant(numbers[None].astype(dtype))


def at(library: Library, x: Array, places: Integers) -> Array:
    """x[:, places]."""
    pattern = even(places)
    if pattern is None or pattern.overlaps:
        return library.take(x, places.astype(np.int32))
    return seen(library, x, pattern)


def spread(library: Library, x: Array, lead: int) -> Array:
    """The same numbers for each of `lead` examples."""
    return library.broadcast_to(x, (lead, *x.shape[1:]))


def seen(library: Library, x: Array, pattern: Even) -> Array:
    """x[:, places] for places of a pattern that does not overlap: by slices and reshapes."""
    shape = pattern.shape
    axes = [k for k, stride in enumerate(pattern.strides) if stride and shape[k] > 1]
    axes.sort(key=lambda k: -abs(pattern.strides[k]))
    back = [k for k in axes if pattern.strides[k] < 0]
    base = pattern.base + sum(pattern.strides[k] * (shape[k] - 1) for k in back)
    span = 1 + sum(abs(pattern.strides[k]) * (shape[k] - 1) for k in axes)
    for k in axes[:-1]:
        stride, extent = abs(pattern.strides[k]), shape[k]
        span -= stride * (extent - 1)
        length = x.shape[-1]
        start = min(base, length - extent * stride)
        if start < 0 or base - start + span > stride:
            # The last row is cut short: fill it up.
            x = library.pad(x, base + extent * stride - length)
            start = base
        x = _slice(library, x, start, extent * stride)
        x = x.reshape(*x.shape[:-1], extent, stride)
        base -= start
    step = abs(pattern.strides[axes[-1]]) if axes else 1
    x = _slice(library, x, base, span, step)
    x = x if axes else x.reshape(x.shape[:-1])
    order = sorted(range(len(axes)), key=axes.__getitem__)
    if axes != sorted(axes):
        x = x.transpose(0, *(1 + place for place in order))
    flipped = [1 + place for place, k in enumerate(sorted(axes)) if k in back]
    x = library.flip(x, flipped) if flipped else x
    kept = set(axes)
    full = (x.shape[0], *(extent if k in kept else 1 for k, extent in enumerate(shape)))
    return library.broadcast_to(x.reshape(full), (x.shape[0], *shape))


def _slice(library: Library, x: Array, start: int, count: int, step: int = 1) -> Array:
    if step == 1 and count == x.shape[-1]:
        return x
    return library.cut(x, start, start + count, step)
