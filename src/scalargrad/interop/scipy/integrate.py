"""`scipy.integrate` with exact derivatives: differential equations, stiff ones too."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike
from scipy import integrate

from .derivatives import Function, given, jacobian, real_vector, refuse, vector

# The methods that solve equations with a Jacobian, and whether that may be a sparse matrix.
JACOBIAN = {"Radau": True, "BDF": True, "LSODA": False}


def solve_ivp(
    fun: Function,
    t_span: tuple[float, float],
    y0: ArrayLike,
    method: Any = "RK45",
    *,
    args: tuple[Any, ...] = (),
    **options: Any,
) -> Any:
    """The y(t) with dy/dt = fun(t, y, *args) and y(t_span[0]) = y0: `scipy.integrate.solve_ivp`.

    Args:
        fun: a function of a number t and an array y of n numbers that returns n, in a list or an
            array.
        t_span: from where to where.
        y0: n numbers.
        method: one of SciPy's. "Radau", "BDF" and "LSODA", those for stiff equations, get the
            Jacobian of `fun`; for the first two it is a sparse matrix where it is large and mostly
            0, as when each of many points acts on its neighbours.
        args: further arguments of `fun`, numbers or arrays, that stay the same.
        options: `t_eval`, `dense_output`, `rtol`, `atol` and all others of SciPy's but `jac`.
            `events` are functions of plain numbers, of (t, y, *args), as in SciPy.

    Returns:
        SciPy's bunch with `t`, `y`, `sol`, ...

    Raises `ShapeError` where `fun` returns another number of numbers, `TypeError` for a y0 that are no real numbers and for an option that stands for a
    derivative, `TraceError` where `fun` cannot be compiled (see `scalargrad.compile`), and what
    SciPy raises.
    """
    refuse("solve_ivp", options, "jac", "jac_sparsity", "lband", "uband", "vectorized")
    y0, function = real_vector(y0, "y0"), given(fun, "fun")
    name = method if isinstance(method, str) else getattr(method, "__name__", "")
    if name in JACOBIAN:
        options["jac"] = jacobian(function, "fun", 1, JACOBIAN[name])
    return integrate.solve_ivp(
        vector(function, "fun", "y0"), t_span, y0, method, args=args or None, **options
    )
