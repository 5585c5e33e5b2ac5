"""The function itself, for calls that are not answered by a program.

Where the arguments are Values the caller wants Values back. Where another function is being
traced or differentiated, this one is part of it. And under `detect_anomaly()` the function runs
once for show, because only its nodes know the lines they came from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import functional
from ..engine import Value
from ..errors import ShapeError
from ..graph import Graph
from .arguments import ArgumentNames, examples
from .program import Options
from .results import collect, stack
from .structure import ArgumentError, Source
from .trace import Inputs

REDUCTIONS = {"mean": functional.mean, "sum": functional.total}


def call(
    function: Callable[..., Any],
    names: ArgumentNames,
    options: Options,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """What the compiled function promises to equal, computed with Values."""
    if options.batch is None:
        return function(*args, **kwargs)
    results = [function(*a, **k) for a, k in examples(names, args, kwargs)]
    reduction = REDUCTIONS[options.batch]
    if not options.has_aux:
        return reduction(results)
    pairs = [loss_and_aux(result) for result in results]
    return reduction([loss for loss, _ in pairs]), _stacked([aux for _, aux in pairs])


def loss_and_aux(result: Any) -> tuple[Any, Any]:
    """The two things a function with `has_aux` returns; `TypeError` for anything else."""
    if isinstance(result, tuple) and len(result) == 2:
        return result
    raise TypeError(
        f"result: expected a pair (loss, aux) because of has_aux=True, got {type(result).__name__}"
    )


def _stacked(results: list[Any]) -> Any:
    rows: list[list[Value]] = [[] for _ in results]
    try:
        signatures = [collect(result, row) for result, row in zip(results, rows)]
    except ArgumentError as error:
        raise error.named("aux") from None
    if any(signature != signatures[0] for signature in signatures):
        raise ShapeError("aux: expected results of one structure for all examples of a batch")
    block = np.empty((len(rows), len(rows[0])), dtype=object)
    for into, row in zip(block, rows):
        into[:] = row
    return stack(signatures[0], block)


def backward(result: Any, options: Options) -> Any:
    """Call `backward()` on a result; return it, or its loss and aux, with the loss as a float."""
    loss, aux = loss_and_aux(result) if options.has_aux else (result, None)
    if not isinstance(loss, Value):
        raise ShapeError(
            f"backward: expected the function to return one Value, got {type(loss).__name__}"
        )
    loss.backward()
    return (loss.data, aux) if options.has_aux else loss.data


def rehearse(
    function: Callable[..., Any], inputs: Inputs, options: Options, backward: bool
) -> None:
    """Run the function, and backward if wanted, on the inputs; leave every `grad` as it was."""
    numbers = [
        int(number) if kind == "index" else Value(number, name)
        for number, kind, name in zip(inputs.numbers, inputs.kinds, inputs.names)
    ]
    args, kwargs = inputs.build(Source(numbers))
    result = function(*args, **kwargs)
    loss = loss_and_aux(result)[0] if options.has_aux else result
    if not backward or not isinstance(loss, Value):
        return
    leaves = Graph(loss).leaves
    before = [leaf.grad for leaf in leaves]
    try:
        loss.backward()
    finally:
        for leaf, grad in zip(leaves, before):
            leaf.grad = grad
