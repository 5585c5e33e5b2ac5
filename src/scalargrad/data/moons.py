"""Two interleaving half circles: the data set of micrograd's demo."""

from __future__ import annotations

import operator

import numpy as np

from .arguments import count, deviation
from .examples import Examples
from .seeding import Seed, generator


def moons(
    n: int = 100,
    noise: float = 0.1,
    seed: Seed = 1337,
    *,
    labels: tuple[int, int] = (0, 1),
) -> Examples:
    """Two classes of points, each a half circle of radius 1 that reaches into the other.

    The upper moon is (cos t, sin t) and the lower one (1 - cos t, 1/2 - sin t), with t evenly
    spaced over [0, π]. The points are shuffled, then normal noise is added to each coordinate.

    Args:
        n: number of points; when it is odd the lower moon has one more.
        noise: standard deviation of the noise in each coordinate.
        seed: whole number or NumPy generator for the shuffling and the noise.
        labels: targets of the upper and the lower moon; (-1, 1) suits the hinge loss.

    Returns:
        `Examples(x, y)`: x float64 of shape (n, 2), y int64 of shape (n,).

    Raises:
        TypeError, ValueError: an argument is not of the kind or in the range above.

    Equals `sklearn.datasets.make_moons(n_samples=n, noise=noise, random_state=seed)` bit for bit:
    the same numbers drawn in the same order. micrograd's demo is `moons(labels=(-1, 1))`.
    """
    n, noise = count("n", n), deviation("noise", noise)
    upper_label, lower_label = _two_labels(labels)
    upper = np.linspace(0, np.pi, n // 2)
    lower = np.linspace(0, np.pi, n - n // 2)
    # Written 1 - sin t - 1/2, and not 1/2 - sin t, for scikit-learn's rounding.
    x = np.concatenate(
        [
            np.column_stack([np.cos(upper), np.sin(upper)]),
            np.column_stack([1 - np.cos(lower), 1 - np.sin(lower) - 0.5]),
        ]
    )
    y = np.repeat(np.array([upper_label, lower_label], dtype=np.int64), [len(upper), len(lower)])
    random = generator(seed)
    order = random.permutation(n)
    return Examples(x[order] + random.normal(scale=noise, size=(n, 2)), y[order])


def _two_labels(labels: tuple[int, int]) -> tuple[int, int]:
    """The two labels, once they are known to be two different whole numbers."""
    try:
        upper, lower = (operator.index(label) for label in labels)
    except (TypeError, ValueError):
        raise TypeError(f"labels is {labels!r}: expected two whole numbers") from None
    if upper == lower:
        raise ValueError(f"labels is {labels!r}: expected two different numbers")
    return upper, lower
