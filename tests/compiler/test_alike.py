"""Terms that all examples add alike, in fast mode: that they are multiplied, and right."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

import scalargrad as sg
from compiler.loop_cases import Case, contract_cases  # type: ignore[import-not-found]
from scalargrad.compiler import alike
from scalargrad.compiler.loops import (
    SKIP_LEFT,
    SKIP_RIGHT,
    Contract,
    Group,
    Loops,
    Segment,
    Space,
    counters,
    segments,
    work,
)
from scalargrad.compiler.loops_check import verify
from scalargrad.compiler.reference import execute
from scalargrad.nn import MLP

WIDE = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=150)


@st.composite
def sums_over_examples(draw):
    """Sums over the examples, most of whose terms are alike for all of them, in any form."""
    case = Case(draw, draw(st.sampled_from((1, 2, 9))))
    lanes = case.loops(2, (1, 3, 8))
    rows = counters(lanes)
    spaces = st.sampled_from((Space.PARAMETER, Space.ARGUMENT, Space.CONSTANT, Space.EXAMPLE))
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        inner = case.loops(2, (1, 2, 5))
        loops, full = (*lanes, *inner), counters(inner, rows)

        def factor(loops=loops, full=full):
            if draw(st.booleans()):
                return case.operand(draw(spaces), loops, full)
            return case.operand(draw(spaces), (), full[:1, :0])._replace(strides=(0,) * len(loops))

        right = factor() if draw(st.integers(0, 3)) else None
        skip = draw(st.sampled_from((0, SKIP_LEFT, SKIP_RIGHT))) if right else 0
        parts.append(Segment(factor(), right, inner, draw(st.booleans()), skip))
    group = Group(tuple(parts), draw(st.sampled_from((1, -1))))
    result = case.result(Space.PARAMETER_GRADIENT, lanes, rows)
    case.steps.append(Contract(result, lanes, (group,)))
    return case.program(), case.inputs(), case.batch


def agrees(loops: Loops, inputs, batch) -> bool:
    """Whether the program without terms alike computes the numbers of the one with them."""
    loops.sizes.setdefault(Space.SCALAR, 2)
    for numbers in (loops.constants, *inputs.values()):
        np.nan_to_num(numbers, copy=False, posinf=1e3, neginf=-1e3)
    inputs[Space.SCALAR] = np.array([1.0 / batch, batch])
    changed = alike.multiplied(loops)
    expected, got = (execute(program, inputs, batch) for program in (loops, verify(changed)))
    # Terms may cancel each other: they are compared by their size.
    largest = max(abs(x).max(initial=1.0) for x in (loops.constants, *inputs.values()))
    size = largest**2 * work(loops.instructions[-1], batch)
    return all(
        np.allclose(got[space][..., : x.shape[-1]], x, rtol=1e-12, atol=1e-14 * size)
        for space, x in expected.items()
    )


@WIDE
@given(sums_over_examples() | contract_cases().filter(lambda case: case[2] is not None))
def test_a_sum_of_any_form_keeps_its_value(case):
    assert agrees(*case)


def test_a_factor_that_is_forgotten_is_found(monkeypatch):
    monkeypatch.setattr(alike._Program, "_multiple", lambda self, number, again: number)

    # Any counterexample does: the smallest one takes long to find.
    @settings(WIDE, database=None, phases=[Phase.generate])
    @given(sums_over_examples())
    def same(case):
        assert agrees(*case)

    with pytest.raises(AssertionError):
        same()


def penalised():
    model = MLP(2, [5, 1], rng=random.Random(3))

    def loss(x, target):
        fit = (1.0 - target * model(x)).relu()
        return (
            fit + 0.01 * sum(p * p for p in model.parameters()) + 0.1 * model.layers[0].neurons[0].b
        )

    rng = np.random.default_rng(0)
    return model, loss, rng.normal(size=(70, 2)), rng.choice([-1.0, 1.0], 70)


def test_a_penalty_in_the_loss_of_an_example_is_added_once():
    _, loss, x, target = penalised()
    compiled = sg.compile(loss, batch="mean")
    compiled.value_and_grad(x, target)
    program = alike.multiplied(compiled.loops)
    for step in program.instructions:
        if isinstance(step, Contract):
            for group, segment in segments(step):
                factors = [f for f in (segment.left, segment.right) if f is not None]
                assert not group.over or any(factor.space.batched for factor in factors)
    before, after = (
        sum(work(step, 70) for step in each.instructions) for each in (compiled.loops, program)
    )
    assert after < 0.7 * before


@pytest.mark.parametrize(("dtype", "error"), [("float64", 1e-12), ("float32", 1e-5)])
def test_fast_mode_has_the_gradient_of_exact_mode(dtype, error):
    model, loss, x, target = penalised()
    expected, gradient = sg.compile(loss, batch="mean").value_and_grad(x, target)
    fast = sg.compile(loss, batch="mean", mode="fast", dtype=dtype)
    fast.value_and_grad(x, target)
    fast.native()
    value, found = fast.value_and_grad(x, target)
    assert value == pytest.approx(expected, rel=error)
    np.testing.assert_allclose(found, gradient, rtol=error, atol=error)
    assert len(found) == len(model.parameters())
