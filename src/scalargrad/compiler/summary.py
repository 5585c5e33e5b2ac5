"""A trace in words."""

from __future__ import annotations

import numpy as np

from .loops import Loops, Walk, work
from .program import Options
from .structure import describe
from .trace import Trace

_RUNNERS = {
    "llvm": "native code (LLVM)",
    "interpreter": "the interpreter",
    "jax": "XLA, through JAX",
}


def rolled(loops: Loops, examples: int) -> float:
    """The share of the work that is in loop nests rather than in code without structure."""
    amounts = [(work(step, examples), step) for step in loops.instructions]
    total = sum(amount for amount, _ in amounts)
    return sum(amount for amount, step in amounts if not isinstance(step, Walk)) / max(total, 1)


def summary(name: str, trace: Trace, options: Options) -> str:
    """A trace in words: its sizes, operations, source lines and guards."""
    tape = trace.tape
    sizes = (
        f"  {len(trace.parameters)} parameters, {int((trace.arguments >= 0).sum())} of "
        f"{len(trace.arguments)} arguments, {len(trace.constants)} constants, "
        f"{trace.results} results: {describe(trace.outputs)}"
    )
    rows = [
        f"{name}: {len(tape)} nodes, depth {tape.depth()}, run by {_RUNNERS[options.backend or '']}",
        sizes,
        "operations",
    ]
    rows += [f"  {count:>8}  {op}" for op, count in tape.op_counts().items()]
    lines = trace.lines.frequent(np.arange(len(tape), dtype=np.int32), 20)
    if lines:
        rows += ["source lines", *(f"  {count:>8}  {line}" for line, count in lines)]
    if trace.guards:
        rows.append("guards: where one of these differs, another branch is traced")
        rows += [f"  {guard.outcome!s:>8}  {guard.text} at {guard.line}" for guard in trace.guards]
    return "\n".join(rows)
