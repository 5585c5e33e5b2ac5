"""Programs over rows of numbers as functions that PyTorch differentiates, as often as it likes.

What PyTorch asks for on its way back is a program too. With outputs y(x; p) of a row x and
parameters p,

    pulled(x, c; p)     = sum of c[k] * y[k](x; p)
    moved(x, v; p, u)   = how fast a program's result changes while x moves by v and p by u

the gradient of `pulled` is the product of c with the Jacobian of y, and the gradient of `moved`
that of (v, u) with the Hessian of the program it is made of; and so on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...compiler.adjoint import Derivative, graph_down_to
from ...compiler.function import compile
from ...compiler.program import Options
from ...compiler.structure import Floats
from ...compiler.variant import Variant
from ...engine import Value
from ...errors import TraceError
from ...functional import dot
from .library import Tensor, torch

Body: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], list[Value]]


class Program:
    """A function of the numbers and the indices of one example, compiled for rows of them.

    The Values that it uses are its parameters, of which it is passed the numbers: an array in the
    order of `values`. Where none are given they are those that it uses at `example`, a row of
    numbers and one of indices.
    """

    def __init__(
        self,
        name: str,
        body: Body,
        options: Options,
        *,
        values: list[Value] | None = None,
        example: tuple[Floats, Any] | None = None,
    ) -> None:
        def of_row(numbers: Any, indices: Any) -> list[Value]:
            return body(list(numbers), list(indices))

        of_row.__name__ = name
        self._name, self._body, self._options = name, body, options
        self._compiled = compile(
            of_row, mode=options.mode, dtype=options.dtype, backend=options.backend, batch="sum"
        )
        self._outputs = 1 if example is None else self._compiled.trace(*example).results
        self.values = self._compiled.parameters if values is None else values
        self._known: dict[Variant, NDArray[np.intp]] = {}

    def outputs(self, parameters: Floats, numbers: Floats, indices: Any) -> Floats:
        """The outputs for each row, [rows, outputs]."""
        if not len(numbers):
            return np.empty((0, self._outputs))

        def run(variant: Variant, rows: Floats) -> Floats:
            variant.program.parameters[:] = parameters[self._places(variant)]
            return variant.program.forward(rows)

        variant, found = self._compiled.work(run, numbers, indices)
        return found[:, : variant.trace.results].copy()

    def gradient(self, parameters: Floats, numbers: Floats, indices: Any) -> tuple[Floats, Floats]:
        """The gradient of the sum of output 0 over the rows, in the parameters and the numbers."""
        own = np.zeros(len(self.values))
        all_of_row = np.zeros((len(numbers), numbers.shape[1] + indices.shape[1]))

        def run(variant: Variant, rows: Floats) -> Floats:
            program, places = variant.program, self._places(variant)
            program.parameters[:] = parameters[places]
            program.gradient[:] = 0.0
            all_of_row[:] = 0.0
            outputs = program.backward(rows, 1.0, all_of_row)
            own[:] = 0.0
            own[places] = program.gradient
            return outputs

        if len(numbers):
            self._compiled.work(run, numbers, indices)
        return own, all_of_row[:, : numbers.shape[1]].copy()

    def _places(self, variant: Variant) -> NDArray[np.intp]:
        """Where the parameters of a branch are in those of the program."""
        if variant not in self._known:
            place = {id(v): k for k, v in enumerate(self.values)}
            if any(id(v) not in place for v in variant.parameters):
                raise TraceError(
                    f"{self._name}: this call takes a branch that uses other Values than the "
                    "example of a call did: give torch_function an example that uses all "
                    "parameters, or use scalargrad.where"
                )
            self._known[variant] = np.array([place[id(v)] for v in variant.parameters], np.intp)
        return self._known[variant]

    @cached_property
    def pulled(self) -> Program:
        """The outputs times what stands behind the numbers in the row, added up."""

        def pulled(numbers: Sequence[Any], indices: Sequence[Any]) -> list[Value]:
            outputs = self._body(numbers, indices)  # which takes its own, from the left
            return [dot(outputs, numbers[len(numbers) - len(outputs) :])]

        return Program(self._name, pulled, self._options, values=self.values)

    @cached_property
    def moved(self) -> Program:
        """The speed of output 0 while numbers and parameters move.

        The speeds of the numbers stand behind them in the row; those of the parameters are
        parameters, too.
        """
        speeds = [Value(0.0) for _ in self.values]

        def moved(numbers: Sequence[Any], indices: Sequence[Any]) -> list[Value]:
            half = len(numbers) // 2
            variables = [*numbers[:half], *self.values]
            derivative = Derivative(
                graph_down_to(self._body(numbers[:half], indices), variables), variables
            )
            return derivative.forward([*numbers[half:], *speeds])

        return Program(self._name, moved, self._options, values=[*self.values, *speeds])


def _each(function: Any, info: Any, dims: tuple[Any, ...], inputs: tuple[Any, ...]) -> list[Any]:
    """What `torch.vmap` wants: the results of the function for each slice of the inputs."""
    return [
        function.apply(*(x if d is None else x.select(d, k) for x, d in zip(inputs, dims)))
        for k in range(info.batch_size)
    ]


# --- as PyTorch sees them ------------------------------------------------------------------------


class _Positional(inspect.Signature):
    """The signature of a function that is called with all its arguments, by position.

    PyTorch binds the arguments to the signature of `forward` at each call. To find out what that is
    takes longer than all else that it does.
    """

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """The arguments as they are."""
        return _Bound(args, kwargs)


class _Bound(NamedTuple):
    """What stands for `inspect.BoundArguments`."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def apply_defaults(self) -> None:
        """There are none."""


def _positional(forward: Callable[..., Any]) -> Callable[..., Any]:
    forward.__signature__ = _Positional()  # type: ignore[attr-defined]
    return forward


class Outputs(torch.autograd.Function):
    """`Outputs.apply(program, parameters, numbers, indices)`: the outputs of each row."""

    @staticmethod
    @_positional
    def forward(program: Program, parameters: Tensor, numbers: Tensor, indices: Tensor) -> Tensor:
        """See the class."""
        found = program.outputs(parameters.numpy(), numbers.numpy(), indices.numpy())
        return torch.from_numpy(found)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep what `backward` needs."""
        ctx.program = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
        """See `_each`."""
        return torch.stack(_each(Outputs, info, in_dims, inputs)), 0

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        """The gradients of sum(outputs * gradient)."""
        parameters, numbers, indices = ctx.saved_tensors
        both = torch.cat([numbers, gradient], 1)
        own, found = Gradient.apply(ctx.program.pulled, parameters, both, indices)
        return None, own, found[:, : numbers.shape[1]], None


class Gradient(torch.autograd.Function):
    """`Gradient.apply(program, parameters, numbers, indices)`: see `Program.gradient`."""

    @staticmethod
    @_positional
    def forward(
        program: Program, parameters: Tensor, numbers: Tensor, indices: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See the class."""
        own, found = program.gradient(parameters.numpy(), numbers.numpy(), indices.numpy())
        return torch.from_numpy(own), torch.from_numpy(found)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep what `backward` needs."""
        ctx.program = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
        """See `_each`."""
        found = _each(Gradient, info, in_dims, inputs)
        return tuple(map(torch.stack, zip(*found))), (0, 0)

    @staticmethod
    def backward(ctx: Any, of_own: Tensor, of_found: Tensor) -> tuple[Any, ...]:
        """The gradients of sum(own * of_own) + sum(found * of_found)."""
        parameters, numbers, indices = ctx.saved_tensors
        own, found = Gradient.apply(
            ctx.program.moved,
            torch.cat([parameters, of_own]),
            torch.cat([numbers, of_found], 1),
            indices,
        )
        return None, own[: len(parameters)], found[:, : numbers.shape[1]], None
