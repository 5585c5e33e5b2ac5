"""log and log1p of the C library on whole vectors, to the bit, as LLVM IR, for exact mode.

As in `exactmath`, whose ways these are: the GNU C library computes log by the algorithm of Arm's
Optimized Routines (by Szabolcs Nagy, MIT licence), and log1p by that of Sun's fdlibm (1993, free to
use). The constants are theirs. log1p is here for numbers from 0 to 1, as softplus asks for it.
"""

from __future__ import annotations

import math
from functools import cache as once
from typing import TYPE_CHECKING

from .exactmath import (
    BELOW,
    LN2,
    POINT,
    ROWS,
    SMALLEST,
    Table,
    bits_of,
    fused,
    looked_up,
    number_of,
    numbers,
)
from .vectormath import Bits

if TYPE_CHECKING:
    from .arithmetic import Arithmetic

FIRST = 0x3FE6000000000000  # the bits of the number where the first row's interval begins
# Units of 2^-53 from the inverse of the middle of each interval to that of its c: each c was
# searched for so that log(c) is very near to a number with few bits.
CHOSEN = (
    *(-46284764, -115287508, -468669678, -249329608, 38090024, -246646796, -1002326510),
    *(684959852, -469186612, 114842368, 1027234976, -481782956, 170339482, 57318300),
    *(568107598, 685126114, -136840918, -692289424, -180227532, -928045960, 570685416),
    *(-979097650, 752109696, 94795624, -847275702, -521977068, 672214042, 896483156),
    *(308354710, 895786768, 482455110, -841273428, -436853460, -193753368, -411670436),
    *(-736356396, -690257420, -1020569004, 963527462, 418672224, 858672620, 30978658),
    *(884706354, -835668660, 146366742, 1030465360, 1015969072, 167574550, 660819904),
    *(303193368, 755488408, 396605714, 429596542, -691915432, 712326214, 431020044),
    *(-459795920, -263419452, 430427236, -929038414, -665643992, 771561040, -800689572),
    *(512416278, 956713054, 691440674, 256933754, 435031502, -324096686, 590255160),
    *(-471785550, -138738694, 187333682, -545720260, 183830348, 58036118, 517786458),
    *(772018560, -483266014, 136798762, 386341370, 408940642, 65060217, -120872168),
    *(189498853, -32395328, -49955913, 154042178, -346113480, 148348366, -396488327),
    *(-427431396, 107119491, -500798201, 212184347, 305888811, -330297730, -91422864),
    *(6707636, 273897542, -512931067, -500150233, 485589437, -280752730, 106848032),
    *(30953893, -291342514, -408884927, 149302919, -107851081, 225432558, 460497078),
    *(-452391632, -490679353, 508304210, 493208081, 336502878, 526975298, -457361038),
    *(-312310462, -365194252, -421357131, 362015322, 310793228, -441535439, -69145545),
    *(-528727990, 433364383),
)
# log(1 + r) = r + r^2 c0 + r^3 (c1 + c2 r + r^2 (c3 + c4 r)), |r| < 2^-8.
SERIES = numbers(
    *("-0x1.0000000000001p-1", "0x1.555555551305bp-2", "-0x1.fffffffeb4590p-3"),
    *("0x1.999b324f10111p-3", "-0x1.55575e506c89fp-3"),
)
# Numbers near to 1, from and to; log(1 + r) = r + r^2 c0 + r^3 (c1 + c2 r + c3 r^2 + ...).
NEAR = numbers("0x1.ep-1", "0x1.109p+0")
NEAR_SERIES = numbers(
    *("-0x1.0000000000000p-1", "0x1.5555555555577p-2", "-0x1.ffffffffffdcbp-3"),
    *("0x1.999999995dd0cp-3", "-0x1.55555556745a7p-3", "0x1.24924a344de30p-3"),
    *("-0x1.fffffa4423d65p-4", "0x1.c7184282ad6cap-4", "-0x1.999eb43b068ffp-4"),
    *("0x1.78182f7afd085p-4", "-0x1.5521375d145cdp-4"),
)
SPLIT = 2.0**27 + 1.0

# ln(2) in two parts for log1p; x from which 1 + x is halved; x below which two terms do.
HALVED_LN2 = numbers("0x1.62e42fee00000p-1", "0x1.a39ef35793c76p-33")
LARGE, TINY = float.fromhex("0x1.a827a00000000p-2"), 2.0**-29
NEARLY = (
    1.0 - 2.0**-18
)  # x from which, at the latest, 1 + x is so near to 2 that there is another way
# log(1 + f) = f - f^2 / 2 + s (f^2 / 2 + sum(c z^k)) with s = f / (2 + f), z = s^2, k from 1 on.
ODD_SERIES = numbers(
    *("0x1.5555555555593p-1", "0x1.999999997fa04p-2", "0x1.2492494229359p-2"),
    *("0x1.c71c51d8e78afp-3", "0x1.7466496cb03dep-3", "0x1.39a09d078c69fp-3"),
    "0x1.2f112df3e5244p-3",
)


@once
def intervals() -> Table:
    """1/c and log(c) for the rows' intervals, log(c) as a whole number of 2^-43."""
    rows = []
    for i, units in enumerate(CHOSEN):
        ends = (number_of(FIRST + ((i + k) << BELOW)) for k in (0, 1))
        inverse = 2.0 / sum(ends) + units * 2.0**-53
        log = -round(math.log(inverse) * 2.0**POINT) / 2.0**POINT
        rows.append((bits_of(inverse), bits_of(log)))
    return tuple(rows)


def _apart(m: Arithmetic, x: str) -> str:
    """log(x) of normal numbers: x = 2^k z, log(x) = k ln(2) + log(c) + log(1 + r), z = c (1 + r)."""
    bits = Bits(m)
    raw = bits.of(x)
    above = bits.operate("sub", raw, FIRST)
    row = bits.operate("and", bits.operate("lshr", above, BELOW), ROWS - 1)
    exponent = bits.operate("ashr", above, 52)
    z = bits.number(bits.operate("sub", raw, bits.operate("shl", exponent, 52)))
    magic = bits.format.magic
    k = bits.number(bits.operate("add", exponent, bits_of(magic)))
    k = m.subtract(k, m.constant(magic))
    inverse, log = map(bits.number, looked_up(m, intervals, row))
    r = fused(m, z, inverse, -1.0)
    scaled = fused(m, k, LN2[0], log)
    high = m.add(scaled, r)
    square = m.multiply(r, r)
    low = fused(m, k, LN2[1], m.add(m.subtract(scaled, high), r))
    low = fused(m, square, SERIES[0], low)
    first, second = (fused(m, r, SERIES[j + 1], SERIES[j]) for j in (1, 3))
    series = fused(m, square, second, first)
    return m.add(fused(m, m.multiply(r, square), series, low), high)


def _near(m: Arithmetic, x: str) -> str:
    """log(x) of numbers near to 1, of whose logarithm a sum would lose digits."""
    r = m.subtract(x, m.constant(1.0))
    square = m.multiply(r, r)
    cube = m.multiply(r, square)
    first, second, third = (fused(m, r, NEAR_SERIES[j + 1], NEAR_SERIES[j]) for j in (1, 4, 7))
    first, second, third = (
        fused(m, square, NEAR_SERIES[j], part) for j, part in ((3, first), (6, second), (9, third))
    )
    third = fused(m, cube, NEAR_SERIES[10], third)
    series = fused(m, cube, fused(m, cube, third, second), first)
    # r in two parts, so that r^2 / 2 has all its digits.
    shifted = fused(m, r, SPLIT - 1.0, r)
    high = fused(m, m.negative(m.constant(SPLIT - 1.0)), r, shifted)
    low = m.subtract(r, high)
    half = m.constant(NEAR_SERIES[0])
    high_square = m.multiply(high, high)
    total = fused(m, high_square, half, r)
    lost = fused(m, high_square, half, m.subtract(r, total))
    lost = fused(m, m.multiply(half, low), m.add(high, r), lost)
    return m.add(total, fused(m, cube, series, lost))


def log(m: Arithmetic, x: str) -> tuple[str, str]:
    """log(x)."""

    def within(low: float, high: float) -> str:
        pairs = (("oge", low), ("olt", high))
        masks = (m.compare(relation, x, m.constant(bound)) for relation, bound in pairs)
        return m.function.emit(f"and {m.mask} {next(masks)}, {next(masks)}")

    result, near = _apart(m, x), within(*NEAR)
    lanes = m.function.emit(f"bitcast {m.mask} {near} to i{m.width}")
    none = m.function.emit(f"icmp eq i{m.width} {lanes}, 0")
    (result,) = m.function.choose(
        none, [m.kind], lambda: [result], lambda: [m.select(near, _near(m, x), result)]
    )
    return result, within(SMALLEST, math.inf)


def log1p(m: Arithmetic, x: str) -> tuple[str, str]:
    """log(1 + x) for x from 0 to 1."""
    zero, half, one = (m.constant(number) for number in (0.0, 0.5, 1.0))
    total = m.add(one, x)
    large = m.compare("oge", x, m.constant(LARGE))
    f = m.select(large, m.subtract(m.multiply(half, total), one), x)
    lost = m.divide(m.subtract(x, m.subtract(total, one)), total)
    halves = m.multiply(m.multiply(half, f), f)
    s = m.divide(f, m.add(m.constant(2.0), f))
    z = m.multiply(s, s)
    first, second, third = (fused(m, z, ODD_SERIES[j + 1], ODD_SERIES[j]) for j in (1, 3, 5))
    square = m.multiply(z, z)
    fourth = m.multiply(square, square)
    series = fused(m, z, ODD_SERIES[0], m.multiply(square, first))
    series = fused(m, fourth, second, series)
    series = fused(m, m.multiply(square, fourth), third, series)
    rest = m.multiply(m.add(series, halves), s)
    small = m.subtract(f, m.subtract(halves, rest))
    high, low = map(m.constant, HALVED_LN2)
    lost = m.add(low, lost)
    big = m.subtract(high, m.subtract(m.subtract(halves, m.add(lost, rest)), f))
    result = m.select(large, big, small)
    tiny = m.compare("olt", x, m.constant(TINY))
    result = m.select(tiny, fused(m, m.multiply(x, x), -0.5, x), result)
    last = m.compare("oeq", x, one)
    result = m.select(last, m.add(high, low), result)
    simple = m.function.emit(
        f"and {m.mask} {m.compare('oge', x, zero)}, {m.compare('olt', x, m.constant(NEARLY))}"
    )
    return result, m.function.emit(f"or {m.mask} {simple}, {last}")


# As `exactmath.FORMS`.
FORMS = {"log": log, "log1p": log1p}
