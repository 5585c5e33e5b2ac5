"""Modes of the engine, each for a `with` block and for one thread: no_grad, detect_anomaly, tracing.

The engine asks for them only while some block is open, so that they cost one comparison of an
integer otherwise: it hears of blocks opening and closing through `listen`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any


class _Modes(threading.local):
    grad: bool = True
    anomaly: bool = False
    tracer: Any = None
    lines: dict[int, str] | None = None  # creation number -> the user's file and line


current = _Modes()

_listeners: list[Callable[[int], None]] = []


def listen(changed: Callable[[int], None]) -> None:
    """Call `changed(1)` when a block opens and `changed(-1)` when it closes."""
    _listeners.append(changed)


@contextmanager
def modes(**changes: Any) -> Iterator[None]:
    """Change this thread's modes inside a `with` block, and restore them whatever happens."""
    before = {name: getattr(current, name) for name in changes}
    for changed in _listeners:
        changed(1)
    try:
        for name, mode in changes.items():
            setattr(current, name, mode)
        yield
    finally:
        for name, mode in before.items():
            setattr(current, name, mode)
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
    return modes(anomaly=True, lines={} if current.lines is None else current.lines)


# --- where in the user's program ----------------------------------------------------------------

_HERE = os.path.dirname(__file__) + os.sep
_inside: dict[str, bool] = {}
_lines: dict[tuple[str, CodeType, int], str] = {}


def user_line() -> str:
    """File and line of the innermost frame outside this package, as "file.py:12"."""
    frame = sys._getframe()
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        frame = frame.f_back
    # Looking a line number up scans a table, so each place in the code is looked up once. Equal
    # code objects can come from different files.
    place = (frame.f_code.co_filename, frame.f_code, frame.f_lasti)
    line = _lines.get(place)
    if line is None:
        if len(_lines) > 100_000:
            _lines.clear()
        line = _lines[place] = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return line


def _is_inside(filename: str) -> bool:
    inside = _inside.get(filename)
    if inside is None:
        if len(_inside) > 100_000:
            _inside.clear()
        inside = _inside[filename] = filename.startswith(_HERE)
    return inside
