"""Programs: a trace made executable, and the back ends that can do it.

A `Program` is arithmetic only. It knows parameters, rows of flattened arguments, outputs and
gradients, all as arrays of float64; which branch was meant, who the Values are and how results
are nested is the caller's part (`function.py`). A back end is a class with this interface over a
`Trace`, entered in `BACKENDS`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..errors import MissingExtraError
from ..replay import Replay
from .rows import Rows
from .structure import Floats
from .trace import Trace


class Program(Protocol):
    """One trace made executable, for one thread at a time.

    A trace has p parameters, m flattened arguments and k outputs (results, then guards). A batch
    is B >= 1 rows of arguments, one for each example; a single call is a batch of one. Arguments
    that are the same for all examples (`trace.shared`) stand in every row, and count as one
    number: their gradient is summed over the examples and stands in row 0.

    parameters  float64[p]: the caller writes their numbers here before a call
    gradient    float64[p]: what `backward` adds to

    Both are the same arrays as long as the program lives.
    """

    parameters: Floats
    gradient: Floats

    def forward(self, rows: Floats) -> Floats:
        """The outputs for each row of arguments: float64[B, m] -> float64[B, k].

        An index that is out of range selects candidate 0: the caller decides, from the guards,
        whether it would have been used, and raises if so.
        """

    def backward(self, rows: Floats, seed: float, argument_gradient: Floats | None) -> Floats:
        """As `forward`, and add seed * d(sum over examples of output 0) to the gradients.

        d/d(parameters) is added to `gradient`, and d/d(arguments) to `argument_gradient`,
        float64[B, m], if it is not None. Examples are taken from the last to the first, and the
        nodes of each in descending order: that is the order in which eager Values would do it.
        """


class Interpreter:
    """Runs the tape itself, node by node: exact, at hand at once, and the oracle of the others."""

    def __init__(self, trace: Trace, options: Options) -> None:
        tape = replace(trace.tape, index=trace.tape.index.copy())
        data, grad = trace.data.copy(), np.zeros(len(tape))
        self.parameters = data[: len(trace.parameters)]
        self.gradient = grad[: len(trace.parameters)]
        self._outputs = len(tape.outputs)
        # The gradients of the leaves after the parameters: arguments and constants.
        self._others = grad[len(trace.parameters) : tape.leaves]
        replay = Replay(tape, data.data, grad.data)
        self._rows = Rows(replay, trace, (data.data, grad.data, tape.index.data), _plan(trace))

    def forward(self, rows: Floats) -> Floats:
        """See `Program.forward`."""
        outputs = np.empty((len(rows), self._outputs))
        self._rows.forward(rows, outputs)
        return outputs

    def backward(self, rows: Floats, seed: float, argument_gradient: Floats | None) -> Floats:
        """See `Program.backward`."""
        outputs = np.empty((len(rows), self._outputs))
        self._others[:] = 0.0
        self._rows.backward(rows, outputs, seed, argument_gradient)
        return outputs


def _plan(trace: Trace) -> tuple[memoryview, ...]:
    """Which argument goes to which node and slot, as `Rows` wants it."""
    used = trace.arguments >= 0
    slots = trace.indices >= 0
    plan = (
        np.flatnonzero(used),
        trace.arguments[used],
        trace.indices[slots],
        np.flatnonzero(slots),
        trace.lengths[slots],
        trace.arguments[used & ~trace.shared],
    )
    return tuple(part.astype(np.int32).data for part in plan)


# --- back ends ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Options:
    """How to compile; `compile` says what the words mean."""

    mode: str = "exact"
    dtype: str = "float64"
    backend: str | None = None
    batch: str | None = None
    has_aux: bool = False


@dataclass(frozen=True, slots=True)
class Backend:
    """A back end: what makes its programs, the `dtype`s and `mode`s it can do, what it needs.

    `library` is that, and `extra` the extra of this package that installs it.
    """

    make: Callable[[Trace, Options], Program]
    dtypes: tuple[str, ...]
    modes: tuple[str, ...]
    library: str = ""
    extra: str = "all"

    @property
    def installed(self) -> bool:
        """Whether the library it needs is there."""
        return not self.library or _is_there(self.library)


_found: set[str] = set()


def _is_there(library: str) -> bool:
    """Whether a library is installed, which is looked for until it is."""
    if library not in _found and importlib.util.find_spec(library) is not None:
        _found.add(library)
    return library in _found


def _native(trace: Trace, options: Options) -> Program:
    from .jit import Native

    return Native(trace, options)


def _xla(trace: Trace, options: Options) -> Program:
    from .xla import Xla

    return Xla(trace, options)


# The best first: `backend=None` takes the first that can do what is asked.
BACKENDS: dict[str, Backend] = {
    "llvm": Backend(_native, ("float64", "float32"), ("exact", "fast"), "llvmlite"),
    # Without any licence to reassociate taken, the exact answer is a "fast" one too.
    "interpreter": Backend(Interpreter, ("float64",), ("exact", "fast")),
    # XLA reorders sums, fuses products with them, and has an exp of its own.
    "jax": Backend(_xla, ("float64", "float32"), ("fast",), "jax", "jax"),
}

MODES = ("exact", "fast")
DTYPES = ("float64", "float32")
BATCHES = (None, "mean", "sum")


def checked(options: Options) -> Options:
    """The options with the back end decided.

    Raises `ValueError` naming the option for a word it does not know, or one that the back end
    cannot do, and `MissingExtraError` where that takes a library that is not installed.
    """
    _expect("mode", options.mode, MODES)
    _expect("dtype", options.dtype, DTYPES)
    _expect("batch", options.batch, BATCHES)
    if not isinstance(options.has_aux, bool):
        raise ValueError(f"has_aux: expected True or False, got {options.has_aux!r}")
    _expect("backend", options.backend, (None, *BACKENDS))
    able = {
        name: backend
        for name, backend in BACKENDS.items()
        if options.dtype in backend.dtypes and options.mode in backend.modes
    }
    if options.backend is None:
        ready = [name for name, backend in able.items() if backend.installed]
        if ready:
            return replace(options, backend=ready[0])
        what = f"mode={options.mode!r} with dtype={options.dtype!r}"
        best = next(iter(able.values()))
        raise MissingExtraError(best.library, best.extra, what)
    backend = BACKENDS[options.backend]
    if options.backend not in able:
        name = "dtype" if options.dtype not in backend.dtypes else "mode"
        offered = backend.dtypes if name == "dtype" else backend.modes
        raise ValueError(
            f"{name}: expected {_words(offered)} for backend {options.backend!r}, "
            f"got {getattr(options, name)!r}"
        )
    if not backend.installed:
        raise MissingExtraError(backend.library, backend.extra, f"backend={options.backend!r}")
    return options


def _expect(name: str, got: object, allowed: tuple[str | None, ...]) -> None:
    if not (got is None or isinstance(got, str)) or got not in allowed:
        raise ValueError(f"{name}: expected {_words(allowed)}, got {got!r}")


def _words(allowed: tuple[str | None, ...]) -> str:
    return " or ".join(map(repr, allowed))
