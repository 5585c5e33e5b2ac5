"""Sums that leave out terms which are zero.

Many of the numbers that callers give may be 0: the background of pictures, words that a text does
not have. Where tile after tile multiplies them from a copy, the terms that are 0 in all lanes of a
vector are found once, and the others listed. If these are few enough, tiles go through the lists,
one vector wide. Which they are, the numbers themselves decide, every time.

A zero times a finite number is a zero of either sign, and whatever it is added to but -0.0 keeps
its bits. So the sum is the same; a sum that comes to such terms as -0.0 goes through all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .ir import Counter, Function, Module, repeated, vector
from .nests import Cursor, Nest, Tile
from .tiles import Axis, Division, Piece, Plan, Ref

# What part of all terms may be listed, in quarters, for tiles to be quicker with lists: they are one
# vector wide, and read more for every product.
_QUARTERS = 3
_APART = 17  # of so many terms one is looked at to find out whether to make lists
PASS = 4  # terms that a pass of a loop looks at, or adds


@dataclass(frozen=True, slots=True)
class Gaps:
    """What is listed of a copy.

    copy     the copy, by panel, by vector of a panel, and by term
    few      where it says whether there are lists: if so few terms are not zero that they help
    narrow   the numbers of the copy, those of each vector in one piece
    lists    for each panel and vector how many terms are listed, and where these are in its piece
    panels, vectors, terms  how many there are
    """

    copy: Ref
    few: Ref
    narrow: Ref
    lists: Ref
    panels: int
    vectors: int
    terms: int

    def look(self, function: Function) -> None:
        """The code that decides, from some of the terms, whether there are lists."""
        module, refs = function.module, (self.copy,)
        axes = [Axis(self.panels), Axis(self.vectors), Axis(self.terms)]
        nest = Nest(function, axes, refs, Plan())

        def along(left: Sequence[int], cursor: Cursor, count: str) -> str:
            if not left:
                return self._count(nest, self._read(nest, cursor), count)
            extent, step = axes[left[0]].extent, _APART if len(left) == 1 else 1

            def inside(counter: Counter, carried: list[str]) -> list[str]:
                moved = nest.move(self.copy, cursor, left[0], counter)
                return [along(left[1:], moved, carried[0])]

            return function.loop(extent, step, ["i64"], [count], inside)[0]

        found = along(range(len(axes)), nest.start(self.copy), "0")
        looked = self.panels * self.vectors * -(-self.terms // _APART)
        some = function.emit(f"icmp slt i64 {found}, {-(-looked * _QUARTERS // 4)}")
        number = function.emit(f"zext i1 {some} to {_whole(module)}")
        place = nest.address(nest.real, self.few, nest.start(self.few))
        function.do(f"store {_whole(module)} {number}, ptr {place}")

    def exist(self, function: Function) -> str:
        """Whether there are lists."""
        nest = Nest(function, (), (self.few,), Plan())
        place = nest.address(nest.real, self.few, nest.start(self.few))
        return function.emit(f"icmp ne {_whole(nest.module)} {entry(function, place, 0)}, 0")

    def write(self, function: Function, division: Division | None) -> None:
        """The code that makes the lists: all, or a worker's part."""

        def make() -> list[str]:
            self._make(function, division)
            return []

        function.choose(self.exist(function), [], make, list)

    def _make(self, function: Function, division: Division | None) -> None:
        module, refs = function.module, (self.copy, self.narrow, self.lists)
        axes = [Axis(self.panels), Axis(self.vectors), Axis(self.terms)]
        nest = Nest(function, axes, refs, Plan())
        if division is not None:
            nest.divide(0, self.panels, division)
        nothing: list[Counter] = [0] * len(axes)

        def panel(_: list[Counter], cursors: list[Cursor]) -> None:
            nest.along(1, self.vectors, 1, nothing, cursors, lanes)

        def lanes(_: list[Counter], cursors: list[Cursor]) -> None:
            numbers, piece, lists = cursors
            head, first = self._entries(nest, lists)

            def one(counter: Counter, count: str) -> str:
                read = self._read(nest, nest.move(self.copy, numbers, 2, counter))
                place = nest.move(self.narrow, piece, 2, counter)
                nest.store_vector(self.narrow, place, Piece(0, module.width, module.width), read)
                self._store(nest, first, count, function.multiply(counter, module.width))
                return self._count(nest, read, count)

            def several(counter: Counter, carried: list[str]) -> list[str]:
                [count] = carried
                for k in range(PASS):
                    count = one(function.add(counter, k), count)
                return [count]

            whole = self.terms // PASS * PASS
            [count] = function.loop(whole, PASS, ["i64"], ["0"], several)
            for k in range(whole, self.terms):
                count = one(k, count)
            self._store(nest, head, 0, count)

        nest.along(0, self.panels, 1, nothing, [nest.start(ref) for ref in refs], panel)

    def _read(self, nest: Nest, cursor: Cursor) -> str:
        """A vector of the copy."""
        width = nest.module.width
        return nest.load_vector(nest.real, self.copy, cursor, Piece(0, width, width))

    def _count(self, nest: Nest, numbers: str, count: str) -> str:
        """The count, and one more if not all numbers of a vector are zero."""
        function, width = nest.function, nest.module.width
        zero = nest.module.constant(0.0, width)
        different = function.emit(f"fcmp une {vector(nest.real, width)} {numbers}, {zero}")
        some = _anywhere(function, [different], width)
        return str(function.add(count, function.emit(f"zext i1 {some} to i64")))

    @staticmethod
    def _store(nest: Nest, pointer: str, place: Counter, number: Counter) -> None:
        """Store an entry."""
        function, kind = nest.function, _whole(nest.module)
        narrow = _narrowed(function, number)
        function.do(f"store {kind} {narrow}, ptr {function.at(nest.real, pointer, place)}")

    def listed(self, tile: Tile, cursor: Cursor, every: str = "") -> tuple[str, str]:
        """How many terms are listed for a tile, and a pointer to the first of the entries.

        Where `every` is said to hold, those are all terms.
        """
        function = tile.function
        head, first = self._entries(tile.nest, cursor)
        count = _wide(function, entry(function, head, 0))
        if every:
            count = function.emit(f"select i1 {every}, i64 {self.terms}, i64 {count}")
            first = function.emit(
                f"select i1 {every}, ptr {self._every(function.module)}, ptr {first}"
            )
        return count, first

    def _every(self, module: Module) -> str:
        """The list of all terms, among the constants of the code."""
        name, kind = f"@terms{self.terms}", _whole(module)
        if name not in module.helpers:
            module.helpers.add(name)
            count = self.terms + PASS
            numbers = ", ".join(f"{kind} {k * module.width}" for k in range(count))
            module.definitions.append(f"{name} = internal constant [{count} x {kind}] [{numbers}]")
        return name

    def _entries(self, nest: Nest, cursor: Cursor) -> tuple[str, str]:
        head = nest.address(nest.real, self.lists, cursor)
        return head, nest.function.at(nest.real, head, 1)


def lengths(panels: int, vectors: int, terms: int, lanes: int) -> tuple[int, int, int]:
    """Numbers that an answer, the pieces, and the lists take up, with what is read past these."""
    return 1, panels * vectors * terms * lanes, panels * vectors * (terms + 1) + PASS


# --- entries: whole numbers that take as many bytes as a number of the program --------------------


def _whole(module: Module) -> str:
    return f"i{8 * module.size}"


def entry(function: Function, pointer: str, place: Counter) -> str:
    """An entry of a list."""
    module = function.module
    at = function.at(module.real, pointer, place)
    return function.emit(f"load {_whole(module)}, ptr {at}, align {module.size}")


def entries(function: Function) -> str:
    """The type of entries."""
    return _whole(function.module)


def term(function: Function, number: str) -> str:
    """Which term an entry is about."""
    shift = function.module.width.bit_length() - 1
    return function.emit(f"lshr exact i64 {_wide(function, number)}, {shift}")


def _wide(function: Function, number: str) -> str:
    kind = _whole(function.module)
    return number if kind == "i64" else function.emit(f"zext {kind} {number} to i64")


def _narrowed(function: Function, number: Counter) -> str:
    kind = _whole(function.module)
    if kind == "i64" or isinstance(number, int):
        return str(number)
    return function.emit(f"trunc i64 {number} to {kind}")


# --- lanes ----------------------------------------------------------------------------------------


def any_negative_zero(function: Function, values: Sequence[str], width: int) -> str:
    """Whether there is a -0.0 in some vectors."""
    module = function.module
    kind = _whole(module)
    same = vector(kind, width)
    least = repeated(kind, str(-(1 << (8 * module.size - 1))), width)
    found = []
    for value in dict.fromkeys(values):
        bits = function.emit(f"bitcast {vector(module.real, width)} {value} to {same}")
        found.append(function.emit(f"icmp eq {same} {bits}, {least}"))
    return _anywhere(function, found, width)


def _anywhere(function: Function, conditions: Sequence[str], width: int) -> str:
    """Whether one of some conditions holds in any lane."""
    kind = vector("i1", width)
    found = conditions[0]
    for other in conditions[1:]:
        found = function.emit(f"or {kind} {found}, {other}")
    if width == 1:
        return found
    bits = function.emit(f"bitcast {kind} {found} to i{width}")
    return function.emit(f"icmp ne i{width} {bits}, 0")
