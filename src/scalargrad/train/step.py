"""One step of training: the loss of a mini-batch and its gradients."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import replay
from ..engine import Value
from ..errors import ShapeError
from ..modes import no_grad
from ..optim import Optimizer
from .arguments import shown
from .examples import Batch, Example, plain_numbers

# What is said again with its place in the data; kinds derived from these may not take a message.
PLAIN_ERRORS = (ShapeError, IndexError, TypeError, ValueError)

Loss: TypeAlias = Callable[[Any, Any], Value]
Penalty: TypeAlias = Callable[[Any], Value]


GRADIENT = "a gradient is inf or nan"
PARAMETER = "a parameter would become inf or nan"


class Fault(NamedTuple):
    """Why training cannot go on, and how many mini-batches ago that happened.

    The parameters are then those before that mini-batch.
    """

    what: str
    late: int = 0


class Outcome:
    """What a step computes besides gradients: the loss, and what `predict` gives on demand.

    `fault` says why nothing can be learned from it.
    """

    def __init__(self, loss: float, predict: Callable[[], Any], fault: Fault | None = None) -> None:
        self.loss, self._predict = loss, predict
        self.fault = fault
        if fault is None and not math.isfinite(loss):
            self.fault = Fault(f"the loss is {loss}")

    @property
    def predictions(self) -> Any:
        """A prediction for each example: a list, or an array whose first axis are the examples.

        Only until the next mini-batch.
        """
        return self._predict()


class Step(Protocol):
    """How a `Trainer` gets its numbers. Everything that implements this gives the same bits.

    A step may keep the parameters' numbers to itself between `load` and `sync`.
    """

    def load(self) -> None:
        """Start from the numbers that the parameters have now."""

    def sync(self) -> Fault | None:
        """Give the parameters the numbers and gradients computed since `load`.

        The answer is a fault that was not told yet. Gradients that no `update` followed may be
        lost, and so may those of a batch that is not the `last`.
        """

    def gradients(self, batch: Batch) -> Outcome:
        """The gradient of the batch's loss, in `grad` of every parameter after `sync`."""

    def update(self) -> Fault | None:
        """Move the parameters by the optimiser's rule and the last gradients.

        A mini-batch with a gradient or new parameter that is not finite is a fault; it may be told
        later, but at the latest after the `last` batch.
        """

    def forward(self, batch: Batch) -> Outcome:
        """The loss and the predictions, without gradients."""


class EagerStep:
    """The gradients of a mini-batch of n examples, from one graph of Values for each example.

        loss = (loss(model(x[0]), y[0]) + ... + loss(model(x[n-1]), y[n-1])) / n + penalty(model)

    added from left to right: `functional.mean`, then the penalty. `backward()` on the graph of
    all this would visit the penalty first, then the examples from the last to the first, each
    with the seed 1/n. Here the same is done one example at a time: the same numbers are added in
    the same order, so no bit differs, and one example's graph is alive where there would be n.
    (Examples must share parameters only, not results that a model keeps from one to the next.)
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        loss: Loss,
        penalty: Penalty | None,
        parameters: Sequence[Value],
        optimizer: Optimizer,
    ) -> None:
        self.model, self.loss, self.penalty, self.parameters = model, loss, penalty, parameters
        self.optimizer = optimizer

    def load(self) -> None:
        """The Values are where the numbers are."""

    def sync(self) -> Fault | None:
        """The Values are where the numbers are."""
        return None

    def update(self) -> Fault | None:
        """See `Step.update`."""
        moved = list(self.optimizer.parameters)
        grad = np.empty(len(moved))
        replay.read_grad(moved, len(moved), grad.data)
        if not np.isfinite(grad).all():
            return Fault(GRADIENT)
        before = _data(moved)
        state = {slot: array.copy() for slot, array in self.optimizer.state.items()}
        steps = self.optimizer.steps
        self.optimizer.step()
        if np.isfinite(_data(moved)).all():
            return None
        replay.write_leaves(moved, before.data)
        for slot, array in state.items():
            self.optimizer.state[slot][:] = array
        self.optimizer.steps = steps
        return Fault(PARAMETER)

    def gradients(self, batch: Batch) -> Outcome:
        """Set `grad` of every parameter to the derivative of the batch's loss."""
        replay.write_grad(list(self.parameters), np.zeros(len(self.parameters)).data)
        penalty = self.regularize()
        if penalty is not None:
            penalty.backward()
        each = [self._backward(example, len(batch)) for example in reversed(batch)]
        return _outcome(each[::-1], penalty)

    def forward(self, batch: Batch) -> Outcome:
        """The loss and the predictions, without gradients."""
        each = [self._forward(example) for example in batch]
        with no_grad():
            return _outcome(each, self.regularize())

    def _backward(self, example: Example, count: int) -> tuple[float, Any]:
        """Add one example's share of the gradients; when this returns its graph is gone."""
        loss, prediction = self.one(example)
        (loss / count).backward()
        return _numbers(loss, prediction)

    def _forward(self, example: Example) -> tuple[float, Any]:
        """The loss of one example and the prediction, as numbers."""
        with no_grad():
            return _numbers(*self.one(example))

    def one(self, example: Example) -> tuple[Value, Any]:
        """The loss of one example, and the prediction."""
        prediction = self.predict(example)
        return self.compare(prediction, example.y, example.row), prediction

    def predict(self, example: Example) -> Any:
        """What the model answers to one example; an error says which example it was."""
        try:
            return self.model(example.x)
        except PLAIN_ERRORS as error:
            if type(error) not in PLAIN_ERRORS:
                raise
            hint = ""
            if not isinstance(example.x, list):
                hint = "; x has one dimension, so each number in it is taken for an example"
            raise type(error)(f"x[{example.row}]: {error}{hint}") from error

    def compare(self, prediction: Any, target: Any, row: int) -> Value:
        """The loss of a prediction; an error says which target it was about."""
        try:
            loss = self.loss(prediction, target)
        except PLAIN_ERRORS as error:
            if type(error) not in PLAIN_ERRORS:
                raise
            raise type(error)(f"y[{row}] is {target!r}: {error}") from error
        return required_value(loss, "loss", "loss(prediction, target) for one example")

    def regularize(self) -> Value | None:
        """The penalty of the model as it is, if there is one."""
        if self.penalty is None:
            return None
        return required_value(self.penalty(self.model), "penalty", "penalty(model)")


def required_value(x: Any, name: str, call: str) -> Value:
    """x; a `TypeError` saying what `call` must return if it is not a Value."""
    if isinstance(x, Value):
        return x
    raise TypeError(
        f"{name}: expected {call} to return a Value, got {shown(x)}: "
        "compute it from Values, without .data or float()"
    )


def _numbers(loss: Value, prediction: Any) -> tuple[float, Any]:
    return loss.data, plain_numbers(prediction)


def mean_of(losses: Sequence[float]) -> float:
    """The sum from left to right, divided by the count: `functional.mean` on floats."""
    return functools.reduce(operator.add, losses) / len(losses)


def _data(values: list[Value]) -> NDArray[np.float64]:
    data = np.empty(len(values))
    replay.read_leaves(values, data.data, np.empty(len(values), np.uint64).data)
    return data


def _outcome(each: Sequence[tuple[float, Any]], penalty: Value | None) -> Outcome:
    mean = mean_of([loss for loss, _ in each])
    predictions = [prediction for _, prediction in each]
    return Outcome(mean if penalty is None else mean + penalty.data, lambda: predictions)
