"""The parameters of a compiled function: those of all its traces, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from ..engine import Value
from .structure import Floats

_NUMBER = attrgetter("number")


class ParameterList:
    """Every parameter met so far, in creation order.

    A trace has only those that its branch uses; `spread` puts its gradients among those of all.
    """

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._numbers: NDArray[np.uint64] = np.empty(0, np.uint64)

    def add(self, parameters: Sequence[Value]) -> bool:
        """Take in the parameters of a trace, in order with those already known; whether any is new."""
        numbers = _numbers(parameters)
        known = np.append(self._numbers, np.uint64(0))  # no Value has this number
        new = known[np.searchsorted(self._numbers, numbers)] != numbers
        if not new.any():
            return False
        added = [*compress(parameters, new.tolist())]
        self.values = sorted([*self.values, *added], key=_NUMBER) if self.values else added
        self._numbers = np.sort(np.concatenate((self._numbers, numbers[new])))
        return True

    def __len__(self) -> int:
        return len(self.values)

    def spread(self, parameters: Sequence[Value], gradient: Floats) -> Floats:
        """The gradient of some of the parameters as a gradient of all: 0 for the others."""
        if len(parameters) == len(self.values):
            return gradient.copy()
        out = np.zeros(len(self.values))
        out[np.searchsorted(self._numbers, _numbers(parameters))] = gradient
        return out


def _numbers(parameters: Sequence[Value]) -> NDArray[np.uint64]:
    return np.fromiter(map(_NUMBER, parameters), np.uint64, len(parameters))
