"""One rule for the `seed` argument of every data set."""

from __future__ import annotations

import numbers
from typing import TypeAlias

import numpy as np

# In quotes, as NumPy imports numpy.random when it is first asked for.
Generator: TypeAlias = "np.random.Generator | np.random.RandomState"
Seed: TypeAlias = "int | Generator"


def generator(seed: Seed) -> Generator:
    """The stream of random numbers that `seed` names: a whole number, or a NumPy generator as is.

    A number starts the Mersenne Twister of `numpy.random.RandomState`. NumPy promises never to
    change that stream (NEP 19), so one seed is one data set under every NumPy; the newer
    `default_rng` makes no such promise.

    Raises:
        TypeError: `seed` is neither a whole number nor a NumPy generator.
        ValueError: `seed` lies outside 0 .. 2³² - 1.
    """
    if isinstance(seed, np.random.Generator | np.random.RandomState):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise TypeError(
            f"seed is {seed!r}: expected a whole number, numpy.random.Generator or RandomState"
        )
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}: expected a whole number from 0 to 4294967295")
    return np.random.RandomState(int(seed))
