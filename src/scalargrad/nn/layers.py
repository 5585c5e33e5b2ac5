"""Layers that map a list of numbers to a list of numbers: linear maps, embeddings, norms."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..engine import Value
from ..functional import Index, Scalar, dot, mean, take_row
from ..rng import generator
from .initial import Initializer, initializer, matrix, normal
from .module import Module
from .sizes import inputs, size


class Linear(Module):
    """y[i] = w[i][0]*x[0] + w[i][1]*x[1] + ... + b[i]: a matrix product, as PyTorch's `Linear`.

    `w` has `nout` rows of `nin` weights, drawn by the rule `init`; `b` starts at 0 and is None
    with `bias=False`. The result is always a list. Raises `ShapeError` when called with a
    number of inputs other than nin.
    """

    def __init__(
        self,
        nin: int,
        nout: int,
        bias: bool = True,
        *,
        init: str | Initializer = "fan_in",
        rng: random.Random | None = None,
    ) -> None:
        nin, nout = size(nin, "nin"), size(nout, "nout")
        self.w = matrix(initializer(init), generator(rng), nout, nin)
        self.b = [Value(0.0) for _ in range(nout)] if bias else None

    def __call__(self, x: Sequence[Scalar]) -> list[Value]:
        """The nout outputs for nin inputs."""
        x = inputs(x, len(self.w[0]), "Linear", "nin is set in Linear(nin, nout)")
        y = [dot(row, x) for row in self.w]
        return y if self.b is None else [yi + bi for yi, bi in zip(y, self.b)]

    def __repr__(self) -> str:
        return f"Linear({len(self.w[0])}, {len(self.w)}{'' if self.b else ', bias=False'})"


class Embedding(Module):
    """A table of `count` rows of `width` parameters: token k is represented by row k.

    Rows are drawn from a normal distribution with mean 0 and standard deviation 1, as in
    PyTorch, unless `init` says otherwise.
    """

    def __init__(
        self,
        count: int,
        width: int,
        *,
        init: str | Initializer | None = None,
        rng: random.Random | None = None,
    ) -> None:
        rule = initializer(normal(1.0) if init is None else init)
        self.w = matrix(rule, generator(rng), size(count, "count"), size(width, "width"))

    def __call__(self, index: Index) -> list[Value]:
        """The row at `index`, an int or an index argument of a traced program.

        Raises `IndexError` for an index outside the table.
        """
        return take_row(self.w, index)

    def __repr__(self) -> str:
        return f"Embedding({len(self.w)}, {len(self.w[0])})"


class RMSNorm(Module):
    """y[k] = g[k] * x[k] / sqrt(mean of x^2 + eps) (Zhang & Sennrich, 2019).

    The gains `g` start at 1; `gain=False` leaves them out. Raises `ShapeError` when called with a
    number of inputs other than width.
    """

    def __init__(self, width: int, eps: float = 1e-5, *, gain: bool = True) -> None:
        self.width, self.eps = size(width, "width"), float(eps)
        self.g = [Value(1.0) for _ in range(self.width)] if gain else None

    def __call__(self, x: Sequence[Scalar]) -> list[Value]:
        """x scaled to a root mean square of 1, times the gains."""
        x = inputs(x, self.width, "RMSNorm", "the width is set in RMSNorm(width)")
        scale = (mean([xk * xk for xk in x]) + self.eps) ** -0.5
        y = [xk * scale for xk in x]
        return y if self.g is None else [yk * gk for yk, gk in zip(y, self.g)]

    def __repr__(self) -> str:
        return f"RMSNorm({self.width}{'' if self.g else ', gain=False'})"


class LayerNorm(Module):
    """y[k] = g[k] * (x[k] - mean) / sqrt(variance + eps) + b[k] (Ba, Kiros & Hinton, 2016).

    Mean and variance are those of the `width` numbers of x, the variance divided by width. The
    gains `g` start at 1, the biases `b` at 0. Raises `ShapeError` when called with a number of
    inputs other than width.
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        self.width, self.eps = size(width, "width"), float(eps)
        self.g = [Value(1.0) for _ in range(self.width)]
        self.b = [Value(0.0) for _ in range(self.width)]

    def __call__(self, x: Sequence[Scalar]) -> list[Value]:
        """x shifted to mean 0 and scaled to variance 1, times the gains, plus the biases."""
        x = inputs(x, self.width, "LayerNorm", "the width is set in LayerNorm(width)")
        centre = mean(x)
        deviations = [xk - centre for xk in x]
        scale = (mean([d * d for d in deviations]) + self.eps) ** -0.5
        return [d * scale * gk + bk for d, gk, bk in zip(deviations, self.g, self.b)]

    def __repr__(self) -> str:
        return f"LayerNorm({self.width})"
