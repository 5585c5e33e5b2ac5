"""The verifier of Loops programs: every promise of the contract in `loops` that can be checked.

Extents are not negative, every address lies in its space, every element that is read is an input
or was written by an earlier instruction, no element is written twice, every result is written,
and batched numbers reach unbatched results only through a group that goes over the batch. Repeats
are checked turn by turn.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .. import ops
from ..errors import VerifyError
from .loops import (
    IN_OUT,
    INPUTS,
    INTEGERS,
    RESULTS,
    Apply,
    Contract,
    Group,
    Indicator,
    Instruction,
    Loop,
    Loops,
    Operand,
    Repeat,
    Scatter,
    Segment,
    Space,
    Take,
    Walk,
    addresses,
    counters,
    grows,
    segments,
    turn,
)

RESUMED = (
    *(Space.PARAMETER_GRADIENT, Space.ARGUMENT_GRADIENT, Space.EXAMPLE_GRADIENT),
    *IN_OUT,
)
_FOLDS = (ops.ADD, ops.MAXIMUM, ops.MINIMUM)


def verifying() -> bool:
    """Whether the environment asks for all stages of every program to be verified."""
    return os.environ.get("SCALARGRAD_VERIFY", "") not in ("", "0")


def verify(loops: Loops) -> Loops:
    """The program itself; raises `VerifyError`, naming the instruction and what is wrong with it."""
    Verifier(loops).run()
    return loops


class Verifier:
    """One pass over a program that remembers which elements are defined."""

    def __init__(self, loops: Loops) -> None:
        self.loops = loops
        self.defined = {space: np.full(loops.size(space), space in INPUTS, bool) for space in Space}
        self.written = {space: np.zeros(loops.size(space), bool) for space in Space}
        self.where = ""

    def run(self) -> None:
        """Check everything."""
        self._check_sizes()
        for number, step in enumerate(self.loops.instructions):
            self.where = f"instruction {number} ({type(step).__name__})"
            self._check(step)
        for space in RESULTS:
            missing = np.flatnonzero(~self.defined[space])
            if len(missing):
                raise VerifyError(f"{space.name}: element {missing[0]} is never written")

    def _fail(self, message: str) -> None:
        raise VerifyError(f"{self.where}: {message}")

    def _check_sizes(self) -> None:
        loops = self.loops
        if loops.size(Space.CONSTANT) != len(loops.constants):
            raise VerifyError(
                f"constants: {len(loops.constants)} numbers for a space of "
                f"{loops.size(Space.CONSTANT)}"
            )
        for space in Space:
            if space.batched and loops.size(space) and not loops.batched:
                raise VerifyError(f"{space.name}: a batched space in a program without a batch")

    def _check(self, step: Instruction) -> None:
        if isinstance(step, Repeat):
            if step.count < 1:
                self._fail(f"is repeated {step.count} times")
            for number in range(step.count):
                for again in step.body:
                    self._check(turn(again, number))
            return
        if isinstance(step, Walk):
            self._check_walk(step)
            return
        if grows(step):
            self._fail("its loops move with more repeats than there are around it")
        try:
            rows = counters(step.lanes)
            if isinstance(step, Scatter):
                self._check_scatter(step, rows)
                return
            self._check_depth(step.result, len(step.lanes))
            for operand, inner, batched in self._reads(step, rows):
                self._check_batch(operand, batched)
                self._read(operand, inner, step)
            self._write(step.result, rows)
        except (ValueError, IndexError) as error:
            self._fail(str(error))

    def _reads(
        self, step: Instruction, rows: NDArray[np.int64]
    ) -> Iterator[tuple[Operand, NDArray[np.int64], bool]]:
        """Every operand, its rows of counters, and whether it may be batched."""
        batched = step.result.space.batched  # type: ignore[union-attr]
        depth = rows.shape[1]
        if isinstance(step, Contract):
            if step.op not in _FOLDS:
                self._fail(f"cannot fold by {step.op}: expected one of {_FOLDS}")
            if step.resume and step.result.space not in RESUMED:
                self._fail(f"cannot resume {step.result}: not a gradient, parameter or state")
            for group, segment in segments(step):
                if group.over and batched:
                    self._fail("a group goes over the batch, but the result is batched")
                if group.over and not self.loops.batched:
                    self._fail("a group goes over the batch of a program without one")
                self._check_shared(group, segment)
                inner = counters(segment.loops, rows)
                operands = (segment.left, segment.right)
                for operand in operands:
                    if operand is not None:
                        self._check_depth(operand, depth + len(segment.loops))
                        yield operand, inner, batched or group.over != 0
        elif isinstance(step, Apply):
            row = ops.BY_CODE.get(step.op)
            if row is None or row.arity != len(step.operands):
                self._fail(f"op {step.op} with {len(step.operands)} operands")
            for operand in step.operands:
                self._check_depth(operand, depth)
                yield operand, rows, batched
        elif isinstance(step, Indicator):
            self._check_index(step.index)
            yield step.index, rows, batched
        elif isinstance(step, Take):
            self._check_index(step.index)
            yield step.index, rows, batched
            self._check_depth(step.source, depth + 1)
            yield step.source, counters((Loop(step.count),), rows), batched

    def _check_scatter(self, step: Scatter, rows: NDArray[np.int64]) -> None:
        if step.result.space not in RESUMED or step.result.space.batched or step.result.indirect:
            self._fail(f"cannot add to {step.result}: not an unbatched gradient at a known place")
        if step.over and not self.loops.batched:
            self._fail("goes over the batch of a program without one")
        self._check_index(step.index)
        for operand in (step.index, step.source):
            self._check_depth(operand, len(step.lanes))
            self._check_batch(operand, step.over)
            self._read(operand, rows, step)
        self._check_depth(step.result, len(step.lanes) + 1)
        # What it adds to was written before.
        self._read(step.result, counters((Loop(step.count),), rows), step)

    def _check_shared(self, group: Group, segment: Segment) -> None:
        shared = segment.loops[: group.shared]
        if len(shared) < group.shared or shared != group.segments[0].loops[: group.shared]:
            self._fail(f"the segments of a group do not share their first {group.shared} loops")
        if not all(loop.even for loop in shared):
            self._fail("the extent of a shared loop depends on other counters")

    def _check_index(self, index: Operand) -> None:
        if index.space not in INTEGERS:
            self._fail(f"the index {index} is not an integer argument")

    def _check_depth(self, operand: Operand, depth: int) -> None:
        if operand.moves:
            self._fail(f"{operand} moves with more repeats than there are around it")
        if len(operand.strides) != depth:
            self._fail(f"{operand} has {len(operand.strides)} strides for {depth} loops")

    def _check_batch(self, operand: Operand, allowed: bool) -> None:
        if operand.space.batched and not allowed:
            self._fail(f"an unbatched result reads the batched {operand}")

    def _in_bounds(self, space: Space, places: NDArray[np.int64], what: str) -> None:
        if len(places) and (places.min() < 0 or places.max() >= self.loops.size(space)):
            self._fail(
                f"{what} reaches {space.name} {places.min()} to {places.max()}, which has "
                f"{self.loops.size(space)} elements"
            )

    def _read(self, operand: Operand, rows: NDArray[np.int64], step: Instruction) -> None:
        index = isinstance(step, Indicator | Take | Scatter) and operand is step.index
        if operand.space in INTEGERS and not index:
            self._fail(f"{operand} is an integer, read as a number")
        places = addresses(operand, rows, self.loops.table)
        self._in_bounds(operand.space, places, str(operand))
        self._check_defined(operand.space, places)

    def _check_defined(self, space: Space, places: NDArray[np.int64]) -> None:
        undefined = ~self.defined[space][places]
        if undefined.any():
            self._fail(
                f"reads element {places[undefined][0]} of {space.name}, which is not written yet"
            )

    def _write(self, result: Operand, rows: NDArray[np.int64]) -> None:
        if result.space in INPUTS and result.space not in IN_OUT:
            self._fail(f"writes the input {result}")
        places = addresses(result, rows, self.loops.table)
        self._in_bounds(result.space, places, str(result))
        counted = np.bincount(places, minlength=self.loops.size(result.space))
        if (counted > 1).any() or (self.written[result.space] & (counted > 0)).any():
            twice = np.flatnonzero((counted + self.written[result.space]) > 1)[0]
            self._fail(f"element {twice} of {result.space.name} is written twice")
        self.written[result.space][places] = True
        self.defined[result.space][places] = True

    def _check_walk(self, step: Walk) -> None:
        batched = {Space(int(s)).batched for s in np.unique(step.space)}
        if len(batched) > 1:
            self._fail("results both batched and unbatched")
        level: dict[tuple[int, int], int] = {}
        for i in range(len(step.code)):
            code = int(step.code[i])
            terms = slice(int(step.first[i]), int(step.first[i + 1]))
            row = ops.BY_CODE.get(code)
            if row is None or (code not in _FOLDS and row.arity != terms.stop - terms.start):
                self._fail(f"node {i}: op {code} with {terms.stop - terms.start} operands")
            read = list(zip(step.left_space[terms].tolist(), step.left[terms].tolist()))
            rights = list(zip(step.right_space[terms].tolist(), step.right[terms].tolist()))
            own = int(step.space[i]), int(step.at[i])
            factors = read + [pair for pair in rights if pair[1] >= 0]
            if any(level.get(factor) == step.level[i] for factor in factors):
                self._fail(f"node {i}: reads a result of its own level")
            level[own] = int(step.level[i])
            for k, (number, place) in enumerate(factors):
                space, places = Space(number), np.array([place])
                if space in INTEGERS:
                    self._fail(f"node {i}: reads {space.name} as a number")
                self._check_batch(Operand(space, place), True in batched)
                self._in_bounds(space, places, f"node {i}")
                if k or (number, place) != own or space not in RESUMED:
                    self._check_defined(space, places)
            self._write_one(Space(int(step.space[i])), int(step.at[i]))

    def _write_one(self, space: Space, place: int) -> None:
        if space in INPUTS and space not in IN_OUT:
            self._fail(f"writes element {place} of the input {space.name}")
        self._in_bounds(space, np.array([place]), "a result")
        if self.written[space][place]:
            self._fail(f"element {place} of {space.name} is written twice")
        self.written[space][place] = self.defined[space][place] = True
