"""Drawing mini-batches: the order that `random.shuffle` gives, and rows side by side."""

from __future__ import annotations

import random

import numpy as np
import pytest

from scalargrad.train.drawing import Gather, shuffled

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 255, 256, 257, 5000, 70_000])
def test_the_order_is_that_of_shuffle(count: int) -> None:
    for seed in range(3):
        mine, own = random.Random(seed), random.Random(seed)
        expected = list(range(count))
        own.shuffle(expected)
        assert shuffled(count, mine).tolist() == expected
        assert mine.getstate() == own.getstate()


def test_integers_of_32_bits_by_default_are_no_trouble(monkeypatch):
    # As the first NumPy has them on Windows.
    arange, expected = np.arange, list(range(100))
    random.Random(1).shuffle(expected)
    monkeypatch.setattr(np, "arange", lambda count, dtype=np.int32: arange(count, dtype=dtype))
    assert shuffled(100, random.Random(1)).tolist() == expected


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64])
def test_rows_are_copied_into_their_columns(kind: type) -> None:
    table = np.arange(15).reshape(5, 3).astype(kind)
    into = np.full((4, 6), -1).astype(kind)
    Gather(table, into, 2)(np.array([4, 0, 4]))
    assert into[:3, 2:5].tolist() == table[[4, 0, 4]].tolist()
    assert set(into[:, [0, 1, 5]].ravel().tolist()) == {-1.0}
    assert set(into[3].tolist()) == {-1.0}
