"""Randomness: where the starting weights and the samples come from.

By default everything draws from Python's own `random` module, as micrograd does, so
`random.seed(1337)` or `manual_seed(1337)` before building a network makes it the same in every
run. A `random.Random` passed as `rng=` is used instead, and leaves the shared one alone.
"""

from __future__ import annotations

import random
from typing import Any, Protocol


class Generator(Protocol):
    """What is drawn: `random.Random` has it, and so has the `random` module."""

    def uniform(self, a: float, b: float) -> float:
        """A number between a and b, all equally likely."""

    def gauss(self, mu: float, sigma: float) -> float:
        """A normally distributed number with mean mu and standard deviation sigma."""

    def random(self) -> float:
        """A number in [0, 1)."""


def manual_seed(seed: int) -> None:
    """Make every later random draw of this package, and of `random`, repeatable.

    The same as `random.seed(seed)`. Raises `TypeError` for a seed that is not an int.
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed: expected an int, got {type(seed).__name__} {seed!r}")
    random.seed(seed)


def generator(rng: Any = None) -> Generator:
    """The source of randomness for an `rng=` argument: `random` itself for None.

    Raises `TypeError` for anything but a `random.Random` (a NumPy generator draws other
    numbers under the same names).
    """
    if rng is None:
        return random
    if isinstance(rng, random.Random):
        return rng
    raise TypeError(
        f"rng: expected a random.Random or None, got {type(rng).__name__}: pass random.Random(seed)"
    )
