"""`scalargrad predict`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..modes import no_grad
from ..nn import MLP
from ..train import plain_numbers
from .folder import CommandError, load
from .settings import Settings
from .tasks import Scores, Task


def predict(options: argparse.Namespace) -> int:
    """Print what a trained network answers."""
    task, settings, model = load(Path(options.folder))
    if options.data:
        settings = replace(settings, data=str(Path(options.data).absolute()))
    if options.numbers:
        _tell(task, model, _checked(task, options.numbers))
    elif options.image:
        _tell_images(task, model, options.image)
    elif options.index is not None:
        test = task.load(settings).test
        if not 0 <= options.index < len(test.y):
            raise CommandError(
                f"--index {options.index}: expected 0 to {len(test.y) - 1}, the "
                f"{len(test.y):,} {task.noun} held out"
            )
        _tell(task, model, test.x[options.index].tolist(), test.y[options.index].item())
    else:
        _tell_all(task, settings, model)
    return 0


def _tell(task: Task, model: MLP, x: Sequence[float], true: Any = None) -> None:
    print(f"{task.shown(x)}{chr(10) if task.side else ': '}{task.answer(_score(model, x), true)}")


def _tell_images(task: Task, model: MLP, paths: Iterable[str]) -> None:
    if not task.side:
        raise CommandError(f"--image: this network takes {task.inputs} numbers: pass those")
    for path in paths:
        x = task.image(path)
        print(path)
        _tell(task, model, x)


def _tell_all(task: Task, settings: Settings, model: MLP) -> None:
    """How good the network is on everything held out, and where it is worst."""
    test = task.load(settings).test
    scores: Scores = np.array([_score(model, x) for x in test.x.tolist()])
    print(task.report(test, scores))
    worst = task.mistakes(test, scores)
    if worst:
        print(f"look at one with --index N; worst: {', '.join(map(str, worst[:20]))}")
    print(_usage(task))


def _usage(task: Task) -> str:
    if task.side:
        return "to ask it: --index N of one held out, --image FILE, or its pixels as numbers"
    return f"to ask it: {task.inputs} numbers, or --index N of one held out"


def _checked(task: Task, numbers: Sequence[float]) -> Sequence[float]:
    if len(numbers) != task.inputs:
        raise CommandError(f"expected {task.inputs} numbers, got {len(numbers)}. {_usage(task)}")
    if not all(map(math.isfinite, numbers)):
        raise CommandError(f"expected finite numbers, got {' '.join(map(str, numbers))}")
    return numbers


def _score(model: MLP, x: Sequence[float]) -> Any:
    with no_grad():
        return plain_numbers(model(x))
