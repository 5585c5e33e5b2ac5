"""The update rules against PyTorch's numbers, the schedules, and saving the state."""

from __future__ import annotations

import copy
import math
import pickle
import struct
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scalargrad as sg
from scalargrad import optim
from scalargrad.errors import StateError, TraceError

pytestmark = pytest.mark.pure

# Minimise sum of slope/2 * p^2 - offset * p: a gradient that depends on where p is.
SLOPES, OFFSETS, START = (1.5, 0.25, 3.0), (0.5, -2.0, 1.0), (0.5, -1.25, 2.0)

# torch.optim 2.13, float64, ten steps of the problem above from START.
TORCH: list[tuple[str, dict[str, Any], tuple[float, ...]]] = [
    ("SGD", {"lr": 0.1}, (0.3661457340567871, -2.759775059219045, 0.3804125415)),
    (
        "SGD",
        {"lr": 0.1, "momentum": 0.9},
        (0.2715346711730957, -6.836678884331957, 1.2510921120000003),
    ),
    (
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        (0.30988754624214726, -6.973813207954821, 0.5193041747977515),
    ),
    ("Adam", {"lr": 0.1}, (0.39487776410799696, -2.2446084833047095, 1.0322088820078692)),
    (
        "Adam",
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 0.001, "weight_decay": 0.1},
        (0.2721829697984713, -1.746650103637345, 1.509249663897),
    ),
    ("AdamW", {"lr": 0.1}, (0.3946012705309208, -2.2277813264586865, 1.0175806098045335)),
    (
        "AdamW",
        {"lr": 0.05, "weight_decay": 0.3},
        (0.27260414667641336, -1.5415129745025973, 1.2625287128641447),
    ),
    ("RMSprop", {"lr": 0.1}, (0.3333335364120345, -5.4280793631086395, 0.3337228022810024)),
    (
        "RMSprop",
        {"lr": 0.05, "alpha": 0.9, "momentum": 0.5, "weight_decay": 0.1},
        (0.31720496673441656, -2.7542333694544907, 0.7141018441180141),
    ),
]
NAMES = [f"{name}-{'-'.join(options)}" for name, options, _ in TORCH]


def bits(x: float) -> bytes:
    return struct.pack("<d", x)


def make(name: str, parameters: Any, options: dict[str, Any]) -> optim.Optimizer:
    optimizer: optim.Optimizer = getattr(optim, name)(parameters, **options)
    return optimizer


def gradients(parameters: list[sg.Value]) -> None:
    for p, slope, offset in zip(parameters, SLOPES, OFFSETS):
        p.grad = slope * p.data - offset


def descend(optimizer: optim.Optimizer, steps: int) -> list[float]:
    parameters = list(optimizer.parameters)
    for _ in range(steps):
        gradients(parameters)
        optimizer.step()
    return [p.data for p in parameters]


def check_against_torch(optimizer: optim.Optimizer, expected: tuple[float, ...]) -> None:
    """The checker of this file: ten steps, then PyTorch's numbers to 1e-12 relative."""
    assert descend(optimizer, 10) == pytest.approx(expected, rel=1e-12, abs=0)


# --- the numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options", "expected"), TORCH, ids=NAMES)
def test_ten_steps_give_the_numbers_pytorch_gives(
    name: str, options: dict[str, Any], expected: tuple[float, ...]
) -> None:
    check_against_torch(make(name, [sg.Value(x) for x in START], options), expected)


class UncorrectedAdam(optim.Adam):
    def scalars(self, step: int) -> dict[str, float]:
        right = super().scalars(step)
        return {**right, "rate": self.learning_rate(step), "eps": self.hyper["eps"]}


def wrong_sign(p: Any, g: Any, **scalars: Any) -> tuple[Any, ...]:
    return (p + scalars["lr"] * g,)


def forgetful(p: Any, g: Any, velocity: Any, **scalars: Any) -> tuple[Any, ...]:
    new, _ = optim.sgd(p, g, velocity, **scalars)
    return new, velocity


def test_the_checker_catches_an_adam_without_bias_correction() -> None:
    planted = UncorrectedAdam([sg.Value(x) for x in START], lr=0.1)
    with pytest.raises(AssertionError):
        check_against_torch(planted, TORCH[3][2])


@pytest.mark.parametrize(("case", "rule"), [(0, wrong_sign), (1, forgetful)])
def test_the_checker_catches_a_wrong_rule(case: int, rule: Any) -> None:
    name, options, expected = TORCH[case]
    planted = make(name, [sg.Value(x) for x in START], options)
    planted.rule = rule
    with pytest.raises(AssertionError):
        check_against_torch(planted, expected)


LIVE: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.05, "momentum": momentum, "nesterov": nesterov, "weight_decay": decay})
    for momentum in (0.0, 0.5, 0.95)
    for nesterov in (False, True)
    for decay in (0.0, 0.02)
    if momentum or not nesterov
]
LIVE += [
    (name, {"lr": 0.02, "betas": betas, "eps": eps, "weight_decay": decay})
    for name in ("Adam", "AdamW")
    for betas in ((0.9, 0.999), (0.0, 0.9), (0.7, 0.5))
    for eps in (1e-8, 1e-2)
    for decay in (0.0, 0.1)
]
LIVE += [
    ("RMSprop", {"lr": 0.02, "alpha": alpha, "momentum": momentum, "weight_decay": decay})
    for alpha in (0.99, 0.5)
    for momentum in (0.0, 0.8)
    for decay in (0.0, 0.1)
]


@pytest.mark.parametrize(("name", "options"), LIVE, ids=[f"{n}-{o}" for n, o in LIVE])
def test_many_steps_agree_with_torch_where_it_is_installed(
    name: str, options: dict[str, Any]
) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: the numbers above serve")
    # Gradients that do not depend on the parameters, so that rounding is not amplified.
    rng = np.random.default_rng(7)
    start, grads = rng.normal(size=5), rng.normal(size=(200, 5))
    grads[50:60] = 0.0
    theirs = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    mine = [sg.Value(x) for x in start]
    peer, optimizer = getattr(torch.optim, name)([theirs], **options), make(name, mine, options)
    for row in grads:
        theirs.grad = torch.tensor(row, dtype=torch.float64)
        for p, g in zip(mine, row):
            p.grad = g
        peer.step()
        optimizer.step()
        expected = theirs.detach().numpy()
        # A parameter on its way through 0 keeps an absolute error of the numbers it came from.
        np.testing.assert_allclose([p.data for p in mine], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_defaults_are_those_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare with")
    theirs = getattr(torch.optim, name)([torch.zeros(1)]).defaults
    optimizer = getattr(optim, name)()
    mine = {"lr": optimizer.lr, **optimizer.hyper}
    assert mine == {key: theirs[key] for key in mine}


# --- one rule for floats, Values and arrays --------------------------------------------------------

RULES = [
    (name, {**options, "lr": 0.03})
    for name, options, _ in TORCH
    if name != "SGD" or "nesterov" not in options
] + [("SGD", {"lr": 0.03, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01})]
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64)
POSITIVE = st.floats(min_value=0.0, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(("name", "options"), RULES)
@given(data=st.data(), step=st.integers(0, 5000))
@settings(max_examples=60, deadline=None)
def test_a_rule_gives_the_same_bits_on_floats_values_and_arrays(
    name: str, options: dict[str, Any], data: st.DataObject, step: int
) -> None:
    optimizer = make(name, None, options)
    size = data.draw(st.integers(1, 9))
    slots = {"square": POSITIVE}
    columns = [
        data.draw(st.lists(strategy, min_size=size, max_size=size))
        for strategy in (NUMBERS, NUMBERS, *(slots.get(s, NUMBERS) for s in optimizer.slots))
    ]
    scalars = optimizer.scalars(step)
    with np.errstate(all="ignore"):
        arrays = optimizer.rule(*(np.array(c) for c in columns), **scalars)
    for k, row in enumerate(zip(*columns)):
        floats = optimizer.rule(*row, **scalars)
        values = optimizer.rule(*(sg.Value(x) for x in row), **scalars)
        traced = optimizer.rule(
            *(sg.Value(x) for x in row), **{key: sg.Value(x) for key, x in scalars.items()}
        )
        assert len(floats) == len(values) == len(arrays) == 1 + len(optimizer.slots)
        for f, v, t, a in zip(floats, values, traced, arrays):
            assert isinstance(v, sg.Value)
            if math.isnan(f):
                assert math.isnan(v.data)
                assert math.isnan(t.data)
                assert math.isnan(a[k])
            else:
                assert bits(f) == bits(v.data) == bits(t.data) == bits(a[k])


@pytest.mark.parametrize("rule_case", RULES)
def test_a_step_gives_the_bits_of_the_rule_on_floats(rule_case: tuple[str, dict[str, Any]]) -> None:
    rng = np.random.default_rng(3)
    numbers = rng.normal(size=40) * 10.0 ** rng.integers(-200, 200, size=40)
    optimizer = make(rule_case[0], [sg.Value(x) for x in numbers], rule_case[1])
    data = numbers.tolist()
    state = [[0.0] * len(optimizer.slots) for _ in data]
    for step in range(5):
        grads = (rng.normal(size=40) * 10.0 ** rng.integers(-200, 150, size=40)).tolist()
        for k, (p, g) in enumerate(zip(optimizer.parameters, grads)):
            p.grad = g
            data[k], *state[k] = optimizer.rule(data[k], g, *state[k], **optimizer.scalars(step))
        optimizer.step()
    assert optimizer.steps == 5
    assert [bits(p.data) for p in optimizer.parameters] == [bits(x) for x in data]
    for slot, column in zip(optimizer.slots, zip(*state)):
        assert optimizer.state[slot].tolist() == list(column)


@pytest.mark.parametrize(("name", "options"), RULES)
def test_a_rule_takes_the_same_operations_whatever_the_numbers(
    name: str, options: dict[str, Any]
) -> None:
    optimizer = make(name, None, options)

    def operations(x: float, step: int) -> list[str]:
        row = [sg.Value(x) for _ in range(2 + len(optimizer.slots))]
        scalars = {key: sg.Value(number) for key, number in optimizer.scalars(step).items()}
        found, waiting = [], list(optimizer.rule(*row, **scalars))
        while waiting:
            v = waiting.pop()
            found.append(v.op)
            waiting.extend(v.operands)
        return found

    assert operations(0.0, 0) == operations(1e300, 7) == operations(math.nan, 100)


def test_values_that_overflow_become_infinite_without_a_warning() -> None:
    p = sg.Value(1.0)
    p.grad = 1e308
    optimizer = optim.SGD([p], lr=1e10)
    optimizer.step()
    assert p.data == -math.inf


def test_eps_zero_and_no_gradient_give_nan_on_floats_too() -> None:
    scalars = optim.Adam(eps=0.0).scalars(0)
    new, mean, square = optim.adam(1.0, 0.0, 0.0, 0.0, **scalars)
    assert math.isnan(new)
    assert (mean, square) == (0.0, 0.0)


# --- using an optimiser ----------------------------------------------------------------------------


def test_training_by_backward_reaches_the_minimum() -> None:
    x, y = sg.Value(-1.2), sg.Value(1.0)
    optimizer = optim.Adam([x, y], lr=optim.cosine(0.1, steps=3000))
    for _ in range(3000):
        optimizer.zero_grad()
        loss = (1 - x) ** 2 + 100 * (y - x * x) ** 2
        loss.backward()
        optimizer.step()
    assert (x.data, y.data) == pytest.approx((1.0, 1.0), abs=1e-3)


def test_zero_grad_sets_every_gradient_to_zero() -> None:
    parameters = [sg.Value(1.0), sg.Value(2.0)]
    gradients(parameters)
    optim.SGD(parameters).zero_grad()
    assert [p.grad for p in parameters] == [0.0, 0.0]


@pytest.mark.parametrize("what", ["step", "zero_grad"])
def test_a_function_that_is_compiled_cannot_step(what: str) -> None:
    optimizer = optim.SGD([sg.Value(3.0, "w")], lr=0.1)
    (w,) = optimizer.parameters

    @sg.compile
    def loss(x: sg.Value) -> sg.Value:
        getattr(optimizer, what)()
        return w * x

    with pytest.raises(TraceError, match=r"of w was assigned at .*test_optim"):
        loss(1.0)
    assert w.data == 3.0


def test_a_rule_may_give_numbers_of_any_kind_and_order() -> None:
    optimizer = optim.SGD([sg.Value(0.0), sg.Value(0.0)], lr=0.1)
    optimizer.rule = lambda p, g, **_: (np.arange(4, dtype=np.int32)[1::2],)
    optimizer.step()
    assert [p.data for p in optimizer.parameters] == [1.0, 3.0]
    optimizer.rule = lambda p, g, **_: (np.zeros(3),)
    with pytest.raises(ValueError, match="broadcast"):
        optimizer.step()


def test_a_step_makes_older_graphs_stale() -> None:
    p = sg.Value(1.0)
    result = p * p
    optim.SGD([p]).step()
    with pytest.raises(sg.errors.StaleGraphError):
        result.backward()


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_parameters_may_come_later_through_bind(name: str) -> None:
    first, second = getattr(optim, name)(lr=0.1), None
    assert first.parameters == ()
    first.bind(sg.Value(x) for x in START)
    second = getattr(optim, name)([sg.Value(x) for x in START], 0.1)
    assert descend(first, 3) == descend(second, 3)


def test_binding_the_same_parameters_again_keeps_the_state() -> None:
    parameters = [sg.Value(x) for x in START]
    optimizer = optim.Adam(parameters)
    descend(optimizer, 2)
    optimizer.bind(parameters)
    assert optimizer.steps == 2
    assert optimizer.state["mean"].any()
    for others in (parameters[::-1], parameters[:2], [sg.Value(x) for x in START]):
        with pytest.raises(ValueError, match="already has 3 parameters"):
            optimizer.bind(others)


@pytest.mark.parametrize("what", ["step", "zero_grad", "load_state_dict"])
def test_without_parameters_there_is_nothing_to_step(what: str) -> None:
    optimizer = optim.Adam()
    arguments = [{}] if what == "load_state_dict" else []
    with pytest.raises(RuntimeError, match=rf"{what}: .*Adam has no parameters yet: .*bind\(\)"):
        getattr(optimizer, what)(*arguments)


def _shared() -> list[sg.Value]:
    p = sg.Value(1.0)
    return [p, sg.Value(2.0), p]


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        (lambda: [], ValueError, "parameters: expected an iterable .* got none"),
        (lambda: 0.1, TypeError, r"parameters: .* got float: .* by name, lr=0\.1"),
        (lambda: optim.linear(1, 0, steps=3), TypeError, "by name, lr="),
        (lambda: sg.Value(1.0), TypeError, "parameters: .* got Value"),
        (lambda: "weights", TypeError, "parameters: .* got str"),
        (lambda: {"w": sg.Value(1.0)}, TypeError, "parameters: .* got dict"),
        (lambda: [1.0], TypeError, "parameters: .* got float at 0"),
        (lambda: [("w", sg.Value(1.0))], TypeError, "parameters: .* got tuple at 0"),
        (lambda: [{"params": []}], TypeError, "groups with options of their own"),
        (_shared, ValueError, "the Value at 2 is the one at 0 again"),
        (lambda: [sg.Value(1.0) * 2], ValueError, "at 0 is the result of 'mul'"),
    ],
)
def test_parameters_that_cannot_be_learned_are_refused(
    parameters: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        optim.SGD(parameters())


@pytest.mark.parametrize(
    ("make_one", "error", "message"),
    [
        (lambda: optim.SGD(lr=-0.1), ValueError, r"lr: expected a finite .* got -0\.1"),
        (lambda: optim.SGD(lr=math.nan), ValueError, "lr: expected .* got nan"),
        (lambda: optim.SGD(lr=math.inf), ValueError, "lr: expected .* got inf"),
        (lambda: optim.SGD(lr="0.1"), TypeError, r"lr: .* got str '0\.1'"),
        (lambda: optim.SGD(lr=True), TypeError, "lr: .* got bool True"),
        (lambda: optim.SGD(lr=sg.Value(0.1)), TypeError, "lr: .* got Value"),
        (lambda: optim.SGD(momentum=-1), ValueError, "momentum: .* got -1"),
        (lambda: optim.SGD(weight_decay=-1), ValueError, "weight_decay: .* got -1"),
        (lambda: optim.SGD(nesterov=True), ValueError, "nesterov: needs a momentum above 0"),
        (lambda: optim.Adam(betas=(1.0, 0.9)), ValueError, r"betas\[0\]: .* below 1, got 1"),
        (lambda: optim.Adam(betas=(0.9, -0.1)), ValueError, r"betas\[1\]: .* got -0\.1"),
        (lambda: optim.Adam(betas=0.9), ValueError, r"betas: expected two numbers .* got 0\.9"),
        (lambda: optim.Adam(betas=(0.9,)), ValueError, "betas: expected two numbers"),
        (lambda: optim.Adam(eps=-1e-8), ValueError, "eps: .* got -1e-08"),
        (lambda: optim.AdamW(weight_decay=None), TypeError, "weight_decay: .* got NoneType"),
        (lambda: optim.RMSprop(alpha=1.0), ValueError, "alpha: .* below 1, got 1"),
        (lambda: optim.RMSprop(momentum=math.nan), ValueError, "momentum: .* got nan"),
        (lambda: optim.linear(1.0, 0.0, steps=0), ValueError, "steps: expected 1 step or more"),
        (lambda: optim.linear(1.0, 0.0, steps=1.5), TypeError, "steps: expected a whole number"),
        (lambda: optim.linear(1.0, -0.1, steps=9), ValueError, "end: .* got -0.1"),
        (lambda: optim.cosine(math.nan, steps=9), ValueError, "start: .* got nan"),
        (lambda: optim.step_decay(1.0, -0.5, every=3), ValueError, "factor: .* got -0.5"),
        (lambda: optim.step_decay(1.0, every=True), TypeError, "every: .* got bool True"),
        (lambda: optim.warm_up("cosine", steps=3), TypeError, "lr: .* got str 'cosine'"),
    ],
)
def test_arguments_are_checked(make_one: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_one()


def test_a_learning_rate_can_be_assigned_and_is_checked() -> None:
    optimizer = optim.SGD([sg.Value(1.0)], lr=1)
    assert isinstance(optimizer.lr, float)
    optimizer.lr = np.float32(0.5)
    assert optimizer.learning_rate() == 0.5
    with pytest.raises(ValueError, match="lr: "):
        optimizer.lr = -1.0
    assert optimizer.lr == 0.5


def test_hyper_parameters_are_read_only_since_they_choose_the_arithmetic() -> None:
    optimizer = optim.SGD(momentum=0.9)
    with pytest.raises(TypeError):
        optimizer.hyper["momentum"] = 0.0  # type: ignore[index]


def test_repr_is_the_call_that_makes_one() -> None:
    assert repr(optim.Adam(lr=optim.cosine(0.1, steps=9))) == (
        "Adam(lr=cosine(start=0.1, end=0.0, steps=9), betas=(0.9, 0.999), eps=1e-08, "
        "weight_decay=0.0)"
    )
    again = eval(repr(optim.SGD(momentum=0.5)), vars(optim))
    assert again.state_dict() == optim.SGD(momentum=0.5).state_dict()


def test_an_optimiser_can_be_copied_and_pickled_with_its_parameters() -> None:
    optimizer = optim.Adam([sg.Value(x) for x in START], lr=optim.linear(0.1, steps=30))
    descend(optimizer, 3)
    copies = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    expected = descend(optimizer, 3)
    assert [descend(other, 3) for other in copies] == [expected, expected]


# --- schedules -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (optim.linear(1.0, 0.1, steps=100), {0: 1.0, 1: 0.991, 50: 0.55, 100: 0.1, 10**9: 0.1}),
        (optim.linear(0.1, 1.0, steps=3), {0: 0.1, 3: 1.0, 4: 1.0}),
        (optim.cosine(2.0, steps=4), {0: 2.0, 1: 1 + math.sqrt(0.5), 2: 1.0, 4: 0.0, 9: 0.0}),
        (optim.cosine(1.0, 0.2, steps=2), {0: 1.0, 1: 0.6, 2: 0.2, 3: 0.2}),
        (optim.step_decay(0.8, 0.5, every=10), {0: 0.8, 9: 0.8, 10: 0.4, 19: 0.4, 35: 0.1}),
        (optim.step_decay(0.8, every=1), {0: 0.8, 2: 0.008, 10**6: 0.0}),
        (optim.warm_up(0.5, steps=4), {0: 0.1, 1: 0.2, 3: 0.4, 4: 0.5, 99: 0.5}),
        (
            optim.warm_up(optim.linear(1.0, 0.0, steps=10), steps=4),
            {0: 0.2, 3: 0.8, 4: 1.0, 9: 0.5, 14: 0.0, 99: 0.0},
        ),
        (optim.warm_up(lambda step: 1.0 / (1 + step), steps=1), {0: 0.5, 1: 1.0, 2: 0.5}),
    ],
)
def test_schedules_start_go_and_end_where_they_say(
    schedule: optim.Schedule, expected: dict[int, float]
) -> None:
    assert {step: schedule(step) for step in expected} == pytest.approx(expected, rel=1e-12)


@given(
    start=st.floats(0, 10),
    end=st.floats(0, 10),
    steps=st.integers(1, 500),
    kind=st.sampled_from([optim.linear, optim.cosine]),
)
def test_ramps_hit_both_ends_exactly_and_never_turn_back(
    start: float, end: float, steps: int, kind: Any
) -> None:
    schedule = kind(start, end, steps=steps)
    rates = [schedule(step) for step in range(steps + 2)]
    assert rates[-1] == rates[-2] == end
    assert rates[0] == pytest.approx(start, rel=1e-15, abs=1e-15)
    slack = 4e-16 * max(start, end)
    falling = start >= end
    for a, b in pairwise(rates):
        assert b <= a + slack if falling else b >= a - slack


def test_schedules_agree_with_torch_where_it_is_installed() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    schedulers = torch.optim.lr_scheduler
    pairs = [
        (
            optim.linear(0.5, 0.05, steps=20),
            lambda o: schedulers.LinearLR(o, 1.0, 0.1, total_iters=20),
        ),
        (optim.cosine(0.5, 0.01, steps=20), lambda o: schedulers.CosineAnnealingLR(o, 20, 0.01)),
        (optim.step_decay(0.5, 0.3, every=7), lambda o: schedulers.StepLR(o, 7, 0.3)),
    ]
    for schedule, scheduler in pairs:
        peer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        theirs = scheduler(peer)
        for step in range(21):
            assert schedule(step) == pytest.approx(peer.param_groups[0]["lr"], rel=1e-12)
            peer.step()
            theirs.step()


def test_an_optimiser_follows_its_schedule() -> None:
    p = sg.Value(0.0)
    optimizer = optim.SGD([p], lr=optim.linear(1.0, 0.0, steps=4))
    moves = []
    for _ in range(6):
        before, p.grad = p.data, 1.0
        optimizer.step()
        moves.append(before - p.data)
    assert moves == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert optimizer.learning_rate(2) == 0.5


def test_a_schedule_that_gives_a_bad_rate_is_named_with_the_step() -> None:
    optimizer = optim.SGD([sg.Value(1.0)], lr=lambda step: 1.0 - step)
    optimizer.step()
    optimizer.step()
    with pytest.raises(ValueError, match=r"lr: expected .* got -1\.0 from .* at step 2"):
        optimizer.step()


def test_schedules_are_values() -> None:
    assert optim.cosine(1, steps=5) == optim.cosine(1.0, 0.0, steps=5)
    assert len({optim.linear(1, steps=5), optim.linear(1.0, 0, steps=5)}) == 1
    with pytest.raises(AttributeError):
        optim.linear(1.0, steps=5).start = 2.0  # type: ignore[misc]
    assert type(optim.linear(np.float32(0.5), steps=5)(1)) is float


# --- saving the state ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options", "expected"), TORCH, ids=NAMES)
def test_a_saved_state_goes_on_to_the_same_bits(
    name: str, options: dict[str, Any], expected: tuple[float, ...]
) -> None:
    options = {**options, "lr": optim.warm_up(optim.cosine(options["lr"], steps=15), steps=4)}
    first = make(name, [sg.Value(x) for x in START], options)
    middle = descend(first, 7)
    state = first.state_dict()
    end = descend(first, 7)
    second = make(name, [sg.Value(x) for x in middle], {**options, "lr": 0.77})
    second.load_state_dict(state)
    assert second.lr == first.lr
    assert list(map(bits, descend(second, 7))) == list(map(bits, end))
    assert second.steps == 14


def test_a_state_is_a_copy_both_ways() -> None:
    optimizer = optim.Adam([sg.Value(x) for x in START])
    descend(optimizer, 1)
    state = optimizer.state_dict()
    kept = copy.deepcopy(state)
    descend(optimizer, 1)
    np.testing.assert_equal(state, kept)
    optimizer.load_state_dict(state)
    descend(optimizer, 1)
    np.testing.assert_equal(state, kept)


def test_an_assigned_learning_rate_comes_back_and_a_function_of_ones_own_stays() -> None:
    parameters = [sg.Value(1.0)]
    optimizer = optim.SGD(parameters, lr=0.5)
    optimizer.lr = 0.25
    other = optim.SGD(parameters, lr=0.5)
    other.load_state_dict(optimizer.state_dict())
    assert other.lr == 0.25

    def halving(step: int) -> float:
        return 0.5**step

    for mine in (halving, optim.warm_up(halving, steps=3)):
        saved = optim.SGD(parameters, lr=mine).state_dict()
        assert saved["lr"] is None
        other = optim.SGD(parameters, lr=mine)
        other.load_state_dict(saved)
        assert other.lr is mine


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "SGD"}, "optimizer: the state is of 'SGD', this is Adam"),
        ({"steps": -1}, "steps: expected a whole number, 0 or more, got -1"),
        ({"steps": 1.5}, r"steps: .* got 1\.5"),
        ({"lr": "fast"}, "lr: not a number or a known schedule: 'fast'"),
        ({"lr": -1.0}, "lr: not a number or a known schedule"),
        ({"lr": {"name": "zigzag"}}, "lr: .*zigzag"),
        ({"lr": {"start": 1.0}}, "lr: "),
        ({"lr": {"name": "linear", "start": 1.0, "end": 0.0, "steps": 0}}, "lr: "),
        ({"hyper": {"betas": (0.9, 0.999)}}, r"hyper: .*missing \['eps', 'weight_decay'\]"),
        (
            {"hyper": {"betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0}},
            r"betas: saved with \(0\.9, 0\.99\), this Adam has \(0\.9, 0\.999\)",
        ),
        ({"hyper": None}, "hyper: expected a dictionary, got NoneType"),
        ({"state": {"mean": np.zeros(3)}}, r"missing \['square'\]"),
        ({"state": {"mean": np.zeros(3), "square": np.zeros(2)}}, r"square: .*shape \(3,\)"),
        ({"state": {"mean": np.zeros(3, np.float32), "square": np.zeros(3)}}, "mean: .*float32"),
        ({"state": {"mean": [0.0] * 3, "square": np.zeros(3)}}, "mean: .*list"),
        ({"surprise": 1}, r"unknown \['surprise'\]"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    change: dict[str, Any], message: str
) -> None:
    optimizer = optim.Adam([sg.Value(x) for x in START])
    descend(optimizer, 3)
    before = optimizer.state_dict()
    other = optim.Adam([sg.Value(x) for x in START])
    descend(other, 5)
    with pytest.raises(StateError, match=message):
        optimizer.load_state_dict({**other.state_dict(), **change})
    np.testing.assert_equal(optimizer.state_dict(), before)


def test_a_state_from_other_options_says_which() -> None:
    plain, heavy = optim.SGD([sg.Value(1.0)]), optim.SGD([sg.Value(1.0)], momentum=0.9)
    with pytest.raises(StateError, match=r"momentum: saved with 0\.0, this SGD has 0\.9"):
        heavy.load_state_dict(plain.state_dict())
    with pytest.raises(StateError, match="state: expected a dictionary, got list"):
        plain.load_state_dict([])  # type: ignore[arg-type]


def test_what_optimisers_and_schedules_share_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract class Schedule"):
        optim.Schedule()  # type: ignore[abstract]
    with pytest.raises(TypeError, match="abstract class Optimizer"):
        optim.Optimizer(None, 0.1, optim.SGD(lr=0.1).rule, ())  # type: ignore[abstract]
