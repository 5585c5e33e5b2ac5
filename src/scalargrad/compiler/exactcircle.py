"""sin and cos of the C library on whole vectors, to the bit, as LLVM IR, for exact mode.

As in `exactmath`, whose ways these are: the GNU C library, from 2.28 on, computes both by the
tables and series of IBM's Accurate Mathematical Library (2001), whose constants these are.
The angle is reduced to a + d, |a| <= pi/4 or little more and d what a double cannot hold of it;
near to 0 a series gives its sine, and elsewhere a is a multiple of 1/128, whose sine and cosine
are in a table, and a small rest.
"""

from __future__ import annotations

from functools import cache as once
from typing import TYPE_CHECKING

from .exactmath import PRECISION, ROWS, Table, bits_of, fused, looked_up, numbers
from .vectormath import Bits

if TYPE_CHECKING:
    from .arithmetic import Arithmetic

TINY = 2.0**-26  # |x| below which sin(x) is x
NEAR = 0.85546875  # |x| below which there is nothing to reduce
MIDDLE = float.fromhex("0x1.368fd00000000p+1")  # below which x is taken from pi/2
FAR = float.fromhex("0x1.921fb00000000p+26")  # from which on the reduction needs more digits
# 2 / pi, and pi/2 in two parts, or in four, of which the first three have few digits.
QUARTERS = float.fromhex("0x1.45f306dc9c883p-1")
HALF_PI = numbers("0x1.921fb54442d18p+0", "0x1.1a62633145c07p-54")
PARTS = numbers(
    *("0x1.921fb58000000p+0", "-0x1.dde973c000000p-27"),
    *("-0x1.cb3b398000000p-55", "-0x1.d747f23e32ed7p-83"),
)
SERIES_END = float.fromhex("0x1.020c49ba5e354p-3")  # |a| below which the series alone does
# sin(a) = a + a^3 (c0 + c1 a^2 + ...) below that.
SERIES = numbers(
    *("-0x1.5555555555555p-3", "0x1.1111111110ecep-7", "-0x1.a01a019db08b8p-13"),
    *("0x1.71de27b9a7ed9p-19", "-0x1.addffc2fcdf59p-26"),
)
# Of the rest r: sin(r) = r + r^3 (c0 + c1 r^2), 1 - cos(r) = r^2 (c0 + c1 r^2 + c2 r^4).
SINE = numbers("-0x1.5555555555515p-3", "0x1.11110e829872fp-7")
COSINE = numbers("0x1p-1", "-0x1.5555555555535p-5", "0x1.6c16bedd9e239p-10")
TO_ROW = 1.5 * 2.0**45  # what is added to it is rounded to a multiple of 1/128


@once
def circle() -> Table:
    """sin(i/128) in two parts, and cos(i/128), for the rows i.

    (In the library's own table some of the second parts are wrong in their last bit, which is 2^50
    times too small to be seen.)
    """
    rows = []
    for i in range(ROWS):
        angle, term, sums = (i << PRECISION) // ROWS, 1 << PRECISION, [0, 0]
        n = 0
        while term:
            sums[n % 2] += -term if n % 4 > 1 else term
            n += 1
            term = (term * angle >> PRECISION) // n
        parts = []
        for total in reversed(sums):
            first = total / (1 << PRECISION)
            numerator, denominator = first.as_integer_ratio()
            rest = (total * denominator - (numerator << PRECISION)) / (denominator << PRECISION)
            parts += [bits_of(first), bits_of(rest)]
        rows.append(tuple(parts))
    return tuple(rows)


def _reduced(m: Arithmetic, x: str) -> tuple[str, str, str]:
    """a and d with x = n pi/2 + a + d, and n, in the last bits of an integer."""
    magic = Bits(m).format.magic
    shifted = fused(m, x, QUARTERS, magic)
    n = m.subtract(shifted, m.constant(magic))
    less = m.negative(n)
    y = fused(m, less, PARTS[1], fused(m, less, PARTS[0], x))
    closer = fused(m, less, PARTS[2], y)
    lost = fused(m, less, PARTS[2], m.subtract(y, closer))
    a = fused(m, less, PARTS[3], closer)
    lost = m.add(lost, fused(m, less, PARTS[3], m.subtract(closer, a)))
    return a, lost, Bits(m).of(shifted)


def _sine_and_cosine(m: Arithmetic, a: str, d: str) -> tuple[str, str]:
    """sin(a + d) and cos(a + d) for |a| < 1."""
    bits, zero = Bits(m), m.constant(0.0)
    size, outward = m.intrinsic("fabs", a), m.select(m.compare("olt", a, zero), m.negative(d), d)
    shifted = m.add(size, m.constant(TO_ROW))
    row = bits.operate("and", bits.of(shifted), ROWS - 1)
    sine, sine_rest, cosine, cosine_rest = map(bits.number, looked_up(m, circle, row))
    rest = m.subtract(size, m.subtract(shifted, m.constant(TO_ROW)))

    def of_rest(r: str, behind: str) -> tuple[str, str]:
        """r^3 ... + what is behind r, and 1 - cos(r)."""
        square = m.multiply(r, r)
        odd = fused(m, m.multiply(r, square), fused(m, square, SINE[1], SINE[0]), behind)
        even = fused(m, square, fused(m, square, COSINE[2], COSINE[1]), COSINE[0])
        return odd, m.multiply(square, even)

    odd, even = of_rest(rest, outward)
    s, c = m.add(rest, odd), fused(m, rest, outward, even)
    more = fused(m, cosine_rest, s, sine_rest)
    more = fused(m, s, cosine, fused(m, m.negative(c), sine, more))
    found_sine = m.intrinsic("copysign", m.add(sine, more), a)
    square = m.multiply(a, a)
    series = m.constant(SERIES[-1])
    for coefficient in SERIES[-2::-1]:
        series = fused(m, square, series, coefficient)
    series = fused(m, series, a, m.negative(m.multiply(m.constant(0.5), d)))
    series = m.add(a, fused(m, series, square, d))
    small = m.compare("olt", size, m.constant(SERIES_END))
    found_sine = m.select(small, series, found_sine)

    rest = m.add(rest, outward)
    s, c = of_rest(rest, rest)
    less = fused(m, m.negative(s), sine_rest, cosine_rest)
    less = fused(m, m.negative(s), sine, fused(m, m.negative(c), cosine, less))
    return found_sine, m.add(cosine, less)


def _turned(m: Arithmetic, x: str, middle: tuple[str, str, str], quarter: int) -> tuple[str, str]:
    """sin(x + quarter pi/2), and where it is right; `middle` is a, d and n between `NEAR` and `MIDDLE`.

    Of n, even ones ask for the sine of a + d, odd ones for the cosine, and 2 for its opposite.
    """
    bits = Bits(m)
    size = m.intrinsic("fabs", x)
    a, d, n = _reduced(m, x)
    n = bits.operate("add", n, quarter)
    nothing = m.constant(0.0)
    for end, (other_a, other_d, other_n) in (
        (MIDDLE, middle),
        (NEAR, (x, nothing, bits.constant(quarter))),
    ):
        within = m.compare("olt", size, m.constant(end))
        a, d = m.select(within, other_a, a), m.select(within, other_d, d)
        n = m.function.emit(f"select {m.mask} {within}, {bits.kind} {other_n}, {bits.kind} {n}")
    sine, cosine = _sine_and_cosine(m, a, d)
    odd = m.function.emit(f"icmp ne {bits.kind} {bits.operate('and', n, 1)}, {bits.constant(0)}")
    sign = bits.operate("shl", bits.operate("and", n, 2), 62)
    found = bits.of(m.select(odd, cosine, sine))
    found = bits.number(bits.operate("xor", found, sign))
    return found, m.compare("olt", size, m.constant(FAR))


def sin(m: Arithmetic, x: str) -> tuple[str, str]:
    """sin(x)."""
    bits, size = Bits(m), m.intrinsic("fabs", x)
    # cos(pi/2 - |x|) with the sign of x.
    sign = bits.operate("and", bits.operate("lshr", bits.of(x), 62), 2)
    first, second = map(m.constant, HALF_PI)
    middle = m.subtract(first, size), second, bits.operate("or", sign, 1)
    found, simple = _turned(m, x, middle, 0)
    return m.select(m.compare("olt", size, m.constant(TINY)), x, found), simple


def cos(m: Arithmetic, x: str) -> tuple[str, str]:
    """cos(x)."""
    # sin(pi/2 - |x|).
    first, second = map(m.constant, HALF_PI)
    y = m.subtract(first, m.intrinsic("fabs", x))
    a = m.add(y, second)
    middle = a, m.add(m.subtract(y, a), second), Bits(m).constant(0)
    return _turned(m, x, middle, 1)


# As `exactmath.FORMS`.
FORMS = {"sin": sin, "cos": cos}
