"""Inputs and targets: checked once, then handed out one by one as Python numbers."""

from __future__ import annotations

import math
import numbers
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..coerce import real
from ..engine import Value
from ..errors import ShapeError
from .arguments import shown


class Example(NamedTuple):
    """One input and its target, each a plain number or a list of them, and its row in the data."""

    row: int
    x: Any
    y: Any


class Examples:
    """n inputs `x` and targets `y`: arrays, or lists whose entries may differ in length.

    Entry i of one belongs to entry i of the other. Without `y` every target is None.

    Raises `ShapeError` for no examples or unequal lengths, `TypeError` for what is not a number
    and `ValueError` for one that is inf or nan; the message says where.
    """

    def __init__(self, x: Any, y: Any = None) -> None:
        self.x = _rows(x, "x")
        self.y = None if y is None else _rows(y, "y")
        if self.y is not None and len(self.x) != len(self.y):
            raise ShapeError(
                f"x has {len(self.x)} examples and y has {len(self.y)}: "
                "expected one target for each input"
            )

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> Example:
        return Example(row, _plain(self.x[row]), self.target(row))

    def target(self, row: int) -> Any:
        """The target of one example."""
        return None if self.y is None else _plain(self.y[row])

    def labels(self) -> Iterator[tuple[int, int]]:
        """If every target is one integer: each different one, and the row where it first occurs."""
        if isinstance(self.y, np.ndarray) and self.y.ndim == 1 and self.y.dtype.kind in "iu":
            for label, row in zip(*np.unique(self.y, return_index=True)):
                yield int(label), int(row)

    def checksum(self) -> int:
        """The CRC-32 of the numbers: other data, all but surely, has another."""
        return zlib.crc32(_bytes(self.y), zlib.crc32(_bytes(self.x)))


class Batch:
    """The examples in some rows, in order. Before each is handed out, `check` is called.

    After the `last` one of an epoch somebody may look at the gradients.
    """

    def __init__(
        self,
        examples: Examples,
        rows: Sequence[int] | NDArray[np.intp],
        check: Callable[[], None] = lambda: None,
        last: bool = True,
    ) -> None:
        self.examples, self.check, self.last = examples, check, last
        self.rows: NDArray[np.intp] = np.asarray(rows, np.intp)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Example:
        self.check()
        return self.examples[int(self.rows[place])]

    def __iter__(self) -> Iterator[Example]:
        return (self[place] for place in range(len(self)))

    def targets(self) -> NDArray[Any] | list[Any]:
        """The targets alone, without a `check`: an array where all of them are one."""
        targets = self.examples.y
        if isinstance(targets, np.ndarray):
            return targets[self.rows]
        return [self.examples.target(row) for row in self.rows.tolist()]


def plain_numbers(x: Any) -> Any:
    """A prediction as floats: what x holds, every Value replaced by its number."""
    if isinstance(x, list | tuple):
        return [plain_numbers(item) for item in x]
    if isinstance(x, np.ndarray):
        return plain_numbers(x.tolist())
    return float(x)


def _plain(x: Any) -> Any:
    return x.tolist() if isinstance(x, np.ndarray | np.generic) else x


def _bytes(rows: Any) -> bytes:
    if isinstance(rows, np.ndarray):
        return f"{rows.dtype.str}{rows.shape}".encode() + rows.tobytes()
    return repr(None if rows is None else plain_numbers(rows)).encode()


# --- checking -------------------------------------------------------------------------------------


def _rows(rows: Any, name: str) -> NDArray[Any] | list[Any]:
    """rows as an array of numbers, or as a list where they do not fill one."""
    if isinstance(rows, str | bytes | Mapping) or not hasattr(rows, "__iter__"):
        raise TypeError(f"{name}: expected an array or list of examples, got {shown(rows)}")
    rows = rows if hasattr(rows, "__len__") else list(rows)
    if not len(rows):
        raise ShapeError(f"{name} is empty: expected at least one example")
    if np.ma.is_masked(rows):
        raise TypeError(
            f"{name}: expected an array of numbers, got a masked one: leave out the examples with "
            "gaps, or use .filled(number)"
        )
    array = _array(rows)
    if array is None:
        _check_numbers(rows, name)
        return list(rows)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = "".join(f"[{k}]" for k in bad[0])
        raise _not_finite(name + place, array[tuple(bad[0])])
    return array


def _array(rows: Any) -> NDArray[Any] | None:
    """rows as an array of real numbers, None where they are ragged or not plain numbers."""
    try:
        array = np.asarray(rows)
    except ValueError:
        return None
    if array.dtype.kind == "b":
        return array.astype(np.float64)  # a program has no bools that differ between examples
    return array if array.dtype.kind in "iuf" else None


def _check_numbers(x: Any, name: str) -> None:
    if isinstance(x, list | tuple) or (isinstance(x, np.ndarray) and x.ndim > 0):
        for k, item in enumerate(x):
            _check_numbers(item, f"{name}[{k}]")
        return
    if not isinstance(x, Value | numbers.Real | np.ndarray):
        remedy = ""
        if isinstance(x, str):
            remedy = (
                ": read numbers with .astype(float); "
                "numpy.unique(labels, return_inverse=True)[1] numbers classes"
            )
        raise TypeError(f"{name}: expected a number or a list of numbers, got {shown(x)}{remedy}")
    number = float(x) if isinstance(x, Value) else real(x, name)
    if not math.isfinite(number):
        raise _not_finite(name, number)


def _not_finite(name: str, number: Any) -> ValueError:
    return ValueError(
        f"{name} is {number}: expected finite numbers; leave that example out, or fill the gap"
    )
