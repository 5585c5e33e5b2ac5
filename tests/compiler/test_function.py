"""compile: values, gradients, branches, batches, options and the traps of other systems."""

from __future__ import annotations

import copy
import math
import operator
import pickle
import re
from collections import namedtuple
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

import scalargrad as sg
from processes import run_python
from scalargrad import Graph, Value, functional, losses, nn
from scalargrad.compiler import CompiledFunction, compile
from scalargrad.compiler import function as function_module
from scalargrad.compiler.variant import Variant
from scalargrad.errors import AnomalyError, ShapeError, TraceError
from scalargrad.modes import detect_anomaly, no_grad
from strategies import bits, same_bits
from threads import in_threads, needs_fork

pytestmark = pytest.mark.pure
HERE = re.escape(__file__)


def line_of(text: str) -> str:
    """file:line of the line of this file that ends with the comment `# text`."""
    with open(__file__) as source:
        number = next(k for k, line in enumerate(source, 1) if line.rstrip().endswith(f"# {text}"))
    return f"{__file__}:{number}"


# --- values -------------------------------------------------------------------------------------


def test_the_same_number_as_the_function_on_values() -> None:
    w = Value(0.1)
    f = compile(lambda x, y: (w * x + y).tanh())
    assert bits(f(0.3, 0.7)) == bits((w * Value(0.3) + Value(0.7)).tanh().data)
    assert type(f(0.3, 0.7)) is float


def test_it_traces_once_per_structure() -> None:
    runs = []
    f = compile(lambda x: runs.append(1) or x * 2.0)
    assert [f(1.0), f(2.0), f(3.5)] == [2.0, 4.0, 7.0]
    assert len(runs) == 1
    assert f(2) == 4.0  # an int is another kind of argument
    f(2.0)
    f(7)
    assert len(runs) == 2
    assert f.stats["traces"] == 2
    assert f.stats["structures"] == 2
    assert f.stats["calls"] == 6


def test_parameters_count_with_their_present_data() -> None:
    a, b = Value(2.0), Value(3.0)
    f = compile(lambda x: b * x + a)
    assert f(1.0) == 5.0
    a.data = 10.0
    assert f(1.0) == 13.0
    assert f.parameters == [a, b]  # by creation, not by use
    assert f.stats["traces"] == 1


def test_parameters_reached_through_objects_closures_and_globals() -> None:
    class Model:
        def __init__(self) -> None:
            self.table = {"w": [Value(2.0)]}

    model, bias = Model(), Value(1.0)
    f = compile(lambda x: model.table["w"][0] * x + bias)
    assert f(3.0) == 7.0
    assert f.parameters == [model.table["w"][0], bias]


def test_constants_stay() -> None:
    f = compile(lambda x: x * Value(3.0) + 1)
    assert f(2.0) == 7.0
    assert f.parameters == []
    assert f.stats["constants"] == 2


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "argument",
    [
        [1.0, 2.0, 3.0],
        (1.0, 2.0, 3.0),
        [[1.0], [2.0, 3.0]],
        {"a": 1.0, "b": [2.0, {"c": 3.0}]},
        np.array([1.0, 2.0, 3.0]),
        np.array([[1.0], [2.0], [3.0]], np.float32),
        np.array([[[1, 2, 3]]]),
        np.arange(1.0, 7.0)[::2] / np.array([1.0, 1.5, 5.0 / 3.0]),
        [np.array([1.0, 2.0]), np.float64(3.0)],
        Point(1.0, [2.0, np.array(3.0)]),
        [1, 2.0, 3],
        (1, 2.0, np.int32(3)),
        [[], 1.0, (), {}, [2.0, 3.0], None, "text", True],
    ],
    ids=repr,
)
def test_nested_arguments(argument: Any) -> None:
    def flat(x: Any) -> list[Any]:
        if isinstance(x, dict):
            x = list(x.values())
        if isinstance(x, list | tuple) or getattr(x, "ndim", 0):
            return [leaf for part in x for leaf in flat(part)]
        return [] if x is None or isinstance(x, str | bool) else [x]

    seen = []

    def polynomial(x: Any) -> Any:
        seen.append(x)
        a, b, c = flat(x)
        return a + 10 * b + 100 * c

    f = compile(polynomial)
    assert f(argument) == 321.0
    assert f(argument) == 321.0
    assert len(seen) == 1
    assert type(seen[0]) is type(argument)


def test_arrays_arrive_as_arrays_of_values() -> None:
    w = np.array([[Value(1.0), Value(2.0)], [Value(3.0), Value(4.0)]])
    f = compile(lambda x: np.tanh(w @ x).sum())
    x = np.array([0.1, -0.2])
    expected = np.tanh(w @ np.array([Value(v) for v in x])).sum()
    assert bits(f(x)) == bits(expected.data)


def test_keywords_and_defaults() -> None:
    f = compile(
        lambda x, y=2.0, *rest, scale=10.0, **more: x + scale * y + sum(rest) + sum(more.values())
    )
    assert f(1.0) == 21.0
    assert f(1.0, 3.0) == 31.0
    assert f(y=3.0, x=1.0) == 31.0
    assert f.stats["structures"] == 2  # f(1.0, 3.0) and f(y=3.0, x=1.0) are the same call
    assert f(1.0, 3.0, 5.0, scale=1.0, extra=[2.0][0]) == 11.0
    with pytest.raises(TypeError, match=r"^<lambda>: missing a required argument: 'x'"):
        f(y=1.0)


def test_a_misspelt_keyword_is_named() -> None:
    @compile
    def f(a: Value, /, x: Value, *, scale: float = 1.0) -> Value:
        return a * x * scale

    expected = r"^f: expected arguments called x, scale, got one called {}$"
    for keywords, wrong in (
        ({"xx": 1.0}, "xx"),
        ({"x": 1.0, "scael": 2.0}, "scael"),
        ({"a": 1.0}, "a"),
    ):
        with pytest.raises(TypeError, match=expected.format(wrong)):
            f(1.0, **keywords)
    assert f(2.0, x=3.0, scale=4.0) == 24.0


def test_bool_none_and_str_are_part_of_the_structure() -> None:
    def f(x: Value, double: bool, name: str | None) -> Value:
        x = x * 2 if double else x
        return x + 1 if name == "plus" else x

    g = compile(f)
    assert g(3.0, True, None) == 6.0
    assert g(3.0, False, None) == 3.0
    assert g(3.0, True, "plus") == 7.0
    assert g(3.0, np.bool_(False), "plus") == 4.0
    assert g.stats["traces"] == 4


def test_structures_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function_module, "STRUCTURES", 3)
    f = compile(lambda x: functional.total(x))
    for n in [1, 2, 3, 1, 4, 1, 5, 1, 2]:
        assert f([1.0] * n) == float(n)
    assert f.stats["structures"] == 3
    assert f.stats["traces"] == 6  # 1 to 5, and 2 again: 1 was used too often to be dropped


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("no number", None),
        (1j, "x: expected a number, .*, got complex 1j"),
        ([1.0, 2j], r"x\[1\]: expected a number, .* got complex 2j"),
        ({"a": [1.0, {1}]}, r"x\['a'\]\[1\]: expected a number, .* got set \{1\}: a set has no"),
        (map(float, "12"), r"x: expected a number, .* got map <.*: use list\(\.\.\.\) of it$"),
        (np.array([1j]), "x: expected an array of real numbers, got dtype complex128"),
        (np.array([True]), r"x: expected .* got dtype bool: use \.astype\(float\)"),
        (np.array(["a"]), "x: expected an array of real numbers, got dtype <U1"),
        (np.array([None]), "x: expected an array of numbers, got one of objects"),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), r"x: expected an array .*, got a masked one: .*\("),
        (np.ones((1, 2)).view(np.matrix), r"x: expected an array .*, got a numpy\.matrix, whose"),
        (np.str_("no number"), None),
        (object, "x: expected a number, a list"),
    ],
)
def test_arguments_that_are_no_numbers(argument: Any, message: str | None) -> None:
    f = compile(lambda x: Value(1.0))
    if message is None:
        assert f(argument) == 1.0
        return
    with pytest.raises(TypeError, match=f"^{message}"):
        f(argument)


# --- results ------------------------------------------------------------------------------------


def test_nested_results() -> None:
    w = Value(3.0)
    f = compile(
        lambda x, n: {
            "list": [x, 2.0 * x],
            "tuple": (w, Point(x, w)),
            "array": np.array([[x, w], [x * w, 1.0]]),
            "numbers": [1.5, 2, None, "text", True],
            "whole": n,
            "truth": x < w,
        }
    )
    for x in (2.0, 4.0):
        out = f(x, 7)
        assert out["list"] == [x, 2.0 * x]
        assert out["tuple"] == (3.0, Point(x, 3.0))
        assert type(out["tuple"][1]) is Point
        assert out["array"].dtype == np.float64
        assert out["array"].tolist() == [[x, 3.0], [3.0 * x, 1.0]]
        assert out["numbers"] == [1.5, 2, None, "text", True]
        assert out["whole"] == 7
        assert type(out["whole"]) is int
        assert out["truth"] is (x < 3.0)


def test_outputs_that_are_inputs_parameters_constants_or_duplicates() -> None:
    w = Value(5.0)
    f = compile(lambda x: (x, x, w, w, 2.5, x * w, x * w))
    assert f(2.0) == (2.0, 2.0, 5.0, 5.0, 2.5, 10.0, 10.0)
    w.data = 1.0
    assert f(3.0) == (3.0, 3.0, 1.0, 1.0, 2.5, 3.0, 3.0)
    constant = compile(lambda x: 2.5)
    assert [constant(1.0), constant(2.0)] == [2.5, 2.5]
    assert constant.value_and_grad(1.0) == (2.5, 0.0)
    itself = compile(lambda x: x)
    assert itself.value_and_grad(4.0) == (4.0, 1.0)
    assert compile(lambda: w)() == 1.0
    assert compile(lambda: None)() is None
    assert compile(lambda x: ())(1.0) == ()


def test_results_do_not_share_memory_with_the_next_call() -> None:
    f = compile(lambda x: np.array([x, 2 * x]))
    first = f(1.0)
    f(5.0)
    assert first.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("result", [{1}, 1j, object(), [Value(1.0), {2}]])
def test_results_that_are_no_numbers(result: Any) -> None:
    with pytest.raises(TypeError, match=r"^result(\[1\])?: expected a Value, a number, or a list"):
        compile(lambda x: result)(1.0)


def test_classes_with_fields_are_named_tuples() -> None:
    class Point(NamedTuple):
        x: Any
        y: Any

    @dataclass
    class Pair:
        x: Any
        y: Any

    f = compile(lambda p: Point(p.x * p.y[0], [p.y[1]]))
    assert f(Point(2.0, [3.0, 4.0])) == Point(6.0, [4.0])
    g = compile(lambda p: p.x * p.y[0])
    assert g.value_and_grad(Point(2.0, [3.0, 4.0])) == (6.0, Point(3.0, [2.0, 0.0]))
    for use in (lambda: g(Pair(2.0, [3.0])), lambda: compile(lambda x: Pair(x, x))(1.0)):
        with pytest.raises(TypeError, match=r"Pair.*: of classes with fields, a NamedTuple is"):
            use()


# --- gradients ----------------------------------------------------------------------------------


def test_value_and_grad_of_parameters_is_one_array() -> None:
    a, b = Value(2.0), Value(3.0)
    f = compile(lambda x: a * x + b * b)
    value, gradient = f.value_and_grad(5.0)
    assert value == 19.0
    assert gradient.dtype == np.float64
    assert gradient.tolist() == [5.0, 6.0]
    assert (a.grad, b.grad) == (0.0, 0.0)


def test_value_and_grad_of_argument_0_without_parameters() -> None:
    f = compile(lambda x, y: x[0] * x[1] * y["k"])
    assert f.value_and_grad([2.0, 3.0], {"k": 10.0}) == (60.0, [30.0, 20.0])
    assert f.value_and_grad((2.0, 3.0), {"k": 10.0}) == (60.0, (30.0, 20.0))
    _, gradient = f.value_and_grad(np.array([2.0, 3.0]), {"k": 10.0})
    assert gradient.tolist() == [30.0, 20.0]
    assert gradient.dtype == np.float64


def test_value_and_grad_with_wrt() -> None:
    w = Value(7.0)
    f = compile(lambda x, y: w * x[0] * x[1] * y["k"])
    assert f.value_and_grad([2.0, 3.0], {"k": 10.0}, wrt=1) == (420.0, {"k": 42.0})
    value, (at_parameters, at_x) = f.value_and_grad([2.0, 3.0], {"k": 10.0}, wrt=("parameters", 0))
    assert (value, at_parameters.tolist(), at_x) == (420.0, [60.0], [210.0, 140.0])
    assert f.value_and_grad(y={"k": 10.0}, x=[2.0, 3.0], wrt=1)[1] == {"k": 42.0}
    empty = compile(lambda x: x).value_and_grad(1.0, wrt="parameters")[1]
    assert empty.shape == (0,)


@pytest.mark.parametrize("wrt", ["x", 2, -1, 1.0, True, [0], (0, "y")])
def test_wrong_wrt(wrt: Any) -> None:
    f = compile(lambda x, y: x * y)
    with pytest.raises(ValueError, match=r'^wrt: expected "parameters" or the position .*, 0 to 1'):
        f.value_and_grad(1.0, 2.0, wrt=wrt)


def test_nothing_to_differentiate_with_respect_to() -> None:
    with pytest.raises(ValueError, match=r'^wrt: expected "parameters", for .* without positional'):
        compile(lambda *, x: x * 2.0).value_and_grad(x=1.0)


def test_derivative_of_an_integer() -> None:
    f = compile(lambda n: n * n + 1)
    assert f.value_and_grad(3) == (10.0, 6.0)
    g = compile(lambda table, n: sg.take(table, n))
    assert g.value_and_grad([1.0, 2.0], 1) == (2.0, [0.0, 1.0])
    with pytest.raises(TypeError, match=r"^wrt: n has no numbers to differentiate"):
        g.value_and_grad([1.0, 2.0], 1, wrt=1)
    with pytest.raises(TypeError, match=r"^wrt: flag has no numbers to differentiate"):
        compile(lambda x, flag: x).value_and_grad(1.0, True, wrt=1)
    mixed = compile(lambda pair: sg.take([pair[0], 3.0], pair[1]))
    assert mixed.value_and_grad((2.0, 0)) == (2.0, (1.0, 0.0))
    h = compile(lambda x, n: x)
    assert h.value_and_grad(1.0, 5, wrt=1) == (1.0, 0.0)


def test_unused_arguments_and_parameters_have_gradient_zero() -> None:
    w, unused = Value(2.0), Value(9.0)
    f = compile(lambda x, y: [unused * y, w * x][1])
    assert f.value_and_grad(3.0, 1.0, wrt=(0, 1)) == (6.0, (2.0, 0.0))
    assert f.parameters == [w]


def test_backward_adds_as_the_eager_one_does() -> None:
    a, b = Value(0.3), Value(-1.7)
    f = compile(lambda x: (a * x + b).tanh() * a)
    for x in (0.4, -2.1, 1e9):
        a.grad, b.grad = 1e-3, -0.0
        assert bits(f.backward(x)) == bits(f(x))
        found = [a.grad, b.grad]
        a.grad, b.grad = 1e-3, -0.0
        ((a * Value(x) + b).tanh() * a).backward()
        assert same_bits(found, [a.grad, b.grad])


def test_what_passes_nothing_leaves_a_gradient_of_zero_as_it_was() -> None:
    pytest.importorskip("llvmlite")
    w = Value(-2.0)

    def f(x: Any) -> Value:
        return (w * x).relu() + x

    compiled = compile(f)
    compiled.backward(1.0)
    compiled.native()
    for call in (lambda x: f(Value(x)).backward(), compiled.backward):
        w.grad = -0.0
        call(1.0)
        assert bits(w.grad) == bits(0.0)


def test_backward_of_a_parameter_itself() -> None:
    w = Value(2.0)
    f = compile(lambda x: w)
    f.backward(1.0)
    f.backward(1.0)
    assert w.grad == 2.0


def test_the_untaken_side_of_where_gives_no_nan() -> None:
    w = Value(1.0)
    f = compile(lambda x: w * sg.where(x > 0, x.log(), 0.0))
    for x in (0.0, -1.0):
        assert f.value_and_grad(x, wrt=0) == (0.0, 0.0)
    assert f.value_and_grad(2.0, wrt=0) == (math.log(2.0), 0.5)
    assert f.stats["traces"] == 1


@pytest.mark.parametrize("name", ["value_and_grad", "backward"])
def test_gradients_need_one_number(name: str) -> None:
    f = compile(lambda x: [x, x])
    with pytest.raises(
        ShapeError, match=r"expected a function that returns one number, it returns"
    ):
        getattr(f, name)(1.0)
    assert f(1.0) == [1.0, 1.0]


def test_a_failed_backward_changes_no_gradient() -> None:
    table = [Value(1.0), Value(2.0)]
    f = compile(lambda n: sg.take(table, n))
    f.backward(1)
    with pytest.raises(IndexError):
        f.backward(2)
    assert [w.grad for w in table] == [0.0, 1.0]


# --- branches -----------------------------------------------------------------------------------


def test_a_branch_that_flips_is_never_answered_by_the_old_one() -> None:
    def f(x: Value) -> Value:
        return x * 10 if x > 0 else -x

    g = compile(f)
    assert [g(x) for x in (1.0, -2.0, 3.0, 0.0, -0.0, -1.0)] == [10.0, 2.0, 30.0, -0.0, 0.0, 1.0]
    assert g.stats["variants"] == 2
    assert g.value_and_grad(5.0) == (50.0, 10.0)
    assert g.value_and_grad(-5.0) == (5.0, -1.0)


def test_a_branch_on_a_parameter() -> None:
    w = Value(1.0)
    f = compile(lambda x: w * x if w > 0 else x)
    assert f(3.0) == 3.0
    w.data = -1.0
    assert f(5.0) == 5.0
    w.data = 2.0
    assert f(5.0) == 10.0
    w.data = -1.0
    f.backward(5.0)
    assert w.grad == 0.0
    w.data = 2.0
    f.backward(5.0)
    assert w.grad == 5.0


def test_comparisons_with_nan_are_false() -> None:
    f = compile(lambda x: 1.0 if x > 0 else (2.0 if x <= 0 else 3.0))
    assert [f(x) for x in (1.0, -1.0, math.nan, 1.0, math.nan)] == [1.0, 2.0, 3.0, 1.0, 3.0]
    g = compile(lambda x, y: sg.where(x >= y, 1.0, 0.0) + sg.where(x < y, 10.0, 0.0))
    assert [g(1.0, 0.0), g(0.0, 1.0), g(math.nan, 1.0), g(1.0, math.nan)] == [1.0, 10.0, 0.0, 0.0]
    assert g.stats["traces"] == 1


@pytest.mark.parametrize("relation", [operator.lt, operator.le, operator.gt, operator.ge])
def test_every_relation_both_ways_round(relation: Any) -> None:
    symbolic = compile(lambda x, y: sg.where(relation(x, y), 1.0, 0.0))
    asked = compile(lambda x, y: 1.0 if relation(x, y) else 0.0)
    with_number = compile(lambda x: (1.0 if relation(x, 1.0) else 0.0, relation(1.0, x)))
    numbers = (0.0, -0.0, 1.0, math.inf, -math.inf, math.nan)
    for x in numbers:
        for y in numbers:
            assert symbolic(x, y) == relation(x, y)
            assert asked(x, y) == relation(x, y)
        assert with_number(x) == (relation(x, 1.0), relation(1.0, x))
    assert symbolic.stats["traces"] == 1
    assert asked.stats["variants"] == 2


def test_guards_behind_guards() -> None:
    w = Value(1.0)

    def f(x: Value, y: Value) -> Value:
        if x > 0:
            if y > x:
                return w * y
            return w * x
        if y > 10:
            return w + 100
        return w - 100

    g = compile(f)
    cases = [(1.0, 2.0), (3.0, 2.0), (-1.0, 11.0), (-1.0, 2.0)]
    for w.data in (1.0, 2.0, -3.0):
        for x, y in cases + cases[::-1]:
            assert g(x, y) == f(Value(x), Value(y)).data
    assert g.stats["variants"] == 4


def test_max_min_and_sorted() -> None:
    f = compile(lambda x: [max(x), min(x), *sorted(x), sorted(x)[1] * max(x)])
    rows = [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 3.0, 1.0], [2.0, 2.0, 2.0], [5.0, -5.0, 0.0]]
    for row in rows * 2:
        ordered = sorted(row)
        assert f(row) == [max(row), min(row), *ordered, ordered[1] * max(row)]


def test_truth_of_a_number() -> None:
    f = compile(lambda x: 1.0 if x else 2.0)
    assert [f(x) for x in (3.0, 0.0, -0.0, math.nan, -1.0)] == [1.0, 2.0, 2.0, 1.0, 1.0]


def test_while_loops_are_unrolled_and_traced_again() -> None:
    def halvings(x: Value) -> Any:
        count = 0
        while x > 1:
            x = x / 2
            count += 1
        return count + 0.0 * x

    f = compile(halvings)
    assert [f(x) for x in (8.0, 1.0, 1000.0, 9.0, 8.0)] == [3.0, 0.0, 10.0, 4.0, 3.0]


def test_comparisons_of_constants_are_no_guards() -> None:
    limit = 3.0
    f = compile(lambda x: x if Value(limit) > Value(2.0) and max(Value(1.0), Value(2.0)) else -x)
    assert f(1.0) == 1.0
    assert f.stats["guards"] == 0


def test_a_comparison_asked_twice_is_one_guard() -> None:
    def f(x: Value) -> Value:
        positive = x > 0
        return (x if positive else -x) + (1.0 if positive else 2.0)

    g = compile(f)
    assert [g(1.0), g(-1.0)] == [2.0, 3.0]
    assert g.stats["guards"] == 1


def test_too_many_branches() -> None:
    def f(x: list[Value]) -> float:
        return sum(1.0 for a in x if a > 0)  # branch

    g = compile(f)
    rows = [[1.0 if k >> j & 1 else -1.0 for j in range(7)] for k in range(65)]
    assert [g(row) for row in rows[:64]] == [k.bit_count() for k in range(64)]
    with pytest.raises(TraceError) as caught:
        g(rows[64])
    assert "64 branches were traced" in str(caught.value)
    assert f"> 0.0 at {line_of('branch')}" in str(caught.value)
    assert "scalargrad.where" in str(caught.value)
    assert "numpy.maximum" in str(caught.value)
    assert g([-1.0] * 7) == 0.0  # what was traced still works


def test_a_function_that_changes_its_mind_is_an_error_not_an_endless_loop() -> None:
    flip = [True]

    def f(x: Value) -> Value:
        flip[0] = not flip[0]
        return x if x > (0.0 if flip[0] else 10.0) else -x

    g = compile(f)
    answers = []
    for x in (5.0, 5.0, -5.0, 20.0, 5.0):
        try:
            answers.append(g(x))
        except TraceError:
            answers.append(None)
    assert set(answers) <= {5.0, -5.0, 20.0, None}


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "look"),
    [
        (".data", lambda v: v.data),
        ("float()", float),
        ("int()", int),
        ("round()", round),
        ("round()", lambda v: round(v, 2)),
        ("math.floor()", math.floor),
        ("math.ceil()", math.ceil),
        ("math.trunc()", math.trunc),
        ("float()", math.exp),
        ("format()", lambda v: f"{v:.3f}"),
        ("float()", lambda v: math.isclose(v, 2.0)),
        ("float()", lambda v: np.array([v], dtype=float)),
        (".grad", lambda v: v.grad),
        ("backward()", lambda v: (v * 2).backward()),
        ("_local_grads", lambda v: (v * v)._local_grads),
        ("copy.deepcopy()", copy.deepcopy),
        ("copy.copy()", copy.copy),
        ("pickling", pickle.dumps),
        ("Graph.forward()", lambda v: Graph(v * 2).forward()),
        ("Graph.backward()", lambda v: Graph(v * 2).backward()),
    ],
)
def test_reading_a_number_is_refused_with_its_line(what: str, look: Any) -> None:
    w = Value(2.0)
    for traced in (lambda x: x, lambda x: w, lambda x: x * 2 + 1, lambda x: w.exp()):
        with pytest.raises(TraceError) as caught:
            compile(lambda x, traced=traced: (look(traced(x)), x)[1])(1.0)
        message = str(caught.value)
        assert message.startswith(what)
        assert re.search(f"({HERE}|copy.py):[0-9]+", message)
        gradient = what in (".grad", "backward()", "_local_grads", "Graph.backward()")
        remedies = ("scalargrad.grad",) if gradient else ("scalargrad.maximum", "detach")
        assert all(remedy in message for remedy in remedies)


@pytest.mark.parametrize(
    ("look", "said", "remedy"),
    [
        (lambda x: 1.0 if x > 0 else 0.0, "The truth value of an array", "scalargrad.where"),
        (lambda x: 1.0 if np.sin(x) > x else 0.0, "The truth value of", "maximum or minimum"),
        (np.arctan, "loop of ufunc .* no callable arctan", "exp, log, .* softplus"),
        (np.isfinite, "ufunc 'isfinite' not supported", "exp, log, .* softplus"),
        (lambda x: np.logaddexp(x, 1.0), "ufunc 'logaddexp' not supported", "softplus"),
    ],
)
def test_what_numpy_cannot_do_with_values_has_a_line_and_a_remedy(
    look: Any, said: str, remedy: str
) -> None:
    f = compile(lambda x: np.sum(look(x)))
    with pytest.raises(TraceError, match=rf"(?s)^{said}.*{HERE}:[0-9]+.*{remedy}"):
        f(np.array([1.0, 2.0]))


def test_other_errors_of_numpy_pass() -> None:
    with pytest.raises(ValueError, match=r"^matmul: Input operand 1 has a mismatch"):
        compile(lambda x, y: x @ y)(np.ones(2), np.ones(3))


def test_constants_may_be_read() -> None:
    f = compile(lambda x: x * (Value(2.0) * 3.0).data + float(Value(1.0)))
    assert f(1.0) == 7.0


@pytest.mark.parametrize("name", ["data", "grad"])
def test_writing_a_number_is_refused(name: str) -> None:
    w = Value(2.0)

    def f(x: Value) -> Value:
        setattr(w, name, 3.0)
        return w * x

    with pytest.raises(TraceError, match=f"^.{name} of 2.0 was assigned at {HERE}:"):
        compile(f)(1.0)
    assert (w.data, w.grad) == (2.0, 0.0)


def test_no_grad_inside_is_refused_and_outside_is_of_no_matter() -> None:
    w = Value(2.0)

    def f(x: Value) -> Value:
        with no_grad():
            y = w * x
        return y * w

    with pytest.raises(TraceError, match=r"^no_grad\(\) at .*detach\(\)"):
        compile(f)(1.0)
    g = compile(lambda x: w * x)
    with no_grad():
        assert g(3.0) == 6.0
        g.backward(3.0)
    assert w.grad == 3.0


def test_detach_is_part_of_the_program() -> None:
    w = Value(2.0)
    f = compile(lambda x: w.detach() * w * x)
    assert f.value_and_grad(3.0)[1].tolist() == [6.0]
    w.data = 5.0
    assert f(3.0) == 75.0
    assert f.value_and_grad(3.0)[1].tolist() == [15.0]


def test_results_from_before_are_refused() -> None:
    w = Value(2.0)
    square = w * w
    square.label = "square"
    with pytest.raises(TraceError, match=r"^the function uses square \(mul = 4.0\)"):
        compile(lambda x: square * x)(1.0)
    with pytest.raises(TraceError, match=r"computed before it was called"):
        compile(lambda x: [x, square])(1.0)
    held = square.detach()
    f = compile(lambda x: held * x)
    assert f(3.0) == 12.0
    assert f.parameters == [held]


def test_the_state_of_the_engine_is_restored() -> None:
    with pytest.raises(ZeroDivisionError):
        compile(lambda x: x * (1 // 0))(1.0)
    assert (Value(1.0) > 0) is True
    with pytest.raises(TraceError):
        compile(lambda x: x.data)(1.0)
    assert Value(1.0).data == 1.0


def test_conditions_kept_after_the_trace_answer_for_its_numbers() -> None:
    kept = []
    f = compile(lambda x: kept.append(x > 0) or x)
    f(1.0)
    assert bool(kept[0]) is True


# --- called with Values, or inside other programs ------------------------------------------------


def test_called_with_values_it_is_the_function() -> None:
    w = Value(3.0)
    f = compile(lambda x: w * x)
    x = Value(2.0)
    y = f(x)
    assert isinstance(y, Value)
    y.backward()
    assert (x.grad, w.grad) == (3.0, 2.0)
    assert f.backward(x) == 6.0
    assert (x.grad, w.grad) == (6.0, 4.0)
    assert f([x] and x).data == 6.0
    with pytest.raises(TypeError, match=r"scalargrad\.value_and_grad"):
        f.value_and_grad(x)
    with pytest.raises(ShapeError, match=r"expected the function to return one Value, got list"):
        compile(lambda x: [x]).backward(x)
    with pytest.raises(TypeError, match=r"expected plain numbers"):
        f.trace(x)


def test_compiled_functions_nest() -> None:
    w = Value(3.0)
    inner = compile(lambda x: w * x if x > 0 else x)
    outer = compile(lambda x: inner(x) + inner(2.0))
    assert outer(1.0) == 9.0
    assert outer(-1.0) == 5.0
    w.data = 10.0
    assert outer(1.0) == 30.0
    assert outer.value_and_grad(1.0)[1].tolist() == [3.0]
    with pytest.raises(TraceError, match=r"^backward\(\) of <lambda> at .*scalargrad\.grad"):
        compile(lambda x: [inner.backward(2.0), x])(1.0)
    with pytest.raises(TypeError, match=r"^value_and_grad takes and gives plain numbers"):
        compile(lambda x: [inner.value_and_grad(2.0), x])(1.0)


def test_inside_a_function_that_is_differentiated() -> None:
    w = Value(2.0)
    g = sg.grad(lambda x: compile(lambda y: w * x * y)(2.0))
    assert g(3.0) == 4.0
    f = compile(lambda x: w * x**3)
    assert sg.grad(f)(2.0) == 24.0
    assert sg.grad(sg.grad(f))(2.0) == 24.0
    assert compile(lambda x: sg.grad(f)(x) + x)(2.0) == 26.0
    assert compile(sg.grad(f)).value_and_grad(2.0, wrt=0) == (24.0, 24.0)
    with pytest.raises(TraceError, match=r"^backward\(\) of <lambda> at .*differentiated"):
        sg.grad(lambda x: [x, f.backward(2.0)][0])(1.0)


def test_batches_of_values() -> None:
    w = Value(3.0)
    f = compile(lambda x, y, s: w * x[0] * y["k"] * s, batch="mean")
    xs, ys = np.array([[Value(1.0)], [Value(2.0)]]), {"k": [1.0, 10.0]}
    total = f(xs, y=ys, s=1.0)
    assert isinstance(total, Value)
    assert total.data == 31.5
    total.backward()
    assert [x.grad for x in xs[:, 0]] == [1.5, 15.0]
    with pytest.raises(ShapeError, match=r"x has 2 examples, y has 1"):
        f(xs, {"k": [1.0]}, 1.0)


def test_detect_anomaly_names_the_line() -> None:
    w = Value(0.0)
    f = compile(lambda x: (w * x).log())  # log
    assert f(1.0) == -math.inf
    with detect_anomaly(), pytest.raises(AnomalyError, match=re.escape(line_of("log"))):
        f(1.0)
    root = compile(lambda x: (w * x).sqrt())
    with detect_anomaly():
        assert root(1.0) == 0.0
        with pytest.raises(AnomalyError, match=r"backward through sqrt"):
            root.backward(1.0)
        with pytest.raises(AnomalyError, match=r"backward through sqrt"):
            root.value_and_grad(1.0)
    assert w.grad == 0.0
    batch = compile(lambda x, n: (sg.take([w, w + 1], n) * x).sqrt(), batch="sum")
    with detect_anomaly():
        w.data = 4.0
        assert batch([1.0, 4.0], [0, 0]) == 6.0
        assert f(1.0) == math.log(4.0)


# --- batches ------------------------------------------------------------------------------------


def eager_batch(f: Any, reduce: str, *columns: Any) -> Value:
    """What the batched function promises to equal."""
    results = [f(*row) for row in zip(*columns)]
    return (functional.mean if reduce == "mean" else functional.total)(results)


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
def test_a_batch_equals_the_loop_bit_for_bit(reduce: str, count: int) -> None:
    rng = np.random.default_rng(count)
    model = nn.MLP(3, [4, 3], activation="tanh")
    x, y = rng.normal(size=(count, 3)), rng.integers(0, 3, count)

    def loss(x: Any, y: Any) -> Value:
        return losses.cross_entropy(model(x), y) + 0.1 * sum(p * p for p in model.parameters())

    f = compile(loss, batch=reduce)
    for _ in range(2):
        for p in model.parameters():
            p.grad = float(rng.normal())
        before = [p.grad for p in model.parameters()]
        eager = eager_batch(loss, reduce, [[Value(a) for a in row] for row in x], y.tolist())
        eager.backward()
        expected = [p.grad for p in model.parameters()]
        for p, grad in zip(model.parameters(), before):
            p.grad = grad
        value = f.backward(x, y)
        assert bits(value) == bits(eager.data)
        assert bits(f(x, y)) == bits(eager.data)
        assert same_bits([p.grad for p in model.parameters()], expected)
        for p in model.parameters():
            p.data = p.data - 0.1 * p.grad


def test_gradients_of_batched_and_shared_arguments() -> None:
    w = Value(0.7)

    def f(x: Any, pair: Any, scale: Any) -> Any:
        return (w * x[0] * scale + pair[0] * scale).tanh() * pair[1]["k"]

    x = [[0.1], [0.2], [-0.3]]
    pair = (np.array([1.0, 2.0, 3.0]), {"k": [5.0, 6.0, 7.0]})
    g = compile(f, batch="mean")
    value, (dx, dpair, dscale, dw) = g.value_and_grad(x, pair, 0.3, wrt=(0, 1, 2, "parameters"))

    xs = [[Value(a) for a in row] for row in x]
    ps, ks = [Value(a) for a in pair[0]], [Value(a) for a in pair[1]["k"]]
    scale = Value(0.3)
    eager = functional.mean([f(x, (p, {"k": k}), scale) for x, p, k in zip(xs, ps, ks)])
    eager.backward()
    assert bits(value) == bits(eager.data)
    assert same_bits([a for row in dx for a in row], [a.grad for row in xs for a in row])
    assert same_bits(dpair[0], [p.grad for p in ps])
    assert isinstance(dpair[0], np.ndarray)
    assert same_bits(dpair[1]["k"], [k.grad for k in ks])
    assert bits(dscale) == bits(scale.grad)
    assert bits(dw[0]) == bits(w.grad)


def test_shapes_of_batches() -> None:
    f = compile(lambda x: x.sum() if hasattr(x, "sum") else x, batch="sum")
    assert f(np.ones((4, 2, 3))) == 24.0
    assert f(np.ones(4)) == 4.0
    assert f(np.float32([1.5, 2.5])) == 4.0
    assert f([1.0, 2.0, 3.0]) == 6.0
    assert f(np.ones((1, 2))) == 2.0
    assert f.stats["structures"] == 4  # how many examples there are is no part of the structure
    g = compile(lambda x, n: x[0] * n, batch="sum")
    assert g([np.array([1.0, 2.0]), np.array([3.0, 4.0])], 2) == 8.0
    assert g(([1.0, 2.0], None), 3.0) == 9.0


def test_batches_that_are_none() -> None:
    f = compile(lambda x, y: x * y, batch="mean")
    with pytest.raises(ShapeError, match=r"^batch: expected at least one example, x is empty"):
        f(np.empty(0), np.empty(0))
    with pytest.raises(ShapeError, match=r"^batch: expected at least one example, x is empty"):
        f([], [])
    with pytest.raises(ShapeError, match=r"^batch: x has 3 examples, y has 2: expected equally"):
        f([1.0, 2.0, 3.0], np.ones(2))
    for _ in range(2):
        with pytest.raises(ShapeError, match=r"^batch: .*, got a number for x and None for y"):
            f(1.0, None)
    with pytest.raises(ShapeError, match=r"^batch: .*, got str 'a' for x and Value .* for y"):
        f("a", Value(1.0))
    with pytest.raises(ShapeError, match=r"^batch: .*, got no arguments"):
        compile(lambda: 1.0, batch="mean")()
    g = compile(lambda x: x[0], batch="mean")
    with pytest.raises(ShapeError, match=r"^x: ragged batch: example 1 is a list of 1 numbers, ex"):
        g([[1.0, 2.0], [1.0]])
    with pytest.raises(ShapeError, match=r"^x: ragged batch: example 2 is a number, example 0 is"):
        g([[1.0, 2.0], [1.0, 2.0], 3.0])
    with pytest.raises(TypeError, match=r"^x\[1\]\[0\]: expected a number"):
        g([[1.0], [{2}]])
    h = compile(lambda x: [x, x], batch="mean")
    with pytest.raises(ShapeError, match=r"expected a function that returns one number"):
        h([1.0, 2.0])


def test_a_batch_that_disagrees_on_a_branch() -> None:
    f = compile(lambda x: x if x > 0 else -x, batch="sum")  # mixture
    assert f([1.0, 2.0]) == 3.0
    assert f([-1.0, -2.0]) == 3.0  # all alike: the other branch
    with pytest.raises(TraceError) as caught:
        f([1.0, 2.0, -3.0])
    message = str(caught.value)
    assert (
        f"x > 0.0 at {line_of('mixture')} is True for example 0 and False for example 2" in message
    )
    assert "scalargrad.where" in message


def test_a_batch_in_which_numpy_asks() -> None:
    f = compile(lambda x: np.maximum(x, 0.5).sum(), batch="sum")  # NumPy
    with pytest.raises(TraceError) as caught:
        f(np.array([[1.0, 2.0], [1.0, 0.0]]))
    message = str(caught.value)
    assert f"x[1] >= 0.5 at {line_of('NumPy')}" in message
    assert "of each number of an array numpy.maximum, clip, where and sort" in message


def test_a_failed_batch_changes_no_gradient() -> None:
    w = Value(1.0)
    f = compile(lambda x: w * x if x > 0 else w, batch="sum")
    with pytest.raises(TraceError):
        f.backward([1.0, -1.0])
    assert w.grad == 0.0


# --- results beside the loss ---------------------------------------------------------------------


def test_has_aux() -> None:
    w = Value(3.0)
    f = compile(lambda x, y: ((w * x - y) ** 2, {"prediction": w * x, "n": 7}), has_aux=True)
    assert f(2.0, 5.0) == (1.0, {"prediction": 6.0, "n": 7})
    assert f.backward(2.0, 5.0) == (1.0, {"prediction": 6.0, "n": 7})
    assert w.grad == 4.0
    (value, aux), gradient = f.value_and_grad(2.0, 5.0)
    assert (value, aux["prediction"], gradient.tolist()) == (1.0, 6.0, [4.0])
    numbers = compile(lambda x: (x * x, x), has_aux=True)
    assert numbers.value_and_grad(3.0) == ((9.0, 3.0), 6.0)


def test_has_aux_stacks_a_batch() -> None:
    w = Value(2.0)

    def f(x: Any, n: Any) -> Any:
        row = [w * a for a in x]
        aux = {
            "number": x[0],
            "list": row,
            "matrix": [row, row],
            "array": np.array([row]),
            "ragged": ([x[0]], [x[0], x[1]]),
            "index": n,
            "truth": x[0] < x[1],
            "mixed": (n, x[0]),
            "fixed": "text",
        }
        return functional.total(row), aux

    g = compile(f, batch="mean", has_aux=True)
    x, n = np.array([[1.0, 2.0], [3.0, 1.0], [0.0, 5.0]]), np.array([4, 5, 6])
    value, aux = g.backward(x, n)
    assert value == 8.0
    assert w.grad == 4.0
    assert aux["number"].tolist() == [1.0, 3.0, 0.0]
    assert aux["list"].tolist() == (2 * x).tolist()
    assert aux["matrix"].tolist() == [[a, a] for a in (2 * x).tolist()]
    assert aux["array"].shape == (3, 1, 2)
    assert [part.shape for part in aux["ragged"]] == [(3, 1), (3, 2)]
    assert aux["index"].tolist() == [4, 5, 6]
    assert aux["index"].dtype == np.int64
    assert aux["truth"].tolist() == [True, False, True]
    assert aux["mixed"].tolist() == [[4.0, 1.0], [5.0, 3.0], [6.0, 0.0]]
    assert aux["fixed"] == "text"
    again, same = g(x, n)
    assert (again, same["list"].tolist()) == (8.0, aux["list"].tolist())


def test_has_aux_of_values() -> None:
    w = Value(2.0)
    f = compile(lambda x: (w * x, [x, 1.0]), batch="mean", has_aux=True)
    total, aux = f([Value(1.0), Value(3.0)])
    assert total.data == 4.0
    assert [[a.data for a in row] for row in aux] == [[1.0, 1.0], [3.0, 1.0]]
    value, _ = f.backward([Value(1.0), Value(3.0)])
    assert (value, w.grad) == (4.0, 2.0)
    single = compile(lambda x: (w * x, x), has_aux=True)
    x = Value(5.0)
    assert single.backward(x) == (10.0, x)
    with pytest.raises(ShapeError, match=r"^aux: expected results of one structure"):
        compile(lambda x: (x[0], x), batch="sum", has_aux=True)([[Value(1.0)], [Value(1.0)] * 2])
    with pytest.raises(TypeError, match=r"^aux\[0\]: expected a Value"):
        compile(lambda x: (x, [{1}]), batch="sum", has_aux=True)([Value(1.0)])
    with detect_anomaly():
        assert single(5.0) == (10.0, 5.0)
        assert single.backward(5.0) == (10.0, 5.0)


def test_has_aux_needs_a_pair() -> None:
    for result in (1.0, [1.0, 2.0], (1.0, 2.0, 3.0), (1.0,)):
        f = compile(lambda x, result=result: result, has_aux=True)
        with pytest.raises(TypeError, match=r"^result: expected a pair \(loss, aux\)"):
            f(1.0)
        with pytest.raises(TypeError, match=r"^result: expected a pair \(loss, aux\)"):
            f.backward(Value(1.0))
    with pytest.raises(ShapeError, match=r"returns one number, and aux beside it, it returns a li"):
        compile(lambda x: ([x], x), has_aux=True)(1.0)
    with pytest.raises(ValueError, match=r"^has_aux: expected True or False, got 1"):
        compile(lambda x: x, has_aux=1)  # type: ignore[call-overload]


# --- indices ------------------------------------------------------------------------------------


def test_out_of_range_names_argument_index_and_length() -> None:
    table = [Value(1.0), Value(2.0)]
    f = compile(lambda tokens: sum(sg.take(table, t) for t in tokens))
    assert f([0, 1, 1]) == 5.0
    for wrong in (2, -1, 2**60):
        message = rf"^tokens\[1\]: index {wrong} is out of range for 2 values: expected 0 to 1"
        with pytest.raises(IndexError, match=message):
            f([0, wrong, 1])
    batch = compile(lambda t: sg.take(table, t), batch="sum")
    with pytest.raises(IndexError, match=r"^t: index 5 is out of range for 2 values in example 2"):
        batch(np.array([0, 1, 5]))
    with pytest.raises(IndexError, match=r"^t: index 7 is out of range for 2 values"):
        batch(np.array([7, 1]))
    assert batch(np.array([0, 1, 0])) == 4.0


def test_an_index_that_is_only_used_on_one_branch() -> None:
    table = [Value(1.0), Value(2.0)]

    def f(x: Value, n: Any) -> Value:
        return sg.take(table, n) * x if x > 0 else x

    g = compile(f)
    assert g(3.0, 1) == 6.0
    assert g(-3.0, 99) == -3.0
    assert g(-3.0, -1) == -3.0
    with pytest.raises(IndexError, match=r"^n: index 99 is out of range"):
        g(3.0, 99)
    h = compile(lambda n: sg.take(table, n) if n < 2 else 0.0 * table[0])
    assert [h(1), h(5), h(0)] == [2.0, 0.0, 1.0]
    with pytest.raises(IndexError, match=r"^n: index -1 is out of range"):
        h(-1)


def test_a_guard_on_what_an_index_selected_before_another_fails() -> None:
    def f(x: list[Value], y: list[Value], n: Any) -> Value:
        chosen = sg.take(x, n)
        return sg.take(y, n) if chosen > 0 else chosen

    g = compile(f)
    assert g([1.0, 2.0, -3.0], [10.0, 20.0], 1) == 20.0
    assert g([1.0, 2.0, -3.0], [10.0, 20.0], 2) == -3.0
    with pytest.raises(IndexError, match=r"^n: index 2 is out of range for 2 values"):
        g([1.0, 2.0, 3.0], [10.0, 20.0], 2)


def test_integers_too_large_for_float64() -> None:
    f = compile(lambda n: n * 1.0)
    assert f(2**53) == 2.0**53
    with pytest.raises(ValueError, match=r"^n: expected an integer of at most 2\^53"):
        f(2**53 + 2)


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "quick"}, "^mode: expected 'exact' or 'fast', got 'quick'"),
        ({"dtype": "float16"}, "^dtype: expected 'float64' or 'float32', got 'float16'"),
        ({"batch": "max"}, "^batch: expected None or 'mean' or 'sum', got 'max'"),
        ({"backend": "abacus"}, "^backend: expected None or .*'jax', got 'abacus'"),
        ({"mode": ["exact"]}, r"^mode: expected .*, got \['exact'\]"),
        (
            {"backend": "interpreter", "dtype": "float32"},
            "^dtype: expected 'float64' for backend 'interpreter', got 'float32'",
        ),
    ],
)
def test_unknown_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compile(lambda x: x, **options)


def test_as_a_decorator() -> None:
    @compile(backend="interpreter")
    def f(x: Value) -> Value:
        """Twice x."""
        return 2 * x

    @compile
    def g(x: Value) -> Value:
        return 3 * x

    assert (f(1.0), g(1.0)) == (2.0, 3.0)
    assert (f.__name__, f.__doc__) == ("f", "Twice x.")
    assert repr(f) == "<compiled function f, backend 'interpreter'>"
    with pytest.raises(TypeError, match=r"^function: expected a function, got int"):
        compile(3)  # type: ignore[call-overload]


class Line(nn.Module):
    def __init__(self, slope: float) -> None:
        self.slope = Value(slope)

    @compile
    def at(self, x: Value) -> Value:
        return self.slope * x


def test_methods() -> None:
    a, b = Line(2.0), Line(3.0)
    assert (a.at(1.0), b.at(1.0), a.at(2.0)) == (2.0, 3.0, 4.0)
    assert isinstance(Line.at, CompiledFunction)
    assert a.at is a.at
    assert a.parameters() == [a.slope]
    assert list(a.state_dict()) == ["slope"]
    twin = copy.deepcopy(a)
    twin.slope.data = 10.0
    assert (twin.at(1.0), a.at(1.0)) == (10.0, 2.0)
    assert twin.at.parameters == [twin.slope]


def test_methods_of_pickled_objects() -> None:
    a = Line(2.0)
    assert a.at(1.0) == 2.0
    twin = pickle.loads(pickle.dumps(a))
    twin.slope.data = 10.0
    assert (twin.at(1.0), a.at(1.0)) == (10.0, 2.0)
    assert twin.at.parameters == [twin.slope]
    method = pickle.loads(pickle.dumps(a.at))
    assert method(3.0) == 6.0
    assert method.parameters != a.at.parameters


def test_a_method_of_a_shallow_copy_is_its_own() -> None:
    a = Line(2.0)
    assert a.at(3.0) == 6.0
    twin = copy.copy(a)
    twin.slope = Value(10.0)
    assert (twin.at(3.0), a.at(3.0)) == (30.0, 6.0)
    assert twin.at is twin.at is not a.at


def test_methods_given_to_a_class_later() -> None:
    class Late:
        one: Any
        two: Any

    Late.one, Late.two = compile(lambda self, x: x + 1), compile(lambda self, x: x + 2)
    late = Late()
    assert [late.one(1.0), late.two(1.0), late.one(1.0)] == [2.0, 3.0, 2.0]


class SteepLine(Line):
    @compile
    def at(self, x: Value) -> Value:
        return 2 * super().at(x)


class LineInPython(Line):
    def at(self, x: float) -> Any:
        return 2 * super().at(x)


@pytest.mark.parametrize("kind", [SteepLine, LineInPython])
def test_a_method_that_asks_that_of_its_base_class(kind: type[Line]) -> None:
    line = kind(2.0)
    assert [line.at(1.0), line.at(3.0), line.at(1.0)] == [4.0, 12.0, 4.0]


def test_a_method_needs_a_place_in_its_object() -> None:
    class Slotted:
        __slots__ = ()
        at = compile(lambda self, x: x)

    with pytest.raises(
        TypeError, match=r"Slotted\.at: expected an object with a __dict__ .*, got Slotted"
    ):
        Slotted().at(1.0)


@compile
def doubled(x: Value) -> Value:
    return 2 * x


def test_pickling_refers_to_the_function() -> None:
    assert copy.deepcopy(doubled) is doubled
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(compile(lambda x: x))


def test_any_callable() -> None:
    class Model:
        def __init__(self) -> None:
            self.w = Value(2.0)

        def __call__(self, x: Value) -> Value:
            return self.w * x

    f = compile(Model())
    assert f(3.0) == 6.0
    assert f.__name__ == "Model"
    assert compile(Value.exp)(0.0) == 1.0
    assert compile(max)(3.0, 2.0) == 3.0


# --- looking ------------------------------------------------------------------------------------


def test_before_the_first_call() -> None:
    f = compile(lambda x: x)
    for look in (lambda: f.parameters, lambda: f.graph, f.explain):
        with pytest.raises(TraceError, match=r"<lambda> was not called yet"):
            look()
    assert f.stats["traces"] == 0


def test_parameters_of_all_branches() -> None:
    a, b, c = Value(1.0), Value(2.0), Value(3.0)
    f = compile(lambda x: b * x if x > 0 else a * x * c)
    assert f.value_and_grad(1.0)[1].tolist() == [1.0]
    assert f.parameters == [b]
    assert f.value_and_grad(-1.0)[1].tolist() == [-3.0, 0.0, -1.0]
    assert f.parameters == [a, b, c]
    assert f.value_and_grad(1.0)[1].tolist() == [0.0, 1.0, 0.0]


def test_graph_and_explain() -> None:
    w = Value(2.0, "w")
    f = compile(lambda x: (w * x).relu() if x > 0 else x)  # explained
    f(3.0)
    assert isinstance(f.graph, Graph)
    assert f.graph.op_counts() == {"mul": 1, "relu": 1, "less": 1}
    assert "w * x" in str(f.graph)
    text = f.explain()
    assert "1 parameters, 1 of 1 arguments, 1 constants, 1 results: a number" in text
    assert line_of("explained") in text
    assert "True  x > 0.0 at" in text
    for op in ("mul", "relu", "less"):
        assert op in text


# --- threads ------------------------------------------------------------------------------------


def test_threads_take_turns() -> None:
    w = Value(3.0)
    f = compile(lambda x: w * x * x if x > 0 else w * x)
    problems: list[Any] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for x in rng.normal(size=200):
            expected = 3.0 * x * x if x > 0 else 3.0 * x
            value, gradient = f.value_and_grad(float(x))
            if value != expected or gradient[0] != (x * x if x > 0 else x):
                problems.append((x, value, gradient))
            f.backward(1.0)

    in_threads(*(partial(work, seed) for seed in range(4)))
    assert problems == []
    assert w.grad == 800.0


def test_threads_take_turns_where_the_interpreter_lets_others_run() -> None:
    # As many nodes as it takes for that, where compiled; as plain Python they would take minutes.
    examples = 200_000 if sg.compiled else 50
    w = Value(3.0)
    f = compile(lambda x: w * x, backend="interpreter", batch="sum")
    found: dict[int, tuple[float, float]] = {}

    def work(number: int) -> None:
        value, gradient = f.value_and_grad(np.full(examples, float(number)))
        found[number] = value, gradient[0]

    in_threads(*(partial(work, number) for number in range(1, 5)))
    assert found == {n: (3.0 * n * examples, 1.0 * n * examples) for n in range(1, 5)}


# --- faults that must be seen -------------------------------------------------------------------


@needs_fork
def test_a_process_forked_in_the_middle_of_a_call_may_call() -> None:
    program = (
        "import os, signal, threading\n"
        "import scalargrad as sg\n"
        "tracing, forked = threading.Event(), threading.Event()\n"
        "@sg.compile\n"
        "def f(x):\n"
        "    tracing.set(); forked.wait(60)\n"
        "    return x * 2.0\n"
        "thread = threading.Thread(target=f, args=(1.0,))\n"
        "thread.start(); tracing.wait(60)\n"
        "child = os.fork()\n"
        "forked.set()\n"
        "if not child:\n"
        "    signal.alarm(20)\n"
        "    os._exit(int(f(3.0)))\n"
        "thread.join()\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), f(4.0))\n"
    )
    assert run_python("-W", "ignore::DeprecationWarning", "-c", program).split() == ["6", "8.0"]


class Calling(tuple[Any, ...]):
    """A result that calls the function whose result it is, while that is being built."""

    function: CompiledFunction | None = None

    def __new__(cls, items: Any) -> Calling:
        function, Calling.function = Calling.function, None
        if function is not None:
            function([10.0, 20.0])
            function.value_and_grad([10.0, 20.0])
            function.backward([10.0, 20.0])
            function.trace([10.0, 20.0])
            function.work(Variant.forward, [10.0, 20.0])
        Calling.function = function
        return super().__new__(cls, items)


@pytest.mark.parametrize("backend", ["interpreter", None])
def test_a_call_in_the_middle_of_a_call_disturbs_neither(backend: str | None) -> None:
    f = compile(
        lambda x: (x[0] * x[1], (Calling([x[0], x[1]]), [x[0] + 1.0, x[1]])),
        has_aux=True,
        backend=backend,
    )
    want = 2.0, ((1.0, 2.0), [2.0, 2.0])
    f([1.0, 2.0])
    for native in range(2):
        for ask in (f, lambda x: f.value_and_grad(x)[0], f.backward):
            for _ in range(3):
                Calling.function = f
                got, Calling.function = ask([1.0, 2.0]), None
                assert got == want
        assert f.value_and_grad([1.0, 2.0])[1] == [2.0, 1.0]
        if backend is None and not native:
            f.native()


def test_a_call_in_the_middle_of_a_call_gives_gradients_for_the_same_parameters() -> None:
    a, b = Value(2.0), Value(3.0)
    asking: list[bool] = []
    inner: list[list[float]] = []

    class Asking(tuple[Any, ...]):
        def __new__(cls, items: Any) -> Any:
            if asking:
                asking.clear()
                inner.append(f.value_and_grad(1.0)[1].tolist())
                inner.append(f.value_and_grad(-1.0)[1].tolist())
            return super().__new__(cls, items)

    f = compile(lambda x: (a * x if x > 0 else b * x, Asking([x])), has_aux=True)
    f(-1.0)  # knows of b alone
    asking.append(True)
    assert f.value_and_grad(-1.0)[1].tolist() == [-1.0]
    assert inner == [[1.0, 0.0], [0.0, -1.0]]
    assert f.value_and_grad(-1.0)[1].tolist() == [0.0, -1.0]
    assert f.parameters == [a, b]
    assert f.value_and_grad(1.0)[1].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("backend", ["interpreter", None])
def test_nan_has_the_eager_gradient(backend: str | None) -> None:
    def relu(x: Value) -> Value:
        return 3.0 * x.relu()

    f = compile(relu, backend=backend)
    for x in (math.nan, 0.0, 1.0):
        v = Value(x)
        relu(v).backward()
        for _ in range(2):
            assert f.value_and_grad(x)[1] == v.grad
            f.explain()  # which waits for native code


def test_a_compiler_that_forgets_guards_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Variant, "flipped", lambda self, outputs: None)
    f = compile(lambda x: x if x > 0 else -x)
    assert f(1.0) == 1.0
    assert f(-1.0) == -1.0  # wrong, as planted: the tests above would fail


def test_a_seed_of_one_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = Variant.backward
    monkeypatch.setattr(
        Variant,
        "backward",
        lambda self, rows, seed, out, accumulate: genuine(self, rows, 1.0, out, accumulate),
    )
    w = Value(1.0)
    f = compile(lambda x: w * x, batch="mean")
    f.backward([1.0, 2.0])
    assert w.grad != 1.5
