"""Sums that leave out terms which are zero.

Many of the numbers that callers give may be 0: the background of pictures, words that a text does
not have. Where tile after tile multiplies them from a copy, the terms that are 0 in all lanes of a
vector are found once, and the others listed. If these are few enough, tiles go through the lists,
one vector wide. Which they are, the numbers themselves decide, every time.

A zero times a finite number is a zero of either sign, and whatever it is added to but -0.0 keeps
its bits. So the sum is the same; a sum that comes to such terms as -0.0 goes through all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .ir import Counter, Function, Module, repeated, vector
from .nests import Nest, Tile
from .places import Cursor
from .tiles import Axis, Division, Piece, Plan, Ref

# What part of all terms may be listed, in quarters, for tiles to be quicker with lists: they are one
# vector wide, and read more for every product.
_QUARTERS = 3
_APART = 17  # of so many terms one is looked at to find out whether to make lists
Write: TypeAlias = Callable[[Function, Division | None], None]
PASS = 4  # terms that a pass of a loop looks at, or adds


@dataclass(frozen=True, slots=True)
class Gaps:
    """What is listed of the caller's numbers.

    source   the numbers, by panel, by vector of a panel, by term, and by lane of a vector
    few      where it says whether there are lists: if so few terms are not zero that they help
    copy     if there are, the numbers so that a vector is one piece, by panel, vector and term
    lists    and for each panel and vector how many terms are listed, and which
    panels, vectors, terms  how many there are
    """

    source: Ref
    few: Ref
    copy: Ref
    lists: Ref
    panels: int
    vectors: int
    terms: int

    @property
    def scale(self) -> int:
        """Entries are the numbers of terms times this, a power of two: places in the copy."""
        stride = abs(self.copy.strides[2])
        return stride & -stride

    def look(self, function: Function) -> None:
        """The code that decides, from some of the terms, whether there are lists."""
        module, width = function.module, function.module.width
        axes = [Axis(self.panels), Axis(self.vectors), Axis(self.terms), Axis(width)]
        nest = Nest(function, axes, (self.source,), Plan())
        zero = module.constant(0.0, 1)

        def along(left: Sequence[int], cursor: Cursor, count: str) -> str:
            if not left:
                lanes = (nest.move(self.source, cursor, 3, lane) for lane in range(width))
                numbers = [nest.load(nest.real, self.source, lane) for lane in lanes]
                return _counted(function, [f"{nest.real} {x}, {zero}" for x in numbers], 1, count)
            step = _APART if left[0] == 2 else 1

            def inside(counter: Counter, carried: list[str]) -> list[str]:
                moved = nest.move(self.source, cursor, left[0], counter)
                return [along(left[1:], moved, carried[0])]

            return function.loop(axes[left[0]].extent, step, ["i64"], [count], inside)[0]

        found = along((0, 1, 2), nest.start(self.source), "0")
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

    def only(self, write: Write, wanted: bool) -> Write:
        """What writes code for where there are lists, or for where there are none."""

        def conditional(function: Function, division: Division | None) -> None:
            def do() -> list[str]:
                write(function, division)
                return []

            both = (do, list) if wanted else (list, do)
            function.choose(self.exist(function), [], *both)

        return conditional

    def write(self, function: Function, division: Division | None) -> None:
        """The code that makes the lists: all, or a worker's part."""
        module, refs = function.module, (self.copy, self.lists)
        axes = [Axis(self.panels), Axis(self.vectors), Axis(self.terms)]
        nest = Nest(function, axes, refs, Plan())
        if division is not None:
            nest.divide(0, self.panels, division)
        nothing: list[Counter] = [0] * len(axes)
        width, full = module.width, vector(module.real, module.width)
        kind, zero = _whole(module), module.constant(0.0, width)

        def panel(_: list[Counter], cursors: list[Cursor]) -> None:
            nest.along(1, self.vectors, 1, nothing, cursors, lanes)

        def lanes(_: list[Counter], cursors: list[Cursor]) -> None:
            numbers, lists = cursors
            head, first = self._entries(nest, lists)

            def store(pointer: str, place: Counter, number: Counter) -> None:
                narrow = _narrowed(function, number)
                function.do(f"store {kind} {narrow}, ptr {function.at(nest.real, pointer, place)}")

            def one(counter: Counter, count: str) -> str:
                at = nest.move(self.copy, numbers, 2, counter)
                read = nest.load_vector(nest.real, self.copy, at, Piece(0, width, width))
                store(first, count, function.multiply(counter, self.scale))
                return _counted(function, [f"{full} {read}, {zero}"], width, count)

            def several(counter: Counter, carried: list[str]) -> list[str]:
                [count] = carried
                for k in range(PASS):
                    count = one(function.add(counter, k), count)
                return [count]

            whole = self.terms // PASS * PASS
            [count] = function.loop(whole, PASS, ["i64"], ["0"], several)
            for k in range(whole, self.terms):
                count = one(k, count)
            store(head, 0, count)

        nest.along(0, self.panels, 1, nothing, [nest.start(ref) for ref in refs], panel)

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

    def term(self, function: Function, number: str) -> str:
        """Which term an entry is about."""
        counter, shift = _wide(function, number), self.scale.bit_length() - 1
        return function.emit(f"lshr exact i64 {counter}, {shift}") if shift else counter

    def _every(self, module: Module) -> str:
        """The list of all terms, among the constants of the code."""
        name, kind = f"@terms{self.terms}.{self.scale}", _whole(module)
        if name not in module.helpers:
            module.helpers.add(name)
            count = self.terms + PASS
            numbers = ", ".join(f"{kind} {k * self.scale}" for k in range(count))
            module.definitions.append(f"{name} = internal constant [{count} x {kind}] [{numbers}]")
        return name

    def _entries(self, nest: Nest, cursor: Cursor) -> tuple[str, str]:
        head = nest.address(nest.real, self.lists, cursor)
        return head, nest.function.at(nest.real, head, 1)


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


def _counted(function: Function, pairs: Sequence[str], width: int, count: str) -> str:
    """The count, and one more if the numbers of a pair differ in any lane."""
    different = [function.emit(f"fcmp une {pair}") for pair in pairs]
    more = function.emit(f"zext i1 {_anywhere(function, different, width)} to i64")
    return str(function.add(count, more))


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
