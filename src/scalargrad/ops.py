"""The op table: everything that is known about each scalar operation, one row per op.

A row says what an op computes (`forward`), how its result changes with each operand
(`partials`, `slopes`), how it is written (`text`, `symbol`) and which NumPy function it answers
to (`ufunc`). The engine, the interpreter, the adjoint pass, every back end and the tests read this
table; nothing else in the package knows what `tanh` means. (`rules.py` holds the same arithmetic
once more as compiled code; a test compares the two bit for bit.)

The partials are written in plain arithmetic that works on floats and on `Value`s alike, because
the derivative of a program is itself a program: given floats they are numbers, given Values they
build the graph of the derivative, which can be differentiated again.

The functions `exp`, `log`, `divide`, ... below are IEEE 754 arithmetic: like NumPy and unlike
`math`, they answer overflow, division by zero and the logarithm of zero with inf or nan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .coerce import real, shown

INF, NAN = math.inf, math.nan
SQRT_HALF = 0.7071067811865476  # 1/sqrt(2)
INV_SQRT_2PI = 0.3989422804014327  # density of the standard normal distribution at 0
MINUS_2_OVER_SQRT_PI = -1.1283791670955126

# --- IEEE arithmetic on floats ------------------------------------------------------------------


def divide(a: float, b: float) -> float:
    """a / b; x/0 is an infinity with the sign of both, 0/0 is nan."""
    if b != 0.0:
        return a / b
    if a == 0.0 or a != a:
        return NAN
    return math.copysign(INF, a) * math.copysign(1.0, b)


def exp(a: float) -> float:
    """e^a; inf when it overflows."""
    try:
        return math.exp(a)
    except OverflowError:
        return INF


def log(a: float) -> float:
    """Natural logarithm; -inf at 0, nan below."""
    if a > 0.0:
        return math.log(a)
    return -INF if a == 0.0 else NAN


def log1p(a: float) -> float:
    """log(1 + a), accurate for small a; -inf at -1, nan below."""
    if a > -1.0:
        return math.log1p(a)
    return -INF if a == -1.0 else NAN


def sqrt(a: float) -> float:
    """Square root; nan below 0."""
    return math.sqrt(a) if a >= 0.0 else NAN


def sin(a: float) -> float:
    """Sine; nan at +-inf."""
    return math.sin(a) if math.isfinite(a) else NAN


def cos(a: float) -> float:
    """Cosine; nan at +-inf."""
    return math.cos(a) if math.isfinite(a) else NAN


def pow(a: float, b: float) -> float:
    """a^b as C's `pow`: nan for a negative base with a fractional exponent, never complex."""
    try:
        return math.pow(a, b)
    except OverflowError:
        return -INF if a < 0.0 and math.fmod(b, 2.0) != 0.0 else INF
    except ValueError:
        if a != 0.0:
            return NAN
        return math.copysign(INF, a) if math.fmod(b, 2.0) in (1.0, -1.0) else INF


tanh, erfc = math.tanh, math.erfc


def power(a: float, n: float) -> float:
    """a^n for a constant n: as `pow`, with the exact cases a, a*a and 1/a done as such."""
    if n == 2.0:
        return a * a
    if n == -1.0:
        return divide(1.0, a)
    if n == 1.0:
        return a
    return pow(a, n)


def relu(a: float) -> float:
    """max(0, a); nan stays nan."""
    return 0.0 if a < 0.0 else a


def sigmoid(a: float) -> float:
    """1/(1 + e^-a), from e^-|a| so that nothing overflows."""
    e = exp(-a if a >= 0.0 else a)
    return 1.0 / (1.0 + e) if a >= 0.0 else e / (1.0 + e)


def softplus(a: float) -> float:
    """log(1 + e^a) = max(a, 0) + log1p(e^-|a|), which does not overflow."""
    return (a if a > 0.0 else 0.0) + log1p(exp(-a if a > 0.0 else a))


def gelu(a: float) -> float:
    """a * Phi(a), Phi the standard normal distribution function (Hendrycks & Gimpel, 2016)."""
    return a * (0.5 * erfc(-a * SQRT_HALF))


def maximum(a: float, b: float) -> float:
    """The larger; nan if either is nan."""
    return a if a >= b or a != a else b


def minimum(a: float, b: float) -> float:
    """The smaller; nan if either is nan."""
    return a if a <= b or a != a else b


# --- the vocabulary of the partials: the same names on floats and on Values -----------------------
#
# A Value builds the node itself: `value.apply(name, *operands)`.

Scalar = Any  # a float, or a Value when a derivative is being built as a graph


def _vocabulary(name: str, on_floats: Callable[..., float]) -> Callable[..., Scalar]:
    def function(*arguments: Scalar) -> Scalar:
        if all(isinstance(x, float) for x in arguments):
            return on_floats(*arguments)
        value = next(x for x in arguments if not isinstance(x, float))
        return value.apply(name, *arguments)

    function.__name__ = function.__qualname__ = name
    return function


_exp = _vocabulary("exp", exp)
_log = _vocabulary("log", log)
_sin = _vocabulary("sin", sin)
_cos = _vocabulary("cos", cos)
_sigmoid = _vocabulary("sigmoid", sigmoid)
_erfc = _vocabulary("erfc", erfc)
_div = _vocabulary("div", divide)
_less = _vocabulary("less", lambda a, b: 1.0 if a < b else 0.0)
_less_equal = _vocabulary("less_equal", lambda a, b: 1.0 if a <= b else 0.0)
_pow = _vocabulary("power", pow)
_where = _vocabulary("where", lambda c, a, b: a if c != 0.0 else b)


def _is_zero(a: Scalar) -> Scalar:
    return _less_equal(a, 0.0) * _less_equal(0.0, a)


def _raise_to(a: Scalar, n: float) -> Scalar:
    if isinstance(a, float):
        return power(a, n)
    return a if n == 1.0 else a**n


# --- partials that need more than one line --------------------------------------------------------


def _pow_partials(a: Scalar, n: float, y: Scalar) -> tuple[Scalar]:
    # n = 0 is the constant 1 everywhere, also at a = 0 where 0 * 0^-1 would be nan.
    return (0.0 if n == 0.0 else n * _raise_to(a, n - 1.0),)


def _power_partials(a: Scalar, b: Scalar, y: Scalar) -> tuple[Scalar, Scalar]:
    # As PyTorch: d/da is 0 where b is 0, d/db is 0 at a = 0, b >= 0, the limits of b*a^(b-1) and
    # y*log(a) there.
    at_limit = _where(_less(b, 0.0), 0.0, _is_zero(a))
    return (
        _where(_is_zero(b), 0.0, b * _pow(a, b - 1.0)),
        _where(at_limit, 0.0, y * _log(a)),
    )


def _maximum_partials(a: Scalar, b: Scalar, y: Scalar) -> tuple[Scalar, Scalar]:
    # Equal operands share the gradient, as in PyTorch and JAX.
    larger = _where(_less(b, a), 1.0, _where(_less(a, b), 0.0, 0.5))
    return larger, 1.0 - larger


def _minimum_partials(a: Scalar, b: Scalar, y: Scalar) -> tuple[Scalar, Scalar]:
    smaller = _where(_less(a, b), 1.0, _where(_less(b, a), 0.0, 0.5))
    return smaller, 1.0 - smaller


def _gelu_partials(a: Scalar, y: Scalar) -> tuple[Scalar]:
    return (0.5 * _erfc(-a * SQRT_HALF) + a * (INV_SQRT_2PI * _exp(-0.5 * (a * a))),)


def _taken(*candidates_index: float) -> float:
    *candidates, index = candidates_index
    return candidates[int(index)]


def _take_partials(*candidates_index_y: Scalar) -> tuple[Scalar, ...]:
    *candidates, index, _ = candidates_index_y
    return tuple(1.0 if k == index else 0.0 for k in range(len(candidates)))


# --- the table ------------------------------------------------------------------------------------


class Op(NamedTuple):
    """One operation.

    `forward(*operands)` and `partials(*operands, y)`, y the result, take the constant after the
    operands where the op has one (`constant` names it). `partials` gives dy/d(operand) for every
    operand in order, and `slopes` the same as a reader would write it: {0} and {1} are the
    operands, {y} the result, {c} the constant. `arity` is `None` for `take`, whose operands are
    any number of candidates: its one slope is that of each, {k} its place.
    """

    code: int
    name: str
    arity: int | None
    symbol: str
    text: str
    forward: Callable[..., float]
    partials: Callable[..., tuple[Scalar, ...]]
    slopes: tuple[str, ...]
    constant: str = ""
    ufunc: str = ""


LEAF = 0
ADD, SUB, MUL, DIV, NEG, POW, POWER, ABS = 1, 2, 3, 4, 5, 6, 7, 8
RELU, LEAKY_RELU, EXP, LOG, SQRT, TANH, SIGMOID = 9, 10, 11, 12, 13, 14, 15
SIN, COS, SOFTPLUS, GELU, ERFC, MAXIMUM, MINIMUM = 16, 17, 18, 19, 20, 21, 22
LESS, LESS_EQUAL, WHERE, TAKE, DETACH = 23, 24, 25, 26, 27

# fmt: off
TABLE: tuple[Op, ...] = (
    Op(ADD, "add", 2, "+", "{0} + {1}",
       lambda a, b: a + b, lambda a, b, y: (1.0, 1.0), ("1", "1"), ufunc="add"),
    Op(SUB, "sub", 2, "-", "{0} - {1}",
       lambda a, b: a - b, lambda a, b, y: (1.0, -1.0), ("1", "-1"), ufunc="subtract"),
    Op(MUL, "mul", 2, "*", "{0} * {1}",
       lambda a, b: a * b, lambda a, b, y: (b, a), ("{1}", "{0}"), ufunc="multiply"),
    Op(DIV, "div", 2, "/", "{0} / {1}",
       divide, lambda a, b, y: (_div(1.0, b), -_div(y, b)),
       ("1 / {1}", "-{0} / {1} ** 2"), ufunc="divide"),
    Op(NEG, "neg", 1, "neg", "-{0}",
       lambda a: -a, lambda a, y: (-1.0,), ("-1",), ufunc="negative"),
    Op(POW, "pow", 1, "**{c}", "{0} ** {c}",
       power, _pow_partials, ("{c} * {0} ** ({c} - 1)",), constant="exponent"),
    Op(POWER, "power", 2, "**", "{0} ** {1}",
       pow, _power_partials, ("{1} * {0} ** ({1} - 1)", "{y} * log({0})"), ufunc="power"),
    Op(ABS, "abs", 1, "abs", "|{0}|",
       math.fabs, lambda a, y: (_where(_less(0.0, a), 1.0, _where(_less(a, 0.0), -1.0, 0.0)),),
       ("sign({0})",), ufunc="absolute"),
    Op(RELU, "relu", 1, "ReLU", "relu({0})",
       relu, lambda a, y: (_where(y, 1.0, 0.0),), ("0 if {y} == 0 else 1",)),
    Op(LEAKY_RELU, "leaky_relu", 1, "LeakyReLU", "leaky_relu({0}, {c})",
       lambda a, slope: a if a > 0.0 else slope * a,
       lambda a, slope, y: (_where(_less(0.0, a), 1.0, slope),),
       ("1 if {0} > 0 else {c}",), constant="slope"),
    Op(EXP, "exp", 1, "exp", "exp({0})",
       exp, lambda a, y: (y,), ("{y}",), ufunc="exp"),
    Op(LOG, "log", 1, "log", "log({0})",
       log, lambda a, y: (_div(1.0, a),), ("1 / {0}",), ufunc="log"),
    Op(SQRT, "sqrt", 1, "sqrt", "sqrt({0})",
       sqrt, lambda a, y: (_div(0.5, y),), ("1 / (2 * {y})",), ufunc="sqrt"),
    Op(TANH, "tanh", 1, "tanh", "tanh({0})",
       tanh, lambda a, y: (1.0 - y * y,), ("1 - {y} ** 2",), ufunc="tanh"),
    Op(SIGMOID, "sigmoid", 1, "sigmoid", "sigmoid({0})",
       sigmoid, lambda a, y: (y * (1.0 - y),), ("{y} * (1 - {y})",)),
    Op(SIN, "sin", 1, "sin", "sin({0})",
       sin, lambda a, y: (_cos(a),), ("cos({0})",), ufunc="sin"),
    Op(COS, "cos", 1, "cos", "cos({0})",
       cos, lambda a, y: (-_sin(a),), ("-sin({0})",), ufunc="cos"),
    Op(SOFTPLUS, "softplus", 1, "softplus", "softplus({0})",
       softplus, lambda a, y: (_sigmoid(a),), ("sigmoid({0})",)),
    Op(GELU, "gelu", 1, "GELU", "gelu({0})",
       gelu, _gelu_partials, ("Phi({0}) + {0} * phi({0})",)),
    Op(ERFC, "erfc", 1, "erfc", "erfc({0})",
       erfc, lambda a, y: (MINUS_2_OVER_SQRT_PI * _exp(-(a * a)),),
       ("-2 / sqrt(pi) * exp(-{0} ** 2)",)),
    Op(MAXIMUM, "maximum", 2, "max", "max({0}, {1})",
       maximum, _maximum_partials,
       ("1 if {0} > {1} else 0 if {0} < {1} else 1/2",
        "1 if {1} > {0} else 0 if {1} < {0} else 1/2"),
       ufunc="maximum"),
    Op(MINIMUM, "minimum", 2, "min", "min({0}, {1})",
       minimum, _minimum_partials,
       ("1 if {0} < {1} else 0 if {0} > {1} else 1/2",
        "1 if {1} < {0} else 0 if {1} > {0} else 1/2"),
       ufunc="minimum"),
    Op(LESS, "less", 2, "<", "{0} < {1}",
       lambda a, b: 1.0 if a < b else 0.0, lambda a, b, y: (0.0, 0.0), ("0", "0")),
    Op(LESS_EQUAL, "less_equal", 2, "<=", "{0} <= {1}",
       lambda a, b: 1.0 if a <= b else 0.0, lambda a, b, y: (0.0, 0.0), ("0", "0")),
    Op(WHERE, "where", 3, "where", "{1} if {0} else {2}",
       lambda c, a, b: a if c != 0.0 else b,
       lambda c, a, b, y: (0.0, _where(c, 1.0, 0.0), _where(c, 0.0, 1.0)),
       ("0", "1 if {0} else 0", "0 if {0} else 1")),
    Op(TAKE, "take", None, "take", "take([{operands}], {c})",
       _taken, _take_partials, ("1 if {c} == {k} else 0",), constant="index"),
    Op(DETACH, "detach", 1, "detach", "detach({0})",
       lambda a: a, lambda a, y: (0.0,), ("0",)),
)
# fmt: on


def constant_text(c: float) -> str:
    """A constant as a reader would write it: 2 for 2.0, otherwise every digit it needs."""
    return repr(c).removesuffix(".0")


BY_CODE: dict[int, Op] = {op.code: op for op in TABLE}
BY_NAME: dict[str, Op] = {op.name: op for op in TABLE}
BY_UFUNC: dict[str, Op] = {op.ufunc: op for op in TABLE if op.ufunc}


def called(name: str, operands: int, const: Any) -> tuple[Op, float]:
    """The op of that name and its constant as a float.

    Raises `KeyError` for an unknown name, `TypeError` for a number of operands that it does not
    take and `IndexError` for the index of an operand that is not there.
    """
    if name not in BY_NAME:
        raise KeyError(f"name: expected one of {', '.join(BY_NAME)}, got {name!r}")
    op = BY_NAME[name]
    if operands != op.arity and (op.arity is not None or not operands):
        wanted = "at least 1" if op.arity is None else op.arity
        raise TypeError(f"{name}: expected {wanted} operands, got {operands}")
    constant = real(const, op.constant or "const")
    if op.constant == "index" and not (0 <= constant < operands and constant.is_integer()):
        raise IndexError(f"index: expected 0 to {operands - 1}, got {shown(const)}")
    return op, constant


def symbol(code: int, const: float) -> str:
    """How micrograd writes the op in a graph: `+`, `**2`; "" for a leaf."""
    return "" if code == LEAF else BY_CODE[code].symbol.format(c=constant_text(const))


def local_gradients(
    code: int, operands: Sequence[float], const: float, result: float
) -> tuple[float, ...]:
    """d(result)/d(operand) for each operand, in order."""
    if code == LEAF:
        return ()
    constant = (const,) if BY_CODE[code].constant else ()
    return tuple(BY_CODE[code].partials(*operands, *constant, result))
