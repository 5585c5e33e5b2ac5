"""The team: programs run by several threads have the bits of one, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from threads import in_threads, needs_fork

pytest.importorskip("llvmlite")

from processes import run_python
from programs.case import Case, answer_of, capture, data_for, eager, inputs_for
from programs.physics import pendulum
from programs.recurrent import lstm, rnn
from scalargrad import get_num_threads, set_num_threads
from scalargrad.compiler import emit, native
from scalargrad.compiler.loops import (
    RESULTS,
    Contract,
    Group,
    Loop,
    Loops,
    Operand,
    Segment,
    Space,
)
from scalargrad.compiler.roll import roll
from scalargrad.compiler.team import MOST, team

WORKERS = (1, 2, 3, 7)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")
    before = get_num_threads()
    yield
    set_num_threads(before)


def products(count: int = 96, terms: int = 64) -> Loops:
    """y = A (A x), with a batch of x."""

    def product(result: Space, vector: Space) -> Contract:
        matrix = Operand(Space.PARAMETER, 0, (terms, 1))
        segment = Segment(matrix, Operand(vector, 0, (0, 1)), (Loop(terms),))
        return Contract(Operand(result, 0, (1,)), (Loop(count),), (Group((segment,)),))

    sizes = {Space.PARAMETER: count * terms, Space.EXAMPLE: terms}
    sizes |= {Space.BATCHED: count, Space.EXAMPLE_OUTPUT: count}
    steps = (
        product(Space.BATCHED, Space.EXAMPLE),
        product(Space.EXAMPLE_OUTPUT, Space.BATCHED),
    )
    return Loops(steps, sizes, batched=True)


def gradients(count: int = 96, terms: int = 64) -> Loops:
    """z = A x, and the sum over a batch of z x^T."""
    first, *_ = products(count, terms).instructions
    pair = Operand(Space.BATCHED, 0, (1, 0)), Operand(Space.EXAMPLE, 0, (0, 1))
    result = Operand(Space.PARAMETER_GRADIENT, 0, (terms, 1))
    second = Contract(result, (Loop(count), Loop(terms)), (Group((Segment(*pair),), -1),))
    sizes = {Space.PARAMETER: count * terms, Space.EXAMPLE: terms}
    sizes |= {Space.BATCHED: count, Space.PARAMETER_GRADIENT: count * terms}
    return Loops((first, second), sizes, batched=True)


def program(
    mode: str = "exact", loops: Loops | None = None, batch: int = 128
) -> native.NativeProgram:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emit, "LONG", 0.0)
        patch.setattr(emit, "WORTH", 1e-9)
        made = native.build(loops or products(), batch, mode)
    assert made.image.phases > 1
    return made


def filled(made: native.NativeProgram) -> native.Frame:
    frame, rng = made.frame(), np.random.default_rng(0)
    for space in (Space.PARAMETER, Space.EXAMPLE):
        frame.arrays[space][...] = rng.normal(size=frame.arrays[space].shape)
    return frame


def until(done: Callable[[], bool], work: Callable[[], None], seconds: float = 20.0) -> None:
    """Work until something has happened, but not for ever."""
    end = time.perf_counter() + seconds
    while not done():
        assert time.perf_counter() < end
        work()


@pytest.mark.parametrize(
    ("make", "space"),
    [(products, Space.EXAMPLE_OUTPUT), (gradients, Space.PARAMETER_GRADIENT)],
)
def test_any_number_of_threads_gives_the_same_bits(make, space):
    for mode in ("exact", "fast"):
        frame = filled(program(mode, make()))
        results = []
        for workers in WORKERS:
            set_num_threads(workers)
            before = team().runs

            def run(frame=frame):
                frame.arrays[space][...] = np.nan
                frame.run()

            run()
            if workers > 1:
                until(lambda before=before: team().runs > before, run)
            assert team().size == workers
            results.append(frame.arrays[space].copy())
        for result in results:
            np.testing.assert_array_equal(result.view(np.int64), results[0].view(np.int64))


STEPWISE = (rnn(20), lstm(16, 5), pendulum(12))


def stepwise(case: Case, batch: int) -> Callable[[], list[str]]:
    """A run of a program of repeated steps, in memory of its own; it gives the bits of the results."""
    data = data_for(case, batch)
    tape, marks, parameters, _ = capture(case, "mean")
    loops = roll(tape, marks)
    made = program("exact", loops, batch)
    frame = made.frame()
    for space, numbers in inputs_for(case, data, parameters, "mean").items():
        if made.size(space):
            frame.arrays[space][...] = np.asarray(numbers).reshape(made.shape(space))

    def run() -> list[str]:
        for space in RESULTS:
            frame.arrays[space][...] = 0.0
        frame.run()
        return answer_of(loops, frame.arrays, case, data).bits()

    return run


@pytest.mark.parametrize("case", STEPWISE, ids=str)
@pytest.mark.parametrize("batch", [33, 50, 64])
def test_steps_have_the_eager_bits_with_any_number_of_threads(case, batch):
    expected = eager(case, data_for(case, batch), "mean").bits()
    run = stepwise(case, batch)

    def compare() -> None:
        assert run() == expected

    for workers in (1, 2, 3):
        set_num_threads(workers)
        before = team().runs
        compare()
        if workers > 1:
            until(lambda before=before: team().runs > before, compare)


def test_steps_have_the_eager_bits_for_callers_at_once():
    expected = eager(STEPWISE[0], data_for(STEPWISE[0], 50), "mean").bits()
    set_num_threads(2)
    runs = [stepwise(STEPWISE[0], 50) for _ in range(3)]

    def work(run: Callable[[], list[str]]) -> None:
        for _ in range(20):
            assert run() == expected

    in_threads(*(partial(work, run) for run in runs))


def test_python_threads_share_the_team_or_work_alone():
    made = program()
    set_num_threads(2)
    frames = [filled(made) for _ in range(4)]
    frames[0].run()
    expected = frames[0].arrays[Space.EXAMPLE_OUTPUT].copy()
    wrong = []

    def work(frame: native.Frame) -> None:
        for _ in range(50):
            frame.arrays[Space.EXAMPLE_OUTPUT][...] = 0.0
            frame.run()
            if not np.array_equal(frame.arrays[Space.EXAMPLE_OUTPUT], expected):
                wrong.append(frame)

    threads = [threading.Thread(target=work, args=(frame,)) for frame in frames]
    for thread in threads:
        thread.start()
    for size in (3, 1, 2):  # the team may change meanwhile
        set_num_threads(size)
    for thread in threads:
        thread.join(60.0)
        assert not thread.is_alive()
    assert not wrong


def test_members_sleep_when_there_is_nothing_to_do_and_wake_again():
    frame = filled(program())
    set_num_threads(2)
    before = team().runs
    until(lambda: team().runs > before, frame.run)
    until(lambda: team().sleeping == 1, lambda: time.sleep(0.01))
    before = team().runs
    until(lambda: team().runs > before, frame.run)


def test_the_number_of_threads_is_checked():
    set_num_threads(3)
    assert get_num_threads() == 3
    for wrong in (0, -1, 2.0, True, "2", None):
        with pytest.raises(ValueError, match="count: expected an integer of at least 1"):
            set_num_threads(wrong)  # type: ignore[arg-type]
    assert get_num_threads() == 3


def test_there_are_no_more_members_than_seats():
    set_num_threads(MOST + 5)
    frame = filled(program())
    frame.run()
    assert team().size == MOST
    set_num_threads(1)
    frame.run()
    assert team().size == 1


ELSEWHERE = """
import platform, sys
machine, triple = sys.argv[1:]
platform.machine = lambda: machine
from scalargrad.compiler import llvm, team
binding = llvm.binding()
binding.initialize_all_targets()
binding.initialize_all_asmprinters()
module = binding.parse_assembly(team.text())
module.triple = triple
target = binding.Target.from_triple(triple).create_target_machine(opt=0, reloc="pic")
print(len(target.emit_object(module)) > 0)
"""


@pytest.mark.parametrize(
    ("machine", "triple"),
    [
        *(("x86_64", "x86_64-unknown-linux-gnu"), ("AMD64", "x86_64-pc-windows-msvc")),
        *(("aarch64", "aarch64-unknown-linux-gnu"), ("arm64", "arm64-apple-macosx")),
        ("riscv64", "riscv64-unknown-linux-gnu"),
    ],
)
def test_it_can_be_compiled_for_every_kind_of_cpu(machine, triple):
    # LLVM ends the process where the text asks for what a CPU has not.
    assert run_python("-c", ELSEWHERE, machine, triple) == "True\n"


USED = """
import numpy as np, os, signal, sys, time
from compiler.test_team import filled, program, until
from scalargrad import set_num_threads
from scalargrad.compiler.loops import Space
from scalargrad.compiler.team import team

frame = filled(program())
set_num_threads(2)
until(lambda: team().runs > 0, frame.run)
expected = frame.arrays[Space.EXAMPLE_OUTPUT].copy()
"""


@needs_fork
def test_a_forked_process_has_members_of_its_own():
    script = (
        USED
        + """
child = os.fork()
if child == 0:
    assert team().size == 0
    until(lambda: team().runs > 0, frame.run)
    right = np.array_equal(frame.arrays[Space.EXAMPLE_OUTPUT], expected)
    os._exit(0 if right and team().size == 2 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
frame.run()
"""
    )
    assert run_python("-c", script).strip() == "0"


def test_an_interrupt_ends_the_caller_and_not_the_team():
    script = (
        USED
        + """
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    while True:
        frame.run()
except KeyboardInterrupt:
    frame.run()
    print(np.array_equal(frame.arrays[Space.EXAMPLE_OUTPUT], expected))
"""
    )
    if not hasattr(__import__("signal"), "setitimer"):
        pytest.skip("needs timers")
    assert run_python("-c", script).strip() == "True"
