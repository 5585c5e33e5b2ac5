"""What every example adds alike, added once and times their number, for fast mode.

A loss that has a penalty in it, written for one example, adds the penalty's gradient to each
parameter once for every example. As defined, and in exact mode, that is as long a sum as that of
what differs between the examples; fast mode may multiply.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .. import ops
from .loops import BATCH, Contract, Group, Instruction, Loop, Loops, Operand, Segment, Space


def multiplied(loops: Loops) -> Loops:
    """The program, its sums over the examples without terms that are alike for all of them.

    In place of such terms there is one, with the number of examples as a factor: of its own, or in
    a number that all lanes read (which is computed before, once). Sums whose terms are products of
    two numbers that vary over the lanes stay as they are, and those in repeats.
    """
    if not loops.batched:
        return loops
    program = _Program(loops.size(Space.TEMPORARY))
    for step in loops.instructions:
        if isinstance(step, Contract) and step.op == ops.ADD:
            groups = (part for group in step.groups for part in program.parted(group, step))
            step = replace(step, groups=tuple(groups))
        program.steps.append(step)
    sizes = {**loops.sizes, Space.TEMPORARY: program.temporaries}
    return replace(loops, instructions=tuple(program.steps), sizes=sizes)


def _varies(factor: Operand) -> bool:
    """Whether a factor is not one and the same number for all lanes and terms."""
    return factor.indirect or any(factor.strides)


@dataclass
class _Program:
    temporaries: int
    steps: list[Instruction] = field(default_factory=list)
    multiples: dict[tuple[Space, int, tuple[Loop, ...]], Operand] = field(default_factory=dict)

    def parted(self, group: Group, step: Contract) -> Iterator[Group]:
        """A group as what is alike for all examples, once, and the rest for each."""
        if not group.over or group.shared:
            yield group
            return
        once, each = [], []
        for segment in group.segments:
            factors = (segment.left, segment.right)
            alike = not any(factor and factor.space.batched for factor in factors)
            times = self._times(segment, len(step.lanes)) if alike else None
            each.append(segment) if times is None else once.append(times)
        if once:
            yield Group(tuple(once))
        if each:
            yield group._replace(segments=tuple(each))

    def _times(self, segment: Segment, depth: int) -> Segment | None:
        """A segment times the number of examples, inside of `depth` loops; None if that is no gain."""
        if segment.right is None:
            count = Operand(Space.SCALAR, BATCH, (0,) * len(segment.left.strides))
            return segment._replace(right=count)
        factors = [segment.left, segment.right]
        fixed = next((k for k in (1, 0) if not _varies(factors[k])), None)
        if fixed is None:
            return None
        other, loops = factors[1 - fixed], segment.loops
        strides = other.strides[depth:]
        # Turns of a loop in which both factors stay are counted, too.
        straight = not other.indirect and not any(any(loop.slopes) for loop in loops)
        if straight:  # the places of slopes are those of the loops around
            loops = tuple(loop._replace(slopes=()) for loop in loops)
        kept = [k for k, stride in enumerate(strides) if stride or not straight]
        again = tuple(loop for k, loop in enumerate(loops) if k not in kept)
        strides = (*other.strides[:depth], *(strides[k] for k in kept))
        factors[fixed] = self._multiple(factors[fixed], again)._replace(strides=(0,) * len(strides))
        factors[1 - fixed] = other._replace(strides=strides)
        return segment._replace(
            left=factors[0], right=factors[1], loops=tuple(loops[k] for k in kept)
        )

    def _multiple(self, number: Operand, again: tuple[Loop, ...]) -> Operand:
        """A number times the number of examples and of the turns of some loops."""
        key = (number.space, number.base, again)
        if key not in self.multiples:
            still = (0,) * len(again)
            factor = Operand(number.space, number.base, still)
            times = Segment(factor, Operand(Space.SCALAR, BATCH, still), again)
            self.multiples[key] = Operand(Space.TEMPORARY, self.temporaries)
            self.temporaries += 1
            self.steps.append(Contract(self.multiples[key], (), (Group((times,)),)))
        return self.multiples[key]
