"""The update: an optimiser's scalar rule, appended to the program that computes the gradients.

`rule(p, g, *state, **scalars)` is run once on Values. What it did for one parameter is the body
of one loop over all n of them, behind the instructions that compute PARAMETER_GRADIENT:

    TEMPORARY <- ... PARAMETER_GRADIENT[i] ...       the rule
    PARAMETER, STATE <- ...                          its results

STATE holds each slot's n numbers, one slot after the other, then the scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ops
from ..errors import TraceError
from .loops import Apply, Contract, Group, Instruction, Loop, Loops, Operand, Segment, Space
from .trace import Inputs, Trace, trace

# Operations that IEEE 754 rounds correctly: NumPy gives the same bits as everybody else. Its
# exp and log do not, and a step must not change its bits once it is compiled.
EXACT = frozenset(
    ops.BY_NAME[name].code for name in ("add", "sub", "mul", "div", "neg", "sqrt", "abs")
)


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
    pairs = zip(instructions(a), instructions(b))
    return all(np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in pairs)


def instructions(traced: Trace) -> tuple[NDArray[Any], ...]:
    """What a trace does, apart from the numbers of its parameters and arguments."""
    tape = traced.tape
    constants = traced.data[traced.constants]
    return tape.op, tape.lhs, tape.rhs, tape.const, tape.many, tape.outputs, constants


def lasting(traced: Trace) -> bool:
    """Whether a number that is not finite is seen in the parameter ever after.

    That is so where the new p is not finite if p or g is not: where both reach it by a path of
    operations that hand inf and nan on. All do, except what is divided by: 1/inf is 0.
    """
    tape = traced.tape
    reach = [set[int]() for _ in range(len(tape))]
    for name, node in enumerate(traced.arguments.tolist()):
        if node >= 0:
            reach[node] = {name}
    for i in range(tape.leaves, len(tape)):
        operands = tape.operands(i)
        handed = operands[:1] if int(tape.op[i]) == ops.DIV else operands
        reach[i] = set().union(*(reach[j] for j in handed))
    return {0, 1} <= reach[int(tape.outputs[0])]


def with_update(loops: Loops, traced: Trace, slots: int, count: int) -> Loops:
    """The program, and then the rule for its first `count` parameters: see the module."""
    return _Builder(loops, traced, slots, count).loops()


class _Builder:
    """A program while it is put together."""

    def __init__(self, loops: Loops, traced: Trace, slots: int, count: int) -> None:
        self.before, self.tape, self.count = loops, traced.tape, count
        numbers = traced.data[traced.constants]
        self.constants = np.concatenate([loops.constants, numbers])
        self.temporaries = loops.size(Space.TEMPORARY)
        # Where each node is: of every parameter, or one number for all of them.
        self.place: dict[int, Operand] = {}
        in_out = [Operand(Space.STATE, k * count, (1,)) for k in range(slots)]
        self.in_out = [Operand(Space.PARAMETER, 0, (1,)), *in_out]
        scalars = len(traced.arguments) - 2 - slots
        self.state = slots * count + scalars
        shared = [Operand(Space.STATE, slots * count + k) for k in range(scalars)]
        gradient = Operand(Space.PARAMETER_GRADIENT, 0, (1,))
        leaves = [self.in_out[0], gradient, *in_out, *shared]
        for node, leaf in zip(traced.arguments.tolist(), leaves):
            self.place[node] = leaf
        for k, node in enumerate(traced.constants.tolist(), len(loops.constants)):
            self.place[node] = Operand(Space.CONSTANT, k)

    def loops(self) -> Loops:
        """The whole program."""
        direct = self._direct()
        nodes = range(self.tape.leaves, len(self.tape))
        applied = [self._apply(i, direct.get(i)) for i in nodes]
        # What is one number for all parameters comes first: the rest then is one cluster.
        instructions: list[Instruction] = [step for step in applied if not step.lanes]
        instructions += [step for step in applied if step.lanes]
        moved = [self.place[i] for i in self.tape.outputs.tolist()]
        for k, source in enumerate(moved):
            if source in self.in_out and source != self.in_out[k]:
                moved[k] = self._new()
                instructions.append(self._copy(moved[k], source))
        pairs = zip(self.in_out, moved)
        instructions += [self._copy(to, source) for to, source in pairs if to != source]
        sizes = {
            **self.before.sizes,
            Space.TEMPORARY: self.temporaries,
            Space.STATE: self.state,
            Space.CONSTANT: len(self.constants),
        }
        return replace(
            self.before,
            instructions=(*self.before.instructions, *instructions),
            sizes={space: size for space, size in sizes.items() if size},
            constants=self.constants,
        )

    def _direct(self) -> dict[int, Operand]:
        """The results that may be written at once to where they go, over what was there."""
        last = dict.fromkeys(self.in_out, 0)
        wide = set()
        for i in range(self.tape.leaves, len(self.tape)):
            for j in self.tape.operands(i):
                if self.place.get(j) in last:
                    last[self.place[j]] = i
                if j in wide or (j in self.place and self.place[j].strides):
                    wide.add(i)
        outputs = self.tape.outputs.tolist()
        for i in outputs:  # what was there goes elsewhere at the end
            if self.place.get(i) in last:
                last[self.place[i]] = len(self.tape)
        return {
            i: to
            for i, to in zip(outputs, self.in_out)
            if i in wide and outputs.count(i) == 1 and i >= last[to]
        }

    def _new(self, size: int | None = None) -> Operand:
        """New temporaries: one for each parameter, or `size`."""
        base = self.temporaries
        self.temporaries += self.count if size is None else size
        return Operand(Space.TEMPORARY, base, (1,))

    def _apply(self, i: int, to: Operand | None) -> Apply:
        sources = [self.place[j] for j in self.tape.operands(i)]
        op, const = int(self.tape.op[i]), self.tape.constant(i)
        if any(source.strides for source in sources):
            self.place[i] = self._new() if to is None else to
            operands = tuple(self._lanes(source) for source in sources)
            return Apply(self.place[i], (Loop(self.count),), op, operands, const)
        self.place[i] = self._new(1)._replace(strides=())
        return Apply(self.place[i], (), op, tuple(sources), const)

    def _lanes(self, source: Operand) -> Operand:
        return source if source.strides else source._replace(strides=(0,))

    def _copy(self, to: Operand, source: Operand) -> Contract:
        terms = Group((Segment(self._lanes(source)),))
        return Contract(to, (Loop(self.count),), (terms,))
