"""What native code finds outside itself: the slots of its environment, the mathematics library.

Its only argument is the environment: a pointer for each `Space`, and those named here.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache as once

TABLE, SCRATCH, WALKS = 15, 16, 17  # slots of the environment after those of the spaces

# The functions that exact mode takes from the mathematics library, and how many operands they have.
LIBRARY = {
    **dict.fromkeys(("exp", "log", "log1p", "tanh", "sin", "cos", "erfc"), 1),
    "pow": 2,
}
PAIR = "sincos"  # both at once: void(double, double *, double *), where the library has it
PREFIX = "scalargrad."


@once
def library_addresses() -> dict[str, int]:
    """Where this process has the functions of the mathematics library that Python itself uses."""
    library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
    if not hasattr(library, "erfc"):
        from ctypes.util import find_library

        library = ctypes.CDLL(find_library("m"))
    return {
        PREFIX + name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
        for name in (*LIBRARY, PAIR)
        if hasattr(library, name)
    }
