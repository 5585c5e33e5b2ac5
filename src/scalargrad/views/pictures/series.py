"""The numbers of a training run, sorted into what belongs on the same axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from scalargrad.errors import ShapeError

from .checks import Flags, Floats, drawable, same_length, vector
from .style import number, percent

LOG_DECADES: Final = 1.5
"""A panel of positive numbers that spans more powers of ten than this gets a logarithmic axis."""

_VALIDATION: Final = ("validation", "valid", "val")


@dataclass(frozen=True)
class Series:
    """One line: its role in the colour table, and a number for each measured epoch."""

    role: str
    epochs: Floats
    values: Floats

    @property
    def good(self) -> Flags:
        """Which values can be drawn."""
        return drawable(self.values)

    @property
    def drawn(self) -> Floats:
        """The values with nan where nothing can be drawn, which breaks the line there."""
        return np.where(self.good, self.values, np.nan)

    def gaps(self) -> list[tuple[int, int]]:
        """First and last epoch of each run of values that cannot be drawn."""
        runs: list[tuple[int, int]] = []
        previous_bad = False
        for epoch, good in zip(self.epochs, self.good):
            if not good:
                first = runs.pop()[0] if previous_bad else int(epoch)
                runs.append((first, int(epoch)))
            previous_bad = not good
        return runs


@dataclass
class Panel:
    """One set of axes: a quantity, measured in training, validation or both."""

    title: str
    series: list[Series] = field(default_factory=list)

    @property
    def is_fraction(self) -> bool:
        """Whether this is an accuracy, shown in percent."""
        return "accuracy" in self.title.lower()

    @property
    def is_scored(self) -> bool:
        """Whether it is known which numbers are better."""
        return self.title == "Loss" or self.is_fraction

    def drawn(self) -> Floats:
        """Every number that is drawn, of all series."""
        return np.concatenate([line.values[line.good] for line in self.series])

    def is_logarithmic(self) -> bool:
        """Whether the numbers are positive and span more than `LOG_DECADES` powers of ten."""
        values = self.drawn()
        if self.is_fraction or not len(values) or values.min() <= 0:
            return False
        return bool(np.log10(values.max()) - np.log10(values.min()) > LOG_DECADES)

    def text(self, value: float) -> str:
        """A value of this panel, as it is written in a label."""
        if not np.isfinite(value):
            return str(value)
        return percent(value) if self.is_fraction else number(value, self._digits())

    def _digits(self) -> int:
        """Significant digits that tell numbers a hundredth of the panel's range apart."""
        values = self.drawn()
        span = np.ptp(values) if len(values) else 0.0
        if not span or self.is_logarithmic():
            return 3
        return int(np.clip(np.ceil(np.log10(np.abs(values).max() / span)) + 2, 3, 15))

    def notes(self) -> list[str]:
        """What to say below the title: the best epoch, and the epochs that could not be drawn."""
        return [note for note in (self._best(), self._missing()) if note]

    def _best(self) -> str:
        line = next((line for line in self.series if line.role == "validation"), self.series[0])
        if not self.is_scored or not line.good.any():
            return ""
        pick, word = (np.nanargmax, "best") if self.is_fraction else (np.nanargmin, "lowest")
        at = pick(line.drawn)
        return f"{word} {line.role} {self.text(line.values[at])} at epoch {line.epochs[at]:.0f}"

    def _missing(self) -> str:
        runs = sorted({run for line in self.series for run in line.gaps()})
        if not runs:
            return ""
        if len(runs) > 3:
            return f"× nan or too large in {len(runs)} places, epochs {runs[0][0]} to {runs[-1][1]}"
        spans = [f"{a}" if a == b else f"{a}–{b}" for a, b in runs]
        plural = "s" if len(runs) > 1 or runs[0][0] != runs[0][1] else ""
        return f"× nan or too large at epoch{plural} {', '.join(spans)}"


def panels(
    loss: Sequence[float | None],
    validation_loss: Sequence[float | None] | None,
    metrics: Mapping[str, Sequence[float | None]],
) -> list[Panel]:
    """Check the arguments and gather what belongs on the same axes."""
    if not len(loss):
        raise ShapeError("loss is empty: a picture needs at least one epoch")
    found = {"loss": Panel("Loss", [_series("loss", "training", loss)])}
    if validation_loss is not None:
        same_length("loss", loss, validation_loss=validation_loss)
        found["loss"].series.append(_series("validation_loss", "validation", validation_loss))
    for name, values in metrics.items():
        argument = f"metrics[{name!r}]"
        same_length("loss", loss, **{argument: values})
        quantity, role = _split(name)
        panel = found.setdefault(quantity, Panel(quantity[:1].upper() + quantity[1:]))
        if role in {line.role for line in panel.series}:
            raise ValueError(
                f"{argument} is a second {role} curve of {quantity!r}: give each quantity once "
                f"plain and once with the prefix 'validation '"
            )
        panel.series.append(_series(argument, role, values))
        if panel.is_fraction:
            _check_fraction(argument, panel.series[-1])
    return list(found.values())


def _series(argument: str, role: str, values: Sequence[float | None]) -> Series:
    measured = [i for i, value in enumerate(values) if value is not None]
    if not measured:
        raise ValueError(f"{argument} has only None entries: leave it out")
    numbers = vector(argument, [value for value in values if value is not None])
    return Series(role, np.array(measured, dtype=np.float64) + 1, numbers)


def _split(name: str) -> tuple[str, str]:
    """'val_accuracy' -> ('accuracy', 'validation'); 'accuracy' -> ('accuracy', 'training')."""
    words = name.replace("_", " ").split()
    if len(words) > 1 and words[0].lower() in _VALIDATION:
        return " ".join(words[1:]), "validation"
    return " ".join(words), "training"


def _check_fraction(argument: str, line: Series) -> None:
    values = line.values[line.good]
    outside = values[(values < 0) | (values > 1)]
    if len(outside):
        raise ValueError(
            f"{argument} must be fractions from 0 to 1, got {outside[0]:g}: "
            f"divide counts by the number of examples, and percentages by 100"
        )
