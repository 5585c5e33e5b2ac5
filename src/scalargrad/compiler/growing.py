"""Turns that grow or shrink: the steps of a factorisation, of a substitution, one body for all.

A step of Cholesky's factorisation does what the one before did, to a column that is shorter by one
and with sums that are longer by one. Its packs are those of a step before, but for their sizes,
which change evenly: a tandem repeat that grows. Forwards that is seen where each node comes as
early as it can, and in a gradient, which runs backwards, where it comes as late as it can.

The results of all turns are placed first, so that those of one pack lie equally far apart from turn
to turn, whatever its size. Where a node reads is then compared with a guess: it is made from three
nodes, in the middle of it all, one a turn later and one a lane further. In each of them the terms
are cut into pieces whose places go on evenly; where a piece begins, and how long it is, must change
evenly with turn and lane. Nodes for which all of that is true, term by term, are a nest. Where the
others are to the left or to the right of them in all turns, they get a nest of their own, and turns
in which there are more are left out of the repeat.

The caller's numbers lie as they do: those of a triangle that is stored row after row are never
evenly apart. Where that is in the way, they are read by way of the index table, and what must
change evenly is where in the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .cuts import labels
from .flat import INDICATOR, OVER, SCATTER, Flat
from .layout import Layout
from .loops import Loop, Nest, Operand, Segment, Space
from .packs import Ordered, Packs, ordered
from .recover import Recovery, segment
from .tandems import Tandem, find_tandems, linear_hash, mixed

FEWEST = 4  # turns
LONG = 3  # terms that make a piece: two are evenly apart in any case
BLOCKS = 6  # nests of a pack
NEIGHBOURS = 4  # whose nodes are taken apart, at most
FEW_TERMS, PARTS = 4, 8  # of nodes by which packs are cut, and in how many parts
PLACES = (0.5, 0.25, 0.75, 0.0)  # in a turn and in its lanes, where guesses are made
LOOKED_UP = 1 << 24, 1 << 25  # of a sort: its left, or its right factor is read by the index table
GIVEN = (Space.PARAMETER, Space.ARGUMENT, Space.EXAMPLE)

Integers = NDArray[np.int64]


def gradient_begins(flat: Flat) -> tuple[int, int]:
    """The first node that no longer comes in the order of the program, and the first of those in
    its reverse.

    Between the two lie the partial derivatives, each of which only waits for operands of its own.
    Both are the number of all nodes if there are none such.
    """
    results = np.flatnonzero((flat.kind != ops.LEAF) & (flat.space <= Space.BATCHED))
    rank = flat.rank[results]
    back = np.flatnonzero(rank[1:] <= np.maximum.accumulate(rank)[:-1])
    if not len(back):
        return len(flat), len(flat)
    later = np.flatnonzero(rank[1:] > rank[:-1])
    chain = max(int(back[0]), int(later[-1]) if len(later) else 0)
    return int(results[back[0] + 1]), int(results[chain + 1])


def outwards(flat: Flat) -> Ordered:
    """The order in which turns that grow are seen, forwards and in a gradient.

    Forwards each node comes as early as it can, and in a gradient as late as it can. Partial
    derivatives come all between the two.
    """
    partials, chain = gradient_begins(flat)
    parts = np.array([partials] if partials < len(flat) else [], np.intp)
    return ordered(flat, parts, late=chain)


def growing(flat: Flat, packs: Packs, least: int) -> list[Tandem]:
    """Tandem repeats of packs that do the same in the same order, and whose sizes change evenly."""
    heads = packs.heads
    counts = flat.first[heads + 1] - flat.first[heads]
    owner = np.repeat(np.arange(len(heads)), counts)
    begin = np.cumsum(counts) - counts
    terms = flat.first[heads][owner] + np.arange(len(owner)) - begin[owner]
    sort = _sorts(flat, terms)
    # However many terms of one sort follow one another.
    changes = np.ones(len(terms), bool)
    changes[1:] = (sort[1:] != sort[:-1]) | (owner[1:] != owner[:-1])
    first = np.concatenate(([0], np.cumsum(np.bincount(owner[changes], minlength=len(heads)))))
    kinds = linear_hash(mixed(sort[changes]), first).view(np.int64)
    kinds = kinds + mixed(flat.const[heads].view(np.int64) + flat.kind[heads])
    kinds = mixed(kinds + flat.space[heads])
    over = np.bincount(owner, flat.style[terms] & OVER, len(heads)) > 0
    lone = np.isin(flat.kind[heads], (ops.TAKE, INDICATOR, SCATTER)) | over
    kinds[lone] = np.flatnonzero(lone)
    found = find_tandems(kinds, np.diff(packs.first).astype(np.uint64), least)
    every = np.diff(flat.first)[packs.members]
    read = np.concatenate(([0], np.cumsum(np.add.reduceat(every, packs.first[:-1]))))
    return [tandem for tandem in found if _grows(read[tandem.start : tandem.stop + 1], tandem)]


def apart(packs: Packs, tandems: Sequence[Tandem]) -> Packs:
    """The same packs, those of turns that grow by some nodes in another order: every other one of
    two first, say, and then those between.

    Each entry of a table may do the same to all of its neighbours, one after the other. The nodes
    of one neighbour lie evenly, and those of all do not.
    """
    members, sizes = packs.members.copy(), np.diff(packs.first)
    for tandem in tandems:
        for k in range(tandem.start, tandem.stop):
            column = tandem.start + (k - tandem.start) % tandem.period
            many = abs(int(sizes[column + tandem.period] - sizes[column]))
            if 1 < many <= NEIGHBOURS:
                nodes = packs.nodes(k)
                order = np.argsort(np.arange(len(nodes)) % many, kind="stable")
                members[packs.first[k] : packs.first[k + 1]] = nodes[order]
    return replace(packs, members=members)


def _grows(read: Integers, tandem: Tandem) -> bool:
    """Whether turns have more and more terms, or fewer, of which `read` come before each pack."""
    each = np.diff(read[:: tandem.period])
    return bool((each != each[0]).any())


def _sorts(flat: Flat, terms: Integers) -> Integers:
    """A number for each term: how it counts, and the spaces that it reads."""
    left, right = flat.left[terms], flat.right[terms]
    there = np.where(right >= 0, flat.space[right].astype(np.int64) + 1, 0)
    sorts: Integers = flat.style[terms] | flat.space[left].astype(np.int64) << 8 | there << 16
    return sorts


# --- places --------------------------------------------------------------------------------------


def place(flat: Flat, packs: Packs, tandem: Tandem, layout: Layout, sorts: Sorts) -> None:
    """Place the temporary results of all turns, and of what looks like turns before and after."""
    heads = packs.heads
    sizes = np.diff(packs.first)
    own = np.arange(tandem.start, tandem.stop).reshape(tandem.turns, tandem.period)
    rows = [_like(flat, packs, own, -1), *own.tolist(), _like(flat, packs, own, 1)]
    width = np.array([max(sizes[k] for k in column if k >= 0) for column in zip(*rows)])
    for space in (Space.TEMPORARY, Space.BATCHED):
        column = np.where(flat.space[heads[own[0]]] == space, width, 0)
        offset, growth = np.cumsum(column) - column, int(column.sum())
        base = layout.reserve(space, growth * len(rows)) if growth else 0
        for turn, row in enumerate(rows):
            for k, pack in enumerate(row):
                if column[k] and pack >= 0:
                    nodes = packs.nodes(pack)
                    start = base + growth * turn + int(offset[k])
                    layout.address[nodes] = start + np.arange(len(nodes))
                    sorts.of[nodes] = sorts.of[packs.nodes(int(own[0, k]))[0]]


def _like(flat: Flat, packs: Packs, own: Integers, step: int) -> list[int]:
    """Packs that could be of the turn before (step -1) or after (1): -1 where there is none."""
    heads, sizes = packs.heads, np.diff(packs.first)
    turn, other = (own[0], own[1]) if step < 0 else (own[-1], own[-2])
    found = [-1] * own.shape[1]
    at = int(turn[0]) - 1 if step < 0 else int(turn[-1]) + 1
    end = max(at - 2 * len(turn), -1) if step < 0 else min(at + 2 * len(turn), len(heads))
    for k in range(len(turn))[::step]:
        head = heads[turn[k]]
        size = 2 * sizes[turn[k]] - sizes[other[k]]
        for pack in range(at, end, step):
            same = flat.kind[heads[pack]] == flat.kind[head] and sizes[pack] == size
            if same and flat.space[heads[pack]] == flat.space[head]:
                found[k], at = pack, pack + step
                break
    return found


class Sorts:
    """What packs are cut by that read of turns: the same pack in all turns is one sort.

    The diagonal of a matrix, say, and what is below it lie in two packs of each turn. Whoever reads
    all of it in one pack gets a nest for each.
    """

    def __init__(self, flat: Flat, packs: Packs) -> None:
        self._flat, self.of = flat, packs.pack.copy()
        self._next = int(packs.pack.max()) + 1

    def parts(self, nodes: NDArray[np.int32]) -> list[NDArray[np.int32]]:
        """The nodes of a pack by what they read, each part a sort of its own."""
        flat = self._flat
        count = int(flat.first[nodes[0] + 1] - flat.first[nodes[0]])
        same = (flat.first[nodes + 1] - flat.first[nodes] == count).all()
        if not 0 < count <= FEW_TERMS or not same or flat.kind[nodes[0]] in (ops.TAKE, SCATTER):
            return [nodes]
        terms = flat.first[nodes][:, None] + np.arange(count)
        right = flat.right[terms]
        read = (self.of[flat.left[terms]], np.where(right >= 0, self.of[right], -1))
        number = labels(np.ascontiguousarray(np.hstack(read), np.int64))
        many = int(number.max()) + 1
        if not 1 < many <= PARTS:
            return [nodes]
        parts = [nodes[number == k] for k in range(many)]
        for part in parts:
            self.add(part)
        return parts

    def add(self, nodes: NDArray[np.int32]) -> None:
        """Nodes that are a sort of their own."""
        self.of[nodes] = self._next
        self._next += 1


# --- guesses -------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """Terms of one sort, whose places go on evenly: the first, the steps, how many there are."""

    sort: int
    first: tuple[int, int]
    step: tuple[int, int]
    many: int


@dataclass(frozen=True, slots=True)
class _Pack:
    """What the nodes of a pack read, in all turns.

    nodes, turn, lane   int64[n]   the nodes, turn by turn
    result              int64[n]   where their results lie
    first               int64[n+1] the terms of node i: first[i] to first[i+1]
    sort, places        int64[t], int64[t, 2]  of the terms
    begin               int64[turns + 1]  the nodes of turn k: begin[k] to begin[k + 1]
    """

    nodes: NDArray[np.int32]
    turn: Integers
    lane: Integers
    result: Integers
    first: Integers
    sort: Integers
    places: Integers
    begin: Integers

    def reads(self, spaces: Sequence[Space]) -> bool:
        """Whether it reads any of these spaces."""
        left, right = self.sort >> 8 & 255, (self.sort >> 16 & 255) - 1
        return bool(np.isin(left, spaces).any() or np.isin(right, spaces).any())

    def pieces(self, node: int, long: int = LONG) -> list[_Piece]:
        """The terms of a node in pieces, some of `long` terms or more, and single ones."""
        terms = slice(int(self.first[node]), int(self.first[node + 1]))
        sort, places = self.sort[terms].tolist(), self.places[terms].tolist()
        found, at = [], 0
        while at < len(sort):
            (a, b), end = places[at], at + 1
            step = (0, 0)
            if end < len(sort) and sort[end] == sort[at]:
                step = (places[end][0] - a, places[end][1] - b)
                while (
                    end < len(sort)
                    and sort[end] == sort[at]
                    and places[end][0] - places[end - 1][0] == step[0]
                    and places[end][1] - places[end - 1][1] == step[1]
                ):
                    end += 1
            if end - at < long:
                step, end = (0, 0), at + 1
            found.append(_Piece(sort[at], (a, b), step, end - at))
            at = end
        return found


def _pack(recovery: Recovery, packs: Packs, own: Integers, lookups: bool = False) -> _Pack:
    """The packs `own`, one for each turn; with `lookups`, the caller's numbers in the index table."""
    flat, layout = recovery.flat, recovery.layout
    groups = [packs.nodes(int(k)) for k in own]
    sizes = np.array([len(group) for group in groups])
    nodes = np.concatenate(groups)
    begin = np.concatenate(([0], np.cumsum(sizes)))
    turn = np.repeat(np.arange(len(own)), sizes)
    counts = (flat.first[nodes + 1] - flat.first[nodes]).astype(np.int64)
    first = np.concatenate(([0], np.cumsum(counts)))
    terms = np.arange(first[-1]) + np.repeat(flat.first[nodes] - first[:-1], counts)
    places, sort = np.zeros((len(terms), 2), np.int64), _sorts(flat, terms)
    lane = np.arange(len(nodes)) - begin[turn]
    for side, operand in enumerate((flat.left[terms], flat.right[terms])):
        at = np.where(operand >= 0, layout.address[operand], 0)
        constant = (operand >= 0) & (flat.space[operand] == Space.CONSTANT)
        at[constant] = layout.canonical[at[constant]]
        places[:, side] = at
        given = (operand >= 0) & np.isin(flat.space[operand], GIVEN)
        owner = np.repeat(np.arange(len(nodes)), counts)[given]
        if lookups and len(owner) and (np.diff(owner) > 0).all():
            # A row of the table for each turn.
            row = int(sizes.max())
            table = np.zeros(len(own) * row, np.int64)
            entry = turn[owner] * row + lane[owner]
            table[entry] = at[given]
            places[given, side] = recovery.tables.add(table) + entry
            sort[given] |= LOOKED_UP[side]
    return _Pack(nodes, turn, lane, layout.address[nodes], first, sort, places, begin)


class _Block(NamedTuple):
    """Lanes low[t] to high[t] of each turn t."""

    low: Integers
    high: Integers


@dataclass(frozen=True, slots=True)
class _Guess:
    """How the pieces of a block's nodes change: numbers for 1, for the turn and for the lane.

    `count`, `left`, `right` and `result` have a row for each piece: how many terms, where the first
    one's factors lie; and where the result does. `lane` is from the low end of the block.
    """

    pieces: list[_Piece]
    count: Integers
    left: Integers
    right: Integers
    result: Integers

    def right_for(self, pack: _Pack, block: _Block) -> NDArray[np.bool_]:
        """For which nodes it is right, of all nodes."""
        turn = pack.turn
        inside = (pack.lane >= block.low[turn]) & (pack.lane < block.high[turn])
        rows = np.column_stack((np.ones(len(turn), np.int64), turn, pack.lane - block.low[turn]))
        counts = rows @ self.count.T
        inside &= (counts >= 0).all(axis=1) & (counts.sum(axis=1) == np.diff(pack.first))
        inside &= (rows @ self.result.T)[:, 0] == pack.result
        chosen = np.flatnonzero(inside)
        each = counts[chosen].ravel()
        number = np.tile(np.arange(len(self.pieces)), len(chosen))
        piece = np.repeat(number, each)
        within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        total = counts[chosen].sum(axis=1)
        terms = np.repeat(pack.first[chosen] - np.cumsum(total) + total, total) + np.arange(
            len(within)
        )
        steps = np.array([piece.step for piece in self.pieces], np.int64).reshape(-1, 2)
        wrong = pack.sort[terms] != np.array([p.sort for p in self.pieces], np.int64)[piece]
        for side, line in enumerate((self.left, self.right)):
            begins = np.repeat((rows[chosen] @ line.T).ravel(), each)
            wrong |= begins + steps[piece, side] * within != pack.places[terms, side]
        owner = np.repeat(chosen, total)
        inside[owner[wrong]] = False
        return inside


def _guess(pack: _Pack, block: _Block, turn: int, lane: int) -> _Guess | None:
    """What the nodes around one lane of a turn have in common."""

    def node(turn: int, lane: int) -> int:
        return int(pack.begin[turn] + block.low[turn]) + lane

    sizes = block.high - block.low
    if turn + 1 >= len(sizes) or min(sizes[turn], sizes[turn + 1]) <= lane:
        return None
    aside = 1 if lane + 1 < sizes[turn] else -1 if lane else 0
    nodes = [node(turn, lane), node(turn + 1, lane), node(turn, lane + aside)]
    three = _alike([pack.pieces(k) for k in nodes])
    if three is None:
        # Terms that happen to lie evenly in one turn may not in the next.
        three = _alike([pack.pieces(k, FEW_TERMS + 1) for k in nodes])
    if three is None:
        return None
    base, later, beside = three

    def line(numbers: tuple[int, int, int]) -> list[int]:
        by_turn, by_lane = numbers[1] - numbers[0], aside * (numbers[2] - numbers[0])
        return [numbers[0] - turn * by_turn - lane * by_lane, by_turn, by_lane]

    def lines(numbers: list[tuple[int, int, int]]) -> Integers:
        return np.array([line(each) for each in numbers], np.int64).reshape(-1, 3)

    every = list(zip(base, later, beside))
    here, after, next_to = pack.result[nodes].tolist()
    return _Guess(
        base,
        lines([(x.many, y.many, z.many) for x, y, z in every]),
        lines([(x.first[0], y.first[0], z.first[0]) for x, y, z in every]),
        lines([(x.first[1], y.first[1], z.first[1]) for x, y, z in every]),
        lines([(here, after, next_to)]),
    )


def _alike(nodes: list[list[_Piece]]) -> list[list[_Piece]] | None:
    """The pieces of nodes, if they have as many of the same sorts and steps."""
    shapes = {tuple((piece.sort, piece.step) for piece in pieces) for pieces in nodes}
    return nodes if len(shapes) == 1 else None


# --- nests ---------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """A block for which a guess is right: lanes low[t] to high[t], counted from `begin[t]`."""

    guess: _Guess
    begin: Integers
    low: Integers
    high: Integers

    def inside(self, pack: _Pack, first: int, last: int) -> NDArray[np.bool_]:
        """Which nodes are in the block, in turns `first` to `last`."""
        turn, lane = pack.turn, pack.lane
        own = (lane >= self.low[turn]) & (lane < self.high[turn])
        return own & (turn >= first) & (turn < last)

    def turns(self, middle: int) -> NDArray[np.bool_]:
        """In which turns the block is as it is in the `middle` one, and later or earlier by that."""
        good = self.high > self.low
        number = np.arange(len(good)) - middle
        for bound in (self.begin, self.low, self.high):
            good &= bound == bound[middle] + (bound[middle + 1] - bound[middle]) * number
        return good


def _blocks(pack: _Pack, block: _Block, middle: int, left: int) -> Iterator[_Found]:
    """Blocks that cover as much as can be said with `left` guesses."""
    sizes = block.high - block.low
    if left <= 0 or sizes[middle] <= 0:
        return
    best: tuple[int, _Guess, NDArray[np.bool_], int] | None = None
    whole = int(sizes.sum())
    for where in PLACES[:3]:
        turn = int(where * len(sizes))
        for across in PLACES:
            guess = _guess(pack, block, turn, int(across * sizes[turn]))
            if guess is None:
                continue
            good = guess.right_for(pack, block)
            number = int(good.sum())
            if best is None or number > best[0]:
                best = number, guess, good, turn
            if number == whole:
                break
        if best is not None and 10 * best[0] > 9 * whole:
            break
    if best is None:
        return
    number, guess, good, guessed = best
    if number < whole and 1 < sizes[0] <= BLOCKS and (sizes == sizes[0]).all():
        # The few at the edges, which move apart, or closer.
        for k in range(sizes[0]):
            yield from _blocks(pack, _Block(block.low + k, block.low + k + 1), middle, 1)
        return
    low, high = block.low.copy(), block.low.copy()
    for turn in range(len(sizes)):
        lanes = np.flatnonzero(good[pack.begin[turn] : pack.begin[turn + 1]])
        if len(lanes) and lanes[-1] - lanes[0] + 1 == len(lanes):
            low[turn], high[turn] = lanes[0], lanes[-1] + 1
    _trim(low, high, guessed)
    yield _Found(guess, block.low, low, high)
    if (low > block.low)[middle]:
        yield from _blocks(pack, _Block(block.low, low), middle, left - 1)
    if (high < block.high)[middle]:
        yield from _blocks(pack, _Block(high, block.high), middle, left - 1)


def _trim(low: Integers, high: Integers, turn: int) -> None:
    """Leave out lanes of the turn of a guess, and of the next, which it was made to be right for."""
    near, far = (turn + 2, turn + 3) if turn + 3 < len(low) else (turn - 1, turn - 2)
    if far < 0 or low[near] >= high[near] or low[far] >= high[far]:
        return
    step = far - near
    for own in (turn, turn + 1):
        ends = [
            int(bound[near] + (bound[far] - bound[near]) * step * (own - near))
            for bound in (low, high)
        ]
        if low[own] <= ends[0] < ends[1] <= high[own]:
            low[own], high[own] = ends


class Body(NamedTuple):
    """Turns `first` to `last` of a tandem repeat, as one body."""

    first: int
    last: int
    nests: list[tuple[NDArray[np.int32], Nest]]  # with their nodes in all turns


def body(recovery: Recovery, packs: Packs, tandem: Tandem) -> Body | None:
    """The body of most turns of a repeat that is placed; None if there is none."""
    own = np.arange(tandem.start, tandem.stop).reshape(tandem.turns, tandem.period)
    middle = tandem.turns // 2
    if tandem.turns < FEWEST:
        return None
    found: list[tuple[_Pack, list[_Found]]] = []
    good = np.ones(tandem.turns, bool)
    for k in range(tandem.period):
        pack = _pack(recovery, packs, own[:, k])
        blocks, alike = _covered(pack, middle)
        if 4 * alike.sum() < 3 * len(alike) and pack.reads(GIVEN):
            pack = _pack(recovery, packs, own[:, k], lookups=True)
            blocks, alike = _covered(pack, middle)
        good &= alike
        if not good[middle : middle + 2].all():
            return None
        found.append((pack, blocks))
    edges = np.flatnonzero(np.diff(np.concatenate(([False], good, [False])).astype(np.int8)))
    first, last = max(edges.reshape(-1, 2).tolist(), key=lambda run: run[1] - run[0])
    if last - first < FEWEST or not first <= middle < last:
        return None
    nests = [
        (pack.nodes[each.inside(pack, first, last)], _nest(recovery, pack, each, first))
        for pack, blocks in found
        for each in blocks
    ]
    return Body(first, last, nests)


def _covered(pack: _Pack, middle: int) -> tuple[list[_Found], NDArray[np.bool_]]:
    """Blocks of a pack, and in which turns they are all of it, and change evenly."""
    sizes = np.diff(pack.begin)
    good, covered = np.ones(len(sizes), bool), np.zeros(len(sizes), np.int64)
    blocks = list(_blocks(pack, _Block(np.zeros(len(sizes), np.int64), sizes), middle, BLOCKS))
    for each in blocks:
        good &= each.turns(middle)
        covered += each.high - each.low
    return blocks, good & (covered == sizes)


def _nest(recovery: Recovery, pack: _Pack, found: _Found, first: int) -> Nest:
    """The nest of a block, its operands and loops moving, as it is in the `first` turn."""
    guess, flat = found.guess, recovery.flat
    # From the turn and the lane of the guess to those of the repeat.
    shift = found.low - found.begin
    steps = int(shift[first + 1] - shift[first])
    change = np.array([[1, first, int(shift[first])], [0, 1, steps], [0, 0, 1]], np.int64)

    def moved(line: Integers) -> list[int]:
        numbers: list[int] = (change @ line).tolist()
        return numbers

    width = found.high - found.low
    lanes = _loops([int(width[first]), int(width[first + 1] - width[first]), 0], 0)
    depth = len(lanes)

    def operand(space: int, line: Integers, *inner: int, lookup: bool = False) -> Operand:
        base, move, stride = moved(line)
        strides, moves = (*((stride,) * depth), *inner), (move,) if move else ()
        return Operand(Space(space), base, strides, lookup, moves)

    node = int(pack.nodes[pack.begin[first]])
    parts: list[tuple[int, Segment]] = []
    for k, piece in enumerate(guess.pieces):
        style, left, right = piece.sort & 255, piece.sort >> 8 & 255, piece.sort >> 16 & 255
        loops = _loops(moved(guess.count[k]), depth)
        inner = [(step,) * len(loops) for step in piece.step]
        lookups = [bool(piece.sort & bit) for bit in LOOKED_UP]
        own = operand(left, guess.left[k], *inner[0], lookup=lookups[0])
        factor = None
        if right:
            factor = operand(right - 1, guess.right[k], *inner[1], lookup=lookups[1])
        parts.append((style, segment(own, factor, loops, style)))
    return recovery.instruction(
        pack.nodes[pack.begin[first] :],
        int(flat.kind[node]),
        operand(int(flat.space[node]), guess.result[0]),
        lanes,
        parts,
        [],
    )


def _loops(line: list[int], depth: int) -> tuple[Loop, ...]:
    """A loop, inside so many others, for a number of terms, or lanes; none if that is always 1."""
    extent, move, slope = line
    if (extent, move, slope) == (1, 0, 0):
        return ()
    return (Loop(extent, (slope,) * depth if slope else (), (move,) if move else ()),)
