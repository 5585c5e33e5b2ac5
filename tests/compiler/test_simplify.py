"""Fewer nodes with the same bits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scalargrad import Value, functional, ops
from scalargrad.compiler.candidates import copy_candidates
from scalargrad.compiler.flat import Flat, verify
from scalargrad.compiler.flatten import flatten
from scalargrad.compiler.loops import Space
from scalargrad.compiler.marks import marks_of
from scalargrad.compiler.simplify import simplify
from scalargrad.graph import Graph
from scalargrad.tape import tape_of

pytestmark = pytest.mark.pure


def simplified(output: Value, *parameters: Value) -> list[str]:
    graph = Graph(output)
    known = {id(v) for v in parameters}
    roles = [
        (Space.PARAMETER, 0.0) if id(v) in known else (Space.CONSTANT, v.data) for v in graph.leaves
    ]
    marks = marks_of(roles, [Space.CONSTANT] * len(graph.tape.index))
    flat, outputs = simplify(*flatten(graph.tape, marks))
    verify(flat)
    (place,) = outputs.tolist()
    return [line for line in str(flat).splitlines() if "[" not in line] + [f"output v{place}"]


@pytest.fixture
def ab():
    return Value(2.0), Value(3.0)


def test_equal_nodes_are_merged(ab):
    a, b = ab
    assert simplified((a * b).exp() * (a * b).exp(), a, b) == [
        *("v2 = v0 * v1", "v3 = exp(v2)", "v4 = v3 * v3"),
        "output v4",
    ]


def test_different_order_is_not_equal(ab):
    a, b = ab
    c = Value(1e16)
    lines = simplified((a + b + c).tanh() + (a + c + b).tanh(), a, b, c)
    assert len(lines) == 6


def test_constants_are_computed(ab):
    a, _ = ab
    lines = simplified(a * (Value(3.0).exp() + 1.0).sqrt(), a)
    assert lines == [f"v1 = {(math.exp(3.0) + 1.0) ** 0.5!r}", "v2 = v0 * v1", "output v2"]


def test_factors_of_one_and_signs(ab):
    a, b = ab
    assert simplified((a * 1.0).tanh() + -1.0 * b.tanh(), a, b)[:2] == [
        *("v2 = tanh(v0)", "v3 = tanh(v1)"),
    ]
    assert "v4 = v2 - v3" in simplified((a * 1.0).tanh() + -1.0 * b.tanh(), a, b)


def test_adding_zero_stays_since_it_turns_the_sign_of_minus_zero(ab):
    a, _ = ab
    assert simplified((a.tanh() + 0.0).tanh(), a) == [
        *("v1 = 0.0", "v2 = tanh(v0)", "v3 = v2 + v1", "v4 = tanh(v3)"),
        "output v4",
    ]


def test_minus_zero_is_another_constant_than_zero(ab):
    a, _ = ab
    lines = simplified((a - 0.0) * (a - -0.0), a)
    assert sum(" - " in line for line in lines) == 2


def test_copies_are_followed(ab):
    a, _ = ab
    detached = Value.apply("detach", functional.take([a.tanh(), a], 0))
    assert simplified(detached.exp(), a) == ["v1 = tanh(v0)", "v2 = exp(v1)", "output v2"]


def test_dead_code_goes_and_unused_leaves_with_it(ab):
    a, b = ab
    assert simplified(Value.apply("where", 1.0, a.tanh(), b), a, b)[-1].startswith("output")


def test_candidates_of_several_spaces_are_copied():
    # take([parameter, argument, parameter + argument, constant], index)
    tape = tape_of(
        3,
        [(ops.ADD, 0, 1), (ops.TAKE, 0, 4)],
        many=[0, 2, 0, 1, 3, 2],
        index=[0],
        outputs=[4],
    )
    leaves = [(Space.PARAMETER, 0.0), (Space.ARGUMENT, 0.0), (Space.CONSTANT, 5.0)]
    flat, outputs = simplify(*flatten(tape, marks_of(leaves, [Space.INDEX])))
    copied, outputs = copy_candidates(flat, outputs)
    verify(copied)
    (take,) = outputs.tolist()
    assert str(copied).splitlines()[-5:] == [
        *("v4 = v0", "v5 = v1", "v6 = v3", "v7 = v2", "v8 = take([v4, v5, v6, v7], i[0])"),
    ]
    assert take == 8
    untouched: tuple[Flat, np.ndarray] = copy_candidates(copied, outputs)
    assert untouched[0] is copied
