"""What a library of arrays has to offer for Loops to become operations of it: see `arrays`.

Its arrays have `shape`, `ndim`, `len`, the operators of arithmetic and comparison, `reshape`,
`transpose`, `astype` and `max`, as NumPy's, and broadcast as these do. Places in them are NumPy's
integers, or integers of the library where they depend on the turn of a repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = Any  # an array of the library
State: TypeAlias = dict[Any, Array]


class Library(Protocol):
    """A module or an object with these operations."""

    @property
    def SMALL(self) -> int:
        """So many products are rather added up one by one, together with what is around them."""

    @property
    def OPS(self) -> Mapping[int, Callable[..., Array]]:
        """Those of the op table: each takes its operands and the op's constant."""

    @property
    def FOLDS(self) -> Mapping[int, Callable[..., Array]]:
        """`fold(x, axis=..., keepdims=True)` for sums, maxima and minima."""

    def constant(self, numbers: NDArray[Any]) -> Array:
        """The numbers as an array of the library."""

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        """As NumPy's."""

    def concatenate(self, xs: Sequence[Array], axis: int) -> Array:
        """As NumPy's."""

    def where(self, condition: Array, a: Any, b: Any) -> Array:
        """As NumPy's."""

    def cut(self, x: Array, start: int, stop: int, step: int = 1) -> Array:
        """x[..., start:stop:step]."""

    def pad(self, x: Array, more: int) -> Array:
        """x with so many zeros more at the end of the last axis."""

    def flip(self, x: Array, axes: Sequence[int]) -> Array:
        """x with those axes reversed."""

    def take(self, x: Array, places: Any, axis: int = 1) -> Array:
        """x[:, places], or of another axis. No place is out of range."""

    def choose(self, x: Array, chosen: Array) -> Array:
        """x[..., chosen] for the last axis, [..., 1]: numpy.take_along_axis, clipped."""

    def put(self, x: Array, places: Any, numbers: Array, axis: int = 1) -> Array:
        """x with x[:, places] = numbers; any one of them where places are equal."""

    def add_at(self, x: Array, slots: Array, numbers: Array, together: bool) -> Array:
        """x with x[b, slots[b]] += numbers[b] for each row b; into row 0 if `together`."""

    def window(self, x: Array, start: Any, count: int) -> Array:
        """x[:, start:start + count]."""

    def write(self, x: Array, numbers: Array, start: Any) -> Array:
        """x with x[:, start:start + n] = numbers."""

    def product(
        self, left: Array, right: Array, summed: tuple[Any, Any], kept: tuple[Any, Any]
    ) -> Array:
        """sum(left * right) over axes of the one and the other, for all others.

        The result has the axes `kept`, which both have, then those of the left, then the right's.
        """

    def repeat(self, count: int, turn: Callable[[Array, State], State], state: State) -> State:
        """The state after turn(0, state), turn(1, ...), ..."""

    def scan(
        self, turn: Callable[..., Array], state: Array, tables: Sequence[NDArray[Any]]
    ) -> Array:
        """The state after state = turn(state, *rows), with a row of each table for each turn."""
