"""Places for boxes and ways for arrows, from sizes alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .layering import Layers, layered
from .ordering import ordered
from .placing import Link, placed

BETWEEN_BOXES = 16.0  # in a column
AROUND_POINTS = 11.0  # in a column, where one of the two is an arrow that passes
NARROWEST, WIDEST = 40.0, 130.0  # between columns
PORTS = 13.0  # from one arrowhead at a box to the next, where there is room
STRAIGHT = 6.0  # how much more a long arrow wants to be straight than a short one


@dataclass(frozen=True, slots=True)
class Shape:
    """A box before it has a place. `ordered` says whether its arrows must arrive in order."""

    width: float
    height: float
    ordered: bool = True
    stub: bool = False  # one more arrival, last, for operands that are not drawn


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A box in its place: the corner at the upper left, and the size."""

    x: float
    y: float
    width: float
    height: float


Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is.

    A way is a list of points: between the first and the second it is straight, between the second
    and the third it bends, and so on in turn, straight through columns and bending between them.
    `stubs` has the point at which the line of each box with a stub ends.
    """

    width: float
    height: float
    boxes: tuple[Rectangle, ...]
    ways: tuple[tuple[Point, ...], ...]
    stubs: dict[int, Point]
    down: bool


def laid_out(shapes: Sequence[Shape], arrows: Sequence[tuple[int, int]], down: bool) -> Layout:
    """A layout from left to right, or `down` from the top, of arrows (source, target).

    Sources come before their targets. Arrows to one box are given in the order of its operands.
    """
    sides = [(s.height, s.width) if down else (s.width, s.height) for s in shapes]
    layers = layered(len(shapes), arrows)
    arrivals = _arrivals(shapes, arrows)
    columns = ordered(layers, arrivals)
    ports = _ports(shapes, arrows, layers, columns, [side[1] for side in sides])
    across = [side[1] for side in sides] + [0.0] * (len(layers.column) - len(sides))
    is_point = [False] * len(sides) + [True] * (len(across) - len(sides))
    gaps = [_gaps(column, across, is_point) for column in columns]
    y = placed(columns, gaps, _links(layers, ports, is_point))
    top = min((middle - extent / 2 for middle, extent in zip(y, across)), default=0.0)
    y = [middle - top for middle in y]
    starts, ends = _columns(layers, columns, sides, y, ports, len(shapes))
    length = ends[-1] if ends else 0.0
    breadth = max((middle + extent / 2 for middle, extent in zip(y, across)), default=0.0)

    def turned(point: Point) -> Point:
        return (point[1], point[0]) if down else point

    boxes = []
    for k, (along, extent) in enumerate(sides):
        c = layers.column[k]
        x, upper = turned((starts[c], y[k] - extent / 2))
        # Boxes of one column are equally wide.
        width, height = (extent, along) if down else (ends[c] - starts[c], extent)
        boxes.append(Rectangle(x, upper, width, height))
    ways = [
        tuple(turned(point) for point in _way(way, port, layers, sides, y, starts, ends))
        for way, port in zip(layers.ways, ports.arriving)
    ]
    stubs = {
        k: turned((starts[layers.column[k]], y[k] + shift)) for k, shift in ports.stubs.items()
    }
    size = turned((length, breadth))
    return Layout(*size, tuple(boxes), tuple(ways), stubs, down)


@dataclass(frozen=True, slots=True)
class _Ports:
    """Where arrows arrive, from the middle of the box: for each arrow, and of the stubs."""

    arriving: list[float]
    stubs: dict[int, float]


def _arrivals(shapes: Sequence[Shape], arrows: Sequence[tuple[int, int]]) -> list[float]:
    """Where each arrow arrives at its target, from 0 to 1; in the middle where it may choose."""
    counts = Counter(target for _, target in arrows)
    seen: Counter[int] = Counter()
    places = []
    for _, target in arrows:
        seen[target] += 1
        share = seen[target] / (counts[target] + 1)
        places.append(share if shapes[target].ordered else 0.5)
    return places


def _ports(
    shapes: Sequence[Shape],
    arrows: Sequence[tuple[int, int]],
    layers: Layers,
    columns: Sequence[Sequence[int]],
    extents: Sequence[float],
) -> _Ports:
    position = {item: k for column in columns for k, item in enumerate(column)}
    arriving: dict[int, list[int]] = {}
    for k, (_, target) in enumerate(arrows):
        arriving.setdefault(target, []).append(k)
    shifts, stubs = [0.0] * len(arrows), {}
    for box, shape in enumerate(shapes):
        own = arriving.get(box, [])
        if not shape.ordered:
            own.sort(key=lambda k: position[layers.ways[k][-2]])
        count = len(own) + shape.stub
        step = min(PORTS, (extents[box] - PORTS) / max(count - 1, 1))
        places = [(k - (count - 1) / 2) * step for k in range(count)]
        for k, place in zip(own, places):
            shifts[k] = place
        if shape.stub:
            stubs[box] = places[-1]
    return _Ports(shifts, stubs)


def _gaps(column: Sequence[int], across: Sequence[float], is_point: Sequence[bool]) -> list[float]:
    """The least distance of each item's middle from that of the one before it."""
    gaps = [0.0]
    for a, b in pairwise(column):
        free = AROUND_POINTS if is_point[a] or is_point[b] else BETWEEN_BOXES
        gaps.append((across[a] + across[b]) / 2 + free)
    return gaps


def _links(layers: Layers, ports: _Ports, is_point: Sequence[bool]) -> list[Link]:
    found: dict[tuple[int, int, float], Link] = {}
    for way, port in zip(layers.ways, ports.arriving):
        for a, b in pairwise(way):
            shift = -port if b == way[-1] else 0.0
            weight = STRAIGHT ** (is_point[a] + is_point[b])
            found[a, b, shift] = Link(a, b, shift, weight)
    return list(found.values())


def _columns(
    layers: Layers,
    columns: Sequence[Sequence[int]],
    sides: Sequence[tuple[float, float]],
    y: Sequence[float],
    ports: _Ports,
    count: int,
) -> tuple[list[float], list[float]]:
    """Where each column starts and ends: further from the one before where arrows are steep."""
    steepest = [0.0] * len(columns)
    for way, port in zip(layers.ways, ports.arriving):
        for a, b in pairwise(way):
            climb = abs(y[b] + (port if b == way[-1] else 0.0) - y[a])
            steepest[layers.column[b]] = max(steepest[layers.column[b]], climb)
    starts, ends, place = [], [], 0.0
    for c, column in enumerate(columns):
        if c:
            place += min(WIDEST, max(NARROWEST, 0.25 * steepest[c]))
        starts.append(place)
        place += max((sides[item][0] for item in column if item < count), default=0.0)
        ends.append(place)
    return starts, ends


def _way(
    way: Sequence[int],
    port: float,
    layers: Layers,
    sides: Sequence[tuple[float, float]],
    y: Sequence[float],
    starts: Sequence[float],
    ends: Sequence[float],
) -> list[Point]:
    source, target = way[0], way[-1]
    c = layers.column[source]
    points = [(starts[c] + sides[source][0], y[source]), (ends[c], y[source])]
    for item in way[1:-1]:
        c = layers.column[item]
        points += [(starts[c], y[item]), (ends[c], y[item])]
    points.append((starts[layers.column[target]], y[target] + port))
    return points
