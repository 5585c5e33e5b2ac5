"""Floats of earlier results get other numbers only where nobody can see it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalargrad.compiler.building import Builder
from scalargrad.compiler.structure import Items, Row, Signature

pytestmark = pytest.mark.pure

SIZE = 5


def builder(signature: Signature) -> tuple[Builder, np.ndarray[Any, Any]]:
    rows = np.zeros((1, signature.size))
    return Builder(signature, rows, 0, False), rows


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=40))
def test_what_is_held_keeps_its_number(steps: list[tuple[int, int]]) -> None:
    """Of each result the caller keeps nothing, one number or all; and forgets some from time to time."""
    build, rows = builder(Row(list, SIZE, "number"))
    held: list[tuple[Any, Any]] = []
    for step, (kept, forgotten) in enumerate(steps):
        rows[:] = [step + k / 8.0 for k in range(SIZE)]
        result = build.build()
        assert type(result) is list
        assert all(type(x) is float for x in result)
        assert result == rows[0].tolist()
        if kept < SIZE:
            held.append((result[kept], step + kept / 8.0))
        elif kept == SIZE:
            held.append((result, rows[0].tolist()))
        del held[:forgotten]
        del result
        assert [x for x, _ in held] == [expected for _, expected in held]


def test_a_list_may_be_changed_like_any_other() -> None:
    build, rows = builder(Row(list, 3, "number"))
    for step in range(6):
        rows[:] = step
        x = build.build()
        assert x == [step] * 3
        x.append(7.0)
        x[0] = None
        x.sort(key=str)
        del x[1:]


@pytest.mark.parametrize("put", [None, 7, 2.5, np.float64(2.5), "text", [1.0]])
@pytest.mark.parametrize("longer", [-1, 0, 1])
def test_what_was_put_into_a_list_does_not_come_back(put: object, longer: int) -> None:
    build, rows = builder(Row(list, 3, "number"))
    for step in range(6):
        rows[:] = [step, step + 0.25, step + 0.5]
        x = build.build()
        assert x == rows[0].tolist()
        assert [type(number) for number in x] == [float] * 3
        x[1] = put
        x[3 + longer :] = [put] * longer
        del x


def test_a_list_is_nobody_elses_as_long_as_it_is_seen_from_anywhere() -> None:
    build, rows = builder(Row(list, 2, "number"))
    held: list[Any] = []
    for step in range(6):
        rows[:] = step
        held.append({"nested": (build.build(),)} if step % 2 else iter(build.build()))
    for step, x in enumerate(held):
        assert (x["nested"][0] if isinstance(x, dict) else list(x)) == [step, step]


def test_every_bit_of_a_number_arrives() -> None:
    numbers = [0.0, -0.0, np.inf, -np.inf, 5e-324, 1.0 / 3.0]
    build, rows = builder(Row(tuple, len(numbers), "number"))
    for _ in range(4):
        rows[:] = numbers
        assert [x.hex() for x in build.build()] == [x.hex() for x in numbers]
        rows[:] = np.nan
        assert all(x != x for x in build.build())


def test_lists_beside_each_other_share_nothing() -> None:
    build, rows = builder(Items(tuple, (Row(list, 2, "number"), Row(list, 2, "number"))))
    for step in range(5):
        rows[:] = np.arange(4.0) + step
        assert build.build() == ([step, step + 1.0], [step + 2.0, step + 3.0])
    assert builder(Row(list, 0, "number"))[0].build() == []


def test_another_thread_holds_on_to_what_it_got() -> None:
    build, rows = builder(Row(list, SIZE, "number"))
    got: list[Any] = []
    for step in range(50):
        rows[:] = step
        thread = threading.Thread(target=got.append, args=(build.build()[step % SIZE],))
        thread.start()
        thread.join()
    assert got == [float(step) for step in range(50)]
