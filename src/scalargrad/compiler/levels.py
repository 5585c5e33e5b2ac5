"""A walk as turns: in each, many of its operations at once.

Operations whose operands are all there can be done together. A level is what needs a result of
the level before; the operations of a level are spread over turns of a fixed width for each
operation, so that all turns are alike and a loop can go over them. Sums are of at most `TERMS`
terms: a longer one is a sum of sums.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .loops import MINUS, Walk

TERMS = 8
ZERO, ONE, NOWHERE = 0, 1, 2  # the first slots: these numbers, and what nobody reads
FIRST = 3

Slots = NDArray[np.int32]


class Sums(NamedTuple):
    """result = start + sum(sign * left * right), of each turn a row.

    result int32[turns, width], start float64[turns, width]
    left, right int32[turns, width, TERMS]; sign float64, style uint8 likewise
    """

    result: Slots
    start: NDArray[np.float64]
    left: Slots
    right: Slots
    sign: NDArray[np.float64]
    style: NDArray[np.uint8]


class Each(NamedTuple):
    """result = op(operands; const), of each turn a row.

    result int32[turns, width], const float64[turns, width], operands int32[turns, width, arity]
    """

    result: Slots
    const: NDArray[np.float64]
    operands: Slots


class Turns(NamedTuple):
    """A walk in a memory of `size` slots.

    After the first three come the numbers that the walk reads, `space` and `at`, then others.
    `result` is the slot of each node's result.
    """

    size: int
    space: NDArray[np.uint8]
    at: NDArray[np.int64]
    result: NDArray[np.int64]
    sums: Sums
    each: dict[int, Each]


class _Term(NamedTuple):
    left: int
    right: int = ONE
    style: int = 0


class _Nodes:
    """The operations of a walk; slots of what is computed are below 0 until all are known."""

    def __init__(self) -> None:
        self.inputs: dict[tuple[int, int], int] = {}
        self.known: dict[tuple[int, int], int] = {}
        self.level: list[int] = []
        self.sums: list[tuple[int, float, list[_Term]]] = []
        self.each: dict[int, list[tuple[int, float, list[int]]]] = {}

    def slot(self, space: int, at: int) -> int:
        key = space, at
        known = self.known.get(key)
        return self.inputs.setdefault(key, FIRST + len(self.inputs)) if known is None else known

    def _new(self, operands: list[int]) -> int:
        levels = [self.level[~slot] for slot in operands if slot < 0]
        self.level.append(max(levels, default=-1) + 1)
        return ~(len(self.level) - 1)

    def sum(self, start: float, terms: list[_Term]) -> int:
        while len(terms) > TERMS:
            parts = [terms[k : k + TERMS] for k in range(0, len(terms), TERMS)]
            terms = [_Term(self.sum(-0.0, part)) for part in parts]
        result = self._new([slot for term in terms for slot in term[:2]])
        self.sums.append((result, start, terms))
        return result

    def apply(self, code: int, const: float, operands: list[int]) -> int:
        result = self._new(operands)
        self.each.setdefault(code, []).append((result, const, operands))
        return result

    def fold(self, code: int, operands: list[int]) -> int:
        if len(operands) == 1:
            return self.sum(-0.0, [_Term(operands[0])])
        while len(operands) > 2:
            pairs = [operands[k : k + 2] for k in range(0, len(operands), 2)]
            operands = [self.apply(code, 0.0, p) if len(p) == 2 else p[0] for p in pairs]
        return self.apply(code, 0.0, operands)


def turns_of(walk: Walk) -> Turns:
    """The turns of a walk."""
    nodes, results = _Nodes(), []
    first = walk.first.tolist()
    columns = (walk.left_space, walk.left, walk.right_space, walk.right, walk.style)
    terms = list(zip(*(column.tolist() for column in columns)))
    homes = zip(walk.space.tolist(), walk.at.tolist())
    for i, (code, const, home) in enumerate(zip(walk.code.tolist(), walk.const.tolist(), homes)):
        own = terms[first[i] : first[i + 1]]
        left = [nodes.slot(space, at) for space, at, *_ in own]
        if code == ops.ADD:
            right = [nodes.slot(s, at) if at >= 0 else ONE for _, _, s, at, _ in own]
            styles = (style if at >= 0 else style & MINUS for *_, at, style in own)
            result = nodes.sum(const, list(map(_Term, left, right, styles)))
        elif code in (ops.MAXIMUM, ops.MINIMUM):
            result = nodes.fold(code, left)
        else:
            result = nodes.apply(code, const, left)
        nodes.known[home] = result
        results.append(result)
    return _placed(nodes, results)


def _placed(nodes: _Nodes, results: list[int]) -> Turns:
    """The operations in turns; `results` are the slots of the walk's nodes."""
    tables = _Tables(nodes)
    padded = [terms + [_Term(ZERO)] * (TERMS - len(terms)) for _, _, terms in nodes.sums]
    table = np.array(padded, np.int64).reshape(-1, TERMS, 3)
    style = table[..., 2].astype(np.uint8)
    sums = Sums(
        tables.slots(ops.ADD, [entry[0] for entry in nodes.sums], NOWHERE),
        tables.reals(ops.ADD, [entry[1] for entry in nodes.sums]),
        tables.slots(ops.ADD, table[..., 0], ZERO),
        tables.slots(ops.ADD, table[..., 1], ONE),
        tables.reals(ops.ADD, np.where(style & MINUS, -1.0, 1.0)),
        tables.filled(ops.ADD, style, 0),
    )
    each = {
        code: Each(
            tables.slots(code, [entry[0] for entry in found], NOWHERE),
            tables.reals(code, [entry[1] for entry in found]),
            tables.slots(code, [entry[2] for entry in found], ONE),
        )
        for code, found in nodes.each.items()
    }
    keys = np.array(list(nodes.inputs), np.int64).reshape(-1, 2)
    size = tables.begin + len(nodes.level)
    own = keys[:, 0].astype(np.uint8), keys[:, 1]
    return Turns(size, *own, tables.numbered(results), sums, each)


class _Tables:
    """Which operation is done where: tables with a row for each turn, one kind beside the other."""

    def __init__(self, nodes: _Nodes) -> None:
        self.begin = FIRST + len(nodes.inputs)  # the first slot of a result
        level = np.array(nodes.level, np.int64)
        made = {code: [~entry[0] for entry in found] for code, found in nodes.each.items()}
        made[ops.ADD] = [~entry[0] for entry in nodes.sums]
        self._levels = {code: level[np.array(found, np.int64)] for code, found in made.items()}
        self._widths: dict[int, int] = {}
        needed = np.zeros(int(level.max(initial=-1)) + 1, np.int64)  # turns of each level
        for code, own in self._levels.items():
            count = np.bincount(own, minlength=len(needed))
            even = -(-2 * len(own) // max(int(np.count_nonzero(count)), 1))
            self._widths[code] = max(min(int(count.max(initial=0)), even), 1)
            needed = np.maximum(needed, -(-count // self._widths[code]))
        self._start = np.cumsum(needed) - needed
        self._turns = int(needed.sum())

    def numbered(self, slots: object) -> NDArray[np.int64]:
        """Slots as they are when all inputs are known, and come before the results."""
        found = np.array(slots, np.int64)
        return np.where(found < 0, self.begin + ~found, found)

    def _spots(self, code: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The turn and the place in it of every operation of a kind."""
        own, width = self._levels[code], self._widths[code]
        order = np.argsort(own, kind="stable")
        rank = np.empty(len(own), np.int64)
        rank[order] = np.arange(len(own)) - np.searchsorted(own[order], own[order])
        return self._start[own] + rank // width, rank % width

    def filled(self, code: int, values: NDArray[Any], default: float) -> NDArray[Any]:
        """A value for each operation of a kind, in its place; the default where there is none."""
        table = np.full((self._turns, self._widths[code], *values.shape[1:]), default, values.dtype)
        table[self._spots(code)] = values
        return table

    def slots(self, code: int, slots: object, default: int) -> Slots:
        """The same for slots."""
        return self.filled(code, self.numbered(slots).astype(np.int32), default)

    def reals(self, code: int, numbers: object) -> NDArray[np.float64]:
        """The same for numbers, 0 by default."""
        return self.filled(code, np.array(numbers, np.float64), 0.0)
