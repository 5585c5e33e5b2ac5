"""Which numbers of a Jacobian may differ from 0, and which lines of it a walk gives together.

Two rows of a Jacobian without a column in which both have a number can be read off one backward
walk, from both outputs; two columns without a common row off one forward walk, in the direction of
both (Curtis, Powell & Reid, 1974). A backward walk from several outputs gives the bits of one from
each: where no variable is below two of them, nothing that leads to one is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..engine import Value
from ..graph import Graph


def reached(graph: Graph, variables: Sequence[Value]) -> list[list[int]]:
    """For each output, the variables that it is computed from, in order."""
    reach = {id(v): 1 << j for j, v in enumerate(variables)}  # a bit for each variable
    for node in graph.nodes:
        bits = reach.get(id(node), 0)
        for operand in node.operands if not bits else ():
            bits |= reach.get(id(operand), 0)
        reach[id(node)] = bits
    return [_ones(reach.get(id(v), 0)) for v in graph.outputs]


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


def directions(groups: Sequence[int]) -> Iterator[list[float]]:
    """For each group the direction of all its lines: 1 for them, 0 for the others."""
    for k in range(max(groups, default=-1) + 1):
        yield [float(group == k) for group in groups]
