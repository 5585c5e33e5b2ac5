"""Two data sets small enough to follow number by number."""

from __future__ import annotations

import numpy as np

from .arguments import count, deviation
from .examples import Examples
from .seeding import Seed, generator


def toy_regression(n: int = 32, *, noise: float = 0.0, seed: Seed = 0) -> Examples:
    """Points in the plane and their distance from the origin in city blocks: y = |x₁| + |x₂|.

    Because |x| = relu(x) + relu(-x), a 2-8-1 network of rectifiers can represent this function
    exactly, with four of its eight hidden neurons; and no target is negative, so the output may be
    a rectifier too. Whatever loss remains after training is therefore the training's.

    Args:
        n: number of examples, at least 1.
        noise: standard deviation of the normal noise added to the targets; a target that this
            would make negative becomes 0.
        seed: whole number or NumPy generator the points and the noise are drawn from.

    Returns:
        `Examples(x, y)`: x of shape (n, 2), uniform in [-1, 1)²; y of shape (n,), never negative.
        Both are float64.

    Raises:
        TypeError, ValueError: an argument is not of the kind or in the range above.
    """
    n, noise = count("n", n), deviation("noise", noise)
    random = generator(seed)
    x = random.uniform(-1.0, 1.0, size=(n, 2))
    y = np.abs(x).sum(axis=1)
    if noise > 0.0:
        y = np.maximum(y + random.normal(scale=noise, size=n), 0.0)
    return Examples(x, y)


def four_samples() -> Examples:
    """The four labelled points of micrograd's lecture, for a network with 3 inputs and 1 output.

    Returns:
        `Examples(x, y)`: x float64 of shape (4, 3), y float64 of shape (4,), each -1.0 or 1.0.
        New arrays at each call.
    """
    x = np.array([[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]])
    y = np.array([1.0, -1.0, -1.0, 1.0])
    return Examples(x, y)
