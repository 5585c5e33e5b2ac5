"""Scalar programs in PyTorch, against the eager engine, PyTorch's own layers and its checks."""

from __future__ import annotations

import copy
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: pip install 'scalargrad[torch]'"
)

import scalargrad as sg  # noqa: E402
from scalargrad import nn  # noqa: E402
from scalargrad.checkpoint import save_model  # noqa: E402
from scalargrad.errors import ShapeError, TraceError  # noqa: E402
from scalargrad.interop.torch import from_torch, to_torch, torch_function  # noqa: E402
from scalargrad.interop.torch import layers as torch_layers  # noqa: E402
from scalargrad.nn.perceptron import ACTIVATIONS  # noqa: E402

gradcheck, gradgradcheck = torch.autograd.gradcheck, torch.autograd.gradgradcheck
SOME = settings(deadline=None, max_examples=20)


def seeded(number: int = 0) -> random.Random:
    return random.Random(number)


def drawn(*shape: int, seed: int = 0, **options: Any) -> Any:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.requires_grad_(options.get("grad", True))


def called_with(module: Any) -> Any:
    """The module as a function of its arguments and its weight."""

    def function(weight: Any, *args: Any) -> Any:
        return torch.func.functional_call(module, {"weight": weight}, args)

    return function


# --- functions -----------------------------------------------------------------------------------


def test_a_network_and_its_gradients_are_those_of_the_eager_engine() -> None:
    model = nn.MLP(3, [4, 2], activation="tanh", rng=seeded())
    f = torch_function(model, [0.0] * 3)
    x = drawn(5, 3)
    y = f(x)
    assert y.shape == (5, 2)
    assert y.dtype == torch.float64
    cotangents = drawn(5, 2, seed=1, grad=False)
    y.backward(cotangents)
    inputs = [[sg.Value(number) for number in row] for row in x.tolist()]
    for row, expected, c in zip(inputs, y.tolist(), cotangents.tolist()):
        outputs = model(row)
        assert [out.data for out in outputs] == expected
        sg.functional.dot(c, outputs).backward()
    np.testing.assert_allclose(x.grad, [[v.grad for v in row] for row in inputs], 1e-14)
    assert f.captured == sorted(model.parameters(), key=lambda v: v.number)
    np.testing.assert_allclose(f.weight.grad, [v.grad for v in f.captured], 1e-13, 1e-15)


PROGRAMS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "vector": (
        lambda x: [x[0] * x[1], (x[1] - x[2]).exp(), x[0].sin() / (x[2] ** 2 + 1.0)],
        ((3,),),
    ),
    "two arguments": (lambda x, t: sg.functional.dot(x, x).sqrt() * t.tanh(), ((2,), ())),
    "where": (lambda x, y: sg.where(x < y, x * x * y, y.softplus()), ((), ())),
    "inner gradient": (lambda x: sg.grad(lambda z: z[0] ** 3 * z[1].sin())(x), ((2,),)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_first_and_second_derivatives_pass_the_checks_of_pytorch(name: str) -> None:
    function, shapes = PROGRAMS[name]
    f = torch_function(function, *(torch.zeros(shape) + 0.5 for shape in shapes))
    args = tuple(drawn(4, *shape, seed=k) for k, shape in enumerate(shapes))
    assert gradcheck(f, args)
    assert gradgradcheck(f, args)


def test_derivatives_with_respect_to_parameters_pass_the_checks_of_pytorch() -> None:
    f = torch_function(nn.MLP(2, [3, 2], activation="softplus", rng=seeded()), [0.0, 0.0])
    args = (f.weight.detach().requires_grad_(), drawn(3, 2))
    assert gradcheck(called_with(f), args)
    assert gradgradcheck(called_with(f), args)


def test_a_planted_error_in_the_derivative_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from scalargrad.interop.torch.derivatives import Program

    right = Program.gradient

    def wrong(self: Program, parameters: Any, numbers: Any, indices: Any) -> Any:
        own, found = right(self, parameters, numbers, indices)
        return own, found * 1.01

    f = torch_function(lambda x: x.sin() * x, 0.0)
    monkeypatch.setattr(Program, "gradient", wrong)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        gradcheck(f, (drawn(3),))


def test_derivatives_of_any_order() -> None:
    y = x = drawn()
    y = torch_function(lambda z: (2.0 * z).sin(), 0.0)(x)
    for order in range(1, 6):
        (y,) = torch.autograd.grad(y, x, create_graph=True)
        expected = 2.0**order * math.sin(2.0 * x.item() + order * math.pi / 2.0)
        assert y.item() == pytest.approx(expected, rel=1e-12)


@SOME
@given(
    axes=st.lists(st.integers(0, 3), max_size=3).map(tuple),
    kept=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_axes_in_front_are_examples_and_are_broadcast(axes: tuple[int, ...], kept: Any) -> None:
    f = torch_function(lambda x, a: [x[0] * a, x[1] + a, x[0] - x[1]], [1.0, 2.0], 3.0)
    x = drawn(*axes, 2)
    shorter = tuple(n if keep else 1 for n, keep in zip(axes, kept))
    a = drawn(*shorter[1:], seed=1)
    y = f(x, a)
    expected = torch.stack([x[..., 0] * a, x[..., 1] + a, x[..., 0] - x[..., 1]], -1)
    assert torch.equal(y, expected)
    got = torch.autograd.grad((y**2).sum(), (x, a))
    right = torch.autograd.grad((expected**2).sum(), (x, a))
    for one, other in zip(got, right):
        torch.testing.assert_close(one, other)


def test_arguments_and_results_in_containers_keep_their_structure() -> None:
    def function(state: Any, k: Any, how: str) -> Any:
        assert how == "up"
        a, b = state["a"], state["b"]
        return {"picked": sg.take(a, k), "pair": (b[0][1] * 2.0, [b[1][0], a[0]]), "k": k}

    f = torch_function(function, {"a": [0.0, 1.0], "b": np.zeros((2, 2))}, 1, "up")
    a, b = drawn(3, 2), drawn(3, 2, 2, seed=1)
    out = f({"a": a, "b": b}, torch.tensor([0, 1, 1]), "up")
    assert torch.equal(out["picked"], torch.stack([a[0, 0], a[1, 1], a[2, 1]]))
    assert torch.equal(out["pair"][0], 2.0 * b[:, 0, 1])
    assert torch.equal(out["pair"][1], torch.stack([b[:, 1, 0], a[:, 0]], -1))
    assert out["k"].dtype == torch.int64
    listed = f({"a": [a[:, 0], 2.0], "b": [[b[:, 0, 0], b[:, 0, 1]], b[:, 1]]}, 0, "up")
    assert torch.equal(listed["pair"][1], out["pair"][1])


def test_results_have_the_dtype_of_the_arguments() -> None:
    f = torch_function(nn.Linear(2, 2, rng=seeded()), [0.0, 0.0])
    assert f(torch.zeros(2)).dtype == torch.float32
    assert f([0.0, 1.0]).dtype == torch.float64
    assert f(torch.zeros(2, dtype=torch.int64)).dtype == torch.float64
    assert f.float()(np.zeros(2)).dtype == torch.float32


def test_a_custom_activation_trains_inside_a_model() -> None:
    slope = sg.Value(0.1)
    curve = torch_function(lambda x: sg.where(x > 0.0, x, slope * x), 1.0)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(1, 8), curve, torch.nn.Linear(8, 1))
    x = torch.linspace(-1.0, 1.0, 20)[:, None]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = ((model(x) - x**2) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10.0
    assert slope.data == 0.1
    curve.write_back()
    assert slope.data == curve.weight.item() != 0.1
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), model(x))
    twin[1].weight.data += 1.0
    assert not torch.equal(twin(x), model(x))


def test_a_compiled_function_and_one_without_arguments() -> None:
    w = sg.Value(3.0)
    assert torch_function(sg.compile(lambda x: w * x), 0.0)(2.0).item() == 6.0
    f = torch_function(lambda: w * w)
    y = f()
    y.backward()
    assert (y.item(), f.weight.grad.item()) == (9.0, 6.0)


def test_a_branch_not_taken_gives_no_nan() -> None:
    f = torch_function(lambda x: sg.where(x > 0.0, x.sqrt(), 0.0 * x), 1.0)
    x = torch.tensor([4.0, -1.0], dtype=torch.float64, requires_grad=True)
    f(x).sum().backward()
    assert x.grad.tolist() == [0.25, 0.0]


def test_branches_are_taken_by_the_examples_of_a_call_together() -> None:
    f = torch_function(lambda x: x * 2.0 if x > 0.0 else -x, 1.0)
    assert f(torch.tensor([1.0, 2.0])).tolist() == [2.0, 4.0]
    assert f(torch.tensor(-3.0)).tolist() == 3.0
    with pytest.raises(TraceError, match="is True for example 0 and False for example 1"):
        f(torch.tensor([1.0, -2.0]))


def test_a_branch_with_other_parameters_is_refused() -> None:
    w, v = sg.Value(1.0), sg.Value(2.0)
    f = torch_function(lambda x: w * x if x > 0.0 else v * x, 1.0)
    with pytest.raises(TraceError, match="uses other Values than the example"):
        f(-1.0)


def test_wrong_calls_name_the_argument() -> None:
    f = torch_function(lambda x, k: sg.take(x, k), [1.0, 2.0], 0)
    with pytest.raises(TypeError, match=r"expected 2 arguments \(x, k\), got 1"):
        f(torch.zeros(2))
    with pytest.raises(ShapeError, match=r"x: expected shape \(\.\.\., 2\) .* got \(4, 3\)"):
        f(torch.zeros(4, 3), 0)
    with pytest.raises(ShapeError, match=r"can be broadcast, got \(3,\), \(2,\)"):
        f(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(TypeError, match="k: expected integers, as in the example"):
        f(torch.zeros(2), torch.zeros(()))
    with pytest.raises(IndexError):
        f(torch.zeros(2), 2)
    with pytest.raises(ShapeError, match=r"x: expected .* got 3 things"):
        f([1.0, 2.0, 3.0], 0)
    with pytest.raises(TypeError, match="x: expected a tensor"):
        f("text", 0)
    with pytest.raises(TypeError, match="as in the example"):
        torch_function(lambda x, how: x, 1.0, "a")(1.0, "b")
    with pytest.raises(ValueError, match="batch='mean'"):
        torch_function(sg.compile(lambda x: x, batch="mean"), 1.0)


# --- networks ------------------------------------------------------------------------------------

NETWORKS = {
    "mlp": lambda: nn.MLP(3, [4, 5, 2], activation="tanh", output="sigmoid", rng=seeded()),
    "one output": lambda: nn.MLP(3, [4, 1], rng=seeded()),
    "linear": lambda: nn.Linear(3, 2, rng=seeded()),
    "no bias": lambda: nn.Linear(3, 2, bias=False, rng=seeded()),
    "rms norm": lambda: nn.RMSNorm(3),
    "rms norm without gains": lambda: nn.RMSNorm(3, 1e-3, gain=False),
    "layer norm": lambda: nn.LayerNorm(3, 1e-3),
    **{
        name: lambda name=name: nn.MLP(3, [4, 2], activation=name, output=name, rng=seeded())
        for name in ACTIVATIONS
    },
}


def shaken(model: nn.Module) -> nn.Module:
    """The model, with every parameter another number."""
    rng = seeded(7)
    for v in model.parameters():
        v.data += rng.gauss(0.0, 0.3)
    return model


def numbers(y: Any) -> Any:
    return [numbers(v) for v in y] if isinstance(y, list) else y.data


def agree(ours: Any, theirs: Any, inputs: Any) -> None:
    for x in inputs:
        right = np.array(numbers(ours(x.tolist())))
        got = theirs(x).detach().numpy()
        np.testing.assert_allclose(got.reshape(right.shape), right, 1e-12, 1e-14)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_there_and_back(name: str) -> None:
    model = shaken(NETWORKS[name]())
    module = to_torch(model)
    x = drawn(6, 3, grad=False) * 3.0
    agree(model, module, x)
    assert len(module(x)) == 6
    back = from_torch(module)
    assert type(back) is type(model)
    assert repr(back) == repr(model)
    for key, block in model.state_dict().items():
        np.testing.assert_array_equal(back.state_dict()[key], block)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_transformers_there_and_back(activation: str) -> None:
    model = nn.GPT(7, 5, 8, 2, 2, activation, std=0.5, rng=seeded())
    module = to_torch(model)
    tokens = torch.tensor([[1, 4, 2, 6, 0], [0, 0, 3, 1, 5]])
    agree(model, module, tokens)
    agree(model, module, tokens[:, :3])
    assert module(tokens[None]).shape == (1, 2, 5, 7)
    back = from_torch(module)
    assert repr(back) == repr(model)
    assert numbers(back(tokens[0].tolist())) == numbers(model(tokens[0].tolist()))
    with pytest.raises(ShapeError, match="1 to 5 tokens, got 6"):
        module(torch.zeros(6, dtype=torch.int64))


def test_attention_and_embeddings_there_and_back() -> None:
    attention = nn.SelfAttention(6, 3, rng=seeded())
    agree(attention, to_torch(attention), drawn(2, 4, 6, grad=False))
    assert repr(from_torch(to_torch(attention))) == repr(attention)
    table = nn.Embedding(4, 3, rng=seeded())
    agree(table, to_torch(table), torch.arange(4))
    assert numbers(from_torch(to_torch(table))(2)) == numbers(table(2))


def test_a_network_is_the_same_as_a_module_and_as_a_function() -> None:
    model = nn.MLP(2, [5, 3], activation="gelu", rng=seeded())
    x = drawn(4, 2)
    gradients = []
    for f in (to_torch(model), torch_function(model, [0.0, 0.0])):
        (f(x) ** 3).sum().backward()
        gradients.append(x.grad.clone())
        x.grad = None
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


def test_networks_made_in_pytorch() -> None:
    part = torch.nn
    torch.manual_seed(1)
    relu = part.ReLU()
    module = part.Sequential(
        part.Flatten(),
        part.Sequential(part.Linear(3, 4), relu, part.Dropout()),
        *(part.Linear(4, 4, bias=False), part.Identity(), relu),
        *(part.Linear(4, 3), part.Linear(3, 2), part.Tanh()),
    ).eval()
    model = from_torch(module)
    x = torch.randn(5, 3)
    got = [numbers(model(row)) for row in x.tolist()]
    np.testing.assert_allclose(got, module(x).detach(), 1e-5, 1e-6)
    before = numbers(model([1.0, 2.0, 3.0]))
    with torch.no_grad():
        module[1][0].weight += 1.0
    assert numbers(model([1.0, 2.0, 3.0])) == before


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (lambda part: part.Conv2d(1, 1, 1), "got Conv2d"),
        (
            lambda part: part.Sequential(part.Linear(2, 2), part.BatchNorm1d(2)),
            r"\[1\].*BatchNorm1d",
        ),
        (
            lambda part: part.Sequential(part.Linear(2, 2), part.Sequential(part.PReLU())),
            r"\[1.0\]",
        ),
        (lambda part: part.Sequential(part.Tanh(), part.Linear(2, 2)), r"\[0\].*got Tanh"),
        (
            lambda part: part.Sequential(part.Linear(2, 2), part.ReLU(), part.Tanh()),
            r"\[2\].*got Tanh",
        ),
        (
            lambda part: part.Sequential(part.Linear(2, 2), part.LeakyReLU(0.2)),
            "negative_slope=0.01",
        ),
        (lambda part: part.Sequential(part.Linear(2, 2), part.GELU("tanh")), "approximate='none'"),
        (lambda part: part.Sequential(), "got none"),
        (lambda part: part.LayerNorm([2, 3]), r"over one axis"),
        (lambda part: part.LayerNorm(2, elementwise_affine=False), "elementwise_affine=True"),
        (lambda part: part.LayerNorm(2, bias=False), "bias=False"),
        (lambda part: part.RMSNorm(2), "eps=None"),
        (lambda part: part.Embedding(2, 2, max_norm=1.0), "max_norm=None"),
    ],
)
def test_what_has_no_counterpart_is_named(module: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        from_torch(module(torch.nn))


def test_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="got Neuron: torch_function"):
        to_torch(nn.Neuron(2))
    model = nn.MLP(2, [2], activation="relu", output="tanh", rng=seeded())
    model.layers[0].neurons[0].activation = "relu"
    with pytest.raises(TypeError, match="one activation for all neurons"):
        to_torch(model)


def test_a_planted_error_in_the_weights_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(torch_layers.ACTIVATIONS, "gelu", (torch.nn.GELU, {"approximate": "tanh"}))
    model = NETWORKS["gelu"]()
    with pytest.raises(AssertionError):
        agree(model, to_torch(model), drawn(6, 3, grad=False) * 3.0)


def test_the_function_transforms_of_pytorch() -> None:
    f = torch_function(lambda x: x[0] ** 2 * x[1].sin(), [0.0, 0.0])
    x = torch.tensor([0.5, 2.0], dtype=torch.float64)
    slope = torch.func.grad(f)(x)
    torch.testing.assert_close(slope, torch.stack([2 * x[0] * x[1].sin(), x[0] ** 2 * x[1].cos()]))
    model = nn.MLP(2, [3, 2], activation="tanh", rng=seeded())
    ours, theirs = torch_function(model, [0.0, 0.0]), to_torch(model)
    xs = drawn(4, 2, grad=False)
    jacobian = torch.func.jacrev
    for transformed in (jacobian, lambda g: jacobian(jacobian(g))):
        torch.testing.assert_close(transformed(ours)(x), transformed(theirs)(x))
        rows = torch.vmap(transformed(ours))(xs)
        torch.testing.assert_close(rows, torch.vmap(transformed(theirs))(xs))


@pytest.mark.parametrize("kept", [(), (1, 3)])
def test_arguments_of_several_shapes_and_types(kept: tuple[int, ...]) -> None:
    f = torch_function(lambda x, y, k: x[0] * y - x[1] * sg.take([x[0], y], k), [0.0, 0.0], 0.0, 0)
    x, y = drawn(2, 3, 2), drawn(*kept).to(torch.float32)
    k = torch.tensor([0, 1, 1])
    chosen = torch.where(k == 0, x[..., 0], y.to(torch.float64))
    torch.testing.assert_close(f(x, y, k), x[..., 0] * y - x[..., 1] * chosen)
    assert f(x[0, 0], 2.0, 1).shape == ()
    assert f(x[0], 2, 1).shape == (3,)


def test_the_conversion_leaves_the_random_numbers_of_both_alone() -> None:
    sg.manual_seed(5)
    model = nn.MLP(2, [2])
    module = to_torch(model)
    before = random.getstate()
    from_torch(module)
    assert random.getstate() == before


def test_saved_models_are_read_by_pytorchs_users(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = nn.GPT(5, 4, 4, 2, rng=seeded())
    save_model(tmp_path / "model.safetensors", model.state_dict(), {})
    state = load_file(tmp_path / "model.safetensors")
    theirs = {name.rpartition(".")[0] + ".weight": tensor for name, tensor in state.items()}
    module = to_torch(nn.GPT(5, 4, 4, 2, rng=seeded(1)))
    module.load_state_dict(theirs)
    agree(model, module, torch.tensor([[1, 2, 3, 4]]))
