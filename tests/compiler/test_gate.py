"""A gate lets one thread in at a time, loses nobody who waits, and knows who is inside already."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from processes import run_python
from scalargrad.compiler.gate import Gate
from threads import needs_fork, restless

pytestmark = pytest.mark.pure


@pytest.fixture(autouse=True)
def taking_turns() -> Iterator[None]:
    with restless():
        yield


def start(*works: object) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, daemon=True) for work in works]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(60.0)
        assert not thread.is_alive(), "waits for ever"


def test_who_is_inside_is_told_so() -> None:
    gate = Gate()
    for _ in range(3):
        assert gate.enter() is True
        assert gate.enter() is False
        assert gate.enter() is False
        gate.leave()


@pytest.mark.parametrize("inside", [0.0, 1e-4])
def test_threads_are_inside_one_at_a_time(inside: float) -> None:
    gate, within, crowds = Gate(), list[int](), list[int]()

    def work() -> None:
        for _ in range(200):
            assert gate.enter()
            within.append(1)
            time.sleep(inside)
            crowds.append(len(within))
            within.pop()
            gate.leave()

    join(start(*[work] * 5))
    assert crowds == [1] * 1000


def test_all_who_wait_come_in_after_one_has_left() -> None:
    gate, came = Gate(), list[int]()

    def work() -> None:
        gate.enter()
        came.append(1)
        gate.leave()

    for _ in range(20):
        gate.enter()
        threads = start(*[work] * 4)
        time.sleep(0.002)
        assert not came
        gate.leave()
        join(threads)
        assert came == [1] * 4
        came.clear()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals to threads")
def test_who_is_interrupted_while_waiting_takes_nobodys_turn() -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    gate = Gate()
    main, closed, go_on = threading.get_ident(), threading.Event(), threading.Event()

    def hold() -> None:
        gate.enter()
        closed.set()
        go_on.wait(60.0)
        gate.leave()

    def follow() -> None:
        gate.enter()
        gate.leave()

    def ring() -> None:
        time.sleep(0.02)
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for _ in range(5):
            closed.clear()
            go_on.clear()
            threads = start(hold)
            closed.wait(60.0)
            threads += start(follow, ring)
            with pytest.raises(Interrupted):
                gate.enter()
            go_on.set()
            join(threads)
            assert gate.enter() is True
            gate.leave()
    finally:
        signal.signal(signal.SIGUSR1, before)


@needs_fork
@pytest.mark.parametrize("forker", ["inside", "outside"])
def test_in_a_forked_process_nobody_else_is_inside(forker: str) -> None:
    program = f"""
import os, signal, threading, time
from scalargrad.compiler.gate import Gate
gate, closed, done = Gate(), threading.Event(), threading.Event()
def hold():
    gate.enter(); closed.set(); done.wait(60); gate.leave()
def follow():
    gate.enter(); gate.leave()
inside = {forker == "inside"}
if inside:
    gate.enter()
else:
    threading.Thread(target=hold).start(); closed.wait(60)
for _ in range(3):
    threading.Thread(target=follow).start()
time.sleep(0.05)
child = os.fork()
if not child:
    signal.alarm(20)
    gate.abandon()
    told = [gate.enter()]
    gate.leave()
    told += [gate.enter(), gate.enter()]
    thread = threading.Thread(target=follow); thread.start()
    time.sleep(0.05)
    gate.leave(); thread.join()
    os._exit(told != [not inside, True, False])
done.set()
if inside:
    gate.leave()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_python("-c", program).split() == ["0"]
