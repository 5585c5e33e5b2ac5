"""Training steps, timed side by side: ours in several modes, and the peers'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import harness
from benchmarks.ours import Fit, Ours
from benchmarks.peers import IDLE, contestants, require_agreement, steps_of
from benchmarks.tasks import Task

ROUNDS, BLOCK = 15, 0.03


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one step by contestant: ("NumPy", "float64") or ("exact", "float64", "step")."""

    task: Task
    seconds: dict[tuple[str, ...], float]
    missing: dict[str, str]  # who could not run, and why

    def ratio(self, peer: tuple[str, ...], ours: tuple[str, ...]) -> float | None:
        """How many times as long as ours a peer takes; None if it could not run."""
        if peer not in self.seconds:
            return None
        return self.seconds[peer] / self.seconds[ours]

    def table(self) -> str:
        """Every contestant's microseconds, and what they are of our exact step."""
        ours = self.seconds["exact", "float64", "step"]
        rows = [
            (" ".join(name), f"{1e6 * taken:.1f}", f"{taken / ours:.2f}")
            for name, taken in self.seconds.items()
        ]
        notes = [f"{name}: left out, {reason}." for name, reason in self.missing.items()]
        text = harness.table((self.task.name, "µs a step", "of our exact step"), rows)
        return "\n".join([text, *([""] if notes else []), *notes])


def measure(
    task: Task,
    peers: Sequence[tuple[str, str]],
    ours: Sequence[tuple[str, str]],
    rounds: int = ROUNDS,
    block: float = BLOCK,
    fit: bool = False,
) -> Times:
    """Check and time the peers (name, dtype), and scalargrad in the given (mode, dtype).

    With `fit`, also `Trainer.fit`, which holds 100 copies of the mini-batch.
    """
    works: dict[tuple[str, ...], harness.Work] = {}
    repeats: dict[tuple[str, ...], int] = {}
    missing = {}
    for name, dtype in peers:
        contestant = contestants(task)[name]
        reason = contestant.missing()
        if reason:
            missing[name] = reason
            continue
        require_agreement(task, name, dtype)
        peer = contestant.make(task, dtype, IDLE)
        works[name, dtype], repeats[name, dtype] = peer.step, steps_of(peer)
    for mode, dtype in ours:
        mine = Ours(task, mode, dtype, IDLE)
        for part in ("code", "step", "gradients", "call"):
            works[mode, dtype, part] = getattr(mine, part)
        if fit:
            works[mode, dtype, "fit"] = Fit(task, mode, dtype, IDLE)
    taken = harness.medians(works, rounds, block)
    return Times(task, {key: taken[key] / repeats.get(key, 1) for key in works}, missing)
