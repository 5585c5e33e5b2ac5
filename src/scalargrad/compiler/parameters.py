"""The parameters of a compiled function: those of all its traces, side by side."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..engine import Value
from .structure import Floats


class ParameterList:
    """Every parameter met so far, in creation order.

    A trace has only those that its branch uses; `spread` puts its gradients among those of all.
    """

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._numbers: NDArray[np.uint64] = np.empty(0, np.uint64)

    def add(self, parameters: Sequence[Value]) -> bool:
        """Take in the parameters of a trace, in order with those already known; whether any is new."""
        known = set(self._numbers.tolist())
        new = [p for p in parameters if p.number not in known]
        if new:
            self.values = sorted([*self.values, *new], key=operator.attrgetter("number"))
            self._numbers = np.array([p.number for p in self.values], np.uint64)
        return bool(new)

    def __len__(self) -> int:
        return len(self.values)

    def spread(self, parameters: Sequence[Value], gradient: Floats) -> Floats:
        """The gradient of some of the parameters as a gradient of all: 0 for the others."""
        if len(parameters) == len(self.values):
            return gradient.copy()
        out = np.zeros(len(self.values))
        out[np.searchsorted(self._numbers, [p.number for p in parameters])] = gradient
        return out
