"""The update appended to a program: an optimiser's steps bit for bit, and what cannot be appended."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from scalargrad import Value, optim
from scalargrad.compiler import loops_check, native, reference
from scalargrad.compiler.loops import Contract, Group, Loop, Loops, Operand, Segment, Space
from scalargrad.compiler.update import lasting, same_program, trace_rule, with_update
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


def gradients(count: int, moved: int) -> Loops:
    """A program whose gradients are twice the arguments, for `count` parameters."""
    lanes = (Loop(count),)
    doubled, gradient = (
        Operand(space, 0, (1,)) for space in (Space.TEMPORARY, Space.PARAMETER_GRADIENT)
    )
    terms = Group((Segment(Operand(Space.ARGUMENT, 0, (1,)), Operand(Space.CONSTANT, 0, (0,))),))
    spaces = (Space.PARAMETER, Space.ARGUMENT, Space.TEMPORARY, Space.PARAMETER_GRADIENT)
    return Loops(
        (
            Contract(doubled, lanes, (terms,)),
            Contract(gradient, lanes, (Group((Segment(doubled),)),)),
        ),
        {**dict.fromkeys(spaces, count), Space.CONSTANT: 1},
        np.array([2.0]),
    )


class Program:
    """A rule that moves the first `moved` of `count` parameters, run natively or by the oracle."""

    def __init__(
        self,
        rule: Callable[..., Any],
        slots: int,
        scalars: list[str],
        count: int,
        moved: int | None = None,
    ) -> None:
        self.moved, self.slots = count if moved is None else moved, slots
        traced = trace_rule(rule, slots, scalars)
        loops = with_update(gradients(count, self.moved), traced, slots, self.moved)
        self.loops = loops_check.verify(loops)

    def run(
        self, data: Floats, gradient: Floats, state: Floats, scalars: Any, unread: bool = False
    ) -> tuple[Floats, Floats]:
        """The parameters and the state after a step."""
        wanted = (Space.PARAMETER_GRADIENT,) if unread else ()
        inputs = {
            Space.PARAMETER: data,
            Space.ARGUMENT: 0.5 * gradient,
            Space.STATE: np.append(state, scalars),
        }
        given = {space: x for space, x in inputs.items() if self.loops.size(space)}
        pytest.importorskip("llvmlite")
        got = native.build(self.loops, unread=wanted).execute(given)
        expected = reference.execute(self.loops, given)
        assert bits(got[Space.PARAMETER]) == bits(expected[Space.PARAMETER])
        after = np.empty(0)
        if self.loops.size(Space.STATE):
            assert bits(got[Space.STATE]) == bits(expected[Space.STATE])
            after = got[Space.STATE][: self.slots * self.moved]
        return got[Space.PARAMETER], after.reshape(self.slots, self.moved)


def drawn(count: int, seed: int = 0) -> tuple[Floats, np.random.Generator]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=count), generator


@pytest.mark.parametrize("unread", [False, True])
@pytest.mark.parametrize("count", [1, 7, 197])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_the_optimizers_own_bit_for_bit(name: str, count: int, unread: bool) -> None:
    data, generator = drawn(count)
    values = [Value(x) for x in data.tolist()]
    optimizer = OPTIMIZERS[name](values)
    slots = len(optimizer.slots)
    program = Program(optimizer.rule, slots, list(optimizer.scalars(0)), count)
    state = np.zeros((slots, count))
    for step in range(3):
        gradient = generator.normal(size=count) * 10.0 ** generator.integers(-200, 3, count)
        gradient[:: 3 + step] = random.Random(step).choice([0.0, -0.0])
        for value, g in zip(values, gradient.tolist()):
            value.grad = g
        scalars = list(optimizer.scalars(step).values())
        data, state = program.run(data, gradient, state, scalars, unread)
        optimizer.step()
        assert bits(data) == bits([value.data for value in values])
        for mine, own in zip(state, optimizer.state.values()):
            assert bits(mine) == bits(own)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_only_the_first_parameters_move(name: str) -> None:
    data, generator = drawn(9)
    gradient = generator.normal(size=9)
    optimizer = OPTIMIZERS[name]([Value(0.0)])
    scalars, slots = optimizer.scalars(0), len(optimizer.slots)
    program = Program(optimizer.rule, slots, list(scalars), 9, moved=5)
    state = generator.random((slots, 5))
    moved, after = program.run(data, gradient, state, list(scalars.values()))
    expected, *rest = optimizer.rule(data[:5], gradient[:5], *state, **scalars)
    assert bits(moved) == bits([*expected, *data[5:]])
    assert bits(after.ravel()) == bits(np.concatenate([*rest, []]))


def test_a_rule_may_exchange_its_numbers_or_leave_them() -> None:
    def rule(p: Any, g: Any, a: Any, b: Any, *, lr: Any) -> tuple[Any, ...]:
        return p, b, a

    def turned(p: Any, g: Any, a: Any) -> tuple[Any, ...]:
        return a + g, p

    data, state = np.array([1.0, 2.0, 3.0]), np.array([[4.0] * 3, [5.0] * 3])
    moved, after = Program(rule, 2, ["lr"], 3).run(data, np.zeros(3), state, [1.0])
    assert (moved.tolist(), after[:, 0].tolist()) == ([1.0, 2.0, 3.0], [5.0, 4.0])
    moved, after = Program(turned, 1, [], 3).run(data, np.ones(3), state[:1], [])
    assert (moved.tolist(), after.tolist()) == ([5.0] * 3, [[1.0, 2.0, 3.0]])


def test_a_number_is_not_overwritten_while_it_is_needed() -> None:
    def rule(p: Any, g: Any, m: Any) -> tuple[Any, ...]:
        moved = p - g
        return moved, m + p + moved

    moved, after = Program(rule, 1, [], 2).run(
        np.array([10.0, 20.0]), np.array([1.0, 2.0]), np.array([[0.5, 0.25]]), []
    )
    assert (moved.tolist(), after.tolist()) == ([9.0, 18.0], [[19.5, 38.25]])


def test_a_rule_may_answer_the_same_number_for_all() -> None:
    program = Program(lambda p, g, *, lr: (lr * 2.0,), 0, ["lr"], 3)
    moved, _ = program.run(np.zeros(3), np.zeros(3), np.empty((0, 3)), [1.5])
    assert moved.tolist() == [3.0, 3.0, 3.0]


def test_a_rule_of_many_operations_is_more_than_one_loop() -> None:
    def rule(p: Any, g: Any) -> tuple[Any]:
        for k in range(40):
            g = g * p + float(k)
        return (p - 1e-9 * g,)

    data, generator = drawn(65)
    gradient = generator.normal(size=65)
    (expected,) = rule(data, gradient)
    moved, _ = Program(rule, 0, [], 65).run(data, gradient, np.empty((0, 65)), [])
    assert bits(moved) == bits(expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_not_finite_stays_so_under_the_optimizers_rules(name: str) -> None:
    optimizer = OPTIMIZERS[name]([Value(1.0)])
    scalars, slots = optimizer.scalars(3), len(optimizer.slots)
    assert lasting(trace_rule(optimizer.rule, slots, list(scalars)))
    for bad in (np.inf, -np.inf, np.nan):
        for p, g in ((bad, 0.5), (0.5, bad), (bad, bad)):
            with np.errstate(all="ignore"):
                p, *state = optimizer.rule(np.array(p), np.array(g), *[0.25] * slots, **scalars)
                assert not np.isfinite(p)
                assert not np.isfinite(optimizer.rule(p, np.array(0.5), *state, **scalars)[0])


def test_rules_under_which_it_may_vanish() -> None:
    rules: list[Callable[..., Any]] = [
        lambda p, g: (p - 0.1 / g,),
        lambda p, g: (g * 1.0,),
        lambda p, g: (p * 1.0,),
        lambda p, g: (p - g / (1.0 + g) * 0.0 + 1.0 / (p * g),),
    ]
    assert [lasting(trace_rule(rule, 0, [])) for rule in rules] == [False, False, False, True]


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
