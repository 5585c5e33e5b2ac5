"""What was asked for and what was reached, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import harness

VERDICTS = {True: "met", False: "not met", None: "not measured"}


@dataclass(frozen=True, slots=True)
class Bar:
    """One requirement: the work, the bar, what was reached, and whether that is enough."""

    work: str
    bar: str
    reached: str
    met: bool | None


def table(bars: Sequence[Bar]) -> str:
    """The bars as a Markdown table."""
    rows = [(bar.work, bar.bar, bar.reached, VERDICTS[bar.met]) for bar in bars]
    return harness.table(("work", "bar", "reached", ""), rows)
