"""Conditions: comparisons in a traced program behave as the bools they stand for."""

from __future__ import annotations

import itertools
import math
import operator
from typing import Any

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Value
from scalargrad.compiler import compile
from scalargrad.compiler.condition import Condition
from scalargrad.errors import TraceError

pytestmark = pytest.mark.pure
NUMBERS = (-1.0, 0.0, 2.0)


@pytest.mark.parametrize("combine", [operator.and_, operator.or_, operator.xor])
def test_combined_symbolically(combine: Any) -> None:
    f = compile(lambda x, y: sg.where(combine(x > 0, y < 1), 1.0, 0.0))
    left = compile(lambda x: sg.where(combine(True, x > 0), 1.0, 0.0))
    right = compile(lambda x: sg.where(combine(x > 0, False), 1.0, 0.0))
    for x, y in itertools.product(NUMBERS, NUMBERS):
        assert f(x, y) == float(combine(x > 0, y < 1))
        assert left(x) == float(combine(True, x > 0))
        assert right(x) == float(combine(x > 0, False))
    assert f.stats["guards"] == 0
    with pytest.raises(TypeError, match="unsupported operand"):
        compile(lambda x: combine(x > 0, "a"))(1.0)


@pytest.mark.parametrize(
    "use",
    [
        lambda a, b: 1.0 if a else 0.0,
        lambda a, b: 1.0 if not a else 0.0,
        lambda a, b: 1.0 if a and b else 0.0,
        lambda a, b: 1.0 if a or b else 0.0,
        lambda a, b: 1.0 if a == b else 0.0,
        lambda a, b: 1.0 if a != b else 0.0,
        lambda a, b: 1.0 if a == True else 0.0,  # noqa: E712
        lambda a, b: 1.0 if a == 1 else 0.0,
        lambda a, b: {True: 3.0, False: 4.0}[a],
        lambda a, b: [3.0, 4.0][a],
        lambda a, b: float(int(a)),
        lambda a, b: float(a) + 1.0,
        lambda a, b: float(all([a, b])),
        lambda a, b: sum([a, b]),
        lambda a, b: a * 3.0 + 2.0 * b,
        lambda a, b: a - b,
        lambda a, b: 1 - a,
        lambda a, b: -a + abs(b),
        lambda a, b: (a + 1) / (b + 1),
        lambda a, b: 2.0 / (a + 1.0) + 2**b,
        lambda a, b: (+a + 1.0) ** b,
        lambda a, b: a < b,
        lambda a, b: a >= 0.5,
        lambda a, b: a > 0.5,
        lambda a, b: a >= b,
    ],
)
def test_used_as_the_bool_it_stands_for(use: Any) -> None:
    f = compile(lambda x, y: use(x > 0, y >= 2))
    for x, y in itertools.product(NUMBERS, NUMBERS):
        assert float(f(x, y)) == float(use(x > 0, y >= 2))


def test_arithmetic_has_the_gradient_of_a_constant() -> None:
    w = Value(3.0)
    f = compile(lambda x: (x > 0) * x * w + (x > 1))
    assert f.value_and_grad(2.0, wrt=(0, "parameters"))[1][0] == 3.0
    assert f.value_and_grad(-2.0, wrt=0) == (-0.0, 0.0)
    assert f.stats["traces"] == 1


def test_it_says_what_it_is() -> None:
    seen = []
    compile(lambda x, y: [seen.append(repr(c)) for c in (x > y, x >= 2, (x < 1) & (y > 0))] and x)(
        1.0, 2.0
    )
    assert seen == [
        "Condition(x > y)",
        "Condition(x >= 2.0)",
        "Condition((x < 1.0) and (y > 0.0))",
    ]


@pytest.mark.parametrize(
    "use",
    [
        lambda x, y: x * x if x == 2.0 else -x,
        lambda x, y: x * x if x != 0.0 else -x,
        lambda x, y: x * x if x == y else -x,
        lambda x, y: x * x if x * y == y * 2.0 else -x,
        lambda x, y: 1.0 if x in (0, 2) else 0.0,
        lambda x, y: 1.0 if [x, y] == [2.0, -1.0] else 0.0,
        lambda x, y: float([x, y, 2.0].index(2.0)),
        lambda x, y: float([x, y].count(0.0)),
        lambda x, y: np.where(np.array([x, y]) == 2.0, 1.0, 0.0).sum(),
        lambda x, y: 1.0 if np.float64(2.0) == x else 0.0,
        lambda x, y: 1.0 if x == "2.0" or x == None else 0.0,  # noqa: E711
    ],
)
def test_equality_of_numbers_that_come_from_arguments(use: Any) -> None:
    f = compile(use)
    for x, y in itertools.product(NUMBERS, NUMBERS):
        assert f(x, y) == use(x, y)


def test_equality_kept_symbolically() -> None:
    same = compile(lambda x: sg.where(x == 2.0, 5.0 * x, x), batch="sum")
    other = compile(lambda x, y: sg.where(x != y, 5.0, 1.0))
    assert same([1.0, 2.0, 3.0]) == 14.0
    assert (other(2.0, 2.0), other(2.0, 3.0), other(math.nan, math.nan)) == (1.0, 5.0, 5.0)
    assert other.stats["guards"] == 0
    with pytest.raises(TraceError, match=r"x == 0\.0 at .*test_condition\.py:\d+ is False for"):
        compile(lambda x: x if x == 0.0 else 2.0 * x, batch="sum")([1.0, 0.0])


def test_equality_of_parameters_is_that_of_nodes() -> None:
    w = Value(2.0)
    for use in (
        lambda x: x if w == 2.0 else 3.0 * x,
        lambda x: x if x * w == 4.0 else 3.0 * x,
        lambda x: x if x == w else 3.0 * x,
        lambda x: x if Value(2.0) == 2.0 else 3.0 * x,
        lambda x: 3.0 * x if w == w and w in [Value(2.0), w] else x,
    ):
        assert compile(use)(2.0) == 6.0
    assert compile(lambda x, n: x if w == n else 3.0 * x)(2.0, 2) == 6.0


def test_outside_a_trace_there_are_none() -> None:
    assert not isinstance(Value(1.0) > 0, Condition)
