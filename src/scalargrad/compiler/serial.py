"""Walks as LLVM IR: a few short ones written out, the others as a loop that interprets a stream.

LLVM takes long over operations written out one by one. A stream holds them as integers, read from
first to last: runs of operations of one form, and for each operation where its result and its
operands lie.

    run        number of the form, how many operations
    operation  place of the result; for sums of many terms, how many; the places of the terms
    place      the space in the highest bits but one, which changes the sign of the y of a step;
               the element in the others

Operands lie anywhere. In a program of more numbers than the caches hold, those of the operations
to come are fetched ahead: every integer of a stream can be taken for a place.

All walks of a program share one function, which has a piece of code for every form.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .arithmetic import FORMS, Arithmetic, heavy, lane_by_lane
from .cuts import labels
from .distinct import distinct
from .environment import WALKS
from .ir import Counter, Function, Module
from .loops import MINUS, SKIP_LEFT, SKIP_RIGHT, Operand, Space, Walk
from .nests import Nest, Spot, Tile
from .steps import in_steps
from .tiles import Axis, Plan, Ref
from .walks import PRODUCT, term_code

if TYPE_CHECKING:
    from .binding import Binder

WRITTEN_OUT = 512  # terms of a walk whose code is written out
ALL_WRITTEN_OUT = 2048  # terms of all such walks of a program
FEW = 2  # terms of a sum, or numbers of a maximum, whose code has no loop
CHUNK = 1 << 16  # operations that are put into a stream at a time
FAR = 1 << 21  # bytes of a space that are too many for the nearer caches
AHEAD = 96  # operations, or terms of long sums, ahead of which operands are fetched
NARROW = 1 << 27  # elements of a space that 32 bits can tell apart
SPACE = 15  # of a place shifted down, the bits that are its space

# In place of a number of terms: a step; many with the same code, or with different ones.
STEP, ALIKE, MIXED = 253, 254, 255
_FOLDS = {ops.ADD: 0.0, ops.MAXIMUM: -np.inf, ops.MINIMUM: np.inf}

Term = tuple[str, str | None, int]  # left factor, right factor, style


def write(binder: Binder, function: Function, step: Walk) -> None:
    """The code of a walk."""
    size = len(step.left)
    if not len(step.code):
        return
    if size <= WRITTEN_OUT and binder.streams.written + size <= ALL_WRITTEN_OUT:
        binder.streams.written += size
        _straight(binder, function, step)
    else:
        _streamed(binder, function, step)


def _batched(step: Walk) -> bool:
    return Space(int(step.space[0])).batched


def _value(m: Arithmetic, code: int, const: float, terms: Sequence[Term]) -> str:
    """An operation on numbers."""
    numbers = [left for left, _, _ in terms]
    if code not in _FOLDS:
        return FORMS[code](m, *numbers, const)
    if code != ops.ADD:
        return reduce(lambda value, number: m.folded(code, value, number, None, False), numbers)
    return reduce(lambda value, term: _folded(m, code, value, term), terms, m.constant(const))


def _folded(m: Arithmetic, code: int, value: str, term: Term) -> str:
    """What comes of a value and the next term of its sum, or of its maximum or minimum."""
    left, right, style = term
    after = m.folded(code, value, left, right, bool(style & MINUS))
    for flag, factor in ((SKIP_RIGHT, right), (SKIP_LEFT, left)):
        if style & flag and right is not None and factor is not None:
            after = m.select(m.compare("oeq", factor, m.constant(0.0)), value, after)
    return after


# --- short walks ---------------------------------------------------------------------------------


def _straight(binder: Binder, function: Function, step: Walk) -> None:
    batched, count = _batched(step), len(step.code)
    axes: tuple[Axis, ...] = (Axis(binder.batch),) if batched else ()
    known: dict[tuple[int, int], Ref] = {}

    def ref(space: int, place: int) -> Ref:
        key = (int(space), int(place))
        if key not in known:
            known[key] = binder.bind(Operand(Space(key[0]), key[1]), batched, ())
        return known[key]

    results = [ref(step.space[i], step.at[i]) for i in range(count)]
    lefts = [ref(s, a) for s, a in zip(step.left_space, step.left)]
    rights = [ref(s, a) if a >= 0 else None for s, a in zip(step.right_space, step.right)]
    refs = list(known.values())
    where = {id(r): k for k, r in enumerate(refs)}
    wide = batched and binder.batch > 1 and binder.module.width > 1
    if wide and all(r.padded or not r.moves(0) for r in refs):
        axes = (Axis(binder.padded),)
    nest = Nest(function, axes, refs, Plan(0) if wide else Plan())

    def at(tile: Tile, spot: Spot) -> None:
        m = tile.arithmetic(spot)
        seen: dict[int, str] = {}

        def number(r: Ref) -> str:
            if id(r) not in seen:
                seen[id(r)] = tile.fetch(r, tile.cursors[where[id(r)]], spot)
            return seen[id(r)]

        for i in range(count):
            terms = []
            for t in range(int(step.first[i]), int(step.first[i + 1])):
                factor = rights[t]
                right = None if factor is None else number(factor)
                terms.append((number(lefts[t]), right, int(step.style[t])))
            value = _value(m, int(step.code[i]), float(step.const[i]), terms)
            seen[id(results[i])] = value
            tile.write(results[i], tile.cursors[where[id(results[i])]], spot, value)

    def body(tile: Tile) -> None:
        for spot in tile.spots:
            at(tile, spot)

    nest.run(body)


# --- streams -------------------------------------------------------------------------------------


class Form(NamedTuple):
    """What operations of one form have in common.

    `many` is the number of terms, STEP, ALIKE or MIXED; `terms` are their codes (the one code that all
    have where they are ALIKE), four bits each, the first in the lowest; of a step, only when x * y is
    left out.
    """

    code: int
    const: float
    many: int
    terms: int

    def term(self, k: int) -> int:
        """The code of term k."""
        return self.terms >> 4 * k & 15

    @property
    def period(self) -> int:
        """How many integers lie between operands that play the same part."""
        if self.many == STEP:
            return 4
        if self.many == MIXED:
            return 3
        if self.many == ALIKE:
            return 1 + (self.term(0) & PRODUCT)
        return 1 + sum(1 + (self.term(k) & PRODUCT) for k in range(self.many))


class Streams:
    """The walks of a program that are interpreted, as one array of integers, and their forms.

    No space has more than so many `elements`. They are numbered in 32 bits where these are at most
    `NARROW`. `ahead` says how far operands are fetched ahead.
    """

    def __init__(self, elements: int, module: Module) -> None:
        narrow = elements <= NARROW
        self.module = module
        self.ahead = AHEAD if elements * module.size > FAR else 0
        self.kind, self.shift = ("i32", 27) if narrow else ("i64", 56)
        self.dtype: Any = np.int32 if narrow else np.int64
        self.negative = int(np.iinfo(self.dtype).min)  # the highest bit
        self.forms: dict[tuple[int, bytes, int, int], int] = {}
        self.parts: list[NDArray[Any]] = []
        self.size = self.written = 0

    def add(self, step: Walk, elements: NDArray[np.int64]) -> tuple[int, int]:
        """Where the stream of a walk begins, and how many runs it has.

        `elements[space]` is how far apart the elements of a space are.
        """
        start, runs = self.size, 0
        for low in range(0, len(step.code), CHUNK):
            part, count = self._part(step, low, min(low + CHUNK, len(step.code)), elements)
            self.parts.append(part)
            self.size += len(part)
            runs += count
        return start, runs

    def array(self) -> NDArray[Any]:
        """All streams, one after the other, and places to fetch past the end."""
        end = self.ahead * max((form.period for form in self.known()), default=0)
        return np.concatenate((*self.parts, np.zeros(end, self.dtype)))

    def known(self) -> list[Form]:
        """The forms, by number."""
        return [
            Form(code, float(np.frombuffer(const)[0]), count, terms)
            for code, const, count, terms in self.forms
        ]

    def lanes(self, form: Form) -> int:
        """How many operations of a form are done at once: long ones that have a vector form."""
        code, const, module = form.code, form.const, self.module
        whole = heavy(code, const) and not lane_by_lane(module, code, const)
        return module.width if whole else 1

    def _places(
        self, space: NDArray[np.uint8], place: NDArray[np.int32], elements: NDArray[np.int64]
    ) -> NDArray[Any]:
        return space.astype(np.int64) << self.shift | place * elements[space]

    def _part(
        self, step: Walk, low: int, high: int, elements: NDArray[np.int64]
    ) -> tuple[NDArray[Any], int]:
        counts = np.diff(step.first[low : high + 1])
        begin, end = int(step.first[low]), int(step.first[high])
        owner = np.repeat(np.arange(high - low), counts)
        own = np.arange(end - begin) - (step.first[low:high] - begin)[owner]
        product = step.right[begin:end] >= 0
        style = step.style[begin:end]
        code = term_code(style, product)
        code[step.code[low:high][owner] != ops.ADD] = 0
        form, shape = self._forms(step, low, high, counts, owner, own, code)
        # How many integers each term takes, each operation, and the head of each run.
        mixed, many = shape == MIXED, shape >= ALIKE
        width = np.where(mixed[owner], 3, 1 + product)
        head = np.ones(high - low, bool)
        head[1:] = form[1:] != form[:-1]
        # What is done at once must not depend on one another.
        whole = np.array([self.lanes(known) > 1 for known in self.known()])
        level = step.level[low:high]
        head[1:] |= whole[form[1:]] & (level[1:] != level[:-1])
        before = np.cumsum(width) - width
        size = 1 + many + np.bincount(owner, width, high - low).astype(np.int64) + 2 * head
        at = np.cumsum(size) - size + 2 * head
        part = np.empty(int(size.sum()), self.dtype)
        heads = np.flatnonzero(head)
        part[at[heads] - 2] = form[heads]
        part[at[heads] - 1] = np.diff(heads, append=high - low)
        part[at] = self._places(step.space[low:high], step.at[low:high], elements)
        part[at[many] + 1] = counts[many]
        if len(owner):
            within = before - before[step.first[low:high][owner] - begin]
            term = (at + 1 + many)[owner] + within
            part[term] = self._places(step.left_space[begin:end], step.left[begin:end], elements)
            right = self._places(step.right_space[begin:end], step.right[begin:end], elements)
            right[(shape == STEP)[owner] & (style & MINUS != 0)] |= self.negative
            part[term[product] + 1] = right[product]
            mixed_terms = mixed[owner]
            single = term[mixed_terms & ~product]
            part[single + 1] = part[single]
            part[term[mixed_terms] + 2] = code[mixed_terms]
        return part, len(heads)

    def _forms(
        self,
        step: Walk,
        low: int,
        high: int,
        counts: NDArray[np.int32],
        owner: NDArray[np.int64],
        own: NDArray[np.int64],
        code: NDArray[np.uint8],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The number of each operation's form, and its `many`."""
        op, n = step.code[low:high], high - low
        folds = np.isin(op, tuple(_FOLDS))
        changes = np.flatnonzero((owner[1:] == owner[:-1]) & (code[1:] != code[:-1]))
        mixed = np.bincount(owner[1:][changes], minlength=n) > 0
        shape = counts.astype(np.int64)
        shape[folds & (counts > FEW)] = ALIKE
        shape[folds & (counts > FEW) & mixed] = MIXED
        explicit = np.where(own < np.where(shape >= ALIKE, 1, 3)[owner], code.astype(np.int64), 0)
        terms = np.bincount(owner, explicit << 4 * np.minimum(own, 3), n).astype(np.int64)
        terms[shape == MIXED] = 0
        nothing = step.const[low:high].view(np.int64) == np.float64(-0.0).view(np.int64)
        pair = terms & (PRODUCT << 4 | 15) == PRODUCT << 4  # a number, and a product
        steps = (op == ops.ADD) & (counts == 2) & nothing & pair
        shape[steps] = STEP
        terms[steps] &= (SKIP_LEFT | SKIP_RIGHT) << 5
        with_constant = [ops.ADD, *(code for code, row in ops.BY_CODE.items() if row.constant)]
        const = np.where(np.isin(op, with_constant), step.const[low:high], 0.0)
        rows = np.column_stack((op.astype(np.int64), const.view(np.int64), shape, terms))
        number = labels(rows)
        highest = np.maximum.accumulate(number)
        first = np.flatnonzero(np.diff(highest, prepend=-1))
        known = [
            self.forms.setdefault(
                (int(op[k]), const[k].tobytes(), int(shape[k]), int(terms[k])), len(self.forms)
            )
            for k in first.tolist()
        ]
        return np.array(known)[number], shape


def _streamed(binder: Binder, function: Function, step: Walk) -> None:
    """A call of the interpreter, for each example."""
    streams, memory = binder.streams, binder.memory
    step = in_steps(step, binder.constant(1.0), binder.constant(-0.0))
    elements, layouts = np.ones(len(Space), np.int64), {}
    used = step.right >= 0
    for spaces, places in (
        (step.space, step.at),
        (step.left_space, step.left),
        (step.right_space[used], step.right[used]),
    ):
        for space in map(Space, distinct(spaces).tolist()):
            layouts[space] = memory.layout(space, int(places[spaces == space].min()))
            elements[space] = layouts[space].element
    start, runs = streams.add(step, elements)
    stream = function.at(streams.kind, function.pointer(WALKS), start)

    def call(bases: str) -> None:
        function.do(f"call void @walk(ptr {bases}, ptr {stream}, i64 {runs})")

    if not _batched(step):
        call("%env")
        return
    bases = f"%bases{start}"
    function.entry.append(f"  {bases} = alloca [{len(Space)} x ptr], align 8")

    def example(number: Counter, _: list[str]) -> list[str]:
        for space, layout in layouts.items():
            moved = binder.module.moved.get((space, layout.offset), 0)
            shift: Counter = layout.address(0) + moved
            if space.batched:
                shift = function.add(function.multiply(number, layout.example), shift)
            pointer = function.at(binder.module.real, function.pointer(space), shift)
            function.do(f"store ptr {pointer}, ptr {function.at('ptr', bases, int(space))}")
        call(bases)
        return []

    function.loop(binder.batch, 1, [], [], example)


# --- the interpreter -----------------------------------------------------------------------------


def finish(binder: Binder) -> None:
    """The function that interprets the streams, if there are any."""
    if binder.streams.parts:
        function = Function(binder.module, "walk", "ptr %bases, ptr %stream, i64 %runs")
        _Interpreter(function, binder.streams).write()
        binder.module.finish(function)


class _Interpreter:
    def __init__(self, function: Function, streams: Streams) -> None:
        self.function, self.streams = function, streams
        self.m = Arithmetic(function, 1)
        self.real = function.module.real

    def write(self) -> None:
        """The loop over the runs."""
        self.function.loop("%runs", 1, ["i64"], ["0"], self._run)

    def _run(self, _: Counter, carried: list[str]) -> list[str]:
        f, at = self.function, carried[0]
        number, count = self.integer(at), self.integer(f.add(at, 1))
        first = str(f.add(at, 2))
        forms = self.streams.known()
        names, done = [f.label() for _ in forms], f.label()
        cases = " ".join(f"i64 {k}, label %{name}" for k, name in enumerate(names))
        f.do(f"switch i64 {number}, label %{names[0]} [ {cases} ]")
        ends = []
        for form, name in zip(forms, names):
            f.begin(name)
            end, rest, lanes = [first], count, self.streams.lanes(form)
            if lanes > 1:
                blocks = f.emit(f"udiv i64 {count}, {lanes}")
                rest = f.emit(f"urem i64 {count}, {lanes}")
                end = f.loop(blocks, 1, ["i64"], end, partial(self._block, form, lanes))
            end = f.loop(rest, 1, ["i64"], end, partial(self._step, form))
            ends.append(f"[ {end[0]}, %{f.block} ]")
            f.do(f"br label %{done}")
        f.begin(done)
        return [f.emit(f"phi i64 {', '.join(ends)}")]

    def _block(self, form: Form, lanes: int, _: Counter, carried: list[str]) -> list[str]:
        """As many operations as a vector has lanes; where the next one is."""
        f, m = self.function, Arithmetic(self.function, lanes)
        places = [str(f.add(carried[0], lane * form.period)) for lane in range(lanes)]
        operands = []
        for k in range(1, form.period):
            operand = "poison"
            for lane, at in enumerate(places):
                number = self.number(f.add(at, k), self.streams.ahead * form.period)
                operand = f.emit(
                    f"insertelement {m.kind} {operand}, {self.real} {number}, i32 {lane}"
                )
            operands.append(operand)
        values = FORMS[form.code](m, *operands, form.const)
        for lane, at in enumerate(places):
            value = f.emit(f"extractelement {m.kind} {values}, i32 {lane}")
            f.do(f"store {self.real} {value}, ptr {self.pointer(at)}")
        return [str(f.add(places[-1], form.period))]

    def _step(self, form: Form, _: Counter, carried: list[str]) -> list[str]:
        """One operation; where the next one is."""
        f, at = self.function, carried[0]
        result, after = self.pointer(at), str(f.add(at, 1))
        distance = self.streams.ahead * form.period
        if form.many == STEP:
            z, x = (self.number(f.add(after, k), distance) for k in range(2))
            y = self.signed(f.add(after, 2), distance)
            value = _folded(self.m, ops.ADD, z, (x, y, form.term(1) >> 1))
            after = str(f.add(after, 3))
        elif form.many >= ALIKE:
            count, after = self.integer(after), str(f.add(after, 1))
            start = form.const if form.code == ops.ADD else _FOLDS[form.code]

            def term(_: Counter, carried: list[str]) -> list[str]:
                if form.many == MIXED:
                    return self._mixed(form.code, distance, *carried)
                own, following = self._term(form.term(0), carried[1], distance)
                return [_folded(self.m, form.code, carried[0], own), following]

            carried = [self.m.constant(start), after]
            value, after = f.loop(count, 1, [self.real, "i64"], carried, term)
        else:
            terms = []
            for k in range(form.many):
                own, after = self._term(form.term(k), after, distance)
                terms.append(own)
            value = _value(self.m, form.code, form.const, terms)
        f.do(f"store {self.real} {value}, ptr {result}")
        return [after]

    def _term(self, code: int, at: str, distance: int) -> tuple[Term, str]:
        """A term whose code is known, and where the next one is."""
        left, after = self.number(at, distance), str(self.function.add(at, 1))
        if not code & PRODUCT:
            return (left, None, code >> 1), after
        right, after = self.number(after, distance), str(self.function.add(after, 1))
        return (left, right, code >> 1), after

    def _mixed(self, code: int, distance: int, value: str, at: str) -> list[str]:
        """What comes of a value and a term that says itself what it is."""
        f, m = self.function, self.m
        left, right = self.number(at, distance), self.number(f.add(at, 1), distance)
        style = self.integer(f.add(at, 2))
        right = m.select(self._flag(style, PRODUCT), right, m.constant(1.0))
        product = m.multiply(left, right)
        minus = self._flag(style, MINUS << 1)
        after = m.folded(code, value, m.select(minus, m.negative(product), product), None, False)
        for flag, factor in ((SKIP_RIGHT, right), (SKIP_LEFT, left)):
            absent = m.compare("oeq", factor, m.constant(0.0))
            both = f.emit(f"and i1 {absent}, {self._flag(style, flag << 1)}")
            after = m.select(both, value, after)
        return [after, str(f.add(at, 3))]

    def _flag(self, style: str, flag: int) -> str:
        masked = self.function.emit(f"and i64 {style}, {flag}")
        return self.function.emit(f"icmp ne i64 {masked}, 0")

    # --- reading the stream ----------------------------------------------------------------------

    def integer(self, at: Counter) -> str:
        """An integer of the stream."""
        f, kind = self.function, self.streams.kind
        entry = f.emit(f"load {kind}, ptr {f.at(kind, '%stream', at)}")
        return entry if kind == "i64" else f.emit(f"sext {kind} {entry} to i64")

    def pointer(self, at: Counter) -> str:
        """The element whose place is in the stream."""
        return self._element(self.integer(at))

    def _element(self, place: str, signed: bool = False) -> str:
        f, shift = self.function, self.streams.shift
        space = f.emit(f"lshr i64 {place}, {shift}")
        if signed:
            space = f.emit(f"and i64 {space}, {SPACE}")
        element = f.emit(f"and i64 {place}, {(1 << shift) - 1}")
        base = f.emit(f"load ptr, ptr {f.at('ptr', '%bases', space)}")
        return f.at(self.real, base, element)

    def number(self, at: Counter, distance: int) -> str:
        """The number whose place is in the stream; that at a distance from it is fetched."""
        self._fetch(at, distance)
        return self.function.emit(f"load {self.real}, ptr {self.pointer(at)}")

    def signed(self, at: Counter, distance: int) -> str:
        """As `number`, with the other sign where the highest bit of its place is set."""
        self._fetch(at, distance)
        f, bits = self.function, 8 * self.m.module.size
        place, kind = self.integer(at), f"i{bits}"
        number = f.emit(f"load {kind}, ptr {self._element(place, signed=True)}")
        negative = f.emit(f"lshr i64 {place}, 63")
        if bits < 64:
            negative = f.emit(f"trunc i64 {negative} to {kind}")
        sign = f.emit(f"shl {kind} {negative}, {bits - 1}")
        return f.emit(f"bitcast {kind} {f.emit(f'xor {kind} {number}, {sign}')} to {self.real}")

    def _fetch(self, at: Counter, distance: int) -> None:
        f = self.function
        if distance:
            f.declare("void", "llvm.prefetch.p0", "ptr", *("i32 immarg",) * 3)
            coming = self._element(self.integer(f.add(at, distance)), signed=True)
            f.do(f"call void @llvm.prefetch.p0(ptr {coming}, i32 0, i32 3, i32 1)")
