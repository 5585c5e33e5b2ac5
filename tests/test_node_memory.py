"""Who owns a Value, and when it is freed: at once, without the collector and without recursion."""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

import scalargrad
from processes import run_python
from scalargrad import Value, live_values
from strategies import Program, on_values, wild_programs

pytestmark = [pytest.mark.pure, pytest.mark.usefixtures("by_counts_alone")]

DEEP = 1_000_000 if scalargrad.compiled else 100_000


@pytest.fixture
def alive() -> Callable[[], int]:
    """How many Values exist beyond those that existed when the test began."""
    before = live_values()
    return lambda: live_values() - before


def reachable(roots: Iterable[Value]) -> set[Value]:
    """Everything the roots depend on, themselves included."""
    found, waiting = set(roots), list(roots)
    while waiting:
        for v in waiting.pop().operands:
            if v not in found:
                found.add(v)
                waiting.append(v)
    return found


# --- counting -------------------------------------------------------------------------------------


def test_live_values_counts_every_value(alive: Callable[[], int]) -> None:
    x = Value(1.0)
    assert alive() == 1
    y = x * 2  # the result, and a leaf for the 2
    assert alive() == 3
    z = [x + y for _ in range(10)]
    assert alive() == 13
    del y
    assert alive() == 13  # z needs it
    del z
    assert alive() == 1
    del x
    assert alive() == 0


def test_a_failed_constructor_counts_nothing(alive: Callable[[], int]) -> None:
    for arguments in [("one",), (None,), (1.0, 2), ([1.0],), (10**400,)]:
        with pytest.raises((TypeError, OverflowError)):
            Value(*arguments)  # type: ignore[arg-type]
    assert alive() == 0


def test_failed_arithmetic_leaves_nothing_behind(alive: Callable[[], int]) -> None:
    v = Value(1.0)
    for operate in [lambda: v + "1", lambda: v**None, lambda: v < [], lambda: v.leaky_relu("x")]:
        with pytest.raises(TypeError):
            operate()
    assert alive() == 1


def test_constructing_again_is_writing(alive: Callable[[], int]) -> None:
    v = Value(1.0, "first")
    number = v.number
    v.__init__(2.0, "second")  # type: ignore[misc]
    assert (v.data, v.label, v.number, alive()) == (2.0, "second", number, 1)
    del v
    assert alive() == 0


def test_comparing_and_reading_keep_nothing(alive: Callable[[], int]) -> None:
    v = Value(1.0)
    for _ in range(10):
        _ = (v < 2, v >= v, float(v), round(v), f"{v:.2f}", repr(v), hash(v), v == 3, bool(v))
    assert alive() == 1


def test_labelled_values_are_freed(alive: Callable[[], int]) -> None:
    for k in range(1000):
        Value(k, f"v{k}").label = f"w{k}"
    assert alive() == 0


# --- ownership ------------------------------------------------------------------------------------


def test_dropping_the_root_frees_what_nothing_else_holds(alive: Callable[[], int]) -> None:
    parameters = [Value(k) for k in range(3)]
    loss = sum((p * 2).tanh() for p in parameters)
    loss.backward()
    held = loss.operands[1]
    del loss
    assert alive() == len(reachable([*parameters, held]))
    del held
    assert alive() == len(parameters)
    assert [p.operands for p in parameters] == [()] * 3


def test_a_result_owns_its_operands(alive: Callable[[], int]) -> None:
    y = Value(2.0) * Value(3.0)
    assert alive() == 3
    assert [v.data for v in y.operands] == [2.0, 3.0]
    del y
    assert alive() == 0


def test_a_part_outlives_the_whole(alive: Callable[[], int]) -> None:
    x = Value(2.0)
    part = x * x
    whole = part.exp() + 1
    del whole
    part.backward()
    assert x.grad == 4.0
    del x
    assert (alive(), part.operands[0].data) == (2, 2.0)


def test_backward_keeps_nothing(alive: Callable[[], int]) -> None:
    x = Value(2.0)
    y = (x * 3).sin() + x
    count = alive()
    for _ in range(5):
        y.backward()
        y.operands[0]._backward()
        _ = (y._prev, y._children, y._local_grads)
    assert alive() == count
    del _, y
    assert alive() == 1


def test_a_graph_is_no_garbage_for_the_collector() -> None:
    for _ in range(100):
        x = Value(2.0)
        ((x * 3).sin() + x).backward()
    assert gc.collect() == 0


@given(program=wild_programs(max_steps=40), seed=st.integers(0, 2**32))
def test_any_graph_is_freed_exactly_in_any_order(program: Program, seed: int) -> None:
    rng = random.Random(seed)
    before = live_values()
    values = program.run([Value(x) for x in program.inputs], on_values)
    while values:
        for _ in range(rng.randint(1, len(values))):
            values.pop(rng.randrange(len(values)))
        assert live_values() - before == len(reachable(values))


# --- depth ----------------------------------------------------------------------------------------

LINKS: dict[str, Callable[[Value], Value]] = {
    "unary": lambda y: -y,
    "left": lambda y: y + 1.0,
    "right": lambda y: 1.0 - y,
    "both": lambda y: y * y,
    "condition of where": lambda y: Value.apply("where", y, 1.0, 2.0),
    "taken side of where": lambda y: Value.apply("where", 1.0, y, 2.0),
    "other side of where": lambda y: Value.apply("where", 1.0, 2.0, y),
    "taken candidate": lambda y: Value.apply("take", 1.0, y, const=1),
    "other candidate": lambda y: Value.apply("take", y, 1.0, const=1),
    "only candidate": lambda y: Value.apply("take", y, const=0),
    "a diamond": lambda y: y * 0.5 + y * 0.5,
}


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_a_deep_graph_is_freed_without_recursion(
    link: Callable[[Value], Value], alive: Callable[[], int]
) -> None:
    x = y = Value(1.0)
    for _ in range(DEEP // 4):
        y = link(y)
    y.backward()
    del y
    assert alive() == 1
    del x
    assert alive() == 0


def test_a_chain_of_a_million_is_built_differentiated_and_freed(alive: Callable[[], int]) -> None:
    x = y = Value(1.0)
    for _ in range(DEEP):
        y = y + 1.0
    y.backward()
    assert (x.grad, alive()) == (1.0, 2 * DEEP + 1)
    del y
    assert alive() == 1


@pytest.mark.slow
def test_a_chain_of_ten_million(alive: Callable[[], int]) -> None:
    x = y = Value(1.0)
    for _ in range(10 * DEEP):
        y = y + 1.0
    y.backward()
    assert (x.grad, alive()) == (1.0, 20 * DEEP + 1)
    del y
    assert alive() == 1


def test_a_mixed_chain_is_freed(alive: Callable[[], int]) -> None:
    links = list(LINKS.values())
    x = y = Value(1.0)
    for k in range(DEEP // 20):
        y = links[k % len(links)](y)
    del y
    assert alive() == 1
    del x
    assert alive() == 0


def test_a_deep_chain_is_freed_on_a_small_stack(alive: Callable[[], int]) -> None:
    y = Value(1.0)
    for _ in range(DEEP // 5):
        y = y + 1.0
    holder = [y]
    del y
    size = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=holder.clear)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
    assert alive() == 0


def test_chains_joined_in_a_tree_are_freed(alive: Callable[[], int]) -> None:
    def tree(depth: int) -> Value:
        if depth:
            return tree(depth - 1) + tree(depth - 1)
        y = Value(1.0)
        for _ in range(500):
            y = y + 1.0
        return y

    y = tree(7)
    assert alive() == 128 * 1001 + 127
    del y
    assert alive() == 0


@pytest.mark.parametrize("seed", range(4))
def test_pieces_of_a_deep_chain_freed_in_odd_orders(seed: int, alive: Callable[[], int]) -> None:
    rng = random.Random(seed)
    length = 20_000
    y = x = Value(1.0)
    held = []
    for k in range(length):
        y = y + x if k % 2 else -y
        if rng.random() < 0.002:
            held.append(y)
    del y
    rng.shuffle(held)
    while held:
        held.pop()
        assert alive() == len(reachable([x, *held]))


def test_a_wide_node_is_freed(alive: Callable[[], int]) -> None:
    candidates = [Value(k) + 1 for k in range(50_000)]
    y = Value.apply("take", *candidates, const=49_999)
    y.backward()
    kept = candidates[7]
    del candidates
    assert alive() == 3 * 50_000 + 1
    del y
    assert alive() == 3
    assert kept.data == 8.0


def test_a_wide_sum_is_freed(alive: Callable[[], int]) -> None:
    x = Value(1.0)
    y = sum(x * k for k in range(50_000))
    y.backward()
    del y
    assert alive() == 1


def test_freeing_within_a_program_deep_in_recursion(alive: Callable[[], int]) -> None:
    """A user's recursive function may drop a deep graph at its innermost call."""

    def descend(depth: int) -> None:
        if depth:
            descend(depth - 1)
        else:
            y = Value(1.0)
            for _ in range(2000):
                y = y + 1.0
            del y

    descend(300)
    assert alive() == 0


# --- bytes ----------------------------------------------------------------------------------------


def test_a_value_takes_at_most_112_bytes() -> None:
    if not scalargrad.compiled:
        pytest.skip("the uncompiled engine has Python's objects, which are larger")
    assert sys.getsizeof(Value(1.0)) <= 112


TRAINING = """
import gc, sys
gc.disable()
import scalargrad as sg

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

parameters = [sg.Value(0.1 * k - 0.5, f"p{k}") for k in range(12)]

def step(x):
    hidden = [(parameters[3 * k] * x + parameters[3 * k + 1]).tanh() for k in range(4)]
    output = sum(h * parameters[3 * k + 2] for k, h in enumerate(hidden))
    output.label = "output"
    loss = (output - 0.3) ** 2
    for p in parameters:
        p.grad = 0.0
    loss.backward()
    for p in parameters:
        p.data -= 0.01 * p.grad

for k in range(1000):
    step(k % 7 - 3.0)
live, memory = sg.live_values(), resident()
for k in range(10_000):
    step(k % 7 - 3.0)
print(sg.live_values() - live, resident() - memory)
"""


def test_ten_thousand_training_steps_keep_memory_flat() -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("resident memory is read from /proc/self/statm")
    values, memory = map(int, run_python("-c", TRAINING).split())
    assert values == 0
    assert memory < 300_000  # under 30 bytes a step: not one Value of its 40
