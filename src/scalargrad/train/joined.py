"""A mini-batch as one native call: loss, gradients and the optimiser's update in one program."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..compiler import jit, native
from ..compiler.arguments import EXACT
from ..compiler.background import Coming, later
from ..compiler.fuse import MANY
from ..compiler.image import name_of
from ..compiler.loops import Loops, Space
from ..compiler.marks import Marks, marks_of_trace
from ..compiler.native import NativeProgram, aligned
from ..compiler.results import answers, floats, pair
from ..compiler.structure import Floats, Signature
from ..compiler.trace import Trace
from ..compiler.update import instructions, with_update
from ..optim import Optimizer
from .drawing import Gather
from .examples import Batch, Examples

Array = NDArray[Any]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Recipe:
    """What the program is made of.

    trace      one example: the loss, then the penalty if there is one, then the prediction
    places     where the trace's parameters are among all `count`
    rule       the optimiser's rule, and what it did when run on Values: it moves the first `moved`
    slots      how many numbers of state it has for each of them
    scalars    the names of its other arguments
    """

    trace: Trace
    penalty: bool
    places: NDArray[np.intp]
    count: int
    rule: Callable[..., Any]
    traced: Trace
    slots: int
    scalars: tuple[str, ...]
    moved: int
    mode: str
    dtype: str

    @property
    def signature(self) -> Signature:
        """What a prediction is like."""
        rest = pair(self.trace.outputs)[1]
        return pair(rest)[1] if self.penalty else rest

    @cached_property
    def _marks(self) -> Marks:
        marks = marks_of_trace(self.trace, "mean", (Space.PARAMETER,))
        marks.place[self.trace.parameters] = self.places
        sizes = {**marks.sizes, Space.PARAMETER: self.count}
        return marks._replace(sizes=sizes, penalty=self.penalty)

    @cached_property
    def loops(self) -> Loops:
        """The program: OUTPUT is the loss with the penalty, EXAMPLE_OUTPUT the predictions."""
        from ..compiler.loops_check import verify, verifying
        from ..compiler.roll import roll  # and with it the analysis

        loops = roll(self.trace.tape, self._marks, lines=self.trace.lines)
        loops = with_update(loops, self.traced, self.slots, self.moved)
        return verify(loops) if verifying() else loops

    def build(self, examples: int, stores: bool) -> NativeProgram:
        """The code for so many examples; unless it `stores` them, the gradients are lost."""
        unread = () if stores else (Space.PARAMETER_GRADIENT,)
        options = (examples, self.mode, self.dtype, unread)
        places = self.traced.arguments, self.traced.constants
        rule = [part.tolist() for part in (*instructions(self.traced), *places)]
        name = name_of(self.trace.tape, self._marks, options, rule, self.slots, self.moved)
        return native.recall(name, lambda: self.loops, *options)


class Programs:
    """The code of a recipe for any number of examples, compiled in the background."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._coming: dict[tuple[int, bool], Coming[NativeProgram]] = {}
        self._visited = 0

    def get(self, examples: int, stores: bool) -> NativeProgram | None:
        """The code; None while it is not worth it, or being compiled."""
        tiered, visits = self.recipe.dtype in jit.TIERED, len(self.recipe.trace.tape) * examples
        if (examples, stores) not in self._coming:
            self._visited += visits
            if tiered and self._visited < jit.PATIENCE:
                return None
            self.order(examples, stores)
        coming = self._coming[examples, stores]
        return None if tiered and not coming.done_within(visits * jit.VISIT) else coming.result()

    def order(self, examples: int, stores: bool) -> None:
        """Have this compiled, if that is not done or under way."""
        if (examples, stores) not in self._coming:
            work = functools.partial(self.recipe.build, examples, stores)
            self._coming[examples, stores] = later(work)


def arrays(examples: Examples) -> tuple[Array, Array]:
    """Inputs and targets, which must be arrays."""
    assert isinstance(examples.x, np.ndarray)
    assert isinstance(examples.y, np.ndarray)
    return examples.x, examples.y


class Feed:
    """The numbers of all examples, as a program wants them."""

    def __init__(self, examples: Examples, trace: Trace, dtype: str) -> None:
        self._parts: list[tuple[Space, Array, int]] = []
        column = 0
        for rows in arrays(examples):
            table = rows.reshape(len(rows), -1)
            columns = np.arange(column, column + table.shape[1])
            if np.isin(columns, trace.indices).any():
                integers = np.ascontiguousarray(table, np.int64)
                self._parts.append((Space.EXAMPLE_INDEX, integers, column))
            if (trace.arguments[columns] >= 0).any():
                numbers = np.ascontiguousarray(table, dtype)
                self._parts.append((Space.EXAMPLE, numbers, column))
            column += table.shape[1]

    def gathers(self, frame: native.Frame) -> list[Gather]:
        """What puts the numbers of some examples into a program's memory."""
        return [Gather(table, frame.arrays[space], column) for space, table, column in self._parts]


def in_range(examples: Examples, trace: Trace) -> bool:
    """Whether every integer selects something, and is a number that float64 has."""
    tables = [rows.reshape(len(rows), -1) for rows in arrays(examples)]
    ends = np.cumsum([table.shape[1] for table in tables])
    for selection in trace.selections:
        part = int(np.searchsorted(ends, selection.argument, side="right"))
        chosen = tables[part][:, selection.argument - ends[part]]
        if (chosen < 0).any() or (chosen >= selection.length).any():
            return False
    return all(
        (np.abs(table.astype(np.float64)) <= EXACT).all()
        for table in tables
        if table.dtype.kind in "iu"
    )


class Joined:
    """The program for so many examples, in memory of its own but for what all of them share.

    `frame.run` is the machine code alone, on the examples that were drawn last.
    """

    def __init__(
        self,
        program: NativeProgram,
        shared: Mapping[Space, Array],
        feed: Feed,
        signature: Signature,
    ) -> None:
        self.frame, self._signature = program.frame(), signature
        for space, array in shared.items():
            if program.size(space):
                self.frame.bind(space, array)
        self._scalars = shared[Space.STATE]
        self._gathers = feed.gathers(self.frame)
        self._loss = self.frame.arrays[Space.OUTPUT]
        self._run = self.frame.run
        outputs = self.frame.arrays[Space.EXAMPLE_OUTPUT]
        shape = floats(signature)
        # The predictions as they lie there, where they are floats and a rectangle of them.
        self._floats = None if shape is None else outputs.reshape(len(outputs), *shape)

    def run(self, rows: Rows, scalars: Sequence[float]) -> float:
        """Learn from the examples in these rows; their loss before that."""
        for gather in self._gathers:
            gather(rows)
        if scalars:
            self._scalars[-len(scalars) :] = scalars
        self._run()
        return float(self._loss[0])

    def predictions(self) -> Any:
        """What the model answered to the examples of the last run, as `Outcome.predictions`."""
        if self._floats is not None:
            return self._floats.astype(np.float64)
        outputs = self.frame.arrays[Space.EXAMPLE_OUTPUT].astype(np.float64)
        return answers(self._signature, outputs)


class Step(NamedTuple):
    """One run of a program."""

    joined: Joined
    batch: Batch
    scalars: tuple[float, ...]

    def run(self) -> float:
        """Run it, for the first time or again; the loss."""
        return self.joined.run(self.batch.rows, self.scalars)


class Joint:
    """Learns from some examples by joined programs; what went wrong can be taken back.

    While `active`, the numbers of parameters and state are here; `leave` hands them back to where
    they came from (the same arrays, in float64). The last step counts once it is confirmed.

    Going back needs no copy of the numbers at each step: they are kept now and then (`keep`), and
    what was done since is done again. The same programs give the same bits.
    """

    def __init__(
        self,
        programs: Programs,
        examples: Examples,
        optimizer: Optimizer,
        data: Floats,
        grad: Floats,
    ) -> None:
        self.recipe = recipe = programs.recipe
        self._programs, self.examples, self.optimizer = programs, examples, optimizer
        self._data, self._grad = data, grad
        count, moved, dtype = recipe.count, recipe.moved, np.dtype(recipe.dtype)
        own = dtype == np.float64
        self._parameters: Array = data if own else aligned(count, dtype)
        self._gradient: Array = grad if own else aligned(count, dtype)
        block: Array = aligned(recipe.slots * moved + len(recipe.scalars), dtype)
        self._state = [block[k * moved : (k + 1) * moved] for k in range(recipe.slots)]
        self._shared = {
            Space.PARAMETER: self._parameters,
            Space.PARAMETER_GRADIENT: self._gradient,
            Space.STATE: block,
        }
        self._feed = Feed(examples, recipe.trace, recipe.dtype)
        self._ready: dict[tuple[int, bool], Joined] = {}
        self._kept: list[Array] = [np.empty_like(array) for array in self._changing]
        self._steps: list[Step] = []
        self.active, self.confirmed = False, 0

    @property
    def _changing(self) -> list[Array]:
        return [self._parameters[: self.recipe.moved], *self._state]

    # --- the programs --------------------------------------------------------------------------------

    def program(self, examples: int, last: bool) -> Joined | None:
        """The program for so many examples; None while it is not worth it, or being compiled.

        The gradients of the `last` batch of an epoch may be looked at; to store all others' too
        would only take time.
        """
        stores = last or self.recipe.count < MANY
        joined = self._ready.get((examples, stores))
        if joined is None:
            program = self._programs.get(examples, stores)
            if program is None:
                return None
            if not last:
                self._programs.order(len(self.examples) % examples or examples, True)
            joined = Joined(program, self._shared, self._feed, self.recipe.signature)
            self._ready[examples, stores] = joined
        return joined

    # --- learning, and taking it back ----------------------------------------------------------------

    def learn(self, joined: Joined, batch: Batch) -> float:
        """Do a step, which is still to be confirmed; the loss before it."""
        if not self.active:
            self._enter()
        optimizer = self.optimizer
        step = Step(joined, batch, tuple(optimizer.scalars(optimizer.steps).values()))
        self._steps.append(step)
        return step.run()

    def confirm(self) -> None:
        """The last step counts."""
        self.confirmed += 1
        self.optimizer.steps += 1

    def is_finite(self) -> bool:
        """Whether all parameters that move are finite, and so have been since they were kept."""
        return bool(np.isfinite(self._parameters[: self.recipe.moved]).all())

    def keep(self) -> None:
        """Now is what to go back to."""
        for kept, array in zip(self._kept, self._changing):
            kept[:] = array
        self._steps.clear()
        self.confirmed = 0

    def take_back(self) -> None:
        """Undo a step that was not confirmed."""
        if len(self._steps) > self.confirmed:
            self._back()
            self._steps.pop()
            for step in self._steps:
                step.run()

    def back_to_fault(self) -> tuple[int, Batch]:
        """Go back to before the step that made a number inf or nan.

        How many steps ago that was, and its batch.
        """
        steps, good = self._steps[: self.confirmed], 0
        self._back()
        steps[0].run()
        while self.is_finite():
            good += 1
            steps[good].run()
        self._back()
        for step in steps[:good]:
            step.run()
        late = len(steps) - good
        self.optimizer.steps -= late
        self.keep()
        return late, steps[good].batch

    def _back(self) -> None:
        for kept, array in zip(self._kept, self._changing):
            array[:] = kept

    def _enter(self) -> None:
        self._parameters[:] = self._data
        for slot, array in zip(self.optimizer.slots, self._state):
            array[:] = self.optimizer.state[slot]
        self.keep()
        self.active = True

    def leave(self) -> None:
        """Hand all numbers back."""
        self._data[:], self._grad[:] = self._parameters, self._gradient
        for slot, array in zip(self.optimizer.slots, self._state):
            self.optimizer.state[slot][:] = array
        self.active = False
