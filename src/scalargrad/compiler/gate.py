"""A gate that lets one thread in at a time.

It is passed at every call of a compiled function, and nearly always open. A lock of Python's takes
longer there than many a program, so where the interpreter's own lock makes a look at the gate and
the step through it one, a gate is two assignments. Only who finds it closed waits for a lock.
"""

from __future__ import annotations

import threading
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad.compiler.gate import get_ident
else:
    from threading import get_ident


@cython.final
@cython.cclass
class Gate:
    """Open for one thread, then closed until it leaves.

    `bell` is a lock that those who wait acquire, one at a time: whoever leaves releases it. It is
    `rung` from then until one of them has woken up. Uncompiled, where another thread may come in
    between any two steps, the lock is the gate.
    """

    inside: cython.ulong
    waiting: cython.Py_ssize_t
    rung: cython.bint
    bell: Any

    def __init__(self) -> None:
        self._open()

    @cython.cfunc
    def _open(self) -> None:
        self.inside, self.waiting, self.rung = 0, 0, False
        if cython.compiled:
            self.bell = threading.Lock()
            self.bell.acquire()
        else:
            self.bell = threading.RLock()

    @cython.ccall
    @cython.exceptval(-1, check=False)
    def enter(self) -> cython.bint:
        """Go in, once nobody is there; False, at once, for the thread that is inside."""
        me: cython.ulong = get_ident()
        if self.inside == me:
            return False
        if not cython.compiled:
            self.bell.acquire()
        while cython.compiled and self.inside != 0:
            self._wait()
        self.inside = me
        return True

    @cython.ccall
    def leave(self) -> None:
        """Let the next one in."""
        self.inside = 0
        if not cython.compiled:
            self.bell.release()
        elif self.waiting > 0 and not self.rung:
            self.rung = True
            self.bell.release()

    def abandon(self) -> None:
        """In a forked process: whoever was inside or waited is not there, but for this thread."""
        mine: cython.bint = self.inside == get_ident()
        if cython.compiled or not mine:
            self._open()
        if mine:
            self.inside = get_ident()

    @cython.cfunc
    def _wait(self) -> None:
        """Wait until somebody leaves. Who was faster may be inside again already."""
        self.waiting += 1
        try:
            self.bell.acquire()  # lets other threads run, and handles signals
            self.rung = False
        finally:
            self.waiting -= 1
