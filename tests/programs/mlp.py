"""Multilayer perceptrons: micrograd's with its hinge loss, and one that reads digits."""

from __future__ import annotations

import random
from typing import Any

from scalargrad import Value, losses, nn

from .case import Case, Made


def hinge(sizes: tuple[int, ...] = (2, 16, 16, 1)) -> Case:
    """The last argument is the label; here any number will do."""

    def make(rng: random.Random) -> Made:
        model = nn.MLP(sizes[0], list(sizes[1:]), rng=rng)

        def loss(x: list[Value], _: list[Any]) -> Value:
            return (1.0 - x[-1] * model(x[:-1])).relu()

        return model.parameters(), loss

    return Case(f"MLP {'-'.join(map(str, sizes))}, hinge", make, sizes[0] + 1)


def cross_entropy(pixels: int = 784, hidden: int = 128, classes: int = 10) -> Case:
    def make(rng: random.Random) -> Made:
        model = nn.MLP(pixels, [hidden, classes], rng=rng)

        def loss(x: list[Value], i: list[Any]) -> Value:
            return losses.cross_entropy(model(x), i[0])

        return model.parameters(), loss

    return Case(f"MLP {pixels}-{hidden}-{classes}, cross-entropy", make, pixels, (classes,))


def hinge_whole_batch(examples: int = 100) -> Case:
    """All examples in one graph: a batch that the program itself loops over, and its penalty."""

    def make(rng: random.Random) -> Made:
        model = nn.MLP(2, [16, 16, 1], rng=rng)

        def loss(x: list[Value], _: list[Any]) -> Value:
            parts = []
            for k in range(examples):
                a, b, label = x[3 * k : 3 * k + 3]
                parts.append((1.0 + -label * model([a, b])).relu())
            data = sum(parts) * (1.0 / examples)
            return data + 1e-4 * sum(p * p for p in model.parameters())

        return model.parameters(), loss

    return Case(f"moons, {examples} examples in one graph", make, 3 * examples)


def deep(layers: int, width: int = 5, inputs: int = 3) -> Case:
    """Many equal hidden layers; the last argument is the target."""

    def make(rng: random.Random) -> Made:
        model = nn.MLP(inputs, [width] * layers + [1], activation="tanh", rng=rng)

        def loss(x: list[Value], _: list[Any]) -> Value:
            return losses.mse(model(x[:-1]), x[-1])

        return model.parameters(), loss

    return Case(f"MLP of {layers} equal layers", make, inputs + 1)
