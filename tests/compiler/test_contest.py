"""The interpreter and native code in turn, and then the quicker one."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import scalargrad as sg
from scalargrad.compiler import contest as contests
from scalargrad.compiler import jit
from scalargrad.compiler.contest import LONG_WAY, REST, ROUNDS, Contest
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


def test_one_slow_call_of_each_decides_nothing(clock: list[float]) -> None:
    for interpreter, code in ((1.0, 2.0), (2.0, 1.0)):
        contest = Contest()
        play(clock, contest, 40.0, 50.0, 1)
        play(clock, contest, 50.0, 40.0, 1)
        play(clock, contest, interpreter, code, 2 * ROUNDS - 2)
        assert contest.won is (code < interpreter)


def test_an_interpreter_that_has_won_has_to_win_again_now_and_then(clock: list[float]) -> None:
    contest = Contest()
    turns = play(clock, contest, 1.0, 2.0, 1000)
    begins = [k for k, code in enumerate(turns) if code and not any(turns[max(k - 2, 0) : k])]
    assert np.diff(begins).tolist() == [2 * ROUNDS + REST * 2**k for k in range(len(begins) - 1)]
    assert len(begins) > 2
    assert turns.count(True) == len(begins) * ROUNDS
    play(clock, contest, 2.0, 1.0, 3000)
    assert contest.won
    assert all(play(clock, contest, 1.0, 2.0, 1000))


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
