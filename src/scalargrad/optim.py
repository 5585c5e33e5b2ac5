"""Optimisers: how parameters move, given their gradients.

An update rule is a scalar function in plain arithmetic: `sgd`, `adam` and `rmsprop` below take
one parameter, its gradient and what is remembered about it, and return the new ones. The same
function serves a float, a `Value` (a compiler traces it) and a NumPy array of all parameters (the
eager step): addition, multiplication, division and the square root of IEEE 754 have one right
answer, so the three agree bit for bit.

    optimizer = Adam(model.parameters(), lr=1e-3)      # SGD, Adam, AdamW, RMSprop
    optimizer.zero_grad(); loss.backward(); optimizer.step()

Formulas and defaults are PyTorch's. A learning rate is a number, or a schedule: a function from
the step, 0 for the first update, to a number. `linear(1.0, 0.1, steps=100)` is one.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import ops, replay, watch
from .engine import Value
from .errors import StateError

Scalar = Any  # a float, a Value, or an array of floats
Floats = NDArray[np.float64]
Rate = float | Callable[[int], float]

# --- checking what was passed ---------------------------------------------------------------------

Limit = tuple[str, Callable[[float], bool]]

_NOT_NEGATIVE: Limit = ("a finite number, 0 or more", lambda x: 0.0 <= x < math.inf)
_FRACTION: Limit = ("a number from 0 to below 1", lambda x: 0.0 <= x < 1.0)
LIMITS: Mapping[str, Limit] = {
    "lr": _NOT_NEGATIVE,
    "start": _NOT_NEGATIVE,
    "end": _NOT_NEGATIVE,
    "factor": _NOT_NEGATIVE,
    "momentum": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "eps": _NOT_NEGATIVE,
    "alpha": _FRACTION,
    "betas[0]": _FRACTION,
    "betas[1]": _FRACTION,
}


def _number(name: str, x: Any, where: str = "") -> float:
    """x as a float; `TypeError` or `ValueError` where `LIMITS` does not allow it."""
    expected, allowed = LIMITS[name]
    if isinstance(x, bool) or not isinstance(x, numbers.Real):
        raise TypeError(f"{name}: expected {expected}, got {type(x).__name__} {x!r}{where}")
    number = float(x)
    if not allowed(number):
        raise ValueError(f"{name}: expected {expected}, got {number!r}{where}")
    return number


def _count(name: str, x: Any) -> int:
    if isinstance(x, bool) or not isinstance(x, numbers.Integral):
        raise TypeError(f"{name}: expected a whole number of steps, got {type(x).__name__} {x!r}")
    if x < 1:
        raise ValueError(f"{name}: expected 1 step or more, got {x}")
    return int(x)


def _rate(x: Any) -> Rate:
    if isinstance(x, type):
        raise TypeError(
            f"lr: expected a number or a schedule, got the class {x.__name__}: make a schedule of "
            f"it, as {x.__name__}(0.1, ...)"
        )
    return x if callable(x) else _number("lr", x)


# --- schedules ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule(ABC):
    """A learning rate that depends on the step: `schedule(step)`, 0 for the first update.

    A pure function and plain data, so it can be shared, compared and saved. Any other function
    from a step to a number serves as a learning rate too.
    """

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            checked = _CHECKS[name](value) if name in _CHECKS else _number(name, value)
            object.__setattr__(self, name, checked)

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The learning rate of update number `step`."""


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "steps": partial(_count, "steps"),
    "every": partial(_count, "every"),
    "schedule": _rate,
}


@dataclass(frozen=True)
class linear(Schedule):
    """From `start` to `end` in equal decrements over `steps` updates, then `end`.

    start + (end - start) * step / steps. As PyTorch's `LinearLR`.
    """

    start: float
    end: float = 0.0
    steps: int = field(kw_only=True)

    def __call__(self, step: int) -> float:
        """The learning rate of update number `step`."""
        if step >= self.steps:
            return self.end
        return self.start + (self.end - self.start) * step / self.steps


@dataclass(frozen=True)
class cosine(Schedule):
    """From `start` to `end` along half a cosine over `steps` updates, then `end`.

    end + (start - end) * (1 + cos(pi * step / steps)) / 2 (Loshchilov & Hutter, 2017). As
    PyTorch's `CosineAnnealingLR` up to its `T_max`.
    """

    start: float
    end: float = 0.0
    steps: int = field(kw_only=True)

    def __call__(self, step: int) -> float:
        """The learning rate of update number `step`."""
        if step >= self.steps:
            return self.end
        return self.end + (self.start - self.end) * (
            0.5 * (1.0 + math.cos(math.pi * step / self.steps))
        )


@dataclass(frozen=True)
class step_decay(Schedule):
    """`start`, multiplied by `factor` after every `every` updates.

    start * factor^floor(step / every). As PyTorch's `StepLR`.
    """

    start: float
    factor: float = 0.1
    every: int = field(kw_only=True)

    def __call__(self, step: int) -> float:
        """The learning rate of update number `step`."""
        return self.start * ops.pow(self.factor, float(step // self.every))


@dataclass(frozen=True)
class warm_up(Schedule):
    """Rise to a learning rate or schedule over `steps` updates, then follow it from its step 0.

    Before: schedule(0) * (step + 1) / (steps + 1), which is never 0 (Goyal et al., 2017). From
    then on: schedule(step - steps). So `warm_up(cosine(1e-3, steps=900), steps=100)` takes 1,000
    updates in all.
    """

    schedule: Rate
    steps: int = field(kw_only=True)

    def __call__(self, step: int) -> float:
        """The learning rate of update number `step`."""
        if step >= self.steps:
            return _at(self.schedule, step - self.steps)
        return _at(self.schedule, 0) * (step + 1) / (self.steps + 1)


SCHEDULES: Mapping[str, type[Schedule]] = {
    schedule.__name__: schedule for schedule in (linear, cosine, step_decay, warm_up)
}


def _at(rate: Rate, step: int) -> float:
    if isinstance(rate, float):
        return rate
    return _number("lr", rate(step), f" from {rate!r} at step {step}")


def _rate_to_data(rate: Rate) -> Any:
    """A number or a `Schedule` as plain data; None for any other function."""
    if isinstance(rate, float):
        return rate
    if type(rate) not in SCHEDULES.values():
        return None
    data = {f.name: getattr(rate, f.name) for f in fields(rate)}  # type: ignore[arg-type]
    if "schedule" in data:
        data["schedule"] = _rate_to_data(data["schedule"])
        if data["schedule"] is None:
            return None
    return {"name": type(rate).__name__, **data}


def _rate_from_data(data: Any) -> Rate:
    if not isinstance(data, Mapping):
        return _number("lr", data)
    arguments = dict(data)
    kind = SCHEDULES[arguments.pop("name")]
    if "schedule" in arguments:
        arguments["schedule"] = _rate_from_data(arguments["schedule"])
    return kind(**arguments)


# --- the rules ------------------------------------------------------------------------------------
#
# An option that is off is an argument left out, so which arithmetic is done never depends on a
# number: what is traced once is right for every step.


def _sqrt(x: Scalar) -> Scalar:
    return ops.sqrt(x) if isinstance(x, float) else np.sqrt(x)


def _divide(a: Scalar, b: Scalar) -> Scalar:
    return ops.divide(a, b) if isinstance(a, float) and isinstance(b, float) else a / b


def sgd(
    p: Scalar,
    g: Scalar,
    velocity: Scalar = None,
    *,
    lr: Scalar,
    momentum: Scalar = None,
    weight_decay: Scalar = None,
    nesterov: bool = False,
) -> tuple[Scalar, ...]:
    """Gradient descent, with momentum where `velocity` is given (Sutskever et al., 2013).

        g <- g + weight_decay * p
        velocity <- momentum * velocity + g
        p <- p - lr * velocity                        (plain: lr * g)
        p <- p - lr * (g + momentum * velocity)       (nesterov)

    Returns (p,), or (p, velocity) with momentum.
    """
    if weight_decay is not None:
        g = g + weight_decay * p
    if velocity is None:
        return (p - lr * g,)
    velocity = momentum * velocity + g
    direction = g + momentum * velocity if nesterov else velocity
    return p - lr * direction, velocity


def adam(
    p: Scalar,
    g: Scalar,
    mean: Scalar,
    square: Scalar,
    *,
    rate: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
    weight_decay: Scalar = None,
    keep: Scalar = None,
) -> tuple[Scalar, Scalar, Scalar]:
    """Adam (Kingma & Ba, 2015), and AdamW (Loshchilov & Hutter, 2019) where `keep` is given.

        p <- keep * p                                 (AdamW: keep = 1 - lr * weight_decay)
        g <- g + weight_decay * p                     (Adam)
        mean <- beta1 * mean + (1 - beta1) * g
        square <- beta2 * square + (1 - beta2) * g^2
        p <- p - rate * mean / (sqrt(square) + eps)

    `rate` and `eps` carry the bias correction of step t = 1, 2, ... (Kingma & Ba, end of section
    2): with r = sqrt(1 - beta2^t), rate = lr * r / (1 - beta1^t) and eps is r times the eps of
    `Adam`. Then the last line is p - lr * mean' / (sqrt(square') + eps), mean' and square' being
    the means divided by 1 - beta^t. Returns (p, mean, square).
    """
    if keep is not None:
        p = keep * p
    if weight_decay is not None:
        g = g + weight_decay * p
    mean = beta1 * mean + (1.0 - beta1) * g
    square = beta2 * square + (1.0 - beta2) * g * g
    return p - _divide(rate * mean, _sqrt(square) + eps), mean, square


def rmsprop(
    p: Scalar,
    g: Scalar,
    square: Scalar,
    velocity: Scalar = None,
    *,
    lr: Scalar,
    alpha: Scalar,
    eps: Scalar,
    momentum: Scalar = None,
    weight_decay: Scalar = None,
) -> tuple[Scalar, ...]:
    """RMSprop (Tieleman & Hinton, 2012), with momentum where `velocity` is given.

        g <- g + weight_decay * p
        square <- alpha * square + (1 - alpha) * g^2
        g <- g / (sqrt(square) + eps)
        velocity <- momentum * velocity + g
        p <- p - lr * velocity                        (plain: lr * g)

    Returns (p, square), or (p, square, velocity) with momentum.
    """
    if weight_decay is not None:
        g = g + weight_decay * p
    square = alpha * square + (1.0 - alpha) * g * g
    g = _divide(g, _sqrt(square) + eps)
    if velocity is None:
        return p - lr * g, square
    velocity = momentum * velocity + g
    return p - lr * velocity, square, velocity


# --- the optimisers -------------------------------------------------------------------------------


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
        checked = _checked_parameters(parameters)
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
        self._lr = _rate(lr)

    @property
    def hyper(self) -> Mapping[str, Any]:
        """The other hyper-parameters by name. Fixed: they decide what arithmetic a step is."""
        return MappingProxyType(self._hyper)

    def learning_rate(self, step: int | None = None) -> float:
        """The learning rate of update number `step`, 0 being the first; None: the next one."""
        return _at(self._lr, self.steps if step is None else step)

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
            "lr": _rate_to_data(self._lr),
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
        _same_names("state", state, ("optimizer", "steps", "lr", "hyper", "state"))
        if state["optimizer"] != type(self).__name__:
            raise StateError(
                f"optimizer: the state is of {state['optimizer']!r}, this is "
                f"{type(self).__name__}: load it into the optimizer it was saved from"
            )
        steps = state["steps"]
        if isinstance(steps, bool) or not isinstance(steps, numbers.Integral) or steps < 0:
            raise StateError(f"steps: expected a whole number, 0 or more, got {steps!r}")
        _same_names("hyper", state["hyper"], self._hyper)
        for name, mine in self._hyper.items():
            if state["hyper"][name] != mine:
                raise StateError(
                    f"{name}: saved with {state['hyper'][name]!r}, this {type(self).__name__} "
                    f"has {mine!r}: make the optimizer as it was when saved"
                )
        _same_names("state", state["state"], self.slots)
        arrays = {slot: _slot_array(slot, state["state"][slot], count) for slot in self.slots}
        try:
            lr = self._lr if state["lr"] is None else _rate_from_data(state["lr"])
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
        momentum = _number("momentum", momentum)
        if nesterov and momentum == 0.0:
            raise ValueError("nesterov: needs a momentum above 0, got momentum=0.0")
        super().__init__(
            parameters,
            lr,
            partial(sgd, nesterov=bool(nesterov)),
            ("velocity",) if momentum else (),
            momentum=momentum,
            nesterov=bool(nesterov),
            weight_decay=_number("weight_decay", weight_decay),
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
            betas=_pair(betas),
            eps=_number("eps", eps),
            weight_decay=_number("weight_decay", weight_decay),
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
        momentum = _number("momentum", momentum)
        super().__init__(
            parameters,
            lr,
            rmsprop,
            ("square", "velocity") if momentum else ("square",),
            alpha=_number("alpha", alpha),
            eps=_number("eps", eps),
            weight_decay=_number("weight_decay", weight_decay),
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


# --- checking parameters and states ---------------------------------------------------------------


def _checked_parameters(parameters: Any) -> tuple[Value, ...]:
    expected = "expected an iterable of Values such as model.parameters()"
    if isinstance(parameters, Value | str | Mapping) or not isinstance(parameters, Iterable):
        hint = ": a learning rate is passed by name, lr=..." if callable(parameters) else ""
        if isinstance(parameters, numbers.Real):
            hint = f": a learning rate is passed by name, lr={parameters!r}"
        raise TypeError(f"parameters: {expected}, got {type(parameters).__name__}{hint}")
    values = tuple(parameters)
    if not values:
        raise ValueError(f"parameters: {expected}, got none: has the model any parameters?")
    place: dict[Value, int] = {}
    for k, v in enumerate(values):
        if not isinstance(v, Value):
            hint = (
                ": groups with options of their own are not supported, use one optimizer for each"
                if isinstance(v, Mapping)
                else ""
            )
            raise TypeError(f"parameters: {expected}, got {type(v).__name__} at {k}{hint}")
        if v.op:
            raise ValueError(
                f"parameters: the Value at {k} is the result of {v.op!r}, so it is computed "
                "afresh each time and cannot be learned: pass the leaves it is computed from"
            )
        if place.setdefault(v, k) != k:
            raise ValueError(
                f"parameters: the Value at {k} is the one at {place[v]} again, and would move "
                "twice a step: pass each parameter once"
            )
    return values


def _pair(betas: Any) -> tuple[float, float]:
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas: expected two numbers (beta1, beta2), got {betas!r}")
    return _number("betas[0]", betas[0]), _number("betas[1]", betas[1])


def _same_names(what: str, entries: Any, names: Iterable[str]) -> None:
    if not isinstance(entries, Mapping):
        raise StateError(f"{what}: expected a dictionary, got {type(entries).__name__}")
    expected = tuple(names)
    missing = [name for name in expected if name not in entries]
    extra = [name for name in entries if name not in expected]
    if missing or extra:
        raise StateError(
            f"{what}: expected the entries {list(expected)}, got {list(entries)} "
            f"(missing {missing}, unknown {extra}): was it saved by another optimizer, "
            "or with other options?"
        )


def _slot_array(slot: str, array: Any, count: int) -> Floats:
    if getattr(array, "dtype", None) != np.float64 or array.shape != (count,):
        got = f"{array.dtype} of shape {array.shape}" if hasattr(array, "dtype") else type(array)
        raise StateError(
            f"{slot}: expected a float64 array of shape ({count},), one number per parameter, "
            f"got {got}: is it from a model of another size?"
        )
    checked: Floats = array
    return checked
