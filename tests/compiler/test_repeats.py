"""Repeats: turns found in instructions and sums, run by every executor with the same bits."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.loop_cases import recurrences  # type: ignore[import-not-found]
from programs import algebra, gpt, mlp, recurrent
from programs.case import Case, answer_of, capture, data_for, eager, inputs_for
from programs.physics import cart_pole, pendulum, prey, string
from scalargrad import Value, functional, ops
from scalargrad.compiler import repeats
from scalargrad.compiler import roll as rolling
from scalargrad.compiler.loops import (
    SKIP_RIGHT,
    Apply,
    Contract,
    Group,
    Loop,
    Loops,
    Operand,
    Origin,
    Repeat,
    Segment,
    Space,
    Walk,
    mapped,
    turn,
)
from scalargrad.compiler.loops_check import verify
from scalargrad.compiler.reference import execute
from scalargrad.compiler.repeats import find_repeats, fold_sums
from scalargrad.compiler.roll import Stats, roll
from scalargrad.compiler.tandems import Tandem, find_tandems, linear_hash
from scalargrad.errors import VerifyError

pytestmark = pytest.mark.pure
WIDE = settings(suppress_health_check=list(HealthCheck), deadline=None)
S = Space


# --- tandem repeats of a sequence -----------------------------------------------------------------


def tandems(kinds, numbers, least=1):
    first = np.arange(len(numbers) + 1)
    hashes = linear_hash(np.array(numbers, np.int64), first)
    return find_tandems(np.array(kinds, np.int64), hashes, least)


def test_turns_that_move_evenly_are_found():
    kinds = [9, *[1, 2, 3] * 5, 8, *[4] * 4]
    numbers = [0, *[x for t in range(5) for x in (t, 10 - 2 * t, 7)], 5, 1, 2, 3, 4]
    assert tandems(kinds, numbers) == [Tandem(1, 3, 5), Tandem(17, 1, 4)]
    assert tandems(kinds, numbers, least=4) == [Tandem(1, 3, 5)]


def test_uneven_turns_are_none():
    assert tandems([1, 2] * 4, [0, 0, 1, 5, 2, 9, 3, 1]) == []
    assert tandems([1] * 5, [0, 1, 2, 3, 5]) == [Tandem(0, 1, 4)]
    assert tandems([], []) == []


def test_turns_of_turns_are_found():
    """Also where the inner ones are many more, and where other periods are more frequent."""
    turn = [*[1, 2, 3, 4, 5] * 30, 6, 7]
    kinds = [*turn * 8, *[1, 2] * 2000]
    found = tandems(kinds, [0] * len(kinds))
    assert found[0] == Tandem(0, len(turn), 8)
    assert found[1].period == 2


@WIDE
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=40))
def test_what_is_found_are_tandem_repeats(items):
    found = tandems([k for k, _ in items], [x for _, x in items])
    end = 0
    for start, period, turns in found:
        assert start >= end
        assert turns >= 3
        end = start + period * turns
        rows = [items[start + t * period : start + (t + 1) * period] for t in range(turns)]
        for before, now, after in zip(rows, rows[1:], rows[2:]):
            for a, b, c in zip(before, now, after):
                assert a[0] == b[0] == c[0]
                assert b[1] - a[1] == c[1] - b[1]
    assert end <= len(items)


@WIDE
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=36),
    st.integers(1, 4),
)
def test_the_longest_repeats_are_taken_first(items, least):
    """The one that saves most, of those the one of the shortest period; then before and after it."""
    kinds, numbers = [k for k, _ in items], [x for _, x in items]

    def turns(start: int, period: int, stop: int) -> int:
        count, before = 1, []
        while start + (count + 1) * period <= stop:
            here = range(start + (count - 1) * period, start + count * period)
            if any(kinds[k] != kinds[k + period] for k in here):
                break
            step = [numbers[k + period] - numbers[k] for k in here]
            if count > 1 and step != before:
                break
            count, before = count + 1, step
        return count

    def best(low: int, high: int) -> int:
        return max(
            (
                period * (turns(start, period, high) - 1)
                for period in range(1, (high - low) // 3 + 1)
                for start in range(low, high)
                if turns(start, period, high) >= 3
            ),
            default=0,
        )

    found = tandems(kinds, numbers, least)
    assert max((each.saved for each in found), default=0) == best(0, len(items)) * (
        best(0, len(items)) >= least
    )
    edges = [0, *[x for each in found for x in (each.start, each.stop)], len(items)]
    for low, high in zip(edges[::2], edges[1::2]):
        assert best(low, high) < least


# --- sums ------------------------------------------------------------------------------------------


def total(*terms: Segment, over: int = 0, lanes: tuple[Loop, ...] = ()) -> Contract:
    return Contract(Operand(S.OUTPUT, 0, (1,) * len(lanes)), lanes, (Group(terms, over),))


def test_terms_at_even_distances_become_a_loop():
    terms = [Segment(Operand(S.ARGUMENT, 3 * k), Operand(S.PARAMETER, 9 - k)) for k in range(10)]
    folded = fold_sums(total(*terms))
    left, right = Operand(S.ARGUMENT, 0, (3,)), Operand(S.PARAMETER, 9, (-1,))
    assert folded.groups == (Group((Segment(left, right, (Loop(10),)),)),)


def test_terms_in_turns_share_a_loop():
    terms = [Segment(Operand(S.ARGUMENT, k + (k % 2) * 40), minus=bool(k % 2)) for k in range(12)]
    first = Segment(Operand(S.PARAMETER, 0))
    folded = fold_sums(total(first, *terms))
    assert [group.shared for group in folded.groups] == [0, 1]
    loops = Loops((folded,), {S.OUTPUT: 1, S.ARGUMENT: 60, S.PARAMETER: 1})
    assert "sum(a[2i] - a[41+2i] for i<6)" in str(loops)
    # Every example has all its terms in turn: they cannot be cut in two groups.
    assert fold_sums(total(first, *terms, over=-1)).groups[0].shared == 0
    assert fold_sums(total(*terms, over=-1)).groups[0].shared == 1


@st.composite
def sums(draw: Any) -> tuple[Loops, dict[Space, np.ndarray], int | None]:
    """A sum of segments that repeat, or nearly do."""
    batch = draw(st.sampled_from((None, 1, 3, 8)))
    over = 0 if batch is None else draw(st.sampled_from((0, 1, -1)))
    lanes = (Loop(draw(st.integers(1, 9))),) * draw(st.integers(0, 1))
    period, turns = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    source = S.EXAMPLE if over else S.ARGUMENT
    inner = [(Loop(draw(st.integers(1, 5))),) * draw(st.integers(0, 1)) for _ in range(period)]
    steps = [draw(st.integers(-4, 6)) for _ in range(period)]
    starts = [draw(st.integers(40, 60)) for _ in range(period)]
    skips = [draw(st.sampled_from((0, SKIP_RIGHT))) for _ in range(period)]
    segments = []
    for t in range(turns):
        for k in range(period):
            strides = (1,) * (len(lanes) + len(inner[k]))
            left = Operand(source, starts[k] + t * steps[k], strides)
            right = Operand(S.PARAMETER, 2 * t + k, strides) if skips[k] or k % 2 else None
            segments.append(Segment(left, right, inner[k], k == 1, skips[k]))
    for _ in range(draw(st.integers(0, 2))):
        segments.insert(
            draw(st.integers(0, len(segments))), Segment(Operand(S.PARAMETER, 0, (0,) * len(lanes)))
        )
    op = draw(st.sampled_from((ops.ADD, ops.ADD, ops.MAXIMUM)))
    size = lanes[0].extent if lanes else 1
    step = replace(total(*segments, over=over, lanes=lanes), op=op)
    sizes = {S.OUTPUT: size, source: 140, S.PARAMETER: 60}
    if batch is not None:
        sizes[S.EXAMPLE] = 140
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    shape = {s: (batch or 1, n) if s.batched else (n,) for s, n in sizes.items()}
    inputs = {s: rng.normal(size=shape[s]).round(1) for s in sizes if s != S.OUTPUT}
    return Loops((step,), sizes, batched=batch is not None), inputs, batch


@WIDE
@given(sums())
def test_folded_sums_have_the_same_bits(case):
    loops, inputs, batch = case
    (step,) = loops.instructions
    assert isinstance(step, Contract)
    folded = verify(replace(loops, instructions=(fold_sums(step),)))
    agree(execute(loops, inputs, batch), folded, inputs, batch)


# --- instructions ----------------------------------------------------------------------------------


def agree(expected, loops: Loops, inputs, batch: int | None, native: bool = True) -> None:
    """All executors give these results for the program."""
    got = [execute(loops, inputs, batch)]
    if native and built() is not None:
        got.append(built().build(loops, batch).execute(inputs))
    for results in got:
        for space in set(results) - {S.CONSTANT, S.TEMPORARY, S.BATCHED}:
            np.testing.assert_array_equal(results[space], expected[space], space.name)


def built() -> Any:
    """The native back end, where there is one."""
    try:
        import llvmlite  # noqa: F401
    except ImportError:
        return None
    from scalargrad.compiler import native

    return native


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")


def unrolled(steps) -> list:
    """Instructions with every repeat spelled out."""
    made: list = []
    for step in steps:
        if isinstance(step, Repeat):
            for number in range(step.count):
                made += unrolled([turn(inner, number) for inner in step.body])
        else:
            made.append(step)
    return made


@WIDE
@given(recurrences())
def test_repeats_have_the_bits_of_their_turns(case):
    loops, inputs, batch = case
    verify(loops)
    plain = replace(loops, instructions=tuple(unrolled(loops.instructions)))
    agree(execute(plain, inputs, batch), loops, inputs, batch)


@WIDE
@given(recurrences())
def test_turns_are_found_again(case):
    loops, inputs, batch = case
    plain = replace(loops, instructions=tuple(unrolled(loops.instructions)))
    found = verify(find_repeats(plain))
    assert len(unrolled(found.instructions)) == len(plain.instructions)
    agree(execute(plain, inputs, batch), found, inputs, batch)


def test_constants_may_be_anything():
    """A constant for each turn is read from a list of its own if it must be."""
    numbers = np.array([0.5, 2.0, 3.0, 0.5, 7.0, 2.0])
    order = [0, 1, 2, 0, 4, 1, 2, 0, 1, 1]
    steps = [Contract(Operand(S.TEMPORARY, 0), (), (Group((Segment(Operand(S.ARGUMENT, 0)),)),))]
    for t, place in enumerate(order):
        operands = Operand(S.TEMPORARY, t), Operand(S.CONSTANT, place)
        steps.append(Apply(Operand(S.TEMPORARY, t + 1), (), ops.DIV, operands))
    result = Segment(Operand(S.TEMPORARY, len(order)))
    steps.append(Contract(Operand(S.OUTPUT, 0), (), (Group((result,)),)))
    sizes = {S.TEMPORARY: 11, S.OUTPUT: 1, S.CONSTANT: 6, S.ARGUMENT: 1}
    loops = verify(Loops(tuple(steps), sizes, numbers))
    found = verify(find_repeats(loops))
    assert any(isinstance(step, Repeat) for step in found.instructions)
    inputs = {S.ARGUMENT: [0.1]}
    agree(execute(loops, inputs), found, inputs, None)


def test_negative_zero_is_another_constant():
    steps = [
        Contract(
            Operand(S.OUTPUT, k),
            (),
            (Group((Segment(Operand(S.ARGUMENT, k)),)),),
            start=-0.0 if k % 2 else 0.0,
        )
        for k in range(40)
    ]
    loops = Loops(tuple(steps), {S.OUTPUT: 40, S.ARGUMENT: 40})
    inputs = {S.ARGUMENT: np.full(40, -0.0)}
    found = find_repeats(loops)
    for results in (execute(loops, inputs), execute(found, inputs)):
        assert np.signbit(results[S.OUTPUT]).tolist() == [False, True] * 20


def test_it_prints():
    loops = find_repeats(Loops(tuple(chain(40)), CHAIN))
    assert "repeat t in 0..5: 8 instructions, 5 times" in str(loops)
    assert "t[1+8t] = tanh(t[8t])" in str(loops)


def test_nests_of_like_nodes_that_are_split_say_so():
    tape, marks, *_ = capture(small_gpt(1))
    loops = roll(tape, marks)
    split = [step.origin.part for step in loops.nests if step.origin.part[1] > 1]
    assert split
    assert str(loops).count(", part ") == len(split)
    assert f", part {split[0][0]} of {split[0][1]}" in str(loops)


def test_a_repeat_names_its_most_frequent_lines():
    step = Apply(Operand(S.TEMPORARY, 1, moves=(1,)), (), ops.TANH, (Operand(S.ARGUMENT, 0),))
    lines = ("b.py:2", "a.py:1", "a.py:1")
    body = tuple(replace(step, origin=Origin(lines=(line,))) for line in lines)
    text = str(Loops((Repeat(body, 4),), CHAIN))
    assert "repeat t in 0..4: 3 instructions, 4 times  a.py:1, b.py:2" in text


# --- faults ----------------------------------------------------------------------------------------

CHAIN = {S.TEMPORARY: 41, S.ARGUMENT: 1, S.OUTPUT: 1}


def chain(turns: int) -> list:
    first = Contract(Operand(S.TEMPORARY, 0), (), (Group((Segment(Operand(S.ARGUMENT, 0)),)),))
    middle = [
        Apply(Operand(S.TEMPORARY, t + 1), (), ops.TANH, (Operand(S.TEMPORARY, t),))
        for t in range(turns)
    ]
    result = Segment(Operand(S.TEMPORARY, turns))
    return [first, *middle, Contract(Operand(S.OUTPUT, 0), (), (Group((result,)),))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o: o._replace(base=o.base + 1), "not written yet"),
        (lambda o: o._replace(moves=(0,)), "written twice"),
        (lambda o: o._replace(moves=(2,)), "not written yet"),
        (lambda o: o._replace(moves=(1, 1)), "more repeats than there are"),
        (lambda o: o._replace(moves=(100,)), "TEMPORARY"),
    ],
)
def test_the_verifier_follows_every_turn(change, message):
    first, *_, last = chain(40)
    places = Operand(S.TEMPORARY, 1, moves=(1,)), Operand(S.TEMPORARY, 0, moves=(1,))
    step = Apply(places[0], (), ops.TANH, (places[1],))
    verify(Loops((first, Repeat((step,), 40), last), CHAIN))
    with pytest.raises(VerifyError, match=message):
        verify(Loops((first, Repeat((mapped(step, change),), 40), last), CHAIN))
    with pytest.raises(VerifyError, match="repeated 0 times"):
        verify(Loops((first, Repeat((step,), 0), last), CHAIN))


def test_the_verifier_checks_shared_loops():
    a, b = (Segment(Operand(S.ARGUMENT, 0, (1,)), None, (Loop(n),)) for n in (3, 4))
    sizes = {S.OUTPUT: 1, S.ARGUMENT: 4}
    verify(Loops((Contract(Operand(S.OUTPUT, 0), (), (Group((a, a), 0, 1),)),), sizes))
    for segments, shared in (((a, b), 1), ((a, a), 2)):
        with pytest.raises(VerifyError, match="do not share"):
            verify(
                Loops((Contract(Operand(S.OUTPUT, 0), (), (Group(segments, 0, shared),)),), sizes)
            )


# --- real programs ---------------------------------------------------------------------------------

PROGRAMS = {
    "rnn": recurrent.rnn,
    "lstm": recurrent.lstm,
    "pendulum": pendulum,
    # Whose cart runs ahead of its pole, in the gradient: turns are found in the program's order.
    "cart-pole": cart_pole,
    "horner": lambda n: algebra.horner(n, 3),
    # Whose points in the middle do the same as those at the ends, but with other packs.
    "string": lambda n: string(n, 20),
}


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("steps", [3, 11, 30])
@pytest.mark.parametrize("batch", [None, 5])
def test_recurrences_have_the_eager_bits(make, steps, batch):
    case: Case = make(steps)
    data = data_for(case, batch or 1)
    mode = None if batch is None else "mean"
    tape, marks, parameters, _ = capture(case, mode)
    loops = roll(tape, marks, check=steps < 20)
    given_ = inputs_for(case, data, parameters, mode)
    expected = eager(case, data, mode).bits()
    assert answer_of(loops, execute(loops, given_, batch), case, data).bits() == expected
    if built() is not None:
        results = built().build(loops, batch).execute(given_)
        assert answer_of(loops, results, case, data).bits() == expected


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_the_number_of_nests_does_not_grow_with_the_steps(make):
    counts = []
    for steps in (50, 101):
        tape, marks, *_ = capture(make(steps))
        stats = Stats()
        loops = roll(tape, marks, stats=stats)
        counts.append(len(loops.nests))
        assert any(isinstance(step, Repeat) for step in loops.instructions)
    # A few turns may be left over.
    assert abs(counts[1] - counts[0]) <= 16
    assert max(counts) < (300 if make is cart_pole else 150)


# --- equal layers ----------------------------------------------------------------------------------


def small_gpt(layers: int, length: int = 4) -> Case:
    return gpt.document(length, vocabulary=5, width=4, heads=2, layers=layers)


@pytest.mark.parametrize("make", [mlp.deep, small_gpt], ids=("mlp", "gpt"))
@pytest.mark.parametrize("batch", [None, "mean"])
def test_the_number_of_nests_does_not_grow_with_the_layers(make, batch):
    counts = []
    for layers in (6, 8, 12):
        tape, marks, *_ = capture(make(layers), batch)
        loops = roll(tape, marks)
        counts.append(len(loops.nests))
        forwards, backwards = (s for s in loops.instructions if isinstance(s, Repeat))
        assert forwards.count >= layers // 2 - 1
        assert backwards.count >= layers // 2 - 2
    assert len(set(counts)) == 1
    assert counts[0] < 150


@pytest.mark.parametrize("layers", range(2, 10))
@pytest.mark.parametrize("make", [mlp.deep, small_gpt], ids=("mlp", "gpt"))
@pytest.mark.parametrize("batch", [None, 3])
def test_layers_have_the_eager_bits(make, layers, batch):
    case: Case = make(layers)
    data = data_for(case, batch or 1)
    mode = None if batch is None else "mean"
    tape, marks, parameters, _ = capture(case, mode)
    loops = roll(tape, marks, check=True)
    got = execute(loops, inputs_for(case, data, parameters, mode), batch)
    assert answer_of(loops, got, case, data).bits() == eager(case, data, mode).bits()


# --- turns that are not recovered one by one --------------------------------------------------------


@st.composite
def steps_of_a_program(draw: Any) -> Case:
    """A recurrence of scalars whose steps are alike, or nearly: some read elsewhere, or otherwise."""
    width, steps = draw(st.integers(1, 4)), draw(st.integers(6, 40))
    length = draw(st.integers(1, 6))
    irregular = draw(st.sampled_from((0.0, 0.0, 0.1, 0.3)))
    rng = random.Random(draw(st.integers(0, 2**32)))
    plan = [
        (
            rng.choice(("tanh", "sin", "product", "sum", "constant", "input", "weight")),
            rng.randrange(width),
            rng.randrange(width),
            rng.randrange(-2, 3),
            rng.random() < irregular,
        )
        for _ in range(length)
    ]
    places = rng.choices(range(200), k=steps)
    constants = rng.choices((0.5, 0.25, 2.0, 0.5), k=steps)
    strange = rng.randrange(steps) if irregular else -1

    def make(rng: random.Random) -> Any:
        weights = [Value(rng.gauss(0.0, 1.0)) for _ in range(200)]

        def loss(x: list[Value], _: list[Any]) -> Value:
            state = list(x[:width])
            seen = []
            for t in range(steps):
                for what, i, j, pace, odd in plan:
                    if t == strange and odd:
                        state[i] = state[i] * 0.75
                    elif what in ("tanh", "sin"):
                        state[i] = getattr(state[j], what)()
                    elif what == "product":
                        state[i] = state[i] * state[j] + 0.5
                    elif what == "sum":
                        state[i] = state[i] + 0.5 * state[j]
                    elif what == "constant":
                        state[i] = state[j] * (constants[t] if odd else 0.125) + x[0]
                    elif what == "input":
                        place = places[t] if odd else 100 + pace * t
                        state[i] = 0.5 * state[j] + x[place]
                    else:
                        state[i] = (weights[100 + pace * t] * state[j]).tanh()
                seen.append(state[0])
            return functional.total(seen) + functional.total(state)

        return weights, loss

    return Case("steps", make, 200, draw=lambda rng: rng.gauss(0.0, 0.5))


@WIDE
@given(steps_of_a_program(), st.sampled_from((None, 3)), st.sampled_from((0, 0, 16)))
def test_turns_placed_together_have_the_eager_bits(case, batch, few):
    kept = rolling.MANY_PACKS, rolling.FEW_NODES
    data = data_for(case, batch or 1)
    mode = None if batch is None else "mean"
    tape, marks, parameters, _ = capture(case, mode)
    rolling.MANY_PACKS, rolling.FEW_NODES = 4, few
    try:
        loops = roll(tape, marks, check=True)
    finally:
        rolling.MANY_PACKS, rolling.FEW_NODES = kept
    got = execute(loops, inputs_for(case, data, parameters, mode), batch)
    expected = eager(case, data, mode)
    if expected.finite:
        assert answer_of(loops, got, case, data).bits() == expected.bits()


def test_constants_that_lie_unevenly_are_recovered_turn_by_turn():
    numbers = [0.5, 0.25, 0.5, 0.5, 2.0, 0.25, 3.0, 0.5] * 5

    def make(rng: random.Random) -> Any:
        def loss(x: list[Value], _: list[Any]) -> Value:
            y = x[0]
            for number in numbers:
                y = (y * number + x[1]).tanh()
            return y

        return [], loss

    case = Case("constants", make, 2)
    kept, rolling.MANY_PACKS = rolling.MANY_PACKS, 4
    try:
        tape, marks, *_ = capture(case)
        loops = roll(tape, marks, check=True)
    finally:
        rolling.MANY_PACKS = kept
    data = data_for(case, 1)
    assert any(isinstance(step, Repeat) for step in loops.instructions)
    got = execute(loops, inputs_for(case, data, [], None))
    assert answer_of(loops, got, case, data).bits() == eager(case, data).bits()


@pytest.mark.parametrize("lanes", [(), (Loop(5),), (Loop(2), Loop(3))])
@pytest.mark.parametrize("over", [0, -1])
def test_long_rows_of_scattered_terms_are_listed(lanes, over, monkeypatch):
    monkeypatch.setattr(repeats, "MANY_TERMS", 64)
    rng = np.random.default_rng(0)
    source, one = S.EXAMPLE if over else S.ARGUMENT, tuple(range(1, 1 + len(lanes)))
    terms = [
        Segment(Operand(source, a, one), Operand(S.PARAMETER, b, one) if k else None, minus=True)
        for k in (0, 1)
        for a, b in rng.integers(0, 90, (100, 2)).tolist()
    ]
    strides = {0: (), 1: (1,), 2: (3, 1)}[len(lanes)]
    step = replace(total(*terms, over=over, lanes=lanes), result=Operand(S.OUTPUT, 0, strides))
    sizes = {S.OUTPUT: 6 if len(lanes) == 2 else 5 if lanes else 1, source: 100, S.PARAMETER: 100}
    loops = verify(Loops((step,), sizes, batched=bool(over)))
    found = verify(find_repeats(loops))
    assert [len(group.segments) for group in found.instructions[0].groups] == [2]
    batch = 3 if over else None
    inputs = {s: rng.normal(size=(3, 100) if s.batched else 100) for s in (source, S.PARAMETER)}
    agree(execute(loops, inputs, batch), found, inputs, batch)


@pytest.mark.parametrize("every", [5, 8])
def test_steps_between_measurements_are_turns_of_turns(every):
    """Eight steps with a measurement are more packs than are made nests, counted one by one."""
    case = prey(10 * every, every)
    tape, marks, parameters, _ = capture(case)
    loops = roll(tape, marks, check=True)
    outer = [step for step in loops.instructions if isinstance(step, Repeat)]
    turns = [step for step in outer if any(isinstance(each, Repeat) for each in step.body)]
    assert len(turns) >= 2  # forwards and backwards
    assert not any(isinstance(step, Walk) for step in loops.instructions)
    data = data_for(case, 1)
    found = execute(loops, inputs_for(case, data, parameters, None), None)
    assert answer_of(loops, found, case, data).bits() == eager(case, data).bits()
