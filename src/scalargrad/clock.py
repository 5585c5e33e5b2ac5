"""The clock that every graph shares: creation numbers, versions, the marks of walks.

It ticks when a Value is made or its data written, so that "older than" and "written after" are
comparisons of integers. The engine reads and moves `time` and `alive` itself, once a node.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from . import _uncompiled as cython  # type: ignore[no-redef]

time = cython.declare(cython.ulonglong, 0)  # the number of the Value made last, if none was written
alive = cython.declare(cython.longlong, 0)
_mark = cython.declare(cython.ulonglong, 0)  # the last one that a walk left on nodes


@cython.ccall
@cython.exceptval(check=False)
def tick() -> cython.ulonglong:
    """The time of a write that happens now."""
    global time
    time += 1
    return time


@cython.cfunc
@cython.exceptval(check=False)
def marks(count: cython.Py_ssize_t) -> cython.ulonglong:
    """The first of `count` marks in a row that no node bears."""
    global _mark
    _mark += count
    return _mark - count + 1


def live_values() -> int:
    """How many Values exist now: 0 growth over a training step means that nothing leaks."""
    return alive
