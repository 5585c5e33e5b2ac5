"""An operation and its derivatives as formulas, written with the names of the numbers in them."""

from __future__ import annotations

import re
from collections.abc import Callable

from .. import ops
from ..engine import Value

MOST_OPERANDS = 4  # of `take` that a formula spells out

_NAME = re.compile(r"[^\W\d][\w.\[\]']*|[\d.]+(e[+-]?\d+)?|inf|nan")
_DOUBLED = re.compile(r"\((\([^()]*\))\)")
_WHOLE = re.compile(r"\(([^()]*)\)")


def operation(v: Value, name: Callable[[Value], str]) -> str:
    """What v was computed by, such as `a * b`; its own name for a leaf."""
    if v.op == "":
        return name(v)
    return _filled(ops.BY_NAME[v.op].text, v, name)


def slopes(v: Value, name: Callable[[Value], str]) -> tuple[str, ...]:
    """d(v)/d(operand) for each operand, in order, as a formula: of `a * b` it is `b` and `a`."""
    if v.op == "":
        return ()
    row = ops.BY_NAME[v.op]
    texts = row.slopes * len(v.operands) if row.arity is None else row.slopes
    return tuple(_filled(text, v, name, k) for k, text in enumerate(texts))


def _filled(text: str, v: Value, name: Callable[[Value], str], place: int = 0) -> str:
    operands = [_enclosed(name(operand)) for operand in v.operands]
    listed = operands
    if len(operands) > MOST_OPERANDS:
        listed = [*operands[: MOST_OPERANDS - 1], "...", operands[-1]]
    filled = text.format(
        *operands,
        y=_enclosed(name(v)) if "{y}" in text else "",
        c=ops.constant_text(v.const),
        k=place,
        operands=", ".join(listed),
    )
    filled = _DOUBLED.sub(r"\1", filled)
    whole = _WHOLE.fullmatch(filled)
    return whole[1] if whole else filled


def _enclosed(name: str) -> str:
    """A name in parentheses unless it can stand in a formula as it is."""
    return name if _NAME.fullmatch(name) else f"({name})"
