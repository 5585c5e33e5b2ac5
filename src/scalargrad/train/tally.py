"""Metrics summed over the mini-batches of an epoch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .examples import Batch
from .metrics import Metric, accuracies, accuracy, added, comparable, sums
from .step import Outcome

WAITING = 1 << 18  # bytes of predictions, about, that wait to be looked at together


class Tally:
    """Adds metrics of mini-batches to `totals`: each is `measure`d, and counts once `confirm`ed.

    On arrays, to find out which predictions are right takes about as long for a hundred small
    mini-batches as for one. So that waits until there are many, or until `settle`.
    """

    def __init__(self, metrics: Mapping[str, Metric], totals: dict[str, float]) -> None:
        self._metrics, self._totals = metrics, totals
        self._late = [name for name, metric in metrics.items() if metric is accuracy]
        self._others = {name: metrics[name] for name in metrics if name not in self._late}
        self._waiting: list[tuple[NDArray[np.float64], Batch]] = []
        self._bytes = 0
        self._found: dict[str, float] = {}
        self._kept: NDArray[np.float64] | None = None

    def measure(self, outcome: Outcome, batch: Batch) -> None:
        """Look at the predictions for a mini-batch, or keep them to be looked at."""
        if not self._metrics:
            return
        predictions, now, self._kept = outcome.predictions, self._metrics, None
        if self._late and isinstance(predictions, np.ndarray):
            targets = batch.examples.y
            if isinstance(targets, np.ndarray) and comparable(
                predictions.shape, (len(batch), *targets.shape[1:])
            ):
                now, self._kept = self._others, predictions
        self._found = sums(now, predictions, batch.targets()) if now else {}

    def confirm(self, batch: Batch) -> None:
        """What was measured last counts."""
        if self._kept is not None:
            self._waiting.append((self._kept, batch))
            self._bytes += self._kept.nbytes + batch.rows.nbytes
        if self._kept is None or self._bytes > WAITING:
            self.settle()
        for name, number in self._found.items():
            self._totals[name] += number

    def settle(self) -> None:
        """Have `totals` complete."""
        if not self._waiting:
            return
        predictions, batches = zip(*self._waiting)
        self._waiting, self._bytes = [], 0
        targets = batches[0].examples.y[np.concatenate([batch.rows for batch in batches])]
        each = accuracies(np.concatenate(predictions), targets)
        whole = targets.ndim == 1
        parts = [each] if whole else np.split(each, np.cumsum([len(b) for b in batches])[:-1])
        for part in parts:
            number = added(part, whole)
            for name in self._late:
                self._totals[name] += number
