"""Walks as LLVM IR: some are written out, the others as a loop that interprets a stream.

LLVM takes long over operations written out one by one, and a processor gets little from it where it
has much to do at once. So short walks are written out, and narrow ones, in which each operation waits
for one of the last: there it counts that numbers stay in registers.

A stream holds operations as integers, read from first to last: runs of operations of one form, and
for each operation where its result and its operands lie.

    run        number of the form, how many operations
    operation  place of the result; for sums of many terms, how many; the places of the terms
    place      the space in the highest bits but one, which changes the sign of the y of a step;
               the element in the others. Of walks whose numbers are all in one array, no space

Operands lie anywhere. In a program of more numbers than the caches hold, those of the operations
to come are fetched ahead: every integer of a stream can be taken for a place.

All walks of a program that are done in one way share one function, which has a piece of code for
every form.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import ops
from . import abreast, near, straight
from .arithmetic import heavy, lane_by_lane
from .cuts import labels
from .distinct import distinct
from .environment import WALKS
from .forms import ALIKE, FOLDS, MIXED, STEP, Form, Way, value
from .interpreter import BASES, SPACE, VECTORS, Interpreter
from .ir import Counter, Function, Module
from .loops import MINUS, SKIP_LEFT, SKIP_RIGHT, Operand, Space, Walk
from .nests import Nest, Spot, Tile
from .phases import Touched
from .steps import in_steps
from .tiles import Axis, Plan, Ref
from .walks import PRODUCT, term_code

if TYPE_CHECKING:
    from .binding import Binder

Key = tuple[int, bytes, int, int]  # a form as it is looked up

WRITTEN_OUT = 512  # terms of a walk whose code is written out
ALL_WRITTEN_OUT = 2048  # terms of all such walks of a program
# A walk is narrow that has so many operations of a level, and so many terms of an operation, or fewer,
# on average. So many terms of all narrow walks of a program are written out.
NARROW, NARROW_TERMS, NARROW_WRITTEN_OUT = 10.0, 4.0, 1 << 17
FEW = 2  # terms of a sum, or numbers of a maximum, whose code has no loop
CHUNK = 1 << 16  # operations that are put into a stream at a time
FAR = 1 << 21  # bytes of a space that are too many for the nearer caches
AHEAD = 96  # operations, or terms of long sums, ahead of which operands are fetched
TOLD_APART = 1 << 27  # elements of a space, by 32 bits


def prepare(binder: Binder, step: Walk) -> tuple[Callable[[Function], None], list[Touched]]:
    """What writes the code of a walk, and the memory that it needs beside that of its numbers."""
    size, streams = len(step.left), binder.streams
    if size <= WRITTEN_OUT and streams.written + size <= ALL_WRITTEN_OUT:
        streams.written += size
        return partial(_written_out if _batched(step) else straight.write, binder, step), []
    streams.walked += size
    if size + streams.narrow <= NARROW_WRITTEN_OUT and _narrow(step):
        streams.narrow += size
        return partial(straight.in_parts, binder, step), []
    step = in_steps(step, binder.constant(1.0), binder.constant(-0.0))
    walk = (abreast if _batched(step) else near).prepare(binder, step)
    if walk is not None:
        return walk.write, [walk.scratch]
    return partial(_streamed, binder, step), []


def _batched(step: Walk) -> bool:
    return Space(int(step.space[0])).batched


def _narrow(step: Walk) -> bool:
    count, levels = len(step.code), len(distinct(step.level))
    simple = len(step.left) <= NARROW_TERMS * count
    return not _batched(step) and simple and count <= NARROW * levels


# --- short walks ---------------------------------------------------------------------------------


def _written_out(binder: Binder, step: Walk, function: Function) -> None:
    """The code of a walk of a batch."""
    count, axes = len(step.code), (Axis(binder.batch),)
    known: dict[tuple[int, int], Ref] = {}

    def ref(space: int, place: int) -> Ref:
        key = (int(space), int(place))
        if key not in known:
            known[key] = binder.bind(Operand(Space(key[0]), key[1]), True, ())
        return known[key]

    results = [ref(step.space[i], step.at[i]) for i in range(count)]
    lefts = [ref(s, a) for s, a in zip(step.left_space, step.left)]
    rights = [ref(s, a) if a >= 0 else None for s, a in zip(step.right_space, step.right)]
    refs = list(known.values())
    where = {id(r): k for k, r in enumerate(refs)}
    wide = binder.batch > 1 and binder.module.width > 1
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
            result = value(m, int(step.code[i]), float(step.const[i]), terms)
            seen[id(results[i])] = result
            tile.write(results[i], tile.cursors[where[id(results[i])]], spot, result)

    def body(tile: Tile) -> None:
        for spot in tile.spots:
            at(tile, spot)

    nest.run(body)


# --- streams -------------------------------------------------------------------------------------


class Streams:
    """The walks of a program that are interpreted, as one array of integers, and their forms.

    No space has more than so many `elements`. They are numbered in 32 bits where these are at most
    `TOLD_APART`. `ahead` says how far operands are fetched ahead.
    """

    def __init__(self, elements: int, module: Module) -> None:
        short = elements <= TOLD_APART
        self.module = module
        self.ahead = AHEAD if elements * module.size > FAR else 0
        self.kind, self.shift = ("i32", 27) if short else ("i64", 56)
        self.dtype: Any = np.int32 if short else np.int64
        self.negative = int(np.iinfo(self.dtype).min)  # the highest bit
        self.forms: dict[Way, dict[Key, int]] = {way: {} for way in Way}
        self.parts: list[NDArray[Any]] = []
        self.size = self.functions = 0
        self.written = self.narrow = self.walked = 0  # terms of short, narrow and all longer walks

    def add(self, step: Walk, elements: NDArray[np.int64], way: Way) -> tuple[int, int]:
        """Where the stream of a walk begins, and how many runs it has.

        `elements[space]` is how far apart the elements of a space are.
        """
        start, runs = self.size, 0
        for low in range(0, len(step.code), CHUNK):
            high = min(low + CHUNK, len(step.code))
            part, count = self._part(step, low, high, elements, way)
            self.put(part)
            runs += count
        return start, runs

    def put(self, part: NDArray[Any]) -> int:
        """Where integers begin that are put behind the others."""
        self.parts.append(part.astype(self.dtype, copy=False))
        self.size += len(part)
        return self.size - len(part)

    def array(self) -> NDArray[Any]:
        """All streams, one after the other, and places to fetch past the end."""
        periods = (form.period for way in Way for form in self.known(way))
        end = self.ahead * max(periods, default=0)
        return np.concatenate((*self.parts, np.zeros(end, self.dtype)))

    def known(self, way: Way) -> list[Form]:
        """The forms of walks that are done so, by number."""
        return [
            Form(code, float(np.frombuffer(const)[0]), count, terms)
            for code, const, count, terms in self.forms[way]
        ]

    def lanes(self, form: Form) -> int:
        """How many operations of a form are done at once: long ones that have a vector form."""
        code, const, module = form.code, form.const, self.module
        whole = heavy(code, const) and not lane_by_lane(module, code, const)
        return module.width if whole else 1

    def _places(
        self,
        space: NDArray[np.uint8],
        place: NDArray[np.int32],
        elements: NDArray[np.int64],
        way: Way,
    ) -> NDArray[Any]:
        within = place * elements[space]
        return within if way == Way.NEAR else space.astype(np.int64) << self.shift | within

    def _part(
        self, step: Walk, low: int, high: int, elements: NDArray[np.int64], way: Way
    ) -> tuple[NDArray[Any], int]:
        counts = np.diff(step.first[low : high + 1])
        begin, end = int(step.first[low]), int(step.first[high])
        owner = np.repeat(np.arange(high - low), counts)
        own = np.arange(end - begin) - (step.first[low:high] - begin)[owner]
        product = step.right[begin:end] >= 0
        style = step.style[begin:end]
        code = term_code(style, product)
        code[step.code[low:high][owner] != ops.ADD] = 0
        form, shape = self._forms(step, low, high, counts, owner, own, code, way)
        # How many integers each term takes, each operation, and the head of each run.
        mixed, many = shape == MIXED, shape >= ALIKE
        width = np.where(mixed[owner], 3, 1 + product)
        head = np.ones(high - low, bool)
        head[1:] = form[1:] != form[:-1]
        if way != Way.ABREAST:
            # What is done at once must not depend on one another.
            whole = np.array([self.lanes(known) > 1 for known in self.known(way)])
            level = step.level[low:high]
            head[1:] |= whole[form[1:]] & (level[1:] != level[:-1])
        before = np.cumsum(width) - width
        size = 1 + many + np.bincount(owner, width, high - low).astype(np.int64) + 2 * head
        at = np.cumsum(size) - size + 2 * head
        part = np.empty(int(size.sum()), self.dtype)
        heads = np.flatnonzero(head)
        part[at[heads] - 2] = form[heads]
        part[at[heads] - 1] = np.diff(heads, append=high - low)
        part[at] = self._places(step.space[low:high], step.at[low:high], elements, way)
        part[at[many] + 1] = counts[many]
        if len(owner):
            within = before - before[step.first[low:high][owner] - begin]
            term = (at + 1 + many)[owner] + within
            part[term] = self._places(
                step.left_space[begin:end], step.left[begin:end], elements, way
            )
            right = self._places(step.right_space[begin:end], step.right[begin:end], elements, way)
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
        way: Way,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The number of each operation's form, and its `many`."""
        op, n = step.code[low:high], high - low
        folds = np.isin(op, tuple(FOLDS))
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
        forms = self.forms[way]
        known = [
            forms.setdefault(
                (int(op[k]), const[k].tobytes(), int(shape[k]), int(terms[k])), len(forms)
            )
            for k in first.tolist()
        ]
        return np.array(known)[number], shape


def _streamed(binder: Binder, step: Walk, function: Function) -> None:
    """A call of the interpreter for each example."""
    streams, memory = binder.streams, binder.memory
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
    start, runs = streams.add(step, elements, Way.APART)
    stream = function.at(streams.kind, function.pointer(WALKS), start)
    bases = f"%bases{start}"
    function.entry.append(f"  {bases} = alloca [{SPACE + 1} x ptr], align 8")

    def example(number: Counter, _: list[str]) -> list[str]:
        for space, layout in layouts.items():
            moved = binder.module.moved.get((space, layout.offset), 0)
            shift: Counter = layout.address(0) + moved
            if space.batched:
                shift = function.add(function.multiply(number, layout.example), shift)
            pointer = function.at(binder.module.real, function.pointer(space), shift)
            function.do(f"store ptr {pointer}, ptr {function.at('ptr', bases, int(space))}")
        function.do(f"call void @apart(ptr {bases}, ptr {stream}, i64 {runs})")
        return []

    function.loop(binder.batch if _batched(step) else 1, 1, [], [], example)


def finish(binder: Binder) -> None:
    """The functions that interpret the streams, if there are any."""
    for way, forms in binder.streams.forms.items():
        if forms:
            vectors = f", i64 {VECTORS}" if way == Way.ABREAST else ""
            parameters = f"ptr {BASES}, ptr %stream, i64 %runs{vectors}"
            function = Function(binder.module, way.name.lower(), parameters)
            Interpreter(function, binder.streams, way).write()
            binder.module.finish(function)
