"""Learning rates: a number, or a schedule, a function from the step to a number."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from .. import ops
from .limits import checked_count, checked_number

Rate = float | Callable[[int], float]


def checked_rate(x: Any) -> Rate:
    """x as a learning rate; `TypeError` or `ValueError` if it is none."""
    if isinstance(x, type):
        raise TypeError(
            f"lr: expected a number or a schedule, got the class {x.__name__}: make a schedule of "
            f"it, as {x.__name__}(0.1, ...)"
        )
    return x if callable(x) else checked_number("lr", x)


@dataclass(frozen=True)
class Schedule(ABC):
    """A learning rate that depends on the step: `schedule(step)`, 0 for the first update.

    A pure function and plain data, so it can be shared, compared and saved. Any other function
    from a step to a number serves as a learning rate too.
    """

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            checked = _CHECKS[name](value) if name in _CHECKS else checked_number(name, value)
            object.__setattr__(self, name, checked)

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The learning rate of update number `step`."""


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "steps": partial(checked_count, "steps"),
    "every": partial(checked_count, "every"),
    "schedule": checked_rate,
}


@dataclass(frozen=True)
class linear(Schedule):
    """From `start` to `end` in equal decrements over `steps` updates, then `end`.

    start + (end - start) * step / steps. As PyTorch's `LinearLR`.
    """

    start: float
    end: float = 0.0
    steps: int = field(kw_only=True)

    def __call__(self, step: int) -> float:
        """The learning rate of update number `step`."""
        if step >= self.steps:
            return self.end
        return self.start + (self.end - self.start) * step / self.steps


@dataclass(frozen=True)
class cosine(Schedule):
    """From `start` to `end` along half a cosine over `steps` updates, then `end`.

    end + (start - end) * (1 + cos(pi * step / steps)) / 2 (Loshchilov & Hutter, 2017). As
    PyTorch's `CosineAnnealingLR` up to its `T_max`.
    """

    start: float
    end: float = 0.0
    steps: int = field(kw_only=True)

    def __call__(self, step: int) -> float:
        """The learning rate of update number `step`."""
        if step >= self.steps:
            return self.end
        return self.end + (self.start - self.end) * (
            0.5 * (1.0 + math.cos(math.pi * step / self.steps))
        )


@dataclass(frozen=True)
class step_decay(Schedule):
    """`start`, multiplied by `factor` after every `every` updates.

    start * factor^floor(step / every). As PyTorch's `StepLR`.
    """

    start: float
    factor: float = 0.1
    every: int = field(kw_only=True)

    def __call__(self, step: int) -> float:
        """The learning rate of update number `step`."""
        return self.start * ops.pow(self.factor, float(step // self.every))


@dataclass(frozen=True)
class warm_up(Schedule):
    """Rise to a learning rate or schedule over `steps` updates, then follow it from its step 0.

    Before: schedule(0) * (step + 1) / (steps + 1), which is never 0 (Goyal et al., 2017). From
    then on: schedule(step - steps). So `warm_up(cosine(1e-3, steps=900), steps=100)` takes 1,000
    updates in all.
    """

    schedule: Rate
    steps: int = field(kw_only=True)

    def __call__(self, step: int) -> float:
        """The learning rate of update number `step`."""
        if step >= self.steps:
            return at(self.schedule, step - self.steps)
        return at(self.schedule, 0) * (step + 1) / (self.steps + 1)


SCHEDULES: Mapping[str, type[Schedule]] = {
    schedule.__name__: schedule for schedule in (linear, cosine, step_decay, warm_up)
}


def at(rate: Rate, step: int) -> float:
    """The learning rate of update number `step`."""
    if isinstance(rate, float):
        return rate
    return checked_number("lr", rate(step), f" from {rate!r} at step {step}")


def rate_to_data(rate: Rate) -> Any:
    """A number or a `Schedule` as plain data; None for any other function."""
    if isinstance(rate, float):
        return rate
    if type(rate) not in SCHEDULES.values():
        return None
    data = {f.name: getattr(rate, f.name) for f in fields(rate)}  # type: ignore[arg-type]
    if "schedule" in data:
        data["schedule"] = rate_to_data(data["schedule"])
        if data["schedule"] is None:
            return None
    return {"name": type(rate).__name__, **data}


def rate_from_data(data: Any) -> Rate:
    """The learning rate that `rate_to_data` made data of."""
    if not isinstance(data, Mapping):
        return checked_number("lr", data)
    arguments = dict(data)
    kind = SCHEDULES[arguments.pop("name")]
    if "schedule" in arguments:
        arguments["schedule"] = rate_from_data(arguments["schedule"])
    return kind(**arguments)
