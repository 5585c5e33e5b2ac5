"""What the engine says when a graph went wrong: one node in words, and the errors built on it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from . import modes, ops
from .errors import AnomalyError, StaleGraphError
from .lines import user_line

if TYPE_CHECKING:
    from .engine import Value
    from .node import Node


def shown_node(v: Node) -> str:
    """The operation that made v, with its operands' labels and numbers: `log(x (= 0.0))`."""
    with modes.modes(tracer=None):  # the words of an error may read what a trace may not
        if v.op == "":
            return f"{v.label or 'Value'} = {v.data!r}"
        shown = [f"{x.label} (= {x.data!r})" if x.label else repr(x.data) for x in v.operands]
        row = ops.BY_NAME[v.op]
        constant = ops.constant_text(v.const)
        return row.text.format(*shown, c=constant, operands=", ".join(shown))


def check_value(v: Value, data: float) -> None:
    """Raise `AnomalyError` if the result v, just made, is not finite."""
    if not math.isfinite(data):
        raise AnomalyError(f"{shown_node(v)} gave {data!r} at {user_line()}")


def gradient_error(v: Value, operand: Value, partial: float) -> AnomalyError:
    """The gradient of operand stopped being finite in the step of `backward` through v."""
    lines, line = modes.current.lines, "a line outside detect_anomaly()"
    if lines is not None:
        line = lines.get(v.number, line)
    return AnomalyError(
        f"backward through {shown_node(v)} = {v.data!r}, made at {line}: its gradient {v.grad!r} "
        f"times the partial {partial!r} gave a gradient of {operand.grad!r}"
    )


def stale_error(v: Node, overwritten: bool, asked: str = "backward") -> StaleGraphError:
    """The data of v, or else of an operand of it, was written after v was computed.

    `asked` is the method that the user called.
    """
    changed: Node = v
    if not overwritten:
        computed = max(v.number, v.version)
        changed = [operand for operand in v.operands if operand.version > computed][-1]
    name = f"Value {changed.label!r}" if changed.label else "a Value"
    if overwritten:
        what = f"{name}, the result {shown_node(v)}, was overwritten with {v.data!r}"
    else:
        what = f"{name}, now {changed.data!r}, an operand of {shown_node(v)}, was written"
    return StaleGraphError(
        f"{asked}: {what} after it was used, so this graph no longer describes the numbers in "
        f"it: compute the result again before calling {asked}() "
        "(or use scalargrad.Graph(output).forward(), which does that)"
    )
