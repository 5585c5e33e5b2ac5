"""The interpreter: one loop over a tape's arrays, forward and backward, compiled by Cython.

It runs a frozen graph again without making nodes. It is the oracle of every other back end, and
what answers where no native code exists. Its arithmetic and its order are the engine's, so its
results are the engine's bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import cython
except ModuleNotFoundError:
    from . import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad import clock, rules
    from cython.cimports.scalargrad.engine import Value
    from cython.cimports.scalargrad.node import MODIFIED
    from cython.cimports.scalargrad.replay import PyObject, borrowed
else:
    from . import clock, rules
    from .engine import Value
    from .node import MODIFIED

    def borrowed(values: list[Value]) -> list[Value]:
        """The list itself: only compiled code can do without counting who holds its Values."""
        return values


if TYPE_CHECKING:
    from .tape import Tape


@cython.final
@cython.cclass
class Replay:
    """Runs one tape over buffers of its own: `data` and `grad`, one float64 a node.

    The caller fills `data` of the leaves (and `index`), calls `forward`, reads results; sets
    `grad` (of the outputs to their seeds, of the leaves to what is to be added to), calls
    `backward`, reads gradients. The buffers are memoryviews of the NumPy arrays given.
    """

    op: cython.uchar[::1]
    lhs: cython.int[::1]
    rhs: cython.int[::1]
    const: cython.double[::1]
    many: cython.int[::1]
    index: cython.longlong[::1]
    data: cython.double[::1]
    grad: cython.double[::1]
    leaves: cython.Py_ssize_t
    size: cython.Py_ssize_t

    def __init__(self, tape: Tape, data: memoryview, grad: memoryview) -> None:
        self.op = tape.op.data
        self.lhs = tape.lhs.data
        self.rhs = tape.rhs.data
        self.const = tape.const.data
        self.many = tape.many.data
        self.index = tape.index.data
        self.data = data
        self.grad = grad
        self.leaves = tape.leaves
        self.size = len(tape.op)

    @cython.ccall
    @cython.nogil
    @cython.exceptval(check=False)
    def forward(self) -> cython.void:
        """Recompute the data of every result from the data of the leaves."""
        i: cython.Py_ssize_t
        j: cython.int
        code: cython.int
        op: cython.uchar[::1] = self.op
        lhs: cython.int[::1] = self.lhs
        rhs: cython.int[::1] = self.rhs
        data: cython.double[::1] = self.data
        a: cython.double
        b: cython.double
        k: cython.int
        # The last two results, in registers: a sum is a chain, and waiting for memory that was
        # written a moment ago takes longer than the addition.
        last: cython.double = data[self.leaves - 1] if self.leaves > 0 else 0.0
        older: cython.double = data[self.leaves - 2] if self.leaves > 1 else 0.0
        for i in range(self.leaves, self.size):
            code = op[i]
            j = lhs[i]
            k = rhs[i]
            if code == rules.ADD or code == rules.MUL or code == rules.SUB:
                a = older if j == i - 2 else last if j == i - 1 else data[j]
                b = last if k == i - 1 else data[k]
                older = last
                if code == rules.ADD:
                    last = a + b
                elif code == rules.MUL:
                    last = a * b
                else:
                    last = a - b
                data[i] = last
                continue
            older = last
            if code == rules.RELU:
                a = data[j]
                last = 0.0 if a < 0.0 else a
            elif code == rules.NEG:
                last = -data[j]
            elif code == rules.POW or code == rules.LEAKY_RELU:
                last = rules.forward(code, data[j], 0.0, self.const[k])
            elif code == rules.WHERE:
                j += 1 if data[self.many[j]] != 0.0 else 2
                last = data[self.many[j]]
            elif code == rules.TAKE:
                j = self.many[j + 1] + cython.cast(cython.int, self.index[self.many[j]])
                last = data[self.many[j]]
            else:
                b = data[k] if k >= 0 else 0.0
                last = rules.forward(code, data[j], b, 0.0)
            data[i] = last

    @cython.ccall
    @cython.nogil
    @cython.exceptval(check=False)
    def backward(self) -> cython.void:
        """Add to the gradient of every operand its part, from the last node to the first.

        Needs `grad` of the results set: the seeds of the outputs, 0 elsewhere.
        """
        i: cython.Py_ssize_t
        j: cython.int
        k: cython.int
        code: cython.int
        op: cython.uchar[::1] = self.op
        lhs: cython.int[::1] = self.lhs
        rhs: cython.int[::1] = self.rhs
        data: cython.double[::1] = self.data
        grad: cython.double[::1] = self.grad
        g: cython.double
        b: cython.double
        c: cython.double
        d: cython.double
        e: cython.double
        for i in range(self.size - 1, self.leaves - 1, -1):
            g = grad[i]
            if g == 0.0:
                continue
            code = op[i]
            j = lhs[i]
            k = rhs[i]
            if code == rules.ADD:
                grad[j] += g
                grad[k] += g
            elif code == rules.MUL:
                d = data[k] * g
                e = data[j] * g
                grad[j] += d
                grad[k] += e
            elif code == rules.SUB:
                grad[j] += g
                grad[k] -= g
            elif code == rules.NEG:
                grad[j] -= g
            elif code == rules.WHERE:
                j += 1 if data[self.many[j]] != 0.0 else 2
                grad[self.many[j]] += g
            elif code == rules.TAKE:
                j = self.many[j + 1] + cython.cast(cython.int, self.index[self.many[j]])
                grad[self.many[j]] += g
            elif code == rules.POW or code == rules.LEAKY_RELU:
                c = self.const[k]
                d = rules.partial(code, 0, data[j], 0.0, c, data[i])
                if d != 0.0:
                    grad[j] += d * g
            else:
                b = data[k] if k >= 0 else 0.0
                d = rules.partial(code, 0, data[j], b, 0.0, data[i])
                e = rules.partial(code, 1, data[j], b, 0.0, data[i]) if k >= 0 else 0.0
                if d != 0.0:
                    grad[j] += d * g
                if e != 0.0:
                    grad[k] += e * g


# --- between a tape's buffers and the Values it was captured from -----------------------------------


def read_leaves(nodes: list[Value], data: memoryview, versions: memoryview) -> None:
    """data[i] = nodes[i].data for the leaves, with the version each number has."""
    v: Value
    i: cython.Py_ssize_t
    out: cython.double[::1] = data
    seen: cython.ulonglong[::1] = versions
    for i in range(len(seen)):
        v = nodes[i]
        out[i] = v._data
        seen[i] = v.version


def read_numbers(nodes: list[Value], numbers: memoryview) -> None:
    """numbers[i] = nodes[i].number"""
    v: Value
    i: cython.Py_ssize_t
    out: cython.ulonglong[::1] = numbers
    for i in range(len(out)):
        v = nodes[i]
        out[i] = v.number


def changed_leaf(nodes: list[Value], versions: memoryview) -> int:
    """The first leaf whose data was written since `read_leaves`; -1 if there is none."""
    v: Value
    i: cython.Py_ssize_t
    seen: cython.ulonglong[::1] = versions
    for i in range(len(seen)):
        v = nodes[i]
        if v.version != seen[i]:
            return i
    return -1


def write_results(nodes: list[Value], leaves: int, data: memoryview) -> None:
    """nodes[i].data = data[i] for the results, just computed from the leaves: none is stale."""
    v: Value
    i: cython.Py_ssize_t
    new: cython.double[::1] = data
    now: cython.ulonglong = clock.tick()
    for i in range(leaves, len(new)):
        v = nodes[i]
        v._data = new[i]
        v.version = now
        v.flags &= ~MODIFIED


def read_grad(nodes: list[Value], count: int, grad: memoryview) -> None:
    """grad[i] = nodes[i].grad for the first count nodes."""
    v: Value
    i: cython.Py_ssize_t
    out: cython.double[::1] = grad
    for i in range(count):
        v = nodes[i]
        out[i] = v._grad


def write_grad(nodes: list[Value], grad: memoryview) -> None:
    """nodes[i].grad = grad[i]"""
    v: Value
    i: cython.Py_ssize_t
    new: cython.double[::1] = grad
    for i in range(len(nodes)):
        v = nodes[i]
        v._grad = new[i]


def write_leaves(nodes: list[Value], data: memoryview) -> None:
    """nodes[i].data = data[i], counted as a write: graphs built before are stale."""
    v: Value
    i: cython.Py_ssize_t
    new: cython.double[::1] = data
    now: cython.ulonglong = clock.tick()
    for i in range(len(nodes)):
        v = nodes[i]
        v._data = new[i]
        v.version = now


@cython.final
@cython.cclass
class Mirror:
    """Two arrays that show some Values' numbers and gradients to a program.

    Whoever else writes the numbers there says so by `forget`.
    """

    values: list
    data: cython.double[::1]
    grad: cython.double[::1]
    clock: cython.ulonglong
    fresh: cython.bint

    def __init__(self, values: list[Value], data: memoryview, grad: memoryview) -> None:
        self.values = values
        self.data = data
        self.grad = grad
        self.clock = 0
        self.fresh = False

    @cython.ccall
    def read(self) -> None:
        """data[i] = values[i].data; nothing is done where no Value was written since."""
        i: cython.Py_ssize_t
        if self.fresh and self.clock == clock.time:
            return
        values: cython.pointer[cython.pointer[PyObject]] = borrowed(self.values)
        data: cython.double[::1] = self.data
        for i in range(len(data)):
            data[i] = cython.cast(Value, values[i])._data
        self.clock = clock.time
        self.fresh = True

    @cython.ccall
    def forget(self) -> None:
        """The numbers in `data` are others now."""
        self.fresh = False

    @cython.ccall
    def read_grad(self) -> None:
        """grad[i] = values[i].grad"""
        i: cython.Py_ssize_t
        values: cython.pointer[cython.pointer[PyObject]] = borrowed(self.values)
        grad: cython.double[::1] = self.grad
        for i in range(len(grad)):
            grad[i] = cython.cast(Value, values[i])._grad

    @cython.ccall
    def write_grad(self) -> None:
        """values[i].grad = grad[i]"""
        i: cython.Py_ssize_t
        values: cython.pointer[cython.pointer[PyObject]] = borrowed(self.values)
        grad: cython.double[::1] = self.grad
        for i in range(len(grad)):
            cython.cast(Value, values[i])._grad = grad[i]
