"""`no_grad`, `detach` and `detect_anomaly`."""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import scalargrad
from scalargrad import Value, detect_anomaly, live_values, modes, no_grad
from scalargrad.errors import AnomalyError, ScalargradError
from strategies import Program, on_values, same_bits, wild_programs

pytestmark = pytest.mark.pure

# --- blocks ---------------------------------------------------------------------------------------


def test_an_interrupt_does_not_leave_modes_half_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(type(modes.current)):  # type: ignore[misc]
        def __setattr__(self, name: str, mode: Any) -> None:
            super().__setattr__(name, mode)
            if leaving:
                raise KeyboardInterrupt

    leaving: list[bool] = []
    current = Interrupted()
    monkeypatch.setattr(modes, "current", current)
    with contextlib.suppress(KeyboardInterrupt), modes.modes(grad=False, anomaly=True):
        leaving.append(True)
    assert (current.grad, current.anomaly) == (True, False)


# --- no_grad --------------------------------------------------------------------------------------


def test_results_keep_no_operands() -> None:
    x, w = Value(2.0), Value(3.0)
    with no_grad():
        results = [x + w, x * 2, 2 - x, -x, x**2, x**w, x.tanh(), x.leaky_relu(0.2), abs(x)]
        results += [
            Value.apply("where", 1.0, x, w),
            Value.apply("take", x, w, const=1),
            Value.apply("maximum", x, w),
        ]
    assert [v.operands for v in results] == [()] * len(results)
    assert [v.op for v in results] == [""] * len(results)
    assert [v.data for v in results[:6]] == [5.0, 4.0, 0.0, -2.0, 4.0, 8.0]
    for v in results:
        v.backward()
    assert (x.grad, w.grad) == (0.0, 0.0)


@given(program=wild_programs())
def test_no_grad_changes_no_number(program: Program) -> None:
    plain = program.run([Value(x) for x in program.inputs], on_values)
    with no_grad():
        leaves = program.run([Value(x) for x in program.inputs], on_values)
    assert same_bits([v.data for v in plain], [v.data for v in leaves])
    assert all(not v.operands for v in leaves)


@pytest.mark.usefixtures("by_counts_alone")
def test_no_grad_costs_no_memory() -> None:
    x = Value(1.0)
    before = live_values()
    with no_grad():
        for _ in range(1000):
            x = x * 1.001
    assert live_values() == before


def test_gradients_flow_again_afterwards() -> None:
    x = Value(2.0)
    with no_grad():
        constant = x * 3
    y = x * constant
    y.backward()
    assert (x.grad, constant.grad) == (6.0, 2.0)


def test_no_grad_nests() -> None:
    x = Value(2.0)
    with no_grad():
        with no_grad():
            assert (x * 2).op == ""
        assert (x * 2).op == ""
    assert (x * 2).op == "mul"


@pytest.mark.parametrize("mode", [no_grad, detect_anomaly])
def test_an_exception_ends_the_mode(mode: Callable[[], Any]) -> None:
    with pytest.raises(ZeroDivisionError), mode(), mode():
        raise ZeroDivisionError
    assert (Value(2.0) * 2).op == "mul"
    assert (Value(0.0).log() * 2).data == -math.inf


def test_no_grad_decorates_a_function() -> None:
    @no_grad()
    def predict(x: Value) -> Value:
        return x * 2

    for _ in range(2):
        assert predict(Value(2.0)).op == ""
        assert (Value(2.0) * 2).op == "mul"


def test_the_graph_from_before_can_be_differentiated_inside() -> None:
    x = Value(2.0)
    y = x * x
    with no_grad():
        y.backward()
        x.data -= 0.1 * x.grad
    assert (x.grad, x.data) == (4.0, 1.6)


@pytest.mark.parametrize("mode", [no_grad, detect_anomaly])
def test_other_threads_are_not_affected(mode: Callable[[], Any]) -> None:
    with mode(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: (Value(2.0) * 2).op).result() == "mul"
        assert pool.submit(lambda: Value(0.0).log().data).result() == -math.inf


def test_modes_in_threads_that_overlap() -> None:
    """Two threads enter and leave their modes in an order in which neither encloses the other."""
    barrier = threading.Barrier(2, timeout=30)

    def first() -> list[str]:
        with no_grad():
            barrier.wait()  # both are inside
            inside = (Value(2.0) * 2).op
            barrier.wait()
        barrier.wait()  # this one has left
        return [inside, (Value(2.0) * 2).op]

    def second() -> list[str]:
        with no_grad():
            barrier.wait()
            barrier.wait()
            barrier.wait()
            inside = (Value(2.0) * 2).op
        return [inside, (Value(2.0) * 2).op]

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(first), pool.submit(second)]
        assert [future.result() for future in futures] == [["", "mul"]] * 2


# --- detach ---------------------------------------------------------------------------------------


def test_a_detached_value_is_a_new_leaf() -> None:
    x = Value(2.0)
    h = x * 3
    d = h.detach()
    assert (d.data, d.op, d.operands) == (6.0, "", ())
    assert d is not h
    (d * x).backward()
    assert (x.grad, h.grad, d.grad) == (6.0, 0.0, 2.0)


@pytest.mark.usefixtures("by_counts_alone")
def test_a_detached_value_owns_nothing_and_follows_nothing() -> None:
    before = live_values()
    d = (Value(2.0) * 3).detach()
    assert live_values() == before + 1
    x = Value(1.0)
    copy = x.detach()
    x.data = 5.0
    assert (copy.data, d.data) == (1.0, 6.0)


def test_detaching_a_leaf_makes_another() -> None:
    x = Value(2.0, "x")
    d = x.detach()
    (d * 3).backward()
    assert (x.grad, d.grad) == (0.0, 3.0)


def test_detach_as_an_operation_of_the_graph() -> None:
    x = Value(2.0)
    d = Value.apply("detach", x)
    assert (d.op, d.operands, d.data) == ("detach", (x,), 2.0)
    (d * x).backward()
    assert x.grad == 2.0


# --- detect_anomaly -------------------------------------------------------------------------------


def next_line() -> str:
    """`file:line` of the line after the caller's."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return f"{__file__}:{frame.f_back.f_lineno + 1}"


VALUE_ANOMALIES: list[tuple[Callable[[Value, Value], Value], list[str]]] = [
    (lambda x, y: x / y, ["x (= 1.0) / y (= 0.0)", "gave inf"]),
    (lambda x, y: y / y, ["y (= 0.0) / y (= 0.0)", "gave nan"]),
    (lambda x, y: y.log(), ["log(y (= 0.0))", "gave -inf"]),
    (lambda x, y: (x - 3).sqrt(), ["sqrt(-2.0)", "gave nan"]),
    (lambda x, y: (x * 1000).exp(), ["exp(1000.0)", "gave inf"]),
    (lambda x, y: y**-1.5, ["y (= 0.0) ** -1.5", "gave inf"]),
    (lambda x, y: y**-1, ["y (= 0.0) ** -1", "gave inf"]),
    (lambda x, y: (-x) ** 0.1234567891, ["-1.0 ** 0.1234567891", "gave nan"]),
    (lambda x, y: y**-x, ["y (= 0.0) ** -1.0", "gave inf"]),
    (lambda x, y: (-x * 1e308).leaky_relu(100), ["leaky_relu(-1e+308, 100)", "gave -inf"]),
    (lambda x, y: x * math.inf, ["x (= 1.0) * inf", "gave inf"]),
    (lambda x, y: x * 1e308 + 1e308, ["1e+308 + 1e+308", "gave inf"]),
    (
        lambda x, y: Value.apply("where", y, 2.0, Value(math.inf, "c")),
        ["y (= 0.0)", "c (= inf)", "gave inf"],
    ),
    (
        lambda x, y: Value.apply("take", x, math.nan, y, const=1),
        ["take([x (= 1.0), nan, y (= 0.0)], 1)", "gave nan"],
    ),
]


@pytest.mark.parametrize(("compute", "parts"), VALUE_ANOMALIES)
def test_the_first_value_that_is_not_finite_raises(
    compute: Callable[[Value, Value], Value], parts: list[str]
) -> None:
    x, y = Value(1.0, "x"), Value(0.0, "y")
    with detect_anomaly(), pytest.raises(AnomalyError) as caught:
        compute(x, y)
    for part in [*parts, f"{__file__}:"]:
        assert part in str(caught.value)
    assert isinstance(caught.value, ScalargradError)
    assert isinstance(caught.value, ArithmeticError)


def test_a_value_anomaly_names_the_line_that_computed_it() -> None:
    zero = Value(0.0)

    def compute() -> None:
        zero.log()

    line = f"{__file__}:{compute.__code__.co_firstlineno + 1}"
    with detect_anomaly(), pytest.raises(AnomalyError) as caught:
        compute()
    assert str(caught.value).endswith(f"at {line}")


GRADIENT_ANOMALIES: list[tuple[Callable[[Value], Value], float, list[str]]] = [
    (lambda x: x.sqrt(), 0.0, ["sqrt(x (= 0.0))", "inf"]),
    (lambda x: x**0.5, 0.0, ["x (= 0.0) ** 0.5", "inf"]),
    (lambda x: (x * 1e200) * 1e200, 0.0, ["x (= 0.0) * 1e+200", "inf"]),
    (lambda x: x * 1e308 + x * 1e308, 0.0, ["x (= 0.0) * 1e+308", "inf"]),
]


@pytest.mark.parametrize(("compute", "at", "parts"), GRADIENT_ANOMALIES)
def test_the_first_gradient_that_is_not_finite_raises(
    compute: Callable[[Value], Value], at: float, parts: list[str]
) -> None:
    with detect_anomaly():
        y = compute(Value(at, "x"))
        with pytest.raises(AnomalyError, match="backward") as caught:
            y.backward()
    for part in [*parts, f"{__file__}:"]:
        assert part in str(caught.value)


def test_a_gradient_anomaly_names_the_line_that_built_the_node() -> None:
    x = Value(0.0, "x")
    with detect_anomaly():
        line = next_line()
        h = x.sqrt()
        y = h * 2
        with pytest.raises(AnomalyError) as caught:
            y.backward()
    assert f"made at {line}" in str(caught.value)
    assert "gradient 2.0" in str(caught.value)
    assert "partial inf" in str(caught.value)


def test_a_graph_built_before_is_checked_but_its_line_unknown() -> None:
    x = Value(0.0, "x")
    y = x.sqrt()
    with detect_anomaly(), pytest.raises(AnomalyError, match="outside detect_anomaly"):
        y.backward()


def test_a_nested_block_remembers_the_lines_of_the_outer_one() -> None:
    x = Value(0.0)
    with detect_anomaly():
        line = next_line()
        y = x.sqrt()
        with detect_anomaly(), pytest.raises(AnomalyError, match=re.escape(line)):
            y.backward()


def test_a_leaf_that_was_not_finite_before_is_not_blamed_on_an_operation() -> None:
    x = Value(2.0, "x")
    x.grad = math.inf
    y = Value.apply("maximum", x * 3, 100.0)  # passes nothing back to x
    with detect_anomaly():
        y.backward()
    assert x.grad == math.inf


def test_infinite_leaves_are_allowed_until_they_are_used() -> None:
    with detect_anomaly():
        infinite = Value(math.inf)
        assert Value.apply("minimum", infinite, 1.0).data == 1.0
        with pytest.raises(AnomalyError):
            infinite + 1


def test_nothing_raises_outside() -> None:
    with detect_anomaly():
        pass
    x = Value(0.0)
    y = x.sqrt()
    y.backward()
    assert x.grad == math.inf
    assert (1 / x).data == math.inf


def test_inner_block_ends_and_outer_goes_on() -> None:
    with detect_anomaly():
        with detect_anomaly():
            pass
        with pytest.raises(AnomalyError):
            Value(0.0).log()
    assert Value(0.0).log().data == -math.inf


def test_an_anomaly_inside_no_grad_is_found() -> None:
    with detect_anomaly(), no_grad(), pytest.raises(AnomalyError, match="gave -inf"):
        Value(0.0).log()


def test_branches_not_taken_are_no_anomaly_of_the_gradient() -> None:
    x = Value(2.0)
    with detect_anomaly():
        Value.apply("where", 1.0, x * 3, (x - 2).sqrt()).backward()
    assert x.grad == 3.0


@given(program=wild_programs())
def test_detection_changes_no_number_and_finds_every_anomaly(program: Program) -> None:
    plain = program.run([Value(x) for x in program.inputs], on_values)
    plain[-1].backward()
    reached = [v for v in plain if v.grad != 0.0]
    computed = plain[len(program.inputs) :]
    watched = [Value(x) for x in program.inputs]
    try:
        with detect_anomaly():
            watched = program.run(watched, on_values)
            watched[-1].backward()
    except AnomalyError:
        bad_values = [v for v in computed if not math.isfinite(v.data)]
        bad_gradients = [v for v in reached if not math.isfinite(v.grad)]
        # A literal operand may be the one with the gradient that is not finite.
        literals = [w for v in computed for w in v.operands if not math.isfinite(w.grad)]
        assert bad_values or bad_gradients or literals
    else:
        assert same_bits([v.data for v in plain], [v.data for v in watched])
        assert same_bits([v.grad for v in plain], [v.grad for v in watched])
        assert all(math.isfinite(v.data) for v in computed)
        assert all(math.isfinite(v.grad) for v in plain)


def run_as_file(path: str, source: str) -> str:
    """The AnomalyError raised by a program that believes it lies at the path."""
    with detect_anomaly(), pytest.raises(AnomalyError) as caught:
        exec(compile(source, path, "exec"), {"Value": Value})
    return str(caught.value)


def test_the_line_is_the_users_even_where_folders_look_alike() -> None:
    package = os.path.dirname(scalargrad.__file__)
    for path in (f"{package}_tools{os.sep}plot.py", f"{package}.py", f"{os.sep}elsewhere.py"):
        assert run_as_file(path, "x = Value(0.0)\n\nx.log()\n").endswith(f"at {path}:3")


def test_code_of_the_package_is_not_the_users_line() -> None:
    package = os.path.dirname(scalargrad.__file__)
    inside: dict[str, Any] = {}
    library = compile("def f(x):\n    return x.log()\n", f"{package}{os.sep}losses.py", "exec")
    exec(library, inside)

    def compute() -> None:
        inside["f"](Value(0.0))

    line = f"{__file__}:{compute.__code__.co_firstlineno + 1}"
    with detect_anomaly(), pytest.raises(AnomalyError) as caught:
        compute()
    assert str(caught.value).endswith(f"at {line}")


def test_numpys_own_code_is_not_the_users_line() -> None:
    values = np.array([Value(1.0), Value(math.inf)])

    def compute() -> None:
        values.mean()

    line = f"{__file__}:{compute.__code__.co_firstlineno + 1}"
    with detect_anomaly(), pytest.raises(AnomalyError) as caught:
        compute()
    assert str(caught.value).endswith(f"at {line}")
