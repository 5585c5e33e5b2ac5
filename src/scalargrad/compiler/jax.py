"""JAX as a `Library`. The only file that imports it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ops
from ..errors import MissingExtraError
from .library import Array, State

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

__all__ = [
    "FOLDS",
    "OPS",
    "SMALL",
    "Array",
    "SymbolicZero",
    "add_at",
    "broadcast_to",
    "choose",
    "concatenate",
    "constant",
    "cut",
    "enable_x64",
    "flip",
    "jax",
    "jnp",
    "pad",
    "product",
    "put",
    "repeat",
    "scan",
    "take",
    "where",
    "window",
    "write",
]


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


def _extremum(fold: Callable[..., Array]) -> Callable[..., Array]:
    """`fold`, and nan where there is one among the numbers: XLA's loops for CPUs may lose it."""
    return lambda x, **axes: jnp.where(jnp.isnan(x).any(**axes), jnp.nan, fold(x, **axes))


FOLDS: dict[int, Callable[..., Array]] = {
    ops.ADD: jnp.sum,
    ops.MAXIMUM: _extremum(jnp.max),
    ops.MINIMUM: _extremum(jnp.min),
}

SMALL = 512  # XLA fuses them with their neighbours

# --- whole arrays --------------------------------------------------------------------------------

concatenate, where = jnp.concatenate, jnp.where


def constant(numbers: NDArray[Any]) -> Array:
    """See `Library`."""
    return jnp.asarray(numbers)


def broadcast_to(x: Array, shape: Sequence[int]) -> Array:
    """See `Library`."""
    return jnp.broadcast_to(x, tuple(shape))


def cut(x: Array, start: int, stop: int, step: int = 1) -> Array:
    """See `Library`."""
    return lax.slice_in_dim(x, start, stop, step, axis=-1)


def pad(x: Array, more: int) -> Array:
    """See `Library`."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, more)])


def flip(x: Array, axes: Sequence[int]) -> Array:
    """See `Library`."""
    return lax.rev(x, axes)


def product(left: Array, right: Array, summed: tuple[Any, Any], kept: tuple[Any, Any]) -> Array:
    """See `Library`."""
    return lax.dot_general(left, right, (summed, kept), precision=lax.Precision.HIGHEST)


# --- places --------------------------------------------------------------------------------------


def take(x: Array, places: Any, axis: int = 1) -> Array:
    """See `Library`."""
    return jnp.take(x, places, axis=axis, mode="clip")


def choose(x: Array, chosen: Array) -> Array:
    """See `Library`."""
    return jnp.take_along_axis(x, chosen, axis=-1, mode="clip")


def put(x: Array, places: Any, numbers: Array, axis: int = 1) -> Array:
    """See `Library`."""
    at = (slice(None),) * axis + (places,)
    return x.at[at].set(numbers)


def add_at(x: Array, slots: Array, numbers: Array, together: bool) -> Array:
    """See `Library`."""
    row = 0 if together else np.arange(len(x))[:, None]
    return x.at[row, slots].add(numbers)


def window(x: Array, start: Any, count: int) -> Array:
    """See `Library`."""
    return lax.dynamic_slice_in_dim(x, start, count, axis=1)


def write(x: Array, numbers: Array, start: Any) -> Array:
    """See `Library`."""
    return lax.dynamic_update_slice_in_dim(x, numbers, start, axis=1)


# --- turns ---------------------------------------------------------------------------------------


def repeat(count: int, turn: Callable[[Array, State], State], state: State) -> State:
    """See `Library`."""
    done: State = lax.fori_loop(0, count, turn, state)
    return done


def scan(turn: Callable[..., Array], state: Array, tables: Sequence[NDArray[Any]]) -> Array:
    """See `Library`."""

    def step(state: Array, rows: Sequence[Array]) -> tuple[Array, None]:
        return turn(state, *rows), None

    return lax.scan(step, state, tuple(tables))[0]
