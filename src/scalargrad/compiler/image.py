"""What is kept of a native program from one process to the next: its code, and what it runs on.

A program is named by what it was made of: the tape, what its leaves mean, the options, the machine,
its mathematics library and the compiler. One whose name is known needs no analysis and no compiler,
only to be loaded. The form on disk is plain: a head of numbers as JSON, then arrays, then the code;
nothing in it is executed but the code itself, whose digest the cache has checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache as once
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..tape import Tape
from . import llvm
from .answers import answers
from .cache import Stamp, key, stamps
from .marks import Marks
from .spaces import Space

_ARRAYS = ("constants", "table", "walks")
_COUNTS = ("slots", "scratch", "terms", "walked", "phases", "workers")
_KINDS = ("<f8", "<i4", "<i8")


class Image(NamedTuple):
    """A program's code and the memory it needs.

    sizes      elements of each space that has any
    lengths    numbers that each space takes in memory
    slots      of the environment
    scratch    numbers of scratch memory
    terms      terms and operations that a run computes, about
    walked     terms of walks that are not short: if any, the interpreter may be quicker
    phases     in which several workers can run it; 0 if only one can
    workers    more of them are of no use
    shared     share of the work that they share
    constants, table, walks    the contents of the read-only arrays
    """

    code: bytes
    sizes: dict[Space, int]
    lengths: dict[Space, int]
    slots: int
    scratch: int
    terms: int
    walked: int
    phases: int
    workers: int
    shared: float
    constants: NDArray[np.float64]
    table: NDArray[np.int32]
    walks: NDArray[Any]

    def pack(self) -> bytes:
        """The image as bytes."""
        arrays = [np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS]
        arrays = [array.astype(array.dtype.newbyteorder("<")) for array in arrays]
        numbers = {
            "sizes": [self.sizes.get(space, 0) for space in Space],
            "lengths": [self.lengths.get(space, 0) for space in Space],
            "slots": self.slots,
            "scratch": self.scratch,
            "terms": self.terms,
            "walked": self.walked,
            "phases": self.phases,
            "workers": self.workers,
            "shared": self.shared,
            "arrays": [(array.dtype.str, len(array)) for array in arrays],
        }
        head = json.dumps(numbers).encode()
        parts = [len(head).to_bytes(8, "little"), head, *(a.tobytes() for a in arrays), self.code]
        return b"".join(parts)

    @staticmethod
    def unpack(content: bytes) -> Image | None:
        """The image in some bytes; None if there is none."""
        try:
            start = 8 + int.from_bytes(content[:8], "little")
            numbers = json.loads(content[8:start])
            arrays = []
            for kind, count in numbers["arrays"]:
                if kind not in _KINDS:
                    return None
                array = np.frombuffer(content, kind, count, start) if count else np.empty(0, kind)
                arrays.append(array.astype(array.dtype.newbyteorder("=")))
                start += array.nbytes
            sizes, lengths = (
                {space: int(n) for space, n in zip(Space, numbers[name], strict=True)}
                for name in ("sizes", "lengths")
            )
            slots, scratch, terms, walked, phases, workers = (
                int(numbers[name]) for name in _COUNTS
            )
            shared = float(numbers["shared"])
            constants, table, walks = arrays
        except (ValueError, KeyError, TypeError):
            return None
        sizes = {space: size for space, size in sizes.items() if size}
        code = content[start:]
        counts = (slots, scratch, terms, walked, phases, workers, shared)
        return Image(code, sizes, lengths, *counts, constants, table, walks)


# --- names ----------------------------------------------------------------------------------------


def name_of(tape: Tape, marks: Marks, *settings: object) -> str:
    """The name of a program: others, all but surely, have others.

    `settings` are whatever else the code depends on, as values whose `repr` tells them apart.
    """
    given = marks.space == Space.CONSTANT  # the numbers of other leaves are those of one call
    arrays = (
        *(tape.op, tape.lhs, tape.rhs, tape.const, tape.many, tape.index, tape.outputs),
        *(marks.space, marks.place, np.where(given, marks.number, 0.0)),
        *(marks.index_space, marks.index_place),
    )
    facts = (
        tape.leaves,
        sorted(marks.sizes.items()),
        *(marks.batch, marks.penalty, marks.wanted, marks.accumulate),
        *(settings, llvm.target(), _compiler(), sorted(answers().items())),
    )
    return key((repr(facts).encode(), *digestible(arrays)))


def digestible(arrays: Iterable[NDArray[Any]]) -> Iterable[bytes]:
    """The bytes of arrays, with their kinds and shapes."""
    for array in arrays:
        yield f"{array.dtype.str}{array.shape}".encode()
        yield array.tobytes()


@once
def _compiler() -> tuple[Stamp, ...]:
    """Which compiler this is: the files it consists of."""
    here, endings = Path(__file__).parent, (".py", ".so", ".pyd")
    return *stamps(here, endings), *stamps(here.parent, endings)
