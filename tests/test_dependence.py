"""What depends on what, as it is asked about while a program goes on."""

from __future__ import annotations

import random
from typing import Any

import pytest

from scalargrad import Value
from scalargrad.dependence import Dependence

pytestmark = pytest.mark.pure


def test_of_every_value_of_a_random_graph() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        values = [Value(1.0) for _ in range(6)]
        marked = {values[k].number for k in rng.sample(range(6), rng.randint(0, 3))}
        other = values[0].number + 1
        asked: list[int] = []

        def of_itself(
            v: Value, marked: Any = marked, other: int = other, asked: Any = asked
        ) -> bool | None:
            asked.append(v.number)
            return True if v.number in marked else False if v.number < other else None

        depends = Dependence(of_itself)
        expected = {v.number: v.number in marked for v in values}
        for _ in range(40):
            a, b = rng.choice(values), rng.choice(values)
            v = a * b
            values.append(v)
            expected[v.number] = expected[a.number] or expected[b.number]
            w = rng.choice(values)
            assert depends(w) == expected[w.number]
        assert all(depends(v) == expected[v.number] for v in values)
        assert len(asked) == len(set(asked))  # of each only once


def test_of_a_deep_program() -> None:
    x, y = deep = [Value(1.0), Value(2.0)]
    depends = Dependence(lambda v: True if v is x else None)
    for _ in range(100_000):
        deep = [v + 1.0 for v in deep]
    assert [depends(v) for v in deep] == [True, False]
    assert not depends(y)
