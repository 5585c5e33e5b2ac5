"""One traced branch of a function as a program, run on behalf of the Values that are its parameters.

Between a `Program`, which is arithmetic on arrays, and the function's caller stand the numbers of
the parameters, the guards of the branch, and the ranges in which indices must lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..replay import Mirror
from .arguments import EXACT
from .index import out_of_range
from .program import BACKENDS, Options, Program
from .structure import NUMBER, Floats, Numbers
from .trace import Traced

if TYPE_CHECKING:
    from .jit import Kernel, Purpose
    from .loops import Loops


class Variant:
    """One traced branch as a program, with what it takes to run it on behalf of its function."""

    def __init__(self, traced: Traced, options: Options, seconds: float) -> None:
        assert options.backend is not None
        self.backend = options.backend
        self.trace, self.graph, self.seconds = traced.trace, traced.graph, seconds
        self.parameters = traced.parameters
        self.program: Program = BACKENDS[options.backend].make(traced.trace, options)
        self.outcomes = tuple(guard.outcome for guard in self.trace.guards)
        self.expected = np.array(self.outcomes, np.float64)
        self.is_number = self.trace.outputs == NUMBER
        self.mirror = Mirror(
            self.parameters, self.program.parameters.data, self.program.gradient.data
        )
        self.integers = np.array(
            [k for k in self._indexlike() if self.trace.arguments[k] >= 0], np.intp
        )
        self.selecting = np.array([s.argument for s in self.trace.selections], np.intp)
        self.lengths = np.array([s.length for s in self.trace.selections], np.float64)
        # What native code gave before: gradients with respect to what, for how many examples.
        self.answered: set[tuple[Any, Purpose]] = set()
        # Whether this branch answers any call, whatever its numbers.
        self.is_unconditional = not (self.outcomes or self.trace.selections or len(self.integers))

    def _indexlike(self) -> list[int]:
        return [k for k, kind in enumerate(self.trace.kinds) if kind == "index"]

    # --- running -----------------------------------------------------------------------------

    def forward(self, rows: Floats) -> Floats:
        """The outputs, at the parameters' present numbers."""
        self.mirror.read()
        return self.program.forward(rows)

    def backward(self, rows: Floats, seed: float, out: Floats | None, accumulate: bool) -> Floats:
        """The outputs; `program.gradient` is set, or added to what the parameters have in `grad`."""
        self.mirror.read()
        if accumulate:
            self.mirror.read_grad()
        else:
            self.program.gradient[:] = 0.0
        if out is not None:
            out[:] = 0.0
        return self.program.backward(rows, seed, out)

    def result(self, outputs: Floats) -> Any:
        """What the function returned, from the outputs of a single call."""
        return outputs.item(0) if self.is_number else self.trace.outputs.build(Numbers(outputs[0]))

    def only_selects(self, columns: slice) -> bool:
        """Whether these flattened arguments are integers that select, and nothing else."""
        selecting = set(self.trace.indices.tolist())
        nodes = self.trace.arguments[columns].tolist()
        columns_used = [node < 0 and k in selecting for k, node in enumerate(nodes, columns.start)]
        return bool(columns_used) and all(columns_used)

    # --- looking -----------------------------------------------------------------------------

    def kernel(self) -> Kernel | None:
        """The native code for what was last asked for, compiled if need be; None without LLVM."""
        wait = getattr(self.program, "wait", None)
        kernel: Kernel | None = wait() if wait is not None else None
        return kernel

    def compiled(self) -> Kernel | None:
        """The native code for what was last asked for, if it is there."""
        ready = getattr(self.program, "ready", None)
        kernel: Kernel | None = ready() if ready is not None else None
        return kernel

    def answering(self) -> tuple[str, dict[str, float] | None]:
        """The back end that answers calls like the latest, or "both" in turn; and the seconds that
        a call took each when they were last compared, if they were."""
        if self.backend != "llvm":
            return self.backend, None
        kernel = self.compiled()
        if kernel is None:
            return "interpreter", None
        contest = kernel.contest
        if contest is None:
            return "llvm", None
        seconds = contest.seconds and dict(zip(("interpreter", "llvm"), contest.seconds))
        if not contest.rest[0]:
            return "both", seconds
        return "llvm" if contest.won else "interpreter", seconds

    def found(self) -> tuple[Loops, int] | None:
        """The loops for what was last asked for, and for how many examples; None without any."""
        kernel = self.kernel()
        if kernel is not None:
            return kernel.loops, kernel.purpose.examples
        found: tuple[Loops, int] | None = getattr(self.program, "found", lambda: None)()
        return found

    # --- checking ----------------------------------------------------------------------------

    def selects_outside(self, rows: Floats) -> NDArray[np.bool_] | None:
        """Which selections of which row are out of range; None if all are right."""
        if not len(self.selecting):
            return None
        chosen = rows[:, self.selecting]
        outside: NDArray[np.bool_] = (chosen < 0.0) | (chosen >= self.lengths)
        return outside if outside.any() else None

    def flipped(self, outputs: Floats) -> NDArray[np.bool_] | None:
        """Which guards of which row came out otherwise; None if all are as traced."""
        if not self.outcomes:
            return None
        wrong: NDArray[np.bool_] = outputs[:, self.trace.results :] != self.expected
        return wrong if wrong.any() else None

    def require_in_range(
        self, rows: Floats, outside: NDArray[np.bool_], wrong: NDArray[np.bool_] | None
    ) -> None:
        """Raise `IndexError` for a selection out of range that this branch really makes."""
        for b, s in np.argwhere(outside).tolist():
            selection = self.trace.selections[s]
            if wrong is None or not wrong[b, : selection.guards].any():
                k = selection.argument
                example = f" in example {b}" if len(rows) > 1 else ""
                raise out_of_range(self.trace.names[k], int(rows[b, k]), selection.length, example)

    def require_exact(self, rows: Floats) -> None:
        """Raise `ValueError` for an integer that is used as a number and is not one exactly."""
        if not len(self.integers):
            return
        for b, j in np.argwhere(np.abs(rows[:, self.integers]) > EXACT).tolist():
            k = self.integers[j]
            raise ValueError(
                f"{self.trace.names[k]}: expected an integer of at most 2^53, as float64 has "
                f"them, got about {rows[b, k]:g}: pass a float if rounding is meant"
            )
