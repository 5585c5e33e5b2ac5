"""The first stage: gather the chains of additions of a tape into sums of terms.

The value of a sum is added up from left to right, as the chain did, and each term remembers the
place in the tape (`origin`) of the node that passed a gradient on to it: the order of `backward`
is not lost. What is folded away is used exactly once:

    the left operand of + or -, if it is itself + or -    its terms come first
    a multiplication                                       a term with two factors
    a negation                                             a term with the opposite sign

A sum that begins with the literal 0 (`sum(...)` in Python does) has 0.0 as its start instead of a
term. A chain of `maximum` (or `minimum`) through which no gradient flows becomes one node.
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
        ADD,
        DETACH,
        LEAF,
        LEAKY_RELU,
        LESS,
        LESS_EQUAL,
        MAXIMUM,
        MINIMUM,
        MUL,
        NEG,
        POW,
        SUB,
        TAKE,
        WHERE,
    )
else:
    from ..ops import (
        ADD,
        DETACH,
        LEAF,
        LEAKY_RELU,
        LESS,
        LESS_EQUAL,
        MAXIMUM,
        MINIMUM,
        MUL,
        NEG,
        POW,
        SUB,
        TAKE,
        WHERE,
    )

from ..tape import Tape
from .families import in_families
from .flat import FOLD_MAXIMUM, FOLD_MINIMUM, Flat
from .loops import MINUS, SEED, Space
from .marks import Marks

NEGATIVE = cython.declare(cython.uchar, MINUS)
MAX_OF_MANY = cython.declare(cython.uchar, FOLD_MAXIMUM)
MIN_OF_MANY = cython.declare(cython.uchar, FOLD_MINIMUM)
OF_EXAMPLE = cython.declare(cython.uchar, int(Space.EXAMPLE))
OF_EXAMPLE_INDEX = cython.declare(cython.uchar, int(Space.EXAMPLE_INDEX))
OF_EACH = cython.declare(cython.uchar, int(Space.BATCHED))

# Where gradients flow: to a node that depends on something wanted, from one that a loss depends on.
DEPENDS = cython.declare(cython.uchar, 1)
NEEDED = cython.declare(cython.uchar, 2)
FLOWS = cython.declare(cython.uchar, 3)


def flatten(tape: Tape, marks: Marks) -> tuple[Flat, NDArray[np.int32]]:
    """The flat graph of everything the outputs depend on, and the nodes of the outputs.

    Every leaf is kept. In a program with a batch the last node is the scalar SEED.
    """
    roots = tape.outputs[: 1 + marks.penalty] if marks.wanted else tape.outputs[:0]
    chains = _Chains(tape, marks)
    chains.count_uses(tape.outputs)
    chains.follow_gradients(np.isin(marks.space, marks.wanted), np.ascontiguousarray(roots))
    chains.fold()
    flat, node, n, t = chains.gathered(marks)
    if marks.batch is not None:
        flat.space[n], flat.slot[n], flat.rank[n] = Space.SCALAR, SEED, len(tape)
        flat.first[n + 1] = t
        n += 1
    return flat.cut(n, t), node[tape.outputs]


def _empty(tape: Tape, brief: NDArray[np.bool_]) -> Flat:
    """A graph with room for all that a tape can become, whose nodes are to be written."""
    n = len(tape)
    selected = int(tape.rhs[(tape.op == TAKE) & ~brief].sum()) + 2 * int(brief.sum())
    capacity = 2 * n + len(tape.many) + selected + 2
    return Flat(
        kind=np.zeros(n + 1, np.uint8),
        const=np.zeros(n + 1),
        space=np.full(n + 1, Space.TEMPORARY, np.uint8),
        slot=np.zeros(n + 1, np.int32),
        extra=np.zeros(n + 1, np.int32),
        rank=np.zeros(n + 1, np.int32),
        first=np.zeros(n + 2, np.int32),
        left=np.empty(capacity, np.int32),
        right=np.empty(capacity, np.int32),
        style=np.zeros(capacity, np.uint8),
        origin=np.empty(capacity, np.int32),
    )


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _is_listed(code: cython.int) -> cython.bint:
    """Whether the operands of an operation are listed in `Tape.many`."""
    return code in (WHERE, TAKE)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _has_constant(code: cython.int) -> cython.bint:
    """Whether the second operand of an operation is the place of a constant."""
    return code in (POW, LEAKY_RELU)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _is_sum(code: cython.int) -> cython.bint:
    return code in (ADD, SUB)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _is_part(code: cython.int) -> cython.bint:
    """Whether an operation is what makes a term: a product, or a change of sign."""
    return code in (MUL, NEG)


@cython.final
@cython.cclass
class _Chains:
    """A tape on its way to a flat graph.

    uses    how often a node's number is used by what the outputs depend on; 0 for all else
    active  DEPENDS, NEEDED: gradients flow through a node that has both
    folded  1 for a node that its only user takes in
    fixed   of a slot of the index, the candidate that is always selected, or -1
    brief   1 for a `take` whose candidates lie evenly, of which two are enough

    While the graph is written, n and t are the next node and term, and `batched` says whether a
    term of the next node differs between the examples.
    """

    tape: Tape
    op: cython.uchar[::1]
    lhs: cython.int[::1]
    rhs: cython.int[::1]
    many: cython.int[::1]
    fixed: cython.int[::1]
    brief: cython.uchar[::1]
    uses: cython.int[::1]
    active: cython.uchar[::1]
    folded: cython.uchar[::1]
    leaves: cython.int
    size: cython.int

    numbers: cython.double[::1]  # of the tape's constants
    zero: cython.uchar[::1]  # of leaves that are the literal 0
    index_space: cython.uchar[::1]
    index_place: cython.int[::1]
    node: cython.int[::1]  # the node of the graph that a node of the tape has become
    spine: cython.int[::1]  # a chain, from its last node to its first
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
    origin: cython.int[::1]
    n: cython.int
    t: cython.int
    batched: cython.bint

    def __init__(self, tape: Tape, marks: Marks) -> None:
        size = len(tape)
        self.tape, self.size, self.leaves = tape, size, tape.leaves
        self.op, self.lhs, self.rhs = tape.op.data, tape.lhs.data, tape.rhs.data
        self.many, self.numbers = tape.many.data, tape.const.data
        fixed = np.full(len(tape.index), -1, np.int32)
        if len(fixed):
            kept = marks.index_space == Space.CONSTANT
            fixed[kept] = tape.index[kept]
        self.fixed = fixed.data
        self.brief = in_families(tape, marks).view(np.uint8).data
        self.uses = np.zeros(size, np.int32).data
        self.active = np.zeros(size, np.uint8).data
        self.folded = np.zeros(size, np.uint8).data

    # --- operands --------------------------------------------------------------------------------
    #
    # Those of a `where` and of a `take` are listed in `many`; of other operations, `lhs` is the
    # first and `rhs` may be the second.

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _begin(self, i: cython.int, code: cython.int) -> cython.int:
        """Where the operands of a `where` or `take` begin."""
        j: cython.int = self.lhs[i]
        return j if code == WHERE else self.many[j + 1] + max(self.fixed[self.many[j]], 0)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _end(self, i: cython.int, code: cython.int) -> cython.int:
        """Where those of them end that matter."""
        j: cython.int = self.lhs[i]
        if code == WHERE:
            return j + 3
        if self.fixed[self.many[j]] >= 0:
            return self._begin(i, code) + 1
        return self.many[j + 1] + (2 if self.brief[i] else self.rhs[i])

    # --- what becomes of the nodes ---------------------------------------------------------------

    def count_uses(self, outputs: NDArray[np.int32]) -> None:
        """Count the uses of everything the outputs depend on."""
        wanted: cython.int[::1] = outputs.data
        op: cython.uchar[::1] = self.op
        lhs: cython.int[::1] = self.lhs
        rhs: cython.int[::1] = self.rhs
        many: cython.int[::1] = self.many
        uses: cython.int[::1] = self.uses
        code: cython.int
        i: cython.int
        k: cython.int
        for i in range(len(wanted)):
            uses[wanted[i]] += 1
        for i in range(self.size - 1, self.leaves - 1, -1):
            code = op[i]
            if uses[i] == 0:
                continue
            if _is_listed(code):
                for k in range(self._begin(i, code), self._end(i, code)):
                    uses[many[k]] += 1
            else:
                uses[lhs[i]] += 1
                if rhs[i] >= 0 and not _has_constant(code):
                    uses[rhs[i]] += 1

    def follow_gradients(self, wanted_: NDArray[np.bool_], roots_: NDArray[np.int32]) -> None:
        """Find out where gradients flow, from the roots to the wanted leaves."""
        wanted: cython.uchar[::1] = wanted_.view(np.uint8).data
        roots: cython.int[::1] = roots_.data
        op: cython.uchar[::1] = self.op
        lhs: cython.int[::1] = self.lhs
        rhs: cython.int[::1] = self.rhs
        many: cython.int[::1] = self.many
        uses: cython.int[::1] = self.uses
        active: cython.uchar[::1] = self.active
        size: cython.int = self.size
        code: cython.int
        i: cython.int
        k: cython.int
        for i in range(self.leaves):
            active[i] = wanted[i]
        for i in range(self.leaves, size):
            code = op[i]
            if uses[i] == 0 or code in (DETACH, LESS, LESS_EQUAL):
                continue
            if _is_listed(code):  # the condition of a `where` gets no gradient
                for k in range(self._begin(i, code) + (code == WHERE), self._end(i, code)):
                    active[i] |= active[many[k]]
            else:
                active[i] = active[lhs[i]]
                if rhs[i] >= 0 and not _has_constant(code):
                    active[i] |= active[rhs[i]]
        for i in range(len(roots)):
            active[roots[i]] |= NEEDED
        for i in range(size - 1, self.leaves - 1, -1):
            code = op[i]
            if uses[i] == 0 or active[i] != FLOWS:
                continue
            if _is_listed(code):
                for k in range(self._begin(i, code) + (code == WHERE), self._end(i, code)):
                    active[many[k]] |= NEEDED
            else:
                active[lhs[i]] |= NEEDED
                if rhs[i] >= 0 and not _has_constant(code):
                    active[rhs[i]] |= NEEDED

    def fold(self) -> None:
        """Find out what its only user takes in."""
        op: cython.uchar[::1] = self.op
        lhs: cython.int[::1] = self.lhs
        rhs: cython.int[::1] = self.rhs
        uses: cython.int[::1] = self.uses
        active: cython.uchar[::1] = self.active
        folded: cython.uchar[::1] = self.folded
        code: cython.int
        i: cython.int
        j: cython.int
        for i in range(self.leaves, self.size):
            code = op[i]
            if uses[i] == 0:
                continue
            if _is_sum(code):
                j = lhs[i]
                if uses[j] == 1 and (_is_sum(op[j]) or _is_part(op[j])):
                    folded[j] = 1
                j = rhs[i]
                if uses[j] == 1 and _is_part(op[j]):
                    folded[j] = 1
            elif code == NEG:
                j = lhs[i]
                if uses[j] == 1 and _is_part(op[j]):
                    folded[j] = 1
            elif code in (MAXIMUM, MINIMUM):
                j = lhs[i]
                if uses[j] == 1 and op[j] == code and active[i] != FLOWS and active[j] != FLOWS:
                    folded[j] = 1

    # --- the flat graph --------------------------------------------------------------------------

    def gathered(self, marks: Marks) -> tuple[Flat, NDArray[np.int32], int, int]:
        """The flat graph, which node of it each node of the tape is, how many nodes and terms."""
        flat = _empty(self.tape, np.asarray(self.brief).view(bool))
        node = np.full(self.size, -1, np.int32)
        zero = (marks.space == Space.CONSTANT) & (marks.number == 0.0) & ~np.signbit(marks.number)
        self.node, self.zero = node.data, zero.view(np.uint8).data
        self.spine = np.empty(self.size, np.int32).data
        self.index_space, self.index_place = marks.index_space.data, marks.index_place.data
        self.kind, self.const, self.space = flat.kind.data, flat.const.data, flat.space.data
        self.slot, self.extra, self.rank = flat.slot.data, flat.extra.data, flat.rank.data
        self.first, self.left, self.right = flat.first.data, flat.left.data, flat.right.data
        self.style, self.origin = flat.style.data, flat.origin.data
        self.n, self.t = 0, 0
        self._copy_leaves(marks)
        i: cython.int
        for i in range(self.leaves, self.size):
            if self.uses[i] and not self.folded[i]:
                self._write(i)
        return flat, node, self.n, self.t

    @cython.cfunc
    def _copy_leaves(self, marks: Marks) -> cython.void:
        space: cython.uchar[::1] = marks.space.data
        place: cython.int[::1] = marks.place.data
        number: cython.double[::1] = marks.number.data
        i: cython.int
        for i in range(self.leaves):
            self.kind[i], self.const[i], self.rank[i] = LEAF, number[i], i
            self.space[i], self.slot[i] = space[i], place[i]
            self.node[i] = i
            self.first[i + 1] = 0
        self.n = self.leaves

    @cython.cfunc
    @cython.exceptval(check=False)
    def _write(self, i: cython.int) -> cython.void:
        """Write the node that i becomes, with what it takes in."""
        n: cython.int = self.n
        code: cython.int = self.op[i]
        self.kind[n], self.rank[n] = code, i
        self.batched = False
        if _is_sum(code) or _is_part(code):
            self._write_sum(i)
        elif _is_listed(code):
            self._write_choice(i)
        elif (code in (MAXIMUM, MINIMUM)) and self.active[i] != FLOWS:
            self._write_fold(i)
        else:
            self._add(self.lhs[i], i)
            if _has_constant(code):
                self.const[n] = self.numbers[self.rhs[i]]
            elif self.rhs[i] >= 0:
                self._add(self.rhs[i], i)
        if self.batched:
            self.space[n] = OF_EACH
        self.node[i] = n
        self.n += 1
        self.first[self.n] = self.t

    @cython.cfunc
    @cython.exceptval(check=False)
    def _write_sum(self, i: cython.int) -> cython.void:
        """A sum: down the left operands that are taken in, then up again, adding the right ones."""
        self.kind[self.n], self.const[self.n] = ADD, -0.0
        if not _is_sum(self.op[i]):
            self._add_term(i, i, i, 0)
            return
        depth: cython.int = 0
        k: cython.int
        x: cython.int = i
        self.spine[0] = i
        while self.folded[self.lhs[x]] and _is_sum(self.op[self.lhs[x]]):
            x = self.lhs[x]
            depth += 1
            self.spine[depth] = x
        if self.lhs[x] < self.leaves and self.zero[self.lhs[x]]:
            self.const[self.n] = 0.0
        else:
            self._add_term(i, self.lhs[x], x, 0)
        for k in range(depth, -1, -1):
            x = self.spine[k]
            self._add_term(i, self.rhs[x], x, NEGATIVE if self.op[x] == SUB else 0)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _add_term(
        self, i: cython.int, j: cython.int, x: cython.int, style: cython.uchar
    ) -> cython.void:
        """Add node j to the sum i, with what is taken in; x is who passes its gradient on."""
        while self.op[j] == NEG and (self.folded[j] or j == i):
            style ^= NEGATIVE
            x = j
            j = self.lhs[j]
        self.style[self.t] = style
        if self.op[j] == MUL and (self.folded[j] or j == i):
            self._add(self.lhs[j], j)
            self.right[self.t - 1] = self.node[self.rhs[j]]
            self._notice(self.right[self.t - 1])
        else:
            self._add(j, x)

    @cython.cfunc
    @cython.exceptval(check=False)
    def _write_choice(self, i: cython.int) -> cython.void:
        """A `where` or a `take`; of a `take` from a fixed place, a copy of what is selected."""
        n: cython.int = self.n
        code: cython.int = self.op[i]
        k: cython.int
        index: cython.int
        if code == TAKE:
            index = self.many[self.lhs[i]]
            if self.fixed[index] >= 0:
                self.kind[n], self.const[n] = ADD, -0.0
            else:
                self.batched = self.index_space[index] == OF_EXAMPLE_INDEX
                self.slot[n], self.extra[n] = self.index_place[index], self.batched
                self.const[n] = self.rhs[i]
        for k in range(self._begin(i, code), self._end(i, code)):
            self._add(self.many[k], i)

    @cython.cfunc
    @cython.exceptval(check=False)
    def _write_fold(self, i: cython.int) -> cython.void:
        """A chain of maxima, or of minima, through which no gradient flows."""
        code: cython.int = self.op[i]
        depth: cython.int = 0
        k: cython.int
        x: cython.int = i
        self.kind[self.n] = MAX_OF_MANY if code == MAXIMUM else MIN_OF_MANY
        self.spine[0] = i
        while self.folded[self.lhs[x]] and self.op[self.lhs[x]] == code:
            x = self.lhs[x]
            depth += 1
            self.spine[depth] = x
        self._add(self.lhs[x], i)
        for k in range(depth, -1, -1):
            self._add(self.rhs[self.spine[k]], i)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _add(self, j: cython.int, origin: cython.int) -> cython.void:
        """Add node j of the tape as a term, or operand, of the node being written."""
        t: cython.int = self.t
        self.left[t], self.right[t], self.origin[t] = self.node[j], -1, origin
        self._notice(self.left[t])
        self.t = t + 1

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _notice(self, operand: cython.int) -> cython.void:
        """Whether an operand differs between the examples; then so does what reads it."""
        space: cython.uchar = self.space[operand]
        if space in (OF_EXAMPLE, OF_EACH):
            self.batched = True
