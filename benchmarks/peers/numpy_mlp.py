"""A perceptron's training step in NumPy, by hand: every array is kept from step to step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import scalargrad as sg
from benchmarks.peers.flat import flatten, views
from benchmarks.peers.numpy_update import UPDATES
from benchmarks.tasks import Arrays, Task


class NumpyMLP:
    """Layers of x @ w.T + b with ReLU between them, under the hinge or the cross-entropy loss."""

    def __init__(self, task: Task, dtype: str, lr: float) -> None:
        weights = task.weights
        self.parameters = flatten(weights, dtype)
        self.gradient = np.zeros_like(self.parameters)
        self._gradients = views(self.gradient, weights)
        forward = list(views(self.parameters, weights).values())
        backward = list(self._gradients.values())
        self._layers = list(zip(forward[::2], forward[1::2], backward[::2], backward[1::2]))
        self._x, self._decay = task.x.astype(dtype), task.decay
        self._y = task.y.astype(dtype) if task.y.dtype == float else task.y
        self._slope = self._hinge if task.loss is sg.losses.hinge else self._cross_entropy
        self._outputs = [np.empty((len(self._x), len(w)), dtype) for w, *_ in self._layers]
        self._slopes = [np.empty_like(a) for a in self._outputs]
        self._masks = [np.empty(a.shape, bool) for a in self._outputs]
        self._rows = np.arange(len(self._x))
        self._squares = np.empty_like(self.parameters)
        self._update = UPDATES[task.optimizer](self.parameters, self.gradient, lr)

    def gradients(self) -> tuple[float, Arrays]:
        """The loss and its gradient by name."""
        return self._backward(), self._gradients

    def step(self) -> float:
        """One step; the loss before it."""
        loss = self._backward()
        self._update.step()
        return loss

    def _backward(self) -> float:
        h, inputs, last = self._x, [], len(self._layers) - 1
        for k, (w, b, _, _) in enumerate(self._layers):
            inputs.append(h)
            h = np.matmul(h, w.T, out=self._outputs[k])
            h += b
            if k < last:
                np.maximum(h, 0, out=h)
        loss, d = self._slope(h)
        for k in range(last, -1, -1):
            w, _, gw, gb = self._layers[k]
            np.matmul(d.T, inputs[k], out=gw)
            np.add.reduce(d, axis=0, out=gb)
            if k:
                d = np.matmul(d, w, out=self._slopes[k - 1])
                d *= np.greater(inputs[k], 0, out=self._masks[k - 1])
        if self._decay:
            loss += self._decay * float(self.parameters @ self.parameters)
            self.gradient += np.multiply(self.parameters, 2 * self._decay, out=self._squares)
        return loss

    def _hinge(self, score: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        """Mean of max(0, 1 - y*score), and its derivative with respect to the score."""
        y, count = self._y, len(self._y)
        margin = 1 - y * score[:, 0]
        d = (margin > 0) * y
        d /= -count
        return float(np.add.reduce(np.maximum(margin, 0))) / count, d[:, None]

    def _cross_entropy(self, z: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        """Mean of -log(softmax(z)[y]), and its derivative with respect to z."""
        y, count = self._y, len(self._y)
        z -= np.maximum.reduce(z, axis=1, keepdims=True)
        chosen = z[self._rows, y]
        np.exp(z, out=z)
        total = np.add.reduce(z, axis=1, keepdims=True)
        z /= total
        z[self._rows, y] -= 1
        z /= count
        return float(np.add.reduce(np.log(total[:, 0]) - chosen)) / count, z
