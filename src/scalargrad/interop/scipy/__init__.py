"""Scalar programs in SciPy: its own solvers, given exact derivatives by the compiler.

    from scalargrad.interop.scipy import minimize
    minimize(lambda x: (x[0] - 1) ** 2 + (x[1] - x[0] ** 2) ** 2, [3.0, 2.0], method="Newton-CG")

The functions are SciPy's, by name, arguments and results, without `jac`, `hess` and `hessp`: a
function is written in single numbers, as for `scalargrad.compile`, and its gradient, Hessian or
Jacobian is derived and compiled. It may choose (`if x[0] > 0`), and use Values from outside, which
count with their present numbers. It is traced anew by each call; a function that comes compiled
(`sg.compile(f, mode="fast")`) is run as it was compiled, and its derivatives are kept with it.

`fit_parameters` is the other way round: a loss of no `x`, whose Values from outside are what is to
be found.
"""

from __future__ import annotations

from ...errors import MissingExtraError

try:
    import scipy as _scipy  # noqa: F401
except ImportError as error:
    raise MissingExtraError("SciPy", "scipy", "scalargrad.interop.scipy") from error

from .integrate import solve_ivp as solve_ivp
from .optimize import curve_fit as curve_fit
from .optimize import least_squares as least_squares
from .optimize import minimize as minimize
from .optimize import root as root
from .parameters import fit_parameters as fit_parameters
