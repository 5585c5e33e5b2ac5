"""The interpreter and native code in turn, and then the quicker one."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import scalargrad as sg
from scalargrad.compiler import contest as contests
from scalargrad.compiler import jit
from scalargrad.compiler.contest import (
    ENOUGH,
    HOPELESS,
    LONG_WAY,
    OFTEN,
    ROUNDS,
    SELDOM,
    Contest,
)
from scalargrad.compiler.native import Frame
from scalargrad.compiler.program import Interpreter

pytest.importorskip("llvmlite")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the contests' clock says, in a list of one."""
    now = [0.0]
    monkeypatch.setattr(contests, "thread_time", lambda: now[0])
    return now


def play(
    clock: list[float], contest: Contest, interpreter: float, code: float, calls: int = 2 * ROUNDS
) -> list[bool]:
    """Who answered each call, where these are the seconds they take."""

    def run() -> bool:
        clock[0] += code if contest.code else interpreter
        return contest.code

    return [contest.timed(run) for _ in range(calls)]


def test_each_answers_as_often_before_one_has_won(clock: list[float]) -> None:
    contest = Contest()
    assert not contest.won
    turns = play(clock, contest, 2.0, 1.0)
    assert turns.count(True) == turns.count(False) == ROUNDS
    assert contest.code
    assert contest.won


def test_the_code_wins_where_it_takes_no_longer_than_the_interpreter_with_its_long_way(
    clock: list[float],
) -> None:
    for code, won in ((1.0, True), (1.0 + LONG_WAY / 2, True), (1.0 + 2 * LONG_WAY, False)):
        contest = Contest()
        play(clock, contest, 1.0, code)
        assert contest.code is contest.won is won


def test_only_the_quickest_call_of_each_counts(clock: list[float]) -> None:
    for interpreter, code in ((1.0, 2.0), (2.0, 1.0)):
        contest = Contest()
        for seconds in (code, interpreter):
            play(clock, contest, 3.0, 3.0, ROUNDS - 1)
            play(clock, contest, seconds, seconds, 1)
        assert contest.won is (code < interpreter)


def test_the_interpreter_may_get_quicker_and_quicker(clock: list[float]) -> None:
    contest = Contest()
    play(clock, contest, 0.0, 1.0, ROUNDS)
    for k in range(ROUNDS):
        assert not contest.rest[0]
        play(clock, contest, HOPELESS - k * HOPELESS / ROUNDS, 0.0, 1)
    assert contest.rest[0] < 0


def test_an_interpreter_without_hope_is_not_asked_on(clock: list[float]) -> None:
    contest = Contest()
    turns = play(clock, contest, HOPELESS + 0.1, 1.0, ROUNDS + ENOUGH)
    assert turns.count(False) == ENOUGH
    assert contest.won


def rests(clock: list[float], interpreter: float, code: float, calls: int) -> list[int]:
    """How many calls the winner of a contest answers until the next one begins."""
    contest = Contest()
    found = []
    for _ in range(calls):
        undecided = not contest.rest[0]
        play(clock, contest, interpreter, code, 1)
        if undecided and contest.rest[0]:
            found.append(int(contest.rest[0]))
    return found


@pytest.mark.parametrize("code", [1.0, 3.0])
def test_who_has_won_has_to_win_again_ever_less_often(clock: list[float], code: float) -> None:
    found = np.array(rests(clock, 2.0, code, 60_000))
    assert len(found) > 6
    assert (np.sign(found) == (1 if code < 2.0 else -1)).all()
    ratio = max(code, 2.0) / min(code, 2.0)
    assert abs(found[0]) == pytest.approx(OFTEN * ROUNDS * ratio, rel=0.02)
    assert np.allclose(found[1:6], 2 * found[:5], rtol=0.01)
    assert abs(found[-1]) == pytest.approx(SELDOM * ROUNDS * ratio, rel=0.02)


@pytest.mark.parametrize("first", [1.0, 3.0])
def test_once_the_other_is_the_quicker_one_it_is_asked_soon(
    clock: list[float], first: float
) -> None:
    contest = Contest()
    play(clock, contest, 2.0, first, 1000)
    assert contest.won is (first < 2.0)
    play(clock, contest, first, 2.0, 2000)
    turns = play(clock, contest, first, 2.0, 1000)
    assert turns.count(first > 2.0) > 900
    assert contest.seconds == pytest.approx((first, 2.0))


def test_what_the_clock_cannot_tell_apart_the_code_wins(clock: list[float]) -> None:
    contest = Contest()
    play(clock, contest, 0.0, 0.0)
    assert contest.won


# --- in a compiled function -------------------------------------------------------------------


class Times:
    """A clock that says that the interpreter and the code take so long, and how often they ran."""

    def __init__(self, patch: pytest.MonkeyPatch, interpreter: float, code: float) -> None:
        self.now = 0.0
        self.ran = {"interpreter": 0, "code": 0}
        for owner, names, who, taken in (
            (Interpreter, ("forward", "backward"), "interpreter", interpreter),
            (Frame, ("run",), "code", code),
        ):
            for name in names:
                patch.setattr(owner, name, self.counted(getattr(owner, name), who, taken))
        patch.setattr(contests, "thread_time", lambda: self.now)

    def counted(self, run: Any, who: str, taken: float) -> Any:
        def counting(*args: Any) -> Any:
            self.now += taken
            self.ran[who] += 1
            return run(*args)

        return counting


def irregular(size: int = 1500) -> Any:
    """A function of two numbers that has no loops, and branches that are not taken."""

    def function(x: list[sg.Value]) -> sg.Value:
        rng, values = random.Random(1), list(x)
        for _ in range(size):
            a, b = rng.choice(values[-20:]), rng.choice(values[-20:])
            values.append(
                rng.choice((sg.maximum, lambda a, b: a * b.sin(), lambda a, b: a - b))(a, b)
            )
            if len(values) % 7 == 0:
                values[-1] = values[-1].tanh()
        return sg.mean(values[-20:])

    return function


@pytest.mark.parametrize("batch", [None, "mean"])
@pytest.mark.parametrize("quicker", ["interpreter", "code"])
def test_the_quicker_one_answers_and_the_answers_stay_the_same(
    monkeypatch: pytest.MonkeyPatch, quicker: str, batch: str | None
) -> None:
    monkeypatch.setattr(jit, "PATIENCE", 0)
    x = np.array([0.3, -0.7]) if batch is None else np.array([[0.3, -0.7], [0.1, 0.9]])
    f = sg.compile(irregular(), backend="llvm", batch=batch)
    expected = sg.compile(irregular(), backend="interpreter", batch=batch)
    value, gradient = expected.value_and_grad(x)
    f.value_and_grad(x)
    f.native()
    seconds = {"interpreter": 2.0, "code": 2.0, quicker: 1.0}
    times = Times(monkeypatch, **seconds)
    for _ in range(4 * ROUNDS):
        got, slope = f.value_and_grad(x)
        assert got == value
        assert slope.tobytes() == gradient.tobytes()
    slower = "code" if quicker == "interpreter" else "interpreter"
    assert times.ran[slower] == ROUNDS
    if quicker == "interpreter":
        assert times.ran[quicker] == 3 * ROUNDS
    else:  # the last of them without anything of Python's in between
        assert ROUNDS < times.ran[quicker] < 3 * ROUNDS


def test_another_contest_begins_although_calls_are_answered_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jit, "PATIENCE", 0)
    x = np.array([0.3, -0.7])
    f = sg.compile(irregular(), backend="llvm")
    expected = sg.compile(irregular(), backend="interpreter").value_and_grad(x)[1]
    f.value_and_grad(x)
    contest = f.native().contest
    assert contest is not None
    rest = contest.rest
    Times(monkeypatch, interpreter=2.0, code=1.0)
    while not rest[0]:
        f.value_and_grad(x)
    before = int(rest[0])
    for _ in range(10):  # some of them without anything of Python's in between
        f.value_and_grad(x)
    assert int(rest[0]) == before - 10
    rest[0] = 1
    times = Times(monkeypatch, interpreter=1.0, code=2.0)
    for _ in range(2 * ROUNDS + 4):
        assert f.value_and_grad(x)[1].tobytes() == expected.tobytes()
    assert times.ran["interpreter"] == ROUNDS + 3
    assert rest[0] < 0


def test_who_answers_and_why_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.array([0.3, -0.7])
    f = sg.compile(irregular(), backend="llvm")
    f(x)
    assert f.stats["answering"] == "interpreter"
    assert f.stats["compared"] is None
    turns = "native code (LLVM) and the interpreter in turn"
    assert f"run by {turns}" in f.explain()
    assert f.stats["answering"] == "both"
    Times(monkeypatch, interpreter=1e-4, code=2e-4)
    for _ in range(2 * ROUNDS):
        f(x)
    assert f.stats["answering"] == "interpreter"
    assert f.stats["compared"] == pytest.approx({"interpreter": 1e-4, "llvm": 2e-4})
    assert (
        "run by the interpreter: 100 us a call when last compared, native code (LLVM) 200 us"
        in f.explain()
    )
    Times(monkeypatch, interpreter=2e-4, code=1e-4)
    contest = f.native().contest
    assert contest is not None
    contest.rest[0] = 0
    for _ in range(2 * ROUNDS):
        f(x)
    assert f.stats["answering"] == "llvm"
    assert "run by native code (LLVM): 100 us a call when last compared, the in" in f.explain()


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_where_answers_or_times_cannot_be_the_same_the_code_answers(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(jit, "PATIENCE", 0)

    def regular(x: list[sg.Value]) -> sg.Value:
        return sg.mean([v.tanh() * v for v in x])

    function = irregular() if mode == "fast" else regular
    x = np.array([0.3, -0.7])
    f = sg.compile(function, backend="llvm", mode=mode)
    f(x)
    f.native()
    times = Times(monkeypatch, interpreter=1.0, code=9.0)
    f(x)
    assert times.ran == {"interpreter": 0, "code": 1}
