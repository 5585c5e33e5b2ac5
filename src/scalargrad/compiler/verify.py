"""The rules of a tape, checked: every pass that makes one is checked with this.

A broken tape would make the interpreter read or write beyond its arrays, or give a wrong number
quietly. `verify` costs a few passes of NumPy over the arrays, a small part of what making a tape
costs, so it stays on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import ops
from ..errors import VerifyError
from ..tape import Tape

Integers: TypeAlias = NDArray[np.int64]

# What each array of a tape holds.
_COLUMNS: dict[str, type[np.generic]] = {
    "op": np.uint8,
    "lhs": np.int32,
    "rhs": np.int32,
    "const": np.float64,
    "many": np.int32,
    "index": np.int64,
    "outputs": np.int32,
}


def _among(codes: Iterable[int]) -> NDArray[np.bool_]:
    """A table over all codes: which are among these."""
    table = np.zeros(256, np.bool_)
    table[list(codes)] = True
    return table


_WITH_CONSTANT = _among(row.code for row in ops.TABLE if row.constant and row.arity == 1)
_UNARY = _among(row.code for row in ops.TABLE if row.arity == 1 and not row.constant)
_BINARY = _among(row.code for row in ops.TABLE if row.arity == 2)
_KNOWN = _among(ops.BY_CODE)


def verify(tape: Tape) -> Tape:
    """The tape itself, if it keeps the rules that `Tape` states.

    Raises `VerifyError`, naming the first node that breaks a rule and the rule, for: arrays of a
    wrong type, shape or length; results among the leaves; unknown codes; operands that do not come
    before their result; -1 missing or in a wrong place; places outside `const`, `many`, `index`;
    a selected candidate that does not exist; outputs that are not nodes.
    """
    _check_arrays(tape)
    _Check(tape).run()
    return tape


def _check_arrays(tape: Tape) -> None:
    for name, kind in _COLUMNS.items():
        array: Any = getattr(tape, name)
        if not isinstance(array, np.ndarray) or array.dtype != kind or array.ndim != 1:
            got = f"{array.dtype}{list(array.shape)}" if hasattr(array, "dtype") else repr(array)
            raise VerifyError(f"tape: {name} must be a row of {kind.__name__}, got {got}")
        if not array.flags.c_contiguous:
            raise VerifyError(f"tape: {name} must lie in memory without gaps")
    n = len(tape.op)
    for name in ("lhs", "rhs"):
        if len(getattr(tape, name)) != n:
            raise VerifyError(
                f"tape: {name} has {len(getattr(tape, name))} entries, op has {n}: "
                "expected one for every node"
            )
    if not 0 <= tape.leaves <= n:
        raise VerifyError(
            f"tape: leaves must be between 0 and {n}, the number of nodes, got {tape.leaves}"
        )


class _Check:
    """One tape and the rules, each a method; a rule is stated where it is checked."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.lhs, self.rhs = tape.lhs.astype(np.int64), tape.rhs.astype(np.int64)

    def run(self) -> None:
        tape, first = self.tape, self.tape.leaves
        leaves = np.arange(first)
        self._require(tape.op[:first] == ops.LEAF, leaves, "the leaves come first and have op 0")
        self._require(
            (self.lhs[:first] == -1) & (self.rhs[:first] == -1), leaves, "a leaf has lhs = rhs = -1"
        )
        results = np.arange(first, len(tape))
        self._require(tape.op[first:] != ops.LEAF, results, "no leaf comes after a result")
        self._require(_KNOWN[tape.op[first:]], results, "its op is in ops.TABLE")
        self._check_unary(self._nodes(_UNARY))
        self._check_with_constant(self._nodes(_WITH_CONSTANT))
        self._check_binary(self._nodes(_BINARY))
        self._check_where(self._nodes(_among([ops.WHERE])))
        self._check_take(self._nodes(_among([ops.TAKE])))
        self._check_outputs()

    def _check_unary(self, nodes: Integers) -> None:
        self._require_before(self.lhs[nodes], nodes, "lhs")
        self._require(self.rhs[nodes] == -1, nodes, "an op of one operand has rhs = -1")

    def _check_with_constant(self, nodes: Integers) -> None:
        self._require_before(self.lhs[nodes], nodes, "lhs")
        size = len(self.tape.const)
        rule = f"rhs is the place of its constant, 0 to {size - 1}"
        self._require(_within(self.rhs[nodes], size), nodes, rule)

    def _check_binary(self, nodes: Integers) -> None:
        self._require_before(self.lhs[nodes], nodes, "lhs")
        self._require_before(self.rhs[nodes], nodes, "rhs")

    def _check_where(self, nodes: Integers) -> None:
        self._require(self.rhs[nodes] == 3, nodes, "a where has rhs = 3, its operands' number")
        start = self.lhs[nodes]
        self._require_in_many(start, start + 3, nodes)
        for slot in range(3):
            self._require_before(self.tape.many[start + slot], nodes, f"operand {slot}")

    def _check_take(self, nodes: Integers) -> None:
        tape, start, count = self.tape, self.lhs[nodes], self.rhs[nodes]
        self._require(count >= 1, nodes, "a take has rhs >= 1, its candidates' number")
        self._require_in_many(start, start + 2, nodes)
        begin = tape.many[start + 1].astype(np.int64)
        self._require_in_many(begin, begin + count, nodes)
        slot = tape.many[start]
        rule = f"the slot of a take is a place in index, 0 to {len(tape.index) - 1}"
        self._require(_within(slot, len(tape.index)), nodes, rule)
        chosen = tape.index[slot]
        self._require(
            (chosen >= 0) & (chosen < count), nodes, "the index of a take is one of its candidates"
        )
        # The first of those that share their candidates answers for all.
        _, first = np.unique(np.column_stack((begin, count)), axis=0, return_index=True)
        nodes, begin, count = nodes[first], begin[first], count[first]
        owner = np.repeat(nodes, count)
        offset = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        candidates = tape.many[np.repeat(begin, count) + offset]
        self._require_before(candidates, owner, "a candidate")

    def _check_outputs(self) -> None:
        outputs, n = self.tape.outputs, len(self.tape)
        wrong = np.flatnonzero(~_within(outputs, n))
        if len(wrong):
            raise VerifyError(
                f"tape: output {wrong[0]} is node {outputs[wrong[0]]}: "
                f"expected a node, 0 to {n - 1}"
            )

    # --- how a rule is checked ---------------------------------------------------------------------

    def _nodes(self, codes: NDArray[np.bool_]) -> Integers:
        found: Integers = np.flatnonzero(codes[self.tape.op])
        return found

    def _require_before(self, operands: NDArray[Any], nodes: Integers, name: str) -> None:
        rule = f"{name} is an earlier node"
        self._require((operands >= 0) & (operands < nodes), nodes, rule)

    def _require_in_many(self, start: Integers, end: Integers, nodes: Integers) -> None:
        size = len(self.tape.many)
        rule = f"its operands lie in many, which has {size} entries"
        self._require((start >= 0) & (end <= size), nodes, rule)

    def _require(self, kept: NDArray[np.bool_], nodes: Integers, rule: str) -> None:
        if kept.all():
            return
        i = int(nodes[int(np.argmin(kept))])
        code = int(self.tape.op[i])
        row = ops.BY_CODE.get(code)
        name = "leaf" if code == ops.LEAF else row.name if row else "unknown"
        raise VerifyError(
            f"tape: node {i} (op {code}, {name}; lhs {self.lhs[i]}, rhs {self.rhs[i]}) "
            f"breaks the rule: {rule}"
        )


def _within(places: NDArray[Any], size: int) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (places >= 0) & (places < size)
    return inside
