"""Functions in, functions out: `grad`, `value_and_grad`, `jvp`, `vjp`, `jacobian`, `hessian`.

    >>> def f(x): return x[0] ** 2 * x[1]
    >>> grad(f)([3.0, 2.0])
    [12.0, 9.0]
    >>> hessian(f)([3.0, 2.0])
    [[4.0, 6.0], [6.0, 0.0]]

A function takes numbers or Values, in nested lists, tuples, dicts and NumPy arrays, and computes
with them as it would with floats; while it runs, each number of a differentiated argument is a
Value, and an array is an array of Values. Called with numbers, a transformed function returns
numbers, in the structure of the argument. Called with Values, or by a function that is itself
being differentiated or traced, it returns Values, so transforms can be nested in any order:

    hessian(f) = jacobian(grad(f))        grad(lambda x: x * grad(g)(x))

Every call differentiates with respect to variables of its own, so that an inner derivative never
mistakes an outer variable for its own (the "perturbation confusion" of Siskind & Pearlmutter,
2005). Numbers are differentiated by replaying the graph backward; Values by building the graph of
the derivative (`compiler.adjoint`). Both give the bits of `Value.backward()`. The names and
meanings are those of JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any, TypeAlias

import numpy as np

from . import replay, watch
from .compiler.adjoint import Derivative, graph_down_to
from .compiler.function import CompiledFunction
from .compiler.sparsity import apart, directions, reached
from .dependence import Dependence
from .engine import Value
from .errors import ShapeError, StaleGraphError, TraceError
from .lines import user_line
from .modes import current, modes
from .trees import Scalar, Tree, array_of, flatten, holds_value, joined, replace

Function: TypeAlias = Callable[..., Any]

MOST_BITS = 1 << 30  # of what is noted while it is found out which variables each node depends on


def _is_inside() -> bool:
    """Whether this is called by a function that is being differentiated or traced."""
    return current.differentiating is not None or current.tracer is not None


def _are_numbers(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a function called like this answers with numbers: otherwise with Values."""
    return not _is_inside() and not any(map(holds_value, (*args, *kwargs.values())))


class _Variables:
    """What a function is being differentiated with respect to, and the functions around that."""

    def __init__(self, variables: Sequence[Value], outer: _Variables | None, numeric: bool) -> None:
        numbers = {v.number for v in variables}
        oldest = min(numbers, default=0)

        def of_itself(v: Value) -> bool | None:
            return True if v.number in numbers else False if v.number < oldest else None

        self._reach, self._outer, self._numeric = Dependence(of_itself), outer, numeric
        # Whether it depends on a Value that was there before.
        self._from_outside = Dependence(lambda v: True if v.number < oldest else None)

    def refuse_float(self, v: Value) -> None:
        """Raise `TraceError` where a number that depends on them is made a float."""
        if self._reach(v):
            raise TraceError(
                f"float() of {v.label or repr(v)} at {user_line()}, inside a function that is being "
                "differentiated: the float passes no gradient on, and the derivative would be "
                "wrong. Stay with Values: x.sin() and the like instead of math.sin(x), lists or "
                "arrays of objects instead of arrays of floats; where the number alone is meant, "
                "write x.data"
            )
        if self._outer is not None:
            self._outer.refuse_float(v)

    def equal(self, a: Value, other: Any, expected: bool) -> Any:
        """`a == other`, or `!=`, of numbers where the function was called with numbers.

        NotImplemented, for Python to compare nodes, where a Value from outside takes part.
        """
        if self._outer is not None:
            return self._outer.equal(a, other, expected)
        b = other if isinstance(other, Value) else Value(other)
        if not self._numeric or self._from_outside(a) or self._from_outside(b):
            return NotImplemented
        if not self._reach(a) and not self._reach(b):
            return NotImplemented
        return (a.data == b.data) == expected


@contextmanager
def _differentiating(variables: Sequence[Value] = (), numeric: bool = False) -> Iterator[None]:
    outer = current.differentiating
    watch.differentiate(1)
    try:
        current.differentiating = _Variables(variables, outer, numeric)
        # `no_grad` is about graphs that the caller would hold on to; a derivative needs its own.
        with nullcontext() if current.grad else modes(grad=True):
            yield
    finally:
        current.differentiating = outer
        watch.differentiate(-1)


# --- one call of a function that is to be differentiated -------------------------------------------


class _Run:
    """A function's result at some arguments, with what its derivative needs.

    `variables` stand for the numbers of the arguments at `argnums`. If `numeric`, arguments and
    results are numbers, else Values.
    """

    def __init__(
        self,
        function: Function,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        argnums: Sequence[int],
        also: Sequence[Any] = (),
    ) -> None:
        self.numeric = _are_numbers((*args, *also), kwargs)
        self._keeps_graph = current.grad or current.tracer is not None
        self.trees = [flatten(args[k], f"argument {k}") for k in argnums]
        per_tree = [[_variable(x) for x in tree.leaves] for tree in self.trees]
        self.variables = [v for variables in per_tree for v in variables]
        given = list(args)
        for k, tree, variables in zip(argnums, self.trees, per_tree):
            given[k] = tree.nested(variables, of_values=True)
        with _differentiating(self.variables, self.numeric):
            self.result = function(*given, **kwargs)

    def derivative_of(
        self, outputs: Sequence[Scalar], numeric: bool | None = None
    ) -> _Replayed | _Built:
        """The derivative of some outputs with respect to the variables."""
        values = [x if isinstance(x, Value) else Value(x) for x in outputs]
        # Inside detect_anomaly() every number of the derivative is made as a Value and looked at.
        if (self.numeric if numeric is None else numeric) and not current.anomaly:
            return _Replayed(values, self.variables)
        return _Built(values, self.variables)

    def shown(self, x: Scalar) -> Scalar:
        """A number of the result as the caller sees it."""
        if self.numeric:
            return x.data if isinstance(x, Value) else float(x)
        if not isinstance(x, Value):
            return Value(x)
        return x if self._keeps_graph else x.detach()

    def nested(self, tree: Tree, xs: Sequence[Scalar]) -> Any:
        """Numbers of the result as the caller sees them, in the containers of a tree."""
        return tree.nested([self.shown(x) for x in xs], of_values=not self.numeric)


def _variable(x: Scalar) -> Value:
    # A node of its own, even for a Value: its only role is to be this call's variable. Taking the
    # one candidate there is passes number and gradient on unchanged.
    if not isinstance(x, Value):
        return Value(x)
    variable = Value.apply("take", x, const=0)
    variable.label = x.label
    return variable


class _Replayed:
    """The derivative in numbers, by the interpreter; no `grad` of any Value is touched."""

    MANY = 64  # walks that take as long as to find out which can be taken together

    def __init__(self, outputs: Sequence[Value], variables: Sequence[Value]) -> None:
        self.graph = graph = graph_down_to(outputs, variables)
        n, leaves = len(graph), graph.tape.leaves
        place = {id(v): i for i, v in enumerate(graph.leaves)}
        self._places = [place.get(id(v), leaves) for v in variables]
        self._outputs = graph.tape.outputs.tolist()
        data, self._grad = np.empty(n), np.empty(n)
        self._replay = replay.Replay(graph.tape, data.data, self._grad.data)
        replay.read_leaves(graph.nodes, data.data, np.empty(leaves, np.uint64).data)
        self._replay.forward()
        self._leaves = leaves
        if not np.array_equal(data[self._outputs], [v.data for v in outputs], equal_nan=True):
            raise StaleGraphError(
                "the function changed the data of a Value after using it, so its result no longer "
                "follows from the numbers in it: use new Values, or .detach(), instead of writing "
                ".data while it is differentiated"
            )

    def backward(self, seeds: Sequence[Scalar]) -> list[float]:
        """The gradient of sum(seed * output) with respect to each variable."""
        self._grad[:] = 0.0
        for i, seed in zip(self._outputs, seeds):
            self._grad[i] += seed
        self._replay.backward()
        found = np.append(self._grad[: self._leaves], 0.0)
        gradients: list[float] = found[self._places].tolist()
        return gradients


class _Built:
    """The derivative in Values, as a graph."""

    MANY = 2  # walks that take as long as to find out which can be taken together

    def __init__(self, outputs: Sequence[Value], variables: Sequence[Value]) -> None:
        with _differentiating():
            self._derivative = Derivative(graph_down_to(outputs, variables), variables)
        self.graph = self._derivative.graph

    def backward(self, seeds: Sequence[Scalar]) -> list[Value]:
        """The gradient of sum(seed * output) with respect to each variable."""
        with _differentiating():
            return self._derivative.backward(seeds)

    def forward(self, directions: Sequence[Scalar]) -> list[Value]:
        """The speed of each output when the variables move at these speeds."""
        with _differentiating():
            return self._derivative.forward(directions)


# --- arguments -------------------------------------------------------------------------------------


def _require_function(f: Any, name: str) -> None:
    if not callable(f):
        raise TypeError(f"{name}: expected a function, got {type(f).__name__} {f!r}")


def _positions(argnums: int | Sequence[int], count: int) -> list[int]:
    wanted: list[Any] = list(argnums) if isinstance(argnums, tuple | list) else [argnums]
    for k in wanted:
        if isinstance(k, bool) or not isinstance(k, int):
            raise TypeError(
                f"argnums: expected an int or a tuple of ints, got {type(k).__name__} {k!r}"
            )
        if not -count <= k < count:
            raise ValueError(
                f"argnums: there is no argument {k}, the function was called with {count} "
                "positional arguments (keyword arguments are not differentiated)"
            )
    found = [k % count for k in wanted]
    if len(set(found)) != len(found) or not found:
        raise ValueError(f"argnums: expected different positions, at least one, got {argnums!r}")
    return found


def _one_number(x: Any) -> Scalar:
    tree = flatten(x, "the result of f")
    if tree.shapes != [()] or isinstance(x, list | tuple | dict):
        raise TypeError(
            "f: expected a function that returns one number, got one that returns "
            f"{type(x).__name__} of {len(tree.leaves)} numbers: use jacobian for several, or "
            "has_aux=True for (number, anything else)"
        )
    return tree.leaves[0]


def _matching(x: Any, tree: Tree, name: str, expected: str) -> list[Scalar]:
    other = flatten(x, name)
    if other.form != tree.form:
        raise ShapeError(
            f"{name}: expected the structure of {expected}, {tree.form}, got {other.form}"
        )
    return other.leaves


def _arguments(trees: Sequence[Tree], argnums: int | Sequence[int]) -> Tree:
    """The differentiated arguments: one, or a tuple of them if argnums is a tuple."""
    return trees[0] if isinstance(argnums, int) else joined(trees)


# --- the transforms --------------------------------------------------------------------------------


def value_and_grad(
    f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Function:
    """A function that returns f's value and its gradient, computed in one go.

    The gradient, df/d(argument), has the structure of argument `argnums`: a float for a float, a
    list for a list, a float64 array for an array; for a tuple of positions, a tuple of gradients.
    f returns one number, or (number, anything) with `has_aux=True`, which gives ((value, anything),
    gradient). Integers in a differentiated argument are taken as floats. Other arguments, keyword
    arguments among them, are passed on as they are.

    A compiled function is differentiated by its own `value_and_grad`, as compiled code. The same as
    `jax.value_and_grad`. `scipy.optimize.minimize(value_and_grad(f), x0, jac=True)`
    works on NumPy vectors.

    Raises `TypeError` for an f that returns anything but one number and for arguments that are not
    numbers (bools are not), `ValueError` for an `argnums` that no argument has, and `TraceError`
    where f makes a number that depends on the arguments a float, as `math.sin(x)` does.
    """
    _require_function(f, "value_and_grad")

    @wraps(f)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        positions = _positions(argnums, len(args))
        if (
            isinstance(f, CompiledFunction)
            and f.options.has_aux == has_aux
            and _are_numbers(args, kwargs)
        ):
            wrt = tuple(positions) if isinstance(argnums, tuple | list) else positions[0]
            return f.value_and_grad(*args, wrt=wrt, **kwargs)
        run = _Run(f, args, kwargs, positions)
        result, aux = run.result, None
        if has_aux:
            if not isinstance(result, tuple) or len(result) != 2:
                raise TypeError(
                    "has_aux: expected a function that returns (number, anything), got one that "
                    f"returns {type(result).__name__}"
                )
            result, aux = result
        output = _one_number(result)
        gradients = run.derivative_of([output]).backward([1.0])
        nested = run.nested(_arguments(run.trees, argnums), gradients)
        value = run.shown(output)
        return ((value, replace(aux, run.shown)) if has_aux else value), nested

    return value_and_gradient


def grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """A function that returns the gradient of f: see `value_and_grad`.

    With `has_aux=True` f returns (number, anything), and the result is (gradient, anything). The
    same as `jax.grad`. What f reads as `x.data` is a constant to the derivative; `float(x)` and
    `math.exp(x)`, through which a derivative would be lost, are a `TraceError`.

    A derivative at a number is a number, which knows nothing of parameters. Where `backward()` is
    to go through it to them, as in a loss that says what slope a network should have, ask for the
    derivative at a Value: `u` is the network, and it is `(grad(u)(Value(t)) + u(t)) ** 2`.

        >>> grad(lambda x: x**3)(2.0)
        12.0
        >>> grad(grad(lambda x: x**3))(2.0)
        12.0
    """
    _require_function(f, "grad")
    both = value_and_grad(f, argnums, has_aux)

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, nested = both(*args, **kwargs)
        return (nested, value[1]) if has_aux else nested

    return gradient


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """f(*primals), and how fast it changes when each argument moves at the speed `tangents` gives.

    The Jacobian of f times a vector, by forward differentiation: one walk through the graph, at a
    cost that does not grow with the number of arguments. `tangents` has the structure of
    `primals`. f may return numbers in any structure; both results have it. As `jax.jvp`.

        >>> jvp(lambda x, y: x * y, (3.0, 4.0), (1.0, 0.5))
        (12.0, 5.5)

    Raises `ShapeError` for tangents of another structure.
    """
    _require_function(f, "jvp")
    for name, x in (("primals", primals), ("tangents", tangents)):
        if not isinstance(x, tuple | list):
            raise TypeError(
                f"{name}: expected a tuple with one entry per argument, got {type(x).__name__}"
            )
    if len(primals) != len(tangents):
        raise ShapeError(
            f"tangents: expected one per argument ({len(primals)}), got {len(tangents)}"
        )
    run = _Run(f, primals, {}, range(len(primals)), tangents)
    directions = [
        speed
        for k, (tree, tangent) in enumerate(zip(run.trees, tangents))
        for speed in _matching(tangent, tree, f"tangents[{k}]", f"primals[{k}]")
    ]
    out = flatten(run.result, "the result of f")
    outputs = [x if isinstance(x, Value) else Value(x) for x in out.leaves]
    speeds = _Built(outputs, run.variables).forward(directions) if outputs else []
    return run.nested(out, out.leaves), run.nested(out, speeds)


def vjp(f: Function, *primals: Any) -> tuple[Any, Callable[[Any], Any]]:
    """f(*primals), and a function from d(something)/d(result) to d(something)/d(argument).

    A vector times the Jacobian of f, by backward differentiation. f may return numbers in any
    structure; the function returned takes numbers in that structure, as often as wanted, and
    gives a tuple with one gradient for each argument. As `jax.vjp`.

        >>> value, pull_back = vjp(lambda x: [x[0] * x[1], x[0]], [3.0, 4.0])
        >>> pull_back([1.0, 10.0])
        ([14.0, 3.0],)

    It raises `ShapeError` when called with numbers in another structure.
    """
    _require_function(f, "vjp")
    run = _Run(f, primals, {}, range(len(primals)))
    out = flatten(run.result, "the result of f")
    arguments = joined(run.trees)
    kept: dict[bool, _Replayed | _Built] = {}

    def pull_back(cotangents: Any) -> Any:
        seeds = _matching(cotangents, out, "cotangents", "the result")
        if not seeds:
            return run.nested(arguments, [0.0] * len(run.variables))
        numeric = run.numeric and not holds_value(seeds)
        if numeric not in kept:
            kept[numeric] = run.derivative_of(out.leaves, numeric)
        gradients = kept[numeric].backward(seeds)
        if numeric != run.numeric:
            return arguments.nested(gradients, of_values=True)
        return run.nested(arguments, gradients)

    return run.nested(out, out.leaves), pull_back


def jacobian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns d(result)/d(argument) for every number of the result.

    It has the structure of the result with that of the argument inside: for a list of m numbers
    and an argument of n, m lists of n; for arrays of shapes s and t, an array of shape s + t. One
    backward walk for each number of the result, or for all those that are computed from different
    numbers of the argument, where they are many or the derivative is compiled: three for a
    tridiagonal matrix of any size. As `jax.jacobian` (reverse mode). Raises as `value_and_grad`
    does, but f may return numbers in any structure.
    """
    _require_function(f, "jacobian")

    @wraps(f)
    def jacobian_of_f(*args: Any, **kwargs: Any) -> Any:
        run = _Run(f, args, kwargs, _positions(argnums, len(args)))
        out = flatten(run.result, "the result of f")
        inside = _arguments(run.trees, argnums)
        if not out.leaves:
            return out.of_groups([])
        derivative = run.derivative_of(out.leaves)
        rows = list(_rows(derivative, run.variables))
        if isinstance(derivative, _Built):
            rows = [list(map(run.shown, row)) for row in rows]
        return _blocks(rows, out, inside, of_values=not run.numeric)

    return jacobian_of_f


def hessian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns the second derivatives of f: jacobian(grad(f)).

    For an array argument of shape s, an array of shape s + s; for a list of n numbers, n lists of
    n. As `jax.hessian`. Raises as `value_and_grad` does.
    """
    _require_function(f, "hessian")
    return jacobian(grad(f, argnums), argnums)


def _rows(derivative: _Replayed | _Built, variables: Sequence[Value]) -> Iterator[Sequence[Scalar]]:
    """The gradient of each output, in as few walks as may be."""
    graph, count = derivative.graph, len(derivative.graph.outputs)
    if count < derivative.MANY or len(graph) * len(variables) > MOST_BITS:
        yield from map(derivative.backward, directions(range(count)))
        return
    reach = reached(graph, variables)
    groups = apart(reach)
    walks: list[Sequence[Scalar]] = [derivative.backward(seeds) for seeds in directions(groups)]
    zero = 0.0 if isinstance(derivative, _Replayed) else Value(0.0)
    for group, row in zip(groups, reach):
        found = walks[group]
        gradient: list[Scalar] = [zero] * len(variables)
        for j in row:
            gradient[j] = found[j]
        yield gradient


def _blocks(rows: Sequence[Sequence[Scalar]], out: Tree, inside: Tree, of_values: bool) -> Any:
    """The rows of a Jacobian in the structure of the result, with the argument's inside."""
    nested = []
    for shape, (top, bottom) in zip(out.shapes, out.spans):
        blocks = []
        for inner, (left, right) in zip(inside.shapes, inside.spans):
            numbers = [x for row in rows[top:bottom] for x in row[left:right]]
            whole = (*shape, *inner)
            blocks.append(numbers[0] if whole == () else array_of(numbers, whole, of_values))
        nested.append(inside.of_groups(blocks))
    return out.of_groups(nested)
