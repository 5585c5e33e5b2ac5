"""Attention and GPT: against matrix code in PyTorch, causality, memory, generation, errors."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scalargrad
from scalargrad import Value
from scalargrad.errors import ShapeError
from scalargrad.losses import cross_entropy
from scalargrad.nn import GPT, Block, SelfAttention
from scalargrad.nn.transformer import Memory, draw

pytestmark = pytest.mark.pure

TOKENS = [3, 0, 4, 4, 1]


def tiny(seed: int = 0, **options: Any) -> GPT:
    sizes: dict[str, Any] = {"width": 8, "heads": 2, "layers": 2, "std": 0.4} | options
    return GPT(5, 6, rng=random.Random(seed), **sizes)


def data(values: Any) -> Any:
    return [data(v) for v in values] if isinstance(values, list) else values.data


# --- the same network as matrices -----------------------------------------------------------------


def rms(x: Any) -> Any:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()


def attention(x: Any, w: dict[str, Any], heads: int) -> Any:
    """Causal self-attention of the rows of x, all positions at once, as PyTorch computes it."""
    import torch

    def split(name: str) -> Any:
        return (x @ w[name].T).reshape(len(x), heads, -1).transpose(0, 1)

    attended = torch.nn.functional.scaled_dot_product_attention(
        split("query.w"), split("key.w"), split("value.w"), is_causal=True
    )
    return attended.transpose(0, 1).reshape(len(x), -1) @ w["output.w"].T


def below(w: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): a for name, a in w.items() if name.startswith(prefix)}


def gpt(tokens: Sequence[int], w: dict[str, Any], heads: int, layers: int, activation: Any) -> Any:
    x = rms(w["tokens.w"][list(tokens)] + w["positions.w"][: len(tokens)])
    for k in range(layers):
        block = below(w, f"blocks.{k}.")
        x = x + attention(rms(x), below(block, "attention."), heads)
        x = x + activation(rms(x) @ block["expand.w"].T) @ block["contract.w"].T
    return x @ w["head.w"].T


def tensors(module: Any) -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    return {
        name: torch.tensor(array, requires_grad=True) for name, array in module.state_dict().items()
    }


def assert_same_gradients(module: Any, w: dict[str, Any]) -> None:
    for name, block in module._blocks().items():
        ours = np.array([parameter.grad for parameter in block.ravel()])
        assert ours == pytest.approx(w[name].grad.numpy().ravel(), rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_self_attention_is_that_of_pytorch(heads: int) -> None:
    torch = pytest.importorskip("torch")
    module = SelfAttention(4, heads, rng=random.Random(1))
    w, rng = tensors(module), random.Random(2)
    xs = [[rng.gauss(0, 1) for _ in range(4)] for _ in range(5)]
    tensor = torch.tensor(xs, dtype=torch.float64, requires_grad=True)
    values = [[Value(x) for x in row] for row in xs]
    ours, theirs = module(values), attention(tensor, w, heads)
    assert np.array(data(ours)) == pytest.approx(theirs.detach().numpy(), rel=1e-10, abs=1e-13)
    sum(y * (k + 1) for row in ours for k, y in enumerate(row)).backward()
    (theirs * torch.arange(1, 5)).sum().backward()
    assert_same_gradients(module, w)
    grads = np.array([[x.grad for x in row] for row in values])
    assert grads == pytest.approx(tensor.grad.numpy(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("activation", "heads", "layers"), [("relu", 2, 2), ("gelu", 4, 1)])
def test_gpt_and_its_gradients_are_those_of_pytorch(
    activation: str, heads: int, layers: int
) -> None:
    torch = pytest.importorskip("torch")
    model = tiny(activation=activation, heads=heads, layers=layers)
    w = tensors(model)
    theirs = gpt(TOKENS[:-1], w, heads, layers, getattr(torch.nn.functional, activation))
    ours = model(TOKENS[:-1])
    assert np.array(data(ours)) == pytest.approx(theirs.detach().numpy(), rel=1e-9, abs=1e-12)
    loss = cross_entropy(ours, TOKENS[1:])
    expected = torch.nn.functional.cross_entropy(theirs, torch.tensor(TOKENS[1:]))
    assert loss.data == pytest.approx(expected.item(), rel=1e-12)
    loss.backward()
    expected.backward()
    w["positions.w"].grad[len(TOKENS) :] = 0.0
    assert_same_gradients(model, w)


def test_attention_that_looks_ahead_is_caught() -> None:
    torch = pytest.importorskip("torch")

    class Acausal(SelfAttention):
        def __call__(self, xs: Any) -> Any:
            memory = Memory([self.key(x) for x in xs[1:]], [self.value(x) for x in xs[1:]])
            return [self.step(xs[0], memory)]

    module = Acausal(4, 2, rng=random.Random(1))
    xs = [[0.5, -1.0, 2.0, 0.1], [1.0, 0.0, -0.5, 0.3]]
    theirs = attention(torch.tensor(xs, dtype=torch.float64), tensors(module), 2)[0]
    assert data(module(xs)[0]) != pytest.approx(theirs.tolist(), rel=1e-6)


def test_logits_recorded_from_pytorch() -> None:
    logits = data(tiny()([3, 0, 4]))
    assert logits[0] == pytest.approx(
        [
            -4.584584255433984,
            0.47169614418322087,
            -2.2040342094165872,
            -1.1866237581768635,
            3.740899762725119,
        ],
        rel=1e-11,
    )
    assert logits[1] == pytest.approx(
        [
            -1.5702011106258196,
            -3.1912923874278665,
            -5.55221701241569,
            -1.531271609893729,
            6.192382471827228,
        ],
        rel=1e-11,
    )
    assert logits[2] == pytest.approx(
        [
            1.8336531357070898,
            -2.4643359774504168,
            -1.3646673528973388,
            0.3046741350116668,
            1.3731351854351415,
        ],
        rel=1e-11,
    )


# --- structure ------------------------------------------------------------------------------------


def test_the_parameters_are_those_of_microgpt() -> None:
    model = GPT(27, 16)
    assert len(model.parameters()) == 4192
    assert {name: array.shape for name, array in model.state_dict().items()} == {
        "tokens.w": (27, 16),
        "positions.w": (16, 16),
        "head.w": (27, 16),
        "blocks.0.attention.query.w": (16, 16),
        "blocks.0.attention.key.w": (16, 16),
        "blocks.0.attention.value.w": (16, 16),
        "blocks.0.attention.output.w": (16, 16),
        "blocks.0.expand.w": (64, 16),
        "blocks.0.contract.w": (16, 64),
    }
    assert repr(model) == (
        "GPT of 4192 parameters: vocabulary 27, context 16, [Block(16, 4, 'relu')]"
    )
    assert repr(model.blocks[0].attention) == "SelfAttention(16, 4)"


def test_weights_have_the_stated_spread() -> None:
    weights = np.array([p.data for p in GPT(27, 16, std=0.02, rng=random.Random(0)).parameters()])
    assert weights.std() == pytest.approx(0.02, rel=0.05)


def test_a_shared_seed_gives_the_same_model_and_a_private_one_leaves_it_alone() -> None:
    random.seed(3)
    shared = [p.data for p in GPT(5, 4, width=4).parameters()]
    assert shared == [p.data for p in GPT(5, 4, width=4, rng=random.Random(3)).parameters()]


def test_attention_weighs_equal_keys_equally() -> None:
    module = SelfAttention(2, 1)
    identity = np.eye(2)
    zero = np.zeros((2, 2))
    module.load_state_dict(
        {"query.w": identity, "key.w": zero, "value.w": identity, "output.w": identity}
    )
    assert data(module([[1.0, 0.0], [3.0, 8.0]])) == [[1.0, 0.0], [2.0, 4.0]]


@given(st.lists(st.integers(0, 4), min_size=2, max_size=6), st.data())
@settings(max_examples=15)
def test_later_tokens_never_change_earlier_logits(tokens: list[int], drawn: st.DataObject) -> None:
    model = tiny()
    cut = drawn.draw(st.integers(1, len(tokens) - 1))
    assert data(model(tokens))[:cut] == data(model(tokens[:cut]))


def test_gradients_flow_from_a_position_to_earlier_tokens_only() -> None:
    model = tiny()
    model([0, 1, 2])[1][0].backward()
    touched = [any(p.grad for p in row) for row in model.tokens.w]
    assert touched == [True, True, False, False, False]


def test_steps_with_a_memory_are_the_whole_at_once() -> None:
    model = tiny()
    memory = model.memory()
    assert [data(model.step(token, memory)) for token in TOKENS] == data(model(TOKENS))
    assert [len(part.keys) for part in memory] == [5, 5]


def test_a_traced_token_is_looked_up_by_the_tracer() -> None:
    class Traced:
        is_traced_index = True

        def take(self, values: Sequence[Value]) -> Value:
            return Value.apply("take", *values, const=3)

        def take_row(self, rows: Sequence[Sequence[Value]]) -> list[Value]:
            return [self.take(column) for column in zip(*rows)]

    model = tiny()
    assert data(model([Traced(), 0])) == data(model([3, 0]))


def test_a_repeating_text_is_learned_and_continued() -> None:
    model = GPT(3, 8, width=4, heads=2, std=0.3, rng=random.Random(4))
    text = [0, 1, 2, 0, 1, 2, 0, 1]
    losses = []
    for _ in range(60):
        loss = cross_entropy(model(text[:-1]), text[1:])
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= 0.5 * p.grad
        losses.append(loss.data)
    assert losses[0] > 0.9
    assert losses[-1] < 0.05
    assert model.generate([0], temperature=0.0) == [1, 2, 0, 1, 2, 0, 1]


# --- generation -----------------------------------------------------------------------------------


def test_the_same_seed_generates_the_same_tokens() -> None:
    model = tiny()
    first = model.generate([0], rng=random.Random(5))
    assert model.generate([0], rng=random.Random(5)) == first
    assert any(model.generate([0], rng=random.Random(seed)) != first for seed in range(10))
    random.seed(5)
    assert model.generate([0]) == first


def test_generation_ends_at_the_limit_the_stop_token_or_a_full_context() -> None:
    model = tiny()
    greedy = model.generate([0], temperature=0.0)
    assert len(greedy) == model.context - 1
    assert model.generate([0], temperature=0.0, limit=2) == greedy[:2]
    assert model.generate([0], temperature=0.0, limit=0) == []
    assert model.generate([0], temperature=0.0, stop=greedy[0]) == []
    assert len(model.generate([0, 1, 2], limit=99)) == model.context - 3
    assert model.generate([0, 1, 2, 3, 4, 0]) == []


def test_greedy_generation_takes_the_likeliest_token_each_time() -> None:
    model = tiny()
    tokens = [0]
    for token in model.generate([0], temperature=0.0):
        logits = data(model(tokens)[-1])
        assert token == logits.index(max(logits))
        tokens.append(token)


@pytest.mark.usefixtures("by_counts_alone")
def test_generation_keeps_no_graph() -> None:
    model = tiny()
    before = scalargrad.live_values()
    model.generate([0])
    assert scalargrad.live_values() == before


class Fixed:
    """A generator that draws what it is told."""

    def __init__(self, u: float) -> None:
        self.u = u

    def random(self) -> float:
        return self.u


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_with_the_probabilities_of_softmax(temperature: float) -> None:
    logits = [0.5, -1.0, 2.0, 0.0]
    weights = [math.exp(x / temperature) for x in logits]
    steps = 4000
    counts = [0] * 4
    for k in range(steps):
        counts[draw(logits, temperature, Fixed((k + 0.5) / steps))] += 1  # type: ignore[arg-type]
    for count, weight in zip(counts, weights):
        assert count / steps == pytest.approx(weight / sum(weights), abs=1 / steps)


def test_extreme_draws_and_logits_stay_in_range() -> None:
    for u in (0.0, 1.0 - 2**-53):
        assert draw([1e4, -1e4], 1.0, Fixed(u)) == 0  # type: ignore[arg-type]
        assert draw([0.0, 0.0], 1e-300, Fixed(u)) == round(u)  # type: ignore[arg-type]
        assert draw([-math.inf, 0.0], 1.0, Fixed(u)) == 1  # type: ignore[arg-type]
    assert draw([1.0, 3.0, 3.0], 0.0, Fixed(0.9)) == 1  # type: ignore[arg-type]


# --- errors ---------------------------------------------------------------------------------------


def test_too_many_or_no_tokens_are_refused() -> None:
    model = tiny()
    for tokens in ([], [0] * 7):
        with pytest.raises(ShapeError, match=f"GPT expected 1 to 6 tokens, got {len(tokens)}"):
            model(tokens)
    memory = model.memory()
    for _ in range(6):
        model.step(0, memory)
    with pytest.raises(ShapeError, match="position 6 is beyond the context of 6"):
        model.step(0, memory)
    with pytest.raises(ShapeError, match="GPT expected 1 to 6 tokens, got 7"):
        model.generate([0] * 7)
    with pytest.raises(ShapeError, match="GPT expected 1 to 6 tokens, got 0"):
        model.generate([])


@pytest.mark.parametrize("wrong", [-1, 5])
def test_a_token_that_is_not_in_the_vocabulary_is_refused(wrong: int) -> None:
    for call in (tiny(), tiny().generate):
        with pytest.raises(IndexError, match=f"index {wrong} is out of range for 5 values"):
            call([0, wrong])


@pytest.mark.parametrize("wrong", [1.0, True, "a", None])
def test_a_token_that_is_not_an_int_is_refused(wrong: Any) -> None:
    for call in (tiny(), tiny().generate):
        with pytest.raises(TypeError, match="index: expected an int, got"):
            call([wrong])


def test_other_wrong_arguments_are_named() -> None:
    with pytest.raises(ShapeError, match="a width of 6 cannot be shared equally by 4 heads"):
        SelfAttention(6, 4)
    with pytest.raises(ValueError, match="activation: expected one of"):
        Block(4, 2, "rleu")
    with pytest.raises(ValueError, match="layers: expected at least 1, got 0"):
        GPT(5, 6, layers=0)
    with pytest.raises(ShapeError, match="Linear expected 4 inputs, got 3"):
        SelfAttention(4, 2)([[1.0, 2.0, 3.0]])
    for wrong in (-1.0, math.nan):
        with pytest.raises(ValueError, match="temperature: expected at least 0, got"):
            tiny().generate([0], temperature=wrong)
    with pytest.raises(ValueError, match="limit: expected at least 0, got -1"):
        tiny().generate([0], limit=-1)
    with pytest.raises(ValueError, match="stop: expected a token from 0 to 4, got 9"):
        tiny().generate([0], stop=9)


def test_logits_that_are_nan_are_never_drawn_from() -> None:
    with pytest.raises(ValueError, match="logits: expected numbers, got nan"):
        draw([0.0, math.nan], 1.0, Fixed(0.5))  # type: ignore[arg-type]
