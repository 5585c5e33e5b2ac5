"""Sums whose terms share vectors, against exact mode."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from scalargrad import ops
from scalargrad.compiler import clusters, native, reductions, sums
from scalargrad.compiler.loops import Contract, Group, Loop, Loops, Operand, Segment, Space


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")


def fold(op: int, lanes: int, terms: int, step: int, minus: bool = False, other: int = 1) -> Loops:
    """y[i] = fold over j of a[j] p[i, j], a or p backwards with step or `other` -1."""
    first, begin = (terms - 1 if way < 0 else 0 for way in (step, other))
    segment = Segment(
        Operand(Space.ARGUMENT, first, (0, step)),
        Operand(Space.PARAMETER, begin, (terms, other)),
        (Loop(terms),),
        minus,
    )
    start = {ops.ADD: -0.0, ops.MAXIMUM: -np.inf, ops.MINIMUM: np.inf}[op]
    result = Operand(Space.OUTPUT, 0, (1,))
    step_ = Contract(result, (Loop(lanes),), (Group((segment,)),), start, op=op)
    sizes = {Space.OUTPUT: lanes, Space.ARGUMENT: terms, Space.PARAMETER: lanes * terms}
    return Loops((step_,), sizes)


def numbers(loops: Loops) -> dict[Space, np.ndarray]:
    rng = np.random.default_rng(len(loops.instructions))
    spaces = (Space.ARGUMENT, Space.PARAMETER)
    return {space: rng.uniform(0.5, 1.5, loops.size(space)) for space in spaces}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("terms", [16, 27, 32, 67, 1000])
@pytest.mark.parametrize("lanes", [1, 3, 5, 8, 21])
def test_sums_by_vectors_are_those_of_exact_mode_to_rounding(lanes, terms, dtype):
    for step, other in ((1, 1), (0, 1), (-1, 1), (0, -1), (-1, -1)):
        for minus in (False, True):
            loops = fold(ops.ADD, lanes, terms, step, minus, other)
            inputs = numbers(loops)
            exact = native.build(loops).execute(inputs)[Space.OUTPUT]
            fast = native.build(loops, mode="fast", dtype=dtype).execute(inputs)[Space.OUTPUT]
            np.testing.assert_allclose(fast, exact, rtol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("op", [ops.MAXIMUM, ops.MINIMUM])
@pytest.mark.parametrize("terms", [16, 27, 67])
def test_extremes_by_vectors_are_those_of_exact_mode(op, terms):
    loops = fold(op, 3, terms, 1)
    inputs = numbers(loops)
    inputs[Space.PARAMETER][terms + 5] = np.nan  # of the second lane
    exact = native.build(loops).execute(inputs)[Space.OUTPUT]
    fast = native.build(loops, mode="fast").execute(inputs)[Space.OUTPUT]
    np.testing.assert_array_equal(fast, exact)
    assert np.isnan(exact).tolist() == [False, True, False]


@pytest.fixture
def turned(monkeypatch):
    """Whether the results are turned, of each nest planned."""
    found = []

    def plan(*arguments):
        chosen = right(*arguments)
        found.append(chosen.turned)
        return chosen

    right = clusters.plan
    monkeypatch.setattr(clusters, "plan", plan)
    return found


@pytest.mark.parametrize(("lanes", "expected"), [(1, False), (16, True), (100, True)])
def test_sums_of_several_lanes_are_turned_in_fast_mode_alone(lanes, expected, turned):
    loops = fold(ops.ADD, lanes, 16, 1)
    native.build(loops, mode="fast")
    native.build(loops)
    assert turned == [expected, False]


def test_sums_whose_terms_serve_several_lanes_are_not_turned(turned):
    lanes = Loop(8), Loop(8)
    left = Operand(Space.PARAMETER, 0, (16, 0, 1))
    right = Operand(Space.ARGUMENT, 0, (0, 16, 1))
    group = Group((Segment(left, right, (Loop(16),)),))
    product = Contract(Operand(Space.OUTPUT, 0, (8, 1)), lanes, (group,))
    sizes = {Space.OUTPUT: 64, Space.ARGUMENT: 128, Space.PARAMETER: 128}
    native.build(Loops((product,), sizes), mode="fast")
    assert turned == [False]


def test_factors_that_all_run_backwards_are_not_reversed():
    reversing = "<i32 3, i32 2, i32 1, i32 0>", "<i32 7, i32 6, i32 5, i32 4, i32 3, i32 2, i32 1"
    for step, other, expected in ((-1, -1, False), (0, -1, False), (-1, 1, True)):
        text = native.build(fold(ops.ADD, 1, 64, step, other=other), mode="fast").llvm_ir
        assert any(order in text for order in reversing) == expected


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_turning_that_confuses_lanes_is_seen(dtype, monkeypatch):
    loops = fold(ops.ADD, 16, 32, 1)
    inputs = numbers(loops)
    exact = native.build(loops).execute(inputs)[Space.OUTPUT]
    right = reductions.turned
    monkeypatch.setattr(reductions, "turned", lambda m, op, rows: right(m, op, rows[::-1]))
    fast = native.build(loops, mode="fast", dtype=dtype).execute(inputs)[Space.OUTPUT]
    assert np.abs(fast / exact - 1.0).max() > 0.01


def test_terms_share_vectors_in_fast_mode_alone():
    loops = fold(ops.ADD, 1, 64, 1)
    wide = "load <"
    assert wide in native.build(loops, mode="fast").llvm_ir
    assert wide not in native.build(loops).llvm_ir


def test_a_reduction_that_forgets_lanes_is_seen(monkeypatch):
    loops = fold(ops.ADD, 1, 64, 1)
    inputs = numbers(loops)
    exact = native.build(loops).execute(inputs)[Space.OUTPUT]
    monkeypatch.setattr(sums, "joined", lambda m, op, a, b: a)
    fast = native.build(loops, mode="fast").execute(inputs)[Space.OUTPUT]
    assert abs(fast[0] / exact[0] - 1.0) > 0.1
