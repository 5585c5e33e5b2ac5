"""grad and its family: structures, nesting, orders against mpmath and JAX, compile, errors."""

from __future__ import annotations

import inspect
import math
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import exact
import scalargrad
from generated import is_promised, program, run
from scalargrad import Graph, Value, detect_anomaly, no_grad, ops
from scalargrad import functional as F
from scalargrad.compiler import compile
from scalargrad.compiler.trace import Guard
from scalargrad.errors import AnomalyError, ShapeError, StaleGraphError, TraceError
from scalargrad.transforms import grad, hessian, jacobian, jvp, value_and_grad, vjp
from strategies import DOMAINS, SMOOTH_OPS, Program, on_values, programs, same_bits

pytestmark = pytest.mark.pure

COUNT = 1500 if scalargrad.compiled else 200


def cube(x: Any) -> Any:
    return x**3


# --- structures -------------------------------------------------------------------------------------


def test_a_number_gives_a_number() -> None:
    assert value_and_grad(cube)(2.0) == (8.0, 12.0)
    assert type(grad(cube)(2.0)) is float
    assert type(value_and_grad(cube)(2.0)[0]) is float


@pytest.mark.parametrize("x", [3, np.int64(3), np.float32(3.0), np.array(3.0), np.array(3)])
def test_whole_numbers_and_numpy_scalars_are_floats(x: Any) -> None:
    assert grad(cube)(x) == 27.0


class Weights(NamedTuple):
    w: list[float]
    b: float


def test_gradients_have_the_structure_of_the_argument() -> None:
    def f(p: Any) -> Any:
        return p["a"][0] * p["a"][1] + p["b"][0][0] ** 2 * 3.0

    point = {"b": ([2.0],), "a": [3.0, 4.0]}
    assert grad(f)(point) == {"b": ([12.0],), "a": [4.0, 3.0]}
    assert list(grad(f)(point)) == ["b", "a"]

    def g(p: Weights) -> Any:
        return p.w[0] * p.b + p.w[1]

    found = grad(g)(Weights([1.0, 2.0], 5.0))
    assert found == Weights([5.0, 1.0], 1.0)
    assert type(found) is Weights


def test_dicts_arrive_in_their_own_order() -> None:
    seen: list[list[str]] = []

    def f(p: dict[str, Any]) -> Any:
        seen.append(list(p))
        return sum(p.values(), Value(0.0))

    grad(f)({"b": 1.0, "a": 2.0})
    grad(f)(OrderedDict(z=1.0, y=2.0))
    assert seen == [["b", "a"], ["z", "y"]]


def test_arrays_arrive_as_arrays_of_values_and_come_back_as_floats() -> None:
    def f(x: Any, a: Any) -> Any:
        assert isinstance(x, np.ndarray)
        assert x.dtype == object
        return np.sum(x @ a)

    x, a = np.arange(6.0).reshape(2, 3), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    found = grad(f)(x, a)
    assert found.dtype == np.float64
    assert found.tolist() == [[3.0, 7.0, 11.0]] * 2
    assert grad(f)(x.astype(int), a).tolist() == found.tolist()
    assert grad(f)(np.empty((0, 3)), a).shape == (0, 3)


def test_other_arguments_are_passed_on_as_they_are() -> None:
    marker = object()

    def f(x: Any, mode: Any, *rest: Any, scale: Any = 1.0) -> Any:
        assert mode is marker
        assert rest == ("text", None)
        return x * x * scale

    assert grad(f)(3.0, marker, "text", None, scale=2) == 12.0


def test_argnums_chooses_one_or_several() -> None:
    def f(x: Any, y: Any, z: Any) -> Any:
        return x * y + z[0] * z[1]

    args = (2.0, 3.0, [4.0, 5.0])
    assert grad(f, argnums=1)(*args) == 2.0
    assert grad(f, argnums=-1)(*args) == [5.0, 4.0]
    assert grad(f, argnums=(2, 0))(*args) == ([5.0, 4.0], 3.0)
    assert grad(f, argnums=[0])(*args) == (3.0,)
    assert value_and_grad(f, argnums=(0, 1))(*args) == (26.0, (3.0, 2.0))


def test_aux_comes_back_beside_the_value() -> None:
    def f(x: Any) -> Any:
        return x * x, {"double": x * 2.0, "name": "f", "row": (x, [1]), "n": 3}

    (value, aux), slope = value_and_grad(f, has_aux=True)(3.0)
    assert (value, slope) == (9.0, 6.0)
    assert aux == {"double": 6.0, "name": "f", "row": (3.0, [1]), "n": 3}
    assert grad(f, has_aux=True)(3.0) == (6.0, aux)
    x = Value(3.0)
    assert all(isinstance(v, Value) for v in grad(f, has_aux=True)(x)[1]["row"][:1])


def test_a_function_may_ignore_its_argument_and_return_a_number() -> None:
    assert value_and_grad(lambda x: 3)(2.0) == (3.0, 0.0)
    assert value_and_grad(lambda x: np.float64(2.5))([1.0, 2.0]) == (2.5, [0.0, 0.0])
    assert grad(lambda x: x["a"])({"a": 1.0, "unused": [2.0]}) == {"a": 1.0, "unused": [0.0]}
    assert grad(lambda x: Value(1.0))([]) == []


def test_the_transformed_function_keeps_name_and_signature() -> None:
    def f(x: float, *, scale: float = 1.0) -> float:
        """f's words."""
        return x * scale

    for transform in (grad, value_and_grad, jacobian, hessian):
        made = transform(f)
        assert (made.__name__, made.__doc__) == ("f", "f's words.")
        assert list(inspect.signature(made).parameters) == ["x", "scale"]


# --- values in, values out --------------------------------------------------------------------------


def test_called_with_values_it_returns_values_that_can_be_differentiated() -> None:
    x = Value(2.0, label="x")
    value, slope = value_and_grad(cube)(x)
    assert isinstance(value, Value)
    assert (value.data, slope.data) == (8.0, 12.0)
    slope.backward()
    assert x.grad == 12.0
    value.backward()
    assert x.grad == 24.0


def test_one_value_anywhere_makes_all_results_values() -> None:
    y = Value(3.0)
    found = grad(lambda x, p: x[0] * x[1] * p["y"])([1.0, 2.0], {"y": y})
    assert [g.data for g in found] == [6.0, 3.0]
    found[0].backward()
    assert y.grad == 2.0


def test_parameters_that_the_function_holds_do_not_change_what_comes_back() -> None:
    w = Value(5.0)
    assert grad(lambda x: w * x)(2.0) == 5.0
    assert w.grad == 0.0


def test_an_array_of_values_gives_an_array_of_values() -> None:
    x = np.array([Value(1.0), Value(2.0)], dtype=object)
    found = grad(lambda v: np.sum(v**2))(x)
    assert found.dtype == object
    assert [g.data for g in found] == [2.0, 4.0]


def test_no_grad_holds_for_the_result_and_not_for_the_inside() -> None:
    with no_grad():
        assert grad(grad(cube))(2.0) == 12.0
        x = Value(2.0)
        value, slope = value_and_grad(cube)(x)
    assert (value.data, slope.data) == (8.0, 12.0)
    assert value.operands == slope.operands == ()
    with no_grad():
        assert jvp(cube, (x,), (1.0,))[1].operands == ()
    assert (x * x).operands == (x, x)


def test_an_anomaly_in_the_gradient_is_found() -> None:
    with detect_anomaly():
        assert grad(cube)(2.0) == 12.0
        with pytest.raises(AnomalyError):
            grad(lambda x: x.sqrt())(0.0)


def test_numbers_and_values_give_the_same_bits() -> None:
    for seed in range(COUNT):
        drawn = program(random.Random(seed))
        leaves, results = run(drawn)
        results[-1].backward()
        eager = [leaf.grad for leaf in leaves]
        value, replayed = value_and_grad(lambda xs, p=drawn: p(*xs))(list(drawn.inputs))
        assert same_bits([value, *replayed], [results[-1].data, *eager])
        if is_promised([results[-1]], results):
            built = grad(lambda xs, p=drawn: p(*xs))([Value(x) for x in drawn.inputs])
            assert same_bits([g.data for g in built], eager)


# --- nesting ----------------------------------------------------------------------------------------


def test_grad_of_grad_of_grad() -> None:
    f = lambda x: x**5  # noqa: E731
    orders = [f]
    for _ in range(5):
        orders.append(grad(orders[-1]))
    assert [g(2.0) for g in orders] == [32.0, 80.0, 160.0, 240.0, 240.0, 120.0]


def test_an_inner_derivative_does_not_see_outer_variables() -> None:
    # The examples of Siskind & Pearlmutter (2005), and what a confused system would answer.
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0) == 1.0  # not 2
    assert grad(lambda x: x * grad(lambda y: x * y)(x))(3.0) == 6.0  # not 18
    assert grad(lambda x: grad(lambda y: x * y)(1.0))(2.0) == 1.0  # not 0
    assert grad(lambda x: grad(lambda y: x * x * y)(x))(3.0) == 6.0
    assert jvp(lambda x: x * jvp(lambda y: x + y, (1.0,), (1.0,))[1], (1.0,), (1.0,)) == (1.0, 1.0)
    assert grad(lambda x: x * jvp(lambda y: x * y, (x,), (1.0,))[1])(3.0) == 6.0
    assert jvp(lambda x: x * grad(lambda y: x * y)(x), (3.0,), (1.0,)) == (9.0, 6.0)
    assert grad(lambda x: vjp(lambda y: x * y, x)[1](x)[0])(3.0) == 6.0


def test_an_inner_value_and_grad_depends_on_outer_variables() -> None:
    def outer(x: Any) -> Any:
        value, slope = value_and_grad(lambda y: x**2 * y**3)(x)
        return value * 10.0 + slope

    # d/dx of 10 x^5 + 3 x^4
    assert grad(outer)(2.0) == 50 * 16 + 12 * 8


def test_descent_inside_a_function_is_differentiated_through() -> None:
    def after(rate: Any) -> Any:
        x = 1.0
        for _ in range(3):
            x = x - rate * grad(lambda y: y**2)(x)
        return x**2

    # x is multiplied by 1 - 2 rate, three times.
    assert after(0.1) == pytest.approx(0.8**6)
    assert grad(after)(0.1) == pytest.approx(-12 * 0.8**5)


def test_a_result_is_a_number_again_after_an_exception() -> None:
    def fails(x: Any) -> Any:
        raise KeyError("inside")

    with pytest.raises(KeyError):
        grad(lambda x: grad(fails)(x))(1.0)
    assert type(grad(cube)(2.0)) is float


# --- jvp, vjp, jacobian, hessian --------------------------------------------------------------------


def outputs_in_a_dict(x: Any) -> Any:
    return {"product": x[0] * x[1], "pair": (x[0], [x[1] * 3.0])}


def test_jvp_is_the_jacobian_times_a_direction() -> None:
    value, speed = jvp(outputs_in_a_dict, ([2.0, 5.0],), ([1.0, 10.0],))
    assert value == {"product": 10.0, "pair": (2.0, [15.0])}
    assert speed == {"product": 25.0, "pair": (1.0, [30.0])}
    value, speed = jvp(lambda x: x**2, (np.arange(3.0),), (np.ones(3),))
    assert (value.tolist(), speed.tolist()) == ([0.0, 1.0, 4.0], [0.0, 2.0, 4.0])
    assert jvp(lambda x: 4, (1.0,), (1,)) == (4.0, 0.0)
    assert jvp(lambda x: [], (1.0,), (1.0,)) == ([], [])


def test_vjp_pulls_cotangents_back_as_often_as_wanted() -> None:
    value, pull_back = vjp(lambda x, y: [x * y["w"], x], 3.0, {"w": 4.0})
    assert value == [12.0, 3.0]
    assert pull_back([1.0, 0.0]) == (4.0, {"w": 3.0})
    assert pull_back([1.0, 10.0]) == (14.0, {"w": 3.0})
    assert pull_back((0.0, 0)) == (0.0, {"w": 0.0})
    assert vjp(lambda x: [], 2.0)[1]([]) == (0.0,)


def test_cotangents_may_be_values() -> None:
    seed = Value(2.0)
    _, pull_back = vjp(cube, 3.0)
    (g,) = pull_back(seed)
    assert g.data == 54.0
    g.backward()
    assert seed.grad == 27.0
    assert pull_back(1.0) == (27.0,)


def test_jacobian_nests_the_argument_in_the_result() -> None:
    assert jacobian(lambda x: [x[0] * x[1], x[0], 7])([2.0, 5.0]) == [
        [5.0, 2.0],
        [1.0, 0.0],
        [0.0, 0.0],
    ]
    assert jacobian(outputs_in_a_dict)([2.0, 5.0]) == {
        "product": [5.0, 2.0],
        "pair": ([1.0, 0.0], [[0.0, 3.0]]),
    }
    a = np.arange(6.0).reshape(2, 3)
    assert jacobian(lambda x: a @ x)(np.ones(3)).tolist() == a.tolist()
    assert jacobian(lambda x: x * 2.0)(np.ones((2, 2))).shape == (2, 2, 2, 2)
    by_two = jacobian(lambda x, y: a @ x * y, argnums=(1, 0))(np.ones(3), 2.0)
    assert by_two[0].tolist() == [3.0, 12.0]
    assert by_two[1].tolist() == (2.0 * a).tolist()
    found = jacobian(lambda p: np.array([p["x"] ** 2, p["x"] * p["y"]]))({"x": 2.0, "y": 3.0})
    assert {k: v.tolist() for k, v in found.items()} == {"x": [4.0, 3.0], "y": [0.0, 2.0]}
    assert jacobian(lambda x: ())(1.0) == ()


def test_hessian_of_lists_arrays_and_dicts() -> None:
    def f(x: Any) -> Any:
        return x[0] ** 2 * x[1] + x[1].sin()

    expected = [[6.0, 4.0], [4.0, -math.sin(3.0)]]
    assert hessian(f)([2.0, 3.0]) == expected
    found = hessian(f)(np.array([2.0, 3.0]))
    assert found.tolist() == expected
    assert found.dtype == np.float64
    nested = hessian(lambda p: p["a"] ** 2 * p["b"])({"a": 2.0, "b": 3.0})
    assert nested == {"a": {"a": 6.0, "b": 4.0}, "b": {"a": 4.0, "b": 0.0}}
    both = hessian(lambda x, y: x**2 * y, argnums=(0, 1))(2.0, 3.0)
    assert both == ((6.0, 4.0), (4.0, 0.0))


def test_jacobian_of_values_gives_values() -> None:
    x = [Value(2.0), Value(3.0)]
    rows = jacobian(lambda v: [v[0] * v[1], v[0].exp()])(x)
    assert [[g.data for g in row] for row in rows] == [[3.0, 2.0], [math.exp(2.0), 0.0]]
    rows[1][0].backward()
    assert x[0].grad == math.exp(2.0)


# --- against other arithmetic -----------------------------------------------------------------------

# Where each operation is looked at, away from kinks.
POINTS: dict[str, tuple[float, ...]] = {
    "power": (1.7, 2.3),
    "div": (1.3, -0.7),
    "maximum": (0.3, 1.1),
    "minimum": (0.3, 1.1),
    "where": (1.0, 0.8, -0.6),
    "take": (0.4, -1.2, 2.5),
    "less": (0.3, 0.9),
    "less_equal": (0.9, 0.3),
}
CONSTANTS = {
    "pow": (3.0, 2.0, 1.0, 0.0, -1.0, 0.5, -2.5),
    "leaky_relu": (0.01, 0.3),
    "take": (1.0,),
}


def operation(name: str, constant: float) -> Callable[[list[Any]], Any]:
    return lambda operands: on_values(name, operands, constant)


@pytest.mark.parametrize("name", [row.name for row in ops.TABLE])
def test_every_operation_to_second_order_against_mpmath(name: str) -> None:
    arity = ops.BY_NAME[name].arity
    for constant in CONSTANTS.get(name, (0.0,)):
        point = list(POINTS.get(name, (0.7, -1.3)[: arity or 1]))
        f = operation(name, constant)
        first, second = grad(f)(point), hessian(f)(point)
        for i in range(len(point)):
            expected = exact.partial(name, i, point, constant)
            assert first[i] == pytest.approx(float(expected), rel=1e-12, abs=1e-14)
            for j in range(len(point)):
                wanted = _second_partial(name, i, j, point, constant)
                assert second[i][j] == pytest.approx(wanted, rel=1e-11, abs=1e-13)


def _second_partial(name: str, i: int, j: int, point: list[float], constant: float) -> float:
    if name == "detach" or (name == "where" and 0 in (i, j)):
        return 0.0

    def slope(x: Any) -> Any:
        return exact.partial(name, i, [*point[:j], x, *point[j + 1 :]], constant)

    if i == j:
        return float(exact.partial(name, i, point, constant, order=2))
    return float(mpmath.diff(slope, mpmath.mpf(point[j])))


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=7), st.integers(-3, 3))
def test_polynomials_to_third_order_are_exact(coefficients: list[int], x: int) -> None:
    def horner(t: Any) -> Any:
        total = Value(0.0)
        for c in coefficients:
            total = total * t + float(c)
        return total

    def powers(t: Any) -> Any:
        n = len(coefficients) - 1
        return sum((float(c) * t**k for c, k in zip(coefficients, range(n, -1, -1))), Value(0.0))

    derived = np.polynomial.Polynomial(coefficients[::-1]).deriv(3)
    for f in (horner, powers):
        third = grad(grad(grad(f)))
        assert third(float(x)) == derived(float(x))


@given(programs(max_steps=6, max_inputs=2))
def test_second_derivatives_are_differences_of_first_ones(drawn: Program) -> None:
    x = list(drawn.inputs)
    f = grad(lambda xs: drawn(*xs))
    second = hessian(lambda xs: drawn(*xs))(x)
    for j in range(len(x)):
        h = 1e-5 * abs(x[j])
        above, below = ([xk + s * h * (k == j) for k, xk in enumerate(x)] for s in (1, -1))
        columns = [(a - b) / (2 * h) for a, b in zip(f(above), f(below))]
        for i, difference in enumerate(columns):
            size = abs(difference) + max(map(abs, f(x))) / h * 1e-9 + 1.0
            assert second[i][j] == pytest.approx(difference, abs=2e-4 * size)
            assert second[i][j] == pytest.approx(second[j][i], rel=1e-6, abs=1e-9 * size)


def test_against_jax_in_float64() -> None:
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        jnp = jax.numpy
        w = [[0.3, -0.8], [0.5, 0.9], [-1.1, 0.2]]

        def ours(x: Any) -> Any:
            hidden = [(a * x[0] + b * x[1]).tanh() for a, b in w]
            return F.logsumexp(hidden) + (hidden[0] * hidden[1]).sigmoid() + hidden[2].gelu()

        def theirs(x: Any) -> Any:
            hidden = jnp.tanh(jnp.array(w) @ x)
            rest = jax.nn.sigmoid(hidden[0] * hidden[1])
            return jax.nn.logsumexp(hidden) + rest + jax.nn.gelu(hidden[2], approximate=False)

        def everything(x: Any, v: Any) -> Any:
            third = jax.jvp(jax.hessian(theirs), (x,), (v,))[1]
            return theirs(x), jax.grad(theirs)(x), jax.hessian(theirs)(x), third

        x, v = np.array([0.4, -1.2]), np.array([1.5, 0.5])
        wanted = jax.jit(everything)(x, v)
        found = (*value_and_grad(ours)(x), hessian(ours)(x), jvp(hessian(ours), (x,), (v,))[1])
        for ours_, theirs_ in zip(found, wanted):
            np.testing.assert_allclose(ours_, theirs_, rtol=1e-10)


def test_jvp_and_vjp_of_every_operation_are_one_number() -> None:
    rng = random.Random(1)
    for name in SMOOTH_OPS:
        row = ops.BY_NAME[name]
        for _ in range(20):
            operands = [rng.uniform(0.2, 3.0) for _ in range(row.arity or 3)]
            constant = {"exponent": 1.5, "slope": 0.1, "index": 2.0}.get(row.constant, 0.0)
            if name in DOMAINS and not DOMAINS[name](*operands):
                continue
            f, speeds = operation(name, constant), [rng.gauss(0, 1) for _ in operands]
            terms = [g * s for g, s in zip(grad(f)(operands), speeds)]
            found = jvp(f, (operands,), (speeds,))[1]
            assert found == pytest.approx(sum(terms), rel=1e-12, abs=1e-12)


# --- inside and around compile ----------------------------------------------------------------------


def test_transforms_inside_a_compiled_function() -> None:
    w = Value(2.0)

    def f(x: Any) -> Any:
        return w * x[0] ** 2 * x[1] + x[0].exp()

    @compile
    def all_of_them(x: Any) -> Any:
        pulled = vjp(f, x)[1](2.0)
        return value_and_grad(f)(x), hessian(f)(x), jvp(f, (x,), ([1.0, 0.0],)), pulled

    for point in ([1.0, 2.0], [0.5, -3.0]):
        for w.data in (2.0, -1.5):
            found = all_of_them(point)
            assert found[0] == value_and_grad(f)(point)
            assert found[1] == hessian(f)(point)
            assert found[2] == jvp(f, (point,), ([1.0, 0.0],))
            assert found[3] == vjp(f, point)[1](2.0)


def test_a_compiled_gradient_keeps_the_side_not_taken_out() -> None:
    @compile
    def slopes(x: Any) -> Any:
        f = lambda y: F.where(y > 0, y.log(), 0.0)  # noqa: E731
        return grad(f)(x), grad(grad(f))(x)

    for x, expected in ((2.0, (0.5, -0.25)), (-1.0, (0.0, 0.0)), (0.0, (0.0, 0.0))):
        assert slopes(x) == expected


def test_a_traced_index_in_a_compiled_gradient() -> None:
    rows = [[Value(k + 0.1 * j) for j in range(3)] for k in range(4)]

    def f(table: Any, k: Any, x: Any) -> Any:
        return sum((a * a * x for a in F.take(table, k)), Value(0.0))

    slopes = compile(lambda k, x: grad(f)(rows, k, x))
    speeds = compile(lambda k, x: jvp(lambda t: f(t, k, x), (rows,), (rows,))[1])
    for k in (1, 3, 0):
        eager = [[g.data for g in row] for row in grad(f)(rows, k, 2.0)]
        assert slopes(k, 2.0) == eager
        assert speeds(k, 2.0) == pytest.approx(sum(2 * 2.0 * a.data**2 for a in rows[k]))


def test_transforms_of_a_compiled_function() -> None:
    w = Value(3.0)

    def f(x: Any, y: Any) -> Any:
        return w * x[0] ** 2 * y + x[1]

    compiled = compile(f)
    for args in (([1.0, 2.0], 3.0), (np.array([0.5, -1.0]), 2.0)):
        for argnums in (0, 1, (1, 0), -1):
            found, wanted = (value_and_grad(g, argnums)(*args) for g in (compiled, f))
            np.testing.assert_equal(found, wanted)
        np.testing.assert_equal(hessian(compiled)(*args), hessian(f)(*args))
    assert compiled.stats["calls"] > 0
    assert grad(lambda x: compiled(x, 2.0))([1.0, 1.0]) == [12.0, 1.0]
    assert w.grad == 0.0


def test_a_compiled_function_with_aux() -> None:
    pair = compile(lambda x: (x * x, [x, 1.0]), has_aux=True)
    assert value_and_grad(pair, has_aux=True)(3.0) == ((9.0, [3.0, 1.0]), 6.0)
    with pytest.raises(TypeError, match="expected a function that returns one number"):
        grad(pair)(3.0)


def test_a_function_compiled_inside_a_differentiated_one_is_part_of_it() -> None:
    assert grad(lambda x: compile(lambda y: x * y)(2.0))(3.0) == 2.0


def test_a_batch_of_a_compiled_gradient() -> None:
    mean = compile(lambda x, y: (x[0] * y) ** 2, batch="mean")
    x, y = np.array([[1.0], [2.0]]), np.array([3.0, 4.0])
    assert grad(mean)(x, y).tolist() == [[9.0], [32.0]]


# --- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [grad, value_and_grad, jacobian, hessian, vjp])
def test_what_is_not_a_function_is_refused(transform: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"expected a function, got float 3\.0"):
        transform(3.0)


@pytest.mark.parametrize(
    ("x", "where", "got"),
    [
        ("1", "argument 0:", "str '1'"),
        (True, "argument 0:", "bool True"),
        (np.bool_(True), "argument 0:", "bool"),
        (None, "argument 0:", "NoneType None"),
        (1j, "argument 0:", "complex"),
        ([1.0, {"w": [2.0, None]}], r"argument 0\[1\]\['w'\]\[1\]:", "NoneType"),
        (np.array([True]), "argument 0:", "dtype bool"),
        (np.array(["a"]), "argument 0:", "dtype <U1"),
        (np.array([[1.0, None]], object), r"argument 0\[0, 1\]:", "NoneType"),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), "argument 0:", "masked one: use"),
        ([np.ones((1, 2)).view(np.matrix)], r"argument 0\[0\]:", r"numpy\.matrix, whose"),
        ({2.0}, "argument 0:", r"set \{2\.0\}: a set has no order, so use a list$"),
        (range(2), "argument 0:", r"range\(0, 2\): use list\(\.\.\.\) of it$"),
        (b"12", "argument 0:", "bytes b'12'$"),
        (Guard("", "", True), "argument 0:", "with fields, a NamedTuple is taken$"),
        ("x" * 500, "argument 0:", r"\.\.\.$"),
    ],
)
def test_arguments_that_are_not_numbers_are_refused_by_name(x: Any, where: str, got: str) -> None:
    with pytest.raises(TypeError, match=f"{where} expected .*{got}"):
        grad(lambda x: x)(x)


def test_what_can_become_an_array_is_taken_as_one() -> None:
    class Column:
        """As the columns of tables are."""

        def __array__(self, *_: Any, **__: Any) -> Any:
            return np.array([3.0, 4.0])

    assert grad(lambda x: (x * x).sum())(Column()).tolist() == [6.0, 8.0]
    assert grad(lambda x: x["a"][1] ** 2)({"a": Column()})["a"].tolist() == [0.0, 8.0]


def test_backward_goes_on_through_a_derivative_at_a_value() -> None:
    w = Value(2.0)
    slope = grad(lambda t: (w * t).sin())
    ((slope(Value(0.5)) + 1.0) ** 2).backward()
    gradient = compile(lambda t: (slope(t) + 1.0) ** 2).value_and_grad(0.5)[1]
    assert w.grad == gradient[0] != 0.0
    assert type(slope(0.5)) is float


@pytest.mark.parametrize(
    "result", [[Value(1.0)], (), {"a": 1.0}, np.ones(2), (Value(1.0), Value(2.0))]
)
def test_grad_wants_one_number(result: Any) -> None:
    with pytest.raises(TypeError, match="expected a function that returns one number"):
        grad(lambda x: result)(1.0)


@pytest.mark.parametrize("result", ["text", None, True, object()])
def test_results_that_are_not_numbers_are_refused(result: Any) -> None:
    for transform in (grad, jacobian):
        with pytest.raises(TypeError, match="the result of f: expected"):
            transform(lambda x: result)(1.0)
    with pytest.raises(TypeError, match="the result of f: expected"):
        jvp(lambda x: result, (1.0,), (1.0,))


def test_aux_wants_a_pair() -> None:
    for result in (Value(1.0), (1.0, 2.0, 3.0)):
        with pytest.raises(TypeError, match="has_aux: expected a function that returns"):
            grad(lambda x, r=result: r, has_aux=True)(1.0)


@pytest.mark.parametrize("argnums", [2, -3, (0, 2), (), (0, 0), (0, -2)])
def test_positions_without_an_argument_are_refused(argnums: Any) -> None:
    with pytest.raises(ValueError, match="argnums: "):
        grad(lambda x, y: x * y, argnums)(1.0, 2.0)


@pytest.mark.parametrize("argnums", [0.0, "x", None, (True,)])
def test_positions_are_ints(argnums: Any) -> None:
    with pytest.raises(TypeError, match="argnums: expected an int or a tuple of ints"):
        grad(lambda x, y: x * y, argnums)(1.0, 2.0)


def test_keyword_arguments_are_not_differentiated() -> None:
    with pytest.raises(ValueError, match="keyword arguments are not differentiated"):
        grad(cube)(x=1.0)


def test_tangents_and_cotangents_have_the_structure_of_what_they_go_with() -> None:
    with pytest.raises(ShapeError, match=r"tangents: expected one per argument \(1\), got 2"):
        jvp(cube, (1.0,), (1.0, 2.0))
    with pytest.raises(ShapeError, match=r"tangents\[0\]: .* of primals\[0\], \[2 of number\]"):
        jvp(lambda x: x[0], ([1.0, 2.0],), ([1.0],))
    with pytest.raises(TypeError, match="primals: expected a tuple with one entry per argument"):
        jvp(cube, 1.0, (1.0,))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tangents: expected a tuple"):
        jvp(cube, (1.0,), 1.0)  # type: ignore[arg-type]
    _, pull_back = vjp(lambda x: {"a": x, "b": [x]}, 1.0)
    with pytest.raises(ShapeError, match="cotangents: expected the structure of the result"):
        pull_back({"a": 1.0, "c": [1.0]})
    assert pull_back({"b": [1.0], "a": 10.0}) == (11.0,)
    with pytest.raises(ShapeError, match=r"array\(2,\), got array\(3,\)"):
        vjp(lambda x: x, np.ones(2))[1](np.ones(3))


def test_a_function_that_writes_numbers_it_has_used_is_refused() -> None:
    w = Value(2.0)

    def f(x: Any) -> Any:
        y = x * w
        w.data = 5.0
        return y

    with pytest.raises(StaleGraphError, match="changed the data of a Value after using it"):
        grad(f)(3.0)
    assert grad(lambda x: (x - 5.0).log())(1.0) == -0.25  # a result of nan is no such change


# --- size -------------------------------------------------------------------------------------------


LOSING: dict[str, Callable[[Any], Any]] = {
    "float": lambda x: x * float(x),
    "math": lambda x: math.sin(x * 2.0),
    "an array of floats": lambda x: np.asarray([x * 1.0, x], float).sum(),
    "an element of one": lambda x: np.put(a := np.zeros(2), 0, x) or a.sum(),
    "numpy.gradient": lambda x: np.gradient(np.array([x, 2.0 * x, x])).sum(),
}


@pytest.mark.parametrize("what", LOSING)
@pytest.mark.parametrize("transform", [grad, hessian, lambda f: jvp(f, (1.0,), (1.0,))])
def test_numbers_that_lose_their_derivative_are_refused(what: str, transform: Any) -> None:
    with pytest.raises(TraceError, match=r"^float\(\) of .*test_transforms\.py:\d+, inside a"):
        transform(LOSING[what])(1.0)
    assert LOSING[what](1.5) == float(LOSING[what](Value(1.5)))  # elsewhere a float is a float


def test_an_inner_function_may_not_lose_a_number_of_an_outer_one() -> None:
    with pytest.raises(TraceError, match=r"^float\(\) of "):
        grad(lambda y: grad(lambda x: x * math.sin(y))(1.0))(2.0)
    with pytest.raises(TraceError, match=r"^float\(\) of "):
        compile(lambda y: y * grad(lambda x: x * math.sin(x))(1.0))(2.0)


def test_numbers_that_have_no_derivative_may_become_floats() -> None:
    w = Value(2.0)
    assert grad(lambda x: x * float(w * 3.0) * math.sqrt(4.0))(5.0) == 12.0
    assert grad(lambda x: x * x.data)(5.0) == 5.0
    assert grad(lambda x: x * round(x))(5.25) == 5.0
    assert grad(lambda x: x.detach() * x)(5.0) == 5.0
    assert grad(lambda x: max(x, 2.0) * x if f"{x:.1f}" == "5.0" else x)(5.0) == 10.0
    assert float(w * 3.0) == 6.0


BRANCHING: dict[str, Callable[[Any], Any]] = {
    "if": lambda x: x * x if x > 0 else -x,
    "max": lambda x: max(x, 3.0) * x,
    "truth": lambda x: x * x if x else x,
    "sorted": lambda x: sorted([x, 2.0 * x, 0.5])[1] * x,
    "==": lambda x: x * x if x == 2.0 else -x,
}


@pytest.mark.parametrize("what", BRANCHING)
@pytest.mark.parametrize("transform", [grad, lambda f: grad(grad(f)), hessian])
def test_a_branch_of_a_function_that_is_compiled_and_differentiated(
    what: str, transform: Any
) -> None:
    derivative = transform(BRANCHING[what])
    compiled = compile(derivative)
    for x in (2.0, -1.0, 4.0, 0.0, 2.0):
        assert compiled(x) == derivative(x)


def sinc(x: Any) -> Any:
    """sin(x) / x, and its Taylor series where that is 0 / 0."""
    return 1.0 - x * x / 6.0 if x == 0.0 else Value.sin(x) / x


def test_equality_is_that_of_numbers_where_a_function_is_called_with_numbers() -> None:
    assert (grad(sinc)(0.0), hessian(sinc)(0.0), grad(grad(sinc))(-0.0)) == (0.0, -1 / 3, -1 / 3)
    assert jvp(sinc, (0.0,), (1.0,)) == (1.0, 0.0)
    assert grad(lambda x: x if x != 2.0 else x * x)(2.0) == 4.0
    assert grad(lambda xs: xs[0] if xs[0] == xs[1] else xs[1])([3.0, 3.0]) == [1.0, 0.0]
    assert grad(lambda xs: xs[0] if xs == [1.0, 2.0] else xs[1])([1.0, 2.0]) == [1.0, 0.0]
    same = grad(lambda x: np.where(x == np.array([1.0, 5.0]), x * x, x).sum())
    assert same(np.array([1.0, 3.0])).tolist() == [2.0, 1.0]
    inner = grad(lambda y: grad(lambda x: x if x == 2.0 else x * y)(y))
    assert (inner(2.0), inner(3.0)) == (0.0, 1.0)


def test_equality_is_that_of_nodes_where_values_take_part() -> None:
    w = Value(1.0)
    assert grad(lambda x: x if w == 1.0 else 2.0 * x)(1.0) == 2.0
    assert grad(lambda x: x if x * w == 1.0 else 2.0 * x)(1.0) == 2.0
    assert grad(lambda x: x if x == w else 2.0 * x)(1.0) == 2.0
    assert grad(lambda x: x if x == 1.0 else 2.0 * x)(Value(1.0)).data == 2.0
    assert grad(lambda x: x if x == "1.0" or x == None else 2.0 * x)(1.0) == 2.0  # noqa: E711
    assert grad(lambda x: x if Value(1.0) == 1.0 else 2.0 * x)(1.0) == 2.0
    assert (w == 1.0) is False


def test_a_deep_program() -> None:
    depth = 100_000 if scalargrad.compiled else 3_000

    def f(x: Any) -> Any:
        y = x
        for _ in range(depth):
            y = y * 0.9999
        return y

    leaf = Value(1.0)
    f(leaf).backward()
    assert grad(f)(1.0) == leaf.grad
    assert grad(lambda x: grad(f)(x) * x)(1.0) == pytest.approx(leaf.grad)


@pytest.mark.usefixtures("by_counts_alone")
def test_nothing_is_left_behind() -> None:
    grad(grad(cube))(2.0)
    before = scalargrad.live_values()
    for _ in range(50):
        grad(grad(cube))(2.0)
        hessian(lambda x: x[0] * x[1])([1.0, 2.0])
    assert scalargrad.live_values() == before


def test_the_graph_of_a_value_gradient_can_be_replayed() -> None:
    x = Value(2.0)
    graph = Graph(grad(cube)(x))
    x.data = 3.0
    assert graph.forward() == 27.0
