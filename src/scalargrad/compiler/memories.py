"""Where the numbers of a program run on whole arrays are.

What a nest writes is an array of its own, and `Apart` remembers which of them has which element of
a space; so nothing is written twice, and a read is slices of one array, of several one after the
other, or, where they follow no pattern, a look-up. A repeat has an array for each space, which its
turns read and write at places that move (`Turning`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from .library import Array, Library
from .loops import Loops, Operand, Space
from .points import Block, Integers, Points, blocks
from .slices import at, literal, spread

WASTE = 8  # a slice that has this many times the numbers that are wanted is not worth it
MOST_RUNS = 16  # of what a turn wrote; more are written one by one


class Memory(Protocol):
    """Where the numbers are."""

    loops: Loops
    examples: int
    dtype: Any
    library: Library

    def read(self, operand: Operand, points: Points) -> Array:
        """The operand's numbers; axes that make no difference to it may have length 1."""

    def write(self, operand: Operand, points: Points, numbers: Array) -> None:
        """Write the numbers of all points."""

    def addresses(self, operand: Operand, points: Points) -> Any:
        """The operand's addresses."""


class Pieces:
    """Which of `arrays` has the number at each address of a space, and where in it.

    Array 0 has the number of all that was never written.
    """

    def __init__(self, arrays: list[Array], size: int, library: Library) -> None:
        self.arrays, self._library = arrays, library
        self.owner = np.zeros(size, np.int32)
        self.place = np.zeros(size, np.int64)

    def define(self, addresses: Integers, numbers: Array) -> None:
        """Have the numbers at those addresses."""
        self.owner[addresses] = len(self.arrays)
        self.place[addresses] = np.arange(addresses.size).reshape(addresses.shape)
        self.arrays.append(numbers.reshape(len(numbers), -1))

    def fetch(self, addresses: Integers) -> Array:
        """The numbers at any addresses."""
        owner, place, library = self.owner[addresses], self.place[addresses], self._library
        if (owner == owner.flat[0]).all():
            return at(library, self.arrays[owner.flat[0]], place)
        owner, place = owner.ravel(), place.ravel()
        lead = max(len(self.arrays[k]) for k in np.unique(owner))
        parts = blocks(owner, place)
        if parts is not None:
            x = library.concatenate([self._block(block, lead) for block in parts], axis=1)
            return x.reshape(lead, *addresses.shape)
        places, pieces, begin = np.empty_like(place), [], 0
        for k in np.unique(owner).tolist():
            own = owner == k
            low, high = int(place[own].min()), int(place[own].max()) + 1
            places[own] = place[own] - low + begin
            pieces.append(spread(library, library.cut(self.arrays[k], low, high), lead))
            begin += high - low
        x = library.concatenate(pieces, axis=1)
        return at(library, x, places.reshape(addresses.shape))

    def _block(self, block: Block, lead: int) -> Array:
        turns, library = np.arange(block.turns)[:, None], self._library
        columns = []
        for run in block.runs:
            places = run.base + run.step * turns + np.arange(run.length)
            columns.append(spread(library, at(library, self.arrays[run.owner], places), lead))
        return library.concatenate(columns, axis=2).reshape(lead, -1)


class Apart:
    """A memory in which whatever was written is an array of its own."""

    def __init__(
        self,
        loops: Loops,
        inputs: Mapping[Space, Sequence[Array]],
        examples: int,
        dtype: Any,
        library: Library,
    ) -> None:
        self.loops, self.examples, self.dtype, self.library = loops, examples, dtype, library
        arrays = [library.constant(np.zeros((1, 1), dtype))]
        self._pieces = {space: Pieces(arrays, loops.size(space), library) for space in Space}
        for space, parts in inputs.items():
            ends = np.cumsum([part.shape[1] for part in parts]).tolist()
            for part, end in zip(parts, ends if loops.size(space) else ()):
                self.define(space, np.arange(end - part.shape[1], end), part)

    def define(self, space: Space, addresses: Integers, numbers: Array) -> None:
        """Have the numbers at those addresses."""
        self._pieces[space].define(addresses, numbers)

    def fetch(self, space: Space, addresses: Integers) -> Array:
        """The numbers at any addresses."""
        if space == Space.CONSTANT:
            return literal(self.library, self.loops.constants[addresses], self.dtype)
        return self._pieces[space].fetch(addresses)

    def addresses(self, operand: Operand, points: Points) -> Integers:
        """See `Memory`."""
        places = points.places(operand)
        return self.loops.table[places].astype(np.int64) if operand.indirect else places

    def read(self, operand: Operand, points: Points) -> Array:
        """See `Memory`."""
        return self.fetch(operand.space, self.addresses(operand, points))

    def write(self, operand: Operand, points: Points, numbers: Array) -> None:
        """See `Memory`."""
        lead = self.examples if operand.space.batched else 1
        addresses = np.broadcast_to(self.addresses(operand, points), points.shape)
        numbers = self.library.broadcast_to(numbers, (lead, *points.shape))
        self.define(operand.space, addresses, numbers)


Kind: TypeAlias = tuple[Space, tuple[int, ...]]  # what moves alike


class Turning:
    """A memory in which each space is one array, and operands move with the turns of repeats.

    `areas` says where the array of a space begins and ends. What was written in this turn is kept
    apart too, by its addresses in the first turn: operands that move alike find it there. It gets
    into the array when somebody else may want it, and at the end of the turn.
    """

    def __init__(
        self,
        outer: Apart,
        arrays: dict[Space, Array],
        areas: Mapping[Space, Area],
        counts: tuple[int, ...],
        turns: tuple[Array, ...],
    ) -> None:
        self.loops, self.examples, self.dtype = outer.loops, outer.examples, outer.dtype
        self.library = outer.library
        self.outer, self.areas, self.counts, self.turns = outer, areas, counts, turns
        self._spaces = arrays
        self._fresh: dict[Kind, Pieces] = {}
        self._waiting: dict[Kind, list[Integers]] = {}

    @property
    def arrays(self) -> dict[Space, Array]:
        """The arrays, with all that was written."""
        for kind in list(self._waiting):
            self._settle(kind)
        return self._spaces

    @arrays.setter
    def arrays(self, arrays: dict[Space, Array]) -> None:
        self._spaces = arrays

    def _shift(self, moves: tuple[int, ...]) -> Array | None:
        """How far what so moves has moved; None if it does not."""
        steps = [(move, turn) for move, turn in zip(moves, self.turns) if move]
        return sum(move * turn for move, turn in steps) if steps else None

    def addresses(self, operand: Operand, points: Points) -> Any:
        """See `Memory`."""
        places, shift = points.places(operand), self._shift(operand.moves)
        if not operand.indirect:
            return places if shift is None else places + shift
        if shift is None:
            return self.loops.table[places].astype(np.int64)
        return self.library.take(self.library.constant(self.loops.table), places + shift, axis=0)

    def read(self, operand: Operand, points: Points) -> Array:
        """See `Memory`."""
        space, shift = operand.space, self._shift(operand.moves)
        if shift is None and space == Space.CONSTANT:
            return self.outer.read(operand, points)
        reached = area_of(operand, points, self.counts, self.loops)
        if operand.indirect and shift is not None:
            self._settle_all(space, reached)
            places = self.addresses(operand, points) - self.areas[space].low
            return self.library.take(self._spaces[space], places)
        addresses = self.outer.addresses(operand, points)
        kind = space, operand.moves
        fresh = self._fresh.get(kind)
        written = None if fresh is None else fresh.owner[addresses] > 0
        if fresh is not None and written is not None and written.all():
            return fresh.fetch(addresses)
        self._settle_all(space, reached, None if written is None or written.any() else kind)
        return self._look(space, addresses, shift)

    def write(self, operand: Operand, points: Points, numbers: Array) -> None:
        """See `Memory`."""
        space, shift = operand.space, self._shift(operand.moves)
        x, low = self._spaces[space], self.areas[space].low
        numbers = self.library.broadcast_to(numbers, (len(x), *points.shape))
        if operand.indirect and shift is not None:
            places = self.addresses(operand, points).reshape(-1) - low
            self._spaces[space] = self.library.put(x, places, numbers.reshape(len(x), -1))
            return
        addresses = np.broadcast_to(self.outer.addresses(operand, points), points.shape)
        kind = space, operand.moves
        if kind not in self._fresh:
            nothing = self.library.constant(np.zeros((1, 1), self.dtype))
            self._fresh[kind] = Pieces([nothing], self.loops.size(space), self.library)
        self._fresh[kind].define(addresses, numbers)
        self._waiting.setdefault(kind, []).append(addresses.ravel())

    def _look(self, space: Space, addresses: Integers, shift: Array | None) -> Array:
        """Numbers from the array of a space."""
        x, low = self._spaces[space], self.areas[space].low
        if shift is None:
            return at(self.library, x, addresses - low)
        first, count = int(addresses.min()), int(np.ptp(addresses)) + 1
        if count > WASTE * addresses.size:
            return self.library.take(x, addresses + (shift - low))
        x = self.library.window(x, first - low + shift, count)
        return at(self.library, x, addresses - first)

    def _settle_all(self, space: Space, reached: Area, but: Kind | None = None) -> None:
        """Have in the array what this turn wrote to an area, except what moves in some way."""
        for kind, waiting in list(self._waiting.items()):
            if kind == but or kind[0] != space:
                continue
            low, high = _ends(kind[1], self.counts)
            if any(
                reached.low <= each.max() + high and each.min() + low <= reached.high
                for each in waiting
            ):
                self._settle(kind)

    def _settle(self, kind: Kind) -> None:
        """Have in the array what was written of a kind."""
        space, shift = kind[0], self._shift(kind[1])
        addresses = np.sort(np.concatenate(self._waiting.pop(kind)))
        x, low = self._spaces[space], self.areas[space].low
        runs = np.split(addresses, np.flatnonzero(np.diff(addresses) != 1) + 1)
        if len(runs) > MOST_RUNS:
            numbers = spread(self.library, self._fresh[kind].fetch(addresses), len(x))
            places = addresses - low if shift is None else addresses + (shift - low)
            self._spaces[space] = self.library.put(x, places, numbers)
            return
        for run in runs:
            start = int(run[0]) - low
            numbers = spread(self.library, self._fresh[kind].fetch(run), len(x))
            x = self.library.write(x, numbers, start if shift is None else start + shift)
        self._spaces[space] = x


class Area(NamedTuple):
    """The addresses from low to high."""

    low: int
    high: int


def _ends(moves: tuple[int, ...], counts: tuple[int, ...]) -> Area:
    """How far down and up repeats of so many turns move."""
    ends = [move * (count - 1) for move, count in zip(moves, counts)]
    return Area(sum(min(end, 0) for end in ends), sum(max(end, 0) for end in ends))


def area_of(operand: Operand, points: Points, counts: tuple[int, ...], loops: Loops) -> Area:
    """What an operand reaches in all turns of repeats around it."""
    places, (down, up) = points.places(operand), _ends(operand.moves, counts)
    low, high = int(places.min()) + down, int(places.max()) + up
    if not operand.indirect:
        return Area(low, high)
    reached = loops.table[low : high + 1]
    return Area(int(reached.min()), int(reached.max()))
