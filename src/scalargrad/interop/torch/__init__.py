"""PyTorch: scalar programs as differentiable modules, and networks of one as those of the other.

`torch_function` makes a `torch.nn.Module` of any function of single numbers, `to_torch` one of
PyTorch's own layers of a network, and `from_torch` a network of single numbers of such layers.
Files saved by `scalargrad.checkpoint.save` are safetensors, which PyTorch's users read as they
are. Raises `MissingExtraError` where PyTorch is missing.
"""

from .function import TorchFunction as TorchFunction
from .function import torch_function as torch_function
from .layers import from_torch as from_torch
from .layers import to_torch as to_torch
