"""What a training command was asked to do, in numbers and text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any, NamedTuple

from ..errors import CheckpointError
from ..optim import SGD, Adam, AdamW, Optimizer, RMSprop, Schedule, cosine


class Method(NamedTuple):
    """An optimiser, and a learning rate to start from that suits small networks."""

    make: Callable[..., Optimizer]
    lr: float


OPTIMIZERS: Mapping[str, Method] = {
    "sgd": Method(partial(SGD, momentum=0.9), 0.05),
    "adam": Method(Adam, 0.01),
    "adamw": Method(partial(AdamW, weight_decay=0.1), 0.01),
    "rmsprop": Method(RMSprop, 0.005),
}


@dataclass(frozen=True)
class Settings:
    """One run: which task, on how many examples, with which network, how it learns.

    `hidden` are the sizes of the hidden layers, `examples` how many are learned from (0: all
    there are), `data` the folder of a task that reads files.
    """

    task: str
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    seed: int = 0
    examples: int = 0
    data: str = ""

    def changed(self, options: Mapping[str, Any]) -> Settings:
        """These settings with the options that were given; another optimiser has its own rate."""
        given = {name: value for name, value in options.items() if value is not None}
        if given.get("optimizer", self.optimizer) != self.optimizer:
            given.setdefault("lr", OPTIMIZERS[given["optimizer"]].lr)
        return replace(self, **given)

    def schedule(self, examples: int) -> Schedule:
        """The learning rate: from `lr` down to 0 along half a cosine, over all mini-batches."""
        return cosine(self.lr, steps=self.epochs * -(-examples // self.batch_size))

    def to_data(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        return {**asdict(self), "hidden": list(self.hidden)}

    @classmethod
    def from_data(cls, data: Any, source: object) -> Settings:
        """What `to_data` returned; `CheckpointError`, naming its `source`, for anything else."""
        try:
            values = {**data, "hidden": tuple(data["hidden"]), "lr": float(data["lr"])}
            settings = cls(**values)
        except (TypeError, ValueError, KeyError) as error:
            raise _not_settings(source) from error
        for field in fields(cls):
            if type(values[field.name]) is not type(getattr(_SAMPLE, field.name)):
                raise _not_settings(source)
        return settings


def _not_settings(source: object) -> CheckpointError:
    return CheckpointError(f"{source}: not the settings of a run: train again")


_SAMPLE = Settings("", (), 0, 0, "", 0.0)
