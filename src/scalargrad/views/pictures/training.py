"""Loss and metrics over the epochs of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from .series import Panel, Series, panels
from .style import COLOURS, SIZES, blank, numbers, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH: Final = 3.55
_HEIGHT: Final = 2.5
_BELOW: Final = 0.7
_BETWEEN: Final = 0.45
_STEPS: Final = (1, 5, 10, 20)


@styled()
def curves(
    loss: Sequence[float | None],
    *,
    validation_loss: Sequence[float | None] | None = None,
    metrics: Mapping[str, Sequence[float | None]] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw loss, and a panel for each metric, against the epoch (counted from 1).

    Training is a solid line and validation a dashed one, each labelled at its end with its last
    value. The axis is logarithmic when all numbers are positive and span more than 1.5 powers of
    ten. An entry that is nan, infinite or beyond 1e150 breaks the line and is marked by a × and a
    shaded span; an entry that is None was not measured, and the line passes over it.

    Args:
        loss: the training loss of each epoch, length n >= 1.
        validation_loss: the same for held-out data, length n.
        metrics: name -> length n. "accuracy" and "validation accuracy" (or `val_accuracy`) share
            a panel, and so do any other two names that differ by such a prefix. A quantity whose
            name contains "accuracy" is a fraction from 0 to 1 and is shown in percent.
        title: one line above everything.

    Raises:
        ShapeError: lengths differ, or there is no epoch.
        ValueError: an accuracy outside 0 to 1.
        MissingExtraError: matplotlib is not installed.
    """
    from .page import MARGIN, NOTE, TITLE

    shown = panels(loss, validation_loss, metrics or {})
    columns = min(len(shown), 2)
    rows = [shown[i : i + columns] for i in range(0, len(shown), columns)]
    sides = [_sides(panel) for panel in shown]
    before = [max(side[0] for side in sides[c::columns]) for c in range(columns)]
    after = [max(side[1] for side in sides[c::columns]) for c in range(columns)]
    heads = [TITLE + NOTE * max(len(panel.notes()) for panel in row) + 0.1 for row in rows]
    width = sum(before) + sum(after) + columns * _WIDTH + (columns - 1) * _BETWEEN
    top = MARGIN + (TITLE + 0.15 if title else 0)
    page = blank(width + 2 * MARGIN, top + sum(heads) + len(rows) * (_HEIGHT + _BELOW) + 0.05)
    if title:
        page.heading(title)
    for row, head in zip(rows, heads):
        left = MARGIN
        for panel, room, ends in zip(row, before, after):
            page.write(left, top, panel.title, size="heading", weight="bold")
            for line, note in enumerate(panel.notes()):
                page.write(left, top + TITLE + line * NOTE, note, colour="muted")
            _draw(page.panel(left + room, top + head, _WIDTH, _HEIGHT), panel, len(loss))
            left += room + _WIDTH + ends + _BETWEEN
        top += head + _HEIGHT + _BELOW
    return page


def _sides(panel: Panel) -> tuple[float, float]:
    """Inches needed left of the frame for tick labels, and right of it for the end labels."""
    from .page import text_width, tick_room

    low, high = _limits(panel)
    ticks = _ticks(panel, low, high)
    left = tick_room((ticks, _tick_texts(panel, ticks)))
    ends = [text_width(text, SIZES["text"], "bold") for text in _end_labels(panel)]
    return left, max(ends) + 0.12


def _end_labels(panel: Panel) -> list[str]:
    """Role and last value of each line; a schedule such as a learning rate has no role."""
    named = panel.is_scored or any(line.role == "validation" for line in panel.series)
    values = [panel.text(float(line.values[-1])) for line in panel.series]
    return [f"{line.role} {v}" if named else v for line, v in zip(panel.series, values)]


def _limits(panel: Panel) -> tuple[float, float]:
    """The range of the vertical axis."""
    values = panel.drawn()
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if panel.is_logarithmic():
        exponents = np.log10([low, high])
        pad = 0.06 * float(exponents[1] - exponents[0])
        return 10 ** max(exponents[0] - pad, -307.0), 10 ** min(exponents[1] + pad, 308.0)
    pad = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
    if panel.is_fraction:
        return max(0.0, low - pad), min(1.0, high + pad)
    return (0.0 if 0 <= low < 0.5 * high else low - pad), high + pad


def _ticks(panel: Panel, low: float, high: float) -> list[float]:
    """Where the horizontal grid lines are."""
    from matplotlib.ticker import Locator, LogLocator, MaxNLocator

    locator: Locator = MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10])
    if panel.is_logarithmic():
        decades = np.log10(high) - np.log10(low)
        subs = (1.0, 2.0, 5.0) if decades < 2.2 else (1.0, 3.0) if decades < 3.5 else (1.0,)
        locator = LogLocator(subs=subs, numticks=8)
    return [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]


def _tick_texts(panel: Panel, ticks: list[float]) -> list[str]:
    if panel.is_fraction:
        return [f"{text}%" for text in numbers([100 * tick for tick in ticks])]
    return numbers(ticks)


def epoch_ticks(epochs: int) -> list[int]:
    """Round epoch numbers to label, at most eleven: 1, and multiples of a round step."""
    scale = 1
    while True:
        for step in _STEPS[1:] if scale > 1 else _STEPS:
            if epochs / (step * scale) <= (10 if step * scale == 1 else 6):
                return [1, *range(max(2, step * scale), epochs + 1, step * scale)]
        scale *= 10


def _draw(axes: Axes, panel: Panel, epochs: int) -> None:
    low, high = _limits(panel)
    if panel.is_logarithmic():
        axes.set_yscale("log")
    axes.set_ylim(low, high)
    ticks = _ticks(panel, low, high)
    axes.set_yticks(ticks, _tick_texts(panel, ticks))
    axes.set_yticks([], minor=True)
    axes.set_xlim((0.5, 1.5) if epochs == 1 else (1, epochs))
    axes.set_xticks(epoch_ticks(epochs))
    axes.set_xlabel("epoch", loc="left")
    axes.grid(axis="y")
    for line in panel.series:
        _draw_line(axes, line, epochs)
    _mark_gaps(axes, panel)
    _label_ends(axes, panel, epochs)
    if not len(panel.drawn()):
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no number to draw", transform=axes.transAxes, ha="center", va="center")


def _draw_line(axes: Axes, line: Series, epochs: int) -> None:
    """The line, with a dot at its last value and wherever a lone value would have no line."""
    good = line.good
    joined = np.zeros(len(good), dtype=bool)
    joined[1:] |= good[:-1]
    joined[:-1] |= good[1:]
    dots = set(np.flatnonzero(good & (~joined | (epochs <= 12))))
    dots |= set(np.flatnonzero(good)[-1:])
    axes.plot(
        line.epochs,
        line.drawn,
        color=COLOURS[line.role],
        linestyle=(0, (4, 1.5)) if line.role == "validation" else "-",
        linewidth=1.8 if epochs <= 100 else 1.4 if epochs <= 400 else 1.0,
        marker="o",
        markersize=4.5,
        markevery=sorted(int(i) for i in dots),
        clip_on=False,
        zorder=3,
        label=line.role,
    )


def _mark_gaps(axes: Axes, panel: Panel) -> None:
    """Shade epochs without a number, with a × in each such line's colour at the top."""
    left, right = axes.get_xlim()
    for first, last in sorted({run for line in panel.series for run in line.gaps()}):
        axes.axvspan(
            max(first - 0.5, left),
            min(last + 0.5, right),
            color=COLOURS["grid"],
            linewidth=0,
            zorder=0.5,
            label="gap",
        )
    for level, line in enumerate(panel.series):
        runs = line.gaps()
        axes.plot(
            [(max(first - 0.5, left) + min(last + 0.5, right)) / 2 for first, last in runs],
            [0.95 - 0.075 * level] * len(runs),
            transform=axes.get_xaxis_transform(),
            linestyle="none",
            marker="x",
            color=COLOURS[line.role],
            markersize=6,
            markeredgewidth=1.8,
            zorder=4,
            label=f"{line.role} gaps",
        )


def _label_ends(axes: Axes, panel: Panel, epochs: int) -> None:
    """Write each line's name and last value beside its end, moved apart where lines meet."""
    from .page import spread

    scale = np.log10 if panel.is_logarithmic() else np.asarray
    low, high = (float(scale(limit)) for limit in _limits(panel))
    ends = [line.values[line.good][-1:] for line in panel.series]
    places = [float((scale(end[0]) - low) / (high - low)) if len(end) else 1.0 for end in ends]
    side = 0.5 if epochs == 1 and all(len(end) for end in ends) else 1.0
    gap = 1.45 * SIZES["text"] / 72 / _HEIGHT
    for line, text, place in zip(panel.series, _end_labels(panel), spread(places, gap, 0.0, 1.0)):
        axes.annotate(
            text,
            (side, place),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            color=COLOURS[line.role],
            fontweight="bold",
            va="center",
            bbox={"facecolor": COLOURS["paper"], "edgecolor": "none", "pad": 1.0},
            annotation_clip=False,
        )
