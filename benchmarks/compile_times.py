"""How long compiling takes, in processes of their own: `python -m benchmarks.compile_times`.

Each process makes a model, then takes the time from the first call of `f.backward(x, y)`: until
that has answered, until a call has been answered by machine code, and until that is no draft any
more but compiled well. It runs once with an empty
cache directory and once with the same directory again; everything the compiler needs is loaded
within the time taken, from bytecode as where the package is installed. The peers that compile do a
step, from its first call to its answer.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import scalargrad as sg
from benchmarks import harness, tasks
from benchmarks.bars import Bar
from benchmarks.peers import IDLE, contestants
from benchmarks.tasks import Task

TASKS: dict[str, Callable[[], Task]] = {"document": tasks.documents, "images": tasks.images}
RUNS = 5


def take(name: str) -> dict[str, float]:
    """Seconds from the first call to its answer, to the first by machine code, and by good code."""
    task = TASKS[name]()
    function = sg.compile(task.total, batch="mean")
    start = time.perf_counter()
    function.backward(task.x, task.y)
    answered = time.perf_counter()
    function.native()
    function.backward(task.x, task.y)
    native = time.perf_counter()
    harness.finished()
    function.backward(task.x, task.y)
    good = time.perf_counter()
    return {"first": answered - start, "native": native - start, "good": good - start}


def take_peer(name: str, peer: str) -> dict[str, float]:
    """Seconds from the first call of a peer's step to its answer."""
    task = TASKS[name]()
    step = contestants(task)[peer].make(task, "float64", IDLE).step
    start = time.perf_counter()
    step()
    return {"native": time.perf_counter() - start}


def run(name: str, cache: str, *peer: str) -> dict[str, float]:
    """`take` or `take_peer`, in a process of its own that keeps its code in `cache`."""
    environment = {**os.environ, "XDG_CACHE_HOME": cache, "LOCALAPPDATA": cache}
    environment["TORCHINDUCTOR_CACHE_DIR"] = cache
    for setting in ("PYTHONDONTWRITEBYTECODE", "SCALARGRAD_CACHE"):
        environment.pop(setting, None)
    command = [sys.executable, "-m", "benchmarks.compile_times", name, *peer]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(printed.stdout)
    return found


def measure(name: str, runs: int = RUNS) -> dict[str, float]:
    """Median seconds: "first", "native", "good" with an empty cache, "cached" with a full one."""
    keys = ("first", "native", "good", "cached", "cached first")
    taken: dict[str, list[float]] = {key: [] for key in keys}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as cache:
            cold, warm = run(name, cache), run(name, cache)
        for key, seconds in (*cold.items(), ("cached", warm["native"])):
            taken[key].append(seconds)
        taken["cached first"].append(warm["first"])
    return {key: statistics.median(seconds) for key, seconds in taken.items()}


def report(runs: int = RUNS) -> list[Bar]:
    """Print the table; the bars."""
    times = {name: measure(name, runs) for name in TASKS}
    columns = ("first", "native", "good", "cached first", "cached")
    rows = [
        (TASKS[name]().name, *(f"{1e3 * found[key]:.0f}" for key in columns))
        for name, found in times.items()
    ]
    rows += [row for name in TASKS for row in _peers(name)]
    headings = (
        "ms from the first call",
        "first answer",
        "native",
        "compiled well",
        "cached: first answer",
        "native",
    )
    print(harness.table(headings, rows), "\n")
    limits = [
        ("document", "first", 0.1),
        ("document", "native", 0.5),
        ("document", "cached", 0.05),
        ("images", "native", 0.6),
    ]
    words = {"first": "first answer", "native": "native code", "cached": "native from the cache"}
    return [
        Bar(
            f"compile, {TASKS[name]().name}",
            f"{words[key]} ≤ {1e3 * limit:.0f} ms",
            f"{1e3 * times[name][key]:.0f} ms",
            times[name][key] <= limit,
        )
        for name, key, limit in limits
    ]


def _peers(name: str) -> list[tuple[str, ...]]:
    """A row for each peer that compiles and is installed."""
    task = TASKS[name]()
    rows: list[tuple[str, ...]] = []
    for peer in ("JAX jit", "torch.compile"):
        if not contestants(task)[peer].missing():
            with tempfile.TemporaryDirectory() as cache:
                seconds = run(name, cache, peer)["native"]
            rows.append((f"{task.name}: {peer}", "", f"{1e3 * seconds:.0f}", "", "", ""))
    return rows


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(take(*sys.argv[1:]) if len(sys.argv) == 2 else take_peer(*sys.argv[1:])))
        return
    harness.pin()
    print(f"{harness.machine()}; one thread\n")
    report()


if __name__ == "__main__":
    main()
