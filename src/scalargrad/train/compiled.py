"""The compiled step: what `EagerStep` computes, by programs traced from the model and the loss.

The model and the loss are run once on Values; what they did is a program (`scalargrad.compile`),
and every mini-batch is one run of it. While training goes on, the parameters live in one array,
and so do their gradients: the optimiser's rule, which is scalar arithmetic, is applied to whole
arrays and gives the same bits. The Values themselves are brought up to date by `sync`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import replay
from ..compiler import compile
from ..compiler.function import CompiledFunction
from ..compiler.structure import Floats
from ..compiler.variant import Variant
from ..engine import Value
from ..errors import ShapeError
from ..optim import Optimizer
from .examples import Batch, Examples
from .step import GRADIENT, PARAMETER, EagerStep, Outcome, mean_of

ROWS = 256  # examples evaluated at a time


class CompiledStep:
    """See `step.Step`: the same numbers as `EagerStep`, bit for bit in exact mode."""

    def __init__(self, eager: EagerStep, optimizer: Optimizer, mode: str, dtype: str) -> None:
        model, loss = eager.model, eager.loss

        def example(x: Any, y: Any) -> tuple[Value, Any]:
            prediction = model(x)
            return loss(prediction, y), prediction

        def fresh() -> CompiledFunction:
            return compile(example, mode=mode, dtype=dtype, batch="mean", has_aux=True)

        def answer(x: Any) -> tuple[Value, Any]:
            return Value(0.0), model(x)

        self.fresh, self._example, self._eager = fresh, fresh(), eager
        self._model = compile(answer, mode=mode, dtype=dtype, batch="mean", has_aux=True)
        self._penalty: CompiledFunction | None = None
        if eager.penalty is not None:
            self._penalty = compile(eager.regularize, mode=mode, dtype=dtype)
        self.optimizer = optimizer
        # The optimiser's parameters come first, then those that only take part.
        moved = {id(p): p for p in optimizer.parameters}
        others = [p for p in eager.parameters if id(p) not in moved]
        self._values: list[Value] = [*optimizer.parameters, *others]
        self._data, self._grad = np.empty(0), np.empty(0)
        self._places: dict[int, NDArray[np.intp] | slice] = {}
        self.load()

    # --- the parameters ------------------------------------------------------------------------------

    def load(self) -> None:
        """Take the parameters' numbers from the Values."""
        count = len(self._values)
        self._data, self._grad = np.empty(count), np.zeros(count)
        replay.read_leaves(self._values, self._data.data, np.empty(count, np.uint64).data)

    def sync(self) -> None:
        """Give the Values their numbers and gradients."""
        moved = list(self.optimizer.parameters)
        replay.write_leaves(moved, self._data[: len(moved)].data)
        replay.write_grad(self._values, self._grad.data)

    def _place(self, variant: Variant) -> NDArray[np.intp] | slice:
        """Where a program's parameters are among ours."""
        known = self._places.get(id(variant))
        if known is None:
            index = {id(value): k for k, value in enumerate(self._values)}
            new = [value for value in variant.parameters if id(value) not in index]
            for value in new:  # a Value that the loss uses and the model does not know
                index[id(value)] = len(self._values)
                self._values.append(value)
                self._data = np.append(self._data, value.data)
                self._grad = np.append(self._grad, 0.0)
            places = np.array([index[id(value)] for value in variant.parameters], np.intp)
            known = places
            if len(places) and np.array_equal(places, np.arange(places[0], places[-1] + 1)):
                known = slice(int(places[0]), int(places[-1]) + 1)
            self._places[id(variant)] = known
        return known

    # --- gradients -----------------------------------------------------------------------------------

    def gradients(self, batch: Batch) -> Outcome:
        """The gradient of the batch's loss, kept here: see `update`."""
        batch.check()
        self._grad[:] = 0.0
        penalty = 0.0
        if self._penalty is not None:
            variant, outputs = self._penalty.work(self._backward)
            penalty = float(outputs[0, 0])
        variant, outputs = self._work(self._backward, batch)
        return self._outcome(variant, outputs, penalty)

    def forward(self, batch: Batch) -> Outcome:
        """The loss and the predictions, without gradients."""
        penalty = 0.0
        if self._penalty is not None:
            penalty = float(self._penalty.work(self._forward)[1][0, 0])
        parts = []
        for start in range(0, len(batch), ROWS):
            batch.check()
            part = Batch(batch.examples, batch.rows[start : start + ROWS])
            variant, outputs = self._work(self._forward, part)
            parts.append(outputs)
        return self._outcome(variant, np.concatenate(parts), penalty)

    def predict(self, x: NDArray[Any]) -> Any:
        """What the model answers to each example, as `Outcome.predictions`."""
        outputs = []
        for start in range(0, len(x), ROWS):
            variant, part = self._model.work(self._forward, x[start : start + ROWS])
            outputs.append(part)
        return self._model.aux(variant, np.concatenate(outputs))

    def _work(
        self, do: Callable[[Variant, Floats], Floats], batch: Batch
    ) -> tuple[Variant, Floats]:
        try:
            return self._example.work(do, *_arrays(batch))
        except (IndexError, ShapeError, TypeError, ValueError):
            # A program knows the place in the batch only: Values say which example it was.
            self.sync()
            self._eager.forward(batch)
            raise

    def _forward(self, variant: Variant, rows: Floats) -> Floats:
        variant.program.parameters[:] = self._data[self._place(variant)]
        return variant.program.forward(rows)

    def _backward(self, variant: Variant, rows: Floats) -> Floats:
        place, program = self._place(variant), variant.program
        program.parameters[:] = self._data[place]
        program.gradient[:] = self._grad[place]
        outputs = program.backward(rows, 1.0 / len(rows), None)
        self._grad[place] = program.gradient
        return outputs

    def _outcome(self, variant: Variant, outputs: Floats, penalty: float) -> Outcome:
        mean = mean_of(outputs[:, 0].tolist())
        predictions = self._example.aux(variant, outputs)
        return Outcome(mean if self._penalty is None else mean + penalty, predictions)

    # --- the step ------------------------------------------------------------------------------------

    def update(self) -> str:
        """See `step.Step`: the optimiser's rule, applied to the arrays."""
        optimizer = self.optimizer
        count = len(optimizer.parameters)
        data, grad = self._data[:count], self._grad[:count]
        if not np.isfinite(grad).all():
            return GRADIENT
        with np.errstate(all="ignore"):
            moved, *state = optimizer.rule(
                data, grad, *optimizer.state.values(), **optimizer.scalars(optimizer.steps)
            )
        if not np.isfinite(moved).all():
            return PARAMETER
        data[:] = moved
        for slot, numbers in zip(optimizer.slots, state):
            optimizer.state[slot][:] = numbers
        optimizer.steps += 1
        return ""


def can_compile(examples: Examples) -> bool:
    """Whether the examples are rectangles of numbers, which a batch has to be."""
    return isinstance(examples.x, np.ndarray) and isinstance(examples.y, np.ndarray | None)


def repeats(step: CompiledStep, examples: Examples) -> bool:
    """Whether the model does the same when run again: what draws random numbers does not.

    The program of a run that will not be repeated would be the wrong program ever after.
    """
    arrays = _arrays(Batch(examples, [0]))
    first, second = (step.fresh().work(Variant.forward, *arrays)[0].trace for _ in range(2))
    return all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in (
            (first.tape.op, second.tape.op),
            (first.tape.lhs, second.tape.lhs),
            (first.tape.rhs, second.tape.rhs),
            (first.tape.const, second.tape.const),
            (first.tape.many, second.tape.many),
            (first.data[first.constants], second.data[second.constants]),
        )
    )


def _arrays(batch: Batch) -> tuple[NDArray[Any], NDArray[Any]]:
    rows = np.asarray(batch.rows, np.intp)
    x, y = batch.examples.x, batch.examples.y
    assert isinstance(x, np.ndarray)
    assert isinstance(y, np.ndarray)
    return x[rows], y[rows]
