"""`scalargrad train`."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from .. import compiled, data
from ..data import Split
from ..errors import MissingExtraError
from ..train import Batch, Examples, History, Trainer
from . import folder
from .settings import OPTIMIZERS, Settings
from .tasks import TASKS, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPTIONS = ("hidden", "epochs", "batch_size", "optimizer", "lr", "seed", "examples", "data")

NEXT: Mapping[str, tuple[tuple[str, str], ...]] = {
    "toy": (
        ("{called} predict {out} 0.3 -0.5", "ask it about a point"),
        ("{called} train toy --hidden 2 --out runs/toy-2", "two neurons: too few to bend enough"),
        ("{called} train moons", "a harder shape"),
    ),
    "moons": (
        ("{called} predict {out} 0.5 0.2", "ask it about a point"),
        ("{called} train moons --hidden 2 --out runs/moons-2", "see what two neurons can do"),
        ("{called} train digits", "real images"),
    ),
    "digits": (
        ("{called} predict {out} --index 0", "show it an image it has never seen"),
        ("{called} predict {out} --image FILE", "or a picture of your own handwriting"),
        ("{called} train digits --hidden 64 --out runs/digits-64", "a larger network"),
    ),
    "mnist": (
        ("{called} predict {out} --index 0", "show it an image it has never seen"),
        ("{called} predict {out} --image FILE", "or a picture of your own handwriting"),
        (
            "{called} train mnist --data {data} --hidden 128 --out runs/mnist-128",
            "a larger network",
        ),
    ),
}


def train(options: argparse.Namespace) -> int:
    """Train, save, draw, and say what came of it. The exit code: 0, or 130 after Ctrl-C."""
    task, out = TASKS[options.task], Path(options.out or f"runs/{options.task}")
    if (options.data or options.download) and not task.reads_files:
        raise folder.CommandError(
            f"--data and --download are for mnist: {options.task} reads no files"
        )
    given = {name: getattr(options, name) for name in OPTIONS}
    if options.data:
        given["data"] = str(Path(options.data).absolute())
    if options.resume:
        settings = folder.resumed(out, options.task, given)
    else:
        settings = task.defaults.changed(given)
        if not options.force:
            folder.require_free(out, options.task)
    if options.download and settings.data:
        data.mnist(settings.data, dtype="uint8", download=True)
    split = task.load(settings)
    if options.resume:
        print(f"going on with the run in {out}")
    else:
        folder.begin(out, settings)
    return _run(task, settings, split, out)


def _run(task: Task, settings: Settings, split: Split, out: Path) -> int:
    model = task.network(settings, split.train.y)
    trainer = Trainer(
        model,
        task.loss,
        OPTIMIZERS[settings.optimizer].make(lr=settings.schedule(len(split.train.x))),
        penalty=task.penalty,
        seed=settings.seed,
    )
    print(f"{settings.task}: {len(split.train.x):,} {task.noun} to learn from, ", end="")
    print(f"{len(split.test.x):,} held out")
    print(
        f"a {_sizes(task, settings)} network: {len(trainer.parameters):,} parameters, each a Value",
        end="",
    )
    print("" if compiled else "; the engine is not compiled, which is slow: scalargrad doctor")
    sys.stdout.flush()
    started = time.perf_counter()
    history = trainer.fit(
        *split.train,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        validation=split.test,
        checkpoint=out / folder.CHECKPOINT,
    )
    seconds = time.perf_counter() - started
    folder.save(out, task, settings, model, history)
    if history.interrupted:
        print(f"saved what was learned so far in {out / folder.MODEL}")
        print(f"to go on: {_called()} train {settings.task} --out {quote(str(out))} --resume")
        return 130
    epochs = f"{len(history)} epoch{'s' * (len(history) > 1)}"
    print(f"learned for {epochs} in {seconds:.1f} s, compiling included")
    _compare(trainer, split, history)
    _conclude(task, settings, split, out, trainer, history)
    return 0


def _compare(trainer: Trainer, split: Split, history: History) -> None:
    """Say how much quicker the compiled program was than running every node on its own.

    The fastest epoch counts, as the fastest example does: the first ones wait for the compiler.
    Of a run that was over before the program was compiled there is nothing to say.
    """
    eager = trainer.eager
    examples = Examples(*split.train)
    gradients = [p.grad for p in trainer.parameters]
    times = []
    for row in range(min(8, len(examples))):
        started = time.perf_counter()
        eager.gradients(Batch(examples, [row]))
        times.append(time.perf_counter() - started)
    each = min(times)
    for parameter, gradient in zip(trainer.parameters, gradients):
        parameter.grad = gradient
    compiled_each = min(history.seconds) / len(split.train.x)
    if each < 2 * compiled_each:
        return
    print(
        f"an example took {compiled_each * 1e6:,.1f} µs in the fastest epoch; making its nodes one "
        f"by one takes {each * 1e6:,.0f} µs, about {each / compiled_each:.0f} times as long"
    )


def _conclude(
    task: Task, settings: Settings, split: Split, out: Path, trainer: Trainer, history: History
) -> None:
    scores = trainer.predict(split.test.x)
    print(task.report(split.test, scores))
    try:
        title = f"{settings.task}: a {_sizes(task, settings)} network"
        figures = {"curves.png": history.plot(title)}
        figures |= task.draw(split.test, scores, trainer.predict)
        _save(figures, out)
    except MissingExtraError as error:
        print(f"no pictures: {error}")
    print(f"model: {out / folder.MODEL}")
    print("what to try next:")
    names = {"called": _called(), "out": quote(str(out)), "data": quote(settings.data)}
    commands = [(command.format(**names), why) for command, why in NEXT[settings.task]]
    width = max(len(command) for command, _ in commands)
    for command, why in commands:
        print(f"  {command:{width}}   {why}")


def _called() -> str:
    """How this command is called again: by its name, or as it was where that is not found.

    In a virtual environment that is not activated, as after `make demo`, it is not.
    """
    if shutil.which("scalargrad"):
        return "scalargrad"
    if Path(sys.argv[0]).stem == "scalargrad":
        return quote(sys.argv[0])
    return f"{quote(sys.executable)} -m scalargrad"


def _save(figures: Mapping[str, Figure], out: Path) -> None:
    from ..views import pictures

    paths = [pictures.save(figure, out / name) for name, figure in figures.items()]
    print("pictures: " + ", ".join(str(path) for path in paths))


def _sizes(task: Task, settings: Settings) -> str:
    """The layers, as in 64-32-10."""
    return "-".join(str(n) for n in (task.inputs, *settings.hidden, task.outputs))
