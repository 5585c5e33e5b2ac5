"""From instructions that come again and again to repeats: the steps of a user's outer loop.

The time steps of a recurrent network or of an integration depend on each other, so they are no
lanes. But from step to step the same instructions come back, each operand so many places on:
one body for all of them is compiled once and stays in the instruction cache. Inside a sum, terms
that come back in the same way are a loop of that sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .loops import (
    NOWHERE,
    Apply,
    Contract,
    Group,
    Instruction,
    Loop,
    Loops,
    Nest,
    Operand,
    Origin,
    Repeat,
    Segment,
    Space,
    Walk,
    counters,
    mapped,
)
from .tandems import Tandem, find_tandems, linear_hash

# Instructions that a repeat must save. Shorter bodies have several turns one after the other: what
# passes from one to the next then stays in registers.
LEAST = 8
# So many terms of one sort in a sum that make no loop are listed in the index table: reading them
# takes up to twice as long as code for each, whose compilation takes a millisecond a term.
MANY_TERMS = 256


def find_repeats(loops: Loops) -> Loops:
    """The program with its repeats: the same operations in the same order."""
    constants = _Constants(loops.constants)
    table = [loops.table]
    instructions = tuple(
        _listed(step, table) if isinstance(step, Contract) else step
        for step in _repeated(loops.instructions, 0, constants)
    )
    numbers = constants.array()
    sizes = {**loops.sizes, **({Space.CONSTANT: len(numbers)} if len(numbers) else {})}
    return replace(
        loops,
        instructions=instructions,
        sizes=sizes,
        constants=numbers,
        table=np.concatenate(table),
    )


def together(period: int, turns: int) -> int:
    """How many turns are written one after the other in a body: more than one if it is short."""
    return min(max(LEAST // period, 1), turns // 2)


def even_body(
    turns: Sequence[Sequence[Nest]],
) -> tuple[list[Nest], tuple[Nest, ...]] | None:
    """What comes before, and the body, of a repeat of which three turns are given.

    The first turn comes before if it does not move to the second as that to the third. None if
    the second and the third are not the same instructions.
    """
    parted = _parted([step for turn in turns for step in turn])
    period, start = len(turns[1]), len(turns[0])
    tandem = Tandem(start, period, 2)
    kinds = parted.kinds[start:].reshape(2, -1)
    if len(turns[2]) != period or (kinds[0] != kinds[1]).any():
        return None
    whole = Tandem(0, period, 3)
    if start == period and (parted.kinds[:period] == kinds[0]).all() and parted.moves_evenly(whole):
        tandem = whole
    columns = iter(np.diff(parted.turns(tandem), axis=0)[0].tolist())
    body = [
        mapped(step, lambda operand: _moving(operand, next(columns), 0))
        for step in turns[0 if tandem is whole else 1]
    ]
    return [] if tandem is whole else list(turns[0]), tuple(body)


def _moving(operand: Operand, move: int, depth: int) -> Operand:
    """An operand in the innermost of `depth` + 1 repeats."""
    if not move:
        return operand
    before = operand.moves + (0,) * (depth - len(operand.moves))
    return operand._replace(moves=(*before, move))


class _Constants:
    """The constants, to which those of repeats are added that lie in no even order."""

    def __init__(self, numbers: NDArray[np.float64]) -> None:
        self._parts, self._size = [numbers], len(numbers)

    def places(self, turns: NDArray[np.int64]) -> tuple[int, int]:
        """The place of the first, and the step to the next, of a constant for each turn."""
        steps = np.diff(turns)
        if (steps == steps[0]).all():
            return int(turns[0]), int(steps[0])
        numbers = self.array()[turns]
        bits = numbers.view(np.int64)
        if (bits == bits[0]).all():
            return int(turns[0]), 0
        self._parts.append(numbers)
        self._size += len(numbers)
        return self._size - len(numbers), 1

    def array(self) -> NDArray[np.float64]:
        """All of them."""
        self._parts = [np.concatenate(self._parts)]
        return self._parts[0]


class _Parted(NamedTuple):
    """Things cut into what they are (`kinds`: a number for each) and where their operands lie.

    bases    int64[]    the bases of all operands, one thing after the other
    first    int64[n+1] the bases of thing k: first[k] to first[k + 1]
    free     bool[]     whether a base is that of a single constant, which may be put anywhere
    """

    kinds: NDArray[np.int64]
    bases: NDArray[np.int64]
    first: NDArray[np.int64]
    free: NDArray[np.bool_]

    def tandems(self, least: int) -> list[Tandem]:
        """The tandem repeats, checked number by number."""
        evenly = np.where(self.free, 0, self.bases)
        found = find_tandems(self.kinds, linear_hash(evenly, self.first), least)
        return [tandem for tandem in found if _is_even(self._rows(tandem, evenly))]

    def moves_evenly(self, tandem: Tandem) -> bool:
        """Whether all bases of a repeat do."""
        return _is_even(self.turns(tandem))

    def turns(self, tandem: Tandem) -> NDArray[np.int64]:
        """The bases of a repeat, a row for each turn."""
        return self._rows(tandem, self.bases)

    def _rows(self, tandem: Tandem, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        part = numbers[self.first[tandem.start] : self.first[tandem.stop]]
        return part.reshape(tandem.turns, -1)


def _is_even(rows: NDArray[np.int64]) -> bool:
    """Whether rows follow one another at one difference."""
    steps = np.diff(rows, axis=0)
    return bool((steps == steps[0]).all())


class _Numbers:
    """Numbers for things that are equal, in the order in which they are first seen."""

    def __init__(self) -> None:
        self._known: dict[object, int] = {}

    def __call__(self, thing: object) -> int:
        return self._known.setdefault(thing, len(self._known))


def _free(operand: Operand) -> bool:
    """Whether an operand is one constant."""
    return (
        operand.space == Space.CONSTANT
        and not operand.indirect
        and not any(operand.strides)
        and not any(operand.moves)
    )


# --- instructions --------------------------------------------------------------------------------


def _repeated(steps: Sequence[Instruction], depth: int, constants: _Constants) -> list[Instruction]:
    """Instructions inside `depth` repeats, those that come again and again made repeats."""
    steps = [_inner(step, depth, constants) for step in steps]
    if len(steps) <= LEAST:
        return steps
    parted = _parted(steps)
    made: list[Instruction] = []
    done = 0
    for tandem in parted.tandems(LEAST):
        made += steps[done : tandem.start]
        times = together(tandem.period, tandem.turns)
        tandem = Tandem(tandem.start, tandem.period * times, tandem.turns // times)
        body = _body(steps, tandem, parted, depth, constants)
        made.append(_inner(Repeat(tuple(body), tandem.turns), depth, constants))
        done = tandem.stop
    return [*made, *steps[done:]]


def _inner(step: Instruction, depth: int, constants: _Constants) -> Instruction:
    """An instruction inside `depth` repeats with what comes again and again inside of it."""
    if isinstance(step, Repeat):
        inside = _repeated(step.body, depth + 1, constants)
        return replace(step, body=tuple(i for i in inside if not isinstance(i, Walk)))
    return fold_sums(step) if isinstance(step, Contract) else step


def _parted(steps: Sequence[Instruction]) -> _Parted:
    number, kinds = _Numbers(), []
    bases: list[int] = []
    free: list[bool] = []
    first = [0]

    def away(operand: Operand) -> Operand:
        bases.append(operand.base)
        free.append(_free(operand))
        return operand._replace(base=0)

    for k, step in enumerate(steps):
        if isinstance(step, Walk | Repeat):
            kinds.append(number(k))
        else:
            # Floats compare equal to their negative zeros: those are different constants.
            constant = repr(step.start) if isinstance(step, Contract) else ""
            constant = repr(step.const) if isinstance(step, Apply) else constant
            kinds.append(number((replace(mapped(step, away), origin=NOWHERE), constant)))
        first.append(len(bases))
    return _Parted(
        np.array(kinds, np.int64),
        np.array(bases, np.int64),
        np.array(first, np.int64),
        np.array(free, np.bool_),
    )


def _body(
    steps: Sequence[Instruction],
    tandem: Tandem,
    parted: _Parted,
    depth: int,
    constants: _Constants,
) -> list[Nest]:
    """The instructions of one turn, their operands moving."""
    turns = parted.turns(tandem)
    columns = iter(range(turns.shape[1]))
    free = parted.free[parted.first[tandem.start] :]

    def moving(operand: Operand) -> Operand:
        k = next(columns)
        base, move = int(turns[0, k]), int(turns[1, k] - turns[0, k])
        if free[k]:
            base, move = constants.places(turns[:, k])
        return _moving(operand._replace(base=base), move, depth)

    body = []
    for k in range(tandem.start, tandem.start + tandem.period):
        step = steps[k]
        assert not isinstance(step, Walk | Repeat)
        all_turns = [step.origin for step in steps[k : tandem.stop : tandem.period]]  # type: ignore[union-attr]
        body.append(replace(mapped(step, moving), origin=_origin(all_turns)))
    return body


def _origin(turns: Sequence[Origin]) -> Origin:
    """Where all turns of an instruction come from."""
    lowest, highest = (pick(o.nodes[k] for o in turns) for k, pick in enumerate((min, max)))
    return turns[0]._replace(nodes=(lowest, highest))


# --- sums ----------------------------------------------------------------------------------------


def fold_sums(step: Contract) -> Contract:
    """The sum with segments that come again and again as loops."""
    if all(len(group.segments) < 3 for group in step.groups):
        return step
    depth = len(step.lanes)
    groups = tuple(folded for group in step.groups for folded in _folded(group, depth))
    return replace(step, groups=groups)


def _folded(group: Group, depth: int) -> list[Group]:
    if len(group.segments) < 3 or group.shared:
        return [group]
    parted = _parted_segments(group.segments)
    made: list[Group] = []
    loose: list[Segment] = []
    done = 0

    def close() -> None:
        if loose:
            made.append(group._replace(segments=tuple(loose)))
            loose.clear()

    for tandem in parted.tandems(2):
        whole = tandem.period * tandem.turns == len(group.segments)
        if tandem.period > 1 and group.over and not whole:
            continue  # every example has all segments in turn: its group cannot be cut
        loose += group.segments[done : tandem.start]
        columns = iter(np.diff(parted.turns(tandem)[:2], axis=0)[0].tolist())
        turn = [
            _looped(segment, tandem.turns, depth, columns)
            for segment in group.segments[tandem.start : tandem.start + tandem.period]
        ]
        if tandem.period > 1:
            close()
            made.append(Group(tuple(turn), group.over, 1))
        else:
            loose += turn
        done = tandem.stop
    loose += group.segments[done:]
    close()
    return made


def _listed(step: Contract, table: list[NDArray[np.int32]]) -> Contract:
    """The sum, with long rows of terms that only differ in their places as loops over the table."""
    if all(len(group.segments) < MANY_TERMS for group in step.groups):
        return step
    if not all(loop.even for loop in step.lanes):
        return step
    lanes = counters(step.lanes)
    groups = []
    for group in step.groups:
        made: list[Segment] = []
        for (_, plain), found in groupby(group.segments, _sort_of_term):
            row = list(found)
            long = plain and not group.shared and len(row) >= MANY_TERMS
            made += [_row(row, step.lanes, lanes, table)] if long else row
        groups.append(group._replace(segments=tuple(made)))
    return replace(step, groups=tuple(groups))


def _sort_of_term(segment: Segment) -> tuple[Segment, bool]:
    """What a segment is but for its places, and whether it is one term at a known place."""
    operands = [x for x in (segment.left, segment.right) if x is not None]
    plain = not segment.loops and not any(x.indirect or x.moves for x in operands)
    right = None if segment.right is None else segment.right._replace(base=0)
    return segment._replace(left=segment.left._replace(base=0), right=right), plain


def _row(
    terms: Sequence[Segment],
    loops: tuple[Loop, ...],
    lanes: NDArray[np.int64],
    table: list[NDArray[np.int32]],
) -> Segment:
    """Terms of one sort as a loop."""
    strides = np.append(np.cumprod([len(terms), *(loop.extent for loop in loops[:0:-1])])[::-1], 1)
    strides = strides[len(strides) - 1 - len(loops) :]

    def listed(operands: Sequence[Operand]) -> Operand:
        bases = np.array([operand.base for operand in operands])
        places = (lanes @ np.array(operands[0].strides, np.int64))[:, None] + bases
        start = sum(map(len, table))
        table.append(places.astype(np.int32).ravel())
        return Operand(operands[0].space, start, tuple(strides.tolist()), indirect=True)

    rights = [term.right for term in terms if term.right is not None]
    return terms[0]._replace(
        left=listed([term.left for term in terms]),
        right=listed(rights) if rights else None,
        loops=(Loop(len(terms)),),
    )


def _looped(segment: Segment, count: int, depth: int, steps: Iterator[int]) -> Segment:
    """A segment with one more loop around its own."""

    def longer(operand: Operand) -> Operand:
        strides = operand.strides
        return operand._replace(strides=(*strides[:depth], next(steps), *strides[depth:]))

    left = longer(segment.left)
    right = None if segment.right is None else longer(segment.right)
    inner = tuple(
        loop._replace(slopes=(*loop.slopes[:depth], 0, *loop.slopes[depth:]))
        if len(loop.slopes) > depth
        else loop
        for loop in segment.loops
    )
    return segment._replace(left=left, right=right, loops=(Loop(count), *inner))


def _parted_segments(segments: Sequence[Segment]) -> _Parted:
    number, kinds = _Numbers(), []
    bases: list[int] = []
    first = [0]
    for segment in segments:
        left, right = segment.left, segment.right
        bases.append(left.base)
        left = left._replace(base=0)
        if right is not None:
            bases.append(right.base)
            right = right._replace(base=0)
        kinds.append(number(segment._replace(left=left, right=right)))
        first.append(len(bases))
    return _Parted(
        np.array(kinds, np.int64),
        np.array(bases, np.int64),
        np.array(first, np.int64),
        np.zeros(len(bases), np.bool_),
    )
