"""LLVM IR as text: functions under construction, in SSA form from the start.

Nothing here knows what is computed, and nothing needs LLVM. Numbers are named by their SSA names
(or are written constants); counters of loops are SSA names of type i64, or Python integers where
they are known while the code is written.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

Counter: TypeAlias = int | str
Body: TypeAlias = Callable[[Counter, list[str]], list[str]]

LONG = 800  # lines of a function
# Where passengers ride: in every tile of a nest, or in every pass of its sums' loops.
PER_TILE, PER_PASS = 0, 1
INTEGERS = {"i64": 8, "i32": 4, "i8": 1}


def vector(kind: str, width: int) -> str:
    """The type of `width` numbers of a kind; of one number, the kind itself."""
    return kind if width == 1 else f"<{width} x {kind}>"


def repeated(kind: str, number: str, width: int) -> str:
    """A written constant in every lane."""
    if width == 1:
        return number
    return "<" + ", ".join([f"{kind} {number}"] * width) + ">"


def suffix(kind: str, width: int) -> str:
    """How intrinsics spell the type: f64, v8f64, v4i32."""
    name = {"double": "f64", "float": "f32"}.get(kind, kind)
    return name if width == 1 else f"v{width}{name}"


@dataclass
class Module:
    """A module under construction: functions, and what they declare.

    real      "double" or "float": the numbers it computes with
    width     how many of them a vector register holds
    registers vector registers of the CPU
    fused     whether it has a fused multiply-add
    fast      whether sums may be reassociated and fused, and functions approximated
    forms     functions of the mathematics library whose vector forms have its bits
    pairs     whether it has a function for a sine and a cosine at once, with the bits of each
    moved     how far the block of memory that begins somewhere in a slot has been moved
    """

    real: str = "double"
    width: int = 8
    registers: int = 32
    fused: bool = True
    fast: bool = False
    forms: frozenset[str] = frozenset()
    pairs: bool = False
    definitions: list[str] = field(default_factory=list)
    declarations: set[str] = field(default_factory=set)
    helpers: set[str] = field(default_factory=set)
    moved: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return 8 if self.real == "double" else 4

    @property
    def approximates(self) -> bool:
        """Whether sin, cos and erfc are computed on whole vectors, which takes exact products."""
        return self.fast and self.fused

    @property
    def masks(self) -> bool:
        """Whether a store of some lanes takes no longer than one of all: AVX-512 has such."""
        return self.width * self.size >= 64

    @property
    def divides(self) -> bool:
        """Whether quotients and roots are left to the CPU's divider."""
        estimates = self.width * self.size == 64  # of AVX-512, from which products lead to both
        return not (self.fast and estimates)

    def written(self, number: float) -> str:
        """A float as LLVM wants it: the sixteen hexadecimal digits of a double."""
        if self.real == "float":
            number = _to_single(number)
        return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"

    def constant(self, number: float, width: int) -> str:
        """A float in every lane."""
        return repeated(self.real, self.written(number), width)

    def finish(self, function: Function, returns: str = "void", result: str = "") -> None:
        """Close a function and keep it."""
        head = f"define {function.linkage} {returns} @{function.name}({function.parameters})"
        lines = [f"{head} {function.attributes}{{", "entry:", *function.entry, *function.lines]
        self.definitions.append("\n".join([*lines, f"  ret {returns} {result}".rstrip(), "}"]))

    def text(self) -> str:
        """The whole module."""
        return "\n".join([*sorted(self.declarations), *self.definitions, ""])


def _to_single(number: float) -> float:
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", number))[0]
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
    return rounded


class Passenger(Protocol):
    """Code that is written into the loops of other code, and has nothing to do with it.

    It rides at a `place`, PER_TILE or PER_PASS. `state` are the numbers, of types `kinds`, that it
    hands on from one time to the next.
    """

    place: int
    kinds: list[str]
    state: list[str]

    def some(self, times: int) -> None:
        """Write some of it, where it will run so many times; 0 if that is not known."""


class _Loop:
    """What moves with the counter of a loop under construction, named where first asked for.

    multiples  of the counter -> their names
    pointers   type, pointer from before the loop, elements a count -> the pointer moved, and how
               many elements after the other it starts

    What is carried from pass to pass is the counter, multiples, and each pointer whose stride no
    other has. Other pointers are computed from multiples, which CPUs do while they read.
    """

    def __init__(self, function: Function, counter: str, step: int) -> None:
        self.function, self.counter, self.step = function, counter, step
        self.multiples: dict[int, str] = {}
        self.pointers: dict[tuple[str, str, int], tuple[str, int]] = {}

    def multiple(self, times: int) -> str:
        """A multiple of the counter."""
        if times not in self.multiples:
            self.multiples[times] = self.function.fresh()
        return self.multiples[times]

    def moved(self, kind: str, pointer: str, stride: int, offset: int) -> tuple[str, int]:
        """See `Function.moved`."""
        key = kind, pointer, stride
        if key not in self.pointers:
            self.pointers[key] = self.function.fresh(), offset
        name, start = self.pointers[key]
        return name, offset - start

    def close(self, stop: Counter, lines: Sequence[str]) -> _Closed:
        """Write, after the `lines` of the body, how what is carried goes on."""
        strides = [stride for _, _, stride in self.pointers]
        for stride in strides:
            if stride != 1 and strides.count(stride) > 1:
                self.multiple(stride)
        counted, end = {1: self.counter, **self.multiples}, stop
        by = 1  # the loop ends by this multiple: another one where nobody reads the counter itself
        unread = isinstance(stop, int) and strides and 1 not in strides
        if unread and not any(self.counter in line for line in lines):
            by = [*self.multiples, *strides][0]
            self.multiple(by)
            counted, end = self.multiples, -(-int(stop) // self.step) * self.step * by
        carried, more = [], ""
        before: list[str] = []
        inside: list[str] = []
        for times, name in counted.items():
            after = self._carried_on("i64", f"add nsw i64 {name}, {times * self.step}")
            carried.append(("i64", name, "0", after))
            if times == by:
                goes_on = "slt" if by > 0 else "sgt"
                more = self.function.emit(f"icmp {goes_on} i64 {after}, {end}")
        for (kind, pointer, stride), (name, offset) in self.pointers.items():
            start = pointer
            if offset:
                start = self.function.fresh()
                before.append(_moved(start, kind, pointer, offset))
            if stride in counted:
                inside.append(_moved(name, kind, start, counted[stride]))
            else:
                step = f"getelementptr {kind}, ptr {name}, i64 {stride * self.step}"
                carried.append(("ptr", name, start, self._carried_on("ptr", step)))
        return _Closed(carried, more, before, inside)

    def _carried_on(self, kind: str, instruction: str) -> str:
        # LLVM does not look through a `freeze`. It would spend a quarter of its time on what moves
        # in loops, to come to much the same.
        return self.function.emit(f"freeze {kind} {self.function.emit(instruction)}")


class _Closed(NamedTuple):
    """The end of a loop: what it carries (type, name, first, next), and whether it goes on.

    Lines of its own are `before` the loop, and `inside` at the beginning of a pass.
    """

    carried: list[tuple[str, str, str, str]]
    more: str
    before: list[str]
    inside: list[str]


def _moved(name: str, kind: str, pointer: str, distance: Counter) -> str:
    return f"  {name} = getelementptr {kind}, ptr {pointer}, i64 {distance}"


def _age(name: str) -> int:
    """Of two names the later has the larger; those that every block knows have 0."""
    return int(name[2:]) if name.startswith("%v") else 0


class Function:
    """A function under construction: `emit` instructions, nest `loop`s."""

    def __init__(
        self,
        module: Module,
        name: str,
        parameters: str = "ptr %env",
        linkage: str = "internal",
        given: Mapping[tuple[int, int], str] | None = None,
        quick: bool = False,
    ) -> None:
        """`given` names the arguments that point to elements of arrays, by slot and number.

        `quick`: LLVM is to compile it quickly.
        """
        self.module = module
        self._given = given
        self.name = name
        self.parameters = parameters
        self.linkage = linkage
        self.attributes = "noinline optnone " if quick else ""
        self.entry: list[str] = []
        self.lines: list[str] = ["  br label %start", "start:"]
        self.block = "start"
        self._count = 0
        self._pointers: dict[int, str] = {}
        self._portions: dict[int, tuple[str, str]] = {}
        self._loops: dict[Counter, _Loop] = {}
        self._turns: list[Counter] = []
        self.passengers: Sequence[Passenger] = ()
        self._times = 1  # how often what is being written runs; 0 if that is not known

    @property
    def long(self) -> bool:
        """Whether the next part of a program had better be another function."""
        return len(self.lines) > LONG

    def fresh(self) -> str:
        """A new SSA name."""
        self._count += 1
        return f"%v{self._count}"

    def emit(self, instruction: str) -> str:
        """An instruction with a result; the result's name."""
        self._count += 1
        name = f"%v{self._count}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        """An instruction without a result."""
        self.lines.append(f"  {instruction}")

    def label(self) -> str:
        """A new name for a block."""
        self._count += 1
        return f"b{self._count}"

    def begin(self, label: str) -> None:
        """Start the block of that name."""
        self.lines.append(f"{label}:")
        self.block = label

    def declare(self, returns: str, name: str, *arguments: str) -> None:
        """Declare a function that is called."""
        self.module.declarations.add(f"declare {returns} @{name}({', '.join(arguments)})")

    def call(self, returns: str, name: str, kinds: Sequence[str], values: Sequence[str]) -> str:
        """Call a function that computes a number."""
        self.declare(returns, name, *kinds)
        shown = ", ".join(f"{kind} {value}" for kind, value in zip(kinds, values))
        return self.emit(f"call {returns} @{name}({shown})")

    def pointer(self, slot: int) -> str:
        """The pointer in a slot of the environment, loaded on entry."""
        if slot not in self._pointers:
            name = self._pointers[slot] = f"%p{slot}"
            self.entry.append(f"  %a{slot} = getelementptr ptr, ptr %env, i64 {slot}")
            self.entry.append(f"  {name} = load ptr, ptr %a{slot}, align 8")
        return self._pointers[slot]

    def origin(self, slot: int, element: int) -> tuple[str, int]:
        """A pointer into the array in a slot, and how far from there the element is."""
        if self._given is None:
            return self.pointer(slot), element
        return self._given[slot, element], 0

    def splat(self, kind: str, number: str, width: int) -> str:
        """One number in every lane."""
        if width == 1:
            return number
        one = self.emit(f"insertelement {vector(kind, width)} poison, {kind} {number}, i32 0")
        full = vector(kind, width)
        return self.emit(
            f"shufflevector {full} {one}, {full} poison, <{width} x i32> zeroinitializer"
        )

    def shuffled(self, kind: str, width: int, a: str, b: str, lanes: Sequence[int]) -> str:
        """Lanes of two vectors of a width, those of `b` counted after those of `a`."""
        full, order = vector(kind, width), ", ".join(f"i32 {lane}" for lane in lanes)
        return self.emit(f"shufflevector {full} {a}, {full} {b}, <{len(lanes)} x i32> <{order}>")

    # --- whole numbers ---------------------------------------------------------------------------

    def add(self, a: Counter, b: Counter) -> Counter:
        """a + b."""
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0 or b == 0:
            return b if a == 0 else a
        return self.emit(f"add nsw i64 {a}, {b}")

    def subtract(self, a: Counter, b: Counter) -> Counter:
        """a - b."""
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        return a if b == 0 else self.emit(f"sub nsw i64 {a}, {b}")

    def multiply(self, a: Counter, b: int) -> Counter:
        """a * b."""
        if isinstance(a, int):
            return a * b
        if b in (0, 1):
            return a if b else 0
        loop = self._loops.get(a)
        return self.emit(f"mul nsw i64 {a}, {b}") if loop is None else loop.multiple(b)

    def at(self, kind: str, pointer: str, place: Counter) -> str:
        """A pointer to element number `place`."""
        if place == 0:
            return pointer
        return self.emit(f"getelementptr {kind}, ptr {pointer}, i64 {place}")

    def moved(
        self, kind: str, pointer: str, counter: Counter, stride: int, offset: int = 0
    ) -> tuple[str, int]:
        """A pointer `counter * stride` elements on, and how many elements from there `offset` is."""
        if stride == 0:
            return pointer, offset
        loop = self._loops.get(counter)
        if loop is None or _age(pointer) > _age(loop.counter):
            return self.at(kind, pointer, self.multiply(counter, stride)), offset
        return loop.moved(kind, pointer, stride, offset)

    def smaller(self, a: Counter, b: Counter) -> Counter:
        """The smaller of two."""
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        less = self.emit(f"icmp slt i64 {a}, {b}")
        return self.emit(f"select i1 {less}, i64 {a}, i64 {b}")

    def portion(self, count: int) -> tuple[str, str]:
        """The first and the end of this worker's share of `count` things, computed on entry."""
        if count not in self._portions:
            self.entry += [
                f"  %before{count} = mul nuw nsw i64 %worker, {count}",
                f"  %after{count} = add nuw nsw i64 %before{count}, {count}",
                f"  %low{count} = udiv i64 %before{count}, %workers",
                f"  %high{count} = udiv i64 %after{count}, %workers",
            ]
            self._portions[count] = f"%low{count}", f"%high{count}"
        return self._portions[count]

    # --- control flow ----------------------------------------------------------------------------

    def loop(
        self, stop: Counter, step: int, kinds: Sequence[str], carried: Sequence[str], body: Body
    ) -> list[str]:
        """for i in range(0, stop, step): carried = body(i, carried); the last `carried`.

        `kinds` are the types of what is carried from one pass to the next.
        """
        size, times = len(kinds), self._times
        along = [kind for passenger in self.passengers for kind in passenger.kinds]

        def inside(counter: Counter, values: list[str]) -> list[str]:
            self._seat(values[size:])
            return [*body(counter, values[:size]), *self._seated()]

        self._times *= -(-max(stop, 0) // step) if isinstance(stop, int) else 0
        results = self._loop(stop, step, [*kinds, *along], [*carried, *self._seated()], inside)
        self._times = times
        self._seat(results[size:])
        return results[:size]

    def ride(self, place: int) -> None:
        """Let the passengers of such a place write."""
        for passenger in self.passengers:
            if passenger.place == place:
                passenger.some(self._times)

    def _seated(self) -> list[str]:
        return [value for passenger in self.passengers for value in passenger.state]

    def _seat(self, values: list[str]) -> None:
        for passenger in self.passengers:
            size = len(passenger.kinds)
            passenger.state, values = values[:size], values[size:]

    def _loop(
        self, stop: Counter, step: int, kinds: Sequence[str], carried: Sequence[str], body: Body
    ) -> list[str]:
        if isinstance(stop, int):
            if stop <= 0:
                return list(carried)
            if stop <= step:
                return body(0, list(carried))
        head, after, before = self.label(), self.label(), self.block
        outside = len(self.lines)
        self.lines.append("")
        if isinstance(stop, int):
            self.do(f"br label %{head}")
        else:
            some = self.emit(f"icmp sgt i64 {stop}, 0")
            self.do(f"br i1 {some}, label %{head}, label %{after}")
        self.begin(head)
        counter, inside = self.fresh(), [self.fresh() for _ in carried]
        place = len(self.lines)
        self.lines.append("")
        self._loops[counter] = _Loop(self, counter, step)
        results = body(counter, inside)
        closed = self._loops.pop(counter).close(stop, self.lines[place:])
        latch = self.block
        self.do(f"br i1 {closed.more}, label %{head}, label %{after}")
        phis = [
            f"  {name} = phi {kind} [ {first}, %{before} ], [ {last}, %{latch} ]"
            for kind, name, first, last in (*closed.carried, *zip(kinds, inside, carried, results))
        ]
        self.lines[place] = "\n".join([*phis, *closed.inside])
        self.lines[outside] = "\n".join(closed.before)
        self.begin(after)
        if isinstance(stop, int):
            return results
        return [
            self.emit(f"phi {kind} [ {first}, %{before} ], [ {last}, %{latch} ]")
            for kind, first, last in zip(kinds, carried, results)
        ]

    def choose(
        self,
        condition: str,
        kinds: Sequence[str],
        then: Callable[[], list[str]],
        otherwise: Callable[[], list[str]],
    ) -> list[str]:
        """then() if condition else otherwise(): numbers of these types."""
        labels, after = (self.label(), self.label()), self.label()
        self.do(f"br i1 {condition}, label %{labels[0]}, label %{labels[1]}")
        found: list[tuple[str, list[str]]] = []
        for label, body in zip(labels, (then, otherwise)):
            self.begin(label)
            results = body()
            found.append((self.block, results))
            self.do(f"br label %{after}")
        self.begin(after)
        (first, ones), (second, others) = found
        return [
            self.emit(f"phi {kind} [ {one}, %{first} ], [ {other}, %{second} ]")
            for kind, one, other in zip(kinds, ones, others)
        ]

    def repeat(self, count: int, body: Callable[[], None]) -> None:
        """Write a body that runs `count` times; in it, `turned` pointers go on turn by turn."""

        def inside(number: Counter, _: list[str]) -> list[str]:
            self._turns.append(number)
            body()
            self._turns.pop()
            return []

        self.loop(count, 1, [], [], inside)

    def turned(self, kind: str, pointer: str, moves: Sequence[int]) -> str:
        """A pointer in this turn of the repeats around, with a step for each of them."""
        for number, move in zip(self._turns, moves):
            if move and number != 0:
                pointer, _ = self.moved(kind, pointer, number, move)
        return pointer

    def distance(self, moves: Sequence[int]) -> Counter:
        """How far a number has moved in this turn, with a step for each of the repeats around."""
        total: Counter = 0
        for number, move in zip(self._turns, moves):
            total = self.add(total, self.multiply(number, move))
        return total
