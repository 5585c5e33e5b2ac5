"""Blocks of memory: apart while they are needed, and in one place once they are not."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from scalargrad import ops
from scalargrad.compiler import binding, native
from scalargrad.compiler.lifetimes import Span, first_fit
from scalargrad.compiler.loops import (
    Apply,
    Contract,
    Group,
    Instruction,
    Loop,
    Loops,
    Operand,
    Segment,
    Space,
)
from scalargrad.compiler.loops_check import verify
from scalargrad.compiler.reference import execute

SIZE, STEPS = 24, 6


@pytest.mark.parametrize("seed", range(20))
def test_blocks_needed_at_the_same_time_do_not_meet(seed):
    rng = random.Random(seed)
    spans = []
    for _ in range(60):
        first = rng.randrange(40)
        spans.append(Span(rng.randrange(1, 50), first, first + rng.randrange(12)))
    places, size = first_fit(spans)
    for now in range(60):
        live = sorted((p, s.size) for p, s in zip(places, spans) if s.first <= now <= s.last)
        assert all(p + n <= q for (p, n), (q, _) in pairwise(live))
    assert size == max(p + s.size for p, s in zip(places, spans))
    assert size < sum(s.size for s in spans)


def test_what_is_free_is_used_from_the_lowest_place_on():
    spans = [Span(8, 0, 0), Span(8, 0, 2), Span(4, 1, 3), Span(4, 1, 3), Span(16, 3, 3)]
    assert first_fit(spans) == ([0, 8, 0, 4, 8], 24)


def test_the_last_hole_grows():
    assert first_fit([Span(8, 0, 1), Span(8, 0, 0), Span(24, 1, 1)]) == ([0, 8, 8], 32)


def chain() -> Loops:
    """u0 = x^2, u1 = x + u0, u2 = u1 + u0 ...; y = the last + u0; gp = sums of it over examples."""
    lanes, x = (Loop(SIZE),), Operand(Space.EXAMPLE, 0, (1,))
    places = [Operand(Space.BATCHED, k * SIZE, (1,)) for k in range(STEPS)]
    steps: list[Instruction] = [Apply(places[0], lanes, ops.MUL, (x, x))]
    for k in range(1, STEPS):
        # Backwards, so that no two steps share their loops.
        earlier = x if k == 1 else places[k - 1]
        back = earlier._replace(base=earlier.base + SIZE - 1, strides=(-1,))
        steps.append(Apply(places[k], lanes, ops.ADD, (back, places[0])))
    terms = Group((Segment(places[-1]), Segment(places[0])), over=1)
    steps.append(Contract(Operand(Space.PARAMETER_GRADIENT, 0, (1,)), lanes, (terms,)))
    sizes = {Space.PARAMETER: SIZE, Space.PARAMETER_GRADIENT: SIZE, Space.EXAMPLE: SIZE}
    return verify(Loops(tuple(steps), {**sizes, Space.BATCHED: STEPS * SIZE}, batched=True))


def gradients(loops: Loops, batch: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).integers(-9, 9, (batch, SIZE)).astype(float)
    inputs = {Space.EXAMPLE: x, Space.PARAMETER: np.zeros(SIZE)}
    program = native.build(loops, batch, mode)
    assert program.image.lengths[Space.BATCHED] < STEPS * SIZE * batch
    space = Space.PARAMETER_GRADIENT
    return program.execute(inputs)[space], execute(loops, inputs, batch)[space]


@pytest.mark.parametrize("mode", native.MODES)
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_temporaries_take_the_place_of_those_that_are_read_no_more(mode, batch):
    got, expected = gradients(chain(), batch, mode)
    np.testing.assert_array_equal(got, expected)


def test_places_given_away_too_early_are_seen(monkeypatch):
    monkeypatch.setattr(binding, "Span", lambda size, first, last: Span(size, first, first))
    got, expected = gradients(chain(), 3, "exact")
    assert not np.array_equal(got, expected)
