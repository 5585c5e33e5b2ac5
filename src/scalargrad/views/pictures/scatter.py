"""Predicted numbers against true ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike

from .checks import Floats, all_drawable, drawable, same_length, vector
from .style import COLOURS, blank, number, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE: Final = 4.2
_MOST_STROKES: Final = 300


@styled()
def regression(true: ArrayLike, predicted: ArrayLike, *, title: str | None = None) -> Figure:
    r"""Draw predicted against true numbers, with the line on which a perfect fit would lie.

    A stroke from each of up to 300 points to the line is its error. Below the title stand the root
    mean square error $\sqrt{\frac1n\sum_i(p_i-t_i)^2}$ and, unless all true numbers are equal, the
    coefficient of determination $R^2 = 1-\sum_i(p_i-t_i)^2/\sum_i(t_i-\bar t)^2$, both over the
    predictions that can be drawn; how many are nan, infinite or beyond 1e150 is said there too.

    Args:
        true: n numbers, none of them nan, infinite or beyond 1e150.
        predicted: n numbers.
        title: one line above everything.

    Raises:
        ShapeError: lengths differ or are 0.
        ValueError: a true number that cannot be drawn.
        MissingExtraError: matplotlib is not installed.
    """
    truth, guess = vector("true", true), vector("predicted", predicted)
    same_length("true", truth, predicted=guess)
    all_drawable("true", truth, "leave that example out")
    good = drawable(guess)
    from .page import MARGIN, NOTE, TITLE, overhang, round_ticks, tick_room

    limits = _limits(truth[good], guess[good])
    ticks = round_ticks(*limits, _SIDE)
    notes = [_fit(truth[good], guess[good])]
    if not good.all():
        notes.append(f"{(~good).sum():,} of {len(guess):,} predictions are nan or too large")
    key = MARGIN + TITLE + NOTE * len(notes)
    left, top = MARGIN + 0.3 + tick_room(ticks), key + NOTE + 0.15
    page = blank(left + _SIDE + overhang(ticks), top + _SIDE + 0.5 + MARGIN)
    page.heading(title or "Predicted against true", notes)
    strokes = len(truth) <= _MOST_STROKES
    page.write_key(
        MARGIN,
        key,
        [("●", "training", "example"), ("━", "missing", "exact")]
        + [("┃", "wrong", "error")] * strokes,
    )
    axes = page.panel(left, top, _SIDE, _SIDE)
    _draw_frame(axes, limits, ticks)
    _draw_examples(axes, truth[good], guess[good], strokes)
    return page


def _fit(truth: Floats, guess: Floats) -> str:
    if not len(truth):
        return "no prediction to draw"
    squares = float(np.sum((guess - truth) ** 2))
    error = f"root mean square error {number((squares / len(truth)) ** 0.5)}"
    # The mean of equal numbers is not always that number, so their spread need not be exactly 0.
    spread = float(np.sum((truth - truth.mean()) ** 2)) if np.ptp(truth) else 0.0
    return f"{error}, R² {_share(1 - squares / spread)}" if spread else error


def _limits(truth: Floats, guess: Floats) -> tuple[float, float]:
    """One range for both axes, a little wider than the numbers."""
    both = np.concatenate([truth, guess]) if len(truth) else np.array([0.0, 1.0])
    low, high = float(both.min()), float(both.max())
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return low - pad, high + pad


def _draw_frame(
    axes: Axes, limits: tuple[float, float], ticks: tuple[list[float], list[str]]
) -> None:
    axes.plot(limits, limits, color=COLOURS["missing"], linewidth=1.4, zorder=1, label="identity")
    axes.set_xlim(limits)
    axes.set_ylim(limits)
    axes.set_aspect("equal")
    axes.set_xticks(*ticks)
    axes.set_yticks(*ticks)
    axes.grid()
    axes.set_xlabel("true", loc="left")
    axes.set_ylabel("predicted", loc="top")


def _draw_examples(axes: Axes, truth: Floats, guess: Floats, strokes: bool) -> None:
    if strokes:
        axes.vlines(truth, truth, guess, color=COLOURS["wrong"], linewidth=1.2, zorder=2)
    axes.scatter(
        truth,
        guess,
        s=38 if strokes else 14,
        color=COLOURS["training"],
        alpha=1.0 if strokes else 0.45,
        edgecolors=COLOURS["paper"] if strokes else "none",
        linewidths=0.8,
        zorder=3,
    )


def _share(x: float) -> str:
    """A share with three digits of what is missing to 1, so that only 1 is written as 1."""
    if not 0.9 < x < 1.0:
        return number(x)
    return f"{x:.{min(2 - math.floor(math.log10(1.0 - x)), 15)}f}"
