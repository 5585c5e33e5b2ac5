"""Ctrl-C as a request that is met at the next moment when nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stop(Exception):
    """Raised by `Interrupt.check` once Ctrl-C was pressed."""


class Interrupt:
    """Inside a `with` block the first Ctrl-C asks to stop; the second does what it did before.

    `check()` is called where stopping leaves nothing half done, and raises `Stop` after the
    first. Inside `whole()` even the second has to wait. Outside the main thread, where Python
    delivers no signals, and where Ctrl-C is ignored, nothing changes.
    """

    def __init__(self) -> None:
        self.presses = 0
        self._waiting = False
        self._before: Any = None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):
                self._before = before
                signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _press(self, number: int, frame: Any) -> None:
        self.presses += 1
        if self.presses > 1 and not self._waiting:
            self._before(number, frame)

    def check(self) -> None:
        """Leave, if Ctrl-C was pressed."""
        if self.presses:
            raise Stop

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What is done inside is done to the end."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False
        if self.presses > 1:
            self._before(signal.SIGINT, None)
