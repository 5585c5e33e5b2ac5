"""A small GPT's training step in NumPy as one first writes it: formula by formula.

Every weight is an array of its own, with an update of its own, and every formula makes a new
array. `numpy_gpt` does the same with as few calls of NumPy as we could find.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.numpy_update import UPDATES
from benchmarks.tasks import Arrays, Task

Array = NDArray[Any]
EPS = 1e-5


class PlainNumpyGPT:
    """One layer, all positions of all documents at once."""

    def __init__(self, task: Task, dtype: str, lr: float) -> None:
        self.weights = {name: array.astype(dtype) for name, array in task.weights.items()}
        self._gradients = {name: np.zeros_like(array) for name, array in self.weights.items()}
        self._updates = [
            UPDATES[task.optimizer](self.weights[name], self._gradients[name], lr)
            for name in self.weights
        ]
        self._tokens, self._targets = task.x, task.y
        self._heads = task.model.blocks[0].attention.heads
        length = task.x.shape[1]
        self._mask = np.triu(np.full((length, length), -np.inf, dtype), 1)

    def gradients(self) -> tuple[float, Arrays]:
        """The loss and its gradient by name."""
        return self._backward(), self._gradients

    def step(self) -> float:
        """One step; the loss before it."""
        loss = self._backward()
        for update in self._updates:
            update.step()
        return loss

    def _backward(self) -> float:
        tokens, positions, head, query, key, value, output, expand, contract = self.weights.values()
        length, width = self._tokens.shape[1], query.shape[0]
        scale = 1 / math.sqrt(width // self._heads)
        # Forward.
        x0, s0 = normalize(tokens[self._tokens] + positions[:length])
        a, s1 = normalize(x0)
        q, k, v = (self._split(a @ w.T) for w in (query, key, value))
        p = softmax(q @ k.swapaxes(-1, -2) * scale + self._mask)
        attended = self._join(p @ v)
        middle = attended @ output.T + x0
        b, s2 = normalize(middle)
        h = np.maximum(b @ expand.T, 0)
        y = h @ contract.T + middle
        chances = softmax(y @ head.T)
        picked = np.take_along_axis(chances, self._targets[..., None], -1)
        loss = float(-np.log(picked).mean())
        # Backward.
        dz = chances.copy()
        np.put_along_axis(dz, self._targets[..., None], picked - 1, -1)
        dz /= self._targets.size
        dy = dz @ head
        dh = dy @ contract * (h > 0)
        d_middle = normalize_backward(dh @ expand, b, s2) + dy
        d_attended = self._split(d_middle @ output)
        dv = self._join(p.swapaxes(-1, -2) @ d_attended)
        dp = d_attended @ v.swapaxes(-1, -2)
        ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * scale
        dq, dk = self._join(ds @ k), self._join(ds.swapaxes(-1, -2) @ q)
        da = dq @ query + dk @ key + dv @ value
        dx0 = normalize_backward(da, a, s1) + d_middle
        dx = normalize_backward(dx0, x0, s0)
        g = iter(self._gradients.values())
        g_tokens, g_positions = next(g), next(g)
        g_tokens[...] = g_positions[...] = 0
        np.add.at(g_tokens, self._tokens, dx)
        g_positions[:length] = dx.sum(0)
        outer = ((dz, y), (dq, a), (dk, a), (dv, a), (d_middle, attended), (dh, b), (dy, h))
        for gradient, (left, right) in zip(g, outer):
            np.matmul(rows(left).T, rows(right), out=gradient)
        return loss

    def _split(self, x: Array) -> Array:
        """(documents, positions, width) to (documents, heads, positions, share)."""
        documents, length, _ = x.shape
        return x.reshape(documents, length, self._heads, -1).swapaxes(1, 2)

    def _join(self, x: Array) -> Array:
        """The reverse of `_split`."""
        documents, _, length, _ = x.shape
        return x.swapaxes(1, 2).reshape(documents, length, -1)


def rows(x: Array) -> Array:
    """All positions of all documents below each other."""
    return x.reshape(-1, x.shape[-1])


def softmax(z: Array) -> Array:
    """e^z over its sum, along the last axis."""
    e = np.exp(z - z.max(-1, keepdims=True))
    found: Array = e / e.sum(-1, keepdims=True)
    return found


def normalize(x: Array) -> tuple[Array, Array]:
    """y = x*s with s = 1/sqrt(mean of x^2 + eps), along the last axis; y and s."""
    s = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + EPS)
    return x * s, s


def normalize_backward(dy: Array, y: Array, s: Array) -> Array:
    """dx of `normalize`: s * (dy - y * mean of dy*y)."""
    dx: Array = s * (dy - y * (dy * y).mean(-1, keepdims=True))
    return dx
