"""Where in the user's program results are made: file and line, as "file.py:12"."""

from __future__ import annotations

import inspect
import os
import sys
from bisect import bisect_right
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from . import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad.lines import (
        PyEval_GetFrame,
    )

_HERE = os.path.dirname(__file__) + os.sep
_MOST = cython.declare(cython.int, 100_000)  # things remembered before starting anew
_inside: dict[str, bool] = {}
# Looking a line number up scans a table, so each place in the code is looked up once: by the id of
# the code and by place the line, and by ~number each different line. None is for code that is not
# the user's. The code is kept too: only while it lives is its id its own.
_codes = cython.declare(dict, {})
_getframe = sys._getframe
_RESUMED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
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

    @cython.ccall
    @cython.exceptval(-1, check=False)
    def enter(self, number: cython.ulonglong, line: str) -> cython.int:
        """This line made the result of this number."""
        if line is not self._latest:
            self._latest = line
            self.starts.append(number)
            self.names.append(line)
        return 0

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


def raising_line(error: BaseException) -> str:
    """File and line of the innermost frame of the user's program that an error came through."""
    line, traceback = "", error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if _places(code) is not None:
            line = f"{code.co_filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return line


# Nodes are made many in a row, and to look at frames takes longer than to make a node. While a
# frame of a library is under way the frames below it stand still, so it belongs to one line of the
# user's. Not so a generator or coroutine, with which others may go on.
_latest_line = cython.declare(str, "")
_latest_frame = cython.declare(object, None)  # a frame that belongs to it
_latest_back = cython.declare(object, None)  # another one, whose callees belong to it too


@cython.cfunc
def node_line() -> str:
    """`user_line()` for a node being made, found quickly."""
    if not cython.compiled:  # where threads may take turns at any point
        return _line_of(_user_frame(_getframe(_CALLER)))
    frame: Any = cython.cast(object, PyEval_GetFrame())
    return _latest_line if frame is _latest_frame else _found(frame)


@cython.cfunc
def _found(frame: Any) -> str:
    """The user's line that a frame belongs to."""
    global _latest_line, _latest_frame, _latest_back
    if _places(frame.f_code) is not None:
        return _line_of(frame)
    back: Any = frame.f_back
    lasting: object = frame if _lasts(frame) else None
    line: str = _latest_line
    below: object = _latest_back
    if back is None or back is not below:
        line = _line_of(_user_frame(frame))
        below = back if back is not None and _lasts(back) else None
    # Other threads may have had their turn up to here. From here on they may not, so nothing is
    # freed until all three are set.
    old_frame: object = _latest_frame
    old_back: object = _latest_back
    _latest_line, _latest_frame, _latest_back = line, lasting, below
    del old_frame, old_back
    return line


@cython.cfunc
def _lasts(frame: Any) -> cython.bint:
    """Whether a frame belongs to one line of the user's as long as it is under way."""
    code: Any = frame.f_code
    return _places(code) is None and not code.co_flags & _RESUMED


def forget_frames() -> None:
    """Keep no frame of the user's alive."""
    global _latest_line, _latest_frame, _latest_back
    _latest_line, _latest_frame, _latest_back = "", None, None


@cython.cfunc
def _user_frame(frame: Any) -> Any:
    found: Any = frame
    while found is not None and _places(found.f_code) is None:
        found = found.f_back
    return frame if found is None else found


@cython.cfunc
def _line_of(frame: Any) -> str:
    places: dict = _places(frame.f_code)
    if places is None:
        return f"{frame.f_code.co_filename}:{frame.f_lineno}"
    line = places.get(frame.f_lasti)
    if line is None:
        number = frame.f_lineno
        line = places.setdefault(~number, f"{frame.f_code.co_filename}:{number}")
        places[frame.f_lasti] = line
    return line


@cython.cfunc
def _places(code: Any) -> dict | None:
    """The lines of some code that are known, by place; None for code that is not the user's."""
    known = _codes.get(id(code))
    if known is None:
        if len(_codes) > _MOST:
            _codes.clear()
        known = _codes[id(code)] = (code, None if _is_inside(code.co_filename) else {})
    return known[1]


@cython.cfunc
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
