"""The operations of the op table in those of ONNX, on tensors of a `Builder`.

Where ONNX has an operation for it, that one is used if ONNX Runtime has it for doubles, too, as
it has not for `Softplus`, `LeakyRelu` and `Erf`. What `Max`, `Min` and `Relu` do to nan is the
runtime's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ... import ops

Tensor = Any  # a builder.Tensor


def _by(operation: str) -> Callable[..., Tensor]:
    """An operation of one operand."""
    return lambda a, c: a.builder.elementwise(operation, a)


def _of_two(operation: str) -> Callable[..., Tensor]:
    return lambda a, b, c: a.builder.elementwise(operation, a, b)


def _power(a: Tensor, n: Any) -> Tensor:
    """a^n for a constant n: the exact cases are done as such, as `ops.power` does them."""
    if isinstance(n, float):
        if n in (2.0, -1.0, 1.0):
            return a * a if n == 2.0 else 1.0 / a if n == -1.0 else a
        return a.builder.elementwise("Pow", a, n)
    where, general = a.builder.where, a.builder.elementwise("Pow", a, n)
    return where(n == 2.0, a * a, where(n == -1.0, 1.0 / a, general))


def _softplus(a: Tensor) -> Tensor:
    """max(a, 0) + log(1 + e) for e = exp(-|a|), with the digits of e that 1 + e has lost."""
    new = a.builder.elementwise
    e = new("Exp", -new("Abs", a))
    sum_ = 1.0 + e
    logarithm = a.builder.where(sum_ == 1.0, e, new("Log", sum_) * (e / (sum_ - 1.0)))
    return new("Relu", a) + logarithm


@cache
def _tail() -> list[float]:
    """The coefficients of P, highest first: erfc(z) = t * exp(P(2t - 1) - z^2), t = 2/(2 + z)."""
    s = np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    t = (s + 1.0) / 2.0
    z = 2.0 / t - 2.0
    inside = z < 26.0  # beyond, erfc(z) is too small to know it well
    p = [math.log(math.erfc(one) / two) + one * one for one, two in zip(z[inside], t[inside])]
    found = np.polynomial.Chebyshev.fit(s[inside], p, 26, domain=[-1.0, 1.0])
    coefficients: list[float] = found.convert(kind=np.polynomial.Polynomial).coef[::-1].tolist()
    return coefficients


def _erfc(a: Tensor) -> Tensor:
    """1 - erf(a), as such where 7 digits are enough."""
    new, where = a.builder.elementwise, a.builder.where
    if a.dtype == np.float32:
        return 1.0 - new("Erf", a)
    z = new("Min", new("Abs", a), 30.0)
    t = 2.0 / (2.0 + z)
    s, p = 2.0 * t - 1.0, 0.0
    for coefficient in _tail():
        p = p * s + coefficient
    tail = t * new("Exp", p - z * z)
    return where(a < 0.0, 2.0 - tail, tail)


# Each takes its operands and the op's constant.
OPS: dict[int, Callable[..., Tensor]] = {
    ops.ADD: lambda a, b, c: a + b,
    ops.SUB: lambda a, b, c: a - b,
    ops.MUL: lambda a, b, c: a * b,
    ops.DIV: lambda a, b, c: a / b,
    ops.NEG: lambda a, c: -a,
    ops.POW: _power,
    ops.POWER: _of_two("Pow"),
    ops.ABS: _by("Abs"),
    ops.RELU: _by("Relu"),
    ops.LEAKY_RELU: lambda a, c: a.builder.where(a > 0.0, a, c * a),
    ops.EXP: _by("Exp"),
    ops.LOG: _by("Log"),
    ops.SQRT: _by("Sqrt"),
    ops.TANH: _by("Tanh"),
    ops.SIGMOID: _by("Sigmoid"),
    ops.SIN: _by("Sin"),
    ops.COS: _by("Cos"),
    ops.SOFTPLUS: lambda a, c: _softplus(a),
    ops.GELU: lambda a, c: a * (0.5 * _erfc(-a * ops.SQRT_HALF)),
    ops.ERFC: lambda a, c: _erfc(a),
    ops.MAXIMUM: _of_two("Max"),
    ops.MINIMUM: _of_two("Min"),
    ops.LESS: lambda a, b, c: (a < b).astype(a.dtype),
    ops.LESS_EQUAL: lambda a, b, c: (a <= b).astype(a.dtype),
    ops.WHERE: lambda condition, a, b, c: a.builder.where(condition == 0.0, b, a),
    ops.DETACH: lambda a, c: a,
}
