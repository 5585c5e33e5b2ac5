"""The native back end: a trace's Loops as machine code, with the interpreter until it is there.

The interpreter can answer at once and native code is quick; in exact mode they give the same
bits. So the first calls are interpreted while a thread compiles, and nobody can see the switch.
What is long is compiled twice, to a draft first and then well: no switch can be seen there, either.
There is one piece of code for each purpose (outputs, gradients with respect to what) and each
number of examples.
"""

from __future__ import annotations

import functools
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import native
from .background import Coming, later
from .contest import Contest
from .image import name_of
from .marks import Batch, marks_of_trace
from .native import Frame, NativeProgram
from .program import Interpreter, Options
from .spaces import BATCH, SEED, Space
from .stats import Stats
from .structure import Floats
from .trace import Trace

if TYPE_CHECKING:
    from .loops import Loops

# How many nodes the interpreter visits before compiling is taken to be worth it: what it does in
# some milliseconds. A function that is called once or twice is not worth a compilation.
PATIENCE = 2_000_000
CALL = 50  # what every call counts for on top: code is called the quicker, too
VISIT = 3e-9  # seconds, about, that the interpreter takes for a node, there and back
# Where the interpreter has the numbers of the code, it answers while that is being compiled.
TIERED = ("float64",)
LENT = 1 << 14  # bytes of arguments that are read where they are rather than copied
KEPT = 16  # pieces of code of one program: numbers of examples differ from call to call


class Purpose(NamedTuple):
    """What a piece of code computes: outputs, and perhaps gradients, for so many examples."""

    examples: int
    wanted: tuple[Space, ...]


class Kernel(NamedTuple):
    """A piece of code and the memory it runs in."""

    purpose: Purpose
    frame: Frame
    rolling: Stats  # filled in once the loops are found
    seconds: float  # until the code could be run
    contest: Contest | None = None  # where the interpreter may be quicker

    @property
    def answers(self) -> bool:
        """Whether it answers all calls, until the next contest if there is one."""
        return self.contest is None or self.contest.won

    @property
    def loops(self) -> Loops:
        """The program, which is found now if its code came from the cache."""
        return self.frame.program.loops

    @property
    def stats(self) -> Stats:
        """How the program was found."""
        assert self.loops
        return self.rolling

    @property
    def outputs(self) -> NDArray[Any]:
        """The outputs of the latest run, a row for each example."""
        space = Space.OUTPUT if self.purpose.examples == 1 else Space.EXAMPLE_OUTPUT
        return self.frame.arrays[space].reshape(self.purpose.examples, -1)

    @property
    def lends(self) -> bool:
        """Whether it reads the caller's own array, where a copy would be more work.

        That depends on the size alone: a lent array is never copied into.
        """
        return self.frame.arrays[Space.EXAMPLE].nbytes >= LENT


class Native:
    """See `program.Program`; runs what `roll` finds in the trace."""

    def __init__(self, trace: Trace, options: Options) -> None:
        self.trace, self._options = trace, options
        self.interpreter = Interpreter(trace, options)
        self.parameters: Floats = self.interpreter.parameters
        self.gradient: Floats = self.interpreter.gradient
        self._kernels: OrderedDict[Purpose, Coming[Kernel]] = OrderedDict()
        self._visited = 0
        self.latest: Purpose | None = None
        self._recent: Kernel | None = None  # found again without a look at all there are
        self._tiered = options.dtype in TIERED
        slots = np.flatnonzero(trace.indices >= 0)
        self.selecting = trace.indices[slots]
        self._lengths = trace.lengths[slots]

    def forward(self, rows: Floats) -> Floats:
        """See `Program.forward`."""
        return self._answer(
            Purpose(len(rows), ()),
            lambda: self.interpreter.forward(rows),
            lambda kernel: self._run(kernel, rows),
        )

    def backward(self, rows: Floats, seed: float, argument_gradient: Floats | None) -> Floats:
        """See `Program.backward`."""
        wanted: tuple[Space, ...] = (Space.PARAMETER,) if len(self.parameters) else ()
        if argument_gradient is not None:
            wanted += (Space.ARGUMENT,) if len(rows) == 1 else (Space.ARGUMENT, Space.EXAMPLE)
        return self._answer(
            Purpose(len(rows), wanted),
            lambda: self.interpreter.backward(rows, seed, argument_gradient),
            lambda kernel: self._differentiate(kernel, rows, seed, argument_gradient),
        )

    def wait(self) -> Kernel | None:
        """The code for the purpose of the last call, compiled now if need be; None before one."""
        if self.latest is None:
            return None
        if self.latest not in self._kernels:
            self._visited = PATIENCE
            self._kernel(self.latest)
        return self._kernels[self.latest].result()

    def ready(self) -> Kernel | None:
        """The code for the purpose of the last call, if it is compiled."""
        if self._recent is not None and self._recent.purpose == self.latest:
            return self._recent
        coming = None if self.latest is None else self._kernels.get(self.latest)
        return coming.result() if coming is not None and coming.done() else None

    # --- running -----------------------------------------------------------------------------------

    def _answer(
        self,
        purpose: Purpose,
        interpreted: Callable[[], Floats],
        run: Callable[[Kernel], Floats],
    ) -> Floats:
        """What a call is answered with, by whoever is there, and of two by the quicker."""
        kernel = self._kernel(purpose)
        if kernel is None:
            return interpreted()
        contest = kernel.contest
        if contest is None or contest.code:
            return run(kernel)
        return contest.timed(interpreted)

    def _differentiate(
        self, kernel: Kernel, rows: Floats, seed: float, argument_gradient: Floats | None
    ) -> Floats:
        arrays = kernel.frame.arrays
        if kernel.frame.program.size(Space.SCALAR):
            arrays[Space.SCALAR][SEED] = seed
        self._give(kernel, Space.PARAMETER_GRADIENT, self.gradient)
        if argument_gradient is not None:
            self._give(kernel, Space.ARGUMENT_GRADIENT, argument_gradient[0])
            self._give(kernel, Space.EXAMPLE_GRADIENT, argument_gradient)
        outputs = self._run(kernel, rows)
        self._take(kernel, Space.PARAMETER_GRADIENT, self.gradient)
        if argument_gradient is not None:
            self._take(kernel, Space.EXAMPLE_GRADIENT, argument_gradient)
            if Space.ARGUMENT_GRADIENT in arrays:
                own = self.trace.shared | (len(rows) == 1)
                argument_gradient[0, own] = arrays[Space.ARGUMENT_GRADIENT][own]
        return outputs

    def _run(self, kernel: Kernel, rows: Floats) -> Floats:
        self._give(kernel, Space.PARAMETER, self.parameters)
        self._give(kernel, Space.ARGUMENT, rows[0])
        self._lend(kernel, rows)
        if len(self.selecting):
            chosen = rows[:, self.selecting]
            # What is out of range selects the first candidate: memory has no other answer.
            inside = np.where((chosen >= 0.0) & (chosen < self._lengths), chosen, 0.0)
            # The arguments that select nothing are zeros there, and nobody reads them.
            for space, integers in ((Space.INDEX, inside[0]), (Space.EXAMPLE_INDEX, inside)):
                array = kernel.frame.arrays[space]
                if array.size:
                    array[..., self.selecting] = integers
        if kernel.contest is None:
            kernel.frame.run()
        else:
            kernel.contest.timed(kernel.frame.run)
        return kernel.outputs.astype(np.float64)

    def _lend(self, kernel: Kernel, rows: Floats) -> None:
        """Put the rows into the space of the examples, or them into its place."""
        array = kernel.frame.arrays[Space.EXAMPLE]
        if not kernel.lends or array.dtype != rows.dtype:
            self._give(kernel, Space.EXAMPLE, rows)
        elif array is not rows:
            kernel.frame.bind(Space.EXAMPLE, np.ascontiguousarray(rows))

    def _give(self, kernel: Kernel, space: Space, numbers: NDArray[Any]) -> None:
        """Put numbers into a space that the program reads, unless that memory is already theirs."""
        array = kernel.frame.arrays[space]
        if array.size and array is not numbers:
            array[...] = numbers

    def _take(self, kernel: Kernel, space: Space, numbers: Floats) -> None:
        array = kernel.frame.arrays[space]
        if array.size and array is not numbers:
            numbers[...] = array

    # --- compiling ---------------------------------------------------------------------------------

    def _kernel(self, purpose: Purpose) -> Kernel | None:
        """The code for a purpose; None while it is not worth it, or being compiled."""
        self.latest = purpose
        if self._recent is not None and self._recent.purpose == purpose:
            return self._recent
        coming = self._kernels.get(purpose)
        if coming is None:
            if self._tiered:
                self._visited += CALL + len(self.trace.tape) * purpose.examples
                if self._visited < PATIENCE:
                    return None
            coming = self._kernels[purpose] = later(functools.partial(self._compile, purpose))
            if len(self._kernels) > KEPT:
                self._kernels.popitem(last=False)
        else:
            self._kernels.move_to_end(purpose)
        if self._tiered and not coming.done_within(self._share(purpose)):
            return None
        self._recent = coming.result()
        return self._recent

    def _share(self, purpose: Purpose) -> float:
        """Seconds a call leaves to the compiler, which stands still while it is interpreted."""
        return len(self.trace.tape) * purpose.examples * VISIT

    def _compile(self, purpose: Purpose) -> Kernel:
        trace, options, stats = self.trace, self._options, Stats()
        batch: Batch = None if purpose.examples == 1 else "each"
        marks = marks_of_trace(trace, batch, purpose.wanted, accumulate=True)
        settings = (None if batch is None else purpose.examples, options.mode, options.dtype)
        name = name_of(trace.tape, marks, settings)

        def found() -> Loops:
            from .roll import roll  # and with it the analysis, which code from the cache spares

            return roll(trace.tape, marks, lines=trace.lines, stats=stats)

        program = native.recall(name, found, *settings, quick=self._tiered)
        if program.draft:
            later(functools.partial(_improve, weakref.ref(program)))
        frame = program.frame()
        if program.size(Space.SCALAR):
            scalars = np.ones(program.size(Space.SCALAR), program.dtype)
            scalars[BATCH] = purpose.examples
            frame.bind(Space.SCALAR, scalars)
        if options.dtype == "float64":
            for space, array in (
                (Space.PARAMETER, self.parameters),
                (Space.PARAMETER_GRADIENT, self.gradient),
            ):
                if program.size(space):
                    frame.bind(space, array)
        # Where they may differ, who is quicker shall not decide on the answers.
        same = self._tiered and options.mode == "exact"
        contest = Contest() if same and program.image.walked else None
        return Kernel(purpose, frame, stats, sum(program.seconds.values()), contest)


def _improve(program: weakref.ref[NativeProgram]) -> None:
    """Compile a draft well, if anybody still has it."""
    found = program()
    if found is not None:
        found.improve()
