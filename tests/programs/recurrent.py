"""Networks with a state that goes through the time steps of a sequence."""

from __future__ import annotations

import functools
import operator
import random
from collections.abc import Sequence
from typing import Any

from scalargrad import Value, functional, losses

from .case import Case, Made


def _matrix(rng: random.Random, rows: int, columns: int) -> list[list[Value]]:
    return [[Value(rng.gauss(0.0, 0.5)) for _ in range(columns)] for _ in range(rows)]


def _apply(matrix: list[list[Value]], x: Sequence[Value]) -> list[Value]:
    return [functional.dot(row, x) for row in matrix]


def rnn(steps: int = 6, width: int = 8, inputs: int = 3) -> Case:
    """h = tanh(W x + U h + b), the last h read out; the last argument is the target."""

    def make(rng: random.Random) -> Made:
        w, u = _matrix(rng, width, inputs), _matrix(rng, width, width)
        b, v = _matrix(rng, 1, width)[0], _matrix(rng, 1, width)[0]

        def loss(x: list[Value], _: list[Any]) -> Value:
            h = b
            for t in range(steps):
                read, kept = _apply(w, x[t * inputs : (t + 1) * inputs]), _apply(u, h)
                h = [(r + k + c).tanh() for r, k, c in zip(read, kept, b)]
            return losses.mse(functional.dot(v, h), x[-1])

        return [
            *functools.reduce(operator.iadd, w, []),
            *functools.reduce(operator.iadd, u, []),
            *b,
            *v,
        ], loss

    return Case(f"RNN, {steps} steps", make, steps * inputs + 1)


def lstm(steps: int = 4, width: int = 4, inputs: int = 2) -> Case:
    """Hochreiter & Schmidhuber (1997), with forget gates."""

    def make(rng: random.Random) -> Made:
        w = [_matrix(rng, width, inputs + width) for _ in range(4)]
        b = [_matrix(rng, 1, width)[0] for _ in range(4)]

        def loss(x: list[Value], _: list[Any]) -> Value:
            h = [Value(0.0) for _ in range(width)]
            c = [Value(0.0) for _ in range(width)]
            for t in range(steps):
                joined = x[t * inputs : (t + 1) * inputs] + h
                i, f, o, g = (
                    [s + bk for s, bk in zip(_apply(matrix, joined), bias)]
                    for matrix, bias in zip(w, b)
                )
                c = [
                    fk.sigmoid() * ck + ik.sigmoid() * gk.tanh()
                    for fk, ck, ik, gk in zip(f, c, i, g)
                ]
                h = [ok.sigmoid() * ck.tanh() for ok, ck in zip(o, c)]
            return losses.mse(functional.total(h), x[-1])

        return [v for m in w for row in m for v in row] + [v for row in b for v in row], loss

    return Case(f"LSTM, {steps} steps", make, steps * inputs + 1)
