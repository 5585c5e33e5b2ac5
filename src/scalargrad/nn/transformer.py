"""A language model, number by number: causal self-attention and a small GPT."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

from ..engine import Value
from ..errors import ShapeError
from ..functional import Index, Scalar, dot, softmax
from ..modes import no_grad
from ..rng import Generator, generator
from .initial import Initializer, normal
from .layers import Embedding, Linear, RMSNorm
from .module import Module
from .perceptron import ACTIVATIONS, activation_name
from .sizes import size


class Memory(NamedTuple):
    """What an attention layer remembers of the positions so far: a key and a value for each."""

    keys: list[list[Value]]
    values: list[list[Value]]


class SelfAttention(Module):
    """Causal self-attention with several heads (Vaswani et al., 2017).

    Each position asks a question (query) of itself and every position before it; where a key
    answers, that position's value is taken along. For each head, on its share of the width:

        score[s]  = query . key[s] / sqrt(width/heads)       for positions s up to this one
        weight    = softmax(score)
        output    = sum of weight[s] * value[s]

    and the heads' outputs, joined, go through one more linear map. None of the four maps has a
    bias. `width` must be a multiple of `heads`, else it is a `ShapeError`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        init: str | Initializer = "fan_in",
        rng: random.Random | None = None,
    ) -> None:
        width, self.heads = size(width, "width"), size(heads, "heads")
        if width % self.heads:
            raise ShapeError(
                f"SelfAttention: a width of {width} cannot be shared equally by {heads} heads: "
                "choose a width that is a multiple of heads"
            )
        self.query = Linear(width, width, bias=False, init=init, rng=rng)
        self.key = Linear(width, width, bias=False, init=init, rng=rng)
        self.value = Linear(width, width, bias=False, init=init, rng=rng)
        self.output = Linear(width, width, bias=False, init=init, rng=rng)

    def step(self, x: Sequence[Scalar], memory: Memory) -> list[Value]:
        """The output at the position after those in `memory`, to which it is added."""
        query = self.query(x)
        memory.keys.append(self.key(x))
        memory.values.append(self.value(x))
        attended: list[Value] = []
        share = len(query) // self.heads
        for start in range(0, len(query), share):
            head = slice(start, start + share)
            scores = [dot(query[head], key[head]) / math.sqrt(share) for key in memory.keys]
            weights = softmax(scores)
            for column in zip(*(value[head] for value in memory.values)):
                attended.append(dot(weights, column))
        return self.output(attended)

    def __call__(self, xs: Sequence[Sequence[Scalar]]) -> list[list[Value]]:
        """The outputs at all positions of a sequence, each a list of width Values."""
        memory = Memory([], [])
        return [self.step(x, memory) for x in xs]

    def __repr__(self) -> str:
        return f"SelfAttention({len(self.query.w)}, {self.heads})"


class Block(Module):
    """One layer of a transformer: attention, then a two-layer network, each added to its input.

        x = x + attention(norm(x))
        x = x + contract(activation(expand(norm(x))))

    The inner network is four times as wide as x.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        activation: str = "relu",
        *,
        init: str | Initializer = "fan_in",
        rng: random.Random | None = None,
    ) -> None:
        self.norm = RMSNorm(width, gain=False)
        self.attention = SelfAttention(width, heads, init=init, rng=rng)
        self.expand = Linear(width, 4 * width, bias=False, init=init, rng=rng)
        self.contract = Linear(4 * width, width, bias=False, init=init, rng=rng)
        self.activation = activation_name(activation)

    def step(self, x: Sequence[Scalar], memory: Memory) -> list[Value]:
        """The output at the position after those in `memory`, to which it is added."""
        attended = self.attention.step(self.norm(x), memory)
        middle = [a + xk for a, xk in zip(attended, x)]
        function = ACTIVATIONS[self.activation].function
        hidden = [function(h) for h in self.expand(self.norm(middle))]
        return [c + m for c, m in zip(self.contract(hidden), middle)]

    def __repr__(self) -> str:
        return f"Block({len(self.contract.w)}, {self.attention.heads}, {self.activation!r})"


class GPT(Module):
    """A language model in the manner of GPT-2 (Radford et al., 2019), reduced to its essence.

    Given tokens, whole numbers from 0 to `vocabulary` - 1, it predicts at every position which
    token comes next. A token's embedding plus its position's embedding goes through `layers`
    blocks of attention (`heads` heads) and a two-layer network, and a linear map gives one logit
    per token of the vocabulary. Norms are RMSNorm without gains and nothing has a bias, as in
    Karpathy's microgpt. `context` is the greatest number of positions; weights start from a
    normal distribution with standard deviation `std`.

        logits = model(tokens)                     one list of logits per position
        loss = cross_entropy(model(tokens[:-1]), tokens[1:])
    """

    def __init__(
        self,
        vocabulary: int,
        context: int,
        width: int = 16,
        heads: int = 4,
        layers: int = 1,
        activation: str = "relu",
        *,
        std: float = 0.08,
        rng: random.Random | None = None,
    ) -> None:
        init, width = normal(std), size(width, "width")
        self.tokens = Embedding(size(vocabulary, "vocabulary"), width, init=init, rng=rng)
        self.positions = Embedding(size(context, "context"), width, init=init, rng=rng)
        self.head = Linear(width, vocabulary, bias=False, init=init, rng=rng)
        self.norm = RMSNorm(width, gain=False)
        self.blocks = [
            Block(width, heads, activation, init=init, rng=rng)
            for _ in range(size(layers, "layers"))
        ]

    @property
    def context(self) -> int:
        """The greatest number of positions."""
        return len(self.positions.w)

    @property
    def vocabulary(self) -> int:
        """The number of different tokens."""
        return len(self.tokens.w)

    def memory(self) -> list[Memory]:
        """An empty memory, one part per block, for `step`."""
        return [Memory([], []) for _ in self.blocks]

    def step(self, token: Index, memory: list[Memory]) -> list[Value]:
        """The logits of the token that follows `token`, the next one after those in `memory`.

        Raises `ShapeError` when memory already holds `context` positions.
        """
        position = len(memory[0].keys)
        if position >= self.context:
            raise ShapeError(
                f"GPT: position {position} is beyond the context of {self.context}: "
                "pass fewer tokens, or build GPT(vocabulary, context) with a larger context"
            )
        # The position is known when the program is built, so its row needs no `take`.
        embedded = zip(self.tokens(token), self.positions.w[position])
        x = self.norm([t + p for t, p in embedded])
        for block, part in zip(self.blocks, memory):
            x = block.step(x, part)
        return self.head(x)

    def __call__(self, tokens: Sequence[Index]) -> list[list[Value]]:
        """The logits at every position: position k predicts token k + 1 from tokens 0 to k.

        Raises `ShapeError` for more tokens than the context and `IndexError` for a token that
        is not in the vocabulary.
        """
        return self._read(tokens)[1]

    def _read(self, tokens: Sequence[Index]) -> tuple[list[Memory], list[list[Value]]]:
        """The memory and the logits after reading `tokens`."""
        if not 0 < len(tokens) <= self.context:
            raise ShapeError(
                f"GPT expected 1 to {self.context} tokens, got {len(tokens)}: "
                "the context is set in GPT(vocabulary, context)"
            )
        memory = self.memory()
        return memory, [self.step(token, memory) for token in tokens]

    def generate(
        self,
        start: Sequence[int],
        *,
        stop: int | None = None,
        limit: int | None = None,
        temperature: float = 1.0,
        rng: random.Random | None = None,
    ) -> list[int]:
        """Continue `start` with tokens drawn one by one from the model's own predictions.

        Ends before `stop` would be added, after `limit` new tokens, or when the context is full.
        A lower `temperature` keeps closer to the likeliest tokens; at 0 only the likeliest is
        taken. Gives the new tokens alone. Raises as calling the model does for `start`, and
        `ValueError` for a negative temperature or limit, or a stop that is not a token.
        """
        if not temperature >= 0.0:
            raise ValueError(f"temperature: expected at least 0, got {temperature!r}")
        if limit is not None and limit < 0:
            raise ValueError(f"limit: expected at least 0, got {limit!r}")
        if stop is not None and not 0 <= stop < self.vocabulary:
            raise ValueError(
                f"stop: expected a token from 0 to {self.vocabulary - 1}, got {stop!r}"
            )
        source, room, new = generator(rng), self.context - len(start), list[int]()
        with no_grad():
            memory, logits = self._read(start)
            while len(new) < (room if limit is None else min(limit, room)):
                token = draw(logits[-1], temperature, source)
                if token == stop:
                    break
                new.append(token)
                logits.append(self.step(token, memory))
        return new

    def __repr__(self) -> str:
        return (
            f"GPT of {len(self.parameters())} parameters: vocabulary {self.vocabulary}, "
            f"context {self.context}, {self.blocks}"
        )


def draw(logits: Sequence[Scalar], temperature: float, rng: Generator) -> int:
    """An index drawn with probability softmax(logits/temperature); the largest at 0.

    Raises `ValueError` if the logits contain nan.
    """
    numbers = [float(logit) for logit in logits]
    if any(math.isnan(number) for number in numbers):
        raise ValueError("logits: expected numbers, got nan: has the training diverged?")
    largest = max(numbers)
    if temperature == 0.0:
        return numbers.index(largest)
    weights = [math.exp((number - largest) / temperature) for number in numbers]
    remaining = rng.random() * sum(weights)
    for index, weight in enumerate(weights):
        remaining -= weight
        if remaining < 0.0:
            return index
    return numbers.index(largest)
