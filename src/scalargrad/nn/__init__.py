"""Neural networks made of single numbers.

`Neuron`, `Layer` and `MLP` are micrograd's, with the same starting weights from the same seed.
`Linear`, `Embedding`, `RMSNorm`, `LayerNorm`, `SelfAttention` and `GPT` are the parts of today's
language models, written number by number. Each takes one example; `scalargrad.compile` makes a
batch of it.
"""

from .layers import Embedding as Embedding
from .layers import LayerNorm as LayerNorm
from .layers import Linear as Linear
from .layers import RMSNorm as RMSNorm
from .module import Module as Module
from .perceptron import MLP as MLP
from .perceptron import Layer as Layer
from .perceptron import Neuron as Neuron
from .transformer import GPT as GPT
from .transformer import Block as Block
from .transformer import SelfAttention as SelfAttention
