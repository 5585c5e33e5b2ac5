"""micrograd's networks: a neuron, a layer of neurons, a multi-layer perceptron."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from ..engine import Value
from ..functional import Scalar
from ..rng import generator
from .initial import Initializer, initializer
from .module import Module
from .sizes import inputs, size


class Activation(NamedTuple):
    """What a neuron does to its sum, and what such a neuron is called."""

    title: str
    function: Callable[[Value], Value]


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation("ReLU", Value.relu),
    "leaky_relu": Activation("LeakyReLU", Value.leaky_relu),
    "tanh": Activation("Tanh", Value.tanh),
    "sigmoid": Activation("Sigmoid", Value.sigmoid),
    "gelu": Activation("GELU", Value.gelu),
    "softplus": Activation("Softplus", Value.softplus),
    "linear": Activation("Linear", operator.pos),
}


def activation_name(name: str, argument: str = "activation") -> str:
    """name, if `ACTIVATIONS` has it, else `ValueError` naming the argument."""
    if name not in ACTIVATIONS:
        raise ValueError(f"{argument}: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return name


class Neuron(Module):
    """One neuron: activation(b + w[0]*x[0] + w[1]*x[1] + ...), added from left to right.

    `nin` is the number of inputs. With `nonlin=False` the sum itself is the output. `activation`
    is a name in `ACTIVATIONS`, `init` one in `initial.INITIALIZERS` (or a function); `nout` is
    how many neurons share these inputs, which `init="xavier"` asks for. `b` starts at 0.

    Raises `ShapeError` when called with a number of inputs other than nin.
    """

    def __init__(
        self,
        nin: int,
        nonlin: bool = True,
        activation: str = "relu",
        *,
        init: str | Initializer = "uniform",
        rng: random.Random | None = None,
        nout: int = 1,
    ) -> None:
        rule, source, nin = initializer(init), generator(rng), size(nin, "nin")
        self.w = [Value(rule(source, nin, nout)) for _ in range(nin)]
        self.b = Value(0.0)
        self.nonlin = nonlin
        self.activation = activation_name(activation)

    def __call__(self, x: Sequence[Scalar] | Scalar) -> Value:
        """The neuron's output for the inputs x, a list of nin Values or numbers."""
        if not isinstance(x, list) or len(x) != len(self.w):
            x = inputs(x, len(self.w), "Neuron", "nin is set in Neuron(nin)")
        act: Value = sum(map(operator.mul, self.w, x), self.b)
        return ACTIVATIONS[self.activation].function(act) if self.nonlin else act

    def __repr__(self) -> str:
        title = ACTIVATIONS[self.activation].title if self.nonlin else "Linear"
        return f"{title}Neuron({len(self.w)})"


class Layer(Module):
    """`nout` neurons that see the same `nin` inputs. Further arguments are those of `Neuron`."""

    stacked: ClassVar[tuple[str, ...]] = ("neurons",)

    def __init__(self, nin: int, nout: int, **neuron: Any) -> None:
        nout = size(nout, "nout")
        self.neurons = [Neuron(nin, nout=nout, **neuron) for _ in range(nout)]

    def __call__(self, x: Sequence[Scalar] | Scalar) -> Any:
        """The neurons' outputs: a list of Values, or the Value itself where there is only one."""
        x = inputs(x, len(self.neurons[0].w), "Layer", "nin is set in Layer(nin, nout)")
        out = [neuron(x) for neuron in self.neurons]
        return out[0] if len(out) == 1 else out

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(str(neuron) for neuron in self.neurons)}]"


class MLP(Module):
    """A multi-layer perceptron: `nin` inputs, then layers of `nouts[0]`, `nouts[1]`, ... neurons.

    Every layer but the last applies `activation`; the last applies `output`, which is nothing
    for "linear". `output="relu"` is the all-ReLU network of the C ports. With the defaults and
    the same `random.seed` the weights are micrograd's. A network whose last layer has one neuron
    gives that Value itself, otherwise a list.

        >>> model = MLP(3, [4, 4, 1])
        >>> len(model.parameters())
        41

    `init` and `rng` are passed to every `Neuron`. Raises `ShapeError` when called with a number
    of inputs other than nin.
    """

    def __init__(
        self,
        nin: int,
        nouts: Sequence[int],
        activation: str = "relu",
        output: str = "linear",
        *,
        init: str | Initializer = "uniform",
        rng: random.Random | None = None,
    ) -> None:
        if not isinstance(nouts, list | tuple) or not nouts:
            raise TypeError(
                f"nouts: expected a list of layer sizes such as [16, 16, 1], got {nouts!r}"
            )
        hidden, last = activation_name(activation), activation_name(output, "output")
        names = [hidden] * (len(nouts) - 1) + [last]
        sizes = [size(nin, "nin"), *(size(n, f"nouts[{k}]") for k, n in enumerate(nouts))]
        self.layers = [
            Layer(before, after, nonlin=name != "linear", activation=name, init=init, rng=rng)
            for before, after, name in zip(sizes, sizes[1:], names)
        ]

    def __call__(self, x: Sequence[Scalar] | Scalar) -> Any:
        """The network's output for one example x, a list of nin Values or numbers."""
        nin = len(self.layers[0].neurons[0].w)
        x = inputs(x, nin, "MLP", "nin is set in MLP(nin, nouts)")
        for layer in self.layers:
            x = layer(x)
        return x

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(str(layer) for layer in self.layers)}]"


def perceptron(sizes: Sequence[int], activations: Sequence[str]) -> MLP:
    """An `MLP` in which each layer has an activation of its own, and all parameters are 0.

    `sizes` are the number of inputs and of the neurons of each layer.
    """
    model = MLP(sizes[0], sizes[1:], init="zeros")
    model.layers = [
        Layer(before, after, nonlin=name != "linear", activation=name, init="zeros")
        for before, after, name in zip(sizes, sizes[1:], activations)
    ]
    return model
