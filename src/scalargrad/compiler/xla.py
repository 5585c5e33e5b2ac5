"""The JAX back end: a trace's Loops as a function of arrays, which XLA compiles.

There is one function for each purpose (outputs, gradients with respect to what, with a batch or
without), and XLA compiles it for each number of examples. Numbers are float64 in here whatever
JAX is told elsewhere, and JAX's settings stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import jax as library
from .arrays import run
from .jax import Array, enable_x64, jax, jnp
from .loops import Loops, Space
from .marks import GRADIENT, marks_of_trace
from .program import Options
from .roll import roll
from .structure import Floats
from .trace import Trace


def found(trace: Trace, batched: bool, wanted: tuple[Space, ...]) -> Loops:
    """The program of a trace: its outputs, of each example, and the gradients wanted."""
    marks = marks_of_trace(trace, "each" if batched else None, wanted)
    # XLA knows all shapes when it compiles: turns that grow would each have code of their own, ten
    # times as much as a walk.
    return roll(trace.tape, marks, lines=trace.lines, grow=False)


def wanted_of(trace: Trace, batched: bool, arguments: bool) -> tuple[Space, ...]:
    """With respect to what gradients are asked for: parameters, and perhaps the arguments."""
    own = (Space.ARGUMENT, Space.EXAMPLE) if batched else (Space.ARGUMENT,)
    return ((Space.PARAMETER,) if len(trace.parameters) else ()) + (own if arguments else ())


def evaluate(
    loops: Loops, parameters: Array, rows: Array, indices: Array, seed: Any
) -> dict[Space, Array]:
    """Outputs and gradients, [examples or 1, size]: of parameters [p] and rows [examples, m].

    `indices`, integers of the shape of the rows, has those arguments that select. Gradients are
    those of seed * sum over the examples of output 0.
    """
    examples, dtype = len(rows), rows.dtype
    inputs = {
        Space.PARAMETER: parameters[None].astype(dtype),
        Space.ARGUMENT: rows[:1],
        Space.EXAMPLE: rows,
        Space.INDEX: indices[:1],
        Space.EXAMPLE_INDEX: indices,
        Space.SCALAR: jnp.asarray([seed, examples], dtype)[None],
    }
    parts = {space: [x] for space, x in inputs.items()}
    results = run(loops, parts, examples, dtype, library)
    if not loops.batched:  # such a program starts from 1
        own = set(GRADIENT.values())
        results = {space: seed * x if space in own else x for space, x in results.items()}
    return results


def indices_of(trace: Trace, rows: NDArray[Any]) -> NDArray[np.int32]:
    """Integers for the arguments that select: 0 for the others, and for what is out of range."""
    indices = np.zeros(rows.shape, np.int32)
    slots = np.flatnonzero(trace.indices >= 0)
    chosen = rows[:, trace.indices[slots]]
    inside = (chosen >= 0.0) & (chosen < trace.lengths[slots])
    indices[:, trace.indices[slots]] = np.where(inside, chosen, 0.0)
    return indices


@dataclass(frozen=True, slots=True)
class Code:
    """A program, and the function that runs it."""

    loops: Loops
    function: Callable[..., dict[Space, Array]]


class Xla:
    """See `program.Program`; runs what `roll` finds in the trace, by JAX."""

    def __init__(self, trace: Trace, options: Options) -> None:
        self._trace, self._dtype = trace, np.dtype(options.dtype)
        self.parameters: Floats = trace.data[: len(trace.parameters)].copy()
        self.gradient: Floats = np.zeros(len(trace.parameters))
        self._outputs = len(trace.tape.outputs)
        self._codes: dict[tuple[bool, tuple[Space, ...]], Code] = {}
        self._latest: tuple[Loops, int] | None = None

    def forward(self, rows: Floats) -> Floats:
        """See `Program.forward`."""
        return self._outputs_of(self._run(rows, (), 1.0), len(rows))

    def backward(self, rows: Floats, seed: float, argument_gradient: Floats | None) -> Floats:
        """See `Program.backward`."""
        batched = len(rows) > 1
        wanted = wanted_of(self._trace, batched, argument_gradient is not None)
        results = self._run(rows, wanted, seed)
        if Space.PARAMETER_GRADIENT in results:
            self.gradient += results[Space.PARAMETER_GRADIENT][0]
        if argument_gradient is not None:
            if Space.EXAMPLE_GRADIENT in results:
                argument_gradient += results[Space.EXAMPLE_GRADIENT]
            if Space.ARGUMENT_GRADIENT in results:
                argument_gradient[0] += results[Space.ARGUMENT_GRADIENT][0]
        return self._outputs_of(results, len(rows))

    def found(self) -> tuple[Loops, int] | None:
        """The program of the latest call, and its number of examples; None before one."""
        return self._latest

    def _outputs_of(self, results: dict[Space, NDArray[Any]], examples: int) -> Floats:
        space = Space.OUTPUT if examples == 1 else Space.EXAMPLE_OUTPUT
        none = np.empty((examples, self._outputs))
        return results.get(space, none).astype(np.float64)

    def _run(
        self, rows: Floats, wanted: tuple[Space, ...], seed: float
    ) -> dict[Space, NDArray[Any]]:
        if not self._outputs:
            return {}  # there is no program without a result
        code = self._code(len(rows) > 1, wanted)
        self._latest = code.loops, len(rows)
        indices = indices_of(self._trace, rows)
        with enable_x64(True), np.errstate(over="ignore"):  # beyond float32 is inf
            results = code.function(
                self.parameters.astype(self._dtype),
                rows.astype(self._dtype),
                indices,
                self._dtype.type(seed),
            )
            return {space: np.asarray(x) for space, x in results.items()}

    def _code(self, batched: bool, wanted: tuple[Space, ...]) -> Code:
        code = self._codes.get((batched, wanted))
        if code is None:
            loops = found(self._trace, batched, wanted)

            def function(*given: Array) -> dict[Space, Array]:
                return evaluate(loops, *given)

            code = self._codes[batched, wanted] = Code(loops, jax.jit(function))
        return code
