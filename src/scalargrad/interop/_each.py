"""A function of single numbers, of every example of an array at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiler import compile
from ..compiler.function import CompiledFunction
from ..compiler.variant import Variant

Floats = NDArray[np.float64]

ROWS = 4096  # examples at a time, so that what is in between fits into the cache


class EachExample:
    """What a function gives for every example along the leading axis of x: stacked in one array.

    Further arguments are numbers, the same for all examples. It is compiled when first called, and
    again in a copy or after a pickle.
    """

    def __init__(
        self, function: Callable[..., Any], mode: str = "exact", dtype: str = "float64"
    ) -> None:
        self.function, self.mode, self.dtype = function, mode, dtype
        self._compiled: CompiledFunction | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return EachExample, (self.function, self.mode, self.dtype)

    def __call__(self, x: Floats, *others: float) -> Floats:
        """The results: shape (n,) for one number each, else (n, ...)."""
        if self._compiled is None:
            options: dict[str, Any] = {"mode": self.mode, "dtype": self.dtype}
            self._compiled = compile(self._example, batch="sum", has_aux=True, **options)
        numbers = [float(y) for y in others]
        found = []
        for start in range(0, len(x), ROWS):
            work = self._compiled.work(Variant.forward, x[start : start + ROWS], *numbers)
            found.append(np.array(self._compiled.aux(*work), dtype=np.float64))
        return np.concatenate(found)

    def _example(self, *args: Any) -> tuple[float, Any]:
        return 0.0, self.function(*args)  # nobody asks for a loss
