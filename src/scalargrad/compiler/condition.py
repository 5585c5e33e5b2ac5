"""`Condition`: a comparison in a traced program, and what stands in for a number there.

While a function is traced, `x > 0` cannot be a bool: the program must answer it anew on every
call. It is a Condition. `where(x > 0, a, b)` keeps it as a node of the graph, 1.0 or 0.0; asking
for its truth (`if x > 0`, `max(x, y)`, `sorted`) answers for this call, and has the tracer check
on every later one that the answer is still the same.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..engine import Value

if TYPE_CHECKING:
    from .trace import Tracer

# relation -> the op that computes it, and whether its operands are exchanged: a > b is b < a
RELATIONS: dict[Callable[[Any, Any], Any], tuple[str, bool, str]] = {
    operator.lt: ("less", False, "<"),
    operator.le: ("less_equal", False, "<="),
    operator.gt: ("less", True, ">"),
    operator.ge: ("less_equal", True, ">="),
}


class StandIn:
    """Something that is a number of the traced program, though not a Value: arithmetic makes it one."""

    __slots__ = ()

    def as_value(self) -> Value:
        """The number as a node of the graph."""
        raise NotImplementedError

    def __add__(self, other: Any) -> Any:
        return self.as_value() + other

    def __radd__(self, other: Any) -> Any:
        return other + self.as_value()

    def __sub__(self, other: Any) -> Any:
        return self.as_value() - other

    def __rsub__(self, other: Any) -> Any:
        return other - self.as_value()

    def __mul__(self, other: Any) -> Any:
        return self.as_value() * other

    def __rmul__(self, other: Any) -> Any:
        return other * self.as_value()

    def __truediv__(self, other: Any) -> Any:
        return self.as_value() / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.as_value()

    def __pow__(self, other: Any) -> Any:
        return self.as_value() ** other

    def __rpow__(self, other: Any) -> Any:
        return other ** self.as_value()

    def __neg__(self) -> Any:
        return -self.as_value()

    def __pos__(self) -> Any:
        return self.as_value()

    def __abs__(self) -> Any:
        return abs(self.as_value())

    def __lt__(self, other: Any) -> Any:
        return self.as_value() < other

    def __le__(self, other: Any) -> Any:
        return self.as_value() <= other

    def __gt__(self, other: Any) -> Any:
        return self.as_value() > other

    def __ge__(self, other: Any) -> Any:
        return self.as_value() >= other

    def __float__(self) -> float:
        return float(self.as_value())

    def __round__(self, ndigits: int | None = None) -> float:
        return self.as_value().__round__(ndigits)


class Condition(StandIn):
    """The outcome of `a < b`, `<=`, `>` or `>=` in a traced program.

    `&`, `|` and `^` combine conditions as they do bools. In arithmetic it is 1.0 where it holds
    and 0.0 where it does not, without derivative. `text` is how it was written, for messages.
    """

    __slots__ = ("_node", "_tracer", "text")

    def __init__(self, tracer: Tracer, node: Callable[[], Value], text: str) -> None:
        self._tracer = tracer
        self._node: Callable[[], Value] | Value = node
        self.text = text

    def as_value(self) -> Value:
        """The outcome as a node of the graph: 1.0 or 0.0."""
        if not isinstance(self._node, Value):
            self._node = self._node()
        return self._node

    def __bool__(self) -> bool:
        return self._tracer.guard(self.as_value(), self.text)

    def __and__(self, other: Any) -> Any:
        return self._combined(other, "and", lambda a, b: Value.apply("where", a, b, 0.0))

    def __or__(self, other: Any) -> Any:
        return self._combined(other, "or", lambda a, b: Value.apply("where", a, 1.0, b))

    def __xor__(self, other: Any) -> Any:
        return self._combined(other, "xor", lambda a, b: Value.apply("where", a, 1.0 - b, b))

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def _combined(
        self, other: Any, word: str, node: Callable[[Value, Value | float], Value]
    ) -> Any:
        if isinstance(other, Condition):
            text, outcome = other.text, other
        elif isinstance(other, bool):
            text, outcome = str(other), None
        else:
            return NotImplemented

        def combined() -> Value:
            return node(self.as_value(), float(other) if outcome is None else outcome.as_value())

        return Condition(self._tracer, combined, f"({self.text}) {word} ({text})")

    def __eq__(self, other: object) -> Any:
        return bool(self) == (bool(other) if isinstance(other, Condition) else other)

    def __hash__(self) -> int:
        return hash(bool(self))

    def __index__(self) -> int:
        return int(bool(self))

    def __int__(self) -> int:
        return int(bool(self))

    def __float__(self) -> float:
        return float(bool(self))

    def __repr__(self) -> str:
        return f"Condition({self.text})"
