"""`Graph`: everything some outputs depend on, frozen as arrays, to be run again.

A Value graph is made anew by every run of a program. Where the program does the same operations
each time, capture it once and replay it: the order is found once and no node is made.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import copies, replay, watch
from .capture import capture
from .coerce import real, shown
from .engine import Value
from .errors import ShapeError, StaleGraphError
from .lines import Lines
from .tape import Tape


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a graph, seen from outside.

    `number` is its place in the graph, `operands` the places of its operands, `line` the file and
    line that made it, where that was recorded ("" otherwise).
    """

    number: int
    op: str
    operands: tuple[int, ...]
    value: Value
    line: str

    @property
    def label(self) -> str:
        """The label of the Value."""
        return self.value.label


SHOWN = 100  # lines of a long graph that are printed from each end


class _Buffers:
    """What replaying needs and capturing does not: numbers, gradients, versions of the leaves."""

    __slots__ = ("data", "grad", "replay", "versions")

    def __init__(self, tape: Tape) -> None:
        self.data = np.empty(len(tape))
        self.grad = np.zeros(len(tape))
        self.versions = np.empty(tape.leaves, np.uint64)
        self.replay = replay.Replay(tape, self.data.data, self.grad.data)

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + self.grad.nbytes + self.versions.nbytes


class Graph:
    """The graph of one output, or of several, captured once.

        >>> x = Value(3.0)
        >>> g = Graph(x**2 + 1.0)
        >>> x.data = 4.0
        >>> g.forward()
        17.0
        >>> g.backward()
        >>> x.grad
        8.0

    Results are those of running the program again on Values, bit for bit, as long as the program
    would do the same operations: a Python `if` on a number is not part of the graph.

    `nodes` are its Values in creation order, leaves first, and `tape` their operations as arrays.
    `lines` gives the source line of nodes by creation number. Results whose creation number is
    below `since` are taken as leaves, so a graph can start in the middle of a computation.
    """

    __slots__ = ("_buffers", "_single", "lines", "nodes", "tape")

    tape: Tape
    nodes: list[Value]
    lines: Mapping[int, str] | Lines

    def __init__(
        self,
        outputs: Value | Sequence[Value],
        lines: Mapping[int, str] | Lines | None = None,
        since: int = 0,
    ) -> None:
        self._single = isinstance(outputs, Value)
        if not isinstance(outputs, Value | Sequence):
            raise TypeError(
                f"outputs: expected a Value or a sequence of Values, got {shown(outputs)}"
            )
        roots = [outputs] if isinstance(outputs, Value) else list(outputs)
        for i, root in enumerate(roots):
            if not isinstance(root, Value):
                raise TypeError(
                    f"outputs: expected a Value or a sequence of Values, got {shown(root)} at "
                    f"position {i}"
                )
        if not roots:
            raise ValueError("outputs: expected at least one Value, got none")
        self.nodes, self.tape = capture(roots, since)
        self.lines = {} if lines is None else lines
        self._buffers: _Buffers | None = None

    # --- replaying -------------------------------------------------------------------------------

    def forward(self) -> float | tuple[float, ...]:
        """Evaluate again from the leaves' present data; every Value gets its new data.

        Returns the output's number, or a tuple of them if the graph was made of several outputs.
        """
        watch.read(self.nodes[-1], "Graph.forward()")
        if self._buffers is None:
            self._buffers = _Buffers(self.tape)
        buffers = self._buffers
        replay.read_leaves(self.nodes, buffers.data.data, buffers.versions.data)
        buffers.replay.forward()
        replay.write_results(self.nodes, self.tape.leaves, buffers.data.data)
        numbers = buffers.data[self.tape.outputs].tolist()
        return float(numbers[0]) if self._single else tuple(numbers)

    def backward(self, seeds: Sequence[float] | None = None) -> None:
        """Add d(output)/d(leaf) to the `grad` of every leaf, as `Value.backward` does.

        The gradients of the results are set afresh. For several outputs the gradient is that of
        sum(seed * output), seeds 1.0 unless given. Raises `StaleGraphError` if the data of a leaf
        was written since the last `forward()`, and `ShapeError` for a wrong number of seeds.
        """
        watch.read(self.nodes[-1], "Graph.backward()")
        if self._buffers is None:
            self.forward()
        assert self._buffers is not None
        buffers, grad = self._buffers, self._buffers.grad
        changed = replay.changed_leaf(self.nodes, buffers.versions.data)
        if changed >= 0:
            leaf = self.nodes[changed]
            raise StaleGraphError(
                f"backward: leaf {changed} of the graph ({leaf.label or 'no label'}, now "
                f"{leaf.data!r}) was written after the last forward(): call forward() first"
            )
        outputs = self.tape.outputs.tolist()
        if seeds is None:
            seeds = [1.0] * len(outputs)
        if not isinstance(seeds, Sequence | np.ndarray):
            raise TypeError(f"seeds: expected a number for each output, got {shown(seeds)}")
        seeds = [real(seed, f"seeds[{k}]") for k, seed in enumerate(seeds)]
        if len(seeds) != len(outputs):
            raise ShapeError(f"seeds: expected one per output ({len(outputs)}), got {len(seeds)}")
        leaves = self.tape.leaves
        replay.read_grad(self.nodes, leaves, grad.data)
        grad[leaves:] = 0.0
        for place, seed in zip(outputs, seeds):
            grad[place] += seed
        buffers.replay.backward()
        replay.write_grad(self.nodes, grad.data)

    def zero_grad(self) -> None:
        """Set the gradient of every node to 0.0."""
        replay.write_grad(self.nodes, np.zeros(len(self.nodes)).data)

    # --- looking -----------------------------------------------------------------------------------

    @property
    def leaves(self) -> tuple[Value, ...]:
        """The Values the graph starts from, in creation order: parameters, inputs, constants."""
        return tuple(self.nodes[: self.tape.leaves])

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The Values the graph was captured from."""
        return tuple(self.nodes[i] for i in self.tape.outputs.tolist())

    @property
    def depth(self) -> int:
        """The longest path from a leaf to an output, counted in operations."""
        return self.tape.depth()

    @property
    def nbytes(self) -> int:
        """Bytes this graph adds to the Values themselves."""
        buffers = 0 if self._buffers is None else self._buffers.nbytes
        return self.tape.nbytes + buffers + 8 * len(self.nodes)

    def op_counts(self) -> dict[str, int]:
        """How many results each operation has, most frequent first."""
        return self.tape.op_counts()

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        for i, value in enumerate(self.nodes):
            operands = self.tape.operands(i)
            yield Node(i, value.op, operands, value, self.lines.get(value.number, ""))

    # --- copies ------------------------------------------------------------------------------------

    def __copy__(self) -> Graph:
        return _graph(self.nodes, self.tape, self._single, self._lines())

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        nodes = copy.deepcopy(self.nodes, memo)
        return _graph(nodes, self.tape, self._single, self._lines())

    def __reduce__(self) -> tuple[Any, ...]:
        # The nodes in one record: each by itself would bring everything it depends on.
        packed = copies.packed(self.nodes, self.tape.leaves)
        return _unpickled, (packed, self.tape, self._single, self._lines())

    def _lines(self) -> list[str]:
        """The source line of each node, empty if none was recorded: copies have new numbers."""
        return [self.lines.get(v.number, "") for v in self.nodes] if self.lines else []

    def __repr__(self) -> str:
        return (
            f"Graph({len(self)} nodes, {self.tape.leaves} leaves, {len(self.tape.outputs)} "
            f"output{'s' if len(self.tape.outputs) > 1 else ''})"
        )

    def __str__(self) -> str:
        outputs = set(self.tape.outputs.tolist())
        count = len(self)
        numbers = range(count)
        if count > 2 * SHOWN:
            numbers = [*range(SHOWN), *range(count - SHOWN, count)]  # type: ignore[assignment]
        labels = Counter(value.label for value in self.nodes)

        def name(i: int) -> str:
            label = self.nodes[i].label
            return label if label and labels[label] == 1 else f"{label}#{i}" if label else f"v{i}"

        text = [self.tape.line(i, name) for i in numbers]
        width = min(max(map(len, text)), 60)
        rows = []
        for i, line in zip(numbers, text):
            value = self.nodes[i]
            note = "  output" if i in outputs else ""
            where = self.lines.get(value.number, "")
            rows.append(f"{line:<{width}}  # {value.data:.6g}{note}  {where}".rstrip())
        if count > 2 * SHOWN:
            rows.insert(SHOWN, f"... {count - 2 * SHOWN:,} more ...")
        return "\n".join(rows)


def _graph(nodes: list[Value], tape: Tape, single: bool, lines: Sequence[str]) -> Graph:
    graph = object.__new__(Graph)
    graph.nodes, graph.tape, graph._single, graph._buffers = nodes, tape, single, None
    graph.lines = {v.number: line for v, line in zip(nodes, lines) if line}
    return graph


def _unpickled(packed: tuple[Any, Any], tape: Tape, single: bool, lines: Sequence[str]) -> Graph:
    return _graph(copies.unpacked(*packed), tape, single, lines)
