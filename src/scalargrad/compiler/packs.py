"""The fourth stage: packs, the sets of nodes that do the same thing to the same kinds of things.

The level of a node is the longest way to it from a leaf. A pack is all nodes of one level with
the same kind, constant and space, whose operands lie in the same packs in the same sequence; in a
sum, however many terms in a row read each pack: ragged rows, as of causal attention, stay
together. So the nodes of a pack do not depend on each other, and where they came from a loop in the
user's program their operands lie in patterns that can be found again. Their order is that of their
ranks.

What adds to chosen candidates comes last, in its order in the graph: nodes of one space, count and
distance are a pack, wherever the numbers that they add were computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad.compiler.hashing import mix
    from cython.cimports.scalargrad.rules import ADD, LEAF, TAKE
else:
    from ..ops import ADD, LEAF, TAKE
    from .hashing import mix

from ..errors import VerifyError
from .flat import FOLD_MAXIMUM, FOLD_MINIMUM, SCATTER, Flat
from .loops import Space

MAX_OF_MANY = cython.declare(cython.int, FOLD_MAXIMUM)
MIN_OF_MANY = cython.declare(cython.int, FOLD_MINIMUM)
ADDS_TO_CHOSEN = cython.declare(cython.int, SCATTER)

LEAVES = len(Space)  # packs below this number are the leaves of a space
ALL = 2**31 - 1
WHOLE: NDArray[np.intp] = np.empty(0, np.intp)  # a graph in one part


@dataclass(slots=True)
class Packs:
    """The packs of a flat graph.

    pack     int32[n]  the pack of each node; a leaf's is its space; -1 where it was not looked for
    members  int32[]   the nodes of packs LEAVES, LEAVES + 1, ... one after the other, by rank
    first    int32[]   members[first[k]:first[k + 1]] is pack LEAVES + k
    level    int32[]   the level of pack LEAVES + k
    coarse             whether nodes of a pack only agree in the spaces they read
    complete           whether every result is in one
    """

    pack: NDArray[np.int32]
    members: NDArray[np.int32]
    first: NDArray[np.int32]
    level: NDArray[np.int32]
    coarse: bool = False
    complete: bool = True

    def __len__(self) -> int:
        return len(self.first) - 1

    def __str__(self) -> str:
        rows = [" ".join(f"v{i}" for i in self.nodes(k).tolist()) for k in range(len(self))]
        return "\n".join(f"pack {LEAVES + k} = {row}" for k, row in enumerate(rows))

    def nodes(self, k: int) -> NDArray[np.int32]:
        """The nodes of pack LEAVES + k."""
        return self.members[self.first[k] : self.first[k + 1]]

    @property
    def heads(self) -> NDArray[np.int32]:
        """The first node of each pack."""
        return self.members[self.first[: len(self)]]

    def arranged(self, later: NDArray[np.bool_]) -> Packs:
        """The same packs, those that are `later` behind the others; `pack` stays as it was."""
        order = np.argsort(later, kind="stable")
        sizes = np.diff(self.first)[order]
        first = np.zeros_like(self.first)
        np.cumsum(sizes, out=first[1:])
        moved = np.repeat(self.first[order] - first[: len(self)], sizes)
        members = self.members[np.arange(len(self.members)) + moved]
        return Packs(self.pack, members, first, self.level[order], self.coarse, self.complete)


@dataclass(frozen=True, slots=True)
class Ordered:
    """The results of a flat graph, by level and in a level by rank.

    nodes  int32[]   the results
    level  int32[n]  of each node; 0 for a leaf
    """

    nodes: NDArray[np.int32]
    level: NDArray[np.int32]


def ordered(flat: Flat, parts: NDArray[np.intp] = WHOLE, late: int = ALL) -> Ordered:
    """The results of the graph in the order in which they are packed.

    Each of `parts` is a node at which another part of the graph begins, whose levels are all
    higher than those of the parts before it. Nodes from `late` on have levels above all others,
    and as high as what reads them allows.
    """
    level = np.zeros(len(flat), np.int32)
    begins = np.zeros(len(flat), np.uint8)
    begins[parts] = 1
    _levels(flat, begins, level)
    if late < len(flat):
        _raise(flat, late, level)
    results = np.flatnonzero(flat.kind != LEAF).astype(np.int32)
    # What adds to chosen candidates keeps its order in the graph.
    rank = np.where(flat.kind == SCATTER, np.arange(len(flat), dtype=np.int32), flat.rank)
    by_rank, _ = _sorted(results, rank, int(rank.max(initial=0)))
    by_level, _ = _sorted(by_rank, level, int(level.max(initial=0)))
    return Ordered(by_level, level)


def find_packs(
    flat: Flat, order: Ordered | None = None, *, coarse: bool = False, most: int = ALL
) -> Packs:
    """The packs, in an order in which each reads only earlier ones.

    With `coarse`, terms need to read the same spaces only, not the same packs: fewer packs, for
    graphs without structure. Once there are more than `most`, those of the results that come after
    in `order` are not looked for.
    """
    order = ordered(flat) if order is None else order
    pack = flat.space.astype(np.int32)
    pack[order.nodes] = -1
    done = len(order.nodes)
    if coarse:
        # What a node does, and to which spaces, does not depend on the packs of others: so it is
        # found node after node, as they lie in memory, and then told apart by levels.
        results = np.flatnonzero(flat.kind != LEAF).astype(np.int32)
        sorts, _ = _group(flat, np.zeros(len(flat), np.int32), results, pack, coarse, ALL)
        count = _by_level(order.nodes, order.level, pack, sorts)
    else:
        count, done = _group(flat, order.level, order.nodes, pack, coarse, min(most, len(flat)))
    by_pack, first = _sorted(order.nodes[:done], pack, LEAVES + count - 1)
    first = first[LEAVES:]
    level = order.level[by_pack[first[:count]]]
    return Packs(pack, by_pack, first, level, coarse, done == len(order.nodes))


def _by_level(
    nodes_: NDArray[np.int32], level_: NDArray[np.int32], pack_: NDArray[np.int32], sorts: int
) -> int:
    """Number the packs of nodes that come by level, whose packs are those of all levels so far."""
    nodes: cython.int[::1] = nodes_.data
    level: cython.int[::1] = level_.data
    pack: cython.int[::1] = pack_.data
    latest: cython.int[::1] = np.zeros(sorts + 1, np.int32).data
    number: cython.int[::1] = np.zeros(sorts + 1, np.int32).data
    base: cython.int = int(LEAVES)
    count: cython.int = 0
    z: cython.int
    i: cython.int
    k: cython.int
    for z in range(len(nodes)):
        i = nodes[z]
        k = pack[i] - base
        if latest[k] != level[i]:
            latest[k] = level[i]
            number[k] = base + count
            count += 1
        pack[i] = number[k]
    return count


def _sorted(
    nodes_: NDArray[np.int32], key_: NDArray[np.int32], highest: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The nodes by their keys, equal ones in the order given, and where those of each key begin."""
    begin = np.zeros(highest + 2, np.int32)
    result = np.empty(len(nodes_), np.int32)
    nodes: cython.int[::1] = nodes_.data
    key: cython.int[::1] = key_.data
    count: cython.int[::1] = begin.data
    out: cython.int[::1] = result.data
    z: cython.int
    k: cython.int
    for z in range(len(nodes)):
        count[key[nodes[z]] + 1] += 1
    first = np.cumsum(begin, dtype=np.int32)
    place: cython.int[::1] = first.copy().data
    for z in range(len(nodes)):
        k = key[nodes[z]]
        out[place[k]] = nodes[z]
        place[k] += 1
    return result, first


def _levels(flat: Flat, begins_: NDArray[np.uint8], level_: NDArray[np.int32]) -> None:
    begins: cython.uchar[::1] = begins_.data
    kind: cython.uchar[::1] = flat.kind.data
    first: cython.int[::1] = flat.first.data
    left: cython.int[::1] = flat.left.data
    right: cython.int[::1] = flat.right.data
    level: cython.int[::1] = level_.data
    i: cython.int
    t: cython.int
    highest: cython.int
    last: cython.int = 0
    before: cython.int = 0
    for i in range(len(kind)):
        if begins[i]:
            before = last
        if kind[i] == LEAF:
            continue
        highest = before
        for t in range(first[i], first[i + 1]):
            if level[left[t]] > highest:
                highest = level[left[t]]
            if right[t] >= 0 and level[right[t]] > highest:
                highest = level[right[t]]
        level[i] = highest + 1
        last = max(last, level[i])
    for i in range(len(kind)):
        if kind[i] == ADDS_TO_CHOSEN:
            level[i] = last + 1


def _raise(flat: Flat, late_: int, level_: NDArray[np.int32]) -> None:
    """Raise the levels of the nodes from `late` on: each is just below the lowest that reads it."""
    kind: cython.uchar[::1] = flat.kind.data
    first: cython.int[::1] = flat.first.data
    left: cython.int[::1] = flat.left.data
    right: cython.int[::1] = flat.right.data
    level: cython.int[::1] = level_.data
    above: cython.int[::1] = np.zeros(len(flat), np.int32).data
    late: cython.int = late_
    i: cython.int
    t: cython.int
    top: cython.int = 0
    last: cython.int = 0
    for i in range(late):
        last = max(last, level[i])
    for i in range(len(kind) - 1, late - 1, -1):
        top = max(top, above[i])
        for t in range(first[i], first[i + 1]):
            above[left[t]] = max(above[left[t]], above[i] + 1)
            if right[t] >= 0:
                above[right[t]] = max(above[right[t]], above[i] + 1)
    top += last + 1
    for i in range(late, len(kind)):
        if kind[i] != LEAF:
            level[i] = top + 1 if kind[i] == ADDS_TO_CHOSEN else top - above[i]


@cython.cfunc
@cython.inline
def _any_number(kind: cython.int) -> cython.bint:
    """Whether operands of this kind may come in rows: those of other operations have a place."""
    return kind in (ADD, TAKE, MAX_OF_MANY, MIN_OF_MANY)


def _group(
    flat: Flat,
    level_: NDArray[np.int32],
    order_: NDArray[np.int32],
    pack_: NDArray[np.int32],
    coarse: cython.bint,
    most: cython.int,
) -> tuple[int, int]:
    """Number the packs of the nodes of `order`, which come by level, until there are more than
    `most`; gives how many there are, and of how many nodes."""
    kind: cython.uchar[::1] = flat.kind.data
    bits: cython.ulonglong[::1] = flat.const.view(np.uint64).data
    space: cython.uchar[::1] = flat.space.data
    extra: cython.int[::1] = flat.extra.data
    first: cython.int[::1] = flat.first.data
    left: cython.int[::1] = flat.left.data
    right: cython.int[::1] = flat.right.data
    style: cython.uchar[::1] = flat.style.data
    level: cython.int[::1] = level_.data
    order: cython.int[::1] = order_.data
    pack: cython.int[::1] = pack_.data
    # What the operands are compared by.
    sort: cython.int[::1] = flat.space.astype(np.int32).data if coarse else pack
    size: cython.int = len(order)
    room: cython.int = min(size, most) + 1
    slots: cython.int = 1
    while slots < 2 * room:
        slots *= 2
    table: cython.int[::1] = np.full(slots, -1, np.int32).data
    hashes: cython.ulonglong[::1] = np.zeros(room, np.uint64).data
    speaker: cython.int[::1] = np.zeros(room, np.int32).data
    count: cython.int = 0
    z: cython.int
    i: cython.int
    t: cython.int
    a: cython.int
    b: cython.int
    c: cython.int
    last_a: cython.int
    last_b: cython.int
    last_c: cython.int
    place: cython.int
    found: cython.int
    h: cython.ulonglong
    many: cython.bint
    base: cython.int = int(LEAVES)
    slot: cython.int[::1] = flat.slot.data
    for z in range(size):
        if count > most:
            return count, z
        i = order[z]
        h = mix(mix(mix(kind[i], bits[i]), level[i]), space[i])
        if kind[i] == TAKE:
            h = mix(mix(h, first[i + 1] - first[i]), extra[i])
        if kind[i] == ADDS_TO_CHOSEN:
            t = first[i]
            h = mix(mix(mix(h, extra[i]), style[t]), slot[left[t + 2]] - slot[left[t + 1]])
            h = mix(h, space[left[t]])
        last_a = last_b = last_c = -2
        many = _any_number(kind[i])
        for t in range(first[i], first[i] if kind[i] == ADDS_TO_CHOSEN else first[i + 1]):
            a = sort[left[t]]
            b = -1 if right[t] < 0 else sort[right[t]]
            c = style[t]
            if not many or a != last_a or b != last_b or c != last_c:
                h = mix(mix(mix(h, a), b + 1), c)
                last_a, last_b, last_c = a, b, c
        place = cython.cast(cython.int, h & (slots - 1))
        while True:
            found = table[place]
            if found < 0:
                table[place] = count
                hashes[count] = h
                speaker[count] = i
                pack[i] = base + count
                count += 1
                break
            if hashes[found] == h and _alike(
                i, speaker[found], kind, bits, level, space, first, left, right, style, sort
            ):
                pack[i] = base + found
                break
            place = (place + 1) & (slots - 1)
    return count, size


@cython.cfunc
def _alike(
    i: cython.int,
    j: cython.int,
    kind: cython.uchar[::1],
    bits: cython.ulonglong[::1],
    level: cython.int[::1],
    space: cython.uchar[::1],
    first: cython.int[::1],
    left: cython.int[::1],
    right: cython.int[::1],
    style: cython.uchar[::1],
    sort: cython.int[::1],
) -> cython.bint:
    """Whether i and j belong to one pack, now that their hashes agree."""
    if kind[i] != kind[j] or bits[i] != bits[j] or level[i] != level[j] or space[i] != space[j]:
        return False
    s: cython.int = first[i]
    t: cython.int = first[j]
    if kind[i] == ADDS_TO_CHOSEN:
        return space[left[s]] == space[left[t]]
    a: cython.int
    b: cython.int
    c: cython.int
    many: cython.bint = _any_number(kind[i])
    while s < first[i + 1] and t < first[j + 1]:
        a = sort[left[s]]
        b = -1 if right[s] < 0 else sort[right[s]]
        c = style[s]
        if a != sort[left[t]] or b != (-1 if right[t] < 0 else sort[right[t]]) or c != style[t]:
            return False
        if not many:
            s += 1
            t += 1
            continue
        # On to the next run in both.
        while (
            s < first[i + 1]
            and a == sort[left[s]]
            and b == (-1 if right[s] < 0 else sort[right[s]])
            and c == style[s]
        ):
            s += 1
        while (
            t < first[j + 1]
            and a == sort[left[t]]
            and b == (-1 if right[t] < 0 else sort[right[t]])
            and c == style[t]
        ):
            t += 1
    return s == first[i + 1] and t == first[j + 1]


def verify_packs(flat: Flat, packs: Packs) -> None:
    """Raises `VerifyError` unless every result is in one pack that reads earlier ones only."""
    results = np.flatnonzero(flat.kind != LEAF)
    if not np.array_equal(np.sort(packs.members), results):
        raise VerifyError("packs: expected every result to be in exactly one pack")
    k = np.repeat(np.arange(len(packs)), np.diff(packs.first))
    if (packs.pack[packs.members] != LEAVES + k).any():
        raise VerifyError("packs: a node's pack is not the one it is a member of")
    owner = np.repeat(np.arange(len(flat)), np.diff(flat.first))
    for operand in (flat.left, flat.right):
        wrong = (operand >= 0) & (packs.pack[operand] >= packs.pack[owner])
        if wrong.any():
            i, j = owner[wrong][0], operand[wrong][0]
            raise VerifyError(
                f"packs: node {i} of pack {packs.pack[i]} reads node {j} of pack {packs.pack[j]}"
            )
    for field in (flat.kind, flat.space, flat.const.view(np.int64)):
        if (field[packs.members] != field[packs.members[packs.first[: len(packs)]]][k]).any():
            raise VerifyError("packs: a pack of different operations")
