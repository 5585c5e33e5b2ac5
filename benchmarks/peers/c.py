"""The training steps in C, compiled by the system's compiler when a benchmark starts."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.flat import flatten, views
from benchmarks.tasks import Arrays, Task

SOURCES = Path(__file__).parent
FLAGS = (
    "-O3",
    "-march=native",
    "-ffast-math",
    "-fno-finite-math-only",
    "-mprefer-vector-width=512",
)
STEPS = 100  # steps in one call: what a call from Python costs does not count
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@cache
def library(name: str, *definitions: str) -> ctypes.CDLL:
    """The compiled source of that name.

    Raises `FileNotFoundError` without a C compiler and `CalledProcessError` where it fails.
    """
    if COMPILER is None:
        raise FileNotFoundError("no C compiler was found (cc, gcc, clang)")
    with tempfile.TemporaryDirectory() as folder:
        object_file, made = Path(folder, f"{name}.o"), Path(folder, f"{name}.so")
        source = str(SOURCES / f"{name}.c")
        compiled = [COMPILER, *FLAGS, *definitions, "-fPIC", "-c", source, "-o", str(object_file)]
        subprocess.run(compiled, check=True)
        # Linked without -ffast-math, which would have the whole process take subnormals for 0.
        linked = [COMPILER, "-shared", str(object_file), "-o", str(made), "-lm"]
        subprocess.run(linked, check=True)
        return ctypes.CDLL(str(made))


def address(array: NDArray[Any]) -> ctypes.c_void_p:
    """Where an array's numbers are, as an argument of a C function."""
    return array.ctypes.data_as(ctypes.c_void_p)


class CMoons:
    """The moons' step in plain loops, in float64."""

    steps = STEPS

    def __init__(self, task: Task, dtype: str, lr: float) -> None:
        assert dtype == "float64"
        self._library = library("moons", f"-DEXAMPLES={len(task.x)}")
        for function in (self._library.gradients, self._library.steps):
            function.restype = ctypes.c_double
        self._weights = task.weights
        self._parameters = flatten(self._weights, dtype)
        self._gradient = np.zeros_like(self._parameters)
        self._x, self._y = np.ascontiguousarray(task.x.T), task.y
        arrays = (self._parameters, self._gradient, self._x, self._y)
        self._arguments = (*map(address, arrays), ctypes.c_double(task.decay))
        self._lr = ctypes.c_double(lr)

    def gradients(self) -> tuple[float, Arrays]:
        """The loss and its gradient by name."""
        loss = self._library.gradients(*self._arguments)
        return loss, views(self._gradient, self._weights)

    def step(self) -> float:
        """`steps` steps; the loss before the last."""
        loss: float = self._library.steps(STEPS, *self._arguments, self._lr)
        return loss


class CGPT:
    """The GPT's step tuned by hand, in float32."""

    steps = STEPS

    def __init__(self, task: Task, dtype: str, lr: float) -> None:
        assert dtype == "float32"
        self._library = library("gpt")
        for function in (self._library.gradients, self._library.steps):
            function.restype = ctypes.c_float
        self._weights = task.weights
        self._parameters = flatten(self._weights, dtype)
        self._gradient = np.zeros_like(self._parameters)
        self._moments = np.zeros((2, self._parameters.size), dtype)
        self._tokens, self._targets = task.x.astype(np.int32), task.y.astype(np.int32)
        both = (address(self._parameters), address(self._gradient))
        documents = (len(task.x), address(self._tokens), address(self._targets))
        self._arguments = (*both, *documents)
        moments = map(address, self._moments)
        self._step_arguments = (*both, *moments, *documents, ctypes.c_double(lr))
        self._done = 0

    def gradients(self) -> tuple[float, Arrays]:
        """The loss and its gradient by name."""
        loss = self._library.gradients(*self._arguments)
        return loss, views(self._gradient, self._weights)

    def step(self) -> float:
        """`steps` steps; the loss before the last."""
        loss: float = self._library.steps(STEPS, *self._step_arguments, self._done)
        self._done += STEPS
        return loss
