"""How every benchmark here measures: rounds that interleave the contestants, medians, ratios.

Absolute times belong to one machine on one day; the ratio of two programs timed in turn, in the
same process, carries over. So each round runs every contestant once, and what is compared are
medians over the rounds.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from scalargrad.compiler.background import later

Work = Callable[[], object]
Key = TypeVar("Key", bound=Hashable)


@runtime_checkable
class OwnClock(Protocol):
    """A contestant that can only be timed from within, many calls at a time."""

    def __call__(self) -> object:
        """Warm up."""

    def turn(self, block: float) -> Sequence[float]:
        """The seconds that calls took, in a turn of about `block` seconds."""


def turn(work: Work, block: float) -> Sequence[float]:
    """The seconds that each call took, in a turn of at least `block` seconds."""
    if isinstance(work, OwnClock):
        return work.turn(block)
    end = time.perf_counter() + block
    taken = [seconds(work)]
    while time.perf_counter() < end:
        taken.append(seconds(work))
    return taken


def seconds(work: Work) -> float:
    """How long one call of work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(
    contestants: Mapping[Key, Work], rounds: int = 25, block: float = 0.0
) -> dict[Key, float]:
    """Median seconds of a call of each contestant, run in turn `rounds` times after a warm-up.

    With `block` a contestant's turn lasts that many seconds and counts with the median of its
    calls, so that each finds its own data in the caches, as it would in use. The garbage
    collector is off meanwhile: what it costs depends on what else is alive.
    """
    for work in contestants.values():
        work()
    times: dict[Key, list[float]] = {name: [] for name in contestants}
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, work in contestants.items():
                times[name].append(statistics.median(turn(work, block)))
    finally:
        if was_enabled:
            gc.enable()
    return {name: statistics.median(taken) for name, taken in times.items()}


def finished() -> None:
    """Wait until all is compiled, and what was a draft is compiled well."""
    last: Any = later(lambda: None)  # the thread that compiles does one thing at a time
    last.result()


def pin() -> None:
    """Stay on one core, where the system can do that: the last of those we may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def machine() -> str:
    """CPU model, Python and operating system, for the heading of a table."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, Python {platform.python_version()}, {platform.system()}"


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table with aligned columns."""
    text = [[str(cell) for cell in row] for row in [headings, *rows]]
    widths = [max(len(row[i]) for row in text) for i in range(len(headings))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |" for row in text]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)
