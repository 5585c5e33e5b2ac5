"""Phases: which tasks may run at once, and that a program's workers give the bits of one alone."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from compiler.loop_cases import (  # type: ignore[import-not-found]
    apply_cases,
    chain_cases,
    contract_cases,
    recurrences,
    select_cases,
    walk_cases,
)
from programs.case import Case, capture, data_for, inputs_for
from programs.corpus import CORPUS
from programs.physics import pendulum, string
from programs.recurrent import lstm, rnn
from scalargrad import Value, optim
from scalargrad.compiler import emit, llvm, native
from scalargrad.compiler.ir import Module
from scalargrad.compiler.loops import Loops, Repeat, Space
from scalargrad.compiler.phases import BY_EXAMPLES, SHARED, SINGLE, Task, Touched, chains, phases
from scalargrad.compiler.roll import roll
from scalargrad.compiler.tiles import Division
from scalargrad.compiler.update import trace_rule, with_update

WIDE = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=60)
FORMS = [("exact", "float64"), ("fast", "float64"), ("exact", "float32"), ("fast", "float32")]
TEAMS = (1, 2, 3, 7)


# --- the phases of tasks --------------------------------------------------------------------------

OWN = range(10, 20)  # elements of which each example has others


def task(reads: Sequence[int], writes: Sequence[int], form: int) -> Task:
    return Task(
        [Touched(0, k, k, k in OWN) for k in reads],
        [Touched(0, k, k, k in OWN) for k in writes],
        form,
    )


def test_a_task_waits_for_what_it_reads_and_for_those_who_read_what_it_overwrites():
    made = [((0,), (1,)), ((1,), (2,)), ((0,), (3,)), ((4,), (0,))]
    assert phases([task(*one, SHARED) for one in made]) == [0, 1, 0, 1]


def test_single_tasks_keep_their_order_without_waiting():
    forms = (SINGLE, SINGLE, SHARED, SINGLE)
    assert phases([task([k], [k + 1], form) for k, form in enumerate(forms)]) == [0, 0, 1, 2]


def test_those_who_divide_the_examples_wait_only_for_what_examples_share():
    own = [task([k], [k + 1], BY_EXAMPLES) for k in OWN[:4]]
    assert phases(own) == [0, 0, 0, 0]
    assert phases([*own, task([OWN[4]], [0], SHARED), task([0], [1], BY_EXAMPLES)])[4:] == [1, 2]
    assert phases([task([0], [1], BY_EXAMPLES), task([1], [2], BY_EXAMPLES)]) == [0, 1]


def test_two_who_write_the_same_element_are_apart():
    assert phases([task([], [1], SHARED), task([], [1], SHARED)]) == [0, 1]
    assert phases([task([], [1], SHARED), task([], [2], SHARED)]) == [0, 0]


def test_single_tasks_that_have_nothing_in_common_are_different_chains():
    made = [((0,), (1,)), ((0,), (2,)), ((2,), (3,)), ((4,), (1,)), ((5,), (6,))]
    tasks = [task(*one, SINGLE) for one in made]
    found = chains(tasks, phases(tasks))
    assert [found.index(number) for number in found] == [0, 1, 1, 0, 4]
    assert len(set(chains(tasks, [0, 0, 1, 1, 1]))) == 5


DRAWN = given(
    st.lists(
        st.tuples(
            st.lists(st.integers(7, 13), max_size=3),
            st.lists(st.integers(7, 13), max_size=2),
            st.sampled_from((SINGLE, SHARED, BY_EXAMPLES)),
        ),
        max_size=40,
    )
)


@DRAWN
def test_conflicting_single_tasks_of_a_phase_are_one_chain(drawn):
    tasks = [task(*one) for one in drawn]
    found = phases(tasks)
    chain = chains(tasks, found)
    for k, (reads, writes, form) in enumerate(drawn):
        for j, (earlier_reads, earlier_writes, earlier) in enumerate(drawn[:k]):
            common = {*reads, *writes} & set(earlier_writes) | set(writes) & set(earlier_reads)
            if common and form == earlier == SINGLE and found[j] == found[k]:
                assert chain[j] == chain[k]


@DRAWN
def test_conflicting_tasks_are_never_at_work_at_once(drawn):
    found = phases([task(*one) for one in drawn])
    for k, (reads, writes, form) in enumerate(drawn):
        for j, (earlier_reads, earlier_writes, earlier) in enumerate(drawn[:k]):
            common = {*reads, *writes} & set(earlier_writes) | set(writes) & set(earlier_reads)
            if common:
                own = form == earlier == BY_EXAMPLES and common <= set(OWN)
                together = own or form == earlier == SINGLE
                assert found[k] >= found[j] + (not together)


# --- programs in parts ----------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def _everything_is_shared() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALARGRAD_CACHE", "0")
        patch.setattr(emit, "LONG", 0.0)
        patch.setattr(emit, "WORTH", 1e-9)
        yield


def loaded(program: native.NativeProgram, inputs: Mapping[Space, np.ndarray]) -> native.Frame:
    frame = program.frame()
    for space, numbers in inputs.items():
        if program.size(space):
            frame.arrays[space][...] = np.asarray(numbers).reshape(program.shape(space))
    return frame


def contents(frame: native.Frame) -> list[np.ndarray]:
    return [array.copy().view(np.uint8) for array in frame.owned]


def in_parts(
    program: native.NativeProgram,
    inputs: Mapping[Space, np.ndarray],
    workers: int,
    order: Callable[[Sequence[int]], Sequence[int]],
) -> list[np.ndarray]:
    """All memory after every worker's part of every phase, the workers in an order."""
    share = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)(
        program.addresses["share"]
    )
    frame = loaded(program, inputs)
    for phase in range(program.image.phases):
        changed: list[np.ndarray] | None = None
        for worker in order(range(workers)):
            before = contents(frame)
            share(frame.address, phase, worker, workers)
            own = [a != b for a, b in zip(contents(frame), before)]
            if changed is not None:
                assert not any((a & b).any() for a, b in zip(own, changed)), "written twice"
                own = [a | b for a, b in zip(own, changed)]
            changed = own
    return contents(frame)


def check(
    loops: Loops,
    inputs: Mapping[Space, np.ndarray],
    batch: int | None,
    mode: str,
    dtype: str,
    unread: Sequence[Space] = (),
) -> None:
    """Several workers leave the memory that one leaves, whoever is first."""
    program = native.build(loops, batch, mode, dtype, unread=unread)
    if not program.image.phases:
        return
    alone = loaded(program, inputs)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(program.addresses["run"])(alone.address)
    expected = contents(alone)
    for workers in TEAMS:
        got = in_parts(program, inputs, workers, lambda all_: list(all_)[::-1])
        for a, b in zip(got, expected):
            np.testing.assert_array_equal(a, b, f"{workers} workers")


@pytest.mark.parametrize(
    "cases", [contract_cases, apply_cases, select_cases, walk_cases, chain_cases]
)
def test_random_programs_in_parts(cases):
    @WIDE
    @given(cases(), st.sampled_from(FORMS))
    def checked(case, form):
        check(*case, *form)

    checked()


def prepared(case: Case, batch: int | None) -> tuple[Loops, Mapping[Space, np.ndarray]]:
    form = None if batch is None else "mean"
    tape, marks, parameters, _ = capture(case, form, penalty=batch is not None)
    return roll(tape, marks), inputs_for(case, data_for(case, batch or 1), parameters, form)


@pytest.mark.parametrize("case", CORPUS, ids=str)
@pytest.mark.parametrize(("mode", "dtype"), [FORMS[0], FORMS[3]])
def test_real_programs_in_parts(case, mode, dtype):
    for batch in (None, 20):
        check(*prepared(case, batch), batch, mode, dtype)


@pytest.mark.parametrize("case", CORPUS[:4], ids=str)
def test_batches_that_divide_evenly_or_not_in_parts(case):
    for batch in (33, 64, 70):
        check(*prepared(case, batch), batch, "fast", "float32")


STEPWISE = (rnn(20), lstm(16, 5), pendulum(12), string(12))


@pytest.mark.parametrize("case", STEPWISE, ids=str)
@pytest.mark.parametrize(("mode", "dtype"), FORMS[::3])
def test_repeats_in_parts(case, mode, dtype):
    for batch in (20, 70):
        loops, inputs = prepared(case, batch)
        assert any(isinstance(step, Repeat) for step in loops.instructions)
        check(loops, inputs, batch, mode, dtype)


@pytest.mark.parametrize(("mode", "dtype"), FORMS[::3])
def test_random_repeats_in_parts(mode, dtype):
    @WIDE
    @given(recurrences((16, 20, 33, 96)))
    def checked(case):
        check(*case, mode, dtype)

    checked()


@pytest.mark.parametrize("cpu", [(128, 16), (256, 16), (512, 32)])
@pytest.mark.parametrize("case", STEPWISE[:3], ids=str)
def test_workers_divide_the_examples_of_repeats(case, cpu):
    for batch in (64, 100, 250):
        loops, _ = prepared(case, batch)
        emitter = emit.Emitter(loops, Module("double", cpu[0] // 64, cpu[1]), batch)
        emitter.run()
        assert emitter.shared > 0.8 * emitter.cycles


def test_tiles_that_do_not_fit_would_be_seen(monkeypatch):
    monkeypatch.setattr(Division, "finer", lambda self, unit, own: self)
    loops, inputs = prepared(STEPWISE[0], 70)
    with pytest.raises(AssertionError):
        check(loops, inputs, 70, "exact", "float64")


@pytest.mark.parametrize("unread", [(), (Space.PARAMETER_GRADIENT,)])
@pytest.mark.parametrize(
    "optimizer", [optim.Adam([Value(0.0)]), optim.SGD([Value(0.0)], lr=0.1)], ids=["adam", "sgd"]
)
def test_training_steps_in_parts(optimizer, unread):
    loops, inputs = prepared(CORPUS[0], 20)
    count, slots, scalars = loops.size(Space.PARAMETER), len(optimizer.slots), optimizer.scalars(0)
    traced = trace_rule(optimizer.rule, slots, list(scalars))
    loops = with_update(loops, traced, slots, count)
    state = np.append(np.full(slots * count, 0.5), list(scalars.values()))
    check(loops, {**inputs, Space.STATE: state}, 20, "exact", "float64", unread)


@pytest.mark.parametrize("cpu", [(256, 16, True), (128, 16, False)])
def test_parts_on_cpus_with_other_vectors(cpu, monkeypatch):
    monkeypatch.setattr(llvm, "vector_bits", lambda: cpu)
    for case in CORPUS[:3]:
        for batch in (20, 48):
            check(*prepared(case, batch), batch, "exact", "float64")


def test_a_missing_wait_would_be_seen(monkeypatch):
    loops, inputs = prepared(CORPUS[0], 20)
    monkeypatch.setattr(emit, "phases", lambda tasks: [0] * len(tasks))
    with pytest.raises(AssertionError):
        check(loops, inputs, 20, "exact", "float64")


def test_a_program_without_much_work_is_for_one(monkeypatch):
    monkeypatch.setattr(emit, "WORTH", 100_000.0)
    loops, _ = prepared(CORPUS[0], 20)
    program = native.build(loops, 20)
    assert (program.image.phases, program.image.workers, program.image.shared) == (0, 1, 0.0)
