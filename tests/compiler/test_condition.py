"""Conditions: comparisons in a traced program behave as the bools they stand for."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import pytest

import scalargrad as sg
from scalargrad import Value
from scalargrad.compiler import compile
from scalargrad.compiler.condition import Condition

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


def test_outside_a_trace_there_are_none() -> None:
    assert not isinstance(Value(1.0) > 0, Condition)
