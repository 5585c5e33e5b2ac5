"""Starting weights: a table of rules, each one draw from a random generator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from ..engine import Value
from ..rng import Generator

Initializer: TypeAlias = Callable[[Generator, int, int], float]
"""One weight of a layer with `nin` inputs and `nout` outputs: `rule(rng, nin, nout)`."""


def uniform(rng: Generator, nin: int, nout: int) -> float:
    """Uniform on (-1, 1), as micrograd: for small networks."""
    return rng.uniform(-1, 1)


def fan_in(rng: Generator, nin: int, nout: int) -> float:
    """Uniform on (-a, a), a = 1/sqrt(nin), as PyTorch's `Linear`."""
    bound = 1.0 / math.sqrt(nin)
    return rng.uniform(-bound, bound)


def xavier(rng: Generator, nin: int, nout: int) -> float:
    """Uniform on (-a, a), a = sqrt(6/(nin + nout)): keeps the size of signals through tanh.

    Glorot & Bengio, 2010; PyTorch's `xavier_uniform_`.
    """
    bound = math.sqrt(6.0 / (nin + nout))
    return rng.uniform(-bound, bound)


def he(rng: Generator, nin: int, nout: int) -> float:
    """Normal with standard deviation sqrt(2/nin): keeps the size of signals through ReLU.

    He et al., 2015; PyTorch's `kaiming_normal_`.
    """
    return rng.gauss(0.0, math.sqrt(2.0 / nin))


def zeros(rng: Generator, nin: int, nout: int) -> float:
    """0: for a single linear layer, where all neurons starting alike does no harm."""
    return 0.0


def normal(std: float) -> Initializer:
    """The rule that draws from a normal distribution with mean 0 and standard deviation `std`."""
    return lambda rng, nin, nout: rng.gauss(0.0, std)


INITIALIZERS: dict[str, Initializer] = {
    "uniform": uniform,
    "fan_in": fan_in,
    "xavier": xavier,
    "he": he,
    "zeros": zeros,
}


def initializer(init: str | Initializer) -> Initializer:
    """The rule called `init`, or `init` itself if it is a function.

    Raises `ValueError` for a name that is not in `INITIALIZERS`.
    """
    if callable(init):
        return init
    if init not in INITIALIZERS:
        raise ValueError(
            f"init: expected one of {', '.join(INITIALIZERS)} or a function of "
            f"(rng, nin, nout), got {init!r}"
        )
    return INITIALIZERS[init]


def matrix(rule: Initializer, rng: Generator, nout: int, nin: int) -> list[list[Value]]:
    """nout rows of nin parameters, drawn row by row."""
    return [[Value(rule(rng, nin, nout)) for _ in range(nin)] for _ in range(nout)]
