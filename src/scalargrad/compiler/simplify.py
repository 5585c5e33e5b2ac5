"""The third stage: fewer nodes with the same bits.

Equal nodes are merged, operations on constants are done, copies and signs are followed to where
they come from, and what no result needs is dropped. Only what cannot change a bit of a result is
done: no sum is reordered, and x + 0.0 stays, because it turns -0.0 into 0.0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad.compiler.hashing import mix
    from cython.cimports.scalargrad.rules import ADD, DETACH, LEAF, TAKE
else:
    from ..ops import ADD, DETACH, LEAF, TAKE
    from .hashing import mix

from .. import ops, rules
from .flat import FOLD_MAXIMUM, FOLD_MINIMUM, INDICATOR, LONE, OVER, Flat
from .loops import MINUS, SKIP_LEFT, SKIP_RIGHT, Space

NEGATIVE = cython.declare(cython.uchar, int(MINUS))
SKIPS = cython.declare(cython.uchar, int(SKIP_LEFT | SKIP_RIGHT))
FOR_EACH = cython.declare(cython.uchar, int(OVER))
ALONE = cython.declare(cython.int, LONE)
AN_INDICATOR = cython.declare(cython.uchar, INDICATOR)
MAX_OF_MANY = cython.declare(cython.uchar, FOLD_MAXIMUM)
MIN_OF_MANY = cython.declare(cython.uchar, FOLD_MINIMUM)
OF_CONSTANT = cython.declare(cython.uchar, int(Space.CONSTANT))
MINUS_ZERO = cython.declare(cython.ulonglong, 1 << 63)  # the bits of -0.0

GRADIENTS = (Space.PARAMETER_GRADIENT, Space.ARGUMENT_GRADIENT, Space.EXAMPLE_GRADIENT)


def simplify(flat: Flat, outputs: NDArray[np.int32]) -> tuple[Flat, NDArray[np.int32]]:
    """The graph of the outputs and gradients alone, simplified, and the outputs in it.

    The arrays of the graph that was given are written over.
    """
    same = np.arange(len(flat), dtype=np.int32)
    _merge(flat, same)
    return _live(flat, np.where(same[outputs] < 0, outputs, same[outputs]))


def _live(flat: Flat, outputs: NDArray[np.int32]) -> tuple[Flat, NDArray[np.int32]]:
    """Drop what neither an output nor a gradient needs: what is kept moves up in its arrays."""
    needed = np.isin(flat.space, GRADIENTS) & (flat.kind != LEAF)
    needed[outputs] = True
    used = needed.view(np.uint8)
    _mark(flat, used)
    number = np.empty(len(flat), np.int32)
    return flat.cut(*_move_up(flat, used, number)), number[outputs]


def _mark(flat: Flat, used: NDArray[np.uint8]) -> None:
    kind: cython.uchar[::1] = flat.kind.data
    first: cython.int[::1] = flat.first.data
    left: cython.int[::1] = flat.left.data
    right: cython.int[::1] = flat.right.data
    needed: cython.uchar[::1] = used.data
    i: cython.int
    t: cython.int
    for i in range(len(needed) - 1, -1, -1):
        if needed[i] and kind[i] != LEAF:
            for t in range(first[i], first[i + 1]):
                needed[left[t]] = 1
                if right[t] >= 0:
                    needed[right[t]] = 1


def _move_up(flat: Flat, used: NDArray[np.uint8], number_: NDArray[np.int32]) -> tuple[int, int]:
    """Number what is used and move it to the front; gives how many nodes and terms there are."""
    kind: cython.uchar[::1] = flat.kind.data
    const: cython.double[::1] = flat.const.data
    space: cython.uchar[::1] = flat.space.data
    slot: cython.int[::1] = flat.slot.data
    extra: cython.int[::1] = flat.extra.data
    rank: cython.int[::1] = flat.rank.data
    first: cython.int[::1] = flat.first.data
    left: cython.int[::1] = flat.left.data
    right: cython.int[::1] = flat.right.data
    style: cython.uchar[::1] = flat.style.data
    origin: cython.int[::1] = flat.origin.data
    needed: cython.uchar[::1] = used.data
    number: cython.int[::1] = number_.data
    i: cython.int
    t: cython.int
    begin: cython.int
    end: cython.int = first[0]
    n: cython.int = 0
    m: cython.int = 0
    for i in range(len(needed)):
        begin, end = end, first[i + 1]
        if not needed[i]:
            continue
        number[i] = n
        kind[n], const[n], space[n] = kind[i], const[i], space[i]
        slot[n], extra[n], rank[n] = slot[i], extra[i], rank[i]
        # An operation on constants has become a leaf and kept its terms.
        if kind[i] != LEAF:
            for t in range(begin, end):
                left[m] = number[left[t]]
                right[m] = -1 if right[t] < 0 else number[right[t]]
                style[m], origin[m] = style[t], origin[t]
                m += 1
        n += 1
        first[n] = m
    return n, m


def _merge(flat: Flat, same: NDArray[np.int32]) -> None:
    """Find what stands for each node: see `_Merging`."""
    _Merging(flat, same).run()


@cython.final
@cython.cclass
class _Merging:
    """A graph whose terms are rewritten in place, from its first node to its last.

    same[i]  the node that stands for node i from now on. Where node i is the opposite of another,
             which only sums make use of, that is ~same[i].
    like[i]  node i, or an earlier constant that is equal. Equal constants are one operand to the
             search for equal nodes, but each keeps its own place: merging them would scatter the
             addresses of constants that lie in a row.

    `table` finds nodes by their hashes (open addressing, Knuth, TAOCP 3, 6.4), of which `hashes`
    keeps the half that does not say where in the table they are.
    """

    flat: Flat
    kind: cython.uchar[::1]
    const: cython.double[::1]
    bits: cython.ulonglong[::1]  # of const
    space: cython.uchar[::1]
    slot: cython.int[::1]
    extra: cython.int[::1]
    first: cython.int[::1]
    left: cython.int[::1]
    right: cython.int[::1]
    style: cython.uchar[::1]
    same: cython.int[::1]
    like: cython.int[::1]
    is_gradient: cython.uchar[::1]
    table: cython.int[::1]
    hashes: cython.uint[::1]
    slots: cython.int

    def __init__(self, flat: Flat, same: NDArray[np.int32]) -> None:
        size = len(flat)
        self.flat, self.same = flat, same.data
        self.kind, self.const, self.space = flat.kind.data, flat.const.data, flat.space.data
        self.slot, self.extra = flat.slot.data, flat.extra.data
        self.bits = flat.const.view(np.uint64).data
        self.first, self.left, self.right = flat.first.data, flat.left.data, flat.right.data
        self.style = flat.style.data
        self.like = np.arange(size, dtype=np.int32).data
        self.is_gradient = np.array([space in GRADIENTS for space in Space], np.uint8).data
        self.slots = 1
        while self.slots < 2 * size:
            self.slots *= 2
        self.table = np.full(self.slots, -1, np.int32).data
        self.hashes = np.zeros(size, np.uint32).data

    def run(self) -> None:
        """Find what stands for each node, and have its users read that."""
        i: cython.int
        for i in range(len(self.kind)):
            if self.kind[i] != LEAF:
                if self._rewrite(i) and self.is_gradient[self.space[i]] == 0:
                    self._compute(i)
                if self.is_gradient[self.space[i]] or self._is_copy(i):
                    continue
            elif self.space[i] != OF_CONSTANT:
                continue
            self._unify(i)

    # --- the terms of a node ---------------------------------------------------------------------

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _rewrite(self, i: cython.int) -> cython.bint:
        """Have the terms of node i read what stands for its operands; whether all are constants."""
        code: cython.int = self.kind[i]
        constant: cython.bint = code != AN_INDICATOR and code != TAKE
        t: cython.int
        for t in range(self.first[i], self.first[i + 1]):
            self.left[t] = self._standing(self.left[t])
            if self.right[t] >= 0:
                self.right[t] = self._standing(self.right[t])
            if code == ADD:
                self._take_signs(t)
                if self.right[t] >= 0:
                    self._drop_ones(t)
            if (
                self.space[self.left[t]] != OF_CONSTANT
                or self.style[t] & FOR_EACH
                or (self.right[t] >= 0 and self.space[self.right[t]] != OF_CONSTANT)
            ):
                constant = False
        return constant

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _standing(self, i: cython.int) -> cython.int:
        """The node that stands for node i."""
        return i if self.same[i] < 0 else self.same[i]

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _take_signs(self, t: cython.int) -> cython.void:
        """A factor that is the opposite of a node is that node, and the term has the sign."""
        if self.same[self.left[t]] < 0:
            self.left[t] = ~self.same[self.left[t]]
            self.style[t] ^= NEGATIVE
        if self.right[t] >= 0 and self.same[self.right[t]] < 0:
            self.right[t] = ~self.same[self.right[t]]
            self.style[t] ^= NEGATIVE

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _drop_ones(self, t: cython.int) -> cython.void:
        """A product with 1 or -1 is the other factor, or its opposite."""
        one: cython.int = self.left[t]
        if self._is_one(one):
            self.left[t] = self.right[t]
        else:
            one = self.right[t]
            if not self._is_one(one):
                return
        self.right[t] = -1
        self.style[t] &= ~SKIPS
        if self.const[one] < 0.0:
            self.style[t] ^= NEGATIVE

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _is_one(self, i: cython.int) -> cython.bint:
        """Whether a node is the constant 1 or -1."""
        if self.space[i] != OF_CONSTANT:
            return False
        return self.const[i] == 1.0 or self.const[i] == -1.0

    # --- what stands for a node ------------------------------------------------------------------

    @cython.cfunc
    def _compute(self, i: cython.int) -> cython.void:
        """An operation on constants is a constant. It keeps its terms, which nobody reads."""
        self.const[i] = constant_result(self.flat, i)
        self.kind[i], self.space[i] = LEAF, OF_CONSTANT

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _is_copy(self, i: cython.int) -> cython.bint:
        """Whether another node stands for node i, which computes nothing; notes an opposite, too.

        A sum that begins with -0.0 has the bits of its only term.
        """
        t: cython.int = self.first[i]
        code: cython.int = self.kind[i]
        if code == DETACH:
            self.same[i] = self.left[t]
            return True
        if code == ADD:
            if self.bits[i] != MINUS_ZERO:
                return False
        elif code != MAX_OF_MANY and code != MIN_OF_MANY:
            return False
        if self.first[i + 1] != t + 1 or self.right[t] >= 0 or self.extra[i] == ALONE:
            return False
        if self.style[t] == NEGATIVE:
            self.same[i] = ~self.left[t]
        if self.style[t]:
            return False
        self.same[i] = self.left[t]
        return True

    # --- equal nodes -----------------------------------------------------------------------------

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _unify(self, i: cython.int) -> cython.void:
        """Have an earlier node that is equal stand for node i, or put it into the table."""
        h: cython.ulonglong = self._hash(i)
        place: cython.int = cython.cast(cython.int, h & (self.slots - 1))
        j: cython.int = self.table[place]
        self.hashes[i] = cython.cast(cython.uint, h >> 32)
        while j >= 0:
            if self.hashes[j] == self.hashes[i] and self._are_equal(i, j):
                if self.kind[i] == LEAF:
                    self.like[i] = j
                else:
                    self.same[i] = j
                return
            place = (place + 1) & (self.slots - 1)
            j = self.table[place]
        self.table[place] = i

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _hash(self, i: cython.int) -> cython.ulonglong:
        t: cython.int
        h: cython.ulonglong = mix(mix(self.kind[i], self.bits[i]), self.space[i])
        if self.kind[i] == LEAF:
            return h
        if self._selects(i):
            h = mix(mix(h, self.slot[i]), self.extra[i])
        for t in range(self.first[i], self.first[i + 1]):
            h = mix(h, self.like[self.left[t]])
            h = mix(h, 0 if self.right[t] < 0 else self.like[self.right[t]] + 1)
            h = mix(h, self.style[t])
        return h

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _selects(self, i: cython.int) -> cython.bint:
        """Whether a node depends on an integer argument, which `slot` and `extra` name."""
        return self.kind[i] == AN_INDICATOR or self.kind[i] == TAKE

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _are_equal(self, i: cython.int, j: cython.int) -> cython.bint:
        """Whether two nodes do the same with the same operands."""
        k: cython.int
        t: cython.int
        u: cython.int
        if self.kind[j] != self.kind[i] or self.bits[j] != self.bits[i]:
            return False
        if self.space[j] != self.space[i]:
            return False
        if self.kind[i] == LEAF:
            return True
        t, u = self.first[i], self.first[j]
        if self.first[i + 1] - t != self.first[j + 1] - u:
            return False
        if self._selects(i) and (self.slot[i] != self.slot[j] or self.extra[i] != self.extra[j]):
            return False
        for k in range(self.first[i + 1] - t):
            if self.like[self.left[t + k]] != self.like[self.left[u + k]]:
                return False
            if self.style[t + k] != self.style[u + k]:
                return False
            if (self.right[t + k] < 0) != (self.right[u + k] < 0):
                return False
            if self.right[t + k] < 0:
                continue
            if self.like[self.right[t + k]] != self.like[self.right[u + k]]:
                return False
        return True


def constant_result(flat: Flat, i: int) -> float:
    """The number of a node whose operands are constants."""
    terms = range(int(flat.first[i]), int(flat.first[i + 1]))
    kind, const = int(flat.kind[i]), float(flat.const[i])
    numbers = [float(flat.const[flat.left[t]]) for t in terms]
    if kind == ops.ADD:
        total = const
        for t, number in zip(terms, numbers):
            if flat.right[t] >= 0:
                other, style = float(flat.const[flat.right[t]]), int(flat.style[t])
                if (style & SKIP_RIGHT and other == 0.0) or (style & SKIP_LEFT and number == 0.0):
                    continue
                number *= other
            total += -number if flat.style[t] & MINUS else number
        return total
    if kind >= FOLD_MAXIMUM:
        fold = ops.MAXIMUM if kind == FOLD_MAXIMUM else ops.MINIMUM
        for number in numbers[1:]:
            numbers[0] = rules.evaluate(fold, numbers[0], number, 0.0)
        return numbers[0]
    if kind == ops.WHERE:
        return rules.evaluate(kind, numbers[1], numbers[2], numbers[0])
    return rules.evaluate(kind, numbers[0], numbers[1] if len(numbers) > 1 else 0.0, const)
