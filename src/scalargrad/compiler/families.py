"""Which selections choose among evenly spaced leaves: the rows of a table, a column each.

Such candidates need not be listed: where the first lies, how far apart they are and how many there
are say as much. Then a selection is an address computed from the index, and its gradient is added
where that address is, however many candidates there are.

A gradient is added up in the order of `backward`, and what selections pass on is added last. So
nothing else may use the leaves, except what `backward` meets before all selections among them:
what was computed after them, and in a batch, where the examples take turns, after the loss. And
the indices of a batch are all its examples' own, or all the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .. import ops
from ..tape import Tape
from .distinct import distinct
from .loops import Space
from .marks import Marks

FEW = 48  # candidates that are listed: their gradients are as quickly computed for all of them
_SPACES = (Space.PARAMETER, Space.ARGUMENT, Space.EXAMPLE)


def in_families(tape: Tape, marks: Marks) -> NDArray[np.bool_]:
    """Whether each node is a selection whose candidates need not be listed."""
    found = np.zeros(len(tape), np.bool_)
    takes = np.flatnonzero(tape.op == ops.TAKE)
    takes = takes[marks.index_space[tape.many[tape.lhs[takes]]] != Space.CONSTANT]
    takes = takes[tape.rhs[takes] > FEW]
    if not len(takes):
        return found
    begin = tape.many[tape.lhs[takes] + 1]
    # Numbers of families, -1 for lists that are none.
    lists, which = np.unique(np.column_stack((begin, tape.rhs[takes])), axis=0, return_inverse=True)
    known: dict[tuple[int, ...], int] = {}
    candidates: list[NDArray[np.int32]] = []
    number = np.full(len(lists), -1)
    for k, (start, count) in enumerate(lists.tolist()):
        members = tape.many[start : start + count]
        family = _family(tape, marks, members)
        if family is not None:
            number[k] = known.setdefault(family, len(known))
            if number[k] == len(candidates):
                candidates.append(members)
    own = number[which.reshape(-1)]
    good = np.ones(len(candidates), np.bool_)
    if marks.wanted:
        good = _apart(candidates, tape.leaves)
        found[takes[own >= 0]] = True
        last = np.zeros(len(candidates), np.int64)
        np.maximum.at(last, own[own >= 0], takes[own >= 0])
        good &= ~_met_later(tape, marks, candidates, found, last)
        good &= _alike(marks.index_space[tape.many[tape.lhs[takes]]], own, len(candidates))
    found[takes] = (own >= 0) & np.append(good, False)[own]
    return found


def _family(
    tape: Tape, marks: Marks, members: NDArray[np.int32]
) -> tuple[int, int, int, int] | None:
    """Space, first place, distance and number of candidates; None if they are no such leaves."""
    if members[0] >= tape.leaves or (members >= tape.leaves).any():
        return None
    space, places = marks.space[members], marks.place[members].astype(np.int64)
    step = int(places[1] - places[0])
    if space[0] not in _SPACES or (space != space[0]).any() or step == 0:
        return None
    if (np.diff(places) != step).any():
        return None
    return int(space[0]), int(places[0]), step, len(members)


def _apart(candidates: list[NDArray[np.int32]], leaves: int) -> NDArray[np.bool_]:
    """Which families have no member in common with another one."""
    good = np.ones(len(candidates), np.bool_)
    owner = np.full(leaves, -1)
    for k, members in enumerate(candidates):
        others = distinct(owner[members])
        if others[-1] >= 0:
            good[k] = good[others[others >= 0]] = False
        owner[members] = k
    return good


def _alike(spaces: NDArray[np.uint8], own: NDArray[np.int64], families: int) -> NDArray[np.bool_]:
    """Whether the indices of each family, those of which it is the `own`, are of one space."""
    kinds = np.unique(np.column_stack((own, spaces))[own >= 0], axis=0)[:, 0]
    alike: NDArray[np.bool_] = np.bincount(kinds, minlength=families) == 1
    return alike


def _met_later(
    tape: Tape,
    marks: Marks,
    candidates: list[NDArray[np.int32]],
    takes: NDArray[np.bool_],
    last: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Whether `backward` may meet another use of a family's members after one of the `takes`.

    `last` are the last of those of each family.
    """
    first = np.full(tape.leaves, len(tape), np.int64)  # the first other use of each leaf
    for nodes, operands in _others(tape, takes):
        used = operands < tape.leaves
        earlier = np.full(tape.leaves, len(tape), np.int64)
        # From the last to the first: what is assigned last stays.
        earlier[operands[used][::-1]] = nodes[used][::-1]
        np.minimum(first, earlier, out=first)
    roots = tape.outputs[: 1 + marks.penalty]
    first[roots[roots < tape.leaves]] = -1
    bound = last if marks.batch is None else np.maximum(last, int(tape.outputs[0]))
    met = np.zeros(len(candidates), np.bool_)
    for k, members in enumerate(candidates):
        wanted = Space(int(marks.space[members[0]])) in marks.wanted
        per_example = marks.space[members[0]] == Space.EXAMPLE
        met[k] = wanted and (per_example or (first[members] <= bound[k]).any())
    return met


def _others(
    tape: Tape, takes: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32]]]:
    """All other nodes, ascending, with an operand each."""
    many = (tape.op == ops.TAKE) | (tape.op == ops.WHERE)
    plain = np.flatnonzero(~many & (tape.op != ops.LEAF))
    yield plain, tape.lhs[plain]
    binary = plain[np.isin(tape.op[plain], _BINARY)]
    yield binary, tape.rhs[binary]
    listing = np.flatnonzero(many & ~takes)
    count = tape.rhs[listing].astype(np.int64)
    begin = tape.lhs[listing].astype(np.int64)
    selecting = tape.op[listing] == ops.TAKE
    begin[selecting] = tape.many[begin[selecting] + 1]
    nodes = np.repeat(listing, count)
    within = np.arange(len(nodes)) - np.repeat(np.cumsum(count) - count, count)
    yield nodes, tape.many[np.repeat(begin, count) + within]


_BINARY = [row.code for row in ops.TABLE if row.arity == 2]
