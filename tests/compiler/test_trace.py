"""Traces: what the arrays hold, and that they hold all there is."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Value, ops
from scalargrad.compiler import compile
from scalargrad.compiler.structure import Row
from scalargrad.compiler.verify import verify
from scalargrad.errors import TraceError

pytestmark = pytest.mark.pure


def traced(f: Any, *args: Any, **options: Any) -> Any:
    return compile(f, **options).trace(*args)


def test_leaves_are_parameters_arguments_constants() -> None:
    b, a = Value(10.0), Value(20.0)
    trace = traced(lambda x, y, z: (a * z + 2.0 * b) * x, 1.0, 2.0, 3.0)
    assert trace.parameters.tolist() == [0, 1]
    assert trace.arguments.tolist() == [2, -1, 3]  # y is not used
    assert trace.constants.tolist() == [4]
    assert trace.tape.leaves == 5
    assert trace.data[:5].tolist() == [10.0, 20.0, 1.0, 3.0, 2.0]
    assert trace.names == ("x", "y", "z")
    assert trace.kinds == ("number",) * 3
    assert [ops.BY_CODE[code].name for code in trace.tape.op[5:]] == ["mul", "mul", "add", "mul"]
    assert trace.data[5:].tolist() == [60.0, 20.0, 80.0, 80.0]
    assert trace.tape.outputs.tolist() == [8]
    assert trace.results == 1
    for array in (trace.parameters, trace.arguments, trace.constants, trace.indices):
        assert array.dtype == np.int32
    assert trace.shared.tolist() == [True] * 3
    verify(trace.tape)


def test_indices() -> None:
    table = [Value(1.0), Value(2.0)]

    def f(m: Any, n: Any) -> Value:
        pairs = sg.take([[p, 1.0] for p in table], n)
        return (
            pairs[0] + pairs[1] + sg.take([*table, 5.0], n) + sg.take(table, m)
            + sg.take(table, 1) + n
        )  # fmt: skip

    trace = traced(f, 0, 1)
    slots = list(zip(trace.indices.tolist(), trace.lengths.tolist(), trace.tape.index.tolist()))
    assert slots == [(1, 2, 0), (1, 3, 0), (0, 2, 0), (-1, 1, 0)]
    takes = np.flatnonzero(trace.tape.op == ops.TAKE)
    assert [trace.tape.many[trace.tape.lhs[i]] for i in takes] == [0, 0, 1, 2, 3]
    assert trace.arguments.tolist()[0] == -1  # m only selects
    assert trace.arguments.tolist()[1] >= 0  # n also counts
    assert {(s.argument, s.length, s.guards) for s in trace.selections} == (
        {(1, 2, 0), (1, 3, 0), (0, 2, 0)}
    )
    verify(trace.tape)


def test_rows_of_one_table_share_their_candidates() -> None:
    table = [[Value(float(i + j)) for j in range(3)] for i in range(50)]

    def f(tokens: Any) -> Value:
        rows = [sg.take(table if k % 2 else [*table], token) for k, token in enumerate(tokens)]
        return sg.total(x for row in rows for x in row)

    trace = traced(f, [3, 1, 4, 1, 5])
    assert (trace.tape.op == ops.TAKE).sum() == 15
    assert len(trace.tape.many) == 3 * 50 + 2 * 15
    verify(trace.tape)


def test_a_table_that_changes_while_a_program_is_traced_is_seen_as_it_is() -> None:
    table = [[Value(1.0), Value(2.0)], [Value(3.0), Value(4.0)]]

    def f(n: Any) -> list[Any]:
        before = sg.take(table, n)
        kept = table[1]
        table[1] = [kept[0], before[0] * 10.0]
        after = sg.take(table, n)
        table[1][1] = before[1] * 100.0
        last = sg.take(table, n)
        table[1] = kept
        return [*before, *after, *last]

    f_compiled = compile(f)
    assert f_compiled(0) == [1.0, 2.0] * 3
    assert f_compiled(1) == [3.0, 4.0, 3.0, 30.0, 3.0, 400.0]


def test_guards_are_outputs_after_the_results() -> None:
    w = Value(1.0)

    def f(x: Value, n: Any) -> Any:
        if x > w:
            n = sg.take([x, w], n)
        return [n, x] if not x <= 0 else x

    trace = traced(f, 2.0, 1)
    assert trace.results == 2
    assert trace.outputs == Row(list, 2, "number")
    assert len(trace.tape.outputs) == 4
    assert [(g.text, g.outcome) for g in trace.guards] == [("x > 1.0", True), ("x <= 0.0", False)]
    assert all(__file__ in g.line for g in trace.guards)
    assert trace.data[trace.tape.outputs].tolist() == [1.0, 2.0, 1.0, 0.0]
    assert [s.guards for s in trace.selections] == [1]


def test_lines() -> None:
    trace = traced(lambda x: x.exp() + x, 1.0)
    first = test_lines.__code__.co_firstlineno
    assert trace.lines == {1: f"{__file__}:{first + 1}", 2: f"{__file__}:{first + 1}"}


def test_lines_of_the_library_are_those_that_called_it() -> None:
    trace = traced(lambda x: sg.functional.softmax(x)[0], [1.0, 2.0])
    assert all(line.startswith(__file__) for line in trace.lines.values())
    assert len(trace.lines) == len(trace.tape) - trace.tape.leaves


def test_it_pickles_without_values() -> None:
    w = Value(1.0)
    trace = traced(lambda x, n: sg.take([w, x[0]], n) if x[1] > w else w, [1.0, 2.0], 1)
    again = pickle.loads(pickle.dumps(trace))
    assert again.outputs == trace.outputs
    assert again.guards == trace.guards
    assert again.selections == trace.selections
    assert again.lines == trace.lines
    assert again.tape.op.tolist() == trace.tape.op.tolist()
    assert b"Value" not in pickle.dumps(trace)


def test_batches_trace_one_example() -> None:
    w = Value(1.0)
    trace = traced(lambda x, s: w * x[0] * s, np.array([[1.0, 5.0], [2.0, 6.0]]), 3.0, batch="mean")
    assert trace.shared.tolist() == [False, False, True]
    assert trace.arguments.tolist() == [1, -1, 2]
    assert trace.names == ("x[0]", "x[1]", "s")
    assert trace.data[:3].tolist() == [1.0, 1.0, 3.0]


def test_nothing_but_statics() -> None:
    trace = traced(lambda: None)
    assert trace.results == 0
    assert len(trace.tape.outputs) == 0


def test_a_refusal_that_the_function_swallows_and_answers_with_another_error_is_told() -> None:
    def f(x: Value) -> Value:
        try:
            return x * x.data
        except TraceError:
            raise KeyError("something else") from None

    with pytest.raises(TraceError, match=r"^\.data of x .* is v\.detach\(\)"):
        compile(f)(1.0)


def test_an_array_of_floats_that_is_filled_is_refused_with_the_one_that_may_be() -> None:
    def filled(kind: type) -> Callable[[Value], Value]:
        def f(x: Value) -> Value:
            powers = np.zeros(3, kind)
            for k in range(3):
                powers[k] = x**k
            return powers.sum()

        return f

    with pytest.raises(TraceError, match=r"^float\(\) of .*\(numpy\.zeros\(n, object\)\)"):
        compile(filled(float))(2.0)
    assert compile(filled(object)).value_and_grad(2.0) == (7.0, 5.0)


def test_the_function_s_own_errors_pass() -> None:
    def f(x: Value) -> Value:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        compile(f)(1.0)


def test_many_comparisons_of_a_long_chain_take_linear_time() -> None:
    # Whether a number varies is remembered: 3,000 looks at ever longer chains stay quick.
    def f(x: Value) -> Value:
        total = Value(0.0)
        for _ in range(3000):
            total = total + 1.0
            if total < 0:
                return x
        return total * x

    assert compile(f)(2.0) == 6000.0
