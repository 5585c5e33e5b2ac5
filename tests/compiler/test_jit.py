"""The native back end behind `compile`: the eager engine's bits, whoever computes them when."""

from __future__ import annotations

import functools
import math
import operator
import random
import time
from typing import Any

import numpy as np
import pytest

import scalargrad as sg
from checking import change_last_bits
from generated import LONG, program
from scalargrad import Value, losses, nn
from scalargrad.compiler import jit
from scalargrad.errors import TraceError
from strategies import on_values

pytest.importorskip("llvmlite")

COUNT = 2_000 if LONG else 60


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call waits for native code instead of being interpreted meanwhile."""
    monkeypatch.setattr(jit, "PATIENCE", 0)
    monkeypatch.setattr(jit, "TIERED", ())


def bits(x: float) -> str:
    return "nan" if math.isnan(x) else float(x).hex()


def wanted_and_got(seed: int, batch: int) -> tuple[list[str], list[str]]:
    """Value and gradients of a random program, by the engine and by native code."""
    rng = random.Random(seed)
    drawn = program(rng, size=12)
    count = len(drawn.inputs)
    weights = [Value(rng.gauss(0.0, 1.0)) for _ in range(2)]

    def function(x: list[Value]) -> Value:
        results = drawn.run(list(x), on_values)
        return results[-1] * weights[0] + results[len(results) // 2] * weights[1]

    rows = np.array([[rng.gauss(0.0, 1.5) for _ in range(count)] for _ in range(batch)])
    rows[0] = drawn.inputs
    each = [function([Value(x) for x in row]) for row in rows.tolist()]
    total = sg.mean(each)
    total.backward()
    expected = [total.data, *(w.grad for w in weights)]
    for w in weights:
        w.grad = 0.0
    compiled = sg.compile(function, backend="llvm", batch="mean")
    value = compiled.backward(rows)
    return [bits(x) for x in expected], [bits(x) for x in (value, *(w.grad for w in weights))]


def finite(numbers: list[str]) -> bool:
    return not any("nan" in number or "inf" in number for number in numbers)


@pytest.mark.filterwarnings("error")
def test_a_constant_beyond_float32_is_infinite_there_without_a_warning() -> None:
    single = sg.compile(lambda x: sg.logsumexp([x, 1.0]), dtype="float32")
    assert single(2.0) == pytest.approx(math.log(math.exp(2.0) + math.e), rel=1e-6)
    assert sg.compile(lambda x: sg.minimum(x, 1e300), dtype="float32")(2.0) == 2.0


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("batch", ["mean", "sum"])
@pytest.mark.parametrize("examples", [1, 2, 9])
def test_a_function_that_gives_an_argument_back_has_the_gradient_of_that(
    batch: str, examples: int
) -> None:
    rows = np.arange(3.0 * examples).reshape(-1, 3)
    expected = np.zeros_like(rows)
    expected[:, 1] = 1.0 / examples if batch == "mean" else 1.0
    f = sg.compile(lambda x, y: x[1], batch=batch)
    assert f.value_and_grad(rows, 0.5)[1].tolist() == expected.tolist()
    shared = sg.compile(lambda x, y: y, batch=batch)
    of_rows, of_one = shared.value_and_grad(rows, 0.5, wrt=(0, 1))[1]
    assert not of_rows.any()
    # Not by sum(), which from Python 3.12 on corrects what floats lose.
    assert of_one == functools.reduce(operator.add, expected[:, 1].tolist())


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_random_programs_have_the_bits_of_the_engine(batch: int) -> None:
    compared = 0
    for seed in range(COUNT):
        expected, got = wanted_and_got(seed, batch)
        if finite(expected):
            compared += 1
            assert got == expected, f"program {seed}, {batch} examples"
    assert compared > COUNT // 3


@pytest.mark.usefixtures("at_once")
def test_a_planted_wrong_operation_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    change_last_bits(monkeypatch)
    pairs = [wanted_and_got(seed, 2) for seed in range(12)]
    assert any(finite(expected) and got != expected for expected, got in pairs)


def network() -> tuple[nn.MLP, Any, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    model = nn.MLP(6, [9, 4], rng=random.Random(0))
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(10, 6)), generator.integers(0, 4, 10)
    return model, lambda x, y: losses.cross_entropy(model(x), y), x, y


def test_the_switch_from_interpreter_to_native_code_cannot_be_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jit, "PATIENCE", 2_000)
    _model, loss, x, y = network()
    f = sg.compile(loss, backend="llvm", batch="mean")
    answers = set()
    end = time.monotonic() + 60.0
    native = False
    while not native and time.monotonic() < end:
        value, gradient = f.value_and_grad(x, y)
        answers.add((value.hex(), gradient.tobytes()))
        native = f.stats["nests"] is not None
    value, gradient = f.value_and_grad(x, y)
    answers.add((value.hex(), gradient.tobytes()))
    assert native
    assert len(answers) == 1


def test_few_calls_are_not_worth_compiling() -> None:
    f = sg.compile(lambda x: x * x, backend="llvm")
    assert [f(float(k)) for k in range(20)] == [float(k * k) for k in range(20)]
    assert f.stats["nests"] is f.stats["threads"] is f.stats["seconds"] is None


def test_many_calls_are_worth_compiling_however_small_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 200
    monkeypatch.setattr(jit, "PATIENCE", calls * jit.CALL)
    f = sg.compile(lambda x: x * x, backend="llvm")
    for _ in range(calls):
        f(3.0)
    assert len(f.graph) * calls < jit.PATIENCE
    end = time.monotonic() + 60.0
    while f.stats["nests"] is None and time.monotonic() < end:
        assert f(3.0) == 9.0
        time.sleep(0.01)
    assert f.stats["nests"] is not None


@pytest.mark.usefixtures("at_once")
def test_parameters_count_with_their_present_numbers_and_gradients_add_up() -> None:
    model, loss, x, y = network()
    f = sg.compile(loss, backend="llvm", batch="mean")
    for _ in range(3):
        for p in model.parameters():
            p.data, p.grad = p.data * 1.25, 0.5
        sg.mean([loss(row, int(label)) for row, label in zip(x.tolist(), y)]).backward()
        expected = [p.grad.hex() for p in model.parameters()]
        for p in model.parameters():
            p.grad = 0.5
        f.backward(x, y)
        assert [p.grad.hex() for p in model.parameters()] == expected


@pytest.mark.usefixtures("at_once")
def test_gradients_with_respect_to_arguments_shared_or_not() -> None:
    def function(x: list[Value], scale: Value) -> Value:
        return sg.total([(xi * scale).tanh() for xi in x])

    x = np.random.default_rng(2).normal(size=(5, 3))
    native = sg.compile(function, backend="llvm", batch="sum")
    oracle = sg.compile(function, backend="interpreter", batch="sum")
    (value, (gx, gs)) = native.value_and_grad(x, 0.7, wrt=(0, 1))
    (expected, (ox, os)) = oracle.value_and_grad(x, 0.7, wrt=(0, 1))
    assert (value, gs) == (expected, os)
    assert np.array_equal(gx, ox)


@pytest.mark.usefixtures("at_once")
def test_an_index_out_of_range_is_an_error_and_not_memory() -> None:
    values = [Value(float(k)) for k in range(4)]
    f = sg.compile(lambda k: sg.take(values, k), backend="llvm")
    assert [f(k) for k in range(4)] == [0.0, 1.0, 2.0, 3.0]
    for k in (4, -1, 10**9):
        with pytest.raises(IndexError):
            f(k)


@pytest.mark.usefixtures("at_once")
def test_a_comparison_that_flips_is_answered_by_its_own_branch() -> None:
    def function(x: Value) -> Value:
        return x.sqrt() if x > 0.0 else -x

    f = sg.compile(function, backend="llvm")
    assert [f(x) for x in (4.0, -3.0, 9.0, -1.0)] == [2.0, 3.0, 3.0, 1.0]


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ({"mode": "fast"}, 1e-12),
        ({"dtype": "float32"}, 1e-4),
        ({"mode": "fast", "dtype": "float32"}, 1e-4),
    ],
)
def test_other_modes_are_close(options: dict[str, str], bound: float) -> None:
    _model, loss, x, y = network()
    exact, close = sg.compile(loss, batch="mean"), sg.compile(loss, batch="mean", **options)
    value, gradient = exact.value_and_grad(x, y)
    got, got_gradient = close.value_and_grad(x, y)
    assert got == pytest.approx(value, rel=bound)
    assert got_gradient == pytest.approx(gradient, rel=bound, abs=bound)


def test_what_was_found_can_be_looked_at() -> None:
    _model, loss, x, y = network()
    f = sg.compile(loss, backend="llvm", batch="mean")
    with pytest.raises(TraceError, match="loops"):
        _ = f.loops
    f.backward(x, y)
    text = f.explain()
    assert "matrix product" in text
    assert "%" in text
    assert f.llvm_ir().count("define") >= 1
    assert f.loops.instructions
    stats = f.stats
    assert stats["rolled"] > 0.9
    assert stats["nests"] > 0
    assert stats["seconds"]["native"] > 0
    interpreted = sg.compile(loss, backend="interpreter", batch="mean")
    interpreted.backward(x, y)
    with pytest.raises(TraceError, match='backend="llvm"'):
        interpreted.llvm_ir()


def test_a_function_that_draws_random_numbers_is_refused() -> None:
    for draw in (random.random, np.random.rand):
        with pytest.raises(sg.UnrepeatableError, match="random"):
            sg.compile(lambda x, draw=draw: x * float(draw()))(2.0)
