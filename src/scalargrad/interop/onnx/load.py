"""A perceptron that another library has written as ONNX, as a network of single numbers."""

from __future__ import annotations

import math
from os import PathLike, fspath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...nn import MLP
from ...nn.perceptron import perceptron
from .library import DecodeError, checker, helper, numpy_helper, onnx

# What ONNX calls our activations, and the options that make them ours.
ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "Relu": ("relu", {}),
    "LeakyRelu": ("leaky_relu", {"alpha": 0.01}),
    "Tanh": ("tanh", {}),
    "Sigmoid": ("sigmoid", {}),
    "Gelu": ("gelu", {"approximate": b"none"}),
    "Softplus": ("softplus", {}),
}
LEFT_OUT = ("Identity", "Dropout", "Flatten", "Reshape")  # they leave one example's numbers alone
GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0}
Floats = NDArray[np.float64]


def from_onnx(model: str | PathLike[str] | Any) -> MLP:
    """The `MLP` that computes what a model of ONNX does, with a copy of its weights.

    `model` is the path of a file or an `onnx.ModelProto`: a chain of products with a matrix
    (`Gemm`, or `MatMul` and perhaps `Add`), each followed by at most one activation (`Relu`,
    `LeakyRelu` of 0.01, `Tanh`, `Sigmoid`, `Gelu`, `Softplus`). `Identity`, `Dropout`, `Flatten`
    and `Reshape` are left out; a layer without biases gets biases of 0. An output that is not a
    list of numbers is one: a network with one output gives that number.

    Raises `DataError` for a file that is damaged, or keeps its weights in other files, and
    `ValueError` naming the node for what an `MLP` has not.
    """
    loaded, name = _parsed(model)
    for tensor in loaded.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise DataError(
                f"{name}: the numbers of {tensor.name!r} are in another file: expected a model "
                "that has them itself, as onnx.save writes it without save_as_external_data"
            )
    try:
        checker.check_model(loaded)
    except checker.ValidationError as error:
        raise _damaged(name, error) from None
    layers = _layers(loaded.graph, name)
    if not layers:
        raise ValueError(f"{name}: expected a product with a matrix (Gemm or MatMul), got none")
    sizes = [layers[0].weight.shape[1], *(len(layer.weight) for layer in layers)]
    for k, (layer, width) in enumerate(zip(layers, sizes)):
        if layer.weight.shape[1] != width:
            raise DataError(
                f"{name}: product {k} has {layer.weight.shape[1]} inputs, the one before it "
                f"{width} outputs"
            )
    found = perceptron(sizes, [layer.activation for layer in layers])
    found.load_state_dict(
        {
            f"layers.{k}.{part}": x
            for k, layer in enumerate(layers)
            for part, x in (("w", layer.weight), ("b", layer.bias))
        }
    )
    return found


class _Layer:
    """A product with a matrix [outputs, inputs], and what follows it."""

    def __init__(self, weight: Floats) -> None:
        self.weight, self.activation = weight, "linear"
        self.bias, self.biased = np.zeros(len(weight)), False


def _parsed(model: Any) -> tuple[Any, str]:
    """The model, and what it is called in messages."""
    if isinstance(model, onnx.ModelProto):
        return model, "model"
    name = fspath(model)
    with open(model, "rb") as file:
        content = file.read()
    try:
        return onnx.ModelProto.FromString(content), name
    except DecodeError as error:
        raise _damaged(name, error) from None


def _damaged(name: str, error: Exception) -> DataError:
    reason = str(error).strip().partition("\n")[0]
    return DataError(f"{name}: expected a model of ONNX, this is none or damaged: {reason}")


def _layers(graph: Any, name: str) -> list[_Layer]:
    """The products, following the numbers from the input to the output."""
    known = {tensor.name: tensor for tensor in graph.initializer}
    known |= {
        node.output[0]: attribute.t
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    inputs = [each.name for each in graph.input if each.name not in known]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ValueError(
            f"{name}: expected one input and one output, got {len(inputs)} and {len(graph.output)}"
        )
    at, layers = inputs[0], list[_Layer]()
    for node in graph.node:
        if node.op_type == "Constant":
            continue
        title = f"{name}: {node.op_type} {node.name!r}"
        others = [x for x in node.input if x and x != at]
        if at not in node.input or not all(x in known for x in others):
            raise ValueError(f"{title}: expected a chain of layers, each of which reads the last")
        _add(layers, node, at, [known[x] for x in others], name)
        at = node.output[0]
    if at != graph.output[0].name:
        raise ValueError(f"{name}: expected the last layer to be the output")
    return layers


def _add(layers: list[_Layer], node: Any, at: str, others: list[Any], name: str) -> None:
    """What a node does, in the layers."""
    title = f"{name}: {node.op_type} {node.name!r}"
    options = {x.name: helper.get_attribute_value(x) for x in node.attribute}
    kind, plain = node.op_type, bool(layers) and layers[-1].activation == "linear"
    if kind in ("Gemm", "MatMul"):
        turned = bool(options.pop("transB", 0))
        _require(options, GEMM, title)
        numbers = [_numbers(x, name) for x in others]
        if node.input[0] != at or not numbers or numbers[0].ndim != 2:
            raise ValueError(f"{title}: expected the last layer's numbers times a known matrix")
        layers.append(_Layer(numbers[0] if turned else numbers[0].T))
        if len(numbers) > 1:
            _add_bias(layers[-1], numbers[1], title)
    elif kind == "Add" and plain and not layers[-1].biased and len(others) == 1:
        _add_bias(layers[-1], _numbers(others[0], name), title)
    elif kind in ACTIVATIONS and plain:
        layers[-1].activation, expected = ACTIVATIONS[kind]
        _require(options, expected, title)
    elif kind not in LEFT_OUT:
        raise ValueError(
            f"{title}: expected Gemm, or MatMul and Add, each with at most one of "
            f"{', '.join(ACTIVATIONS)} after it"
        )


def _add_bias(layer: _Layer, bias: Floats, title: str) -> None:
    count = len(layer.weight)
    if (bias.size != 1 and bias.shape[bias.ndim - 1 :] != (bias.size,)) or bias.size not in (
        1,
        count,
    ):
        raise ValueError(f"{title}: expected {count} biases, got shape {bias.shape}")
    layer.bias, layer.biased = np.broadcast_to(bias.ravel(), count), True


def _require(options: dict[str, Any], expected: dict[str, Any], title: str) -> None:
    for option, right in expected.items():
        got = options.get(option, right)
        # A float of ONNX has seven digits.
        if not (
            math.isclose(got, right, rel_tol=1e-6) if isinstance(right, float) else got == right
        ):
            raise ValueError(f"{title}: expected {option}={right!r}, got {got!r}")


def _numbers(tensor: Any, name: str) -> Floats:
    """The numbers of a known tensor."""
    try:
        numbers = np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        raise DataError(f"{name}: the tensor {tensor.name!r} is damaged: {error}") from None
    if numbers.dtype.kind != "f":
        raise ValueError(f"{name}: expected floats in {tensor.name!r}, got {numbers.dtype}")
    return numbers.astype(np.float64)
