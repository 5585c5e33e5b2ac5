"""Scalars in plain Python, in the manner of microgpt, and the training steps written with them.

A `PlainValue` keeps its operands and its local gradients; everything is in lists and loops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import scalargrad as sg
from benchmarks.peers.numpy_update import BETA1, BETA2, EPS
from benchmarks.tasks import Arrays, Task


class PlainValue:
    """A scalar autograd in plain Python: operands and local gradients kept, iterative order."""

    __slots__ = ("children", "data", "grad", "local_grads")

    def __init__(
        self,
        data: float,
        children: tuple[PlainValue, ...] = (),
        local_grads: tuple[float, ...] = (),
    ) -> None:
        self.data = data
        self.grad = 0.0
        self.children = children
        self.local_grads = local_grads

    def __add__(self, other: PlainValue | float) -> PlainValue:
        other = other if isinstance(other, PlainValue) else PlainValue(other)
        return PlainValue(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other: PlainValue | float) -> PlainValue:
        other = other if isinstance(other, PlainValue) else PlainValue(other)
        return PlainValue(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, exponent: float) -> PlainValue:
        local = exponent * self.data ** (exponent - 1.0)
        return PlainValue(self.data**exponent, (self,), (local,))

    def exp(self) -> PlainValue:
        e = math.exp(self.data)
        return PlainValue(e, (self,), (e,))

    def log(self) -> PlainValue:
        return PlainValue(math.log(self.data), (self,), (1.0 / self.data,))

    def relu(self) -> PlainValue:
        return PlainValue(max(0.0, self.data), (self,), (float(self.data > 0.0),))

    def __neg__(self) -> PlainValue:
        return self * -1.0

    def __sub__(self, other: PlainValue | float) -> PlainValue:
        return self + -other

    def __truediv__(self, other: PlainValue) -> PlainValue:
        return self * other**-1.0

    __radd__, __rmul__ = __add__, __mul__

    def backward(self) -> None:
        order: list[PlainValue] = []
        visited = {self}
        stack = [(self, 0)]
        while stack:
            node, i = stack.pop()
            if i < len(node.children):
                stack.append((node, i + 1))
                child = node.children[i]
                if child not in visited:
                    visited.add(child)
                    stack.append((child, 0))
            else:
                order.append(node)
        self.grad = 1.0
        for node in reversed(order):
            for child, local_grad in zip(node.children, node.local_grads):
                child.grad += local_grad * node.grad


Vector = list[PlainValue]


class PlainPeer:
    """A training step on PlainValues."""

    def __init__(self, task: Task, dtype: str, lr: float) -> None:
        assert dtype == "float64"
        self._task, self._lr, self._steps = task, lr, 0
        self._weights = {name: _values(array.tolist()) for name, array in task.weights.items()}
        self._parameters = [p for array in self._weights.values() for p in _leaves(array)]
        self._moments = [[0.0] * len(self._parameters) for _ in range(2)]
        self._inputs, self._targets = task.x.tolist(), task.y.tolist()

    def gradients(self) -> tuple[float, Arrays]:
        """The loss and its gradient by name."""
        loss = self._backward()
        found = {
            name: np.array([p.grad for p in _leaves(self._weights[name])]).reshape(array.shape)
            for name, array in self._task.weights.items()
        }
        return loss, found

    def step(self) -> float:
        """One step; the loss before it."""
        loss = self._backward()
        if self._task.optimizer == "SGD":
            for p in self._parameters:
                p.data -= self._lr * p.grad
            return loss
        self._steps += 1
        root = math.sqrt(1.0 - BETA2**self._steps)
        rate = self._lr * root / (1.0 - BETA1**self._steps)
        mean, square = self._moments
        for k, p in enumerate(self._parameters):
            mean[k] = BETA1 * mean[k] + (1.0 - BETA1) * p.grad
            square[k] = BETA2 * square[k] + (1.0 - BETA2) * p.grad**2
            p.data -= rate * mean[k] / (math.sqrt(square[k]) + EPS * root)
        return loss

    def _backward(self) -> float:
        for p in self._parameters:
            p.grad = 0.0
        is_gpt = isinstance(self._task.model, sg.nn.GPT)
        of_one = self._document if is_gpt else self._classified
        losses = [of_one(x, y) for x, y in zip(self._inputs, self._targets)]
        loss = total(losses) * (1.0 / len(losses))
        if self._task.decay:
            loss = loss + dot(self._parameters, self._parameters) * self._task.decay
        loss.backward()
        return loss.data

    def _classified(self, x: list[float], y: float) -> PlainValue:
        *hidden, last = zip(*[iter(self._weights.values())] * 2)
        h: Sequence[Any] = x
        for w, b in hidden:
            h = [(dot(row, h) + bias).relu() for row, bias in zip(w, b)]
        z: Vector = [dot(row, h) + bias for row, bias in zip(*last)]
        if self._task.loss is sg.losses.hinge:
            margin = 1.0 + z[0] * -y
            return margin.relu()
        return cross_entropy(z, int(y))

    def _document(self, tokens: list[int], targets: list[int]) -> PlainValue:
        table, positions, head, *maps = self._weights.values()
        heads = self._task.model.blocks[0].attention.heads
        keys: list[Vector] = []
        values: list[Vector] = []
        losses = []
        for position, (token, target) in enumerate(zip(tokens, targets)):
            x = [t + p for t, p in zip(table[token], positions[position])]
            x = block(norm(x), maps, heads, keys, values)
            losses.append(cross_entropy(linear(head, x), target))
        return total(losses) * (1.0 / len(losses))


def block(
    x: Vector, maps: list[list[Vector]], heads: int, keys: list[Vector], values: list[Vector]
) -> Vector:
    """The transformer's layer at one position; its key and value are remembered."""
    query, key, value, output, expand, contract = maps
    a = norm(x)
    q, share = linear(query, a), len(x) // heads
    keys.append(linear(key, a))
    values.append(linear(value, a))
    attended = []
    for start in range(0, len(x), share):
        part = slice(start, start + share)
        weights = softmax([dot(q[part], k[part]) * (1.0 / math.sqrt(share)) for k in keys])
        attended += [dot(weights, column) for column in zip(*(v[part] for v in values))]
    middle = [o + xk for o, xk in zip(linear(output, attended), x)]
    hidden = [h.relu() for h in linear(expand, norm(middle))]
    return [c + m for c, m in zip(linear(contract, hidden), middle)]


def dot(a: Sequence[Any], b: Sequence[Any]) -> PlainValue:
    return total([x * y for x, y in zip(a, b)])


def total(terms: Vector) -> PlainValue:
    return sum(terms[1:], terms[0])


def linear(w: list[Vector], x: Vector) -> Vector:
    return [dot(row, x) for row in w]


def norm(x: Vector) -> Vector:
    scale = (dot(x, x) * (1.0 / len(x)) + 1e-5) ** -0.5
    return [xk * scale for xk in x]


def softmax(x: Vector) -> Vector:
    top = max(xk.data for xk in x)
    exponentials = [(xk - top).exp() for xk in x]
    normaliser = total(exponentials)
    return [e / normaliser for e in exponentials]


def cross_entropy(logits: Vector, target: int) -> PlainValue:
    return -softmax(logits)[target].log()


def _values(numbers: Any) -> Any:
    return [_values(n) for n in numbers] if isinstance(numbers, list) else PlainValue(numbers)


def _leaves(array: Any) -> Vector:
    return [p for row in array for p in _leaves(row)] if isinstance(array, list) else [array]
