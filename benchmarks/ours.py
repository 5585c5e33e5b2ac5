"""Scalargrad's side of a training step: the machine code alone, a call, and the Trainer's step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import scalargrad as sg
from benchmarks.tasks import Task
from scalargrad.compiler.jit import later
from scalargrad.train import Batch, Examples
from scalargrad.train.compiled import CompiledStep

Work = Callable[[], object]


class Ours:
    """One task, compiled in one mode and dtype; every method is something to be timed.

    `native` is the code for loss and gradients alone, started from Python without arguments;
    `call` is `f.backward(x, y)`: arguments in, gradients added to the `grad` of every Value;
    `step` is what `Trainer` does for a mini-batch: arguments in, gradients, update, loss out.
    """

    def __init__(self, task: Task, mode: str, dtype: str, lr: float) -> None:
        self._x, self._y = task.x, task.y
        self.function = sg.compile(task.total, mode=mode, dtype=dtype, batch="mean")
        self.call()
        self.native = self.function.native().frame.run
        penalty = task.penalty if task.decay else None
        trainer = sg.Trainer(task.model, task.loss, task.rule(lr), penalty=penalty, progress=False)
        self._step = CompiledStep(trainer.eager, trainer.optimizer, mode, dtype)
        self._step.load()
        self._batch = Batch(Examples(task.x, task.y), list(range(len(task.x))))
        settle(self.step)

    def call(self) -> object:
        return self.function.backward(self._x, self._y)

    def step(self) -> float:
        loss = self._step.gradients(self._batch).loss
        self._step.update()
        return loss


def settle(work: Work, seconds: float = 0.4) -> None:
    """Run until what is compiled in the background has taken over."""
    for _ in range(3):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            work()
        finished: Any = later(lambda: None)  # the thread that compiles does one thing at a time
        finished.result()
