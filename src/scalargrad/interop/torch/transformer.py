"""The transformer of `scalargrad.nn` as modules of PyTorch, whose parts have the same names."""

from __future__ import annotations

from ...errors import ShapeError
from .library import Tensor, nn


def norm(width: int, eps: float, gain: bool) -> nn.RMSNorm:
    """PyTorch's `RMSNorm` over the last axis."""
    return nn.RMSNorm(width, eps=eps, elementwise_affine=gain)


class TorchSelfAttention(nn.Module):
    """`nn.SelfAttention`: causal, with several heads, from (..., length, width) to the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs at all positions."""
        query, key, value = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(-3, -2)
            for part in (self.query, self.key, self.value)
        )
        attended = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(attended.transpose(-3, -2).flatten(-2))


class TorchBlock(nn.Module):
    """`nn.transformer.Block`: attention, then a two-layer network, each added to its input."""

    def __init__(self, width: int, heads: int, eps: float, activation: nn.Module) -> None:
        super().__init__()
        self.norm = norm(width, eps, gain=False)
        self.attention = TorchSelfAttention(width, heads)
        self.expand = nn.Linear(width, 4 * width, bias=False)
        self.contract = nn.Linear(4 * width, width, bias=False)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """The outputs at all positions, (..., length, width)."""
        x = x + self.attention(self.norm(x))
        return x + self.contract(self.activation(self.expand(self.norm(x))))


class TorchGPT(nn.Module):
    """`nn.GPT`: from tokens (..., length) to logits (..., length, vocabulary).

    `model.tokens.weight`, `model.blocks[0].attention.query.weight` and so on are the numbers that
    `model.tokens.w`, `model.blocks[0].attention.query.w` are in scalargrad.
    """

    def __init__(
        self,
        vocabulary: int,
        context: int,
        width: int,
        heads: int,
        activations: list[nn.Module],
        eps: float,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.norm = norm(width, eps, gain=False)
        self.blocks = nn.ModuleList(TorchBlock(width, heads, eps, each) for each in activations)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits at all positions; `ShapeError` for more tokens than the context."""
        length, context = tokens.shape[-1], len(self.positions.weight)
        if not 0 < length <= context:
            raise ShapeError(f"TorchGPT expected 1 to {context} tokens, got {length}")
        x = self.norm(self.tokens(tokens) + self.positions.weight[:length])
        for block in self.blocks:
            x = block(x)
        return self.head(x)
