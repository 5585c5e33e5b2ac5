"""The interpreter, driven by hand: buffers in, buffers out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scalargrad
from scalargrad import Graph, Value, ops, replay
from scalargrad.errors import StaleGraphError
from scalargrad.replay import Replay
from scalargrad.tape import Tape, tape_of
from strategies import any_floats, on_floats, same_bits

pytestmark = pytest.mark.pure


class Buffers:
    """A tape with its numbers and gradients."""

    def __init__(self, tape: Tape, *leaves: float) -> None:
        self.data, self.grad = np.full(len(tape), np.nan), np.zeros(len(tape))
        self.data[: tape.leaves] = leaves
        self.replay = Replay(tape, self.data.data, self.grad.data)


ARITIES = [row for row in ops.TABLE if row.arity in (1, 2)]


@pytest.mark.parametrize("row", ARITIES, ids=lambda row: row.name)
@given(data=st.data())
def test_every_operation_computes_what_the_table_says(row: ops.Op, data: st.DataObject) -> None:
    assert row.arity is not None
    operands = data.draw(st.lists(any_floats(), min_size=row.arity, max_size=row.arity))
    constant = data.draw(st.sampled_from((0.5, 2.0, 3.0, -1.0, 0.0)))
    g = data.draw(any_floats())
    second = 1 if row.arity == 2 else 0 if row.constant else -1
    tape = tape_of(row.arity, [(row.code, 0, second)], const=[constant])
    run = Buffers(tape, *operands)
    run.replay.forward()
    y = on_floats(row.name, operands, constant)
    assert same_bits(run.data.tolist(), [*operands, y])
    run.grad[-1] = g
    run.replay.backward()
    constants = (constant,) if row.constant else ()
    expected = [
        0.0 + d * g if g != 0.0 and (d != 0.0 or row.code == ops.MUL) else 0.0
        for d in row.partials(*operands, *constants, y)
    ]
    assert same_bits(run.grad.tolist(), [*expected, g])


@pytest.mark.parametrize(
    ("condition", "taken"), [(1.0, 1), (-3.5, 1), (math.nan, 1), (0.0, 2), (-0.0, 2)]
)
def test_where_takes_any_number_but_0_as_true(condition: float, taken: int) -> None:
    run = Buffers(tape_of(3, [(ops.WHERE, 0, 3)], many=[0, 1, 2]), condition, 5.0, 7.0)
    run.replay.forward()
    assert run.data[3] == run.data[taken]
    run.grad[3] = 2.0
    run.replay.backward()
    assert run.grad.tolist() == [2.0 * (k == taken) for k in range(3)] + [2.0]


def test_an_index_may_change_between_calls_and_slots_may_be_shared() -> None:
    # 3 = take([0, 1, 2], slot 0), 4 = take([2, 1, 0], slot 0), 5 = take([0, 1], slot 1)
    many = [0, 2, 0, 1, 2, 0, 7, 2, 1, 0, 1, 2]
    rows = [(ops.TAKE, 0, 3), (ops.TAKE, 5, 3), (ops.TAKE, 10, 2)]
    tape = tape_of(3, rows, many=many, index=[0, 1])
    run = Buffers(tape, 10.0, 20.0, 30.0)
    for chosen, expected in ((0, [10.0, 30.0, 20.0]), (2, [30.0, 10.0, 20.0])):
        tape.index[0] = chosen
        run.replay.forward()
        assert run.data[3:].tolist() == expected
    run.grad[3:] = [1.0, 10.0, 100.0]
    run.replay.backward()
    assert run.grad[:3].tolist() == [10.0, 100.0, 1.0]


def test_backward_adds_to_what_is_there() -> None:
    run = Buffers(tape_of(2, [(ops.MUL, 0, 1), (ops.ADD, 2, 0)]), 3.0, 4.0)
    run.replay.forward()
    run.grad[:] = [0.5, 0.25, 0.0, 1.0]
    run.replay.backward()
    assert run.grad.tolist() == [0.5 + 1.0 + 4.0, 0.25 + 3.0, 1.0, 1.0]


def test_contributions_add_up_from_the_last_node_to_the_first() -> None:
    # x is used three times; in floating point only one order gives this sum.
    steps: list[tuple[int, int, int]] = [(ops.MUL, 0, 1), (ops.MUL, 0, 2), (ops.MUL, 0, 3)]
    tape = tape_of(4, [*steps, (ops.ADD, 4, 5), (ops.ADD, 7, 6)])
    run = Buffers(tape, 1.0, 1.0, 1e100, -1e100)
    run.replay.forward()
    run.grad[-1] = 1.0
    run.replay.backward()
    assert run.grad[0] == ((0.0 + -1e100) + 1e100) + 1.0


def test_a_gradient_of_0_passes_nothing_on() -> None:
    run = Buffers(tape_of(1, [(ops.LOG, 0, -1), (ops.MUL, 1, 1)]), 0.0)
    run.replay.forward()
    assert run.data[1] == -math.inf
    run.replay.backward()
    assert run.grad.tolist() == [0.0, 0.0, 0.0]


def test_a_node_used_twice_by_one_operation() -> None:
    for code, expected in ((ops.MUL, 6.0), (ops.ADD, 2.0), (ops.SUB, 0.0), (ops.MAXIMUM, 1.0)):
        run = Buffers(tape_of(1, [(code, 0, 0)]), 3.0)
        run.replay.forward()
        run.grad[1] = 1.0
        run.replay.backward()
        assert run.grad[0] == expected


def test_no_leaves_no_results_no_constants() -> None:
    run = Buffers(tape_of(0, []))
    run.replay.forward()
    run.replay.backward()
    run = Buffers(tape_of(2, []), 1.0, 2.0)
    run.replay.forward()
    run.replay.backward()
    assert run.data.tolist() == [1.0, 2.0]


@pytest.mark.skipif(not scalargrad.compiled, reason="plain Python looks at no types")
@pytest.mark.parametrize(
    "wrong",
    [np.zeros(3, np.float32), np.zeros((3, 1)), np.zeros(6)[::2], np.zeros(3, np.int64)],
)
def test_buffers_of_another_kind_are_refused(wrong: Any) -> None:
    tape = tape_of(2, [(ops.ADD, 0, 1)])
    with pytest.raises((ValueError, BufferError, TypeError)):
        Replay(tape, wrong.data, np.zeros(3).data)


# --- between buffers and Values -------------------------------------------------------------------------


def test_numbers_and_gradients_go_in_and_out() -> None:
    x, w = Value(2.0), Value(3.0)
    y = x * w
    nodes = [x, w, y]
    data, grad, versions = np.empty(2), np.empty(3), np.empty(2, np.uint64)
    x.grad, w.grad = 0.5, -0.5
    replay.read_leaves(nodes, data.data, versions.data)
    assert data.tolist() == [2.0, 3.0]
    assert replay.changed_leaf(nodes, versions.data) == -1
    replay.read_grad(nodes, 2, grad.data)
    assert grad[:2].tolist() == [0.5, -0.5]
    replay.write_grad(nodes, np.array([1.0, 2.0, 3.0]).data)
    assert [v.grad for v in nodes] == [1.0, 2.0, 3.0]
    w.data = 4.0
    assert replay.changed_leaf(nodes, versions.data) == 1
    x.data = 4.0
    assert replay.changed_leaf(nodes, versions.data) == 0


def test_written_leaves_make_graphs_stale_and_written_results_do_not() -> None:
    x = Value(2.0)
    y = x * x
    graph = Graph(y)
    graph.forward()
    replay.write_leaves([x], np.array([5.0]).data)
    assert x.data == 5.0
    with pytest.raises(StaleGraphError):
        y.backward()
    replay.write_results([x, y], 1, np.array([5.0, 25.0]).data)
    y.backward()
    assert (y.data, x.grad) == (25.0, 10.0)
