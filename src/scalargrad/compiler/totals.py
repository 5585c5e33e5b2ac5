"""Sums over the examples, computed in the loops of what is computed for each example.

The gradient of a bias is the sum, over the examples, of what another nest has computed for each of
them. That nest goes through all examples anyway: where it has the same lanes, and the examples are
its innermost loop, so that the sums stay in registers meanwhile, it can add up its own results, and
whatever else belongs to these lanes. Then they need not be read again, and several sums are under
way at once. Exact mode adds in the order in which the sum is defined, so where that is from the
last example to the first, so goes the nest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .fuse import Cluster, Region, same_lane
from .ir import PER_TILE
from .loops import IN_OUT, Apply, Contract, Group
from .nests import Spot, Tile
from .sums import Part, Source, Sums
from .tiles import Axis, Plan, Ref, ragged, tiles

WINDOW = 16  # how many clusters a sum may move up


@dataclass
class Total:
    """A sum over the examples while the code of a nest is written; a `Passenger` of its loops.

    result  where it goes, among the refs of the nest
    before  what it starts from, or None
    groups  what is added before the examples
    part    what each example adds
    """

    step: Contract
    result: int
    before: Source | None
    groups: list[tuple[Group, list[Part]]]
    part: Part
    place: int = PER_TILE
    kinds: list[str] = field(default_factory=list)
    state: list[str] = field(default_factory=list)

    def some(self, times: int) -> None:
        """Nothing yet: a tile adds what it computes."""

    def begin(self, sums: Sums, values: list[str]) -> None:
        """Write what comes before the examples."""
        for group, parts in self.groups:
            values = sums.group(group, parts, values)
        self.kinds, self.state = sums.kinds, values

    def add(self, sums: Sums, tile: Tile, seen: dict[tuple[int, Spot], str]) -> None:
        """Add the examples of a tile."""
        for k, (_, part) in enumerate(tile.spots):
            self.state[part] = sums.term(self.part, tile.cursors, k, self.state[part], seen)


def candidates(clusters: Sequence[Cluster]) -> dict[int, int]:
    """For sums, by the number of their cluster, the cluster in whose loops they could be computed.

    Nothing between the two is in the way.
    """
    found = {}
    for k, cluster in enumerate(clusters):
        if _is_total(cluster):
            hosts = (_host(clusters, k, way) for way in (-1, 1))
            host = next((j for j in hosts if j is not None), None)
            if host is not None:
                found[k] = host
    return found


def _host(clusters: Sequence[Cluster], k: int, way: int) -> int | None:
    """The nearest cluster that suits a sum, before it or behind it, if the sum can get there."""
    total = clusters[k]
    for j in range(k + way, k + way * (WINDOW + 1), way):
        if not 0 <= j < len(clusters):
            return None
        # What it reads must have been computed: in the same lane suffices.
        meets = Region.meets if way > 0 else _elsewhere
        if _suits(total, clusters[j]) and not any(
            meets(r, w) for r in total.reads for w in clusters[j].writes
        ):
            return j
        if _conflict(total, clusters[j]):
            return None
    return None


def _elsewhere(a: Region, b: Region) -> bool:
    return not same_lane(a, b)


def _conflict(total: Cluster, other: Cluster) -> bool:
    """Whether a sum must stay on its side of a cluster.

    Nests write the same element only if that is changed in place.
    """
    nests = all(isinstance(step, Contract | Apply) for step in other.steps)
    return depends(total, other) or any(
        w.meets(v) for w in total.writes for v in other.writes if not nests or w.space in IN_OUT
    )


def depends(one: Cluster, two: Cluster) -> bool:
    """Whether one reads what the other writes."""
    return any(r.meets(w) for r in one.reads for w in two.writes) or any(
        w.meets(r) for w in one.writes for r in two.reads
    )


def _is_total(cluster: Cluster) -> bool:
    """Whether a cluster is a sum with one term for each example, and no others in its loops."""
    step = cluster.steps[0]
    if len(cluster.steps) > 1 or not isinstance(step, Contract) or cluster.batched:
        return False
    if not step.groups or not step.lanes:
        return False
    *before, last = step.groups
    return (
        last.over != 0
        and len(last.segments) == 1
        and not last.segments[0].loops
        and not any(group.over for group in before)
    )


def _suits(total: Cluster, host: Cluster) -> bool:
    """Whether a sum over the examples adds what a cluster computes, or reads, in the same lanes."""
    return (
        host.batched
        and host.lanes() == total.lanes()
        and not any(w.meets(r) for w in total.writes for r in (*host.reads, *host.writes))
    )


def holds(axes: Sequence[Axis], refs: Sequence[Ref], plan: Plan, lanes: int) -> bool:
    """Whether sums over axis 0 stay in registers: whether no other loop is in the one along it."""
    if plan.vector in (None, 0) or any(map(ragged, axes)):
        return False
    if plan.rows == 0:
        return not plan.around
    others = range(1, len(axes))
    return plan.rows is None and all(tiles(k, axes, refs, plan, lanes) == 1 for k in others)


def backwards(ref: Ref, examples: int) -> Ref:
    """A number for each example, from the last of them to the first."""
    if ref.number is not None:
        return ref
    last = examples - 1

    def turned(strides: tuple[int, ...]) -> tuple[int, ...]:
        return (-strides[0], *strides[1:])

    moved = ref._replace(base=ref.base + last * ref.strides[0], strides=turned(ref.strides))
    if ref.beyond is None:
        return moved
    return moved._replace(shift=ref.shift + last * ref.beyond[0], beyond=turned(ref.beyond))
