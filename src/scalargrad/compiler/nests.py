"""Loop nests as LLVM IR: the loops of a plan, and how numbers are read and written in a tile.

A tile is `plan.height` rows of `plan.width` vectors. Its loops are written once for whole tiles
and once more for what is left over at the end of an axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from .arithmetic import Arithmetic
from .environment import TABLE
from .ir import PER_TILE, Counter, Function, suffix, vector
from .loops import INTEGERS
from .stores import store_first, store_known
from .tiles import Axis, Division, Piece, Plan, Ref, cut, longest, ragged, tiles

Spot = tuple[int, int]  # row and piece of a tile
# By type, pointer and stride: the pointer moved so far, and what is no longer in the offset
Known: TypeAlias = dict[tuple[str, str, int], tuple[str, int]]
LINE = 64  # bytes of a cache line


class Place(NamedTuple):
    """An address on its way: a pointer, and elements to add to it."""

    pointer: str
    offset: int


class Cursor(NamedTuple):
    """Where a ref is for the counters so far: in its array, or in the table and beyond."""

    data: Place
    table: Place | None


class Tile:
    """The code of one tile: reads and writes its numbers."""

    def __init__(
        self,
        nest: Nest,
        counters: list[Counter],
        cursors: list[Cursor],
        rows: int,
        parts: Sequence[Piece],
    ) -> None:
        self.nest = nest
        self.function = nest.function
        self.counters = counters
        self.cursors = cursors
        self.rows = rows
        self.parts = parts
        self.spots: list[Spot] = [(row, k) for row in range(rows) for k in range(len(parts))]

    def arithmetic(self, spot: Spot) -> Arithmetic:
        """Arithmetic of the width of a spot."""
        piece = self.parts[spot[1]]
        return self.nest.arithmetic(piece.width, "" if piece.full else self.nest.mask(piece))

    def alone(self, spot: Spot) -> Tile:
        """One spot of the tile."""
        tile = Tile(self.nest, self.counters, self.cursors, self.rows, self.parts)
        tile.spots = [spot]
        return tile

    def lanes(self) -> tuple[int, int]:
        """The first of its lanes along the vectors, and the end."""
        parts = [self.parts[part] for _, part in self.spots]
        return min(p.first for p in parts), max(p.first + p.valid for p in parts)

    def some(self, low: int, high: int) -> Tile:
        """The same spots, of which only lanes `low` to `high` of the tile count."""
        parts = [part.some(low, high) for part in self.parts]
        tile = Tile(self.nest, self.counters, self.cursors, self.rows, parts)
        tile.spots = self.spots
        return tile

    def shifted(self, ref: Ref, cursor: Cursor, spot: Spot, lane: int = 0) -> Cursor:
        """The place of a ref in one row, and one lane of a piece."""
        plan = self.nest.plan
        if plan.rows is not None:
            cursor = self.nest.move(ref, cursor, plan.rows, spot[0])
        if plan.vector is not None:
            first = self.parts[spot[1]].first + lane
            cursor = self.nest.move(ref, cursor, plan.vector, first)
        return cursor

    def key(self, ref: Ref, spot: Spot) -> Spot:
        """Spots of one key read the same number."""
        plan = self.nest.plan
        row = spot[0] if plan.rows is not None and ref.moves(plan.rows) else 0
        part = spot[1]
        if plan.vector is not None and not ref.moves(plan.vector):
            part = -self.parts[part].width
        return row, part

    def read(self, ref: Ref, cursor: Cursor, spot: Spot, seen: dict[tuple[int, Spot], str]) -> str:
        """The numbers of a ref at a spot; what was `seen` in this pass is not read again."""
        key = id(ref), self.key(ref, spot)
        if key not in seen:
            seen[key] = self.fetch(ref, cursor, spot)
        return seen[key]

    def fetch(self, ref: Ref, cursor: Cursor, spot: Spot, kind: str = "") -> str:
        """The numbers of a ref at a spot, read from memory."""
        nest, piece = self.nest, self.parts[spot[1]]
        kind = kind or nest.real
        if ref.number is not None:
            return nest.module.constant(ref.number, piece.width)
        if ref in nest.kept:
            return self.function.splat(kind, nest.kept[ref], piece.width)
        step = ref.step(nest.plan.vector)
        place = self.shifted(ref, cursor, spot)
        if piece.width == 1 or step == 0:
            number = nest.load(kind, ref, place)
            return self.function.splat(kind, number, piece.width)
        if step == 1:
            return nest.load_vector(kind, ref, place, piece)
        if step == -1:
            last = self.shifted(ref, cursor, spot, piece.width - 1)
            return self.reversed(kind, nest.load_vector(kind, ref, last, piece, True), piece.width)
        result, full = "poison", vector(kind, piece.width)
        for lane in piece.lanes:
            number = nest.load(kind, ref, self.shifted(ref, cursor, spot, lane))
            result = self.function.emit(
                f"insertelement {full} {result}, {kind} {number}, i32 {lane}"
            )
        return result

    def reversed(self, kind: str, numbers: str, width: int) -> str:
        """The lanes of a vector from the last to the first."""
        full = vector(kind, width)
        order = ", ".join(f"i32 {k}" for k in reversed(range(width)))
        return self.function.emit(
            f"shufflevector {full} {numbers}, {full} poison, <{width} x i32> <{order}>"
        )

    def store(self, ref: Ref, cursor: Cursor, numbers: Sequence[str]) -> None:
        """Store a result at all spots; along the rows, where they are neighbours in memory."""
        values = dict(zip(self.spots, numbers))
        if not self.nest.plan.crosses(ref):
            for spot in self.spots:
                self.write(ref, cursor, spot, values[spot])
            return
        for k, piece in enumerate(self.parts):
            across = not piece.mask
            for top in range(0, self.rows, piece.width):
                rows = range(top, min(top + piece.width, self.rows))
                if across and len(rows) == piece.width > 1:
                    self._write_across(ref, cursor, (top, k), [values[row, k] for row in rows])
                    continue
                for row in rows:
                    self.write(ref, cursor, (row, k), values[row, k])

    def _write_across(self, ref: Ref, cursor: Cursor, first: Spot, lines: Sequence[str]) -> None:
        """Store a square of rows and lanes from its first spot on, transposed in registers."""
        whole = Piece(0, len(lines), len(lines))
        columns = transposed(self.function, self.nest.real, lines)
        for lane in range(self.parts[first[1]].valid):
            place = self.shifted(ref, cursor, first, lane)
            self.nest.store_vector(ref, place, whole, columns[lane])

    def write(self, ref: Ref, cursor: Cursor, spot: Spot, number: str) -> None:
        """Store a result."""
        nest, piece = self.nest, self.parts[spot[1]]
        step = ref.step(nest.plan.vector)
        place = self.shifted(ref, cursor, spot)
        full = vector(nest.real, piece.width)
        if piece.width == 1:
            pointer = nest.address(nest.real, ref, place)
            self.function.do(f"store {full} {number}, ptr {pointer}, align {nest.module.size}")
        elif step == 1:
            nest.store_vector(ref, place, piece, number)
        elif step == -1:
            last = self.shifted(ref, cursor, spot, piece.width - 1)
            nest.store_vector(ref, last, piece, self.reversed(nest.real, number, piece.width), True)
        else:
            for lane in range(piece.valid):
                one = self.function.emit(f"extractelement {full} {number}, i32 {lane}")
                pointer = nest.address(nest.real, ref, self.shifted(ref, cursor, spot, lane))
                self.function.do(
                    f"store {nest.real} {one}, ptr {pointer}, align {nest.module.size}"
                )


_Columns = Callable[[list[Counter], list[Cursor], Sequence[Piece]], None]
_Rows = Callable[[list[Counter], list[Cursor], int], None]


class Nest:
    """The loops over the lanes of one instruction, written into a function."""

    def __init__(
        self,
        function: Function,
        axes: Sequence[Axis],
        refs: Sequence[Ref],
        plan: Plan,
        split: int | None = None,
        division: Division | None = None,
    ) -> None:
        """With a `division`, the tiles along the axis `split` are divided among the workers."""
        self.function = function
        self.split = split if division is not None else None
        self._division = division or Division()
        self._portion = ("", "")
        self.module = function.module
        self.real = self.module.real
        self.axes = tuple(axes)
        self.refs = tuple(refs)
        self.plan = plan
        self.kept: dict[Ref, str] = {}
        self._arithmetic: dict[tuple[int, str], Arithmetic] = {}

    def arithmetic(self, width: int, lanes: str = "") -> Arithmetic:
        """Arithmetic on vectors of a width, of which only some lanes may count."""
        if (width, lanes) not in self._arithmetic:
            self._arithmetic[width, lanes] = Arithmetic(self.function, width, lanes)
        return self._arithmetic[width, lanes]

    # --- addresses -------------------------------------------------------------------------------

    def start(self, ref: Ref) -> Cursor:
        """Where a ref is when all counters are 0."""
        if ref.number is not None:
            return Cursor(Place("", 0), None)
        moved = self.module.moved.get((ref.slot, ref.block), 0)
        if ref.beyond is None:
            array, base = self.function.origin(ref.slot, ref.base + moved)
            turned = self.function.turned(self.kind(ref), array, ref.turns)
            return Cursor(Place(turned, base), None)
        array = self.function.pointer(ref.slot)
        table = Place(
            self.function.turned("i32", self.function.pointer(TABLE), ref.turns), ref.base
        )
        return Cursor(Place(array, ref.shift + moved), table)

    def kind(self, ref: Ref) -> str:
        """The type of an element of the ref's array."""
        return "i64" if ref.slot in INTEGERS else self.real

    def _moved(
        self, place: Place, kind: str, counter: Counter, stride: int, known: Known | None
    ) -> Place:
        if stride == 0 or counter == 0:
            return place
        if isinstance(counter, int):
            return Place(place.pointer, place.offset + counter * stride)
        key = kind, place.pointer, stride
        if known is not None and key in known:
            pointer, first = known[key]
            return Place(pointer, place.offset - first)
        pointer, offset = self.function.moved(kind, place.pointer, counter, stride, place.offset)
        if known is not None:
            known[key] = pointer, place.offset - offset
        return Place(pointer, offset)

    def move(
        self, ref: Ref, cursor: Cursor, axis: int, counter: Counter, known: Known | None = None
    ) -> Cursor:
        """The cursor for a counter of an axis; `known` are pointers moved by it just before."""
        if ref.number is not None:
            return cursor
        if ref.beyond is None:
            stride = ref.strides[axis]
            return Cursor(self._moved(cursor.data, self.kind(ref), counter, stride, known), None)
        assert cursor.table is not None
        return Cursor(
            self._moved(cursor.data, self.kind(ref), counter, ref.beyond[axis], known),
            self._moved(cursor.table, "i32", counter, ref.strides[axis], known),
        )

    def moved(self, cursors: Sequence[Cursor], axis: int, counter: Counter) -> list[Cursor]:
        """All cursors for a counter of an axis."""
        known: Known = {}
        return [
            self.move(ref, cursor, axis, counter, known) for ref, cursor in zip(self.refs, cursors)
        ]

    def address(self, kind: str, ref: Ref, cursor: Cursor) -> str:
        """The pointer to a ref's number."""
        pointer, offset = cursor.data
        if cursor.table is not None:
            place = self.function.at("i32", cursor.table.pointer, cursor.table.offset)
            entry = self.function.emit(f"load i32, ptr {place}, align 4")
            wide = self.function.emit(f"sext i32 {entry} to i64")
            distance = self.function.multiply(wide, ref.scale)
            pointer = self.function.at(kind, pointer, distance)
        return self.function.at(kind, pointer, offset)

    def load(self, kind: str, ref: Ref, cursor: Cursor) -> str:
        """One number."""
        if ref.number is not None:
            return self.module.constant(ref.number, 1)
        align = {"i64": 8, "double": 8, "float": 4}[kind]
        pointer = self.address(kind, ref, cursor)
        return self.function.emit(f"load {kind}, ptr {pointer}, align {align}")

    def keep(self, refs: Iterable[Ref]) -> None:
        """Load once what the loops only read, and always at the same place."""
        for ref in refs:
            if ref.number is None and not any(map(ref.moves, range(len(ref.strides)))):
                self.kept[ref] = self.load(self.real, ref, self.start(ref))

    def load_vector(
        self, kind: str, ref: Ref, cursor: Cursor, piece: Piece, last: bool = False
    ) -> str:
        """Neighbouring numbers; with `last`, those at the end of the vector are the valid ones."""
        size = {"i64": 8, "double": 8, "float": 4}[kind]
        pointer, full = self.address(kind, ref, cursor), vector(kind, piece.width)
        if piece.full or (ref.padded and not last):
            return self.function.emit(f"load {full}, ptr {pointer}, align {size}")
        name = f"llvm.masked.load.{suffix(kind, piece.width)}.p0"
        mask = f"<{piece.width} x i1>"
        return self.function.call(
            full,
            name,
            ["ptr", "i32", mask, full],
            [pointer, str(size), self.mask(piece, last), "zeroinitializer"],
        )

    def store_vector(
        self, ref: Ref, cursor: Cursor, piece: Piece, number: str, last: bool = False
    ) -> None:
        """Write neighbouring numbers, as `load_vector` reads them."""
        pointer, full = self.address(self.real, ref, cursor), vector(self.real, piece.width)
        size = self.module.size
        if piece.full or (ref.padded and not last and not piece.mask):
            self.function.do(f"store {full} {number}, ptr {pointer}, align {size}")
            return
        if not self.module.masks:
            if piece.mask:
                store_first(self.function, self.real, number, piece.width, pointer, piece.left)
            else:
                first = piece.width - piece.valid if last else 0
                store_known(
                    self.function, self.real, number, piece.width, pointer, first, piece.valid
                )
            return
        name = f"llvm.masked.store.{suffix(self.real, piece.width)}.p0"
        mask = f"<{piece.width} x i1>"
        self.function.declare("void", name, full, "ptr", "i32", mask)
        self.function.do(
            f"call void @{name}({full} {number}, ptr {pointer}, i32 {size}, "
            f"{mask} {self.mask(piece, last)})"
        )

    @staticmethod
    def mask(piece: Piece, last: bool = False) -> str:
        """The lanes of a piece that are real; with `last`, those at its end."""
        if piece.mask:
            return piece.mask
        lanes = [int(k in piece.lanes) for k in range(piece.width)]
        return "<" + ", ".join(f"i1 {lane}" for lane in lanes[:: -1 if last else 1]) + ">"

    # --- loops -----------------------------------------------------------------------------------

    def extent(self, axis: Axis, counters: Sequence[Counter]) -> Counter:
        """How far an axis goes for the counters before it."""
        moves = [move for move, _ in axis.turns]
        total = self.function.add(axis.extent, self.function.distance(moves))
        for counter, slope in zip(counters, axis.slopes):
            if slope:
                total = self.function.add(total, self.function.multiply(counter, slope))
        return total

    def divide(self, axis: int, count: int, division: Division) -> None:
        """Have each worker do its part of `count` tiles along an axis."""
        function, (size, chunks) = self.function, division
        low, high = function.portion(chunks or count)
        if chunks:
            last = function.emit(f"icmp eq i64 {high}, {chunks}")
            end = function.multiply(high, size)
            low = str(function.multiply(low, size))
            high = function.emit(f"select i1 {last}, i64 {count}, i64 {end}")
        self.split, self._portion = axis, (low, high)

    def run(
        self,
        body: Callable[[Tile], None],
        whole: Callable[[Tile, Callable[[], None]], None] | None = None,
    ) -> None:
        """Write the loops; `body` writes the code of a tile.

        `whole` is given what writes all the tiles along axis 0, inside of all other loops, and the
        first of them.
        """
        counters: list[Counter] = [0] * len(self.axes)
        cursors = [self.start(ref) for ref in self.refs]
        if self.split is not None:
            lanes = self.module.width
            count = tiles(self.split, self.axes, self.refs, self.plan, lanes)
            self.divide(self.split, count, self._division)
        inner = (self.plan.vector, self.plan.rows)
        outer = [k for k in range(len(self.axes)) if k not in inner]

        def panels(known: list[Counter], moved: list[Cursor], then: _Columns) -> None:
            self._outer(outer, known, moved, lambda k, m: self._columns(k, m, then))

        def tile(
            known: list[Counter], moved: list[Cursor], rows: int, parts: Sequence[Piece]
        ) -> None:
            function, passengers = self.function, self.function.passengers
            function.ride(PER_TILE)
            # Loops in the tile need not carry what changes once in a tile.
            function.passengers = [each for each in passengers if each.place != PER_TILE]
            body(Tile(self, known, moved, rows, parts))
            function.passengers = passengers

        def down(known: list[Counter], moved: list[Cursor], parts: Sequence[Piece]) -> None:
            def rows() -> None:
                self._rows(known, moved, lambda k, m, rows: tile(k, m, rows, parts))

            if whole is not None and self.plan.rows == 0:
                whole(Tile(self, known, moved, 1, parts), rows)
            else:
                rows()

        def across(known: list[Counter], moved: list[Cursor], rows: int) -> None:
            panels(known, moved, lambda k, m, parts: tile(k, m, rows, parts))

        if self.plan.around:
            self._rows(counters, cursors, across)
        elif whole is not None and self.plan.rows != 0:
            first = Tile(self, counters, cursors, 1, self._first_columns())
            whole(first, lambda: panels(counters, cursors, down))
        else:
            panels(counters, cursors, down)

    def _outer(
        self,
        left: Sequence[int],
        counters: list[Counter],
        cursors: list[Cursor],
        then: Callable[[list[Counter], list[Cursor]], None],
    ) -> None:
        if not left:
            then(counters, cursors)
            return
        axis = left[0]

        def inside(known: list[Counter], moved: list[Cursor]) -> None:
            self._outer(left[1:], known, moved, then)

        self.along(axis, self.extent(self.axes[axis], counters), 1, counters, cursors, inside)

    def along(
        self,
        axis: int,
        stop: Counter,
        step: int,
        counters: list[Counter],
        cursors: list[Cursor],
        inside: Callable[[list[Counter], list[Cursor]], None],
        rest: Callable[[], None] | None = None,
    ) -> None:
        """Whole tiles along an axis, below `stop`, and then the rest; or this worker's share."""
        function = self.function

        def tile(counter: Counter, _: list[str]) -> list[str]:
            moved, known = self._step(axis, counter, counters, cursors)
            inside(known, moved)
            return []

        def remainder(_: Counter, carried: list[str]) -> list[str]:
            if rest is not None:
                rest()
            return carried

        if axis != self.split or not isinstance(stop, int):
            function.loop(stop, step, [], [], tile)
            remainder(0, [])
            return
        whole, (low, high) = stop // step, self._portion
        last = function.smaller(high, whole) if rest is not None else high
        cursors, counters = self._step(axis, function.multiply(low, step), counters, cursors)
        many = function.emit(f"sub i64 {last}, {low}")
        function.loop(function.multiply(many, step), step, [], [], tile)
        if rest is not None:
            mine = function.emit(f"sub i64 {high}, {last}")
            function.loop(mine, 1, [], [], remainder)

    def _step(
        self, axis: int, counter: Counter, counters: list[Counter], cursors: list[Cursor]
    ) -> tuple[list[Cursor], list[Counter]]:
        known = list(counters)
        known[axis] = self.function.add(known[axis], counter)
        return self.moved(cursors, axis, counter), known

    def _first_columns(self) -> Sequence[Piece]:
        parts, whole = cut(self.axes, self.refs, self.plan, self.module.width)
        lanes = self.module.width
        return [Piece(k * lanes, lanes, lanes) for k in range(self.plan.width)] if whole else parts

    def _columns(self, counters: list[Counter], cursors: list[Cursor], then: _Columns) -> None:
        axis, width = self.plan.vector, self.plan.width
        if axis is None:
            then(counters, cursors, [Piece(0, 1, 1)])
            return
        if ragged(self.axes[axis]):
            columns = self._whole_columns if self.plan.again else self._masked_columns
            columns(axis, counters, cursors, then)
            return
        lanes = self.module.width
        parts, whole = cut(self.axes, self.refs, self.plan, lanes)
        tile = [Piece(k * lanes, lanes, lanes) for k in range(width)]

        def inside(known: list[Counter], moved: list[Cursor]) -> None:
            then(known, moved, tile)

        def rest() -> None:
            then(counters, cursors, parts)

        left = rest if parts else None
        self.along(axis, whole * lanes, width * lanes, counters, cursors, inside, left)

    def _masked_columns(
        self,
        axis: int,
        counters: list[Counter],
        cursors: list[Cursor],
        then: _Columns,
    ) -> None:
        """The columns of an axis whose end only the running program knows."""
        function, width = self.function, self.plan.width
        most = longest(self.axes)[axis]
        lanes = min(self.module.width, 1 << (most - 1).bit_length())
        end = self.extent(self.axes[axis], counters)
        kind = vector("i64", lanes)

        def inside(counter: Counter, _: list[str]) -> list[str]:
            moved, known = self._step(axis, counter, counters, cursors)
            left = function.subtract(end, counter)
            limit = function.splat("i64", str(left), lanes)
            parts = []
            for k in range(width):
                numbers = ", ".join(f"i64 {k * lanes + lane}" for lane in range(lanes))
                mask = function.emit(f"icmp slt {kind} <{numbers}>, {limit}")
                own = function.subtract(left, k * lanes)
                parts.append(Piece(k * lanes, lanes, lanes, mask, own))
            then(known, moved, parts)
            return []

        if most <= width * lanes:
            inside(0, [])
        else:
            function.loop(end, width * lanes, [], [], inside)

    def _whole_columns(
        self,
        axis: int,
        counters: list[Counter],
        cursors: list[Cursor],
        then: _Columns,
    ) -> None:
        """The columns of such an axis in whole vectors, or one by one if there are too few."""
        function, lanes = self.function, self.module.width
        end = self.extent(self.axes[axis], counters)
        last = function.subtract(end, lanes)

        def vectors(counter: Counter, _: list[str]) -> list[str]:
            moved, known = self._step(axis, function.smaller(counter, last), counters, cursors)
            then(known, moved, [Piece(0, lanes, lanes)])
            return []

        def singles(counter: Counter, _: list[str]) -> list[str]:
            moved, known = self._step(axis, counter, counters, cursors)
            then(known, moved, [Piece(0, 1, 1)])
            return []

        function.choose(
            function.emit(f"icmp sge i64 {last}, 0"),
            [],
            lambda: function.loop(end, lanes, [], [], vectors),
            lambda: function.loop(end, 1, [], [], singles),
        )

    def _rows(self, counters: list[Counter], cursors: list[Cursor], then: _Rows) -> None:
        axis, height = self.plan.rows, self.plan.height
        if axis is None:
            then(counters, cursors, 1)
            return
        extent = self.axes[axis].extent
        whole = extent // height * height

        def inside(known: list[Counter], moved: list[Cursor]) -> None:
            then(known, moved, height)

        def rest() -> None:
            moved, known = self._step(axis, whole, counters, cursors)
            then(known, moved, extent - whole)

        left = rest if extent > whole else None
        self.along(axis, whole, height, counters, cursors, inside, left)


def transposed(function: Function, kind: str, rows: Sequence[str]) -> list[str]:
    """The columns of a square of vectors: log2(n) rounds of exchanging blocks between rows.

    Blocks shorter than 16 bytes are exchanged in place. Of longer ones those in even and those in
    odd places are gathered: CPUs move whole 16 bytes faster than they permute numbers.
    """
    count = len(rows)
    full = vector(kind, count)
    lane = 16 // (8 if kind == "double" else 4)
    current = list(rows)
    block = 1
    while block < count:
        if block < lane:
            low = [k if not k & block else k - block + count for k in range(count)]
            high = [k + block if not k & block else k + count for k in range(count)]
        else:
            low = [k for k in range(2 * count) if not k & lane]
            high = [k for k in range(2 * count) if k & lane]
        following = list(current)
        for k in range(count):
            if k & block:
                continue
            for place, picks in ((k, low), (k + block, high)):
                mask = ", ".join(f"i32 {pick}" for pick in picks)
                following[place] = function.emit(
                    f"shufflevector {full} {current[k]}, {full} {current[k + block]}, "
                    f"<{count} x i32> <{mask}>"
                )
        current = following
        block *= 2
    return current
