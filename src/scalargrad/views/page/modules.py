"""Which part of a network each number belongs to, from the names of the parameters.

A number computed with a parameter belongs to the part that holds it. Any other belongs where the
numbers do that it is computed from. Where these are of several parts, or something from outside
comes in, it belongs to a part around them that is still at work, as a sum around a block's input
and output does to the block, an attention's scores to the attention; and to none if nothing that
is computed with it meets a parameter again: that is a loss.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import reduce

from .groups import Groups

_PART = re.compile(r"""\.?([^.\[\]]*(?:\[(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\]]*)\])*)""")
_INDICES = re.compile(r"(.*?)((?:\[\d+\])*)")


def stem_of(name: str) -> str:
    """A name without the indices at its end: `xs` of `xs[3][1]`."""
    return _split(name)[0]


def _split(name: str) -> tuple[str, list[str]]:
    match = _INDICES.fullmatch(name)
    assert match is not None
    return match[1], re.findall(r"\[\d+\]", match[2])


def paths_of(names: Iterable[str]) -> list[tuple[str, ...]]:
    """For each parameter the parts of the network that hold it, from the outermost on.

    `model.layers[0].neurons[3].w[1]` is held by `model`, `layers[0]` and `neurons[3]`. A row of a
    matrix, such as `query.w[3]`, is a part, too: a neuron, or the vector of a token. Where a module
    has one matrix, its vectors' entries belong to the rows: biases, say.
    """
    held = []
    matrices: dict[tuple[str, ...], set[str]] = {}
    for name in names:
        *outer, last = list(filter(None, _PART.findall(name))) or [name]
        module, (stem, indices) = tuple(outer), _split(last)
        held.append((module, stem, indices))
        if len(indices) > 1:
            matrices.setdefault(module, set()).add(stem)
    paths = []
    for module, stem, indices in held:
        own = matrices.get(module, set())
        if len(own) == 1 and indices:
            module += ((module[-1] if module else "") + indices[0],)
        elif stem in own:
            module += (stem, stem + indices[0])
        paths.append(module)
    return paths


def add_modules(groups: Groups, paths: Iterable[tuple[str, ...]]) -> list[int]:
    """Groups for these parts of a network: for each path the innermost one."""
    made: dict[tuple[str, ...], int] = {(): 0}
    found = []
    for path in paths:
        for k in range(1, len(path) + 1):
            if path[:k] not in made:
                made[path[:k]] = groups.add(made[path[: k - 1]], "module", path[k - 1])
        found.append(made[path])
    for g in set(made.values()).difference(groups.parents[1:], {0}):
        groups.kinds[g] = "unit"
    return found


def belonging(
    groups: Groups, operands: Sequence[Sequence[int]], owners: Sequence[int | None]
) -> list[int]:
    """The group of each number that is computed.

    `owners` has the group of each leaf that is a parameter, and None for the others; `operands`
    the operands of each result, the leaves being numbered first.
    """
    leaves = len(owners)
    using = [
        [owner for x in inputs if x < leaves and (owner := owners[x]) is not None]
        for inputs in operands
    ]
    feeding = _feeding(leaves, operands, using)
    working = _working(groups, using)
    whole = _whole(groups)
    places: list[int | None] = [None] * len(operands)
    for k, inputs in enumerate(operands):
        if using[k]:
            places[k] = reduce(groups.common, using[k])
            continue
        found = [places[x - leaves] if x >= leaves else None for x in inputs]
        inside = list(dict.fromkeys(g for g in found if g is not None))
        if len(inside) == 1 and (None not in found or not (whole[inside[0]] or not feeding[k])):
            places[k] = inside[0]
        elif inside:
            places[k] = 0
            if feeding[k]:
                around = _outside(groups, whole, reduce(groups.common, inside))
                at_work = _outside(groups, whole, working[k])
                deeper = groups.depths[at_work] > groups.depths[around]
                if deeper and any(groups.holds(at_work, g) for g in inside):
                    around = at_work
                places[k] = around
    return [g or 0 for g in places]


def _feeding(
    leaves: int, operands: Sequence[Sequence[int]], using: Sequence[list[int]]
) -> list[bool]:
    """Whether something is computed with each result and a parameter, however much later."""
    feeding = [False] * len(operands)
    for k in range(len(operands) - 1, -1, -1):
        if using[k] or feeding[k]:
            for x in operands[k]:
                if x >= leaves:
                    feeding[x - leaves] = True
    return feeding


def _working(groups: Groups, using: Sequence[list[int]]) -> list[int]:
    """The smallest part whose parameters are used both before and after each result is made."""
    after: list[int] = []
    latest = 0
    for own in reversed(using):
        after.append(latest)
        latest = own[0] if own else latest
    after.reverse()
    working = []
    latest = 0
    for own, next_one in zip(using, after):
        working.append(groups.common(latest, next_one))
        latest = own[-1] if own else latest
    return working


def _whole(groups: Groups) -> list[bool]:
    """Whether each group is a unit, or a layer: nothing but units side by side."""
    unit = [kind == "unit" for kind in groups.kinds]
    layer = [g > 0 for g in range(len(groups))]
    for g in range(1, len(groups)):
        if not unit[g]:
            layer[groups.parents[g]] = False
    return [a or b for a, b in zip(unit, layer)]


def _outside(groups: Groups, whole: Sequence[bool], g: int) -> int:
    """The smallest group around g that is neither a unit nor a layer."""
    while whole[g]:
        g = groups.parents[g]
    return g
