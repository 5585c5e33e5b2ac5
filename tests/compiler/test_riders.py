"""Long sums that ride along with other nests: that they do, and that no bit changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

pytest.importorskip("llvmlite")

from compiler.loop_cases import chain_cases  # type: ignore[import-not-found]
from compiler.test_native import agree  # type: ignore[import-not-found]
from scalargrad.compiler import emit, native, riders
from scalargrad.compiler.loops import Contract, Group, Loop, Loops, Operand, Segment, Space
from scalargrad.compiler.loops_check import verify

WIDTH = 16


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sums ride along with each of the pieces of the programs that were emitted."""
    found: list[int] = []

    def recorded(pieces):
        result = right(pieces)
        found.extend(len(piece.riders) for piece in result)
        return result

    right = riders.paired
    monkeypatch.setattr(emit, "paired", recorded)
    return found


def penalty(terms: int, at: int = 0, source: Space = Space.PARAMETER) -> Contract:
    """The sum of so many squares."""
    square = Operand(source, 0, (1,))
    group = Group((Segment(square, square, (Loop(terms),)),))
    return Contract(Operand(Space.OUTPUT, at), (), (group,), start=0.0)


def product(rows: int, source: int = 0) -> Contract:
    """t = a matrix of arguments times one of parameters, both WIDTH wide."""
    lanes = (Loop(rows), Loop(WIDTH))
    left = Operand(Space.ARGUMENT, source, (WIDTH, 0, 1))
    right = Operand(Space.PARAMETER, 0, (0, 1, WIDTH))
    group = Group((Segment(left, right, (Loop(WIDTH),)),))
    return Contract(Operand(Space.ARGUMENT_GRADIENT, 0, (WIDTH, 1)), lanes, (group,))


def program(*steps: Contract, terms: int, rows: int) -> tuple[Loops, dict[Space, np.ndarray]]:
    sizes = {
        Space.PARAMETER: max(terms, WIDTH * WIDTH),
        Space.ARGUMENT: rows * WIDTH,
        Space.ARGUMENT_GRADIENT: rows * WIDTH,
        Space.OUTPUT: len(steps) - 1,
    }
    rng = np.random.default_rng(terms)
    inputs = {s: rng.normal(size=sizes[s]) for s in (Space.PARAMETER, Space.ARGUMENT)}
    return verify(Loops(steps, sizes)), inputs


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 40, 41, 100])
@pytest.mark.parametrize("terms", [31, 32, 33, 100, 337, 2000])
def test_sums_that_ride_along_have_the_bits_of_the_reference(terms, rows, first):
    steps = penalty(terms), product(rows)
    loops, inputs = program(*steps[:: 1 if first else -1], terms=terms, rows=rows)
    agree(loops, inputs, None)


def test_a_sum_rides_along_whether_it_comes_first_or_last(hosts):
    for steps in ((penalty(337), product(100)), (product(100), penalty(337))):
        loops, inputs = program(*steps, terms=337, rows=100)
        agree(loops, inputs, None)
        assert max(hosts) == 1
        hosts.clear()


def test_only_a_few_sums_ride_along_with_one_nest(hosts):
    steps = product(100), *(penalty(300, at) for at in range(4))
    loops, inputs = program(*steps, terms=300, rows=100)
    agree(loops, inputs, None)
    assert max(hosts) == riders.SEATS


def test_a_sum_of_what_a_nest_computes_waits_for_it(hosts):
    steps = product(100), penalty(337, source=Space.ARGUMENT_GRADIENT)
    loops, inputs = program(*steps, terms=337, rows=100)
    agree(loops, inputs, None)
    assert not any(hosts)


@pytest.mark.parametrize("mistake", ["finish", "_meet"])
def test_mistakes_would_be_seen(mistake, monkeypatch):
    if mistake == "finish":  # without the terms that are left
        monkeypatch.setattr(riders.Rider, "finish", lambda self: self._then(self._values))
        steps = penalty(337), product(100)
    else:
        monkeypatch.setattr(riders, "_meet", lambda one, two: False)
        steps = product(100), penalty(337, source=Space.ARGUMENT_GRADIENT)
    loops, inputs = program(*steps, terms=337, rows=100)
    with pytest.raises(AssertionError):
        agree(loops, inputs, None)


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(chain_cases())
def test_programs_of_any_order_have_the_bits_of_the_reference(case):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(riders, "LEAST", 2)
        patch.setattr(riders, "BUSY", 0.5)
        agree(*case)


def test_fast_mode_has_other_ways(hosts):
    loops, inputs = program(penalty(337), product(100), terms=337, rows=100)

    native.build(loops, mode="fast").execute(inputs)
    assert not any(hosts)
