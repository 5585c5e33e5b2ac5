"""Nests of one mould: one function for all of them, with the bits of code of their own."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

import scalargrad as sg
from scalargrad.compiler import moulds
from scalargrad.compiler.clusters import ClusterCode
from scalargrad.compiler.ir import Function, Module
from scalargrad.compiler.moulds import Moulds, mould_of
from scalargrad.compiler.tiles import Ref

BENDS = {
    "relu": lambda v: v.relu(),
    "slope 0.1": lambda v: v.leaky_relu(0.1),
    "slope 0.3": lambda v: v.leaky_relu(0.3),
    "exp": lambda v: (-v * v).exp(),
    "sine": lambda v: v.sin(),
    "cosine": lambda v: v.cos(),
    "less": lambda v: v - 0.0,
    "more": lambda v: v + 0.0,
    "turned": lambda v: -v * v,
}


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")


def layered(bends, size):
    """Layers of one size, which differ in what bends their results."""
    rng = random.Random(3)
    weights = [
        [[sg.Value(rng.uniform(-1.0, 1.0)) for _ in range(size)] for _ in range(size)]
        for _ in bends
    ]

    def total(x):
        for rows, bend in zip(weights, bends):
            x = [BENDS[bend](sum(w * v for w, v in zip(row, x))) for row in rows]
        return sum(x)

    return total


def answers(total, size, batch, **options):
    f = sg.compile(total, batch="mean" if batch else None, **options)
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (batch, size) if batch else size)
    f.value_and_grad(x)
    text = "" if options else f.llvm_ir()  # and with it the code
    value, gradient = f.value_and_grad(x)
    return text, np.append(gradient, value).tobytes()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    bends=st.lists(st.sampled_from(sorted(BENDS)), min_size=2, max_size=5),
    size=st.integers(2, 9),
    batch=st.sampled_from((0, 5, 8)),
)
def test_layers_that_are_alike_have_the_bits_of_the_interpreter(monkeypatch, bends, size, batch):
    monkeypatch.setattr(moulds, "LEAST", 0)
    total = layered(bends, size)
    _, found = answers(total, size, batch)
    _, expected = answers(total, size, batch, backend="interpreter")
    assert found == expected


def test_equal_layers_are_one_function():
    total = layered(["relu", "exp", "relu", "relu", "exp"], 8)  # of which no turns are found
    text, found = answers(total, 8, 0)
    _, expected = answers(total, 8, 0, backend="interpreter")
    assert text.count("call void @mould0(") >= 3
    assert text.count("void @mould0(ptr %a0") == 1
    assert found == expected


def test_a_mould_that_leaves_something_out_would_be_seen(monkeypatch):
    monkeypatch.setattr(moulds, "LEAST", 0)
    monkeypatch.setattr(ClusterCode, "_described", lambda self, member: None)
    total = layered(["sine", "cosine", "sine", "sine", "cosine"], 8)
    _, found = answers(total, 8, 0)
    _, expected = answers(total, 8, 0, backend="interpreter")
    assert found != expected


def test_constants_are_of_the_mould_and_places_are_not():
    module = Module()
    refs = [
        [Ref(0, base, (1, 8)), Ref(0, 0, (0, 0), number=number)]
        for base in (0, 64)
        for number in (0.0, -0.0)
    ]
    first, other, moved, both = (mould_of(module, each, "facts") for each in refs)
    assert first.facts == moved.facts != other.facts == both.facts
    assert (first.places, moved.places) == (((0, 0),), ((0, 64),))
    assert mould_of(module, refs[0], "other facts").facts != first.facts


def test_refs_at_one_place_are_not_those_at_two():
    module = Module()
    one = mould_of(module, [Ref(0, 8, (1,)), Ref(0, 8, (1,))])
    two = mould_of(module, [Ref(0, 8, (1,)), Ref(0, 16, (1,))])
    assert one.facts != two.facts


def test_blocks_are_where_they_were_moved():
    module = Module(moved={(3, 32): -16})
    assert mould_of(module, [Ref(3, 40, (1,), block=32)]).places == ((3, 24),)


@pytest.mark.parametrize(
    "refs",
    [[Ref(0, 0, (1,), beyond=(0,))], [Ref(0, k, (1,)) for k in range(moulds.MOST + 1)]],
    ids=["from a table", "too many places"],
)
def test_code_of_its_own_has_no_mould(refs):
    assert mould_of(Module(), refs) is None


@pytest.mark.parametrize("lines", [moulds.LEAST - 4, moulds.LEAST // 2 - 4])
def test_a_function_spares_some_lines(lines):
    module = Module()
    nest = mould_of(module, [Ref(0, 0, (1,))])
    writer = Moulds(module, [(nest, None)] * 2)
    function = Function(module, "nests0")

    def write(into, _):
        for _ in range(lines):
            into.do("fence seq_cst")

    for _ in range(2):
        writer.write(function, write, nest, None)
    module.finish(function)
    alone = 2 + lines < moulds.LEAST
    assert ("@mould0" in module.text()) == (not alone)
    assert module.text().count("fence") == (2 * lines if alone else lines)
