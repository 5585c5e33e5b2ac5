"""Compiled programs against NumPy written by hand, and the eager engine: `python -m benchmarks.compiled`.

Each program computes a loss and the gradient of every parameter for one mini-batch. For ours
there are three times: the native code alone, a call from Python (`f.backward`: arguments in,
gradients added to every parameter), and the Trainer's whole step (arguments in, gradients, the
optimiser's update). The NumPy peers keep their large buffers from step to step and run BLAS on
one thread at the CPU's full vector width; their time is that of a whole SGD step.
"""

from __future__ import annotations

import os

# One thread for both sides; must be set before NumPy loads its BLAS.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ.pop("OPENBLAS_CORETYPE", None)

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import scalargrad as sg
from benchmarks import harness
from scalargrad.train import Batch, EagerStep, Examples
from scalargrad.train.compiled import CompiledStep

Work = Callable[[], object]
rng = np.random.default_rng(0)


class Case:
    """A model with its loss and one mini-batch, and the same step written in NumPy."""

    def __init__(
        self, name: str, model: Any, loss: Any, x: Any, y: Any, numpy_step: Work | None
    ) -> None:
        self.name, self.model, self.loss, self.x, self.y = name, model, loss, x, y
        self.numpy_step = numpy_step

    def ours(self, mode: str, dtype: str) -> tuple[Work, Work, Work, dict[str, Any]]:
        """Native code, call, training step; and the statistics of the compiled function."""
        trainer = sg.Trainer(self.model, self.loss, sg.optim.SGD(lr=1e-6), progress=False)
        step = CompiledStep(trainer.eager, trainer.optimizer, mode, dtype)
        step.load()
        batch = Batch(Examples(self.x, self.y), list(range(len(self.x))))
        model, loss = self.model, self.loss
        function = sg.compile(lambda x, y: loss(model(x), y), mode=mode, dtype=dtype, batch="mean")

        def call() -> None:
            function.backward(self.x, self.y)

        def train() -> None:
            step.gradients(batch)
            step.update()

        call()
        native = function.native().frame.run
        train()
        settle(train)
        return native, call, train, function.stats

    def eager(self) -> Work:
        trainer = sg.Trainer(self.model, self.loss, sg.optim.SGD(lr=1e-6), compile=False)
        step: EagerStep = trainer.eager
        batch = Batch(Examples(self.x, self.y), list(range(len(self.x))))

        def train() -> None:
            step.gradients(batch)
            step.update()

        return train


def settle(work: Work, seconds: float = 2.0) -> None:
    """Run until what is compiled in the background has surely taken over."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        work()


def moons() -> Case:
    x, y = sg.data.moons(n=100, noise=0.1, labels=(-1, 1))
    y = y.astype(float)
    sizes = (2, 16, 16, 1)
    weights = [rng.uniform(-1, 1, (sizes[i], sizes[i + 1])) for i in range(3)]
    biases = [np.zeros(n) for n in sizes[1:]]

    def step() -> None:
        a = x @ weights[0] + biases[0]
        h = np.maximum(a, 0)
        b = h @ weights[1] + biases[1]
        k = np.maximum(b, 0)
        margin = 1 - y * (k @ weights[2] + biases[2])[:, 0]
        np.maximum(margin, 0).mean()
        d = (-(y / len(y)) * (margin > 0))[:, None]
        gradients = [(k.T @ d, d.sum(0))]
        d = (d @ weights[2].T) * (b > 0)
        gradients.append((h.T @ d, d.sum(0)))
        d = (d @ weights[1].T) * (a > 0)
        gradients.append((x.T @ d, d.sum(0)))
        for w, bias, (gw, gb) in zip(weights, biases, gradients[::-1]):
            w -= 1e-6 * gw
            bias -= 1e-6 * gb

    return Case(
        "MLP 2-16-16-1, hinge, batch 100", sg.nn.MLP(2, [16, 16, 1]), sg.losses.hinge, x, y, step
    )


def digits(hidden: int = 128, batch: int = 64) -> Case:
    x = rng.uniform(size=(batch, 784)) * (rng.uniform(size=(batch, 784)) < 0.2)
    y = rng.integers(0, 10, batch)
    w1, b1 = rng.normal(size=(784, hidden)) * 0.05, np.zeros(hidden)
    w2, b2 = rng.normal(size=(hidden, 10)) * 0.1, np.zeros(10)
    a, h = np.empty((batch, hidden)), np.empty((batch, hidden))
    g1, g2, d1 = np.empty_like(w1), np.empty_like(w2), np.empty_like(h)
    rows = np.arange(batch)

    def step() -> None:
        np.matmul(x, w1, out=a)
        a.__iadd__(b1)
        np.maximum(a, 0, out=h)
        z = h @ w2
        z += b2
        e = np.exp(z - z.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        -np.log(p[rows, y]).mean()
        p[rows, y] -= 1
        p /= batch
        np.matmul(h.T, p, out=g2)
        np.matmul(p, w2.T, out=d1)
        np.multiply(d1, a > 0, out=d1)
        np.matmul(x.T, d1, out=g1)
        for w, g in ((w1, g1), (b1, d1.sum(0)), (w2, g2), (b2, p.sum(0))):
            g *= 1e-6
            w -= g

    model = sg.nn.MLP(784, [hidden, 10], init="he")
    name = f"MLP 784-{hidden}-10, cross-entropy, batch {batch}"
    return Case(name, model, sg.losses.cross_entropy, x, y, step)


def gpt() -> Case:
    tokens = rng.integers(0, 27, (1, 8))
    targets = rng.integers(0, 27, (1, 8))
    name = "GPT 16 wide, 4 heads, 1 layer, a document of 8"
    return Case(name, sg.nn.GPT(27, 16), sg.losses.cross_entropy, tokens, targets, None)


def measure(case: Case, variants: list[tuple[str, str]], rounds: int) -> list[tuple[str, ...]]:
    works: dict[str, Work] = {"eager": case.eager()}
    if case.numpy_step is not None:
        works["numpy"] = case.numpy_step
    stats: dict[str, dict[str, Any]] = {}
    for mode, dtype in variants:
        native, call, train, found = case.ours(mode, dtype)
        label = mode if dtype == "float64" else f"{mode} {dtype}"
        works |= {f"{label}|native": native, f"{label}|call": call, f"{label}|step": train}
        stats[label] = found
    times = harness.medians(works, rounds, block=0.03)
    eager, peer = times["eager"], times.get("numpy")
    rows = []
    for label in stats:
        native, call, train = (times[f"{label}|{part}"] for part in ("native", "call", "step"))
        compiling = sum(stats[label]["seconds"].values())
        against = (
            (f"{peer * 1e6:.0f}", f"{peer / native:.1f}", f"{peer / train:.1f}")
            if peer
            else ("", "", "")
        )
        rows.append(
            (
                case.name,
                label,
                f"{native * 1e6:.1f}",
                f"{call * 1e6:.0f}",
                f"{train * 1e6:.0f}",
                *against,
                f"{eager / native:,.0f}",
                f"{compiling:.2f}",
            )
        )
    return rows


def main() -> None:
    print(f"{harness.machine()}; one thread\n")
    headings = (
        *("program", "mode", "native µs", "call µs", "training step µs", "NumPy step µs"),
        *("NumPy / native", "NumPy / step", "eager / native", "compile s"),
    )
    double = [("exact", "float64"), ("fast", "float64")]
    rows = measure(moons(), double, 15)
    rows += measure(digits(), [*double, ("fast", "float32")], 15)
    rows += measure(gpt(), double, 15)
    print(harness.table(headings, rows))


if __name__ == "__main__":
    main()
