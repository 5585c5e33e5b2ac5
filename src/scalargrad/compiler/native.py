"""Native programs: Loops made machine code, with the memory they work in.

    program = build(loops, batch=64)
    program.execute({Space.PARAMETER: p, Space.EXAMPLE: x})    # arrays in, arrays out
    frame = program.frame(); frame.bind(Space.PARAMETER, array) ...; frame.run()

A `NativeProgram` is code and can be shared by threads; a `Frame` is the memory of one run at a
time: the arrays the caller gave, and those that only the program sees.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Collection, Mapping
from functools import cache as once
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ShapeError
from . import llvm
from .arithmetic import LIBRARY, PREFIX
from .cache import Cache, enabled, key
from .calling import Code
from .emit import Emitter
from .ir import Module
from .loops import INTEGERS, Loops, Space, work
from .tiles import SCRATCH, TABLE, WALKS

ALIGNMENT = 64
MODES = ("exact", "fast")
REALS = {"float64": "double", "float32": "float"}
# What a frame keeps to itself, unless the caller binds an array of its own.
HIDDEN = (Space.CONSTANT, Space.TEMPORARY, Space.BATCHED)


@once
def library_addresses() -> dict[str, int]:
    """Where this process has the functions of the mathematics library that Python itself uses."""
    library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
    if not hasattr(library, "erfc"):
        from ctypes.util import find_library

        library = ctypes.CDLL(find_library("m"))
    return {
        PREFIX + name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
        for name in LIBRARY
    }


def aligned(count: int, kind: Any) -> NDArray[Any]:
    """Zeros that start at a cache line, with room for one whole vector past the end."""
    size = np.dtype(kind).itemsize
    raw = np.zeros(count * size + 2 * ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + count * size].view(kind)


class NativeProgram:
    """A Loops program as machine code, for one batch size, mode and dtype."""

    def __init__(
        self,
        loops: Loops,
        batch: int,
        mode: str,
        dtype: str,
        cache: Cache | None = None,
        unread: frozenset[Space] = frozenset(),
    ) -> None:
        self.loops = loops
        self.batch = batch
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        bits, registers, fused = llvm.vector_bits()
        module = Module(
            REALS[dtype], bits // (8 * self.dtype.itemsize), registers, fused, mode == "fast"
        )
        began = perf_counter()
        emitter = Emitter(loops, module, batch, unread)
        emitter.run()
        self.llvm_ir = module.text()
        self.lengths = emitter.memory.lengths
        self.slots = emitter.slots
        self.walks = emitter.streams.array()
        self.scratch = emitter.scratch
        emitted = perf_counter()
        code, self.cached = _code(self.llvm_ir, cache)
        self._library = llvm.Library(code, library_addresses(), ("run",))
        terms = sum(work(step, batch) for step in loops.instructions)
        self.code = Code(self._library.addresses["run"], terms)
        self.seconds = {"emit": emitted - began, "compile": perf_counter() - emitted}

    def kind(self, space: Space) -> Any:
        """The dtype of a space's array."""
        return np.dtype(np.int64) if space in INTEGERS else self.dtype

    def shape(self, space: Space) -> tuple[int, ...]:
        """The shape of a space's array, as the caller sees it."""
        size = self.loops.size(space)
        return (self.batch, size) if space.batched else (size,)

    def frame(self) -> Frame:
        """New memory to run in."""
        return Frame(self)

    def execute(self, inputs: Mapping[Space, ArrayLike]) -> dict[Space, NDArray[Any]]:
        """Run once on copies of the inputs, in the form of `reference.execute`."""
        frame = self.frame()
        for space, numbers in inputs.items():
            if self.loops.size(space):
                frame.arrays[space][...] = np.asarray(numbers).reshape(self.shape(space))
        frame.run()
        written = [s for s in Space if self.loops.size(s) and s not in (*INTEGERS, *HIDDEN)]
        return {space: frame.arrays[space].copy() for space in written}


class Frame:
    """The memory of one run at a time.

    `arrays[space]` is what a run reads and writes; `bind` puts the caller's own array there.
    `environment`, at `address`, holds the addresses of all memory, those of the spaces first.
    """

    def __init__(self, program: NativeProgram) -> None:
        self.program = program
        loops, batch = program.loops, program.batch
        self.arrays: dict[Space, NDArray[Any]] = {}
        self.environment = np.zeros(program.slots, np.uintp)
        self.address: int = self.environment.ctypes.data
        self._owned: list[NDArray[Any]] = []
        for space in Space:
            array = aligned(program.lengths[space], program.kind(space))
            if space == Space.CONSTANT:
                array[:] = loops.constants
            elif space == Space.SCALAR and len(array):
                array[:] = (1.0 / batch, float(batch))
            self._owned.append(array)
            self.environment[space] = array.ctypes.data
            if space not in HIDDEN:
                self.arrays[space] = array.reshape(program.shape(space))
        self._table = np.ascontiguousarray(loops.table, np.int32)
        self._scratch = aligned(program.scratch, program.dtype)
        self.environment[TABLE] = self._table.ctypes.data
        self.environment[SCRATCH] = self._scratch.ctypes.data
        self.environment[WALKS] = program.walks.ctypes.data

    def bind(self, space: Space, array: NDArray[Any]) -> None:
        """Let the runs read and write the caller's array.

        Raises `ShapeError` for another shape, dtype or memory order than the program's.
        """
        program = self.program
        shape, kind = program.shape(space), program.kind(space)
        if array.shape != shape or array.dtype != kind or not array.flags.c_contiguous:
            raise ShapeError(
                f"{space.name}: expected a C-contiguous {kind} array of shape {shape}, "
                f"got {array.dtype} of shape {array.shape}"
            )
        self.arrays[space] = array
        self.environment[space] = array.ctypes.data

    def run(self) -> None:
        """Run the program on the arrays."""
        self.program.code.run(self.address)


def build(
    loops: Loops,
    batch: int | None = None,
    mode: str = "exact",
    dtype: str = "float64",
    cache: Cache | None = None,
    unread: Collection[Space] = (),
) -> NativeProgram:
    """Compile a program for `batch` examples (None for a program without a batch).

    mode `exact` gives the bits of `reference.execute`; `fast` reassociates and fuses sums and
    approximates exp, log, tanh and quotients. Raises `ValueError` for another mode, dtype or batch, and
    `MissingExtraError` without llvmlite. `cache` is the user's own by default. `unread` names
    gradients that nobody reads after a run, as in a training step: they need not be stored.
    """
    for name, got, allowed in (("mode", mode, MODES), ("dtype", dtype, tuple(REALS))):
        if got not in allowed:
            raise ValueError(f"{name}: expected {' or '.join(map(repr, allowed))}, got {got!r}")
    if (batch is not None) != loops.batched:
        expected = "a batch size" if loops.batched else "None: the program has no batch"
        raise ValueError(f"batch: expected {expected}, got {batch!r}")
    if batch is not None and batch < 1:
        raise ValueError(f"batch: expected 1 example or more, got {batch}")
    return NativeProgram(
        loops, 1 if batch is None else batch, mode, dtype, cache, frozenset(unread)
    )


@once
def _own_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("scalargrad")
    except PackageNotFoundError:
        return ""


def _code(text: str, cache: Cache | None) -> tuple[bytes, bool]:
    """The machine code of a module of IR, and whether it was kept from another time."""
    if not enabled():
        return llvm.compile_text(text), False
    cache = Cache() if cache is None else cache
    name = key((text, *llvm.host(), llvm.version(), _own_version()))
    kept = cache.get(name)
    if kept is not None:
        return kept, True
    code = llvm.compile_text(text)
    cache.put(name, code)
    return code, False
