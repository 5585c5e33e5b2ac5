"""What operations of a walk have in common: which code does them, and that code.

A run of operations of one form is done by one piece of code, which differs from that of others in
what it computes and in how many terms there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import reduce
from typing import NamedTuple

import numpy as np

from .. import ops
from .arithmetic import FORMS, Arithmetic
from .loops import MINUS, SKIP_LEFT, SKIP_RIGHT
from .walks import PRODUCT

# In place of a number of terms: a step; many with the same code, or with different ones.
STEP, ALIKE, MIXED = 253, 254, 255
FOLDS = {ops.ADD: 0.0, ops.MAXIMUM: -np.inf, ops.MINIMUM: np.inf}

Term = tuple[str, str | None, int]  # left factor, right factor, style


class Way(IntEnum):
    """How a walk is done whose stream is interpreted."""

    APART = 0  # of one example, its numbers in the arrays of their spaces
    NEAR = 1  # of one example, its numbers in one array
    ABREAST = 2  # of several examples at once, whose numbers lie side by side


class Form(NamedTuple):
    """What operations of one form have in common.

    `many` is the number of terms, STEP, ALIKE or MIXED; `terms` are their codes (the one code that all
    have where they are ALIKE), four bits each, the first in the lowest; of a step, only when x * y is
    left out.
    """

    code: int
    const: float
    many: int
    terms: int

    def term(self, k: int) -> int:
        """The code of term k."""
        return self.terms >> 4 * k & 15

    @property
    def period(self) -> int:
        """How many integers lie between operands that play the same part."""
        if self.many == STEP:
            return 4
        if self.many == MIXED:
            return 3
        if self.many == ALIKE:
            return 1 + (self.term(0) & PRODUCT)
        return 1 + sum(1 + (self.term(k) & PRODUCT) for k in range(self.many))


def value(m: Arithmetic, code: int, const: float, terms: Sequence[Term]) -> str:
    """An operation on numbers."""
    numbers = [left for left, _, _ in terms]
    if code not in FOLDS:
        return FORMS[code](m, *numbers, const)
    if code != ops.ADD:
        return reduce(lambda value, number: m.folded(code, value, number, None, False), numbers)
    return reduce(lambda value, term: folded(m, code, value, term), terms, m.constant(const))


def folded(m: Arithmetic, code: int, value: str, term: Term) -> str:
    """What comes of a value and the next term of its sum, or of its maximum or minimum."""
    left, right, style = term
    after = m.folded(code, value, left, right, bool(style & MINUS))
    for flag, factor in ((SKIP_RIGHT, right), (SKIP_LEFT, left)):
        if style & flag and right is not None and factor is not None:
            after = m.select(m.compare("oeq", factor, m.constant(0.0)), value, after)
    return after
