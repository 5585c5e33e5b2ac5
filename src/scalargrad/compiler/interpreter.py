"""What interprets the streams of walks: one function, with a piece of code for every form.

It goes through a stream for one example, or for several abreast: then every place has the numbers
of as many examples as some vectors have lanes, and each operation is done to all of them, which
costs little more than to read in the stream what it is.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .. import ops
from .arithmetic import FORMS, Arithmetic
from .forms import ALIKE, FOLDS, MIXED, STEP, Form, Way, folded, value
from .ir import Counter, Function, vector
from .loops import MINUS, SKIP_LEFT, SKIP_RIGHT
from .walks import PRODUCT

if TYPE_CHECKING:
    from .serial import Streams

SPACE = 15  # of a place shifted down, the bits that are its space
BASES = "%bases"  # where the arrays of all spaces begin, or where the one array does
VECTORS = "%vectors"  # how many are abreast


class Interpreter:
    """The function under construction."""

    def __init__(self, function: Function, streams: Streams, way: Way) -> None:
        self.function, self.streams, self.way = function, streams, way
        module, abreast = function.module, way == Way.ABREAST
        self.m = Arithmetic(function, module.width if abreast else 1)
        self.real, self.size = module.real, module.size
        self.vectors: Counter = VECTORS if abreast else 1

    def write(self) -> None:
        """The loop over the runs."""
        self.function.loop("%runs", 1, ["i64"], ["0"], self._run)

    def _run(self, _: Counter, carried: list[str]) -> list[str]:
        f, at = self.function, carried[0]
        number, count = self._integer(at), self._integer(f.add(at, 1))
        first = str(f.add(at, 2))
        forms = self.streams.known(self.way)
        names, done = [f.label() for _ in forms], f.label()
        cases = " ".join(f"i64 {k}, label %{name}" for k, name in enumerate(names))
        f.do(f"switch i64 {number}, label %{names[0]} [ {cases} ]")
        ends = []
        for form, name in zip(forms, names):
            f.begin(name)
            end, rest = [first], count
            lanes = 1 if self.way == Way.ABREAST else self.streams.lanes(form)
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
                number = self._load(self._operand(f.add(at, k), self._ahead(form)))
                operand = f.emit(
                    f"insertelement {m.kind} {operand}, {self.real} {number}, i32 {lane}"
                )
            operands.append(operand)
        values = FORMS[form.code](m, *operands, form.const)
        for lane, at in enumerate(places):
            value = f.emit(f"extractelement {m.kind} {values}, i32 {lane}")
            self._store(value, self._pointer(at))
        return [str(f.add(places[-1], form.period))]

    def _step(self, form: Form, _: Counter, carried: list[str]) -> list[str]:
        """One operation; where the next one is."""
        f, at = self.function, carried[0]
        result, after = self._pointer(at), str(f.add(at, 1))
        if form.many >= ALIKE:
            return [self._fold(form, result, after)]
        ahead, count = self._ahead(form), form.period - 1
        signed = {2} if form.many == STEP else ()
        operands = [self._operand(f.add(after, k), ahead, k in signed) for k in range(count)]
        sign = self._sign(f.add(after, 2)) if signed else ""

        def one(number: Counter, _: list[str]) -> list[str]:
            if sign:
                z, x = (self._load(operand, number) for operand in operands[:2])
                y = self._signed(operands[2], number, sign)
                result_ = folded(self.m, ops.ADD, z, (x, y, form.term(1) >> 1))
            else:
                waiting = iter(operands)
                terms = []
                for k in range(form.many):
                    code = form.term(k)
                    left = self._load(next(waiting), number)
                    right = self._load(next(waiting), number) if code & PRODUCT else None
                    terms.append((left, right, code >> 1))
                result_ = value(self.m, form.code, form.const, terms)
            self._store(result_, result, number)
            return []

        f.loop(self.vectors, 1, [], [], one)
        return [str(f.add(after, count))]

    def _fold(self, form: Form, result: str, after: str) -> str:
        """A sum of many terms, or the largest or smallest of many; where the next operation is."""
        f, m, ahead = self.function, self.m, self._ahead(form)
        count, begin = self._integer(after), str(f.add(after, 1))
        start = form.const if form.code == ops.ADD else FOLDS[form.code]

        def one(number: Counter, _: list[str]) -> list[str]:
            def term(_: Counter, carried: list[str]) -> list[str]:
                so_far, at = carried
                if form.many == MIXED:
                    return self._mixed(form.code, ahead, so_far, at, number)
                code = form.term(0)
                left, right = self._load(self._operand(at, ahead), number), None
                if code & PRODUCT:
                    right = self._load(self._operand(f.add(at, 1), ahead), number)
                own = folded(m, form.code, so_far, (left, right, code >> 1))
                return [own, str(f.add(at, form.period))]

            folds, end = f.loop(count, 1, [m.kind, "i64"], [m.constant(start), begin], term)
            self._store(folds, result, number)
            return [end]

        return f.loop(self.vectors, 1, ["i64"], [begin], one)[0]

    def _mixed(self, code: int, ahead: int, so_far: str, at: str, number: Counter) -> list[str]:
        """What comes of a value and a term that says itself what it is."""
        f, m = self.function, self.m
        left = self._load(self._operand(at, ahead), number)
        right = self._load(self._operand(f.add(at, 1), ahead), number)
        style = self._integer(f.add(at, 2))
        right = m.select(self._flag(style, PRODUCT), right, m.constant(1.0))
        product = m.multiply(left, right)
        minus = self._flag(style, MINUS << 1)
        after = m.folded(code, so_far, m.select(minus, m.negative(product), product), None, False)
        for flag, factor in ((SKIP_RIGHT, right), (SKIP_LEFT, left)):
            absent = m.compare("oeq", factor, m.constant(0.0))
            both = f.emit(f"and {m.mask} {absent}, {self._flag(style, flag << 1)}")
            after = m.select(both, so_far, after)
        return [after, str(f.add(at, 3))]

    def _flag(self, style: str, flag: int) -> str:
        f = self.function
        found = f.emit(f"icmp ne i64 {f.emit(f'and i64 {style}, {flag}')}, 0")
        return f.splat("i1", found, self.m.width)

    # --- reading the stream ----------------------------------------------------------------------

    def _ahead(self, form: Form) -> int:
        return self.streams.ahead * form.period

    def _integer(self, at: Counter) -> str:
        """An integer of the stream."""
        f, kind = self.function, self.streams.kind
        entry = f.emit(f"load {kind}, ptr {f.at(kind, '%stream', at)}")
        return entry if kind == "i64" else f.emit(f"sext {kind} {entry} to i64")

    def _element(self, at: Counter) -> str:
        """The number in its array of the element whose place is in the stream."""
        return self.function.emit(f"and i64 {self._integer(at)}, {(1 << self.streams.shift) - 1}")

    def _pointer(self, at: Counter, signed: bool = False) -> str:
        """The element whose place is in the stream."""
        f = self.function
        if self.way == Way.NEAR:
            return f.at(self.real, BASES, self._element(at) if signed else self._integer(at))
        space = f.emit(f"lshr i64 {self._integer(at)}, {self.streams.shift}")
        if signed:
            space = f.emit(f"and i64 {space}, {SPACE}")
        base = f.emit(f"load ptr, ptr {f.at('ptr', BASES, space)}")
        return f.at(self.real, base, self._element(at))

    def _operand(self, at: Counter, ahead: int, signed: bool = False) -> str:
        """The element whose place is in the stream; that so far ahead of it is fetched."""
        if ahead:
            f = self.function
            f.declare("void", "llvm.prefetch.p0", "ptr", *("i32 immarg",) * 3)
            coming = self._pointer(f.add(at, ahead), signed=True)
            f.do(f"call void @llvm.prefetch.p0(ptr {coming}, i32 0, i32 3, i32 1)")
        return self._pointer(at, signed)

    def _sign(self, at: Counter) -> str:
        """The highest bit of a place, as that of a number, in every lane."""
        f, bits = self.function, 8 * self.size
        negative = f.emit(f"lshr i64 {self._integer(at)}, 63")
        if bits < 64:
            negative = f.emit(f"trunc i64 {negative} to i{bits}")
        return f.splat(f"i{bits}", f.emit(f"shl i{bits} {negative}, {bits - 1}"), self.m.width)

    # --- numbers ---------------------------------------------------------------------------------

    def _load(self, pointer: str, number: Counter = 0) -> str:
        """The number at a pointer, or vector `number` there."""
        f, kind = self.function, self.m.kind
        return f.emit(f"load {kind}, ptr {f.at(kind, pointer, number)}, align {self.size}")

    def _signed(self, pointer: str, number: Counter, sign: str) -> str:
        """As `_load`, with the other sign where the highest bit of `sign` is set."""
        f, kind = self.function, vector(f"i{8 * self.size}", self.m.width)
        bits = f.emit(f"bitcast {self.m.kind} {self._load(pointer, number)} to {kind}")
        return f.emit(f"bitcast {kind} {f.emit(f'xor {kind} {bits}, {sign}')} to {self.m.kind}")

    def _store(self, number: str, pointer: str, place: Counter = 0) -> None:
        f, kind = self.function, self.m.kind
        f.do(f"store {kind} {number}, ptr {f.at(kind, pointer, place)}, align {self.size}")
