"""Losses: how wrong a prediction is, as one number, for one example.

The loss of a batch is the mean of its examples' losses. Arguments are Values or real numbers,
bare or in lists; lists that belong together must be equally long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from .coerce import is_real
from .engine import Value
from .errors import ShapeError
from .functional import (
    Index,
    Scalar,
    TracedIndex,
    as_value,
    as_values,
    log_softmax,
    maximum,
    mean,
    require_index,
    take,
)

Scalars: TypeAlias = Scalar | Sequence[Scalar]


def _is_list(x: Any) -> bool:
    return hasattr(x, "__len__") and getattr(x, "shape", None) != ()


def _listed(x: Any, name: str) -> list[Value]:
    return as_values(x, name) if _is_list(x) else [as_value(x, name)]


def _paired(a: Any, b: Any, name_a: str, name_b: str) -> list[tuple[Value, Value]]:
    """The numbers of a and b side by side; a bare number is a list of one."""
    left, right = _listed(a, name_a), _listed(b, name_b)
    if len(left) != len(right) or not left:
        raise ShapeError(
            f"{name_a} and {name_b} must have equally many numbers, at least one: "
            f"{name_a} has {len(left)}, {name_b} has {len(right)}"
        )
    return list(zip(left, right))


def _check_numbers(x: Any, name: str, allowed: Callable[[float], bool], expected: str) -> None:
    """Refuse plain numbers that are not allowed; the number of a Value, or of an integer being
    traced, is the program's own affair."""
    for item in x if _is_list(x) else [x]:
        if is_real(item) and not allowed(item):
            raise ValueError(f"{name}: expected {expected}, got {item!r}")


def mse(prediction: Scalars, target: Scalars) -> Value:
    """Mean squared error: the mean of (prediction - target)^2 over the outputs.

    PyTorch's `mse_loss`. Raises `ShapeError` if the two are not equally long.
    """
    return mean([(p - t) ** 2 for p, t in _paired(prediction, target, "prediction", "target")])


def nll(log_probs: Sequence[Scalar], target: Index) -> Value:
    """Negative log-likelihood: -log_probs[target], for logarithms of probabilities.

    PyTorch's `nll_loss`. Raises `IndexError` for a target outside 0 ... len(log_probs) - 1,
    `TypeError` for one that is not an int, and `ShapeError` for an empty list.
    """
    candidates = as_values(log_probs, "log_probs")
    if not candidates:
        raise ShapeError("log_probs: expected a number for each class, got an empty list")
    chosen: Value = take(candidates, _class(target, len(candidates)))
    return -chosen


def _class(target: Index, count: int) -> Index:
    if not isinstance(target, int) and isinstance(target, TracedIndex):
        return target
    target = require_index(target, "target")
    if not 0 <= target < count:
        raise IndexError(
            f"target {target} is not one of the {count} classes: expected 0 to {count - 1}"
        )
    return target


def cross_entropy(logits: Sequence[Any], target: Any) -> Value:
    """-log(softmax(logits)[target]): the surprise at the class `target`, an int, being true.

    `logits` are any real numbers, one per class; nothing overflows. PyTorch's `cross_entropy`.
    For a sequence, pass one list of logits per position and as many targets: the loss is the
    mean over the positions.

    Raises `IndexError` for a target that is not a class, `TypeError` for one that is not an int
    and `ShapeError` for a sequence with another number of targets.
    """
    if not _is_list(logits):
        raise TypeError(
            f"logits: expected a list with a number for each class, got {type(logits).__name__}: "
            "for a single output use binary_cross_entropy"
        )
    if not len(logits):
        raise ShapeError("logits: expected a number for each class, got an empty list")
    if not _is_list(logits[0]):
        return nll(log_softmax(as_values(logits, "logits")), target)
    targets = target if _is_list(target) else [target]
    if len(logits) != len(targets):
        raise ShapeError(
            f"logits has {len(logits)} positions, target has {len(targets)}: "
            "expected one target for each position"
        )
    return mean([nll(log_softmax(row), t) for row, t in zip(logits, targets)])


def binary_cross_entropy(prediction: Scalars, target: Scalars, *, from_logit: bool = True) -> Value:
    """-(t*log(p) + (1 - t)*log(1 - p)), p the predicted and t the true probability (0 or 1).

    `prediction` is the logit z with p = sigmoid(z), and the loss is computed as
    softplus(z) - t*z, which is the same number but neither overflows nor loses digits (PyTorch's
    `binary_cross_entropy_with_logits`). With `from_logit=False`, `prediction` is p itself, for a
    network that ends in a sigmoid; there a logarithm below -100 counts as -100, so that the loss
    stays finite at p = 0 and 1 (PyTorch's `binary_cross_entropy`). Of lists, the mean.

    Raises `ShapeError` if the two are not equally long and `ValueError` for a target outside
    [0, 1].
    """
    pairs = _paired(prediction, target, "prediction", "target")
    _check_numbers(target, "target", lambda t: 0.0 <= t <= 1.0, "a probability from 0 to 1")
    if from_logit:
        return mean([z.softplus() - t * z for z, t in pairs])
    return mean([-(t * _log(p) + (1.0 - t) * _log(1.0 - p)) for p, t in pairs])


def _log(p: Value) -> Value:
    return maximum(p.log(), -100.0)


def hinge(score: Scalars, target: Scalars) -> Value:
    """max(0, 1 - target*score), the margin loss of support vector machines; target is -1 or +1.

    0 once the score is on the right side of 0 by at least 1. Of lists, the mean. Raises
    `ShapeError` if the two are not equally long and `ValueError` for another target.
    """
    pairs = _paired(score, target, "score", "target")
    _check_numbers(target, "target", lambda t: t in (-1.0, 1.0), "-1 or +1 (2*y - 1 of 0 or 1)")
    return mean([(1.0 - t * s).relu() for s, t in pairs])
