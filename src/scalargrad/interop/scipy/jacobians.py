"""Jacobians in few walks: columns, or rows, that have no number in common are found together.

Two columns of a Jacobian without a row in which both have a number can be read off one
forward walk, in the direction of both; two rows without a common column off one backward walk
(Curtis, Powell & Reid, 1974). A tridiagonal matrix takes three walks whatever its size, a full
one of m rows and n columns the lesser of m and n.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from ...compiler.adjoint import Derivative, graph_down_to
from ...engine import Value
from ...graph import Graph

Entry: TypeAlias = tuple[int, int, Value]


def entries(outputs: Sequence[Value], variables: Sequence[Value]) -> list[Entry]:
    """The Jacobian d(output)/d(variable): row, column and number wherever it may not be 0.

    By rows, and by columns in each.
    """
    graph = graph_down_to(outputs, variables)
    rows = reached(graph, outputs, variables)
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


def reached(graph: Graph, outputs: Sequence[Value], variables: Sequence[Value]) -> list[list[int]]:
    """For each output, the variables that it is computed from, in order."""
    reach = {id(v): 1 << j for j, v in enumerate(variables)}  # a bit for each variable
    for node in graph.nodes:
        bits = reach.get(id(node), 0)
        for operand in node.operands if not bits else ():
            bits |= reach.get(id(operand), 0)
        reach[id(node)] = bits
    return [_ones(reach.get(id(v), 0)) for v in outputs]


def _ones(bits: int) -> list[int]:
    found = []
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length() - 1)
        bits ^= lowest
    return found


def apart(lines: Sequence[Iterable[int]]) -> list[int]:
    """A group for each line, 0, 1, ..., so that lines of one group have no place in common."""
    taken: list[int] = []  # the places of each group, a bit for each
    groups = []
    for line in lines:
        places = sum(1 << place for place in line)
        group = next((k for k, bits in enumerate(taken) if not bits & places), len(taken))
        if group == len(taken):
            taken.append(0)
        taken[group] |= places
        groups.append(group)
    return groups


def directions(groups: Sequence[int]) -> list[list[float]]:
    """For each group the direction of all its lines: 1 for them, 0 for the others."""
    return [[float(group == k) for group in groups] for k in range(max(groups, default=-1) + 1)]
