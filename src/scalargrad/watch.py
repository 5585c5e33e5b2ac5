"""What the engine does differently while a `with` block of `modes.py` is open.

The engine asks here when it makes a node and when a number is read or written. `blocks` counts
the open blocks, in any thread, so that where there is none the answer costs a comparison.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

try:
    import cython
except ModuleNotFoundError:
    from . import _uncompiled as cython  # type: ignore[no-redef]

from . import diagnose
from .modes import current, listen

if cython.compiled:
    from cython.cimports.scalargrad.lines import Lines, node_line
    from cython.cimports.scalargrad.watch import PyThreadState_Get, PyThreadState_GetID
else:
    from .lines import Lines, node_line

if TYPE_CHECKING:
    from .engine import Value

blocks = cython.declare(cython.int, 0)
derivatives = cython.declare(cython.int, 0)  # functions being differentiated, in any thread

# The modes of the thread that made the last node, as long as no block opens or closes: to look
# them up takes longer than to make a node.
_thread = cython.declare(cython.ulonglong, 0)  # 0 is no thread's
_lines = cython.declare(Lines, None)
_plain = cython.declare(cython.bint, True)


def _count(change: int) -> None:
    global blocks, _thread, _lines
    blocks += change
    _thread, _lines = 0, None


listen(_count)


def tracer() -> Any:
    """What records this thread's program as it runs; None where nothing does."""
    return current.tracer if blocks else None


def read(v: Value, what: str) -> int:
    """A number of v is about to be read, by `what`: a tracer may refuse."""
    if blocks and current.tracer is not None:
        current.tracer.read(v, what)
    return 0


def differentiate(change: int) -> None:
    """A function is about to be differentiated, for 1, in any thread, or was, for -1."""
    global derivatives
    derivatives += change


def converted(v: Value) -> int:
    """v is about to be a float: a function that is being differentiated may not lose it like that."""
    if current.differentiating is not None:
        current.differentiating.refuse_float(v)
    return 0


def equal(v: Value, other: Any, expected: bool) -> Any:
    """`v == other`, or `v != other` if that is `expected` to be False.

    It compares nodes, but where v stands for a number that a function was called with, numbers, as
    it does in the function called with numbers. NotImplemented leaves it to Python: nodes.
    """
    watching = current.tracer if current.tracer is not None else current.differentiating
    return NotImplemented if watching is None else watching.equal(v, other, expected)


def written(v: Value, what: str) -> int:
    """A number of v is about to be written, by `what`: a tracer refuses."""
    if blocks and current.tracer is not None:
        current.tracer.wrote(v, what)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def made(v: Value, number: cython.ulonglong, data: cython.double) -> cython.bint:
    """Whether v, a result just made, keeps its operands: it does not under `no_grad`."""
    global _thread, _lines, _plain
    # Looking for a line lets other threads have their turn, and so does plain Python at any point.
    lines: Lines = _lines
    plain: cython.bint = _plain
    if not cython.compiled or _thread != 1 + PyThreadState_GetID(PyThreadState_Get()):
        lines, plain = current.lines, current.grad and not current.anomaly
        if cython.compiled:
            _lines, _plain = lines, plain
            _thread = 1 + PyThreadState_GetID(PyThreadState_Get())
    if lines is not None:
        lines.enter(number, node_line())
    if plain:
        return True
    if current.anomaly:
        diagnose.check_value(v, data)
    if not current.grad and current.tracer is not None:
        current.tracer.refuse_no_grad()
    return current.grad


@cython.cfunc
@cython.exceptval(-1, check=False)
def anomalies() -> cython.bint:
    """Whether this thread is inside `detect_anomaly()`."""
    return blocks > 0 and current.anomaly


@cython.cfunc
@cython.exceptval(-1, check=False)
def backward(v: Value) -> cython.int:
    """One step of `backward` through v that raises `AnomalyError` if it spoils a gradient."""
    finite = [math.isfinite(operand.grad) for operand in v.operands]
    v._backward()
    for operand, was_finite, partial in zip(v.operands, finite, v._local_grads):
        if was_finite and not math.isfinite(operand.grad):
            raise diagnose.gradient_error(v, operand, partial)
    return 0
