"""A small GPT's training step in NumPy, by hand: all positions of all documents at once."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.flat import flatten, views
from benchmarks.peers.numpy_update import UPDATES
from benchmarks.tasks import Arrays, Task

Array = NDArray[Any]
EPS = 1e-5
# The dot product of each row; NumPy has a function of its own for it from 2.0 on.
vecdot = getattr(np, "vecdot", partial(np.einsum, "...k,...k->..."))


class NumpyGPT:
    """One layer; the maps to queries, keys and values are done as one."""

    def __init__(self, task: Task, dtype: str, lr: float) -> None:
        weights = task.weights
        self.parameters = flatten(weights, dtype)
        self.gradient = np.zeros_like(self.parameters)
        self._gradients = views(self.gradient, weights)
        self._w = [*self._maps(views(self.parameters, weights), self.parameters)]
        self._g = [*self._maps(self._gradients, self.gradient)]
        documents, length = task.x.shape
        self._tokens, self._targets = task.x, task.y
        self._heads, width = task.model.blocks[0].attention.heads, self._w[0].shape[1]
        self._shape = (documents, length, 3, self._heads, width // self._heads)
        self._mask = np.triu(np.full((length, length), -np.inf, dtype), 1)
        self._rows = np.arange(documents * length)
        self._one_hot = np.eye(len(self._w[0]), dtype=dtype)
        self._d_qkv = np.empty(self._shape, dtype)
        self._update = UPDATES[task.optimizer](self.parameters, self.gradient, lr)

    @staticmethod
    def _maps(arrays: Arrays, flat: Array) -> tuple[Array, ...]:
        """Embeddings, head, query-key-value, output, expand, contract."""
        tokens, positions, head, query, _, _, output, expand, contract = arrays.values()
        start = (query.ctypes.data - flat.ctypes.data) // flat.itemsize
        width = len(query)
        together = flat[start : start + 3 * query.size].reshape(3 * width, width)
        return tokens, positions, head, together, output, expand, contract

    def gradients(self) -> tuple[float, Arrays]:
        """The loss and its gradient by name."""
        return self._backward(), self._gradients

    def step(self) -> float:
        """One step; the loss before it."""
        loss = self._backward()
        self._update.step()
        return loss

    def _backward(self) -> float:
        tokens, positions, head, together, output, expand, contract = self._w
        documents, length, _, heads, share = self._shape
        width, count = heads * share, documents * length
        token, target = self._tokens.ravel(), self._targets.ravel()
        # Forward.
        x = tokens[token]
        x.reshape(documents, length, width).__iadd__(positions[:length])
        x0, s0 = normalize(x)
        a, s1 = normalize(x0)
        q, k, v = (a @ together.T).reshape(self._shape).transpose(2, 0, 3, 1, 4)
        p = q @ k.swapaxes(-1, -2)
        p *= 1 / math.sqrt(share)
        p += self._mask
        p -= np.maximum.reduce(p, axis=-1, keepdims=True)
        np.exp(p, out=p)
        p /= np.add.reduce(p, axis=-1, keepdims=True)
        attended = (p @ v).transpose(0, 2, 1, 3).reshape(count, width)
        middle = attended @ output.T
        middle += x0
        b, s2 = normalize(middle)
        h = b @ expand.T
        np.maximum(h, 0, out=h)
        y = h @ contract.T
        y += middle
        z = y @ head.T
        z -= np.maximum.reduce(z, axis=1, keepdims=True)
        chosen = z[self._rows, target]
        np.exp(z, out=z)
        total = np.add.reduce(z, axis=1, keepdims=True)
        loss: float = np.add.reduce(np.log(total[:, 0]) - chosen).item() / count
        # Backward.
        g_tokens, g_positions, g_head, g_together, g_output, g_expand, g_contract = self._g
        z /= total
        z[self._rows, target] -= 1
        z /= count
        np.matmul(z.T, y, out=g_head)
        dy = z @ head
        np.matmul(dy.T, h, out=g_contract)
        dh = dy @ contract
        dh *= h > 0
        np.matmul(dh.T, b, out=g_expand)
        d_middle = normalize_backward(dh @ expand, b, s2)
        d_middle += dy
        np.matmul(d_middle.T, attended, out=g_output)
        d_attended = d_middle @ output
        d_attended = d_attended.reshape(documents, length, heads, share).transpose(0, 2, 1, 3)
        dq, dk, dv = self._d_qkv.transpose(2, 0, 3, 1, 4)
        np.matmul(p.swapaxes(-1, -2), d_attended, out=dv)
        dp = d_attended @ v.swapaxes(-1, -2)
        dp -= vecdot(dp, p)[..., None]
        dp *= p
        dp *= 1 / math.sqrt(share)
        np.matmul(dp, k, out=dq)
        np.matmul(dp.swapaxes(-1, -2), q, out=dk)
        d_qkv = self._d_qkv.reshape(count, 3 * width)
        np.matmul(d_qkv.T, a, out=g_together)
        dx0 = normalize_backward(d_qkv @ together, a, s1)
        dx0 += d_middle
        dx = normalize_backward(dx0, x0, s0)
        np.add.reduce(dx.reshape(documents, length, width), axis=0, out=g_positions[:length])
        g_positions[length:] = 0
        np.matmul(self._one_hot[token].T, dx, out=g_tokens)
        return loss


def normalize(x: Array) -> tuple[Array, Array]:
    """y = x*s with s = 1/sqrt(mean of x^2 + eps), row by row; y and s."""
    s = vecdot(x, x)[:, None]
    s /= x.shape[1]
    s += EPS
    np.sqrt(s, out=s)
    np.divide(1, s, out=s)
    return x * s, s


def normalize_backward(dy: Array, y: Array, s: Array) -> Array:
    """dx of `normalize`: s * (dy - y * mean of dy*y)."""
    mean = vecdot(dy, y)[:, None]
    mean /= y.shape[1]
    dx: Array = y * mean
    np.subtract(dy, dx, out=dx)
    dx *= s
    return dx
