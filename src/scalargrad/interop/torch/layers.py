"""Networks of `scalargrad.nn` as modules of PyTorch with the same weights, and back.

Both sides are made without weights, by a table, and then get each other's `state_dict`, in which
PyTorch says `weight` and `bias` for `w` (or the gains `g`) and `b`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...nn import GPT, MLP, Embedding, LayerNorm, Linear, Module, RMSNorm, SelfAttention
from ...nn.perceptron import perceptron
from .library import nn, torch
from .transformer import TorchGPT, TorchSelfAttention, norm


def to_torch(model: Module) -> Any:
    """A `torch.nn.Module` that computes what `model` does, with a copy of its weights.

    An `MLP` becomes a `Sequential` of `Linear`s and activations; `Linear`, `Embedding`,
    `RMSNorm` and `LayerNorm` become PyTorch's own, `SelfAttention` and `GPT` modules made of
    these. They are float64 and take examples along axes in front, as PyTorch's do: a `GPT` takes
    tokens (..., length). Results agree to rounding. An `MLP` with one output gives (..., 1).

    Raises `TypeError` for anything else, of which `torch_function` makes a module.
    """
    for pair in PAIRS:
        if type(model) is pair.ours:
            module = pair.to_torch(model).double()
            state = model.state_dict()
            names = _names(module, model)
            module.load_state_dict({names[k]: torch.from_numpy(x) for k, x in state.items()})
            return module
    raise TypeError(
        f"model: expected {', '.join(pair.ours.__name__ for pair in PAIRS)}, got "
        f"{type(model).__name__}: torch_function makes a module of any function of numbers"
    )


def from_torch(module: Any) -> Any:
    """The network of `scalargrad.nn` that computes what `module` does, with a copy of its weights.

    A `Sequential` of `Linear`s, each with one activation after it or none, becomes an `MLP`, in
    which a layer without a bias gets one of 0. The activations are `ReLU`, `LeakyReLU`, `Tanh`,
    `Sigmoid`, `GELU` and `Softplus`, with PyTorch's default options. `Identity`, `Dropout` and a
    `Flatten` in front are left out, as after `module.eval()`. `Linear`, `Embedding`, `RMSNorm`,
    `LayerNorm`, and what `to_torch` makes, become their namesakes.

    Raises `TypeError`, naming the module or its option, for what `scalargrad.nn` has not.
    """
    for pair in PAIRS:
        if type(module) is pair.theirs:
            model = pair.from_torch(module)
            state, names = module.state_dict(), _names(module, model)
            model.load_state_dict(
                {
                    name: state[names[name]].cpu().double().numpy()
                    if names[name] in state
                    else np.zeros_like(x)  # a bias that PyTorch's has not
                    for name, x in model.state_dict().items()
                }
            )
            return model
    raise TypeError(
        f"module: expected {', '.join(pair.theirs.__name__ for pair in PAIRS)}, got "
        f"{type(module).__name__}"
    )


def _names(module: Any, model: Module) -> dict[str, str]:
    """What PyTorch's `state_dict` calls the entries of ours."""
    words = {"w": "weight", "g": "weight", "b": "bias"}
    found = {}
    linear = [
        k for k, part in module.named_modules(remove_duplicate=False) if type(part) is nn.Linear
    ]
    for name in model.state_dict():
        path, _, last = name.rpartition(".")
        if isinstance(model, MLP):
            path = linear[int(path.removeprefix("layers."))]
        found[name] = f"{path}.{words[last]}" if path else words[last]
    return found


# --- activations ---------------------------------------------------------------------------------

# What PyTorch calls them, and the options that make them ours.
ACTIVATIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "relu": (nn.ReLU, {}),
    "leaky_relu": (nn.LeakyReLU, {"negative_slope": 0.01}),
    "tanh": (nn.Tanh, {}),
    "sigmoid": (nn.Sigmoid, {}),
    "gelu": (nn.GELU, {"approximate": "none"}),
    "softplus": (nn.Softplus, {"beta": 1.0}),
    "linear": (nn.Identity, {}),
}


def _activation(name: str) -> Any:
    made, options = ACTIVATIONS[name]
    if name == "softplus":  # beyond PyTorch's own threshold of 20, x is not yet softplus(x)
        options = {**options, "threshold": 40.0}
    return made(**options)


def _activation_name(module: Any, where: str) -> str | None:
    """What we call an activation of PyTorch's; None if it is no activation."""
    for name, (made, options) in ACTIVATIONS.items():
        if type(module) is made:
            for option, value in options.items():
                _require(module, option, value, where)
            return name
    return None


def _require(module: Any, option: str, expected: Any, where: str) -> None:
    got = getattr(module, option)
    if got != expected:
        raise TypeError(
            f"{where}: expected {type(module).__name__} with {option}={expected!r}, as in "
            f"scalargrad.nn, got {got!r}"
        )


# --- networks ------------------------------------------------------------------------------------


def _sequential(model: MLP) -> Any:
    parts: list[Any] = []
    for layer in model.layers:
        kinds = {n.activation if n.nonlin else "linear" for n in layer.neurons}
        if len(kinds) > 1:
            raise TypeError(
                f"model: expected one activation for all neurons of a layer, got {sorted(kinds)}"
            )
        parts.append(nn.Linear(len(layer.neurons[0].w), len(layer.neurons)))
        parts += [_activation(kind) for kind in kinds if kind != "linear"]
    return nn.Sequential(*parts)


def _perceptron(module: Any) -> MLP:
    layers: list[list[Any]] = []  # of each the Linear, and the names of what follows it
    for where, part in module.named_modules(remove_duplicate=False):
        if type(part) in (nn.Sequential, nn.Dropout, nn.Identity):
            continue
        if type(part) is nn.Linear:
            layers.append([part, "linear"])
        elif type(part) is nn.Flatten and not layers:
            continue
        else:
            name = _activation_name(part, f"module[{where}]")
            if name is None or not layers or layers[-1][1] != "linear":
                raise TypeError(
                    f"module[{where}]: expected Linear layers, each with at most one of "
                    f"{', '.join(made.__name__ for made, _ in ACTIVATIONS.values())} after it, "
                    f"got {type(part).__name__}"
                )
            layers[-1][1] = name
    if not layers:
        raise TypeError("module: expected a Sequential with a Linear in it, got none")
    sizes = [layers[0][0].in_features, *(part.out_features for part, _ in layers)]
    return perceptron(sizes, [name for _, name in layers])


def _rms_norm(module: Any) -> RMSNorm:
    if module.eps is None:
        raise TypeError(
            "module: expected RMSNorm with a number for eps, got eps=None, which depends on the "
            "dtype of its input"
        )
    return RMSNorm(_width(module), module.eps, gain=module.elementwise_affine)


def _layer_norm(module: Any) -> LayerNorm:
    _require(module, "elementwise_affine", True, "module")
    if module.bias is None:
        raise TypeError("module: expected LayerNorm with a bias, got bias=False")
    return LayerNorm(_width(module), module.eps)


def _width(module: Any) -> int:
    if len(module.normalized_shape) != 1:
        raise TypeError(
            f"module: expected {type(module).__name__} over one axis, got normalized_shape="
            f"{module.normalized_shape}"
        )
    return int(module.normalized_shape[0])


def _embedding(module: Any) -> Embedding:
    _require(module, "max_norm", None, "module")
    return Embedding(module.num_embeddings, module.embedding_dim, init="zeros")


def _torch_gpt(model: GPT) -> TorchGPT:
    width, heads = len(model.tokens.w[0]), model.blocks[0].attention.heads
    activations = [_activation(block.activation) for block in model.blocks]
    return TorchGPT(model.vocabulary, model.context, width, heads, activations, model.norm.eps)


def _gpt(module: TorchGPT) -> GPT:
    blocks = list(module.blocks)
    vocabulary, width = module.tokens.weight.shape
    names = [_activation_name(block.activation, "module.blocks") for block in blocks]
    model = GPT(
        vocabulary,
        len(module.positions.weight),
        width,
        blocks[0].attention.heads,
        len(blocks),
        rng=random.Random(0),
    )
    for block, name in zip(model.blocks, names):
        block.activation = str(name)
    return model


class Pair(NamedTuple):
    """A kind of network on both sides, and how each is made of the other, but for the weights."""

    ours: Any
    theirs: Any
    to_torch: Callable[[Any], Any]
    from_torch: Callable[[Any], Any]


PAIRS = (
    Pair(MLP, nn.Sequential, _sequential, _perceptron),
    Pair(
        Linear,
        nn.Linear,
        lambda x: nn.Linear(len(x.w[0]), len(x.w), bias=x.b is not None),
        lambda x: Linear(x.in_features, x.out_features, x.bias is not None, init="zeros"),
    ),
    Pair(Embedding, nn.Embedding, lambda x: nn.Embedding(len(x.w), len(x.w[0])), _embedding),
    Pair(RMSNorm, nn.RMSNorm, lambda x: norm(x.width, x.eps, x.g is not None), _rms_norm),
    Pair(LayerNorm, nn.LayerNorm, lambda x: nn.LayerNorm(x.width, eps=x.eps), _layer_norm),
    Pair(
        SelfAttention,
        TorchSelfAttention,
        lambda x: TorchSelfAttention(len(x.query.w), x.heads),
        lambda x: SelfAttention(x.query.in_features, x.heads, init="zeros"),
    ),
    Pair(GPT, TorchGPT, _torch_gpt, _gpt),
)
