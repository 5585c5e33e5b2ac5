"""Where the numbers of a nest lie, and how they are read and written: addresses as LLVM IR."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from .arithmetic import Arithmetic
from .environment import TABLE
from .ir import Counter, Function, suffix, vector
from .loops import INTEGERS
from .stores import store_first, store_known
from .tiles import Piece, Ref

LINE = 64  # bytes of a cache line
# By type, pointer and stride: the pointer moved so far, and what is no longer in the offset
Known: TypeAlias = dict[tuple[str, str, int], tuple[str, int]]


class Place(NamedTuple):
    """An address on its way: a pointer, and elements to add to it."""

    pointer: str
    offset: int


class Cursor(NamedTuple):
    """Where a ref is for the counters so far: in its array, or in the table and beyond."""

    data: Place
    table: Place | None


class Places:
    """The refs of a nest in a function; what is `kept` was loaded before the loops."""

    def __init__(self, function: Function, refs: Sequence[Ref]) -> None:
        self.function, self.module = function, function.module
        self.real, self.refs = self.module.real, tuple(refs)
        self.kept: dict[Ref, str] = {}
        self._arithmetic: dict[tuple[int, str], Arithmetic] = {}

    def arithmetic(self, width: int, lanes: str = "") -> Arithmetic:
        """Arithmetic on vectors of a width, of which only some lanes may count."""
        if (width, lanes) not in self._arithmetic:
            self._arithmetic[width, lanes] = Arithmetic(self.function, width, lanes)
        return self._arithmetic[width, lanes]

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
