"""Modes of the engine, each for a `with` block and for one thread: no_grad, detect_anomaly, tracing.

The engine asks for them only while some block is open, so that they cost one comparison of an
integer otherwise: it hears of blocks opening and closing through `listen`.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any


class _Modes(threading.local):
    grad: bool = True
    anomaly: bool = False
    tracer: Any = None
    lines: dict[int, str] | None = None  # creation number -> the user's file and line
    differentiating: int = 0  # how many functions are being differentiated, one inside another


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
_MOST = 100_000  # places remembered before starting anew
_inside: dict[str, bool] = {}
# Looking a line number up scans a table, so each place in the code is looked up once. The code
# object is kept with the line: only while it lives is its id its own.
_lines: dict[tuple[int, int], tuple[CodeType, str]] = {}


def user_line() -> str:
    """File and line of the innermost frame of the user's program, as "file.py:12".

    That is a frame outside this package, NumPy and the standard library.
    """
    return _line_of(_user_frame(sys._getframe(1)))


def node_line() -> str:
    """`user_line()` for a node being made: quicker, because nodes are made many in a row.

    As long as the same call inside the package makes them, the user's line is the same. (Not so
    for a generator, which different lines may advance, unless the package itself does.)
    """
    global _latest
    frame = sys._getframe(1)
    if not _is_inside(frame.f_code.co_filename):
        return _line_of(frame)
    back = frame.f_back
    latest_frame, latest_back, line = _latest
    if latest_frame is frame and latest_back is back:
        return line
    line = _line_of(_user_frame(frame))
    generator = frame.f_code.co_flags & inspect.CO_GENERATOR
    if not generator or (back is not None and _is_inside(back.f_code.co_filename)):
        _latest = (frame, back, line)
    return line


_latest: tuple[FrameType | None, FrameType | None, str] = (None, None, "")


def _forget_frames(change: int) -> None:
    global _latest
    _latest = (None, None, "")


listen(_forget_frames)


def _user_frame(frame: FrameType) -> FrameType:
    found = frame
    while found.f_back is not None and _is_inside(found.f_code.co_filename):
        found = found.f_back
    return frame if _is_inside(found.f_code.co_filename) else found


def _line_of(frame: FrameType) -> str:
    code = frame.f_code
    place = (id(code), frame.f_lasti)
    known = _lines.get(place)
    if known is None:
        if len(_lines) > _MOST:
            _lines.clear()
        known = _lines[place] = (code, f"{code.co_filename}:{frame.f_lineno}")
    return known[1]


def _is_inside(filename: str) -> bool:
    inside = _inside.get(filename)
    if inside is None:
        if len(_inside) > _MOST:
            _inside.clear()
        inside = _inside[filename] = _belongs_to_a_library(filename)
    return inside


def _belongs_to_a_library(filename: str) -> bool:
    if filename.startswith((_HERE, "<frozen")):
        return True
    if "numpy" in sys.modules:
        numpy = os.path.dirname(str(sys.modules["numpy"].__file__))
        if filename.startswith(numpy + os.sep):
            return True
    library = os.path.dirname(os.__file__)
    # Installed programs live inside the standard library's folder, but are no part of it.
    installed = {"site-packages", "dist-packages"} & set(filename.split(os.sep))
    return filename.startswith(library + os.sep) and not installed
