"""Which numbers of a flat graph may not be finite."""

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
        DIV,
        EXP,
        LEAF,
        LESS,
        LESS_EQUAL,
        LOG,
        POW,
        POWER,
        RELU,
        SQRT,
    )
else:
    from ..ops import ADD, DETACH, DIV, EXP, LEAF, LESS, LESS_EQUAL, LOG, POW, POWER, RELU, SQRT

from .flat import FOLD_MAXIMUM, INDICATOR, Flat
from .loops import MINUS, Space

MAX_OF_MANY = cython.declare(cython.uchar, FOLD_MAXIMUM)
AN_INDICATOR = cython.declare(cython.uchar, INDICATOR)
NEGATIVE = cython.declare(cython.uchar, int(MINUS))
OF_CONSTANT = cython.declare(cython.uchar, int(Space.CONSTANT))
NO_BOUND = cython.declare(cython.double, -np.inf)
SAFE = cython.declare(cython.double, 1e-60)  # its inverse, even to the fourth power, is finite


def may_be_infinite(flat: Flat) -> NDArray[np.uint8]:
    """1 where a number may not be finite though the leaves are, barring overflow of sums and
    products: where an exp, log, root or division is involved that is not known to stay in range.

    A lower bound of every node is enough to know it: a sum of squares plus a positive constant is
    positive, so are the e^(x - max x) of a softmax, at most 1, and their sum, at least 1.
    """
    found = np.zeros(len(flat), np.uint8)
    _Bounds(flat, found).run()
    return found


@cython.final
@cython.cclass
class _Bounds:
    """A lower bound of each node, from the first to the last, and whether it may be infinite.

    shifted[i] is m where node i is x - m, m the maximum of x and other nodes; i itself where it is
    x - x, the maximum of one; -1 otherwise.
    """

    kind: cython.uchar[::1]
    space: cython.uchar[::1]
    const: cython.double[::1]
    first: cython.int[::1]
    left: cython.int[::1]
    right: cython.int[::1]
    style: cython.uchar[::1]
    infinite: cython.uchar[::1]
    lower: cython.double[::1]
    shifted: cython.int[::1]

    def __init__(self, flat: Flat, found: NDArray[np.uint8]) -> None:
        self.kind, self.space, self.const = flat.kind.data, flat.space.data, flat.const.data
        self.first, self.left, self.right = flat.first.data, flat.left.data, flat.right.data
        self.style, self.infinite = flat.style.data, found.data
        self.lower = np.full(len(flat), NO_BOUND).data
        self.shifted = np.full(len(flat), -1, np.int32).data

    def run(self) -> None:
        """Find out about each node what follows from its operands."""
        i: cython.int
        t: cython.int
        code: cython.int
        for i in range(len(self.kind)):
            code = self.kind[i]
            if code == LEAF:
                if self.space[i] == OF_CONSTANT:
                    self.lower[i] = self.const[i]
                continue
            if code in (LESS, LESS_EQUAL, AN_INDICATOR):
                self.lower[i] = 0.0
                continue
            for t in range(self.first[i], self.first[i + 1]):
                self.infinite[i] |= self.infinite[self.left[t]]
                if self.right[t] >= 0:
                    self.infinite[i] |= self.infinite[self.right[t]]
            if code == ADD:
                self._sum(i)
            else:
                self._function(i, code)

    # --- functions -------------------------------------------------------------------------------

    @cython.cfunc
    @cython.exceptval(check=False)
    def _function(self, i: cython.int, code: cython.int) -> cython.void:
        x: cython.int = self.left[self.first[i]]
        bound: cython.double = self.lower[x]
        if code == EXP:
            self.lower[i] = 1.0 if self.shifted[x] == x else 0.0
            if self.shifted[x] < 0:
                self.infinite[i] = 1
        elif code == LOG:
            if bound < SAFE:
                self.infinite[i] = 1
        elif code == SQRT:
            if bound < SAFE:
                self.infinite[i] = 1
            else:
                self.lower[i] = bound**0.5
        elif code == POW:
            self._power(i, bound, self.const[i])
        elif code == DIV:
            if self.lower[self.left[self.first[i] + 1]] < SAFE:
                self.infinite[i] = 1
            elif bound >= 0.0:
                self.lower[i] = 0.0
        elif code == POWER:
            self.infinite[i] = 1
        elif code == DETACH:
            self.lower[i] = bound
        elif code == RELU:
            self.lower[i] = max(bound, 0.0)

    @cython.cfunc
    @cython.exceptval(check=False)
    def _power(self, i: cython.int, bound: cython.double, exponent: cython.double) -> cython.void:
        if exponent >= 0.0 and exponent == float(int(min(exponent, 1e9))):
            if exponent == 2.0:
                self.lower[i] = 0.0
        elif bound < SAFE or not -4.0 <= exponent <= 4.0:
            self.infinite[i] = 1
        else:
            self.lower[i] = bound**exponent if exponent > 0.0 else 0.0

    # --- sums ------------------------------------------------------------------------------------

    @cython.cfunc
    @cython.exceptval(check=False)
    def _sum(self, i: cython.int) -> cython.void:
        t: cython.int = self.first[i]
        count: cython.int = self.first[i + 1] - t
        self.lower[i] = self._least(i)
        if count == 2 and self.style[t] == 0 and self.style[t + 1] == NEGATIVE:
            self.shifted[i] = self._maximum_in(i)
        elif count > 0 and self._has_all_candidates(i):
            self.lower[i] = 1.0  # one of them is e^0

    @cython.cfunc
    @cython.exceptval(check=False)
    def _least(self, i: cython.int) -> cython.double:
        """The sum of the least that each term can be."""
        total: cython.double = self.const[i]
        t: cython.int
        a: cython.int
        b: cython.int
        for t in range(self.first[i], self.first[i + 1]):
            a, b = self.left[t], self.right[t]
            if self.style[t] & NEGATIVE:
                return NO_BOUND
            if b < 0:
                total += self.lower[a]
            elif a != b and not (self.lower[a] >= 0.0 and self.lower[b] >= 0.0):
                return NO_BOUND
        return total

    @cython.cfunc
    @cython.exceptval(check=False)
    def _maximum_in(self, i: cython.int) -> cython.int:
        """What `shifted` says of the difference i."""
        t: cython.int = self.first[i]
        k: cython.int
        x: cython.int = self.left[t]
        m: cython.int = self.left[t + 1]
        while self.kind[m] == DETACH:
            m = self.left[self.first[m]]
        if m == x:
            return i
        if self.kind[m] == MAX_OF_MANY and self.right[t] < 0 and self.right[t + 1] < 0:
            for k in range(self.first[m], self.first[m + 1]):
                if self.left[k] == x:
                    return m
        return -1

    @cython.cfunc
    @cython.exceptval(check=False)
    def _has_all_candidates(self, i: cython.int) -> cython.bint:
        """Whether i is the sum of e^(x - m) over all x of which m is the maximum, in order."""
        t: cython.int = self.first[i]
        count: cython.int = self.first[i + 1] - t
        k: cython.int
        m: cython.int
        difference: cython.int
        if self.kind[self.left[t]] != EXP:
            return False
        m = self.shifted[self.left[self.first[self.left[t]]]]
        if m < 0 or self.kind[m] != MAX_OF_MANY or self.first[m + 1] - self.first[m] != count:
            return False
        for k in range(count):
            if self.right[t + k] >= 0 or self.style[t + k] or self.kind[self.left[t + k]] != EXP:
                return False
            difference = self.left[self.first[self.left[t + k]]]
            if self.shifted[difference] != m:
                return False
            if self.left[self.first[difference]] != self.left[self.first[m] + k]:
                return False
        return True
