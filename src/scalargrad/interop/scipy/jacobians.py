"""Jacobians in few walks: columns, or rows, that have no number in common are found together.

A tridiagonal matrix takes three walks whatever its size, a full one of m rows and n columns the
lesser of m and n: see `compiler.sparsity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from ...compiler.adjoint import Derivative, graph_down_to
from ...compiler.sparsity import apart, directions, reached
from ...engine import Value

Entry: TypeAlias = tuple[int, int, Value]


def entries(outputs: Sequence[Value], variables: Sequence[Value]) -> list[Entry]:
    """The Jacobian d(output)/d(variable): row, column and number wherever it may not be 0.

    By rows, and by columns in each.
    """
    graph = graph_down_to(outputs, variables)
    rows = reached(graph, variables)
    columns: list[list[int]] = [[] for _ in variables]
    for i, row in enumerate(rows):
        for j in row:
            columns[j].append(i)
    by_columns, by_rows = apart(columns), apart(rows)
    derivative = Derivative(graph, variables)
    walks: list[list[Value]]
    if max(by_columns, default=0) <= max(by_rows, default=0):
        walks = [derivative.forward(seeds) for seeds in directions(by_columns)]
        return [(i, j, walks[by_columns[j]][i]) for i, row in enumerate(rows) for j in row]
    walks = [derivative.backward(seeds) for seeds in directions(by_rows)]
    return [(i, j, walks[by_rows[i]][j]) for i, row in enumerate(rows) for j in row]
