"""Parameters found by `scipy.optimize.minimize`: a model's numbers in a vector, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import optimize

from ...compiler.function import CompiledFunction
from ...engine import Value
from ...errors import TraceError
from ...train.interrupt import Interrupt, Stop
from .derivatives import Floats, Function, given, refuse
from .optimize import NO_GRADIENT


def fit_parameters(
    loss: Function,
    args: tuple[Any, ...] = (),
    method: str = "L-BFGS-B",
    *,
    parameters: Iterable[Value] | None = None,
    **options: Any,
) -> optimize.OptimizeResult:
    """Set the Values that a loss uses to where it is least: `scipy.optimize.minimize` on a model.

        loss = sg.compile(lambda x, y: sg.losses.mse(model(x), y), batch="mean")
        fit_parameters(loss, (inputs, targets), parameters=model.parameters())

    Args:
        loss: a function that returns one number, which depends on Values from outside it; or one
            that is compiled, for a batch too.
        args: what it is called with: the data, say.
        method: one of SciPy's that use the gradient or no derivative. It goes through all the data
            at every step, and suits models of up to some thousand parameters: for more, and for
            much data, there is `scalargrad.Trainer`.
        parameters: the leaves that are to be found, in the order of the result's `x`. None: all
            that the loss uses, in the order of their creation.
        options: `bounds`, `tol`, `callback` and `options`, SciPy's.

    Returns:
        SciPy's `OptimizeResult`; the parameters' `data` are its `x`. Their `grad` is untouched.

    When anything is raised, they are the numbers with which the loss was least so far. So it is
    after Ctrl-C, which raises `KeyboardInterrupt` as soon as the evaluation under way is done.

    Raises `ValueError` for a loss without parameters, `TypeError` for parameters that are none,
    `TraceError` where the loss cannot be compiled, or where one of its branches uses others than
    those before and it was not said which are to be found; and what SciPy raises.
    """
    refuse("minimize", options, "jac", "hess", "hessp")
    search = _Search(given(loss, "loss", batched=True), args, parameters)
    gradient = method.lower() not in NO_GRADIENT
    with Interrupt() as interrupt:

        def evaluate(x: Floats) -> Any:
            interrupt.check()
            value, slope = search.evaluate(x)
            return (value, slope) if gradient else value

        try:
            result = optimize.minimize(
                evaluate, search.best, method=method, jac=gradient or None, **options
            )
            search.best = np.asarray(result.x)
        except Stop:
            raise KeyboardInterrupt from None
        finally:
            with interrupt.whole():
                search.write(search.best)
    return result


class _Search:
    """The parameters as a vector, the loss as its function, and the best that was seen."""

    def __init__(
        self, loss: CompiledFunction, args: tuple[Any, ...], parameters: Iterable[Value] | None
    ) -> None:
        self._loss, self._args = loss, args
        value, _ = loss.value_and_grad(*args, wrt="parameters")
        self._known, self._chosen = loss.parameters, parameters is not None
        self.parameters = self._known if parameters is None else _leaves(parameters)
        if not set(self.parameters).intersection(self._known):
            raise ValueError(
                f"loss: it uses {'none of the parameters' if self._chosen else 'no Values'} from "
                "outside, so there is nothing to be found: expected a function of Values such as "
                "model.parameters(); for a function of an array x there is minimize"
            )
        self._places = self._find()
        self.best, self._least = np.array([p.data for p in self.parameters]), value

    def _find(self) -> list[int]:
        """Where in the gradient of all that the loss uses each parameter is; -1 for nowhere."""
        place = {p: k for k, p in enumerate(self._known)}
        return [place.get(p, -1) for p in self.parameters]

    def evaluate(self, x: Floats) -> tuple[float, Floats]:
        """The loss and its gradient."""
        self.write(x)
        value, gradient = self._loss.value_and_grad(*self._args, wrt="parameters")
        if len(gradient) > len(self._known):
            self._learn()
        if value < self._least or math.isnan(self._least):
            self.best, self._least = x.copy(), value
        return value, np.append(gradient, 0.0)[self._places]

    def _learn(self) -> None:
        """Take in that a branch traced just now uses others than those before."""
        count = len(self._known)
        self._known = self._loss.parameters
        if not self._chosen:
            raise TraceError(
                f"loss: one of its branches uses {len(self._known) - count} Values that those "
                "before did not, and x cannot grow: say which are to be found, with "
                "parameters=model.parameters()"
            )
        self._places = self._find()

    def write(self, x: Floats) -> None:
        """Make these the parameters' numbers."""
        for parameter, number in zip(self.parameters, x.tolist(), strict=True):
            parameter.data = number


def _leaves(parameters: Iterable[Value]) -> list[Value]:
    found = list(parameters)
    for k, p in enumerate(found):
        if not isinstance(p, Value) or p.op:
            what = f"the result of {p.op!r}" if isinstance(p, Value) else type(p).__name__
            raise TypeError(f"parameters[{k}]: expected a leaf, such as a model has, got {what}")
    if len(set(found)) < len(found):
        raise ValueError("parameters: expected each once: one of them comes twice")
    return found
