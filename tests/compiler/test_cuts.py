"""Numbering equal rows, and cutting lists into runs."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from scalargrad.compiler.cuts import greedy, labels

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


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=40))
def test_greedy_runs_have_one_difference_and_one_kind_and_cannot_be_longer(pairs):
    step = np.array([d for d, _ in pairs][1:], np.int64)
    kinds = np.array([k for _, k in pairs], np.int64)
    starts = [*greedy(step, kinds).tolist(), len(kinds)]
    assert starts[0] == 0
    for a, b in itertools.pairwise(starts):
        assert len(set(step[a : b - 1].tolist())) <= 1
        assert len(set(kinds[a:b].tolist())) == 1
        if b < len(kinds):
            longer = set(step[a:b].tolist())
            assert len(longer) > 1 or kinds[b] != kinds[a]
