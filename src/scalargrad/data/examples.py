"""What every data set here is: inputs and targets, and a division of them in two."""

from __future__ import annotations

import numbers
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ShapeError
from .seeding import Seed, generator


class Examples(NamedTuple):
    """n examples: row i of `x` is an input and `y[i]` its target. Unpacks as `x, y`."""

    x: NDArray[Any]
    y: NDArray[Any]


class Split(NamedTuple):
    """Examples to learn from and examples held out to test on. Unpacks as `train, test`."""

    train: Examples
    test: Examples


def split(x: ArrayLike, y: ArrayLike, *, held_out: float = 0.2, seed: Seed = 0) -> Split:
    """Divide examples at random into those to train on and those held out.

    Args:
        x: inputs, shape (n, ...).
        y: targets, shape (n, ...).
        held_out: how many examples go to `test`: a fraction strictly between 0 and 1 (rounded to
            the nearest whole number of examples) or, as an int, their number.
        seed: whole number or NumPy generator that decides which ones; equal seeds divide equally.

    Returns:
        `Split(train, test)`: copies in shuffled order, each example in exactly one of the two.

    Raises:
        ShapeError: `x` and `y` have different lengths.
        TypeError: `held_out` is not a number.
        ValueError: one of the two halves would be empty.

    Equals `sklearn.model_selection.train_test_split(x, y, test_size=held_out)` in purpose, not in
    its choice of examples.
    """
    inputs, targets = np.asarray(x), np.asarray(y)
    if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets):
        raise ShapeError(
            f"x has shape {inputs.shape} and y has shape {targets.shape}: "
            "expected the same number of rows in both"
        )
    size = _size(held_out, len(inputs))
    order = generator(seed).permutation(len(inputs))
    test, train = order[:size], order[size:]
    return Split(Examples(inputs[train], targets[train]), Examples(inputs[test], targets[test]))


def _size(held_out: float, n: int) -> int:
    """Number of examples to hold out of n."""
    if isinstance(held_out, bool) or not isinstance(held_out, numbers.Real):
        raise TypeError(f"held_out is {held_out!r}: expected a fraction or a whole number")
    if isinstance(held_out, numbers.Integral):
        size = int(held_out)
    elif 0.0 < held_out < 1.0:
        size = round(n * float(held_out))
    else:
        raise ValueError(
            f"held_out is {held_out}: a fraction lies between 0 and 1, "
            "and a number of examples is an int"
        )
    if not 0 < size < n:
        raise ValueError(
            f"held_out is {held_out}, which takes {size} of the {n} examples: "
            "expected at least one example on either side"
        )
    return size
