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
from .flat import FOLD_MAXIMUM, INDICATOR, LONE, OVER, Flat
from .loops import MINUS, SKIP_LEFT, SKIP_RIGHT, Space

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


def _merge(flat: Flat, same_: NDArray[np.int32]) -> None:
    """Rewrite terms in place; same[i] is the node that stands for node i from now on.

    Where node i is the opposite of another, which only sums make use of, that is ~same[i].
    """
    kind: cython.uchar[::1] = flat.kind.data
    const: cython.double[::1] = flat.const.data
    bits: cython.ulonglong[::1] = flat.const.view(np.uint64).data
    space: cython.uchar[::1] = flat.space.data
    slot: cython.int[::1] = flat.slot.data
    extra: cython.int[::1] = flat.extra.data
    first: cython.int[::1] = flat.first.data
    left: cython.int[::1] = flat.left.data
    right: cython.int[::1] = flat.right.data
    style: cython.uchar[::1] = flat.style.data
    same: cython.int[::1] = same_.data
    size: cython.int = len(kind)
    slots: cython.int = 1
    while slots < 2 * size:
        slots *= 2
    table: cython.int[::1] = np.full(slots, -1, np.int32).data
    hashes: cython.uint[::1] = np.zeros(size, np.uint32).data
    # Equal constants are one operand to the search for equal nodes (`like`), but each node keeps
    # its own: merging them would scatter the addresses of constants that lie in a row.
    like: cython.int[::1] = np.arange(size, dtype=np.int32).data
    gradient: cython.uchar[::1] = np.array([s in GRADIENTS for s in Space], np.uint8).data
    i: cython.int
    j: cython.int
    t: cython.int
    k: cython.int
    place: cython.int
    code: cython.int
    h: cython.ulonglong
    short: cython.uint
    constant: cython.bint
    CONSTANT: cython.int = int(Space.CONSTANT)
    NEGATIVE: cython.int = int(MINUS)
    SKIPS: cython.int = int(SKIP_LEFT | SKIP_RIGHT)
    EACH: cython.int = int(OVER)
    MANY: cython.int = int(FOLD_MAXIMUM)
    AN_INDICATOR: cython.int = int(INDICATOR)
    ALONE: cython.int = int(LONE)
    for i in range(size):
        code = kind[i]
        if code == LEAF:
            if space[i] != CONSTANT:
                continue
        else:
            constant = code != AN_INDICATOR and code != TAKE
            for t in range(first[i], first[i + 1]):
                left[t] = _standing(left[t], same)
                if right[t] >= 0:
                    right[t] = _standing(right[t], same)
                if code == ADD:
                    # Signs of the factors go to the term, and a factor 1 or -1 goes.
                    if same[left[t]] < 0:
                        left[t] = ~same[left[t]]
                        style[t] ^= NEGATIVE
                    if right[t] >= 0 and same[right[t]] < 0:
                        right[t] = ~same[right[t]]
                        style[t] ^= NEGATIVE
                    if right[t] >= 0:
                        j = left[t]
                        if space[j] == CONSTANT and (const[j] == 1.0 or const[j] == -1.0):
                            left[t] = right[t]
                            right[t] = -1
                        else:
                            j = right[t]
                            if space[j] == CONSTANT and (const[j] == 1.0 or const[j] == -1.0):
                                right[t] = -1
                        if right[t] < 0:
                            style[t] &= ~SKIPS
                            if const[j] < 0.0:
                                style[t] ^= NEGATIVE
                if space[left[t]] != CONSTANT or (right[t] >= 0 and space[right[t]] != CONSTANT):
                    constant = False
                if style[t] & EACH:
                    constant = False
            t = first[i]
            if gradient[space[i]]:
                continue
            if constant:
                const[i] = constant_result(flat, i)
                kind[i] = code = LEAF
                space[i] = CONSTANT
            elif code == DETACH:
                same[i] = left[t]
                continue
            elif (
                (code == ADD and bits[i] == 0x8000000000000000) or code == MANY or code == MANY + 1
            ) and (first[i + 1] == t + 1 and right[t] < 0 and extra[i] != ALONE):
                if style[t] == 0:
                    same[i] = left[t]
                    continue
                if style[t] == NEGATIVE:
                    same[i] = ~left[t]
        h = mix(mix(code, bits[i]), space[i])
        if code in (AN_INDICATOR, TAKE):
            h = mix(mix(mix(h, slot[i]), extra[i]), space[i])
        if code != LEAF:
            for t in range(first[i], first[i + 1]):
                # Only constants are alike without being the same.
                j = left[t]
                h = mix(h, like[j] if space[j] == CONSTANT else j)
                j = right[t]
                h = mix(h, 0 if j < 0 else (like[j] if space[j] == CONSTANT else j) + 1)
                h = mix(h, style[t])
        short = cython.cast(cython.uint, h >> 32)
        hashes[i] = short
        place = cython.cast(cython.int, h & (slots - 1))
        while True:
            j = table[place]
            if j < 0:
                table[place] = i
                break
            if (
                hashes[j] == short
                and kind[j] == code
                and bits[j] == bits[i]
                and space[j] == space[i]
            ):
                if code == LEAF:
                    like[i] = j
                    break
                if first[i + 1] - first[i] == first[j + 1] - first[j] and (
                    (code != AN_INDICATOR and code != TAKE)
                    or (slot[i] == slot[j] and extra[i] == extra[j] and space[i] == space[j])
                ):
                    for k in range(first[i + 1] - first[i]):
                        t = first[i] + k
                        place = first[j] + k
                        if like[left[t]] != like[left[place]] or style[t] != style[place]:
                            break
                        if (right[t] < 0) != (right[place] < 0):
                            break
                        if right[t] >= 0 and like[right[t]] != like[right[place]]:
                            break
                    else:
                        same[i] = j
                        break
                    place = cython.cast(cython.int, h & (slots - 1))
                    while table[place] != j:
                        place = (place + 1) & (slots - 1)
            place = (place + 1) & (slots - 1)


@cython.cfunc
@cython.inline
def _standing(i: cython.int, same: cython.int[::1]) -> cython.int:
    """The node that stands for node i."""
    return i if same[i] < 0 else same[i]


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
