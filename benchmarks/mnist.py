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
VARIANTS = (("exact", "float64"), ("fast", "float64"), ("fast", "float32"))
EPOCHS = 8


def folder() -> Path | None:
    """Where the 10,000 test images are, if anywhere."""
    return next((f for f in FOLDERS if any(f.glob("t10k-images*"))), None)


def rate(x: Any, y: Any, mode: str, dtype: str, epochs: int = EPOCHS) -> tuple[float, float]:
    """Images a second, the median over epochs after the first two; and the last epoch's accuracy."""
    model = sg.nn.MLP(784, [128, 10], init="he", rng=random.Random(0))
    trainer = sg.Trainer(
        model,
        sg.losses.cross_entropy,
        sg.optim.SGD(lr=0.05),
        mode=mode,
        dtype=dtype,
        progress=False,
    )
    ends: list[float] = []
    history = trainer.fit(
        x, y, epochs, batch_size=64, callbacks=[lambda *_: ends.append(time.perf_counter())]
    )
    taken = [after - before for before, after in itertools.pairwise(ends[1:])]
    return len(y) / statistics.median(taken), history.metrics["accuracy"][-1]


def report() -> list[Bar]:
    """Print the table; the bar."""
    work = "Trainer.fit, MLP 784-128-10, batches of 64, SGD, MNIST's 10,000 test images"
    found = folder()
    if found is None:
        reason = "the images are in neither " + " nor ".join(map(str, FOLDERS))
        print(f"MNIST: left out, {reason}.\n")
        return [Bar(work, f"≥ {BAR:,} images a second, float64", reason, None)]
    x, y = sg.data.mnist(found, part="test")
    rates = {variant: rate(x, y, *variant) for variant in VARIANTS}
    rows = [
        (" ".join(variant), f"{images:,.0f}", f"{accuracy:.1%}")
        for variant, (images, accuracy) in rates.items()
    ]
    print(harness.table((work, "images a second", "accuracy while learning"), rows), "\n")
    return [
        Bar(
            work,
            f"≥ {BAR:,} images a second, {' '.join(v)}",
            f"{rates[v][0]:,.0f}",
            rates[v][0] >= BAR,
        )
        for v in VARIANTS[:2]
    ]


def main() -> None:
    harness.pin()
    print(f"{harness.machine()}; one thread\n")
    report()


if __name__ == "__main__":
    main()
