"""Code for CPUs with other vectors than this one's, run on this one: the bits are the same.

LLVM computes vectors wider than the CPU's in parts, so that code for AVX-512 runs anywhere. Only
the instructions that estimate reciprocals and roots are written out here, with their 14 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from compiler.loop_cases import (  # type: ignore[import-not-found]
    apply_cases,
    chain_cases,
    contract_cases,
    places_written,
    select_cases,
    walk_cases,
)
from programs import sparse
from programs.case import Case, capture, data_for, inputs_for
from programs.corpus import CORPUS
from scalargrad import ops
from scalargrad.compiler import ir, llvm, native, vectormath
from scalargrad.compiler.loops import Apply, Loop, Loops, Operand, Space, Walk
from scalargrad.compiler.reference import execute
from scalargrad.compiler.roll import roll

Inputs = dict[Space, np.ndarray]

CPUS = {
    "AVX-512": (512, 32, True),
    "AVX2": (256, 16, True),
    "SSE2": (128, 16, False),
    "AArch64": (128, 32, True),
    "no vectors": (64, 16, False),
}
AVX_512, OTHERS = "AVX-512", ("AVX-512", "SSE2")
RESULTS = (Space.OUTPUT, Space.EXAMPLE_OUTPUT, Space.PARAMETER_GRADIENT, Space.EXAMPLE_GRADIENT)


def leading(function: ir.Function, number: str) -> str:
    """The first 14 bits of eight numbers."""
    bits = function.emit(f"bitcast <8 x double> {number} to <8 x i64>")
    mask = ir.repeated("i64", str(-1 << 38), 8)
    return function.emit(
        f"bitcast <8 x i64> {function.emit(f'and <8 x i64> {bits}, {mask}')} to <8 x double>"
    )


def reciprocal(function: ir.Function, x: str) -> str:
    one = function.module.constant(1.0, 8)
    return leading(function, function.emit(f"fdiv <8 x double> {one}, {x}"))


def root(function: ir.Function, x: str) -> str:
    name, kind = "llvm.sqrt.v8f64", "<8 x double>"
    return reciprocal(function, function.call(kind, name, [kind], [x]))


def zero_or_infinite(function: ir.Function, x: str) -> str:
    masks = [
        function.emit(f"fcmp oeq <8 x double> {x}, {function.module.constant(number, 8)}")
        for number in (0.0, np.inf)
    ]
    return function.emit(f"or <8 x i1> {masks[0]}, {masks[1]}")


WRITTEN_OUT: dict[str, Callable[[ir.Function, str], str]] = {
    "llvm.x86.avx512.rcp14.pd.512": reciprocal,
    "llvm.x86.avx512.rsqrt14.pd.512": root,
    "llvm.x86.avx512.fpclass.pd.512": zero_or_infinite,
}
CALL = ir.Function.call


def call(
    function: ir.Function, returns: str, name: str, kinds: Sequence[str], values: Sequence[str]
) -> str:
    """`ir.Function.call` of what every CPU has."""
    if name in WRITTEN_OUT:
        return WRITTEN_OUT[name](function, values[0])
    return CALL(function, returns, name, kinds, values)


@pytest.fixture(autouse=True)
def cpu(request, monkeypatch):
    """Have code written for a CPU of that name."""
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")
    monkeypatch.setattr(llvm, "vector_bits", lambda: CPUS[request.param])
    monkeypatch.setattr(ir.Function, "call", call)
    return request.param


def on(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("cpu", names, indirect=True)


def bits(numbers: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(numbers), np.nan, numbers).view(np.int64)


def agree(loops: Loops, inputs: Inputs, batch: int | None) -> None:
    expected, got = execute(loops, inputs, batch), native.build(loops, batch).execute(inputs)
    for space, places in places_written(loops).items():
        if space in got:
            own, true = got[space][..., places], expected[space][..., places]
            np.testing.assert_array_equal(bits(own), bits(true), space.name)


def prepared(case: Case, batch: int | None) -> tuple[Loops, Inputs]:
    mean = None if batch is None else "mean"
    tape, marks, parameters, _ = capture(case, mean, penalty=batch is not None)
    return roll(tape, marks), inputs_for(case, data_for(case, batch or 1), parameters, mean)


# --- exact mode ----------------------------------------------------------------------------------


@on(*OTHERS)
@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.one_of(contract_cases(), apply_cases(), select_cases(), chain_cases(), walk_cases()))
def test_instructions_of_any_form_have_the_bits_of_the_reference(cpu, case):
    agree(*case)


@on(*CPUS)
@pytest.mark.parametrize("case", CORPUS[:4], ids=str)
def test_real_programs_have_the_bits_of_the_reference(cpu, case):
    for batch in (None, 20):
        agree(*prepared(case, batch), batch)


@on(*OTHERS)
def test_walks_of_a_batch_have_the_bits_of_the_reference(cpu):
    loops, inputs = prepared(sparse.network(1500), 20)
    assert any(isinstance(step, Walk) for step in loops.instructions)
    agree(loops, inputs, 20)


# --- fast mode -----------------------------------------------------------------------------------


@on(*OTHERS)
@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("case", CORPUS[:4], ids=str)
def test_fast_mode_is_within_its_bounds(cpu, case, dtype, bound):
    for batch in (None, 20):
        loops, inputs = prepared(case, batch)
        expected = execute(loops, inputs, batch)
        got = native.build(loops, batch, "fast", dtype).execute(inputs)
        for space in set(RESULTS) & set(got):
            scale = np.abs(expected[space]).max(initial=0.0)
            assert np.abs(got[space] - expected[space]).max(initial=0.0) <= bound * scale


def quotients_and_roots(x: np.ndarray) -> np.ndarray:
    """1 / x, 2 / x and the root of x by native code in fast mode."""
    n = len(x)
    source = Operand(Space.PARAMETER, 0, (1,))
    one, two = (Operand(Space.CONSTANT, k, (0,)) for k in range(2))
    steps = (
        Apply(Operand(Space.OUTPUT, 0, (1,)), (Loop(n),), ops.DIV, (one, source)),
        Apply(Operand(Space.OUTPUT, n, (1,)), (Loop(n),), ops.DIV, (two, source)),
        Apply(Operand(Space.OUTPUT, 2 * n, (1,)), (Loop(n),), ops.SQRT, (source,)),
    )
    sizes = {Space.PARAMETER: n, Space.OUTPUT: 3 * n, Space.CONSTANT: 2}
    loops = Loops(steps, sizes, np.array([1.0, 2.0]))
    program = native.build(loops, mode="fast")
    return program.execute({Space.PARAMETER: x})[Space.OUTPUT].reshape(3, n)


@on(AVX_512)
def test_reciprocals_and_roots_from_estimates(cpu, monkeypatch):
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, 1e300, 1e-300])
    x = np.append(np.exp(np.random.default_rng(0).uniform(-600, 600, 1000)), special)
    with np.errstate(all="ignore"):
        expected = np.array([1 / x, 2 / x, np.sqrt(x)])
    np.testing.assert_allclose(quotients_and_roots(x), expected, rtol=4 * np.finfo(float).eps)
    monkeypatch.setattr(vectormath, "reciprocal", lambda m, x: reciprocal(m.function, x))
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(quotients_and_roots(x), expected, rtol=1e-6)
