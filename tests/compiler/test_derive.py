"""The gradient of a flat graph: contributions in the engine's order, zeros skipped where needed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scalargrad import Value, functional, ops, rules
from scalargrad.compiler.derive import derive
from scalargrad.compiler.flat import INDICATOR, Flat, verify
from scalargrad.compiler.flatten import flatten
from scalargrad.compiler.loops import Space
from scalargrad.compiler.marks import Marks, marks_of
from scalargrad.compiler.partials import pattern
from scalargrad.compiler.simplify import constant_result
from scalargrad.graph import Graph
from scalargrad.tape import tape_of
from strategies import same_bits

pytestmark = pytest.mark.pure


def gradients(output: Value, leaves: list[Value], **options) -> list[str]:
    """The added lines, those of the leaves last to first at the end."""
    graph = Graph(output)
    roles = [
        (Space.PARAMETER, 0.0) if any(v is leaf for leaf in leaves) else (Space.CONSTANT, v.data)
        for v in graph.leaves
    ]
    marks: Marks = marks_of(roles, wanted=(Space.PARAMETER,), **options)
    flat, outputs = flatten(graph.tape, marks)
    full = verify(derive(flat, outputs, marks))
    return [full.line(i) for i in range(len(flat), len(full))]


@pytest.fixture
def ab():
    return Value(2.0), Value(3.0)


def test_contributions_come_by_descending_origin(ab):
    a, b = ab
    # a is used at places 2 (times b), 3 and 4 (both slots) of the tape.
    product = a * b
    shifted = a + product
    lines = gradients(shifted + a * a, [a, b])
    assert lines[0] == "1.0"  # v3
    assert lines[-1] == "0.0 + v0 + v0 + v3 + v1"
    assert lines[-2] == "0.0 + v0"


def test_gradients_of_a_batch_go_over_the_examples(ab):
    a, b = ab
    lines = gradients(a * b, [a, b], batch="mean")
    assert lines[-1] == "0.0 + each v1 * v3"  # v3 is the seed


def test_branches_pass_their_gradient_by_selection(ab):
    a, b = ab
    lines = gradients((a * b).relu(), [a, b])
    assert "v4 if v3 else v5" in lines


@pytest.mark.parametrize(
    ("make", "skips"),
    [
        (lambda a, b: a * b, False),
        (lambda a, b: (a * b).relu() * b, False),
        (lambda a, b: Value.apply("where", a, (b.log() * a).tanh(), b), True),
        (lambda a, b: b.sqrt() * a, True),
        (lambda a, b: (a * a + 1.0).sqrt(), False),
        (lambda a, b: functional.softmax([a, b])[0], False),
        (lambda a, b: (a.log() * b).relu(), True),
        (lambda a, b: b / (a * a + b * b + 1e-5) ** 0.5, False),
        (lambda a, b: a / b * a, True),
    ],
)
def test_zeros_are_skipped_only_where_a_number_may_be_infinite(ab, make, skips):
    a, b = ab
    text = "\n".join(gradients(make(a, b), [a, b]))
    assert ("*?" in text) == skips, text


@pytest.mark.parametrize(
    "row", [row for row in ops.TABLE if row.arity in (1, 2)], ids=lambda r: r.name
)
def test_patterns_are_the_partials_of_the_table(row):
    if row.code in (ops.ADD, ops.SUB, ops.MUL, ops.NEG):
        pytest.skip("a term of a sum needs no pattern")
    for const in (0.5, 2.0, 0.0) if row.constant else (0.0,):
        found = pattern(row.code, const)
        for a, b in ((0.7, 1.3), (-0.7, 0.7), (0.0, 2.0), (1.5, 0.0), (-0.0, -1.0)):
            y = rules.evaluate(row.code, a, b, const)
            numbers = evaluated(found.flat, [a, b, y] if row.arity == 2 else [a, y])
            for slot, output in enumerate(found.outputs):
                expected = rules.differentiate(row.code, slot, a, b, const, y)
                got = 0.0
                if output is not None:
                    got = -numbers[output[0]] if output[1] else numbers[output[0]]
                assert same_bits([got + 0.0], [expected + 0.0]), (a, b, const, slot)


def evaluated(flat: Flat, leaves: list[float]) -> list[float]:
    """Every node of a pattern, from the numbers of its first leaves."""
    numbers = flat.const.copy()
    numbers[: len(leaves)] = leaves
    for i in range(len(leaves), len(flat)):
        if flat.kind[i] != ops.LEAF:
            const = numbers.copy()
            const[i] = flat.const[i]
            numbers[i] = constant_result(replace(flat, const=const), i)
    return numbers.tolist()


def test_selections_by_one_index_share_their_indicators():
    # Two takes of three parameters each by the first index, one of two by the second.
    takes = [(ops.TAKE, 0, 3), (ops.TAKE, 5, 3), (ops.TAKE, 10, 2)]
    steps = [*takes, (ops.ADD, 6, 7), (ops.ADD, 9, 8)]
    many = [0, 2, 0, 1, 2, 0, 7, 3, 4, 5, 1, 12, 0, 3]
    tape = tape_of(6, steps, many=many, index=[0, 0], outputs=[10])
    marks = marks_of(
        [(Space.PARAMETER, 0.0)] * 6, [Space.INDEX, Space.INDEX], wanted=(Space.PARAMETER,)
    )
    full = verify(derive(*flatten(tape, marks), marks))
    made = np.flatnonzero(full.kind == INDICATOR)
    found = sorted(zip(full.slot[made].tolist(), full.extra[made].tolist()))
    assert found == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
