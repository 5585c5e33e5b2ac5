"""Images of digits: from a file to the network's input, and from there to the terminal."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, MissingExtraError

Pixels = NDArray[np.float64]

SHADES = " .:-=+*#%@"


def drawn(pixels: Pixels) -> str:
    """An image, shape (height, width) and from 0.0 to 1.0, in letters: two columns a pixel."""
    levels = np.clip(np.rint(pixels * (len(SHADES) - 1)), 0, len(SHADES) - 1).astype(int)
    return "\n".join("".join(2 * SHADES[level] for level in row).rstrip() for row in levels)


def read_image(path: str | os.PathLike[str], side: int, fill: float) -> Pixels:
    """A picture of one digit as the network expects it: ink is 1.0, paper 0.0, shape (side, side).

    An image of just that size is taken as it is. Of any other the ink is cut out, scaled so that
    its longer side fills the fraction `fill` of the square, and put in the middle of it. Paper is
    what most of the rim is; white on black is turned round.

    Raises `DataError` for a file that is no image or shows nothing, `FileNotFoundError`, and
    `MissingExtraError` without Pillow, which matplotlib brings along.
    """
    grey = _grey(path)
    if np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])) > 0.5:
        grey = 1.0 - grey
    if grey.shape == (side, side):
        return grey
    ink = grey > grey.min() + (grey.max() - grey.min()) / 3
    if grey.max() - grey.min() < 0.1:
        raise DataError(f"{path}: shows nothing: expected one dark digit on light paper")
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    cut = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _centred(_scaled(cut - grey.min(), max(1, round(fill * side))), side)


def _grey(path: str | os.PathLike[str]) -> Pixels:
    """The file's brightness, from 0.0 (black) to 1.0 (white); transparent parts are white."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MissingExtraError("Pillow", "plot", "reading an image") from error
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGBA")
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image: {error}") from error
    paper = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(paper, image).convert("L"), dtype=np.float64) / 255


def _scaled(ink: Pixels, longer: int) -> Pixels:
    """The image with its longer side that many pixels, each the mean of what it covers."""
    from PIL import Image

    size = [max(1, round(longer * n / max(ink.shape))) for n in ink.shape]
    image: Any = Image.fromarray(np.asarray(ink / ink.max(), dtype=np.float32), mode="F")
    small = image.resize((size[1], size[0]), Image.Resampling.BOX)
    return np.clip(np.asarray(small, dtype=np.float64), 0.0, 1.0)


def _centred(ink: Pixels, side: int) -> Pixels:
    square = np.zeros((side, side))
    top, left = ((side - n) // 2 for n in ink.shape)
    square[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return square
