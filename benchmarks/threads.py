"""What a second core brings: `python -m benchmarks.threads`.

Machine code of loss and gradients, alone and shared by two threads: of the rounds, in which both
take turns, the median and the best, because other programs may be using the second core.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import scalargrad as sg
from benchmarks import harness, tasks
from benchmarks.tasks import Task

TASKS: dict[str, Callable[[], Task]] = {
    "images, batch 64": tasks.images,
    "images, batch 256": lambda: tasks.images(batch=256),
    "64 documents": lambda: tasks.documents(64),
    "points, batch 4,000": lambda: tasks.moons(4000),
    "points, batch 100": tasks.moons,
}
COUNTS = (1, 2)


def measure(task: Task, mode: str, rounds: int, turn: float) -> dict[int, list[float]]:
    """Seconds of a run in each round, by the number of threads."""
    f = sg.compile(task.total, mode=mode, batch="mean")
    f.backward(task.x, task.y)
    run = f.native().frame.run
    harness.finished()
    f.backward(task.x, task.y)  # its memory has the arguments now
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


def report(rounds: int = 7, turn: float = 0.3, names: tuple[str, ...] = tuple(TASKS)) -> None:
    """Print the table."""
    rows = []
    for name in names:
        taken = measure(TASKS[name](), "exact", rounds, turn)
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
