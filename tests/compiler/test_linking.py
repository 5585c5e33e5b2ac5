"""Linking: what LLVM's linker does, bit for bit, or nothing."""

from __future__ import annotations

import ctypes
import platform
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import scalargrad as sg
from processes import run_python
from scalargrad import losses, nn
from scalargrad.compiler import linking, llvm
from scalargrad.compiler.linking import HEADER, RELOCATION, SECTION, SYMBOL, Foreign, Linked, load
from scalargrad.compiler.loops import Space
from scalargrad.compiler.native import NativeProgram

pytest.importorskip("llvmlite")
pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="left to LLVM there"
)

Function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


# --- programs ---------------------------------------------------------------------------------


def network() -> Callable[..., sg.Value]:
    model = nn.MLP(3, [9, 4], activation="tanh", rng=random.Random(0))
    return lambda x, y: losses.cross_entropy(model(x), y)


def library(x: Any, y: Any) -> sg.Value:
    """Calls every function of the mathematics library."""
    a, b, c = x
    some: sg.Value = a.exp() + (b.abs() + 1.0).log() + c.sin() * a.cos() + b.gelu() + c.tanh()
    return some + a.softplus() + (b.abs() + 0.5) ** c + y * a.sigmoid()


def program(function: Callable[..., sg.Value], **options: Any) -> NativeProgram:
    f = sg.compile(function, batch="mean", backend="llvm", **options)
    generator = np.random.default_rng(0)
    f.value_and_grad(generator.normal(size=(7, 3)), generator.integers(0, 4, 7))
    return f.native().frame.program


def results(own: NativeProgram) -> dict[Space, bytes]:
    """What it computes from numbers that are always the same, and small where they are indices."""
    generator, inputs = np.random.default_rng(1), {}
    for space in (Space.PARAMETER, Space.ARGUMENT, Space.EXAMPLE, Space.EXAMPLE_INDEX):
        numbers = generator.integers(0, 4, own.shape(space))
        inputs[space] = numbers if space == Space.EXAMPLE_INDEX else numbers - 1.375
    return {space: array.tobytes() for space, array in own.execute(inputs).items()}


@pytest.mark.parametrize("options", [{}, {"mode": "fast"}, {"dtype": "float32"}])
@pytest.mark.parametrize("function", [network(), library])
def test_programs_compute_what_they_do_when_llvm_links_them(
    function: Any, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = program(function, **options)
    assert isinstance(own._libraries[-1], Linked)
    monkeypatch.setattr(linking, "load", llvm.Library)
    other = NativeProgram(own.image, own.settings, lambda: own.loops, {})
    assert isinstance(other._libraries[-1], llvm.Library)
    assert results(own) == results(other)


def test_a_distance_that_is_wrong_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where tables are read at places that are computed, a wrong constant may lead out of memory.
    own = program(lambda x, y: (x[0] * 3.75 + x[1]) * 1.125 + y)
    code = bytearray(own.image.code)
    constants = relocations(code)["kind"] == linking.PLACE[0]
    relocations(code)["addend"][constants] += 64  # as the widest of them are aligned
    assert results(relinked(own, bytes(code), monkeypatch)) != results(own)
    relocations(code)["addend"][constants] -= 64
    assert results(relinked(own, bytes(code), monkeypatch)) == results(own)


def relinked(own: NativeProgram, code: bytes, monkeypatch: pytest.MonkeyPatch) -> NativeProgram:
    with monkeypatch.context() as patch:
        patch.setattr(linking, "load", lambda _, *rest: Linked(code, *rest))
        return NativeProgram(own.image, own.settings, lambda: own.loops, {})


START = """
import random, sys
import scalargrad as sg

model = sg.nn.MLP(3, [4], rng=random.Random(0))
f = sg.compile(lambda x: model(x)[0].tanh(), backend="llvm")
f.value_and_grad([0.5, 0.25, 0.125])
program = f.native().frame.program
value, gradient = f.value_and_grad([0.5, 0.25, 0.125])
loaded = [name in sys.modules for name in ("llvmlite.binding", "scalargrad.compiler.loops")]
print(value.hex(), gradient.tobytes().hex(), program.cached, *loaded)
"""


def test_code_from_the_cache_runs_without_llvm_and_analysis(tmp_path: Any) -> None:
    first, second = (
        run_python("-c", START, XDG_CACHE_HOME=str(tmp_path), SCALARGRAD_CACHE="").split()
        for _ in range(2)
    )
    assert first[2:] == ["False", "True", "True"]
    assert second[2:] == ["True", "False" if sg.compiled else "True", "False"]
    assert first[:2] == second[:2]


# --- small object files -----------------------------------------------------------------------


COUNTER = """
@count = global i64 41
@empty = global [512 x i64] zeroinitializer, align 64
@table = private unnamed_addr constant [4 x i64] [i64 3, i64 5, i64 7, i64 11]
declare i64 @outside(i64)

define i64 @next(i64 %step) {
  %before = load i64, ptr @count
  %after = add i64 %before, %step
  store i64 %after, ptr @count
  ret i64 %after
}
define i64 @sum(i64 %k) {
  %place = getelementptr i64, ptr @empty, i64 %k
  %zero = load i64, ptr %place
  %low = and i64 %k, 3
  %entry = getelementptr i64, ptr @table, i64 %low
  %prime = load i64, ptr %entry
  %sum = add i64 %zero, %prime
  store i64 1000, ptr %place
  ret i64 %sum
}
define i64 @calls(i64 %x) {
  %y = call i64 @outside(i64 %x)
  %z = add i64 %y, 1
  ret i64 %z
}
define i64 @address(i64 %x) {
  %where = ptrtoint ptr @outside to i64
  ret i64 %where
}
define i64 @own(i64 %x) {
  %where = ptrtoint ptr @next to i64
  ret i64 %where
}
"""
EXPORTS = ("next", "sum", "calls", "address", "own", "count")
OUTSIDE = Function(lambda x: 10 * x)
IMPORTS = {"outside": ctypes.cast(OUTSIDE, ctypes.c_void_p).value or 0}


@pytest.mark.parametrize("make", [Linked, llvm.Library])
def test_data_functions_and_addresses(make: Any) -> None:
    code = llvm.compile_text(COUNTER)
    one, other = make(code, IMPORTS, EXPORTS), make(code, IMPORTS, EXPORTS)
    call = {name: Function(one.addresses[name]) for name in EXPORTS}
    assert [call["next"](1), call["next"](10)] == [42, 52]
    assert ctypes.c_int64.from_address(one.addresses["count"]).value == 52
    assert Function(other.addresses["next"])(1) == 42  # each has data of its own
    assert [call["sum"](k) for k in (0, 1, 2, 3, 511, 511)] == [3, 5, 7, 11, 11, 1011]
    assert call["calls"](4) == 41
    assert call["address"](0) == IMPORTS["outside"]
    assert call["own"](0) == one.addresses["next"]


def rights(address: int) -> str:
    """What may be done with the memory at an address; "" if there is none."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            places, how, *_ = line.split()
            first, end = (int(place, 16) for place in places.split("-"))
            if first <= address < end:
                return how
    return ""


def test_code_is_not_writable_data_not_executable_and_both_go() -> None:
    library = Linked(llvm.compile_text(COUNTER), IMPORTS, EXPORTS)
    code, data = library.addresses["next"], library.addresses["count"]
    assert (rights(code), rights(data)) == ("r-xp", "rw-p")  # p: another process has its own
    del library
    assert (rights(code), rights(data)) == ("", "")


# --- what is left to LLVM ---------------------------------------------------------------------


def header(code: bytearray) -> Any:
    return np.frombuffer(code, HEADER, 1)


def sections(code: bytearray) -> Any:
    (head,) = header(code)
    return np.frombuffer(code, SECTION, head["count"], head["at"])


def table(code: bytearray, kind: int, record: np.dtype[Any]) -> Any:
    """The entries of the first section of a kind, to be changed."""
    section = sections(code)[sections(code)["kind"] == kind][0]
    return np.frombuffer(code, record, section["size"] // record.itemsize, section["at"])


def relocations(code: bytearray) -> Any:
    return table(code, linking.RELOCATIONS, RELOCATION)


def symbols(code: bytearray) -> Any:
    return table(code, linking.SYMBOLS, SYMBOL)


CHANGES: dict[str, Callable[[bytearray], Any]] = {
    "32 bits": lambda code: header(code).__setitem__("form", b"\x7fELF\x01\x01"),
    "a program": lambda code: header(code).__setitem__("kind", 2),
    "another CPU": lambda code: header(code).__setitem__("machine", 183),
    "no symbols": lambda code: change(sections(code), "kind", linking.SYMBOLS, 3),
    "notes in memory": lambda code: change(sections(code), "kind", linking.ZEROS, 7),
    "data of threads": lambda code: change(sections(code), "flags", 0x3, 0x403),
    "large pages": lambda code: change(sections(code), "alignment", 64, 1 << 21),
    "absolute addresses": lambda code: change(relocations(code), "kind", 2, 10),
    "places elsewhere": lambda code: change(relocations(code), "kind", 4, 2),
    "common data": lambda code: change(symbols(code), "section", 0, 0xFFF2),
}


def change(entries: Any, name: str, before: int, after: int) -> None:
    chosen = entries[name] == before
    assert chosen.any()
    entries[name][chosen] = after


@pytest.mark.parametrize("name", CHANGES)
def test_files_that_ask_for_more_are_left_to_llvm(name: str) -> None:
    code = bytearray(llvm.compile_text(COUNTER))
    Linked(bytes(code), IMPORTS, EXPORTS)
    CHANGES[name](code)
    with pytest.raises(Foreign):
        Linked(bytes(code), IMPORTS, EXPORTS)


def test_names_that_nobody_knows_are_left_to_llvm() -> None:
    code = llvm.compile_text(COUNTER)
    with pytest.raises(Foreign):
        Linked(code, {}, EXPORTS)
    with pytest.raises(Foreign):
        Linked(code, IMPORTS, ("nothing",))
    with pytest.raises(Foreign):
        Linked(b"no object file", IMPORTS, EXPORTS)


def test_llvm_links_what_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    code = llvm.compile_text(COUNTER)
    assert isinstance(load(code, IMPORTS, EXPORTS), Linked)
    monkeypatch.setattr(linking, "OURS", None)
    library = load(code, IMPORTS, EXPORTS)
    assert isinstance(library, llvm.Library)
    assert Function(library.addresses["next"])(1) == 42


def test_a_system_that_refuses_code_is_left_to_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    code, system = llvm.compile_text(COUNTER), ctypes.CDLL(None)
    monkeypatch.setattr(system, "mprotect", lambda *arguments: -1)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: system)
    with pytest.raises(Foreign):
        Linked(code, IMPORTS, EXPORTS)
