"""Sums of few terms in steps: what they are then, and that no bit changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from compiler.loop_cases import walk_cases  # type: ignore[import-not-found]
from scalargrad import ops
from scalargrad.compiler.loops import MINUS, Space, Walk
from scalargrad.compiler.reference import execute
from scalargrad.compiler.steps import FEW, in_steps

pytestmark = pytest.mark.pure
WIDE = settings(suppress_health_check=list(HealthCheck), deadline=None)


def bits(numbers: np.ndarray) -> np.ndarray:
    """Numbers as integers, every nan alike: IEEE leaves a nan's sign and payload open."""
    return np.where(np.isnan(numbers), np.nan, numbers).view(np.int64)


def plain(walk: Walk, t: int) -> bool:
    """Whether a term is a number as it is."""
    return walk.right[t] < 0 and not walk.style[t] & MINUS


@WIDE
@given(walk_cases())
def test_steps_have_the_bits_of_the_sums(case):
    loops, inputs, batch = case
    walk, *others = loops.instructions
    constants = np.concatenate((loops.constants, [1.0, -0.0]))
    one = len(constants) - 2
    stepwise = replace(
        loops,
        instructions=(in_steps(walk, one, one + 1), *others),
        sizes=dict(loops.sizes) | {Space.CONSTANT: len(constants)},
        constants=constants,
    )
    expected, got = (execute(program, inputs, batch) for program in (loops, stepwise))
    for space in (Space.OUTPUT, Space.EXAMPLE_OUTPUT):
        if loops.size(space):
            np.testing.assert_array_equal(bits(got[space]), bits(expected[space]))


@WIDE
@given(walk_cases())
def test_sums_of_few_terms_are_steps_and_nothing_else_changes(case):
    walk = case[0].instructions[0]
    made = in_steps(walk, 0, 1)
    k = 0
    for i in range(len(walk.code)):
        terms = range(int(walk.first[i]), int(walk.first[i + 1]))
        few = walk.code[i] == ops.ADD and 1 <= len(terms) <= FEW
        few = few and bits(walk.const[i]) == bits(np.float64(-0.0))
        if few:
            shorter = len(terms) > 1 and any(plain(walk, t) for t in terms[:2])
            for _ in range(len(terms) - shorter):
                z, product = range(int(made.first[k]), int(made.first[k + 1]))
                assert plain(made, z)
                assert made.right[product] >= 0
                assert (made.space[k], made.at[k]) == (walk.space[i], walk.at[i])
                k += 1
        else:
            own = range(int(made.first[k]), int(made.first[k + 1]))
            for name in ("left_space", "left", "right", "style"):
                before, after = getattr(walk, name), getattr(made, name)
                assert before[terms].tolist() == after[own].tolist()
            k += 1
    assert k == len(made.code)


def test_no_step_at_all():
    nothing = [np.empty(0, np.uint8), np.empty(0, np.uint8), np.empty(0, np.int32), np.empty(0)]
    walk = Walk(*nothing, np.zeros(1, np.int32), *(np.empty(0, np.int32) for _ in range(6)))
    assert len(in_steps(walk, 0, 1).code) == 0
