"""How many real images a second `Trainer.fit` learns from: `python -m benchmarks.mnist`."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from pathlib import Path
from typing import Any

import scalargrad as sg
from benchmarks import harness
from benchmarks.bars import Bar

BAR = 200_000  # images a second on one core
ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "data" / "mnist", ROOT.parent / "shared" / "data" / "mnist10k")
Variant = tuple[str, str]
VARIANTS: tuple[Variant, ...] = (("exact", "float64"), ("fast", "float64"), ("fast", "float32"))
ROUNDS, EPOCHS = 9, 4


def folder() -> Path | None:
    """Where the 10,000 test images are, if anywhere."""
    return next((f for f in FOLDERS if any(f.glob("t10k-images*"))), None)


class Run:
    """A model that learns, and how long its epochs took."""

    def __init__(self, mode: str, dtype: str) -> None:
        model = sg.nn.MLP(784, [128, 10], init="he", rng=random.Random(0))
        rule = sg.optim.SGD(lr=0.05)
        loss = sg.losses.cross_entropy
        self._trainer = sg.Trainer(model, loss, rule, mode=mode, dtype=dtype, progress=False)
        self.taken: list[float] = []
        self.accuracy = 0.0

    def learn(self, x: Any, y: Any, epochs: int) -> None:
        """Some epochs, of which all but the first are timed."""
        ends: list[float] = []
        history = self._trainer.fit(
            x, y, epochs, batch_size=64, callbacks=[lambda *_: ends.append(time.perf_counter())]
        )
        self.taken += [after - before for before, after in itertools.pairwise(ends)]
        self.accuracy = history.metrics["accuracy"][-1]


def measure(x: Any, y: Any, rounds: int = ROUNDS, epochs: int = EPOCHS) -> dict[Variant, Run]:
    """Each variant's run, the variants taking turns; a first round is not timed."""
    runs = {variant: Run(*variant) for variant in VARIANTS}
    for run in runs.values():
        run.learn(x, y, epochs)
        run.taken.clear()
    for _ in range(rounds):
        for run in runs.values():
            run.learn(x, y, epochs)
    return runs


def report() -> list[Bar]:
    """Print the table; the bar."""
    work = "Trainer.fit, MLP 784-128-10, batches of 64, SGD, MNIST's 10,000 test images"
    found = folder()
    if found is None:
        reason = "the images are in neither " + " nor ".join(map(str, FOLDERS))
        print(f"MNIST: left out, {reason}.\n")
        return [Bar(work, f"≥ {BAR:,} images a second, float64", reason, None)]
    x, y = sg.data.mnist(found, part="test")
    runs = measure(x, y)
    rates = {variant: len(y) / statistics.median(run.taken) for variant, run in runs.items()}
    rows = [
        (" ".join(variant), f"{rates[variant]:,.0f}", f"{run.accuracy:.1%}")
        for variant, run in runs.items()
    ]
    print(harness.table((work, "images a second", "accuracy while learning"), rows), "\n")
    return [
        Bar(
            work,
            f"≥ {BAR:,} images a second, {' '.join(v)}",
            f"{rates[v]:,.0f}",
            rates[v] >= BAR,
        )
        for v in VARIANTS[:2]
    ]


def main() -> None:
    harness.pin()
    print(f"{harness.machine()}; one thread\n")
    report()


if __name__ == "__main__":
    main()
