"""The derivative as a graph: the bits of the engine, branches not taken, and its own derivative."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import generated
import scalargrad
from generated import is_promised, program, run, some_outputs
from scalargrad import Graph, Value, ops
from scalargrad.compiler import adjoint as module
from scalargrad.compiler.adjoint import Derivative, adjoint, gradients
from scalargrad.errors import ShapeError
from strategies import (
    SMOOTH_OPS,
    Program,
    any_floats,
    bits,
    on_floats,
    programs,
    same_bits,
    wild_programs,
)

pytestmark = pytest.mark.pure

COUNT = generated.COUNT if scalargrad.compiled or generated.LONG else 1_000
LARGE = 100_000 if scalargrad.compiled else 10_000


def backward(outputs: Sequence[Value], leaves: Sequence[Value]) -> list[float]:
    """The gradient of the sum of the outputs, by the engine."""
    for leaf in leaves:
        leaf.grad = 0.0
    if len(outputs) == 1:
        outputs[0].backward()
    else:
        Graph(outputs).backward()
    return [leaf.grad for leaf in leaves]


def numbers(values: Sequence[Value]) -> list[float]:
    return [value.data for value in values]


def disagreement(program: Program, rng: random.Random) -> str:
    """How engine, replayed graph and derivative as a graph differ on a program; "" if they do not.

    At the program's inputs, then at others: replaying must follow.
    """
    leaves, results = run(program)
    outputs = some_outputs(rng, results)
    graph = Graph(outputs)
    both = adjoint(graph, leaves)
    for inputs in (program.inputs, [generated.number(rng) for _ in leaves]):
        for leaf, x in zip(leaves, inputs):
            leaf.data, leaf.grad = x, 0.0
        graph.forward()
        graph.backward()
        replayed = [leaf.grad for leaf in leaves]
        fresh_leaves, fresh = run(program, inputs)
        same = [fresh[results.index(output)] for output in outputs]
        if not same_bits(numbers(same), numbers(outputs)):
            return f"values at {inputs}: {numbers(same)}, replayed {numbers(outputs)}"
        if not same_bits(eager := backward(same, fresh_leaves), replayed):
            return f"gradients at {inputs}: {eager}, replayed {replayed}"
        if is_promised(same, fresh):
            both.forward()
            built = numbers(both.outputs)[len(outputs) :]
            if not same_bits(eager, built):
                return f"gradients at {inputs}: {eager}, by the adjoint {built}"
    return ""


# --- the same bits ----------------------------------------------------------------------------------


def test_engine_graph_and_adjoint_agree_on_random_programs() -> None:
    for seed in range(COUNT):
        rng = random.Random(seed)
        drawn = program(rng)
        wrong = disagreement(drawn, rng)
        assert not wrong, f"seed {seed}: {wrong}\n{drawn}"


@given(wild_programs(), st.integers(0, 2**32))
def test_engine_graph_and_adjoint_agree_on_any_program(drawn: Program, seed: int) -> None:
    assert not disagreement(drawn, random.Random(seed))


def test_the_derivative_of_the_derivative_agrees_with_the_engine() -> None:
    checked = 0
    for seed in range(COUNT // 4):
        rng = random.Random(seed)
        leaves, results = run(program(rng, size=7))
        first = gradients(some_outputs(rng, results), leaves)
        total = sum(first[1:], first[0])
        if is_promised([total], Graph(total).nodes):
            checked += 1
            built = numbers(gradients(total, leaves))
            assert same_bits(backward([total], leaves), built), f"seed {seed}"
    assert checked > COUNT // 8


def test_random_programs_reach_what_they_are_meant_to() -> None:
    kinds: Counter[str] = Counter()
    used: set[str] = set()
    for seed in range(COUNT):
        leaves, results = run(program(random.Random(seed)))
        eager = backward([results[-1]], leaves)
        promised = is_promised([results[-1]], results)
        finite = all(math.isfinite(x.data) for x in Graph(results[-1]).nodes)
        flows = any(g != 0.0 for g in eager)
        kinds["promised"] += promised
        kinds["side not finite"] += promised and not finite and flows
        used |= set(Graph(results[-1]).op_counts())
    assert used == set(ops.BY_NAME)
    assert kinds["promised"] > 0.8 * COUNT
    assert kinds["side not finite"] > 0.01 * COUNT


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("_has_pole", lambda code, const: False),
        ("_is_root", lambda code, const: False),
        ("_can_vanish", lambda code, slot, const: False),
    ],
)
def test_each_guard_is_needed(name: str, planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, name, planted)
    drawn = ((random.Random(seed), seed) for seed in range(10 * COUNT))
    assert any(disagreement(program(rng), rng) for rng, _ in drawn)


def test_another_order_of_accumulation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class LastFirst(module._Flow):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.parts: dict[int, list[Any]] = {}

        def add(self, j: int, part: Any) -> None:
            parts = self.parts.setdefault(j, [])
            parts.insert(0, part)
            self.at[j] = sum(parts[1:], parts[0])

    monkeypatch.setattr(module, "_Flow", LastFirst)
    drawn = (random.Random(seed) for seed in range(2000))
    assert any(disagreement(program(rng), rng) for rng in drawn)


# --- branches that were not taken -------------------------------------------------------------------

# inf or nan at x < 0
SIDES: dict[str, Callable[[Value, Value], Value]] = {
    "log": lambda x, w: w * x.log(),
    "sqrt": lambda x, w: (x - 1.0).sqrt() * w,
    "division": lambda x, w: w / (x - x),
    "division by it": lambda x, w: (w / x) * (x / (x * 0.0)),
    "exp": lambda x, w: (x * -1e7).exp() * w,
    "a root": lambda x, w: (x**0.5) * w + x**-1.5,
    "power": lambda x, w: (x**w) * w,
    "tanh of it": lambda x, w: (w * x.log()).tanh() + (x.log() * w).sigmoid() * w,
    "sine of it": lambda x, w: (w / (x * 0.0)).sin() * w,
    "gelu of it": lambda x, w: (w / (x * 0.0)).gelu() * w,
    "a sum of them": lambda x, w: (x.log() + x.sqrt()) * (w - x.log()),
    "many products": lambda x, w: sum([w * k * x.log() for k in range(9)], x.log() * w),
}
CHOICES: dict[str, Callable[[Value, Value], Value]] = {
    "where": lambda x, side: Value.apply("where", Value.apply("less", 0.0, x), side, x * 0.25),
    "else": lambda x, side: Value.apply("where", Value.apply("less", x, 0.0), x, side),
    "take": lambda x, side: Value.apply("take", side, x * 2.0, const=1),
}
# -inf at x = 0
DEPTHS: dict[str, Callable[[Value, Value], Value]] = {
    "log": lambda x, w: w * x.log(),
    "division": lambda x, w: -w / (x * x),
    "exp": lambda x, w: -((x + 1000.0).exp() * w),
    "pow": lambda x, w: (x**-2.0) * -w,
    "power": lambda x, w: w * -(x**-w),
    "many products": lambda x, w: sum([w * k * x.log() for k in range(1, 9)], x.log() * w),
}
CLIPS: dict[str, Callable[[Value, Value], Value]] = {
    "maximum": lambda x, side: Value.apply("maximum", side, x + 1.0),
    "minimum": lambda x, side: Value.apply("minimum", x + 1.0, -side),
    "relu": lambda x, side: side.relu() + x,
    "two of them": lambda x, side: Value.apply("minimum", side.relu(), -side) * x,
}
UNTAKEN = [
    *((-x, choose, side) for x in (1.0, 1e-3) for choose in CHOICES for side in SIDES),
    *((0.0, clip, depth) for clip in CLIPS for depth in DEPTHS),
]


@pytest.mark.parametrize(("start", "select", "side"), UNTAKEN)
def test_a_side_not_taken_gives_no_nan(start: float, select: str, side: str) -> None:
    leaves = [Value(start), Value(0.7)]
    x, w = leaves
    untaken = (SIDES if select in CHOICES else DEPTHS)[side](x, w)
    assert not math.isfinite(untaken.data)
    y = (CHOICES | CLIPS)[select](x, untaken) * w
    first = gradients(y, leaves)
    assert all(math.isfinite(g.data) for g in first)
    assert same_bits(backward([y], leaves), numbers(first))
    for g in first:
        second = gradients(g, leaves)
        assert all(math.isfinite(h.data) for h in second)
        assert same_bits(backward([g], leaves), numbers(second))


def test_the_textbook_case() -> None:
    for start, slopes in ((2.0, (0.5, -0.25, 0.25)), (0.0, (0.0,) * 3), (-1.0, (0.0,) * 3)):
        x = Value(start)
        y = Value.apply("where", Value.apply("less", 0.0, x), x.log(), 0.0)
        for slope in slopes:
            (y,) = gradients(y, [x])
            assert bits(y.data) == bits(slope)


def test_no_gradient_at_0_where_the_engine_has_none() -> None:
    x = Value(0.0)
    for y in (
        (x**2).sqrt(),
        x.relu().sqrt(),
        abs(x).sqrt(),
        0.0 * x.sqrt(),
        x.sqrt() ** 2,
        (x**x).tanh(),
    ):
        assert numbers(gradients(y, [x])) == backward([y], [x]) == [0.0]


def test_a_relu_network_costs_no_guards() -> None:
    rng = random.Random(0)
    x = [Value(rng.gauss(0, 1)) for _ in range(5)]
    w = [[Value(rng.gauss(0, 1)) for _ in range(5)] for _ in range(4)]
    hidden = [sum((a * b for a, b in zip(row, x)), Value(0.0)).relu() for row in w]
    y = (1.0 - sum(hidden, Value(0.0))).relu()
    both = adjoint(Graph(y), [v for row in w for v in row])
    assert both.op_counts()["where"] <= 5  # one for each relu, and nothing else
    assert "less_equal" not in both.op_counts()


KINDLESS = [n for n in SMOOTH_OPS if n not in ("where", "take", "abs", "relu", "leaky_relu")]


@pytest.mark.parametrize("name", [n for n in KINDLESS if n not in ("maximum", "minimum")])
@pytest.mark.parametrize("at", [0.0, 1.5])
def test_guards_do_not_cut_second_derivatives(name: str, at: float) -> None:
    # Where the first derivative is 0 by c = 0, or by x^2 at x = 0, the second one is not.
    arity = ops.BY_NAME[name].arity
    const = {"pow": 0.5}.get(name, 0.0)
    point = [0.7, 1.3][:arity]
    slopes = ops.BY_NAME[name].partials(
        *point, *_constants(ops.BY_NAME[name], const), _at(name, point, const)
    )
    for slot, slope in enumerate(slopes):
        x, c = Value(0.0), Value(at)
        squared: list[Any] = list(point)
        squared[slot] = x**2 + point[slot]
        product = [Value(p) for p in point]
        y = Value.apply(name, *squared, const=const) * c
        z = Value.apply(name, *product, const=const) * c
        (first,) = gradients(y, [x])
        (second,) = gradients(first, [x])
        assert (first.data, second.data) == (0.0, pytest.approx(2.0 * slope * at, rel=1e-14))
        (mixed,) = gradients(gradients(z, [product[slot]])[0], [c])
        assert mixed.data == pytest.approx(slope, rel=1e-14)


def _at(name: str, point: Sequence[float], const: float) -> float:
    return on_floats(name, point, const)


def test_powers_at_0_to_every_order() -> None:
    x = Value(0.0)
    for y in (
        x**4 * 2.0 + x**3,
        x * x * x * x * 2.0 + x * x * x,
        (x.sin() ** 3 + 2.0 * x.tanh() ** 4),
    ):
        found = []
        for _ in range(4):
            (y,) = gradients(y, [x])
            found.append(y.data)
        assert found == [0.0, 0.0, 6.0, 48.0]


def test_the_tables_of_guards_agree_with_the_op_table() -> None:
    blocked = {
        row.code
        for row in ops.TABLE
        if row.arity is not None
        and not any(row.partials(*map(Value, [0.5] * row.arity), *_constants(row, 2.0), Value(0.5)))
    }
    assert blocked == module._BLOCKS


def _constants(row: ops.Op, c: float) -> tuple[float, ...]:
    return (c,) if row.constant else ()


SMOOTH = [
    row.name
    for row in ops.TABLE
    if row.code not in module._BLOCKS | {ops.ADD, ops.SUB, ops.MUL, ops.NEG, ops.WHERE, ops.TAKE}
]


@pytest.mark.parametrize("name", SMOOTH)
@given(data=st.data())
def test_what_partials_can_do_is_what_the_guards_assume(name: str, data: st.DataObject) -> None:
    row = ops.BY_NAME[name]
    assert row.arity is not None
    finite = any_floats().filter(math.isfinite)
    operands = data.draw(st.lists(finite, min_size=row.arity, max_size=row.arity))
    const = data.draw(st.sampled_from((2.0, 3.0, 0.5, -1.0, 0.01, 0.0, 100.0)))
    y = on_floats(name, operands, const)
    if not math.isfinite(y):
        return
    for slot, d in enumerate(row.partials(*operands, *_constants(row, const), y)):
        overflow = any(0.0 < abs(x) < 1e-150 or abs(x) > 1e150 for x in (*operands, y))
        assert math.isfinite(d) or module._is_root(row.code, const) or overflow
        assert d != 0.0 or module._can_vanish(row.code, slot, const)


# --- what it is asked for ---------------------------------------------------------------------------


def test_the_readme_example() -> None:
    x, y = Value(3.0), Value(2.0)
    both = adjoint(Graph(x**2 * y))
    assert both.forward() == (18.0, 12.0, 9.0)
    x.data = 5.0
    assert both.forward() == (50.0, 20.0, 25.0)


def test_gradients_leave_every_grad_alone() -> None:
    x = Value(3.0)
    y = x * x
    gradients(y, [x])
    assert (x.grad, y.grad) == (0.0, 0.0)


def test_outputs_may_be_leaves_constants_and_duplicates() -> None:
    x, c = Value(3.0), Value(5.0)
    assert numbers(gradients(x, [x])) == [1.0]
    assert numbers(gradients(c, [x])) == [0.0]
    assert numbers(gradients([x, x, x * x], [x, c])) == [8.0, 0.0]
    y = x * 2.0
    assert numbers(gradients([y, y], [x], seeds=[1.0, 10.0])) == [22.0]


def test_variables_may_be_results_and_may_occur_twice() -> None:
    x = Value(3.0)
    y = x * 2.0
    z = y * y + x
    assert numbers(gradients(z, [y, x, y])) == [12.0, 25.0, 12.0]
    assert gradients(z, []) == []


def test_seeds_weigh_the_outputs_and_may_be_values() -> None:
    x, seed = Value(3.0), Value(0.5)
    (g,) = gradients([x * x, x], [x], seeds=[seed, 2.0])
    assert g.data == 5.0
    g.backward()
    assert seed.grad == 6.0
    with pytest.raises(ShapeError, match=r"seeds: expected one per output \(2\), got 1"):
        gradients([x, x], [x], seeds=[1.0])


@pytest.mark.parametrize("seed", [math.inf, -math.inf, math.nan])
def test_seeds_that_are_not_finite_act_as_in_the_engine(seed: float) -> None:
    for f in (lambda x: x.relu(), lambda x: x**2 * 3.0, lambda x: x.tanh() + x, lambda x: -x):
        for start in (0.0, -1.0, 2.0):
            x = Value(start)
            graph = Graph(f(x))
            graph.backward([seed])
            assert same_bits([x.grad], numbers(gradients(f(x), [x], [seed]))) or start == 0.0


def test_detach_stops_the_gradient_at_every_order() -> None:
    x = Value(3.0)
    y = x * x * Value.apply("detach", x * x)
    (first,) = gradients(y, [x])
    (second,) = gradients(first, [x])
    assert (first.data, second.data) == (54.0, 18.0)


def test_a_wide_node_keeps_every_contribution_in_order() -> None:
    x = Value(0.1)
    terms = [x * (0.1 * k) for k in range(1, 200)]
    y = sum(terms[1:], terms[0])
    assert same_bits(backward([y], [x]), numbers(gradients(y, [x])))


# --- an index that changes from call to call ---------------------------------------------------------


def test_the_gradient_of_a_traced_take_follows_the_index() -> None:
    rows = [Value(float(k)) for k in range(4)]
    index = Value(2.0)
    taken = Value.apply("take", *rows, const=2)
    y = taken * taken * 3.0

    def index_of(node: Value) -> Value | None:
        return index if node is taken else None

    both = adjoint(Graph(y), rows, index_of)
    both.forward()
    assert numbers(both.outputs)[1:] == [0.0, 0.0, 12.0, 0.0]
    index.data = 1.0
    slot = both.tape.many[both.tape.lhs[both.nodes.index(taken)]]
    both.tape.index[slot] = 1
    both.forward()
    assert numbers(both.outputs) == [3.0, 0.0, 6.0, 0.0, 0.0]


def test_the_speed_of_a_traced_take_follows_the_index() -> None:
    rows = [Value(float(k)) for k in range(3)]
    index = Value(2.0)
    taken = Value.apply("take", *rows, const=2)
    derivative = Derivative(Graph(taken), rows, lambda node: index)
    (speed,) = derivative.forward([5.0, 6.0, 7.0])
    graph = Graph(speed)
    assert speed.data == 7.0
    for k, expected in ((0, 5.0), (1, 6.0), (2, 7.0)):
        index.data = float(k)
        assert graph.forward() == expected


def test_a_candidate_not_taken_may_be_infinite() -> None:
    x, index = Value(0.0), Value(1.0)
    log = x.log()
    taken = Value.apply("take", log * x, x * 3.0, const=1)
    (g,) = Derivative(Graph(taken), [x], lambda node: index).backward()
    assert g.data == 3.0


# --- forward ----------------------------------------------------------------------------------------


@given(programs(max_steps=12), st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3))
def test_forward_and_backward_are_one_jacobian(drawn: Program, speeds: list[float]) -> None:
    leaves, results = run(drawn)
    derivative = Derivative(Graph(results[-1]), leaves)
    slopes = numbers(derivative.backward())
    (speed,) = derivative.forward(speeds[: len(leaves)])
    terms = [slope * speed for slope, speed in zip(slopes, speeds)]
    size = 1.0 + math.fsum(map(abs, terms)) + max(abs(x.data) for x in results)
    assert speed.data == pytest.approx(math.fsum(terms), rel=1e-9, abs=1e-9 * size)


def test_forward_through_a_side_not_taken() -> None:
    for side in SIDES.values():
        x, w = Value(-1.0), Value(0.7)
        y = CHOICES["where"](x, side(x, w)) * w
        (speed,) = Derivative(Graph(y), [x, w]).forward([1.0, 10.0])
        assert speed.data == pytest.approx(0.25 * 0.7 - 0.25 * 10.0)


def test_forward_wants_one_direction_per_variable() -> None:
    x = Value(1.0)
    with pytest.raises(ShapeError, match=r"directions: expected one per variable \(1\), got 2"):
        Derivative(Graph(x * x), [x]).forward([1.0, 2.0])


# --- size -------------------------------------------------------------------------------------------


def test_lines_carry_over() -> None:
    x = Value(2.0)
    a = x * x
    b = a.tanh()
    lines = {a.number: "model.py:1", b.number: "model.py:2"}
    both = adjoint(Graph(b, lines), [x])
    by_op: dict[str, set[str]] = {}
    for node in both:
        if node.operands:
            by_op.setdefault(node.line, set()).add(node.op)
    assert by_op["model.py:2"] >= {"tanh", "sub"}
    assert by_op["model.py:1"] >= {"mul", "add"}
    assert set(by_op) == {"model.py:1", "model.py:2"}


def test_a_graph_of_any_depth_and_in_proportion() -> None:
    x = y = Value(1.0)
    for _ in range(LARGE // 2):
        y = y * 0.999999
        y = y + x
    graph = Graph(y)
    both = adjoint(graph, [x])
    assert len(both) < 4 * len(graph)
    assert same_bits(backward([y], [x]), [both.outputs[1].data])


def test_nothing_older_than_the_variables_is_walked() -> None:
    x = Value(0.5)
    sizes = []
    for _ in range(30):
        start = Value(0.0).number
        (g,) = gradients((x - 1.0) ** 2, [x])
        x = x - 0.1 * g
        sizes.append(Value(0.0).number - start)
    assert len(set(sizes)) == 1
    assert x.data == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    "transform", [scalargrad.grad, lambda f: lambda x: scalargrad.jvp(f, (x,), (1.0,))]
)
def test_the_derivative_asks_no_truth_of_the_program(transform: Any) -> None:
    f = scalargrad.compile(transform(lambda x: (x * x).exp() - x.softplus() / x))
    f(1.5)
    assert f.stats["guards"] == 0
