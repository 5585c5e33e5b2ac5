"""Jacobians in few walks have the bits of a walk for each row, and take as few as there may be."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import scalargrad as sg
from scalargrad import Value, transforms
from scalargrad.compiler.sparsity import apart, directions
from strategies import same_bits

pytestmark = pytest.mark.pure


@given(st.lists(st.sets(st.integers(0, 8), max_size=4), max_size=10))
def test_lines_of_one_group_have_no_place_in_common(lines: list[set[int]]) -> None:
    groups = apart(lines)
    for k in set(groups):
        members = [line for line, group in zip(lines, groups) if group == k]
        assert sum(map(len, members)) == len(set().union(*members))


def test_a_band_takes_as_many_walks_as_it_is_wide() -> None:
    band = [{k, k + 1, k + 2} for k in range(50)]
    assert max(apart(band)) == 2


def same(found: Any, expected: Any) -> bool:
    found, expected = np.array(found), np.array(expected)
    return found.shape == expected.shape and same_bits(
        found.ravel().tolist(), expected.ravel().tolist()
    )


def test_a_direction_for_each_group() -> None:
    assert list(directions([0, 1, 0])) == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    assert list(directions([])) == []


# --- as rows, one by one --------------------------------------------------------------------------


@st.composite
def functions(draw: st.DrawFn) -> tuple[Callable[[Any], Any], int]:
    """A function of n numbers, each result of which is computed from some of them, or from none."""
    n = draw(st.integers(1, 9))
    used = draw(st.lists(st.lists(st.integers(0, n - 1), max_size=3), min_size=1, max_size=9))
    again, own = draw(st.booleans()), draw(st.booleans())
    weight = Value(draw(st.floats(-2, 2)))

    def function(x: Any) -> Any:
        inner = [(y * 0.7).sin() for y in x]
        terms = [sg.total([inner[j] * x[j] * weight for j in row]) for row in used]
        terms = [sg.maximum(t, 0.1 * t) / (t * t - 0.3) for t in terms]
        return [*terms, *([terms[0], terms[0] * 2.0] if again else []), *([x[0]] if own else [])]

    return function, n


@settings(max_examples=60)
@given(functions(), st.randoms(use_true_random=False), st.booleans())
def test_few_walks_have_the_bits_of_a_walk_for_each_row(
    drawn: tuple[Callable[[Any], Any], int], source: random.Random, numeric: bool
) -> None:
    function, n = drawn
    x = np.array([source.choice([0.0, 1.0, source.uniform(-2, 2)]) for _ in range(n)])

    def stacked(x: Any) -> Any:
        rows = sg.jacobian(function)(x)
        return np.array([list(row) for row in rows])

    many = transforms._Replayed.MANY
    transforms._Replayed.MANY = 2 if numeric else many
    try:
        found = stacked(x) if numeric else sg.compile(stacked, backend="interpreter")(x)
    finally:
        transforms._Replayed.MANY = many
    outputs = function([Value(y) for y in x])
    variables = [Value(y) for y in x]
    expected = []
    for k in range(len(outputs)):
        for v in variables:
            v.grad = 0.0
        root = function(variables)[k]
        if isinstance(root, Value):
            root.backward()
        expected.append([v.grad for v in variables])
    assert same(found, expected)


def test_what_is_not_finite_stays_in_its_row() -> None:
    def function(x: Any) -> Any:
        return [x[0].log(), x[1] ** 0.5, x[2] * math.inf, x[3] * 2.0]

    rows = sg.compile(lambda x: np.array(sg.jacobian(function)(x)))([0.0, 0.0, 0.0, 1.0])
    assert same(rows, np.diag([math.inf, math.inf, math.inf, 2.0]))


def test_a_band_compiles_to_a_program_that_grows_with_its_length() -> None:
    def band(x: Any) -> Any:
        return [a * a - 2 * b * c for a, b, c in zip([0.0, *x[:-1]], x, [*x[1:], 0.0])]

    def energy(x: Any) -> Any:
        return sum((b - a**2) ** 2 for a, b in pairwise(x))

    for derivative in (sg.jacobian(band), sg.hessian(energy)):
        sizes = []
        for n in (20, 40):
            compiled, x = sg.compile(derivative), np.linspace(0.1, 1.0, n)
            found = compiled(x)
            assert same(found, derivative(x))
            assert np.count_nonzero(found) <= 3 * n
            sizes.append(compiled.stats["nodes"])
        assert sizes[1] < 2.2 * sizes[0]


def test_results_of_many_numbers_and_a_long_argument() -> None:
    x = np.linspace(0.5, 1.5, 70)
    assert same(sg.jacobian(lambda x: x * x)(x), np.diag(2 * x))
    assert same(sg.jacobian(lambda x: [x[0], x[0]])(x), [np.eye(70)[0]] * 2)
