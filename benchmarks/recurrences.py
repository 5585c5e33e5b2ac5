"""What programs of T like steps cost: `python -m benchmarks.recurrences`.

The steps share their code, so the loop nests found, and the seconds to compile them, should not
depend on T; to find them, and to run them, should take time in proportion to it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import scalargrad as sg
from benchmarks import harness
from scalargrad import Value
from scalargrad.functional import dot

STEPS = (50, 200, 1000)
WIDTH, INPUTS = 16, 4
DT = 0.02


def rnn(steps: int) -> tuple[Callable[[Any], Value], list[list[float]]]:
    """h <- tanh(W h + U x + b), the loss a sum over the last h; and x for each step."""
    rng = random.Random(0)

    def weights(count: int) -> list[Value]:
        return [Value(rng.gauss(0.0, 0.3)) for _ in range(count)]

    w, u = [weights(WIDTH) for _ in range(WIDTH)], [weights(INPUTS) for _ in range(WIDTH)]
    b = weights(WIDTH)

    def loss(x: Any) -> Value:
        h: list[Any] = [0.0] * WIDTH
        for now in x:
            h = [(dot(w[i], h) + dot(u[i], now) + b[i]).tanh() for i in range(WIDTH)]
        return sg.total([y * y for y in h])

    return loss, [[rng.gauss(0.0, 1.0) for _ in range(INPUTS)] for _ in range(steps)]


def pendulum(steps: int) -> tuple[Callable[[Any], Value], list[float]]:
    """A damped pendulum by RK4, from the first measurement on.

    The loss is its squared distance from a measurement at each step.
    """
    rng = random.Random(0)
    length, damping = Value(0.9), Value(0.3)

    def slope(angle: Any, speed: Any) -> tuple[Any, Any]:
        return speed, -(9.81 / length) * angle.sin() - damping * speed

    def loss(measured: Any) -> Value:
        angle, speed, found = measured[0], Value(0.0), Value(0.0)
        for target in measured:
            a1, s1 = slope(angle, speed)
            a2, s2 = slope(angle + a1 * (DT / 2), speed + s1 * (DT / 2))
            a3, s3 = slope(angle + a2 * (DT / 2), speed + s2 * (DT / 2))
            a4, s4 = slope(angle + a3 * DT, speed + s3 * DT)
            angle = angle + (a1 + 2.0 * a2 + 2.0 * a3 + a4) * (DT / 6)
            speed = speed + (s1 + 2.0 * s2 + 2.0 * s3 + s4) * (DT / 6)
            found = found + (angle - target) ** 2
        return found

    return loss, [rng.gauss(0.0, 1.0) for _ in range(steps)]


PROGRAMS: dict[str, Callable[[int], tuple[Callable[[Any], Value], Any]]] = {
    "RNN, 16 wide": rnn,
    "pendulum, RK4": pendulum,
}


@contextmanager
def without_cache() -> Iterator[None]:
    """Nothing is read from the disk meanwhile."""
    before = os.environ.get("SCALARGRAD_CACHE")
    os.environ["SCALARGRAD_CACHE"] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ["SCALARGRAD_CACHE"]
        else:
            os.environ["SCALARGRAD_CACHE"] = before


def measure(name: str, steps: int, rounds: int, block: float) -> tuple[str, ...]:
    """A row: nodes and nests, seconds to find the nests and to compile them, µs of a run."""
    loss, x = PROGRAMS[name](steps)
    f = sg.compile(loss)
    with without_cache():
        f.backward(x)
        kernel = f.native()
        harness.finished()
        f.backward(x)  # its memory has the arguments now
    stats = f.stats
    taken = harness.medians({"run": kernel.frame.run}, rounds, block)["run"]
    seconds = dict(stats["seconds"])
    compiling = seconds.pop("native")
    return (
        name,
        f"{steps:,}",
        f"{stats['nodes']:,}",
        str(stats["nests"]),
        f"{sum(seconds.values()):.3f}",
        f"{compiling:.3f}",
        f"{1e6 * taken:.1f}",
        f"{1e6 * taken / steps:.3f}",
    )


def report(rounds: int = 15, block: float = 0.02, steps: tuple[int, ...] = STEPS) -> None:
    """Print the table: loss and the gradient of every parameter, in exact mode."""
    measure(next(iter(PROGRAMS)), 3, 1, 0.0)  # load what compiling needs
    headings = (
        *("program", "steps", "nodes", "nests", "analysis s", "compilation s"),
        *("run µs", "µs a step"),
    )
    rows = [measure(name, count, rounds, block) for name in PROGRAMS for count in steps]
    print(harness.table(headings, rows))


def main() -> None:
    harness.pin()
    print(f"{harness.machine()}; one thread\n")
    report()


if __name__ == "__main__":
    main()
