"""A trace in words."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .loops import Loops, Walk, work
from .structure import describe
from .trace import Trace

_RUNNERS = {
    "llvm": "native code (LLVM)",
    "interpreter": "the interpreter",
    "jax": "XLA, through JAX",
    "both": "native code (LLVM) and the interpreter in turn, until the quicker is known",
}
_OTHER = {"llvm": "interpreter", "interpreter": "llvm"}


def rolled(loops: Loops, examples: int) -> float:
    """The share of the work that is in loop nests rather than in code without structure."""
    amounts = [(work(step, examples), step) for step in loops.instructions]
    total = sum(amount for amount, _ in amounts)
    return sum(amount for amount, step in amounts if not isinstance(step, Walk)) / max(total, 1)


def runner(answers: str, seconds: Mapping[str, float] | None) -> str:
    """Who answers calls, and why if there was a contest: the seconds that calls then took."""
    text = _RUNNERS[answers]
    if answers not in _OTHER or seconds is None:
        return text
    other = _OTHER[answers]
    return (
        f"{text}: {1e6 * seconds[answers]:.4g} us a call when last compared, "
        f"{_RUNNERS[other]} {1e6 * seconds[other]:.4g} us"
    )


def summary(name: str, trace: Trace, runner: str) -> str:
    """A trace in words: its sizes, who answers, operations, source lines and guards."""
    tape = trace.tape
    sizes = (
        f"  {len(trace.parameters)} parameters, {int((trace.arguments >= 0).sum())} of "
        f"{len(trace.arguments)} arguments, {len(trace.constants)} constants, "
        f"{trace.results} results: {describe(trace.outputs)}"
    )
    rows = [
        f"{name}: {len(tape)} nodes, depth {tape.depth()}, run by {runner}",
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
