"""`value.explain()`: the chain rule at one node, in numbers."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import modes, node, watch
from ..coerce import shown
from ..engine import Value
from ..nn import Module
from .chain import Derivatives, Use, is_current, outdated, passed_on
from .formulas import operation, slopes
from .names import names_in

MOST = 12  # rows of a table; of more uses those that contribute most are shown
WIDEST = 48  # characters of a formula in a table
NO_GRADIENT = " (no backward() has reached it, or it has no influence)"


class Explanation(str):
    """Text that a Python prompt and a notebook show as it is, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def explain(
    v: Value, root: Any = None, names: Mapping[str, Any] | Module | None = None
) -> Explanation:
    """How v was computed, what its gradient is made of, and what each operand receives of it.

    Without `root` the gradient is what `v.grad` holds. With it the gradient is d(root)/d(v),
    computed here and stored nowhere, and its parts are listed: the sum, over everything that v is
    used in, of d(use)/d(v) * d(root)/d(use).
    """
    watch.read(v, "explain()")
    if root is not None and not isinstance(root, Value):
        raise TypeError(f"root: expected a Value that depends on this one, got {shown(root)}")
    found = names_in(names)

    def name(w: Value) -> str:
        return found.of(w) or number(w.data)

    itself = found.of(v) or "this"
    blocks = [_computed(v, name)]
    if root is None:
        if not is_current(v):
            raise outdated(v)
        gradient, what = v.grad, _holder(itself)
        blocks.append(f"{what} is {number(gradient)}{'' if gradient else NO_GRADIENT}.")
        if not v.operands:
            blocks[-1] += (
                " explain(root), root a result that depends on it, says what it is made of."
            )
    else:
        derivatives = Derivatives(root)
        gradient, what = derivatives.of(v), f"d({found.of(root) or 'root'})/d({itself})"
        blocks.append(_arrived(v, root, derivatives, name, itself, what))
    if v.operands:
        blocks.append(
            f"Each operand receives its local derivative times {what}:\n\n{_passed(v, gradient, name)}"
        )
    return Explanation("\n\n".join(blocks))


def number(x: float) -> str:
    """A number with six significant digits."""
    return f"{x:.6g}"


# --- the parts of the text ------------------------------------------------------------------------


def _computed(v: Value, name: Callable[[Value], str]) -> str:
    """How v was computed, with names and then with numbers."""
    parts = [name(v)] if name(v) != number(v.data) else []
    if v.operands:
        parts += [operation(v, name), operation(v, lambda w: number(w.data))]
    parts = list(dict.fromkeys([*parts, number(v.data)]))
    kind = "" if v.operands else ", a leaf"
    return _shortened(" = ".join(parts), 4 * WIDEST) + kind + _made_at(v)


def _made_at(v: Value) -> str:
    line = line_of(v)
    return f"    {line}" if line else ""


def line_of(v: Value) -> str:
    """The user's line that made the result v, where lines are being recorded, else ""."""
    lines = modes.current.lines
    if lines is None or not v.operands:
        return ""
    return os.path.basename(lines.get(v.number))


def _arrived(
    v: Value,
    root: Value,
    derivatives: Derivatives,
    name: Callable[[Value], str],
    itself: str,
    what: str,
) -> str:
    """What the derivative of root with respect to v, called `what`, is made of."""
    total, result = derivatives.of(v), what.split("/")[0]
    if v is root:
        return f"{what} is 1: backward() starts here."
    if v not in derivatives:
        return f"{what} is 0: the root does not depend on it."
    uses = derivatives.uses(v)
    listed = _largest(uses)
    rows = [
        (
            _shortened(operation(use.user, name)),
            number(use.user.data),
            _equation(slopes(use.user, name)[use.slot], use.partial),
            number(use.arrived),
            number(use.passed),
            line_of(use.user),
        )
        for use in listed
    ]
    if len(listed) < len(uses):
        rest = sum(use.passed for use in uses if use not in listed)
        rows.append((f"{len(uses) - len(listed):,} other uses", "", "", "", number(rest), ""))
    rows.append(("sum", "", "", "", number(total), ""))
    heads = (
        "used in", "data", f"d(use)/d({itself})", f"{result}/d(use)", "contributes", "line",
    )  # fmt: skip
    text = f"{what} is {number(total)}, a sum over the uses of {itself}:\n\n{_table(heads, rows, '<><>><')}"
    return f"{text}\n\n{_stored(v, total, _holder(itself))}"


def _stored(v: Value, total: float, holder: str) -> str:
    """How the derivative computed here compares with what the Value holds."""
    if v.grad == total or (v.grad != v.grad and total != total):
        return f"{holder} holds this number."
    if v.grad == 0.0:
        return f"{holder} is 0: backward() has not been called since it was last set to 0."
    return (
        f"{holder} is {number(v.grad)}: it holds what calls of backward() have added since it was "
        "last set to 0."
    )


def _holder(itself: str) -> str:
    return "grad" if itself == "this" else f"{itself}.grad"


def _passed(v: Value, gradient: float, name: Callable[[Value], str]) -> str:
    """What each operand of v receives."""

    def written(operand: Value) -> str:
        named = name(operand)
        return operation(operand, name) if named == number(operand.data) else named

    partials = v._local_grads
    each = list(zip(v.operands, slopes(v, name), partials, passed_on(v, gradient)))
    if len(each) > MOST:  # a `take`, which passes everything on to one of them
        order = sorted(range(len(each)), key=lambda k: (partials[k] == 0.0, k))[:MOST]
        each = [each[k] for k in sorted(order)]
    rows = [
        (
            _shortened(written(operand)),
            number(operand.data),
            _equation(slope, partial),
            number(received),
        )
        for operand, slope, partial, received in each
    ]
    if len(partials) > len(rows):
        rows.append((f"{len(partials) - len(rows):,} other operands", "", "", ""))
    return _table(("operand", "data", "local derivative", "receives"), rows, "<><>")


def _largest(uses: Sequence[Use]) -> list[Use]:
    """The uses that contribute most, in their order."""
    if len(uses) <= MOST:
        return list(uses)
    size = [abs(use.passed) if use.passed == use.passed else math.inf for use in uses]
    order = sorted(range(len(uses)), key=lambda k: (-size[k], k))[:MOST]
    return [uses[k] for k in sorted(order)]


def _equation(formula: str, x: float) -> str:
    """`2 * e = 6`; only the number where the formula is a number too."""
    return number(x) if formula == number(x) else f"{_shortened(formula)} = {number(x)}"


def _shortened(text: str, most: int = WIDEST) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> str:
    """Columns two spaces apart, to the left or right side; columns without entries are left out."""
    kept = [k for k in range(len(heads)) if any(row[k] for row in rows)]
    lines = [[row[k] for k in kept] for row in [heads, *rows]]
    widths = [max(map(len, column)) for column in zip(*lines)]
    formats = [f"{{:{sides[k]}{width}}}" for k, width in zip(kept, widths)]
    return "\n".join(f"  {'  '.join(formats).format(*line)}".rstrip() for line in lines)


node.explaining = sys.modules[__name__]
