"""JAX: what of it the back end needs. The only file that imports it.

The operations of the op table on whole arrays, and the few ways of reading and multiplying arrays
that a program is made of. Every array has the examples as its first axis, of length 1 where it is
the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeAlias

from .. import ops
from ..errors import MissingExtraError
from .points import Even

try:
    import jax
except ImportError:
    raise MissingExtraError("jax", "jax", 'backend="jax"') from None

from jax import lax
from jax import numpy as jnp
from jax.custom_derivatives import SymbolicZero

try:
    from jax import enable_x64
except ImportError:  # as it was called before JAX 0.9
    from jax.experimental import enable_x64

__all__ = ["OPS", "Array", "SymbolicZero", "dot", "enable_x64", "jax", "jnp", "lax", "seen", "took"]

Array: TypeAlias = Any  # a jax.Array, or what stands for one while JAX traces


# --- the op table --------------------------------------------------------------------------------


def _power(a: Array, n: Any) -> Array:
    """a^n for a constant n: the exact cases are done as such, as `ops.power` does them."""
    if isinstance(n, float):
        return a * a if n == 2.0 else 1.0 / a if n == -1.0 else a if n == 1.0 else jnp.power(a, n)
    return jnp.where(n == 2.0, a * a, jnp.where(n == -1.0, 1.0 / a, jnp.power(a, n)))


def _sigmoid(a: Array) -> Array:
    e = jnp.exp(-jnp.abs(a))
    return jnp.where(a >= 0.0, 1.0, e) / (1.0 + e)


def _softplus(a: Array) -> Array:
    return jnp.where(a > 0.0, a, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(a)))


def _gelu(a: Array) -> Array:
    return a * (0.5 * lax.erfc(-a * ops.SQRT_HALF))


# Each takes its operands and the op's constant.
OPS: dict[int, Callable[..., Array]] = {
    ops.ADD: lambda a, b, c: a + b,
    ops.SUB: lambda a, b, c: a - b,
    ops.MUL: lambda a, b, c: a * b,
    ops.DIV: lambda a, b, c: a / b,
    ops.NEG: lambda a, c: -a,
    ops.POW: _power,
    ops.POWER: lambda a, b, c: jnp.power(a, b),
    ops.ABS: lambda a, c: jnp.abs(a),
    ops.RELU: lambda a, c: jnp.where(a < 0.0, 0.0, a),
    ops.LEAKY_RELU: lambda a, c: jnp.where(a > 0.0, a, c * a),
    ops.EXP: lambda a, c: jnp.exp(a),
    ops.LOG: lambda a, c: jnp.log(a),
    ops.SQRT: lambda a, c: jnp.sqrt(a),
    ops.TANH: lambda a, c: jnp.tanh(a),
    ops.SIGMOID: lambda a, c: _sigmoid(a),
    ops.SIN: lambda a, c: jnp.sin(a),
    ops.COS: lambda a, c: jnp.cos(a),
    ops.SOFTPLUS: lambda a, c: _softplus(a),
    ops.GELU: lambda a, c: _gelu(a),
    ops.ERFC: lambda a, c: lax.erfc(a),
    ops.MAXIMUM: lambda a, b, c: jnp.maximum(a, b),
    ops.MINIMUM: lambda a, b, c: jnp.minimum(a, b),
    ops.LESS: lambda a, b, c: (a < b).astype(a.dtype),
    ops.LESS_EQUAL: lambda a, b, c: (a <= b).astype(a.dtype),
    ops.WHERE: lambda condition, a, b, c: jnp.where(condition != 0.0, a, b),
    ops.DETACH: lambda a, c: a,
}

# --- reading -------------------------------------------------------------------------------------


def took(x: Array, places: Any) -> Array:
    """x[:, places]: by looking every number up."""
    return jnp.take(x, places, axis=1, mode="clip")


def seen(x: Array, pattern: Even) -> Array:
    """x[:, places] for places of a pattern that does not overlap: by slices and reshapes."""
    shape = pattern.shape
    axes = [k for k, stride in enumerate(pattern.strides) if stride and shape[k] > 1]
    axes.sort(key=lambda k: -abs(pattern.strides[k]))
    back = [k for k in axes if pattern.strides[k] < 0]
    base = pattern.base + sum(pattern.strides[k] * (shape[k] - 1) for k in back)
    span = 1 + sum(abs(pattern.strides[k]) * (shape[k] - 1) for k in axes)
    for k in axes[:-1]:
        stride, extent = abs(pattern.strides[k]), shape[k]
        span -= stride * (extent - 1)
        length = x.shape[-1]
        start = min(base, length - extent * stride)
        if start < 0 or base - start + span > stride:
            # The last row is cut short: fill it up.
            more = base + extent * stride - length
            x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, more)])
            start = base
        x = _slice(x, start, extent * stride)
        x = x.reshape(*x.shape[:-1], extent, stride)
        base -= start
    step = abs(pattern.strides[axes[-1]]) if axes else 1
    x = _slice(x, base, span, step)
    x = x if axes else x.reshape(x.shape[:-1])
    order = sorted(range(len(axes)), key=axes.__getitem__)
    if axes != sorted(axes):
        x = x.transpose(0, *(1 + place for place in order))
    flipped = [1 + place for place, k in enumerate(sorted(axes)) if k in back]
    x = lax.rev(x, flipped) if flipped else x
    kept = set(axes)
    full = (x.shape[0], *(extent if k in kept else 1 for k, extent in enumerate(shape)))
    return jnp.broadcast_to(x.reshape(full), (x.shape[0], *shape))


def _slice(x: Array, start: int, count: int, step: int = 1) -> Array:
    if step == 1 and count == x.shape[-1]:
        return x
    return lax.slice_in_dim(x, start, start + count, step, axis=-1)


# --- multiplying ---------------------------------------------------------------------------------


def dot(left: Array, right: Array, summed: Sequence[int]) -> Array:
    """sum(left * right) over the axes `summed`, which stay with length 1; shapes are broadcast.

    One product of matrices; some axis of `summed` is longer than 1 in both.
    """
    rank = left.ndim
    own = [[k for k in range(rank) if x.shape[k] > 1] for x in (left, right)]
    for mine, other in ((0, 1), (1, 0)):
        alone = tuple(k for k in own[mine] if k in summed and k not in own[other])
        x = (left, right)[mine]
        if alone:
            x = jnp.sum(x, axis=alone, keepdims=True)
            own[mine] = [k for k in own[mine] if k not in alone]
        left, right = (x, right) if mine == 0 else (left, x)
    free = [[k for k in own[0] if k not in own[1]], [k for k in own[1] if k not in own[0]]]
    if free[1] and (not free[0] or free[1][0] < free[0][0]):
        left, right, own, free = right, left, own[::-1], free[::-1]
    both = [k for k in own[0] if k in own[1]]
    pairs = [
        tuple([axes.index(k) for k in both if (k in summed) == chosen] for axes in own)
        for chosen in (True, False)
    ]
    shape = [max(a, b) for a, b in zip(left.shape, right.shape)]
    x = lax.dot_general(
        left.reshape([left.shape[k] for k in own[0]]),
        right.reshape([right.shape[k] for k in own[1]]),
        tuple(pairs),
        precision=lax.Precision.HIGHEST,
    )
    made = [k for k in both if k not in summed] + free[0] + free[1]
    order = sorted(range(len(made)), key=made.__getitem__)
    if order != list(range(len(made))):
        x = x.transpose(order)
    full = [shape[k] if k in made else 1 for k in range(rank)]
    assert prod(full) == x.size
    return x.reshape(full)
