"""Calling native code by its address: the one place where Python gives way to it."""

from __future__ import annotations

import ctypes

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if not cython.compiled:

    def call(function: int, environment: int) -> None:
        """Run the function at an address on the environment at another."""
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)(environment)

    def both(function: int, x: float) -> tuple[float, float]:
        """The sine and the cosine of x, by the function at an address, which is as C's sincos."""
        place = ctypes.POINTER(ctypes.c_double)
        sine, cosine = ctypes.c_double(), ctypes.c_double()
        ctypes.CFUNCTYPE(None, ctypes.c_double, place, place)(function)(x, sine, cosine)
        return sine.value, cosine.value


# Terms and operations from which other Python threads may run meanwhile. For less, letting them
# in takes longer than the code itself.
LONG = 1_000_000


def sines_and_cosines(function: cython.size_t, angles: memoryview, results: memoryview) -> None:
    """The sine and the cosine of each angle, one after the other; see `both`."""
    i: cython.Py_ssize_t
    x: cython.double[::1] = angles
    out: cython.double[::1] = results
    for i in range(len(x)):
        out[2 * i], out[2 * i + 1] = both(function, x[i])


@cython.final
@cython.cclass
class Code:
    """A native function at an address, which computes about so many terms and operations."""

    address: cython.size_t
    long: cython.bint

    def __init__(self, address: int, work: int) -> None:
        self.address = address
        self.long = work >= LONG

    def replace(self, address: int) -> None:
        """Have later runs be those of another function, which computes the same."""
        self.address = address

    def run(self, environment: int) -> None:
        """Run it on the environment at an address."""
        self.launch(environment)

    @cython.cfunc
    @cython.exceptval(check=False)
    def launch(self, environment: cython.size_t) -> cython.void:
        """As `run`, for compiled callers."""
        if cython.compiled and self.long:
            with cython.nogil:
                call(self.address, environment)
        else:
            call(self.address, environment)
