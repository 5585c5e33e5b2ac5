"""SGD and Adam in NumPy, in place on one flat array of all parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


class SGD:
    """p -= lr * g. Uses up the gradient."""

    def __init__(self, parameters: NDArray[Any], gradient: NDArray[Any], lr: float) -> None:
        self.parameters, self.gradient, self.lr = parameters, gradient, lr

    def step(self) -> None:
        """Move the parameters by the gradient."""
        np.multiply(self.gradient, self.lr, out=self.gradient)
        np.subtract(self.parameters, self.gradient, out=self.parameters)


class Adam:
    """Adam with bias correction (Kingma & Ba, 2015). Uses up the gradient."""

    def __init__(self, parameters: NDArray[Any], gradient: NDArray[Any], lr: float) -> None:
        self.parameters, self.gradient, self.lr = parameters, gradient, lr
        self.mean, self.square = np.zeros_like(parameters), np.zeros_like(parameters)
        self._spare = np.empty_like(parameters)
        self._steps = 0

    def step(self) -> None:
        """Move the parameters by the gradient."""
        self._steps += 1
        root = math.sqrt(1.0 - BETA2**self._steps)
        rate = self.lr * root / (1.0 - BETA1**self._steps)
        g, m, v, spare = self.gradient, self.mean, self.square, self._spare
        m *= BETA1
        np.multiply(g, 1.0 - BETA1, out=spare)
        m += spare
        v *= BETA2
        np.multiply(g, g, out=g)
        g *= 1.0 - BETA2
        v += g
        np.sqrt(v, out=spare)
        spare += EPS * root
        np.divide(m, spare, out=spare)
        spare *= rate
        self.parameters -= spare


UPDATES: dict[str, type[SGD] | type[Adam]] = {"SGD": SGD, "Adam": Adam}
