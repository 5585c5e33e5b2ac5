"""Modes of the engine, each for a `with` block and for one thread: no_grad, detect_anomaly, tracing.

The engine asks for them only while some block is open, so that they cost one comparison of an
integer otherwise: it hears of blocks opening and closing through `listen`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .lines import Lines, forget_frames


class _Modes(threading.local):
    grad: bool = True
    anomaly: bool = False
    tracer: Any = None
    lines: Lines | None = None  # where results are made
    differentiating: Any = None  # the variables of the function that is being differentiated


current = _Modes()

_listeners: list[Callable[[int], None]] = []


def listen(changed: Callable[[int], None]) -> None:
    """Call `changed(1)` when a block opens, 0 when its modes are set, -1 when it has closed."""
    _listeners.insert(0, changed)


listen(lambda change: forget_frames())


@contextmanager
def modes(**changes: Any) -> Iterator[None]:
    """Change this thread's modes inside a `with` block, and restore them whatever happens."""
    before = {name: getattr(current, name) for name in changes}
    present = vars(current)
    for changed in _listeners:
        changed(1)
    try:
        present.update(changes)
        for changed in _listeners:
            changed(0)
        yield
    finally:
        # Ctrl-C may interrupt this, too, but not a single call of what is written in C.
        try:
            present.update(before)
        finally:
            for changed in _listeners:
                changed(-1)


def no_grad() -> Any:
    """`with no_grad():` results are plain leaves: they keep no operands and cost no memory."""
    return modes(grad=False)


def detect_anomaly() -> Any:
    """`with detect_anomaly():` the first value or gradient that is inf or nan raises.

    The `AnomalyError` names the operation, its operands and the line of your program that
    computed it. Computing is slower inside; results are the same.
    """
    return modes(anomaly=True, lines=Lines() if current.lines is None else current.lines)
