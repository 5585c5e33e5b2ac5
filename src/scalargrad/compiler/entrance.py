"""The way into a compiled function: one call at a time, and what is asked on the way.

A call like one of those before is answered at once, by a `Launch`; from the caller to the machine
code nothing is run by Python then. Any other takes the long way, which is the function's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad.compiler.gate import Gate
    from cython.cimports.scalargrad.compiler.launch import Launch
else:
    from .gate import Gate
    from .launch import Launch

if TYPE_CHECKING:
    from .branches import Branches
    from .structure import Floats
    from .variant import Variant

Result = TypeVar("Result")
Wrt: TypeAlias = str | int | tuple[str | int, ...] | None

# What a call asks for: the value, that and the gradient, or to add this to the parameters'; or
# something that only the long way leads to. These are the places of the `Way`s, too.
VALUE = cython.declare(cython.int, 0)
VALUE_AND_GRAD = cython.declare(cython.int, 1)
BACKWARD = cython.declare(cython.int, 2)
OTHER = cython.declare(cython.int, 3)

PLAIN = {int, str}  # types of which equal positions and names are the same


def is_plain(wrt: Wrt) -> bool:
    """Whether it equals only what means the same: True equals 1, and is no position."""
    if type(wrt) is tuple:
        return PLAIN.issuperset(map(type, wrt))
    return type(wrt) in PLAIN


class Way(NamedTuple):
    """The long way to what a call asks for.

    answer(function, about, branches, rows)   in turn, for the numbers that were given
    itself(function, about, args, kwargs)     where the function itself is to be called

    `about` is the `wrt` of the call, or what an other one is about.
    """

    answer: Callable[[Any, Any, Branches, Floats], Any]
    itself: Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]


@cython.cclass
class Entrance:
    """The ways to call a compiled function, which is a subclass.

    `_launches` are what answers calls like those before, the latest first, by what the gradient is
    with respect to, None for the value alone. Where nothing is said, it is with respect to
    `_default`.
    """

    _gate: Gate
    _ways: tuple[Way, ...]
    _launches: dict[Wrt, list[Launch]]
    _default: Any
    _calls: cython.longlong
    _latest: Variant | None

    def __init__(self, ways: tuple[Way, ...]) -> None:
        self._gate, self._ways = Gate(), ways
        self._launches, self._default, self._calls, self._latest = {}, 0, 0, None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's result in floats, nested as the function returns it.

        With `batch`, the mean or sum over the examples; with `has_aux` beside it, `(value, aux)`.
        Called with Values among the arguments, or inside a function that is being compiled or
        differentiated, it is the function itself.

        Raises `TraceError` where the function cannot be compiled (see `compile`), `IndexError`
        for an integer argument that selects out of range, `ShapeError` and `TypeError` for
        arguments that are no numbers or no batch.
        """
        return self._ask(VALUE, None, args, kwargs)

    def value_and_grad(self, *args: Any, wrt: Wrt = None, **kwargs: Any) -> tuple[Any, Any]:
        """`(value, gradient)` of a function that returns one number.

        `wrt` says with respect to what: "parameters", the position of an argument, or a tuple of
        these, which gives a tuple. `None` means the parameters if the function has any, else
        argument 0. The gradient for the parameters is one float64 array in the order of
        `f.parameters`, for an argument it has the argument's structure, with 0 for integers in it
        that only select. No `grad` is changed. With `has_aux` the value is `(value, aux)`.

        Raises `ShapeError` if the function returns anything but one number, `ValueError` for
        another `wrt` and `TypeError` for an argument that has no numbers or only selects.
        """
        return self._ask(VALUE_AND_GRAD, wrt, args, kwargs)  # type: ignore[no-any-return]

    def backward(self, *args: Any, **kwargs: Any) -> Any:
        """Add the gradient to the `grad` of the parameters, and return the value.

        The gradients are, bit for bit, those of the eager `function(*args).backward()`; with
        `batch`, of `backward()` on the mean or sum of the examples' results. With `has_aux`
        returns `(value, aux)`.

        Raises `ShapeError` if the function returns anything but one number.
        """
        return self._ask(BACKWARD, "parameters", args, kwargs)

    def _in_turn(
        self,
        what: str,
        do: Callable[[Any, Branches, Floats], Result],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Result:
        """What `do(function, branches, rows)` gives for a call with these arguments.

        `what` is what is called so, for messages.
        """
        return self._ask(OTHER, (what, do), args, kwargs)  # type: ignore[no-any-return]

    def _abandon(self) -> None:
        """In a forked process: a thread of the parent's in the middle of a call is not there."""
        self._gate.abandon()

    @cython.cfunc
    def _ask(
        self, asked: cython.int, about: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        plain: cython.bint
        other: Entrance
        if not self._gate.enter():
            # A call in the middle of one, by a finaliser that the garbage collector runs, or a
            # signal's handler: what a call is read into is there but once.
            other = self._another()
            return other._ask(asked, about, args, kwargs)
        try:
            if asked != OTHER and not kwargs:
                wrt, plain = about, True
                if asked == VALUE_AND_GRAD:
                    if about is None:
                        wrt = self._default
                    else:
                        plain = is_plain(about)
                launches = self._launches.get(wrt) if plain else None
                if launches is not None:
                    answer = self._at_once(asked, launches, args)
                    if answer is not None:
                        return answer
            call = self._read(args, kwargs)
            if call is not None:
                return self._ways[asked].answer(self, about, *call)
        finally:
            self._gate.leave()
        return self._ways[asked].itself(self, about, args, kwargs)

    @cython.cfunc
    def _at_once(self, asked: cython.int, launches: Any, args: tuple[Any, ...]) -> Any:
        """The answer of the launch for calls like this, which is the first from then on; or None."""
        k: cython.Py_ssize_t
        launch: Launch
        wrong: Launch | None = None  # the latest of which a guard came out otherwise
        for k in range(len(launches)):
            launch = launches[k]
            if wrong is not None and not launch.follows(wrong):
                continue
            if asked == VALUE:
                answer = launch.value(args)
            elif asked == VALUE_AND_GRAD:
                answer = launch.value_and_grad(args)
            else:
                answer = launch.backward(args)
            if answer is None:
                wrong = launch if launch.flipped >= 0 else wrong
                continue
            if k > 0:
                launches.insert(0, launches.pop(k))
            self._calls += 1
            self._latest = launch.variant
            return answer
        return None

    # --- what the function knows -------------------------------------------------------------

    def _another(self) -> Entrance:
        """Who answers a call in the middle of one."""
        raise NotImplementedError

    def _read(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Branches, Floats] | None:
        """What answers the call, and its numbers; None where the function itself is to be called."""
        raise NotImplementedError
