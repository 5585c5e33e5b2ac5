"""`rules`: the arithmetic that the engine runs, as seen from Python.

That it is the op table's, bit for bit, is tested in `test_ops.py`.
"""

from __future__ import annotations

import math
from itertools import product

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from scalargrad import ops, rules
from strategies import (
    DOMAINS,
    EXPONENTS,
    SLOPES,
    SPECIAL_FLOATS,
    any_floats,
    bits,
    fewer_examples,
    moderate_floats,
    same_bits,
)

pytestmark = pytest.mark.pure

ELEMENTARY = [row for row in ops.TABLE if row.name not in ("take", "where", "detach")]
EXACT = ("add", "subtract", "multiply", "divide", "negative", "absolute", "sqrt")


def evaluate(name: str, a: float, b: float = 0.0, c: float = 0.0) -> float:
    return rules.evaluate(ops.BY_NAME[name].code, a, b, c)


def differentiate(name: str, slot: int, a: float, b: float = 0.0, c: float = 0.0) -> float:
    y = evaluate(name, a, b, c)
    return rules.differentiate(ops.BY_NAME[name].code, slot, a, b, c, y)


# --- IEEE arithmetic, by NumPy's word -------------------------------------------------------------


@pytest.mark.parametrize("row", [row for row in ops.TABLE if row.ufunc], ids=lambda row: row.name)
def test_results_are_numpys(row: ops.Op) -> None:
    ufunc = getattr(np, row.ufunc)
    for operands in product(SPECIAL_FLOATS, repeat=ufunc.nin):
        if row.name == "power" and operands[1] == 0.5:
            continue  # NumPy takes the square root, whose -0.0 is not C's
        with np.errstate(all="ignore"):
            want = float(ufunc(*map(np.float64, operands)))
        got = evaluate(row.name, *operands)
        if row.name in ("maximum", "minimum") and operands[0] == operands[1]:
            assert got == want  # of 0.0 and -0.0 either may be the larger
        elif row.ufunc in EXACT or not math.isfinite(want):
            assert bits(got) == bits(want), operands
        else:
            assert got == pytest.approx(want, rel=1e-14, abs=1e-323), operands


@given(a=any_floats(), b=any_floats(), c=any_floats())
def test_nothing_raises_and_everything_is_a_float(a: float, b: float, c: float) -> None:
    for row in ops.TABLE:
        assert type(evaluate(row.name, a, b, c)) is float
        assert type(differentiate(row.name, 0, a, b, c)) is float
        assert type(differentiate(row.name, 1, a, b, c)) is float


@given(a=any_floats(), b=any_floats(), c=any_floats())
def test_the_same_arguments_give_the_same_bits(a: float, b: float, c: float) -> None:
    for row in ops.TABLE:
        first, second = (evaluate(row.name, a, b, c) for _ in range(2))
        assert same_bits([first], [second])


def test_a_code_beyond_the_table_computes_nothing() -> None:
    beyond = len(ops.TABLE) + 1
    assert rules.evaluate(beyond, 2.0, 3.0, 4.0) == 2.0
    assert rules.differentiate(beyond, 0, 2.0, 3.0, 4.0, 2.0) == 0.0


# --- no fused multiply-add, no reassociation ------------------------------------------------------


def test_products_and_sums_round_each_on_its_own() -> None:
    """A fused multiply-add would give the part of a * a that the rounded product lost."""
    a = 1.0 + 2.0**-30
    square = evaluate("mul", a, a)
    assert evaluate("sub", square, 1.0 + 2.0**-29) == 0.0
    y = math.tanh(0.3)
    assert differentiate("tanh", 0, 0.3) == 1.0 - y * y
    s = ops.sigmoid(0.3)
    assert differentiate("sigmoid", 0, 0.3) == s * (1.0 - s)
    assert differentiate("gelu", 0, 0.7) == ops.BY_NAME["gelu"].partials(0.7, ops.gelu(0.7))[0]


# --- where ----------------------------------------------------------------------------------------


@given(condition=any_floats(), a=any_floats(), b=any_floats())
def test_where_chooses_a_side_and_its_derivative(condition: float, a: float, b: float) -> None:
    taken, other = (a, b) if condition != 0.0 else (b, a)
    assert bits(evaluate("where", a, b, condition)) == bits(taken)
    slopes = [differentiate("where", slot, a, b, condition) for slot in (0, 1)]
    assert slopes == ([1.0, 0.0] if condition != 0.0 else [0.0, 1.0])
    assert other is not None


# --- derivatives by differences -------------------------------------------------------------------


@pytest.mark.parametrize("row", ELEMENTARY, ids=lambda row: row.name)
@fewer_examples
@given(data=st.data())
def test_partials_against_central_differences(row: ops.Op, data: st.DataObject) -> None:
    assert row.arity is not None
    operands = data.draw(
        st.lists(moderate_floats(), min_size=row.arity, max_size=row.arity).filter(
            lambda operands: row.name not in DOMAINS or DOMAINS[row.name](*operands)
        )
    )
    constants = {"exponent": EXPONENTS, "slope": SLOPES, "": (0.0,)}[row.constant]
    constant = data.draw(st.sampled_from(constants))
    for slot, x in enumerate(operands):
        step = 1e-5 * max(1.0, abs(x))
        ends = []
        for sign in (1.0, -1.0):
            moved = list(operands)
            moved[slot] = x + sign * step
            ends.append((moved[slot], evaluate(row.name, *(*moved, 0.0)[:2], constant)))
        (x1, y1), (x0, y0) = ends
        slope = differentiate(row.name, slot, *(*operands, 0.0)[:2], constant)
        scale = max(1.0, abs(slope), abs(evaluate(row.name, *(*operands, 0.0)[:2], constant)))
        assert abs((y1 - y0) / (x1 - x0) - slope) < 1e-6 * scale


def test_many_operands_are_evaluated_as_each_alone() -> None:
    a = np.array([0.5, -2.0, 0.0, -0.0, math.inf, math.nan, 1e300])
    b = np.array([3.0, 0.25, -1.0, 2.0, -math.inf, 1.0, 1e10])
    for row in ELEMENTARY:
        found = np.full(len(a), 7.0)
        rules.evaluate_all(row.code, a.data, b.data, found.data)
        alone = [evaluate(row.name, *both) for both in zip(a.tolist(), b.tolist())]
        assert list(map(bits, found)) == list(map(bits, alone))
