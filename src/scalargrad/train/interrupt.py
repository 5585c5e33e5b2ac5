"""Ctrl-C as a request that is met at the next moment when nothing is half done."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Stop(Exception):
    """Raised by `Interrupt.check` once Ctrl-C was pressed."""


class _Whole:
    """See `Interrupt.whole`; made once, for it is entered at every mini-batch."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    def __enter__(self) -> None:
        self._interrupt.waiting = True

    def __exit__(self, kind: object, *exception: object) -> None:
        interrupt = self._interrupt
        interrupt.waiting = False
        if interrupt.presses > 1 and kind is None:
            interrupt.again(signal.SIGINT, None)


class Interrupt:
    """Inside a `with` block the first Ctrl-C asks to stop; the second does what it did before.

    `check()` is called where stopping leaves nothing half done, and raises `Stop` after the
    first. Inside `whole()` even the second has to wait. Outside the main thread, where Python
    delivers no signals, and where Ctrl-C is ignored, nothing changes.
    """

    def __init__(self) -> None:
        self.presses = 0
        self.waiting = False
        self.again: Any = None
        self._whole = _Whole(self)

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):
                self.again = before
                signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.again is not None:
            signal.signal(signal.SIGINT, self.again)

    def _press(self, number: int, frame: Any) -> None:
        self.presses += 1
        if self.presses > 1 and not self.waiting:
            self.again(number, frame)

    def check(self) -> None:
        """Leave, if Ctrl-C was pressed."""
        if self.presses:
            raise Stop

    def whole(self) -> _Whole:
        """`with` this: what is done inside is done to the end."""
        return self._whole
