"""The second stage: the gradient of a flat graph, as more nodes of the same graph.

It computes what the engine's `backward` computes, in its order: the gradient of a node is the sum
of what its users pass on, users in descending place in the tape (the origin of a term, not the
sum that gathered it), the operands of one user in order. Sums in between start with their first
contribution, gradients of leaves with +0.0, as `grad` does.

In a batch, every example has results of its own, and only leaves are shared. So the gradient of a
result, even of one that is the same for all examples, belongs to an example, and the gradient of
a parameter goes over the examples from the last to the first, all contributions of one before
those of the next. The penalty comes after the examples in the tape, so before them here.

What selections among evenly spaced leaves pass on is added to the chosen ones alone, at the end
(see `families`).

The engine passes nothing on where a gradient is exactly 0, or a partial is. That differs from
adding 0 * d only where d is not finite, so a term skips zeros (`SKIP_RIGHT` for the gradient,
`SKIP_LEFT` for the partial) only where that can be while the result is finite: at an operation
whose partial can be infinite where its value is not, such as sqrt at 0, and below it; and below a
branch that may not be taken, at factors that may then not be finite.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad.rules import (
        ABS,
        ADD,
        EXP,
        LEAF,
        LEAKY_RELU,
        MAXIMUM,
        MINIMUM,
        RELU,
        TAKE,
        WHERE,
    )
else:
    from ..ops import (
        ABS,
        ADD,
        EXP,
        LEAF,
        LEAKY_RELU,
        MAXIMUM,
        MINIMUM,
        RELU,
        TAKE,
        WHERE,
    )

from .contributions import contributions, reach
from .finite import may_be_infinite
from .flat import INDICATOR, LONE, OVER, SCATTER, Flat
from .loops import MINUS, SKIP_LEFT, SKIP_RIGHT, Space
from .marks import GRADIENT, Marks
from .partials import add_partials

NEGATIVE = cython.declare(cython.int, int(MINUS))
NO_GRADIENT = cython.declare(cython.int, int(SKIP_RIGHT))
NO_PARTIAL = cython.declare(cython.int, int(SKIP_LEFT))
AN_INDICATOR = cython.declare(cython.int, INDICATOR)
A_SCATTER = cython.declare(cython.int, SCATTER)
ONE_TERM = cython.declare(cython.int, LONE)
OF_CONSTANT = cython.declare(cython.int, int(Space.CONSTANT))
OF_ONE = cython.declare(cython.int, int(Space.TEMPORARY))
OF_EACH = cython.declare(cython.int, int(Space.BATCHED))

BATCHED_SPACES = np.array([space.batched for space in Space], np.uint8)
GRADIENT_SPACES = np.array([GRADIENT.get(space, Space.TEMPORARY) for space in Space], np.uint8)
# By the kind of a node, what a branch of it that is not taken drops: 1 a number, 2 anything.
CUT = np.zeros(256, np.uint8)
CUT[[RELU, TAKE, MAXIMUM, MINIMUM, ABS, LEAKY_RELU]] = 1
CUT[WHERE] = 2


def derive(flat: Flat, outputs: NDArray[np.int32], marks: Marks) -> Flat:
    """The graph with the gradients of all wanted leaves, each in its gradient space."""
    # The part of the penalty comes first, as `backward` meets it.
    roots = np.ascontiguousarray(outputs[1::-1] if marks.penalty else outputs[:1])
    wanted = ((flat.kind == LEAF) & np.isin(flat.space, marks.wanted)).view(np.uint8)
    reached = reach(flat, wanted, roots)
    growing, partial, minus = add_partials(flat, reached > 0)
    one, zero = growing.constant(1.0), growing.constant(0.0)
    brief = (flat.kind == TAKE) & (flat.const > np.diff(flat.first))
    passed_on = contributions(flat, reached, brief.view(np.uint8))
    used = growing.nodes, growing.terms
    wide = growing.flat(*_more(flat, len(roots), len(passed_on[1])))
    del growing
    over = 0 if marks.batch is None else OVER
    seeds = [(int(outputs[0]), len(flat) - 1 if marks.batch in ("mean", "each") else one, over)]
    if marks.penalty:
        seeds.insert(0, (int(outputs[1]), one, 0))
    partials, constants = (partial, minus), (one, zero)
    backward = _Backward(flat, wide, used, reached, wanted, partials, passed_on, seeds, constants)
    return backward.run(*_chosen(flat, np.flatnonzero(brief & (reached > 0))))


def _chosen(flat: Flat, takes: NDArray[np.intp]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Selections among evenly spaced leaves, in an order of `backward`, and which those leaves are.

    Selections among the same leaves come from the last to the first. Apart from that, the columns
    of a table come together, in their order.
    """
    if not len(takes):
        return takes.astype(np.int32), np.zeros(len(flat), np.uint8)
    begin, second = (flat.left[flat.first[takes] + k] for k in range(2))
    step = flat.slot[second] - flat.slot[begin]
    count = flat.const[takes].astype(np.int64)
    form = np.column_stack((flat.space[begin], step, count, flat.slot[begin]))
    families, own = np.unique(form, axis=0, return_inverse=True)
    own = own.reshape(-1)
    table, members = np.zeros(len(families), np.int64), np.zeros(len(flat), np.uint8)
    chosen = np.zeros((len(Space), int(flat.slot.max(initial=0)) + 1), np.uint8)
    start: list[int] = []
    for k, (space, distance, many, first) in enumerate(families.tolist()):
        if families[k, :3].tolist() != start[:3] or first - start[3] >= abs(distance):
            start = [space, distance, many, first]
            table[k:] = k
        chosen[space, first + distance * np.arange(many)] = 1
    leaves = flat.kind == LEAF
    members[leaves] = chosen[flat.space[leaves], flat.slot[leaves]]
    by_family = np.argsort(own, kind="stable")
    after = np.empty(len(takes), np.int64)  # how many among the same leaves come after each
    after[by_family] = np.cumsum(np.bincount(own))[own[by_family]] - 1 - np.arange(len(takes))
    order = np.lexsort((takes, after, table[own]))
    return takes[order].astype(np.int32), members


def _more(flat: Flat, phases: int, contributions: int) -> tuple[int, int]:
    """No more nodes and terms than these are needed for the gradients."""
    branching = np.isin(flat.kind, (WHERE, RELU, TAKE))
    branches = int(np.diff(flat.first)[branching].sum())
    nodes = phases * (len(flat) + branches) + len(flat)
    return nodes, phases * (contributions + 3 * branches + 1) + len(flat)


def _candidates(flat: Flat) -> NDArray[np.int32]:
    """Where the candidates of each index begin, if they are numbered one index after the other.

    Index number 2s + b is that in slot s, batched if b is 1.
    """
    takes = np.flatnonzero(flat.kind == TAKE)
    index = 2 * flat.slot[takes] + flat.extra[takes]
    counts = np.zeros(int(index.max(initial=-1)) + 2, np.int32)
    np.maximum.at(counts, index + 1, flat.first[takes + 1] - flat.first[takes])
    return np.cumsum(counts, dtype=np.int32)


@cython.final
@cython.cclass
class _Backward:
    """The pass backward over a graph, which writes the nodes of the gradients behind its own.

    There is a phase for each root. Per phase and node:

    gradient  the node that is its gradient, -1 where there is none
    sign      1 if that counts negatively
    untaken   whether a branch not taken can make it 0: 1 if such a branch drops a number, 2 if it
              drops anything
    steep     1 if it can be infinite though the results are finite

    n and t are the next node and term to be written. The gradient of a node is written when all of
    its m contributions are known, in `made_left`, `made_right` and `made_style`. Of the one at
    hand, `given` is the gradient that is passed on, `factor` what it is multiplied with or -1,
    `flags` are the style of the term, and `level` is what `untaken` says of it.
    """

    wide: Flat
    size: cython.int
    phases: cython.int
    one: cython.int
    zero: cython.int
    kind: cython.uchar[::1]
    const: cython.double[::1]
    space: cython.uchar[::1]
    slot: cython.int[::1]
    extra: cython.int[::1]
    rank: cython.int[::1]
    first: cython.int[::1]
    left: cython.int[::1]
    right: cython.int[::1]
    style: cython.uchar[::1]
    reached: cython.uchar[::1]
    wanted: cython.uchar[::1]
    partial: cython.int[:, ::1]
    minus: cython.uchar[:, ::1]
    infinite: cython.uchar[::1]
    targets: cython.int[::1]
    terms: cython.int[::1]
    sides: cython.uchar[::1]
    owner: cython.int[::1]  # the node that a term is of
    roots: cython.int[::1]
    seeds: cython.int[::1]
    over: cython.uchar[::1]
    candidates: cython.int[::1]
    indicator: cython.int[::1]
    is_batched: cython.uchar[::1]
    gradient_space: cython.uchar[::1]
    cut: cython.uchar[::1]
    gradient: cython.int[:, ::1]
    sign: cython.uchar[:, ::1]
    untaken: cython.uchar[:, ::1]
    steep: cython.uchar[:, ::1]
    made_left: cython.int[::1]
    made_right: cython.int[::1]
    made_style: cython.uchar[::1]
    n: cython.int
    t: cython.int
    m: cython.int
    given: cython.int
    factor: cython.int
    flags: cython.int
    level: cython.int

    def __init__(
        self,
        flat: Flat,
        wide: Flat,
        used: tuple[int, int],
        reached: NDArray[np.uint8],
        wanted: NDArray[np.uint8],
        partials: tuple[NDArray[np.int32], NDArray[np.uint8]],
        contributions: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]],
        seeds: list[tuple[int, int, int]],
        constants: tuple[int, int],
    ) -> None:
        """`wide` begins with the `used` nodes and terms of `flat`, its partials and constants.

        `seeds` are the root, the node of its gradient and the style of what is added to the
        gradient of a leaf, for each phase.
        """
        self.wide, self.size, self.phases = wide, len(flat), len(seeds)
        self.n, self.t = used
        self.one, self.zero = constants
        self.kind, self.const, self.space = wide.kind.data, wide.const.data, wide.space.data
        self.slot, self.extra, self.rank = wide.slot.data, wide.extra.data, wide.rank.data
        self.first, self.left, self.right = wide.first.data, wide.left.data, wide.right.data
        self.style = wide.style.data
        self.reached, self.wanted = reached.data, wanted.data
        self.partial, self.minus = partials[0].data, partials[1].data
        self.infinite = may_be_infinite(wide.cut(*used)).data
        self.targets, self.terms, self.sides = (array.data for array in contributions)
        self.owner = np.repeat(np.arange(len(flat), dtype=np.int32), np.diff(flat.first)).data
        self.roots, self.seeds, over = (np.array(x, np.int32).data for x in zip(*seeds))
        self.over = np.array(over, np.uint8).data
        starts = _candidates(flat)
        self.candidates = starts.data
        # The selections by one index share their indicators, one for each candidate.
        self.indicator = np.full(int(starts[len(starts) - 1]), -1, np.int32).data
        self.is_batched = BATCHED_SPACES.data
        self.gradient_space, self.cut = GRADIENT_SPACES.data, CUT.data
        shape = self.phases, len(flat)
        self.gradient = np.full(shape, -1, np.int32).data
        self.sign, self.untaken, self.steep = (np.zeros(shape, np.uint8).data for _ in range(3))
        most = self.phases * (len(contributions[1]) + 1) + 1
        self.made_left, self.made_right = (np.empty(most, np.int32).data for _ in range(2))
        self.made_style = np.empty(most, np.uint8).data

    def run(self, takes: NDArray[np.int32], members_: NDArray[np.uint8]) -> Flat:
        """The graph with the gradients; `takes` and `members` are those of `_chosen`."""
        chosen: cython.int[::1] = takes.data
        members: cython.uchar[::1] = members_.data
        phase: cython.int
        p: cython.int
        k: cython.int
        for phase in range(self.phases):
            self.gradient[phase, self.roots[phase]] = self.seeds[phase]
        for p in range(self.size - 1, -1, -1):
            if self.wanted[p]:
                self._leaf(p, members[p] == 0)
            elif self.reached[p]:
                for phase in range(self.phases):
                    if (self.reached[p] >> phase) & 1 and self.gradient[phase, p] < 0:
                        self._result(phase, p)
        for phase in range(self.phases):
            for k in range(len(chosen)):
                if self.gradient[phase, chosen[k]] >= 0:
                    self._scatter(phase, chosen[k])
        return self.wide.cut(self.n, self.t)

    # --- the gradient of a node ------------------------------------------------------------------

    @cython.cfunc
    @cython.exceptval(check=False)
    def _result(self, phase: cython.int, p: cython.int) -> cython.void:
        """The gradient of a node in between: what its users pass on, or the only thing they do."""
        self.m = 0
        self._collect(phase, p)
        if self.m == 0:
            return
        if self.m == 1 and self.made_right[0] < 0:
            self.gradient[phase, p] = self.made_left[0]
            self.sign[phase, p] = self.made_style[0] & NEGATIVE
            return
        self._copy_made()
        self.gradient[phase, p] = self._end(ADD, -0.0, self.rank[p], self._space())

    @cython.cfunc
    @cython.exceptval(check=False)
    def _leaf(self, p: cython.int, always: cython.bint) -> cython.void:
        """The gradient of a leaf, which goes over all phases: what is added to it, if anything."""
        phase: cython.int
        k: cython.int
        before: cython.int
        single: cython.bint = self.is_batched[self.space[p]] == 0
        self.m = 0
        for phase in range(self.phases):
            before = self.m
            if p == self.roots[phase]:
                self._make(self.seeds[phase], -1, 0)
            self._collect(phase, p)
            if single:
                for k in range(before, self.m):
                    self.made_style[k] |= self.over[phase]
        if self.m > 0 or always:
            self._copy_made()
            self.slot[self.n] = self.slot[p]
            self._end(ADD, 0.0, self.rank[p], self.gradient_space[self.space[p]])

    @cython.cfunc
    @cython.exceptval(check=False)
    def _scatter(self, phase: cython.int, p: cython.int) -> cython.void:
        """What a selection passes on is added to the leaf that was chosen."""
        g: cython.int = self.gradient[phase, p]
        a: cython.int = self.left[self.first[p]]
        b: cython.int = self.left[self.first[p] + 1]
        if self.sign[phase, p]:
            self._write(g, -1, NEGATIVE)
            self.extra[self.n] = ONE_TERM
            g = self._end(ADD, -0.0, self.rank[p], self._space())
        self._write(g, -1, self.over[phase])
        self._write(a, -1, 0)
        self._write(b, -1, 0)
        self.slot[self.n], self.extra[self.n] = self.slot[p], self.extra[p]
        self._end(A_SCATTER, self.const[p], self.rank[p], self.gradient_space[self.space[a]])

    # --- what its users pass on to it ------------------------------------------------------------

    @cython.cfunc
    @cython.exceptval(check=False)
    def _collect(self, phase: cython.int, p: cython.int) -> cython.void:
        """Make the contributions of all users of a node, in the order of `backward`."""
        lowest: cython.int = 3
        highest: cython.int = 0
        c: cython.int
        q: cython.int
        user: cython.int
        code: cython.int
        for c in range(self.targets[p], self.targets[p + 1]):
            q = self.terms[c]
            user = self.owner[q]
            self.given = self.gradient[phase, user]
            if self.given < 0:
                continue
            code = self.kind[user]
            self.factor, self.flags = -1, self.sign[phase, user]
            self.level = self.untaken[phase, user]
            if code == ADD:
                self._of_sum(q, self.sides[c])
            elif code in (WHERE, RELU):
                self._of_branches(user, q)
            elif code == TAKE:
                self._of_selection(user, q, self.steep[phase, user])
            else:
                if self.partial[user, q - self.first[user]] < 0:
                    continue
                self._of_function(user, q, self.steep[phase, user])
                if code != EXP and self.infinite[self.factor]:
                    self.steep[phase, p] = 1
            if self.steep[phase, user]:
                self.steep[phase, p] = 1
            self.level = max(self.level, self.cut[code])
            lowest, highest = min(lowest, self.level), max(highest, self.level)
            if self.factor < 0:
                self._make(self.given, -1, self.flags)
            elif self.given == self.one:
                self._make(self.factor, -1, self.flags & NEGATIVE)
            else:
                self._make(self.factor, self.given, self.flags)
        self.untaken[phase, p] = highest if 0 < lowest < 3 else 0

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _of_sum(self, q: cython.int, side: cython.int) -> cython.void:
        """The gradient as it is, times the other factor if the term is a product."""
        literal: cython.bint
        self.flags ^= self.style[q] & NEGATIVE
        if self.right[q] < 0:
            return
        self.factor = self.left[q] if side else self.right[q]
        if self.level > 0:
            literal = self.space[self.factor] == OF_CONSTANT
            if self.infinite[self.factor] or (self.level == 2 and not literal):
                self.flags |= NO_GRADIENT

    @cython.cfunc
    @cython.exceptval(check=False)
    def _of_branches(self, user: cython.int, q: cython.int) -> cython.void:
        """A node of its own: the gradient on one side, 0 on the other."""
        condition: cython.int = user if self.kind[user] == RELU else self.left[self.first[user]]
        self._write(condition, -1, 0)
        if self.kind[user] == RELU or q - self.first[user] == 1:
            self._write(self.given, -1, 0)
            self._write(self.zero, -1, 0)
        else:
            self._write(self.zero, -1, 0)
            self._write(self.given, -1, 0)
        self.given = self._end(WHERE, 0.0, self.rank[user], self._space())

    @cython.cfunc
    @cython.exceptval(check=False)
    def _of_selection(self, user: cython.int, q: cython.int, steep: cython.bint) -> cython.void:
        """The gradient times the indicator that this candidate is the one selected."""
        candidate: cython.int = q - self.first[user]
        k: cython.int = self.candidates[2 * self.slot[user] + self.extra[user]] + candidate
        if self.indicator[k] < 0:
            self.slot[self.n], self.extra[self.n] = self.slot[user], candidate
            space = OF_EACH if self.extra[user] else OF_ONE
            self.indicator[k] = self._end(AN_INDICATOR, 0.0, self.rank[user], space)
        self.factor = self.indicator[k]
        if steep:
            self.flags |= NO_PARTIAL

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _of_function(self, user: cython.int, q: cython.int, steep: cython.bint) -> cython.void:
        """The gradient times the partial."""
        k: cython.int = q - self.first[user]
        self.factor = self.partial[user, k]
        self.flags ^= self.minus[user, k]
        if self.infinite[self.factor] or steep or self.level == 2:
            self.flags |= NO_GRADIENT | NO_PARTIAL

    # --- writing ---------------------------------------------------------------------------------

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _make(self, left: cython.int, right: cython.int, style: cython.int) -> cython.void:
        """Note a contribution to the gradient being made."""
        m: cython.int = self.m
        self.made_left[m], self.made_right[m], self.made_style[m] = left, right, style
        self.m = m + 1

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _write(self, left: cython.int, right: cython.int, style: cython.int) -> cython.void:
        """A term, or an operand, of the next node."""
        t: cython.int = self.t
        self.left[t], self.right[t], self.style[t] = left, right, style
        self.t = t + 1

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _copy_made(self) -> cython.void:
        """The contributions as terms of the next node."""
        k: cython.int
        for k in range(self.m):
            self._write(self.made_left[k], self.made_right[k], self.made_style[k])

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _space(self) -> cython.int:
        """Where the next node lies: it differs between the examples if a term does."""
        t: cython.int
        for t in range(self.first[self.n], self.t):
            if self.is_batched[self.space[self.left[t]]]:
                return OF_EACH
            if self.right[t] >= 0 and self.is_batched[self.space[self.right[t]]]:
                return OF_EACH
        return OF_ONE

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _end(
        self, kind: cython.int, const: cython.double, rank: cython.int, space: cython.int
    ) -> cython.int:
        """The next node, whose terms are written."""
        n: cython.int = self.n
        self.kind[n], self.const[n], self.rank[n], self.space[n] = kind, const, rank, space
        self.n = n + 1
        self.first[n + 1] = self.t
        return n
