"""The training steps in JAX: loss, gradient and update in one compiled function, on one thread."""

from __future__ import annotations

import os

# Before JAX is loaded: no threads of its own.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import scalargrad as sg
from benchmarks.peers.numpy_update import BETA1, BETA2, EPS
from benchmarks.tasks import Arrays, Task

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")
SCANNED = 100  # steps in one call of `JaxScanPeer`


class JaxPeer:
    """One call is one step; parameters and state stay with JAX, which may reuse their memory."""

    steps = 1

    def __init__(self, task: Task, dtype: str, lr: float) -> None:
        self._names = list(task.weights)
        # A list: JAX sorts dictionaries by key.
        parameters = [jnp.asarray(array, dtype) for array in task.weights.values()]
        self._x = jnp.asarray(task.x, dtype if task.x.dtype == float else "int32")
        self._y = jnp.asarray(task.y, dtype if task.y.dtype == float else "int32")
        self._loss = partial(_gpt if isinstance(task.model, sg.nn.GPT) else _perceptron, task)
        update = {"SGD": _sgd, "Adam": _adam}[task.optimizer]
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        state = () if task.optimizer == "SGD" else (zeros, jax.tree.map(jnp.copy, zeros))
        self._carry: Any = (parameters, state, jnp.zeros((), dtype))

        def step(carry: Any, x: jax.Array, y: jax.Array) -> tuple[Any, jax.Array]:
            parameters, state, count = carry
            loss, gradient = jax.value_and_grad(self._loss)(parameters, x, y)
            return (*update(lr, count + 1, parameters, gradient, state), count + 1), loss

        self._step = jax.jit(self._repeated(step), donate_argnums=0)

    def _repeated(self, step: Any) -> Any:
        return step

    def gradients(self) -> tuple[float, Arrays]:
        """The loss and its gradient by name."""
        function = jax.jit(jax.value_and_grad(self._loss))
        loss, gradient = function(self._carry[0], self._x, self._y)
        return float(loss), dict(zip(self._names, map(np.asarray, gradient)))

    def step(self) -> float:
        """One step (`steps` of them); the loss before the last."""
        self._carry, loss = self._step(self._carry, self._x, self._y)
        return float(loss)


class JaxScanPeer(JaxPeer):
    """One call is a loop over many steps."""

    steps = SCANNED

    def _repeated(self, step: Any) -> Any:
        def many(carry: Any, x: jax.Array, y: jax.Array) -> tuple[Any, jax.Array]:
            carry, losses = jax.lax.scan(lambda c, _: step(c, x, y), carry, length=SCANNED)
            return carry, losses[-1]

        return many


def _sgd(lr: float, count: Any, parameters: Any, gradient: Any, state: Any) -> tuple[Any, Any]:
    return jax.tree.map(lambda p, g: p - lr * g, parameters, gradient), state


def _adam(lr: float, count: Any, parameters: Any, gradient: Any, state: Any) -> tuple[Any, Any]:
    mean = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, state[0], gradient)
    square = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, state[1], gradient)
    root = jnp.sqrt(1 - BETA2**count)
    rate = lr * root / (1 - BETA1**count)

    def moved(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        return p - rate * m / (jnp.sqrt(v) + EPS * root)

    return jax.tree.map(moved, parameters, mean, square), (mean, square)


def _perceptron(task: Task, parameters: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    layers = list(zip(parameters[::2], parameters[1::2]))
    for k, (w, b) in enumerate(layers):
        x = x @ w.T + b
        if k < len(layers) - 1:
            x = jax.nn.relu(x)
    if task.loss is sg.losses.hinge:
        loss = jax.nn.relu(1 - y * x[:, 0]).mean()
    else:
        loss = _cross_entropy(x, y)
    if task.decay:
        loss = loss + task.decay * sum((p * p).sum() for p in parameters)
    return loss


def _cross_entropy(z: jax.Array, y: jax.Array) -> jax.Array:
    chosen = jnp.take_along_axis(z, y[:, None], axis=1)[:, 0]
    return (jax.nn.logsumexp(z, axis=1) - chosen).mean()


def _norm(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5)


def _gpt(task: Task, parameters: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    tokens, positions, head, query, key, value, output, expand, contract = parameters
    documents, length = x.shape
    heads = task.model.blocks[0].attention.heads
    share = len(query) // heads
    x = _norm(tokens[x] + positions[:length])
    together = _norm(x) @ jnp.concatenate([query, key, value]).T
    q, k, v = together.reshape(documents, length, 3, heads, share).transpose(2, 0, 3, 1, 4)
    scores = q @ k.swapaxes(-1, -2) / share**0.5
    scores = jnp.where(jnp.tri(length, dtype=bool), scores, -jnp.inf)
    attended = jax.nn.softmax(scores) @ v
    x = x + attended.transpose(0, 2, 1, 3).reshape(x.shape) @ output.T
    x = x + jax.nn.relu(_norm(x) @ expand.T) @ contract.T
    return _cross_entropy((x @ head.T).reshape(documents * length, -1), y.ravel())
