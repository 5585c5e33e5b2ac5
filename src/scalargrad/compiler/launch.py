"""A call of a compiled function: what remains to be done when all is known.

A program of a few hundred numbers runs for a microsecond or two. So a call that is like the one
before is answered in one go, by a `Launch`: the arguments are checked and put where the code
reads them, likewise the parameters' numbers, the code runs, and value and gradient come out.
Nothing is looked up on the way.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad import watch
    from cython.cimports.scalargrad.compiler.building import Builder
    from cython.cimports.scalargrad.compiler.calling import Code
    from cython.cimports.scalargrad.replay import Mirror
else:
    from .. import watch
    from ..replay import Mirror
    from .building import Builder
    from .calling import Code

from . import arguments
from .spaces import SEED, Space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .arguments import Layout
    from .filler import Filler
    from .jit import Kernel
    from .structure import Floats, Signature
    from .variant import Variant

FOREVER = 1 << 62  # calls until the next contest, where there is none
EXACT = cython.declare(cython.double, arguments.EXACT)
FIRST = cython.declare(cython.int, SEED)
EXAMPLE = cython.declare(cython.int, int(Space.EXAMPLE))


@cython.final
@cython.cclass
class Narrow:
    """Numbers in float64, and the code's own of them in float32."""

    wide: cython.double[::1]
    narrow: cython.float[::1]

    def __init__(self, wide: memoryview, narrow: memoryview) -> None:
        self.wide, self.narrow = wide, narrow

    @cython.cfunc
    @cython.exceptval(check=False)
    def put(self) -> cython.void:
        """Round the numbers for the code."""
        k: cython.Py_ssize_t
        for k in range(len(self.wide)):
            self.narrow[k] = self.wide[k]

    @cython.cfunc
    @cython.exceptval(check=False)
    def take(self) -> cython.void:
        """Take what the code made of them."""
        k: cython.Py_ssize_t
        for k in range(len(self.wide)):
            self.wide[k] = self.narrow[k]


@cython.final
@cython.cclass
class Launch:
    """Answers the calls that are like one before: of one branch, run by one kernel.

    A call is refused, with None for an answer and nothing done, where it is not like that, and
    where only somebody with more time can say what it means: an argument of another structure, a
    guard that comes out otherwise, an index out of range, a mode of the engine that is on. So it is
    where another contest is to show whether the interpreter has become the quicker.
    `flipped` is the first guard that came out otherwise in the latest call, -1 if none was asked
    or did.

    The result is built from the outputs as `result` describes it, or `answer` makes it from a copy
    of them; without both it is output 0, its sum over the examples, or with `mean` their mean.
    """

    variant: Any
    rows: Any
    kernel: Any
    purpose: Any
    filler: Any
    program: Any
    answer: Any
    builder: Builder
    outputs: Any
    slopes: list
    spread: Any
    several: cython.bint
    rounded: list
    returned: list
    shared: cython.double[::1]
    own: cython.double[::1]
    gradients: Any
    mirror: Mirror
    code: Code
    environment: cython.size_t
    slots: cython.size_t[::1]
    place: cython.size_t
    given: cython.double[:, ::1]
    scalars: cython.double[::1]
    results: cython.double[:, ::1]
    expected: cython.double[::1]
    integers: cython.Py_ssize_t[::1]
    ranges: cython.Py_ssize_t[::1]
    lengths: cython.double[::1]
    selecting: cython.int[::1]
    index: cython.longlong[::1]
    indices: cython.longlong[:, ::1]
    rest: cython.longlong[::1]
    seed: cython.double
    mean: cython.bint
    flipped: cython.Py_ssize_t

    def __init__(
        self,
        filler: Filler,
        rows: Floats,
        variant: Variant,
        kernel: Kernel,
        mean: bool,
        result: Signature | None,
        answer: Callable[[Floats], Any] | None,
    ) -> None:
        self.filler, self.rows, self.variant, self.answer = filler, rows, variant, answer
        self.kernel, self.purpose, self.program = kernel, kernel.purpose, variant.program
        self.mirror = variant.mirror
        self.code, self.environment = kernel.frame.program.code, kernel.frame.address
        arrays = kernel.frame.arrays
        self.slots = kernel.frame.environment.data
        self.given, self.place = rows.data, 0
        self.rounded, self.returned = [], []
        if kernel.frame.program.dtype == np.float64:
            if arrays[Space.ARGUMENT].size:
                kernel.frame.bind(Space.ARGUMENT, rows[0])
            if arrays[Space.EXAMPLE].size:
                kernel.frame.bind(Space.EXAMPLE, rows)
                self.place = self.slots[EXAMPLE]
        else:
            self._round(rows[0], arrays[Space.ARGUMENT])
            self._round(rows, arrays[Space.EXAMPLE])
            self._round(self.program.parameters, arrays[Space.PARAMETER])
            self._round(self.program.gradient, arrays[Space.PARAMETER_GRADIENT], True)
        self.scalars = self._wide(arrays[Space.SCALAR]).data
        self.outputs = self._wide(kernel.outputs, True)
        self.results = self.outputs.data
        shared = self._wide(arrays[Space.ARGUMENT_GRADIENT], True)
        own = self._wide(arrays[Space.EXAMPLE_GRADIENT], True)
        self.shared, self.own = shared.data, own.reshape(-1).data
        self.gradients = shared[None], own if own.size else shared[None]
        self.slopes, self.several, self.spread = [], False, None
        self.builder = None if result is None else Builder(result, self.outputs, 0, False)
        self.expected = variant.expected.data
        self.integers = variant.integers.data
        self.ranges, self.lengths = variant.selecting.data, variant.lengths.data
        self.selecting = variant.trace.indices[variant.trace.indices >= 0].data
        self.index = arrays[Space.INDEX].data
        self.indices = arrays[Space.EXAMPLE_INDEX].data
        self.rest = array("q", [FOREVER]) if kernel.contest is None else kernel.contest.rest
        self.seed = 1.0 / len(rows) if mean else 1.0
        self.mean, self.flipped = mean, -1

    def differentiate(self, wrt: Any, layout: Layout, spread: Callable[[], Any]) -> None:
        """Have `value_and_grad` give the gradient with respect to `wrt`.

        `wrt` is as the caller said it, and right. `spread` makes the gradient with respect to the
        parameters from that of this branch, `program.gradient`.
        """
        shared, own = self.gradients
        self.several, self.spread = isinstance(wrt, tuple), spread
        for x in wrt if self.several else (wrt,):
            if x == "parameters":
                self.slopes.append(None)
                continue
            part = layout.call.positional[x]
            self.slopes.append(Builder(part, shared, layout.columns[x].start, True, own))

    @cython.ccall
    @cython.exceptval(-1, check=False)
    def follows(self, other: Launch) -> cython.bint:
        """Whether its branch goes the other way where the other one's first went wrong."""
        k: cython.Py_ssize_t
        if self.filler is not other.filler or len(self.expected) <= other.flipped:
            return False
        for k in range(other.flipped):
            if self.expected[k] != other.expected[k]:
                return False
        return self.expected[other.flipped] != other.expected[other.flipped]

    @cython.ccall
    def value(self, args: tuple[Any, ...]) -> Any:
        """The result."""
        return self._answer() if self._fill(args) and self._run() else None

    @cython.ccall
    def value_and_grad(self, args: tuple[Any, ...]) -> Any:
        """The result and the gradient."""
        k: cython.Py_ssize_t
        if not self._fill(args):
            return None
        for k in range(len(self.mirror.grad)):
            self.mirror.grad[k] = 0.0
        for k in range(len(self.shared)):
            self.shared[k] = 0.0
        for k in range(len(self.own)):
            self.own[k] = 0.0
        return (self._answer(), self._gradient()) if self._run() else None

    @cython.ccall
    def backward(self, args: tuple[Any, ...]) -> Any:
        """The result; its gradient is added to what the parameters have in `grad`."""
        if not self._fill(args):
            return None
        self.mirror.read_grad()
        if not self._run():
            return None
        self.mirror.write_grad()
        return self._answer()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _fill(self, args: tuple[Any, ...]) -> cython.bint:
        """Put arguments and parameters where the code reads them, if it may answer the call."""
        b: cython.Py_ssize_t
        k: cython.Py_ssize_t
        number: cython.double
        self.flipped = -1
        if watch.blocks or self.rest[0] <= 0 or self.filler.fill(args) is not self.rows:
            return False
        if self.place and self.slots[EXAMPLE] != self.place:
            return False  # somebody lent the kernel other rows meanwhile
        for b in range(len(self.given)):
            for k in range(len(self.integers)):
                if not -EXACT <= self.given[b, self.integers[k]] <= EXACT:
                    return False
            for k in range(len(self.ranges)):
                if not 0.0 <= self.given[b, self.ranges[k]] < self.lengths[k]:
                    return False
        for k in range(len(self.selecting)):
            if len(self.index):
                number = self.given[0, self.selecting[k]]
                self.index[self.selecting[k]] = cython.cast(cython.longlong, number)
            if self.indices.shape[1]:
                for b in range(len(self.indices)):
                    number = self.given[b, self.selecting[k]]
                    self.indices[b, self.selecting[k]] = cython.cast(cython.longlong, number)
        if len(self.scalars):
            self.scalars[FIRST] = self.seed
        self.mirror.read()
        return True

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _run(self) -> cython.bint:
        """Run the code; whether its branch is the one that answers."""
        b: cython.Py_ssize_t
        k: cython.Py_ssize_t
        numbers: Narrow
        first: cython.Py_ssize_t = self.results.shape[1] - len(self.expected)
        for numbers in self.rounded:
            numbers.put()
        self.code.launch(self.environment)
        for numbers in self.returned:
            numbers.take()
        for k in range(len(self.expected)):
            for b in range(len(self.results)):
                if self.results[b, first + k] != self.expected[k]:
                    self.flipped = k
                    return False
        self.rest[0] -= 1
        self.program.latest = self.purpose
        return True

    @cython.cfunc
    def _answer(self) -> Any:
        b: cython.Py_ssize_t
        if self.builder is not None:
            return self.builder.build()
        if self.answer is not None:
            return self.answer(self.outputs.copy())
        # From left to right, as `functional.total` adds.
        total: cython.double = self.results[0, 0]
        for b in range(1, len(self.results)):
            total += self.results[b, 0]
        return total / len(self.results) if self.mean else total

    @cython.cfunc
    def _gradient(self) -> Any:
        if self.several:
            return tuple([self._slope(x) for x in self.slopes])
        return self._slope(self.slopes[0])

    @cython.cfunc
    def _slope(self, builder: Builder | None) -> Any:
        return self.spread() if builder is None else builder.build()

    # --- float32 -----------------------------------------------------------------------------

    def _wide(self, array: NDArray[Any], written: bool = False) -> Floats:
        """The code's array, or its numbers in float64 where it has float32."""
        if array.dtype == np.float64:
            return array
        wide = array.astype(np.float64)
        self._round(wide, array, written)
        return wide

    def _round(self, wide: Floats, narrow: NDArray[Any], written: bool = False) -> None:
        """Have each run round numbers for the code; and take them back if it wrote them."""
        if narrow.size:
            numbers = Narrow(wide.reshape(-1).data, narrow.reshape(-1).data)
            self.rounded.append(numbers)
            if written:
                self.returned.append(numbers)
