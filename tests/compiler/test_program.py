"""Programs: the interpreter's rows and gradients, and the table of back ends."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import generated
import scalargrad as sg
from scalargrad import Value
from scalargrad.compiler import compile, program
from scalargrad.compiler.program import BACKENDS, Backend, Interpreter, Options, checked
from scalargrad.compiler.trace import Trace
from scalargrad.errors import MissingExtraError
from strategies import same_bits

pytestmark = pytest.mark.pure


def traced(f: Any, *args: Any, **options: Any) -> Trace:
    return compile(f, **options).trace(*args)


def test_forward_of_many_rows() -> None:
    w = Value(2.0)
    trace = traced(lambda x, y: (w * x, x - y), 0.0, 0.0)
    interpreter = Interpreter(trace, Options())
    assert interpreter.parameters.tolist() == [2.0]
    rows = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])
    assert interpreter.forward(rows).tolist() == [[2.0, -4.0], [4.0, -4.0], [6.0, -4.0]]
    interpreter.parameters[0] = 10.0
    assert interpreter.forward(rows[:1]).tolist() == [[10.0, -4.0]]


def test_backward_adds_seeded_gradients() -> None:
    w = Value(2.0)
    trace = traced(lambda x, s: w * x * s, [1.0], 3.0, batch="sum")
    interpreter = Interpreter(trace, Options())
    rows = np.array([[1.0, 3.0], [10.0, 3.0]])
    interpreter.gradient[0] = 100.0
    gradient = np.full((2, 2), 0.5)
    outputs = interpreter.backward(rows, 0.5, gradient)
    assert outputs.tolist() == [[6.0], [60.0]]
    assert interpreter.gradient.tolist() == [100.0 + 0.5 * 3.0 * 11.0]
    assert gradient[:, 0].tolist() == [0.5 + 3.0, 0.5 + 3.0]
    assert gradient[0, 1] == 0.5 + 0.5 * 2.0 * 11.0  # shared: summed, in row 0
    interpreter.backward(rows, 0.5, None)
    assert interpreter.gradient.tolist() == [100.0 + 2 * 0.5 * 3.0 * 11.0]


def test_an_index_out_of_range_selects_the_first() -> None:
    table = [Value(5.0), Value(6.0)]
    trace = traced(lambda n: sg.take(table, n) + 0.0 * n, 1)
    interpreter = Interpreter(trace, Options())
    rows = np.array([[0.0], [1.0], [2.0], [-1.0], [1e300]])
    assert interpreter.forward(rows).tolist() == [[5.0], [6.0], [5.0], [5.0], [5.0]]
    interpreter.backward(rows[2:], 1.0, None)
    assert interpreter.gradient.tolist() == [3.0, 0.0]


def test_two_interpreters_of_one_trace_do_not_meet() -> None:
    w = Value(2.0)
    trace = traced(lambda x, n: sg.take([w * x, x], n), 1.0, 0)
    a, b = Interpreter(trace, Options()), Interpreter(trace, Options())
    a.parameters[0] = 7.0
    assert a.forward(np.array([[1.0, 0.0]])).tolist() == [[7.0]]
    assert b.forward(np.array([[1.0, 1.0]])).tolist() == [[1.0]]
    assert b.forward(np.array([[1.0, 0.0]])).tolist() == [[2.0]]
    assert trace.data[0] == 2.0


def test_random_programs_row_by_row() -> None:
    for seed in range(generated.COUNT // 10):
        rng = random.Random(seed)
        code = generated.program(rng)
        columns = [np.array([number]) for number in code.inputs]
        trace = traced(lambda *x, code=code: code(*x), *columns, batch="sum")
        interpreter = Interpreter(trace, Options())
        rows = np.array([[generated.number(rng) for _ in code.inputs] for _ in range(3)])
        gradient = np.zeros_like(rows)
        outputs = interpreter.backward(rows, 1.0, gradient)
        assert same_bits(interpreter.forward(rows)[:, 0], outputs[:, 0])
        for row, output, found in zip(rows, outputs, gradient):
            leaves, results = generated.run(code, row.tolist())
            results[-1].backward()
            assert same_bits([results[-1].data], output)
            assert same_bits([x.grad for x in leaves], found)


class Constant:
    """A back end that always answers 42."""

    def __init__(self, trace: Trace, options: Options) -> None:
        self.parameters = np.zeros(len(trace.parameters))
        self.gradient = np.zeros(len(trace.parameters))
        self._outputs = len(trace.tape.outputs)

    def forward(self, rows: Any) -> Any:
        return np.full((len(rows), self._outputs), 42.0)

    def backward(self, rows: Any, seed: float, argument_gradient: Any) -> Any:
        self.gradient += seed
        return self.forward(rows)


def test_a_back_end_is_a_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        program, "BACKENDS", {"constant": Backend(Constant, ("float32",), ("fast",)), **BACKENDS}
    )
    monkeypatch.setattr("scalargrad.compiler.variant.BACKENDS", program.BACKENDS)
    w = Value(1.0)
    f = compile(lambda x: w * x, dtype="float32", mode="fast")
    assert f(1.0) == 42.0
    assert f.value_and_grad(1.0)[1].tolist() == [1.0]
    assert compile(lambda x: w * x, backend="interpreter")(2.0) == 2.0
    with pytest.raises(ValueError, match=r"^dtype: expected 'float32' for backend 'constant'"):
        compile(lambda x: x, backend="constant")
    with pytest.raises(ValueError, match=r"^mode: expected 'fast' for backend 'constant'"):
        compile(lambda x: x, backend="constant", dtype="float32")


def test_the_best_back_end_that_can() -> None:
    assert checked(Options()).backend == next(iter(BACKENDS))
    assert checked(Options(backend="interpreter")).backend == "interpreter"


def test_without_its_library_a_back_end_is_passed_over_or_the_library_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = replace(BACKENDS["llvm"], library="llvmlite_that_is_not_there")
    monkeypatch.setattr(program, "BACKENDS", {**BACKENDS, "llvm": missing})
    assert checked(Options(mode="fast")).backend == "interpreter"
    for options in (Options(dtype="float32"), Options(backend="llvm")):
        with pytest.raises(MissingExtraError, match="needs llvmlite_that_is_not_there"):
            checked(options)
