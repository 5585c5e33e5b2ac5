"""The tape: what its arrays say, as operands, constants, counts, depth and text."""

from __future__ import annotations

import random
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from generated import program, run
from scalargrad import Graph, Value, ops
from scalargrad.tape import Tape, tape_of

pytestmark = pytest.mark.pure

# 0, 1, 2 are leaves; 3 = 0 + 1, 4 = relu(3), 5 = 4 ** 2, 6 = 5 if 3 else 2,
# 7 = take([6, 0], 1), 8 = leaky_relu(7, 0.1), 9 = 7 * 8
SAMPLE = tape_of(
    3,
    [
        (ops.ADD, 0, 1),
        (ops.RELU, 3, -1),
        (ops.POW, 4, 0),
        (ops.WHERE, 0, 3),
        (ops.TAKE, 3, 2),
        (ops.LEAKY_RELU, 7, 1),
        (ops.MUL, 7, 8),
    ],
    const=[2.0, 0.1],
    many=[3, 5, 2, 0, 5, 6, 0],
    index=[1],
    outputs=[9],
)


def test_operands_are_node_numbers_in_order() -> None:
    found = [SAMPLE.operands(i) for i in range(len(SAMPLE))]
    assert found == [(), (), (), (0, 1), (3,), (4,), (3, 5, 2), (6, 0), (7,), (7, 8)]
    assert all(type(j) is int for operands in found for j in operands)


def test_constants_are_exponents_slopes_and_indices() -> None:
    found = [SAMPLE.constant(i) for i in range(len(SAMPLE))]
    assert found == [0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 1.0, 0.1, 0.0]


def test_lines_are_readable() -> None:
    assert [SAMPLE.line(i, "abcdefghij".__getitem__) for i in range(len(SAMPLE))] == [
        "a",
        "b",
        "c",
        "d = a + b",
        "e = relu(d)",
        "f = e ** 2",
        "g = f if d else c",
        "h = take([g, a], 1)",
        "i = leaky_relu(h, 0.1)",
        "j = h * i",
    ]


def test_every_operation_has_a_line() -> None:
    for row in ops.TABLE:
        arity = row.arity or 2
        const = 1.0 if row.constant == "index" else 0.5
        y = Value.apply(row.name, *map(Value, range(arity)), const=const)
        tape = Graph(y).tape
        assert tape.line(len(tape) - 1, lambda i: f"v{i}").startswith(f"v{arity} = ")
        assert tape.operands(arity) == tuple(range(arity))
        assert tape.constant(arity) == (const if row.constant else 0.0)


def test_depth_counts_operations_on_the_longest_path() -> None:
    assert SAMPLE.depth() == 7
    assert tape_of(3, []).depth() == 0
    assert tape_of(0, []).depth() == 0


def test_op_counts_are_ordered_by_count_and_then_by_code() -> None:
    tape = tape_of(2, [(ops.MUL, 0, 1), (ops.EXP, 0, -1), (ops.ADD, 0, 1), (ops.MUL, 2, 3)])
    assert list(tape.op_counts().items()) == [("mul", 2), ("add", 1), ("exp", 1)]
    assert tape_of(2, []).op_counts() == {}


def test_bytes_are_those_of_the_arrays() -> None:
    assert SAMPLE.nbytes == 10 * (1 + 4 + 4) + 2 * 8 + 7 * 4 + 1 * 8 + 1 * 4


def test_a_tape_is_frozen_and_its_arrays_have_their_types() -> None:
    with pytest.raises(FrozenInstanceError):
        SAMPLE.leaves = 4  # type: ignore[misc]
    for tape in (SAMPLE, tape_of(1, []), Graph(Value(1.0) * 2.0).tape):
        kinds = [a.dtype for a in (tape.op, tape.lhs, tape.rhs, tape.const, tape.many, tape.index)]
        assert kinds == [np.uint8, np.int32, np.int32, np.float64, np.int32, np.int64]
        assert tape.outputs.dtype == np.int32


def test_what_is_not_given_is_empty() -> None:
    tape = Tape(0, np.zeros(0, np.uint8), np.zeros(0, np.int32), np.zeros(0, np.int32))
    assert [len(a) for a in (tape.const, tape.many, tape.index, tape.outputs)] == [0, 0, 0, 0]
    assert len(tape) == 0


def test_a_captured_tape_says_what_the_values_say() -> None:
    for seed in range(300):
        _, results = run(program(random.Random(seed)))
        graph = Graph(results[-1])
        place = {id(v): i for i, v in enumerate(graph.nodes)}
        for i, v in enumerate(graph.nodes):
            assert graph.tape.operands(i) == tuple(place[id(x)] for x in v.operands)
            assert graph.tape.constant(i) == (v.const if v.op else 0.0)
            assert (i < graph.tape.leaves) == (v.op == "")
        numbers = [v.number for v in graph.nodes]
        leaves = graph.tape.leaves
        assert numbers[:leaves] == sorted(numbers[:leaves])
        assert numbers[leaves:] == sorted(numbers[leaves:])
