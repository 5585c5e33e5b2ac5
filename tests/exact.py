"""The operations and their derivatives in 50 digits, by mpmath, knowing nothing of the op table.

Derivatives come from mpmath's numerical differentiation of the function itself (at raised
precision), so a wrong derivative rule cannot be repeated here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import mpmath
from mpmath import mp, mpf

from strategies import Literal, Program

mp.dps = 50


def _gelu(a: mpf) -> mpf:
    return a * mpmath.ncdf(a)


FORWARD: dict[str, Callable[..., mpf]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "power": lambda a, b: a**b,
    "abs": abs,
    "relu": lambda a: max(a, mpf(0)),
    "exp": mpmath.exp,
    "log": mpmath.log,
    "sqrt": mpmath.sqrt,
    "tanh": mpmath.tanh,
    "sigmoid": lambda a: 1 / (1 + mpmath.exp(-a)),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "softplus": lambda a: mpmath.log(1 + mpmath.exp(a)),
    "gelu": _gelu,
    "erfc": mpmath.erfc,
    "maximum": max,
    "minimum": min,
    "less": lambda a, b: mpf(a < b),
    "less_equal": lambda a, b: mpf(a <= b),
    "where": lambda c, a, b: a if c != 0 else b,
    "detach": lambda a: a,
}
WITH_CONSTANT: dict[str, Callable[..., mpf]] = {
    "pow": lambda a, n: a**n,
    "leaky_relu": lambda a, slope: a if a > 0 else slope * a,
}


def forward(op: str, operands: Sequence[Any], constant: float = 0.0) -> mpf:
    """The result of the operation."""
    exact = [mpf(x) for x in operands]
    if op == "take":
        return exact[int(constant)]
    if op in WITH_CONSTANT:
        return WITH_CONSTANT[op](*exact, mpf(constant))
    return FORWARD[op](*exact)


def partial(
    op: str, slot: int, operands: Sequence[Any], constant: float = 0.0, order: int = 1
) -> mpf:
    """The derivative, of the given order, of the result with respect to one operand."""
    if op == "detach" or (op == "where" and slot == 0):
        return mpf(0)  # by definition: no gradient passes

    def along(x: mpf) -> mpf:
        return forward(op, [*operands[:slot], x, *operands[slot + 1 :]], constant)

    return mpmath.diff(along, mpf(operands[slot]), order)


# --- whole programs -----------------------------------------------------------------------------


def values_and_gradients(
    program: Program, disturb: Callable[[], mpf] = lambda: mpf(1)
) -> tuple[mpf, list[mpf]]:
    """The program's result and its derivative with respect to each input.

    Every intermediate number, forward and backward, is multiplied by `disturb()`.
    """
    results = program.run(
        [mpf(x) for x in program.inputs],
        lambda op, operands, constant: forward(op, operands, constant) * disturb(),
    )
    gradients = [mpf(0)] * len(results)
    gradients[-1] = mpf(1)
    for k in reversed(range(len(program.steps))):
        step, g = program.steps[k], gradients[len(program.inputs) + k]
        if g == 0:
            continue
        operands = [x.number if isinstance(x, Literal) else results[x] for x in step.operands]
        for slot, x in enumerate(step.operands):
            if isinstance(x, int):
                d = partial(step.op, slot, operands, step.constant)
                gradients[x] += d * g * disturb()
    return results[-1], gradients[: len(program.inputs)]


def is_well_conditioned(program: Program, tolerance: float, trials: int = 2) -> bool:
    """Whether float64 can be expected to give the program's results to the relative tolerance.

    Rounding multiplies every intermediate number by 1 + d, |d| <= 2^-53 for arithmetic and up to
    about four times that for a library function. If disturbing each one by up to 2^-50 (eight
    roundings, at random) moves a result by more than the tolerance, then the result is a
    difference of nearly equal numbers, and float64 itself cannot be asked for the tolerance.
    """
    exact, exact_gradients = values_and_gradients(program)
    for seed in range(trials):
        rng = random.Random(seed)
        value, gradients = values_and_gradients(
            program, lambda rng=rng: 1 + mpf(rng.uniform(-1, 1)) * mpf(2) ** -50
        )
        pairs = zip([exact, *exact_gradients], [value, *gradients])
        if any(abs(x - y) > tolerance * abs(x) for x, y in pairs):
            return False
    return True
