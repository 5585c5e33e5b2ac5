"""The compiled step: what `EagerStep` computes, by programs traced from the model and the loss.

The model and the loss are run once on Values; what they did is a program (`scalargrad.compile`),
and every mini-batch is one run of it. While training goes on, the parameters live in one array,
and so do their gradients, where possible the very arrays in which the program works. The
optimiser's rule is a program too (`compiler.update`); until that is compiled, the rule, which is
scalar arithmetic, is applied to whole arrays and gives the same bits. The Values themselves are
brought up to date by `sync`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from .. import replay
from ..compiler import compile, jit
from ..compiler.function import CompiledFunction
from ..compiler.structure import Floats
from ..compiler.update import Update, same_program
from ..compiler.variant import Variant
from ..engine import Value
from ..errors import ShapeError, TraceError
from ..optim import Optimizer
from .examples import Batch, Examples
from .step import GRADIENT, PARAMETER, EagerStep, Outcome

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
        # Which variant works in our own arrays.
        self._adopted: Variant | None = None
        self._places: WeakKeyDictionary[Variant, NDArray[np.intp] | slice] = WeakKeyDictionary()
        self._latest: Variant | None = None
        self._coming: Future[Update] | None = None
        self._update: Update | None = None
        self._own(np.empty(len(self._values)), np.zeros(len(self._values)))
        self.load()

    # --- the parameters ------------------------------------------------------------------------------

    def load(self) -> None:
        """Take the parameters' numbers from the Values."""
        count = len(self._values)
        replay.read_leaves(self._values, self._data.data, np.empty(count, np.uint64).data)
        self._grad[:] = 0.0

    def sync(self) -> None:
        """Give the Values their numbers and gradients."""
        replay.write_leaves(list(self.optimizer.parameters), self._moved.data)
        replay.write_grad(self._values, self._grad.data)

    def _own(self, data: Floats, grad: Floats) -> None:
        """Keep the numbers and gradients of all Values in these arrays."""
        count = len(self.optimizer.parameters)
        self._data, self._grad = data, grad
        self._moved, self._slope = data[:count], grad[:count]

    def _place(self, variant: Variant) -> NDArray[np.intp] | slice:
        """Where a program's parameters are among ours."""
        known = self._places.get(variant)
        if known is None:
            index = {id(value): k for k, value in enumerate(self._values)}
            new = [value for value in variant.parameters if id(value) not in index]
            if new:  # Values that the loss uses and the model does not know
                index |= {id(value): k for k, value in enumerate(new, len(self._values))}
                self._values += new
                numbers = [value.data for value in new]
                self._own(np.append(self._data, numbers), np.append(self._grad, np.zeros(len(new))))
                self._adopted = None
            places = np.array([index[id(value)] for value in variant.parameters], np.intp)
            known = places
            if len(places) and np.array_equal(places, np.arange(places[0], places[-1] + 1)):
                known = slice(int(places[0]), int(places[-1]) + 1)
            self._places[variant] = known
        return known

    def _adopt(self, variant: Variant) -> None:
        """Keep the numbers where a program works, if its parameters are ours in our order."""
        place = self._place(variant)
        whole = isinstance(place, slice) and place == slice(0, len(self._values))
        # A branch that may turn out not to be the one must not have changed our gradient.
        if self._adopted is None and not variant.outcomes and whole:
            program = variant.program
            program.parameters[:], program.gradient[:] = self._data, self._grad
            self._own(program.parameters, program.gradient)
            self._adopted = variant

    # --- gradients -----------------------------------------------------------------------------------

    def gradients(self, batch: Batch) -> Outcome:
        """The gradient of the batch's loss, kept here: see `update`."""
        batch.check()
        self._grad[:] = 0.0
        penalty = 0.0
        if self._penalty is not None:
            variant, outputs = self._penalty.work(self._backward)
            self._keep(variant)
            penalty = outputs.item(0)
        variant, outputs = self._work(self._backward, batch)
        self._latest = variant
        self._keep(variant)
        self._adopt(variant)
        return self._outcome(variant, outputs, penalty)

    def forward(self, batch: Batch) -> Outcome:
        """The loss and the predictions, without gradients."""
        penalty = 0.0
        if self._penalty is not None:
            penalty = self._penalty.work(self._forward)[1].item(0)
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

    def _give(self, variant: Variant) -> None:
        """Give a program the parameters' numbers."""
        place = self._place(variant)  # which may move our arrays
        if variant is not self._adopted:
            variant.program.parameters[:] = self._data[place]

    def _forward(self, variant: Variant, rows: Floats) -> Floats:
        self._give(variant)
        return variant.program.forward(rows)

    def _backward(self, variant: Variant, rows: Floats) -> Floats:
        self._give(variant)
        if variant is not self._adopted:
            variant.program.gradient[:] = self._grad[self._place(variant)]
        return variant.program.backward(rows, 1.0 / len(rows), None)

    def _keep(self, variant: Variant) -> None:
        """Take the gradient from the program that did answer; others may have been tried."""
        if variant is not self._adopted:
            self._grad[self._place(variant)] = variant.program.gradient

    def _outcome(self, variant: Variant, outputs: Floats, penalty: float) -> Outcome:
        with np.errstate(all="ignore"):
            # From left to right, as `step.mean_of` adds.
            mean = float(np.add.accumulate(outputs[:, 0])[-1]) / len(outputs)
        predictions = self._example.aux(variant, outputs)
        return Outcome(mean if self._penalty is None else mean + penalty, predictions)

    # --- the step ------------------------------------------------------------------------------------

    def update(self) -> str:
        """See `step.Step`: the optimiser's rule, for all parameters at once."""
        optimizer = self.optimizer
        scalars = optimizer.scalars(optimizer.steps)
        update = self._native_update(scalars)
        if update is None:
            return self._array_update(scalars)
        gradients, parameters = update.run(scalars)
        if not gradients:
            return GRADIENT
        if not parameters:
            return PARAMETER
        optimizer.steps += 1
        return ""

    def _array_update(self, scalars: Mapping[str, float]) -> str:
        optimizer = self.optimizer
        if not np.isfinite(self._slope).all():
            return GRADIENT
        with np.errstate(all="ignore"):
            moved, *state = optimizer.rule(
                self._moved, self._slope, *optimizer.state.values(), **scalars
            )
        if not np.isfinite(moved).all():
            return PARAMETER
        self._moved[:] = moved
        for slot, numbers in zip(optimizer.slots, state):
            optimizer.state[slot][:] = numbers
        optimizer.steps += 1
        return ""

    def _native_update(self, scalars: Mapping[str, float]) -> Update | None:
        """The rule as machine code, bound to the arrays; None if that is not there, or never."""
        optimizer, update = self.optimizer, self._update
        if update is None:
            update = self._update = self._compiled_update(tuple(scalars))
            if update is None:
                return None
        if update.rule is not optimizer.rule or update.scalars != tuple(scalars):
            return None
        for slot, array in zip(optimizer.slots, update.state):
            if optimizer.state[slot] is not array:
                array[:] = optimizer.state[slot]
                optimizer.state[slot] = array
        update.bind(self._moved, self._slope)
        return update

    def _compiled_update(self, scalars: tuple[str, ...]) -> Update | None:
        """The rule as machine code once it is there; the gradients' program has it compiled."""
        if self._coming is None:
            # Where the gradients are not worth compiling, neither is the update.
            if self._latest is None or self._latest.compiled() is None:
                return None
            optimizer = self.optimizer
            rule, slots, count = optimizer.rule, len(optimizer.slots), len(optimizer.parameters)
            self._coming = jit.later(lambda: Update(rule, slots, scalars, count))
        if not self._coming.done() and "float64" in jit.TIERED:
            return None
        refused = isinstance(self._coming.exception(), TraceError)
        return None if refused else self._coming.result()


def can_compile(examples: Examples) -> bool:
    """Whether the examples are rectangles of numbers, which a batch has to be."""
    return isinstance(examples.x, np.ndarray) and isinstance(examples.y, np.ndarray | None)


def repeats(step: CompiledStep, examples: Examples) -> bool:
    """Whether the model does the same when run again: what draws random numbers does not.

    The program of a run that will not be repeated would be the wrong program ever after.
    """
    arrays = _arrays(Batch(examples, [0]))
    first, second = (step.fresh().work(Variant.forward, *arrays)[0].trace for _ in range(2))
    return same_program(first, second)


def _arrays(batch: Batch) -> tuple[NDArray[Any], NDArray[Any]]:
    rows = np.asarray(batch.rows, np.intp)
    x, y = batch.examples.x, batch.examples.y
    assert isinstance(x, np.ndarray)
    assert isinstance(y, np.ndarray)
    return x.take(rows, axis=0), y.take(rows, axis=0)
