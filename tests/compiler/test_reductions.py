"""Sums whose terms share vectors, against exact mode."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from scalargrad import ops
from scalargrad.compiler import native, sums
from scalargrad.compiler.loops import Contract, Group, Loop, Loops, Operand, Segment, Space


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")


def fold(op: int, lanes: int, terms: int, step: int, minus: bool = False) -> Loops:
    """y[i] = fold over j of a[j] p[i, j], a backwards with step -1."""
    first = terms - 1 if step < 0 else 0
    segment = Segment(
        Operand(Space.ARGUMENT, first, (0, step)),
        Operand(Space.PARAMETER, 0, (terms, 1)),
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
@pytest.mark.parametrize("lanes", [1, 3, 5])
def test_sums_by_vectors_are_those_of_exact_mode_to_rounding(lanes, terms, dtype):
    for step in (1, 0, -1):
        for minus in (False, True):
            loops = fold(ops.ADD, lanes, terms, step, minus)
            inputs = numbers(loops)
            exact = native.build(loops).execute(inputs)[Space.OUTPUT]
            fast = native.build(loops, mode="fast", dtype=dtype).execute(inputs)[Space.OUTPUT]
            np.testing.assert_allclose(fast, exact, rtol=8 * np.finfo(dtype).eps)


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
