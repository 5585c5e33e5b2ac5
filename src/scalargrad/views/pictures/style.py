"""How every picture looks: one table of colours, one of settings, and a blank page.

The colours of data come from Okabe and Ito, "Color Universal Design" (2008), a set that stays
apart under every common colour blindness. A colour never carries a meaning alone: validation is
also dashed, a mistake is also ringed or framed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from scalargrad.errors import MissingExtraError

if TYPE_CHECKING:
    from .page import Page

COLOURS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "paper": "#ffffff",
        "ink": "#1c2024",
        "muted": "#60666d",
        "grid": "#e4e7ea",
        "missing": "#c9ced3",
        "training": "#0072b2",
        "validation": "#d55e00",
        "positive": "#0072b2",
        "negative": "#e69f00",
        "right": "#0072b2",
        "wrong": "#c8321a",
    }
)
"""Role -> colour, for all pictures."""

SIZES: Final[Mapping[str, float]] = MappingProxyType(
    {"title": 13.0, "heading": 11.0, "text": 9.5, "small": 8.5}
)
"""Role -> font size in points."""

SETTINGS: Final[Mapping[str, object]] = MappingProxyType(
    {
        "figure.facecolor": COLOURS["paper"],
        "figure.dpi": 150,
        "savefig.dpi": "figure",
        "font.family": ["DejaVu Sans"],
        "font.size": SIZES["text"],
        "text.color": COLOURS["ink"],
        # A class called "$x" is a name, not a formula.
        "text.parse_math": False,
        "axes.edgecolor": COLOURS["missing"],
        "axes.labelcolor": COLOURS["muted"],
        "axes.labelsize": SIZES["text"],
        "axes.axisbelow": True,
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "grid.color": COLOURS["grid"],
        "grid.linewidth": 0.8,
        "xtick.color": COLOURS["missing"],
        "ytick.color": COLOURS["missing"],
        "xtick.labelcolor": COLOURS["muted"],
        "ytick.labelcolor": COLOURS["muted"],
        "xtick.labelsize": SIZES["text"],
        "ytick.labelsize": SIZES["text"],
        "ytick.major.size": 0,
        # Names inside an SVG are hashes, random unless salted.
        "svg.hashsalt": "scalargrad",
    }
)
"""What differs from matplotlib's defaults."""


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's defaults and `SETTINGS` inside the block; the caller's settings after it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib.style
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "drawing a picture") from error
    with matplotlib.style.context(["default", dict(SETTINGS)]):
        yield


def blank(width: float, height: float) -> Page:
    """An empty page of `width` by `height` inches; call inside `styled()`."""
    from .page import Page

    return Page(width, height)


def percent(fraction: float) -> str:
    """A fraction as a percentage with one decimal; 0% and 100% only when it is exactly that."""
    if fraction in (0, 1):
        return f"{fraction:.0%}"
    if fraction > 0.9995:
        return ">99.9%"
    return "<0.1%" if fraction < 0.0005 else f"{100 * fraction:.1f}%"


def number(value: float, digits: int = 3) -> str:
    """A number with `digits` significant digits, or all those before the decimal point."""
    if not isfinite(value):
        return str(value)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if -3 <= power < 6 or value == 0:
        text = _trimmed(f"{value:,.{max(0, digits - 1 - power)}f}")
    else:
        text = f"{_trimmed(mantissa)}e{power}"
    return text.replace("-", "−")


def _trimmed(decimal: str) -> str:
    """Without zeros that end the fraction."""
    return decimal.rstrip("0").rstrip(".") if "." in decimal else decimal


def numbers(values: Sequence[float]) -> list[str]:
    """Evenly or geometrically spaced numbers with as many digits as keep each of them true."""
    step = min((abs(b - a) for a, b in pairwise(values)), default=0.0)
    digits = 3
    while digits < 15 and any(
        abs(float(f"{value:.{digits}g}") - value) > 1e-3 * step for value in values
    ):
        digits += 1
    return [number(value, digits) for value in values]
