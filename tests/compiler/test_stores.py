"""Stores of some lanes: those that are meant are written, and no others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from scalargrad.compiler import linking, llvm
from scalargrad.compiler.calling import Code
from scalargrad.compiler.ir import Function, Module, vector
from scalargrad.compiler.stores import store_first, store_known

VECTORS = [("double", 4), ("float", 8)]


def compiled(
    kind: str, width: int, write: Callable[[Function, str, str], None]
) -> Callable[[int], np.ndarray]:
    """A function of a count: what becomes of -1s where lanes 1, 2 ... are written in the middle."""
    module = Module(kind, width)
    function = Function(module, "run", linkage="")
    numbers = function.emit(f"load {vector(kind, width)}, ptr {function.pointer(0)}, align 4")
    write(function, numbers, function.at(kind, function.pointer(1), width))
    module.finish(function)
    library = linking.load(llvm.compile_text(module.text()), {}, ["run"])
    code = Code(library.addresses["run"], 1)
    real = np.float64 if kind == "double" else np.float32

    def run(count: int) -> np.ndarray:
        assert library.addresses
        source, target = np.arange(1, width + 1, dtype=real), -np.ones(3 * width, real)
        counts = np.array([count])
        environment = np.array([array.ctypes.data for array in (source, target, counts)], np.uintp)
        code.run(environment.ctypes.data)
        return target

    return run


def _write_known(
    kind: str, width: int, first: int, count: int, function: Function, numbers: str, pointer: str
) -> None:
    store_known(function, kind, numbers, width, pointer, first, count)


@pytest.mark.parametrize(("kind", "width"), VECTORS)
@pytest.mark.parametrize("last", [False, True])
def test_known_lanes_are_written(kind, width, last):
    for count in range(1, width):
        first = width - count if last else 0
        write = partial(_write_known, kind, width, first, count)
        run = compiled(kind, width, write)
        expected = -np.ones(3 * width)
        expected[width + first :][:count] = first + 1 + np.arange(count)
        np.testing.assert_array_equal(run(0), expected)


@pytest.mark.parametrize(("kind", "width"), VECTORS)
def test_as_many_lanes_as_are_left_are_written(kind, width):
    def write(function: Function, numbers: str, pointer: str) -> None:
        left = function.emit(f"load i64, ptr {function.pointer(2)}, align 8")
        store_first(function, kind, numbers, width, pointer, left)

    run = compiled(kind, width, write)
    for left in range(-2 * width, 3 * width):
        expected = -np.ones(3 * width)
        count = min(max(left, 0), width)
        expected[width:][:count] = 1 + np.arange(count)
        np.testing.assert_array_equal(run(left), expected)
