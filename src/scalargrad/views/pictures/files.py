"""Writing a figure to disk: the same bytes for the same picture."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ..files import write
from .style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METADATA: Final[Mapping[str, Mapping[str, None]]] = MappingProxyType(
    {
        ".png": {"Software": None},
        ".svg": {"Date": None, "Creator": None},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
)
"""Suffix -> what matplotlib would add that changes from day to day or version to version."""


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write `figure` to `path` as PNG, SVG or PDF, chosen by the suffix, and return the path.

    The folder is made when missing. The file appears at once and complete: it is written under a
    temporary name in the same folder, flushed to disk, then renamed, so a crash leaves the old
    file or the new one. Two calls with equal figures write equal bytes.

    Raises:
        ValueError: another suffix.
        OSError: the folder or the file cannot be written; the message names the path.
        MissingExtraError: matplotlib is not installed.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in _METADATA:
        raise ValueError(
            f"path must end in {', '.join(_METADATA)}, got {str(target)!r}: "
            f"the suffix chooses the format"
        )
    buffer = io.BytesIO()
    with styled():
        figure.savefig(
            buffer,
            format=suffix[1:],
            facecolor=figure.get_facecolor(),
            metadata=dict(_METADATA[suffix]),
        )
    return write(target, buffer.getvalue())
