"""`Index`: an integer argument of a traced program, which selects or counts.

`embedding[token]` on a Python list would bake the first call's token into the program. An Index
keeps the choice open: `scalargrad.take(values, index)` makes a `take` node whose candidate is
chosen anew on every call, so one trace serves every token. In arithmetic an Index is the float64
it stands for.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ..engine import Value, choose
from ..functional import as_value
from ..lines import user_line
from .condition import StandIn

if TYPE_CHECKING:
    from .trace import Tracer


class Index(StandIn):
    """An int argument while its function is traced; users meet it inside `compile` only.

    `sg.take(values, index)` selects, and checks on each call that the index is in range.
    Arithmetic and `<`, `<=`, `>`, `>=` treat it as a number, `==` and `!=` compare that number.
    Whatever needs a fixed integer (`range(n)`, `a_list[n]`, `int(n)`, a dict key) raises
    `TraceError`: the program would only be right for the integer of its first call.
    """

    __slots__ = ("_leaf", "_tracer", "name", "number", "position")

    is_traced_index = True

    def __init__(self, tracer: Tracer, leaf: Value, number: int, position: int, name: str) -> None:
        self._tracer, self._leaf = tracer, leaf
        self.number, self.position, self.name = number, position, name

    def as_value(self) -> Value:
        """The integer as a float64 node of the graph."""
        return self._leaf

    def take(self, values: Sequence[Any]) -> Value:
        """`values[index]` as a node of the graph; `IndexError` if the index is out of range."""
        if not 0 <= self.number < len(values):
            raise out_of_range(self.name, self.number, len(values))
        return self._choice(tuple([as_value(x, "values") for x in values]))

    def take_row(self, rows: Sequence[Sequence[Any]]) -> list[Value]:
        """`rows[index]`, a node for each column; rows selected from again share what they keep."""
        if not 0 <= self.number < len(rows):
            raise out_of_range(self.name, self.number, len(rows))
        return [self._choice(column) for column in self._tracer.columns(rows)]

    def _choice(self, candidates: tuple[Value, ...]) -> Value:
        node = choose(candidates, self.number)
        self._tracer.selected(node, self, len(candidates))
        return node

    def _fixed(self, what: str) -> NoReturn:
        raise self._tracer.refused(
            f"{what} of the integer argument {self.name} at {user_line()}: the compiled program "
            f"serves every {self.name}, so it has no fixed value here. To select, use "
            "scalargrad.take(values, index). For a count that is fixed when the function is "
            "compiled, use a closure, a default argument or functools.partial"
        )

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, list | tuple | str):
            self._fixed("a repetition")
        return super().__mul__(other)

    def __rmul__(self, other: Any) -> Any:
        if isinstance(other, list | tuple | str):
            self._fixed("a repetition")
        return super().__rmul__(other)

    def __index__(self) -> int:
        self._fixed("operator.index()")

    def __int__(self) -> int:
        self._fixed("int()")

    def __hash__(self) -> int:
        self._fixed("hash()")

    def __bool__(self) -> bool:
        return bool(self._leaf)

    def __eq__(self, other: object) -> Any:
        return self._equal(other, operator.eq)

    def __ne__(self, other: object) -> Any:
        return self._equal(other, operator.ne)

    def _equal(self, other: object, relation: Callable[[Any, Any], Any]) -> Any:
        if self._tracer.finished:
            return relation(self.number, other.number if isinstance(other, Index) else other)
        return relation(self._leaf, other.as_value() if isinstance(other, StandIn) else other)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # NumPy calls x.exp() for np.exp(x) on arrays of objects.
        if name.startswith("_"):
            raise AttributeError(f"'Index' object has no attribute {name!r}")
        found: Callable[..., Any] = getattr(self._leaf, name)
        return found

    def __repr__(self) -> str:
        return f"Index({self.name})"


# What Python's integers can do and numbers of a program cannot.
WHOLE_NUMBERS = {
    **{"mod": "%", "floordiv": "//", "divmod": "divmod()"},
    **{"and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>"},
}


def _refusing(sign: str) -> Callable[[Index, object], NoReturn]:
    def refuse(self: Index, other: object) -> NoReturn:
        raise self._tracer.refused(
            f"{sign} of the integer argument {self.name} at {user_line()}: the compiled program "
            f"serves every {self.name}, and its numbers have no {sign}. Compute it outside, and "
            "pass the result as an argument of its own"
        )

    return refuse


for name, sign in WHOLE_NUMBERS.items():
    setattr(Index, f"__{name}__", _refusing(sign))
    setattr(Index, f"__r{name}__", _refusing(sign))


def out_of_range(name: str, index: int, length: int, example: str = "") -> IndexError:
    """The error for an integer argument that selects outside its candidates."""
    return IndexError(
        f"{name}: index {index} is out of range for {length} values{example}: "
        f"expected 0 to {length - 1}"
    )
