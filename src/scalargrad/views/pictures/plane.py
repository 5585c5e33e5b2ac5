"""A classifier of points in the plane: its regions, its certainty and its mistakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scalargrad.errors import ShapeError

from .checks import LARGEST, Flags, Floats, all_drawable, drawable, floats, labels, same_length
from .style import COLOURS, blank, percent, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .page import Page

_LONGER_SIDE: Final = 5.2
# The determinant of a narrower frame's transform would overflow.
_NARROWEST: Final = 1e-100
_SHORTEST_SIDE: Final = 1.4
_LEGEND_WIDTH: Final = 4.6


@styled()
def decision_boundary(
    predict: Callable[[Floats], ArrayLike],
    x: ArrayLike,
    y: ArrayLike,
    *,
    resolution: int = 160,
    title: str | None = None,
) -> Figure:
    """Draw where a classifier says which class, how strongly, and which points it gets wrong.

    A score above zero means the second class (label 1), any other the first. The shade grows with
    the score's size up to its 90th percentile, the line is where the score is 0, and a ringed
    point is on the wrong side of it. A score of nan is never right and is shown in grey.

    Args:
        predict: an array of shape (m, 2) -> m scores; called once with the points and once with
            the grid.
        x: points, shape (n, 2).
        y: their classes, length n, in {-1, 1} or {0, 1}.
        resolution: grid points along the longer side, at least 2.
        title: one line above everything; without it the number of points that are right.

    Raises:
        ShapeError: shapes or lengths that do not fit, also of what `predict` returns.
        ValueError: other labels, points that cannot be drawn, a resolution below 2.
        MissingExtraError: matplotlib is not installed.
    """
    points, classes = _checked(x, y)
    if resolution < 2:
        raise ValueError(f"resolution must be at least 2, got {resolution}: 160 looks smooth")
    second = classes == 1
    scores = _scores(predict, points)
    right = ((scores > 0) == second) & ~np.isnan(scores)
    across, upward = _grid(points, resolution)
    mesh = np.stack(np.meshgrid(across, upward), axis=-1)
    surface = _scores(predict, mesh.reshape(-1, 2)).reshape(mesh.shape[:2])
    page, axes = _page(across, upward, title, right)
    _write_legend(page, axes, "−1" if -1 in classes else "0", right, surface)
    _draw_surface(axes, across, upward, surface)
    _draw_points(axes, points, second, right)
    return page


def _checked(x: ArrayLike, y: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    points, classes = floats("x", x), labels("y", y)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ShapeError(
            f"x must have shape (n, 2), got {points.shape}: "
            f"this picture is of the plane, so choose two columns"
        )
    same_length("x", points, y=classes)
    all_drawable("x", points, "leave that point out")
    found = set(classes.tolist())
    if not (found <= {-1, 1} or found <= {0, 1}):
        raise ValueError(
            f"y must be in {{-1, 1}} or {{0, 1}}, got {sorted(found)[:6]}: "
            f"turn one class into 1 and the others into 0"
        )
    return points, classes


def _scores(predict: Callable[[Floats], ArrayLike], points: Floats) -> Floats:
    scores = floats("predict's result", predict(points))
    if scores.shape != (len(points),):
        raise ShapeError(
            f"predict must return shape ({len(points)},) for points of shape {points.shape}, got "
            f"{scores.shape}: give one score for each point, whose sign is the class"
        )
    return scores


def _grid(points: Floats, resolution: int) -> tuple[Floats, Floats]:
    """Coordinates that surround the points, with one step for both axes."""
    low, high = points.min(axis=0), points.max(axis=0)
    longer = float((high - low).max())
    apart = longer > _NARROWEST
    longer = longer if apart else max(1.0, 0.1 * float(np.abs(high).max()))
    shortest = longer * _SHORTEST_SIDE / _LONGER_SIDE
    half = np.maximum(high - low, shortest) / 2 + 0.08 * longer
    if not apart:
        half = np.full(2, longer / 2)
    counts = np.maximum(2, np.round(resolution * half / half.max())).astype(int)
    middle = (low + high) / 2
    across, upward = (np.linspace(m - h, m + h, n) for m, h, n in zip(middle, half, counts))
    return across, upward


def _page(across: Floats, upward: Floats, title: str | None, right: Flags) -> tuple[Page, Axes]:
    """A page whose frame shows the region at equal scale on both axes, with its heading."""
    from .page import MARGIN, NOTE, TITLE, overhang, round_ticks, tick_room

    width, height = (float(side[-1] - side[0]) for side in (across, upward))
    scale = _LONGER_SIDE / max(width, height)
    along = round_ticks(float(across[0]), float(across[-1]), width * scale)
    beside = round_ticks(float(upward[0]), float(upward[-1]), 4 * height * scale)
    left, above = MARGIN + tick_room(beside), MARGIN + TITLE + NOTE * (2 if title else 1) + 0.15
    page = blank(
        max(left + width * scale + overhang(along), MARGIN + _LEGEND_WIDTH + MARGIN),
        above + height * scale + 0.2 + MARGIN,
    )
    headline = f"{right.sum():,} of {len(right):,} points right ({percent(float(right.mean()))})"
    page.heading(title or headline, [headline] if title else [])
    axes = page.panel(left, above, width * scale, height * scale)
    axes.set_xlim(across[0], across[-1])
    axes.set_ylim(upward[0], upward[-1])
    axes.set_aspect("equal")
    axes.set_xticks(*along)
    axes.set_yticks(*beside)
    return page, axes


def _write_legend(page: Page, axes: Axes, first: str, right: Flags, surface: Floats) -> None:
    """The key, in one line just above the frame."""
    from .page import MARGIN, NOTE

    parts = [("●", "negative", f"class {first}"), ("●", "positive", "class 1")]
    if not right.all():
        parts.append(("◯", "ink", f"wrong ({(~right).sum():,})"))
    if np.isnan(surface).any():
        parts.append(("■", "missing", "score is nan"))
    elif not _changes_sign(surface):
        parts.append(("", "ink", "no boundary in sight"))
    top = (1 - axes.get_position().y1) * page.get_size_inches()[1]
    page.write_key(MARGIN, top - 0.08 - NOTE, parts)


def _changes_sign(surface: Floats) -> bool:
    return bool((surface < 0).any() and (surface > 0).any())


def _draw_surface(axes: Axes, across: Floats, upward: Floats, surface: Floats) -> None:
    """Shade by the score's sign and size, and draw the line where it is 0."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    def tint(role: str) -> tuple[float, float, float]:
        red, green, blue = (1 - 0.5 * (1 - part) for part in to_rgb(COLOURS[role]))
        return red, green, blue

    sizes = np.abs(surface[drawable(surface)])
    limit = (float(np.quantile(sizes, 0.9)) if len(sizes) else 0.0) or 1.0
    bounded = np.clip(surface, -LARGEST, LARGEST)
    shades = LinearSegmentedColormap.from_list(
        "classes", [tint("negative"), to_rgb(COLOURS["paper"]), tint("positive")]
    )
    axes.imshow(
        np.ma.masked_invalid(bounded),
        extent=(across[0], across[-1], upward[0], upward[-1]),
        origin="lower",
        cmap=shades.with_extremes(bad=COLOURS["missing"]),
        vmin=-limit,
        vmax=limit,
        interpolation="bilinear",
    )
    if _changes_sign(surface):
        axes.contour(across, upward, bounded, levels=[0.0], colors=[COLOURS["ink"]], linewidths=1.5)


def _draw_points(axes: Axes, points: Floats, second: Flags, right: Flags) -> None:
    size = 34 if len(points) <= 300 else 18 if len(points) <= 1500 else 8
    for role, members in (("negative", ~second), ("positive", second)):
        axes.scatter(
            points[members, 0],
            points[members, 1],
            s=size,
            color=COLOURS[role],
            edgecolors=COLOURS["paper"],
            linewidths=0.8,
            zorder=3,
            label=role,
        )
    axes.scatter(
        points[~right, 0],
        points[~right, 1],
        s=3.5 * size,
        facecolors="none",
        edgecolors=COLOURS["ink"],
        linewidths=1.4 if len(points) <= 300 else 1.0,
        zorder=4,
        label="wrong",
    )
