"""Calls: names, keywords, and the plan of where each number goes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import scalargrad as sg
from scalargrad.compiler.arguments import ArgumentNames, Layout, examples, read
from scalargrad.errors import ShapeError

pytestmark = pytest.mark.pure


def f(a: Any, b: Any = 2.0, /, c: Any = 3.0, *rest: Any, d: Any = 4.0, **more: Any) -> None: ...


def layout(*args: Any, batched: bool = False, **kwargs: Any) -> tuple[Layout, Any]:
    names = ArgumentNames(f)
    call, chunks = read(names, args, kwargs, batched)
    plan = Layout(call, names)
    return plan, plan.rows(chunks) if batched else plan.row(chunks)


def test_names() -> None:
    names = ArgumentNames(f)
    assert [names.name(k) for k in range(5)] == ["a", "b", "c", "rest[0]", "rest[1]"]
    assert ArgumentNames(max).name(1) == "arguments[1]"


def test_a_function_that_does_not_tell_its_arguments() -> None:
    names = ArgumentNames(max)
    call, chunks = read(names, (1.0,), {"default": 2.0}, False)
    assert call.keywords == ("default",)
    assert chunks == [1.0, 2.0]


def test_rows_and_names() -> None:
    plan, row = layout([1.0, 2.0], 3, np.array([[4.0], [5.0]]), 6.0, d={"k": 7}, e=(8.0,))
    assert row.tolist() == [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]]
    assert plan.names == (
        *("a[0]", "a[1]", "b", "c[0, 0]", "c[1, 0]", "rest[0]", "d['k']", "e[0]"),
    )
    assert plan.kinds == ("number",) * 2 + ("index",) + ("number",) * 3 + ("index", "number")
    assert [(s.start, s.stop) for s in plan.columns] == (
        [(0, 2), (2, 3), (3, 5), (5, 6), (6, 7), (7, 8)]
    )
    assert plan.shared.all()


def test_the_row_is_reused() -> None:
    names = ArgumentNames(f)
    call, chunks = read(names, ([1.0, 2.0], np.ones((2, 2)), 3.0), {}, False)
    plan = Layout(call, names)
    first = plan.row(chunks)
    again = plan.row(read(names, ([5.0, 6.0], np.zeros((2, 2)).T, np.array(7.0)), {}, False)[1])
    assert again is first
    assert again.tolist() == [[5.0, 6.0, 0.0, 0.0, 0.0, 0.0, 7.0]]


def test_equal_calls_have_equal_signatures() -> None:
    names = ArgumentNames(f)
    positional = read(names, (1.0, 2.0, 3.0), {}, False)[0]
    assert read(names, (1.0, 2.0), {"c": 3.0}, False)[0] == positional
    assert read(names, (1.0, 2.0, 3.0), {"d": 1.0}, False)[0] != positional


def test_batches() -> None:
    plan, rows = layout([[1.0, 2.0], [3.0, 4.0]], 5.0, (np.array([6, 7]), 8), batched=True)
    assert rows.tolist() == [[1.0, 2.0, 5.0, 6.0, 8.0], [3.0, 4.0, 5.0, 7.0, 8.0]]
    assert plan.shared.tolist() == [False, False, True, False, True]
    with pytest.raises(ShapeError, match="a has 2 examples, c has 3"):
        layout([1.0, 2.0], 1.0, {"k": [1.0, 2.0, 3.0]}, batched=True)


def test_examples() -> None:
    names = ArgumentNames(f)
    found = list(examples(names, ([1, 2],), {"d": ({"k": np.array([3, 4])}, 5)}))
    assert [(args[0], kwargs["d"][0]["k"], kwargs["d"][1]) for args, kwargs in found] == (
        [(1, 3, 5), (2, 4, 5)]
    )
    with pytest.raises(ShapeError, match="expected at least one array or list"):
        list(examples(names, (1,), {}))


HUGE = 2**1024


@pytest.mark.parametrize(
    ("args", "batch", "name"),
    [
        ((HUGE,), None, "x"),
        (([1, HUGE],), None, r"x\[1\]"),
        (([1.0, -HUGE],), None, r"x\[1\]"),
        (({"a": (1.0, [2, HUGE])},), None, r"x\['a'\]\[1\]\[1\]"),
        ((1.0, Fraction(HUGE, 3) * 4), None, "y"),
        (([1, HUGE],), "mean", r"x\[1\]"),
        (([[1, 2], [3, HUGE]],), "sum", r"x\[1\]\[1\]"),
        (([1.0, 2.0], HUGE), "sum", "y"),
    ],
)
def test_numbers_beyond_float64_are_named(args: Any, batch: str | None, name: str) -> None:
    compiled = sg.compile(lambda x, y=0.0: sg.Value(1.0), batch=batch)
    for function in (compiled, compiled.value_and_grad, compiled.backward):
        with pytest.raises(OverflowError, match=rf"^{name}: expected a number that float64 can"):
            function(*args)
    with pytest.raises(OverflowError, match=r"^y: expected a number that float64 can"):
        compiled([1.0], y=HUGE)
