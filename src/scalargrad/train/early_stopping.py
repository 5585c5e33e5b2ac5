"""Stopping when nothing gets better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import positive_count
from .history import History

if TYPE_CHECKING:
    from .trainer import Trainer


class EarlyStopping:
    """A callback that ends training when epoch after epoch brings nothing better.

    It watches `monitor`, "loss" or a metric's name, of the validation data where there is some.
    An epoch is better when it beats the best so far by more than `min_delta`: a loss by being
    smaller, a metric by being larger. After `patience` epochs in a row that are not, training
    stops. With `restore_best` the parameters return to those of the best epoch when training
    ends, early or not (Prechelt, Early stopping - but when?, 1998).
    """

    def __init__(
        self,
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best: bool = True,
        *,
        monitor: str = "loss",
    ) -> None:
        self.patience = positive_count("patience", patience)
        if not 0.0 <= min_delta < math.inf:
            raise ValueError(f"min_delta: expected a finite number, 0 or more, got {min_delta!r}")
        self.min_delta, self.restore_best, self.monitor = min_delta, restore_best, monitor
        self.best, self.best_epoch, self.parameters = math.nan, 0, np.empty(0)

    def __call__(self, trainer: Trainer, epoch: int, history: History) -> None:
        """Look at the epoch just finished."""
        value = history.series(self.monitor)[-1]
        if epoch == 1 or self._is_better(value):
            self.best, self.best_epoch = value, epoch
            if self.restore_best:
                self.parameters = np.array([p.data for p in trainer.parameters])
        if epoch - self.best_epoch >= self.patience:
            trainer.stop(
                f"{self.monitor} has not improved since epoch {self.best_epoch} ({self.best:.4g})"
            )

    def _is_better(self, value: float) -> bool:
        gain = self.best - value if self.monitor == "loss" else value - self.best
        return gain > self.min_delta or (math.isnan(self.best) and not math.isnan(value))

    def finish(self, trainer: Trainer, history: History) -> None:
        """Return to the best parameters."""
        if len(self.parameters):
            for parameter, data in zip(trainer.parameters, self.parameters.tolist(), strict=True):
                parameter.data = data

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs in order to decide as this one would."""
        return {"best": self.best, "best_epoch": self.best_epoch, "parameters": self.parameters}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.parameters = state["parameters"]
