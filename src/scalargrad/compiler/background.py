"""A thread in the background, which compiles one program after the other.

A process is not forked while it works: LLVM would stay locked in the child for ever. The child
does itself what was still waiting.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Coming(Generic[Result]):
    """What some work will result in."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work: Callable[[], Result] | None = work
        self._finished = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None

    def do(self) -> None:
        """Do the work."""
        assert self._work is not None
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
        self._work = None
        self._finished.set()

    def done(self) -> bool:
        """Whether it is done, well or not."""
        return self._finished.is_set()

    def done_within(self, seconds: float) -> bool:
        """Whether it is done, well or not, before so much time has passed."""
        return self.done() or self._finished.wait(seconds)

    def result(self) -> Result:
        """The result, waited for; what the work raised is raised here."""
        if not self.done():  # waiting takes a lock
            self._finished.wait()
        if self._error is not None:
            raise self._error
        result: Result = self._result
        return result


class _Worker:
    """The thread and what it has to do. It begins with the first work, and ends with Python."""

    def __init__(self) -> None:
        self._waiting: deque[Coming[Any]] = deque()
        self._calls: SimpleQueue[bool] = SimpleQueue()  # to do the next; False to end
        self.working = threading.RLock()  # held from taking up some work until it is done
        self._thread: threading.Thread | None = None
        # A finaliser that the garbage collector runs meanwhile may have work, too.
        self._starting = threading.RLock()
        self._ending = False

    def add(self, coming: Coming[Any]) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="scalargrad-compiler", daemon=True
                )
                self._thread.start()
                atexit.register(self._end)
        self._waiting.append(coming)
        self._calls.put(True)

    def heir(self) -> _Worker:
        """For a forked process, which has no threads of its parent: one with the same to do."""
        heir = _Worker()
        for coming in self._waiting:
            heir.add(coming)
        return heir

    def _run(self) -> None:
        while self._calls.get() and not self._ending:
            with self.working:
                # No name for it: the thread shall not be what keeps a program alive.
                self._waiting.popleft().do()

    def _end(self) -> None:
        """Wait for the work under way; what is still waiting is of no use to anybody."""
        self._ending = True
        self._calls.put(False)
        assert self._thread is not None
        self._thread.join()


_worker = _Worker()


def later(work: Callable[[], Result]) -> Coming[Result]:
    """Have the thread do something, after what it has to do already."""
    coming = Coming(work)
    _worker.add(coming)
    return coming


def _hold() -> None:
    _worker.working.acquire()


def _go_on() -> None:
    _worker.working.release()


def _inherit() -> None:
    global _worker
    _worker = _worker.heir()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_go_on, after_in_child=_inherit)
