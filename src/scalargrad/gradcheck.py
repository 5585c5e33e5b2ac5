"""`check_grads`: derivatives compared with differences, and the wrong one named.

From the outside in. Do the derivatives of the function, of every order asked for, agree with
differences of the function: both the engine's own gradients and those built as a graph? And do
the partials of each operation that occurs agree with differences of that operation? The second
question finds the culprit of the first.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import ops
from .compiler.adjoint import gradients
from .engine import Value
from .errors import GradientError
from .functional import dot
from .graph import Graph
from .transforms import grad
from .trees import flatten, joined, paths

Floats: TypeAlias = NDArray[np.float64]
Function: TypeAlias = Callable[..., Any]

EPSILON = 2.0**-52
STEP = EPSILON ** (1 / 3)  # where the truncation, h^2, is about the rounding, epsilon / h
RELATIVE, ABSOLUTE = 1e-6, 1e-8
SAMPLES = 16  # nodes of each operation that are looked at when nothing seems wrong


def check_grads(
    function: Function,
    args: Sequence[Any],
    order: int = 2,
    *,
    argnums: Sequence[int] | None = None,
    rtol: float = RELATIVE,
    atol: float = ABSOLUTE,
) -> None:
    """Compare the derivatives of function(*args), up to an order, with central differences.

    The function returns numbers in any structure; several are combined with fixed weights. With
    respect to all arguments, or those at `argnums`. Order 1 compares df/dx for each number x of
    the arguments. Order k > 1 compares the derivative of the k-th order, contracted with a fixed
    vector v k - 1 times, with differences along v of the one before. A derivative may differ by
    `atol + rtol * |derivative|`, plus what the differences themselves are uncertain by.

    Raises `GradientError` naming the argument, both numbers, and the operation whose rule is
    wrong, if one is; `ValueError` for an order below 1. Like `jax.test_util.check_grads`.

        >>> check_grads(lambda x, y: x.sin() * y, (0.5, 2.0))
    """
    if not callable(function):
        raise TypeError(f"function: expected a function, got {type(function).__name__}")
    if not isinstance(args, tuple | list):
        raise TypeError(
            f"args: expected a tuple with one entry per argument, got {type(args).__name__}"
        )
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ValueError(f"order: expected an int of at least 1, got {order!r}")
    point = _Point(function, args, range(len(args)) if argnums is None else argnums)
    tolerance = _Tolerance(rtol, atol)
    _check_operations(point.graph(), tolerance, SAMPLES)
    for k in range(1, order + 1):
        for wrong in _disagreements(point, k, tolerance):
            _check_operations(point.graph(k), tolerance, len(point.graph(k)))
            raise GradientError(f"check_grads: {wrong}")


class _Point:
    """The function as one of a flat list of numbers, and the numbers it is looked at."""

    def __init__(self, function: Function, args: Sequence[Any], argnums: Sequence[int]) -> None:
        self._function, self._args, self._argnums = function, args, argnums
        self._tree = joined([flatten(args[k], f"argument {k}") for k in argnums])
        self.names = [name for k in argnums for name in paths(args[k], f"argument {k}")]
        self.x: list[float] = [
            x.data if isinstance(x, Value) else float(x) for x in self._tree.leaves
        ]
        rng = random.Random(0)
        # Of either sign, so that effects do not cancel, and of the size of what they move.
        self.direction = [
            rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.0) * (abs(x) if abs(x) > 1e-12 else 1.0)
            for x in self.x
        ]

    def __call__(self, xs: Sequence[Any]) -> Value:
        """The function's result, one number."""
        given = list(self._args)
        of_values = any(isinstance(x, Value) for x in xs)
        for k, x in zip(self._argnums, self._tree.nested(xs, of_values)):
            given[k] = x
        out = flatten(self._function(*given), "the result").leaves
        if len(out) == 1:
            return out[0] if isinstance(out[0], Value) else Value(out[0])
        rng = random.Random(1)
        return dot([rng.uniform(0.5, 1.5) for _ in out], out)

    def contracted(self, order: int) -> Callable[[Sequence[Any]], Value]:
        """The derivative of the order, contracted with the direction that many times."""
        if order == 0:
            return self
        gradient = grad(self.contracted(order - 1))
        return lambda xs: dot(self.direction, gradient(list(xs)))

    def gradient(self, order: int, x: Floats) -> Floats:
        """The gradient of `contracted(order - 1)`, by the engine."""
        return np.array(grad(self.contracted(order - 1))(x.tolist()))

    def built_gradient(self, order: int) -> Floats:
        """The same, by the graph of the derivative."""
        variables = [Value(x) for x in self.x]
        output = self.contracted(order - 1)(variables)
        return np.array([g.data for g in gradients(output, variables)])

    def graph(self, order: int = 1) -> Graph:
        """The graph of `contracted(order - 1)`."""
        return Graph(self.contracted(order - 1)([Value(x) for x in self.x]))


class _Tolerance(NamedTuple):
    relative: float
    absolute: float

    def accepts(self, derivative: float, estimate: float, error: float) -> bool:
        """Whether a derivative is as near to its estimate as can be asked."""
        if not math.isfinite(derivative):
            return False
        size = max(abs(derivative), abs(estimate))
        return abs(derivative - estimate) <= self.absolute + self.relative * size + 2.0 * error


def _disagreements(point: _Point, order: int, tolerance: _Tolerance) -> Iterator[str]:
    x = np.array(point.x)
    by_engine = point.gradient(order, x).tolist()
    by_graph = point.built_gradient(order).tolist()
    what = "the derivative" if order == 1 else f"the derivative of order {order}"
    estimates = _estimates(point, order, by_engine, tolerance)
    for j, (name, (estimate, error)) in enumerate(zip(point.names, estimates)):
        for derivative, how in ((by_engine[j], "backward()"), (by_graph[j], "the adjoint graph")):
            claim = f"{what} with respect to {name} (= {point.x[j]!r}) is {derivative!r} by {how}"
            if not error <= 0.1 * abs(estimate) + tolerance.absolute:
                yield (
                    f"{claim}, but central differences cannot tell: they give {estimate!r} within "
                    f"{error:.1g}. Is this at the edge of where the function is defined?"
                )
            elif not tolerance.accepts(derivative, estimate, error):
                yield (
                    f"{claim}, but {estimate!r} by central differences (within {error:.1g}). No "
                    "operation in it has a wrong rule: does the function detach or read a number, "
                    "or have a kink or a jump there?"
                )


def _estimates(
    point: _Point, order: int, claimed: Sequence[float], tolerance: _Tolerance
) -> Iterator[tuple[float, float]]:
    """The derivative for each number, from differences of what is one order lower."""
    x = np.array(point.x)
    if order > 1:
        direction = np.array(point.direction)
        found = differentiate(lambda t: point.gradient(order - 1, x + t * direction), 0.0)
        yield from zip(found.derivative.tolist(), found.error.tolist())
        return
    for j, derivative in enumerate(claimed):

        def along(xj: float, j: int = j) -> Floats:
            moved = [xj if k == j else xk for k, xk in enumerate(point.x)]
            return np.array([point([Value(xk) for xk in moved]).data])

        quick = _central(along, point.x[j], STEP * max(abs(point.x[j]), 1.0)).item()
        if tolerance.accepts(derivative, quick, 0.0):
            yield quick, 0.0
            continue
        slope = differentiate(along, point.x[j])
        yield slope.derivative.item(), slope.error.item()


# --- differences -----------------------------------------------------------------------------------


class Slope(NamedTuple):
    """Derivatives estimated from differences, and how far off each may be."""

    derivative: Floats
    error: Floats


def differentiate(f: Callable[[float], Floats], x: float) -> Slope:
    """f'(x) of an f with an array for a result, by central differences extrapolated to h = 0.

    (f(x + h) - f(x - h)) / 2h has an error that is a series in h^2. Steps that shrink by a constant
    factor let one term after the other be cancelled; the best estimate is the one that changed
    least, and that change, with what rounding can do, its error (Ridders, 1982).
    """
    wide = _extrapolated(f, x, 0.05 * max(abs(x), 1.0))
    if x == 0.0 or abs(x) > 0.1:
        return wide
    near = _extrapolated(f, x, 0.05 * abs(x))
    better = near.error < wide.error
    return Slope(
        np.where(better, near.derivative, wide.derivative), np.where(better, near.error, wide.error)
    )


def _extrapolated(f: Callable[[float], Floats], x: float, h: float) -> Slope:
    shrink = 1.6
    centre = np.abs(f(x))
    best, error = np.full(centre.shape, math.nan), np.full(centre.shape, math.inf)
    before: list[Floats] = []
    with np.errstate(all="ignore"):
        for _ in range(22):
            row = [_central(f, x, h)]
            rounding = EPSILON * centre / h
            factor = 1.0
            for earlier in before:
                factor *= shrink * shrink
                row.append((factor * row[-1] - earlier) / (factor - 1.0))
                change = np.maximum(np.abs(row[-1] - row[-2]), np.abs(row[-1] - earlier)) + rounding
                better = change < error
                best, error = np.where(better, row[-1], best), np.where(better, change, error)
            before = row
            h /= shrink
    return Slope(best, error)


def _central(f: Callable[[float], Floats], x: float, h: float) -> Floats:
    above, below = x + h, x - h
    return (f(above) - f(below)) / (above - below)


# --- single operations -----------------------------------------------------------------------------


def _check_operations(graph: Graph, tolerance: _Tolerance, samples: int) -> None:
    """Compare the partials of the operations in a graph with differences of them."""
    places: dict[str, list[Value]] = {}
    for node in graph.nodes[graph.tape.leaves :]:
        places.setdefault(node.op, []).append(node)
    for nodes in places.values():
        for node in nodes[:: max(1, len(nodes) // samples)]:
            _check_operation(node, tolerance)


def _check_operation(node: Value, tolerance: _Tolerance) -> None:
    row = ops.BY_CODE[node.code]
    operands = [operand.data for operand in node.operands]
    if not all(map(math.isfinite, (*operands, node.data))):
        return
    constants = (node.const,) if row.constant else ()
    partials = {
        "ops.TABLE": [float(d) for d in row.partials(*operands, *constants, node.data)],
        "the engine": _partials_by_engine(row.name, operands, node.const),
    }
    for slot in range(len(operands)):
        estimate = _partial_by_differences(row.name, operands, node.const, slot)
        if estimate is None:
            continue
        for where, claimed in partials.items():
            if not tolerance.accepts(claimed[slot], *estimate):
                shown = row.text.format(
                    *map(repr, operands),
                    c=ops.constant_text(node.const),
                    operands=", ".join(map(repr, operands)),
                )
                raise GradientError(
                    f"check_grads: the operation {row.name} has a wrong rule: in {shown} the "
                    f"derivative with respect to operand {slot} (= {operands[slot]!r}) is "
                    f"{claimed[slot]!r} by {where}, but {estimate[0]!r} by central differences "
                    f"(within {estimate[1]:.1g})"
                )


def _partials_by_engine(name: str, operands: Sequence[float], const: float) -> list[float]:
    leaves = [Value(x) for x in operands]
    Value.apply(name, *leaves, const=const).backward()
    return [leaf.grad for leaf in leaves]


def _partial_by_differences(
    name: str, operands: Sequence[float], const: float, slot: int
) -> tuple[float, float] | None:
    """The estimate and its error; None where differences cannot tell, as at a kink."""
    if name == "detach":
        return 0.0, 0.0  # by definition

    def along(x: float) -> Floats:
        moved = [Value(x if k == slot else y) for k, y in enumerate(operands)]
        return np.array([Value.apply(name, *moved, const=const).data])

    found = differentiate(along, operands[slot])
    estimate, error = found.derivative.item(), found.error.item()
    if not error <= 1e-3 * max(abs(estimate), 1.0) or _has_kink(along, operands[slot]):
        return None
    return estimate, error


def _has_kink(f: Callable[[float], Floats], x: float) -> bool:
    """Whether the slopes to the left and to the right differ, or f jumps."""
    h = STEP * max(abs(x), 1e-3)
    left, right = (f(x) - f(x - h)) / h, (f(x + h) - f(x)) / h
    size = max(abs(left.item()), abs(right.item()), 1.0)
    return bool(abs(left.item() - right.item()) > 1e-3 * size)
