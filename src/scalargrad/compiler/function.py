"""`compile`: a function of single numbers becomes a program that is run, not repeated.

The first call of each kind (the types and shapes of its arguments) traces the function; later
ones run what was traced. Where the function asked the truth of a comparison, the trace is one
branch of it: the program also computes the comparison, and a call for which it comes out
differently is answered by the program of the other branch, traced when first needed.
"""

from __future__ import annotations

import functools
import operator
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from .. import engine, functional, replay
from ..engine import Value
from ..errors import ShapeError, TraceError
from ..graph import Graph
from ..modes import current, user_line
from . import arguments
from .arguments import EXACT, Call, Layout, Parameters
from .index import out_of_range
from .program import BACKENDS, Options, Program, checked
from .structure import Floats, Gradients, HasValues, Numbers, Scalar, Source, describe
from .trace import Guard, Trace, Traced, trace

STRUCTURES = 128  # signatures of which one function keeps the traces
VARIANTS = 64  # branches traced for one signature

Wrt: TypeAlias = str | int | tuple[str | int, ...] | None


class Variant:
    """One traced branch as a program, with what it takes to run it on behalf of its function."""

    def __init__(self, traced: Traced, options: Options, seconds: float) -> None:
        assert options.backend is not None
        self.trace, self.graph, self.seconds = traced.trace, traced.graph, seconds
        self.parameters = traced.parameters
        self.program: Program = BACKENDS[options.backend].make(traced.trace, options)
        self.outcomes = tuple(guard.outcome for guard in self.trace.guards)
        self.places: NDArray[np.intp] | None = None  # of the parameters among the function's
        self._expected = np.array(self.outcomes, np.float64)
        self._versions = np.empty(len(self.parameters), np.uint64)
        self._integers = np.array(
            [k for k in self._indexlike() if self.trace.arguments[k] >= 0], np.intp
        )
        self._selecting = np.array([s.argument for s in self.trace.selections], np.intp)
        self._lengths = np.array([s.length for s in self.trace.selections], np.float64)

    def _indexlike(self) -> list[int]:
        return [k for k, kind in enumerate(self.trace.kinds) if kind == "index"]

    # --- running -----------------------------------------------------------------------------

    def forward(self, rows: Floats) -> Floats:
        """The outputs, at the parameters' present numbers."""
        self._read_parameters()
        return self.program.forward(rows)

    def backward(self, rows: Floats, seed: float, out: Floats | None, accumulate: bool) -> Floats:
        """The outputs; `program.gradient` is set, or added to what the parameters have in `grad`."""
        self._read_parameters()
        gradient = self.program.gradient
        if accumulate:
            replay.read_grad(self.parameters, len(gradient), gradient.data)
        else:
            gradient[:] = 0.0
        if out is not None:
            out[:] = 0.0
        return self.program.backward(rows, seed, out)

    def write_gradient(self) -> None:
        """Give the parameters the gradients that `backward` computed."""
        replay.write_grad(self.parameters, self.program.gradient.data)

    def _read_parameters(self) -> None:
        numbers, versions = self.program.parameters, self._versions
        replay.read_leaves(self.parameters, numbers.data, versions.data)

    # --- checking ----------------------------------------------------------------------------

    def selects_outside(self, rows: Floats) -> NDArray[np.bool_] | None:
        """Which selections of which row are out of range; None if all are right."""
        if not len(self._selecting):
            return None
        chosen = rows[:, self._selecting]
        outside: NDArray[np.bool_] = (chosen < 0.0) | (chosen >= self._lengths)
        return outside if outside.any() else None

    def inside(self, rows: Floats, outside: NDArray[np.bool_]) -> Floats:
        """The rows with 0 for whatever is out of range, so that they can be run."""
        rows = rows.copy()
        for b, s in np.argwhere(outside).tolist():
            rows[b, self._selecting[s]] = 0.0
        return rows

    def flipped(self, outputs: Floats) -> NDArray[np.bool_] | None:
        """Which guards of which row came out otherwise; None if all are as traced."""
        if not self.outcomes:
            return None
        wrong: NDArray[np.bool_] = outputs[:, self.trace.results :] != self._expected
        return wrong if wrong.any() else None

    def require_in_range(
        self, rows: Floats, outside: NDArray[np.bool_], wrong: NDArray[np.bool_] | None
    ) -> None:
        """Raise `IndexError` for a selection out of range that this branch really makes."""
        for b, s in np.argwhere(outside).tolist():
            selection = self.trace.selections[s]
            if wrong is None or not wrong[b, : selection.guards].any():
                k = selection.argument
                example = f" in example {b}" if len(rows) > 1 else ""
                raise out_of_range(self.trace.names[k], int(rows[b, k]), selection.length, example)

    def require_exact(self, rows: Floats) -> None:
        """Raise `ValueError` for an integer that is used as a number and is not one exactly."""
        if not len(self._integers):
            return
        for b, j in np.argwhere(np.abs(rows[:, self._integers]) > EXACT).tolist():
            k = self._integers[j]
            raise ValueError(
                f"{self.trace.names[k]}: expected an integer of at most 2^53, as float64 has "
                f"them, got about {rows[b, k]:g}: pass a float if rounding is meant"
            )


class Entry:
    """All that is known about calls of one signature: their layout and the branches traced."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.variants: dict[tuple[bool, ...], Variant] = {}
        self.latest: Variant | None = None

    def branch(self, outcomes: tuple[bool, ...]) -> Variant | None:
        """A variant whose guards begin with these outcomes."""
        for known, variant in self.variants.items():
            if known[: len(outcomes)] == outcomes:
                return variant
        return None


class CompiledFunction:
    """A function compiled by `compile`; call it like the function.

    It is safe to call from several threads, which take turns.
    """

    __name__: str

    def __init__(self, function: Callable[..., Any], options: Options) -> None:
        functools.update_wrapper(self, function)
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self._function = function
        self._options = options
        self._signature = Parameters(function)
        self._entries: OrderedDict[Call, Entry] = OrderedDict()
        self._latest: Variant | None = None
        self._parameters: list[Value] = []
        self._numbers: set[int] = set()
        self._calls = self._traces = 0
        self._lock = threading.RLock()

    # --- calling -----------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's result in floats, nested as the function returns it.

        With `batch`, the mean or sum over the examples. Called with Values among the arguments,
        or inside a function that is being compiled or differentiated, it is the function itself.

        Raises `TraceError` where the function cannot be compiled (see `compile`), `IndexError`
        for an integer argument that selects out of range, `ShapeError` and `TypeError` for
        arguments that are no numbers or no batch.
        """
        call = self._read(args, kwargs)
        if call is None:
            return self._function_itself(args, kwargs)
        with self._lock:
            entry, rows = self._prepare(*call)
            self._rehearse(entry, rows, backward=False)
            variant, outputs = self._run(entry, rows, lambda v, rows: v.forward(rows))
            if self._options.batch is None:
                return variant.trace.outputs.build(Numbers(outputs[0]))
            self._require_scalar(variant)
            return self._total(outputs)

    def value_and_grad(self, *args: Any, wrt: Wrt = None, **kwargs: Any) -> tuple[float, Any]:
        """`(value, gradient)` of a function that returns one number.

        `wrt` says with respect to what: "parameters", the position of an argument, or a tuple of
        these, which gives a tuple. `None` means the parameters if the function has any, else
        argument 0. The gradient for the parameters is one float64 array in the order of
        `f.parameters`, for an argument it has the argument's structure. No `grad` is changed.

        Raises `ShapeError` if the function returns anything but one number, `ValueError` for
        another `wrt` and `TypeError` for an argument that only selects.
        """
        call = self._read(args, kwargs)
        if call is None:
            raise TypeError(
                "value_and_grad takes and gives plain numbers, but was called with Values or "
                "inside a function that is being compiled: use scalargrad.value_and_grad there, "
                "whose result is made of Values"
            )
        with self._lock:
            entry, rows = self._prepare(*call)
            self._rehearse(entry, rows, backward=True)
            gradient = np.empty_like(rows)
            variant, outputs = self._run(
                entry, rows, lambda v, rows: self._backward(v, rows, gradient, accumulate=False)
            )
            chosen: Any = wrt
            if wrt is None:
                chosen = "parameters" if self._parameters else 0
            if isinstance(chosen, tuple):
                parts = tuple(self._gradient(one, entry, variant, gradient) for one in chosen)
                return self._total(outputs), parts
            return self._total(outputs), self._gradient(chosen, entry, variant, gradient)

    def backward(self, *args: Any, **kwargs: Any) -> float:
        """Add the gradient to the `grad` of the parameters, and return the value.

        The gradients are, bit for bit, those of the eager `function(*args).backward()`; with
        `batch`, of `backward()` on the mean or sum of the examples' results.

        Raises `ShapeError` if the function returns anything but one number.
        """
        call = self._read(args, kwargs)
        if call is None:
            self._refuse_trace("backward()")
            result = self._function_itself(args, kwargs)
            if not isinstance(result, Value):
                raise ShapeError(
                    f"backward: expected the function to return one Value, got "
                    f"{type(result).__name__}"
                )
            result.backward()
            return result.data
        with self._lock:
            entry, rows = self._prepare(*call)
            self._rehearse(entry, rows, backward=True)
            variant, outputs = self._run(
                entry, rows, lambda v, rows: self._backward(v, rows, None, accumulate=True)
            )
            variant.write_gradient()
            return self._total(outputs)

    # --- looking -----------------------------------------------------------------------------

    @property
    def parameters(self) -> list[Value]:
        """The Values that the function uses and that are older than its trace, in creation order.

        Those of every branch and every kind of call traced so far. Raises `TraceError` before
        the first call.
        """
        self._require_traced("parameters")
        return list(self._parameters)

    @property
    def graph(self) -> Graph:
        """The graph of the latest trace used; `TraceError` before the first call."""
        return self._require_traced("graph").graph

    @property
    def stats(self) -> dict[str, Any]:
        """Counts: calls, traces and seconds spent tracing, and the sizes of the latest trace."""
        entries = list(self._entries.values())
        variants = [variant for entry in entries for variant in entry.variants.values()]
        counts: dict[str, Any] = {
            "backend": self._options.backend,
            "calls": self._calls,
            "structures": len(entries),
            "variants": len(variants),
            "traces": self._traces,
            "trace_seconds": sum(variant.seconds for variant in variants),
            "parameters": len(self._parameters),
        }
        if self._latest is not None:
            found = self._latest.trace
            counts |= {
                "nodes": len(found.tape),
                "leaves": found.tape.leaves,
                "arguments": len(found.arguments),
                "constants": len(found.constants),
                "guards": len(found.guards),
                "nbytes": found.tape.nbytes + found.data.nbytes,
            }
        return counts

    def explain(self) -> str:
        """The latest trace in words: its sizes, operations, source lines and guards."""
        variant = self._require_traced("explain()")
        return summary(self.__name__, variant.trace, self._options)

    def trace(self, *args: Any, **kwargs: Any) -> Trace:
        """The trace that answers a call with these arguments, which is made."""
        call = self._read(args, kwargs)
        if call is None:
            raise TypeError("trace: expected plain numbers as arguments, got Values")
        with self._lock:
            entry, rows = self._prepare(*call)
            return self._run(entry, rows, lambda v, rows: v.forward(rows))[0].trace

    def __repr__(self) -> str:
        return f"<compiled function {self.__name__}, backend {self._options.backend!r}>"

    # --- one call ----------------------------------------------------------------------------

    def _read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Call, list[Any]] | None:
        """The call's signature and numbers; None where the function itself is to be called."""
        if current.tracer is not None:
            return None
        try:
            batched = self._options.batch is not None
            return arguments.read(self._signature, args, kwargs, batched)
        except HasValues:
            return None

    def _prepare(self, call: Call, chunks: list[Any]) -> tuple[Entry, Floats]:
        self._calls += 1
        entry = self._entries.get(call)
        if entry is None:
            entry = self._entries[call] = Entry(Layout(call, self._signature))
            if len(self._entries) > STRUCTURES:
                self._entries.popitem(last=False)
        elif len(self._entries) > 1:
            self._entries.move_to_end(call)
        if self._options.batch is None:
            return entry, entry.layout.row(chunks)
        return entry, entry.layout.rows(chunks)

    def _run(
        self, entry: Entry, rows: Floats, run: Callable[[Variant, Floats], Floats]
    ) -> tuple[Variant, Floats]:
        """The outputs of the branch that these numbers take, and that branch.

        Row 0 decides which branch that is; then all others must agree.
        """
        variant = entry.latest or self._traced(entry, rows)
        for _ in range(VARIANTS + 2):
            variant.require_exact(rows)
            outside = variant.selects_outside(rows)
            outputs = run(variant, rows if outside is None else variant.inside(rows, outside))
            wrong = variant.flipped(outputs)
            if outside is not None:
                variant.require_in_range(rows, outside, wrong)
            if wrong is None:
                entry.latest = self._latest = variant
                return variant, outputs
            if not wrong[0].any():
                self._refuse_mixture(variant, wrong)
            first = int(np.argmax(wrong[0]))
            taken = (*variant.outcomes[:first], not variant.outcomes[first])
            variant = entry.branch(taken) or self._traced(entry, rows)
        raise TraceError(
            f"{self.__name__}: its comparisons came out differently each time they were made: "
            "does another thread change its parameters?"
        )

    def _traced(self, entry: Entry, rows: Floats) -> Variant:
        if len(entry.variants) >= VARIANTS:
            lines = Counter(
                f"{guard.text} at {guard.line}"
                for variant in entry.variants.values()
                for guard in variant.trace.guards
            )
            shown = "; ".join(line for line, _ in lines.most_common(3))
            raise TraceError(
                f"{self.__name__}: {VARIANTS} branches were traced, one for each combination of "
                f"outcomes of its comparisons ({shown}). Use scalargrad.where, maximum or "
                "minimum, which are part of one program"
            )
        start = time.perf_counter()
        traced = trace(self._function, entry.layout.inputs(rows[0]))
        variant = Variant(traced, self._options, time.perf_counter() - start)
        self._traces += 1
        entry.variants[variant.outcomes] = variant
        self._learn(variant.parameters)
        return variant

    def _learn(self, parameters: list[Value]) -> None:
        new = [p for p in parameters if p.number not in self._numbers]
        if not new:
            return
        self._numbers.update(p.number for p in new)
        self._parameters = sorted([*self._parameters, *new], key=operator.attrgetter("number"))
        for entry in self._entries.values():
            for variant in entry.variants.values():
                variant.places = None

    def _refuse_mixture(self, variant: Variant, wrong: NDArray[np.bool_]) -> None:
        example = int(np.argmax(wrong.any(axis=1)))
        guard: Guard = variant.trace.guards[int(np.argmax(wrong[example]))]
        raise TraceError(
            f"{self.__name__}: {guard.text} at {guard.line} is {guard.outcome} for example 0 and "
            f"{not guard.outcome} for example {example}: all examples of a batch run one "
            "program. Use scalargrad.where, maximum or minimum instead of asking for the truth"
        )

    def _backward(
        self, variant: Variant, rows: Floats, gradient: Floats | None, accumulate: bool
    ) -> Floats:
        self._require_scalar(variant)
        seed = 1.0 / len(rows) if self._options.batch == "mean" else 1.0
        return variant.backward(rows, seed, gradient, accumulate)

    def _require_scalar(self, variant: Variant) -> None:
        if not isinstance(variant.trace.outputs, Scalar):
            raise ShapeError(
                f"{self.__name__}: expected a function that returns one number, it returns "
                f"{describe(variant.trace.outputs)}"
            )

    def _total(self, outputs: Floats) -> float:
        """The value: of a batch, its examples' results added from left to right."""
        total = functools.reduce(operator.add, outputs[:, 0].tolist())
        if self._options.batch == "mean" and len(outputs) > 1:
            total /= len(outputs)
        return float(total)

    def _gradient(self, wrt: Any, entry: Entry, variant: Variant, gradient: Floats) -> Any:
        layout, count = entry.layout, len(entry.layout.call.positional)
        if isinstance(wrt, str) and wrt == "parameters":
            out = np.zeros(len(self._parameters))
            out[self._places(variant)] = variant.program.gradient
            return out
        if not isinstance(wrt, int) or isinstance(wrt, bool) or not 0 <= wrt < count:
            raise ValueError(
                f'wrt: expected "parameters" or the position of an argument, 0 to {count - 1}, '
                f"or a tuple of these, got {wrt!r}"
            )
        columns = layout.columns[wrt]
        selecting = set(variant.trace.indices.tolist())
        for k in range(columns.start, columns.stop):
            if variant.trace.arguments[k] < 0 and k in selecting:
                raise TypeError(
                    f"wrt: {layout.names[k]} is an integer that selects, which has no "
                    "derivative: expected an argument used as a number"
                )
        return layout.call.positional[wrt].build(Gradients(gradient[:, columns]))

    def _places(self, variant: Variant) -> NDArray[np.intp]:
        if variant.places is None:
            numbers = [p.number for p in self._parameters]
            own = [p.number for p in variant.parameters]
            variant.places = np.searchsorted(numbers, own)
        return variant.places

    # --- the function itself -----------------------------------------------------------------

    def _function_itself(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._options.batch is None:
            return self._function(*args, **kwargs)
        return self._reduced(
            [self._function(*a, **k) for a, k in arguments.examples(self._signature, args, kwargs)]
        )

    def _reduced(self, results: list[Any]) -> Value:
        reduce = functional.mean if self._options.batch == "mean" else functional.total
        return reduce(results)

    def _rehearse(self, entry: Entry, rows: Floats, backward: bool) -> None:
        """Inside `detect_anomaly()`: run the function itself, which names what is not finite."""
        if not current.anomaly:
            return
        for row in rows:
            inputs = entry.layout.inputs(row)
            numbers = [
                int(number) if kind == "index" else Value(number, name)
                for number, kind, name in zip(inputs.numbers, inputs.kinds, inputs.names)
            ]
            args, kwargs = inputs.build(Source(numbers))
            result = self._function(*args, **kwargs)
            if backward and isinstance(result, Value):
                leaves = engine.reachable([result])[0]
                before = [leaf.grad for leaf in leaves]
                try:
                    result.backward()
                finally:
                    for leaf, grad in zip(leaves, before):
                        leaf.grad = grad

    def _refuse_trace(self, what: str) -> None:
        if current.tracer is not None:
            raise TraceError(
                f"{what} of {self.__name__} at {user_line()}, inside a function that is "
                "being compiled: the program has no gradients of that call. Use "
                "scalargrad.grad(function), whose result is made of Values"
            )

    def _require_traced(self, what: str) -> Variant:
        if self._latest is None:
            raise TraceError(
                f"{what}: {self.__name__} was not called yet, and calling it finds out: call it once"
            )
        return self._latest


def summary(name: str, trace: Trace, options: Options) -> str:
    """A trace in words: its sizes, operations, source lines and guards."""
    tape = trace.tape
    sizes = (
        f"  {len(trace.parameters)} parameters, {int((trace.arguments >= 0).sum())} of "
        f"{len(trace.arguments)} arguments, {len(trace.constants)} constants, "
        f"{trace.results} results: {describe(trace.outputs)}"
    )
    rows = [
        f"{name}: {len(tape)} nodes, depth {tape.depth()}, run by the {options.backend}",
        sizes,
        "operations",
    ]
    rows += [f"  {count:>8}  {op}" for op, count in tape.op_counts().items()]
    lines = Counter(trace.lines.values()).most_common(20)
    if lines:
        rows += ["source lines", *(f"  {count:>8}  {line}" for line, count in lines)]
    if trace.guards:
        rows.append("guards: where one of these differs, another branch is traced")
        rows += [f"  {guard.outcome!s:>8}  {guard.text} at {guard.line}" for guard in trace.guards]
    return "\n".join(rows)


# --- the decorator --------------------------------------------------------------------------------


@overload
def compile(
    function: Callable[..., Any],
    *,
    mode: str = ...,
    dtype: str = ...,
    backend: str | None = ...,
    batch: str | None = ...,
) -> CompiledFunction: ...


@overload
def compile(
    function: None = None,
    *,
    mode: str = ...,
    dtype: str = ...,
    backend: str | None = ...,
    batch: str | None = ...,
) -> Callable[[Callable[..., Any]], CompiledFunction]: ...


def compile(
    function: Callable[..., Any] | None = None,
    *,
    mode: str = "exact",
    dtype: str = "float64",
    backend: str | None = None,
    batch: str | None = None,
) -> CompiledFunction | Callable[[Callable[..., Any]], CompiledFunction]:
    """Make a program of a function that computes with single numbers.

        @sg.compile
        def loss(x, y):
            return (w * x + b - y) ** 2

        loss(2.0, 1.0)                     a float
        loss.value_and_grad(2.0, 1.0)      and d/dw, d/db
        loss.backward(2.0, 1.0)            adds to w.grad and b.grad

    The function runs once on Values for every kind of call, the graph it leaves behind is the
    program, and later calls run that. Arguments are numbers, lists, tuples, dicts and NumPy
    arrays of them, nested as you like; lists and arrays arrive with Values in place of floats.
    Values from outside that the function uses are its parameters: their present `data` counts on
    every call. All else from outside (lists, attributes, flags, which object is the parameter)
    is as it was when the function was traced. None, bool and str arguments are told apart by
    their value: each has a trace of its own.

    An int argument is an `Index`: `sg.take(values, token)` selects with it, arithmetic treats it
    as a number. `sg.where(x > 0, a, b)` is part of the program; `if x > 0` is answered for this
    call, checked on later calls, and traced again when it comes out differently. Reading a
    number (`x.data`, `float(x)`) that depends on arguments or parameters is a `TraceError`.

    `batch="mean"` or `"sum"`: the function describes one example. Arrays and lists carry
    examples along their leading axis, in tuples and dicts too; a bare number is the same for
    every example. The result is the mean or sum over the examples, and equals, bit for bit, that
    of a Python loop over them.

    `mode="exact"` gives the bits of the eager engine; `"fast"` allows a back end to reorder sums
    and to approximate functions. `dtype` is "float64" or "float32", `backend` a name in
    `program.BACKENDS`, None for the best there is. Raises `ValueError` for a word it does not
    know, or that the back end cannot do, and `TypeError` for a function that is none.

    As `jax.jit` or `torch.compile`, for scalar programs.
    """
    options = checked(Options(mode, dtype, backend, batch))
    if function is None:
        return lambda function: compile(
            function, mode=mode, dtype=dtype, backend=backend, batch=batch
        )
    if not callable(function):
        raise TypeError(f"function: expected a function, got {type(function).__name__}")
    return CompiledFunction(function, options)
