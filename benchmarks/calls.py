"""What a call from Python costs beyond its machine code: `python -m benchmarks.calls`.

Small programs, a few hundred numbers in and out, called in each of the ways there are: `f(x)`,
`f.value_and_grad(x)`, `f.backward(x)`. "Code" is the machine code of that very call, started from
Python without arguments.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

import scalargrad as sg
from benchmarks import harness
from benchmarks.bars import Bar
from benchmarks.ours import settle

BAR = 2e-6  # seconds beyond the code
NUMBERS = 200
WAYS = ("f(x)", "value_and_grad", "backward")


def programs() -> dict[str, tuple[Callable[..., Any], Any, dict[str, Any]]]:
    """Functions with an argument each and how to compile them, by what goes in and comes out."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=NUMBERS)
    weights = [sg.Value(w) for w in rng.normal(size=NUMBERS)]
    model = sg.nn.MLP(2, [16, 16, 1], rng=random.Random(0))

    def weighted(x: Any) -> Any:
        return sg.dot(weights, x)

    def squares(x: Any) -> Any:
        return sum(xk * xk for xk in x)

    def scaled(x: Any) -> Any:
        return [xk * 2.0 + 1.0 for xk in x]

    return {
        "one number to one": (lambda x: x * x + 1.0, 0.5, {}),
        f"an array of {NUMBERS} to one number": (squares, x, {}),
        f"a list of {NUMBERS} to one number": (squares, x.tolist(), {}),
        "a batch of 20 by 10 to its mean": (squares, x.reshape(20, -1), {"batch": "mean"}),
        f"an array of {NUMBERS} to a list of {NUMBERS}": (scaled, x, {}),
        f"an array of {NUMBERS}, {NUMBERS} parameters, to one number": (weighted, x, {}),
        "MLP 2-16-16-1 of 337 parameters, one point": (model, x[:2].copy(), {}),
        "the same in float32": (model, x[:2].copy(), {"dtype": "float32"}),
    }


def measure(rounds: int = 15, block: float = 0.01) -> dict[tuple[str, str], tuple[float, float]]:
    """Seconds of the call and of its code, by program and way; ways that make no sense left out."""
    works: dict[tuple[str, str, str], harness.Work] = {}
    kept = []  # a function keeps the programs of its latest calls only
    for name, (function, x, options) in programs().items():
        for way in WAYS:
            f = sg.compile(function, **options)
            call: Any = f if way == "f(x)" else getattr(f, way)
            outputs = f(x)
            if way != "f(x)" and isinstance(outputs, list):
                continue
            if way == "backward" and not f.parameters:
                continue

            def work(call: Any = call, x: Any = x) -> object:
                return call(x)

            work()
            code = f.native().frame.run
            settle(work, 0.02)
            works[name, way, "call"], works[name, way, "code"] = work, code
            kept.append(f)
    taken = harness.medians(works, rounds, block)
    return {
        (name, way): (taken[name, way, "call"], taken[name, way, "code"])
        for name, way, part in works
        if part == "call"
    }


def report(rounds: int = 15, block: float = 0.01) -> list[Bar]:
    """Print the table; the bar."""
    times = measure(rounds, block)
    rows = [
        (name, way, f"{1e6 * call:.2f}", f"{1e6 * code:.2f}", f"{1e6 * (call - code):.2f}")
        for (name, way), (call, code) in times.items()
    ]
    headings = ("program", "called", "call µs", "code µs", "beyond the code µs")
    print(harness.table(headings, rows), "\n")
    bars = []
    for way in WAYS:
        beyond = [call - code for (_, each), (call, code) in times.items() if each == way]
        reached = f"{1e6 * min(beyond):.1f} to {1e6 * max(beyond):.1f} µs"
        work = f"{way}, a few hundred numbers"
        bars.append(Bar(work, "≤ 2 µs beyond the code", reached, max(beyond) <= BAR))
    return bars


def main() -> None:
    harness.pin()
    print(f"{harness.machine()}; one thread\n")
    report()


if __name__ == "__main__":
    main()
