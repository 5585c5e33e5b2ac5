"""From a tape to a Loops program: all stages of the analysis, one after the other.

    flatten     chains of additions become sums of terms
    singles     sums and maxima of one term, where others have several
    derive      the gradient, in the engine's order of accumulation
    simplify    equal nodes merged, constants computed, dead code dropped
    find_packs  nodes that do the same to the same kinds of operands
    periods     the packs that are turns of a recurrence, and so less code than they look
    growing     turns that grow or shrink, if there are no others: the steps of a factorisation
    recover     the loops of each pack, and the places of its results
    repeats     instructions that come again and again: one body for all turns

Each stage is a function of the results before it, can be printed, and has a verifier; `check`
turns the verifiers on, and so does `SCALARGRAD_VERIFY=1` in the environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from .. import ops
from ..tape import Tape
from .candidates import copy_candidates
from .derive import derive
from .flat import SCATTER, Flat, verify
from .flatten import flatten
from .growing import Sorts, apart, body, growing, outwards, place
from .layout import Layout, verify_layout
from .loops import (
    BATCH,
    SCALARS,
    Apply,
    Contract,
    Group,
    Instruction,
    Loop,
    Loops,
    Nest,
    Operand,
    Origin,
    Repeat,
    Segment,
    Space,
    leaves,
)
from .loops_check import verify as verify_loops
from .loops_check import verifying
from .marks import GRADIENT, Marks, verify_marks
from .packs import Ordered, Packs, find_packs, ordered, verify_packs
from .periods import VERY_MANY, WINDOW, periods, turns, within
from .recover import Recovery
from .repeats import LEAST, even_body, find_repeats, together
from .simplify import simplify
from .singles import add_singles
from .sources import NOWHERE, SourceLines
from .stats import Stats
from .tandems import Tandem
from .turns import TRIED, place_turns
from .walks import Walks

# With more packs than this, turns of a period counted once, a program is too large to be all nests:
# it gets at most some MANY_NESTS of them, for what does at least WORTH operations (with up to twice
# as many packs, less), and the rest is walked through node by node.
MANY_PACKS, MANY_NESTS, WORTH = 256, 512, 128
# Of a batch, examples are walked through abreast. That is about as quick as a nest but for the sums
# of so many terms and more, which a nest keeps in registers: others need so many times the work.
FEW_TERMS, ABREAST = 4, 8
FEW_PACKS = 96  # so few are not looked at for turns that grow
FEW_NODES = 16  # packs of fewer nodes on average are made coarser


def roll(
    tape: Tape,
    marks: Marks,
    *,
    lines: SourceLines | None = None,
    check: bool | None = None,
    stats: Stats | None = None,
    grow: bool = True,
) -> Loops:
    """The Loops program of a tape: its outputs and the gradients that `marks` asks for.

    `lines` gives the source line of a node of the tape, where known, for `explain`; `grow` says
    whether turns of repeats may be longer than those before. Raises
    `VerifyError` for marks that do not fit the tape, and with `check` for any stage that breaks
    the rules of its form.
    """
    stats = Stats() if stats is None else stats
    check = verifying() if check is None else check
    clock = _Clock(stats)
    verify_marks(tape, marks)
    # One name for the graph of every stage: each is gone when the next one is there.
    graph, outputs = add_singles(*flatten(tape, marks))
    stats.nodes, stats.flat = len(tape), len(graph)
    clock.lap("flatten", check, lambda: verify(graph))
    graph = derive(graph, outputs, marks) if marks.wanted else graph
    stats.derived = len(graph)
    clock.lap("derive", check, lambda: verify(graph))
    graph, outputs = copy_candidates(*simplify(graph, outputs))
    stats.live = len(graph)
    clock.lap("simplify", check, lambda: verify(graph))
    packs, tandems, grown = _packs(graph, grow)
    stats.packs = len(packs)
    clock.lap("packs", check, lambda: verify_packs(graph, packs))
    found = _rolled(graph, outputs, marks, packs, tandems, lines or NOWHERE, grown)
    if found is None:
        parted, spare = apart(packs, tandems), MANY_PACKS - _counted_once(packs, tandems)
        found = _rolled(graph, outputs, marks, parted, tandems, lines or NOWHERE, grown, spare)
    if found is None:
        packs, tandems, _ = _packs(graph, False)
        found = _rolled(graph, outputs, marks, packs, tandems, lines or NOWHERE)
    assert found is not None
    loops, layout = found
    if tandems and len(loops.nests) > 2 * MANY_NESTS:
        # The numbers lie otherwise than it seemed.
        packs = _coarser(graph, packs, len(packs))
        found = _rolled(graph, outputs, marks, packs, [], lines or NOWHERE)
        assert found is not None
        loops, layout = found
    stats.instructions = sum(1 for _ in leaves(loops.instructions))
    clock.lap("recover", check, lambda: verify_layout(graph, layout))
    if check:
        verify_loops(loops)
    return loops


class _Clock:
    def __init__(self, stats: Stats) -> None:
        self.stats, self.last = stats, perf_counter()

    def lap(self, name: str, check: bool, verifier: object) -> None:
        now = perf_counter()
        self.stats.seconds[name] = now - self.last
        if check:
            assert callable(verifier)
            verifier()
        self.last = perf_counter()


def _packs(flat: Flat, grow: bool) -> tuple[Packs, list[Tandem], bool]:
    """The packs of a graph, coarse ones if it has no structure, and their tandem repeats.

    Also whether turns of these grow, which they only may with `grow`.
    """
    order = ordered(flat)
    # If there are as many without a period, then there is no structure, whatever the rest is like.
    enough = max(
        min(len(flat) // 4, VERY_MANY), len(flat) // max(FEW_NODES, 1) + WINDOW, MANY_PACKS
    )
    packs = find_packs(flat, order, most=enough)
    tandems = periods(flat, packs, LEAST) if len(packs) > MANY_PACKS else []
    if not packs.complete and tandems:
        packs = find_packs(flat, order)
        tandems = periods(flat, packs, LEAST)
    many = _counted_once(packs, tandems, flat)
    # That most come again is no reason not to look, if there are too many others.
    if grow and many > FEW_PACKS and (2 * many > len(packs) or many > MANY_PACKS):
        late = find_packs(flat, outwards(flat), coarse=True)
        grown = growing(flat, late, LEAST) if len(late) <= VERY_MANY else []
        if 2 * _counted_once(late, grown) <= min(len(late), many):
            return late, grown, True
    coarser = _coarser(flat, packs, many, order)
    if tandems and many > MANY_PACKS:
        # Where turns differ at their edges, they may be alike in what they do and not in what they
        # read.
        coarser = coarser if coarser.coarse else find_packs(flat, order, coarse=True)
        even = periods(flat, coarser, LEAST) if len(coarser) > MANY_PACKS else []
        if _counted_once(coarser, even, flat) <= MANY_PACKS:
            return coarser, even, False
        coarser = _coarser(flat, packs, many, order)
    if many > MANY_PACKS:
        # What does not wait for the rest of its turn runs ahead of it: then turns are only alike
        # in the order of the program.
        parts = turns(flat)
        turning = find_packs(flat, ordered(flat, parts)) if len(parts) else packs
        even = periods(flat, turning, LEAST) if turning is not packs else []
        steady = sum(tandem.stop - tandem.start for tandem in even)
        if 2 * steady > len(turning) and _turning(even) <= MANY_PACKS:
            return turning, even, False
    return coarser, tandems if coarser is packs else [], False


def _worth(flat: Flat, many: int) -> int:
    """How many operations a nest must do at least, where there are so `many` packs."""
    beyond = min(max(many - MANY_PACKS, 0), MANY_PACKS)
    return beyond * max(WORTH, len(flat) // MANY_NESTS) // MANY_PACKS


def _counted_once(packs: Packs, tandems: Sequence[Tandem], even: Flat | None = None) -> int:
    """How many packs there are, turns of a period counted once.

    Of `even` turns, those within them are, too, if that makes a difference.
    """
    many = len(packs) - sum(tandem.saved for tandem in tandems)
    if even is not None and many > MANY_PACKS:
        many -= sum(tandem.saved for tandem in within(even, packs, tandems, LEAST))
    return many


def _turning(tandems: Sequence[Tandem]) -> int:
    """How many packs there are in one turn of each."""
    return sum(tandem.period for tandem in tandems)


def _coarser(flat: Flat, packs: Packs, many: int, order: Ordered | None = None) -> Packs:
    """Coarse packs if there are too `many` of a few nodes, turns of a period counted once."""
    if many > MANY_PACKS and many * FEW_NODES > len(flat) and not packs.coarse:
        return find_packs(flat, order, coarse=True)
    return packs


def _rolled(
    flat: Flat,
    outputs: NDArray[np.int32],
    marks: Marks,
    packs: Packs,
    tandems: Sequence[Tandem],
    lines: SourceLines,
    grown: bool = False,
    spare: int = 0,
) -> tuple[Loops, Layout] | None:
    """The program and where its numbers lie; the tandem repeats of the packs are all nests.

    None if their turns, which are `grown`, are not alike after all, but for those of repeats that
    save `spare` packs.
    """
    worth = _worth(flat, _counted_once(packs, tandems, None if grown else flat))
    layout = Layout(flat)
    sorts = Sorts(flat, packs)
    for tandem in tandems if grown else ():
        place(flat, packs, tandem, layout, sorts)
    recovery = Recovery(flat, packs, layout, marks.accumulate)
    made = _Instructions(flat, packs, layout, recovery, lines, sorts, grown, spare)
    instructions = made.all(tandems, worth)
    if not made.alike:
        return None
    loops = _loops(flat, outputs, marks, instructions, layout, recovery)
    return find_repeats(loops), layout


def _loops(
    flat: Flat,
    outputs: NDArray[np.int32],
    marks: Marks,
    instructions: list[Instruction],
    layout: Layout,
    recovery: Recovery,
) -> Loops:
    results: dict[Space, int] = {}
    instructions += _outputs(flat, outputs, marks, layout, results)
    sizes = {**marks.sizes, **layout.sizes, **results}
    sizes[Space.CONSTANT] = len(layout.constants)
    first: list[Instruction] = []
    for space in marks.wanted:
        sizes[GRADIENT[space]] = marks.sizes.get(space, 0)
        first += _untouched(flat, GRADIENT[space], sizes[GRADIENT[space]], marks.accumulate)
    if marks.batch is not None:
        sizes[Space.SCALAR] = SCALARS
    return Loops(
        (*first, *instructions),
        {space: size for space, size in sizes.items() if size},
        layout.constants,
        recovery.tables.array(),
        marks.batch is not None,
    )


class _Instructions:
    """The packs as nests, the turns of tandem repeats with little work for each turn, and what is
    not worth a nest walked through."""

    def __init__(
        self,
        flat: Flat,
        packs: Packs,
        layout: Layout,
        recovery: Recovery,
        lines: SourceLines,
        sorts: Sorts,
        grown: bool,
        spare: int,
    ) -> None:
        """With `grown`, turns grow; `alike` says whether they are alike but for that.

        Of repeats whose turns are not, so many packs may be nests of their own.
        """
        self.flat, self.packs, self.layout, self.recovery = flat, packs, layout, recovery
        self.lines, self.grown, self.alike, self.spare = lines, grown, True, spare
        self.sorts = sorts
        self.walks = Walks(flat, layout, recovery.accumulate)
        self.made: list[Instruction] = []
        self.even = True

    def all(self, tandems: Sequence[Tandem], worth: int, grown: bool = False) -> list[Instruction]:
        """The instructions; nests outside of `tandems` do at least `worth` operations.

        With `grown`, the turns of `tandems` grow, and are placed; `even` says whether they could be
        made repeats.
        """
        steady = np.zeros(len(self.packs), bool)
        for tandem in tandems:
            steady[tandem.start : tandem.stop] = True
        number = np.arange(len(self.packs))
        if worth:
            # Nothing reads a gradient: at the end they do not cut walks short.
            last = (self.flat.space[self.packs.heads] > Space.BATCHED) & ~steady
            self.packs = self.packs.arranged(last)
            number = np.argsort(last, kind="stable")
        turning = {tandem.start: tandem for tandem in tandems}
        needed = self._needed(worth)
        small = self._small(needed) & ~steady[number]
        walked = small & self.walks.take(self.packs.heads) if small.any() else small
        cuts = np.diff(np.where(steady[number], 2, walked), prepend=-1, append=-1)
        for low, high in pairwise(np.flatnonzero(cuts).tolist()):
            if walked[low]:
                first, level = self.packs.first[low : high + 1], self.packs.level[low:high]
                nodes = self.packs.members[first[0] : first[-1]]
                self.walks.add(nodes, np.repeat(level, np.diff(first)))
            elif steady[number[low]]:
                self._steady(low, high, number, turning)
            else:
                self._nests(low, high, needed[low:high])
        return self.made + self.walks.flush()

    def _small(self, needed: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each pack has fewer nodes, and shorter sums, than nests that do so much."""
        sizes, terms = np.diff(self.packs.first), np.diff(self.flat.first)[self.packs.members]
        total = np.add.reduceat(terms, self.packs.first[:-1])
        many = np.maximum(needed, len(self.flat.left) // MANY_NESTS * (needed > 0))
        small: NDArray[np.bool_] = (sizes * 8 < needed) & (total < many)
        return small

    def _needed(self, worth: int) -> NDArray[np.int64]:
        """How many operations the nests of each pack must do at least."""
        sizes = np.diff(self.packs.first)
        terms = np.diff(self.flat.first)[self.packs.members]
        short = np.add.reduceat(terms, self.packs.first[:-1]) < FEW_TERMS * sizes
        abreast = short & self.recovery.batched[self.packs.heads]
        return np.where(abreast, ABREAST * worth, worth)

    def _nests(self, low: int, high: int, needed: NDArray[np.int64] | None = None) -> list[Nest]:
        """Nests of packs low to high; with `needed`, those that do so many operations."""
        made: list[Nest] = []
        for k in range(low, high):
            worth = 0 if needed is None else int(needed[k - low])
            whole = self.packs.nodes(k)
            for nodes in self.sorts.parts(whole) if self.grown else [whole]:
                takes = worth > 0 and bool(self.walks.take(nodes[:1])[0])
                origin = _origin(self.flat, nodes, self.lines)
                nests, rest = self.recovery.nests(nodes, origin, worth * takes)
                if nests:
                    self.made += self.walks.flush()
                    self.made += nests
                    made += nests
                if len(rest):
                    self.walks.add(rest, np.full(len(rest), self.packs.level[k]))
        return made

    def _steady(
        self, low: int, high: int, number: NDArray[np.intp], turning: Mapping[int, Tandem]
    ) -> None:
        """The packs of tandem repeats that follow one another; pack k is known as `number[k]`."""
        while low < high:
            tandem = turning[int(number[low])]
            turns = self._growing if self.grown else self._turns
            turns(tandem._replace(start=low))
            low += tandem.stop - tandem.start

    def _growing(self, tandem: Tandem) -> None:
        """The packs of one whose turns grow: most of them as one body."""
        found = body(self.recovery, self.packs, tandem) if self.alike else None
        if found is None:
            self.spare -= tandem.saved
            self.alike &= self.spare >= 0
            if self.alike:
                self._nests(tandem.start, tandem.stop)
            return
        ends = [tandem.start + tandem.period * turn for turn in (found.first, found.last)]
        self._nests(tandem.start, ends[0])
        self.made += self.walks.flush()
        steps = [
            replace(nest, origin=_origin(self.flat, nodes, self.lines))
            for nodes, nest in found.nests
        ]
        self.made.append(Repeat(tuple(steps), found.last - found.first))
        for nodes, _ in found.nests:
            self.sorts.add(nodes)
        self._nests(ends[1], tandem.stop)

    def _turns(self, tandem: Tandem) -> None:
        """The packs of one: where possible, later turns are like the first few."""
        times = together(tandem.period, tandem.turns)
        whole = Tandem(tandem.start, tandem.period * times, tandem.turns // times)
        start, layout, tables = tandem.start, self.layout, self.recovery.tables.size
        if whole.turns > TRIED:
            self.made += self.walks.flush()
            first, before, begun = [], dict(layout.sizes), len(self.made)
            for _ in range(TRIED):
                before = dict(layout.sizes)
                first.append(self._nests(start, start + whole.period))
                start += whole.period
            growth = {space: size - before[space] for space, size in layout.sizes.items()}
            found = even_body(first) if tables == self.recovery.tables.size else None
            turns = TRIED
            if found is not None:
                turns = place_turns(self.flat, self.packs, whole, layout, growth)
            if found is not None and turns > TRIED:
                del self.made[begun:]
                self.made += [*found[0], Repeat(found[1], turns - bool(found[0]))]
                start = whole.start + turns * whole.period
        self._nests(start, tandem.stop)


def _origin(flat: Flat, nodes: NDArray[np.int32], lines: SourceLines) -> Origin:
    rank = flat.rank[nodes]
    frequent = lines.frequent(rank, 3) if lines.names else []
    if lines.names and not frequent:
        # No line of the program made a leaf. Its gradient comes from those of what it is used in,
        # which is younger than the factor beside it. The seed is no node of the tape.
        terms = flat.first[nodes][flat.first[nodes] < flat.first[nodes + 1]]
        left, right = flat.left[terms], flat.right[terms]
        used = np.maximum(flat.rank[left], flat.rank[np.where(right < 0, left, right)])
        frequent = lines.frequent(used[used < len(lines.which)], 3)
    return Origin((int(rank.min()), int(rank.max())), tuple(line for line, _ in frequent))


def _untouched(flat: Flat, space: Space, size: int, accumulate: bool) -> list[Instruction]:
    """Zeros for the elements of a gradient that no node of the graph sets."""
    there = np.zeros(size, bool)
    there[flat.slot[(flat.space == space) & ~np.isin(flat.kind, (ops.LEAF, SCATTER))]] = True
    edges = np.flatnonzero(np.diff(np.concatenate(([True], there, [True]))))
    return [
        Contract(Operand(space, a, (1,)), (Loop(b - a),), (), start=0.0, resume=accumulate)
        for a, b in edges.reshape(-1, 2).tolist()
    ]


def _outputs(
    flat: Flat,
    outputs: NDArray[np.int32],
    marks: Marks,
    layout: Layout,
    results: dict[Space, int],
) -> list[Instruction]:
    """Copies of the outputs to where the caller reads them; the total over the batch."""
    places = [Operand(Space(int(flat.space[i])), int(layout.address[i])) for i in outputs.tolist()]
    made: list[Instruction] = []
    if marks.batch in ("mean", "sum"):
        results[Space.OUTPUT] = 1
        penalty = places[1] if marks.penalty else None
        made += _total(places[0], penalty, marks.batch == "mean", layout)
        places = places[1 + marks.penalty :]
    elif marks.penalty:
        results[Space.OUTPUT] = 1
        made.append(_sum(Operand(Space.OUTPUT, 0), places[0], places[1]))
        places = places[2:]
    space = Space.OUTPUT if marks.batch is None else Space.EXAMPLE_OUTPUT
    base = results.get(space, 0)
    made += _copies(Operand(space, base), places)
    if places:
        results[space] = base + len(places)
    return made


def _copies(to: Operand, places: Sequence[Operand]) -> list[Instruction]:
    """Copies of numbers to one place after the other: a loop for all that are evenly apart."""
    made: list[Instruction] = []
    start = 0
    while start < len(places):
        first, stop = places[start], start + 1
        step = places[stop].base - first.base if stop < len(places) else 0
        while stop < len(places) and places[stop] == first._replace(
            base=first.base + step * (stop - start)
        ):
            stop += 1
        at = to._replace(base=to.base + start)
        if stop == start + 1:
            made.append(_sum(at, first))
        else:
            terms = Group((Segment(first._replace(strides=(step,))),))
            made.append(Contract(at._replace(strides=(1,)), (Loop(stop - start),), (terms,)))
        start = stop
    return made


def _sum(result: Operand, *terms: Operand, over: int = 0) -> Contract:
    return Contract(result, (), (Group(tuple(Segment(term) for term in terms), over),))


def _total(loss: Operand, penalty: Operand | None, mean: bool, layout: Layout) -> list[Instruction]:
    """The sum over the examples, first to last, as `functional.total` and `mean` add it up."""
    steps = 1 + mean + (penalty is not None)
    first = layout.reserve(Space.TEMPORARY, steps - 1)
    to = [Operand(Space.TEMPORARY, first + k) for k in range(steps - 1)]
    to.append(Operand(Space.OUTPUT, 0))
    made: list[Instruction] = [_sum(to[0], loss, over=1)]
    if mean:
        made.append(Apply(to[1], (), ops.DIV, (to[0], Operand(Space.SCALAR, BATCH))))
    if penalty is not None:
        made.append(_sum(to[-1], to[-2], penalty))
    return made
