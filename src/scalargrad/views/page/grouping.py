"""The groups of a whole graph: parts of networks by name, and within them, by structure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...engine import Value
from ..names import Names
from .groups import Groups
from .modules import add_modules, belonging, paths_of
from .structure import Collapse


def grouped(
    nodes: Sequence[Value],
    leaves: int,
    operands: Sequence[Sequence[int]],
    codes: Sequence[int],
    root: int,
    names: Names,
) -> Groups:
    """The groups of a graph's numbers, which stand in the order of the tape, leaves first."""
    groups = Groups([0] * len(nodes))
    owners: list[int | None] = [None] * leaves
    held = [k for k in range(leaves) if nodes[k] in names.parameters]
    paths = paths_of(names.texts[nodes[k]] for k in held)
    for k, g in zip(held, add_modules(groups, paths)):
        owners[k] = g
    uses = Counter(x for inputs in operands for x in inputs)
    user = {x: k for k, inputs in enumerate(operands) for x in inputs if uses[x] == 1}
    results = belonging(groups, operands[leaves:], owners) if held else [0] * (len(nodes) - leaves)
    places = [
        owner if owner is not None else results[user[k] - leaves] if k in user else 0
        for k, owner in enumerate(owners)
    ] + results
    groups.places[:] = places
    texts = {k: text for k, v in enumerate(nodes) if (text := names.of(v))}
    collapse = Collapse(groups, codes, operands, [v.number for v in nodes], texts, user, root)
    for g, members in _members(places).items():
        collapse.arrange(g, members, apart=bool(held))
    return groups


def _members(places: Sequence[int]) -> dict[int, list[int]]:
    members: dict[int, list[int]] = {}
    for k, g in enumerate(places):
        members.setdefault(g, []).append(k)
    return members
