"""Where in the user's program results are made: file and line, as "file.py:12"."""

from __future__ import annotations

import inspect
import os
import sys
from bisect import bisect_right
from types import CodeType, FrameType
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from . import _uncompiled as cython

_HERE = os.path.dirname(__file__) + os.sep
_MOST = cython.declare(cython.int, 100_000)  # places remembered before starting anew
_inside: dict[str, bool] = {}
# Looking a line number up scans a table, so each place in the code is looked up once. The code
# object is kept with the line: only while it lives is its id its own.
_lines: dict[tuple[int, int], tuple[CodeType, str]] = {}
_getframe = sys._getframe
# Compiled functions have no frames: the innermost one is already their caller's.
_CALLER = 0 if cython.compiled else 1


@cython.final
@cython.cclass
class Lines:
    """The lines that made results, by creation number.

    Results are entered as they are made, so their numbers rise, and most are made by the line
    that made the one before: only the first of them is kept. What lies between two results has
    the line of the first.
    """

    starts: list[int]
    names: list[str]
    _latest: object

    def __init__(self) -> None:
        self.starts = []
        self.names = []
        self._latest = None

    def __setitem__(self, number: int, line: str) -> None:
        if line is not self._latest:
            self._latest = line
            self.starts.append(number)
            self.names.append(line)

    def __len__(self) -> int:
        return len(self.starts)

    def get(self, number: int, default: str = "") -> str:
        """The line that made a result; the default for one from before all that were entered."""
        k = bisect_right(self.starts, number) - 1
        return self.names[k] if k >= 0 else default

    @property
    def runs(self) -> tuple[list[int], list[str]]:
        """The first number that each line made, one after the other, and the lines."""
        return self.starts, self.names


def user_line() -> str:
    """File and line of the innermost frame of the user's program.

    That is a frame outside this package, NumPy and the standard library.
    """
    return _line_of(_user_frame(_getframe(_CALLER)))


def node_line() -> str:
    """`user_line()` for a node being made: quicker, because nodes are made many in a row.

    As long as the same call inside the package makes them, the user's line is the same. (Not so
    for a generator, which different lines may advance, unless the package itself does.)
    """
    global _latest_frame, _latest_back, _latest_line
    frame = _getframe(_CALLER)
    back = frame.f_back
    if frame is _latest_frame and back is _latest_back:
        return _latest_line
    if not _is_inside(frame.f_code.co_filename):
        return _line_of(frame)
    line = _line_of(_user_frame(frame))
    generator = frame.f_code.co_flags & inspect.CO_GENERATOR
    if not generator or (back is not None and _is_inside(back.f_code.co_filename)):
        _latest_frame, _latest_back, _latest_line = frame, back, line
    return line


_latest_frame: FrameType | None = None
_latest_back: FrameType | None = None
_latest_line = ""


def forget_frames() -> None:
    """Keep no frame of the user's alive."""
    global _latest_frame, _latest_back, _latest_line
    _latest_frame, _latest_back, _latest_line = None, None, ""


def _user_frame(frame: Any) -> Any:
    found = frame
    while found.f_back is not None and _is_inside(found.f_code.co_filename):
        found = found.f_back
    return frame if _is_inside(found.f_code.co_filename) else found


def _line_of(frame: Any) -> str:
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
