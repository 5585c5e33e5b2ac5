"""exp, log, tanh, sin, cos, erfc, roots and reciprocals on whole vectors, as LLVM IR, for fast mode.

Arguments are reduced so that a short power series does, and the series is summed with fused
multiply-adds: within 4 units in the last place of the true result in both precisions, over the
whole range, with the right infinities and nans. Integers and numbers are converted by adding
1.5 * 2^52 (2^23 for float32), whose bits hold a small integer as it is: no CPU lacks that.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .ir import repeated, vector

if TYPE_CHECKING:
    from .arithmetic import Arithmetic


class Format(NamedTuple):
    """What differs between float64 and float32.

    `terms` of the exponential series and `odd_terms` of the logarithm's are what reaches the last
    bit, and `circle_terms` those of sine and cosine up to `far` from 0; ln(2) is `ln2` and `rest`, the first short enough that a small multiple of it is exact, and pi/2
    the sum of `quarter`. From `vanished` on erfc is 0, and `tail` is the series of `erfc`.
    """

    integer: str
    fraction: int
    bias: int
    ln2: float
    terms: int
    odd_terms: int
    highest: float
    lowest: float
    saturated: float
    quarter: tuple[float, float, float]
    circle_terms: int
    far: float
    vanished: float
    tail: tuple[float, ...]

    @property
    def rest(self) -> float:
        """What `ln2` lacks of ln(2): its next 53 bits."""
        # ln(2) to 106 bits: the float nearest to it, and the float nearest to what that lacks.
        return (math.log(2.0) - self.ln2) + 2.3190468138462996e-17

    @property
    def magic(self) -> float:
        """1.5 * 2^fraction."""
        return 1.5 * 2.0**self.fraction

    def bits(self, number: float) -> int:
        """The bits of a float of this format as a signed integer."""
        codes = "<d", "<q"
        if self.integer == "i32":
            codes = "<f", "<i"
        bits: int = struct.unpack(codes[1], struct.pack(codes[0], number))[0]
        return bits


MIDDLE = 3.75  # x for which the argument of the series of erfc is 0


def _numbers(*written: str) -> tuple[float, ...]:
    return tuple(map(float.fromhex, written))


FORMATS = {
    "double": Format(
        *("i64", 52, 1023, float.fromhex("0x1.62e42fefap-1"), 12, 11, 710.0, -746.0, 22.0),
        (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
        *(8, 2.0**30, 27.5),
        _numbers(
            *("0x1.3ccda0b5d5dc2p+0", "-0x1.1f367683f899bp-3", "0x1.d5f2948159bf9p-9"),
            *("0x1.510169d095d48p-4", "-0x1.bda9309a28681p-4", "0x1.7a14188ab0c05p-4"),
            *("-0x1.e0d0fa6e02038p-5", "0x1.d0b0037812511p-6", "-0x1.3f603c3534914p-7"),
            *("0x1.cc3a114be080cp-10", "0x1.33fb28021b190p-12", "-0x1.303fe19f9b04dp-12"),
            *("0x1.b1435f516edbep-15", "0x1.7798b7ba0ca8ap-16", "-0x1.7ff83017f653cp-17"),
            *("-0x1.072699fdfbdf3p-20", "0x1.d55391c4858fap-20", "-0x1.9b4d86f965dd4p-25"),
            *("-0x1.0f6b1ed5ac851p-22", "0x1.0e37b4f18de6dp-26", "0x1.1a321a6a90330p-25"),
            *("-0x1.a8cf2ce674fafp-31", "-0x1.467594d8f5610p-29"),
        ),
    ),
    "float": Format(
        *("i32", 23, 127, float.fromhex("0x1.62ep-1"), 7, 5, 89.0, -104.0, 10.0),
        (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
        *(5, 2.0**15, 10.5),
        _numbers(
            *("0x1.3ccda0b4cc8f7p+0", "-0x1.1f3674d8f1c33p-3", "0x1.d5f3aed3d440cp-9"),
            *("0x1.5100c3823ba43p-4", "-0x1.bdaa4a7f8dd35p-4", "0x1.7a1cb9e66c25ep-4"),
            *("-0x1.e0b2c734b93d3p-5", "0x1.d00c475ed1887p-6", "-0x1.4227a1b820dc8p-7"),
            *("0x1.d7edc7e5e77c7p-10", "0x1.f3f06a00d88a6p-12", "-0x1.bccc3e30eb8e9p-13"),
        ),
    ),
}


_ZEROS, _INFINITY = 0b110, 0b1000  # classes of numbers, as AVX-512 knows them


class Bits:
    """Integer arithmetic beside an `Arithmetic` of the same width."""

    def __init__(self, m: Arithmetic) -> None:
        self.m = m
        self.format = FORMATS[m.real]
        self.kind = vector(self.format.integer, m.width)

    def constant(self, number: int) -> str:
        """An integer in every lane."""
        return repeated(self.format.integer, str(number), self.m.width)

    def operate(self, name: str, a: str, b: str | int) -> str:
        """An instruction on two integers: add, sub, shl, lshr, ashr, and."""
        b = self.constant(b) if isinstance(b, int) else b
        return self.m.function.emit(f"{name} {self.kind} {a}, {b}")

    def of(self, number: str) -> str:
        """The bits of a number."""
        return self.m.function.emit(f"bitcast {self.m.kind} {number} to {self.kind}")

    def number(self, bits: str) -> str:
        """The number of some bits."""
        return self.m.function.emit(f"bitcast {self.kind} {bits} to {self.m.kind}")

    def power_of_two(self, n: str) -> str:
        """2^n; of n count only as many of the lowest bits as an exponent has."""
        return self.number(
            self.operate("shl", self.operate("add", n, self.format.bias), self.format.fraction)
        )


def _polynomial(m: Arithmetic, x: str, coefficients: Sequence[float]) -> str:
    """sum(c * x^k), lowest first: even and odd powers apart, so that two chains run at once."""
    square = m.multiply(x, x)

    def horner(chosen: Sequence[float]) -> str:
        total = m.constant(chosen[-1])
        for c in chosen[-2::-1]:
            total = m.fused(total, square, m.constant(c))
        return total

    if len(coefficients) < 2:
        return m.constant(coefficients[0])
    return m.fused(horner(coefficients[1::2]), x, horner(coefficients[0::2]))


def _reduced(m: Arithmetic, x: str) -> tuple[str, str]:
    """e^r - 1 for x = n ln(2) + r, |r| <= ln(2)/2, and the sum of n and the format's `magic`."""
    form = FORMATS[m.real]
    magic = m.constant(form.magic)
    shifted = m.fused(x, m.constant(1.0 / math.log(2.0)), magic)
    multiple = m.subtract(shifted, magic)
    r = m.fused(multiple, m.constant(-form.ln2), x)
    r = m.fused(multiple, m.constant(-form.rest), r)
    tail = _polynomial(m, r, [1.0 / math.factorial(k) for k in range(2, form.terms + 1)])
    return m.fused(m.multiply(r, r), tail, r), shifted


def exp(m: Arithmetic, x: str) -> str:
    """e^x; inf, 0 and subnormal numbers where they belong."""
    bits = Bits(m)
    highest, lowest = m.constant(bits.format.highest), m.constant(bits.format.lowest)
    x = m.select(m.compare("ogt", x, highest), highest, x)
    x = m.select(m.compare("olt", x, lowest), lowest, x)
    less_one, n = _reduced(m, x)
    # 2^n in two factors: n may be beyond the exponents of one number, up or down.
    magic = m.constant(bits.format.magic)
    half = bits.of(m.fused(m.subtract(n, magic), m.constant(0.5), magic))
    scale = bits.power_of_two(half)
    other = bits.power_of_two(bits.operate("sub", bits.of(n), half))
    return m.multiply(m.fused(scale, less_one, scale), other)


def tanh(m: Arithmetic, x: str) -> str:
    """tanh |x| = (e^2|x| - 1) / (e^2|x| + 1), the numerator without cancellation."""
    bits = Bits(m)
    saturated = m.constant(bits.format.saturated)
    size = m.intrinsic("fabs", x)
    size = m.select(m.compare("ogt", size, saturated), saturated, size)
    less_one, n = _reduced(m, m.add(size, size))
    scale = bits.power_of_two(bits.of(n))
    above = m.fused(scale, less_one, m.subtract(scale, m.constant(1.0)))
    return m.intrinsic("copysign", m.divide(above, m.add(above, m.constant(2.0))), x)


def log(m: Arithmetic, x: str) -> str:
    """log x = e ln(2) + 2 artanh((f - 1) / (f + 1)) for x = f 2^e, f from sqrt(1/2) to sqrt(2)."""
    bits = Bits(m)
    form = bits.format
    zero, one = m.constant(0.0), m.constant(1.0)
    smallest = m.constant(2.0 ** (1 - form.bias))
    small = m.compare("olt", x, smallest)
    lift = 2 * (form.fraction // 2 + 2)
    normal = m.select(small, m.multiply(x, m.constant(2.0**lift)), x)
    raw = bits.of(normal)
    e = bits.operate("ashr", bits.operate("sub", raw, form.bits(math.sqrt(0.5))), form.fraction)
    f = bits.number(bits.operate("sub", raw, bits.operate("shl", e, form.fraction)))
    exponent = m.subtract(
        bits.number(bits.operate("add", e, form.bits(form.magic))), m.constant(form.magic)
    )
    exponent = m.subtract(exponent, m.select(small, m.constant(float(lift)), zero))
    above = m.subtract(f, one)
    s = m.divide(above, m.add(f, one))
    z = m.multiply(s, s)
    series = _polynomial(m, z, [2.0 / (2 * k + 3) for k in range(form.odd_terms)])
    # 2s = (f - 1) - s (f - 1): so the leading term is exact where x is near 1.
    correction = m.multiply(s, m.fused(z, series, m.negative(above)))
    rest = m.fused(exponent, m.constant(form.rest), correction)
    result = m.fused(exponent, m.constant(form.ln2), m.add(above, rest))
    infinity = m.constant(math.inf)
    result = m.select(m.compare("oeq", x, infinity), infinity, result)
    outside = m.select(m.compare("oeq", x, zero), m.constant(-math.inf), m.constant(math.nan))
    return m.select(m.compare("ogt", x, zero), result, outside)


def log1p(m: Arithmetic, x: str) -> str:
    """log(1 + x) for x from 0 to 1: the logarithm of the rounded sum, and what rounding lost."""
    one = m.constant(1.0)
    total = m.add(one, x)
    lost = m.subtract(x, m.subtract(total, one))
    return m.add(log(m, total), m.divide(lost, total))


def erfc(m: Arithmetic, x: str) -> str:
    """erfc x = e^(-x^2) g(t) / (1 + 2x) for x >= 0, and 2 - erfc(-x) below.

    The series g, in t = (x - k) / (x + k), is of polynomials that have (1 + 2x) e^(x^2) erfc(x) at
    as many of Chebyshev's points as there are terms, from x = 0 to where erfc vanishes; such are
    in M. Shepherd and J. Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x"
    (1981). e^(-x^2) has what rounding takes from x^2 as a factor.
    """
    form, one, two = FORMATS[m.real], m.constant(1.0), m.constant(2.0)
    vanished, middle = m.constant(form.vanished), m.constant(MIDDLE)
    size = m.intrinsic("fabs", x)
    size = m.select(m.compare("ogt", size, vanished), vanished, size)
    square = m.multiply(size, size)
    lost = m.fused(size, size, m.negative(square))
    power = exp(m, m.negative(square))
    power = m.fused(m.negative(lost), power, power)
    # Both quotients by one division.
    above, below = m.fused(two, size, one), m.add(size, middle)
    inverse = m.divide(one, m.multiply(above, below))
    t = m.multiply(m.multiply(m.subtract(size, middle), above), inverse)
    tail = m.multiply(m.multiply(_polynomial(m, t, form.tail), m.multiply(below, inverse)), power)
    return m.select(m.compare("olt", x, m.constant(0.0)), m.subtract(two, tail), tail)


def reciprocal(m: Arithmetic, x: str) -> str:
    """1 / x by Newton's steps from the CPU's estimate to 14 bits, or divided where it has none.

    0 and infinity give infinity and 0. Subnormal numbers may count as 0.
    """
    one = m.constant(1.0)
    if m.kind != "<8 x double>":  # the estimate of AVX-512
        return m.divide(one, x)
    opposite = m.negative(x)
    estimate = m.function.call(
        m.kind,
        "llvm.x86.avx512.rcp14.pd.512",
        [m.kind, m.kind, "i8"],
        [x, "zeroinitializer", "-1"],
    )
    result = estimate
    for _ in range(2):
        result = m.fused(result, m.fused(opposite, result, one), result)
    return m.select(m.compare("ord", result, result), result, estimate)


def sqrt(m: Arithmetic, x: str) -> str | None:
    """The root, by a series from the CPU's estimate y of 1 / root to 14 bits; None without one.

    sqrt(x) = x y (1 - e)^(-1/2) with e = 1 - x y^2, and e^4 is beyond the last bit.
    """
    if m.kind != "<8 x double>":  # the estimate of AVX-512
        return None
    estimate = m.function.call(
        m.kind,
        "llvm.x86.avx512.rsqrt14.pd.512",
        [m.kind, m.kind, "i8"],
        [x, "zeroinitializer", "-1"],
    )
    root = m.multiply(x, estimate)
    e = m.fused(m.negative(root), estimate, m.constant(1.0))
    series = m.fused(e, m.constant(5.0 / 16.0), m.constant(3.0 / 8.0))
    series = m.fused(series, e, m.constant(1.0 / 2.0))
    root = m.fused(m.multiply(root, e), series, root)
    same = m.function.call(
        m.mask, "llvm.x86.avx512.fpclass.pd.512", [m.kind, "i32"], [x, str(_ZEROS | _INFINITY)]
    )
    return m.select(same, x, root)


def power(m: Arithmetic, a: str, n: float) -> str | None:
    """a^n for small whole and half exponents, by products and a square root; None for others."""
    if abs(n) > 4.0 or n != round(2.0 * n) / 2.0:
        return None
    whole = int(abs(n))
    result = m.intrinsic("sqrt", a) if abs(n) != whole else None
    for _ in range(whole):
        result = a if result is None else m.multiply(result, a)
    if result is None:
        return m.constant(1.0)
    return m.divide(m.constant(1.0), result) if n < 0.0 else result


def sine_and_cosine(m: Arithmetic, x: str) -> tuple[str, str, str]:
    """sin(x), cos(x), and in which lanes they are right: where |x| is below `far`.

    x is n quarters of a circle and an angle r of at most pi/4. Fused multiply-adds have the exact
    products, so r is right to the last bit, however near to a multiple of pi/2 a float can be.
    """
    bits, form = Bits(m), FORMATS[m.real]
    shifted = m.fused(x, m.constant(2.0 / math.pi), m.constant(form.magic))
    n, quarters = m.subtract(shifted, m.constant(form.magic)), bits.of(shifted)
    r = x
    for part in form.quarter:
        r = m.fused(n, m.constant(-part), r)
    square = m.multiply(r, r)

    def series(first: int) -> str:
        """sum((-r^2)^k / (2k + first)!) from k = 1 on, divided by r^2."""
        signs = [-1.0 if k % 2 else 1.0 for k in range(form.circle_terms + 1)]
        terms = [signs[k] / math.factorial(2 * k + first) for k in range(1, len(signs))]
        return _polynomial(m, square, terms)

    sine = m.fused(m.multiply(r, square), series(1), r)
    cosine = m.fused(square, series(0), m.constant(1.0))
    odd = m.function.emit(
        f"icmp ne {bits.kind} {bits.operate('and', quarters, 1)}, {bits.constant(0)}"
    )
    top = 8 * m.module.size - 2

    def signed(number: str, turns: str) -> str:
        """The number, negated in the lower half of the circle."""
        sign = bits.operate("shl", bits.operate("and", turns, 2), top)
        return bits.number(bits.operate("xor", bits.of(number), sign))

    found = signed(m.select(odd, cosine, sine), quarters)
    other = signed(m.select(odd, sine, cosine), bits.operate("add", quarters, 1))
    return found, other, m.compare("olt", m.intrinsic("fabs", x), m.constant(form.far))
