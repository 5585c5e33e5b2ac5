"""Nests that select by integers: indicators, takes, and what is added to the chosen ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from .binding import Binder, Piece, touched, unit_of
from .fuse import Cluster
from .ir import Counter, Function, vector
from .loops import Indicator, Loop, Operand, Scatter, Space, Take
from .nests import Nest, Spot, Tile
from .places import Cursor
from .plans import divide, plan
from .tiles import Axis, Division, Plan, Ref, Use, ragged, typical

WIDE = 4  # vectors that are added at once


def _other(
    binder: Binder,
    cluster: Cluster,
    axes: tuple[Axis, ...],
    refs: Sequence[Ref],
    chosen: Plan,
    body: Callable[[Tile], None],
) -> Piece:
    """A nest whose body is written by a function; its result is the first of the refs."""
    own = 0 if cluster.batched and binder.several else None
    split = divide(axes, refs[:1], refs, (), chosen, binder.module.width, own)

    def write(function: Function, division: Division | None) -> None:
        Nest(function, axes, refs, chosen, split, division).run(body)

    reads, writes = touched(cluster.reads), touched(cluster.writes)
    unit = unit_of(chosen, split, own, binder.module.width)
    return Piece(write, reads, writes, split is not None, prod(typical(axes)), unit)


def indicator(binder: Binder, cluster: Cluster) -> Piece:
    """A nest of 1 where an index is the candidate that is meant, else 0."""
    step = cluster.steps[0]
    assert isinstance(step, Indicator)
    batched = step.result.space.batched
    axes = binder.axes(step.lanes, batched)
    result = binder.bind(step.result, batched, step.lanes)
    index = binder.bind(step.index, batched, step.lanes)
    candidate = _counting(step.candidate, batched)
    uses = [Use(index)] if candidate is None else [Use(index), Use(candidate)]
    chosen = plan(axes, [result], uses, binder.machine)._replace(copies=frozenset())

    def body(tile: Tile) -> None:
        function = tile.function
        for spot in tile.spots:
            m = tile.arithmetic(spot)
            kind = vector("i64", m.width)
            number = tile.fetch(index, tile.cursors[1], spot, "i64")
            if candidate is None:
                wanted = _counted(tile, step.candidate, batched, spot)
            else:
                wanted = _entries(tile, candidate, tile.cursors[2], spot)
            equal = function.emit(f"icmp eq {kind} {number}, {wanted}")
            value = m.select(equal, m.constant(1.0), m.constant(0.0))
            tile.write(result, tile.cursors[0], spot, value)

    return _other(binder, cluster, axes, [result, *(use.ref for use in uses)], chosen, body)


def _counting(candidate: Operand, batched: bool) -> Ref | None:
    """Candidates that stand in the table, as a ref on the table itself."""
    if not candidate.indirect:
        return None
    strides = (0, *candidate.strides) if batched else candidate.strides
    beyond = (0,) * len(strides)
    return Ref(Space.TEMPORARY, candidate.base, strides, beyond, turns=candidate.moves)


def _entries(tile: Tile, ref: Ref, cursor: Cursor, spot: Spot) -> str:
    """The entries of the table themselves."""
    function, piece = tile.function, tile.parts[spot[1]]
    entries = []
    for lane in range(piece.valid if ref.step(tile.nest.plan.vector) is None else 1):
        table = tile.shifted(ref, cursor, spot, lane).table
        assert table is not None
        pointer = function.at("i32", table.pointer, table.offset)
        entry = function.emit(f"load i32, ptr {pointer}, align 4")
        entries.append(function.emit(f"sext i32 {entry} to i64"))
    if len(entries) == 1:
        return function.splat("i64", entries[0], piece.width)
    result, kind = "zeroinitializer", vector("i64", piece.width)
    for lane, entry in enumerate(entries):
        result = function.emit(f"insertelement {kind} {result}, i64 {entry}, i32 {lane}")
    return result


def _counted(tile: Tile, candidate: Operand, batched: bool, spot: Spot) -> str:
    """Candidates numbered by the counters."""
    function, piece = tile.function, tile.parts[spot[1]]
    strides = (0, *candidate.strides) if batched else candidate.strides
    first: Counter = function.add(candidate.base, function.distance(candidate.moves))
    for counter, stride in zip(tile.counters, strides):
        first = function.add(first, function.multiply(counter, stride))
    step = 0 if tile.nest.plan.vector is None else strides[tile.nest.plan.vector]
    first = function.add(first, piece.first * step)
    if isinstance(first, int):
        if piece.width == 1:
            return str(first)
        lanes = ", ".join(f"i64 {first + k * step}" for k in range(piece.width))
        return f"<{lanes}>"
    start = function.splat("i64", first, piece.width)
    if piece.width == 1 or not step:
        return start
    lanes = ", ".join(f"i64 {k * step}" for k in range(piece.width))
    return function.emit(f"add {vector('i64', piece.width)} {start}, <{lanes}>")


def take(binder: Binder, cluster: Cluster) -> Piece:
    """A nest of the numbers that indices select."""
    step = cluster.steps[0]
    assert isinstance(step, Take)
    batched = step.result.space.batched
    axes = binder.axes(step.lanes, batched)
    result = binder.bind(step.result, batched, step.lanes)
    index = binder.bind(step.index, batched, step.lanes)
    loops = (*step.lanes, Loop(step.count))
    source = binder.bind(step.source, batched, loops, len(step.lanes))
    uses = [Use(index), Use(source)]
    chosen = plan(axes, [result], uses, binder.machine)._replace(copies=frozenset(), width=1)
    last = len(axes)

    def chosen_place(tile: Tile, spot: Spot, lane: int) -> Cursor:
        nest = tile.nest
        place = tile.shifted(index, tile.cursors[1], spot, lane)
        number = nest.load("i64", index, place)
        return nest.move(source, tile.cursors[2], last, number)

    def body(tile: Tile) -> None:
        nest, function = tile.nest, tile.function
        for spot in tile.spots:
            piece = tile.parts[spot[1]]
            if piece.width == 1 or index.step(chosen.vector) == 0:
                value = tile.fetch(source, chosen_place(tile, spot, 0), spot)
            else:
                kind, value = vector(nest.real, piece.width), "poison"
                for lane in range(piece.valid):
                    at = tile.shifted(source, chosen_place(tile, spot, lane), spot, lane)
                    one = nest.load(nest.real, source, at)
                    value = function.emit(
                        f"insertelement {kind} {value}, {nest.real} {one}, i32 {lane}"
                    )
            tile.write(result, tile.cursors[0], spot, value)

    return _other(binder, cluster, axes, [result, index, source], chosen, body)


def scatter(binder: Binder, cluster: Cluster) -> Piece:
    """A nest that adds to the numbers that indices select, one lane after the other.

    Lanes that are neighbours in the result, and have one index, are apart: those are a vector.
    """
    step = cluster.steps[0]
    assert isinstance(step, Scatter)
    axes = binder.axes(step.lanes, step.over)
    index = binder.bind(step.index, step.over, step.lanes)
    source = binder.bind(step.source, step.over, step.lanes)
    loops = (*step.lanes, Loop(step.count))
    result = binder.bind(step.result, step.over, loops, len(step.lanes))
    refs = [result, index, source]
    if step.over:
        refs = [_downwards(ref, binder.batch) for ref in refs]
    result, index, source = refs
    last = len(axes)
    chosen = Plan()
    if step.lanes and result.step(last - 1) == 1 and not index.moves(last - 1):
        few = -(-axes[-1].extent // binder.module.width)
        if not ragged(axes[-1]):
            chosen = Plan(vector=last - 1, width=min(few, WIDE))

    def body(tile: Tile) -> None:
        for spot in tile.spots:
            m = tile.arithmetic(spot)
            number = tile.nest.load("i64", index, tile.shifted(index, tile.cursors[1], spot))
            place = tile.nest.move(result, tile.cursors[0], last, number)
            added = tile.fetch(source, tile.cursors[2], spot)
            tile.write(result, place, spot, m.add(tile.fetch(result, place, spot), added))

    def write(function: Function, _: Division | None) -> None:
        Nest(function, axes, refs, chosen).run(body)

    reads, writes = touched(cluster.reads), touched(cluster.writes)
    return Piece(write, reads, writes, cycles=prod(typical(axes)))


def _downwards(ref: Ref, batch: int) -> Ref:
    """A ref whose first axis, that of the examples, is counted from the last to the first."""
    if ref.number is not None:
        return ref
    if ref.beyond is not None:
        far, *others = ref.beyond
        return ref._replace(shift=ref.shift + (batch - 1) * far, beyond=(-far, *others))
    far, *others = ref.strides
    return ref._replace(base=ref.base + (batch - 1) * far, strides=(-far, *others))
