"""Modules, neurons, layers and norms: structure, numbers, gradients, state, errors."""

from __future__ import annotations

import copy
import math
import pickle
import random
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scalargrad
from checking import ForbidReading
from scalargrad import Value
from scalargrad.errors import ShapeError, StateError
from scalargrad.modes import modes
from scalargrad.nn import (
    GPT,
    MLP,
    Embedding,
    Layer,
    LayerNorm,
    Linear,
    Module,
    Neuron,
    RMSNorm,
    SelfAttention,
)
from scalargrad.nn.initial import INITIALIZERS, initializer
from scalargrad.nn.perceptron import ACTIVATIONS

pytestmark = pytest.mark.pure

small = st.floats(-4, 4)


def data(values: Any) -> Any:
    return [data(v) for v in values] if isinstance(values, list) else values.data


# --- Neuron, Layer, MLP ---------------------------------------------------------------------------


def test_a_neuron_starts_from_its_bias_and_adds_from_left_to_right() -> None:
    neuron = Neuron(3, rng=random.Random(0))
    neuron.b.data = 0.1
    x = [0.7, -1.3, 2.9]
    expected = neuron.b.data
    for w, xk in zip(neuron.w, x):
        expected += w.data * xk
    assert neuron(x).data == max(0.0, expected)
    neuron.nonlin = False
    assert neuron(x).data == expected


@pytest.mark.parametrize(
    ("name", "function", "title"),
    [
        ("relu", lambda a: max(0.0, a), "ReLU"),
        ("leaky_relu", lambda a: a if a > 0 else 0.01 * a, "LeakyReLU"),
        ("tanh", math.tanh, "Tanh"),
        ("sigmoid", lambda a: 1 / (1 + math.exp(-a)), "Sigmoid"),
        ("gelu", lambda a: a * 0.5 * math.erfc(-a / math.sqrt(2)), "GELU"),
        ("softplus", lambda a: math.log1p(math.exp(a)), "Softplus"),
        ("linear", lambda a: a, "Linear"),
    ],
)
@pytest.mark.parametrize("x", [-1.75, 0.6])
def test_every_activation(
    name: str, function: Callable[[float], float], title: str, x: float
) -> None:
    neuron = Neuron(1, activation=name)
    neuron.w[0].data = 1.0
    assert neuron([x]).data == pytest.approx(function(x), rel=1e-14)
    assert repr(neuron) == f"{title}Neuron(1)"


def test_every_activation_is_tested() -> None:
    (mark,) = (m for m in test_every_activation.pytestmark if m.args[0] != "x")
    assert {row[0] for row in mark.args[1]} == set(ACTIVATIONS)


def test_networks_are_shown_as_micrograd_shows_them() -> None:
    assert repr(MLP(2, [2, 1])) == (
        "MLP of [Layer of [ReLUNeuron(2), ReLUNeuron(2)], Layer of [LinearNeuron(2)]]"
    )
    assert repr(MLP(1, [1], output="tanh")) == "MLP of [Layer of [TanhNeuron(1)]]"
    assert repr(Layer(2, 1, nonlin=False)) == "Layer of [LinearNeuron(2)]"


def test_the_only_output_is_bare_and_several_are_a_list() -> None:
    assert isinstance(MLP(2, [3, 1])([1, 2]), Value)
    assert isinstance(Layer(2, 1)([1, 2]), Value)
    assert len(MLP(2, [3, 2])([1, 2])) == 2


def test_a_layer_of_one_neuron_feeds_the_next() -> None:
    model = MLP(1, [1, 1, 2], activation="linear")
    for parameter in model.parameters():
        parameter.data = 2.0
    assert data(model(3)) == [38.0, 38.0]
    assert data(model([3])) == data(model(np.array(3.0))) == [38.0, 38.0]


@pytest.mark.parametrize("x", [[1, 2], (1.0, 2.0), np.array([1.0, 2.0]), [Value(1), 2.0]])
def test_inputs_may_be_any_sequence_of_numbers(x: Any) -> None:
    for part in (MLP(2, [3, 1]), Layer(2, 1), Neuron(2)):
        assert part(x).data == part([Value(1.0), Value(2.0)]).data
    linear = Linear(2, 2)
    assert data(linear(x)) == data(linear([Value(1.0), Value(2.0)]))


@pytest.mark.usefixtures("by_counts_alone")
def test_an_input_number_is_one_leaf_however_many_neurons_see_it() -> None:
    model = MLP(2, [8, 1])
    before = scalargrad.live_values()
    y = model([0.5, 0.25])
    inputs, operations = 2, 8 * (2 + 2 + 1) + (8 + 8)
    assert scalargrad.live_values() - before == inputs + operations
    del y
    assert scalargrad.live_values() == before


@given(st.lists(small, min_size=2, max_size=2), st.integers(0, 1000))
def test_relu_output_is_never_negative(x: list[float], seed: int) -> None:
    model = MLP(2, [3, 2], output="relu", rng=random.Random(seed))
    hidden = [max(0.0, n([*x]).data) for n in model.layers[0].neurons]
    for y, neuron in zip(model(x), model.layers[1].neurons):
        total = neuron.b.data
        for w, h in zip(neuron.w, hidden):
            total += w.data * h
        assert y.data == max(0.0, total)


def refuses_wrong_lengths(neuron: Callable[[list[float]], object]) -> bool:
    for x in ([], [1.0], [1.0, 2.0, 3.0]):
        try:
            neuron(x)
        except ValueError:
            continue
        return False
    return True


def test_inputs_are_never_cut_short_and_a_neuron_that_does_is_caught() -> None:
    class Truncating(Neuron):
        def __call__(self, x: Any) -> Value:
            return sum((w * xk for w, xk in zip(self.w, x)), self.b)

    for part in (Neuron(2), Layer(2, 1), Layer(2, 3), MLP(2, [3, 1]), Linear(2, 3)):
        assert refuses_wrong_lengths(part)
    assert not refuses_wrong_lengths(Truncating(2))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (MLP(2, [3, 1]), r"MLP expected 2 inputs, got 3: nin is set in MLP\(nin, nouts\)"),
        (Layer(2, 3), r"Layer expected 2 inputs, got 3: nin is set in Layer\(nin, nout\)"),
        (Neuron(2), r"Neuron expected 2 inputs, got 3: nin is set in Neuron\(nin\)"),
        (Neuron(1), r"Neuron expected 1 input, got 3"),
        (Linear(2, 3), r"Linear expected 2 inputs, got 3: nin is set in Linear\(nin, nout\)"),
        (RMSNorm(2), r"RMSNorm expected 2 inputs, got 3: the width is set in RMSNorm\(width\)"),
        (LayerNorm(2), r"LayerNorm expected 2 inputs, got 3: the width is set in LayerNorm"),
    ],
)
def test_a_wrong_length_says_where_the_length_is_set(
    part: Callable[[list[float]], object], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        part([1.0, 2.0, 3.0])


def test_a_batch_or_text_is_not_an_example() -> None:
    with pytest.raises(TypeError, match=r"x\[0\]: expected a Value or a real number, got list"):
        MLP(2, [1])([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(TypeError, match=r"x\[0\]: expected a Value or a real number, got str"):
        MLP(2, [1])("ab")
    with pytest.raises(TypeError, match="expected a Value or a real number, got NoneType"):
        MLP(1, [1])(None)
    with pytest.raises(TypeError, match="expected a Value or a real number, got ndarray"):
        MLP(1, [1])(np.array("a"))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: MLP(2, 1), TypeError, r"nouts: expected a list of layer sizes.*got 1"),
        (lambda: MLP(2, []), TypeError, r"nouts: expected a list of layer sizes.*got \[\]"),
        (lambda: MLP(2, [3, 0]), ValueError, r"nouts\[1\]: expected at least 1, got 0"),
        (lambda: MLP(0, [1]), ValueError, "nin: expected at least 1, got 0"),
        (lambda: MLP(2.0, [1]), TypeError, "nin: expected an int, got float 2.0"),
        (lambda: MLP(True, [1]), TypeError, "nin: expected an int, got bool True"),
        (lambda: MLP(2, [1], activation="rleu"), ValueError, "activation: expected one of relu, "),
        (lambda: MLP(2, [1], output="soft"), ValueError, "output: expected one of relu, "),
        (lambda: MLP(2, [1], init="hee"), ValueError, "init: expected one of uniform, "),
        (lambda: MLP(2, [1], rng=1337), TypeError, r"rng: expected a random\.Random"),
        (lambda: Layer(2, -1), ValueError, "nout: expected at least 1, got -1"),
        (lambda: Neuron("2"), TypeError, "nin: expected an int, got str '2'"),
        (lambda: Linear(2, None), TypeError, "nout: expected an int, got NoneType None"),
    ],
)
def test_wrong_arguments_are_named(
    build: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build()


# --- starting weights -----------------------------------------------------------------------------


def drawn(init: str, nin: int = 200, nout: int = 50) -> np.ndarray:
    layer = Layer(nin, nout, init=init, rng=random.Random(5))
    return layer.state_dict()["w"]


def test_initial_weights_have_the_stated_spread() -> None:
    spread = {
        "uniform": 1 / math.sqrt(3),
        "fan_in": 1 / math.sqrt(3 * 200),
        "xavier": math.sqrt(2 / (200 + 50)),
        "he": math.sqrt(2 / 200),
        "zeros": 0.0,
    }
    assert set(spread) == set(INITIALIZERS)
    for init, std in spread.items():
        assert drawn(init).std() == pytest.approx(std, rel=0.03)
        assert abs(drawn(init).mean()) <= 0.05 * std
    assert np.abs(drawn("uniform")).max() <= 1.0
    assert np.abs(drawn("xavier")).max() <= math.sqrt(6 / 250)


def test_biases_start_at_zero_whatever_the_weights() -> None:
    for init in INITIALIZERS:
        assert not MLP(3, [4, 2], init=init).state_dict()["layers.0.b"].any()


def test_an_initial_rule_may_be_a_function() -> None:
    sizes: list[tuple[int, int]] = []

    def rule(rng: Any, nin: int, nout: int) -> float:
        sizes.append((nin, nout))
        return 0.5

    assert data(MLP(2, [3, 1], init=rule).layers[1].neurons[0].w) == [0.5] * 3
    assert sizes == [(2, 3)] * 6 + [(3, 1)] * 3
    assert initializer(rule) is rule


def test_the_same_seed_gives_the_same_network() -> None:
    def weights(rng: random.Random | None = None) -> list[float]:
        return [p.data for p in MLP(3, [4, 1], rng=rng).parameters()]

    scalargrad.rng.manual_seed(11)
    first = weights()
    scalargrad.rng.manual_seed(11)
    assert weights() == first
    assert weights(random.Random(11)) == first
    assert weights() != first


# --- Linear, Embedding, norms ---------------------------------------------------------------------


@given(st.lists(small, min_size=3, max_size=3))
def test_linear_is_a_matrix_product(x: list[float]) -> None:
    linear = Linear(3, 2, rng=random.Random(1))
    linear.b[0].data, linear.b[1].data = 0.5, -0.25
    state = linear.state_dict()
    assert data(linear(x)) == pytest.approx(state["w"] @ x + state["b"], rel=1e-12, abs=1e-12)
    unbiased = Linear(3, 2, bias=False, rng=random.Random(1))
    assert data(unbiased(x)) == pytest.approx(state["w"] @ x, rel=1e-12, abs=1e-12)
    assert list(unbiased.state_dict()) == ["w"]


def test_linear_always_gives_a_list() -> None:
    assert isinstance(Linear(2, 1)([1, 2]), list)
    assert repr(Linear(2, 1)) == "Linear(2, 1)"
    assert repr(Linear(2, 1, bias=False)) == "Linear(2, 1, bias=False)"


def test_an_embedding_gives_its_row_and_only_that_row_learns() -> None:
    table = Embedding(4, 3, rng=random.Random(2))
    row = table(2)
    sum(row).backward()
    assert data(row) == data(table.w[2])
    assert [[w.grad for w in r] for r in table.w] == [[0.0] * 3, [0.0] * 3, [1.0] * 3, [0.0] * 3]
    assert repr(table) == "Embedding(4, 3)"


@pytest.mark.parametrize("wrong", [-1, 4])
def test_an_embedding_refuses_what_is_not_in_the_table(wrong: int) -> None:
    with pytest.raises(IndexError, match=f"index {wrong} is out of range for 4 values"):
        Embedding(4, 3)(wrong)


def test_norms_scale_to_one() -> None:
    x = [3.0, -1.0, 2.0, 0.5]
    y = np.array(data(RMSNorm(4, eps=0.0)(x)))
    assert np.mean(y * y) == pytest.approx(1.0, rel=1e-14)
    z = np.array(data(LayerNorm(4, eps=0.0)(x)))
    assert (z.mean(), z.var()) == pytest.approx((0.0, 1.0), abs=1e-14)


def test_norms_of_zeros_are_zeros() -> None:
    assert data(RMSNorm(3)([0, 0, 0])) == [0.0] * 3
    assert data(LayerNorm(3)([2, 2, 2])) == [0.0] * 3


def test_the_parameters_of_norms_scale_and_shift() -> None:
    x = [3.0, -1.0, 2.0]
    rms, layer = RMSNorm(3), LayerNorm(3)
    plain = data(layer(x))
    for k in range(3):
        rms.g[k].data = layer.g[k].data = k + 2.0
        layer.b[k].data = 10.0 * k
    bare = data(RMSNorm(3, gain=False)(x))
    assert data(rms(x)) == [b * (k + 2.0) for k, b in enumerate(bare)]
    assert data(layer(x)) == [p * (k + 2.0) + 10.0 * k for k, p in enumerate(plain)]
    assert RMSNorm(3, gain=False).parameters() == []
    assert [repr(RMSNorm(3)), repr(LayerNorm(3))] == ["RMSNorm(3)", "LayerNorm(3)"]
    assert repr(RMSNorm(3, gain=False)) == "RMSNorm(3, gain=False)"


# --- PyTorch --------------------------------------------------------------------------------------


def assert_as_torch(ours: Module, theirs: Any, names: dict[str, str], x: list[float]) -> None:
    """Equal outputs and equal gradients of (weighted) outputs, by parameter name."""
    torch = pytest.importorskip("torch")
    theirs.double().load_state_dict(
        {torch_name: torch.tensor(ours.state_dict()[name]) for name, torch_name in names.items()}
    )
    inputs, tensor = [Value(xk) for xk in x], torch.tensor(x, dtype=torch.float64)
    tensor.requires_grad_()
    y, expected = ours(inputs), theirs(tensor)  # type: ignore[operator]
    assert data(y) == pytest.approx(expected.tolist(), rel=1e-12, abs=1e-14)
    sum(yk * (k + 1) for k, yk in enumerate(y)).backward()
    (expected * torch.arange(1, len(y) + 1)).sum().backward()
    assert [v.grad for v in inputs] == pytest.approx(tensor.grad.tolist(), rel=1e-10, abs=1e-12)
    ours_by_name = gradients(ours)
    theirs_by_name = dict(theirs.named_parameters())
    for name, torch_name in names.items():
        grad = theirs_by_name[torch_name].grad.numpy()
        assert ours_by_name[name] == pytest.approx(grad, rel=1e-10, abs=1e-12)


def gradients(module: Module) -> dict[str, np.ndarray]:
    mirror = copy.deepcopy(module)
    for parameter in mirror.parameters():
        parameter.data = parameter.grad
    return mirror.state_dict()


def shaken(module: Module) -> Module:
    rng = random.Random(9)
    for parameter in module.parameters():
        parameter.data += rng.uniform(-0.5, 0.5)
    return module


X = [0.3, -1.2, 2.5]


def test_linear_and_norms_are_those_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    weight_bias, gain = {"w": "weight", "b": "bias"}, {"g": "weight"}
    assert_as_torch(shaken(Linear(3, 2)), torch.nn.Linear(3, 2), weight_bias, X)
    assert_as_torch(shaken(LayerNorm(3)), torch.nn.LayerNorm(3), {"g": "weight", "b": "bias"}, X)
    assert_as_torch(shaken(RMSNorm(3)), torch.nn.RMSNorm(3, eps=1e-5), gain, X)


def test_a_norm_that_divides_by_n_minus_one_is_caught() -> None:
    torch = pytest.importorskip("torch")

    class Unbiased(LayerNorm):
        def __call__(self, x: Any) -> list[Value]:
            return [y * math.sqrt(2 / 3) for y in super().__call__(x)]

    with pytest.raises(AssertionError):
        assert_as_torch(Unbiased(3), torch.nn.LayerNorm(3), {"g": "weight", "b": "bias"}, X)


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"linear"}))
def test_an_mlp_is_that_of_pytorch(activation: str) -> None:
    torch = pytest.importorskip("torch")
    modules = {
        "relu": torch.nn.ReLU,
        "leaky_relu": torch.nn.LeakyReLU,
        "tanh": torch.nn.Tanh,
        "sigmoid": torch.nn.Sigmoid,
        "gelu": torch.nn.GELU,
        "softplus": torch.nn.Softplus,
    }
    theirs = torch.nn.Sequential(
        torch.nn.Linear(3, 4), modules[activation](), torch.nn.Linear(4, 2)
    )
    names = {
        f"layers.{k}.{a}": f"{2 * k}.{b}"
        for k in (0, 1)
        for a, b in (("w", "weight"), ("b", "bias"))
    }
    assert_as_torch(shaken(MLP(3, [4, 2], activation=activation)), theirs, names, X)


def test_numbers_computed_by_pytorch() -> None:
    layer_norm = [-0.15355866503749624, -1.1407215117071143, 1.2942801767446104]
    rms_norm = [0.18629073073823552, -0.7451629229529421, 1.5524227561519628]
    assert data(LayerNorm(3)(X)) == pytest.approx(layer_norm, rel=1e-13)
    assert data(RMSNorm(3)(X)) == pytest.approx(rms_norm, rel=1e-13)


# --- Module: parameters ---------------------------------------------------------------------------


class Odd(Module):
    """Parameters in every place a module may keep them."""

    def __init__(self) -> None:
        self.bare = Value(1.0)
        self.pair = (Value(2.0), Value(3.0))
        self.table = [[Value(4.0), Value(5.0)], [Value(6.0), Value(7.0)]]
        self.ragged = [[Value(8.0)], [Value(9.0), Value(10.0)]]
        self.named = {"left": Neuron(1), "right": Value(11.0)}
        self.array = np.array([[Value(12.0)], [Value(13.0)]])
        self.tied = self.bare
        self.setting, self.title, self.nothing, self.none = 3.5, "odd", [], None
        self.result = self.bare * 2
        self._cache = Value(99.0)


def test_parameters_are_found_in_attributes_lists_dicts_and_arrays() -> None:
    odd = Odd()
    names = [name for name, _ in odd.named_parameters()]
    assert names == [
        "bare",
        "pair.0",
        "pair.1",
        "table.0.0",
        "table.0.1",
        "table.1.0",
        "table.1.1",
        "ragged.0.0",
        "ragged.1.0",
        "ragged.1.1",
        "named.left.w.0",
        "named.left.b",
        "named.right",
        "array.0.0",
        "array.1.0",
    ]
    assert odd.parameters() == [p for _, p in odd.named_parameters()]


def test_names_follow_the_attributes_and_parameters_follow_micrograds_order() -> None:
    model = MLP(2, [4, 1])
    named = dict(model.named_parameters())
    assert named["layers.0.neurons.3.w.1"] is model.layers[0].neurons[3].w[1]
    assert named["layers.1.neurons.0.b"] is model.layers[1].neurons[0].b
    expected = [p for layer in model.layers for n in layer.neurons for p in [*n.w, n.b]]
    assert model.parameters() == list(named.values()) == expected


def test_shared_and_self_containing_modules_are_visited_once() -> None:
    class Ring(Module):
        def __init__(self) -> None:
            self.w = Value(1.0)
            self.me = self
            self.twice = [Neuron(1)] * 2

    ring = Ring()
    assert [n for n, _ in ring.named_parameters()] == ["w", "twice.0.w.0", "twice.0.b"]
    assert ring.parameters() == [p for _, p in ring.named_parameters()]
    assert set(ring.state_dict()) == {"w", "twice.0.w", "twice.0.b"}


def test_parameters_assigned_later_are_found() -> None:
    model = MLP(1, [1])
    model.scale = Value(3.0)  # type: ignore[attr-defined]
    assert model.parameters()[-1].data == 3.0


def test_zero_grad_clears_every_parameter() -> None:
    model = MLP(2, [3, 1], activation="tanh")
    model([1.0, -2.0]).backward()
    assert any(p.grad for p in model.parameters())
    model.zero_grad()
    assert [p.grad for p in model.parameters()] == [0.0] * 13


def test_a_module_without_parameters_is_a_module() -> None:
    assert Module().parameters() == []
    assert Module().state_dict() == {}
    Module().load_state_dict({})
    assert repr(Odd()) == "Odd of 15 parameters"


def test_a_network_can_be_copied_and_pickled() -> None:
    model = MLP(2, [3, 1], activation="tanh")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other([1.0, 2.0]).data == model([1.0, 2.0]).data
        other.parameters()[0].data += 1.0
        assert other([1.0, 2.0]).data != model([1.0, 2.0]).data


# --- Module: state --------------------------------------------------------------------------------


def test_state_is_one_array_for_each_kind_of_parameter() -> None:
    model = MLP(2, [3, 1])
    state = model.state_dict()
    assert {name: array.shape for name, array in state.items()} == {
        "layers.0.w": (3, 2),
        "layers.0.b": (3,),
        "layers.1.w": (1, 3),
        "layers.1.b": (1,),
    }
    assert all(array.dtype == np.float64 for array in state.values())
    assert state["layers.0.w"][2].tolist() == data(model.layers[0].neurons[2].w)
    assert {n: a.shape for n, a in Odd().state_dict().items()} == {
        "bare": (),
        "pair": (2,),
        "table": (2, 2),
        "ragged.0": (1,),
        "ragged.1": (2,),
        "named.left.w": (1,),
        "named.left.b": (),
        "named.right": (),
        "array": (2, 1),
        "tied": (),
    }


@pytest.mark.parametrize(
    "build",
    [
        lambda: MLP(2, [3, 1]),
        lambda: MLP(3, [3, 3]),
        lambda: Linear(2, 3),
        lambda: LayerNorm(3),
        lambda: Odd(),
        lambda: GPT(5, 4, width=4, heads=2, layers=2),
    ],
)
def test_state_survives_saving_and_loading(build: Callable[[], Module]) -> None:
    saved, loaded = shaken(build()), build()
    assert [p.data for p in saved.parameters()] != [p.data for p in loaded.parameters()]
    loaded.load_state_dict(saved.state_dict())
    assert [p.data for p in saved.parameters()] == [p.data for p in loaded.parameters()]


def test_a_state_is_a_copy() -> None:
    model = Neuron(2)
    state = model.state_dict()
    before = data(model.w)
    state["w"][:] = 7.0
    assert data(model.w) == before
    model.load_state_dict(state)
    assert data(model.w) == [7.0, 7.0]


def test_state_may_be_lists_other_types_and_any_order() -> None:
    model = Neuron(2)
    model.load_state_dict({"b": 3, "w": [np.float32(0.5), 2]})
    assert (data(model.w), model.b.data) == ([0.5, 2.0], 3.0)


def test_everything_wrong_with_a_state_is_listed_and_nothing_is_loaded() -> None:
    model = MLP(2, [3, 1])
    before = [p.data for p in model.parameters()]
    state: dict[str, Any] = dict(model.state_dict())
    state["layers.0.b"] = np.zeros(4)
    state["layers.1.w"] = np.array([["a", "b", "c"]])
    state["layers.9.w"] = np.zeros(1)
    del state["layers.1.b"]
    state["layers.0.w"] = np.zeros((3, 2))
    with pytest.raises(StateError) as error:
        model.load_state_dict(state)
    for problem in (
        "layers.0.b has shape (4,), expected (3,)",
        "layers.1.w is not an array of real numbers (dtype <U1)",
        "layers.9.w is unexpected",
        "layers.1.b is missing",
        "Nothing was loaded",
    ):
        assert problem in str(error.value)
    assert "layers.0.w" not in str(error.value)
    assert [p.data for p in model.parameters()] == before


@pytest.mark.parametrize("wrong", [[1.0, [2.0]], [1j, 2.0], [None, 1.0], "ab", [[1.0, 2.0]], 1.0])
def test_a_state_that_is_not_numbers_of_that_shape_is_refused(wrong: object) -> None:
    model = Neuron(2)
    with pytest.raises(StateError, match=r"w (is not an array|has shape)"):
        model.load_state_dict({"w": wrong, "b": 0.0})


def test_two_numbers_for_one_shared_parameter_are_refused() -> None:
    odd = Odd()
    state = odd.state_dict() | {"tied": np.array(5.0)}
    with pytest.raises(StateError, match="tied shares parameters with another entry but differs"):
        odd.load_state_dict(state)
    assert odd.bare.data == 1.0
    odd.load_state_dict(state | {"bare": np.array(5.0)})
    assert odd.bare.data == 5.0
    both_nan = {"bare": np.array(math.nan), "tied": np.array(math.nan)}
    odd.load_state_dict(odd.state_dict() | both_nan)
    assert math.isnan(odd.bare.data)


def test_stacked_modules_that_differ_are_saved_one_by_one() -> None:
    layer = Layer(2, 2)
    layer.neurons[1] = Neuron(3)
    shapes = {name: array.shape for name, array in layer.state_dict().items()}
    assert shapes == {
        "neurons.0.w": (2,),
        "neurons.0.b": (),
        "neurons.1.w": (3,),
        "neurons.1.b": (),
    }


def test_two_entries_of_one_name_are_refused() -> None:
    class Clash(Module):
        stacked: ClassVar[tuple[str, ...]] = ("neurons",)

        def __init__(self) -> None:
            self.b = Value(0.0)
            self.neurons = [Neuron(1)]

    with pytest.raises(StateError, match="Clash has two entries called b: rename an attribute"):
        Clash().state_dict()


def test_a_state_goes_through_safetensors(tmp_path: Any) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    saved, loaded = shaken(MLP(2, [3, 1])), MLP(2, [3, 1])
    numpy.save_file(saved.state_dict(), tmp_path / "model.safetensors")
    loaded.load_state_dict(numpy.load_file(tmp_path / "model.safetensors"))
    assert [p.data for p in saved.parameters()] == [p.data for p in loaded.parameters()]


# --- tracing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_no_layer_looks_at_a_number(activation: str) -> None:
    x = [Value(0.5), Value(-1.0), Value(2.0), Value(0.0)]
    parts: list[Any] = [
        MLP(4, [3, 2], activation=activation),
        Linear(4, 2),
        RMSNorm(4),
        LayerNorm(4),
    ]
    table, attention = Embedding(3, 4), SelfAttention(4, 2)
    model = GPT(5, 4, width=4, heads=2, activation=activation)
    with modes(tracer=ForbidReading()):
        for part in parts:
            part(x)
        table(1)
        attention([x, x])
        model([1, 2, 3])
