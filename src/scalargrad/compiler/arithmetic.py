"""The op table as LLVM IR: what every op computes, on one number or a vector of them.

The forms are those of `rules.forward`, instruction for instruction, so that the bits are. The
functions of C's mathematics library are called, lane by lane, under names of our own: nothing in
LLVM knows these names, so nothing replaces, folds or vectorises the calls. Where the library is
one whose `exp`, `pow`, `tanh`, `log`, `log1p`, `sin` and `cos` are known, `exactmath`, `exactlog`
and `exactcircle` do on all lanes at once what they do. In fast mode `exp`, `log`, `tanh`, `sin`,
`cos`, `erfc` and what is made of them are computed by `vectormath` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

from .. import ops
from . import exactcircle, exactlog, exactmath, vectormath
from .environment import PAIR, PREFIX
from .ir import Function, Module, suffix, vector

Form = Callable[..., str]  # (arithmetic, *operands, constant) -> result


class Arithmetic:
    """IEEE arithmetic on vectors of `width` numbers, written into a function."""

    def __init__(
        self, function: Function, width: int, lanes: str = "", module: Module | None = None
    ) -> None:
        """`lanes` is a mask of those that count, if not all do; `module` is the function's."""
        self.function = function
        self.lanes = lanes
        self.module = function.module if module is None else module
        self.width = width
        self.real = self.module.real
        self.kind = vector(self.real, width)
        self.mask = vector("i1", width)
        # Fast mode lets LLVM fuse a product with the addition that needs it.
        self.flags = "contract " if self.module.fast else ""
        self.nothing = self.constant(-0.0)  # what leaves all numbers as they are, when added

    def constant(self, number: float) -> str:
        """A number in every lane."""
        return self.module.constant(number, self.width)

    def add(self, a: str, b: str) -> str:
        """a + b."""
        return self.function.emit(f"fadd {self.flags}{self.kind} {a}, {b}")

    def subtract(self, a: str, b: str) -> str:
        """a - b."""
        return self.function.emit(f"fsub {self.flags}{self.kind} {a}, {b}")

    def multiply(self, a: str, b: str) -> str:
        """a * b."""
        return self.function.emit(f"fmul {self.flags}{self.kind} {a}, {b}")

    def divide(self, a: str, b: str) -> str:
        """a / b."""
        return self.function.emit(f"fdiv {self.kind} {a}, {b}")

    def negative(self, a: str) -> str:
        """-a."""
        return self.function.emit(f"fneg {self.kind} {a}")

    def compare(self, relation: str, a: str, b: str) -> str:
        """A mask; the relation is LLVM's: olt, oge, une, uno, ..."""
        return self.function.emit(f"fcmp {relation} {self.kind} {a}, {b}")

    def select(self, mask: str, a: str, b: str) -> str:
        """a where the mask is set, else b."""
        if a == b:
            return a
        return self.function.emit(f"select {self.mask} {mask}, {self.kind} {a}, {self.kind} {b}")

    def intrinsic(self, name: str, *operands: str) -> str:
        """An intrinsic of LLVM on whole vectors."""
        full = f"llvm.{name}.{suffix(self.real, self.width)}"
        return self.function.call(self.kind, full, [self.kind] * len(operands), operands)

    def fused(self, a: str, b: str, c: str) -> str:
        """a * b + c, rounded once where the CPU can; only fast mode may ask for it."""
        return self.intrinsic("fmuladd", a, b, c)

    def splat(self, number: str) -> str:
        """One number in every lane."""
        return self.function.splat(self.real, number, self.width)

    def folded(self, op: int, value: str, left: str, right: str | None, minus: bool) -> str:
        """value + left * right, or the larger, or the smaller of the two; the term negated."""
        first = op == ops.ADD and value == self.nothing
        if op == ops.ADD and right is not None and self.module.fast and not first:
            return self.fused(self.negative(left) if minus else left, right, value)
        term = left if right is None else self.multiply(left, right)
        if first:
            return self.negative(term) if minus else term
        if op == ops.ADD:
            return self.subtract(value, term) if minus else self.add(value, term)
        return FORMS[op](self, value, self.negative(term) if minus else term, 0.0)

    def library(self, name: str, *operands: str) -> str:
        """A function of the mathematics library in every lane, computed in double precision."""
        if self.width == 1 and self.real == "double":
            kinds = ["double"] * len(operands)
            return self.function.call("double", f"{PREFIX}{name}", kinds, operands)
        if self.width == 1 or name not in self.module.forms:
            return self.helper("each", _each, name, *operands)
        # A lane that does not count shall not be the one that needs care.
        if self.lanes:
            one = self.constant(1.0)
            operands = tuple(self.select(self.lanes, operand, one) for operand in operands)
        return self.helper("all", _all, name, *operands)

    def sine_and_cosine(self, operand: str) -> tuple[str, str]:
        """Both at once, of every lane."""
        if self.lanes:
            operand = self.select(self.lanes, operand, self.constant(1.0))
        name, both = f"circle.{self.width}", f"{{ {self.kind}, {self.kind} }}"
        if name not in self.module.helpers:
            self.module.helpers.add(name)
            function = Function(self.module, name, f"{self.kind} %x0")
            formed = self.width > 1 and self.module.forms.issuperset(_CIRCLE)
            define = _all_pair if self.module.approximates or formed else _each_pair
            halves = define(Arithmetic(function, self.width), "%x0")
            result = "poison"
            for k, half in enumerate(halves):
                result = function.emit(f"insertvalue {both} {result}, {self.kind} {half}, {k}")
            self.module.finish(function, both, result)
        pair = self.function.emit(f"call {both} @{name}({self.kind} {operand})")
        sine, cosine = (self.function.emit(f"extractvalue {both} {pair}, {k}") for k in range(2))
        return sine, cosine

    def helper(self, how: str, define: Form, name: str, *operands: str) -> str:
        """Call a function that is defined when it is first needed."""
        helper = f"{how}.{name}.{self.width}"
        if helper not in self.module.helpers:
            self.module.helpers.add(helper)
            parameters = [f"%x{k}" for k in range(len(operands))]
            shown = ", ".join(f"{self.kind} {parameter}" for parameter in parameters)
            function = Function(self.module, helper, shown)
            result = define(Arithmetic(function, self.width), name, *parameters)
            self.module.finish(function, self.kind, result)
        shown = ", ".join(f"{self.kind} {operand}" for operand in operands)
        return self.function.emit(f"call {self.kind} @{helper}({shown})")


def _taken(m: Arithmetic, numbers: str, lane: int) -> str:
    """The number in a lane, in double precision."""
    if m.width > 1:
        numbers = m.function.emit(f"extractelement {m.kind} {numbers}, i32 {lane}")
    return m.function.emit(f"fpext float {numbers} to double") if m.real == "float" else numbers


def _put(m: Arithmetic, numbers: str, lane: int, number: str) -> str:
    """The numbers with another one, of double precision, in a lane."""
    if m.real == "float":
        number = m.function.emit(f"fptrunc double {number} to float")
    if m.width == 1:
        return number
    return m.function.emit(f"insertelement {m.kind} {numbers}, {m.real} {number}, i32 {lane}")


def _each(m: Arithmetic, name: str, *operands: str) -> str:
    """A function of the mathematics library, called lane by lane."""
    result, kinds = "poison", ["double"] * len(operands)
    for lane in range(m.width):
        numbers = [_taken(m, operand, lane) for operand in operands]
        number = m.function.call("double", f"{PREFIX}{name}", kinds, numbers)
        result = _put(m, result, lane, number)
    return result


def _each_pair(m: Arithmetic, operand: str) -> tuple[str, str]:
    """Sines and cosines by the mathematics library, lane by lane."""
    if not m.module.pairs:
        return _each(m, "sin", operand), _each(m, "cos", operand)
    function, sines, cosines = m.function, "poison", "poison"
    function.declare("void", PREFIX + PAIR, "double", "ptr", "ptr")
    sine, cosine = function.emit("alloca double"), function.emit("alloca double")
    for lane in range(m.width):
        number = _taken(m, operand, lane)
        function.do(f"call void @{PREFIX}{PAIR}(double {number}, ptr {sine}, ptr {cosine})")
        sines = _put(m, sines, lane, function.emit(f"load double, ptr {sine}"))
        cosines = _put(m, cosines, lane, function.emit(f"load double, ptr {cosine}"))
    return sines, cosines


VECTOR_FORMS = {**exactmath.FORMS, **exactlog.FORMS, **exactcircle.FORMS}
_CIRCLE = "sin", "cos"


def _all(m: Arithmetic, name: str, *operands: str) -> str:
    """A function's vector form; where a lane needs care, the mathematics library's own."""
    return _formed(m, (name,), operands, lambda: [m.helper("each", _each, name, *operands)])[0]


def _all_pair(m: Arithmetic, operand: str) -> tuple[str, str]:
    """Sines and cosines of whole vectors; where a lane is far from 0, the mathematics library's."""

    def others() -> list[str]:
        return [*_each_pair(m, operand)]

    if m.module.approximates:
        sine, cosine, near = vectormath.sine_and_cosine(m, operand)
        sine, cosine = _careful(m, near, [sine, cosine], others)
    else:
        sine, cosine = _formed(m, _CIRCLE, (operand,), others)
    return sine, cosine


def _formed(
    m: Arithmetic, names: Sequence[str], operands: Sequence[str], others: Callable[[], list[str]]
) -> list[str]:
    """The vector forms of functions, in double precision, or others where a lane needs care."""
    function, numbers = m.function, list(operands)
    doubles = Arithmetic(function, m.width, module=replace(m.module, real="double", fast=False))
    if m.real == "float":
        numbers = [function.emit(f"fpext {m.kind} {x} to {doubles.kind}") for x in numbers]
    results, masks = zip(*(VECTOR_FORMS[name](doubles, *numbers) for name in names))
    simple = reduce(lambda one, two: function.emit(f"and {m.mask} {one}, {two}"), masks)
    if m.real == "float":
        results = tuple(
            function.emit(f"fptrunc {doubles.kind} {result} to {m.kind}") for result in results
        )
    return _careful(m, simple, list(results), others)


def _careful(
    m: Arithmetic, simple: str, results: list[str], others: Callable[[], list[str]]
) -> list[str]:
    """The results if all lanes are simple, or else the others."""
    lanes = m.function.emit(f"bitcast {m.mask} {simple} to i{m.width}")
    every = m.function.emit(f"icmp eq i{m.width} {lanes}, -1")
    return m.function.choose(every, [m.kind] * len(results), lambda: results, others)


# --- the ops -------------------------------------------------------------------------------------


def _one_over(m: Arithmetic, a: str) -> str:
    return m.divide(m.constant(1.0), a)


def _exact_power(m: Arithmetic, a: str, n: float) -> str | None:
    """The powers that `rules.constant_power` computes as products and quotients."""
    if n == 2.0:
        return m.multiply(a, a)
    if n == -1.0:
        return _one_over(m, a)
    return a if n == 1.0 else None


def _pow(m: Arithmetic, a: str, n: float) -> str:
    result = _exact_power(m, a, n)
    if result is None and m.module.fast:
        result = vectormath.power(m, a, n)
    return m.library("pow", a, m.constant(n)) if result is None else result


def _power(m: Arithmetic, a: str, b: str, _: float) -> str:
    return m.library("pow", a, b)


def _relu(m: Arithmetic, a: str, _: float) -> str:
    zero = m.constant(0.0)
    return m.select(m.compare("olt", a, zero), zero, a)


def _leaky_relu(m: Arithmetic, a: str, slope: float) -> str:
    scaled = m.multiply(m.constant(slope), a)
    return m.select(m.compare("ogt", a, m.constant(0.0)), a, scaled)


def _exp(m: Arithmetic, a: str, _: float = 0.0) -> str:
    return vectormath.exp(m, a) if m.module.fast else m.library("exp", a)


def _log(m: Arithmetic, a: str, _: float = 0.0) -> str:
    return vectormath.log(m, a) if m.module.fast else m.library("log", a)


def _sqrt(m: Arithmetic, a: str, _: float = 0.0) -> str:
    root = vectormath.sqrt(m, a) if m.module.fast else None
    return m.intrinsic("sqrt", a) if root is None else root


def _log1p(m: Arithmetic, a: str) -> str:
    return vectormath.log1p(m, a) if m.module.fast else m.library("log1p", a)


def _tanh(m: Arithmetic, a: str, _: float) -> str:
    return vectormath.tanh(m, a) if m.module.fast else m.library("tanh", a)


def _sigmoid(m: Arithmetic, a: str, _: float) -> str:
    positive = m.compare("oge", a, m.constant(0.0))
    one = m.constant(1.0)
    e = _exp(m, m.select(positive, m.negative(a), a))
    return m.divide(m.select(positive, one, e), m.add(one, e))


def _softplus(m: Arithmetic, a: str, _: float) -> str:
    zero = m.constant(0.0)
    positive = m.compare("ogt", a, zero)
    e = _exp(m, m.select(positive, m.negative(a), a))
    return m.add(m.select(positive, a, zero), _log1p(m, e))


def _erfc(m: Arithmetic, a: str, _: float = 0.0) -> str:
    return vectormath.erfc(m, a) if m.module.approximates else m.library("erfc", a)


def _gelu(m: Arithmetic, a: str, _: float) -> str:
    tail = _erfc(m, m.multiply(m.negative(a), m.constant(ops.SQRT_HALF)))
    return m.multiply(a, m.multiply(m.constant(0.5), tail))


def _extremum(beyond: str) -> Form:
    def form(m: Arithmetic, a: str, b: str, _: float = 0.0) -> str:
        # One instruction where `a` is nothing special, so that a fold waits for that alone.
        chosen = m.select(m.compare(beyond, b, a), b, a)
        return m.select(m.compare("uno", b, b), b, chosen)

    return form


def _comparison(relation: str) -> Form:
    def form(m: Arithmetic, a: str, b: str, _: float) -> str:
        return m.select(m.compare(relation, a, b), m.constant(1.0), m.constant(0.0))

    return form


def _where(m: Arithmetic, c: str, a: str, b: str, _: float) -> str:
    return m.select(m.compare("une", c, m.constant(0.0)), a, b)


def _sine(m: Arithmetic, a: str, _: float) -> str:
    return m.sine_and_cosine(a)[0] if m.module.approximates else m.library("sin", a)


def _cosine(m: Arithmetic, a: str, _: float) -> str:
    return m.sine_and_cosine(a)[1] if m.module.approximates else m.library("cos", a)


FORMS: dict[int, Form] = {
    ops.ADD: lambda m, a, b, _: m.add(a, b),
    ops.SUB: lambda m, a, b, _: m.subtract(a, b),
    ops.MUL: lambda m, a, b, _: m.multiply(a, b),
    ops.DIV: lambda m, a, b, _: m.divide(a, b),
    ops.NEG: lambda m, a, _: m.negative(a),
    ops.POW: _pow,
    ops.POWER: _power,
    ops.ABS: lambda m, a, _: m.intrinsic("fabs", a),
    ops.RELU: _relu,
    ops.LEAKY_RELU: _leaky_relu,
    ops.EXP: _exp,
    ops.LOG: _log,
    ops.SQRT: _sqrt,
    ops.TANH: _tanh,
    ops.SIGMOID: _sigmoid,
    ops.SIN: _sine,
    ops.COS: _cosine,
    ops.SOFTPLUS: _softplus,
    ops.GELU: _gelu,
    ops.ERFC: _erfc,
    ops.MAXIMUM: _extremum("ogt"),
    ops.MINIMUM: _extremum("olt"),
    ops.LESS: _comparison("olt"),
    ops.LESS_EQUAL: _comparison("ole"),
    ops.WHERE: _where,
    ops.DETACH: lambda m, a, _: a,
}

# The functions of the mathematics library that ops call. Such code is long, or calls others: not
# worth writing out several times in a row.
CALLS: dict[int, tuple[str, ...]] = {
    **dict.fromkeys((ops.POW, ops.POWER), ("pow",)),
    **dict.fromkeys((ops.EXP, ops.SIGMOID), ("exp",)),
    ops.LOG: ("log",),
    ops.TANH: ("tanh",),
    ops.SIN: ("sin",),
    ops.COS: ("cos",),
    ops.SOFTPLUS: ("exp", "log1p"),
    **dict.fromkeys((ops.GELU, ops.ERFC), ("erfc",)),
}


def heavy(op: int, const: float) -> bool:
    """Whether an op is long or calls a function."""
    return op in CALLS and not (op == ops.POW and const in (2.0, -1.0, 1.0))


def lane_by_lane(module: Module, op: int, const: float) -> bool:
    """Whether an op does one lane after the other."""
    if module.fast or not heavy(op, const):
        return False
    return not module.forms.issuperset(CALLS[op])
