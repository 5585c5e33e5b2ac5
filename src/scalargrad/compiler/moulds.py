"""Nests that differ in nothing but where their numbers lie: one function for all of them.

Many nests are alike: those of equal layers, those that copy equal matrices. Compiling their code
takes as long as many runs of it, so they are written once, as a function that is told the places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, TypeAlias

from .ir import Function, Module
from .loops import INTEGERS
from .tiles import Division, Ref

MOST = 8  # places that a function is told; most of them in registers
LEAST = 100  # lines that a function spares: LLVM takes as long for one of a few lines
PORTION = "i64 %worker, i64 %workers"
Write: TypeAlias = Callable[[Function, Division | None], None]


class Mould(NamedTuple):
    """What the code of a nest depends on, and the places of its numbers: slots and elements."""

    facts: Hashable
    places: tuple[tuple[int, int], ...]


def mould_of(module: Module, refs: Sequence[Ref], *facts: Hashable) -> Mould | None:
    """The mould of a nest with these refs; None if its code is its own.

    Equal facts must mean equal code. (Zeros of either sign are equal.)
    """
    places: dict[tuple[int, int], int] = {}
    shapes: list[Hashable] = []
    for ref in refs:
        if ref.beyond is not None:
            return None
        if ref.number is not None:
            shapes.append(module.written(ref.number))
            continue
        place = ref.slot, ref.base + module.moved.get((ref.slot, ref.block), 0)
        number = places.setdefault(place, len(places))
        shapes.append((number, ref.slot in INTEGERS, ref.strides, ref.padded))
    return Mould((facts, tuple(shapes)), tuple(places)) if len(places) <= MOST else None


class Moulds:
    """Writes nests, those of one mould as calls of one function."""

    def __init__(
        self, module: Module, nests: Sequence[tuple[Mould | None, Division | None]]
    ) -> None:
        """`nests` are all that will be written."""
        self._module = module
        self._count = Counter((mould.facts, division) for mould, division in nests if mould)
        self._names: dict[Hashable, str] = {}

    def write(
        self, function: Function, nest: Write, mould: Mould | None, division: Division | None
    ) -> None:
        """Write a nest into a function."""
        name = "" if mould is None else self._name(nest, mould, division)
        if mould is None or not name:
            nest(function, division)
            return
        told = []
        for slot, element in mould.places:
            kind = "i64" if slot in INTEGERS else self._module.real
            told.append(f"ptr {function.at(kind, function.pointer(slot), element)}")
        told += [PORTION] if division is not None else []
        function.do(f"call void @{name}({', '.join(told)})")

    def _name(self, nest: Write, mould: Mould, division: Division | None) -> str:
        """The function for a mould, which is written when it is first needed; "" if it has none."""
        key = mould.facts, division
        if self._count[key] == 1:
            return ""
        if key not in self._names:
            self._names[key] = name = f"mould{len(self._names)}"
            given = {place: f"%a{k}" for k, place in enumerate(mould.places)}
            parameters = [f"ptr {argument}" for argument in given.values()]
            parameters += [PORTION] if division is not None else []
            function = Function(self._module, name, ", ".join(parameters), given=given)
            nest(function, division)
            if len(function.lines) * (self._count[key] - 1) < LEAST:
                self._names[key] = ""
            else:
                self._module.finish(function)
        return self._names[key]
