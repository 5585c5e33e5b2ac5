"""The arithmetic of the op table as compiled code: what an op computes, and its derivative.

`forward(op, a, b, c)` and `partial(op, slot, a, b, c, y)` are what the engine and the
interpreter run; `ops.TABLE` says the same in generic arithmetic, and a test compares them bit
for bit. `a` and `b` are the operands, `c` the op's constant (the condition, for `where`, whose
sides are `a` and `b`), `y` the result. `slot` is 0 for dy/da and 1 for dy/db.

`take` is not here: it computes nothing, and the engine moves its operand's number itself.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from . import _uncompiled as cython  # type: ignore[no-redef]

if cython.compiled:
    from cython.cimports.libc.math import cos, erfc, exp, log, log1p, pow, sin, sqrt, tanh
else:
    from .ops import *
    from .ops import pow


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def constant_power(a: cython.double, n: cython.double) -> cython.double:
    """a^n for a constant n, with the exact cases a, a*a and 1/a done as such."""
    if n == 2.0:
        return a * a
    if n == -1.0:
        return divide(1.0, a)
    if n == 1.0:
        return a
    return pow(a, n)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def logistic(a: cython.double) -> cython.double:
    """1/(1 + e^-a) from e^-|a|, so that nothing overflows."""
    e: cython.double = exp(-a if a >= 0.0 else a)
    return 1.0 / (1.0 + e) if a >= 0.0 else e / (1.0 + e)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def forward(op: cython.int, a: cython.double, b: cython.double, c: cython.double) -> cython.double:
    """The result of op on operands a, b with constant c."""
    if op == ADD:
        return a + b
    if op == SUB:
        return a - b
    if op == MUL:
        return a * b
    if op == DIV:
        return divide(a, b)
    if op == NEG:
        return -a
    if op == POW:
        return constant_power(a, c)
    if op == POWER:
        return pow(a, b)
    if op == ABS:
        return abs(a)
    if op == RELU:
        return 0.0 if a < 0.0 else a
    if op == LEAKY_RELU:
        return a if a > 0.0 else c * a
    if op == EXP:
        return exp(a)
    if op == LOG:
        return log(a)
    if op == SQRT:
        return sqrt(a)
    if op == TANH:
        return tanh(a)
    if op == SIGMOID:
        return logistic(a)
    if op == SIN:
        return sin(a)
    if op == COS:
        return cos(a)
    if op == SOFTPLUS:
        return (a if a > 0.0 else 0.0) + log1p(exp(-a if a > 0.0 else a))
    if op == GELU:
        return a * (0.5 * erfc(-a * 0.7071067811865476))
    if op == ERFC:
        return erfc(a)
    if op == MAXIMUM:
        return a if a >= b or a != a else b
    if op == MINIMUM:
        return a if a <= b or a != a else b
    if op == LESS:
        return 1.0 if a < b else 0.0
    if op == LESS_EQUAL:
        return 1.0 if a <= b else 0.0
    if op == WHERE:
        return a if c != 0.0 else b
    return a


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def partial(
    op: cython.int,
    slot: cython.int,
    a: cython.double,
    b: cython.double,
    c: cython.double,
    y: cython.double,
) -> cython.double:
    """dy/da (slot 0) or dy/db (slot 1) of y = op(a, b; c)."""
    if op == ADD:
        return 1.0
    if op == SUB:
        return 1.0 if slot == 0 else -1.0
    if op == MUL:
        return b if slot == 0 else a
    if op == DIV:
        return divide(1.0, b) if slot == 0 else -divide(y, b)
    if op == NEG:
        return -1.0
    if op == POW:
        return 0.0 if c == 0.0 else c * constant_power(a, c - 1.0)
    if op == POWER:
        if slot == 0:
            return 0.0 if b == 0.0 else b * pow(a, b - 1.0)
        return 0.0 if a == 0.0 and not b < 0.0 else y * log(a)
    if op == ABS:
        return 1.0 if a > 0.0 else -1.0 if a < 0.0 else 0.0
    if op == RELU:
        return 1.0 if y != 0.0 else 0.0
    if op == LEAKY_RELU:
        return 1.0 if a > 0.0 else c
    if op == EXP:
        return y
    if op == LOG:
        return divide(1.0, a)
    if op == SQRT:
        return divide(0.5, y)
    if op == TANH:
        return 1.0 - y * y
    if op == SIGMOID:
        return y * (1.0 - y)
    if op == SIN:
        return cos(a)
    if op == COS:
        return -sin(a)
    if op == SOFTPLUS:
        return logistic(a)
    if op == GELU:
        return 0.5 * erfc(-a * 0.7071067811865476) + a * (0.3989422804014327 * exp(-0.5 * (a * a)))
    if op == ERFC:
        return -1.1283791670955126 * exp(-(a * a))
    if op == MAXIMUM:
        if slot == 0:
            return 1.0 if b < a else 0.0 if a < b else 0.5
        return 0.0 if b < a else 1.0 if a < b else 0.5
    if op == MINIMUM:
        if slot == 0:
            return 1.0 if a < b else 0.0 if b < a else 0.5
        return 0.0 if a < b else 1.0 if b < a else 0.5
    if op == WHERE:
        return 1.0 if (c != 0.0) == (slot == 0) else 0.0
    return 0.0


def evaluate(op: int, a: float, b: float, c: float) -> float:
    """`forward`, callable from Python."""
    return forward(op, a, b, c)


def evaluate_all(op: cython.int, a: memoryview, b: memoryview, results: memoryview) -> None:
    """`forward` of many operands, as float64s in a row, without constants."""
    i: cython.Py_ssize_t
    first: cython.double[::1] = a
    second: cython.double[::1] = b
    out: cython.double[::1] = results
    for i in range(len(first)):
        out[i] = forward(op, first[i], second[i], 0.0)


def differentiate(op: int, slot: int, a: float, b: float, c: float, y: float) -> float:
    """`partial`, callable from Python."""
    return partial(op, slot, a, b, c, y)
