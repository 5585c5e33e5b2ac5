"""Lanes side by side whose sums have terms of different number, or whose row ends anywhere."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from compiler.test_widths import CPUS  # type: ignore[import-not-found]
from programs import algebra, triangular
from programs.case import capture, data_for, inputs_for
from scalargrad.compiler import clusters, llvm, native, nests, tiles
from scalargrad.compiler.loops import (
    SKIP_LEFT,
    SKIP_RIGHT,
    Contract,
    Group,
    Loop,
    Loops,
    Operand,
    Repeat,
    Segment,
    Space,
)
from scalargrad.compiler.loops_check import verify
from scalargrad.compiler.reference import execute
from scalargrad.compiler.roll import roll

S = Space
SOME = settings(suppress_health_check=list(HealthCheck), deadline=None)
GIVEN = 4000  # numbers that can be read


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")


def agree(loops: Loops, seed: int = 0, zeros: float = 0.1) -> None:
    """Native code of CPUs of all kinds has the bits of the reference."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for space in (S.PARAMETER, S.ARGUMENT, S.PARAMETER_GRADIENT):
        numbers = rng.normal(size=loops.size(space))
        numbers[rng.random(len(numbers)) < zeros] = 0.0
        inputs[space] = numbers
    result = S.OUTPUT if loops.size(S.OUTPUT) else S.PARAMETER_GRADIENT
    expected = execute(loops, inputs)[result]
    for cpu in CPUS.values():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(llvm, "vector_bits", lambda cpu=cpu: cpu)
            got = native.build(loops).execute(inputs)[result]
        np.testing.assert_array_equal(got.view(np.int64), expected.view(np.int64), str(cpu))


def triangle(
    lanes: int, slopes: tuple[int, ...], apart: int = 37, move: int = 0, turns: int = 1
) -> Loops:
    """In turn t, for i < lanes + move t: y = p - sum_j p a - ..., a sum for each of the slopes.

    Of each lane i sum number k has 3 + slope i terms, or as many fewer as there are then left.
    """
    most = lanes + max(move, 0) * (turns - 1)
    parts = [Segment(Operand(S.PARAMETER, 5, (apart,), moves=(1,)))]
    for k, slope in enumerate(slopes):
        least = 3 - min(slope, 0) * (most - 1)
        reach = apart * most if apart < 0 else 0
        parts.append(
            Segment(
                Operand(S.PARAMETER, 7 - reach + k, (apart, 1), moves=(2,)),
                Operand(S.ARGUMENT, 500, (0, -1), moves=(1,)),
                (Loop(least, (slope,)),),
                minus=k % 2 == 0,
                skip=(0, SKIP_RIGHT, SKIP_LEFT)[k % 3],
            )
        )
    if apart < 0:
        parts[0] = parts[0]._replace(left=Operand(S.PARAMETER, 5 - apart * most, (apart,)))
    row = Contract(
        Operand(S.OUTPUT, 0, (1,), moves=(most,)),
        (Loop(lanes, (), (move,) if move else ()),),
        (Group(tuple(parts)),),
    )
    left = [
        Contract(Operand(S.OUTPUT, most * t + k), (), (), start=1.0)
        for t in range(turns)
        for k in range(lanes + move * t, most)
    ]
    sizes = {S.OUTPUT: most * turns, S.PARAMETER: GIVEN, S.ARGUMENT: GIVEN}
    return verify(Loops((Repeat((row,), turns), *left), sizes))


@pytest.mark.parametrize("slopes", [(1,), (-1,), (1, -1), (2,), (-2, 1, 0)], ids=str)
@pytest.mark.parametrize("lanes", [2, 4, 7, 8, 13, 30])
def test_sums_get_longer_or_shorter_from_lane_to_lane(lanes, slopes):
    agree(triangle(lanes, slopes))


@settings(SOME, max_examples=30)
@given(
    st.integers(1, 20),
    st.lists(st.integers(-2, 2), max_size=3),
    st.sampled_from((1, -1, 2, 37, -37)),
    st.integers(0, 3),
    st.integers(1, 6),
    st.booleans(),
)
def test_rows_end_anywhere(lanes, slopes, apart, move, turns, shrinks):
    first, step = (lanes + move * (turns - 1), -move) if shrinks else (lanes, move)
    agree(triangle(first, tuple(slopes), apart, step, turns))


@pytest.mark.parametrize("extents", [(8, 9), (3, 20), (9, 2)])
def test_sums_may_get_longer_along_the_first_of_several_axes_only(extents):
    rows, lanes = extents
    terms = Segment(
        Operand(S.PARAMETER, 0, (37, 1, 1)),
        Operand(S.ARGUMENT, 0, (0, 0, 1)),
        (Loop(2, (1,)),),
    )
    result = Operand(S.OUTPUT, 0, (lanes, 1))
    step = Contract(result, (Loop(rows), Loop(lanes)), (Group((terms,)),))
    sizes = {S.OUTPUT: rows * lanes, S.PARAMETER: GIVEN, S.ARGUMENT: GIVEN}
    agree(verify(Loops((step,), sizes)))


def test_they_share_vectors():
    """Where registers hold four numbers or more, a subtraction is of vectors."""
    for loops in (triangle(30, (1, -1)), triangle(9, (0,), 37, 1, 20)):
        for bits, *rest in ((512, 32, True), (256, 16, True)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(llvm, "vector_bits", lambda bits=bits, rest=rest: (bits, *rest))
                text = native.build(loops).llvm_ir
            assert re.search(rf"fsub <{bits // 64} x double>", text)


def test_what_is_added_to_is_not_computed_again(monkeypatch):
    """Sums that go on from what is there: each lane has its term once."""
    loops = mapped_to_gradient(triangle(9, (0,), 37, 1, 20))
    agree(loops)
    monkeypatch.setattr(clusters, "_repeats", lambda member: True)
    with pytest.raises(AssertionError):
        agree(loops)


def mapped_to_gradient(loops: Loops) -> Loops:
    """The same sums, added to a gradient."""

    def added(step: Contract) -> Contract:
        return replace(step, resume=True, result=step.result._replace(space=S.PARAMETER_GRADIENT))

    repeat, *left = loops.instructions
    assert isinstance(repeat, Repeat)
    body = tuple(added(step) for step in repeat.body if isinstance(step, Contract))
    steps = (replace(repeat, body=body), *(added(s) for s in left if isinstance(s, Contract)))
    sizes = {**loops.sizes, S.PARAMETER_GRADIENT: loops.size(S.OUTPUT)}
    del sizes[S.OUTPUT]
    return verify(Loops(steps, sizes))


# --- planted errors --------------------------------------------------------------------------------


def off_by_one(place: Any, name: str, change: Any) -> None:
    """With such an error, sums have other bits."""
    loops = triangle(13, (1, -1))
    agree(loops)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, change(getattr(place, name)))
        with pytest.raises(AssertionError):
            agree(loops)


def test_a_lane_too_many_is_seen():
    off_by_one(tiles.Piece, "some", lambda right: lambda piece, a, b: right(piece, a - 1, b + 1))


def test_a_lane_too_few_is_seen():
    off_by_one(nests.Tile, "lanes", lambda right: lambda tile: (right(tile)[0], right(tile)[1] - 1))


# --- programs --------------------------------------------------------------------------------------


@settings(SOME, max_examples=12)
@given(
    st.sampled_from((*triangular.ALL, algebra.cholesky)),
    st.integers(8, 24),
    st.sampled_from(tuple(CPUS)),
)
def test_factorisations_have_the_bits_of_the_reference_on_any_cpu(make, n, cpu):
    case = make(n)
    tape, marks, parameters, _ = capture(case, None)
    loops, inputs = roll(tape, marks), inputs_for(case, data_for(case, 1), parameters, None)
    expected = execute(loops, inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llvm, "vector_bits", lambda: CPUS[cpu])
        got = native.build(loops).execute(inputs)
    for space in (S.OUTPUT, S.ARGUMENT_GRADIENT):
        np.testing.assert_array_equal(got[space].view(np.int64), expected[space].view(np.int64))
