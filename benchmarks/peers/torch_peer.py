"""The training steps in PyTorch, eager or through `torch.compile`, on one thread."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

import scalargrad as sg
from benchmarks.tasks import Arrays, Task

torch.set_num_threads(1)
OPTIMIZERS = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}


class TorchPeer:
    """A step is zero_grad, loss, backward, and a fused optimiser's step."""

    def __init__(self, task: Task, dtype: str, lr: float, compiled: bool = False) -> None:
        kind = getattr(torch, dtype)
        self._names = list(task.weights)
        self._parameters = [
            torch.tensor(array, dtype=kind, requires_grad=True) for array in task.weights.values()
        ]
        self._x = torch.tensor(task.x, dtype=kind if task.x.dtype == float else torch.int64)
        self._y = torch.tensor(task.y, dtype=kind if task.y.dtype == float else torch.int64)
        loss = _gpt(task) if isinstance(task.model, sg.nn.GPT) else _perceptron(task)
        self._loss = torch.compile(loss, fullgraph=True) if compiled else loss
        self._optimizer = OPTIMIZERS[task.optimizer](self._parameters, lr=lr, fused=True)

    def gradients(self) -> tuple[float, Arrays]:
        """The loss and its gradient by name."""
        loss = self._backward()
        found = (p.grad.numpy() for p in self._parameters)
        return float(loss), dict(zip(self._names, found))

    def step(self) -> float:
        """One step; the loss before it."""
        loss = self._backward()
        self._optimizer.step()
        return float(loss)

    def _backward(self) -> torch.Tensor:
        self._optimizer.zero_grad()
        loss = self._loss(self._parameters, self._x, self._y)
        loss.backward()
        return loss.detach()


class CompiledTorchPeer(TorchPeer):
    """The loss and its gradients through `torch.compile`."""

    def __init__(self, task: Task, dtype: str, lr: float) -> None:
        super().__init__(task, dtype, lr, compiled=True)


def _perceptron(task: Task) -> Any:
    decay, hinge = task.decay, task.loss is sg.losses.hinge

    def loss(parameters: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        *hidden, (w, b) = zip(parameters[::2], parameters[1::2])
        for weight, bias in hidden:
            x = F.linear(x, weight, bias).relu()
        x = F.linear(x, w, b)
        value = (1 - y * x[:, 0]).relu().mean() if hinge else F.cross_entropy(x, y)
        return value + decay * sum((p * p).sum() for p in parameters) if decay else value

    return loss


def _gpt(task: Task) -> Any:
    heads = task.model.blocks[0].attention.heads

    def norm(x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, x.shape[-1:], eps=1e-5)

    def loss(parameters: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        tokens, positions, head, query, key, value, output, expand, contract = parameters
        documents, length = x.shape
        x = norm(F.embedding(x, tokens) + positions[:length])
        together = F.linear(norm(x), torch.cat([query, key, value]))
        shape = (documents, length, 3, heads, len(query) // heads)
        q, k, v = together.view(shape).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + F.linear(attended.transpose(1, 2).reshape(x.shape), output)
        x = x + F.linear(F.linear(norm(x), expand).relu(), contract)
        return F.cross_entropy(F.linear(x, head).flatten(0, 1), y.flatten())

    return loss
