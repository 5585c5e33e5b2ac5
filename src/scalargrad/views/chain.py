"""The chain rule as numbers: what a node passes on, and what arrives at it from where it is used."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from .. import diagnose, ops
from ..capture import capture
from ..engine import Value
from ..errors import StaleGraphError
from ..replay import Replay
from ..tape import Tape


def passed_on(v: Value, gradient: float) -> tuple[float, ...]:
    """What `backward` adds to each operand of v, in order, when `gradient` has arrived at v."""
    return tuple(_product(v.code, partial, gradient) for partial in v._local_grads)


def _product(code: int, partial: float, gradient: float) -> float:
    # The engine's rule: a 0 passes nothing on, so 0 * inf is 0, but for products of two numbers.
    if gradient == 0.0 or (partial == 0.0 and code != ops.MUL):
        return 0.0
    return partial * gradient


@dataclass(frozen=True, slots=True)
class Use:
    """One place where a number is used: `user` has it as the operand number `slot`."""

    user: Value
    slot: int
    arrived: float  # d(root)/d(user)
    partial: float  # d(user)/d(number)
    passed: float  # their product


class Derivatives:
    """d(root)/d(v) for every v that root depends on, as root.backward() would compute it.

    No Value's `grad` is read or written. Raises `StaleGraphError` if a number in the graph was
    written after it was used.
    """

    __slots__ = ("_gradients", "_nodes", "_tape")

    def __init__(self, root: Value) -> None:
        self._nodes, self._tape = capture([root])
        data = np.array([v.data for v in self._nodes])
        self._gradients = np.zeros(len(data))
        self._gradients[self._tape.outputs] = 1.0
        replay = Replay(self._tape, data.data, self._gradients.data)
        replay.backward()
        changed = differing(self._tape, data)
        if len(changed):
            raise outdated(self._nodes[int(changed[0])])

    def __contains__(self, v: Value) -> bool:
        return self._place(v) >= 0

    def of(self, v: Value) -> float:
        """d(root)/d(v); 0 if root does not depend on v."""
        place = self._place(v)
        return float(self._gradients[place]) if place >= 0 else 0.0

    def uses(self, v: Value) -> list[Use]:
        """Where v is used, in the order in which `backward` comes to it: the last use first."""
        place = self._place(v)
        if place < 0:
            return []
        found = []
        for i in reversed(_users(self._tape, place)):
            user, arrived = self._nodes[i], float(self._gradients[i])
            parts = zip(user.operands, user._local_grads, passed_on(user, arrived))
            found += [
                Use(user, slot, arrived, partial, passed)
                for slot, (operand, partial, passed) in enumerate(parts)
                if operand is v
            ]
        return found

    def _place(self, v: Value) -> int:
        """The place of v in the tape, where leaves and results are each in creation order; or -1."""
        first, last = (0, self._tape.leaves) if v.op == "" else (self._tape.leaves, len(self._tape))
        place = bisect_left(self._nodes, v.number, first, last, key=attrgetter("number"))
        return place if place < last and self._nodes[place] is v else -1


def _users(tape: Tape, place: int) -> list[int]:
    """The nodes of a tape that have the one at this place as an operand, ascending."""
    several = np.isin(tape.op, (ops.WHERE, ops.TAKE))
    two = ~several & ~np.isin(tape.op, _UNARY)
    using: NDArray[np.bool_] = (~several & (tape.lhs == place)) | (two & (tape.rhs == place))
    using[: tape.leaves] = False
    for i in np.flatnonzero(several).tolist():
        using[i] = place in tape.operands(i)
    return np.flatnonzero(using).tolist()


_UNARY = [row.code for row in ops.TABLE if row.arity == 1]


def differing(tape: Tape, data: NDArray[np.float64]) -> NDArray[np.intp]:
    """The nodes whose data is not what the operations give for the leaves' data."""
    again = data.copy()
    Replay(tape, again.data, np.empty(0).data).forward()
    return np.flatnonzero(~((data == again) | (np.isnan(data) & np.isnan(again))))


def is_current(v: Value) -> bool:
    """Whether the data of v is what its operation gives for its operands' present data."""
    if v.op == "":
        return True
    row = ops.BY_NAME[v.op]
    constant = (v.const,) if row.constant else ()
    computed = row.forward(*(operand.data for operand in v.operands), *constant)
    return computed == v.data or (computed != computed and v.data != v.data)


def outdated(v: Value) -> StaleGraphError:
    """The error that says what was written after v was computed."""
    computed = max(v.number, v.version)
    overwritten = all(operand.version <= computed for operand in v.operands)
    return diagnose.stale_error(v, overwritten, "explain")
