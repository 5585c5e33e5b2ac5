"""A convolutional network written as loops over pixels."""

from __future__ import annotations

import functools
import operator
import random
from typing import Any

from scalargrad import Value, functional, losses

from .case import Case, Made


def convolution(side: int = 8, kernels: int = 3, size: int = 3, classes: int = 4) -> Case:
    """Convolution, relu, 2x2 maxima, a linear layer, cross-entropy."""

    def make(rng: random.Random) -> Made:
        w = [[Value(rng.gauss(0.0, 0.4)) for _ in range(size * size)] for _ in range(kernels)]
        bias = [Value(0.1) for _ in range(kernels)]
        out = side - size + 1
        pooled = (out // 2) ** 2 * kernels
        last = [[Value(rng.gauss(0.0, 0.4)) for _ in range(pooled)] for _ in range(classes)]

        def feature(x: list[Value], k: int, i: int, j: int) -> Value:
            total = bias[k]
            for a in range(size):
                for b in range(size):
                    total = total + w[k][a * size + b] * x[(i + a) * side + j + b]
            return total.relu()

        def loss(x: list[Value], i: list[Any]) -> Value:
            features = []
            for k in range(kernels):
                grid = [[feature(x, k, r, c) for c in range(out)] for r in range(out)]
                for r in range(0, out - 1, 2):
                    for c in range(0, out - 1, 2):
                        square = (grid[r][c], grid[r][c + 1], grid[r + 1][c], grid[r + 1][c + 1])
                        features.append(functional.maximum(*square))
            logits = [functional.dot(row, features) for row in last]
            return losses.cross_entropy(logits, i[0])

        return [
            *functools.reduce(operator.iadd, w, []),
            *bias,
            *functools.reduce(operator.iadd, last, []),
        ], loss

    return Case(f"convolution {side}x{side}", make, side * side, (classes,))
