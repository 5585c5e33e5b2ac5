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
        groups = _Groups(flat, np.zeros(len(flat), np.int32), flat.space.astype(np.int32))
        sorts, _ = groups.number(results, pack, ALL)
        count = _by_level(order.nodes, order.level, pack, sorts)
    else:
        groups = _Groups(flat, order.level, pack)
        count, done = groups.number(order.nodes, pack, min(most, len(flat)))
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
@cython.exceptval(check=False)
def _any_number(kind: cython.int) -> cython.bint:
    """Whether operands of this kind may come in rows: those of other operations have a place."""
    return kind in (ADD, TAKE, MAX_OF_MANY, MIN_OF_MANY)


@cython.final
@cython.cclass
class _Groups:
    """What the nodes of one pack agree in: `sort` is what their operands are compared by."""

    kind: cython.uchar[::1]
    bits: cython.ulonglong[::1]
    space: cython.uchar[::1]
    slot: cython.int[::1]
    extra: cython.int[::1]
    first: cython.int[::1]
    left: cython.int[::1]
    right: cython.int[::1]
    style: cython.uchar[::1]
    level: cython.int[::1]
    sort: cython.int[::1]

    def __init__(self, flat: Flat, level: NDArray[np.int32], sort: NDArray[np.int32]) -> None:
        self.kind, self.bits = flat.kind.data, flat.const.view(np.uint64).data
        self.space, self.slot, self.extra = flat.space.data, flat.slot.data, flat.extra.data
        self.first, self.left, self.right = flat.first.data, flat.left.data, flat.right.data
        self.style, self.level, self.sort = flat.style.data, level.data, sort.data

    def number(
        self, order_: NDArray[np.int32], pack_: NDArray[np.int32], most: cython.int
    ) -> tuple[int, int]:
        """Number the packs of the nodes of `order`, which come by level, until there are more than
        `most`; gives how many there are, and of how many nodes."""
        order: cython.int[::1] = order_.data
        pack: cython.int[::1] = pack_.data
        size: cython.int = len(order)
        room: cython.int = min(size, most) + 1
        slots: cython.int = 1
        while slots < 2 * room:
            slots *= 2
        table: cython.int[::1] = np.full(slots, -1, np.int32).data
        hashes: cython.ulonglong[::1] = np.zeros(room, np.uint64).data
        speaker: cython.int[::1] = np.zeros(room, np.int32).data
        base: cython.int = int(LEAVES)
        count: cython.int = 0
        z: cython.int
        i: cython.int
        place: cython.int
        found: cython.int
        h: cython.ulonglong
        for z in range(size):
            if count > most:
                return count, z
            i = order[z]
            h = self._hash(i)
            place = cython.cast(cython.int, h & (slots - 1))
            found = table[place]
            while found >= 0 and not (hashes[found] == h and self._alike(i, speaker[found])):
                place = (place + 1) & (slots - 1)
                found = table[place]
            if found < 0:
                found = count
                table[place] = found
                hashes[found] = h
                speaker[found] = i
                count += 1
            pack[i] = base + found
        return count, size

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _right(self, t: cython.int) -> cython.int:
        """The sort of the right factor of a term, -1 where there is none."""
        return -1 if self.right[t] < 0 else self.sort[self.right[t]]

    @cython.cfunc
    @cython.exceptval(check=False)
    def _hash(self, i: cython.int) -> cython.ulonglong:
        h: cython.ulonglong = mix(
            mix(mix(self.kind[i], self.bits[i]), self.level[i]), self.space[i]
        )
        t: cython.int = self.first[i]
        if self.kind[i] == ADDS_TO_CHOSEN:
            h = mix(mix(h, self.extra[i]), self.style[t])
            h = mix(h, self.slot[self.left[t + 2]] - self.slot[self.left[t + 1]])
            return mix(h, self.space[self.left[t]])
        if self.kind[i] == TAKE:
            h = mix(mix(h, self.first[i + 1] - t), self.extra[i])
        many: cython.bint = _any_number(self.kind[i])
        for t in range(self.first[i], self.first[i + 1]):
            if not many or t == self.first[i] or not self._like_before(t):
                h = mix(mix(mix(h, self.sort[self.left[t]]), self._right(t) + 1), self.style[t])
        return h

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _like_before(self, t: cython.int) -> cython.bint:
        """Whether a term is of the sort of the term before it."""
        return self._like(t, t - 1)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _like(self, s: cython.int, t: cython.int) -> cython.bint:
        return (
            self.sort[self.left[s]] == self.sort[self.left[t]]
            and self._right(s) == self._right(t)
            and self.style[s] == self.style[t]
        )

    @cython.cfunc
    @cython.exceptval(check=False)
    def _alike(self, i: cython.int, j: cython.int) -> cython.bint:
        """Whether i and j belong to one pack, now that their hashes agree."""
        if (
            self.kind[i] != self.kind[j]
            or self.bits[i] != self.bits[j]
            or self.level[i] != self.level[j]
            or self.space[i] != self.space[j]
        ):
            return False
        s: cython.int = self.first[i]
        t: cython.int = self.first[j]
        if self.kind[i] == ADDS_TO_CHOSEN:
            return self.space[self.left[s]] == self.space[self.left[t]]
        end_s: cython.int = self.first[i + 1]
        end_t: cython.int = self.first[j + 1]
        many: cython.bint = _any_number(self.kind[i])
        while s < end_s and t < end_t:
            if not self._like(s, t):
                return False
            s += 1
            t += 1
            # On to the next run in both.
            while many and s < end_s and self._like_before(s):
                s += 1
            while many and t < end_t and self._like_before(t):
                t += 1
        return s == end_s and t == end_t


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
