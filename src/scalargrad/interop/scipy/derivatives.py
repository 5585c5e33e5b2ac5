"""The derivatives of a function that solvers ask for, each a program of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ...compiler import compile
from ...compiler.function import CompiledFunction
from ...engine import Value
from ...errors import ShapeError
from ...functional import dot
from ...transforms import grad, jvp
from ...trees import array_of, flatten
from .jacobians import entries

Floats: TypeAlias = NDArray[np.float64]
Function: TypeAlias = Callable[..., Any]
Made = TypeVar("Made")

FEW = 10_000  # numbers in a matrix that is never thought of as sparse
SPARSE = 0.1  # the share of them, of which a larger one is


def given(function: Any, name: str, batched: bool = False) -> CompiledFunction:
    """The user's function, compiled as it came or now.

    Raises `TypeError` for what is no function and `ValueError` for one that was compiled for
    float32, an aux, or batches unless these are expected.
    """
    if not callable(function):
        raise TypeError(f"{name}: expected a function, got {type(function).__name__} {function!r}")
    compiled = function if isinstance(function, CompiledFunction) else compile(function)
    options = compiled.options
    if (options.batch is not None and not batched) or options.dtype != "float64" or options.has_aux:
        raise ValueError(
            f"{name}: expected a function, or one compiled with float64 and without batch and "
            f"has_aux, got {options}: compile it with mode= and backend= at most"
        )
    return compiled


def kept(function: CompiledFunction, what: Any, make: Callable[[], Made]) -> Made:
    """What is made of a function: once, where it came compiled and is used again."""
    if what not in function.derived:
        function.derived[what] = make()
    made: Made = function.derived[what]
    return made


def mode_of(function: CompiledFunction) -> str:
    """The mode it was compiled in, which is that of its derivatives, too."""
    return function.options.mode


def refuse(where: str, options: Mapping[str, Any], *names: str) -> None:
    """Raise `TypeError` for an option that stands for a derivative."""
    for name in names:
        if name in options:
            raise TypeError(
                f"{where}: {name} was given, but here derivatives are those of the function: leave "
                f"it out, or call SciPy's own {where}"
            )


def real_vector(x: Any, name: str) -> Floats:
    """x as float64 numbers; `TypeError` where it holds anything but real numbers."""
    array = np.asarray(x)
    if array.dtype.kind not in "iuf":
        raise TypeError(
            f"{name}: expected real numbers, got {type(x).__name__} of dtype {array.dtype}"
        )
    return array.astype(np.float64)


# --- several numbers ------------------------------------------------------------------------------


def values(result: Any, name: str) -> list[Value]:
    """The numbers of a result, in any containers, as Values."""
    leaves = flatten(result, f"the result of {name}").leaves
    return [x if isinstance(x, Value) else Value(x) for x in leaves]


def vector(function: CompiledFunction, name: str, like: str = "") -> CompiledFunction:
    """The function, with its result as one array.

    `like` names the vector, its second argument, that the result is to have the length of.
    """

    def numbers(*args: Any) -> Any:
        found = values(function(*args), name)
        if like and len(found) != len(args[1]):
            raise ShapeError(
                f"{name}: expected {len(args[1])} numbers, as many as {like} has, got {len(found)}"
            )
        return array_of(found, (len(found),), True)

    return kept(function, (name, like), lambda: compile(numbers, mode=mode_of(function)))


def jacobian(
    function: CompiledFunction, name: str, wrt: int = 0, may_be_sparse: bool = False
) -> Jacobian:
    """d(result)/d(argument) of a function of several numbers, at the argument at position `wrt`."""
    what = "Jacobian", name, wrt
    matrix = kept(function, what, lambda: derivatives(function, name, mode_of(function), wrt))
    return Jacobian(matrix, may_be_sparse)


def derivatives(function: Function, name: str, mode: str, wrt: int = 0) -> CompiledFunction:
    """The program of a `Jacobian`."""

    def matrix(*args: Any) -> Any:
        variables = args[wrt].tolist()
        outputs = values(function(*args), name)
        return _laid_out(outputs, variables)

    return compile(matrix, mode=mode)


class Jacobian:
    """d(result)/d(argument) of a function of several numbers, at an argument that is a vector.

    Called like the function it gives an array with a row for each number of the result, or, if
    `may_be_sparse`, a SciPy CSC matrix where that is large and mostly 0. `matrix` is its program.
    """

    def __init__(self, matrix: CompiledFunction, may_be_sparse: bool = False) -> None:
        self._matrix = matrix
        self._is_sparse: bool | None = None if may_be_sparse else False

    def __call__(self, *args: Any) -> Any:
        """The Jacobian at an argument that is a vector."""
        found = self._matrix(*args)
        if self._is_sparse is None:  # solvers want what they got first
            self._is_sparse = isinstance(found, tuple)
        if isinstance(found, tuple):
            numbers, places, shape = found
            rows, columns = places.astype(np.intp)
            shape = tuple(map(int, shape))
            found = sparse.csc_matrix((numbers, (rows, columns)), shape)
            return found if self._is_sparse else found.toarray()
        return sparse.csc_matrix(found) if self._is_sparse else found


def _laid_out(outputs: list[Value], variables: list[Value]) -> Any:
    """The Jacobian as an array; if sparse, as its numbers, their places and its shape."""
    shape = len(outputs), len(variables)
    found = entries(outputs, variables)
    if len(outputs) * len(variables) <= FEW or len(found) > SPARSE * shape[0] * shape[1]:
        zero = Value(0.0)
        dense = np.full(shape, zero, dtype=object)
        for i, j, number in found:
            dense[i, j] = number
        return dense
    numbers = array_of([number for _, _, number in found], (len(found),), True)
    places = np.array([[float(i) for i, _, _ in found], [float(j) for _, j, _ in found]])
    return numbers, places, np.array(shape, dtype=np.float64)


# --- of second order ------------------------------------------------------------------------------


def hessian(function: CompiledFunction) -> Jacobian:
    """The Hessian of a function of one number: `h(x, *args)`."""
    return Jacobian(
        kept(
            function,
            "Hessian",
            lambda: derivatives(grad(function), "the gradient", mode_of(function)),
        )
    )


def hessian_times_vector(function: CompiledFunction) -> CompiledFunction:
    """The Hessian of a function of one number, times a vector: `h(x, p, *args)`."""

    def product(x: Any, p: Any, *args: Any) -> Any:
        return jvp(lambda x: grad(function)(x, *args), (x,), (p,))[1]

    return kept(function, "product", lambda: compile(product, mode=mode_of(function)))


def weighted_hessian(function: CompiledFunction, name: str) -> Jacobian:
    """The Hessian of the numbers of a function, each times its weight and added: `h(x, weights)`."""

    def gradient(x: Any, weights: Any) -> Any:
        return grad(lambda x: dot(weights.tolist(), values(function(x), name)))(x)

    return Jacobian(
        kept(
            function,
            ("weighted", name),
            lambda: derivatives(gradient, "the gradient", mode_of(function)),
        )
    )
