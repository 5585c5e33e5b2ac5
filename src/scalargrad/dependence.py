"""Which Values depend on something, asked again and again while a function makes more of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Dependence:
    """Whether a Value depends on something, known of all that it was asked about before.

    `of_itself(v)` answers for a Value alone: True, False, or None where it depends if one of its
    operands does.
    """

    def __init__(self, of_itself: Callable[[Any], bool | None]) -> None:
        self._of_itself = of_itself
        self._known: dict[int, bool] = {}  # by creation number

    def __call__(self, v: Any) -> bool:
        """Whether v does."""
        known, pending = self._known, [v]
        undecided: dict[int, Any] = {}
        while pending:
            u = pending.pop()
            if u.number in known or u.number in undecided:
                continue
            answer = self._of_itself(u)
            if answer is None:
                undecided[u.number] = u
                pending += u.operands
            else:
                known[u.number] = answer
        for number in sorted(undecided):  # operands are older than results
            known[number] = any(known[w.number] for w in undecided[number].operands)
        return known[v.number]
