"""CasADi: expressions of single numbers, differentiated, interpreted or written as C."""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.c import COMPILER
from scalargrad.errors import ScalargradError

OPTIONS = ("-O3", "-march=native", "-fPIC", "-shared")
CALLS = 20  # runs of the C in one call: what a call from Python costs does not count
_REPEAT = f"""
int repeat(const double **arg, double **res, long long *iw, double *w) {{
    for (int k = 0; k < {CALLS}; k++) f(arg, res, iw, w, 0);
    return 0;
}}
"""


def missing() -> str:
    """Why it cannot run here; empty if it can."""
    if importlib.util.find_spec("casadi") is None:
        return "casadi is not installed"
    return "" if COMPILER else "no C compiler was found (cc, gcc, clang)"


class CasADi:
    """The value of a program and its gradient by its unknowns.

    `building` is the seconds for the expressions and their derivative, `compiling` those for the C
    compiler, `source` and `code` the bytes of C and of the shared library.
    """

    def __init__(
        self, program: Callable[..., Any], unknowns: Sequence[float], data: Sequence[float]
    ) -> None:
        import casadi

        began = time.perf_counter()
        u, d = casadi.SX.sym("u", len(unknowns)), casadi.SX.sym("d", len(data))
        value = program(casadi, list(casadi.vertsplit(u)), list(casadi.vertsplit(d)))
        self._function = casadi.Function("f", [u, d], [value, casadi.gradient(value, u)])
        self.building = time.perf_counter() - began
        self.value, self.gradient = np.zeros(1), np.zeros(len(unknowns))
        self._inputs = np.array(unknowns, float), np.array(data, float)
        self._buffer, self.interpreted = self._function.buffer()
        for k, numbers in enumerate(self._inputs):
            self._buffer.set_arg(k, memoryview(numbers))
        for k, numbers in enumerate((self.value, self.gradient)):
            self._buffer.set_res(k, memoryview(numbers))

    def compile(self) -> Callable[[], object]:
        """`CALLS` runs of the C it writes."""
        if COMPILER is None:
            raise ScalargradError(missing())
        with tempfile.TemporaryDirectory() as folder:
            where, source = Path(folder), Path(folder) / "f.c"
            source.write_text(self._written(where) + _REPEAT, encoding="utf-8")
            self.source = source.stat().st_size
            began = time.perf_counter()
            made = [COMPILER, *OPTIONS, str(source), "-o", str(where / "f.so"), "-lm"]
            subprocess.run(made, check=True, capture_output=True)
            self.compiling = time.perf_counter() - began
            self.code = (where / "f.so").stat().st_size
            library = ctypes.CDLL(str(where / "f.so"))
        # Work arrays are as long as CasADi says; arguments and results are ours.
        pointers = ctypes.POINTER(ctypes.c_double) * max(self._function.sz_arg(), 2)
        results = ctypes.POINTER(ctypes.c_double) * max(self._function.sz_res(), 2)
        arguments = pointers(*(_address(numbers) for numbers in self._inputs))
        outputs = results(_address(self.value), _address(self.gradient))
        integers = (ctypes.c_longlong * max(self._function.sz_iw(), 1))()
        numbers = (ctypes.c_double * max(self._function.sz_w(), 1))()

        def run() -> object:
            return library.repeat(arguments, outputs, integers, numbers)

        return run

    def _written(self, folder: Path) -> str:
        import casadi

        generator = casadi.CodeGenerator("f.c")
        generator.add(self._function)
        generator.generate(f"{folder}/")
        return (folder / "f.c").read_text(encoding="utf-8")


def _address(numbers: Any) -> Any:
    return numbers.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
