"""A matplotlib figure laid out in inches, that draws itself in our style and shows in notebooks.

This module imports matplotlib, so it is imported only inside functions.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from .style import COLOURS, SIZES, numbers, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase

MARGIN = 0.25
"""Inches of white around everything."""

TITLE, NOTE = 0.27, 0.21
"""Inches a title line and a note line take."""


class Page(Figure):
    """A `Figure` of a fixed size in inches; positions count from the top left corner."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height))
        # Attached for measuring and for `_repr_png_`: it draws in memory, with no display.
        FigureCanvasAgg(self)

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes whose frame lies at this place, in inches from the page's top left corner."""
        across, down = self.get_size_inches()
        bounds = (left / across, 1 - (top + height) / down, width / across, height / down)
        return self.add_axes(bounds)

    def write(
        self,
        left: float,
        top: float,
        text: str,
        *,
        size: str = "text",
        colour: str = "ink",
        weight: str = "normal",
        align: str = "left",
    ) -> Text:
        """Put one line of text with its top at `top` inches; `align` says which end is `left`."""
        across, down = self.get_size_inches()
        return self.text(
            left / across,
            1 - top / down,
            text,
            fontsize=SIZES[size],
            color=COLOURS[colour],
            fontweight=weight,
            ha=align,
            va="top",
        )

    def heading(self, title: str, notes: Sequence[str] = ()) -> None:
        """Write the title at the top left and one quieter line below it for each note.

        A title wider than the page is set smaller, then shortened.
        """
        room = float(self.get_size_inches()[0]) - 2 * MARGIN
        size = fitting_size([title], SIZES["title"], room, SIZES["text"], "bold")
        written = self.write(
            MARGIN, MARGIN, shortened(title, size, room, "bold"), size="title", weight="bold"
        )
        written.set_fontsize(size)
        for line, note in enumerate(notes):
            self.write(MARGIN, MARGIN + TITLE + line * NOTE, note, colour="muted")

    def write_key(self, left: float, top: float, parts: Sequence[tuple[str, str, str]]) -> None:
        """Write `(mark, its colour, meaning)` parts side by side: a key that needs no box."""
        for mark, colour, meaning in parts:
            if mark:
                self.write(left + 0.07, top, mark, colour=colour, align="center")
                left += 0.2
            self.write(left, top, meaning)
            left += text_width(meaning, SIZES["text"]) + 0.22

    def draw(self, renderer: RendererBase) -> None:
        """Draw in our style, whatever the caller's settings are at that moment."""
        with styled():
            super().draw(renderer)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """What a notebook shows: twice the screen's density, at the page's natural size."""
        buffer = io.BytesIO()
        with styled():
            self.savefig(buffer, format="png", dpi=2 * 96)
        width, height = self.get_size_inches()
        return buffer.getvalue(), {"width": round(96 * width), "height": round(96 * height)}


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """How many inches wide `text` is when set at `size` points; call inside `styled()`."""
    if not text.strip():
        return 0.0
    font = FontProperties(family=["DejaVu Sans"], weight=weight)
    return float(TextPath((0, 0), text, size=size, prop=font).get_extents().width) / 72


def fitting_size(
    texts: Sequence[str], size: float, width: float, smallest: float, weight: str = "normal"
) -> float:
    """The largest font size from `smallest` to `size` at which every text fits `width` inches."""
    widest = max((text_width(text, size, weight) for text in texts), default=0.0)
    return size if widest <= width else max(smallest, size * width / widest)


def shortened(text: str, size: float, width: float, weight: str = "normal") -> str:
    """`text`, or as much of it as fits `width` inches at `size` points, and an ellipsis."""
    if text_width(text, size, weight) <= width:
        return text
    fitting = bisect_left(
        range(1, len(text)), True, key=lambda n: text_width(text[:n] + "…", size, weight) > width
    )
    return text[: max(1, fitting)] + "…"


def round_ticks(low: float, high: float, room: float) -> tuple[list[float], list[str]]:
    """Round numbers from `low` to `high`, and their texts: 2 to 8, that fit `room` inches."""
    for most in range(7, 0, -1):
        places = MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        inside = [float(place) for place in places if low <= place <= high]
        texts = numbers(inside)
        if sum(text_width(text, SIZES["text"]) + 0.15 for text in texts) <= room:
            break
    return inside, texts


def tick_room(ticks: tuple[list[float], list[str]]) -> float:
    """Inches that tick texts need beside a vertical axis."""
    return max((text_width(text, SIZES["text"]) for text in ticks[1]), default=0.0) + 0.1


def overhang(ticks: tuple[list[float], list[str]]) -> float:
    """Inches right of a horizontal axis that its last tick text may reach into, with a margin."""
    return max(MARGIN, max((text_width(text, SIZES["text"]) for text in ticks[1]), default=0.0))


def spread(places: list[float], gap: float, low: float, high: float) -> list[float]:
    """Move `places` as little as needed to be `gap` apart, in order, within `low` to `high`.

    Labels at the ends of lines that meet would cover each other; this keeps them readable. Places
    that collide become a group, evenly spaced about its mean (pool adjacent violators).
    """

    def start(group: list[int]) -> float:
        mean = sum(places[i] for i in group) / len(group)
        room = gap * (len(group) - 1)
        return max(low, min(mean - room / 2, high - room))

    groups: list[list[int]] = []
    for i in sorted(range(len(places)), key=lambda i: places[i]):
        groups.append([i])
        while len(groups) > 1 and start(groups[-2]) + gap * len(groups[-2]) > start(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    moved = list(places)
    for group in groups:
        for place, i in enumerate(group):
            moved[i] = start(group) + gap * place
    return moved
