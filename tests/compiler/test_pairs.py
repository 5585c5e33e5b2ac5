"""Sines and cosines of the same angle, computed at once: the bits of each computed alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

import scalargrad as sg
from scalargrad.compiler import answers, native
from scalargrad.compiler.calling import sines_and_cosines
from scalargrad.compiler.environment import PAIR, PREFIX, library_addresses

CALL = f"@{PREFIX}{PAIR}("


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")


def turned(x, y):
    """A rotation, whose gradient needs sine and cosine as well, and other functions of its angle."""
    angle = x * y
    s, c = angle.sin(), angle.cos()
    return (x * c - y * s) ** 2 + angle.exp() * (x * s + y * c)


def compiled(monkeypatch, pairs, batch=None, **options):
    monkeypatch.setattr(native, "has_pairs", lambda: pairs)
    f = sg.compile(turned, batch=batch, **options)
    x = np.linspace(-2.0, 3.0, 11) if batch else 0.7
    y = np.linspace(1.5, -1.0, 11) if batch else -1.2
    f.value_and_grad(x, y, wrt=(0, 1))
    text = f.llvm_ir()  # and with it the code
    value, slopes = f.value_and_grad(x, y, wrt=(0, 1))
    return text, np.array([value, *np.ravel(slopes)])


@pytest.mark.parametrize("batch", [None, "mean"])
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_both_at_once_have_the_bits_of_each_alone(monkeypatch, batch, mode):
    text, alone = compiled(monkeypatch, False, batch, mode=mode)
    assert CALL not in text
    text, both = compiled(monkeypatch, answers.has_pairs(), batch, mode=mode)
    assert (CALL in text) == answers.has_pairs()
    assert both.tobytes() == alone.tobytes()
    if mode == "exact":
        oracle = sg.compile(turned, batch=batch, backend="interpreter")
        x = np.linspace(-2.0, 3.0, 11) if batch else 0.7
        y = np.linspace(1.5, -1.0, 11) if batch else -1.2
        value, slopes = oracle.value_and_grad(x, y, wrt=(0, 1))
        assert both.tobytes() == np.array([value, *np.ravel(slopes)]).tobytes()


def test_both_at_once_in_float32(monkeypatch):
    options = {"batch": "mean", "dtype": "float32", "mode": "fast"}
    _, alone = compiled(monkeypatch, False, **options)
    _, both = compiled(monkeypatch, answers.has_pairs(), **options)
    assert both.tobytes() == alone.tobytes()


def test_one_alone_stays_alone(monkeypatch):
    monkeypatch.setattr(native, "has_pairs", lambda: True)
    f = sg.compile(lambda x, y: x.sin() + y.cos())
    assert f(0.3, 0.4) == math.sin(0.3) + math.cos(0.4)
    f.native()
    assert CALL not in f.llvm_ir()
    assert f(0.3, 0.4) == math.sin(0.3) + math.cos(0.4)


needs_pairs = pytest.mark.skipif(
    PREFIX + PAIR not in library_addresses(), reason=f"the mathematics library has no {PAIR}"
)


@needs_pairs
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_library_has_the_same_bits_both_ways(x):
    found = np.empty(4)
    angles = np.array([0.5, x])
    sines_and_cosines(library_addresses()[PREFIX + PAIR], angles.data, found.data)
    if answers.has_pairs():
        assert found.tolist() == [math.sin(0.5), math.cos(0.5), math.sin(x), math.cos(x)]


@pytest.fixture
def _asked_anew():
    """What the library answered before does not count, nor afterwards what it is made to answer."""
    known = answers.answers, answers.has_pairs
    for answer in known:
        answer.cache_clear()
    yield
    for answer in known:
        answer.cache_clear()


@needs_pairs
@pytest.mark.usefixtures("_asked_anew")
def test_a_library_with_other_bits_is_noticed(monkeypatch):
    found = answers._pairs()
    found[1000] = np.nextafter(found[1000], 2.0)
    monkeypatch.setattr(answers, "_pairs", lambda: found)
    assert not answers.has_pairs()


@pytest.mark.usefixtures("_asked_anew")
def test_a_library_without_it_does_without(monkeypatch):
    monkeypatch.setattr(answers, "library_addresses", dict)
    assert not answers.has_pairs()
