"""The other contestants: each does a task's training step its own way, from the same numbers.

`contestants` says by name where each one's class is, and what it needs to run here;
`require_agreement` compares its numbers with scalargrad's, which is done before it is timed.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Protocol

import numpy as np

import scalargrad as sg
from benchmarks.tasks import Arrays, Task

IDLE = 1e-9  # the learning rate while timing: the numbers stay what they are
TRIED = 1e-3  # and while checking
STEPS = 3
AGREEMENT = {"float64": 1e-9, "float32": 1e-4}
DRIFT = {"float64": 1e-7, "float32": 1e-3}  # after training: roundings have grown


class Peer(Protocol):
    """A contestant, made as `Peer(task, dtype, lr)`. It has `steps` if a call does several."""

    def gradients(self) -> tuple[float, Arrays]:
        """The loss and its gradient by name, in the form of the model's `state_dict`."""

    def step(self) -> float:
        """One training step; the loss before it."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """Where a peer's class is, and the library without which it cannot be."""

    place: str
    library: str = ""

    def missing(self) -> str:
        """Why it cannot run here; empty if it can."""
        if self.library == "cc":
            from benchmarks.peers.c import COMPILER

            return "" if COMPILER else "no C compiler was found (cc, gcc, clang)"
        if self.library and importlib.util.find_spec(self.library) is None:
            return f"{self.library} is not installed"
        return ""

    def make(self, task: Task, dtype: str, lr: float) -> Peer:
        """The peer for a task."""
        module, _, name = self.place.partition(":")
        peer: Peer = getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)(
            task, dtype, lr
        )
        return peer


PERCEPTRON = {
    "NumPy": Contestant("numpy_mlp:NumpyMLP"),
    "plain Python": Contestant("plain:PlainPeer"),
    "PyTorch": Contestant("torch_peer:TorchPeer", "torch"),
    "torch.compile": Contestant("torch_peer:CompiledTorchPeer", "torch"),
    "JAX jit": Contestant("jax_peer:JaxPeer", "jax"),
    "JAX scan": Contestant("jax_peer:JaxScanPeer", "jax"),
    "C": Contestant("c:CMoons", "cc"),
}
GPT = PERCEPTRON | {
    "NumPy": Contestant("numpy_gpt:NumpyGPT"),
    "NumPy plain": Contestant("numpy_gpt_plain:PlainNumpyGPT"),
    "C": Contestant("c:CGPT", "cc"),
}


def contestants(task: Task) -> dict[str, Contestant]:
    """Those who can do a task, by name; "C" does the moons in float64 and the GPT in float32."""
    return GPT if isinstance(task.model, sg.nn.GPT) else PERCEPTRON


def require_agreement(task: Task, name: str, dtype: str) -> None:
    """Raise `AssertionError` where loss, gradient, or the loss after training differ from ours.

    Ours are float64 in any case. A gradient's difference is relative to its largest number.
    """
    expected, slopes = task.gradients()
    peer = contestants(task)[name].make(task, dtype, TRIED)
    loss, found = peer.gradients()
    scale = max(float(np.abs(array).max()) for array in slopes.values())
    errors = {
        "loss": abs(loss - expected) / abs(expected),
        **{k: float(np.abs(array - found[k]).max()) / scale for k, array in slopes.items()},
    }
    for what, error in errors.items():
        assert error <= AGREEMENT[dtype], f"{name}, {task.name}: {what} is off by {error:.1e}"
    calls = max(1, STEPS // steps_of(peer))
    for _ in range(calls):
        peer.step()
    trained = task.trained(TRIED, calls * steps_of(peer))
    error = abs(peer.gradients()[0] - trained) / abs(trained)
    assert error <= DRIFT[dtype], f"{name}, {task.name}: after training off by {error:.1e}"


def steps_of(peer: Peer) -> int:
    """How many training steps a call of `peer.step` does."""
    return getattr(peer, "steps", 1)
