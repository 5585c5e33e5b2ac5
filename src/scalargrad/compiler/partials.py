"""The partial derivatives of the op table as nodes of a flat graph.

A row's `partials` are plain arithmetic that runs on anything. Here they run once per operation on
symbols, which leaves a small flat graph: a pattern. It is then copied for all nodes with that
operation at once, so the derivative of an op is written in one place only, the op table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ops
from ..tape import tape_of
from .distinct import distinct
from .flat import NODE_ARRAYS, TERM_ARRAYS, Flat, is_batched
from .flatten import flatten
from .loops import MINUS, Space
from .marks import marks_of

# Their gradients need no partial: they pass theirs on as it is, or on one side only.
DIRECT = (ops.LEAF, ops.ADD, ops.WHERE, ops.RELU, ops.TAKE)


class _Recorder:
    """The instructions that symbols leave behind."""

    def __init__(self) -> None:
        self.constants: list[float] = []
        self.steps: list[tuple[str, tuple[Any, ...], float]] = []

    def step(self, name: str, *operands: Any, const: float = 0.0) -> _Symbol:
        self.steps.append((name, operands, const))
        return _Symbol(self, len(self.steps) - 1)


@dataclass(frozen=True)
class _Symbol:
    """The result of step `number`, or operand ~number of the operation."""

    recorder: _Recorder
    number: int

    def apply(self, name: str, *operands: Any) -> _Symbol:
        return self.recorder.step(name, *operands)

    def __neg__(self) -> _Symbol:
        return self.apply("neg", self)

    def __add__(self, other: Any) -> _Symbol:
        return self.apply("add", self, other)

    def __sub__(self, other: Any) -> _Symbol:
        return self.apply("sub", self, other)

    def __rsub__(self, other: Any) -> _Symbol:
        return self.apply("sub", other, self)

    def __mul__(self, other: Any) -> _Symbol:
        return self.apply("mul", self, other)

    def __rmul__(self, other: Any) -> _Symbol:
        return self.apply("mul", other, self)

    def __pow__(self, exponent: float) -> _Symbol:
        return self.recorder.step("pow", self, const=exponent)


@dataclass(frozen=True)
class Pattern:
    """The partials of one op: leaves a, (b,) y and constants, then results.

    `outputs` has, for each operand, a node of the pattern and whether it counts negatively, or
    None where the partial is 0 everywhere.
    """

    flat: Flat
    operands: int
    outputs: tuple[tuple[int, bool] | None, ...]


@lru_cache(maxsize=4096)
def pattern(code: int, const: float) -> Pattern:
    """The pattern of an op of one or two operands with that constant."""
    row = ops.BY_CODE[code]
    arity = row.arity or 0
    recorder = _Recorder()
    operands = [_Symbol(recorder, ~k) for k in range(arity + 1)]  # y is the last
    constant = (const,) if row.constant else ()
    partials = row.partials(*operands[:-1], *constant, operands[-1])
    numbers = _constants(recorder, partials)
    first = arity + 1 + len(numbers)

    def place(x: Any) -> int:
        if isinstance(x, _Symbol):
            return ~x.number if x.number < 0 else first + x.number
        return arity + 1 + numbers.index(_key(x))

    steps: list[tuple[int, int, int]] = []
    consts: list[float] = []
    many: list[int] = []
    for name, inputs, exponent in recorder.steps:
        step = ops.BY_NAME[name]
        places = [place(x) for x in inputs]
        if step.code == ops.WHERE:
            steps.append((step.code, len(many), 3))
            many.extend(places)
        elif step.constant:
            steps.append((step.code, places[0], len(consts)))
            consts.append(exponent)
        else:
            steps.append((step.code, places[0], places[1] if len(places) > 1 else -1))
    wanted = [k for k, x in enumerate(partials) if isinstance(x, _Symbol) or x != 0.0]
    tape = tape_of(first, steps, consts, many, outputs=[place(partials[k]) for k in wanted])
    leaves = [(Space.ARGUMENT, 0.0)] * (arity + 1)
    leaves += [(Space.CONSTANT, float.fromhex(x)) for x in numbers]
    flat, nodes = flatten(tape, marks_of(leaves))
    outputs: list[tuple[int, bool] | None] = [None] * arity
    for k, i in zip(wanted, nodes.tolist()):
        outputs[k] = _without_sign(flat, i)
    return Pattern(flat, arity + 1, tuple(outputs))


def _key(x: float) -> str:
    return float(x).hex()


def _constants(recorder: _Recorder, partials: tuple[Any, ...]) -> list[str]:
    numbers: list[str] = []
    used = [x for _, inputs, _ in recorder.steps for x in inputs] + list(partials)
    for x in used:
        if not isinstance(x, _Symbol) and _key(x) not in numbers:
            numbers.append(_key(x))
    return numbers


def _without_sign(flat: Flat, i: int) -> tuple[int, bool]:
    """Node i as another node and a sign, where it is only a negation."""
    t = int(flat.first[i])
    single = flat.kind[i] == ops.ADD and flat.first[i + 1] == t + 1
    if single and flat.style[t] == MINUS and flat.right[t] < 0 and str(flat.const[i]) == "-0.0":
        return int(flat.left[t]), True
    return i, False


class Growing:
    """A flat graph to which nodes are appended, many at once."""

    def __init__(self, flat: Flat) -> None:
        self.parts = [flat]
        self.nodes, self.terms = len(flat), len(flat.left)
        self.batched = is_batched(flat)
        self.constants: dict[str, int] = {}

    def constant(self, number: float) -> int:
        """The leaf that holds a number."""
        key = _key(number)
        if key not in self.constants:
            self.constants[key] = self.nodes
            one = np.zeros(1, np.int32)
            self._append(
                kind=np.zeros(1, np.uint8),
                const=np.array([number]),
                space=np.full(1, Space.CONSTANT, np.uint8),
                slot=one,
                extra=one,
                rank=one,
                counts=one,
                terms=tuple(np.empty(0, kind) for kind in (*_INTS, np.uint8, np.int32)),
            )
        return self.constants[key]

    def _append(
        self,
        kind: NDArray[np.uint8],
        const: NDArray[np.float64],
        space: NDArray[np.uint8],
        slot: NDArray[np.int32],
        extra: NDArray[np.int32],
        rank: NDArray[np.int32],
        counts: NDArray[np.int32],
        terms: tuple[NDArray[Any], ...],
    ) -> None:
        ends = self.terms + np.cumsum(counts, dtype=np.int32)
        self.parts.append(Flat(kind, const, space, slot, extra, rank, ends, *terms))
        self.nodes += len(kind)
        self.terms += len(terms[0])

    def repeat(
        self, pattern: Pattern, operands: list[NDArray[np.int32]], of: Flat, at: NDArray[np.int32]
    ) -> list[NDArray[np.int32]]:
        """Copy a pattern for each node of `at` in `of`; gives the copies of every pattern node."""
        flat, n = pattern.flat, len(at)
        batched = [self.batched[operand] for operand in operands]
        place: list[NDArray[np.int32]] = list(operands)
        for i in range(pattern.operands, len(flat)):
            if flat.kind[i] == ops.LEAF:
                place.append(np.full(n, self.constant(float(flat.const[i])), np.int32))
                batched.append(np.zeros(n, bool))
                continue
            terms = range(int(flat.first[i]), int(flat.first[i + 1]))
            left = np.column_stack([place[flat.left[t]] for t in terms]).ravel()
            missing = np.full(n, -1, np.int32)
            right = np.column_stack(
                [missing if flat.right[t] < 0 else place[flat.right[t]] for t in terms]
            ).ravel()
            place.append(np.arange(self.nodes, self.nodes + n, dtype=np.int32))
            zeros = np.zeros(n, np.int32)
            read = [batched[j] for j in flat.operands(i)]
            batched.append(np.logical_or.reduce(read))
            space = np.where(batched[i], Space.BATCHED, Space.TEMPORARY).astype(np.uint8)
            self._append(
                kind=np.full(n, flat.kind[i], np.uint8),
                const=np.full(n, flat.const[i]),
                space=space,
                slot=zeros,
                extra=zeros,
                rank=of.rank[at],
                counts=np.full(n, len(terms), np.int32),
                terms=(
                    left,
                    right,
                    np.tile(flat.style[list(terms)], n),
                    np.repeat(zeros, len(terms)),
                ),
            )
        return place

    def flat(self, nodes: int, terms: int) -> Flat:
        """The whole graph, in arrays with room for so many more nodes and terms."""
        joined = []
        for name in (*NODE_ARRAYS, *TERM_ARRAYS):
            parts = [getattr(part, name) for part in self.parts]
            more = nodes if name in NODE_ARRAYS else terms
            whole = np.zeros(sum(map(len, parts)) + more, parts[0].dtype)
            np.concatenate(parts, out=whole[: len(whole) - more])
            joined.append(whole)
        return Flat(*joined)


_INTS = (np.int32, np.int32)


def add_partials(
    flat: Flat, wanted: NDArray[np.bool_]
) -> tuple[Growing, NDArray[np.int32], NDArray[np.uint8]]:
    """The partials of every wanted node that needs any.

    Gives the graph grown by them; for each old node and operand slot the node of the partial (-1
    if it is 0 everywhere); and for each whether it counts negatively.
    """
    growing = Growing(flat)
    partial = np.full((len(flat), 2), -1, np.int32)
    minus = np.zeros((len(flat), 2), np.uint8)
    at = np.flatnonzero(wanted & ~np.isin(flat.kind, DIRECT)).astype(np.int32)
    for code, const, nodes in _alike(flat, at):
        found = pattern(code, const)
        first = flat.first[nodes]
        operands = [flat.left[first + k] for k in range(found.operands - 1)]
        place = growing.repeat(found, [*operands, nodes], flat, nodes)
        for k, output in enumerate(found.outputs):
            if output is not None:
                partial[nodes, k], minus[nodes, k] = place[output[0]], output[1]
    return growing, partial, minus


def _alike(flat: Flat, at: NDArray[np.int32]) -> list[tuple[int, float, NDArray[np.int32]]]:
    """The nodes of `at` grouped by op and constant, each group in order."""
    groups = []
    for code in distinct(flat.kind[at]).tolist():
        nodes = at[flat.kind[at] == code]
        if not ops.BY_CODE[code].constant:
            groups.append((code, 0.0, nodes))
            continue
        order = np.argsort(flat.const[nodes], kind="stable")
        nodes = nodes[order]
        cuts = np.flatnonzero(np.diff(flat.const[nodes].view(np.int64))) + 1
        groups += [(code, float(flat.const[part[0]]), part) for part in np.split(nodes, cuts)]
    return groups
