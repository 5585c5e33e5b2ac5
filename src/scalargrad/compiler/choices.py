"""The loops of selections among evenly spaced candidates, and of what is added to the chosen ones.

Their candidates are no rows of terms but a first place, a distance and a number of them. Where the
indices, or the numbers to be added, lie in no order, their places are listed in the index table.

In a batch all that an example adds to a number comes before what the next one adds: so all that is
added to one number must be one instruction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .affine import Found, nest
from .distinct import distinct
from .flat import OVER, SCATTER, Flat
from .loops import Nest, Operand, Scatter, Space, Take

if TYPE_CHECKING:
    from .recover import Recovery

FEW, NODES_EACH = 12, 24  # more nests, and more than one for so many nodes, are no order


def is_choice(flat: Flat, nodes: NDArray[np.int32]) -> bool:
    """Whether a pack is one of these."""
    node = int(nodes[0])
    listed = int(flat.first[node + 1] - flat.first[node])
    kind = int(flat.kind[node])
    return kind == SCATTER or (kind == ops.TAKE and flat.const[node] > listed)


def choices(recovery: Recovery, nodes: NDArray[np.int32]) -> list[Nest]:
    """The instructions of such a pack, in the order of its nodes."""
    flat, address = recovery.flat, recovery.layout.address
    adds = int(flat.kind[nodes[0]]) == SCATTER
    term = flat.first[nodes].astype(np.int64)
    base = address[flat.left[term + adds]]
    step = address[flat.left[term + adds + 1]] - base
    given = [flat.slot[nodes].astype(np.int64)]  # places of the indices, and of what is added
    if adds:
        given.append(address[flat.left[term]])
    over = adds and bool(flat.style[term[0]] & OVER)
    found = _loops(base, given, step)
    tables: list[int] = []
    if len(found) > max(FEW, len(nodes) // NODES_EACH) or (over and not _apart(found, base)):
        rows = [np.arange(len(nodes)) for _ in given]
        found = _loops(base, rows, step)
        if over and not _apart(found, base):
            order = np.argsort(base, kind="stable")
            nodes, base, step = nodes[order], base[order], step[order]
            given = [places[order] for places in given]
            found = _loops(base, rows, base)
        tables = [recovery.tables.add(places) for places in given]
    node = int(nodes[0])
    count, space = int(flat.const[node]), Space(int(flat.space[node]))
    index = Space.EXAMPLE_INDEX if flat.extra[node] else Space.INDEX
    spaces = [index, *([Space(int(flat.space[flat.left[term[0]]]))] if adds else [])]
    made: list[Nest] = []
    for part in found:
        steps = np.array(part.steps, np.int64).reshape(len(part.loops), len(part.first))
        rest = [
            Operand(
                own,
                int(part.first[1 + k]) + (tables[k] if tables else 0),
                tuple(steps[:, 1 + k].tolist()),
                bool(tables),
            )
            for k, own in enumerate(spaces)
        ]
        strides = (*steps[:, 0].tolist(), int(step[part.item]))
        if adds:
            to = Operand(space, int(part.first[0]), strides)
            made.append(Scatter(to, part.loops, rest[0], rest[1], count, over))
        else:
            source = Operand(
                Space(int(flat.space[flat.left[term[0]]])), int(part.first[0]), strides
            )
            result = recovery.place(nodes, space, part, steps)
            made.append(Take(result, part.loops, rest[0], source, count))
    return made


def _loops(
    base: NDArray[np.int64], places: list[NDArray[np.int64]], kinds: NDArray[np.int64]
) -> list[Found]:
    found = nest(np.column_stack((base, *places)), kinds)
    assert found is not None
    return found


def _apart(found: list[Found], base: NDArray[np.int64]) -> bool:
    """Whether no two of the nests add to the same numbers."""
    starts = [part.item for part in found[1:]]
    own = sum(len(distinct(part)) for part in np.split(base, starts))
    return own == len(distinct(base))
