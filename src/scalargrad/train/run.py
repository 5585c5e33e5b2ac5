"""A run: what was asked for, how far it has come, and both in a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..checkpoint import load_checkpoint, save_checkpoint
from ..errors import CheckpointError, StateError
from .arguments import function_name
from .examples import Examples
from .history import History
from .metrics import Metric

if TYPE_CHECKING:
    from .trainer import Trainer

Callback: TypeAlias = Callable[["Trainer", int, History], object]


@dataclass(frozen=True)
class Plan:
    """What `Trainer.fit` was asked to do, checked."""

    examples: Examples
    validation: Examples | None
    metrics: dict[str, Metric]
    epochs: int
    batch_size: int
    shuffle: bool
    callbacks: tuple[Callback, ...]
    path: Path | None

    @property
    def batches(self) -> int:
        """Mini-batches in an epoch, the last perhaps short."""
        return -(-len(self.examples) // self.batch_size)


@dataclass
class Run:
    """How far a run has come: all that is neither the model's nor the optimizer's."""

    rng: Any  # the state of the shuffling generator when the epoch under way began
    history: History = field(default_factory=History)
    batch: int = 0  # mini-batches of that epoch that are done
    sums: dict[str, float] = field(default_factory=dict)  # loss and metrics over their examples
    count: int = 0  # how many examples those are
    seconds: float = 0.0  # how long they took

    def add(self, loss: float, count: int) -> None:
        """Add a mini-batch of `count` examples and its mean loss; `Tally` adds its metrics."""
        self.sums["loss"] += loss * count
        self.count += count
        self.batch += 1

    def expect(self, metrics: Iterable[str]) -> None:
        """Begin sums of the loss and of these, where there are none yet."""
        for name in ("loss", *metrics):
            self.sums.setdefault(name, 0.0)

    def means(self) -> dict[str, float]:
        """Loss and metrics of the epoch so far."""
        return {name: total / self.count for name, total in self.sums.items()}

    def end_epoch(self, rng: Any, validation: Mapping[str, float]) -> None:
        """Write the epoch into the history and begin the next."""
        self.history.add(self.means(), validation, self.seconds)
        self.rng, self.batch, self.sums, self.count, self.seconds = rng, 0, {}, 0, 0.0


# --- checkpoints ----------------------------------------------------------------------------------


def configuration(trainer: Trainer, plan: Plan) -> dict[str, Any]:
    """All that must be the same when a run is resumed, as plain data."""
    optimizer = trainer.optimizer.state_dict()
    return {
        "model": {name: list(a.shape) for name, a in trainer.model.state_dict().items()},
        "loss": function_name(trainer.loss),
        "penalty": None if trainer.penalty is None else function_name(trainer.penalty),
        "optimizer": optimizer["optimizer"],
        "learning rate": optimizer["lr"],
        "optimizer's": optimizer["hyper"],
        "seed": trainer.seed,
        "batch_size": plan.batch_size,
        "shuffle": plan.shuffle,
        "metrics": list(plan.metrics),
        "stateful callbacks": [function_name(callback) for callback in _stateful(plan)],
        "training data": _described(plan.examples),
        "validation data": _described(plan.validation),
    }


def _stateful(plan: Plan) -> list[Any]:
    return [callback for callback in plan.callbacks if hasattr(callback, "state_dict")]


def _described(examples: Examples | None) -> str:
    return f"{len(examples)} examples, CRC-32 {examples.checksum():08x}" if examples else "none"


def save_run(trainer: Trainer, plan: Plan, run: Run, settings: Mapping[str, Any]) -> None:
    """Write everything `load_run` needs to `plan.path`, if there is one."""
    if plan.path is None:
        return
    states = [callback.state_dict() for callback in _stateful(plan)]
    save_checkpoint(
        plan.path,
        model=trainer.model.state_dict(),
        optimizer=trainer.optimizer.state_dict(),
        extra={"configuration": settings, "run": asdict(run), "callbacks": states},
    )


def load_run(trainer: Trainer, plan: Plan, path: Path, settings: Mapping[str, Any]) -> Run:
    """The run saved in `path`, with model, optimizer and callbacks set as they were.

    Raises `CheckpointError` for a file that is damaged or of a run with other settings, naming
    the first that differs; then nothing has changed.
    """
    model, optimizer, extra = load_checkpoint(path)
    try:
        difference = _difference("", extra["configuration"], settings)
        if difference:
            raise CheckpointError(
                f"{path}: holds another run: {difference}. Make it as it was, or use another file"
            )
        saved = extra["run"]
        run = Run(**{**saved, "history": History(**saved["history"])})
        run.history.interrupted = False
        trainer.rng.setstate(run.rng)
        trainer.model.load_state_dict(model)
        trainer.optimizer.load_state_dict(optimizer)
        for callback, state in zip(_stateful(plan), extra["callbacks"], strict=True):
            callback.load_state_dict(state)
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, StateError) as error:
        raise CheckpointError(f"{path}: not the checkpoint of such a run: {error}") from error
    return run


def _difference(name: str, saved: Any, now: Any) -> str:
    """The first setting that differs, with both its values; "" if none does."""
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        parts = (
            _difference(f"{name} {key}", saved.get(key), now.get(key)) for key in {**now, **saved}
        )
        return next(filter(None, parts), "")
    return "" if saved == now else f"its{name} was {saved!r}, and here it is {now!r}"
