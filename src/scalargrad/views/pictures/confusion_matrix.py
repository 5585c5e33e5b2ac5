"""Which class was taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import Floats, Labels, class_names, labels, same_length
from .style import COLOURS, SIZES, blank, percent, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Counts = NDArray[np.int64]

_BODY: Final = 5.2
_CELL: Final = (0.24, 0.52)
_LARGEST: Final = 14.0
_STRONG: Final = 5
_BAR: Final = 0.7
_LONGEST_NAME: Final = 1.4
_HEADLINE_WIDTH: Final = 4.2


@styled()
def confusion(
    true: ArrayLike, predicted: ArrayLike, *, classes: Sequence[str] | None = None
) -> Figure:
    """Draw the confusion matrix: a row for each true class, a column for each predicted one.

    Cells hold counts. The diagonal (right) is blue by its share of the row; the rest (mistakes)
    is red by its square root relative to the largest mistake (or to 5, when all are smaller), so a
    single mistake beside hundreds of right answers can be seen. A bar beside each row is the
    class's recall, the share of its examples that were found; a class without examples has none.

    Args:
        true: n labels, whole numbers.
        predicted: n labels, whole numbers.
        classes: names of the classes 0, 1, ...; without it the labels that occur are shown.

    Raises:
        ShapeError: lengths differ or are 0.
        ValueError: labels that are not whole, or not positions in `classes`.
        MissingExtraError: matplotlib is not installed.
    """
    truth, guess = labels("true", true), labels("predicted", predicted)
    same_length("true", truth, predicted=guess)
    counts, names = _count(truth, guess, classes)
    right, total = int(np.trace(counts)), int(counts.sum())
    from .page import MARGIN, NOTE, TITLE, text_width

    shown = _shown(names)
    cell = min(max(_BODY / len(names), _CELL[0]), _CELL[1], _LARGEST / len(names))
    size = min(SIZES["text"], 65 * cell)
    longest = max(text_width(name, SIZES["text"]) for name in shown)
    upright = longest > 0.9 * cell
    left, top = MARGIN + 0.28 + longest + 0.08, MARGIN + TITLE + NOTE + 0.4
    side = cell * len(names)
    bottom = (longest if upright else 0.16) + 0.36
    page = blank(
        max(left + side + 0.15 + _BAR + 0.6 + MARGIN, 2 * MARGIN + _HEADLINE_WIDTH),
        top + side + bottom + MARGIN,
    )
    page.heading(
        f"Accuracy {percent(right / total)}: {right:,} of {total:,} right",
        ["blue: right, red: taken for another class"],
    )
    axes = page.panel(left, top, side, side)
    _draw_cells(axes, counts, cell)
    _draw_names(axes, shown, size, upright)
    _draw_recall(page.panel(left + side + 0.15, top, _BAR, side), counts, size)
    return page


def _count(truth: Labels, guess: Labels, classes: Sequence[str] | None) -> tuple[Counts, list[str]]:
    """The matrix of counts, true by predicted, and a name for each row and column."""
    if classes is None:
        known, both = np.unique(np.concatenate([truth, guess]), return_inverse=True)
        names = [str(label).replace("-", "−") for label in known]
        truth, guess = both[: len(truth)], both[len(truth) :]
    else:
        names = class_names("classes", classes, true=truth, predicted=guess)
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (truth, guess), 1)
    return counts, names


def _shown(names: list[str]) -> list[str]:
    from .page import shortened

    return [shortened(name, SIZES["text"], _LONGEST_NAME) for name in names]


def recall(counts: Counts) -> Floats:
    """The share of each row's examples on the diagonal; nan for a row without examples."""
    totals = counts.sum(axis=1)
    shares: Floats = np.full(len(counts), np.nan)
    np.divide(np.diag(counts), totals, out=shares, where=totals > 0)
    return shares


def shades(counts: Counts) -> Floats:
    """The colour of each cell, shape (k, k, 3): a mix of white with blue or red."""
    from matplotlib.colors import to_rgb

    mistakes = counts * ~np.eye(len(counts), dtype=bool)
    strength = 0.12 * (mistakes > 0) + 0.73 * np.sqrt(mistakes / max(_STRONG, mistakes.max()))
    np.fill_diagonal(strength, 0.85 * np.nan_to_num(recall(counts)))
    colours: Floats = np.full((*counts.shape, 3), to_rgb(COLOURS["wrong"]))
    colours[np.diag_indices(len(counts))] = to_rgb(COLOURS["right"])
    return np.asarray(1 - strength[..., None] * (1 - colours), dtype=np.float64)


def _draw_cells(axes: Axes, counts: Counts, cell: float) -> None:
    from .page import fitting_size

    colours = shades(counts)
    axes.imshow(colours, interpolation="nearest")
    size = fitting_size([str(counts.max())], SIZES["text"], 0.8 * cell, 0.5)
    for row, column in np.argwhere(counts):
        luminance = colours[row, column] @ (0.299, 0.587, 0.114)
        axes.text(
            column,
            row,
            str(counts[row, column]),
            ha="center",
            va="center",
            fontsize=size,
            color=COLOURS["paper" if luminance < 0.6 else "ink"],
        )
    edges = np.arange(len(counts) + 1) - 0.5
    axes.hlines(edges, -0.5, len(counts) - 0.5, color=COLOURS["grid"], linewidth=0.8)
    axes.vlines(edges, -0.5, len(counts) - 0.5, color=COLOURS["grid"], linewidth=0.8)
    axes.set_xlim(-0.5, len(counts) - 0.5)
    axes.set_ylim(len(counts) - 0.5, -0.5)


def _draw_names(axes: Axes, names: list[str], size: float, upright: bool) -> None:
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90 if upright else 0)
    axes.set_yticks(places, names)
    axes.tick_params(length=0, labelcolor=COLOURS["ink"], labelsize=size)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted", loc="left")
    axes.set_ylabel("true", loc="top")


def _draw_recall(axes: Axes, counts: Counts, size: float) -> None:
    """A bar and a percentage beside each row."""
    shares = recall(counts)
    rows = np.arange(len(shares))
    axes.barh(rows, np.nan_to_num(shares), height=0.5, color=COLOURS["right"], zorder=2)
    axes.barh(rows, 1.0, height=0.5, color=COLOURS["grid"], zorder=1)
    for row, share in zip(rows, shares):
        axes.annotate(
            "–" if np.isnan(share) else percent(float(share)),
            (1, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=size,
            annotation_clip=False,
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_title("recall", loc="left", fontsize=SIZES["text"], color=COLOURS["muted"], pad=4)
    axes.set_axis_off()
