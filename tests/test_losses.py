"""Losses: formulas, PyTorch's numbers, gradients, limits, errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checking import ForbidReading, assert_gradient, gradient
from scalargrad import Value, losses
from scalargrad import functional as F
from scalargrad.errors import ShapeError
from scalargrad.modes import modes

pytestmark = pytest.mark.pure

logit = st.floats(-50, 50)
logits = st.lists(logit, min_size=1, max_size=6)


# --- formulas -------------------------------------------------------------------------------------


def test_numbers_computed_by_pytorch() -> None:
    x, t = [0.5, -1.25, 2.0], [1.0, 0.0, 0.25]
    assert losses.mse(x, t).data == pytest.approx(1.625, rel=1e-15)
    assert losses.cross_entropy(x, 1).data == pytest.approx(3.4826219831020326, rel=1e-15)
    assert losses.binary_cross_entropy(x, t).data == pytest.approx(0.7843113588561508, rel=1e-15)
    p = [0.9, 0.2, 0.5]
    assert losses.binary_cross_entropy(p, t, from_logit=False).data == pytest.approx(
        0.3405504158439938, rel=1e-15
    )


def test_mse_is_the_mean_square_of_the_differences() -> None:
    assert losses.mse([1.0, 2.0, 4.0], [1.0, 0.0, 1.0]).data == 13 / 3
    assert losses.mse(3.0, 1).data == losses.mse([3.0], 1.0).data == 4.0
    assert losses.mse(np.float64(3.0), np.array([1.0])).data == 4.0


@given(logits, st.data())
def test_cross_entropy_is_nll_of_log_softmax(x: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(x) - 1))
    y = losses.cross_entropy(x, k).data
    assert y == losses.nll(F.log_softmax(x), k).data >= 0.0
    assert y == pytest.approx(F.logsumexp(x).data - x[k], abs=1e-12)


@given(logits, st.data())
def test_the_gradient_of_cross_entropy_is_the_error_in_probability(
    x: list[float], data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, len(x) - 1))
    expected = [p.data - (j == k) for j, p in enumerate(F.softmax(x))]
    got = gradient(lambda v: losses.cross_entropy(v, k), x)
    assert got == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_cross_entropy_of_a_sequence_is_the_mean_over_its_positions() -> None:
    rows = [[0.5, -1.0], [2.0, 0.25], [0.0, 0.0]]
    each = [losses.cross_entropy(row, k).data for row, k in zip(rows, [1, 0, 1])]
    for targets in ([1, 0, 1], np.array([1, 0, 1])):
        assert losses.cross_entropy(rows, targets).data == sum(each) / 3
    assert losses.cross_entropy(rows[:1], 1).data == each[0]


@given(logit, st.floats(0, 1))
def test_binary_cross_entropy_of_a_logit_is_that_of_its_probability(z: float, t: float) -> None:
    p = 1 / (1 + math.exp(-z))
    expected = t * math.log1p(math.exp(-z)) + (1 - t) * math.log1p(math.exp(z))
    assert losses.binary_cross_entropy(z, t).data == pytest.approx(expected, rel=1e-9, abs=1e-12)
    if abs(z) < 10:
        from_p = losses.binary_cross_entropy(p, t, from_logit=False).data
        assert from_p == pytest.approx(expected, rel=1e-9)


@given(st.floats(-3, 3), st.sampled_from([-1, 1, -1.0, np.int64(1), np.float32(-1)]))
def test_hinge_is_zero_beyond_the_margin_and_a_line_before(s: float, y: Any) -> None:
    assert losses.hinge(s, y).data == max(0.0, 1.0 - float(y) * s)


def test_hinge_of_several_scores_is_their_mean() -> None:
    assert losses.hinge([0.5, -0.5, 3.0], [1, 1, 1]).data == (0.5 + 1.5) / 3


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: losses.mse(x, [1.0, 0.0, 0.25]),
        lambda x: losses.mse(x[:2], x[1:]),
        lambda x: losses.cross_entropy(x, 2),
        lambda x: losses.cross_entropy([x, x[::-1]], [0, 0]),
        lambda x: losses.nll(x, 1),
        lambda x: losses.binary_cross_entropy(x, [1.0, 0.0, 0.25]),
        lambda x: losses.binary_cross_entropy(
            [v.sigmoid() for v in x], [1, 0, 0.5], from_logit=False
        ),
        lambda x: losses.hinge(x, [1, -1, 1]),
    ],
)
def test_gradients_agree_with_central_differences(loss: Callable[[list[Value]], Value]) -> None:
    assert_gradient(loss, [0.5, -1.25, 2.0])
    assert_gradient(loss, [-0.3, 0.8, 0.1])


def test_a_loss_with_a_wrong_gradient_is_caught() -> None:
    def forgets_the_target(x: list[Value]) -> Value:
        return F.logsumexp(x) - x[0].detach()

    with pytest.raises(AssertionError):
        assert_gradient(forgets_the_target, [0.5, -1.25, 2.0])


@given(st.lists(st.tuples(logit, st.floats(0, 1)), min_size=1, max_size=4), st.data())
def test_pytorch_agrees(pairs: list[tuple[float, float]], data: st.DataObject) -> None:
    torch = pytest.importorskip("torch")
    torch_f = torch.nn.functional
    x, t = [p[0] for p in pairs], [p[1] for p in pairs]
    k = data.draw(st.integers(0, len(x) - 1))
    target = torch.tensor(t, dtype=torch.float64)

    for ours, theirs in (
        (lambda v: losses.mse(v, t), lambda z: torch_f.mse_loss(z, target)),
        (lambda v: losses.cross_entropy(v, k), lambda z: torch_f.cross_entropy(z, torch.tensor(k))),
        (
            lambda v: losses.binary_cross_entropy(v, t),
            lambda z: torch_f.binary_cross_entropy_with_logits(z, target),
        ),
        (
            lambda v: losses.nll(F.log_softmax(v), k),
            lambda z: torch_f.nll_loss(torch.log_softmax(z, 0)[None], torch.tensor([k])),
        ),
    ):
        tensor = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        expected = theirs(tensor)
        expected.backward()
        assert ours(F.as_values(x)).data == pytest.approx(expected.item(), rel=1e-12, abs=1e-13)
        assert gradient(ours, x) == pytest.approx(tensor.grad.tolist(), rel=1e-9, abs=1e-12)
    with torch.no_grad():
        p = torch.sigmoid(torch.tensor(x, dtype=torch.float64))
        expected = torch_f.binary_cross_entropy(p, target).item()
    got = losses.binary_cross_entropy(p.tolist(), t, from_logit=False).data
    assert got == pytest.approx(expected, rel=1e-12)


# --- limits ---------------------------------------------------------------------------------------


def test_nothing_overflows() -> None:
    assert losses.cross_entropy([1e4, -1e4], 0).data == 0.0
    assert losses.cross_entropy([1e4, -1e4], 1).data == 2e4
    assert losses.binary_cross_entropy(1e4, 1).data == 0.0
    assert losses.binary_cross_entropy(-1e4, 1).data == 1e4
    assert losses.binary_cross_entropy(1e300, 0).data == 1e300


def test_certain_probabilities_have_a_finite_loss() -> None:
    def bce(p: float, t: float) -> float:
        return losses.binary_cross_entropy(p, t, from_logit=False).data

    assert [bce(1.0, 1), bce(0.0, 0), bce(0.0, 1), bce(1.0, 0)] == [0.0, 0.0, 100.0, 100.0]


def test_a_naive_binary_cross_entropy_would_fail_these_limits() -> None:
    p = Value(-1e4).sigmoid()
    naive = -(1 * p.log() + 0 * (1 - p).log())
    assert naive.data != losses.binary_cross_entropy(-1e4, 1).data == 1e4


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "a", "b"),
    [
        (losses.mse, "prediction", "target"),
        (losses.binary_cross_entropy, "prediction", "target"),
        (losses.hinge, "score", "target"),
    ],
)
def test_unequal_lengths_are_refused_naming_both(
    loss: Callable[[Any, Any], Value], a: str, b: str
) -> None:
    with pytest.raises(ShapeError, match=rf"{a} has 2, {b} has 3$"):
        loss([1.0, 1.0], [1.0, 1.0, 1.0])
    with pytest.raises(ShapeError, match=rf"{a} has 2, {b} has 1$"):
        loss([1.0, 1.0], 1.0)
    with pytest.raises(ShapeError, match="at least one"):
        loss([], [])


def test_targets_of_a_sequence_are_counted() -> None:
    for target in ([1, 0, 1], 1):
        with pytest.raises(ShapeError, match=r"logits has 2 positions, target has [13]"):
            losses.cross_entropy([[1.0, 2.0], [1.0, 2.0]], target)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.nll])
def test_a_target_is_one_of_the_classes(loss: Callable[[Any, Any], Value]) -> None:
    for wrong in (-1, 3):
        with pytest.raises(IndexError, match=f"target {wrong} is not one of the 3 classes"):
            loss([0.1, 0.2, 0.3], wrong)
    for wrong in (1.0, True, "1", None, Value(1.0)):
        with pytest.raises(TypeError, match="target: expected an int, got"):
            loss([0.1, 0.2, 0.3], wrong)


def test_one_output_has_no_classes() -> None:
    for bare in (Value(1.0), 1.0):
        with pytest.raises(TypeError, match=r"logits: expected a list.*binary_cross_entropy"):
            losses.cross_entropy(bare, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [0, 2, -0.5, math.nan])
def test_a_hinge_target_is_a_sign(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"target: expected -1 or \+1"):
        losses.hinge([0.5, 0.5], [1, wrong])


@pytest.mark.parametrize("wrong", [-1, 1.5, math.nan])
def test_a_binary_target_is_a_probability(wrong: float) -> None:
    with pytest.raises(ValueError, match="target: expected a probability from 0 to 1"):
        losses.binary_cross_entropy(0.5, wrong)


def test_what_is_not_a_number_is_named() -> None:
    with pytest.raises(TypeError, match=r"logits\[1\]: expected a Value or a real number"):
        losses.cross_entropy([1.0, "2"], 0)
    with pytest.raises(ShapeError, match="logits: expected a number for each class, got an empty"):
        losses.cross_entropy([], 0)
    with pytest.raises(TypeError, match=r"prediction\[0\]: expected a Value or a real number"):
        losses.mse([[1.0]], [1.0])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="target: expected a Value or a real number, got NoneType"):
        losses.hinge(1.0, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"log_probs: expected a list"):
        losses.nll(1.0, 0)  # type: ignore[arg-type]


# --- tracing --------------------------------------------------------------------------------------


def test_no_loss_looks_at_a_number() -> None:
    class Traced:
        is_traced_index = True

        def take(self, values: Any) -> Value:
            return Value.apply("take", *values, const=1)

        def take_row(self, rows: Any) -> list[Value]:
            return [self.take(column) for column in zip(*rows)]

    x, t = F.as_values([0.5, -1.0]), F.as_values([1.0, 0.0])
    with modes(tracer=ForbidReading()):
        losses.mse(x, t)
        losses.mse(x[0], 1.0)
        losses.binary_cross_entropy(x, t)
        losses.binary_cross_entropy(x, t, from_logit=False)
        losses.hinge(x, t)
        losses.nll(x, Traced())
        losses.cross_entropy([x, x], [Traced(), 0])
        traced = losses.cross_entropy(x, Traced())
    assert traced.data == losses.cross_entropy(x, 1).data
