"""exp, log, tanh, sin, cos, erfc, roots and reciprocals on whole vectors, as LLVM IR, for fast mode.

Arguments are reduced so that a short polynomial does, the one of its degree that errs least there, and
it is summed with fused multiply-adds: within 4 units in the last place of the true result in both
precisions, over the whole range, with the right infinities and nans. Integers and numbers are
converted by adding 1.5 * 2^52 (2^23 for float32), whose bits hold a small integer as it is: no CPU
lacks that.
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

    ln(2) is `ln2` and `rest`, the first short enough that a small multiple of it is exact, and pi/2
    the sum of `quarter`. The polynomials stand for, lowest power first,

        exponential   (e^r - 1 - r) / r^2, |r| <= ln(2)/2, for e^r
        less_one      the same, for e^r - 1
        logarithm     (log((1 + s)/(1 - s)) - 2s) / s^3 in s^2, |s| <= (sqrt(2) - 1) / (sqrt(2) + 1)
        sine          (sin(r) - r) / r^3 in r^2, |r| <= pi/4
        cosine        (cos(r) - 1) / r^2 in r^2

    (by Remez's algorithm; weighted so that the relative error of the function is the least). Sine
    and cosine are right up to `far` from 0. From `vanished` on erfc is 0, and `tail` is the series of
    `erfc`.
    """

    integer: str
    fraction: int
    bias: int
    ln2: float
    highest: float
    lowest: float
    saturated: float
    quarter: tuple[float, float, float]
    far: float
    exponential: tuple[float, ...]
    less_one: tuple[float, ...]
    logarithm: tuple[float, ...]
    sine: tuple[float, ...]
    cosine: tuple[float, ...]
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
        *("i64", 52, 1023, float.fromhex("0x1.62e42fefap-1"), 710.0, -746.0, 22.0),
        (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
        2.0**30,
        exponential=(
            *(0.4999999999999832, 0.16666666666611335, 0.041666666668142185),
            *(0.008333333370982557, 0.0013888888515161432, 0.00019841185067216464),
            *(2.480193234805719e-05, 2.7635068375817782e-06, 2.747673829919792e-07),
        ),
        less_one=(
            *(0.5000000000000006, 0.16666666666666685, 0.041666666666573315),
            *(0.008333333333314586, 0.0013888888932485977, 0.00019841269903060157),
            *(2.4801504310369037e-05, 2.755722791147074e-06, 2.7626382848754674e-07),
            2.5114491206165967e-08,
        ),
        logarithm=(
            *(0.6666666666663431, 0.40000000034127964, 0.28571419577742624),
            *(0.2222322152018051, 0.18127930478632254, 0.16773508368874054),
        ),
        sine=(
            *(-0.16666666666666652, 0.00833333333332622, -0.00019841269832270077),
            *(2.755731441591648e-06, -2.505085719955575e-08, 1.590192441562089e-10),
        ),
        cosine=(
            *(-0.4999999999999979, 0.04166666666656009, -0.0013888888875403234),
            *(2.480158009641793e-05, -2.755544403629739e-07, 2.0641226659831814e-09),
        ),
        vanished=27.5,
        tail=_numbers(
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
        *("i32", 23, 127, float.fromhex("0x1.62ep-1"), 89.0, -104.0, 10.0),
        (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
        2.0**15,
        exponential=(
            *(0.49999230350642104, 0.16667115547551556, 0.04189032838616061),
            0.008312488341788108,
        ),
        less_one=(
            *(0.5000000062142139, 0.16666542793621258, 0.04166628124431565),
            *(0.00836661064846228, 0.0013946506045562825),
        ),
        logarithm=(0.6666677675314944, 0.39977492233184314, 0.29873147194999455),
        sine=(-0.16666654970359998, 0.008332178987912437, -0.00019517349631193804),
        cosine=(-0.49999895038813474, 0.04165630295701428, -0.001359787734673623),
        vanished=10.5,
        tail=_numbers(
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

    return m.fused(horner(coefficients[1::2]), x, horner(coefficients[0::2]))


def _reduced(m: Arithmetic, x: str, polynomial: Sequence[float], offset: int) -> tuple[str, str]:
    """e^r - 1 for x = n ln(2) + r, |r| <= ln(2)/2, and n + `offset` in the exponent's place."""
    bits = Bits(m)
    form = bits.format
    magic = m.constant(form.magic + offset)
    shifted = m.fused(x, m.constant(1.0 / math.log(2.0)), magic)
    multiple = m.subtract(shifted, magic)
    r = m.fused(multiple, m.constant(-form.ln2), x)
    r = m.fused(multiple, m.constant(-form.rest), r)
    less_one = m.fused(m.multiply(r, r), _polynomial(m, r, polynomial), r)
    return less_one, bits.operate("shl", bits.of(shifted), form.fraction)


def exp(m: Arithmetic, x: str) -> str:
    """e^x; inf, 0 and subnormal numbers where they belong."""
    bits = Bits(m)
    form = bits.format
    highest, lowest = m.constant(form.highest), m.constant(form.lowest)
    x = m.select(m.compare("ogt", x, highest), highest, x)
    x = m.select(m.compare("olt", x, lowest), lowest, x)
    less_one, exponent = _reduced(m, x, form.exponential, 2 * form.bias)
    # 2^n in two factors, one of them known before n: n may be beyond one number's exponents.
    large = 2.0 ** (form.bias // 4)
    below = m.function.emit(f"icmp slt {bits.kind} {bits.of(x)}, {bits.constant(0)}")
    factor = m.select(below, m.constant(1.0 / large), m.constant(large))
    scale = bits.number(bits.operate("sub", exponent, bits.of(factor)))
    return m.multiply(m.fused(scale, less_one, scale), factor)


def tanh(m: Arithmetic, x: str) -> str:
    """tanh |x| = (e^2|x| - 1) / (e^2|x| + 1), the numerator without cancellation."""
    bits = Bits(m)
    form = bits.format
    saturated = m.constant(form.saturated)
    size = m.intrinsic("fabs", x)
    size = m.select(m.compare("ogt", size, saturated), saturated, size)
    less_one, exponent = _reduced(m, m.add(size, size), form.less_one, form.bias)
    scale = bits.number(exponent)
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
    series = _polynomial(m, z, form.logarithm)
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

    sine = m.fused(m.multiply(r, square), _polynomial(m, square, form.sine), r)
    cosine = m.fused(square, _polynomial(m, square, form.cosine), m.constant(1.0))
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
