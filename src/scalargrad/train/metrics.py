"""Metrics: how good a prediction is, in a number for people rather than for gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import losses
from .arguments import function_name, shown
from .step import Loss

Metric: TypeAlias = Callable[[Any, Any], float]
"""`metric(prediction, target)` for one example: plain numbers, or lists of them."""

Metrics: TypeAlias = Mapping[str, Metric] | Iterable[str | Metric]


def accuracy(prediction: Any, target: Any) -> float:
    """1.0 where a prediction is right and 0.0 where it is wrong; of a sequence, the mean.

    A list of scores, one for each class, is right when the largest is at `target`. A single
    score tells two classes apart: above 0 it means the target 1, otherwise -1 (for the hinge
    loss) or 0 (for a logit). A nan is never right.
    """
    if isinstance(target, list | tuple):
        each = [accuracy(p, t) for p, t in zip(prediction, target, strict=True)]
        return sum(each) / len(each)
    scores = prediction if isinstance(prediction, list | tuple) else [prediction]
    if any(map(math.isnan, scores)):
        return 0.0
    if len(scores) == 1:
        return float((scores[0] > 0) == (target > 0))
    return float(max(range(len(scores)), key=scores.__getitem__) == target)


METRICS: Mapping[str, Metric] = {"accuracy": accuracy}

CLASSIFIERS: tuple[Loss, ...] = (
    losses.cross_entropy,
    losses.nll,
    losses.hinge,
    losses.binary_cross_entropy,
)
"""Losses of classifiers: with these accuracy is measured unless something else is asked for."""


def named_metrics(metrics: Metrics | None, loss: Loss) -> dict[str, Metric]:
    """The metrics asked for, by name; for None what suits the loss.

    Raises `ValueError` for a name that is unknown or taken, `TypeError` for what is no function.
    """
    if metrics is None:
        metrics = ["accuracy"] if loss in CLASSIFIERS else []
    if isinstance(metrics, str) or callable(metrics):
        metrics = [metrics]
    if not hasattr(metrics, "__iter__"):
        raise TypeError(
            f"metrics: expected {', '.join(METRICS)} or functions of (prediction, target), "
            f"got {shown(metrics)}"
        )
    pairs = metrics.items() if isinstance(metrics, Mapping) else map(_named, metrics)
    named: dict[str, Metric] = {}
    for name, metric in pairs:
        if name in named or name == "loss":
            raise ValueError(f"metrics: the name {name!r} is taken: give each a name of its own")
        if not callable(metric):
            raise TypeError(
                f"metrics[{name!r}]: expected a function of (prediction, target), got "
                f"{shown(metric)}"
            )
        named[name] = metric
    return named


def _named(metric: str | Metric) -> tuple[str, Metric]:
    if callable(metric):
        return function_name(metric), metric
    if metric not in METRICS:
        raise ValueError(
            f"metrics: expected {', '.join(METRICS)} or functions of (prediction, target), "
            f"got {metric!r}"
        )
    return metric, METRICS[metric]


def sums(
    metrics: Mapping[str, Metric], predictions: Any, targets: NDArray[Any] | Sequence[Any]
) -> dict[str, float]:
    """Each metric summed over examples, from left to right.

    Predictions and targets are lists, or arrays whose first axis are the examples.
    """
    found: dict[str, float] = {}
    for name, metric in metrics.items():
        if metric is accuracy and isinstance(predictions, np.ndarray):
            right = np.asarray(targets)
            if comparable(predictions.shape, right.shape):
                found[name] = added(accuracies(predictions, right), right.ndim == 1)
                continue
        pairs = zip(_listed(predictions), _listed(targets), strict=True)
        found[name] = float(sum(metric(p, t) for p, t in pairs))
    return found


def _listed(x: Any) -> Any:
    return x.tolist() if isinstance(x, np.ndarray) else x


# --- accuracy on arrays ---------------------------------------------------------------------------


def comparable(scores: tuple[int, ...], targets: tuple[int, ...]) -> bool:
    """Whether arrays of these shapes are one score or one row of scores for each target, or for
    each target of a sequence.
    """
    count = len(targets)
    return count in (1, 2) and scores[:count] == targets and count <= len(scores) <= count + 1


def accuracies(scores: NDArray[np.float64], targets: NDArray[Any]) -> NDArray[np.float64]:
    """`accuracy` of each example, where the arrays are `comparable`."""
    rows = scores.reshape(*targets.shape, -1)
    if rows.shape[-1] == 1:
        right = (rows[..., 0] > 0) == (targets > 0)
    else:
        right = rows.argmax(axis=-1) == targets
    right &= ~np.isnan(rows).any(axis=-1)
    each: NDArray[np.float64]
    each = right.astype(np.float64) if targets.ndim == 1 else right.sum(axis=1) / right.shape[1]
    return each


def added(each: NDArray[np.float64], whole: bool) -> float:
    """Their sum from left to right; of whole numbers, which any order adds alike, the sum."""
    return float(each.sum() if whole else sum(each.tolist()))
