"""Values in NumPy: scalars on the left, arrays of Values, and functions of either."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scalargrad import Value, ops

pytestmark = pytest.mark.pure

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
SCALARS = [np.float64(3.0), np.float32(3.0), np.int64(3), np.uint8(3), np.array(3.0), np.array(3)]


def array_of(numbers: Any) -> np.ndarray[Any, Any]:
    """An object array of Values."""
    numbers = np.asarray(numbers, dtype=float)
    out = np.empty(numbers.shape, dtype=object)
    for place, x in np.ndenumerate(numbers):
        out[place] = Value(x)
    return out


def data_of(array: Any) -> Any:
    return np.vectorize(float, otypes=[float])(array)


def grads_of(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.vectorize(lambda v: v.grad, otypes=[float])(array)


# --- scalars --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda x: f"{type(x).__name__} {x.dtype}")
@pytest.mark.parametrize("operate", OPERATORS)
def test_a_numpy_scalar_on_either_side_makes_a_value(
    operate: Callable[..., Any], scalar: Any
) -> None:
    v = Value(2.0)
    for got, want in [
        (operate(scalar, v), operate(3.0, v)),
        (operate(v, scalar), operate(v, 3.0)),
    ]:
        assert type(got) is Value
        assert (got.data, got.op) == (want.data, want.op)
        assert [w.data for w in got.operands] == [w.data for w in want.operands]
    left = operate(scalar, v)
    left.backward()
    assert v.grad == left._local_grads[1]


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda x: f"{type(x).__name__} {x.dtype}")
@pytest.mark.parametrize(
    "compare", [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
)
@pytest.mark.parametrize("number", [2.0, 3.0, 4.0])
def test_a_numpy_scalar_compares(compare: Callable[..., Any], scalar: Any, number: float) -> None:
    v = Value(number)
    for arguments, plain in [((scalar, v), (3.0, number)), ((v, scalar), (number, 3.0))]:
        got = compare(*arguments)
        expected = compare(*plain)
        if compare in (operator.eq, operator.ne):  # identity, not equality of numbers
            expected = compare is operator.ne
        assert bool(got) is expected
        assert np.ndim(got) == 0


def test_a_sum_of_numpy_numbers_and_values() -> None:
    v = Value(1.0)
    assert type(sum([np.float64(2.0), v, np.int64(3)])) is Value
    x = np.float64(2.0)
    x += v
    assert type(x) is Value


@pytest.mark.parametrize("row", [row for row in ops.TABLE if row.ufunc], ids=lambda row: row.ufunc)
def test_numpy_functions_of_a_value_are_operations(row: ops.Op) -> None:
    ufunc = getattr(np, row.ufunc)
    operands = [Value(0.5 + k) for k in range(ufunc.nin)]
    y = ufunc(*operands)
    assert type(y) is Value
    assert (y.op, y.operands) == (row.name, tuple(operands))
    assert y.data == row.forward(*(v.data for v in operands))
    if ufunc.nin == 2:
        mixed = ufunc(np.float64(2.0), operands[1]), ufunc(operands[0], 2)
        assert [v.op for v in mixed] == [row.name] * 2
        assert [v.data for v in mixed] == [row.forward(2.0, 1.5), row.forward(0.5, 2.0)]


def test_numpy_functions_without_a_row_use_arithmetic() -> None:
    v = Value(3.0)
    np.square(v).backward()
    assert v.grad == 6.0
    assert np.positive(v) is v
    assert np.reciprocal(Value(4.0)).data == 0.25


@pytest.mark.parametrize(
    "ufunc", [np.log1p, np.arctan, np.arctan2, np.signbit, np.floor_divide, np.heaviside]
)
def test_numpy_functions_that_values_have_not_say_which_there_are(ufunc: np.ufunc) -> None:
    message = rf"^numpy\.{ufunc.__name__} of a Value: .* have add, .* exp, log, .* gelu and erfc$"
    with pytest.raises(TypeError, match=message):
        ufunc(*[Value(0.5)] * ufunc.nin)


@pytest.mark.parametrize("ask", [np.isfinite, np.isinf, np.isnan])
def test_questions_of_numpy_are_answered_with_a_bool(ask: np.ufunc) -> None:
    for number in (1.0, math.inf, math.nan):
        assert ask(Value(number)) is bool(ask(number))


@pytest.mark.parametrize("thing", [np.complex128(1j), np.complex64(1j), np.array(1j)])
def test_complex_scalars_are_refused_on_the_left_too(thing: Any) -> None:
    for operate in (operator.add, operator.mul, operator.lt, operator.pow):
        with pytest.raises(TypeError):
            operate(thing, Value(1.0))


def test_a_value_becomes_an_object_or_a_float() -> None:
    v = Value(2.0)
    assert np.array(v).dtype == object
    assert np.array([v, v]).shape == (2,)
    assert np.array([[v], [v]]).dtype == object
    assert np.asarray(v, dtype=float) == 2.0
    assert np.array([v, 1.0, Value(3.0)], dtype=float).tolist() == [2.0, 1.0, 3.0]
    assert np.float64(v) == 2.0
    assert np.ndim(v) == 0


# --- arrays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("operate", OPERATORS)
def test_a_value_with_an_array_of_numbers(operate: Callable[..., Any]) -> None:
    numbers = np.array([[1.0, 2.0, 3.0], [1.5, 4.0, 2.5]])
    for array in (numbers, numbers.astype(np.float32), numbers.astype(int), numbers.T):
        v = Value(2.0)
        for got, want in [
            (operate(v, array), operate(2.0, array.astype(float))),
            (operate(array, v), operate(array.astype(float), 2.0)),
        ]:
            assert got.shape == array.shape
            assert got.dtype == object
            assert all(type(x) is Value for x in got.flat)
            assert data_of(got) == pytest.approx(want, rel=1e-15)
        operate(v, array).sum().backward()
        assert v.grad != 0.0


@pytest.mark.parametrize("operate", OPERATORS)
def test_an_array_of_values_with_numbers_and_values(operate: Callable[..., Any]) -> None:
    numbers = np.array([1.0, 2.0, 3.0])
    values = array_of(numbers)
    for other, plain in [
        (2.0, 2.0),
        (np.float64(2.0), 2.0),
        (Value(2.0), 2.0),
        (np.array([2.0, 1.0, 0.5]), np.array([2.0, 1.0, 0.5])),
        (array_of([2.0, 1.0, 0.5]), np.array([2.0, 1.0, 0.5])),
        (np.array(Value(2.0)), 2.0),
    ]:
        for got, want in [
            (operate(values, other), operate(numbers, plain)),
            (operate(other, values), operate(plain, numbers)),
        ]:
            assert got.shape == (3,)
            assert data_of(got) == pytest.approx(want, rel=1e-15)


def test_a_value_with_an_array_without_dimensions_that_holds_a_value() -> None:
    boxed, v = np.array(Value(3.0)), Value(2.0)
    for got in (boxed * v, v * boxed, boxed * boxed * (2 / 3)):
        assert float(got) == 6.0
    (boxed * v).item().backward() if isinstance(boxed * v, np.ndarray) else (boxed * v).backward()
    assert v.grad == 3.0


def test_unary_functions_of_arrays() -> None:
    numbers = np.array([0.5, 1.0, 2.0])
    for name in ("exp", "log", "sqrt", "tanh", "sin", "cos", "absolute", "negative", "square"):
        ufunc = getattr(np, name)
        values = array_of(numbers)
        got = ufunc(values)
        assert all(type(x) is Value for x in got)
        assert data_of(got) == pytest.approx(ufunc(numbers), rel=1e-15)
        got.sum().backward()
        step = 1e-6
        slope = (ufunc(numbers + step) - ufunc(numbers - step)) / (2 * step)
        assert grads_of(values) == pytest.approx(slope, rel=1e-8)


def test_extremes_of_arrays() -> None:
    values = array_of([-1.0, 0.5, 2.0])
    for got, want in [
        (np.maximum(values, 0.0), [0.0, 0.5, 2.0]),
        (np.maximum(values, Value(0.7)), [0.7, 0.7, 2.0]),
        (np.minimum(values, array_of([0.0, 0.0, 0.0])), [-1.0, 0.0, 0.0]),
        (np.maximum(np.array([1.0, 2.0]), Value(1.5)), [1.5, 2.0]),
    ]:
        assert data_of(got).tolist() == want
    np.maximum(values, 0.0).sum().backward()
    assert grads_of(values).tolist() == [0.0, 1.0, 1.0]
    assert values.max() is values[2]
    assert values.argmin() == 0


def test_comparisons_of_arrays() -> None:
    values = array_of([-1.0, 0.5, 2.0])
    assert (values > 0).tolist() == [False, True, True]
    assert (values < Value(1.0)).tolist() == [True, True, False]
    assert (Value(1.0) < values).tolist() == [False, False, True]
    assert (np.array([0.0, 1.0, 2.0]) >= Value(1.0)).tolist() == [False, True, True]
    assert (values == values[1]).tolist() == [False, True, False]
    assert (values != values[1]).tolist() == [True, False, True]
    assert [v.data for v in np.sort(values)] == [-1.0, 0.5, 2.0]
    assert [v.data for v in values[values > 0]] == [0.5, 2.0]


# --- linear algebra -------------------------------------------------------------------------------


def test_products_of_matrices() -> None:
    rng = np.random.default_rng(0)
    a, b, x = rng.normal(size=(3, 4)), rng.normal(size=(4, 2)), rng.normal(size=4)
    matrix, other, vector = array_of(a), array_of(b), array_of(x)
    for got, want in [
        (matrix @ other, a @ b),
        (a @ other, a @ b),
        (matrix @ b, a @ b),
        (matrix @ vector, a @ x),
        (a @ vector, a @ x),
        (vector @ other, x @ b),
        (vector @ vector, x @ x),
        (np.dot(matrix, vector), a @ x),
        (np.outer(vector, vector), np.outer(x, x)),
        (np.einsum("ij,jk->ik", matrix, other), a @ b),
    ]:
        assert data_of(got) == pytest.approx(want, rel=1e-13)


def test_the_gradient_of_a_matrix_product() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(4, 2))
    matrix, other = array_of(a), array_of(b)
    (matrix @ other).sum().backward()
    ones = np.ones((3, 2))
    assert grads_of(matrix) == pytest.approx(ones @ b.T, rel=1e-13)
    assert grads_of(other) == pytest.approx(a.T @ ones, rel=1e-13)


def test_reductions() -> None:
    numbers = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    values = array_of(numbers)
    for reduce in ("sum", "mean", "prod", "max", "min"):
        for axis in (None, 0, 1):
            got = getattr(np, reduce)(values, axis=axis)
            assert data_of(got) == pytest.approx(getattr(np, reduce)(numbers, axis=axis))
    assert data_of(values.cumsum()).tolist() == numbers.cumsum().tolist()
    values.mean().backward()
    assert grads_of(values) == pytest.approx(np.full((2, 3), 1 / 6))
    assert type(values.sum()) is Value
    assert data_of(np.add.outer(Value(1.0), np.arange(2.0))).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("function", [np.var, np.std, lambda x: np.vdot(x, x), np.mean])
def test_statistics_of_arrays(function: Callable[[Any], Any]) -> None:
    numbers = [0.5, 2.0, -1.0]
    values = array_of(numbers)
    result = function(values)
    assert math.isclose(result, function(np.array(numbers)), rel_tol=1e-15)
    result.backward()
    step = 1e-6
    for k in range(3):
        above, below = np.array(numbers), np.array(numbers)
        above[k] += step
        below[k] -= step
        slope = (function(above) - function(below)) / (2 * step)
        assert math.isclose(values[k].grad, slope, rel_tol=1e-8, abs_tol=1e-9)


def test_arrays_in_place() -> None:
    values = array_of([1.0, 2.0])
    values += Value(1.0)
    values[0] *= 3
    assert data_of(values).tolist() == [6.0, 3.0]
    np.add.at(values, [0, 0], Value(1.0))
    assert data_of(values).tolist() == [8.0, 3.0]
    numbers = np.zeros(2)
    with pytest.raises(TypeError):
        numbers += Value(1.0)


def test_a_network_written_in_numpy() -> None:
    rng = np.random.default_rng(2)
    w1, w2, x = rng.normal(size=(5, 3)), rng.normal(size=(1, 5)), rng.normal(size=3)
    first, second = array_of(w1), array_of(w2)
    loss = ((second @ np.tanh(first @ x) - 0.5) ** 2).mean()
    loss.backward()
    hidden = np.tanh(w1 @ x)
    error = w2 @ hidden - 0.5
    assert loss.data == pytest.approx(float(error[0] ** 2))
    assert grads_of(second) == pytest.approx(2 * error[0] * hidden[None, :])
    expected = 2 * error[0] * (w2[0] * (1 - hidden**2))[:, None] * x[None, :]
    assert grads_of(first) == pytest.approx(expected)


def test_functions_with_options_still_work() -> None:
    out = np.empty(2, dtype=object)
    np.multiply(Value(3.0), np.array([1.0, 2.0]), out=out)
    assert data_of(out).tolist() == [3.0, 6.0]
    got = np.add(out, Value(1.0), out=out, where=np.array([True, False]))
    assert data_of(got).tolist() == [4.0, 6.0]
