"""What the contestants do: a model, its loss, one mini-batch, and how the parameters move.

Every contestant starts from the same numbers, those of `weights`: arrays by the names of the
model's `state_dict`, where a linear map is a matrix with one row per output.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import scalargrad as sg

Arrays = dict[str, NDArray[Any]]
OPTIMIZERS: dict[str, Callable[..., sg.optim.Optimizer]] = {
    "SGD": sg.optim.SGD,
    "Adam": sg.optim.Adam,
}


@dataclass(frozen=True, slots=True)
class Task:
    """A training step: loss = mean of `loss` over the examples + `decay` * sum of parameters^2."""

    name: str
    model: Any
    loss: Callable[[Any, Any], sg.Value]
    optimizer: str  # "SGD" or "Adam", with the usual settings
    x: NDArray[Any]
    y: NDArray[Any]
    decay: float = 0.0

    @property
    def weights(self) -> Arrays:
        """The model's numbers, as float64 arrays of the reader's own."""
        found: Arrays = self.model.state_dict()
        return found

    def penalty(self, model: Any) -> sg.Value:
        """The part of the loss that is not about the examples."""
        squares: sg.Value = self.decay * sum(p * p for p in model.parameters())
        return squares

    def total(self, x: Any, y: Any) -> sg.Value:
        """The loss of one example, with the penalty: the batch's loss is the mean of these."""
        loss = self.loss(self.model(x), y)
        return loss + self.penalty(self.model) if self.decay else loss

    def trained(self, lr: float, steps: int) -> float:
        """The loss after so many steps by scalargrad; the model is as before."""
        before = self.weights
        optimizer = self.rule(lr)
        optimizer.bind(self.model.parameters())
        function = sg.compile(self.total, batch="mean")
        try:
            for _ in range(steps):
                optimizer.zero_grad()
                function.backward(self.x, self.y)
                optimizer.step()
            loss: float = function(self.x, self.y)
            return loss
        finally:
            self.model.load_state_dict(before)

    def rule(self, lr: float) -> sg.optim.Optimizer:
        """A new optimiser."""
        return OPTIMIZERS[self.optimizer](lr=lr)

    def gradients(self, dtype: str = "float64") -> tuple[float, Arrays]:
        """Loss and gradient by name, by scalargrad."""
        function = sg.compile(self.total, batch="mean", dtype=dtype)
        self.model.zero_grad()
        loss = function.backward(self.x, self.y)
        flat = {p: p.grad for p in self.model.parameters()}
        return loss, _by_name(self.model, flat)


def _by_name(model: Any, numbers: dict[sg.Value, float]) -> Arrays:
    """Numbers of the parameters in the form of the model's `state_dict`."""
    kept = [p.data for p in numbers]
    try:
        for p, number in numbers.items():
            p.data = number
        found: Arrays = model.state_dict()
        return found
    finally:
        for p, number in zip(numbers, kept):
            p.data = number


def moons(count: int = 100) -> Task:
    """A small classifier with a margin loss and weight decay, as in micrograd's demonstration."""
    x, y = sg.data.moons(n=count, noise=0.1, labels=(-1, 1))
    model = sg.nn.MLP(2, [16, 16, 1], rng=random.Random(0))
    name = f"MLP 2-16-16-1, hinge + L2, batch {count}"
    return Task(name, model, sg.losses.hinge, "SGD", x, y.astype(float), decay=1e-4)


def images(optimizer: str = "SGD", hidden: int = 128, batch: int = 64, side: int = 28) -> Task:
    """A classifier of images a fifth of whose pixels are not 0, as in MNIST."""
    rng = np.random.default_rng(0)
    shape = (batch, side * side)
    x = rng.uniform(size=shape) * (rng.uniform(size=shape) < 0.2)
    y = rng.integers(0, 10, batch)
    model = sg.nn.MLP(side * side, [hidden, 10], init="he", rng=random.Random(0))
    name = f"MLP {side * side}-{hidden}-10, cross-entropy, batch {batch}, {optimizer}"
    return Task(name, model, sg.losses.cross_entropy, optimizer, x, y)


def documents(count: int = 1, length: int = 8, context: int = 16) -> Task:
    """A language model on documents of `length` letters each."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 27, (2, count, length))
    model = sg.nn.GPT(27, context, width=16, heads=4, layers=1, rng=random.Random(0))
    batch = "a document" if count == 1 else f"{count} documents"
    name = f"GPT 16 wide, 4 heads, 1 layer, {batch} of {length}, Adam"
    return Task(name, model, sg.losses.cross_entropy, "Adam", x, y)
