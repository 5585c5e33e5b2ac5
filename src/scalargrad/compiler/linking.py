"""Linking: an object file laid in memory where it can run, and bound to the functions it calls.

LLVM can link, but loading LLVM takes longer than all else that code from the cache needs. What our
object files ask for is little: that their sections lie side by side, that the distances between
them are filled in, and that the addresses of what lies elsewhere stand in a table. That is done
here for files in the form of Linux on x86-64. One of another form, or that asks for more, is left
to LLVM.

The form is that of the System V Application Binary Interface, chapter 4, and of its supplement for
AMD64, chapter 4.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import llvm


def _record(size: int, /, **fields: tuple[int, str]) -> np.dtype[Any]:
    """Of so many bytes, with some fields: where among the bytes, and of what type."""
    places, types = zip(*fields.values())
    return np.dtype({"names": [*fields], "formats": types, "offsets": places, "itemsize": size})


HEADER = _record(
    64, form=(0, "S6"), kind=(16, "<u2"), machine=(18, "<u2"), at=(40, "<i8"), count=(60, "<u2")
)
SECTION = _record(
    64,
    kind=(4, "<u4"),
    flags=(8, "<u8"),
    at=(24, "<i8"),
    size=(32, "<i8"),
    link=(40, "<u4"),
    info=(44, "<u4"),
    alignment=(48, "<i8"),
)
SYMBOL = _record(24, name=(0, "<u4"), section=(6, "<u2"), at=(8, "<i8"))
RELOCATION = _record(24, at=(0, "<i8"), kind=(8, "<u4"), symbol=(12, "<u4"), addend=(16, "<i8"))

OURS = b"\x7fELF\x02\x01", 1, 62  # 64 bits, the lowest byte first; to be linked; x86-64
# Kinds of sections, and flags: those of ORDINARY ask for nothing but a place in memory.
CONTENT, SYMBOLS, RELOCATIONS, ZEROS, UNWINDING = 1, 2, 4, 8, 0x70000001
WRITABLE, IN_MEMORY, ORDINARY = 0x1, 0x2, 0x37
# Kinds of relocations. All fill in a distance in 4 bytes: to a place, to a function wherever it
# is, to where the address of something stands in the table.
PLACE, FUNCTION, ADDRESS = (2,), (4,), (9, 41, 42)

JUMP = b"\xff\x25\x02\x00\x00\x00\x66\x90"  # to the address that stands after these bytes
ENTRY = len(JUMP) + 8  # bytes of an entry of the table: this jump, and that address


class Foreign(Exception):
    """What has to be left to LLVM."""


def _require(understood: object) -> None:
    if not understood:
        raise Foreign


def _among(numbers: NDArray[Any], few: Iterable[int]) -> NDArray[np.bool_]:
    # As `np.isin`, which imports much when it is first called.
    among: NDArray[np.bool_] = np.logical_or.reduce([numbers == number for number in few])
    return among


class _File:
    """What an object file says; `Foreign` is raised where it says more than is understood here.

    sections     those in `loaded` have a place in memory
    symbols      what lies elsewhere is in section 0
    names        of the symbols that are not of this file alone -> which those are
    relocations  what is to be filled in, each in the section `within`
    """

    def __init__(self, code: bytes) -> None:
        self._code = code
        _require(len(code) >= HEADER.itemsize)
        header = np.frombuffer(code, HEADER, 1)[0]
        _require((header["form"], header["kind"], header["machine"]) == OURS)
        self.sections = sections = np.frombuffer(code, SECTION, header["count"], header["at"])
        kinds, flags = sections["kind"], sections["flags"]
        # Our code raises nothing, so nobody will ask for its callers.
        loaded = (flags & IN_MEMORY != 0) & (kinds != UNWINDING)
        ordinary = _among(kinds, (CONTENT, ZEROS)) & (flags | ORDINARY == ORDINARY)
        _require((ordinary & (sections["alignment"] <= mmap.PAGESIZE))[loaded].all())
        self.loaded = np.flatnonzero(loaded)

        _require(np.count_nonzero(kinds == SYMBOLS) == 1)
        (table,) = sections[kinds == SYMBOLS]
        self.symbols = np.frombuffer(self.content(table), SYMBOL)
        words, first = self.content(sections[table["link"]]), int(table["info"])
        self.names = {
            words[begin : words.index(0, begin)].decode(): k
            for k, begin in enumerate(self.symbols["name"][first:].tolist(), first)
        }

        (lists,) = np.nonzero((kinds == RELOCATIONS) & _among(sections["info"], self.loaded))
        parts = [np.frombuffer(self.content(sections[k]), RELOCATION) for k in lists]
        self.relocations = np.concatenate([np.empty(0, RELOCATION), *parts])
        self.within = np.repeat(sections["info"][lists], [len(part) for part in parts])
        home = self.symbols["section"][self.relocations["symbol"]]
        _require(_among(home, (0, *self.loaded)).all())
        _require(_among(self.relocations["kind"], (*PLACE, *FUNCTION, *ADDRESS)).all())
        _require(home[_among(self.relocations["kind"], PLACE)].all())

    def content(self, section: Any) -> bytes:
        """The bytes of a section."""
        begin = int(section["at"])
        return self._code[begin : begin + int(section["size"])]


class Linked:
    """See `load`; raises `Foreign` for what is left to LLVM."""

    def __init__(self, code: bytes, imports: Mapping[str, int], exports: Sequence[str]) -> None:
        file = _File(code)
        relocations, home = file.relocations, file.symbols["section"]
        wanted, by_address = relocations["symbol"], _among(relocations["kind"], ADDRESS)
        tabled = np.flatnonzero(np.bincount(wanted[by_address | (home[wanted] == 0)]))
        place, table, fixed, size = _layout(file, len(tabled))
        _require(size < 1 << 31)
        self._memory = memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        content = np.frombuffer(memory, np.uint8)
        start: int = content.ctypes.data
        for k in file.loaded:
            if file.sections["kind"][k] == CONTENT:
                here = file.content(file.sections[k])
                memory[place[k] : place[k] + len(here)] = here

        # Where symbols are, and where their addresses are.
        where = place[np.where(home < len(place), home, 0)] + file.symbols["at"]
        entry = np.zeros(len(home), np.int64)
        entry[tabled] = np.arange(table, table + ENTRY * len(tabled), ENTRY)
        address = start + where
        for name, number in file.names.items():
            if home[number] == 0:
                _require(name in imports)
                where[number], address[number] = entry[number], imports[name]
        for begin, known in zip(entry[tabled], address[tabled]):
            memory[begin : begin + ENTRY] = JUMP + known.tobytes()

        at = place[file.within] + relocations["at"]
        goal = np.where(by_address, entry[wanted] + len(JUMP), where[wanted])
        distance = (goal + relocations["addend"] - at).astype("<i4")
        content[at[:, None] + np.arange(4)] = distance.view(np.uint8).reshape(-1, 4)
        _make_executable(start, fixed)
        _require(file.names.keys() >= {*exports})
        self.addresses = {name: int(address[file.names[name]]) for name in exports}


def _layout(file: _File, entries: int) -> tuple[NDArray[np.int64], int, int, int]:
    """Where each section begins, and the table; the end of what is only read; the end of all."""
    place, end, table, fixed = np.zeros(len(file.sections), np.int64), 0, 0, 0
    for writable in (False, True):
        for k in file.loaded:
            section = file.sections[k]
            if bool(section["flags"] & WRITABLE) == writable:
                place[k] = end = _up(end, int(section["alignment"]))
                end += int(section["size"])
        if not writable:
            table = _up(end, ENTRY)
            fixed = end = _up(table + ENTRY * entries, mmap.PAGESIZE)
    return place, table, fixed, end


def _up(place: int, alignment: int) -> int:
    return -(-place // max(alignment, 1)) * max(alignment, 1)


def _make_executable(start: int, size: int) -> None:
    """Have memory be code, and no longer writable."""
    readable, executable = 1, 4
    protect = ctypes.CDLL(None).mprotect
    failed = protect(ctypes.c_void_p(start), ctypes.c_size_t(size), readable | executable)
    _require(not failed)


Loaded: TypeAlias = Linked | llvm.Library


def load(code: bytes, imports: Mapping[str, int], exports: Sequence[str]) -> Loaded:
    """An object file in memory, linked against the given addresses.

    It is there as long as what this returns, whose `addresses` are those of the exports.
    """
    try:
        return Linked(code, imports, exports)
    except Foreign:
        return llvm.Library(code, imports, exports)
