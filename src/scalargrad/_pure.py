"""`SCALARGRAD_PURE=1`: import the plain `.py` of each compiled module instead of its binary.

A compiled module beside its source wins the import, so a finder in front of the usual ones
looks up this package's modules among the sources only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType


class SourceFinder:
    """Finds `scalargrad.*` modules as source files."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the `.py` file; None for other packages and for what has no source."""
        if not name.startswith("scalargrad.") or path is None:
            return None
        for folder in path:
            spec = FileFinder(folder, (SourceFileLoader, [".py"])).find_spec(name)
            if spec is not None and spec.loader is not None:
                return spec
        return None


def wanted() -> bool:
    """Whether the environment asks for the uncompiled engine."""
    return os.environ.get("SCALARGRAD_PURE", "") not in ("", "0")


if wanted() and SourceFinder not in sys.meta_path:
    sys.meta_path.insert(0, SourceFinder)
