"""Small images with what a classifier took them for, the mistakes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scalargrad.errors import ShapeError

from .checks import (
    Flags,
    Floats,
    Labels,
    all_drawable,
    class_names,
    floats,
    labels,
    same_length,
    vector,
)
from .style import COLOURS, SIZES, blank, percent, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .page import Page

_IMAGE: Final = 0.62
_WIDEST: Final = 1.15
_GAP: Final = 0.16
_LINE: Final = 0.165
_HEADLINE_WIDTH: Final = 4.2


@dataclass(frozen=True)
class _Section:
    """Images under one heading, and the colour of their frames."""

    heading: str
    role: str
    members: NDArray[np.intp]


@dataclass(frozen=True)
class _Layout:
    """Where things go, in inches: cells of equal size, `columns` in a row."""

    columns: int
    cell: float
    image: tuple[float, float]
    lines: int

    @property
    def pitch(self) -> float:
        """From one image's top to that of the image below it."""
        return self.image[0] + 0.06 + self.lines * _LINE + _GAP

    def rows(self, section: _Section) -> int:
        """How many rows a section takes."""
        return -(-len(section.members) // self.columns)


@styled()
def predictions(
    images: ArrayLike,
    true: ArrayLike,
    predicted: ArrayLike,
    *,
    shape: tuple[int, int] | None = None,
    names: Sequence[str] | None = None,
    columns: int = 10,
    limit: int = 40,
    confidence: ArrayLike | None = None,
) -> Figure:
    """Draw images with their predicted label and, in brackets, their true one.

    The mistakes come first, in a red frame. When there are more than fit, they get half of the
    places, or all that right ones do not fill; the headline counts every example, drawn or not.
    With `confidence` the mistakes made with most confidence come first. A larger number is drawn
    darker, as ink is, on one scale for all images.

    Args:
        images: shape (n, height, width), or (n, height * width) with rows one after another.
        true: n labels, whole numbers.
        predicted: n labels, whole numbers.
        shape: (height, width) of flat images; without it they are taken to be square.
        names: names of the classes 0, 1, ...; without it the numbers are shown.
        columns: images in a row, at least 1.
        limit: most images drawn, at least 1.
        confidence: n probabilities from 0 to 1 of the predicted labels, written below them.

    Raises:
        ShapeError: lengths or shapes that do not fit.
        ValueError: labels that are not whole or not named, confidences outside 0 to 1, pixels
            that cannot be drawn, `columns` or `limit` below 1.
        MissingExtraError: matplotlib is not installed.
    """
    for argument, count in (("columns", columns), ("limit", limit)):
        if count < 1:
            raise ValueError(f"{argument} must be at least 1, got {count}")
    truth, guess = labels("true", true), labels("predicted", predicted)
    pictures = _images(images, shape)
    same_length("true", truth, predicted=guess, images=pictures)
    certainty = _confidence(confidence, truth)
    captions = _captions(truth, guess, names)
    right = truth == guess
    sections = _sections(right, certainty, limit, columns)
    drawn = [int(i) for section in sections for i in section.members]
    below = dict(zip(drawn, _lines(drawn, captions, certainty)))
    page, layout = _page(sections, below, pictures, columns)
    order = "predicted (true)" if certainty is None else "predicted (true), confidence"
    page.heading(
        f"{right.sum():,} of {len(right):,} right ({percent(float(right.mean()))})",
        [f"below each image: {order}"],
    )
    _draw(page, layout, sections, below, pictures)
    return page


def _images(images: ArrayLike, shape: tuple[int, int] | None) -> Floats:
    """The images as an array of shape (n, height, width)."""
    array = floats("images", images)
    if not array.size:
        raise ShapeError(f"images has shape {array.shape}: pass at least one image with pixels")
    if array.ndim == 2:
        height, width = shape or (round(array.shape[1] ** 0.5),) * 2
        if height * width != array.shape[1]:
            raise ShapeError(
                f"images has {array.shape[1]} numbers in a row, which do not fill "
                + (f"shape {tuple(shape)}" if shape else "a square")
                + ": pass shape=(height, width) of one image"
            )
        array = array.reshape(-1, height, width)
    if array.ndim != 3 or (shape is not None and array.shape[1:] != tuple(shape)):
        wanted = f"(n, {shape[0]}, {shape[1]})" if shape else "(n, height, width)"
        raise ShapeError(
            f"images must have shape {wanted} or (n, height * width), got {array.shape}: "
            f"give one grey number for each pixel"
        )
    all_drawable("images", array, "replace such pixels first")
    return array


def _confidence(confidence: ArrayLike | None, truth: Labels) -> Floats | None:
    if confidence is None:
        return None
    certainty = vector("confidence", confidence)
    same_length("true", truth, confidence=certainty)
    outside = certainty[~((certainty >= 0) & (certainty <= 1))]
    if len(outside):
        raise ValueError(
            f"confidence must be probabilities from 0 to 1, got {outside[0]:g}: "
            f"take the softmax of scores, at the predicted class"
        )
    return certainty


def _captions(truth: Labels, guess: Labels, names: Sequence[str] | None) -> list[tuple[str, str]]:
    """Predicted and true label of each image, as text."""
    if names is None:
        return [(str(p), f"({t})") for p, t in zip(guess, truth)]
    known = class_names("names", names, true=truth, predicted=guess)
    return [(known[p], f"({known[t]})") for p, t in zip(guess, truth)]


def _sections(right: Flags, certainty: Floats | None, limit: int, columns: int) -> list[_Section]:
    """Choose what is drawn: mistakes first, but not so many that nothing right is left."""
    wrong, good = np.flatnonzero(~right), np.flatnonzero(right)
    if certainty is not None:
        wrong = wrong[np.argsort(-certainty[wrong], kind="stable")]
    shown_wrong = wrong[: max(limit - limit // 2, limit - len(good))]
    shown_good = good[: limit - len(shown_wrong)]
    if columns < len(shown_good) < len(good):
        shown_good = shown_good[: len(shown_good) // columns * columns]
    sections = [
        _Section(_count("Wrong", shown_wrong, wrong), "wrong", shown_wrong),
        _Section(_count("Right", shown_good, good), "right", shown_good),
    ]
    return [section for section in sections if len(section.members)]


def _count(word: str, shown: NDArray[np.intp], every: NDArray[np.intp]) -> str:
    if len(shown) == len(every):
        return f"{word}: {len(every):,}"
    return f"{word}: {len(shown):,} of {len(every):,}"


def _lines(
    drawn: list[int], captions: list[tuple[str, str]], certainty: Floats | None
) -> list[list[str]]:
    """The lines below each drawn image: both labels in one line where that fits for all."""
    from .page import shortened, text_width

    joined = {i: " ".join(captions[i]) for i in drawn}
    if all(text_width(text, SIZES["text"], "bold") <= _IMAGE for text in joined.values()):
        lines = [[joined[i]] for i in drawn]
    else:
        lines = [
            [shortened(text, SIZES["text"], _WIDEST, "bold") for text in captions[i]] for i in drawn
        ]
    if certainty is not None:
        for i, text in zip(drawn, lines):
            text.append(percent(float(certainty[i])))
    return lines


def _page(
    sections: list[_Section], below: dict[int, list[str]], pictures: Floats, columns: int
) -> tuple[Page, _Layout]:
    """A page of the size the sections need."""
    from .page import MARGIN, NOTE, TITLE, text_width

    height, width = (_IMAGE * side / max(pictures.shape[1:]) for side in pictures.shape[1:])
    texts = [text for lines in below.values() for text in lines]
    widest = max(text_width(text, SIZES["text"], "bold") for text in texts)
    layout = _Layout(columns, max(_IMAGE, widest), (height, width), len(next(iter(below.values()))))
    across = max(min(columns, len(section.members)) for section in sections)
    body = sum(layout.rows(section) * layout.pitch + TITLE + 0.15 for section in sections)
    page = blank(
        max(across * (layout.cell + _GAP) - _GAP, _HEADLINE_WIDTH) + 2 * MARGIN,
        MARGIN + TITLE + NOTE + 0.15 + body - _GAP + 0.1,
    )
    return page, layout


def _draw(
    page: Page,
    layout: _Layout,
    sections: list[_Section],
    below: dict[int, list[str]],
    pictures: Floats,
) -> None:
    """Put everything on one set of axes whose unit is the inch."""
    from .page import MARGIN, NOTE, TITLE

    across, down = (float(side) for side in page.get_size_inches())
    axes = page.panel(0, 0, across, down)
    axes.set_axis_off()
    lightest = float(pictures.min())
    scale = (lightest, max(float(pictures.max()), lightest + 1e-12))
    top = MARGIN + TITLE + NOTE + 0.15
    for section in sections:
        page.write(MARGIN, top, section.heading, size="heading", weight="bold", colour=section.role)
        top += TITLE + 0.03
        for place, i in enumerate(section.members):
            row, column = divmod(place, layout.columns)
            middle = MARGIN + column * (layout.cell + _GAP) + layout.cell / 2
            upper = top + row * layout.pitch
            _draw_image(axes, pictures[i], scale, layout, middle, upper, section.role)
            _draw_lines(axes, below[int(i)], middle, upper + layout.image[0] + 0.06, section.role)
        top += layout.rows(section) * layout.pitch + 0.12
    axes.set_xlim(0, across)
    axes.set_ylim(down, 0)


def _draw_image(
    axes: Axes,
    image: Floats,
    scale: tuple[float, float],
    layout: _Layout,
    middle: float,
    upper: float,
    role: str,
) -> None:
    from matplotlib.patches import Rectangle

    height, width = layout.image
    left = middle - width / 2
    axes.imshow(
        image,
        cmap="gray_r",
        vmin=scale[0],
        vmax=scale[1],
        extent=(left, left + width, upper + height, upper),
        aspect="auto",
        interpolation="nearest",
    )
    axes.add_patch(
        Rectangle(
            (left, upper),
            width,
            height,
            fill=False,
            edgecolor=COLOURS["wrong" if role == "wrong" else "missing"],
            linewidth=2.2 if role == "wrong" else 0.8,
            label=role,
        )
    )


def _draw_lines(axes: Axes, lines: list[str], middle: float, upper: float, role: str) -> None:
    for line, text in enumerate(lines):
        axes.text(
            middle,
            upper + line * _LINE,
            text,
            ha="center",
            va="top",
            color=COLOURS["wrong" if role == "wrong" else "ink"],
            fontweight="bold" if role == "wrong" else "normal",
        )
