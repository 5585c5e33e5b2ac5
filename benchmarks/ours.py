"""Scalargrad's side of a training step: the machine code alone, a call, a step, and `fit`."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np

import scalargrad as sg
from benchmarks import harness
from benchmarks.tasks import Task
from scalargrad.train import Batch, Examples
from scalargrad.train.compiled import CompiledStep

Work = Callable[[], object]


class Ours:
    """One task, compiled in one mode and dtype; every method is something to be timed.

    `step` is a training step as `Trainer` does it: arguments in, gradients, update, loss out;
    `code` is its machine code alone, on the arguments of the last step;
    `call` is `f.backward(x, y)`: arguments in, gradients added to the `grad` of every Value;
    `gradients` is the machine code of that.
    """

    def __init__(self, task: Task, mode: str, dtype: str, lr: float) -> None:
        self._x, self._y = task.x, task.y
        self.function = sg.compile(task.total, mode=mode, dtype=dtype, batch="mean")
        self.call()
        self.gradients = self.function.native().frame.run
        penalty = task.penalty if task.decay else None
        trainer = sg.Trainer(task.model, task.loss, task.rule(lr), penalty=penalty, progress=False)
        self._step = CompiledStep(trainer.eager, trainer.optimizer, mode, dtype)
        self._step.load()
        self._batch = Batch(Examples(task.x, task.y), range(len(task.x)), last=False)
        settle(self.step)
        joined = self._step.joined(self._batch)
        assert joined is not None
        self.code = joined.frame.run

    def call(self) -> object:
        return self.function.backward(self._x, self._y)

    def step(self) -> float:
        loss = self._step.gradients(self._batch).loss
        self._step.update()
        return loss


class Fit:
    """`Trainer.fit` over many copies of the mini-batch: all that a user waits for, by the step."""

    COPIES = 100

    def __init__(self, task: Task, mode: str, dtype: str, lr: float) -> None:
        self._trainer = sg.Trainer(
            task.model,
            task.loss,
            task.rule(lr),
            penalty=task.penalty if task.decay else None,
            mode=mode,
            dtype=dtype,
            progress=False,
        )
        self._batch_size = len(task.x)
        self._x, self._y = (np.concatenate([a] * self.COPIES) for a in (task.x, task.y))
        settle(self)

    def __call__(self) -> None:
        self._epochs(3)

    def turn(self, block: float) -> list[float]:
        """See `harness.OwnClock`: seconds a mini-batch of several epochs."""
        return self._epochs(1 + max(2, round(block / (self.COPIES * self._latest))))

    def _epochs(self, count: int) -> list[float]:
        """Seconds a mini-batch took in each epoch but the first."""
        ends: list[float] = []
        self._trainer.fit(
            self._x,
            self._y,
            count,
            self._batch_size,
            callbacks=[lambda *_: ends.append(time.perf_counter())],
        )
        taken = [(end - start) / self.COPIES for start, end in pairwise(ends)]
        self._latest = taken[-1]
        return taken


def settle(work: Work, seconds: float = 0.4) -> None:
    """Run until what is compiled in the background has taken over."""
    for _ in range(3):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            work()
        harness.finished()
