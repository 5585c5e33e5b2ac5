"""Loops found in lists of integer vectors."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from scalargrad.compiler.affine import MOST_LOOPS, Found, nest
from scalargrad.compiler.loops import Loop, counters

pytestmark = pytest.mark.pure


def enumerated(found: list[Found], width: int) -> np.ndarray:
    rows = []
    for one in found:
        steps = np.array(one.steps, np.int64).reshape(len(one.loops), width)
        rows.append(one.first + counters(one.loops) @ steps)
    return np.concatenate(rows)


@given(st.data())
def test_the_loops_enumerate_the_rows_in_order(data):
    width, n = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 25))
    number = st.integers(0, data.draw(st.sampled_from((1, 2, 50))))
    rows = np.array(
        data.draw(
            st.lists(st.lists(number, min_size=width, max_size=width), min_size=n, max_size=n)
        )
    )
    kinds = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    found = nest(rows, kinds)
    assert np.array_equal(enumerated(found, width), rows)
    for one in found:
        covered = kinds[one.item : one.item + len(counters(one.loops))]
        assert (covered == covered[0]).all()


@pytest.mark.parametrize(
    ("rows", "loops"),
    [
        ([(7 * i + j, i, 3 * j) for i in range(5) for j in range(4)], (Loop(5), Loop(4))),
        ([(9 * i, j * i) for i in range(1) for j in range(6)], (Loop(6),)),
        ([(i, k) for i in range(4) for j in range(3) for k in range(2)], None),
        ([(16 * t + s, s) for t in range(6) for s in range(t + 1)], (Loop(6), Loop(1, (1,)))),
        ([(16 * t + s, s) for t in range(6) for s in range(6 - t)], (Loop(6), Loop(6, (-1,)))),
        (
            [(99 * t + 9 * h + s,) for t in range(4) for h in range(3) for s in range(t + 1)],
            (Loop(4), Loop(3), Loop(1, (1, 0))),
        ),
    ],
)
def test_regular_rows_are_one_nest(rows, loops):
    rows = np.array(rows, np.int64)
    (found,) = nest(rows)
    assert np.array_equal(enumerated([found], rows.shape[1]), rows)
    if loops is not None:
        assert found.loops == loops


def test_two_rows_of_different_length_are_no_triangle():
    rows = np.array([(0, 0), (0, 1), (50, 0), (50, 1), (50, 2)])
    assert all(not any(loop.slopes) for found in nest(rows) for loop in found.loops)


def test_gives_up_beyond_the_limit():
    rows = np.random.default_rng(0).integers(0, 1000, (200, 2))
    assert nest(rows, limit=8) is None
    assert len(nest(rows)) > 8


def test_rows_without_structure_are_not_merged_for_ever():
    rng = np.random.default_rng(0)
    rows, kinds = rng.integers(0, 10**6, (3000, 2)), rng.integers(0, 1000, 3000)
    found = nest(rows, kinds)
    assert all(len(one.loops) <= MOST_LOOPS for one in found)
    assert np.array_equal(enumerated(found, 2), rows)
