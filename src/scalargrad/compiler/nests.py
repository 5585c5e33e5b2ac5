"""Loop nests as LLVM IR: the loops of a plan, and the code of a tile.

A tile is `plan.height` rows of `plan.width` vectors. Its loops are written once for whole tiles
and once more for what is left over at the end of an axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .arithmetic import Arithmetic
from .ir import PER_TILE, Counter, Function, vector
from .places import Cursor, Places, transposed
from .tiles import Axis, Division, Piece, Plan, Ref, cut, longest, ragged, tiles

Spot = tuple[int, int]  # row and piece of a tile


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


class Nest(Places):
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
        super().__init__(function, refs)
        self.axes, self.plan = tuple(axes), plan
        self.split = split if division is not None else None
        self._division = division or Division()
        self._portion = ("", "")

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
