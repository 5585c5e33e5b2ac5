"""Sums and maxima of one term: put in beside longer ones, and the same bits."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from programs import gpt
from programs.case import Case, answer_of, capture, data_for, eager, inputs_for
from scalargrad import Value, functional
from scalargrad.compiler import roll as rolling
from scalargrad.compiler import singles as module
from scalargrad.compiler.flat import LONE, verify
from scalargrad.compiler.flatten import flatten
from scalargrad.compiler.reference import execute
from scalargrad.compiler.roll import roll
from scalargrad.compiler.singles import add_singles

pytestmark = pytest.mark.pure
WIDE = settings(suppress_health_check=list(HealthCheck), deadline=None)


def singles(case: Case) -> int:
    """How many are put in."""
    tape, marks, *_ = capture(case)
    flat, outputs = flatten(tape, marks)
    added, moved = add_singles(flat, outputs)
    verify(added)
    assert (added.kind[moved] == flat.kind[outputs]).all()
    assert len(added) - len(flat) == int((added.extra == LONE).sum())
    return len(added) - len(flat)


def rows(function: Any, longest: int = 5, width: int = 1) -> Case:
    """The sum of the squares of what a function makes of x[:1], x[:2], ..."""

    def make(rng: random.Random) -> Any:
        weights = [Value(rng.gauss(0.0, 1.0)) for _ in range(longest)]

        def loss(x: list[Value], _: list[Any]) -> Value:
            made = [
                y
                for k in range(longest)
                for y in function([(a * w).tanh() for a, w in zip(x[: k + 1], weights)])
            ]
            return functional.total(y * y for y in made)

        return weights, loss

    return Case("rows", make, longest)


def detached(x: Value) -> Value:
    return Value.apply("detach", x)


NORMS = (
    functional.softmax,
    lambda y: [a / functional.total(y) for a in y],
    lambda y: [(a - functional.maximum(*y)).exp() for a in y],
    lambda y: [a - detached(functional.maximum(*y)) for a in y],
    lambda y: [functional.maximum(a / functional.total(y), 0.5) for a in y],
)


def test_attention_has_the_maximum_and_the_sum_of_one_in_each_head_of_each_layer():
    for heads, layers in ((1, 1), (2, 1), (2, 3)):
        case = gpt.document(4, vocabulary=5, width=4, heads=heads, layers=layers)
        assert singles(case) == 2 * heads * layers
    assert singles(gpt.document(1, vocabulary=5, width=4, heads=2)) == 0  # beside no others


def test_positions_are_one_pack(monkeypatch):
    tape, marks, *_ = capture(gpt.document(4, vocabulary=5, width=4, heads=2))
    with_singles = len(roll(tape, marks).nests)
    monkeypatch.setattr(rolling, "add_singles", lambda flat, outputs: (flat, outputs))
    assert with_singles < 0.7 * len(roll(tape, marks).nests)


@pytest.mark.parametrize(
    ("function", "added"),
    [
        (functional.softmax, 2),
        (lambda y: [a / functional.total(y) for a in y], 1),
        (lambda y: [a - functional.maximum(*y) for a in y], 0),  # a gradient flows through it
        (lambda y: [a - detached(functional.maximum(*y)) for a in y], 1),
        (lambda y: [a - detached(functional.minimum(*y)) for a in y], 1),
        (lambda y: [a / (a * a + 1.0) for a in y], 0),
        (lambda y: [y[0] / y[0], y[0].exp() / functional.total(y)], 0),  # of another kind
        (lambda y: [a / functional.total(y) + y[0] for a in y], 0),  # read elsewhere
    ],
)
@pytest.mark.parametrize("batch", [None, 3])
def test_pairs_beside_longer_rows(function, added, batch):
    case = rows(function)
    assert singles(case) == added
    data, mode = data_for(case, batch or 1), None if batch is None else "mean"
    tape, marks, parameters, _ = capture(case, mode)
    loops = roll(tape, marks, check=True)
    got = execute(loops, inputs_for(case, data, parameters, mode), batch)
    assert answer_of(loops, got, case, data).bits() == eager(case, data, mode).bits()


@WIDE
@given(st.integers(0, 2**32), st.sampled_from((None, 3)))
def test_mixtures_have_the_eager_bits(seed, batch):
    """Rows of random lengths, normed in random ways, of which some are read again."""
    rng = random.Random(seed)
    plan = [
        (rng.randrange(1, 4), rng.randrange(len(NORMS)), rng.random() < 0.3, rng.random() < 0.2)
        for _ in range(rng.randrange(1, 8))
    ]

    def make(rng: random.Random) -> Any:
        weights = [Value(rng.gauss(0.0, 1.0)) for _ in range(8)]

        def loss(x: list[Value], _: list[Any]) -> Value:
            parts = list(x)
            for length, what, again, huge in plan:
                y = [w * a for w, a in zip(weights, parts[-length:])]
                y = [(a * 400.0).exp() if huge else a.tanh() for a in y]
                made = NORMS[what](y)
                parts += made + (y if again else [])
            return functional.total(parts)

        return weights, loss

    case = Case("mixture", make, 8)
    data, mode = data_for(case, batch or 1), None if batch is None else "mean"
    expected = eager(case, data, mode)
    tape, marks, parameters, _ = capture(case, mode)
    loops = roll(tape, marks, check=True)
    if expected.finite:
        got = execute(loops, inputs_for(case, data, parameters, mode), batch)
        assert answer_of(loops, got, case, data).bits() == expected.bits()


def differences(case: Case) -> int:
    """In how many of some calls the bits are not the eager ones."""
    tape, marks, parameters, _ = capture(case)
    loops = roll(tape, marks)
    found = 0
    for seed in range(20):
        data = data_for(case, 1, seed)
        got = execute(loops, inputs_for(case, data, parameters, None))
        found += answer_of(loops, got, case, data).bits() != eager(case, data).bits()
    return found


def test_what_is_read_elsewhere_is_left_alone(monkeypatch):
    """Gradients of two quotients of one number would be added in another order."""

    def twice(y: list[Value]) -> list[Value]:
        one, other = y[0] / functional.total(y), y[0] / functional.total(y)
        return [one, 3.3 * other]

    case = rows(twice, 3)
    assert singles(case) == 0
    assert differences(case) == 0
    monkeypatch.setattr(module, "_uses", lambda flat: np.full(len(flat), 2))
    assert singles(case) == 2
    assert differences(case) > 0
