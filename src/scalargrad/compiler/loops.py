"""Loops: a compiled program as a short list of loop nests over arrays.

This is what a flat graph of scalars becomes when its loops have been found again, and what every
back end starts from. A program is a list of instructions, run in order. It reads and writes
elements of a few arrays, each of one `Space` (parameters, arguments, temporaries, ...), and an
element of a batched space holds one number per example. The contract:

**Loops.** An instruction has lane loops, outermost first; every combination of their counters is
a lane, and each lane gives one element of the result. The extent of a loop is
`extent + sum(slope * counter of the outer loops)`, so a triangle is two loops; extents are never
negative. Lanes of one instruction write different elements and read none that the same
instruction writes, so they may run in any order or at once.

**Addresses.** An `Operand` names the element `base + sum(stride * counter)` of its space, with
one stride for each lane loop and, inside a segment, one for each reduction loop. With `indirect`,
that number is a place in `Loops.table`, and the entry found there is the address.

**Repeats.** `Repeat(body, count)` runs the instructions of its body `count` times. Each operand
in it has in `moves` one step for each repeat around it, outermost first (none at all if it stays):
in turn t its base is `base + move * t`. So what is written in one turn can be read in the next. A
loop has `moves` as well: its extent is `move * t` longer, so that turns may grow, or shrink.

**Batches.** Where the result is batched, the instruction runs for each example, and a batched
operand is read at the same example. An unbatched result may read batched operands only in a group
that goes over the batch. In a program without batched spaces there is one example.

**Instructions.**

    Contract   result = start + term + term + ...   in exactly this order, each product and each
               sum rounded to float64 (no fused multiply-add, no reassociation)
               `start` -0.0 is the neutral element of IEEE addition: the sum starts with its first
               term. With `resume` it starts from the result's present number instead.
               With op MAXIMUM or MINIMUM the terms are folded by that operation of the op table.
      Group    segments one after the other, once; or, if it goes over the batch, once for every
               example: from the first to the last (over = 1), or from the last to the first
               (over = -1, the order in which `backward` meets the examples). The first `shared`
               loops of all segments are the same, and go around them all
      Segment  for all counters of its reduction loops, in order: left, or left * right, negated
               with `minus` before it is added; where `skip` has SKIP_RIGHT (SKIP_LEFT) and the
               right (left) factor is 0, there is no term, so 0 * inf counts for nothing
    Apply      result = op(operands; const), any row of the op table but `take`, as `rules.forward`
    Indicator  result = 1.0 where the integer at `index` equals the number `candidate`, else 0.0
    Take       result = the candidate that the integer at `index` selects: `source` has one stride
               more than there are lanes, for the number of the candidate
    Scatter    result += source at the element of `result` that the integer at `index` selects, as
               Take reads it: the instruction changes what others have written. Its lanes run in
               their order; with `over`, all of them for each example, from the last to the first
    Walk       single scalar operations one after the other, from arrays: code without structure

**Inputs.** PARAMETER, ARGUMENT, EXAMPLE (the batched arguments), INDEX and EXAMPLE_INDEX (integer
arguments) are the caller's; CONSTANT is `Loops.constants`; SCALAR holds, in a program with a
batch, the gradient of each example's loss (1/B for the mean of B examples) and B, as float64.
**Results.** OUTPUT, EXAMPLE_OUTPUT and the three gradients; STATE and, in an update program,
PARAMETER are read and written. Everything else is scratch. Every element of a result is written
exactly once, before a Scatter may add to it, and every element read is an input or was written
before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .spaces import BATCH as BATCH
from .spaces import IN_OUT as IN_OUT
from .spaces import INPUTS as INPUTS
from .spaces import INTEGERS as INTEGERS
from .spaces import RESULTS as RESULTS
from .spaces import SCALARS as SCALARS
from .spaces import SEED as SEED
from .spaces import Space as Space

# How a term of a sum is counted.
MINUS, SKIP_RIGHT, SKIP_LEFT = 1, 2, 4


class Loop(NamedTuple):
    """A counter from 0 to `extent + sum(slope * outer counter)`, exclusive."""

    extent: int
    slopes: tuple[int, ...] = ()
    moves: tuple[int, ...] = ()

    @property
    def even(self) -> bool:
        """Whether the extent is always the same."""
        return not any(self.slopes) and not any(self.moves)


class Operand(NamedTuple):
    """An element of a space for each combination of loop counters."""

    space: Space
    base: int
    strides: tuple[int, ...] = ()
    indirect: bool = False
    moves: tuple[int, ...] = ()


class Segment(NamedTuple):
    """The terms `left` or `left * right` for all counters of `loops`."""

    left: Operand
    right: Operand | None = None
    loops: tuple[Loop, ...] = ()
    minus: bool = False
    skip: int = 0


class Group(NamedTuple):
    """Segments, once (over 0) or for each example, ascending (1) or descending (-1), with
    `shared` loops around them all."""

    segments: tuple[Segment, ...]
    over: int = 0
    shared: int = 0


class Origin(NamedTuple):
    """Where an instruction comes from: the nodes of the tape (lowest, highest) and source lines.

    Nodes that do the same but lie in no one pattern of loops are split: `part` says which of how
    many parts the instruction is.
    """

    nodes: tuple[int, int] = (0, 0)
    lines: tuple[str, ...] = ()
    gradient: bool = False
    part: tuple[int, int] = (1, 1)


NOWHERE = Origin()


@dataclass(frozen=True, slots=True)
class Contract:
    """A sum (or maximum, or minimum) of terms for each lane."""

    result: Operand
    lanes: tuple[Loop, ...]
    groups: tuple[Group, ...]
    start: float = -0.0
    resume: bool = False
    op: int = ops.ADD
    origin: Origin = NOWHERE


@dataclass(frozen=True, slots=True)
class Apply:
    """An operation of the op table for each lane."""

    result: Operand
    lanes: tuple[Loop, ...]
    op: int
    operands: tuple[Operand, ...]
    const: float = 0.0
    origin: Origin = NOWHERE


@dataclass(frozen=True, slots=True)
class Indicator:
    """1.0 where an integer argument has the value `candidate`, whose space is ignored."""

    result: Operand
    lanes: tuple[Loop, ...]
    index: Operand
    candidate: Operand
    origin: Origin = NOWHERE


@dataclass(frozen=True, slots=True)
class Take:
    """The candidate, of `count`, that an integer argument selects."""

    result: Operand
    lanes: tuple[Loop, ...]
    index: Operand
    source: Operand
    count: int
    origin: Origin = NOWHERE


@dataclass(frozen=True, slots=True)
class Scatter:
    """Adds to the candidate, of `count`, that an integer argument selects."""

    result: Operand
    lanes: tuple[Loop, ...]
    index: Operand
    source: Operand
    count: int
    over: bool = False
    origin: Origin = NOWHERE


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """Scalar operations in order, element by element; arrays of the length stated.

    code        uint8[n]   an op code; ADD is a sum of terms, MAXIMUM and MINIMUM fold theirs
    space, at   uint8[n], int32[n]   the result
    const       float64[n] exponent or slope; for a sum, its start
    first       int32[n+1] the terms (for a sum) or operands of node i: first[i] to first[i+1]
    left_space, left       uint8[t], int32[t]
    right_space, right     uint8[t], int32[t]   right is -1 where a term has one factor
    style       uint8[t]   MINUS, SKIP_RIGHT, SKIP_LEFT
    level       int32[n]   nodes of one level read none of each other's results

    All results are batched, or none is. A sum that has its own result as its first term goes on
    from that result's present number.
    """

    code: NDArray[np.uint8]
    space: NDArray[np.uint8]
    at: NDArray[np.int32]
    const: NDArray[np.float64]
    first: NDArray[np.int32]
    left_space: NDArray[np.uint8]
    left: NDArray[np.int32]
    right_space: NDArray[np.uint8]
    right: NDArray[np.int32]
    style: NDArray[np.uint8]
    level: NDArray[np.int32]
    origin: Origin = NOWHERE


@dataclass(frozen=True, slots=True)
class Repeat:
    """Instructions, `count` times one after the other: steps of a recurrence, of an integration."""

    body: tuple[Nest | Repeat, ...]
    count: int


Nest: TypeAlias = Contract | Apply | Indicator | Take | Scatter
Instruction: TypeAlias = Nest | Walk | Repeat


def _no_numbers() -> NDArray[np.float64]:
    return np.empty(0)


def _no_table() -> NDArray[np.int32]:
    return np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Loops:
    """A program: instructions in order, the size of every space, the constants, the index table."""

    instructions: tuple[Instruction, ...]
    sizes: dict[Space, int]
    constants: NDArray[np.float64] = field(default_factory=_no_numbers)
    table: NDArray[np.int32] = field(default_factory=_no_table)
    batched: bool = False

    def size(self, space: Space) -> int:
        """Elements in a space (of one example, if it is batched)."""
        return self.sizes.get(space, 0)

    @property
    def nests(self) -> list[Nest]:
        """The instructions that are loop nests, those of a repeat once."""
        return [step for step, _ in leaves(self.instructions) if not isinstance(step, Walk)]

    def __str__(self) -> str:
        from .explain import listing

        return listing(self)


# --- the geometry of nests -----------------------------------------------------------------------


def counters(loops: Sequence[Loop], outer: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Every combination of loop counters in order, one row each; continues the rows of `outer`."""
    rows = np.zeros((1, 0), np.int64) if outer is None else outer
    for loop in loops:
        slopes = np.array(loop.slopes, np.int64)
        extents = loop.extent + rows[:, : len(slopes)] @ slopes
        if (extents < 0).any():
            raise ValueError(f"{loop}: the extent is negative, {extents.min()}, for some counters")
        starts = np.cumsum(extents) - extents
        inner = np.arange(extents.sum()) - np.repeat(starts, extents)
        rows = np.column_stack((np.repeat(rows, extents, axis=0), inner))
    return rows


def addresses(
    operand: Operand, rows: NDArray[np.int64], table: NDArray[np.int32]
) -> NDArray[np.int64]:
    """The address of the operand for each row of counters; IndexError outside the table."""
    strides = np.array(operand.strides, np.int64)
    places: NDArray[np.int64] = operand.base + rows[:, : len(strides)] @ strides
    if not operand.indirect:
        return places
    if len(places) and (places.min() < 0 or places.max() >= len(table)):
        raise IndexError(f"{operand}: places {places.min()} to {places.max()} of the table")
    return table[places].astype(np.int64)


def count(loops: Sequence[Loop]) -> int:
    """How many combinations of counters there are; inside a repeat, in its first turn."""
    if all(not any(loop.slopes) for loop in loops):
        total = 1
        for loop in loops:
            total *= loop.extent
        return total
    return len(counters(loops))


def leaves(
    steps: Sequence[Instruction], counts: tuple[int, ...] = ()
) -> Iterator[tuple[Nest | Walk, tuple[int, ...]]]:
    """The instructions in order, with how often each repeat around them turns."""
    for step in steps:
        if isinstance(step, Repeat):
            yield from leaves(step.body, (*counts, step.count))
        else:
            yield step, counts


def mapped(step: Nest, change: Callable[[Operand], Operand]) -> Nest:
    """A nest with every operand changed: the result first, the others in the order they are read.

    The candidate of an indicator is one, too.
    """
    result = change(step.result)
    if isinstance(step, Contract):
        groups = tuple(
            group._replace(
                segments=tuple(
                    segment._replace(
                        left=change(segment.left),
                        right=None if segment.right is None else change(segment.right),
                    )
                    for segment in group.segments
                )
            )
            for group in step.groups
        )
        return replace(step, result=result, groups=groups)
    if isinstance(step, Apply):
        return replace(step, result=result, operands=tuple(map(change, step.operands)))
    if isinstance(step, Indicator):
        return replace(
            step, result=result, index=change(step.index), candidate=change(step.candidate)
        )
    return replace(step, result=result, index=change(step.index), source=change(step.source))


def turn(step: Nest | Repeat, number: int) -> Nest | Repeat:
    """An instruction of a repeat's body as it is in one of the turns."""

    def moved(operand: Operand) -> Operand:
        if not operand.moves:
            return operand
        first, *others = operand.moves
        return operand._replace(base=operand.base + number * first, moves=tuple(others))

    def grown(loops: tuple[Loop, ...]) -> tuple[Loop, ...]:
        return tuple(
            Loop(loop.extent + number * loop.moves[0], loop.slopes, loop.moves[1:])
            if loop.moves
            else loop
            for loop in loops
        )

    if isinstance(step, Repeat):
        return replace(step, body=tuple(turn(inner, number) for inner in step.body))
    if not grows(step):
        return mapped(step, moved)
    if isinstance(step, Contract):
        groups = tuple(
            group._replace(segments=tuple(s._replace(loops=grown(s.loops)) for s in group.segments))
            for group in step.groups
        )
        step = replace(step, groups=groups)
    return mapped(replace(step, lanes=grown(step.lanes)), moved)


def grows(step: Nest | Repeat) -> bool:
    """Whether loops are longer, or shorter, from turn to turn of the repeats around."""
    if isinstance(step, Repeat):
        return any(map(grows, step.body))
    if any(loop.moves for loop in step.lanes):
        return True
    return isinstance(step, Contract) and any(
        loop.moves for _, segment in segments(step) for loop in segment.loops
    )


def spelled(group: Group, depth: int) -> Iterator[Segment]:
    """The segments of a group without its shared loops, in all turns of those, one after the other.

    `depth` is the number of lane loops.
    """
    shared = group.shared
    if not shared:
        yield from group.segments
        return

    def without(values: tuple[int, ...]) -> tuple[int, ...]:
        return values[:depth] + values[depth + shared :]

    def placed(operand: Operand, row: NDArray[np.int64]) -> Operand:
        steps = np.array(operand.strides[depth : depth + shared], np.int64)
        return operand._replace(
            base=operand.base + int(row @ steps), strides=without(operand.strides)
        )

    for row in counters(group.segments[0].loops[:shared]):
        for segment in group.segments:
            right = None if segment.right is None else placed(segment.right, row)
            yield segment._replace(
                left=placed(segment.left, row),
                right=right,
                loops=tuple(
                    loop._replace(
                        extent=loop.extent
                        + sum(int(s * c) for s, c in zip(loop.slopes[depth:], row)),
                        slopes=without(loop.slopes),
                    )
                    for loop in segment.loops[shared:]
                ),
            )


def segments(step: Contract) -> Iterator[tuple[Group, Segment]]:
    """The segments of a contraction with their groups, in order."""
    for group in step.groups:
        for segment in group.segments:
            yield group, segment


def work(step: Instruction, batch: int = 1) -> int:
    """Terms and operations that an instruction computes for a batch of that size."""
    if isinstance(step, Repeat):
        if grows(step):
            turns = (turn(inner, k) for k in range(step.count) for inner in step.body)
            return sum(work(inner, batch) for inner in turns)
        return step.count * sum(work(inner, batch) for inner in step.body)
    if isinstance(step, Walk):
        examples = batch if len(step.space) and Space(int(step.space[0])).batched else 1
        return len(step.left) * examples
    over = isinstance(step, Scatter) and step.over
    examples = batch if over or step.result.space.batched else 1
    if not isinstance(step, Contract):
        return count(step.lanes) * examples
    if step.resume and not step.groups:
        return 0
    terms = (
        count(step.lanes + segment.loops) * (batch if group.over else 1)
        for group, segment in segments(step)
    )
    return max(sum(terms), count(step.lanes)) * examples
