"""`backward`: how gradients accumulate, in which order, and when it refuses."""

from __future__ import annotations

import math
import random
import re
import sys
from collections.abc import Callable, Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import given

import scalargrad
from scalargrad import Value
from scalargrad.errors import ScalargradError, StaleGraphError
from strategies import (
    Literal,
    Program,
    Step,
    expected_gradients,
    on_floats,
    on_values,
    same_bits,
    wild_programs,
)
from threads import in_threads, restless

pytestmark = pytest.mark.pure

# --- the algebra of accumulation ------------------------------------------------------------------


def test_backward_again_adds_the_same_again() -> None:
    x = Value(3.0)
    y = x * x * x
    for k in range(1, 5):
        y.backward()
        assert x.grad == 27.0 * k


def test_powers_accumulate_alike() -> None:
    x = Value(3.0)
    y = x**3
    y.backward()
    assert x.grad == 27.0
    y.backward()
    assert x.grad == 54.0


def test_a_value_used_as_both_operands() -> None:
    x = Value(3.0)
    for make, expected in [
        (lambda: x + x, 2.0),
        (lambda: x - x, 0.0),
        (lambda: x * x, 6.0),
        (lambda: x / x, 0.0),
        (lambda: x**x, 27.0 * (1.0 + math.log(3.0))),
        (lambda: Value.apply("maximum", x, x), 1.0),
        (lambda: Value.apply("where", x, x, x), 1.0),
        (lambda: Value.apply("take", x, x, x, const=1), 1.0),
    ]:
        x.grad = 0.0
        make().backward()
        assert x.grad == pytest.approx(expected, abs=1e-15)


def test_results_in_between_are_set_afresh() -> None:
    x = Value(2.0)
    h = x * 5
    y = h * 3
    y.backward()
    y.backward()
    assert (h.grad, y.grad, x.grad) == (3.0, 1.0, 30.0)
    h.grad = 100.0
    y.backward()
    assert (h.grad, x.grad) == (3.0, 45.0)


def test_the_gradient_of_a_leaf_is_added_to_whatever_is_there() -> None:
    x = Value(2.0)
    x.grad = 0.5
    (x * 3).backward()
    assert x.grad == 3.5


def test_backward_of_a_leaf_adds_one() -> None:
    x = Value(2.0)
    x.backward()
    x.backward()
    assert x.grad == 2.0


def test_backward_of_a_part_of_a_graph() -> None:
    a, b = Value(2.0), Value(3.0)
    part = a * b
    whole = part * 4 + b
    part.backward()
    assert (a.grad, b.grad, part.grad, whole.grad) == (3.0, 2.0, 1.0, 0.0)
    whole.backward()
    assert (a.grad, b.grad, part.grad) == (3.0 + 12.0, 2.0 + 9.0, 4.0)


def test_graphs_that_share_a_part_do_not_disturb_each_other() -> None:
    def build() -> tuple[Value, Value, Value]:
        x = Value(0.7)
        shared = (x * 3).tanh()
        return x, shared * 2, shared * shared

    x, first, _ = build()
    first.backward()
    alone_first = x.grad
    x, _, second = build()
    second.backward()
    alone_second = x.grad

    for order in ((1, 2), (2, 1), (1, 2, 1), (2, 2, 1)):
        x, first, second = build()
        for which in order:
            (first, second)[which - 1].backward()
        expected = sum((alone_first, alone_second)[which - 1] for which in order)
        assert x.grad == pytest.approx(expected, rel=1e-15)


def test_a_sum_of_losses_is_the_sum_of_their_gradients() -> None:
    x = Value(1.5)
    losses = [(x * k).sin() for k in range(1, 6)]
    sum(losses).backward()
    together, x.grad = x.grad, 0.0
    for loss in losses:
        loss.backward()
    assert x.grad == pytest.approx(together, rel=1e-14)


def test_nodes_outside_the_graph_are_left_alone() -> None:
    x = Value(2.0)
    other = x * 7
    other.grad, y = 11.0, x * 3
    y.backward()
    assert (other.grad, x.grad) == (11.0, 3.0)


@given(program=wild_programs(), times=st.integers(1, 4))
def test_leaf_gradients_are_linear_in_the_calls(program: Program, times: int) -> None:
    inputs = [Value(x) for x in program.inputs]
    y = program(*inputs)
    y.backward()
    once = [v.grad for v in inputs]
    expected = list(once)
    for _ in range(times):
        y.backward()
        # Adding one by one is what happens only where a leaf is used once.
        expected = [total + g for total, g in zip(expected, once)]
    for v, total in zip(inputs, expected):
        assert v.grad == pytest.approx(total, rel=1e-9, nan_ok=True) or not math.isfinite(total)


# --- zero gradients pass nothing on ---------------------------------------------------------------


@pytest.mark.parametrize("x", [0.0, -1.0, -math.inf])
def test_the_branch_not_taken_gives_no_nan(x: float) -> None:
    v = Value(x)
    y = Value.apply("where", 1.0 if x > 0 else 0.0, v.log(), 0.0)
    y.backward()
    assert (y.data, v.grad) == (0.0, 0.0)


def test_an_untaken_side_passes_nothing_through_many_operations() -> None:
    x = Value(0.0)
    untaken = (1 / x).exp().log() * x.log() - x**-0.5
    assert not math.isfinite(untaken.data)
    taken = x * 2 + 1
    Value.apply("where", 0.0, untaken, taken).backward()
    assert (x.grad, untaken.grad) == (2.0, 0.0)


@pytest.mark.parametrize(("op", "other"), [("maximum", 5.0), ("minimum", -5.0)])
def test_the_losing_side_of_an_extremum_gives_no_nan(op: str, other: float) -> None:
    x = Value(0.0)
    losing = x.sqrt()  # derivative inf at 0
    Value.apply(op, losing, other).backward()
    assert (losing.grad, x.grad) == (0.0, 0.0)


@pytest.mark.parametrize("op", ["relu", "abs"])
def test_a_flat_piece_gives_no_nan(op: str) -> None:
    x = Value(0.0)
    flat = -(x.sqrt()) if op == "relu" else x.sqrt()
    getattr(flat, op)().backward()
    assert x.grad == 0.0


def test_candidates_not_taken_give_no_nan() -> None:
    x = Value(0.0)
    Value.apply("take", x.log(), x + 1, x.sqrt(), const=1).backward()
    assert x.grad == 1.0


def test_a_gradient_that_cancels_to_zero_passes_nothing() -> None:
    x = Value(0.0)
    root = x.sqrt()
    (root * 3 - root * 3).backward()
    assert (root.grad, x.grad) == (0.0, 0.0)


def test_a_nan_gradient_is_passed_on() -> None:
    x = Value(0.0)
    y = x.sqrt()
    (y * y - y).backward()  # 0 * inf is avoided only for gradients that are 0
    assert x.grad == -math.inf
    z = Value(2.0)
    (z * math.nan).backward()
    assert math.isnan(z.grad)


# --- order: descending creation number ------------------------------------------------------------


def test_creation_numbers_ascend_from_operands_to_results() -> None:
    a = Value(1.0)
    b = a + 1
    c = b * a
    assert a.number < b.number < c.number


def fold(contributions: Sequence[float]) -> float:
    """Their sum, adding from the left."""
    total = 0.0
    for x in contributions:
        total += x
    return total


def scattered_products(
    count: int, gap: Callable[[int], int], seed: int
) -> tuple[Value, list[Value], Value]:
    """x, products x * c made with gaps between their creation numbers, and a sum of them.

    The c differ so much in size that adding them in any other order gives other bits, and the
    sum takes them in an order of its own.
    """
    rng = random.Random(seed)
    x, products = Value(1.0), []
    for k in range(count):
        products.append(x * (rng.uniform(-1, 1) * 10.0 ** rng.uniform(-8, 8)))
        for _ in range(gap(k)):
            Value(0.0)
    shuffled = rng.sample(products, count)
    while len(shuffled) > 1:
        shuffled = [a + b for a, b in zip(shuffled[::2], shuffled[1::2])] + (
            shuffled[-1:] if len(shuffled) % 2 else []
        )
    return x, products, shuffled[0]


MILLION = 10**6
GAPS: dict[str, Callable[[int], int]] = {
    "dense": lambda k: 0,
    "small gaps": lambda k: k % 3,
    "just beyond a table": lambda k: 12,
    "2^11": lambda k: 40,
    "2^12 and more": lambda k: 2**12 if k % 50 == 25 else 0,
    "one gap of 2^20": lambda k: 2**20 if k == 100 else 0,
    "ascending": lambda k: k,
}


@pytest.mark.parametrize("gap", GAPS.values(), ids=GAPS)
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_are_added_in_descending_creation_order(
    gap: Callable[[int], int], seed: int
) -> None:
    x, products, total = scattered_products(200, gap, seed)
    total.backward()
    products.sort(key=lambda v: v.number)
    contributions = [v.operands[1].data for v in products]
    assert x.grad == fold(contributions[::-1])
    assert x.grad != fold(contributions)  # the order is visible in the bits


def test_order_over_more_than_two_radix_digits() -> None:
    """Creation numbers that span more than 2^22, and again more than 2^23: three passes."""
    if not scalargrad.compiled:
        pytest.skip(
            "the uncompiled engine sorts with Python's sort; 10 million Values take a minute"
        )
    x, products, total = scattered_products(
        300, lambda k: 5 * MILLION if k in (90, 210) else k % 7, 5
    )
    assert products[-1].number - products[0].number > 2**23
    total.backward()
    contributions = [v.operands[1].data for v in products]
    assert x.grad == fold(contributions[::-1]) != fold(contributions)


@given(
    program=wild_programs(max_steps=30),
    gaps=st.lists(st.sampled_from([0, 0, 1, 5, 64, 3000]), min_size=30, max_size=30),
)
def test_gaps_between_creation_numbers_change_no_bit(program: Program, gaps: list[int]) -> None:
    waiting = iter(gaps)

    def apply(name: str, operands: Sequence[Value], constant: float) -> Value:
        for _ in range(next(waiting)):
            Value(0.0)
        return Value.apply(name, *operands, const=constant)

    values = program.run([Value(x) for x in program.inputs], apply)
    values[-1].backward()
    expected = expected_gradients(program, program.run(program.inputs, on_floats))
    assert same_bits([v.grad for v in values], expected)


def test_the_reference_order_matters_to_the_reference() -> None:
    """`expected_gradients` can tell a wrong order: the tests above are able to fail."""
    products = [Step("mul", (0, Literal(c))) for c in (1e16, 1.0, -1e16)]
    program = Program((1.0,), (*products, Step("add", (2, 1)), Step("add", (4, 3))))
    results = program.run(program.inputs, on_floats)
    assert expected_gradients(program, results)[0] == 0.0
    order = depth_first_order(program)
    assert expected_gradients(program, results, visiting=order)[0] == 1.0
    x = Value(1.0)
    program(x).backward()
    assert x.grad == 0.0


def depth_first_order(program: Program) -> list[int]:
    """The steps in the order of micrograd's depth-first search, which ignores creation order."""
    first, order, seen = len(program.inputs), [], set()

    def visit(k: int) -> None:
        if k in seen or k < first:
            return
        seen.add(k)
        for x in program.steps[k - first].operands:
            if isinstance(x, int):
                visit(x)
        order.append(k - first)

    visit(first + len(program.steps) - 1)
    return order[::-1]


def test_interleaved_graphs_do_not_change_each_other() -> None:
    """Several graphs built in turns have the gradients of the same graphs built one by one."""

    def grow(y: Value, x: Value, k: int) -> Value:
        return (y * 1.01 + x * (k % 7 - 3.3)).tanh() + y * 0.1

    def one() -> float:
        x = Value(0.3)
        y = x * 1.0
        for k in range(200):
            y = grow(y, x, k)
        y.backward()
        return x.grad

    alone = one()
    leaves = [Value(0.3) for _ in range(25)]
    roots = [x * 1.0 for x in leaves]
    for k in range(200):
        roots = [grow(y, x, k) for y, x in zip(roots, leaves)]
    for y in reversed(roots):
        y.backward()
    assert {x.grad for x in leaves} == {alone}


def test_many_graphs_alive_at_once() -> None:
    """Backward through one of many live graphs touches that one only."""
    graphs = []
    for k in range(300):
        x = Value(k / 100)
        h = x.exp()
        graphs.append((x, h, h * h + x))
    for x, h, y in graphs[::2]:
        y.backward()
        assert x.grad == pytest.approx(2.0 * math.exp(2 * x.data) + 1.0, rel=1e-14)
        assert h.grad == 2.0 * h.data
    for x, h, y in graphs[1::2]:
        assert (x.grad, h.grad, y.grad) == (0.0, 0.0, 0.0)


def test_backward_keeps_the_references_it_found() -> None:
    """Ordering the tape in place neither loses nor duplicates a reference."""
    x, products, total = scattered_products(100, lambda k: 30, 3)
    counts = [sys.getrefcount(v) for v in products]
    for _ in range(10):
        total.backward()
    assert [sys.getrefcount(v) for v in products] == counts
    assert [v.operands[0] is x for v in products] == [True] * 100


def test_threads_do_not_mix_their_traversals() -> None:
    """Each of several threads differentiates graphs of its own."""
    wrong: list[float] = []

    def work() -> None:
        for _ in range(60):
            x = Value(2.0)
            y = x * 1.0
            for _ in range(30):
                y = y * 0.5 + y * 0.5
            y.backward()
            if x.grad != 1.0:
                wrong.append(x.grad)

    with restless():
        in_threads(*[work] * 4)
    assert wrong == []


def test_a_deep_chain() -> None:
    x = y = Value(1.0)
    length = 200_000
    for _ in range(length):
        y = y + 1.0
    y.backward()
    assert (y.data, x.grad) == (1.0 + length, 1.0)


def test_a_wide_graph() -> None:
    x = Value(2.0)
    parts = [x * k for k in range(50_000)]
    sum(parts).backward()
    assert x.grad == sum(range(50_000))
    assert {v.grad for v in parts} == {1.0}


def test_paths_that_double_at_every_step() -> None:
    x = Value(1.0)
    y = x + 0.0
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad == 2.0**60


# --- numbers changed under a graph ----------------------------------------------------------------


def touched_nothing(root: Value, nodes: Sequence[Value]) -> StaleGraphError:
    """The error of root.backward(), having checked that no gradient of the leaves changed."""
    leaves = [v for v in nodes if not v.operands]
    for k, v in enumerate(leaves):
        v.grad = 100.0 + k
    with pytest.raises(StaleGraphError) as caught:
        root.backward()
    assert [v.grad for v in leaves] == [100.0 + k for k in range(len(leaves))]
    return caught.value


def test_a_leaf_changed_after_use() -> None:
    x, w = Value(2.0, "x"), Value(3.0, "w")
    h = x * w
    y = h + 1
    w.data = 5.0
    error = touched_nothing(y, [x, w, h, y])
    assert isinstance(error, ScalargradError)
    assert isinstance(error, RuntimeError)
    message = str(error)
    for part in ("backward", "w", "5.0", "compute the result again"):
        assert part in message


def test_the_message_names_the_leaf_that_changed() -> None:
    messages = []
    for changed in (0, 1):
        leaves = [Value(2.0, "x"), Value(2.0, "w")]
        y = leaves[0] * leaves[1]
        leaves[changed].data = 5.0
        for v in leaves:
            v.grad = 0.0
        messages.append(str(touched_nothing(y, leaves)))
    first_named = [re.search(r"\b[xw]\b", message)[0] for message in messages]  # type: ignore[index]
    assert first_named == ["x", "w"], messages


def test_a_result_overwritten_after_use() -> None:
    x = Value(2.0, "x")
    h = x * 3
    h.label = "hidden"
    y = h + 1
    h.data = 7.0
    error = touched_nothing(y, [x, h, y])
    for part in ("hidden", "7.0"):
        assert part in str(error)


def test_an_overwritten_root() -> None:
    x = Value(2.0)
    y = x * 3
    y.data = 1.0
    touched_nothing(y, [x, y])


def test_a_result_overwritten_before_it_is_used_again() -> None:
    """What is built on the new number is right, but what h depends on no longer explains it."""
    x = Value(2.0)
    h = x * 3
    h.data = 7.0
    touched_nothing(h * 2, [x, h])


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_changed_operand_of_where(place: int) -> None:
    operands = [Value(1.0), Value(2.0), Value(3.0)]
    y = Value.apply("where", *operands)
    operands[place].data = 0.0
    touched_nothing(y, operands)


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_changed_candidate_of_take(place: int) -> None:
    operands = [Value(k) for k in range(4)]
    y = Value.apply("take", *operands, const=2)
    operands[place].data = 9.0
    touched_nothing(y, operands)


def test_an_old_graph_is_stale_and_a_new_one_is_not() -> None:
    w = Value(3.0)
    old = w * w
    w.data = 4.0
    new = w * w
    touched_nothing(old, [w])
    w.grad = 0.0
    new.backward()
    assert w.grad == 8.0


def test_a_graph_built_around_a_change_is_stale() -> None:
    w = Value(3.0)
    before = w * 2
    w.data = 4.0
    after = w * 5
    touched_nothing(before + after, [w, before, after])
    w.grad = 0.0
    after.backward()
    assert w.grad == 5.0


def test_many_changes_are_not_mistaken_for_none() -> None:
    a, b = Value(1.0), Value(2.0)
    y = a * b
    for _ in range(300):
        a.data, b.data = b.data, a.data
    touched_nothing(y, [a, b])


def test_a_change_outside_the_graph_does_no_harm() -> None:
    x, other = Value(2.0), Value(3.0)
    unused = x * other
    y = x * 4
    other.data = 9.0
    y.backward()
    assert x.grad == 4.0
    touched_nothing(unused, [x, other])


def test_changing_a_gradient_or_a_label_is_no_change_of_data() -> None:
    x = Value(2.0)
    h = x * 3
    y = h * 4
    x.grad, h.grad, x.label, h.label = 1.0, 2.0, "x", "h"
    y.backward()
    assert x.grad == 13.0


def test_a_gradient_set_to_negative_zero_is_zero() -> None:
    x = Value(2.0)
    x.grad = -0.0
    assert math.copysign(1.0, x.grad) == 1.0


def test_a_changed_leaf_alone_may_be_differentiated() -> None:
    x = Value(2.0)
    x.data = 3.0
    x.backward()
    assert x.grad == 1.0


def test_the_refusal_repeats_and_ends_with_the_graph() -> None:
    x = Value(2.0)
    y = x * x
    x.data = 3.0
    for _ in range(3):
        touched_nothing(y, [x, y])
    x.grad = 0.0
    (x * x).backward()
    assert x.grad == 6.0


def test_gradient_descent_by_hand() -> None:
    """The usual loop, which overwrites parameters between graphs, is not disturbed."""
    w = Value(0.0)
    for _ in range(100):
        loss = (w - 3) ** 2
        w.grad = 0.0
        loss.backward()
        w.data -= 0.1 * w.grad
    assert w.data == pytest.approx(3.0, abs=1e-8)


@given(program=wild_programs(), which=st.integers(0, 3), seed=st.integers(0, 99))
def test_any_changed_input_is_noticed_if_it_is_reached(
    program: Program, which: int, seed: int
) -> None:
    values = program.run([Value(x) for x in program.inputs], on_values)
    root = values[-1]
    changed = values[which % len(program.inputs)]
    reached, waiting = {root}, [root]
    while waiting:
        for v in waiting.pop().operands:
            if v not in reached:
                reached.add(v)
                waiting.append(v)
    changed.data = float(seed)
    if changed in reached and changed is not root:
        touched_nothing(root, values)
    else:
        root.backward()
