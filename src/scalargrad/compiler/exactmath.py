"""exp, pow and tanh of the C library on whole vectors, to the bit, as LLVM IR, for exact mode.

The GNU C library, from 2.28 on, computes exp and pow by the algorithms of Arm's Optimized Routines
(by Szabolcs Nagy, MIT licence), and tanh by those of Sun's fdlibm (1993, free to use), whose
constants these are; on a CPU that can, it fuses every product with the addition that needs it. A
form here does the same operations in the same order on all lanes at once. That is right for
arguments that need no care of their own: a form gives a mask of them, too. Whether the library of
this process computes so is for `answers` to find out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache as once
from math import isqrt
from typing import TYPE_CHECKING, TypeAlias

from .ir import vector
from .vectormath import Bits

if TYPE_CHECKING:
    from .arithmetic import Arithmetic


def numbers(*written: str) -> tuple[float, ...]:
    """Floats as they are written in hexadecimal digits."""
    return tuple(map(float.fromhex, written))


ROWS = 128  # of both tables
PRECISION = 160  # bits behind the point of the numbers that the tables are rounded from
BELOW = 52 - 7  # bits of a double's fraction that a row's number leaves
MAGIC = 1.5 * 2.0**52  # what is added to it is rounded to a whole number, which its last bits hold

# 128 / ln(2), and -ln(2) / 128 in two parts, the first so short that its multiples are exact.
PER_ROW = float.fromhex("0x1.71547652b82fep+7")
ROW = numbers("-0x1.62e42fefa0000p-8", "-0x1.cf79abc9e3b3ap-47")
# e^r = 1 + r + r^2 (c0 + c1 r) + r^4 (c2 + c3 r) for |r| <= ln(2) / 256.
EXPONENTIAL = numbers(
    *("0x1.ffffffffffdbdp-2", "0x1.555555555543cp-3"),
    *("0x1.55555cf172b91p-5", "0x1.1111167a4d017p-7"),
)
LARGEST = 512.0  # below it, |x| leaves e^x and 2^(n/128) normal numbers

FIRST = 0x3FE6955500000000  # the bits of the number where the first row's interval begins
# ln(2) in two parts; the first has as many bits behind the point as the logarithms in the table.
LN2 = numbers("0x1.62e42fefa3800p-1", "0x1.ef35793c76730p-45")
POINT = 43
# log(1 + r) = r + s + r s (c0 + c1 r + s (c2 + c3 r + s (c4 + c5 r))) with s = -r^2 / 2.
LOGARITHM = numbers(
    *("-0x1.5555555555560p-1", "0x1.0000000000006p-1", "0x1.999999959554ep-1"),
    *("-0x1.555555529a47ap-1", "-0x1.2495b9b4845e9p+0", "0x1.0002b8b263fc3p+0"),
)
SMALLEST = 2.0**-1022  # normal number

# ln(2) in two parts for e^x - 1, and |x| below which no multiple of it is taken from x.
SHORT_LN2 = numbers("0x1.62e42fee00000p-1", "0x1.a39ef35793c76p-33")
NEAREST = float.fromhex("0x1.62e4300000000p-2")
# x (e^x + 1) / (e^x - 1) = 2 (1 + c0 s + s^2 (c1 + c2 s) + s^4 (c3 + c4 s)) with s = x^2 / 2.
QUOTIENT = numbers(
    *("-0x1.11111111110f4p-5", "0x1.a01a019fe5585p-10", "-0x1.4ce199eaadbb7p-14"),
    *("0x1.0cfca86e65239p-18", "-0x1.afdb76e09c32dp-23"),
)
FAR = 20.0  # multiples of ln(2) from which 2^-n is taken from e^r - 1 before that is added to 1
ENOUGH = 22.0  # |x| from which tanh is 1

# --- tables --------------------------------------------------------------------------------------

Table: TypeAlias = tuple[tuple[int, ...], ...]  # rows of numbers, as bits


def bits_of(number: float) -> int:
    """The bits of a double as a signed integer."""
    bits: int = struct.unpack("<q", struct.pack("<d", number))[0]
    return bits


def number_of(bits: int) -> float:
    """The double of some bits."""
    number: float = struct.unpack("<d", struct.pack("<q", bits))[0]
    return number


@once
def powers() -> Table:
    """t and h of 2^(i/128) = h (1 + t), h a double, for the rows i.

    h lacks i in its bits where 2^(n/128) has n added, so that i need not be taken from n before.
    """
    one = 1 << PRECISION
    root = 2 * one
    for _ in range(7):
        root = isqrt(root << PRECISION)
    rows, power = [], one
    for i in range(ROWS):
        h = power / one
        numerator, denominator = h.as_integer_ratio()
        t = (power * denominator - one * numerator) / (one * numerator)
        rows.append((bits_of(t), bits_of(h) - (i << BELOW)))
        power = power * root >> PRECISION
    return tuple(rows)


@once
def logarithms() -> Table:
    """1/c, 0, and log(c) in two parts, for the rows' intervals; 1/c to 8 bits from their middles."""
    rows = []
    for i in range(ROWS):
        ends = (number_of(FIRST + ((i + k) << BELOW)) for k in (0, 1))
        inverse = 2.0 / sum(ends)
        unit = 2.0**-7 if inverse >= 1.0 else 2.0**-8
        inverse = round(inverse / unit) * unit
        log = -_logarithm_of(int(inverse * 256))
        below = PRECISION - POINT
        short = (log + (1 << below - 1)) >> below
        rest = (log - (short << below)) / (1 << PRECISION)
        rows.append(tuple(map(bits_of, (inverse, 0.0, short / (1 << POINT), rest))))
    return tuple(rows)


@once
def _logarithm_of(count: int) -> int:
    """log(count / 256), in units of 2^-PRECISION."""
    if count == 256:
        return 0
    if count < 256:
        return _logarithm_of(count + 1) - _step_of_logarithm(count)
    return _logarithm_of(count - 1) + _step_of_logarithm(count - 1)


def _step_of_logarithm(count: int) -> int:
    """log((count + 1) / count) = 2 (x + x^3 / 3 + x^5 / 5 + ...) with 1 / x = 2 count + 1."""
    inverse = 2 * count + 1
    power, number, total = (2 << PRECISION) // inverse, 1, 0
    while power:
        total += power // number
        power //= inverse * inverse
        number += 2
    return total


def looked_up(m: Arithmetic, table: Callable[[], Table], row: str) -> list[str]:
    """The columns of a table, from the rows that the lanes ask for, as bits."""
    module, function, width = m.module, m.function, m.width
    name, size = f"{table.__name__}.table", len(table()[0])
    if name not in module.helpers:
        module.helpers.add(name)
        numbers = ", ".join(f"i64 {number}" for row in table() for number in row)
        kind = f"[{ROWS * size} x i64]"
        module.definitions.append(f"@{name} = internal constant {kind} [{numbers}], align 64")
    # A load for each lane: any CPU has it, and those that can gather are not quicker by it.
    found = []
    for lane in range(width):
        place = function.emit(f"extractelement {vector('i64', width)} {row}, i32 {lane}")
        pointer = function.emit(f"getelementptr <{size} x i64>, ptr @{name}, i64 {place}")
        found.append(function.emit(f"load <{size} x i64>, ptr {pointer}, align {8 * size}"))
    count = size
    while len(found) > 1:
        found = [
            function.shuffled("i64", count, a, b, range(2 * count))
            for a, b in zip(found[::2], found[1::2])
        ]
        count *= 2
    columns = (range(column, count, size) for column in range(size))
    return [function.shuffled("i64", count, found[0], "poison", lanes) for lanes in columns]


# --- forms ---------------------------------------------------------------------------------------


def fused(m: Arithmetic, a: str, b: str | float, c: str | float) -> str:
    """a * b + c, rounded once."""
    b, c = (m.constant(x) if isinstance(x, float) else x for x in (b, c))
    return m.intrinsic("fma", a, b, c)


def _exponential(m: Arithmetic, x: str, rest: str | None = None) -> str:
    """e^(x + rest) = 2^(n/128) e^r for a small rest, with n nearest to 128 x / ln(2)."""
    bits = Bits(m)
    shifted = fused(m, x, PER_ROW, MAGIC)
    n, multiple = bits.of(shifted), m.subtract(shifted, m.constant(MAGIC))
    r = fused(m, multiple, ROW[1], fused(m, multiple, ROW[0], x))
    if rest is not None:
        r = m.add(rest, r)
    t, h = looked_up(m, powers, bits.operate("and", n, ROWS - 1))
    power = bits.number(bits.operate("add", h, bits.operate("shl", n, BELOW)))
    square = m.multiply(r, r)
    low, high = (fused(m, r, EXPONENTIAL[k + 1], EXPONENTIAL[k]) for k in (0, 2))
    less_one = fused(m, square, low, m.add(bits.number(t), r))
    less_one = fused(m, m.multiply(square, square), high, less_one)
    return fused(m, power, less_one, power)


def _logarithm(m: Arithmetic, x: str) -> tuple[str, str]:
    """log(x) in two parts: x = 2^k z, log(x) = k ln(2) + log(c) + log(1 + r) with z = c (1 + r)."""
    bits = Bits(m)
    raw = bits.of(x)
    above = bits.operate("sub", raw, FIRST)
    row = bits.operate("and", bits.operate("lshr", above, BELOW), ROWS - 1)
    exponent = bits.operate("ashr", above, 52)
    z = bits.number(bits.operate("sub", raw, bits.operate("shl", exponent, 52)))
    k = bits.number(bits.operate("add", exponent, bits_of(MAGIC)))
    k = m.subtract(k, m.constant(MAGIC))
    inverse, _, log, rest = map(bits.number, looked_up(m, logarithms, row))
    r = fused(m, z, inverse, -1.0)
    scaled = fused(m, k, LN2[0], log)
    high = m.add(scaled, r)
    low = m.add(fused(m, k, LN2[1], rest), m.add(m.subtract(scaled, high), r))
    half = m.multiply(m.constant(-0.5), r)
    s = m.multiply(r, half)
    total = m.add(high, s)
    low = m.add(low, fused(m, half, r, m.negative(s)))
    low = m.add(low, m.add(m.subtract(high, total), s))
    first, second, third = (fused(m, r, LOGARITHM[k + 1], LOGARITHM[k]) for k in (0, 2, 4))
    series = fused(m, s, fused(m, s, third, second), first)
    low = fused(m, m.multiply(r, s), series, low)
    log = m.add(total, low)
    return log, m.add(m.subtract(total, log), low)


def _moderate(m: Arithmetic, exponent: str) -> str:
    """Where e^exponent is far from the ends of the range."""
    return m.compare("olt", m.intrinsic("fabs", exponent), m.constant(LARGEST))


def exp(m: Arithmetic, x: str) -> tuple[str, str]:
    """e^x."""
    return _exponential(m, x), _moderate(m, x)


def power(m: Arithmetic, x: str, y: str) -> tuple[str, str]:
    """x^y = e^(y log(x))."""
    log, rest = _logarithm(m, x)
    exponent = m.multiply(y, log)
    lost = fused(m, y, log, m.negative(exponent))
    result = _exponential(m, exponent, fused(m, y, rest, lost))
    simple = _moderate(m, exponent)
    for relation, bound in (("oge", SMALLEST), ("olt", float("inf"))):
        within = m.compare(relation, x, m.constant(bound))
        simple = m.function.emit(f"and {m.mask} {simple}, {within}")
    return result, simple


def _exponential_less_one(m: Arithmetic, x: str) -> str:
    """e^x - 1 for x from -2 to 0 or from 2 to 44: x = n ln(2) + r, and e^r - 1 = r - lost."""
    bits, one, half = Bits(m), m.constant(1.0), m.constant(0.5)
    n = m.multiply(x, m.constant(PER_ROW / ROWS))
    n = m.intrinsic("trunc", m.add(n, m.intrinsic("copysign", half, x)))
    none = m.compare("olt", m.intrinsic("fabs", x), m.constant(NEAREST))
    n = m.select(none, m.constant(0.0), n)
    high = fused(m, n, -SHORT_LN2[0], x)
    low = m.multiply(n, m.constant(SHORT_LN2[1]))
    r = m.subtract(high, low)
    rest = m.subtract(m.subtract(high, r), low)
    halved = m.multiply(half, r)
    s = m.multiply(r, halved)
    first = fused(m, s, QUOTIENT[0], 1.0)
    second, third = (fused(m, s, QUOTIENT[k + 1], QUOTIENT[k]) for k in (1, 3))
    square = m.multiply(s, s)
    series = fused(m, square, second, first)
    series = fused(m, m.multiply(square, square), third, series)
    above = fused(m, m.negative(series), halved, 3.0)
    below = fused(m, m.negative(above), r, 6.0)
    e = m.multiply(m.divide(m.subtract(series, above), below), s)
    unscaled = m.subtract(r, fused(m, e, r, m.negative(s)))
    e = fused(m, m.subtract(e, rest), r, m.negative(rest))
    e = m.subtract(e, s)
    lost = m.subtract(e, r)
    whole = bits.operate("sub", bits.of(m.add(n, m.constant(MAGIC))), bits_of(MAGIC))
    scale = bits.power_of_two(whole)
    inverse = bits.power_of_two(bits.operate("sub", bits.constant(0), whole))
    down = m.compare("olt", n, m.constant(0.0))
    near = m.subtract(m.select(down, one, m.subtract(one, inverse)), lost)
    far = m.add(m.subtract(r, m.add(e, inverse)), one)
    result = m.multiply(m.select(m.compare("oge", n, m.constant(FAR)), far, near), scale)
    result = m.select(down, m.subtract(result, one), result)
    halves = fused(m, m.negative(lost), 0.5, -0.5)
    result = m.select(m.compare("oeq", n, m.constant(-1.0)), halves, result)
    return m.select(none, unscaled, result)


def tanh(m: Arithmetic, x: str) -> tuple[str, str]:
    """1 - 2 / (e^2x + 1), from e^2x - 1 where |x| is 1 or more, else from e^-2x - 1."""
    one, two, enough = (m.constant(number) for number in (1.0, 2.0, ENOUGH))
    size = m.intrinsic("fabs", x)
    size = m.select(m.compare("olt", size, enough), size, enough)
    large = m.compare("oge", size, one)
    double = m.add(size, size)
    less_one = _exponential_less_one(m, m.select(large, double, m.negative(double)))
    above = m.select(large, two, m.negative(less_one))
    quotient = m.divide(above, m.add(less_one, two))
    result = m.select(large, m.subtract(one, quotient), quotient)
    return m.intrinsic("copysign", result, x), m.compare("ord", x, x)


# A form gives what the function of that name does, and the mask of the lanes for which that holds.
FORMS: dict[str, Callable[..., tuple[str, str]]] = {"exp": exp, "pow": power, "tanh": tanh}
