"""Scalar programs in the libraries people already work with, a module for each library.

A module stands on everything below it - the compiler, the networks, the trainer - and adds what
its library expects. It imports that library when it is itself imported, and not before:
`sg.interop` costs nothing, and `sg.interop.NAME` or `from scalargrad.interop.NAME import ...` says,
in a `MissingExtraError`, what to install where the library is missing.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any


def __dir__() -> list[str]:
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in names if not name.startswith("_"))


def __getattr__(name: str) -> Any:
    if name not in __dir__():
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}: it has {', '.join(__dir__())}"
        )
    return importlib.import_module(f"{__name__}.{name}")
