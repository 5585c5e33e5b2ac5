"""Turns that grow or shrink: found in triangular programs, run by every executor with the same bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from programs import algebra, tables, triangular
from programs.case import Answer, Case, answer_of, capture, data_for, eager, inputs_for
from scalargrad import ops
from scalargrad.compiler import growing
from scalargrad.compiler.growing import gradient_begins
from scalargrad.compiler.loops import (
    Apply,
    Contract,
    Group,
    Loop,
    Loops,
    Operand,
    Repeat,
    Segment,
    Space,
    Walk,
    grows,
    leaves,
    turn,
    work,
)
from scalargrad.compiler.loops_check import verify
from scalargrad.compiler.recover import Tables
from scalargrad.compiler.reference import execute
from scalargrad.compiler.roll import roll
from scalargrad.errors import VerifyError

pytestmark = pytest.mark.pure
SOME = settings(suppress_health_check=list(HealthCheck), deadline=None)
S = Space


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")


def loops_of(case: Case, batch: str | None = None) -> tuple[Loops, list[Any]]:
    tape, marks, parameters, _ = capture(case, batch)
    return roll(tape, marks, check=True), parameters


def growing_repeats(loops: Loops) -> list[Repeat]:
    return [step for step in loops.instructions if isinstance(step, Repeat) and grows(step)]


def answers(case: Case, batch: str | None = None, examples: int = 1) -> list[Answer]:
    """Of the reference executor, and of native code where there is any."""
    loops, parameters = loops_of(case, batch)
    data = data_for(case, examples)
    given, size = inputs_for(case, data, parameters, batch), examples if batch else None
    results = [execute(loops, given, size)]
    if built() is not None:
        results.append(built().build(loops, size).execute(given))
    return [answer_of(loops, found, case, data) for found in results]


def built() -> Any:
    """The native back end, where there is one."""
    try:
        import llvmlite  # noqa: F401
    except ImportError:
        return None
    from scalargrad.compiler import native

    return native


def same_bits(case: Case, batch: str | None = None, examples: int = 1) -> None:
    expected = eager(case, data_for(case, examples), batch).bits()
    for answer in answers(case, batch, examples):
        assert answer.bits() == expected


# --- programs --------------------------------------------------------------------------------------

GROWN = (
    algebra.cholesky(12),
    triangular.elimination(14),
    triangular.lower_solve(14),
    triangular.upper_solve(14),
    triangular.all_before(14),
    triangular.packed_cholesky(14),
)


@pytest.mark.parametrize("case", GROWN, ids=str)
def test_steps_are_one_body_and_have_the_bits_of_the_engine(case):
    loops, _ = loops_of(case)
    repeats = growing_repeats(loops)
    assert len(repeats) == 2  # forwards and backwards
    assert not any(isinstance(step, Walk) for step in loops.instructions)
    same_bits(case)


@pytest.mark.parametrize(
    "case", [tables.alignment(20), tables.soft_alignment(16), tables.option(24)], ids=str
)
def test_the_diagonals_of_tables_are_bodies(case):
    """They grow, or shrink, forwards and in the gradient."""
    loops, _ = loops_of(case)
    assert len(growing_repeats(loops)) >= 2
    assert not any(isinstance(step, Walk) for step in loops.instructions)
    same_bits(case)


def test_all_partial_derivatives_come_between():
    """Those of one kind, of the whole table, are a few nests."""
    loops, _ = loops_of(tables.alignment(20))
    outside = [step for step in loops.instructions if isinstance(step, Apply)]
    compared = [step for step in outside if step.op == ops.LESS]
    assert sum(work(step, 1) for step in compared) > 0.9 * 4 * 20 * 20
    assert len(compared) < 40


@pytest.mark.parametrize("make", [triangular.elimination, triangular.lower_solve])
def test_larger_programs_are_hardly_more_instructions(make):
    """What is outside of the turns may take one for each row."""
    few, many = (len(list(leaves(loops_of(make(n))[0].instructions))) for n in (16, 24))
    assert many <= few + 8


@pytest.mark.parametrize("n", [48, 60])
def test_they_are_found_among_very_many_packs(n):
    """Packs of which most come again at once are no turns of it all."""
    tape, marks, *_ = capture(triangular.elimination(n))
    assert len(growing_repeats(roll(tape, marks, check=False))) == 2


@pytest.mark.parametrize("batch", ["sum", "mean"])
@pytest.mark.parametrize("case", [algebra.cholesky(8), triangular.upper_solve(13)], ids=str)
def test_examples_are_a_loop_around_them(case, batch):
    assert growing_repeats(loops_of(case, batch)[0]) or case.name.startswith("Cholesky")
    for examples in (1, 5, 9):
        same_bits(case, batch, examples)


@settings(SOME, max_examples=12)
@given(
    st.sampled_from((*triangular.ALL, algebra.cholesky, tables.option, tables.soft_alignment)),
    st.integers(3, 17),
    st.sampled_from((None, None, "sum")),
)
def test_any_size_has_the_bits_of_the_engine(make, n, batch):
    same_bits(make(n), batch, 3 if batch else 1)


def test_a_wrong_guess_is_not_believed(monkeypatch):
    """A place that is off by one in one of the guesses: it is right for no node."""
    guess = growing._guess

    def wrong(*given: Any) -> Any:
        found = guess(*given)
        return None if found is None else replace(found, left=found.left + np.array([1, 0, 0]))

    case = triangular.lower_solve(14)
    monkeypatch.setattr(growing, "_guess", wrong)
    assert growing_repeats(loops_of(case)[0]) == []
    same_bits(case)


def test_rows_of_a_packed_triangle_are_read_by_the_table(monkeypatch):
    case = triangular.packed_cholesky(14)
    loops, _ = loops_of(case)
    assert "table" in str(replace(loops, instructions=tuple(growing_repeats(loops))))
    same_bits(case)
    add = Tables.add
    monkeypatch.setattr(Tables, "add", lambda tables, entries: add(tables, entries[::-1]))
    with pytest.raises((VerifyError, AssertionError)):
        same_bits(case)


def test_a_wrong_length_is_seen(monkeypatch):
    """Sums that do not get longer from turn to turn: the verifier or the bits tell."""

    def stays(line: list[int], depth: int) -> tuple[Loop, ...]:
        return () if line == [1, 0, 0] else (Loop(line[0], (line[2],) * depth if line[2] else ()),)

    monkeypatch.setattr(growing, "_loops", stays)
    case = triangular.upper_solve(14)
    with pytest.raises((VerifyError, AssertionError)):
        same_bits(case)


def test_the_gradient_begins_where_the_order_turns():
    from scalargrad.compiler.derive import derive
    from scalargrad.compiler.flatten import flatten

    tape, marks, *_ = capture(tables.alignment(5))
    flat, outputs = flatten(tape, marks)
    assert gradient_begins(flat) == (len(flat), len(flat))
    both = derive(flat, outputs, marks)
    partials, chain = gradient_begins(both)
    assert len(flat) <= partials < chain < len(both)
    choosing = np.flatnonzero(np.isin(both.kind, (ops.LESS, ops.WHERE)))
    assert partials <= choosing.min()
    assert choosing.max() < chain
    assert (np.diff(both.rank[chain:][both.kind[chain:] != ops.LEAF]) <= 0).all()


def test_bounds_are_printed():
    text = str(loops_of(triangular.lower_solve(14))[0])
    assert "for k<t" in text or "for j<t" in text


# --- loops -----------------------------------------------------------------------------------------


@st.composite
def growing_programs(draw: Any) -> tuple[Loops, dict[Space, Any], int | None]:
    """Rows that grow or shrink from turn to turn, of sums over the rows before."""
    turns = draw(st.integers(1, 7))
    move = draw(st.integers(-2, 3))
    first = draw(st.integers(1, 9)) - min(move, 0) * (turns - 1)
    most = first + max(move, 0) * (turns - 1)
    batch = draw(st.sampled_from((None, None, 1, 5)))
    own = S.TEMPORARY if batch is None else S.BATCHED
    source, result = (S.ARGUMENT, S.OUTPUT) if batch is None else (S.EXAMPLE, S.EXAMPLE_OUTPUT)
    inner, slope = draw(st.integers(0, 3)), draw(st.integers(0, 2))
    grow = draw(st.integers(0, 2))
    lane = Loop(first, (), (move,) if move else ())
    terms = Loop(inner, (slope,) if slope else (), (grow,) if grow else ())
    stride, way = draw(st.sampled_from((0, 1, most))), draw(st.sampled_from((-1, 1)))
    reach = inner + slope * most + grow * turns
    back = reach if way < 0 else 0
    row = Contract(
        Operand(own, 0, (1,), moves=(most,)),
        (lane,),
        (
            Group(
                (
                    Segment(Operand(source, 3, (1,), moves=(2,))),
                    Segment(
                        Operand(source, back, (stride, way), moves=(1,)),
                        Operand(S.PARAMETER, 0, (0, 1)),
                        (terms,),
                        minus=True,
                    ),
                )
            ),
        ),
    )
    bend = Apply(
        Operand(own, most * turns, (1,), moves=(most,)),
        (lane,),
        draw(st.sampled_from((ops.TANH, ops.EXP, ops.ABS))),
        (Operand(own, 0, (1,), moves=(most,)),),
    )
    copy = Contract(
        Operand(result, 0, (1,), moves=(most,)),
        (lane,),
        (Group((Segment(Operand(own, most * turns, (1,), moves=(most,))),)),),
    )
    # What the turns leave out.
    left = [
        Contract(Operand(result, most * t + k), (), (), start=1.0)
        for t in range(turns)
        for k in range(first + move * t, most)
    ]
    sizes = {
        own: 2 * most * turns,
        result: most * turns,
        source: 8 + 2 * turns + most * (most + 1) + reach,
        S.PARAMETER: reach + 1,
    }
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    inputs = {
        s: rng.normal(size=(batch or 1, n) if s.batched else (n,))
        for s, n in sizes.items()
        if s in (source, S.PARAMETER)
    }
    steps = (Repeat((row, bend, copy), turns), *left)
    return Loops(steps, sizes, batched=batch is not None), inputs, batch


@SOME
@given(growing_programs())
def test_repeats_have_the_bits_of_their_turns(case):
    loops, inputs, batch = case
    repeat = verify(loops).instructions[0]
    assert isinstance(repeat, Repeat)
    spelled = tuple(turn(step, t) for t in range(repeat.count) for step in repeat.body)
    plain = verify(replace(loops, instructions=(*spelled, *loops.instructions[1:])))
    assert work(repeat) == sum(map(work, spelled))
    expected = execute(plain, inputs, batch)
    got = [execute(loops, inputs, batch)]
    if built() is not None:
        got.append(built().build(loops, batch).execute(inputs))
    for results in got:
        for space in (S.OUTPUT, S.EXAMPLE_OUTPUT):
            if loops.size(space):
                np.testing.assert_array_equal(results[space], expected[space])


def test_a_loop_may_move_with_the_repeats_around_only():
    step = Apply(
        Operand(S.OUTPUT, 0, (1,)), (Loop(1, (), (1,)),), ops.TANH, (Operand(S.ARGUMENT, 0, (1,)),)
    )
    with pytest.raises(VerifyError, match="its loops move with more repeats"):
        verify(Loops((step,), {S.OUTPUT: 1, S.ARGUMENT: 1}))
