"""A picture as SVG text: the same bytes for the same picture, and no name that another could take.

Everything is written out at each element, without style sheets, ids or scripts, so that pictures
can stand side by side in one page.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from .layout import Layout, Point, Rectangle, Shape
from .look import FONT, LINE, MARGIN, PADDING, STUB, TEXT, TITLE, width
from .parts import Arrow, Box, Parts

EDGE = 6.0  # above the first and below the last line of a box
HEAD = 6.0  # length of an arrowhead
THINNEST, THICKEST = 1.2, 4.0  # arrows, by the gradient that flows back along them
ROUND = 6.0  # radius of corners
SIGNS = ("muted", "positive", "negative")  # of a gradient: 0, 1, -1

Colours = Mapping[str, str]


def shape(box: Box) -> Shape:
    """How large a box is, and how arrows arrive at it."""
    label = width("stale" if not box.current else "data") + TEXT
    wide = max(width(box.name, TITLE), label + max(width(box.data), width(box.grad)))
    lines = 3 if box.name else 2
    return Shape(
        _strip(box) + wide + 2 * PADDING, lines * LINE + 2 * EDGE, not box.unordered, box.hidden > 0
    )


def text(parts: Parts, layout: Layout, title: str, colours: Colours) -> str:
    """The whole file."""
    wide, high = layout.width + 2 * MARGIN, layout.height + 2 * MARGIN
    largest = max((abs(a.passed) for a in parts.arrows if math.isfinite(a.passed)), default=0.0)
    # The strongest last, so that they lie on top where arrows share their way.
    strength = [(_strength(arrow, largest), k) for k, arrow in enumerate(parts.arrows)]
    size = f'width="{_n(wide)}" height="{_n(high)}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_n(wide)} {_n(high)}"',
        f'role="img" aria-label="{html.escape(title)}"',
        f'font-family="{FONT}" font-size="{_n(TEXT)}">',
        f'<rect {size} rx="{_n(ROUND)}" fill="{colours["paper"]}"/>',
        f'<g transform="translate({_n(MARGIN)} {_n(MARGIN)})">',
        *(_stub(layout.stubs[k], layout.down, colours) for k in sorted(layout.stubs)),
        *(
            _arrow(parts.arrows[k], layout.ways[k], strong, layout.down, colours)
            for strong, k in sorted(strength)
        ),
        *(_box(box, place, colours) for box, place in zip(parts.boxes, layout.boxes)),
        "</g>",
        "</svg>",
        "",
    ]
    return "\n".join(lines)


# --- arrows ---------------------------------------------------------------------------------------


def _strength(arrow: Arrow, largest: float) -> float:
    """From 0, no gradient, to 1, the largest in the picture; 2 for what is not finite."""
    if not math.isfinite(arrow.passed):
        return 2.0
    return math.sqrt(abs(arrow.passed) / largest) if largest else 0.0


def _arrow(
    arrow: Arrow, way: Sequence[Point], strength: float, down: bool, colours: Colours
) -> str:
    role = "wrong" if strength > 1 else _signed(arrow.passed)
    thick = THINNEST + (THICKEST - THINNEST) * min(strength, 1.0)
    tip = way[-1]
    reach = HEAD + thick / 2
    base = _moved(tip, -reach, down)
    stops = [*way[:-1], base]
    path = [f"M{_p(stops[0])}"]
    for k, (a, b) in enumerate(pairwise(stops)):
        if k % 2 == 0:
            path.append(f"L{_p(b)}" if a != b else "")
        else:
            path.append(_bend(a, b, down))
    half = HEAD / 2 + thick / 2
    corners = [_aside(base, half, down), tip, _aside(base, -half, down)]
    head = " ".join(f"{'L' if k else 'M'}{_p(corner)}" for k, corner in enumerate(corners))
    return (
        f'<g class="arrow"><title>{_written(arrow.note)}</title>'
        f'<path d="{" ".join(filter(None, path))}" fill="none" stroke="{colours[role]}" '
        f'stroke-width="{_n(thick)}"/><path d="{head}Z" fill="{colours[role]}"/></g>'
    )


def _bend(a: Point, b: Point, down: bool) -> str:
    """A curve from a to b that leaves and arrives in the direction of the picture."""
    middle = (a[1] + b[1]) / 2 if down else (a[0] + b[0]) / 2
    first, second = ((a[0], middle), (b[0], middle)) if down else ((middle, a[1]), (middle, b[1]))
    return f"C{_p(first)} {_p(second)} {_p(b)}"


def _stub(tip: Point, down: bool, colours: Colours) -> str:
    start = _moved(tip, -STUB, down)
    return (
        f'<path class="stub" d="M{_p(start)} L{_p(tip)}" fill="none" stroke="{colours["muted"]}" '
        'stroke-width="2" stroke-dasharray="2 3"/>'
    )


def _moved(point: Point, by: float, down: bool) -> Point:
    """A point further on in the direction of the picture."""
    return (point[0], point[1] + by) if down else (point[0] + by, point[1])


def _aside(point: Point, by: float, down: bool) -> Point:
    return _moved(point, by, not down)


def _signed(x: float) -> str:
    return "positive" if x > 0 else "negative" if x < 0 else "none"


# --- boxes ----------------------------------------------------------------------------------------


def _strip(box: Box) -> float:
    """How wide the strip is in which the operation stands."""
    return max(24.0, width(box.symbol, TITLE) + 1.5 * PADDING) if box.symbol else 0.0


def _box(box: Box, place: Rectangle, colours: Colours) -> str:
    edge = colours[f"{box.kind} edge"]
    x, y, strip = place.x, place.y, _strip(box)
    frame = (
        f'x="{_n(x)}" y="{_n(y)}" width="{_n(place.width)}" height="{_n(place.height)}" '
        f'rx="{_n(ROUND)}"'
    )
    items = [f'<rect {frame} fill="{colours[box.kind]}"/>']
    if box.symbol:
        right, bottom = x + strip, y + place.height
        strip_path = (
            f"M{_p((right, y))} L{_p((right, bottom))} L{_p((x + ROUND, bottom))} "
            f"Q{_p((x, bottom))} {_p((x, bottom - ROUND))} L{_p((x, y + ROUND))} "
            f"Q{_p((x, y))} {_p((x + ROUND, y))}Z"
        )
        items.append(f'<path d="{strip_path}" fill="{edge}" fill-opacity="0.25"/>')
        items.append(
            f'<text x="{_n(x + strip / 2)}" y="{_n(y + place.height / 2 + 4.5)}" '
            f'text-anchor="middle" font-size="{_n(TITLE)}" font-weight="bold" '
            f'fill="{colours["ink"]}">{_written(box.symbol)}</text>'
        )
    thick = 2.0 if box.kind == "root" else 1.2
    items.append(f'<rect {frame} fill="none" stroke="{edge}" stroke-width="{_n(thick)}"/>')
    left, end = x + strip + PADDING, x + place.width - PADDING
    line = y + (place.height - (3 if box.name else 2) * LINE) / 2 - 4.5
    if box.name:
        line += LINE
        items.append(
            f'<text x="{_n(left)}" y="{_n(line)}" font-size="{_n(TITLE)}" font-weight="bold" '
            f'fill="{colours["ink"]}">{_written(box.name)}</text>'
        )
    rows = (
        ("data" if box.current else "stale", box.data, box.finite[0] and box.current, "ink"),
        ("grad", box.grad, box.finite[1], SIGNS[box.sign]),
    )
    for name, number, right, colour in rows:
        line += LINE
        role = colour if right else "wrong"
        items.append(
            f'<text x="{_n(left)}" y="{_n(line)}" fill="{colours["muted"]}">{name}</text>'
            f'<text x="{_n(end)}" y="{_n(line)}" text-anchor="end" fill="{colours[role]}">'
            f"{_written(number)}</text>"
        )
    return f'<g class="{box.kind}"><title>{_written(box.note)}</title>{"".join(items)}</g>'


# --- text and numbers in the file --------------------------------------------------------------------------


def _written(text: str) -> str:
    return html.escape(text, quote=False)


def _n(x: float) -> str:
    """A coordinate to a tenth, as short as it can be written.

    What lies halfway between two tenths, as many do, is rounded up whatever its last bit is.
    """
    return f"{round(x + 1e-6, 1) + 0.0:.1f}".removesuffix(".0")


def _p(point: Point) -> str:
    return f"{_n(point[0])} {_n(point[1])}"
