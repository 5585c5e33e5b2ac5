"""The step for examples of different lengths: a compiled program for each length.

All is as in `EagerStep`, and so are the bits, but that an example's share of the loss and of the
gradients comes from the program that `scalargrad.compile` made of the model and the loss for
examples like it: as many numbers, in lists of the same lengths.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiler import compile
from ..compiler.function import STRUCTURES, CompiledFunction
from ..compiler.update import same_program
from ..modes import no_grad
from .compiled import as_traced
from .examples import Example, Examples
from .step import PLAIN_ERRORS, EagerStep

OFTEN = 8  # examples of a kind, epochs counted, for which tracing it pays


class RaggedStep(EagerStep):
    """See `step.Step`: the same numbers as `EagerStep`, bit for bit in exact mode."""

    def __init__(self, eager: EagerStep, mode: str, dtype: str) -> None:
        super().__init__(eager.model, eager.loss, eager.penalty, eager.parameters, eager.optimizer)

        def share(x: Any, y: Any, count: Any) -> Any:
            prediction = eager.model(x)
            loss = eager.loss(prediction, y)
            return loss / count, (loss, _listed(prediction))

        def fresh() -> CompiledFunction:
            return compile(share, mode=mode, dtype=dtype, has_aux=True)

        self._fresh, self._share = fresh, fresh()

    def repeats(self, example: Example) -> bool:
        """Whether the model does the same when run again: what draws random numbers does not."""
        arguments = example.x, example.y, 1.0
        first, second = (self._fresh().work(as_traced, *arguments)[0].trace for _ in range(2))
        return same_program(first, second)

    def _backward(self, example: Example, count: int) -> tuple[float, Any]:
        return self._run(self._share.backward, example, count)

    def _forward(self, example: Example) -> tuple[float, Any]:
        return self._run(self._share, example, 1)

    def _run(self, program: Any, example: Example, count: int) -> tuple[float, Any]:
        try:
            _, (loss, prediction) = program(example.x, example.y, float(count))
        except PLAIN_ERRORS:
            with no_grad():
                self.one(example)  # says which example it was
            raise
        return loss, prediction


def is_regular(examples: Examples, epochs: int) -> bool:
    """Whether there are few enough kinds of examples, and each often enough, to compile for each."""
    kinds = {(_kind(x), _kind(y)) for _, x, y in map(examples.__getitem__, range(len(examples)))}
    leaves = {leaf for kind in kinds for leaf in _leaves(kind)}
    limit = min(STRUCTURES, len(examples) * epochs // OFTEN)
    return leaves <= {int, float} and len(kinds) <= limit


def _listed(prediction: Any) -> Any:
    """A prediction as `examples.plain_numbers` gives it, but for the numbers."""
    if isinstance(prediction, np.ndarray):
        return _listed(prediction.tolist())
    if isinstance(prediction, list | tuple):
        return [_listed(item) for item in prediction]
    return prediction


def _kind(x: Any) -> Any:
    """The lists in x, and the types of the numbers in them."""
    return tuple(map(_kind, x)) if isinstance(x, list | tuple) else type(x)


def _leaves(kind: Any) -> set[Any]:
    return set().union(*map(_leaves, kind)) if isinstance(kind, tuple) else {kind}
