"""Sums over the examples in the loops of other nests: that they are there, and right to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from compiler.test_native import agree  # type: ignore[import-not-found]
from scalargrad import ops
from scalargrad.compiler import clusters, native, totals
from scalargrad.compiler.loops import (
    MINUS,
    SKIP_LEFT,
    SKIP_RIGHT,
    Apply,
    Contract,
    Group,
    Loop,
    Loops,
    Operand,
    Segment,
    Space,
)
from scalargrad.compiler.loops_check import verify
from scalargrad.compiler.reference import execute

WIDE = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=60)


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of the sums that could be in the loops of others: whether they are."""
    found: list[bool] = []

    def recorded(self, cluster):
        found.append(right(self, cluster))
        return found[-1]

    right = clusters.ClusterCode.absorb
    monkeypatch.setattr(clusters.ClusterCode, "absorb", recorded)
    return found


def hidden(lanes: int, terms: int, turned: bool = False) -> list[Contract | Apply]:
    """u = relu(a matrix times x), v = u times x[0]: of each example."""
    x = Operand(Space.EXAMPLE, 0, (0, 1))
    matrix = Operand(Space.PARAMETER, 0, (terms, 1) if turned else (1, lanes))
    one = (Loop(lanes),)
    sums = Contract(
        Operand(Space.BATCHED, 0, (1,)), one, (Group((Segment(x, matrix, (Loop(terms),)),)),)
    )
    relu = Apply(Operand(Space.BATCHED, lanes, (1,)), one, ops.RELU, (sums.result,))
    times = Apply(
        Operand(Space.BATCHED, 2 * lanes, (1,)),
        one,
        ops.MUL,
        (relu.result, Operand(Space.EXAMPLE, 0, (0,))),
    )
    return [sums, relu, times]


def total(lanes: int, at: int, over: int, of: int = 2, **others: int) -> Contract:
    """A sum over the examples of u (1), v (2) or u * v (3), and of parameters before that."""
    gradient = Operand(Space.PARAMETER_GRADIENT, at, (others.pop("stride", 1),))
    factors = [Operand(Space.BATCHED, k * lanes, (1,)) for k in (1, 2) if of & k]
    before = Group((Segment(Operand(Space.PARAMETER, 0, (1,))),))
    group = Group((Segment(*factors, **others),), over)
    return Contract(gradient, (Loop(lanes),), (before, group), start=0.0)


def outer(lanes: int, terms: int) -> Contract:
    """A sum over the examples of v times x, for which examples had better lie one by one."""
    left = Operand(Space.BATCHED, 2 * lanes, (1, 0))
    group = Group((Segment(left, Operand(Space.EXAMPLE, 0, (0, 1))),), -1)
    result = Operand(Space.ARGUMENT_GRADIENT, 0, (terms, 1))
    return Contract(result, (Loop(lanes), Loop(terms)), (group,))


def program(
    steps: list[Contract | Apply], lanes: int, terms: int, batch: int
) -> tuple[Loops, dict[Space, np.ndarray], int]:
    gradients = [step.result for step in steps if step.result.space == Space.PARAMETER_GRADIENT]
    size = max(r.base + (lanes - 1) * r.strides[0] for r in gradients) + 1
    sizes = {
        Space.PARAMETER: max(lanes * terms, size),
        Space.EXAMPLE: terms,
        Space.BATCHED: 3 * lanes,
        Space.EXAMPLE_OUTPUT: 3 * lanes,
        Space.PARAMETER_GRADIENT: size,
        Space.ARGUMENT: lanes * terms,
        Space.ARGUMENT_GRADIENT: lanes * terms,
    }
    u = Operand(Space.BATCHED, 0, (1,))
    out = Apply(Operand(Space.EXAMPLE_OUTPUT, 0, (1,)), (Loop(3 * lanes),), ops.DETACH, (u,))
    rng = np.random.default_rng(lanes * batch)
    inputs = {
        Space.PARAMETER: rng.normal(size=sizes[Space.PARAMETER]),
        Space.EXAMPLE: rng.normal(size=(batch, terms)),
        Space.PARAMETER_GRADIENT: rng.normal(size=size),
    }
    return verify(Loops((*steps, outer(lanes, terms), out), sizes, batched=True)), inputs, batch


@WIDE
@given(st.data())
def test_sums_of_any_form_have_the_bits_of_the_reference(data):
    draw = data.draw
    lanes = draw(st.sampled_from((1, 3, 4, 5, 8, 16, 19, 32, 40)))
    terms, batch = draw(st.sampled_from((1, 3, 16))), draw(st.sampled_from((1, 2, 7, 20, 100)))
    steps = hidden(lanes, terms, draw(st.booleans()))
    ends, count = [len(steps)], draw(st.integers(1, 4))
    for k in range(count):
        of = draw(st.integers(1, 3))
        minus = draw(st.sampled_from((0, MINUS)))
        skip = draw(st.sampled_from((0, SKIP_LEFT, SKIP_RIGHT))) if of == 3 else 0
        step = total(
            lanes, k, draw(st.sampled_from((1, -1))), of, stride=count, minus=minus, skip=skip
        )
        if draw(st.booleans()):
            step = replace(step, resume=True)
        if draw(st.booleans()):
            step = replace(step, groups=step.groups[1:])
        # Sums of u may come before v is computed.
        steps.insert(draw(st.sampled_from((2, *ends))) if of == 1 else len(steps), step)
    agree(*program(steps, lanes, terms, batch))


@pytest.mark.parametrize("over", [1, -1])
def test_a_nest_adds_up_what_it_computes_and_what_it_reads(over, inside):
    sums = [total(16, 0, over), total(16, 16, over, 3)]
    agree(*program([*hidden(16, 8), *sums], 16, 8, 100))
    assert inside == [True, True]


def test_a_nest_goes_through_its_examples_in_one_direction(inside):
    sums = [total(16, 0, 1), total(16, 16, -1)]
    agree(*program([*hidden(16, 8), *sums], 16, 8, 100))
    assert inside == [True, False]


def test_sums_that_do_not_stay_in_registers_keep_their_loops(inside):
    # Examples lie side by side, and vectors are of them.
    agree(*program([*hidden(1, 8), total(1, 0, 1)], 1, 8, 100))
    assert not any(inside)


def test_fast_mode_comes_to_the_same(inside):
    loops, inputs, batch = program(
        [*hidden(16, 8), total(16, 0, -1), total(16, 16, -1, 3)], 16, 8, 100
    )
    got = native.build(loops, batch, "fast").execute(inputs)
    assert inside == [True, True]
    expected = execute(loops, inputs, batch)[Space.PARAMETER_GRADIENT]
    np.testing.assert_allclose(got[Space.PARAMETER_GRADIENT], expected, rtol=1e-12, atol=1e-12)


def test_mistakes_would_be_seen(monkeypatch):
    case = program([*hidden(16, 8), total(16, 0, -1)], 16, 8, 100)
    agree(*case)
    monkeypatch.setattr(clusters, "backwards", lambda ref, examples: ref)
    with pytest.raises(AssertionError):
        agree(*case)


def test_a_sum_may_wait_for_a_later_nest_unless_it_is_read_before(inside, monkeypatch):
    early = total(16, 0, -1)
    x = Segment(Operand(Space.EXAMPLE, 0, (1,)))
    early = replace(early, groups=(early.groups[0], Group((x,), -1)))
    agree(*program([early, *hidden(16, 16)], 16, 16, 100))
    assert inside == [True]
    backwards = early.result._replace(base=15, strides=(-1,))
    reader = Apply(Operand(Space.PARAMETER_GRADIENT, 16, (1,)), (Loop(16),), ops.NEG, (backwards,))
    case = program([early, reader, *hidden(16, 16)], 16, 16, 100)
    agree(*case)
    assert inside == [True]
    monkeypatch.setattr(totals, "_conflict", lambda one, two: False)
    with pytest.raises(AssertionError):
        agree(*case)
