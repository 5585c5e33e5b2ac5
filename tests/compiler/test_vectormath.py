"""Fast mode's functions against 50 digits, over their whole range, in both precisions."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
import pytest

pytest.importorskip("llvmlite")

from scalargrad import ops, rules
from scalargrad.compiler import native, vectormath
from scalargrad.compiler.loops import Apply, Loop, Loops, Operand, Space

RNG = np.random.default_rng(0)
RANGES = {
    ops.EXP: (mpmath.exp, np.concatenate((RNG.uniform(-80, 80, 300), RNG.normal(size=300)))),
    ops.LOG: (
        mpmath.log,
        np.concatenate((np.exp(RNG.uniform(-80, 80, 300)), 1 + RNG.normal(size=300) * 1e-3)),
    ),
    ops.TANH: (
        mpmath.tanh,
        np.concatenate((RNG.normal(size=300) * 3, 10 ** RNG.uniform(-12, 1, 300))),
    ),
    ops.SQRT: (mpmath.sqrt, np.exp(RNG.uniform(-80, 80, 600))),
    ops.SIGMOID: (lambda x: 1 / (1 + mpmath.exp(-x)), RNG.normal(size=600) * 10),
    ops.SOFTPLUS: (lambda x: mpmath.log(1 + mpmath.exp(x)), RNG.normal(size=600) * 10),
}
ANGLES = np.concatenate(
    (
        *(RNG.uniform(-10, 10, 300), RNG.normal(size=100) * 1e4, 10 ** RNG.uniform(-12, 1, 100)),
        # Nearest to multiples of pi/2; and far from 0.
        np.arange(-50, 50) * (np.pi / 2),
        *([2.0**29 + 0.5, 2.0**30, 2.0**30 + 1.0, 1e9, 1e15, 1e22],),
    )
)
TAILS = np.concatenate((RNG.normal(size=300), RNG.uniform(-7, 26, 300), [3.75, 1e-20, 9.0]))
RANGES |= {
    ops.ERFC: (mpmath.erfc, TAILS),
    # Far below 0 the rounding of erfc's argument counts for more.
    ops.GELU: (lambda x: x * mpmath.ncdf(x), RNG.uniform(-1.5, 9, 300)),
}
RANGES |= {ops.SIN: (mpmath.sin, ANGLES), ops.COS: (mpmath.cos, ANGLES)}
# Where arguments are as large as they can be once they are reduced: polynomials err most near there.
NEAR = 1.0 + RNG.uniform(-0.02, 0.02, 300)
HALVES = RNG.integers(-20, 20, 300) + 0.5
EDGES = {
    ops.EXP: (mpmath.exp, HALVES * np.log(2.0) * NEAR),
    ops.LOG: (mpmath.log, 2.0**HALVES * NEAR),
    ops.TANH: (
        mpmath.tanh,
        RNG.uniform(0.5, 1.5, 300) * np.log(2.0) / 4.0 * RNG.choice((1, 3), 300),
    ),
    ops.SIN: (mpmath.sin, HALVES * (np.pi / 2) * NEAR),
    ops.COS: (mpmath.cos, HALVES * (np.pi / 2) * NEAR),
}
POLYNOMIALS = {
    ops.EXP: "exponential",
    ops.LOG: "logarithm",
    ops.TANH: "less_one",
    ops.SIN: "sine",
    ops.COS: "cosine",
}
SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, 1.0, 1e-310, 5e-324, 1e308)
EXTREME = (709.78, 709.79, 710.0, 800.0, -708.4, -740.0, -745.1, -746.0, -800.0)


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")


def fast(op: int, x: np.ndarray, const: float = 0.0) -> np.ndarray:
    """op(x) by native code in fast mode."""
    source, count = Operand(Space.PARAMETER, 0, (1,)), len(x)
    step = Apply(Operand(Space.OUTPUT, 0, (1,)), (Loop(count),), op, (source,), const)
    loops = Loops((step,), {Space.PARAMETER: count, Space.OUTPUT: count})
    program = native.build(loops, mode="fast", dtype=str(x.dtype))
    return program.execute({Space.PARAMETER: x})[Space.OUTPUT]


def units(op: int, true: Callable[[mpmath.mpf], mpmath.mpf], x: np.ndarray) -> float:
    """The largest error of fast mode, in units in the last place; it may lose subnormal numbers."""
    most, unit, smallest = 0.0, float(np.finfo(x.dtype).eps), np.finfo(x.dtype).smallest_normal
    for a, y in zip(x, fast(op, x)):
        with mpmath.workdps(50):
            expected = true(mpmath.mpf(float(a)))
            error = abs(mpmath.mpf(float(y)) - expected)
            if abs(expected) <= smallest:
                assert abs(y) < 2 * smallest, (a, y)
            else:
                most = max(most, float(error / abs(expected)) / unit)
    return most


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("op", RANGES, ids=lambda op: ops.BY_CODE[op].name)
def test_within_four_units_in_the_last_place(op, dtype):
    true, numbers = RANGES[op]
    x = numbers[np.abs(numbers) < np.finfo(dtype).max].astype(dtype)
    assert units(op, true, x) <= 4


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("op", EDGES, ids=lambda op: ops.BY_CODE[op].name)
def test_polynomials_are_good_to_the_ends_of_their_ranges_and_no_better_than_needed(
    op, dtype, monkeypatch
):
    true, numbers = EDGES[op]
    x = numbers.astype(dtype)
    assert units(op, true, x) <= 4
    real = native.REALS[dtype]
    form, name = vectormath.FORMATS[real], POLYNOMIALS[op]
    short = form._replace(**{name: getattr(form, name)[:-1]})
    monkeypatch.setitem(vectormath.FORMATS, real, short)
    assert units(op, true, x) > 4


@pytest.mark.parametrize("op", RANGES, ids=lambda op: ops.BY_CODE[op].name)
def test_special_numbers_are_where_they_belong(op):
    x = np.array([*SPECIAL, *(EXTREME if op == ops.EXP else ())])
    expected = np.array([rules.evaluate(op, float(a), 0.0, 0.0) for a in x])
    np.testing.assert_allclose(fast(op, x), expected, rtol=1e-13, atol=1e-322)


def test_roots_are_within_four_units_from_the_smallest_number_to_the_largest():
    bits = RNG.integers(1, np.array(np.inf).view(np.int64), 100_000)
    x = np.concatenate((bits.view(float), np.arange(1, 1000).view(float)))
    np.testing.assert_allclose(fast(ops.SQRT, x), np.sqrt(x), rtol=4 * np.finfo(float).eps)


@pytest.mark.parametrize("n", [0.0, 0.5, -0.5, 1.0, 1.5, -1.5, 2.0, -2.0, 3.0, 4.0, 2.7, -3.1, 7.0])
def test_constant_powers(n):
    x = np.exp(RNG.normal(size=100))
    np.testing.assert_allclose(fast(ops.POW, x, n), x**n, rtol=1e-14)


def quotients(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a / b and a / b / b by native code in fast mode: a divisor used twice."""
    count = len(a)
    lanes, places = (Loop(count),), [Operand(Space.OUTPUT, k * count, (1,)) for k in range(2)]
    above, below = Operand(Space.PARAMETER, 0, (1,)), Operand(Space.PARAMETER, count, (1,))
    steps = tuple(
        Apply(place, lanes, ops.DIV, (source, below))
        for place, source in zip(places, (above, places[0]))
    )
    program = native.build(
        Loops(steps, {Space.PARAMETER: 2 * count, Space.OUTPUT: 2 * count}), mode="fast"
    )
    both = program.execute({Space.PARAMETER: np.concatenate((a, b))})[Space.OUTPUT]
    return both[:count], both[count:]


def test_quotients_by_reciprocals_are_within_two_units_each():
    a, b = RNG.normal(size=1000), RNG.normal(size=1000) * 10.0 ** RNG.uniform(-150, 150, 1000)
    once, twice = quotients(a, b)
    np.testing.assert_allclose(once, a / b, rtol=2 * np.finfo(float).eps)
    np.testing.assert_allclose(twice, a / b / b, rtol=4 * np.finfo(float).eps)


def test_quotients_of_special_numbers_are_where_they_belong():
    normal = [x for x in SPECIAL if not 0.0 < x < np.finfo(float).tiny]
    a, b = map(np.ravel, np.meshgrid([0.0, -0.0, 1.0, -2.0, np.inf, np.nan], normal))
    with np.errstate(all="ignore"):
        expected = a / b
    np.testing.assert_allclose(quotients(a, b)[0], expected, rtol=1e-13, atol=1e-322)
