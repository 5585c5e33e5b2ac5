"""Which CPU this is: the same whoever asks, and what LLVM says of it."""

from __future__ import annotations

import platform
import sys

import pytest

import scalargrad as sg
from processes import run_python
from scalargrad.compiler import llvm, processor
from scalargrad.compiler.processor import LEAVES, identity

ASK = "from scalargrad.compiler.processor import identity; print(identity())"

# Leaf, part, register, bit, and what LLVM calls it.
FEATURES = (
    (0x1, 0, 2, 20, "sse4.2"),
    (0x7, 0, 1, 3, "bmi"),
    (0x7, 0, 1, 5, "avx2"),
    (0x7, 0, 1, 16, "avx512f"),
    (0x7, 0, 2, 9, "vaes"),
    (0x80000001, 0, 2, 5, "lzcnt"),
)


def test_every_process_finds_the_same() -> None:
    assert run_python("-c", ASK).strip() == str(identity())


@pytest.mark.skipif(
    not sg.compiled or (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="nobody can ask the CPU",
)
def test_it_tells_what_llvm_tells() -> None:
    pytest.importorskip("llvmlite")
    places = [(leaf, part, which) for leaf, part, chosen in LEAVES for which in chosen]
    numbers = identity()
    assert len(numbers) == len(places) + 1
    saved = numbers[-1]
    assert saved & 0b110 == 0b110 or "+avx2" not in llvm.host()[1]
    known = llvm.host()[1].split(",")
    for leaf, part, which, bit, name in FEATURES:
        has = bool(numbers[places.index((leaf, part, which))] >> bit & 1)
        assert has == (f"+{name}" in known), name


def test_llvm_is_asked_where_the_cpu_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llvmlite")
    monkeypatch.setattr(processor, "identity", lambda: ())
    assert llvm.target.__wrapped__()[0] == llvm.host()
    monkeypatch.setattr(processor, "identity", lambda: (1, 2))
    assert llvm.target.__wrapped__()[0] == (1, 2)


def test_other_versions_of_llvm_are_other_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    llvmlite = pytest.importorskip("llvmlite")
    before = llvm.target.__wrapped__()
    monkeypatch.setattr(llvmlite, "__version__", "0.0")
    assert llvm.target.__wrapped__() != before
    monkeypatch.undo()
    assert llvm.target.__wrapped__() == before
    assert any("llvmlite" in str(part) for part in before[1][1:])  # the library itself
