"""The compiled step: what `EagerStep` computes, by programs traced from the model and the loss.

The model and the loss are run once on Values, and so is the optimiser's rule; what they did is one
program (`joined`), and every mini-batch is one run of it. While training goes on, parameters,
gradients and the optimiser's state live in arrays, the very ones in which the program works. The
Values themselves are brought up to date by `sync`.

A run that turns out to have made a number inf or nan must not have happened. To look at every
number after every run would take longer than many programs do; so that is done now and then, and
if it was in vain, all goes `back` to where it was all right, and again from there to the fault.

Until that program is compiled, and for those that cannot be joined (a model that asks about
numbers, a rule that only arrays can follow), the gradients come from the program of
`scalargrad.compile` and the rule is applied to whole arrays. That gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from .. import replay
from ..compiler import compile, jit
from ..compiler.function import CompiledFunction
from ..compiler.native import aligned
from ..compiler.program import Options, checked
from ..compiler.structure import Floats
from ..compiler.trace import Trace
from ..compiler.update import lasting, same_program, trace_rule
from ..compiler.variant import Variant
from ..engine import Value
from ..errors import ShapeError, TraceError
from ..optim import Optimizer
from .examples import Batch, Examples
from .joined import Joined, Joint, Programs, Recipe, arrays, in_range
from .step import GRADIENT, PARAMETER, EagerStep, Fault, Outcome

ROWS = 256  # examples evaluated at a time
EVERY = 64  # runs of a program after which its numbers are looked at


class CompiledStep:
    """See `step.Step`: the same numbers as `EagerStep`, bit for bit in exact mode."""

    def __init__(self, eager: EagerStep, optimizer: Optimizer, mode: str, dtype: str) -> None:
        model, loss = eager.model, eager.loss

        def example(x: Any, y: Any) -> tuple[Value, Any]:
            prediction = model(x)
            return loss(prediction, y), prediction

        def penalised(x: Any, y: Any) -> tuple[Value, Any]:
            value, prediction = example(x, y)
            return value, (eager.regularize(), prediction)

        def fresh() -> CompiledFunction:
            return compile(example, mode=mode, dtype=dtype, batch="mean", has_aux=True)

        def answer(x: Any) -> tuple[Value, Any]:
            return Value(0.0), model(x)

        self.fresh, self._example, self._eager = fresh, fresh(), eager
        self._model = compile(answer, mode=mode, dtype=dtype, batch="mean", has_aux=True)
        self._penalty: CompiledFunction | None = None
        self._whole = self._example
        if eager.penalty is not None:
            self._penalty = compile(eager.regularize, mode=mode, dtype=dtype)
            self._whole = compile(penalised, mode=mode, dtype=dtype, batch="mean", has_aux=True)
        self.optimizer = optimizer
        self._options = checked(Options(mode, dtype))
        # The optimiser's parameters come first, then those that only take part.
        moved = {id(p): p for p in optimizer.parameters}
        others = [p for p in eager.parameters if id(p) not in moved]
        self._values: list[Value] = [*optimizer.parameters, *others]
        self._places: WeakKeyDictionary[Variant, NDArray[np.intp]] = WeakKeyDictionary()
        self._programs: WeakKeyDictionary[Variant, Programs] = WeakKeyDictionary()
        self._joint: Joint | None = None
        self._last = True
        self._refused: Examples | None = None  # which cannot be learned from by one program
        self._own(aligned(len(self._values), float), aligned(len(self._values), float))
        self.load()

    # --- the parameters ------------------------------------------------------------------------------

    def load(self) -> None:
        """Take the parameters' numbers from the Values."""
        count = len(self._values)
        replay.read_leaves(self._values, self._data.data, np.empty(count, np.uint64).data)
        self._grad[:] = 0.0
        if self._joint is not None:
            self._joint.active = False  # what it has is of the past

    def sync(self) -> Fault | None:
        """Give the Values their numbers and gradients."""
        fault = self._settle()
        replay.write_leaves(list(self.optimizer.parameters), self._moved.data)
        replay.write_grad(self._values, self._grad.data)
        return fault

    def _own(self, data: Floats, grad: Floats) -> None:
        """Keep the numbers and gradients of all Values in these arrays."""
        count = len(self.optimizer.parameters)
        self._data, self._grad = data, grad
        self._moved, self._slope = data[:count], grad[:count]
        self._joint = None
        self._programs.clear()

    def _place(self, variant: Variant) -> NDArray[np.intp]:
        """Where a program's parameters are among ours."""
        known = self._places.get(variant)
        if known is None:
            index = {id(value): k for k, value in enumerate(self._values)}
            new = [value for value in variant.parameters if id(value) not in index]
            if new:  # Values that the loss uses and the model does not know
                self._settle()
                index |= {id(value): k for k, value in enumerate(new, len(self._values))}
                self._values += new
                data, grad = (aligned(len(self._values), float) for _ in range(2))
                data[:] = [*self._data, *(value.data for value in new)]
                grad[: len(self._grad)] = self._grad
                self._own(data, grad)
            known = np.array([index[id(value)] for value in variant.parameters], np.intp)
            self._places[variant] = known
        return known

    # --- one program for all -------------------------------------------------------------------------

    def gradients(self, batch: Batch) -> Outcome:
        """The gradient of the batch's loss, kept here: see `update`."""
        batch.check()
        joined = self.joined(batch)
        if joined is not None:
            return self._learn(joined, batch)
        fault = self._settle()
        if fault is not None:
            return Outcome(math.nan, list, fault)
        return self._apart(batch)

    def joined(self, batch: Batch) -> Joined | None:
        """The program that is a whole step on such a batch.

        None where a step is done in parts, and while the program is not compiled.
        """
        joint, self._last = self._joint_for(batch.examples), batch.last
        if joint is None or joint.recipe.rule is not self.optimizer.rule:
            return None
        return joint.program(len(batch), batch.last)

    def _learn(self, joined: Joined, batch: Batch) -> Outcome:
        """Learn from a batch, which `update` then confirms."""
        joint = self._joint
        assert joint is not None
        loss = joint.learn(joined, batch)
        if not math.isfinite(loss):
            joint.take_back()
            fault = self._settle()
            return self._apart(batch) if fault is None else Outcome(loss, list, fault)
        return Outcome(loss, joined.predictions)

    def update(self) -> Fault | None:
        """See `step.Step`: the optimiser's rule, for all parameters at once."""
        joint = self._joint
        if joint is None or not joint.active:
            return self._array_update()
        joint.confirm()
        if self._last or joint.confirmed >= EVERY:
            fault = self._examine(joint)
            return fault and fault._replace(late=fault.late - 1)
        return None

    def _settle(self) -> Fault | None:
        """Have all numbers here, and right: those of the joined program too."""
        joint = self._joint
        if joint is None or not joint.active:
            return None
        joint.take_back()
        fault = self._examine(joint)
        joint.leave()
        return fault

    def _examine(self, joint: Joint) -> Fault | None:
        """Whether all was right lately; if not, everything is as before the first fault."""
        if joint.is_finite():
            joint.keep()
            return None
        late, batch = joint.back_to_fault()
        joint.leave()
        self._apart(batch)
        return Fault(PARAMETER if np.isfinite(self._slope).all() else GRADIENT, late)

    def _joint_for(self, examples: Examples) -> Joint | None:
        """What learns from these examples; None if that must be done in parts."""
        if self._joint is not None and self._joint.examples is examples:
            return self._joint
        if self._refused is not examples:
            self._settle()
            self._joint = self._joined(examples)
            self._refused = None if self._joint is not None else examples
        return self._joint

    def _joined(self, examples: Examples) -> Joint | None:
        if self._options.backend != "llvm":
            return None
        try:
            variant, _ = self._whole.work(as_traced, *_arrays(Batch(examples, [0])))
        except (IndexError, ShapeError, TypeError, ValueError):
            return None  # whoever does it in parts will say which example it was
        if variant.trace.guards or not in_range(examples, variant.trace):
            return None
        places = self._place(variant)
        programs = self._programs.get(variant)
        if programs is None or programs.recipe.rule is not self.optimizer.rule:
            recipe = self._recipe(variant.trace, places)
            if recipe is None:
                return None
            programs = self._programs[variant] = Programs(recipe)
        return Joint(programs, examples, self.optimizer, self._data, self._grad)

    def _recipe(self, trace: Trace, places: NDArray[np.intp]) -> Recipe | None:
        """A program for this trace; None if the rule cannot be part of it."""
        optimizer, options = self.optimizer, self._options
        slots, scalars = len(optimizer.slots), tuple(optimizer.scalars(optimizer.steps))
        try:
            traced = trace_rule(optimizer.rule, slots, scalars)
        except TraceError:
            return None
        if not lasting(traced):
            return None
        return Recipe(
            trace=trace,
            penalty=self._penalty is not None,
            places=places,
            count=len(self._values),
            rule=optimizer.rule,
            traced=traced,
            slots=slots,
            scalars=scalars,
            moved=len(optimizer.parameters),
            mode=options.mode,
            dtype=options.dtype,
        )

    # --- in parts ------------------------------------------------------------------------------------

    def _apart(self, batch: Batch) -> Outcome:
        """The gradient of the batch's loss alone."""
        self._grad[:] = 0.0
        penalty = 0.0
        if self._penalty is not None:
            variant, outputs = self._penalty.work(self._backward)
            self._grad[self._place(variant)] = variant.program.gradient
            penalty = outputs.item(0)
        variant, outputs = self._work(self._backward, batch)
        self._grad[self._place(variant)] = variant.program.gradient
        return self._outcome(variant, outputs, penalty)

    def _array_update(self) -> Fault | None:
        optimizer = self.optimizer
        if not np.isfinite(self._slope).all():
            return Fault(GRADIENT)
        with np.errstate(all="ignore"):
            moved, *state = optimizer.rule(
                self._moved,
                self._slope,
                *optimizer.state.values(),
                **optimizer.scalars(optimizer.steps),
            )
        if not np.isfinite(moved).all():
            return Fault(PARAMETER)
        self._moved[:] = moved
        for slot, numbers in zip(optimizer.slots, state):
            optimizer.state[slot][:] = numbers
        optimizer.steps += 1
        return None

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
        place = self._place(variant)  # which may move our arrays
        variant.program.parameters[:] = self._data[place]
        return self._branching(variant, variant.program.forward(rows))

    def _backward(self, variant: Variant, rows: Floats) -> Floats:
        place = self._place(variant)
        program = variant.program
        program.parameters[:], program.gradient[:] = self._data[place], self._grad[place]
        if self._joint is not None and self._options.dtype in jit.TIERED:
            # Code of its own would be compiled before the joined program, and then be of no use.
            program = getattr(program, "interpreter", program)
        return self._branching(variant, program.backward(rows, 1.0 / len(rows), None))

    def _branching(self, variant: Variant, outputs: Floats) -> Floats:
        """The outputs; another branch, which may yet have to be traced, finds the Values as we do."""
        if variant.flipped(outputs) is not None:
            replay.write_leaves(list(self.optimizer.parameters), self._moved.data)
        return outputs

    # --- without gradients ---------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Outcome:
        """The loss and the predictions, without gradients."""
        fault = self._settle()
        if fault is not None:
            return Outcome(math.nan, list, fault)
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

    def _outcome(self, variant: Variant, outputs: Floats, penalty: float) -> Outcome:
        with np.errstate(all="ignore"):
            # From left to right, as `step.mean_of` adds.
            mean = float(np.add.accumulate(outputs[:, 0])[-1]) / len(outputs)
        total = mean if self._penalty is None else mean + penalty
        return Outcome(total, lambda: self._example.aux(variant, outputs))


def can_compile(examples: Examples) -> bool:
    """Whether the examples are rectangles of numbers, which a batch has to be."""
    return isinstance(examples.x, np.ndarray) and isinstance(examples.y, np.ndarray | None)


def repeats(step: CompiledStep, examples: Examples) -> bool:
    """Whether the model does the same when run again: what draws random numbers does not.

    The program of a run that will not be repeated would be the wrong program ever after.
    """
    arrays = _arrays(Batch(examples, [0]))
    first, second = (step.fresh().work(as_traced, *arrays)[0].trace for _ in range(2))
    return same_program(first, second)


def as_traced(variant: Variant, rows: Floats) -> Floats:
    """Work that only has the function traced: the outputs are of the branch, and nothing is run."""
    return np.append(np.zeros(variant.trace.results), variant.expected)[None]


def _arrays(batch: Batch) -> tuple[NDArray[Any], NDArray[Any]]:
    x, y = arrays(batch.examples)
    return x.take(batch.rows, axis=0), y.take(batch.rows, axis=0)
