"""`scipy.optimize` with exact derivatives: minima, least squares, curves, roots."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike
from scipy import optimize

from ...compiler.function import CompiledFunction
from ...engine import Value
from ...errors import ShapeError
from ...transforms import value_and_grad
from .._each import EachExample
from .derivatives import (
    Floats,
    Function,
    Jacobian,
    given,
    hessian,
    hessian_times_vector,
    jacobian,
    kept,
    mode_of,
    real_vector,
    refuse,
    values,
    vector,
    weighted_hessian,
)

# What each method of `scipy.optimize.minimize` makes use of; all others, of the gradient.
NO_GRADIENT = ("nelder-mead", "powell", "cobyla", "cobyqa")
HESSIAN = ("dogleg", "trust-exact", "trust-constr")
HESSIAN_TIMES_VECTOR = ("newton-cg", "trust-ncg", "trust-krylov")
# The methods of `scipy.optimize.root` that use a Jacobian.
JACOBIAN = ("hybr", "lm")


def minimize(
    fun: Function,
    x0: ArrayLike,
    args: tuple[Any, ...] = (),
    method: Any = None,
    *,
    constraints: Any = (),
    **options: Any,
) -> optimize.OptimizeResult:
    """The x for which fun(x, *args) is least, from x0 on: `scipy.optimize.minimize`.

    Args:
        fun: a function of a vector, an array of n numbers, that returns one number.
        x0: n numbers to start from.
        args: further arguments, numbers or arrays, that stay the same.
        method: the name of one of SciPy's, which gets the derivatives it uses: the gradient;
            for "dogleg", "trust-exact" and "trust-constr" the Hessian; for "Newton-CG",
            "trust-ncg" and "trust-krylov" the Hessian times a vector. None: SciPy's choice.
        constraints: as SciPy's. Where a dictionary or a `NonlinearConstraint` comes without `jac`,
            its function is taken as `fun` is: it may return several numbers, and is derived.
            One with a `jac` of its own stays as it is.
        options: `bounds`, `tol`, `callback` and `options`, SciPy's.

    Returns:
        SciPy's `OptimizeResult`.

    Raises `TypeError` for x0 that are no real numbers and for an option that stands for a
    derivative, `TraceError` where `fun` cannot be compiled (see `scalargrad.compile`), and what
    SciPy raises.
    """
    refuse("minimize", options, "jac", "hess", "hessp")
    x0, function = real_vector(x0, "x0"), given(fun, "fun")
    name = method.lower() if isinstance(method, str) else ""
    derived: dict[str, Any] = {}
    if name in HESSIAN:
        derived["hess"] = hessian(function)
    if name in HESSIAN_TIMES_VECTOR:
        derived["hessp"] = hessian_times_vector(function)
    objective: Function = function
    if name not in NO_GRADIENT:
        objective, derived["jac"] = functools.partial(function.value_and_grad, wrt=0), True
    if isinstance(constraints, Mapping | optimize.NonlinearConstraint | optimize.LinearConstraint):
        constraints = (constraints,)
    constraints = [_derived(constraint, name) for constraint in constraints]
    return optimize.minimize(
        objective, x0, args, method, constraints=constraints, **derived, **options
    )


def _derived(constraint: Any, method: str) -> Any:
    """The constraint with the derivatives of its function, if it has none."""
    if isinstance(constraint, Mapping) and constraint.get("jac") is None:
        function = given(constraint["fun"], "the fun of a constraint")
        numbers, jacobian = _several(function, "the constraint")
        return {**constraint, "fun": numbers, "jac": jacobian}
    if isinstance(constraint, optimize.NonlinearConstraint) and not callable(constraint.jac):
        function = given(constraint.fun, "the fun of a constraint")
        numbers, jacobian = _several(function, "the constraint")
        second = {"hess": weighted_hessian(function, "the constraint")} if method in HESSIAN else {}
        return optimize.NonlinearConstraint(
            numbers,
            constraint.lb,
            constraint.ub,
            jac=jacobian,
            keep_feasible=constraint.keep_feasible,
            **second,
        )
    return constraint


def _several(function: CompiledFunction, name: str) -> tuple[CompiledFunction, Jacobian]:
    """A function of several numbers as a program, and its Jacobian."""
    return vector(function, name), jacobian(function, name)


def least_squares(
    fun: Function, x0: ArrayLike, *, args: tuple[Any, ...] = (), **options: Any
) -> optimize.OptimizeResult:
    """The x with the least sum of squared residuals fun(x, *args): `scipy.optimize.least_squares`.

    Args:
        fun: a function of an array of n numbers that returns m residuals, in a list or an array.
        x0: n numbers to start from.
        args: further arguments, numbers or arrays, that stay the same.
        options: `bounds`, `method`, `loss`, `x_scale`, `ftol` and all others of SciPy's but `jac`.

    Where residuals differ from each other only in their data, `curve_fit` is quicker to compile.
    Returns and raises as `minimize`.
    """
    refuse("least_squares", options, "jac", "jac_sparsity", "diff_step")
    x0 = real_vector(x0, "x0")
    residuals, jacobian = _several(given(fun, "fun"), "fun")
    return optimize.least_squares(residuals, x0, jacobian, args=args, **options)


def root(
    fun: Function,
    x0: ArrayLike,
    args: tuple[Any, ...] = (),
    method: str = "hybr",
    **options: Any,
) -> optimize.OptimizeResult:
    """The x for which every number of fun(x, *args) is 0: `scipy.optimize.root`.

    `fun` is a function of an array of n numbers that returns n, in a list or an array. Methods
    "hybr" and "lm" get its Jacobian; the others use none. `options` are `tol`, `callback` and
    `options`, SciPy's. Returns and raises as `minimize`.
    """
    refuse("root", options, "jac")
    x0 = real_vector(x0, "x0")
    function, jacobian = _several(given(fun, "fun"), "fun")
    jac = jacobian if method in JACOBIAN else None
    return optimize.root(function, x0, args, method, jac, **options)


# --- curves ---------------------------------------------------------------------------------------


def curve_fit(
    f: Function,
    xdata: ArrayLike,
    ydata: ArrayLike,
    p0: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    **options: Any,
) -> Any:
    """The parameters with which f(x, *parameters) fits the data best: `scipy.optimize.curve_fit`.

    Args:
        f: a function of one x, a number, and of n parameters that returns one number. It is
            compiled for all the data at once, so a choice that depends on them is written
            `sg.where(x > 0, a, b)`.
        xdata: shape (m,), or (k, m) for an x of k numbers: `f` then gets an array of k.
        ydata: shape (m,).
        p0: n parameters to start from. None: as SciPy, 1 for each in the signature of `f`.
        sigma, absolute_sigma: SciPy's.
        options: `bounds`, `method`, `full_output` and all others of SciPy's but `jac`.

    Returns:
        `(popt, pcov)`, the parameters and their covariance, or more with `full_output`.

    Raises as `minimize` does.
    """
    refuse("curve_fit", options, "jac")
    function = given(f, "f")
    x, y = real_vector(xdata, "xdata"), real_vector(ydata, "ydata")
    if p0 is not None:
        p0 = real_vector(p0, "p0")
    both = kept(function, "curve", lambda: _Curve(function, mode_of(function)))

    @functools.wraps(f, updated=())  # SciPy counts the parameters in the signature
    def curve(x: Floats, *parameters: float) -> Floats:
        return both(x, parameters)[:, 0].copy()  # SciPy may write into it

    def gradients(x: Floats, *parameters: float) -> Floats:
        return both(x, parameters)[:, 1:].copy()

    return optimize.curve_fit(curve, x.T, y, p0, sigma, absolute_sigma, jac=gradients, **options)


class _Curve:
    """A curve and its derivatives with respect to the parameters, for every x of an array.

    They come from one program, and what was asked for last is kept: SciPy asks for the derivatives
    where it has just asked for the curve.
    """

    def __init__(self, f: Function, mode: str) -> None:
        def row(x: Any, *parameters: Any) -> Any:
            positions = tuple(range(1, len(parameters) + 1))
            value, gradient = value_and_grad(point, positions)(x, *parameters)
            return [value, *gradient]

        def point(*args: Any) -> Value:
            found = values(f(*args), "f")
            if len(found) != 1:
                raise ShapeError(
                    f"f: expected one number for one x, got {len(found)}: f is compiled for all "
                    "the data at once, and needs no arrays of them"
                )
            return found[0]

        self._each = EachExample(row, mode)
        self._latest: tuple[Any, Any, Any] = None, (), None

    def __call__(self, x: Floats, parameters: tuple[float, ...]) -> Floats:
        """Shape (m, 1 + n): the curve, then its derivatives."""
        of, at, rows = self._latest
        if of is not x or at != parameters:
            rows = self._each(x, *parameters)
            self._latest = x, parameters, rows
        found: Floats = rows
        return found
