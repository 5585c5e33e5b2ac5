"""Linear algebra and polynomials, number by number."""

from __future__ import annotations

import random
from typing import Any

from scalargrad import Value

from .case import Case, Made


def cholesky(n: int = 6) -> Case:
    """log det(A + n I) with A = B B^T, B the arguments, by Cholesky's decomposition."""

    def make(rng: random.Random) -> Made:
        def logdet(x: list[Value], _: list[Any]) -> Value:
            rows = [x[n * i : n * i + n] for i in range(n)]
            a = [
                [sum(p * q for p, q in zip(rows[i], rows[j])) for j in range(i + 1)]
                for i in range(n)
            ]
            factor: list[list[Value]] = []
            total = Value(0.0)
            for i in range(n):
                row: list[Value] = []
                for j in range(i):
                    s = a[i][j]
                    for k in range(j):
                        s = s - row[k] * factor[j][k]
                    row.append(s / factor[j][j])
                s = a[i][i] + n
                for k in range(i):
                    s = s - row[k] * row[k]
                row.append(s.sqrt())
                factor.append(row)
                total = total + 2.0 * row[i].log()
            return total

        return [], logdet

    return Case(f"Cholesky {n}x{n}", make, n * n)


def gram_schmidt(rows: int = 24, columns: int = 12) -> Case:
    """The log of the volume that columns span, each made orthogonal to those before it."""

    def make(rng: random.Random) -> Made:
        def volume(x: list[Value], _: list[Any]) -> Value:
            left = [x[rows * k : rows * k + rows] for k in range(columns)]
            total = Value(0.0)
            while left:
                first, *left = left
                norm = sum(a * a for a in first).sqrt()
                unit = [a / norm for a in first]
                total = total + norm.log()
                for k, column in enumerate(left):
                    shadow = sum(a * b for a, b in zip(unit, column))
                    left[k] = [a - shadow * b for a, b in zip(column, unit)]
            return total

        return [], volume

    return Case(f"Gram-Schmidt {rows}x{columns}", make, rows * columns)


def rosenbrock(n: int = 20) -> Case:
    def make(rng: random.Random) -> Made:
        def valley(x: list[Value], _: list[Any]) -> Value:
            return sum(
                100.0 * (x[k + 1] - x[k] ** 2) ** 2 + (1.0 - x[k]) ** 2 for k in range(n - 1)
            )

        return [], valley

    return Case(f"Rosenbrock {n}", make, n)


def horner(degree: int = 12, points: int = 5) -> Case:
    """The squared values of a polynomial at some points."""

    def make(rng: random.Random) -> Made:
        coefficients = [Value(rng.gauss(0.0, 1.0)) for _ in range(degree + 1)]

        def squares(x: list[Value], _: list[Any]) -> Value:
            total = Value(0.0)
            for point in x:
                y = coefficients[0]
                for c in coefficients[1:]:
                    y = y * point + c
                total = total + y * y
            return total

        return coefficients, squares

    return Case(f"Horner, degree {degree}", make, points)
