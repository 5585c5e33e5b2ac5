"""A small language model on one document."""

from __future__ import annotations

import random
from typing import Any

from scalargrad import Value, losses, nn

from .case import Case, Made


def document(
    length: int = 8, vocabulary: int = 27, width: int = 16, heads: int = 4, layers: int = 1
) -> Case:
    """The loss of predicting each of `length` tokens from those before it."""

    def make(rng: random.Random) -> Made:
        model = nn.GPT(vocabulary, max(length, 8), width, heads, layers, rng=rng)

        def loss(_: list[Value], tokens: list[Any]) -> Value:
            return losses.cross_entropy(model(tokens[:-1]), tokens[1:])

        return model.parameters(), loss

    deep = f", {layers} layers" if layers > 1 else ""
    return Case(f"GPT, {length} tokens{deep}", make, 0, (vocabulary,) * (length + 1))
