"""Metrics over mini-batches: the sums of each, one after the other, whenever they are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scalargrad.train import tally
from scalargrad.train.examples import Batch, Examples
from scalargrad.train.metrics import Metric, accuracy, sums
from scalargrad.train.step import Outcome
from scalargrad.train.tally import Tally

SHAPES = [((), ()), ((), (1,)), ((), (5,)), ((7,), ()), ((7,), (5,))]


def error(prediction: Any, target: Any) -> float:
    return float(np.sum(np.abs(np.subtract(np.sum(prediction), np.sum(target)))))


def batches(shape: tuple[int, ...]) -> list[Batch]:
    """Mini-batches of different sizes, of examples in some order."""
    rng = np.random.default_rng(0)
    examples = Examples(np.zeros((50, 1)), rng.integers(0, 2, (50, *shape)))
    return [Batch(examples, part) for part in np.split(rng.permutation(50), [1, 8, 20, 21, 40])]


def predicted(batch: Batch, shape: tuple[int, ...], seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return rng.integers(-2, 3, (len(batch), *shape)).astype(float)


@pytest.mark.parametrize("waiting", [0, 500, 1 << 18])
@pytest.mark.parametrize(("targets", "classes"), SHAPES)
@pytest.mark.parametrize("metrics", [{"a": accuracy}, {"e": error, "a": accuracy, "b": accuracy}])
def test_sums_are_those_of_one_mini_batch_after_the_other(
    waiting: int,
    targets: tuple[int, ...],
    classes: tuple[int, ...],
    metrics: dict[str, Metric],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tally, "WAITING", waiting)
    expected, totals = dict.fromkeys(metrics, 0.0), dict.fromkeys(metrics, 0.0)
    counted = Tally(metrics, totals)
    for k, batch in enumerate(batches(targets)):
        predictions = predicted(batch, (*targets, *classes), k)
        for name, number in sums(metrics, predictions.tolist(), batch.targets()).items():
            expected[name] += number
        # Lists now and then, as from an eager step.
        given = predictions.tolist() if k == 3 else predictions
        counted.measure(Outcome(0.0, lambda given=given: given), batch)
        counted.confirm(batch)
    counted.settle()
    assert totals == expected
    counted.settle()
    assert totals == expected


def test_what_is_not_confirmed_does_not_count() -> None:
    totals = {"a": 0.0}
    counted = Tally({"a": accuracy}, totals)
    for batch in batches(()):
        scores = np.where(batch.targets() > 0, 1.0, -1.0)  # all right
        counted.measure(Outcome(0.0, lambda scores=scores: -scores), batch)
        counted.measure(Outcome(0.0, lambda scores=scores: scores), batch)
        counted.confirm(batch)
    counted.settle()
    assert totals == {"a": 50.0}


def test_what_waits_is_bounded() -> None:
    counted = Tally({"a": accuracy}, {"a": 0.0})
    examples = Examples(np.zeros((1000, 1)), np.zeros(1000, np.int64))
    for _ in range(100):
        batch = Batch(examples, np.arange(1000))
        counted.measure(Outcome(0.0, lambda: np.ones((1000, 10))), batch)
        counted.confirm(batch)
        held = sum(predictions.nbytes for predictions, _ in counted._waiting)
        assert held <= tally.WAITING
    counted.settle()
    assert counted._totals == {"a": 100_000.0}


def test_without_metrics_nobody_predicts() -> None:
    def refuse() -> Any:
        raise AssertionError

    counted = Tally({}, {})
    (batch, *_) = batches(())
    counted.measure(Outcome(0.0, refuse), batch)
    counted.confirm(batch)
    counted.settle()
