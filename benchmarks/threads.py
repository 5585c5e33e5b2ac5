"""What a second core brings: `python -m benchmarks.threads`.

Machine code of loss and gradients, alone and shared by two threads: of the rounds, in which both
take turns, the median and the best, because other programs may be using the second core.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import scalargrad as sg
from benchmarks import harness, recurrences, tasks
from benchmarks.tasks import Task

Work = tuple[Callable[..., sg.Value], tuple[Any, ...]]  # of one example; the arguments of a batch


def training(task: Task) -> Work:
    """The loss of a model."""
    return task.total, (task.x, task.y)


def stepwise(name: str, steps: int, batch: int) -> Work:
    """The loss of a recurrence."""
    loss, x = recurrences.PROGRAMS[name](steps)
    return loss, (np.random.default_rng(0).normal(size=(batch, *np.shape(x))),)


WORKS: dict[str, Callable[[], Work]] = {
    "images, batch 64": lambda: training(tasks.images()),
    "images, batch 256": lambda: training(tasks.images(batch=256)),
    "64 documents": lambda: training(tasks.documents(64)),
    "points, batch 4,000": lambda: training(tasks.moons(4000)),
    "points, batch 100": lambda: training(tasks.moons()),
    "RNN, 50 steps, batch 64": lambda: stepwise("RNN, 16 wide", 50, 64),
    "RNN, 50 steps, batch 256": lambda: stepwise("RNN, 16 wide", 50, 256),
    "pendulum, 100 steps, batch 100": lambda: stepwise("pendulum, RK4", 100, 100),
    "pendulum, 100 steps, batch 1,000": lambda: stepwise("pendulum, RK4", 100, 1000),
}
COUNTS = (1, 2)


def measure(work: Work, mode: str, rounds: int, turn: float) -> dict[int, list[float]]:
    """Seconds of a run in each round, by the number of threads."""
    loss, batch = work
    f = sg.compile(loss, mode=mode, batch="mean")
    f.backward(*batch)
    run = f.native().frame.run
    harness.finished()
    f.backward(*batch)  # its memory has the arguments now
    taken: dict[int, list[float]] = {count: [] for count in COUNTS}
    before = sg.get_num_threads()
    try:
        for _ in range(rounds):
            for count in COUNTS:
                sg.set_num_threads(count)
                end = time.perf_counter() + turn
                calls = [harness.seconds(run)]
                while time.perf_counter() < end:
                    calls.append(harness.seconds(run))
                taken[count].append(statistics.median(calls))
    finally:
        sg.set_num_threads(before)
    return taken


def report(rounds: int = 7, turn: float = 0.3, names: tuple[str, ...] = tuple(WORKS)) -> None:
    """Print the table."""
    rows = []
    for name in names:
        taken = measure(WORKS[name](), "exact", rounds, turn)
        middle = {count: 1e6 * statistics.median(taken[count]) for count in COUNTS}
        best = {count: 1e6 * min(taken[count]) for count in COUNTS}
        ratios = (f"{middle[1] / middle[2]:.2f}", f"{best[1] / best[2]:.2f}")
        rows.append((name, f"{middle[1]:.1f}", f"{middle[2]:.1f}", *ratios))
    headings = ("exact", "1 thread µs", "2 threads µs", "ratio", "ratio of the best rounds")
    print(harness.table(headings, rows))


def main() -> None:
    print(f"{harness.machine()}; {sg.get_num_threads()} cores\n")
    report()


if __name__ == "__main__":
    main()
