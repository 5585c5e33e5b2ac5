"""What functions of numbers cost in loops over many examples: `python -m benchmarks.functions`.

Exact mode has to give the bits of the C library's functions, fast mode need not; NumPy has
functions of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import scalargrad as sg
from benchmarks import harness
from scalargrad.compiler.loops import Space

COUNT = 4096
Floats = NDArray[np.float64]

# Each in single numbers, and with NumPy, if that has it.
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Floats], Any] | None]] = {
    "exp": (lambda x: x.exp(), np.exp),
    "log": (lambda x: x.log(), np.log),
    "tanh": (lambda x: x.tanh(), np.tanh),
    "sin": (lambda x: x.sin(), np.sin),
    "sin and cos": (lambda x: x.sin() * x.cos(), lambda x: np.sin(x) * np.cos(x)),
    "sigmoid": (lambda x: x.sigmoid(), lambda x: 1.0 / (1.0 + np.exp(-x))),
    "softplus": (lambda x: x.softplus(), lambda x: np.maximum(x, 0.0) + np.log1p(np.exp(-abs(x)))),
    "gelu": (lambda x: x.gelu(), None),
    "x ** 0.3": (lambda x: x**0.3, lambda x: x**0.3),
}


def measure(name: str, rounds: int = 25, block: float = 0.005) -> dict[str, float]:
    """Nanoseconds for each number of a long array: one example each, and all added up."""
    scalar, whole = FUNCTIONS[name]
    x = np.random.default_rng(0).uniform(0.05, 8.0, (COUNT, 1))
    contestants: dict[str, harness.Work] = {}
    for mode in ("exact", "fast"):
        f = sg.compile(lambda x: scalar(x[0]), batch="sum", mode=mode)
        f(x)
        frame = f.native().frame
        harness.finished()
        total = f(x)  # whose numbers the frame has from now on
        if whole is not None:
            np.testing.assert_allclose(total, whole(x).sum(), rtol=1e-9)
        np.testing.assert_array_equal(frame.arrays[Space.EXAMPLE], x)
        contestants[mode] = frame.run
    if whole is not None:
        contestants["NumPy"] = lambda: whole(x).sum()
    taken = harness.medians(contestants, rounds, block)
    return {k: seconds / COUNT * 1e9 for k, seconds in taken.items()}


def report(rounds: int = 25, block: float = 0.005) -> None:
    """Print the table."""
    rows = []
    for name in FUNCTIONS:
        ns = measure(name, rounds, block)
        cells = (f"{ns[k]:.1f}" if k in ns else "" for k in ("exact", "fast", "NumPy"))
        rows.append([name, *cells])
    print(harness.table(["ns a number", "exact", "fast", "NumPy"], rows))


def main() -> None:
    """Print the table for this machine."""
    harness.pin()
    sg.set_num_threads(1)
    print(f"{harness.machine()}; one thread\n")
    report()


if __name__ == "__main__":
    main()
