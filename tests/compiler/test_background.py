"""The thread that compiles: one thing after the other, errors where they are asked for."""

from __future__ import annotations

import threading

import pytest

from processes import run_python
from scalargrad.compiler.background import later
from threads import needs_fork

pytestmark = pytest.mark.pure


def test_work_is_done_in_order_by_one_other_thread() -> None:
    gate, seen = threading.Event(), []

    def work(k: int) -> int:
        gate.wait(60)
        seen.append((k, threading.get_ident()))
        return k * k

    coming = [later(lambda k=k: work(k)) for k in range(5)]  # type: ignore[misc]
    assert not any(c.done() for c in coming)
    gate.set()
    assert [c.result() for c in coming] == [0, 1, 4, 9, 16]
    assert all(c.done() for c in coming)
    assert [k for k, _ in seen] == [0, 1, 2, 3, 4]
    assert {thread for _, thread in seen}.isdisjoint({threading.get_ident()})
    assert len({thread for _, thread in seen}) == 1


def test_waiting_ends_with_the_work_or_with_the_time() -> None:
    gate = threading.Event()
    coming = later(lambda: gate.wait(60))
    assert not coming.done_within(0.0)
    assert not coming.done_within(0.001)
    gate.set()
    assert coming.done_within(60)
    assert coming.done()


def test_an_error_is_raised_where_the_result_is_asked_for_and_work_goes_on() -> None:
    def fail() -> None:
        raise ValueError("as it happens")

    failed, fine = later(fail), later(lambda: 7)
    for _ in range(2):
        with pytest.raises(ValueError, match="as it happens"):
            failed.result()
    assert failed.done()
    assert fine.result() == 7


def test_python_ends_after_the_work_under_way_and_without_what_waits() -> None:
    program = (
        "import threading, time\n"
        "from scalargrad.compiler.background import later\n"
        "began = threading.Event()\n"
        "def work():\n"
        "    began.set(); time.sleep(0.2); print('done', flush=True)\n"
        "later(work); later(lambda: print('never', flush=True)); began.wait()\n"
    )
    assert run_python("-c", program).split() == ["done"]


@needs_fork
def test_a_forked_process_has_a_thread_of_its_own() -> None:
    program = (
        "import os\n"
        "from scalargrad.compiler.background import later\n"
        "assert later(lambda: 1).result() == 1\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(later(lambda: 5).result())\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert run_python("-c", program).split() == ["5"]


@needs_fork
def test_a_process_is_forked_between_two_pieces_of_work_and_does_the_next_itself() -> None:
    program = (
        "import os, threading, time\n"
        "from scalargrad.compiler.background import later\n"
        "lock, began = threading.Lock(), threading.Event()\n"
        "def work():\n"
        "    with lock:\n"
        "        began.set(); time.sleep(0.2)\n"
        "under_way, waiting = later(work), later(lambda: 7)\n"
        "began.wait()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    done = under_way.done() and not lock.locked() and waiting.done_within(20)\n"
        "    os._exit(waiting.result() if done else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), waiting.result())\n"
    )
    assert run_python("-c", program).split() == ["7", "7"]
