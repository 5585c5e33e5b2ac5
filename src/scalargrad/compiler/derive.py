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
        DETACH,
        DIV,
        EXP,
        LEAF,
        LEAKY_RELU,
        LESS,
        LESS_EQUAL,
        LOG,
        MAXIMUM,
        MINIMUM,
        POW,
        POWER,
        RELU,
        SQRT,
        TAKE,
        WHERE,
    )
else:
    from ..ops import (
        ABS,
        ADD,
        DETACH,
        DIV,
        EXP,
        LEAF,
        LEAKY_RELU,
        LESS,
        LESS_EQUAL,
        LOG,
        MAXIMUM,
        MINIMUM,
        POW,
        POWER,
        RELU,
        SQRT,
        TAKE,
        WHERE,
    )

from .flat import FOLD_MAXIMUM, INDICATOR, LONE, OVER, SCATTER, Flat
from .loops import MINUS, SKIP_LEFT, SKIP_RIGHT, Space
from .marks import GRADIENT, Marks
from .partials import add_partials

FIRST_FOLD = cython.declare(cython.int, FOLD_MAXIMUM)  # kinds from here on pass no gradient on
NO_BOUND = cython.declare(cython.double, -np.inf)
SAFE = cython.declare(cython.double, 1e-60)  # its inverse, even to the fourth power, is finite


def derive(flat: Flat, outputs: NDArray[np.int32], marks: Marks) -> Flat:
    """The graph with the gradients of all wanted leaves, each in its gradient space."""
    roots = [int(outputs[0])]
    if marks.penalty:
        roots.insert(0, int(outputs[1]))  # its part comes first, as `backward` meets it
    wanted = (flat.kind == LEAF) & np.isin(flat.space, marks.wanted)
    reached = np.zeros(len(flat), np.uint8)
    _reach(flat, wanted.astype(np.uint8), np.array(roots, np.int32), reached)
    growing, partial, minus = add_partials(flat, reached > 0)
    one, zero = growing.constant(1.0), growing.constant(0.0)
    brief = (flat.kind == TAKE) & (flat.const > np.diff(flat.first))
    contributions = _contributions(flat, reached, brief.view(np.uint8))
    nodes, terms = growing.nodes, growing.terms
    wide = growing.flat(*_more(flat, len(roots), int(contributions[0][len(flat)])))
    del growing
    seeds = [len(flat) - 1 if marks.batch in ("mean", "each") else one]
    if marks.penalty:
        seeds.insert(0, one)
    over = np.zeros(len(roots), np.uint8)
    over[len(roots) - 1] = OVER if marks.batch is not None else 0
    return _emit(
        flat,
        wide,
        nodes,
        terms,
        reached,
        wanted.astype(np.uint8),
        partial,
        minus,
        _may_be_infinite(wide.cut(nodes, terms)),
        contributions,
        np.array(roots, np.int32),
        np.array(seeds, np.int32),
        over,
        *_chosen(flat, np.flatnonzero(brief & (reached > 0))),
        one,
        zero,
    )


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


def _reach(
    flat: Flat,
    wanted_: NDArray[np.uint8],
    roots: NDArray[np.int32],
    reached_: NDArray[np.uint8],
) -> None:
    """reached[i] gets bit k where gradient flows from root k through node i to something wanted."""
    kind: cython.uchar[::1] = flat.kind.data
    first: cython.int[::1] = flat.first.data
    left: cython.int[::1] = flat.left.data
    right: cython.int[::1] = flat.right.data
    needs: cython.uchar[::1] = wanted_.copy().data
    reached: cython.uchar[::1] = reached_.data
    size: cython.int = len(kind)
    i: cython.int
    t: cython.int
    k: cython.int
    code: cython.int
    for i in range(size):
        code = kind[i]
        if code in (LESS, LESS_EQUAL, DETACH) or code >= FIRST_FOLD:
            continue
        for t in range(first[i] + (code == WHERE), first[i + 1]):
            if needs[left[t]] or (right[t] >= 0 and needs[right[t]]):
                needs[i] = 1
                break
    for k in range(len(roots)):
        if needs[roots[k]]:
            reached[roots[k]] |= 1 << k
    for i in range(size - 1, -1, -1):
        if reached[i] == 0:
            continue
        for t in range(first[i] + (kind[i] == WHERE), first[i + 1]):
            if needs[left[t]]:
                reached[left[t]] |= reached[i]
            if right[t] >= 0 and needs[right[t]]:
                reached[right[t]] |= reached[i]


def _may_be_infinite(flat: Flat) -> NDArray[np.uint8]:
    """1 where a number may not be finite though the leaves are, barring overflow of sums and
    products: where an exp, log, root or division is involved that is not known to stay in range.

    A lower bound of every node is enough to know it: a sum of squares plus a positive constant is
    positive, so are the e^(x - max x) of a softmax, at most 1, and their sum, at least 1.
    """
    found = np.zeros(len(flat), np.uint8)
    kind: cython.uchar[::1] = flat.kind.data
    space: cython.uchar[::1] = flat.space.data
    const: cython.double[::1] = flat.const.data
    first: cython.int[::1] = flat.first.data
    left: cython.int[::1] = flat.left.data
    right: cython.int[::1] = flat.right.data
    style: cython.uchar[::1] = flat.style.data
    out: cython.uchar[::1] = found.data
    lower: cython.double[::1] = np.full(len(flat), NO_BOUND).data
    # shifted[i] = m: node i is x - m, m the maximum of x and other nodes; -1 otherwise.
    shifted: cython.int[::1] = np.full(len(flat), -1, np.int32).data
    i: cython.int
    j: cython.int
    k: cython.int
    t: cython.int
    code: cython.int
    bound: cython.double
    total: cython.double
    CONSTANT: cython.int = int(Space.CONSTANT)
    NEGATIVE: cython.int = int(MINUS)
    for i in range(len(kind)):
        code = kind[i]
        if code == LEAF:
            if space[i] == CONSTANT:
                lower[i] = const[i]
            continue
        if code in (LESS, LESS_EQUAL, INDICATOR):
            lower[i] = 0.0
            continue
        for t in range(first[i], first[i + 1]):
            out[i] |= out[left[t]]
            if right[t] >= 0:
                out[i] |= out[right[t]]
        t = first[i]
        bound = lower[left[t]] if first[i + 1] > t else const[i]
        if code == ADD:
            total = const[i]
            for t in range(first[i], first[i + 1]):
                if style[t] & NEGATIVE:
                    total = NO_BOUND
                    break
                bound = lower[left[t]]
                if right[t] == left[t]:
                    bound = 0.0
                elif right[t] >= 0:
                    bound = 0.0 if bound >= 0.0 and lower[right[t]] >= 0.0 else NO_BOUND
                total += bound
            lower[i] = total
            t = first[i]
            if first[i + 1] == t + 2 and style[t] == 0 and style[t + 1] == NEGATIVE:
                # x - m for a maximum m of x and others
                j = left[t + 1]
                while kind[j] == DETACH:
                    j = left[first[j]]
                if j == left[t]:
                    shifted[i] = i  # x - x: the maximum of one
                elif kind[j] == FIRST_FOLD and right[t] < 0 and right[t + 1] < 0:
                    for k in range(first[j], first[j + 1]):
                        if left[k] == left[t]:
                            shifted[i] = j
                            break
            elif first[i + 1] > t and kind[left[t]] == EXP and shifted[left[first[left[t]]]] >= 0:
                # the sum over all candidates of m: one of them is e^0
                j = shifted[left[first[left[t]]]]
                if kind[j] == FIRST_FOLD and first[j + 1] - first[j] == first[i + 1] - t:
                    for k in range(first[i + 1] - t):
                        if right[t + k] >= 0 or style[t + k] or kind[left[t + k]] != EXP:
                            break
                        if shifted[left[first[left[t + k]]]] != j:
                            break
                        if left[first[left[first[left[t + k]]]]] != left[first[j] + k]:
                            break
                    else:
                        lower[i] = 1.0
        elif code == EXP:
            lower[i] = 1.0 if shifted[left[t]] == left[t] else 0.0
            if shifted[left[t]] < 0:
                out[i] = 1
        elif code == LOG:
            if bound < SAFE:
                out[i] = 1
        elif code == SQRT:
            if bound < SAFE:
                out[i] = 1
            else:
                lower[i] = bound**0.5
        elif code == POW:
            if const[i] < 0.0 or const[i] != float(int(min(const[i], 1e9))):
                if bound < SAFE or not -4.0 <= const[i] <= 4.0:
                    out[i] = 1
                else:
                    lower[i] = bound ** const[i] if const[i] > 0.0 else 0.0
            elif const[i] == 2.0:
                lower[i] = 0.0
        elif code == DIV:
            if lower[left[t + 1]] < SAFE:
                out[i] = 1
            elif bound >= 0.0:
                lower[i] = 0.0
        elif code == POWER:
            out[i] = 1
        elif code in (DETACH, RELU):
            lower[i] = max(bound, 0.0) if code == RELU else bound
    return found


def _candidates(flat: Flat) -> NDArray[np.int32]:
    """Where the candidates of each index begin, if they are numbered one index after the other.

    Index number 2s + b is that in slot s, batched if b is 1.
    """
    takes = np.flatnonzero(flat.kind == TAKE)
    index = 2 * flat.slot[takes] + flat.extra[takes]
    counts = np.zeros(int(index.max(initial=-1)) + 2, np.int32)
    np.maximum.at(counts, index + 1, flat.first[takes + 1] - flat.first[takes])
    return np.cumsum(counts, dtype=np.int32)


def _contributions(
    flat: Flat, reached: NDArray[np.uint8], brief_: NDArray[np.uint8]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]:
    """Who passes a gradient on to each node: terms and slots, in the order of `backward`.

    Those of node i are `terms[targets[i]:targets[i + 1]]`; slot 0 is the left factor. Selections
    that are `brief` pass nothing on here.
    """
    size: cython.int = len(flat)
    count: cython.int = len(flat.left)
    highest: cython.int = int(flat.origin.max()) if count else 0
    kind: cython.uchar[::1] = flat.kind.data
    first: cython.int[::1] = flat.first.data
    left: cython.int[::1] = flat.left.data
    right: cython.int[::1] = flat.right.data
    origin: cython.int[::1] = flat.origin.data
    live: cython.uchar[::1] = reached.data
    brief: cython.uchar[::1] = brief_.data
    targets = np.zeros(size + 1, np.int32)
    ends: cython.int[::1] = targets.data
    place: cython.int[::1] = np.zeros(highest + 2, np.int32).data
    order: cython.int[::1] = np.empty(max(count, 1), np.int32).data
    i: cython.int
    t: cython.int
    k: cython.int
    total: cython.int = 0
    # Terms by descending origin: a counting sort, stable within an origin.
    for i in range(size):
        if live[i] == 0 or brief[i]:
            continue
        for t in range(first[i] + (kind[i] == WHERE), first[i + 1]):
            place[highest - origin[t] + 1] += 1
            if live[left[t]]:
                ends[left[t] + 1] += 1
            if right[t] >= 0 and live[right[t]]:
                ends[right[t] + 1] += 1
    for k in range(highest + 1):
        place[k + 1] += place[k]
    for i in range(size):
        if live[i] == 0 or brief[i]:
            continue
        for t in range(first[i] + (kind[i] == WHERE), first[i + 1]):
            order[place[highest - origin[t]]] = t
            place[highest - origin[t]] += 1
            total += 1
    for i in range(size):
        ends[i + 1] += ends[i]
    terms = np.empty(max(int(targets[size]), 1), np.int32)
    slots = np.empty(max(int(targets[size]), 1), np.uint8)
    found: cython.int[::1] = terms.data
    side: cython.uchar[::1] = slots.data
    fill: cython.int[::1] = targets.copy().data
    for k in range(total):
        t = order[k]
        i = left[t]
        if live[i]:
            found[fill[i]] = t
            side[fill[i]] = 0
            fill[i] += 1
        i = right[t]
        if i >= 0 and live[i]:
            found[fill[i]] = t
            side[fill[i]] = 1
            fill[i] += 1
    return targets, terms, slots


def _emit(
    flat: Flat,
    wide: Flat,
    nodes: cython.int,
    terms_: cython.int,
    reached_: NDArray[np.uint8],
    wanted_: NDArray[np.uint8],
    partial_: NDArray[np.int32],
    minus_: NDArray[np.uint8],
    infinite_: NDArray[np.uint8],
    contributions: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]],
    roots_: NDArray[np.int32],
    seeds_: NDArray[np.int32],
    over_: NDArray[np.uint8],
    takes_: NDArray[np.int32],
    members_: NDArray[np.uint8],
    one: cython.int,
    zero: cython.int,
) -> Flat:
    size: cython.int = len(flat)
    count = int(contributions[0][size])
    phases: cython.int = len(roots_)
    owners = np.repeat(np.arange(size, dtype=np.int32), np.diff(flat.first))
    kind: cython.uchar[::1] = wide.kind.data
    const: cython.double[::1] = wide.const.data
    space: cython.uchar[::1] = wide.space.data
    slot: cython.int[::1] = wide.slot.data
    extra: cython.int[::1] = wide.extra.data
    rank: cython.int[::1] = wide.rank.data
    first: cython.int[::1] = wide.first.data
    left: cython.int[::1] = wide.left.data
    right: cython.int[::1] = wide.right.data
    style: cython.uchar[::1] = wide.style.data
    reached: cython.uchar[::1] = reached_.data
    wanted: cython.uchar[::1] = wanted_.data
    partial: cython.int[:, ::1] = partial_.data
    negative: cython.uchar[:, ::1] = minus_.data
    infinite: cython.uchar[::1] = infinite_.data
    targets: cython.int[::1] = contributions[0].data
    terms: cython.int[::1] = contributions[1].data
    sides: cython.uchar[::1] = contributions[2].data
    roots: cython.int[::1] = roots_.data
    seeds: cython.int[::1] = seeds_.data
    over: cython.uchar[::1] = over_.data
    takes: cython.int[::1] = takes_.data
    members: cython.uchar[::1] = members_.data
    owner: cython.int[::1] = owners.data
    batched_space = np.array([s.batched for s in Space] + [False], np.uint8)
    is_batched: cython.uchar[::1] = batched_space.data
    gradient_space: cython.uchar[::1] = np.array(
        [GRADIENT.get(s, Space.TEMPORARY) for s in Space], np.uint8
    ).data
    # Per phase and node: its gradient, whether that counts negatively, whether a branch not taken
    # can make it 0 (1: such a branch drops a number, 2: it drops anything), whether it can be
    # infinite though the results are finite.
    gradient: cython.int[:, ::1] = np.full((phases, size), -1, np.int32).data
    sign: cython.uchar[:, ::1] = np.zeros((phases, size), np.uint8).data
    untaken: cython.uchar[:, ::1] = np.zeros((phases, size), np.uint8).data
    steep: cython.uchar[:, ::1] = np.zeros((phases, size), np.uint8).data
    # The selections by one index share their indicators, one for each candidate.
    starts = _candidates(flat)
    candidates: cython.int[::1] = starts.data
    indicator: cython.int[::1] = np.full(int(starts[len(starts) - 1]), -1, np.int32).data
    # What the terms of the node being made are, before the node itself can be placed.
    made_left: cython.int[::1] = np.empty(phases * (count + 1) + 1, np.int32).data
    made_right: cython.int[::1] = np.empty(phases * (count + 1) + 1, np.int32).data
    made_style: cython.uchar[::1] = np.empty(phases * (count + 1) + 1, np.uint8).data
    n: cython.int = nodes
    t: cython.int = terms_
    phase: cython.int
    p: cython.int
    c: cython.int
    q: cython.int
    k: cython.int
    m: cython.int
    user: cython.int
    code: cython.int
    g: cython.int
    factor: cython.int
    flags: cython.int
    zeroable: cython.int
    level: cython.int
    lowest: cython.int
    highest: cython.int
    batched: cython.bint
    singular: cython.bint
    literal: cython.bint
    A_CONSTANT: cython.int = int(Space.CONSTANT)
    BATCHED_RESULT: cython.int = int(Space.BATCHED)
    RESULT: cython.int = int(Space.TEMPORARY)
    NEGATIVE: cython.int = int(MINUS)
    NO_GRADIENT: cython.int = int(SKIP_RIGHT)
    NO_PARTIAL: cython.int = int(SKIP_LEFT)
    INDICATOR_KIND: cython.int = int(INDICATOR)
    SCATTER_KIND: cython.int = int(SCATTER)
    ONE_TERM: cython.int = int(LONE)

    for phase in range(phases):
        gradient[phase, roots[phase]] = seeds[phase]
    for p in range(size - 1, -1, -1):
        if reached[p] == 0 and not wanted[p]:
            continue
        m = 0
        for phase in range(phases):
            if not wanted[p]:
                m = 0
                if gradient[phase, p] >= 0 or not (reached[p] >> phase) & 1:
                    continue
            elif p == roots[phase]:
                made_left[m], made_right[m] = seeds[phase], -1
                made_style[m] = 0 if is_batched[space[p]] else over[phase]
                m += 1
            lowest = 3
            highest = 0
            for c in range(targets[p], targets[p + 1]):
                q = terms[c]
                user = owner[q]
                g = gradient[phase, user]
                if g < 0:
                    continue
                code = kind[user]
                flags = sign[phase, user]
                factor = -1
                zeroable = untaken[phase, user]
                if code == ADD:
                    if style[q] & NEGATIVE:
                        flags ^= 1
                    if right[q] >= 0:
                        factor = left[q] if sides[c] else right[q]
                    if factor >= 0 and zeroable > 0:
                        literal = space[factor] == A_CONSTANT
                        if infinite[factor] or (zeroable == 2 and not literal):
                            flags |= NO_GRADIENT
                    level = zeroable
                elif code in (WHERE, RELU):
                    # A node of its own: the gradient on one side, 0 on the other.
                    kind[n] = WHERE
                    rank[n] = rank[user]
                    if code == RELU:
                        left[t], left[t + 1], left[t + 2] = user, g, zero
                    elif q - first[user] == 1:
                        left[t], left[t + 1], left[t + 2] = left[first[user]], g, zero
                    else:
                        left[t], left[t + 1], left[t + 2] = left[first[user]], zero, g
                    right[t] = right[t + 1] = right[t + 2] = -1
                    batched = is_batched[space[left[t]]] or is_batched[space[g]]
                    space[n] = BATCHED_RESULT if batched else RESULT
                    t += 3
                    g = n
                    n += 1
                    first[n] = t
                    level = 2 if code == WHERE else max(1, zeroable)
                elif code == TAKE:
                    k = candidates[2 * slot[user] + extra[user]] + q - first[user]
                    if indicator[k] < 0:
                        kind[n] = INDICATOR_KIND
                        slot[n] = slot[user]
                        extra[n] = q - first[user]
                        rank[n] = rank[user]
                        space[n] = BATCHED_RESULT if extra[user] else RESULT
                        indicator[k] = n
                        n += 1
                        first[n] = t
                    factor = indicator[k]
                    if steep[phase, user]:
                        flags |= NO_PARTIAL
                    level = max(1, zeroable)
                else:
                    k = q - first[user]
                    factor = partial[user, k]
                    if factor < 0:
                        continue
                    flags ^= negative[user, k]
                    singular = infinite[factor] and code != EXP
                    if infinite[factor] or steep[phase, user] or zeroable == 2:
                        flags |= NO_GRADIENT | NO_PARTIAL
                    level = zeroable
                    if code in (MAXIMUM, MINIMUM, ABS, LEAKY_RELU):
                        level = max(1, zeroable)
                    if singular:
                        steep[phase, p] = 1
                if steep[phase, user]:
                    steep[phase, p] = 1
                lowest = min(lowest, level)
                highest = max(highest, level)
                made_style[m] = flags
                if factor < 0:
                    made_left[m], made_right[m] = g, -1
                elif g == one:
                    made_left[m], made_right[m] = factor, -1
                    made_style[m] = flags & 1
                else:
                    made_left[m], made_right[m] = factor, g
                if wanted[p] and not is_batched[space[p]]:
                    made_style[m] |= over[phase]
                m += 1
            untaken[phase, p] = highest if 0 < lowest < 3 else 0
            if wanted[p] or m == 0:
                continue
            if m == 1 and made_right[0] < 0:
                gradient[phase, p] = made_left[0]
                sign[phase, p] = made_style[0] & 1
                continue
            batched = False
            for k in range(m):
                left[t], right[t], style[t] = made_left[k], made_right[k], made_style[k]
                batched = batched or is_batched[space[left[t]]]
                if right[t] >= 0:
                    batched = batched or is_batched[space[right[t]]]
                t += 1
            kind[n], const[n], rank[n] = ADD, -0.0, rank[p]
            space[n] = BATCHED_RESULT if batched else RESULT
            gradient[phase, p] = n
            n += 1
            first[n] = t
        if wanted[p] and (m > 0 or members[p] == 0):
            for k in range(m):
                left[t], right[t], style[t] = made_left[k], made_right[k], made_style[k]
                t += 1
            kind[n], const[n], rank[n] = ADD, 0.0, rank[p]
            space[n], slot[n] = gradient_space[space[p]], slot[p]
            n += 1
            first[n] = t
    for phase in range(phases):
        for k in range(len(takes)):
            p = takes[k]
            g = gradient[phase, p]
            if g < 0:
                continue
            if sign[phase, p]:
                left[t], right[t], style[t] = g, -1, NEGATIVE
                t += 1
                kind[n], const[n], rank[n], extra[n] = ADD, -0.0, rank[p], ONE_TERM
                space[n] = BATCHED_RESULT if is_batched[space[g]] else RESULT
                g = n
                n += 1
                first[n] = t
            left[t], left[t + 1], left[t + 2] = g, left[first[p]], left[first[p] + 1]
            right[t] = right[t + 1] = right[t + 2] = -1
            style[t] = over[phase]
            t += 3
            kind[n], const[n], rank[n] = SCATTER_KIND, const[p], rank[p]
            space[n] = gradient_space[space[left[first[p]]]]
            slot[n], extra[n] = slot[p], extra[p]
            n += 1
            first[n] = t
    return wide.cut(n, t)
