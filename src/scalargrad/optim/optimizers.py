"""The optimisers: a rule, its hyper-parameters, and what is remembered about each parameter."""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from .. import replay, watch
from ..engine import Value
from ..errors import StateError
from .limits import checked_number, checked_pair
from .rules import Scalar, adam, rmsprop, sgd
from .schedules import Rate, at, checked_rate, rate_from_data, rate_to_data
from .states import Floats, checked_parameters, same_names, slot_array


class Optimizer(ABC):
    """What the optimisers share: the parameters, what is remembered about each, and the step.

    `step()` applies `rule` to every parameter. `rule(p, g, *state, **scalars)` returns the new
    p and the new state: `state` holds one number per name in `slots`, `scalars` is
    `self.scalars(step)`, the numbers that all parameters share. `state[slot]` is a float64 array
    with one entry per parameter, in the order of `parameters`, and `steps` counts the updates
    done: whoever applies the rule elsewhere (a compiled training step) reads and advances these.
    """

    def __init__(
        self,
        parameters: Iterable[Value] | None,
        lr: Rate,
        rule: Callable[..., tuple[Scalar, ...]],
        slots: tuple[str, ...],
        **hyper: Any,
    ) -> None:
        self.rule, self.slots, self.steps = rule, slots, 0
        self.lr = lr
        self._hyper = hyper
        self.parameters: tuple[Value, ...] = ()
        self.state: dict[str, Floats] = {}
        if parameters is not None:
            self.bind(parameters)

    def bind(self, parameters: Iterable[Value]) -> None:
        """Take these parameters, unless some were given at construction; the state starts at 0.

        Raises `TypeError` for anything but an iterable of Values; `ValueError` for none, for a
        Value that occurs twice or is a result rather than a leaf, and when already bound to
        others.
        """
        checked = checked_parameters(parameters)
        if self.parameters:
            same = len(checked) == len(self.parameters) and all(
                a is b for a, b in zip(checked, self.parameters)
            )
            if not same:
                raise ValueError(
                    f"parameters: this {type(self).__name__} already has "
                    f"{len(self.parameters)} parameters, and these {len(checked)} are not the "
                    "same Values in the same order: make a new optimizer for another model"
                )
            return
        self.parameters = checked
        self.state = {slot: np.zeros(len(checked)) for slot in self.slots}

    @property
    def lr(self) -> Rate:
        """The learning rate: a number or a schedule. May be assigned between steps."""
        return self._lr

    @lr.setter
    def lr(self, lr: Rate) -> None:
        self._lr = checked_rate(lr)

    @property
    def hyper(self) -> Mapping[str, Any]:
        """The other hyper-parameters by name. Fixed: they decide what arithmetic a step is."""
        return MappingProxyType(self._hyper)

    def learning_rate(self, step: int | None = None) -> float:
        """The learning rate of update number `step`, 0 being the first; None: the next one."""
        return at(self._lr, self.steps if step is None else step)

    @abstractmethod
    def scalars(self, step: int) -> dict[str, float]:
        """The numbers `rule` takes by name for update number `step`, 0 being the first."""

    def _in_use(self, *names: str) -> dict[str, float]:
        return {name: self._hyper[name] for name in names if self._hyper[name] != 0.0}

    def step(self) -> None:
        """Move every parameter once, by its current `grad`, and count the step.

        Raises `RuntimeError` when there are no parameters yet (`bind`).
        """
        parameters = self._bound("step")
        watch.written(parameters[0], ".data")  # refused in a function that is being compiled
        count = len(parameters)
        data, grad = np.empty(count), np.empty(count)
        replay.read_leaves(parameters, data.data, np.empty(count, np.uint64).data)
        replay.read_grad(parameters, count, grad.data)
        scalars = self.scalars(self.steps)
        with np.errstate(all="ignore"):
            moved, *state = self.rule(data, grad, *self.state.values(), **scalars)
        data[:] = moved  # a rule of one's own may give other kinds of numbers
        replay.write_leaves(parameters, data.data)
        for slot, numbers_ in zip(self.slots, state):
            self.state[slot][:] = numbers_
        self.steps += 1

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to 0, before the next `backward()`.

        Raises `RuntimeError` when there are no parameters yet (`bind`).
        """
        parameters = self._bound("zero_grad")
        watch.written(parameters[0], ".grad")
        replay.write_grad(parameters, np.zeros(len(parameters)).data)

    def _bound(self, what: str) -> list[Value]:
        if not self.parameters:
            raise RuntimeError(
                f"{what}: this {type(self).__name__} has no parameters yet: pass "
                "model.parameters() when making it, or to bind()"
            )
        return list(self.parameters)

    def state_dict(self) -> dict[str, Any]:
        """Everything a later `load_state_dict` needs to go on to the same bits, as copies.

        Numbers, strings, dictionaries and float64 arrays. `lr` is the number or the schedule as
        data, and None for a function of your own, which cannot be saved.
        """
        return {
            "optimizer": type(self).__name__,
            "steps": self.steps,
            "lr": rate_to_data(self._lr),
            "hyper": dict(self._hyper),
            "state": {slot: array.copy() for slot, array in self.state.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned: the step count, the learning rate, the state.

        As in PyTorch the saved learning rate replaces this one's, since it may have been assigned
        while training; assign `lr` afterwards to change it. (One saved as None leaves it.) The
        other hyper-parameters must be equal. Raises `StateError` naming the entry that is
        missing, unknown, or does not fit, and `RuntimeError` when there are no parameters yet;
        then nothing has changed.
        """
        count = len(self._bound("load_state_dict"))
        same_names("state", state, ("optimizer", "steps", "lr", "hyper", "state"))
        if state["optimizer"] != type(self).__name__:
            raise StateError(
                f"optimizer: the state is of {state['optimizer']!r}, this is "
                f"{type(self).__name__}: load it into the optimizer it was saved from"
            )
        steps = state["steps"]
        if isinstance(steps, bool) or not isinstance(steps, numbers.Integral) or steps < 0:
            raise StateError(f"steps: expected a whole number, 0 or more, got {steps!r}")
        same_names("hyper", state["hyper"], self._hyper)
        for name, mine in self._hyper.items():
            if state["hyper"][name] != mine:
                raise StateError(
                    f"{name}: saved with {state['hyper'][name]!r}, this {type(self).__name__} "
                    f"has {mine!r}: make the optimizer as it was when saved"
                )
        same_names("state", state["state"], self.slots)
        arrays = {slot: slot_array(slot, state["state"][slot], count) for slot in self.slots}
        try:
            lr = self._lr if state["lr"] is None else rate_from_data(state["lr"])
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"lr: not a number or a known schedule: {state['lr']!r}") from error
        for slot, array in arrays.items():
            self.state[slot][:] = array
        self.steps, self._lr = int(steps), lr

    def __repr__(self) -> str:
        hyper = "".join(f", {name}={value!r}" for name, value in self._hyper.items())
        return f"{type(self).__name__}(lr={self._lr!r}{hyper})"


class SGD(Optimizer):
    """Gradient descent with optional momentum, Nesterov's variant and weight decay: see `sgd`.

    `nesterov` needs a momentum above 0. Equal to `torch.optim.SGD` without dampening.
    """

    def __init__(
        self,
        parameters: Iterable[Value] | None = None,
        lr: Rate = 1e-3,
        momentum: float = 0.0,
        *,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        momentum = checked_number("momentum", momentum)
        if nesterov and momentum == 0.0:
            raise ValueError("nesterov: needs a momentum above 0, got momentum=0.0")
        super().__init__(
            parameters,
            lr,
            partial(sgd, nesterov=bool(nesterov)),
            ("velocity",) if momentum else (),
            momentum=momentum,
            nesterov=bool(nesterov),
            weight_decay=checked_number("weight_decay", weight_decay),
        )

    def scalars(self, step: int) -> dict[str, float]:
        """The numbers `sgd` takes by name for update number `step`."""
        return {"lr": self.learning_rate(step), **self._in_use("momentum", "weight_decay")}


class Adam(Optimizer):
    """Adam with bias correction, and weight decay added to the gradient: see `adam`.

    `betas` are the decay rates of the two running means. Equal to `torch.optim.Adam`.
    """

    def __init__(
        self,
        parameters: Iterable[Value] | None = None,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            parameters,
            lr,
            adam,
            ("mean", "square"),
            betas=checked_pair(betas),
            eps=checked_number("eps", eps),
            weight_decay=checked_number("weight_decay", weight_decay),
        )

    def scalars(self, step: int) -> dict[str, float]:
        """The numbers `adam` takes by name for update number `step`, bias correction included."""
        beta1, beta2 = self._hyper["betas"]
        root = math.sqrt(1.0 - beta2 ** (step + 1))
        rate = self.learning_rate(step) * root / (1.0 - beta1 ** (step + 1))
        eps = self._hyper["eps"] * root
        corrected = {"rate": rate, "beta1": beta1, "beta2": beta2, "eps": eps}
        return {**corrected, **self._decay(step)}

    def _decay(self, step: int) -> dict[str, float]:
        return self._in_use("weight_decay")


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameter itself, not the gradient: see `adam`.

    Each step first multiplies the parameter by 1 - lr * weight_decay. Equal to
    `torch.optim.AdamW`.
    """

    def __init__(
        self,
        parameters: Iterable[Value] | None = None,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def _decay(self, step: int) -> dict[str, float]:
        decay = self._hyper["weight_decay"]
        return {"keep": 1.0 - self.learning_rate(step) * decay} if decay else {}


class RMSprop(Optimizer):
    """RMSprop with optional momentum and weight decay: see `rmsprop`.

    `alpha` is the decay rate of the running mean of squares. Equal to `torch.optim.RMSprop`, not
    centred.
    """

    def __init__(
        self,
        parameters: Iterable[Value] | None = None,
        lr: Rate = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
    ) -> None:
        momentum = checked_number("momentum", momentum)
        super().__init__(
            parameters,
            lr,
            rmsprop,
            ("square", "velocity") if momentum else ("square",),
            alpha=checked_number("alpha", alpha),
            eps=checked_number("eps", eps),
            weight_decay=checked_number("weight_decay", weight_decay),
            momentum=momentum,
        )

    def scalars(self, step: int) -> dict[str, float]:
        """The numbers `rmsprop` takes by name for update number `step`."""
        return {
            "lr": self.learning_rate(step),
            "alpha": self._hyper["alpha"],
            "eps": self._hyper["eps"],
            **self._in_use("momentum", "weight_decay"),
        }
