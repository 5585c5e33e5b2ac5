"""The update as native code: an optimiser's steps bit for bit, and what it refuses to compile."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from scalargrad import Value, optim
from scalargrad.compiler import loops_check, reference
from scalargrad.compiler.loops import Space
from scalargrad.compiler.update import SIDE, Update, same_program, trace_rule, update_loops
from scalargrad.errors import TraceError

Floats = NDArray[np.float64]

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, lr=0.05),
    "decay": lambda p: optim.SGD(p, lr=0.05, weight_decay=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
    "nesterov": lambda p: optim.SGD(p, 0.05, 0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: optim.Adam(p, lr=0.02),
    "adam decay": lambda p: optim.Adam(p, lr=optim.cosine(0.05, steps=6), weight_decay=0.1),
    "adamw": lambda p: optim.AdamW(p, lr=optim.cosine(0.05, steps=6)),
    "adamw without decay": lambda p: optim.AdamW(p, weight_decay=0.0),
    "rmsprop": lambda p: optim.RMSprop(p),
    "rmsprop momentum": lambda p: optim.RMSprop(p, weight_decay=0.1, momentum=0.9),
}


def bits(array: Any) -> list[int]:
    return np.asarray(array, np.float64).view(np.int64).tolist()  # type: ignore[no-any-return]


def made(optimizer: optim.Optimizer, count: int) -> Update:
    pytest.importorskip("llvmlite")
    return Update(optimizer.rule, len(optimizer.slots), list(optimizer.scalars(0)), count)


def drawn(count: int, seed: int = 0) -> tuple[list[Value], Floats, np.random.Generator]:
    generator = np.random.default_rng(seed)
    data = generator.normal(size=count)
    return [Value(x) for x in data.tolist()], data, generator


@pytest.mark.parametrize("count", [1, 7, SIDE, SIDE + 1, 3 * SIDE + 5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_the_optimizers_own_bit_for_bit(name: str, count: int) -> None:
    values, data, generator = drawn(count)
    optimizer = OPTIMIZERS[name](values)
    update = made(optimizer, count)
    gradient = np.empty(count)
    update.bind(data, gradient)
    for step in range(5):
        gradient[:] = generator.normal(size=count) * 10.0 ** generator.integers(-200, 3, count)
        gradient[:: 3 + step] = random.Random(step).choice([0.0, -0.0])
        for value, g in zip(values, gradient.tolist()):
            value.grad = g
        assert update.run(optimizer.scalars(step)) == (True, True)
        optimizer.step()
        assert bits(data) == bits([value.data for value in values])
        for mine, own in zip(update.state, optimizer.state.values()):
            assert bits(mine) == bits(own)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_program_keeps_the_contract_of_loops(name: str) -> None:
    optimizer = OPTIMIZERS[name]([Value(1.0)])
    scalars, slots, count = optimizer.scalars(0), len(optimizer.slots), SIDE + 3
    traced = trace_rule(optimizer.rule, slots, list(scalars))
    loops = loops_check.verify(update_loops(traced, slots, count))
    _, data, generator = drawn(count)
    gradient, state = generator.normal(size=count), generator.random((slots, count))
    results = reference.execute(
        loops,
        {
            Space.PARAMETER: data,
            Space.ARGUMENT: gradient,
            Space.STATE: np.append(state, list(scalars.values())),
        },
    )
    moved, *after = optimizer.rule(data, gradient, *state, **scalars)
    assert bits(results[Space.PARAMETER]) == bits(moved)
    assert bits(results[Space.STATE][: slots * count]) == bits(np.concatenate([*after, []]))
    assert bits(results[Space.OUTPUT][:-2]) == bits(np.append(data, state))


@pytest.mark.parametrize("place", [0, SIDE - 1, SIDE, 2 * SIDE + 4])
@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop momentum"])
def test_a_gradient_that_is_not_finite_leaves_everything(
    name: str, number: float, place: int
) -> None:
    count = 2 * SIDE + 5
    _, data, generator = drawn(count)
    optimizer = OPTIMIZERS[name]([Value(0.0)])
    update, gradient = made(optimizer, count), generator.normal(size=count)
    update.bind(data, gradient)
    update.run(optimizer.scalars(0))
    before = bits(data), [bits(slot) for slot in update.state]
    gradient[place] = number
    assert update.run(optimizer.scalars(1))[0] is False
    assert (bits(data), [bits(slot) for slot in update.state]) == before


def test_a_parameter_that_would_overflow_leaves_everything() -> None:
    count = SIDE + 2
    for place in (3, SIDE + 1):
        data, gradient = np.ones(count), np.zeros(count)
        data[place], gradient[place] = 1e308, -1e308
        optimizer = optim.SGD(lr=1.0, momentum=0.5)
        update = made(optimizer, count)
        update.bind(data, gradient)
        before = bits(data)
        assert update.run(optimizer.scalars(0)) == (True, False)
        assert bits(data) == before
        assert bits(update.state[0]) == bits(np.zeros(count))


def test_numbers_of_the_largest_size_are_finite() -> None:
    data = np.full(2 * SIDE, np.finfo(float).max)
    gradient = np.full(2 * SIDE, -np.finfo(float).max)
    update = made(optim.SGD(lr=0.0), 2 * SIDE)
    update.bind(data, gradient)
    assert update.run({"lr": 0.0}) == (True, True)


def test_a_rule_may_exchange_its_numbers_or_leave_them() -> None:
    def rule(p: Any, g: Any, a: Any, b: Any, *, lr: Any) -> tuple[Any, ...]:
        return p, b, a

    update = self_made(rule, 2, ["lr"], 3)
    data = np.array([1.0, 2.0, 3.0])
    update.bind(data, np.zeros(3))
    update.state[0][:], update.state[1][:] = 4.0, 5.0
    assert update.run({"lr": 1.0}) == (True, True)
    assert (data.tolist(), *(slot[0] for slot in update.state)) == ([1.0, 2.0, 3.0], 5.0, 4.0)


def test_a_rule_may_answer_the_same_number_for_all() -> None:
    update = self_made(lambda p, g, *, lr: (lr * 2.0,), 0, ["lr"], 3)
    data = np.zeros(3)
    update.bind(data, np.zeros(3))
    update.run({"lr": 1.5})
    assert data.tolist() == [3.0, 3.0, 3.0]


def self_made(rule: Callable[..., Any], slots: int, scalars: list[str], count: int) -> Update:
    pytest.importorskip("llvmlite")
    return Update(rule, slots, scalars, count)


def test_a_rule_of_many_operations_is_more_than_one_loop() -> None:
    def rule(p: Any, g: Any) -> tuple[Any]:
        for k in range(40):
            g = g * p + float(k)
        return (p - 1e-9 * g,)

    update = self_made(rule, 0, [], SIDE + 1)
    _, data, generator = drawn(SIDE + 1)
    gradient = generator.normal(size=SIDE + 1)
    (expected,) = rule(data, gradient)
    update.bind(data, gradient)
    assert update.run({})[0]
    assert bits(data) == bits(expected)


def branching(p: Any, g: Any, *, lr: Any) -> tuple[Any]:
    return (p - lr * g if g > 0.0 else p,)


def drawing(p: Any, g: Any, *, lr: Any) -> tuple[Any]:
    return (p - lr * g * random.random(),)


def counting(p: Any, g: Any, *, lr: Any, calls: Any = itertools.count()) -> tuple[Any]:  # noqa: B008
    return (p - lr * g * float(next(calls)),)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (branching, "without asking about numbers"),
        (drawing, "draws random numbers"),
        (counting, "something else each time"),
        (lambda p, g, *, lr: (p - lr * np.clip(g, -1.0, 1.0),), "without asking about numbers"),
        (lambda p, g, *, lr: (p - lr * np.exp(g),), "uses exp: NumPy may round"),
        (lambda p, g, *, lr: (p, g), "must return p and 0 numbers"),
        (lambda p, g, *, lr: (p - Value(2.0) * float(g.data),), "cannot be run on Values"),
    ],
)
def test_rules_that_cannot_be_compiled_say_why(rule: Callable[..., Any], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        trace_rule(rule, 0, ["lr"])


def test_programs_that_differ_in_a_constant_are_not_the_same() -> None:
    one = trace_rule(lambda p, g: (p - 0.5 * g,), 0, [])
    other = trace_rule(lambda p, g: (p - 0.25 * g,), 0, [])
    assert same_program(one, one)
    assert not same_program(one, other)


def test_arrays_come_before_the_first_run() -> None:
    with pytest.raises(RuntimeError, match=r"call bind\(\) first"):
        made(optim.SGD(lr=0.1), 3).run({"lr": 0.1})
