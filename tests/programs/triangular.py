"""Programs whose loops grow or shrink with the turn, number by number."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from scalargrad import Value

from .case import Case, Made

Matrix = list[list[Value]]


def _case(name: str, n: int, program: Callable[[Matrix], Any], extra: int = 0) -> Case:
    """A function of a matrix n x (n + extra) whose diagonal is large."""

    def make(rng: random.Random) -> Made:
        def function(x: list[Value], _: list[Any]) -> Value:
            wide = n + extra
            rows = [x[wide * i : wide * i + wide] for i in range(n)]
            for i in range(n):
                rows[i][i] = rows[i][i] + (3.0 + n)
            result = program(rows)
            assert isinstance(result, Value)
            return result

        return [], function

    return Case(f"{name} {n}", make, n * (n + extra))


def elimination(n: int) -> Case:
    """log det A by Gaussian elimination, row below row."""

    def program(a: Matrix) -> Any:
        total = Value(0.0)
        for k in range(n):
            total = total + (a[k][k] * a[k][k]).log()
            for i in range(k + 1, n):
                factor = a[i][k] / a[k][k]
                for j in range(k + 1, n):
                    a[i][j] = a[i][j] - factor * a[k][j]
        return total

    return _case("elimination", n, program)


def lower_solve(n: int, columns: int = 3) -> Case:
    """The sum of squares of X, where L X = B, by forward substitution."""

    def program(a: Matrix) -> Any:
        total = Value(0.0)
        solved: Matrix = []
        for i in range(n):
            row = a[i][n:]
            for j in range(i):
                row = [value - a[i][j] * x for value, x in zip(row, solved[j])]
            solved.append([value / a[i][i] for value in row])
            for value in solved[i]:
                total = total + value * value
        return total

    return _case("lower solve", n, program, columns)


def upper_solve(n: int) -> Case:
    """The sum of tanh(x), where U x = b, by back-substitution."""

    def program(a: Matrix) -> Any:
        total = Value(0.0)
        solved: dict[int, Value] = {}
        for i in reversed(range(n)):
            value = a[i][n]
            for j in range(i + 1, n):
                value = value - a[i][j] * solved[j]
            solved[i] = value / a[i][i]
            total = total + solved[i].tanh()
        return total

    return _case("upper solve", n, program, 1)


def all_before(n: int) -> Case:
    """Numbers each of which depends on the differences to all before it."""

    def program(a: Matrix) -> Any:
        found: list[Value] = []
        for i in range(n):
            value = a[i][0]
            for j, other in enumerate(found):
                value = value + (a[i][i] - other).tanh() * a[i][j]
            found.append(value * 0.1)
        return sum(x * x for x in found)

    return _case("all before", n, program)


def packed_cholesky(n: int) -> Case:
    """log det A, the lower triangle of A stored row after row, by Cholesky's decomposition."""

    def make(rng: random.Random) -> Made:
        def function(x: list[Value], _: list[Any]) -> Value:
            rows: Matrix = []
            total = Value(0.0)
            for i in range(n):
                row = x[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2]
                row[i] = row[i] + (3.0 + n)
                for j in range(i + 1):
                    for k in range(j):
                        row[j] = row[j] - row[k] * (rows[j][k] if j < i else row[k])
                    row[j] = row[j] / rows[j][j] if j < i else row[j].sqrt()
                rows.append(row)
                total = total + row[i].log()
            return total

        return [], function

    return Case(f"packed Cholesky {n}", make, n * (n + 1) // 2)


ALL = (elimination, lower_solve, upper_solve, all_before, packed_cholesky)
