"""Sorting by creation number: whatever the gaps between the numbers, the order is `sorted`'s."""

from __future__ import annotations

import random
import sys

import hypothesis.strategies as st
import pytest
from hypothesis import given

from scalargrad import order

pytestmark = pytest.mark.pure

# Spans about the sizes where the method changes: a table up to 4n + 64, then 11 bits a pass.
SPANS = [1, 2, 63, 64, 65, 2**11 - 1, 2**11, 2**22 - 1, 2**22, 2**22 + 1, 2**33, 2**44, 2**54]


def check(numbers: list[int]) -> None:
    nodes = [object() for _ in numbers]
    ordered = order.sorted_by(nodes, numbers)
    expected = [node for _, node in sorted(zip(numbers, nodes), key=lambda pair: pair[0])]
    assert all(a is b for a, b in zip(ordered, expected, strict=True))


@given(numbers=st.lists(st.integers(0, 2**54), unique=True))
def test_any_numbers(numbers: list[int]) -> None:
    check(numbers)


@given(numbers=st.lists(st.integers(0, 300), unique=True, min_size=1), lowest=st.integers(0, 2**54))
def test_dense_numbers_anywhere(numbers: list[int], lowest: int) -> None:
    check([lowest + number for number in numbers])


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("count", [1, 2, 3, 100, 5000])
@pytest.mark.parametrize("lowest", [0, 1, 2**40 + 12345])
def test_numbers_over_a_span(span: int, count: int, lowest: int) -> None:
    rng = random.Random(span + count)
    inside = rng.sample(range(1, span), min(count, span - 1)) if span > 1 else []
    numbers = [lowest + number for number in {0, span, *inside}]
    rng.shuffle(numbers)
    check(numbers)
    check(sorted(numbers))
    check(sorted(numbers, reverse=True))


@pytest.mark.parametrize("count", [5, 20, 1000])
@pytest.mark.parametrize("excess", [-2, -1, 0, 1, 2])
def test_both_sides_of_the_tables_limit(count: int, excess: int) -> None:
    rng = random.Random(count)
    span = 4 * count + 64 + excess
    numbers = [0, span, *rng.sample(range(1, span), count - 2)]
    rng.shuffle(numbers)
    check(numbers)


def test_nothing_to_sort() -> None:
    assert order.sorted_by([], []) == []
    assert order.sorted_by(["only"], [7]) == ["only"]


@pytest.mark.parametrize("gap", [1, 1000])
def test_no_reference_is_lost_or_added(gap: int) -> None:
    nodes = [object() for _ in range(500)]
    numbers = [gap * k for k in range(500)][::-1]
    before = [sys.getrefcount(node) for node in nodes]
    for _ in range(20):
        order.sorted_by(nodes, numbers)
    assert [sys.getrefcount(node) for node in nodes] == before
    ordered = order.sorted_by(nodes, numbers)
    assert [sys.getrefcount(node) for node in nodes] == [count + 1 for count in before]
    assert ordered == nodes[::-1]


def test_the_given_list_is_left_alone() -> None:
    nodes, numbers = ["c", "a", "b"], [3, 1, 2]
    assert order.sorted_by(nodes, numbers) == ["a", "b", "c"]
    assert (nodes, numbers) == (["c", "a", "b"], [3, 1, 2])
