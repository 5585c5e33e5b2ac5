"""Long programs are compiled to a draft first, and then well: the same bits, and no switch is seen."""

from __future__ import annotations

import gc
import threading
import weakref
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import scalargrad as sg
from compiler.test_native import agree, bits, prepared  # type: ignore[import-not-found]
from programs import sparse
from programs.corpus import CORPUS
from scalargrad.compiler import jit, llvm, native
from scalargrad.compiler.background import later
from scalargrad.compiler.loops import Space


@pytest.fixture(autouse=True)
def _all_drafts(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")
    monkeypatch.setattr(native, "LENGTHY", 0)


@pytest.fixture
def levels(monkeypatch):
    """The levels at which LLVM has compiled something."""
    compiled, real = [], llvm.compile_text

    def compile_text(text, level=llvm.LEVEL):
        compiled.append(level)
        return real(text, level)

    monkeypatch.setattr(llvm, "compile_text", compile_text)
    return compiled


def function(x):
    return sum((v * w).exp() * v for v, w in pairwise(x))


X = np.linspace(-1.0, 1.0, 40)


@pytest.mark.parametrize("case", CORPUS, ids=str)
@pytest.mark.parametrize("batch", [None, 7, 20], ids=lambda b: f"batch {b}")
def test_drafts_have_the_bits_of_the_reference(case, batch, monkeypatch):
    build = native.build
    monkeypatch.setattr(native, "build", lambda loops, batch: build(loops, batch, quick=True))
    loops, inputs = prepared(case, None if batch is None else "mean", batch or 1)
    agree(loops, inputs, batch)


@pytest.mark.parametrize("batch", [None, 7])
def test_a_frame_runs_the_better_code_as_soon_as_there_is_some(batch, levels):
    loops, inputs = prepared(CORPUS[0], None if batch is None else "mean", batch or 1)
    program = native.build(loops, batch, quick=True)
    frame, before = program.frame(), program.execute(inputs)
    for space, numbers in inputs.items():
        if program.size(space):
            frame.arrays[space][...] = np.asarray(numbers).reshape(program.shape(space))
    assert program.draft
    assert levels[-1] == llvm.QUICK
    draft = program.image.code
    program.improve()
    assert not program.draft
    assert levels[-1] == llvm.LEVEL
    assert program.image.code != draft
    frame.run()
    space = Space.OUTPUT
    assert bits(frame.arrays[space]).tolist() == bits(before[space]).tolist()
    program.improve()  # which there is no more of
    assert levels.count(llvm.LEVEL) == 1


def test_what_runs_is_the_better_code(monkeypatch):
    other = {}
    for quick in (True, False):
        loops, inputs = prepared(CORPUS[0], None, 1)
        other[quick] = native.build(loops, quick=quick)
    program, text = other[True], other[False].llvm_ir
    wrong = text.replace("fadd", "fsub")
    assert wrong != text
    expected = program.execute(inputs)[Space.OUTPUT]
    monkeypatch.setattr(program, "draft", wrong)
    program.improve()
    assert bits(program.execute(inputs)[Space.OUTPUT]).tolist() != bits(expected).tolist()


@pytest.mark.parametrize(
    ("options", "lines", "drafts"),
    [
        ({"quick": True}, 0, True),
        ({"quick": True}, 10**6, False),
        ({"quick": False}, 0, False),
        ({"quick": True, "mode": "fast"}, 0, False),
    ],
    ids=["a draft", "short", "not asked for", "fast mode, whose bits would differ"],
)
def test_which_programs_are_drafted(options, lines, drafts, monkeypatch):
    monkeypatch.setattr(native, "LENGTHY", lines)
    loops, _ = prepared(CORPUS[0], None, 1)
    assert bool(native.build(loops, **options).draft) == drafts


def test_walks_are_not():
    loops, _ = prepared(sparse.network(1500), None, 1)
    assert not native.build(loops, quick=True).draft


def test_a_function_gets_better_code_in_the_background(levels):
    f = sg.compile(function)
    expected = f.value_and_grad(X)
    kernel = f.native()
    answers = [f.value_and_grad(X) for _ in range(3)]
    later(lambda: None).result()
    answers += [f.value_and_grad(X) for _ in range(3)]
    assert not kernel.frame.program.draft
    assert levels == [llvm.QUICK, llvm.LEVEL]
    for value, gradient in answers:
        assert value.hex() == expected[0].hex()
        assert gradient.tobytes() == expected[1].tobytes()


def test_a_draft_that_nobody_has_is_left_at_that(levels):
    held, done = threading.Event(), threading.Event()
    f = sg.compile(function)
    f.value_and_grad(X)
    f.native()
    later(lambda: None).result()
    levels.clear()
    program = native.build(prepared(CORPUS[0], None, 1)[0], quick=True)
    known = weakref.ref(program)
    waiting = later(lambda: (held.set(), done.wait(20.0)))
    held.wait(20.0)
    work = later(lambda: jit._improve(known))
    del program
    gc.collect()
    done.set()
    assert waiting.result()
    work.result()
    assert levels == [llvm.QUICK]


def test_only_what_is_good_is_kept_on_disk(monkeypatch, tmp_path, levels):
    monkeypatch.setenv("SCALARGRAD_CACHE", "1")
    kept = native.Cache(tmp_path)
    loops, _ = prepared(CORPUS[0], None, 1)
    program = native.recall("name", lambda: loops, cache=kept, quick=True)
    assert kept.get("name") is None
    program.improve()
    again = native.recall("name", lambda: loops, cache=kept, quick=True)
    assert again.cached
    assert not again.draft
    assert again.image.code == program.image.code
    assert levels == [llvm.QUICK, llvm.LEVEL]
