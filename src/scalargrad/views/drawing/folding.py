"""Folding a graph: a sum of products, and all that only it uses, becomes one box."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

from ...engine import Value
from ..names import Names
from .parts import Group, uses


def sums(root: Value, groups: list[Group], names: Names) -> list[Group]:
    """The groups, with each sum of sums and products made one, as far as nothing else uses its parts.

    What has a name stays, for someone wants to see it.
    """
    counts = uses(groups)
    folded: dict[Value, Group] = {}

    def is_private(v: Value) -> bool:
        return counts[v] == 1 and v is not root and not names.of(v)

    for group in groups:
        v = group.head
        if v.op == "add":
            group = _folded_sum(group, {x for x in v.operands if is_private(x)}, folded)
        folded[v] = group
    return list(folded.values())


def _folded_sum(group: Group, private: set[Value], folded: dict[Value, Group]) -> Group:
    """A sum of two numbers, with those private to it folded into it and taken out of `folded`."""
    out = Group(group.head, hidden=group.hidden, current=group.current)
    for x, passed in group.inputs:
        inner = folded[x] if x in private else None
        if inner is not None and x.op == "mul":
            out.products += 1
        elif inner is not None and x.op == "add":
            out.products += inner.products
            out.terms += inner.terms or (0 if inner.products else 2)
        else:
            out.inputs.append((x, passed))
            out.terms += 1
            continue
        out.inputs += inner.inputs
        out.hidden += inner.hidden
        out.current &= inner.current
        del folded[x]
    if out.terms == len(group.inputs) and out.inputs == group.inputs:
        return group
    out.terms += group.hidden
    return out


def leaves(groups: list[Group], names: Names) -> list[Group]:
    """The groups, with the leaves without a label that only one sum uses inside it: its weights, say.

    If the network gave them names, the sum is called what these have in common: their neuron.
    """
    counts = uses(groups)
    inside: set[Value] = set()
    out = []
    for group in groups:
        own = {}
        if group.products + group.terms:
            candidates = (x for x, _ in group.inputs if not x.op and not x.label)
            own = {x: names.of(x) for x in candidates if counts[x] == 1}
        if own:
            kept = [(x, passed) for x, passed in group.inputs if x not in own]
            owner = _owner([name for name in own.values() if name])
            group = replace(group, inputs=kept, inside=len(own), module=owner)
            inside.update(own)
        out.append(group)
    return [group for group in out if group.head not in inside]


def _owner(names: list[str]) -> str:
    """`layers[0].neurons[1]` of `layers[0].neurons[1].w[0]` and `layers[0].neurons[1].b`."""
    paths = [name.split(".")[:-1] for name in names]
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*paths))
    return ".".join(parts[0] for parts in shared)
