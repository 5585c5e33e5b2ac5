"""Long sums that ride along: a few of their terms at a time, in the loops of another nest.

Each addition of a sum waits for the one before. Where there is one sum only, as in a penalty on all
parameters or in the mean over a batch, a CPU waits most of the time, though it could work on
something else; by itself it does not look far enough ahead to find that. So the code of such a sum
is cut into pieces, and these are written into the loops of a nest that has enough work and has
nothing to do with it. What the sum has come to is carried around these loops in registers. Its
terms are added in their order: no bit changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from .binding import Begin, Boarded, Piece, Ride, Room
from .ir import Counter, Function
from .phases import Touched
from .sums import Part, Sums
from .tiles import Division

BUSY = 20.0  # vectors that a nest computes for each of the terms that ride along
LEAST = 32  # terms of a sum that is worth it
MOST = 4  # terms at a time: those that wait take up the CPU's queues
SEATS = 2  # sums along with one nest: they take registers, too
WINDOW = 16  # how many pieces a sum may move up or down


class Rider:
    """The code of a sum with one loop, `each` of whose next terms are added at every `place`."""

    def __init__(
        self,
        sums: Sums,
        part: Part,
        values: list[str],
        place: int,
        each: int,
        then: Callable[[list[str]], None],
    ) -> None:
        self._sums, self._part, self._then = sums, part, then
        self.place, self._each = place, each
        self._next: Counter = 0
        self._values = values
        self._done = 0
        self.kinds = ["i64", *sums.kinds]

    @property
    def state(self) -> list[str]:
        """Which term is next, and what the sums have come to."""
        return [str(self._next), *self._values]

    @state.setter
    def state(self, carried: list[str]) -> None:
        self._next, *self._values = carried

    def some(self, times: int) -> None:
        """See `Passenger.some`."""
        left = self._part.terms[0].extent - self._done
        each = min(self._each, left // times) if times else 0
        if each:
            self._values = self._sums.some(self._part, self._next, each, self._values)
            self._next = self._sums.function.add(self._next, each)
            self._done += each * times

    def finish(self) -> None:
        """Add the terms that are left, and go on with the results."""
        self._then(self._sums.rest(self._part, self._done, self._values))


class _Seat(NamedTuple):
    """Where a sum can ride along: with which piece, where in it, with how many terms there."""

    at: int
    host: Piece
    carry: Callable[[Function, Sequence[Begin]], None]
    room: Room
    each: int


def paired(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces, those with sums that can ride along as parts of others that have time for it.

    A sum may pass what does not touch what it touches, but to read it. It goes where most of its
    terms ride along.
    """
    result: list[Piece | None] = list(pieces)
    for here, guest in enumerate(result):
        if guest is None or guest.ride is None or guest.ride.terms < LEAST or guest.riders:
            continue
        seats = [seat for way in (1, -1) for seat in _seats(result, here, guest, guest.ride, way)]
        if seats:
            best = max(seats, key=lambda seat: seat.each * seat.room.times)
            result[best.at] = _together(best, guest.ride.begin, guest)
            result[here] = None
    return [piece for piece in result if piece is not None]


def _seats(
    pieces: Sequence[Piece | None], here: int, guest: Piece, ride: Ride, way: int
) -> Iterator[_Seat]:
    """Where a sum can ride along, before or behind its own place."""
    for at in range(here + way, here + way * (WINDOW + 1), way):
        host = pieces[at] if 0 <= at < len(pieces) else None
        if host is None:
            continue
        if _meet(host, guest):
            return
        if host.carry is not None and len(host.riders) < SEATS:
            for room in host.rooms:
                each = min(ride.terms // room.times, int(room.work / BUSY), MOST)
                if each:
                    yield _Seat(at, host, host.carry, room, each)


def _meet(one: Piece, two: Piece) -> bool:
    """Whether one writes what the other touches."""
    return _overlap(one.writes, (*two.reads, *two.writes)) or _overlap(one.reads, two.writes)


def _overlap(some: Sequence[Touched], others: Sequence[Touched]) -> bool:
    return any(
        a.array == b.array and a.low <= b.high and b.low <= a.high for a in some for b in others
    )


def _together(seat: _Seat, begin: Callable[[Function, int, int], Boarded], guest: Piece) -> Piece:
    """One piece that does both."""
    host, carry, room, each = seat.host, seat.carry, seat.room, seat.each
    riders = (*host.riders, lambda function: begin(function, room.place, each))

    def write(function: Function, _: Division | None) -> None:
        carry(function, riders)

    return host._replace(
        write=write,
        reads=(*host.reads, *guest.reads),
        writes=(*host.writes, *guest.writes),
        riders=riders,
        mould=lambda: None,
    )
