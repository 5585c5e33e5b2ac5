"""Scalar programs in SciPy: the derivatives are right, and SciPy's own results come out."""

from __future__ import annotations

import gc
import math
import random
import signal
import weakref
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import integrate, optimize, sparse

import scalargrad as sg
from scalargrad.interop.scipy import (
    curve_fit,
    fit_parameters,
    least_squares,
    minimize,
    root,
    solve_ivp,
)
from scalargrad.interop.scipy.derivatives import (
    Jacobian,
    derivatives,
    hessian,
    hessian_times_vector,
)

START = np.array([1.3, 0.7, 0.8, 1.9, 1.2])
ALL = (
    *("CG", "BFGS", "L-BFGS-B", "TNC", "SLSQP"),
    *("Newton-CG", "trust-ncg", "trust-krylov", "trust-exact", "trust-constr"),
    *("Nelder-Mead", "Powell", None),
)


def rosenbrock(x: Any) -> Any:
    return sum(100 * (x[k + 1] - x[k] ** 2) ** 2 + (1 - x[k]) ** 2 for k in range(len(x) - 1))


# --- derivatives ----------------------------------------------------------------------------------


@st.composite
def sparse_functions(draw: st.DrawFn) -> tuple[Callable[[Any], Any], int]:
    """A function of n numbers that returns m, each of a few of them, and n."""
    n, m = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    used = [draw(st.lists(st.integers(0, n - 1), max_size=3)) for _ in range(m)]
    shared = draw(st.booleans())

    def function(x: Any) -> Any:
        common = (x[0] * x[-1]).sin() if shared else 0.5
        return [
            common * sum((x[j] * (k + 1)).sin() for j in row) + (x[row[0]] if row else 1.0)
            for k, row in enumerate(used)
        ]

    return function, n


@settings(max_examples=40)
@given(sparse_functions(), st.randoms(use_true_random=False))
def test_a_jacobian_in_few_walks_is_the_jacobian(
    drawn: tuple[Callable[[Any], Any], int], source: random.Random
) -> None:
    function, n = drawn
    x = np.array([source.uniform(-2, 2) for _ in range(n)])
    found = Jacobian(derivatives(function, "function", "exact"))(x)
    rows = sg.jacobian(function)(x)
    np.testing.assert_allclose(found, rows, rtol=1e-12, atol=1e-14)


def test_a_large_jacobian_that_is_mostly_0_is_sparse() -> None:
    def chain(x: Any) -> Any:
        return [x[k] * x[k - 1] if k else x[k] for k in range(120)]

    x = np.linspace(1.0, 2.0, 120)
    found = Jacobian(derivatives(chain, "chain", "exact"), may_be_sparse=True)(x)
    dense = Jacobian(derivatives(chain, "chain", "exact"))(x)
    assert sparse.issparse(found)
    assert isinstance(dense, np.ndarray)
    assert (found.toarray() == dense).all()
    assert (dense == np.diag([1.0, *x[:-1]]) + np.diag(x[1:], -1)).all()


def test_hessians_agree_with_scipys() -> None:
    f = sg.compile(rosenbrock)
    np.testing.assert_allclose(hessian(f)(START), optimize.rosen_hess(START), rtol=1e-13)
    p = np.linspace(-1.0, 1.0, 5)
    expected = optimize.rosen_hess_prod(START, p)
    np.testing.assert_allclose(hessian_times_vector(f)(START, p), expected, rtol=1e-13)


# --- minimize -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ALL)
def test_every_method_finds_the_minimum_that_scipy_finds(method: str | None) -> None:
    derivatives: dict[str, Any] = {}
    if method not in ("Nelder-Mead", "Powell"):
        derivatives["jac"] = optimize.rosen_der
    if method in ("Newton-CG", "trust-ncg", "trust-krylov", "trust-exact", "trust-constr"):
        derivatives["hess"] = optimize.rosen_hess
    found = minimize(rosenbrock, START, method=method)
    expected = optimize.minimize(optimize.rosen, START, method=method, **derivatives)
    assert isinstance(found, optimize.OptimizeResult)
    assert found.success == expected.success
    assert found.x == pytest.approx(expected.x, abs=1e-4)
    assert found.get("njev") == pytest.approx(expected.get("njev"), abs=2)


def test_derivatives_save_evaluations() -> None:
    ours = minimize(rosenbrock, START, method="BFGS")
    without = optimize.minimize(optimize.rosen, START, method="BFGS")
    assert ours.nfev * 4 < without.nfev
    assert abs(ours.jac).max() < 1e-5


def test_arguments_bounds_callbacks_and_options_reach_scipy() -> None:
    def f(x: Any, centre: Any, scale: Any) -> Any:
        return scale * sum((a - c) ** 2 for a, c in zip(x, centre))

    seen: list[Any] = []
    found = minimize(
        f,
        [0, 0],
        (np.array([2.0, -3.0]), 4),
        "L-BFGS-B",
        bounds=[(-1, 1), (-1, 1)],
        callback=lambda x: seen.append(x.copy()),
        options={"maxiter": 50},
    )
    assert found.x.tolist() == [1.0, -1.0]
    assert found.fun == 4 * (1 + 4)
    assert seen


def test_a_function_may_choose_and_use_values_from_outside() -> None:
    centre = sg.Value(3.0)

    def f(x: Any) -> Any:
        return (x[0] - centre) ** 2 if x[0] > 1.0 else (1 - centre) ** 2 + 1 - x[0]

    assert minimize(f, [-5.0], method="BFGS").x == pytest.approx([3.0])
    centre.data = 7.0
    assert minimize(f, [-5.0], method="BFGS").x == pytest.approx([7.0])
    assert centre.grad == 0.0


@pytest.mark.parametrize("method", ["SLSQP", "trust-constr", "COBYLA"])
def test_constraints_are_derived_too(method: str) -> None:
    bent = optimize.NonlinearConstraint(
        lambda x: [x[0] ** 2 + x[1] ** 2, x[0] * x[1]], [-np.inf, 0.1], [1.0, np.inf]
    )
    straight = optimize.LinearConstraint(np.array([[1.0, 1.0]]), -10.0, 10.0)
    found = minimize(
        lambda x: (x[0] - 2) ** 2 + (x[1] - 1) ** 2,
        [0.5, 0.5],
        method=method,
        constraints=[bent, straight],
    )
    assert found.x == pytest.approx([2 / math.sqrt(5), 1 / math.sqrt(5)], abs=1e-4)


def test_constraints_as_dictionaries() -> None:
    within = {"type": "ineq", "fun": lambda x, r: r - x[0] ** 2 - x[1] ** 2, "args": (1.0,)}
    own = {
        "type": "eq",
        "fun": lambda x: float(x[0]) - 2 * float(x[1]),  # plain numbers: it stays as it is
        "jac": lambda x: np.array([1.0, -2.0]),
    }
    for constraints in (within, [within, own]):
        found = minimize(
            lambda x: (x[0] - 2) ** 2 + (x[1] - 1) ** 2,
            [0.5, 0.5],
            method="SLSQP",
            constraints=constraints,
        )
        assert found.x == pytest.approx([2 / math.sqrt(5), 1 / math.sqrt(5)], abs=1e-5)


# --- systems --------------------------------------------------------------------------------------


def test_least_squares_finds_what_scipy_finds() -> None:
    def residuals(x: Any, goal: Any) -> Any:
        return [10 * (x[1] - x[0] ** 2), goal - x[0], x[1]]

    for options in ({}, {"method": "lm"}, {"loss": "soft_l1"}, {"bounds": ([-2, 0.2], [2, 2])}):
        found = least_squares(residuals, [-0.5, 1.5], args=(1.0,), **options)
        expected = optimize.least_squares(residuals, [-0.5, 1.5], args=(1.0,), **options)
        assert found.x == pytest.approx(expected.x, abs=1e-6)
        assert found.cost == pytest.approx(expected.cost, rel=1e-9)
        assert found.jac == pytest.approx(expected.jac, abs=1e-5)


@pytest.mark.parametrize("method", ["hybr", "lm", "broyden1"])
def test_root(method: str) -> None:
    def f(x: Any) -> Any:
        return [x[0] + 0.5 * (x[0] - x[1]) ** 3 - 1, 0.5 * (x[1] - x[0]) ** 3 + x[1]]

    found = root(f, [0, 0], method=method)
    assert found.x == pytest.approx([0.8411639, 0.1588361], abs=1e-5)
    assert found.success


# --- curves ---------------------------------------------------------------------------------------

TIMES = np.linspace(0.0, 10.0, 80)
TRUE = (2.0, 0.3, 3.0, 0.4)


def oscillator(t: Any, a: Any, decay: Any, omega: Any, phase: Any) -> Any:
    """For one number, Values among them, and for arrays."""
    return a * np.exp(-decay * t) * np.cos(omega * t + phase)


def measured() -> Any:
    return oscillator(TIMES, *TRUE) + np.random.default_rng(0).normal(0.0, 0.05, len(TIMES))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"p0": [1, 0, 3, 0]},
        {"p0": [1, 0.1, 2.9, 0], "sigma": np.linspace(0.05, 0.2, 80), "absolute_sigma": True},
        {"p0": [1, 0.1, 2.9, 0], "bounds": ([0, 0, 2, -1], [3, 1, 4, 1])},
        {"p0": [1, 0.1, 2.9, 0], "full_output": True},
        {"p0": [1, 0.1, 2.9, 0], "method": "trf", "loss": "soft_l1"},
    ],
)
def test_curve_fit_gives_scipys_parameters_and_covariance(options: dict[str, Any]) -> None:
    found = curve_fit(oscillator, TIMES, measured(), **options)
    expected = optimize.curve_fit(oscillator, TIMES, measured(), **options)
    assert len(found) == len(expected)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1] == pytest.approx(expected[1], rel=1e-3)
    if options:
        assert abs(found[0]) == pytest.approx(TRUE, abs=0.1)


def test_curve_fit_of_several_numbers_at_each_point() -> None:
    points = np.random.default_rng(1).normal(size=(2, 50))

    def plane(x: Any, a: Any, b: Any, c: Any) -> Any:
        return a * x[0] + b * x[1] + c

    found, _ = curve_fit(sg.compile(plane, mode="fast"), points, plane(points, 1.0, -2.0, 0.5))
    assert found == pytest.approx([1.0, -2.0, 0.5], abs=1e-7)


def test_a_curve_that_chooses_by_the_data_says_how_to() -> None:
    def bent(x: Any, a: Any, b: Any) -> Any:
        return a * x if x > 0 else b * x

    x = np.linspace(-1.0, 1.0, 21)
    with pytest.raises(sg.TraceError, match="where"):
        curve_fit(bent, x, np.abs(x))
    found, _ = curve_fit(lambda x, a, b: sg.where(x > 0, a * x, b * x), x, np.abs(x))
    assert found == pytest.approx([1.0, -1.0])


# --- differential equations -----------------------------------------------------------------------


def van_der_pol(t: Any, y: Any, mu: Any) -> Any:
    return [y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]]


@pytest.mark.parametrize("method", ["RK45", "DOP853", "Radau", "BDF", "LSODA", integrate.BDF])
def test_solutions_are_those_without_a_jacobian(method: Any) -> None:
    options: dict[str, Any] = {"args": (8.0,), "rtol": 1e-8, "atol": 1e-10}
    found = solve_ivp(van_der_pol, (0, 12), [2, 0], method, **options)
    expected = integrate.solve_ivp(van_der_pol, (0, 12), [2, 0], method, **options)
    assert found.success
    assert found.y[:, -1] == pytest.approx(expected.y[:, -1], abs=1e-4)


def test_a_solution_that_is_known() -> None:
    def cooling(t: Any, y: Any) -> Any:
        return [-50.0 * (y[0] - t.cos())]

    found = solve_ivp(cooling, (0, 2), [0.0], "Radau", rtol=1e-9, atol=1e-12, t_eval=[1.0, 2.0])
    a = 50.0
    expected = [
        a * (a * math.cos(t) + math.sin(t)) / (a * a + 1) - a * a / (a * a + 1) * math.exp(-a * t)
        for t in (1.0, 2.0)
    ]
    assert found.y[0] == pytest.approx(expected, abs=1e-8)


def test_events_see_plain_numbers_and_equations_may_choose() -> None:
    def falling(t: Any, y: Any) -> Any:
        return [y[1], -9.81 if y[0] > 0 else 0.0 * y[0]]

    def ground(t: float, y: Any) -> float:
        return float(y[0])

    ground.terminal = True  # type: ignore[attr-defined]
    found = solve_ivp(falling, (0, 10), [10.0, 0.0], "Radau", events=ground, rtol=1e-8)
    assert found.t_events[0] == pytest.approx([math.sqrt(2 * 10 / 9.81)], rel=1e-6)


@pytest.mark.parametrize("method", ["BDF", "Radau", "LSODA"])
def test_many_points_with_neighbours(method: str) -> None:
    n = 120

    def heat(t: Any, u: Any) -> Any:
        left, right = [0.0, *u[:-1]], [*u[1:], 0.0]
        return [a - 2 * b + c + b * (1 - b) for a, b, c in zip(left, u, right)]

    def plain(t: float, u: Any) -> Any:
        padded = np.pad(u, 1)
        return padded[:-2] - 2 * u + padded[2:] + u * (1 - u)

    y0 = np.exp(-(np.linspace(-3, 3, n) ** 2))
    found = solve_ivp(heat, (0, 5), y0, method)
    expected = integrate.solve_ivp(plain, (0, 5), y0, method)
    assert found.y[:, -1] == pytest.approx(expected.y[:, -1], abs=1e-3)


# --- parameters of models -------------------------------------------------------------------------


def model_and_data() -> tuple[sg.nn.MLP, Any, Any]:
    x, y = sg.data.moons(40, noise=0.1, labels=(0, 1))
    model = sg.nn.MLP(2, [4, 1], activation="tanh", rng=random.Random(3))
    return model, x, y


def moons_loss(model: sg.nn.MLP) -> Any:
    return sg.compile(
        lambda x, y: (
            sg.losses.binary_cross_entropy(model(x), y)
            + 0.01 * sum(p**2 for p in model.parameters())
        ),
        batch="mean",
    )


def test_fitting_sets_the_parameters_to_the_result() -> None:
    model, x, y = model_and_data()
    loss, parameters = moons_loss(model), model.parameters()
    before = loss(x, y)
    found = fit_parameters(loss, (x, y), parameters=parameters)
    assert found.success
    assert [p.data for p in parameters] == found.x.tolist()
    assert loss(x, y) == found.fun < 0.9 * before
    assert all(p.grad == 0.0 for p in parameters)
    _, gradient = loss.value_and_grad(x, y, wrt="parameters")
    assert abs(gradient).max() < 1e-3

    again = fit_parameters(loss, (x, y), "Nelder-Mead", options={"maxiter": 3})
    assert again.x.tolist() == [p.data for p in loss.parameters]


def test_only_the_parameters_that_were_chosen_move() -> None:
    a, b, unused = sg.Value(1.0), sg.Value(2.0), sg.Value(5.0)
    found = fit_parameters(lambda: (a - 3 * b) ** 2, parameters=[unused, a], method="BFGS")
    assert (a.data, b.data, unused.data) == (pytest.approx(6.0), 2.0, 5.0)
    assert found.x.tolist() == [5.0, a.data]
    fit_parameters(lambda: (a - 3 * b) ** 2 + b * b, bounds=[(None, 4), (1, None)])
    assert (a.data, b.data) == (pytest.approx(3.0), pytest.approx(1.0))


@pytest.mark.parametrize("method", ["L-BFGS-B", "Nelder-Mead"])
def test_ctrl_c_leaves_the_best_point_so_far(method: str) -> None:
    parameters = [sg.Value(x) for x in START]
    losses: list[float] = []

    def loss() -> Any:
        return rosenbrock(parameters)

    def press(x: Any) -> None:
        losses.append(optimize.rosen(x))
        if len(losses) == 7:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit_parameters(loss, method=method, callback=press)
    assert len(losses) in (7, 8)  # some versions call back once more on the way out
    at = optimize.rosen([p.data for p in parameters])
    assert at == pytest.approx(min(losses), rel=1e-12)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_so_does_an_error() -> None:
    parameters = [sg.Value(x) for x in START]
    seen: list[Any] = []

    def fail(x: Any) -> None:
        seen.append(x.tolist())
        if len(seen) == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit_parameters(lambda: rosenbrock(parameters), method="BFGS", callback=fail)
    assert [p.data for p in parameters] in seen


def test_a_branch_that_uses_other_parameters() -> None:
    def setting() -> tuple[Any, list[sg.Value]]:
        a, b = sg.Value(2.0), sg.Value(3.0)

        def loss() -> Any:
            bowl = (a - 0.5) ** 2
            return bowl if a > 1.0 else bowl + (1.0 - a) ** 2 * (b - 1.0) ** 2

        return loss, [a, b]

    loss, (a, _) = setting()
    with pytest.raises(sg.TraceError, match=r"uses 1 Values .* parameters="):
        fit_parameters(loss, method="BFGS")
    loss, (a, b) = setting()
    fit_parameters(loss, method="BFGS", parameters=[a, b])
    assert (a.data, b.data) == (pytest.approx(0.5, abs=1e-5), pytest.approx(1.0, abs=1e-5))


LONE = sg.Value(1.0)

# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: minimize(rosenbrock, START, jac=len), TypeError, "jac was given"),
        (lambda: minimize(rosenbrock, START, hess=len), TypeError, "hess was given"),
        (lambda: least_squares(lambda x: x, [1.0], jac="3-point"), TypeError, "least_squares: jac"),
        (lambda: root(lambda x: x, [1.0], jac=True), TypeError, "root: jac"),
        (lambda: curve_fit(lambda x, a: a, [1], [1], jac=len), TypeError, "curve_fit: jac"),
        (lambda: solve_ivp(len, (0, 1), [1.0], jac=len), TypeError, "solve_ivp: jac"),
        (lambda: minimize(3, START), TypeError, "fun: expected a function, got int 3"),
        (lambda: minimize(rosenbrock, [1j, 2.0]), TypeError, "x0: expected real numbers"),
        (lambda: minimize(rosenbrock, [sg.Value(1.0)]), TypeError, "dtype object"),
        (
            lambda: minimize(sg.compile(rosenbrock, batch="mean"), START),
            ValueError,
            "fun: expected a function, or one compiled with float64 and without batch",
        ),
        (
            lambda: minimize(sg.compile(rosenbrock, dtype="float32"), START),
            ValueError,
            "float32",
        ),
        (lambda: minimize(lambda x: [x[0], x[1]], START), sg.ShapeError, "one number"),
        (lambda: minimize(lambda x: math.sin(x[0]), START), sg.TraceError, "math.sin|float"),
        (
            lambda: solve_ivp(lambda t, y: [y[0]], (0, 1), [1, 2]),
            sg.ShapeError,
            "2 numbers, as many",
        ),
        (
            lambda: curve_fit(lambda x, a: a * TIMES, TIMES, TIMES),
            sg.ShapeError,
            "expected one number for one x, got 80",
        ),
        (lambda: fit_parameters(lambda: 3.0), ValueError, "it uses no Values from outside"),
        (
            lambda: fit_parameters(lambda: LONE * LONE, parameters=[sg.Value(1.0)]),
            ValueError,
            "none of the parameters",
        ),
        (
            lambda: fit_parameters(lambda: LONE * LONE, parameters=[1.0]),
            TypeError,
            r"parameters\[0\]: expected a leaf, such as a model has, got float",
        ),
    ],
)
def test_what_makes_no_sense_is_said(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


# --- again ----------------------------------------------------------------------------------------

CHAIN = [3.0, 2.0, 1.0]
AGAIN: dict[str, Any] = {
    "curve_fit": (
        lambda x, a, b: a * np.exp(b * x),
        lambda f: curve_fit(f, np.arange(6.0), np.exp(0.1 * np.arange(6.0)), [1.0, 0.0])[0],
    ),
    "minimize": (
        lambda x: sum((x[k] - k) ** 4 + x[k] * x[k - 1] for k in range(3)),
        lambda f: minimize(f, CHAIN, method="BFGS").x,
    ),
    "trust-exact": (
        lambda x: sum((x[k] - k) ** 4 + x[k] ** 2 for k in range(3)),
        lambda f: minimize(f, CHAIN, method="trust-exact").x,
    ),
    "Newton-CG": (
        lambda x: sum((x[k] - k) ** 4 + x[k] ** 2 for k in range(3)),
        lambda f: minimize(f, CHAIN, method="Newton-CG").x,
    ),
    "least_squares": (
        lambda x: [x[0] ** 2 - 2.0, x[1] * x[2] - 1.0, x[2] - x[0]],
        lambda f: least_squares(f, CHAIN).x,
    ),
    "root": (
        lambda x: [x[0] ** 2 - 2.0, x[1] * x[2] - 1.0, x[2] - x[0]],
        lambda f: root(f, CHAIN).x,
    ),
    "solve_ivp": (
        lambda t, y: [-y[0] * t, y[0] - y[1], y[1] * y[2]],
        lambda f: solve_ivp(f, (0.0, 1.0), CHAIN, "BDF").y,
    ),
}


@pytest.mark.parametrize("name", AGAIN)
def test_a_compiled_function_and_its_derivatives_are_traced_once(name: str) -> None:
    written, solve = AGAIN[name]
    scale, calls = sg.Value(1.0), []

    def function(*args: Any) -> Any:
        calls.append(name)
        found = written(*args)
        return [scale * y for y in found] if isinstance(found, list) else scale * found

    compiled = sg.compile(function)
    first, traces = solve(compiled), len(calls)
    assert np.array_equal(solve(compiled), first)
    assert len(calls) == traces > 0
    scale.data = 1.5  # a Value from outside counts with its present number
    other = solve(compiled)
    assert len(calls) == traces
    assert np.array_equal(other, solve(function))
    assert len(calls) > traces


def test_a_plain_function_sees_what_has_changed_outside() -> None:
    wanted = [1.0]

    def function(x: Any) -> Any:
        return [x[0] - wanted[0], x[1] * x[0] - 2.0]

    assert root(function, [3.0, 3.0]).x.round(9).tolist() == [1.0, 2.0]
    wanted[0] = 4.0
    assert root(function, [3.0, 3.0]).x.round(9).tolist() == [4.0, 0.5]


def test_what_is_kept_is_told_apart_and_goes_with_the_function() -> None:
    f = sg.compile(lambda x: [y**2 - k for k, y in enumerate(x, 1)])
    equation = sg.compile(lambda t, y: f(-y))
    for n in (2, 3, 2):
        x0 = np.ones(n)
        expected = np.sqrt(np.arange(1.0, n + 1))
        assert np.allclose(root(f, x0).x, expected)
        assert np.allclose(least_squares(f, x0).x, expected)
        assert np.allclose(solve_ivp(equation, (0.0, 0.1), x0, "Radau").y[:, 0], x0)
    alive = weakref.ref(equation)
    del equation
    gc.collect()
    assert alive() is None
