"""What each epoch came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(repr=False)
class History:
    """A record of training. Entry k of every list is epoch k + 1.

    `loss` and `metrics` are means over the examples as they were learned from, the parameters
    changing meanwhile; `validation_loss` and `validation_metrics` are measured after the epoch.
    Losses include the penalty. `seconds` is how long the epoch took. `stopped` is the reason for
    which a callback ended the run, "" if none did; `interrupted` is whether Ctrl-C did.
    """

    loss: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    validation_loss: list[float] = field(default_factory=list)
    validation_metrics: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    stopped: str = ""
    interrupted: bool = False

    def __repr__(self) -> str:
        """The latest numbers: it is the last line of many a notebook's cell."""
        latest = {"loss": self.loss, **self.metrics, "validation loss": self.validation_loss}
        latest |= {f"validation {name}": each for name, each in self.validation_metrics.items()}
        numbers = [f"{name} {each[-1]:.4g}" for name, each in latest.items() if each]
        plural = "" if len(self) == 1 else "s"
        ended = [f"stopped: {self.stopped}"] if self.stopped else []
        ended += ["interrupted"] if self.interrupted else []
        return f"History({', '.join([f'{len(self)} epoch{plural}', *numbers, *ended])})"

    def __len__(self) -> int:
        """How many epochs are finished."""
        return len(self.loss)

    def series(self, name: str) -> list[float]:
        """The loss ("loss") or a metric, by epoch: of the validation data where there is some.

        Raises `ValueError` for a name that is not measured.
        """
        known = {"loss": self.loss, **self.metrics}
        if name not in known:
            raise ValueError(f"{name!r} is not measured: expected one of {', '.join(known)}")
        if self.validation_loss:
            known = {"loss": self.validation_loss, **self.validation_metrics}
        return known[name]

    def add(
        self, training: Mapping[str, float], validation: Mapping[str, float], seconds: float
    ) -> None:
        """Append an epoch: "loss" and metrics by name, for both kinds of data."""
        for name, number in training.items():
            _list(self.loss, self.metrics, name).append(number)
        for name, number in validation.items():
            _list(self.validation_loss, self.validation_metrics, name).append(number)
        self.seconds.append(seconds)

    def plot(self, title: str | None = None) -> Figure:
        """Loss and metrics over the epochs, as a matplotlib `Figure`.

        `scalargrad.views.pictures.save` writes it to a file. Raises `ShapeError` before the
        first epoch is finished and `MissingExtraError` without matplotlib.
        """
        from ..views import pictures

        held_out = {f"validation {name}": each for name, each in self.validation_metrics.items()}
        return pictures.curves(
            self.loss,
            validation_loss=self.validation_loss or None,
            metrics={**self.metrics, **held_out},
            title=title,
        )


def _list(loss: list[float], metrics: dict[str, list[float]], name: str) -> list[float]:
    return loss if name == "loss" else metrics.setdefault(name, [])
