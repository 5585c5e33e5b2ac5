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


def flatten(tape: Tape, marks: Marks) -> tuple[Flat, NDArray[np.int32]]:
    """The flat graph of everything the outputs depend on, and the nodes of the outputs.

    Every leaf is kept. In a program with a batch the last node is the scalar SEED.
    """
    n = len(tape)
    fixed = np.full(len(tape.index), -1, np.int32)
    if len(fixed):
        kept = marks.index_space == Space.CONSTANT
        fixed[kept] = tape.index[kept]
    roots = tape.outputs[: 1 + marks.penalty] if marks.wanted else tape.outputs[:0]
    wanted = np.isin(marks.space, marks.wanted)
    constant = marks.space == Space.CONSTANT
    zero = constant & (marks.number == 0.0) & ~np.signbit(marks.number)
    brief = in_families(tape, marks)
    selected = int(tape.rhs[(tape.op == TAKE) & ~brief].sum()) + 2 * int(brief.sum())
    capacity = 2 * n + len(tape.many) + selected + 2
    kind, first = np.zeros(n + 1, np.uint8), np.zeros(n + 2, np.int32)
    const, rank = np.zeros(n + 1), np.zeros(n + 1, np.int32)
    left, right = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
    style, origin = np.zeros(capacity, np.uint8), np.empty(capacity, np.int32)
    slot, extra = np.zeros(n + 1, np.int32), np.zeros(n + 1, np.int32)
    space = np.full(n + 1, Space.TEMPORARY, np.uint8)
    node = np.full(n, -1, np.int32)
    nodes, terms = _gather(
        tape.leaves,
        tape.op,
        tape.lhs,
        tape.rhs,
        tape.const,
        tape.many,
        tape.outputs,
        np.ascontiguousarray(roots),
        wanted.astype(np.uint8),
        zero.astype(np.uint8),
        fixed,
        brief.view(np.uint8),
        marks.space,
        marks.place,
        marks.number,
        marks.index_space,
        marks.index_place,
        (kind, const, space, slot, extra, rank, first, left, right, style, origin, node),
    )
    if marks.batch is not None:
        space[nodes], slot[nodes], rank[nodes] = Space.SCALAR, SEED, n
        first[nodes + 1] = terms
        nodes += 1
    flat = Flat(kind, const, space, slot, extra, rank, first, left, right, style, origin)
    return flat.cut(nodes, terms), node[tape.outputs]


def _gather(
    leaves: cython.int,
    op_: NDArray[np.uint8],
    lhs_: NDArray[np.int32],
    rhs_: NDArray[np.int32],
    tape_const_: NDArray[np.float64],
    many_: NDArray[np.int32],
    outputs_: NDArray[np.int32],
    roots_: NDArray[np.int32],
    wanted_: NDArray[np.uint8],
    zero_: NDArray[np.uint8],
    fixed_: NDArray[np.int32],
    brief_: NDArray[np.uint8],
    leaf_space_: NDArray[np.uint8],
    leaf_place_: NDArray[np.int32],
    leaf_number_: NDArray[np.float64],
    index_space_: NDArray[np.uint8],
    index_place_: NDArray[np.int32],
    into: tuple,
) -> tuple[int, int]:
    op: cython.uchar[::1] = op_.data
    lhs: cython.int[::1] = lhs_.data
    rhs: cython.int[::1] = rhs_.data
    tape_const: cython.double[::1] = tape_const_.data
    many: cython.int[::1] = many_.data
    outputs: cython.int[::1] = outputs_.data
    roots: cython.int[::1] = roots_.data
    wanted: cython.uchar[::1] = wanted_.data
    zero: cython.uchar[::1] = zero_.data
    fixed: cython.int[::1] = fixed_.data
    brief: cython.uchar[::1] = brief_.data
    leaf_space: cython.uchar[::1] = leaf_space_.data
    leaf_place: cython.int[::1] = leaf_place_.data
    leaf_number: cython.double[::1] = leaf_number_.data
    index_space: cython.uchar[::1] = index_space_.data
    index_place: cython.int[::1] = index_place_.data
    kind: cython.uchar[::1] = into[0].data
    const: cython.double[::1] = into[1].data
    space: cython.uchar[::1] = into[2].data
    slot: cython.int[::1] = into[3].data
    extra: cython.int[::1] = into[4].data
    rank: cython.int[::1] = into[5].data
    first: cython.int[::1] = into[6].data
    left: cython.int[::1] = into[7].data
    right: cython.int[::1] = into[8].data
    style: cython.uchar[::1] = into[9].data
    origin: cython.int[::1] = into[10].data
    node: cython.int[::1] = into[11].data
    size: cython.int = len(op)
    uses: cython.int[::1] = np.zeros(size, np.int32).data
    active: cython.uchar[::1] = np.zeros(size, np.uint8).data
    folded: cython.uchar[::1] = np.zeros(size, np.uint8).data
    spine: cython.int[::1] = np.empty(size, np.int32).data
    i: cython.int
    j: cython.int
    k: cython.int
    x: cython.int
    code: cython.int
    depth: cython.int
    t: cython.int = 0
    n: cython.int = 0
    sign: cython.int
    batched: cython.bint
    SPACE_EXAMPLE: cython.int = int(Space.EXAMPLE)
    SPACE_EXAMPLE_INDEX: cython.int = int(Space.EXAMPLE_INDEX)
    SPACE_BATCHED: cython.int = int(Space.BATCHED)
    NEGATIVE: cython.int = int(MINUS)
    MAX_OF_MANY: cython.int = int(FOLD_MAXIMUM)
    MIN_OF_MANY: cython.int = int(FOLD_MINIMUM)

    # Uses of everything the outputs depend on; 0 uses is dead.
    for i in range(len(outputs)):
        uses[outputs[i]] += 1
    for i in range(size - 1, leaves - 1, -1):
        if uses[i] == 0:
            continue
        code = op[i]
        if code == WHERE:
            for k in range(3):
                uses[many[lhs[i] + k]] += 1
        elif code == TAKE:
            j = lhs[i]
            if fixed[many[j]] >= 0:
                uses[many[many[j + 1] + fixed[many[j]]]] += 1
            else:
                for k in range(many[j + 1], many[j + 1] + (2 if brief[i] else rhs[i])):
                    uses[many[k]] += 1
        else:
            uses[lhs[i]] += 1
            if rhs[i] >= 0 and code != POW and code != LEAKY_RELU:
                uses[rhs[i]] += 1

    # Where gradients flow (bit 1: it depends on something wanted, bit 2: a loss depends on it).
    for i in range(leaves):
        active[i] = wanted[i]
    for i in range(leaves, size):
        if uses[i] == 0:
            continue
        code = op[i]
        if code in (DETACH, LESS, LESS_EQUAL):
            continue
        if code == WHERE:
            active[i] = active[many[lhs[i] + 1]] | active[many[lhs[i] + 2]]
        elif code == TAKE:
            j = many[lhs[i] + 1]
            for k in range(j, j + (2 if brief[i] else rhs[i])):
                active[i] |= active[many[k]]
        else:
            active[i] = active[lhs[i]]
            if rhs[i] >= 0 and code != POW and code != LEAKY_RELU:
                active[i] |= active[rhs[i]]
    for i in range(len(roots)):
        active[roots[i]] |= 2
    for i in range(size - 1, leaves - 1, -1):
        if uses[i] == 0 or active[i] != 3:
            continue
        code = op[i]
        if code == WHERE:
            active[many[lhs[i] + 1]] |= 2
            active[many[lhs[i] + 2]] |= 2
        elif code == TAKE:
            j = many[lhs[i] + 1]
            for k in range(j, j + (2 if brief[i] else rhs[i])):
                active[many[k]] |= 2
        else:
            active[lhs[i]] |= 2
            if rhs[i] >= 0 and code != POW and code != LEAKY_RELU:
                active[rhs[i]] |= 2

    # What its only user takes in. A user comes later, so a node is decided on before its operands
    # matter: `folded` of an operand is final once every node was seen.
    for i in range(leaves, size):
        if uses[i] == 0:
            continue
        code = op[i]
        if code in (ADD, SUB):
            j = lhs[i]
            if uses[j] == 1 and (op[j] == ADD or op[j] == SUB or op[j] == MUL or op[j] == NEG):
                folded[j] = 1
            j = rhs[i]
            if uses[j] == 1 and (op[j] == MUL or op[j] == NEG):
                folded[j] = 1
        elif code == NEG:
            j = lhs[i]
            if uses[j] == 1 and (op[j] == MUL or op[j] == NEG):
                folded[j] = 1
        elif code in (MAXIMUM, MINIMUM):
            j = lhs[i]
            if uses[j] == 1 and op[j] == code and active[i] != 3 and active[j] != 3:
                folded[j] = 1

    for i in range(size):
        if i < leaves:
            kind[n] = LEAF
            const[n] = leaf_number[i]
            space[n] = leaf_space[i]
            slot[n] = leaf_place[i]
            rank[n] = i
            node[i] = n
            n += 1
            first[n] = t
            continue
        if uses[i] == 0 or folded[i]:
            continue
        code = op[i]
        kind[n] = code
        rank[n] = i
        batched = False
        if code in (ADD, SUB, MUL, NEG):
            kind[n] = ADD
            const[n] = -0.0
            # Down the left spine, then up again, adding the right operands.
            depth = 0
            x = i
            while True:
                spine[depth] = x
                depth += 1
                if op[x] != ADD and op[x] != SUB:
                    break
                j = lhs[x]
                if folded[j] and (op[j] == ADD or op[j] == SUB):
                    x = j
                else:
                    break
            for k in range(depth - 1, -1, -1):
                x = spine[k]
                for side in range(2):
                    if side == 0 and k < depth - 1:
                        continue
                    sign = 0
                    j = x
                    if op[x] == ADD or op[x] == SUB:
                        j = lhs[x] if side == 0 else rhs[x]
                        if side == 1 and op[x] == SUB:
                            sign = 1
                        if side == 0 and j < leaves and zero[j]:
                            const[n] = 0.0
                            continue
                    elif side == 1:
                        continue
                    # j is the term, x the node that passes its gradient on.
                    while op[j] == NEG and (folded[j] or j == i):
                        sign = 1 - sign
                        x = j
                        j = lhs[j]
                    if op[j] == MUL and (folded[j] or j == i):
                        left[t] = node[lhs[j]]
                        right[t] = node[rhs[j]]
                        origin[t] = j
                    else:
                        left[t] = node[j]
                        right[t] = -1
                        origin[t] = x
                    style[t] = NEGATIVE if sign else 0
                    t += 1
                    x = spine[k]
        elif code == WHERE:
            for k in range(3):
                left[t] = node[many[lhs[i] + k]]
                right[t] = -1
                origin[t] = i
                t += 1
        elif code == TAKE:
            j = lhs[i]
            if fixed[many[j]] >= 0:
                kind[n] = ADD
                const[n] = -0.0
                left[t] = node[many[many[j + 1] + fixed[many[j]]]]
                right[t] = -1
                origin[t] = i
                t += 1
            else:
                slot[n] = index_place[many[j]]
                batched = index_space[many[j]] == SPACE_EXAMPLE_INDEX
                extra[n] = batched
                const[n] = rhs[i]
                for k in range(many[j + 1], many[j + 1] + (2 if brief[i] else rhs[i])):
                    left[t] = node[many[k]]
                    right[t] = -1
                    origin[t] = i
                    t += 1
        elif (code in (MAXIMUM, MINIMUM)) and active[i] != 3:
            kind[n] = MAX_OF_MANY if code == MAXIMUM else MIN_OF_MANY
            depth = 0
            x = i
            while True:
                spine[depth] = x
                depth += 1
                if not folded[lhs[x]] or op[lhs[x]] != code:
                    break
                x = lhs[x]
            left[t] = node[lhs[x]]
            right[t] = -1
            origin[t] = i
            t += 1
            for k in range(depth - 1, -1, -1):
                left[t] = node[rhs[spine[k]]]
                right[t] = -1
                origin[t] = i
                t += 1
        else:
            left[t] = node[lhs[i]]
            right[t] = -1
            origin[t] = i
            t += 1
            if code in (POW, LEAKY_RELU):
                const[n] = tape_const[rhs[i]]
            elif rhs[i] >= 0:
                left[t] = node[rhs[i]]
                right[t] = -1
                origin[t] = i
                t += 1
        for k in range(first[n], t):
            j = space[left[k]]
            batched = batched or j in (SPACE_EXAMPLE, SPACE_BATCHED)
            if right[k] >= 0:
                j = space[right[k]]
                batched = batched or j in (SPACE_EXAMPLE, SPACE_BATCHED)
        if batched:
            space[n] = SPACE_BATCHED
        node[i] = n
        n += 1
        first[n] = t
    return n, t
