"""The clock: one count for creation numbers and for writes. Counting Values is in test_node_memory."""

from __future__ import annotations

import pytest

from scalargrad import Graph, Value, clock, live_values

pytestmark = pytest.mark.pure


def test_a_tick_is_later_than_all_before_it() -> None:
    before = Value(1.0)
    first, second = clock.tick(), clock.tick()
    after = Value(1.0)
    assert before.number < first < second < after.number


def test_a_write_is_later_than_what_was_made_before_it() -> None:
    x = Value(1.0)
    assert x.version == 0
    y = x * 2
    x.data = 3.0
    assert y.number < x.version < Value(1.0).number


def test_a_replay_is_one_write() -> None:
    x = Value(1.0)
    graph = Graph(z := (y := x * 2).exp())
    graph.forward()
    assert z.number < y.version == z.version == clock.tick() - 1
    assert x.version == 0


def test_reading_takes_no_time() -> None:
    x = Value(1.0)
    y = x * 2
    now = clock.tick()
    y.backward()
    _ = (float(y), x.grad, y.operands, x < y, Graph(y), live_values())
    assert clock.tick() == now + 1


@pytest.mark.usefixtures("by_counts_alone")
def test_live_values_are_counted_here() -> None:
    before = clock.live_values()
    x = Value(1.0)
    assert live_values() == clock.live_values() == before + 1
    del x
    assert clock.live_values() == before
