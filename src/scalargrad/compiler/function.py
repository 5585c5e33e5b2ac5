"""`compile`: a function of single numbers becomes a program that is run, not repeated.

The first call of each kind (the types and shapes of its arguments) traces the function; later
ones run what was traced. Where the function asked the truth of a comparison, the trace is one
branch of it: the program also computes the comparison, and a call for which it comes out
differently is answered by the program of the other branch, traced when first needed.
"""

from __future__ import annotations

import functools
import operator
import os
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload
from weakref import WeakSet

import numpy as np

from ..engine import Value
from ..errors import ShapeError, TraceError
from ..graph import Graph
from ..lines import user_line
from ..modes import current
from . import uncompiled
from .arguments import ArgumentNames, Call, Layout, read, refuse_beyond_float64
from .branches import Branches
from .entrance import Entrance, Way, Wrt, is_plain
from .launch import Launch
from .parameters import ParameterList
from .program import Options, checked
from .reading import HasValues
from .results import answers, pair, stack
from .structure import (
    NUMBER,
    Floats,
    Gradients,
    Items,
    Numbers,
    Scalar,
    Signature,
    Static,
    describe,
)
from .team import get_num_threads
from .trace import Trace
from .variant import Variant

if TYPE_CHECKING:
    from .jaxfunction import JaxFunction
    from .jit import Kernel
    from .loops import Loops

STRUCTURES = 128  # signatures of which one function keeps the traces
LAUNCHES = 16  # kinds of calls, structures and branches, that are answered at once


class CompiledFunction(Entrance):
    """A function compiled by `compile`; call it like the function.

    It is safe to call from several threads, which take turns.
    """

    __name__: str

    def __init__(self, function: Callable[..., Any], options: Options) -> None:
        super().__init__(WAYS)
        functools.update_wrapper(self, function, updated=())
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self._function = function
        self._options = options
        self._place = f".{self.__name__}"  # the key under which an object keeps it as its method
        self._names = ArgumentNames(function)
        self._branches: OrderedDict[Call, Branches] = OrderedDict()
        self._recent: Branches | None = None
        self._parameters = ParameterList()
        self._traces = 0
        self._other: CompiledFunction | None = None  # answers a call in the middle of a call
        # What others made of it, by what that is: programs of its derivatives, say. It is theirs to
        # keep as long as the function, and like its traces stays what it was.
        self.derived: dict[Any, Any] = {}
        self._family = [self]  # itself, its other and so on, whose gradients are for one list
        self._unbound: CompiledFunction | None = None  # in the class, of which this is the method
        _alive.add(self)

    # --- for those who keep the parameters' numbers themselves -------------------------------

    def work(self, do: Callable[[Variant, Floats], Floats], *args: Any) -> tuple[Variant, Floats]:
        """Have `do` run the program that answers a call: the branch it was, and its outputs.

        `do(variant, rows)` fills the parameters of `variant.program`, runs it on the rows, and
        returns the outputs. It is called again where a comparison shows that another branch
        answers.
        """

        def work(variant: Variant, rows: Floats) -> Floats:
            variant.mirror.forget()
            return do(variant, rows)

        def run(f: CompiledFunction, branches: Branches, rows: Floats) -> tuple[Variant, Floats]:
            return f._run(branches, rows, work)

        return self._in_turn(self.__name__, run, args, {})

    def aux(self, variant: Variant, outputs: Floats) -> Any:
        """What the function returned beside the loss, from the outputs of a batch.

        One array whose first axis are the examples, where aux is a number or a rectangle of
        numbers, and a list with an entry for each example otherwise.
        """
        signature = self._loss_and_aux(variant)
        assert signature is not None
        rest = outputs[:, 1 : variant.trace.results]
        return answers(signature, rest)

    # --- looking -----------------------------------------------------------------------------

    @property
    def options(self) -> Options:
        """How it is compiled: `mode`, `dtype`, `backend`, `batch` and `has_aux`."""
        return self._options

    @property
    def parameters(self) -> list[Value]:
        """The Values that the function uses and that are older than its trace, in creation order.

        Those of every branch and every kind of call traced so far. Raises `TraceError` before
        the first call.
        """
        self._require_traced("parameters")
        return list(self._parameters.values)

    @property
    def graph(self) -> Graph:
        """The graph of the latest trace used; `TraceError` before the first call."""
        return self._require_traced("graph").graph

    @property
    def stats(self) -> dict[str, Any]:
        """Counts: calls, traces and seconds spent tracing, and the sizes of the latest trace.

        `backend` is the one compiled for, `answering` the one that answers a call like the latest:
        "interpreter" until native code is there, then "llvm". In exact mode and float64, where the
        program has parts without loops, "both" answer a few calls in turn, and the quicker one
        those that follow, until they are compared again; `compared` are the seconds that a call
        took each.

        Of the native code: the packs of like nodes, the loop nests, the share of the work that is
        in nests, how many threads it runs on and the share of the work that they share, and the
        seconds that each stage of compiling took. These are None until native code runs.
        """
        kept = list(self._branches.values())
        variants = [variant for branches in kept for variant in branches.variants.values()]
        counts: dict[str, Any] = {
            "backend": self._options.backend,
            "calls": self._calls,
            "structures": len(kept),
            "variants": len(variants),
            "traces": self._traces,
            "trace_seconds": sum(variant.seconds for variant in variants),
            "parameters": len(self._parameters),
            **dict.fromkeys(("answering", "compared", "packs", "nests")),
            **dict.fromkeys(("rolled", "threads", "shared", "seconds")),
        }
        if self._latest is not None:
            found = self._latest.trace
            answering, compared = self._latest.answering()
            counts |= {
                "answering": answering,
                "compared": compared,
                "nodes": len(found.tape),
                "leaves": found.tape.leaves,
                "arguments": len(found.arguments),
                "constants": len(found.constants),
                "guards": len(found.guards),
                "nbytes": found.tape.nbytes + found.data.nbytes,
            }
            kernel = self._latest.compiled()
            if kernel is not None:
                from .summary import rolled

                counts |= {
                    "packs": kernel.stats.packs,
                    "nests": len(kernel.loops.nests),
                    "rolled": rolled(kernel.loops, kernel.purpose.examples),
                    "threads": min(kernel.frame.program.image.workers, get_num_threads()),
                    "shared": kernel.frame.program.image.shared,
                    "seconds": {**kernel.stats.seconds, "native": kernel.seconds},
                }
        return counts

    def explain(self) -> str:
        """The latest trace in words: its sizes, who answers calls like the latest (see `stats`),
        operations, source lines and guards.

        With a back end that has loops, also the program it found: a line of pseudo-code for each
        nest, with the operation it is (a matrix product, say), its share of the work, and the
        source lines it came from. This compiles what the latest call asked for, if need be.
        """
        from .explain import listing
        from .summary import runner, summary

        variant = self._require_traced("explain()")
        found = variant.found()
        text = summary(self.__name__, variant.trace, runner(*variant.answering()))
        return text if found is None else f"{text}\nloops\n{listing(*found)}"

    @property
    def loops(self) -> Loops:
        """The loop nests found for what the latest call asked for.

        Raises `TraceError` before the first call, and for a back end that has no loops.
        """
        found = self._require_traced("loops").found()
        return self.native("loops").loops if found is None else found[0]

    def llvm_ir(self) -> str:
        """The LLVM intermediate representation of what the latest call asked for, as text.

        Raises `TraceError` before the first call, and for a back end that does not use LLVM.
        """
        return self.native("llvm_ir()").frame.program.llvm_ir

    def native(self, what: str = "native()") -> Kernel:
        """The native code for what the latest call asked for, compiled now if need be."""
        kernel = self._require_traced(what).kernel()
        if kernel is None:
            raise TraceError(
                f"{what}: {self.__name__} is run by the {self._options.backend}, which has none: "
                'compile it with backend="llvm"'
            )
        return kernel

    def jax_function(self, *args: Any) -> JaxFunction:
        """The function for programs in JAX: `g(parameters, *arguments)`, pure, of arrays.

            g = f.jax_function(x, y)
            p = jnp.array([v.data for v in g.parameters])
            loss, gradient = jax.jit(jax.value_and_grad(g))(p, x, y)

        `args` are an example of a call, which decides what kinds of arguments `g` takes; a batch
        may later have any number of examples. `parameters` come first, one array in the order of
        `g.parameters`. It can be jitted, vmapped, differentiated and sharded over devices, with
        any back end of this function. `JaxFunction` says the rest.

        Raises `TraceError` where the function asks for the truth of comparisons, `ValueError`
        with `has_aux`, and `MissingExtraError` without JAX.
        """
        from .jaxfunction import JaxFunction

        if self._options.has_aux:
            raise ValueError(
                "jax_function: expected a function without has_aux, whose result is one number or "
                "all that it computes: compile one that returns the loss alone"
            )

        def function(f: CompiledFunction, branches: Branches, rows: Floats) -> JaxFunction:
            variant, _ = f._run(branches, rows, Variant.forward)
            if f.options.batch is not None:
                f._loss_and_aux(variant)
            layout = branches.layout
            return JaxFunction(
                f.__name__,
                variant.trace,
                list(variant.parameters),
                layout.call.positional,
                layout.titles,
                f.options.batch,
            )

        return self._in_turn("jax_function", function, args, {})

    def trace(self, *args: Any, **kwargs: Any) -> Trace:
        """The trace that answers a call with these arguments, which is made."""

        def run(f: CompiledFunction, branches: Branches, rows: Floats) -> Trace:
            return f._run(branches, rows, Variant.forward)[0].trace

        return self._in_turn("trace", run, args, kwargs)

    def __repr__(self) -> str:
        return f"<compiled function {self.__name__}, backend {self._options.backend!r}>"

    # --- as a method, copied, pickled --------------------------------------------------------

    def __set_name__(self, owner: type, name: str) -> None:
        self.__name__ = name
        # No attribute's name, as a subclass may have a method of this name of its own.
        self._place = f"{owner.__qualname__}.{name}"

    def __get__(self, instance: object, owner: type | None = None) -> CompiledFunction:
        """The method of one object, compiled once and kept in the object."""
        if instance is None:
            return self
        name = self._place
        try:
            kept = instance.__dict__
        except AttributeError:
            raise TypeError(
                f"{name}: expected an object with a __dict__ to keep its compiled method in, got "
                f"{type(instance).__name__}, which has __slots__: give it one more, '__dict__'"
            ) from None
        known: CompiledFunction | None = kept.get(name)
        if known is not None:
            method: Any = known._function
            # A shallow copy holds the methods of its original, and names need not be unique.
            if method.__self__ is instance and method.__func__ is self._function:
                return known
        kept[name] = known = self._bound_to(instance)
        return known

    def _bound_to(self, instance: object) -> CompiledFunction:
        """A method of this object, which is compiled for it alone."""
        method = CompiledFunction(types.MethodType(self._function, instance), self._options)
        method._unbound = self
        return method

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self._unbound is not None:
            method: Any = self._function
            return CompiledFunction._bound_to, (self._unbound, method.__self__)
        named: Any = sys.modules.get(getattr(self._function, "__module__", None) or "")
        path = getattr(self._function, "__qualname__", "")
        for step in path.split("."):
            named = getattr(named, step, None)
        return path if named is self else (CompiledFunction, (self._function, self._options))

    # --- one call ----------------------------------------------------------------------------

    def _another(self) -> CompiledFunction:
        if self._other is None:
            other = CompiledFunction(self._function, self._options)
            other._parameters, other._family = self._parameters, self._family
            other._default = self._default
            self._family.append(other)
            self._other = other
        return self._other

    def _value(self, _: None, branches: Branches, rows: Floats) -> Any:
        variant, outputs = self._run(branches, rows, Variant.forward)
        self._prepare(None, branches, rows, variant)
        return self._result(variant, outputs)

    def _accumulate(self, wrt: str, branches: Branches, rows: Floats) -> Any:
        def work(variant: Variant, rows: Floats) -> Floats:
            return variant.backward(rows, self._seed(variant, rows), None, True)

        variant, outputs = self._run(branches, rows, work, backward=True)
        variant.mirror.write_grad()
        self._prepare(wrt, branches, rows, variant)
        return self._answer(variant, outputs)

    def _do(self, about: tuple[str, Callable[..., Any]], branches: Branches, rows: Floats) -> Any:
        _, do = about
        return do(self, branches, rows)

    def _prepare(self, wrt: Wrt, branches: Branches, rows: Floats, variant: Variant) -> None:
        """Have calls like this one answered at once, if it is the second that is like that."""
        kernel, filler, options = variant.compiled(), branches.filler, self._options
        if kernel is None or not kernel.answers:
            return
        if (wrt, kernel.purpose) not in variant.answered:
            variant.answered.add((wrt, kernel.purpose))
            return
        if filler is None or filler.rows is not rows:
            return
        result: Signature | None = None
        answer: Callable[[Floats], Any] | None = None
        if options.has_aux and options.batch is not None:
            answer = functools.partial(self._answer, variant)
        elif options.has_aux:
            _, aux = pair(variant.trace.outputs)
            result = Items(tuple, (NUMBER, aux))
        elif options.batch is None and wrt is None and not variant.is_number:
            result = variant.trace.outputs
        mean = options.batch == "mean"
        launch = Launch(filler, rows, variant, kernel, mean, result, answer)
        if wrt is not None:
            known, gradient = self._parameters, variant.program.gradient
            spread: Callable[[], Floats] = gradient.copy
            if len(variant.parameters) < len(known):
                spread = functools.partial(known.spread, variant.parameters, gradient)
            launch.differentiate(wrt, branches.layout, spread)
        others = [x for x in self._launches.get(wrt, ()) if x.kernel is not kernel]
        self._launches[wrt] = [launch, *others[: LAUNCHES - 1]]

    def _read(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Branches, Floats] | None:
        """What answers the call, and its numbers; None where the function itself is to be called."""
        if current.tracer is not None or current.differentiating:
            return None
        branches = self._recent
        if branches is not None and branches.filler is not None and not kwargs:
            rows = branches.filler.fill(args)
            if rows is not None:
                return branches, rows
        batched = self._options.batch is not None
        try:
            call, chunks = read(self._names, args, kwargs, batched)
            branches = self._find(call)
            rows = None
            if branches.variants and branches.filler is not None and not kwargs:
                # What the filler has read can be answered at once when it comes again. It does not
                # ask whether this is a batch: an earlier call like this one was.
                rows = branches.filler.fill(args)
            if rows is None:
                layout = branches.layout
                rows = layout.rows(chunks) if batched else layout.row(chunks)
            self._recent = branches
            return branches, rows
        except HasValues:
            return None
        except OverflowError:
            refuse_beyond_float64(self._names, args, kwargs)
            raise

    def _find(self, call: Call) -> Branches:
        """The branches for calls of a signature."""
        branches = self._branches.get(call)
        if branches is None:
            layout = Layout(call, self._names)
            branches = Branches(self._function, self.__name__, layout, self._options, self._learn)
            self._branches[call] = branches
            if len(self._branches) > STRUCTURES:
                self._branches.popitem(last=False)
        self._branches.move_to_end(call)
        return branches

    def _run(
        self,
        branches: Branches,
        rows: Floats,
        work: Callable[[Variant, Floats], Floats],
        backward: bool = False,
    ) -> tuple[Variant, Floats]:
        """Have the right branch do the work on the call's numbers; the branch, and its outputs."""
        self._calls += 1
        if current.anomaly:
            for row in rows:
                inputs = branches.layout.inputs(row)
                uncompiled.rehearse(self._function, inputs, self._options, backward)
        self._latest, outputs = branches.run(rows, work)
        return self._latest, outputs

    def _differentiate(self, wrt: Wrt, branches: Branches, rows: Floats) -> tuple[Any, Any]:
        """The value and the gradient, for the numbers of a call."""
        gradient = np.empty_like(rows)

        def work(variant: Variant, rows: Floats) -> Floats:
            asked = self._default if wrt is None else wrt
            out = None if asked == "parameters" else gradient
            return variant.backward(rows, self._seed(variant, rows), out, False)

        variant, outputs = self._run(branches, rows, work, backward=True)
        if wrt is None:
            wrt = self._default
        found: Any
        if isinstance(wrt, tuple):
            parts = [self._gradient(x, branches.layout, variant, gradient) for x in wrt]
            found = tuple(parts)
        else:
            found = self._gradient(wrt, branches.layout, variant, gradient)
        if is_plain(wrt):
            self._prepare(wrt, branches, rows, variant)
        return self._answer(variant, outputs), found

    def _learn(self, variant: Variant) -> None:
        self._traces += 1
        if self._parameters.add(variant.parameters):
            for member in self._family:
                member._launches = {}  # the gradients they give have no place for the new ones
                member._default = "parameters"

    def _seed(self, variant: Variant, rows: Floats) -> float:
        """What the gradient of each example's result starts from."""
        self._loss_and_aux(variant)
        return 1.0 / len(rows) if self._options.batch == "mean" else 1.0

    def _result(self, variant: Variant, outputs: Floats) -> Any:
        """What a call of the function gives, from the outputs."""
        if self._options.batch is None and not self._options.has_aux:
            return variant.result(outputs)
        return self._answer(variant, outputs)

    def _answer(self, variant: Variant, outputs: Floats) -> Any:
        """The value, of a batch its examples' results added from left to right; and the aux."""
        aux = self._loss_and_aux(variant)
        value: float = outputs.item(0)
        if len(outputs) > 1:
            value = functools.reduce(operator.add, outputs[:, 0].tolist())
            if self._options.batch == "mean":
                value /= len(outputs)
        if aux is None:
            return value
        rest = outputs[:, 1 : variant.trace.results]
        if self._options.batch is None:
            return value, aux.build(Numbers(rest[0]))
        return value, stack(aux, rest)

    def _loss_and_aux(self, variant: Variant) -> Signature | None:
        """The signature of the aux, if any; raises unless the rest is one number."""
        loss, aux = variant.trace.outputs, None
        if self._options.has_aux:
            loss, aux = pair(loss)
        if isinstance(loss, Scalar):
            return aux
        raise ShapeError(
            f"{self.__name__}: expected a function that returns one number"
            f"{', and aux beside it' if self._options.has_aux else ''}, it returns {describe(loss)}"
        )

    def _gradient(self, wrt: Any, layout: Layout, variant: Variant, gradient: Floats) -> Any:
        if isinstance(wrt, str) and wrt == "parameters":
            return self._parameters.spread(variant.parameters, variant.program.gradient)
        positional = layout.call.positional
        if not positional:
            raise ValueError(
                f'wrt: expected "parameters", for {self.__name__} was called without positional '
                f"arguments, got {wrt!r}"
            )
        if not isinstance(wrt, int) or isinstance(wrt, bool) or not 0 <= wrt < len(positional):
            raise ValueError(
                'wrt: expected "parameters" or the position of an argument, 0 to '
                f"{len(positional) - 1}, or a tuple of these, got {wrt!r}"
            )
        columns = layout.columns[wrt]
        if isinstance(positional[wrt], Static) or variant.only_selects(columns):
            raise TypeError(
                f"wrt: {layout.titles[wrt]} has no numbers to differentiate with respect to: "
                "expected an argument with floats, or integers that are used as numbers; "
                "integers that only select have no derivative"
            )
        return positional[wrt].build(Gradients(gradient[:, columns]))

    # --- where the function itself is called -------------------------------------------------

    def _itself(self, _: None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return uncompiled.call(self._function, self._names, self._options, args, kwargs)

    def _refuse_values(self, *_: Any) -> Any:
        raise TypeError(
            "value_and_grad takes and gives plain numbers, but was called with Values or "
            "inside a function that is being compiled or differentiated: use "
            "scalargrad.value_and_grad there, whose result is made of Values"
        )

    def _backward_of_itself(self, _: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if current.tracer is not None or current.differentiating:
            raise TraceError(
                f"backward() of {self.__name__} at {user_line()}, inside a function that is being "
                "compiled or differentiated: it would only happen this once. Use "
                "scalargrad.grad(function), whose result is made of Values"
            )
        return uncompiled.backward(self._itself(None, args, kwargs), self._options)

    def _refuse(self, about: tuple[str, Callable[..., Any]], *_: Any) -> Any:
        raise TypeError(f"{about[0]}: expected plain numbers as arguments, got Values")

    def _require_traced(self, what: str) -> Variant:
        if self._latest is None:
            raise TraceError(
                f"{what}: {self.__name__} was not called yet, and calling it finds out: call it once"
            )
        return self._latest


def by_value(function: CompiledFunction) -> str | tuple[Any, ...]:
    """As `__reduce__`, for a pickler that takes functions of `__main__` along by value."""
    made: Any = function._function
    if function._unbound is None and getattr(made, "__module__", None) == "__main__":
        return CompiledFunction, (made, function._options)
    return function.__reduce__()


_alive: WeakSet[CompiledFunction] = WeakSet()


def _abandon() -> None:
    for function in list(_alive):
        function._abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon)


WAYS = (
    Way(CompiledFunction._value, CompiledFunction._itself),
    Way(CompiledFunction._differentiate, CompiledFunction._refuse_values),
    Way(CompiledFunction._accumulate, CompiledFunction._backward_of_itself),
    Way(CompiledFunction._do, CompiledFunction._refuse),
)


# --- the decorator --------------------------------------------------------------------------------


@overload
def compile(
    function: Callable[..., Any],
    *,
    mode: str = ...,
    dtype: str = ...,
    backend: str | None = ...,
    batch: str | None = ...,
    has_aux: bool = ...,
) -> CompiledFunction: ...


@overload
def compile(
    function: None = None,
    *,
    mode: str = ...,
    dtype: str = ...,
    backend: str | None = ...,
    batch: str | None = ...,
    has_aux: bool = ...,
) -> Callable[[Callable[..., Any]], CompiledFunction]: ...


def compile(
    function: Callable[..., Any] | None = None,
    *,
    mode: str = "exact",
    dtype: str = "float64",
    backend: str | None = None,
    batch: str | None = None,
    has_aux: bool = False,
) -> CompiledFunction | Callable[[Callable[..., Any]], CompiledFunction]:
    """Make a program of a function that computes with single numbers.

        @sg.compile
        def loss(x, y):
            return (w * x + b - y) ** 2

        loss(2.0, 1.0)                     a float
        loss.value_and_grad(2.0, 1.0)      and d/dw, d/db
        loss.backward(2.0, 1.0)            adds to w.grad and b.grad

    What comes back is called like the function, and has `value_and_grad`, `backward`, `parameters`,
    `explain()` and `stats`, which say what was found and what it took, `graph`, `loops`,
    `llvm_ir()` and `jax_function`: see `CompiledFunction`.

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

    `has_aux=True`: the function returns `(loss, aux)`. Gradients are those of the loss, and `aux`
    is given back beside the value, of a batch stacked along a leading axis.

    `mode="exact"` gives the bits of the eager engine; `"fast"` allows a back end to reorder sums
    and to approximate functions, within a relative 1e-12 of exact on well-conditioned programs.
    `dtype` is "float64" or "float32", which is within 1e-5 there. `backend` is "llvm",
    "interpreter" or, in fast mode, "jax", None for the best there is; programs in JAX use
    `CompiledFunction.jax_function`. Raises `ValueError` for a word it does not know, or that the
    back end cannot do, `MissingExtraError` where it is not installed, and `TypeError` for a
    function that is none.

    As `jax.jit` or `torch.compile`, for scalar programs.
    """
    options = checked(Options(mode, dtype, backend, batch, has_aux))
    if function is None:
        return lambda function: CompiledFunction(_required(function), options)
    return CompiledFunction(_required(function), options)


def _required(function: Any) -> Callable[..., Any]:
    if callable(function):
        return function  # type: ignore[no-any-return]
    raise TypeError(f"function: expected a function, got {type(function).__name__}")
