"""The interpreter's outer loop: rows of arguments through a `Replay`, one example after another.

It puts each row's numbers at their nodes, runs the tape, and takes results and gradients out,
compiled by Cython, so that a batch of small programs costs little more than the programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad.replay import Replay
else:
    from ..replay import Replay

if TYPE_CHECKING:
    from .structure import Floats
    from .trace import Trace

LONG = cython.declare(cython.Py_ssize_t, 300_000)  # nodes, visited for a millisecond


@cython.final
@cython.cclass
class Rows:
    """One trace's plan of where arguments go and results come from.

    The plan is given and kept as memoryviews: `data`, `grad` and `index` are
    the buffers of the `Replay`; `columns[j]` is the flattened argument that node `nodes[j]`
    holds; argument `selecting[j]` chooses among the `lengths[j]` candidates of slot `slots[j]`,
    and chooses candidate 0 if it is out of range; `fresh` are the argument nodes whose gradient
    belongs to one example.
    """

    replay: Replay
    data: cython.double[::1]
    grad: cython.double[::1]
    index: cython.longlong[::1]
    outputs: cython.int[::1]
    columns: cython.int[::1]
    nodes: cython.int[::1]
    selecting: cython.int[::1]
    slots: cython.int[::1]
    lengths: cython.int[::1]
    fresh: cython.int[::1]
    leaves: cython.Py_ssize_t

    def __init__(
        self,
        replay: Replay,
        trace: Trace,
        buffers: tuple[memoryview, ...],
        plan: tuple[memoryview, ...],
    ) -> None:
        self.replay = replay
        self.data, self.grad, self.index = buffers
        self.columns, self.nodes, self.selecting, self.slots, self.lengths, self.fresh = plan
        self.outputs = trace.tape.outputs.data
        self.leaves = trace.tape.leaves

    def forward(self, rows: Floats, outputs: Floats) -> None:
        """Write the outputs of each row of arguments into the same row of `outputs`."""
        given: cython.double[:, ::1] = rows
        out: cython.double[:, ::1] = outputs
        if self._is_long(given):
            with cython.nogil:
                self._forward(given, out)
        else:
            self._forward(given, out)

    def backward(self, rows: Floats, outputs: Floats, seed: float, gradient: Floats | None) -> None:
        """As `forward`, from the last row to the first, with each row's backward pass after it.

        Seeds output 0. Gradients of parameters and shared arguments accumulate in `grad`; those
        of arguments are added to `gradient`, laid out as `rows`, if it is not None.
        """
        first: cython.double = seed
        given: cython.double[:, ::1] = rows
        out: cython.double[:, ::1] = outputs
        wanted: cython.bint = gradient is not None
        into: cython.double[:, ::1] = rows if gradient is None else gradient
        if self._is_long(given):
            with cython.nogil:
                self._backward(given, out, first, wanted, into)
        else:
            self._backward(given, out, first, wanted, into)

    @cython.cfunc
    @cython.exceptval(check=False)
    def _is_long(self, rows: cython.double[:, ::1]) -> cython.bint:
        """Whether other threads, the compiler's above all, had better run meanwhile."""
        return len(rows) * len(self.data) >= LONG

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _forward(self, given: cython.double[:, ::1], out: cython.double[:, ::1]) -> cython.void:
        b: cython.Py_ssize_t
        for b in range(len(given)):
            self._put(given, b)
            self.replay.forward()
            self._take(out, b)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _backward(
        self,
        given: cython.double[:, ::1],
        out: cython.double[:, ::1],
        seed: cython.double,
        wanted: cython.bint,
        into: cython.double[:, ::1],
    ) -> cython.void:
        b: cython.Py_ssize_t
        i: cython.Py_ssize_t
        grad: cython.double[::1] = self.grad
        fresh: cython.int[::1] = self.fresh
        for b in range(len(given) - 1, -1, -1):
            self._put(given, b)
            self.replay.forward()
            self._take(out, b)
            for i in range(self.leaves, len(grad)):
                grad[i] = 0.0
            for i in range(len(fresh)):
                grad[fresh[i]] = 0.0
            grad[self.outputs[0]] += seed
            self.replay.backward()
            if wanted:
                for i in range(len(self.nodes)):
                    into[b, self.columns[i]] += grad[self.nodes[i]]

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _put(self, rows: cython.double[:, ::1], b: cython.Py_ssize_t) -> cython.void:
        """The numbers of row b to their nodes, its choices to their slots."""
        j: cython.Py_ssize_t
        chosen: cython.double
        for j in range(len(self.nodes)):
            self.data[self.nodes[j]] = rows[b, self.columns[j]]
        for j in range(len(self.slots)):
            chosen = rows[b, self.selecting[j]]
            if not 0.0 <= chosen < self.lengths[j]:
                chosen = 0.0
            self.index[self.slots[j]] = cython.cast(cython.longlong, chosen)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def _take(self, outputs: cython.double[:, ::1], b: cython.Py_ssize_t) -> cython.void:
        """The outputs of row b from their nodes."""
        j: cython.Py_ssize_t
        for j in range(len(self.outputs)):
            outputs[b, j] = self.data[self.outputs[j]]
