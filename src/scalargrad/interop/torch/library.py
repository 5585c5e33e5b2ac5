"""PyTorch, and the error where it is missing."""

from __future__ import annotations

from typing import Any, TypeAlias

from ...errors import MissingExtraError

try:
    import torch
except ImportError:
    raise MissingExtraError("torch", "torch", "scalargrad.interop.torch") from None

from torch import nn

__all__ = ["Tensor", "nn", "torch"]

Tensor: TypeAlias = Any  # a torch.Tensor; PyTorch need not be there when types are checked
