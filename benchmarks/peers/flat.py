"""All arrays of a model in one flat array, so that an update is a few operations on whole arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks import Arrays


def flatten(weights: Mapping[str, NDArray[Any]], dtype: str) -> NDArray[Any]:
    """The numbers one after the other."""
    return np.concatenate([array.ravel() for array in weights.values()]).astype(dtype)


def views(flat: NDArray[Any], like: Mapping[str, NDArray[Any]]) -> Arrays:
    """The parts of a flat array by name, in the shapes of `like`."""
    found, start = {}, 0
    for name, array in like.items():
        found[name] = flat[start : start + array.size].reshape(array.shape)
        start += array.size
    return found
