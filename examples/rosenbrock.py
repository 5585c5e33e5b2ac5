"""Find the bottom of a curved valley in 50 dimensions, with SciPy's optimiser and our gradients.

Rosenbrock's function (1960) is the sum over i of

    100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2

Its minimum, 0, is at x = (1, 1, ..., 1), at the end of a long, narrow, bent valley that an
optimiser needs good gradients to follow. (In four or more dimensions there is a second, local
minimum near x[0] = -1; the way from the origin leads to the right one.) `value_and_grad` gives
value and gradient in one go, as SciPy asks for with `jac=True`; `hessian`, by differentiating
twice, gives the curvature.

    python examples/rosenbrock.py
"""

from itertools import pairwise

import numpy as np
from scipy.optimize import OptimizeResult, minimize

import scalargrad as sg

DIMENSIONS = 50


def rosenbrock(x):
    """The function, one number at a time: x is a list or an array, of floats or of Values."""
    total = 0.0
    for here, there in pairwise(x):
        total = total + 100.0 * (there - here**2) ** 2 + (1.0 - here) ** 2
    return total


def by_gradients(dimensions: int = DIMENSIONS) -> OptimizeResult:
    """BFGS: gradients only. The compiled function is traced once and then replayed."""
    slopes = sg.value_and_grad(sg.compile(rosenbrock))
    return minimize(slopes, np.zeros(dimensions), jac=True, method="BFGS", options={"gtol": 1e-9})


def by_curvature(dimensions: int = DIMENSIONS) -> OptimizeResult:
    """Newton's method in a trust region: gradients and second derivatives, both compiled."""
    slopes = sg.value_and_grad(sg.compile(rosenbrock))
    curvature = sg.compile(sg.hessian(rosenbrock))
    return minimize(
        slopes,
        np.zeros(dimensions),
        jac=True,
        hess=curvature,
        method="trust-exact",
        options={"gtol": 1e-9},
    )


def main() -> None:
    """Minimise both ways and say how it went."""
    for name, found in (("BFGS", by_gradients()), ("Newton", by_curvature())):
        error = np.abs(found.x - 1.0).max()
        print(
            f"{name:>6}: f = {found.fun:.1e} after {found.nit} steps, "
            f"every coordinate within {error:.1e} of 1"
        )


if __name__ == "__main__":
    main()
