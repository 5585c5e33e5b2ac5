"""The folder of a run: what is in it, whose it is, and reading the model back."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import __version__
from ..checkpoint import atomic_write, load_model, save_model
from ..errors import CheckpointError, ScalargradError
from ..nn import MLP
from ..train import History
from .settings import Settings
from .tasks import TASKS, Task

RUN, CHECKPOINT, MODEL, HISTORY = (
    "run.json",
    "checkpoint.safetensors",
    "model.safetensors",
    "history.json",
)
PICTURES = ("curves.png", "decision.png", "regression.png", "predictions.png", "confusion.png")
FILES = (RUN, CHECKPOINT, MODEL, "model.json", HISTORY, *PICTURES)


class CommandError(ScalargradError):
    """A command that makes no sense where it was given."""


def settings_of(folder: Path) -> Settings | None:
    """The settings of the run in a folder, None where there is none."""
    path = folder / RUN
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: damaged ({error}): train again, into another folder or with --force"
        ) from error
    settings = Settings.from_data(content, path)
    if settings.task not in TASKS:
        raise CheckpointError(f"{path}: the task {settings.task!r} is not one of {list(TASKS)}")
    return settings


def require_free(folder: Path, task: str) -> None:
    """Refuse to write a run of `task` over anything but a run of that task."""
    there = settings_of(folder)
    if there is None and any((folder / name).exists() for name in FILES):
        raise CommandError(
            f"{folder}: files of other origin would be replaced: choose another --out, or --force"
        )
    if there is not None and there.task != task:
        raise CommandError(
            f"{folder}: holds a run of {there.task}: choose another --out, or --force to replace it"
        )


def resumed(folder: Path, task: str, options: Mapping[str, Any]) -> Settings:
    """The settings of the run to go on with, which the options must not contradict."""
    saved = settings_of(folder)
    if saved is None:
        raise CommandError(f"{folder}: holds no run to resume: train without --resume")
    asked = saved.changed({**options, "task": task})
    for name, before in asdict(saved).items():
        now = getattr(asked, name)
        if now != before:
            raise CommandError(
                f"{folder}: its run has {name} {_text(before)}, not {_text(now)}: leave that out "
                "to resume it, or train anew without --resume"
            )
    return saved


def _text(x: object) -> str:
    return ",".join(map(str, x)) if isinstance(x, tuple) else str(x)


def begin(folder: Path, settings: Settings) -> None:
    """Clear the folder of an earlier run and write down the new one's settings."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ValueError(f"{folder} is a file, not a folder: choose another --out") from None
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    atomic_write(folder / RUN, json.dumps(settings.to_data(), indent=2) + "\n")


def save(folder: Path, task: Task, settings: Settings, model: MLP, history: History) -> None:
    """Write the model with all that is needed to use it, and the history."""
    config = {
        "scalargrad": __version__,
        "network": task.architecture(settings),
        "settings": settings.to_data(),
    }
    save_model(folder / MODEL, model.state_dict(), config)
    atomic_write(folder / HISTORY, json.dumps(_json(asdict(history)), indent=2) + "\n")


def _json(x: Any) -> Any:
    """x with null where JSON has no number for it: nan and infinity."""
    if isinstance(x, Mapping):
        return {name: _json(item) for name, item in x.items()}
    if isinstance(x, list | tuple):
        return [_json(item) for item in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def load(folder: Path) -> tuple[Task, Settings, MLP]:
    """The model that was trained into a folder."""
    path = folder / MODEL
    if not path.exists():
        raise CommandError(f"{folder}: holds no {MODEL}: train into it first")
    state, config = load_model(path)
    settings = Settings.from_data(config.get("settings"), path)
    if settings.task not in TASKS:
        raise CheckpointError(f"{path}: the task {settings.task!r} is not one of {list(TASKS)}")
    task = TASKS[settings.task]
    model = MLP(**task.architecture(settings), init="zeros", rng=random.Random(0))
    model.load_state_dict(state)
    return task, settings, model
