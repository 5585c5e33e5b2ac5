"""Numbering equal rows, and cutting lists into runs."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from scalargrad.compiler.cuts import labels, runs

pytestmark = pytest.mark.pure


@given(st.integers(1, 3), st.lists(st.integers(-2, 2), min_size=1, max_size=60))
def test_labels_are_equal_where_rows_are_equal(width, numbers):
    numbers += [0] * (-len(numbers) % width)
    rows = np.array(numbers, np.int64).reshape(-1, width)
    known: dict[tuple[int, ...], int] = {}
    expected = [known.setdefault(tuple(row), len(known)) for row in rows.tolist()]
    assert labels(rows).tolist() == expected


def test_labels_of_nothing():
    assert labels(np.empty((0, 3), np.int64)).tolist() == []
    assert labels(np.empty((3, 0), np.int64)).tolist() == [0, 0, 0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=40))
def test_runs_have_one_difference_and_one_kind_and_cannot_be_longer(pairs):
    rows = np.array([[x] for x, _ in pairs], np.int64)
    kinds = np.array([k for _, k in pairs], np.int64)
    starts, heads, steps = runs(rows, kinds, None, 1)
    ends = [*starts[1:].tolist(), len(rows)]
    assert heads.tolist() == [
        [int(rows[a, 0]), b - a] for a, b in zip(starts.tolist(), ends, strict=True)
    ]
    for a, b, step in zip(starts.tolist(), ends, steps[:, 0].tolist(), strict=True):
        assert set(np.diff(rows[a:b, 0]).tolist()) <= {step}
        assert len(set(kinds[a:b].tolist())) == 1
        if b < len(rows):
            longer = set(np.diff(rows[a : b + 1, 0]).tolist())
            assert len(longer) > 1 or kinds[b] != kinds[a]


def test_runs_can_be_held_to_one_difference():
    rows = np.array([[0], [5], [6], [7], [20], [21]], np.int64)
    kinds = np.zeros(6, np.int64)
    most = np.array([0, 1, 1, 0, 1], np.int64)
    starts, heads, steps = runs(rows, kinds, most, 1)
    assert starts.tolist() == [0, 1, 4]
    assert heads.tolist() == [[0, 1], [5, 3], [20, 2]]
    assert steps.tolist() == [[0], [1], [1]]


def test_two_rows_that_differ_in_length_are_no_run():
    rows = np.array([[0, 1], [10, 2], [20, 3]], np.int64)
    kinds = np.zeros(3, np.int64)
    assert runs(rows[:2].copy(), kinds[:2], None, 1)[0].tolist() == [0, 1]
    assert runs(rows, kinds, None, 1)[0].tolist() == [0]
