"""A scalar program as a model of ONNX: the loops found in it, as operations on whole tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod
from os import PathLike
from typing import Any

import numpy as np

from ...checkpoint import atomic_write
from ...compiler.arguments import ArgumentNames, Layout, read
from ...compiler.arrays import run
from ...compiler.function import CompiledFunction
from ...compiler.loops import Space
from ...compiler.marks import marks_of_trace
from ...compiler.roll import roll
from ...compiler.structure import Signature, members, tensor_shape
from ...compiler.trace import Trace, trace
from ...errors import TraceError
from .builder import EXAMPLES, Builder, Tensor, value_info
from .library import checker, helper

OPSET = 18  # the first in which all reductions take their axes alike
IR_VERSION = 8  # that of its time, which every runtime with this opset reads


def export(
    function: Callable[..., Any],
    path: str | PathLike[str],
    *args: Any,
    batch: bool = False,
    dtype: str = "float64",
) -> None:
    """Write a function of single numbers, with the present numbers of its Values, as an ONNX file.

        export(model, "model.onnx", [0.0, 0.0], batch=True, dtype="float32")

    The file is written whole or not at all. See `to_onnx`, which makes the model.
    """
    content = to_onnx(function, *args, batch=batch, dtype=dtype).SerializeToString()
    atomic_write(path, content)


def to_onnx(
    function: Callable[..., Any], *args: Any, batch: bool = False, dtype: str = "float64"
) -> Any:
    """A function of single numbers as an `onnx.ModelProto`, of opset 18.

    `function` is a plain or a compiled one, or a network; the Values it uses become initializers
    with their present numbers. `args` is an example of a call, which decides how arguments are
    nested and which integers select. A number is a tensor without axes, a list of n numbers or an
    array of them one of shape (n,), of `dtype` or, for integers, int64. Inputs have the names of
    the arguments, such as `x`, or `state.position` and `pair.0` for what is in dicts and tuples.
    The output is called `output`, with the same endings where there are several.

    With `batch` every input and output has an axis more in front, called `batch`: any number of
    examples, at least one, each of which is what `function` says. An example with an index out of
    range has nan for its results.

    The loops that the compiler finds in the scalar program become tensor operations, sums of
    products `MatMul`; results are within rounding of the function's. The derivative of a program
    is a program: `to_onnx(sg.grad(f), ...)`.

    Raises `TraceError` where the function asks for the truth of a comparison, `ValueError` for
    another dtype, a compiled function of a batch, a batch without arguments, or a result without
    numbers, and whatever tracing the function raises.
    """
    if dtype not in ("float64", "float32"):
        raise ValueError(f"dtype: expected 'float64' or 'float32', got {dtype!r}")
    if isinstance(function, CompiledFunction) and function.options.batch is not None:
        raise ValueError(
            f"function: expected one of a single example, got {function.__name__}, compiled with "
            f"batch={function.options.batch!r}: say batch=True here instead"
        )
    name = getattr(function, "__name__", type(function).__name__)
    names = ArgumentNames(function)
    call, chunks = read(names, args, {}, batched=False)
    layout = Layout(call, names)
    traced = trace(function, layout.inputs(layout.row(chunks)[0])).trace
    if traced.guards:
        guard = traced.guards[0]
        raise TraceError(
            f"to_onnx: {name} asks whether {guard.text} at {guard.line}, and a model is one branch "
            "for all inputs. Use scalargrad.where, maximum or minimum, which are part of the "
            "program"
        )
    if not traced.results:
        raise ValueError(f"to_onnx: expected {name} to return numbers, it returns none")
    graph = _graph(name, traced, layout, batch, np.dtype(dtype))
    model = model_of(graph)
    helper.set_model_props(
        model, {"function": name, "parameters": str(len(traced.parameters)), "dtype": dtype}
    )
    checker.check_model(model, full_check=True)
    return model


def model_of(graph: Any) -> Any:
    """The graph as a model, of scalargrad's opset."""
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="scalargrad",
    )


def _graph(name: str, traced: Trace, layout: Layout, batch: bool, dtype: np.dtype[Any]) -> Any:
    if batch:
        traced = replace(traced, shared=np.zeros_like(traced.shared))
    loops = roll(traced.tape, marks_of_trace(traced, "each" if batch else None), lines=traced.lines)
    builder, front = Builder(), (EXAMPLES,) if batch else ()
    inputs, columns = [], []
    for title, signature in zip(layout.titles, layout.call.positional):
        for path, part, shape in _leaves(signature, title):
            kind = np.int64 if next(part.kinds(), "") == "index" else dtype
            x = builder.input(path, (*front, *shape), kind)
            inputs.append(value_info(x.name, x.shape, x.dtype))
            columns.append(x.reshape(EXAMPLES if batch else 1, prod(shape)))
    if batch and not inputs:
        raise ValueError(f"batch: {name} has no arguments, and no axis of examples to take")
    parameters = traced.data[: len(traced.parameters)].astype(dtype)
    own = [x.astype(dtype) for x in columns]
    chosen = [x if x.dtype == np.int64 else _nothing(builder, x) for x in columns]
    given = {
        Space.PARAMETER: [builder.constant(parameters[None], "parameters")],
        **dict.fromkeys((Space.ARGUMENT, Space.EXAMPLE), own),
        **dict.fromkeys((Space.INDEX, Space.EXAMPLE_INDEX), chosen),
    }
    results = run(loops, given, EXAMPLES if batch else 1, dtype, builder)
    row = results[Space.EXAMPLE_OUTPUT if batch else Space.OUTPUT]
    row = _in_range(builder, traced, chosen, row)
    outputs, at = [], 0
    for path, part, shape in _leaves(traced.outputs, "output"):
        x = builder.cut(row, at, at + part.size).reshape(*front, *shape)
        outputs.append(builder.output(path, x))
        at += part.size
    return builder.graph(name, inputs, outputs)


def _leaves(signature: Signature, title: str) -> Iterator[tuple[str, Signature, tuple[int, ...]]]:
    """The tensors that stand for it: what each is called, and what it stands for."""
    shape = tensor_shape(signature)
    if shape is not None:
        yield title, signature, shape
    for key, part in members(signature) if shape is None else ():
        yield from _leaves(part, f"{title}.{key}")


def _nothing(builder: Builder, x: Tensor) -> Tensor:
    """In the place of numbers among indices."""
    return builder.constant(np.zeros((1, x.shape[1]), np.int64))


def _in_range(builder: Builder, traced: Trace, chosen: Sequence[Tensor], row: Tensor) -> Tensor:
    """The results; nan for an example with an index that is out of range."""
    if not traced.selections:
        return row
    pairs = sorted({(selection.argument, selection.length) for selection in traced.selections})
    place = np.cumsum(np.repeat([x.numbers is None for x in chosen], [x.shape[1] for x in chosen]))
    picked = builder.take(
        builder.concatenate([x for x in chosen if x.numbers is None], axis=1),
        place[[argument for argument, _ in pairs]] - 1,
    )
    lengths = np.array([[length for _, length in pairs]], np.int64)
    outside = ((picked < 0) | (picked >= lengths)).astype(np.int64)
    some = builder.fold("ReduceMax", outside, axis=1, keepdims=True)
    return builder.where(some == 0, row, np.nan)
