"""How the picture of a graph looks: colours, sizes, and how much room a text takes."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# Fonts whose letters are all about 0.6 of their size wide, so that a text's width is known without
# the font.
FONT: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
TEXT, TITLE = 12.0, 13.0  # font sizes
ADVANCE = 0.62  # width of a letter, in font sizes: that of the widest of the fonts
LINE = 17.0  # from one line of a box to the next
PADDING = 8.0  # around the text of a box
MARGIN = 20.0  # around everything
STUB = 16.0  # length of the line that stands for operands that are not drawn
LONGEST = 32  # letters of a name that are shown

THEMES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "light": {
            "paper": "#ffffff",
            "ink": "#1c2024",
            "muted": "#60666d",
            "leaf": "#e6f4ea",
            "leaf edge": "#3f8f5b",
            "parameter": "#fdf0d5",
            "parameter edge": "#b7791f",
            "result": "#f3f5f7",
            "result edge": "#8d96a0",
            "root": "#e4e9f7",
            "root edge": "#3c4a8a",
            "positive": "#0069a8",
            "negative": "#b04600",
            "none": "#9aa3ab",
            "wrong": "#b92d16",
        },
        "dark": {
            "paper": "#16191d",
            "ink": "#eceff2",
            "muted": "#a3abb3",
            "leaf": "#1c3326",
            "leaf edge": "#5fb37e",
            "parameter": "#3b2f16",
            "parameter edge": "#d9a441",
            "result": "#252a30",
            "result edge": "#76808a",
            "root": "#272f52",
            "root edge": "#93a3ea",
            "positive": "#5ab4f0",
            "negative": "#f5944f",
            "none": "#69727b",
            "wrong": "#ff6b55",
        },
    }
)
"""Theme -> role -> colour. A sign is told by a colour and by the number that it belongs to."""


def cells(text: str) -> int:
    """How many letters wide a text is: those of East Asia are two, marks upon letters none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def width(text: str, size: float = TEXT) -> float:
    """How wide a text is at a font size."""
    return ADVANCE * size * cells(text)


def shortened(text: str, most: int = LONGEST) -> str:
    """A text of at most so many letters, an ellipsis in place of its end."""
    if cells(text) <= most:
        return text
    while cells(text) > most - 1:
        text = text[:-1]
    return text + "…"
