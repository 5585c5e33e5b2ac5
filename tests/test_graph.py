"""Graph: captured once, replayed with new numbers, bit for bit what the engine computes."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import generated
import scalargrad
from generated import program, run, some_outputs
from scalargrad import Graph, Value, detect_anomaly, no_grad
from scalargrad.errors import ShapeError, StaleGraphError
from scalargrad.lines import Lines
from scalargrad.modes import current, modes
from scalargrad.nn import MLP
from strategies import Program, any_floats, programs, same_bits, wild_programs
from threads import in_threads

pytestmark = pytest.mark.pure

COUNT = generated.COUNT // 2 if scalargrad.compiled or generated.LONG else 500
LARGE = 1_000_000 if scalargrad.compiled else 20_000


def numbers(values: Sequence[Value]) -> list[float]:
    return [value.data for value in values]


def gradients(values: Sequence[Value]) -> list[float]:
    return [value.grad for value in values]


# --- the same bits as the engine ----------------------------------------------------------------------


def replay_equals_a_fresh_run(
    drawn: Program, changes: Sequence[Sequence[float]], rng: random.Random
) -> None:
    """Change leaves, replay, and compare every number and gradient with a run from scratch."""
    leaves, results = run(drawn)
    graph = Graph(results[-1])
    for inputs in changes:
        fresh_leaves, fresh = run(drawn, inputs)
        graph.zero_grad()
        for leaf, other, x in zip(leaves, fresh_leaves, inputs):
            leaf.data = x
            leaf.grad = other.grad = rng.choice((0.0, rng.gauss(0, 1)))
        fresh[-1].backward()
        value = graph.forward()
        graph.backward()
        twin = Graph(fresh[-1])
        assert isinstance(value, float)
        assert same_bits([value], [fresh[-1].data])
        assert same_bits(numbers(graph.nodes), numbers(twin.nodes)), f"data\n{drawn}"
        assert same_bits(gradients(graph.nodes), gradients(twin.nodes)), f"gradients\n{drawn}"


def test_replaying_equals_a_fresh_run_on_random_programs() -> None:
    for seed in range(COUNT):
        rng = random.Random(seed)
        drawn = program(rng)
        changes = [[generated.number(rng) for _ in drawn.inputs] for _ in range(2)]
        replay_equals_a_fresh_run(drawn, changes, rng)


@given(wild_programs(), st.lists(any_floats(), min_size=8, max_size=8), st.integers(0, 2**32))
def test_replaying_equals_a_fresh_run_on_any_program(
    drawn: Program, numbers_to_write: list[float], seed: int
) -> None:
    n = len(drawn.inputs)
    changes = [numbers_to_write[:n], numbers_to_write[4 : 4 + n]]
    replay_equals_a_fresh_run(drawn, changes, random.Random(seed))


def test_backward_adds_to_the_leaves_as_the_engine_does() -> None:
    x = Value(3.0)
    graph = Graph(x**3)
    for expected in (27.0, 54.0, 81.0):
        graph.backward()
        assert x.grad == expected
    graph.zero_grad()
    assert x.grad == graph.outputs[0].grad == 0.0
    graph.backward()
    assert x.grad == 27.0


def test_engine_and_graph_may_take_turns() -> None:
    x = Value(3.0)
    y = x * x
    graph = Graph(y)
    y.backward()
    graph.backward()
    assert x.grad == 12.0
    x.data = 4.0
    graph.forward()
    y.backward()  # replayed: no longer stale
    assert x.grad == 20.0


def test_graphs_that_share_a_part_stay_apart() -> None:
    x = Value(2.0)
    shared = x * x
    a, b = Graph(shared * 3.0), Graph(shared + 1.0)
    x.data = 5.0
    assert (a.forward(), b.forward()) == (75.0, 26.0)
    a.backward()
    b.backward()
    assert x.grad == 30.0 + 10.0
    x.data = 1.0
    assert b.forward() == 2.0
    with pytest.raises(StaleGraphError):
        a.backward()


# --- several outputs ----------------------------------------------------------------------------------


def test_several_outputs_are_evaluated_and_differentiated_together() -> None:
    x, y = Value(2.0), Value(3.0)
    graph = Graph([x * y, x, x + y, x * y * 1.0])
    assert graph.forward() == (6.0, 2.0, 5.0, 6.0)
    graph.backward()
    assert (x.grad, y.grad) == (3.0 + 1.0 + 1.0 + 3.0, 2.0 + 0.0 + 1.0 + 2.0)
    graph.zero_grad()
    graph.backward([1.0, 0.0, -1.0, 0.5])
    assert (x.grad, y.grad) == (3.0 - 1.0 + 1.5, 2.0 - 1.0 + 1.0)


def test_an_output_may_be_there_twice() -> None:
    x = Value(3.0)
    y = x * x
    graph = Graph([y, y, x, x])
    assert graph.forward() == (9.0, 9.0, 3.0, 3.0)
    assert graph.outputs == (y, y, x, x)
    graph.backward([1.0, 10.0, 100.0, 1000.0])
    assert (y.grad, x.grad) == (11.0, 66.0 + 1100.0)


def test_an_output_may_be_an_operand_of_another() -> None:
    x = Value(2.0)
    y = x * x
    z = y * 3.0
    graph = Graph((z, y))
    graph.backward()
    assert (x.grad, y.grad, z.grad) == (16.0, 4.0, 1.0)


@given(programs(), st.integers(0, 2**32))
def test_sums_of_outputs_have_the_gradient_of_the_sum(drawn: Program, seed: int) -> None:
    rng = random.Random(seed)
    leaves, results = run(drawn)
    outputs = some_outputs(rng, results)
    seeds = [rng.gauss(0, 1) for _ in outputs]
    Graph(outputs).backward(seeds)
    separate = []
    for output, weight in zip(outputs, seeds):
        other_leaves, others = run(drawn)
        others[results.index(output)].backward()
        separate.append([weight * leaf.grad for leaf in other_leaves])
    for leaf, parts in zip(leaves, zip(*separate)):
        size = 1.0 + math.fsum(map(abs, parts))
        assert leaf.grad == pytest.approx(math.fsum(parts), rel=1e-9, abs=1e-9 * size)


def test_a_graph_may_be_a_single_leaf() -> None:
    x = Value(3.0, label="x")
    graph = Graph(x)
    assert (len(graph), graph.depth, graph.op_counts()) == (1, 0, {})
    assert graph.leaves == graph.outputs == (x,)
    x.data = 4.0
    assert graph.forward() == 4.0
    graph.backward()
    graph.backward()
    assert x.grad == 2.0
    assert str(graph) == "x  # 4  output"


def test_one_output_gives_a_number_and_a_list_of_one_gives_a_tuple() -> None:
    y = Value(2.0) * 3.0
    assert Graph(y).forward() == 6.0
    assert Graph([y]).forward() == (6.0,)


# --- stale --------------------------------------------------------------------------------------------


def test_a_leaf_written_after_forward_makes_backward_an_error_that_names_it() -> None:
    x, w = Value(2.0, label="x"), Value(3.0)
    graph = Graph(x * w)
    graph.forward()
    x.data = 5.0
    with pytest.raises(StaleGraphError, match=r"leaf 0 of the graph \(x, now 5\.0\)"):
        graph.backward()
    assert (x.grad, w.grad) == (0.0, 0.0)
    graph.forward()
    graph.backward()
    assert (x.grad, w.grad) == (3.0, 5.0)
    w.data = w.data
    with pytest.raises(StaleGraphError, match=r"leaf 1 of the graph \(no label, now 3\.0\)"):
        graph.backward()


def test_backward_before_any_forward_uses_the_numbers_of_now() -> None:
    x = Value(2.0)
    graph = Graph(x * x)
    x.data = 5.0
    graph.backward()
    assert (x.grad, graph.outputs[0].data) == (10.0, 25.0)


def test_a_result_that_was_overwritten_is_computed_again() -> None:
    x = Value(2.0)
    y = x * x
    z = y + 1.0
    graph = Graph(z)
    y.data = 100.0
    with pytest.raises(StaleGraphError):
        z.backward()
    assert graph.forward() == 5.0
    z.backward()
    assert (y.data, x.grad) == (4.0, 4.0)


# --- in the middle of a computation ---------------------------------------------------------------------


def test_since_takes_older_results_as_leaves() -> None:
    x = Value(2.0)
    y = x * x
    z = y * 3.0 + x
    graph = Graph(z, since=y.number + 1)
    assert graph.leaves[0] is x
    assert y in graph.leaves
    assert graph.op_counts() == {"add": 1, "mul": 1}
    graph.forward()
    graph.backward()
    assert (y.grad, x.grad) == (3.0, 1.0)


# --- looking --------------------------------------------------------------------------------------------


def test_counts_depth_and_leaves() -> None:
    x, w = Value(2.0, label="x"), Value(3.0, label="w")
    graph = Graph((w * x + 1.0).tanh() * (w * x).tanh())
    assert len(graph) == 3 + 6
    assert graph.op_counts() == {"mul": 3, "tanh": 2, "add": 1}
    assert list(graph.op_counts()) == ["mul", "tanh", "add"]
    assert graph.depth == 4
    assert [leaf.label for leaf in graph.leaves] == ["x", "w", ""]
    assert repr(graph) == "Graph(9 nodes, 3 leaves, 1 output)"
    assert repr(Graph([x, w])) == "Graph(2 nodes, 2 leaves, 2 outputs)"


def test_iteration_gives_nodes_with_operands_and_lines() -> None:
    x = Value(2.0, label="x")
    y = x * x
    z = Value.apply("where", y, x, 3.0)
    nodes = list(Graph(z, lines={y.number: "model.py:7"}))
    assert [node.number for node in nodes] == [0, 1, 2, 3]
    assert [node.op for node in nodes] == ["", "", "mul", "where"]
    assert [node.operands for node in nodes] == [(), (), (0, 0), (2, 0, 1)]
    assert [node.line for node in nodes] == ["", "", "model.py:7", ""]
    assert [node.label for node in nodes] == ["x", "", "", ""]
    assert nodes[2].value is y


def test_lines_are_those_that_a_mode_recorded() -> None:
    lines = Lines()
    with modes(lines=lines):
        y = Value(2.0) * 3.0
    (node,) = [node for node in Graph(y, lines) if node.op]
    assert node.line.startswith(__file__)


def test_printing_gives_one_readable_line_per_instruction() -> None:
    x, w = Value(2.0, label="x"), Value(-1.5, label="w")
    h = (x * w).leaky_relu(0.1)
    y = Value.apply("take", h, x**2, const=1) / 3.0
    assert str(Graph(y, lines={h.number: "model.py:3"})).splitlines() == [
        "x                         # 2",
        "w                         # -1.5",
        "v2                        # 3",
        "v3 = x * w                # -3",
        "v4 = leaky_relu(v3, 0.1)  # -0.3  model.py:3",
        "v5 = x ** 2               # 4",
        "v6 = take([v4, v5], 1)    # 4",
        "v7 = v6 / v2              # 1.33333  output",
    ]


def test_the_bytes_of_a_network_are_within_40_a_node() -> None:
    model = MLP(16, [16, 16, 1])
    graph = Graph(model([Value(0.1 * k) for k in range(16)]))
    assert graph.nbytes <= 20 * len(graph)
    graph.backward()
    assert graph.nbytes <= 40 * len(graph)
    assert graph.nbytes >= 25 * len(graph)


# --- errors ---------------------------------------------------------------------------------------------


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(
        TypeError, match=r"outputs: expected a Value .*, got float 2\.0 at position 1"
    ):
        Graph([Value(1.0), 2.0])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="outputs: expected at least one Value, got none"):
        Graph([])
    graph = Graph([Value(1.0), Value(2.0)])
    for seeds in ([1.0], [1.0, 2.0, 3.0], []):
        with pytest.raises(ShapeError, match=r"seeds: expected one per output \(2\), got"):
            graph.backward(seeds)


# --- copies -----------------------------------------------------------------------------------------------


def two_outputs() -> Graph:
    x = Value(0.5, "x")
    shared = x * x
    return Graph([(shared + x).exp(), (shared - 1.0).tanh()])


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize(
    "duplicate",
    [lambda g: pickle.loads(pickle.dumps(g)), copy.deepcopy],
    ids=["pickle", "deepcopy"],
)
def test_a_copy_is_a_graph_of_its_own(duplicate: Callable[[Graph], Graph], replayed: bool) -> None:
    graph = two_outputs()
    if replayed:
        graph.forward()
    other = duplicate(graph)
    assert str(other) == str(graph)
    assert not set(other.nodes) & set(graph.nodes)
    for node in other:
        assert node.value.operands == tuple(other.nodes[i] for i in node.operands)
    other.leaves[0].data = graph.leaves[0].data = 0.75
    assert other.forward() == graph.forward()
    graph.backward()
    assert gradients(other.nodes) == [0.0] * len(graph)
    other.backward()
    assert gradients(other.nodes) == gradients(graph.nodes)


def test_a_shallow_copy_has_the_same_values() -> None:
    graph = two_outputs()
    other = copy.copy(graph)
    assert other.nodes == graph.nodes
    assert other.forward() == graph.forward()


def test_a_graph_and_its_output_are_copied_together() -> None:
    graph = two_outputs()
    other, output = copy.deepcopy((graph, graph.outputs[0]))
    assert other.outputs[0] is output


def test_copies_know_the_lines() -> None:
    with detect_anomaly():
        y = Value(2.0) * 3.0
        graph = Graph(y + 1.0, lines=current.lines)
    wanted = [node.line for node in graph]
    assert any(wanted)
    for other in (copy.copy(graph), copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))):
        assert [node.line for node in other] == wanted


def test_a_pickle_grows_with_the_graph_and_no_faster() -> None:
    sizes = []
    for length in (100, 1000):
        x = y = Value(1.0)
        for _ in range(length):
            y = y * 0.5 + x
        sizes.append(len(pickle.dumps(Graph(y))))
    assert sizes[1] < 15 * sizes[0]


# --- modes, memory, threads, size -----------------------------------------------------------------------


def test_modes_do_not_disturb_replaying() -> None:
    x = Value(2.0)
    graph = Graph((x * x).log())
    for mode in (no_grad, detect_anomaly):
        with mode():
            x.data = 3.0
            assert graph.forward() == math.log(9.0)
            graph.zero_grad()
            graph.backward()
            assert x.grad == pytest.approx(2.0 / 3.0)


@pytest.mark.usefixtures("by_counts_alone")
def test_a_graph_keeps_its_nodes_alive_and_frees_them() -> None:
    before = scalargrad.live_values()
    x = Value(2.0)
    graph = Graph((x * x + 1.0).tanh())
    assert scalargrad.live_values() == before + 5
    graph.backward()
    assert x.grad != 0.0
    del graph
    assert scalargrad.live_values() == before + 1


def test_threads_may_capture_and_replay_graphs_that_share_values() -> None:
    x = Value(1.5)
    shared = x
    for _ in range(300):
        shared = shared * 0.99 + x
    expected = Graph(shared).forward()
    wrong: list[object] = []

    def work() -> None:
        for _ in range(20):
            graph = Graph([shared, x, shared * 2.0])
            if graph.forward() != (expected, 1.5, 2.0 * float(expected)):  # type: ignore[arg-type]
                wrong.append(graph)

    in_threads(*[work] * 4)
    assert not wrong


def test_a_long_chain() -> None:
    x = y = Value(1.0)
    for _ in range(LARGE // 2):
        y = y * 0.999999
        y = y + x
    graph = Graph(y)
    assert len(graph) == LARGE + 1 + LARGE // 2
    assert graph.nbytes <= 40 * len(graph)
    y.backward()
    eager = x.grad
    x.grad = 0.0
    assert same_bits([graph.forward()], [y.data])  # type: ignore[list-item]
    graph.backward()
    assert same_bits([x.grad], [eager])
    assert graph.depth == LARGE


def test_a_wide_selection() -> None:
    width = LARGE // 10
    candidates = [Value(float(k)) for k in range(width)]
    graph = Graph(Value.apply("take", *candidates, const=width - 1) * 2.0)
    assert graph.forward() == 2.0 * (width - 1)
    graph.backward()
    assert candidates[-1].grad == 2.0
    assert not np.any(gradients(candidates[:-1]))


@pytest.mark.skipif(not scalargrad.compiled, reason="the collector knows every plain list")
@pytest.mark.usefixtures("by_counts_alone")
def test_the_garbage_collector_does_not_go_through_the_nodes() -> None:
    graph = Graph(Value(2.0) * Value(3.0))
    assert not gc.is_tracked(graph.nodes)
    before = scalargrad.live_values()
    graph.nodes.append(Value(4.0))
    graph.nodes.extend([Value(5.0)] * 100)
    assert graph.nodes.pop().data == 5.0
    gc.collect()
    del graph
    assert scalargrad.live_values() == before - 3
