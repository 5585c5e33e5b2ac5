"""What a picture of a graph shows: boxes with names and numbers, and arrows between them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter

from ... import ops
from ...engine import Value
from ..chain import is_current, passed_on
from ..explanation import line_of
from ..formulas import operation
from ..names import Names
from .look import shortened

# Operations whose operands may change places: their arrows arrive in whatever order is clearest.
UNORDERED = frozenset({"add", "mul", "maximum", "minimum"})


@dataclass(frozen=True, slots=True)
class Box:
    """One box: a Value, or a sum of products with the Values that only it uses."""

    kind: str  # "leaf", "parameter", "result" or "root"
    symbol: str  # of the operation; "" for a leaf
    name: str
    data: str
    grad: str
    finite: tuple[bool, bool]  # whether data and grad are
    sign: int  # of the gradient
    current: bool  # whether data is still what the operations give for their operands
    unordered: bool  # whether the order of the operands makes no difference
    hidden: int  # operands that are not drawn
    note: str  # all of it in words, for those who point at the box


@dataclass(frozen=True, slots=True)
class Arrow:
    """From box `source` to box `target`, whose operand it is; `passed` is the gradient it receives."""

    source: int
    target: int
    passed: float
    note: str


@dataclass(frozen=True, slots=True)
class Parts:
    """A picture before it has places. Arrows lead from earlier boxes to later ones."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


@dataclass(slots=True)
class Group:
    """Values that become one box: `head`, and what was folded into it.

    `inputs` are the operands of all of them that are drawn, each with the gradient it receives.
    """

    head: Value
    inputs: list[tuple[Value, float]] = field(default_factory=list)
    hidden: int = 0
    current: bool = True  # whether all data is what the operations give for their operands
    products: int = 0  # terms of a folded sum that are products
    terms: int = 0  # and that are not
    inside: int = 0  # leaves that are folded into it
    module: str = ""  # the part of a network that those are the parameters of


def nearest(root: Value, depth: int | None, most: int) -> tuple[list[Value], list[int]]:
    """What root depends on in at most `depth` steps, by creation number, and how many each depth adds.

    Stops after the first depth with which there are more than `most`.
    """
    found, counts = {root}, [1]
    latest = [root]
    while latest and len(found) <= most and (depth is None or len(counts) <= depth):
        reached = {operand: None for v in latest for operand in v.operands if operand not in found}
        latest = list(reached)
        found.update(latest)
        if latest:
            counts.append(len(latest))
    return sorted(found, key=attrgetter("number")), counts


def groups_of(values: list[Value]) -> list[Group]:
    """Each Value as a group of its own, with those of its operands that are among them."""
    drawn = set(values)
    groups = []
    for v in values:
        operands = v.operands
        passed = passed_on(v, v.grad)
        inputs = [(x, p) for x, p in zip(operands, passed) if x in drawn]
        groups.append(Group(v, inputs, len(operands) - len(inputs), is_current(v)))
    return groups


def uses(groups: list[Group]) -> Counter[Value]:
    """How often each Value is an input."""
    return Counter(x for group in groups for x, _ in group.inputs)


def parts(root: Value, groups: list[Group], names: Names, number: Callable[[float], str]) -> Parts:
    """The boxes of groups that are in the order of creation, and the arrows between them."""
    places = {group.head: k for k, group in enumerate(groups)}

    def name(v: Value) -> str:
        return names.of(v) or number(v.data)

    def box(group: Group) -> Box:
        v = group.head
        folded = group.products + group.terms > 0
        return Box(
            kind="root" if v is root else "result" if v.op else _leaf_kind(v, names),
            symbol="Σ" if folded else _symbol(v),
            name=shortened(
                one_line(names.of(v) or group.module or (_contents(group) if folded else ""))
            ),
            data=number(v.data),
            grad=number(v.grad),
            finite=(math.isfinite(v.data), math.isfinite(v.grad)),
            sign=(v.grad > 0) - (v.grad < 0),
            current=group.current,
            unordered=folded or v.op in UNORDERED,
            hidden=group.hidden,
            note=clean(_note(group, name)),
        )

    arrows = [
        Arrow(places[x], k, passed, clean(f"{name(x)} receives {passed!r} from {name(group.head)}"))
        for k, group in enumerate(groups)
        for x, passed in group.inputs
    ]
    return Parts(tuple(box(group) for group in groups), tuple(arrows))


def _leaf_kind(v: Value, names: Names) -> str:
    return "parameter" if v in names.parameters else "leaf"


def _symbol(v: Value) -> str:
    if not v.op:
        return ""
    row = ops.BY_NAME[v.op]
    constant = f"{v.const:.4g}"
    return row.symbol.format(c=constant) + (f" {constant}" if row.constant == "index" else "")


def _contents(group: Group) -> str:
    products = f"{group.products} product{'s' if group.products > 1 else ''}"
    if not group.products:
        return f"{group.terms} terms"
    return f"{products} + {group.terms}" if group.terms else products


def _note(group: Group, name: Callable[[Value], str]) -> str:
    v = group.head
    lines = [name(v)]
    if group.products + group.terms:
        lines.append(f"a sum of {_contents(group)}")
    elif v.op:
        lines.append(operation(v, name))
    if group.inside:
        lines.append(f"{group.inside} leaves that only this uses are inside")
    lines += [f"data {v.data!r}", f"grad {v.grad!r}"]
    if not group.current:
        lines.append("a number was written after it was used: this data is out of date")
    if group.hidden:
        lines.append(f"{group.hidden} operands are not drawn")
    return "\n".join([*lines, *filter(None, [line_of(v)])])


def one_line(text: str) -> str:
    """A text without what no line of a picture can hold."""
    return clean(text).replace("\n", " ")


def clean(text: str) -> str:
    """A text without what no line of a picture, or no XML file, can hold."""
    spaced = "".join(" " if c in "\r\t" else c for c in text)
    return "".join(
        c if c == "\n" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in spaced
    )
