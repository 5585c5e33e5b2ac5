"""Native programs: Loops made machine code, with the memory they work in.

    program = build(loops, batch=64)
    program.execute({Space.PARAMETER: p, Space.EXAMPLE: x})    # arrays in, arrays out
    frame = program.frame(); frame.bind(Space.PARAMETER, array) ...; frame.run()

A `NativeProgram` is code and can be shared by threads; a `Frame` is the memory of one run at a
time: the arrays the caller gave, and those that only the program sees.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ShapeError
from . import linking, llvm
from .answers import has_pairs, vector_forms
from .cache import Cache, enabled
from .calling import Code
from .environment import SCRATCH, TABLE, WALKS, library_addresses
from .image import Image
from .spaces import INTEGERS, Space
from .team import team

if TYPE_CHECKING:
    from .emit import Emitter
    from .loops import Loops

ALIGNMENT = 64
MODES = ("exact", "fast")
LENGTHY = 3000  # lines of code from which on it takes LLVM long to compile them well
REALS = {"float64": "double", "float32": "float"}
# What a frame keeps to itself.
HIDDEN = (Space.CONSTANT, Space.TEMPORARY, Space.BATCHED)


class Settings(NamedTuple):
    """What code is for: the options of `build`."""

    batch: int
    mode: str
    dtype: str
    unread: frozenset[Space]


def aligned(count: int, kind: Any) -> NDArray[Any]:
    """Zeros that start at a cache line, with room for one whole vector past the end."""
    size = np.dtype(kind).itemsize
    raw = np.zeros(count * size + 2 * ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + count * size].view(kind)


class NativeProgram:
    """A Loops program as machine code, for one batch size, mode and dtype.

    `found` gives the program when it is to be looked at: what comes from the cache has no need of
    it. `cached` says whether it does. `draft` is the text of code that could be better, and
    `improved` told the image of what is better.
    """

    def __init__(
        self,
        image: Image,
        settings: Settings,
        found: Callable[[], Loops],
        seconds: dict[str, float],
        cached: bool = False,
    ) -> None:
        began = perf_counter()
        self.image, self.settings, self.cached = image, settings, cached
        self.batch, self.dtype = settings.batch, np.dtype(settings.dtype)
        self._found = found
        self._libraries: list[linking.Loaded] = []  # of which the first may still be running
        self.draft = ""
        self.improved: Callable[[Image], None] | None = None
        self.code = Code(self._load(image.code), image.terms)
        self.seconds = {**seconds, "load": perf_counter() - began}

    def _load(self, code: bytes) -> int:
        """The address of what an object file has to be called."""
        imports, exports = dict(library_addresses()), ["run"]
        if self.image.phases:
            imports["lead"] = team().lead
            exports += ["share", "together"]
        self._libraries.append(linking.load(code, imports, exports))
        self.addresses = self._libraries[-1].addresses
        return self.addresses[exports[-1]]

    def improve(self) -> None:
        """Compile a draft well. Later runs, and those of all frames, are of the better code."""
        if not self.draft:
            return
        self.image = self.image._replace(code=llvm.compile_text(self.draft))
        self.draft = ""
        self.code.replace(self._load(self.image.code))
        if self.improved is not None:
            self.improved(self.image)

    @cached_property
    def loops(self) -> Loops:
        """The program."""
        return self._found()

    @property
    def llvm_ir(self) -> str:
        """The LLVM intermediate representation it was compiled from."""
        return _emitted(self.loops, self.settings)[0]

    def size(self, space: Space) -> int:
        """Elements in a space (of one example, if it is batched)."""
        return self.image.sizes.get(space, 0)

    def kind(self, space: Space) -> Any:
        """The dtype of a space's array."""
        return np.dtype(np.int64) if space in INTEGERS else self.dtype

    def shape(self, space: Space) -> tuple[int, ...]:
        """The shape of a space's array, as the caller sees it."""
        size = self.size(space)
        return (self.batch, size) if space.batched else (size,)

    def frame(self) -> Frame:
        """New memory to run in."""
        return Frame(self)

    def execute(self, inputs: Mapping[Space, ArrayLike]) -> dict[Space, NDArray[Any]]:
        """Run once on copies of the inputs, in the form of `reference.execute`."""
        frame = self.frame()
        for space, numbers in inputs.items():
            if self.size(space):
                frame.arrays[space][...] = np.asarray(numbers).reshape(self.shape(space))
        frame.run()
        written = [s for s in Space if self.size(s) and s not in (*INTEGERS, *HIDDEN)]
        return {space: frame.arrays[space].copy() for space in written}


class Frame:
    """The memory of one run at a time.

    `arrays[space]` is what a run reads and writes; `bind` puts the caller's own array there.
    `environment`, at `address`, holds the addresses of all memory, those of the spaces first.
    """

    def __init__(self, program: NativeProgram) -> None:
        self.program = program
        image, batch = program.image, program.batch
        self.arrays: dict[Space, NDArray[Any]] = {}
        self.environment = np.zeros(image.slots, np.uintp)
        self.address: int = self.environment.ctypes.data
        self.owned: list[NDArray[Any]] = []
        for space in Space:
            array = aligned(image.lengths[space], program.kind(space))
            if space == Space.CONSTANT:
                with np.errstate(over="ignore"):  # beyond float32 is inf
                    array[:] = image.constants
            elif space == Space.SCALAR and len(array):
                array[:] = (1.0 / batch, float(batch))
            self.owned.append(array)
            self.environment[space] = array.ctypes.data
            if space not in HIDDEN:
                self.arrays[space] = array.reshape(program.shape(space))
        self._scratch = aligned(image.scratch, program.dtype)
        self.environment[TABLE] = image.table.ctypes.data
        self.environment[SCRATCH] = self._scratch.ctypes.data
        self.environment[WALKS] = image.walks.ctypes.data

    def bind(self, space: Space, array: NDArray[Any]) -> None:
        """Let the runs read and write the caller's array.

        Raises `ShapeError` for another shape, dtype or memory order than the program's, and
        `ValueError` for what holds more than the space's own numbers.
        """
        program = self.program
        if space in (Space.TEMPORARY, Space.BATCHED):
            raise ValueError(
                f"{space.name}: only the program itself knows how much room that takes"
            )
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
    unread: Collection[Space] = (),
    quick: bool = False,
) -> NativeProgram:
    """Compile a program for `batch` examples (None for a program without a batch).

    mode `exact` gives the bits of `reference.execute`; `fast` reassociates and fuses sums and
    approximates exp, log, tanh, sin, cos, erfc and quotients. Raises `ValueError` for another mode,
    dtype or batch, and `MissingExtraError` without llvmlite. `unread` names gradients that nobody reads
    after a run, as in a training step: they need not be stored. A long program in exact mode is
    compiled to a draft if it should be `quick`: in a third of the time, with the same bits, to code
    that takes about twice as long until it has been made to `improve`.
    """
    for name, got, allowed in (("mode", mode, MODES), ("dtype", dtype, tuple(REALS))):
        if got not in allowed:
            raise ValueError(f"{name}: expected {' or '.join(map(repr, allowed))}, got {got!r}")
    if (batch is not None) != loops.batched:
        expected = "a batch size" if loops.batched else "None: the program has no batch"
        raise ValueError(f"batch: expected {expected}, got {batch!r}")
    if batch is not None and batch < 1:
        raise ValueError(f"batch: expected 1 example or more, got {batch}")
    from .loops import work  # which code from the cache spares

    settings = Settings(batch or 1, mode, dtype, frozenset(unread))
    began = perf_counter()
    text, emitter = _emitted(loops, settings)
    emitted = perf_counter()
    walks = emitter.streams.array()
    # How quick walks are decides on who answers from then on; a draft of those written out is little
    # slower.
    draft = quick and mode == "exact" and not walks.size and text.count("\n") >= LENGTHY
    image = Image(
        code=llvm.compile_text(text, llvm.QUICK if draft else llvm.LEVEL),
        sizes=dict(loops.sizes),
        lengths=emitter.memory.lengths,
        slots=emitter.slots,
        scratch=emitter.scratch,
        terms=sum(work(step, settings.batch) for step in loops.instructions),
        walked=emitter.streams.walked,
        phases=emitter.phases,
        workers=emitter.workers,
        shared=emitter.shared / emitter.cycles if emitter.phases else 0.0,
        constants=emitter.constants,
        table=np.ascontiguousarray(loops.table, np.int32),
        walks=walks,
    )
    seconds = {"emit": emitted - began, "compile": perf_counter() - emitted}
    program = NativeProgram(image, settings, lambda: loops, seconds)
    program.draft = text if draft else ""
    return program


def recall(
    name: str,
    found: Callable[[], Loops],
    batch: int | None = None,
    mode: str = "exact",
    dtype: str = "float64",
    unread: Collection[Space] = (),
    cache: Cache | None = None,
    quick: bool = False,
) -> NativeProgram:
    """The program of a name, from the cache, or as `build` makes it of what `found` returns.

    The name tells apart whatever `found` could return and all options (see `image.name_of`).
    `cache` is the user's own by default. No drafts are kept there.
    """
    cache = Cache() if cache is None else cache
    content = cache.get(name) if enabled() else None
    image = None if content is None else Image.unpack(content)
    if image is not None:
        settings = Settings(batch or 1, mode, dtype, frozenset(unread))
        return NativeProgram(image, settings, found, {}, cached=True)

    def keep(image: Image) -> None:
        if enabled():
            cache.put(name, image.pack())

    program = build(found(), batch, mode, dtype, unread, quick)
    if program.draft:
        program.improved = keep
    else:
        keep(program.image)
    return program


def _emitted(loops: Loops, settings: Settings) -> tuple[str, Emitter]:
    """The code as text, and what it was written with."""
    # Most of the compiler, which a program from the cache spares.
    from .emit import Emitter
    from .ir import Module

    bits, registers, fused = llvm.vector_bits()
    width = bits // (8 * np.dtype(settings.dtype).itemsize)
    fast = settings.mode == "fast"
    module = Module(REALS[settings.dtype], width, registers, fused, fast, pairs=has_pairs())
    if fused:
        module.forms = vector_forms()
    if fast:
        from .alike import multiplied

        loops = multiplied(loops)
    emitter = Emitter(loops, module, settings.batch, unread=settings.unread)
    emitter.run()
    return module.text(), emitter
