"""A compiled function as a function for programs in JAX: pure, of arrays, to be jitted and sharded.

    g = f.jax_function(x, y)                             arguments say what kind of call it is for
    p = jnp.array([v.data for v in g.parameters])
    jax.jit(jax.value_and_grad(g))(p, x, y)              with respect to p
    jax.vmap(g, (None, 0, 0))(p, xs, ys)

It knows no Values: their numbers are its first argument. What JAX differentiates is a program of
its own, scalargrad's: no rule of JAX is asked for the slope of a relu at 0, and no nan comes from
a branch that is not taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from ..engine import Value
from ..errors import ShapeError, TraceError
from .jax import Array, SymbolicZero, jax, jnp
from .loops import Loops, Space
from .structure import (
    NUMBER,
    Batched,
    Items,
    Keyed,
    Row,
    Scalar,
    Signature,
    Source,
    Static,
    describe,
)
from .structure import Array as Shaped
from .trace import Trace
from .xla import evaluate, found


class JaxFunction:
    """`g(parameters, *arguments)`, made by `CompiledFunction.jax_function`.

    parameters  a float array [p]: the numbers of `g.parameters`, in that order, which is creation
                order; of length 0 where there are none
    arguments   those of the function, nested in the same way, of the same shapes; arrays and JAX
                arrays may stand for lists of numbers. Of a batch any number of examples will do

    The result is a scalar, or what the function returns with scalars for numbers. It is computed
    in the dtype of the parameters (of the arguments' floats where there are none): float64 takes
    `jax.config.update("jax_enable_x64", True)`. An index that is out of range gives nan.

    Where the function returns one number, its derivatives are scalargrad's, of any kind that JAX
    knows (`grad`, `jvp`, `jacfwd`, `hessian`), otherwise JAX's own. Raises `ShapeError` and
    `TypeError` for arguments that do not fit, naming them.
    """

    def __init__(
        self,
        name: str,
        trace: Trace,
        parameters: list[Value],
        signatures: tuple[Signature, ...],
        titles: tuple[str, ...],
        batch: str | None,
    ) -> None:
        if trace.guards:
            guard = trace.guards[0]
            raise TraceError(
                f"jax_function: {name} asks whether {guard.text} at {guard.line}, and a function "
                "of arrays is one branch for all of them. Use scalargrad.where, maximum or "
                "minimum, which are part of the program"
            )
        self.__name__ = name
        self.parameters = parameters
        self._trace, self._signatures, self._titles = trace, signatures, titles
        self._batch = batch
        self._found: dict[tuple[Space, ...], Loops] = {}

    def __call__(self, parameters: Array, *arguments: Array) -> Any:
        """The function's result; see the class."""
        parameters = jnp.asarray(parameters)
        if parameters.shape != (len(self.parameters),):
            raise ShapeError(
                f"parameters: expected an array of shape ({len(self.parameters)},), a number for "
                f"each of `parameters`, got shape {parameters.shape}"
            )
        if len(arguments) != len(self._signatures):
            raise TypeError(
                f"{self.__name__}: expected {len(self._signatures)} arguments after the "
                f"parameters ({', '.join(self._titles)}), got {len(arguments)}"
            )
        chunks = [
            chunk
            for title, signature, x in zip(self._titles, self._signatures, arguments)
            for chunk in _chunks(signature, x, title)
        ]
        floating = [x for x in (parameters, *chunks) if jnp.issubdtype(x.dtype, jnp.floating)]
        dtype = jnp.result_type(
            *(floating[:1] if len(parameters) else floating), *_default(floating)
        )
        rows = self._rows(chunks)
        results = self._outputs(parameters.astype(dtype), rows.astype(dtype), self._indices(rows))
        if self._one:
            return results
        return self._trace.outputs.build(_Results(results[0]))

    # --- arguments ---------------------------------------------------------------------------------

    def _rows(self, chunks: list[Array]) -> Array:
        """The arguments as rows of numbers, one for each example."""
        if not chunks:
            return jnp.zeros((1, 0))
        if self._batch is None:
            return jnp.concatenate(chunks)[None]
        sizes = {len(x) for x in chunks if x.ndim == 2}
        if len(sizes) != 1 or 0 in sizes:
            raise ShapeError(
                f"{self.__name__}: expected as many examples, at least one, in every argument, "
                f"got {sorted(sizes)}"
            )
        (examples,) = sizes
        return jnp.concatenate(
            [x if x.ndim == 2 else jnp.broadcast_to(x, (examples, len(x))) for x in chunks], axis=1
        )

    def _indices(self, rows: Array) -> Array:
        """Integers for the arguments that select, 0 for the others."""
        selecting = np.zeros(rows.shape[1], bool)
        selecting[self._trace.indices[self._trace.indices >= 0]] = True
        return jnp.where(selecting, rows, 0).astype(jnp.int32)

    # --- results -----------------------------------------------------------------------------------

    @property
    def _one(self) -> bool:
        return self._trace.outputs == NUMBER

    def _loops(self, wanted: tuple[Space, ...]) -> Loops:
        if wanted not in self._found:
            self._found[wanted] = found(self._trace, self._batch is not None, wanted)
        return self._found[wanted]

    def _run(
        self, wanted: tuple[Space, ...], parameters: Array, rows: Array, indices: Array
    ) -> dict[Space, Array]:
        if not self._trace.results:
            return {}
        seed = 1.0 / len(rows) if self._batch == "mean" else 1.0
        results = evaluate(self._loops(wanted), parameters, rows, indices, seed)
        if not self._trace.selections:
            return results
        chosen = indices[:, np.array([s.argument for s in self._trace.selections])]
        lengths = np.array([s.length for s in self._trace.selections])
        right = ((chosen >= 0) & (chosen < lengths)).all()
        return {space: jnp.where(right, x, jnp.nan) for space, x in results.items()}

    def _value(self, results: dict[Space, Array]) -> Array:
        if self._batch is None:
            x = results.get(Space.OUTPUT, jnp.zeros((1, 0)))
            return x[0, 0] if self._one else x
        x = results[Space.EXAMPLE_OUTPUT][:, 0]
        return x.mean() if self._batch == "mean" else x.sum()

    @cached_property
    def _outputs(self) -> Any:
        """The result, or all results, of parameters, rows and indices, as JAX is to see it."""

        def function(parameters: Array, rows: Array, indices: Array) -> Array:
            return self._value(self._run((), parameters, rows, indices))

        if not self._one:
            return jax.jit(function)
        known = jax.custom_jvp(function)

        def derivative(primals: Any, tangents: Any) -> tuple[Array, Array]:
            moved = [not isinstance(tangent, SymbolicZero) for tangent in tangents]
            wanted: tuple[Space, ...] = (Space.PARAMETER,) if moved[0] and self.parameters else ()
            if moved[1]:
                batched = self._batch is not None
                wanted += (Space.ARGUMENT, Space.EXAMPLE) if batched else (Space.ARGUMENT,)
            results = self._run(wanted, *primals)
            value = self._value(results)
            slope = jnp.zeros_like(value)
            for space, tangent in (
                (Space.PARAMETER_GRADIENT, tangents[0]),
                (Space.ARGUMENT_GRADIENT, tangents[1]),
                (Space.EXAMPLE_GRADIENT, tangents[1]),
            ):
                if space in results:
                    # What all examples share stands in every row, and counts once.
                    rows = (
                        tangent if space.batched else tangent.reshape(-1, results[space].size)[:1]
                    )
                    slope = slope + jnp.sum(results[space] * rows)
            return value, slope

        known.defjvp(derivative, symbolic_zeros=True)
        return jax.jit(known)

    def __repr__(self) -> str:
        return f"<JAX function {self.__name__}({', '.join(('parameters', *self._titles))})>"


def _default(floating: list[Array]) -> list[Any]:
    return [] if floating else [float]


class _Results(Source):
    """A source of scalars and arrays of JAX."""

    def one(self, kind: str) -> Array:
        """The next number."""
        return _as_kind(self._next(1)[0], kind)

    def several(self, count: int, kind: str) -> list[Array]:
        """The next numbers, as a list."""
        return list(_as_kind(self._next(count), kind))

    def array(self, shape: tuple[int, ...], kind: str) -> Array:
        """The next numbers, as an array."""
        return _as_kind(self._next(int(np.prod(shape))), kind).reshape(shape)


def _as_kind(x: Array, kind: str) -> Array:
    return {"index": lambda: x.astype(jnp.int32), "truth": lambda: x != 0.0}.get(kind, lambda: x)()


def _chunks(signature: Signature, x: Any, name: str) -> Iterator[Array]:
    """The numbers of an argument in order, [count] or, of a batch, [examples, count]."""
    if isinstance(signature, Static):
        if x is not signature.value and x != signature.value:
            raise TypeError(f"{name}: expected {signature.value!r}, as traced, got {x!r}")
    elif isinstance(signature, Items | Keyed):
        keys = signature.keys if isinstance(signature, Keyed) else range(len(signature.items))
        if len(x) != len(keys):
            raise ShapeError(f"{name}: expected {describe(signature)}, got {len(x)} things")
        for key, item in zip(keys, signature.items):
            yield from _chunks(item, x[key], f"{name}[{key!r}]")
    elif isinstance(signature, Batched):
        item = signature.item
        if isinstance(item, Items | Keyed | Static | Batched):
            rows = [list(_chunks(item, each, f"{name}[{b}]")) for b, each in enumerate(x)]
            yield jnp.stack([jnp.concatenate(row) for row in rows])
        else:
            yield _shaped(x, _shape(item), name, batched=True)
    else:
        yield _shaped(x, _shape(signature), name, batched=False)


def _shape(signature: Scalar | Row | Shaped) -> tuple[int, ...]:
    if isinstance(signature, Shaped):
        return signature.shape
    return (signature.length,) if isinstance(signature, Row) else ()


def _shaped(x: Any, shape: tuple[int, ...], name: str, batched: bool) -> Array:
    array = jnp.asarray(x)
    own = array.shape[1:] if batched else array.shape
    if own != shape or (batched and not array.ndim):
        expected = f"an axis of examples, then {shape}" if batched else f"{shape}"
        raise ShapeError(f"{name}: expected shape {expected}, got {array.shape}")
    return array.reshape((len(array), -1) if batched else (-1,))
