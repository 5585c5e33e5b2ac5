"""`draw`: the graph of a Value as a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ... import watch
from ...coerce import shown
from ...engine import Value
from ...nn import Module
from ...nn.sizes import size
from .. import files
from ..arguments import one_of
from ..names import Names, names_in
from . import folding, svg
from .layout import Layout, laid_out
from .look import THEMES
from .parts import Group, Parts, groups_of, nearest, parts

WIDE = 1600.0  # a picture that would be wider is drawn downwards, if that makes it narrower
ARROWS = 4  # for each box of the limit
FOLDED = 50  # Values a box can stand for on the average, where folding is tried
DIRECTIONS = ("right", "down")


class Drawing:
    """The picture of a graph: shown by a notebook, saved as a file, or read as SVG text.

    `svg` is the text, `width` and `height` the size in pixels, `boxes` and `arrows` how many there
    are.
    """

    __slots__ = ("arrows", "boxes", "height", "svg", "width")

    def __init__(self, svg: str, parts: Parts, layout: Layout) -> None:
        self.svg = svg
        self.boxes, self.arrows = len(parts.boxes), len(parts.arrows)
        self.width, self.height = layout.width, layout.height

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to a file whose name ends in .svg, whole or not at all; return the path.

        The folder is made when missing. Raises `ValueError` for another suffix and `OSError`,
        naming the path, where it cannot be written.
        """
        target = Path(path)
        if target.suffix.lower() != ".svg":
            raise ValueError(
                f"path: expected a name that ends in .svg, got {str(target)!r}: a graph is drawn "
                "as SVG, which browsers and editors open and can convert"
            )
        return files.write(target, self.svg.encode())

    def _repr_svg_(self) -> str:
        return self.svg

    def __str__(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return (
            f"Drawing({self.boxes} boxes, {self.arrows} arrows: shown in a notebook, "
            "or save('graph.svg'))"
        )


def draw(
    value: Value,
    depth: int | None = None,
    *,
    names: Mapping[str, Any] | Module | None = None,
    direction: str | None = None,
    fold: bool | None = None,
    limit: int = 200,
    format: str = ".4g",
    theme: str = "light",
) -> Drawing:
    """The graph of a Value as a picture: a box for each number, an arrow to each result from its operands.

    A box shows the operation, the name, `data` and `grad`. Leaves are green, a network's
    parameters (see `names`) yellow, results grey, `value` itself blue. An arrow's colour is the
    sign of the gradient that flows back along it, blue for positive, orange for negative, grey
    for none, and its thickness the size. The first operand's arrow arrives on top (or left),
    except where the order makes no difference.

    Args:
        value: whose graph it is.
        depth: how many operations back from `value` to draw; dashes stand for the operands of
            what is drawn that are not. Everything, if `None`.
        names: a dictionary such as `locals()` or a network, whose variables and attributes name
            the Values that have no label.
        direction: "right" or "down"; chosen by the shape of the graph, if `None`.
        fold: whether a sum of products, with the weights that only it uses, is one box. If
            `None`, only where there are more boxes than `limit`.
        limit: the most boxes to draw, and a quarter of the most arrows.
        format: how numbers are written, as in `format(x, ".4g")`.
        theme: "light" or "dark".

    Raises `ValueError` for a graph too large to be read, and says which depth could be.
    The same program gives the same bytes.
    """
    if not isinstance(value, Value):
        raise TypeError(f"value: expected a Value, got {shown(value)}")
    watch.read(value, "draw()")
    depth = None if depth is None else size(depth, "depth", least=0)
    limit = size(limit, "limit")
    one_of(direction, "direction", (None, *DIRECTIONS))
    one_of(theme, "theme", tuple(THEMES))
    _check_format(format)
    found = names_in(names)
    groups = _readable(value, depth, found, fold, limit)
    drawn = parts(value, groups, found, lambda x: f"{x:{format}}".replace("-", "−"))
    shapes = [svg.shape(box) for box in drawn.boxes]
    arrows = [(arrow.source, arrow.target) for arrow in drawn.arrows]
    layout = laid_out(shapes, arrows, direction == "down")
    if direction is None and layout.width > WIDE:
        other = laid_out(shapes, arrows, True)
        layout = other if other.width <= WIDE else layout
    title = f"The graph of {drawn.boxes[-1].name or 'a Value'}: {len(drawn.boxes)} boxes"
    return Drawing(svg.text(drawn, layout, title, THEMES[theme]), drawn, layout)


def _readable(
    root: Value, depth: int | None, names: Names, fold: bool | None, limit: int
) -> list[Group]:
    """The groups to draw, folded if they should be; `ValueError` if they are too many."""
    most = limit if fold is False else FOLDED * limit
    values, counts = nearest(root, depth, most)
    if len(values) > most:
        raise _too_large(f"has more than {most:,} numbers", counts, limit)
    groups = groups_of(values)
    if fold or (fold is None and len(groups) > limit):
        groups = folding.sums(root, groups, names)
        if fold or len(groups) > limit:
            groups = folding.leaves(groups, names)
    arrows = sum(len(group.inputs) for group in groups)
    if len(groups) > limit or arrows > ARROWS * limit:
        raise _too_large(f"needs {len(groups):,} boxes and {arrows:,} arrows", counts, limit)
    return groups


def _too_large(what: str, counts: list[int], limit: int) -> ValueError:
    fitting, total = 0, 0
    for depth, count in enumerate(counts):
        total += count
        if total > limit:
            break
        fitting, boxes = depth, total
    return ValueError(
        f"value: its graph {what}, more than can be read (limit={limit}: that many boxes, and "
        f"{ARROWS} times as many arrows): depth={fitting} draws the {boxes} numbers nearest to it; "
        "or draw one of its operands, or pass a larger limit"
    )


def _check_format(spec: Any) -> None:
    if not isinstance(spec, str):
        raise TypeError(f"format: expected a str such as '.4g', got {shown(spec)}")
    try:
        f"{0.5:{spec}}"
    except ValueError as error:
        raise ValueError(
            f"format: expected a format of floats such as '.4g', got {spec!r}: {error}"
        ) from None
