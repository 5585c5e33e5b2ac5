"""What a walk reads and writes apart from its own numbers, as copies that lie where these do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .distinct import distinct
from .environment import WALKS
from .ir import Counter, Function
from .loops import Space, Walk
from .memory import Layout, Memory

if TYPE_CHECKING:
    from .serial import Streams

COPIES = len(Space)  # in a walk on copies, the space of these


class Copies(NamedTuple):
    """The elements of a space that are copied, and the number of the first copy.

    Those that the walk only reads come first, then those that it reads and writes, then those that
    it only writes: the first `read` are copied before it, the last `wrote` are copied back.
    """

    space: Space
    layout: Layout
    places: NDArray[np.int64]
    first: int
    read: int
    wrote: int

    @property
    def written(self) -> tuple[int, int]:
        """The first of those that are copied back, and the end of them."""
        return len(self.places) - self.wrote, len(self.places)


def copied(
    step: Walk, home: Space, memory: Memory, number: int = 0
) -> tuple[Walk, tuple[Copies, ...], int]:
    """The walk on copies of what is in other spaces than `home`, these, and how many there are.

    They are counted from `number` on.
    """
    columns = {
        "at": (step.space.copy(), step.at.copy()),
        "left": (step.left_space.copy(), step.left.copy()),
        "right": (step.right_space.copy(), step.right.copy()),
    }
    made: list[Copies] = []
    count = number
    for space in Space:
        if space == home:
            continue
        found = {
            name: (spaces == space) & (places >= 0) for name, (spaces, places) in columns.items()
        }
        used = {name: places[found[name]] for name, (_, places) in columns.items()}
        known = distinct(np.concatenate(list(used.values())))
        if not len(known):
            continue
        wrote = np.isin(known, used["at"])
        read = np.isin(known, np.concatenate((used["left"], used["right"])))
        known = known[np.lexsort((~read, wrote))]
        order = np.argsort(known, kind="stable")
        for name, (spaces, places) in columns.items():
            rank = order[np.searchsorted(known, used[name], sorter=order)]
            spaces[found[name]], places[found[name]] = COPIES, count + rank
        layout = memory.layout(space, 0)
        scaled = layout.offset + (known.astype(np.int64) - layout.start) * layout.element
        made.append(Copies(space, layout, scaled, count, int(read.sum()), int(wrote.sum())))
        count += len(known)
    (space_, at), (left_space, left), (right_space, right) = columns.values()
    step = replace(
        step,
        space=space_,
        at=at,
        left_space=left_space,
        left=left,
        right_space=right_space,
        right=right,
    )
    return step, tuple(made), count - number


def place_of(f: Function, streams: Streams, listed: int, k: Counter) -> str:
    """Number k of the places that are listed somewhere in the streams."""
    kind = streams.kind
    number = f.emit(f"load {kind}, ptr {f.at(kind, f.pointer(WALKS), f.add(k, listed))}")
    return number if kind == "i64" else f.emit(f"sext {kind} {number} to i64")
