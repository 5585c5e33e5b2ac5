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
from .lines import node_line
from .modes import current, listen

if TYPE_CHECKING:
    from .engine import Value

blocks = cython.declare(cython.int, 0)


def _count(change: int) -> None:
    global blocks
    blocks += change


listen(_count)


def tracer() -> Any:
    """What records this thread's program as it runs; None where nothing does."""
    return current.tracer if blocks else None


def read(v: Value, what: str) -> int:
    """A number of v is about to be read, by `what`: a tracer may refuse."""
    if blocks and current.tracer is not None:
        current.tracer.read(v, what)
    return 0


def written(v: Value, what: str) -> int:
    """A number of v is about to be written, by `what`: a tracer refuses."""
    if blocks and current.tracer is not None:
        current.tracer.wrote(v, what)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def made(v: Value, number: cython.ulonglong, data: cython.double) -> cython.bint:
    """Whether v, a result just made, keeps its operands: it does not under `no_grad`."""
    here: dict = current.__dict__  # one look-up of this thread's modes, where it set any
    lines = here.get("lines")
    if lines is not None:
        lines[number] = node_line()
    if here.get("anomaly", False):
        diagnose.check_value(v, data)
    if here.get("grad", True):
        return True
    if here.get("tracer") is not None:
        here["tracer"].refuse_no_grad()
    return False


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
