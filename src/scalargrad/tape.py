"""The tape: a graph as arrays, what every later stage reads.

Nodes are numbered from 0: first the leaves, then the results, each in creation order. So an
operand always comes before its result, and running the results upwards evaluates the graph,
running them downwards is the engine's backward order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from . import ops


@dataclass(frozen=True, slots=True)
class Tape:
    """The instructions of a graph of n nodes.

    op        uint8[n]     code in `ops.TABLE`; 0 for the first `leaves` nodes
    lhs, rhs  int32[n]     the operands, as node numbers; -1 where there is none
    const     float64[]    exponents and slopes: node i of `pow` or `leaky_relu` has const[rhs[i]]
    many      int32[]      the operands of results with a list of them, from many[lhs[i]] on:
                           `where`: condition, a, b; rhs[i] is 3
                           `take`: a slot, then where in many its rhs[i] candidates begin;
                           index[slot] selects one. Several may have the same candidates
    index     int64[]      the selected candidate of each `take`; slots may be shared
    outputs   int32[]      node numbers of the outputs
    """

    leaves: int
    op: NDArray[np.uint8]
    lhs: NDArray[np.int32]
    rhs: NDArray[np.int32]
    const: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    many: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    index: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    outputs: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    def __len__(self) -> int:
        return len(self.op)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        arrays = (self.op, self.lhs, self.rhs, self.const, self.many, self.index, self.outputs)
        return sum(array.nbytes for array in arrays)

    def operands(self, i: int) -> tuple[int, ...]:
        """The operands of node i, as node numbers, in order."""
        code, a, b = int(self.op[i]), int(self.lhs[i]), int(self.rhs[i])
        if code == ops.LEAF:
            return ()
        if code == ops.TAKE:
            start = int(self.many[a + 1])
            return tuple(self.many[start : start + b].tolist())
        if code == ops.WHERE:
            return tuple(self.many[a : a + 3].tolist())
        return (a,) if ops.BY_CODE[code].arity == 1 else (a, b)

    def constant(self, i: int) -> float:
        """The exponent, slope or index of node i; 0.0 for an op without one."""
        code = int(self.op[i])
        if code == ops.TAKE:
            return float(self.index[self.many[self.lhs[i]]])
        if code != ops.LEAF and ops.BY_CODE[code].constant:
            return float(self.const[self.rhs[i]])
        return 0.0

    def depth(self) -> int:
        """The longest path from a leaf to a result, counted in operations."""
        level = [0] * len(self)
        lhs, rhs, codes = self.lhs.tolist(), self.rhs.tolist(), self.op.tolist()
        for i in range(self.leaves, len(self)):
            arity = ops.BY_CODE[codes[i]].arity
            if arity == 1:
                level[i] = level[lhs[i]] + 1
            elif arity == 2:
                level[i] = max(level[lhs[i]], level[rhs[i]]) + 1
            else:
                level[i] = max(level[j] for j in self.operands(i)) + 1
        return max(level, default=0)

    def op_counts(self) -> dict[str, int]:
        """How many results each operation has, most frequent first."""
        codes, counts = np.unique(self.op[self.leaves :], return_counts=True)
        pairs = sorted(zip(counts.tolist(), codes.tolist()), key=lambda pair: (-pair[0], pair[1]))
        return {ops.BY_CODE[code].name: count for count, code in pairs}

    def line(self, i: int, name: Callable[[int], str]) -> str:
        """Node i as text, `name` giving the names of nodes: `v7 = v3 * v5`."""
        if i < self.leaves:
            return name(i)
        shown = [name(j) for j in self.operands(i)]
        row = ops.BY_CODE[int(self.op[i])]
        text = row.text.format(
            *shown, c=ops.constant_text(self.constant(i)), operands=", ".join(shown)
        )
        return f"{name(i)} = {text}"


def tape_of(
    leaves: int,
    instructions: Sequence[tuple[int, int, int]],
    const: Sequence[float] = (),
    many: Sequence[int] = (),
    index: Sequence[int] = (),
    outputs: Sequence[int] = (),
) -> Tape:
    """A tape from (op, lhs, rhs) of each result; handy for passes and tests."""
    n = leaves + len(instructions)
    op, lhs, rhs = np.zeros(n, np.uint8), np.full(n, -1, np.int32), np.full(n, -1, np.int32)
    if instructions:
        op[leaves:], lhs[leaves:], rhs[leaves:] = zip(*instructions)
    return Tape(
        leaves,
        op,
        lhs,
        rhs,
        np.array(const, np.float64),
        np.array(many, np.int32),
        np.array(index, np.int64),
        np.array(outputs, np.int32),
    )
