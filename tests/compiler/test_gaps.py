"""Sums that leave out what is zero: the bits of all terms, whichever of them are zero."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from scalargrad import get_num_threads, ops, set_num_threads
from scalargrad.compiler import clusters, emit, native
from scalargrad.compiler.gaps import Gaps
from scalargrad.compiler.ir import Module
from scalargrad.compiler.loops import Apply, Contract, Group, Loop, Loops, Operand, Segment, Space
from scalargrad.compiler.loops_check import verify

BATCH, UNITS = 64, 14


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Programs as for CPUs with few registers, in which little is enough to be listed."""
    monkeypatch.setattr(native.llvm, "vector_bits", lambda: (256, 16, True))
    monkeypatch.setattr(clusters, "_MANY", 0)
    monkeypatch.setattr(clusters, "_TILES", 0)


def layer(terms: int, biased: bool = True, units: int = UNITS) -> Loops:
    """y[i] = p[i, terms] + sum_k p[i, k] x[k] for every example, perhaps without the first."""
    stride = terms + 1
    weights, x = Operand(Space.PARAMETER, 0, (stride, 1)), Operand(Space.EXAMPLE, 0, (0, 1))
    products = Segment(weights, x, (Loop(terms),))
    bias = Segment(Operand(Space.PARAMETER, terms, (stride,)))
    group = Group((bias, products) if biased else (products,))
    step = Contract(Operand(Space.EXAMPLE_OUTPUT, 0, (1,)), (Loop(units),), (group,))
    sizes = {Space.PARAMETER: units * stride, Space.EXAMPLE: terms, Space.EXAMPLE_OUTPUT: units}
    return verify(Loops((step,), sizes, batched=True))


def layer_in_order(p: np.ndarray, x: np.ndarray, biased: bool = True) -> np.ndarray:
    weights = p.reshape(-1, x.shape[1] + 1)
    total = np.broadcast_to(weights[:, -1], (len(x), len(weights))) if biased else None
    for k in range(x.shape[1]):
        term = x[:, k : k + 1] * weights[:, k]
        total = term if total is None else total + term
    assert total is not None
    return total


def gated(terms: int, step: int) -> Loops:
    """z[i] = y[i] * sum_k q[i, k] x[k], y as in `layer`; x is read in steps of 1 or -1."""
    [first] = layer(terms).instructions
    assert isinstance(first, Contract)
    count = UNITS * (terms + 1)
    weights = Operand(Space.PARAMETER, count, (terms, 1))
    x = Operand(Space.EXAMPLE, 0 if step > 0 else terms - 1, (0, step))
    group = Group((Segment(weights, x, (Loop(terms),)),))
    sums = [Operand(Space.BATCHED, k * UNITS, (1,)) for k in range(2)]
    steps = (
        replace(first, result=sums[0]),
        Contract(sums[1], first.lanes, (group,)),
        Apply(Operand(Space.EXAMPLE_OUTPUT, 0, (1,)), first.lanes, ops.MUL, tuple(sums)),
    )
    sizes = {Space.PARAMETER: count + UNITS * terms, Space.EXAMPLE: terms}
    sizes |= {Space.BATCHED: 2 * UNITS, Space.EXAMPLE_OUTPUT: UNITS}
    return verify(Loops(steps, sizes, batched=True))


def gradient(rows: int, units: int) -> Loops:
    """gp[i, j] = 0.0 + sum over the examples, from the last on, of x[units + i] x[j]."""
    segment = Segment(Operand(Space.EXAMPLE, units, (1, 0)), Operand(Space.EXAMPLE, 0, (0, 1)))
    result = Operand(Space.PARAMETER_GRADIENT, 0, (units, 1))
    step = Contract(result, (Loop(rows), Loop(units)), (Group((segment,), -1),), start=0.0)
    sizes = {Space.EXAMPLE: rows + units, Space.PARAMETER_GRADIENT: rows * units}
    return verify(Loops((step,), sizes, batched=True))


def gradient_in_order(x: np.ndarray, units: int) -> np.ndarray:
    total = np.zeros((x.shape[1] - units, units), x.dtype)
    for example in x[::-1]:
        total += np.outer(example[units:], example[:units])
    return total


def some(shape: tuple[int, ...], share: float, dtype: str, seed: int = 0) -> np.ndarray:
    """Numbers of which a share is not zero; the zeros are of both signs."""
    rng = np.random.default_rng(seed)
    numbers = np.where(rng.uniform(size=shape) < share, rng.normal(size=shape), 0.0)
    return np.copysign(numbers, rng.normal(size=shape)).astype(dtype)


def bits(numbers: np.ndarray) -> bytes:
    return np.ascontiguousarray(numbers).tobytes()


def run(loops: Loops, p: np.ndarray, x: np.ndarray, mode: str = "exact") -> np.ndarray:
    made = native.build(loops, len(x), mode, str(x.dtype))
    return made.execute({Space.PARAMETER: p, Space.EXAMPLE: x})[Space.EXAMPLE_OUTPUT]


def numbers(terms: int, share: float, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    x = some((BATCH, terms), share, dtype)
    return some((UNITS * (terms + 1),), 0.9, dtype, 1), x


def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all entries of lists say that they are about the first term."""
    monkeypatch.setattr(Gaps, "term", lambda gaps, function, number: 0)


@pytest.mark.parametrize("dtype", native.REALS)
@pytest.mark.parametrize("terms", [37, 64])
@pytest.mark.parametrize(("share", "listed"), [(0.0, False), (0.02, True), (0.1, True), (1, False)])
def test_products_by_lists_have_the_bits_of_all(terms, share, listed, dtype, monkeypatch):
    p, x = numbers(terms, share, dtype)
    expected = layer_in_order(p, x)
    assert bits(run(layer(terms), p, x)) == bits(expected)
    wrong(monkeypatch)
    assert (bits(run(layer(terms), p, x)) != bits(expected)) == listed


@pytest.mark.parametrize("dtype", native.REALS)
@pytest.mark.parametrize(("share", "listed"), [(0.0, False), (0.04, True), (1, False)])
def test_gradients_by_lists_have_the_bits_of_all(share, listed, dtype, monkeypatch):
    rows, units = 64, 96
    x = some((BATCH, rows + units), share, dtype)
    expected = gradient_in_order(x, units)

    def got() -> np.ndarray:
        made = native.build(gradient(rows, units), BATCH, dtype=dtype)
        return made.execute({Space.EXAMPLE: x})[Space.PARAMETER_GRADIENT].reshape(rows, units)

    assert bits(got()) == bits(expected)
    wrong(monkeypatch)
    assert (bits(got()) != bits(expected)) == listed


SIGNED = st.sampled_from((0.0, -0.0))


@given(bias=SIGNED, weight=st.sampled_from((2.0, -2.0)), first=SIGNED, biased=st.booleans())
def test_a_sum_of_zeros_has_the_sign_of_all_its_terms(bias, weight, first, biased):
    """Also where it is -0.0 that all are added to."""
    terms = 16
    p = np.full((UNITS, terms + 1), weight)
    p[:, -1] = bias
    x = np.full((BATCH, terms), -0.0)
    x[:, 0] = first
    x[BATCH // 2 :, 1] = -first
    expected = layer_in_order(p.reshape(-1), x, biased)
    assert bits(run(layer(terms, biased), p.reshape(-1), x)) == bits(expected)


@cache
def program_of(terms: int) -> native.NativeProgram:
    """Made once for all the numbers that it is tried on."""
    return native.build(layer(terms), BATCH)


@given(
    shares=st.lists(st.sampled_from((0.0, 0.05, 0.5, 1.0)), min_size=8, max_size=8),
    seed=st.integers(0, 99),
    terms=st.sampled_from(range(16, 41, 4)),
)
def test_panels_may_differ_in_what_they_list(shares, seed, terms):
    p = some((UNITS * (terms + 1),), 0.9, "float64", seed)
    parts = [
        some((BATCH // 8, terms), share, "float64", seed + k) for k, share in enumerate(shares)
    ]
    x = np.concatenate(parts)
    got = program_of(terms).execute({Space.PARAMETER: p, Space.EXAMPLE: x})[Space.EXAMPLE_OUTPUT]
    assert bits(got) == bits(layer_in_order(p, x))


@pytest.mark.parametrize("share", [0.05, 1])
@pytest.mark.parametrize("step", [1, -1])
def test_what_else_reads_the_same_numbers_has_all_of_them(step, share):
    p, x = numbers(32, share)
    gates = some((UNITS, 32), 0.9, "float64", 2)
    both = np.concatenate([p, gates.reshape(-1)])
    gate: np.ndarray | float = -0.0
    for k in range(32):
        gate = gate + x[:, ::step][:, k : k + 1] * gates[:, k]
    assert bits(run(gated(32, step), both, x)) == bits(layer_in_order(p, x) * gate)


def test_nan_is_no_zero():
    p, x = numbers(32, 0.05)
    x[5, 3] = np.nan
    got = run(layer(32), p, x)
    assert np.isnan(got[5]).all()
    assert not np.isnan(np.delete(got, 5, axis=0)).any()


def test_fast_mode_is_as_near(monkeypatch):
    p, x = numbers(64, 0.05)
    expected = layer_in_order(p, x)
    np.testing.assert_allclose(run(layer(64), p, x, "fast"), expected, rtol=1e-12, atol=1e-13)
    wrong(monkeypatch)
    assert not np.allclose(run(layer(64), p, x, "fast"), expected)


@pytest.mark.parametrize("mode", native.MODES)
def test_workers_share_lists_and_have_the_bits_of_one(mode, monkeypatch):
    monkeypatch.setattr(emit, "LONG", 0.0)
    monkeypatch.setattr(emit, "WORTH", 1e-9)
    before, (p, x) = get_num_threads(), numbers(64, 0.05)
    made = native.build(layer(64), BATCH, mode)
    assert made.image.phases > 1
    found = []
    try:
        for count in (1, 2, 3, 7):
            set_num_threads(count)
            for _ in range(3):
                found.append(
                    bits(made.execute({Space.PARAMETER: p, Space.EXAMPLE: x})[Space.EXAMPLE_OUTPUT])
                )
    finally:
        set_num_threads(before)
    assert set(found) == {found[0]}
    if mode == "exact":
        assert found[0] == bits(layer_in_order(p, x))


def listed(loops: Loops, bits: int, registers: int) -> bool:
    """Whether a program for such a CPU has lists."""
    emitter = emit.Emitter(loops, Module("double", bits // 64, registers), BATCH)
    emitter.run()
    return "fcmp une" in emitter.module.text()


def test_only_what_callers_give_is_listed_where_registers_are_few(monkeypatch):
    assert listed(layer(64), 256, 16)
    assert not listed(layer(64), 512, 32)
    monkeypatch.setattr(clusters, "_MANY", BATCH * UNITS * 64 + 1)
    assert not listed(layer(64), 256, 16)
