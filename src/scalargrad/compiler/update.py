"""The update as a program: an optimiser's scalar rule, for all parameters in one native call.

`rule(p, g, *state, **scalars)` is run once on Values. What it did for one parameter is the body
of one loop over all n of them:

    OUTPUT    <- PARAMETER, STATE                what they were, for `Update.run` to put back
    TEMPORARY <- ... ARGUMENT[i] ...             the rule, with g in ARGUMENT
    PARAMETER, STATE <- TEMPORARY
    OUTPUT    <- sum of 0 * g, sum of 0 * p      0 where all numbers are finite, else nan

STATE holds each slot's n numbers, one slot after the other, then the scalars. The sums go over
`SIDE` places at once: their order does not matter, as their terms are zeros or nan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..errors import TraceError
from . import native
from .loops import Apply, Contract, Group, Instruction, Loop, Loops, Operand, Segment, Space
from .structure import Floats
from .trace import Inputs, Trace, trace

# Operations that IEEE 754 rounds correctly: NumPy gives the same bits as everybody else. Its
# exp and log do not, and a step must not change its bits once it is compiled.
EXACT = frozenset(
    ops.BY_NAME[name].code for name in ("add", "sub", "mul", "div", "neg", "sqrt", "abs")
)
SIDE = 64  # sums side by side, so that none waits for the one before


def trace_rule(rule: Callable[..., Any], slots: int, scalars: Sequence[str]) -> Trace:
    """The rule for one parameter: the arguments are p, g, the slots and the scalars by name.

    Raises `TraceError` where the rule cannot be traced, asks about numbers, returns something
    other than p and the slots, does something else each time (random numbers), or uses operations
    whose bits differ between NumPy and C.
    """
    names = ["p", "g", *(f"state[{k}]" for k in range(slots)), *scalars]

    def one(*numbers: Any) -> Any:
        return tuple(rule(*numbers[: 2 + slots], **dict(zip(scalars, numbers[2 + slots :]))))

    count = len(names)
    inputs = Inputs(
        numbers=[1.0] * count,
        kinds=["number"] * count,
        names=names,
        shared=[False] * count,
        build=lambda source: (source.several(count, "number"), {}),
    )
    try:
        traced, again = (trace(one, inputs).trace for _ in range(2))
    except Exception as error:  # a rule written for arrays alone may raise anything
        raise TraceError(f"the update rule cannot be run on Values: {error}") from error
    tape = traced.tape
    if traced.guards or len(traced.parameters) or len(tape.outputs) != 1 + slots:
        raise TraceError(
            f"the update rule must return p and {slots} numbers of state, without asking about "
            "numbers and without other Values"
        )
    if not same_program(traced, again):
        raise TraceError("the update rule does something else each time it is run")
    others = set(tape.op[tape.leaves :].tolist()) - EXACT
    if others:
        shown = ", ".join(sorted(ops.BY_CODE[code].name for code in others))
        raise TraceError(f"the update rule uses {shown}: NumPy may round these otherwise than C")
    return traced


def same_program(a: Trace, b: Trace) -> bool:
    """Whether two traces are the same instructions with the same constants."""
    pairs = (
        (a.tape.op, b.tape.op),
        (a.tape.lhs, b.tape.lhs),
        (a.tape.rhs, b.tape.rhs),
        (a.tape.const, b.tape.const),
        (a.tape.many, b.tape.many),
        (a.data[a.constants], b.data[b.constants]),
    )
    return all(np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in pairs)


def update_loops(traced: Trace, slots: int, count: int) -> Loops:
    """The program that applies a traced rule to `count` parameters: see the module."""
    return _Builder(traced, slots, count).loops()


class _Builder:
    """A program while it is put together."""

    def __init__(self, traced: Trace, slots: int, count: int) -> None:
        self.tape, self.slots, self.count = traced.tape, slots, count
        self.constants = [*traced.data[traced.constants].tolist(), 0.0]
        self.sizes = dict.fromkeys((Space.TEMPORARY, Space.OUTPUT), 0)
        # Where each node is: of every parameter, or one number for all of them.
        self.place: dict[int, Operand] = {}
        in_out = [Operand(Space.STATE, k * count, (1,)) for k in range(slots)]
        self.in_out = [Operand(Space.PARAMETER, 0, (1,)), *in_out]
        scalars = len(traced.arguments) - 2 - slots
        self.state = slots * count + scalars
        shared = [Operand(Space.STATE, slots * count + k) for k in range(scalars)]
        gradient = Operand(Space.ARGUMENT, 0, (1,))
        leaves = [self.in_out[0], gradient, *in_out, *shared]
        for node, leaf in zip(traced.arguments.tolist(), leaves):
            self.place[node] = leaf
        for k, node in enumerate(traced.constants.tolist()):
            self.place[node] = Operand(Space.CONSTANT, k)

    def loops(self) -> Loops:
        """The whole program."""
        nodes = range(self.tape.leaves, len(self.tape))
        applied = [self._apply(i) for i in nodes]
        # What is one number for all parameters comes first: the rest then is one cluster.
        instructions: list[Instruction] = [step for step in applied if not step.lanes]
        instructions += [self._copy(self._new(Space.OUTPUT), was) for was in self.in_out]
        instructions += [step for step in applied if step.lanes]
        moved = [self.place[i] for i in self.tape.outputs.tolist()]
        for k, source in enumerate(moved):
            if source in self.in_out:
                moved[k] = self._new(Space.TEMPORARY)
                instructions.append(self._copy(moved[k], source))
        instructions += [self._copy(to, source) for to, source in zip(self.in_out, moved)]
        checks = [
            step for space in (Space.ARGUMENT, Space.PARAMETER) for step in self._check(space)
        ]
        return Loops(
            (*instructions, *checks),
            {
                **self.sizes,
                Space.PARAMETER: self.count,
                Space.ARGUMENT: self.count,
                Space.STATE: self.state,
                Space.CONSTANT: len(self.constants),
            },
            np.array(self.constants),
        )

    def _new(self, space: Space, size: int | None = None) -> Operand:
        """New elements: one for each parameter, or `size`."""
        base = self.sizes[space]
        self.sizes[space] += self.count if size is None else size
        return Operand(space, base, (1,))

    def _apply(self, i: int) -> Apply:
        sources = [self.place[j] for j in self.tape.operands(i)]
        op, const = int(self.tape.op[i]), self.tape.constant(i)
        if any(source.strides for source in sources):
            self.place[i] = self._new(Space.TEMPORARY)
            operands = tuple(self._lanes(source) for source in sources)
            return Apply(self.place[i], (Loop(self.count),), op, operands, const)
        self.place[i] = self._new(Space.TEMPORARY, 1)._replace(strides=())
        return Apply(self.place[i], (), op, tuple(sources), const)

    def _lanes(self, source: Operand) -> Operand:
        return source if source.strides else source._replace(strides=(0,))

    def _copy(self, to: Operand, source: Operand) -> Contract:
        terms = Group((Segment(self._lanes(source)),))
        return Contract(to, (Loop(self.count),), (terms,))

    def _check(self, space: Space) -> list[Instruction]:
        """The sum of 0 times each number of a space."""
        zero = Operand(Space.CONSTANT, len(self.constants) - 1)
        rows, rest = divmod(self.count, SIDE)
        terms, made = [], []
        if rows:
            sums = self._new(Space.TEMPORARY, SIDE)
            each = Segment(
                Operand(space, 0, (1, SIDE)), zero._replace(strides=(0, 0)), (Loop(rows),)
            )
            made.append(Contract(sums, (Loop(SIDE),), (Group((each,)),)))
            terms.append(Segment(sums, None, (Loop(SIDE),)))
        if rest:
            left = Operand(space, rows * SIDE, (1,))
            terms.append(Segment(left, zero._replace(strides=(0,)), (Loop(rest),)))
        result = self._new(Space.OUTPUT, 1)._replace(strides=())
        return [*made, Contract(result, (), (Group(tuple(terms)),))]


class Update:
    """A rule for `count` parameters as machine code, and the memory of the state.

    `state` has one array of `count` numbers for each slot, which `run` changes in place. `bind`
    says which arrays hold the parameters and their gradients. Raises `TraceError` as `trace_rule`
    does, and `MissingExtraError` without llvmlite.
    """

    def __init__(
        self, rule: Callable[..., Any], slots: int, scalars: Sequence[str], count: int
    ) -> None:
        self.rule, self.scalars = rule, tuple(scalars)
        loops = update_loops(trace_rule(rule, slots, scalars), slots, count)
        self.program = native.build(loops)
        self._frame = self.program.frame()
        block: Floats = self._frame.arrays[Space.STATE]
        self._all_state, self._shared = block[: slots * count], block[slots * count :]
        self.state: list[Floats] = [block[k * count : (k + 1) * count] for k in range(slots)]
        self._output: Floats = self._frame.arrays[Space.OUTPUT]
        self._before, self._state_before = self._output[:count], self._output[count:-2]
        self._data: Floats | None = None
        self._gradient: Floats | None = None

    def bind(self, data: Floats, gradient: Floats) -> None:
        """Work on these arrays of `count` numbers from now on; as `Frame.bind`."""
        if data is not self._data or gradient is not self._gradient:
            self._frame.bind(Space.PARAMETER, data)
            self._frame.bind(Space.ARGUMENT, gradient)
            self._data, self._gradient = data, gradient

    def run(self, scalars: Mapping[str, float]) -> tuple[bool, bool]:
        """Do one update; whether all gradients, and all new parameters, are finite.

        If not, parameters and state are as they were. Raises `RuntimeError` before `bind`.
        """
        if self._data is None:
            raise RuntimeError("run: there are no arrays yet to work on: call bind() first")
        self._shared[:] = tuple(scalars.values())
        self._frame.run()
        gradients, parameters = self._output[-2:].tolist()
        if gradients != 0.0 or parameters != 0.0:
            self._data[:] = self._before
            self._all_state[:] = self._state_before
        return gradients == 0.0, parameters == 0.0
