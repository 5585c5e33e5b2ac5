"""Every stage together: real and random programs give the engine's bits, in few nests."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from programs import algebra, convolution, gpt, mlp, physics, recurrent, sparse, tables
from programs.case import (
    Case,
    answer_of,
    capture,
    data_for,
    eager,
    inputs_for,
    rolled,
)
from programs.corpus import CORPUS
from scalargrad import Value, compiled, ops
from scalargrad.compiler import affine, periods, recover, simplify
from scalargrad.compiler import roll as roll_module
from scalargrad.compiler.explain import operation
from scalargrad.compiler.loops import Loops, Space, Walk, segments, work
from scalargrad.compiler.loops_check import verify as verify_loops
from scalargrad.compiler.marks import marks_of_trace, verify_marks
from scalargrad.compiler.packs import WHOLE, find_packs
from scalargrad.compiler.reference import execute
from scalargrad.compiler.roll import Stats, roll
from scalargrad.compiler.sources import SourceLines
from scalargrad.errors import VerifyError

WAYS = (
    (None, 1, False),
    ("mean", 1, False),
    ("mean", 2, True),
    ("mean", 7, False),
    ("sum", 7, True),
)
RANDOM = 300 if compiled else 20


@pytest.mark.pure
@pytest.mark.parametrize("case", CORPUS, ids=str)
@pytest.mark.parametrize(("batch", "examples", "penalty"), WAYS)
def test_the_corpus_gives_the_engines_bits(case, batch, examples, penalty):
    data = data_for(case, examples)
    expected = eager(case, data, batch, penalty)
    assert expected.finite
    assert rolled(case, data, batch, penalty).bits() == expected.bits()


@pytest.mark.parametrize("start", range(0, RANDOM, 20))
def test_random_programs_give_the_engines_bits(start):
    for seed in range(start, start + 20):
        case = sparse.operations(seed, 5 + seed % 40)
        for batch, examples, penalty in (WAYS[0], WAYS[1 + seed % 4]):
            data = data_for(case, examples)
            expected = eager(case, data, batch, penalty)
            got = rolled(case, data, batch, penalty)
            assert got.bits()[0] == expected.bits()[0], (seed, batch)
            if expected.finite:
                assert got.bits() == expected.bits(), (seed, batch)


def _unmerged(graph, same):
    """A simplification that merges nothing."""


# Every part of the analysis that only makes programs better, left out or taken to its extreme.
CHOICES = {
    "nodes are not merged": {(simplify, "_merge"): _unmerged},
    "packs are coarse": {
        (roll_module, "find_packs"): lambda graph, *_, **__: find_packs(graph, coarse=True)
    },
    "all is walked through": {(roll_module, "MANY_PACKS"): -1, (roll_module, "WORTH"): 2**40},
    "all that can be is a nest": {(roll_module, "MANY_PACKS"): 2**40},
    "nothing is repeated": {
        (roll_module, "find_repeats"): lambda loops: loops,
        (roll_module, "periods"): lambda *_: [],
    },
    "no loops are found": {
        (affine, "MOST_LOOPS"): 0,
        (recover, "FEW_NESTS"): 0,
        (recover, "NODES_PER_NEST"): 2**40,
    },
    "large packs are sampled": {
        (roll_module, "MANY_PACKS"): -1,
        (recover, "MANY_NODES"): 3,
        (recover, "SAMPLE"): 3,
        (recover, "FEW_NESTS"): 0,
    },
}


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_of_the_analysis_gives_the_same_bits(choice, monkeypatch):
    cases = (*CORPUS, sparse.network(300), *map(sparse.operations, range(30)))
    usual = [str(loops_of(case)) for case in (*CORPUS, sparse.network(300))]
    for (module, name), changed in CHOICES[choice].items():
        monkeypatch.setattr(module, name, changed)
    assert usual != [str(loops_of(case)) for case in (*CORPUS, sparse.network(300))]
    for number, case in enumerate(cases):
        batch, examples = (None, 1) if number % 2 else ("mean", 3)
        data = data_for(case, examples)
        expected = eager(case, data, batch)
        if expected.finite:
            assert rolled(case, data, batch).bits() == expected.bits(), (case, batch)


@pytest.mark.parametrize(
    "case",
    [
        sparse.network(500, 20, 5),
        sparse.dag(2000),
        physics.pendulum(40),
        physics.cart_pole(20),
        algebra.cholesky(12),
        recurrent.lstm(10, 4),
    ],
    ids=str,
)
@pytest.mark.parametrize(("batch", "examples"), [(None, 1), ("mean", 3)])
def test_programs_without_structure_give_the_engines_bits(case, batch, examples):
    data = data_for(case, examples)
    expected = eager(case, data, batch)
    assert expected.finite
    assert rolled(case, data, batch).bits() == expected.bits()


# --- what is found ---------------------------------------------------------------------------------


def loops_of(case: Case, batch: str | None = None) -> Loops:
    tape, marks, parameters, _ = capture(case, batch)
    wanted = (Space.PARAMETER,) if parameters else (Space.ARGUMENT,)
    return roll(tape, marks._replace(wanted=wanted))


def test_a_few_packs_more_than_all_can_be_nests_leave_little_to_walk():
    case = algebra.gram_schmidt(24, 12)
    loops = loops_of(case)
    walked = sum(work(step) for step in loops.instructions if isinstance(step, Walk))
    assert walked < 0.05 * sum(map(work, loops.instructions))
    data = data_for(case, 1)
    assert rolled(case, data, None).bits() == eager(case, data, None).bits()


def rolled_share(loops: Loops, batch: int) -> float:
    """The share of the work that is done in nests of at least 8 turns for each segment."""
    done = inside = 0
    for step in loops.instructions:
        amount = work(step, batch)
        done += amount
        parts = len(list(segments(step))) if hasattr(step, "groups") else 1
        inside += amount if not isinstance(step, Walk) and amount >= 8 * max(parts, 1) else 0
    return inside / done


@pytest.mark.parametrize(
    ("case", "batch", "nests", "share"),
    [
        (mlp.hinge(), "mean", 30, 0.99),
        (mlp.cross_entropy(100, 30, 10), "mean", 30, 0.99),
        (mlp.hinge_whole_batch(20), None, 30, 0.99),
        (gpt.document(), None, 160, 0.99),
        (recurrent.rnn(20, 16, 4), "mean", 140, 0.99),
        (convolution.convolution(10, 3), "mean", 60, 0.99),
        (physics.bodies(10), None, 25, 0.85),
        (algebra.rosenbrock(50), None, 20, 0.99),
        (algebra.horner(30, 20), None, 100, 0.99),
    ],
    ids=str,
)
def test_structured_programs_become_few_nests(case, batch, nests, share):
    loops = loops_of(case, batch)
    assert len(loops.instructions) <= nests
    assert not any(isinstance(step, Walk) for step in loops.instructions)
    assert len(loops.table) == 0
    assert rolled_share(loops, 16) >= share


def test_the_number_of_nests_does_not_grow_with_the_sizes():
    small, large = (loops_of(mlp.cross_entropy(*s), "mean") for s in ((12, 9, 5), (60, 40, 11)))
    assert len(small.instructions) == len(large.instructions)


def test_programs_without_structure_become_few_instructions():
    for case in (sparse.network(2000, 30, 6), sparse.dag(5000), physics.pendulum(100)):
        assert len(loops_of(case).instructions) <= 500


def test_programs_without_structure_are_walked_through_not_looked_up():
    loops = loops_of(sparse.dag(5000))
    assert any(isinstance(step, Walk) for step in loops.instructions)
    assert len(loops.table) == 0


def test_in_a_batch_small_nests_are_of_long_sums(monkeypatch):
    """Others take about as long where they are walked through, the examples abreast."""
    case = tables.alignment(32)
    alone, batched = (loops_of(case, batch) for batch in (None, "mean"))
    assert len(batched.nests) < 10 < len(alone.nests)
    monkeypatch.setattr(roll_module, "MANY_PACKS", -1)
    nests = loops_of(mlp.cross_entropy(40, 16, 5), "mean").nests
    assert any(nest.result.space.batched and "matrix" in operation(nest) for nest in nests)


def test_where_operands_lie_all_over_loops_are_not_looked_for(monkeypatch):
    case, looked = sparse.dag(20_000), []
    original = recover.Recovery._best_plan
    monkeypatch.setattr(
        recover.Recovery, "_best_plan", lambda *a: looked.append(len(a[1])) or original(*a)
    )
    found, few = str(loops_of(case)), len(looked)
    looked.clear()
    monkeypatch.setattr(recover.Recovery, "_scattered", lambda *_: False)
    assert str(loops_of(case)) == found
    assert 3 * few < len(looked)
    monkeypatch.setattr(recover.Recovery, "_scattered", lambda *_: True)
    assert str(loops_of(case)) != found


def test_of_very_many_packs_some_places_show_whether_there_are_periods(monkeypatch):
    expected = len(loops_of(physics.pendulum(100)).instructions)
    searched = []
    original = periods._periods
    monkeypatch.setattr(periods, "VERY_MANY", 256)
    monkeypatch.setattr(periods, "WINDOW", 128)
    monkeypatch.setattr(
        periods, "_periods", lambda *a: searched.append(a[4] - a[3]) or original(*a)
    )
    assert len(loops_of(physics.pendulum(100)).instructions) == expected
    assert max(searched) > 256
    searched.clear()
    monkeypatch.setattr(roll_module, "turns", lambda *_: WHOLE)
    loops_of(sparse.dag(5000))
    assert set(searched) == {128}


@pytest.mark.parametrize("case", [sparse.dag(5000), physics.pendulum(100)], ids=str)
def test_a_part_of_the_packs_shows_whether_there_is_structure(case, monkeypatch):
    seen = []

    def found(*arguments, **options):
        seen.append(find_packs(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(roll_module, "find_packs", found)
    monkeypatch.setattr(roll_module, "WINDOW", 2**30)
    whole = str(loops_of(case))
    assert all(packs.complete for packs in seen)
    seen.clear()
    monkeypatch.setattr(roll_module, "WINDOW", 0)
    assert str(loops_of(case)) == whole
    first, *later = [packs.complete for packs in seen]
    assert not first
    assert all(later)
    assert seen[-1].coarse == (case.name == sparse.dag(5000).name)


def test_matrix_products_are_named():
    found = {operation(step, 1) for step in loops_of(mlp.cross_entropy(50, 20, 10), "mean").nests}
    assert "matrix product 20 x 50 . 50 x B" in found
    assert "matrix product 50 x B . B x 20" in found


def test_source_lines_are_kept():
    tape, marks, *_ = capture(mlp.hinge((2, 4, 1)))
    lines = SourceLines([f"model.py:{op}" for op in range(256)], tape.op.astype(np.int32))
    assert "model.py:9" in str(roll(tape, marks, lines=lines))


def test_gradients_of_parameters_come_from_the_lines_that_use_them():
    sizes = (2, 4, 1)
    tape, marks, *_ = capture(mlp.hinge(sizes), "mean")
    last = np.flatnonzero(tape.op == ops.RELU)[sizes[1] - 1]
    which = np.where(np.arange(len(tape)) <= last, 0, 1)  # the first layer, and the rest
    which[: tape.leaves] = -1
    lines = SourceLines(["first.py:1", "second.py:2"], which.astype(np.int32))
    gradients = {
        x.result.base: x.origin.lines
        for x in roll(tape, marks, lines=lines).nests
        if x.result.space == Space.PARAMETER_GRADIENT
    }
    assert len(gradients) > 2
    for offset, made in gradients.items():
        assert made == (("first.py:1",) if offset < 4 * 3 else ("second.py:2",))


def test_statistics():
    tape, marks, *_ = capture(mlp.hinge((2, 4, 1)))
    stats = Stats()
    loops = roll(tape, marks, stats=stats)
    assert stats.nodes == len(tape)
    assert stats.instructions == len(loops.instructions)
    assert set(stats.seconds) == {"flatten", "derive", "simplify", "packs", "recover"}


# --- kinds of programs -----------------------------------------------------------------------------


def test_outputs_that_are_leaves_constants_or_repeated():
    from scalargrad import Value
    from scalargrad.compiler.marks import marks_of
    from scalargrad.graph import Graph

    a, c = Value(2.0), Value(7.0)
    y = a * 3.0
    graph = Graph([y, a, c, y])
    roles = [(Space.PARAMETER, 0.0) if v is a else (Space.CONSTANT, v.data) for v in graph.leaves]
    loops = roll(graph.tape, marks_of(roles, wanted=(Space.PARAMETER,)), check=True)
    results = execute(loops, {Space.PARAMETER: [5.0]})
    assert results[Space.OUTPUT].tolist() == [15.0, 5.0, 7.0, 15.0]
    assert results[Space.PARAMETER_GRADIENT].tolist() == [3.0]


def test_outputs_that_are_evenly_apart_are_one_copy():
    from scalargrad import Value
    from scalargrad.compiler.marks import marks_of
    from scalargrad.graph import Graph

    parameters = [Value(float(k)) for k in range(9)]
    order = [0, 2, 4, 6, 8, 7, 5, 3, 1, 1, 1]
    graph = Graph([parameters[0] * 3.0, *(parameters[k] for k in order)])
    constant = (Space.CONSTANT, 3.0)
    ours = {id(leaf) for leaf in parameters}
    roles = [(Space.PARAMETER, 0.0) if id(leaf) in ours else constant for leaf in graph.leaves]
    loops = roll(graph.tape, marks_of(roles), check=True)
    results = execute(loops, {Space.PARAMETER: np.arange(9) + 10.0})
    expected = [30.0, *(10.0 + k for k in order)]
    assert results[Space.OUTPUT].tolist() == expected
    copies = [step for step in loops.instructions if step.result.space == Space.OUTPUT]
    assert len(copies) == 4


def test_the_loss_may_be_a_parameter_itself():
    from scalargrad import Value
    from scalargrad.compiler.marks import marks_of
    from scalargrad.graph import Graph

    a = Value(2.0)
    for batch, expected in ((None, 1.0), ("mean", 1.0), ("sum", 4.0)):
        marks = marks_of([(Space.PARAMETER, 0.0)], batch=batch, wanted=(Space.PARAMETER,))
        loops = roll(Graph(a).tape, marks, check=True)
        results = execute(loops, {Space.PARAMETER: [5.0]}, 4 if batch else None)
        assert results[Space.PARAMETER_GRADIENT].tolist() == [expected]
        assert results[Space.OUTPUT][0] == (20.0 if batch == "sum" else 5.0)


def test_parameters_without_gradient_get_zero():
    case = mlp.hinge((2, 4, 1))
    tape, marks, *_ = capture(case)
    more = marks._replace(sizes=marks.sizes | {Space.PARAMETER: marks.sizes[Space.PARAMETER] + 3})
    loops = roll(tape, more, check=True)
    given = np.ones(more.sizes[Space.PARAMETER])
    results = execute(loops, {Space.PARAMETER: given, Space.ARGUMENT: [0.1, 0.2, -1.0]})
    assert results[Space.PARAMETER_GRADIENT][-3:].tolist() == [0.0, 0.0, 0.0]


def test_gradients_are_added_to_what_is_there():
    case = mlp.hinge((2, 4, 1))
    data = data_for(case, 3)
    tape, marks, parameters, _ = capture(case, "mean")
    marks = marks._replace(wanted=(Space.PARAMETER,))
    before = np.random.default_rng(0).normal(size=len(parameters))
    fresh, losses = case.make(__import__("random").Random(0)), []
    for value, number in zip(fresh[0], before.tolist()):
        value.grad = number
    from scalargrad import Value, functional

    for row in data.numbers:
        losses.append(fresh[1]([Value(x) for x in row], []))
    functional.mean(losses).backward()
    loops = roll(tape, marks._replace(accumulate=True), check=True)
    given = inputs_for(case, data, parameters, "mean") | {Space.PARAMETER_GRADIENT: before}
    got = execute(loops, given, 3)[Space.PARAMETER_GRADIENT]
    assert got.tolist() == [value.grad for value in fresh[0]]


def test_a_walk_adds_gradients_to_what_is_there(monkeypatch):
    monkeypatch.setattr(roll_module, "MANY_PACKS", -1)
    monkeypatch.setattr(roll_module, "WORTH", 2**40)
    case = sparse.network(40)
    data = data_for(case, 1)
    tape, marks, parameters, _ = capture(case)
    expected = eager(case, data)
    before = np.random.default_rng(0).normal(size=len(parameters))
    loops = roll(tape, marks._replace(accumulate=True), check=True)
    walks = [step for step in loops.instructions if isinstance(step, Walk)]
    assert any((step.space == Space.PARAMETER_GRADIENT).any() for step in walks)
    given = inputs_for(case, data, parameters, None) | {Space.PARAMETER_GRADIENT: before}
    given[Space.ARGUMENT_GRADIENT] = np.zeros(case.numbers)
    got = execute(loops, given)
    fresh, function = case.make(random.Random(0))
    for value, number in zip(fresh, before.tolist()):
        value.grad = number
    function([Value(x) for x in data.numbers[0]], []).backward()
    assert got[Space.PARAMETER_GRADIENT].tolist() == [value.grad for value in fresh]
    assert got[Space.ARGUMENT_GRADIENT].tolist() == expected.arguments[0]


def test_each_example_has_its_output_and_the_seed_is_the_callers():
    case = mlp.cross_entropy(6, 4, 3)
    data = data_for(case, 5)
    tape, marks, parameters, _ = capture(case, "each")
    loops = roll(tape, marks, check=True)
    given = inputs_for(case, data, parameters, "each")
    results = execute(loops, given | {Space.SCALAR: [1 / 5, 5.0]}, 5)
    mean = eager(case, data, "mean")
    assert results[Space.PARAMETER_GRADIENT].tolist() == mean.parameters
    assert results[Space.EXAMPLE_GRADIENT].tolist() == mean.arguments
    singles = [
        eager(case, replace(data, numbers=[x], choices=[i])).loss
        for x, i in zip(data.numbers, data.choices)
    ]
    assert results[Space.EXAMPLE_OUTPUT][:, 0].tolist() == singles


def test_arguments_shared_by_the_examples():
    case = algebra.horner(4, 3)
    tape, marks, parameters, _ = capture(case, "mean", shared=(1,))
    loops = roll(tape, marks, check=True)
    rows = np.array(data_for(case, 4).numbers)
    rows[:, 1] = 0.5
    given = {Space.PARAMETER: [p.data for p in parameters], Space.EXAMPLE: rows}
    results = execute(loops, given | {Space.ARGUMENT: [0.0, 0.5, 0.0]}, 4)
    from scalargrad import Value, functional

    shared, (fresh, function) = Value(0.5), case.make(__import__("random").Random(0))
    losses = [function([Value(a), shared, Value(c)], []) for a, _, c in rows.tolist()]
    functional.mean(losses).backward()
    assert results[Space.PARAMETER_GRADIENT].tolist() == [v.grad for v in fresh]
    assert results[Space.ARGUMENT_GRADIENT].tolist() == [0.0, shared.grad, 0.0]


def test_outputs_alone_need_no_gradient():
    case = gpt.document(3, vocabulary=5, width=4, heads=2)
    tape, marks, parameters, _ = capture(case, gradients=False)
    loops = roll(tape, marks, check=True)
    assert loops.size(Space.PARAMETER_GRADIENT) == 0
    data = data_for(case, 1)
    results = execute(loops, inputs_for(case, data, parameters, None))
    assert results[Space.OUTPUT][0] == eager(case, data).loss


# --- faults ----------------------------------------------------------------------------------------


def test_marks_must_fit_the_tape():
    tape, marks, *_ = capture(mlp.hinge((2, 4, 1)), "mean")
    for wrong, message in (
        (marks._replace(batch=None), "batch is None"),
        (marks._replace(penalty=True), "1 outputs"),
        (marks._replace(sizes={}), "which has 0 elements"),
        (marks._replace(space=marks.space[1:]), "leaves"),
        (marks._replace(space=np.full_like(marks.space, Space.TEMPORARY)), "is not among"),
    ):
        with pytest.raises(VerifyError, match=message):
            verify_marks(tape, wrong)


def test_a_wrong_order_of_accumulation_is_seen():
    """Reversing the terms of one sum changes bits: the comparison would notice."""
    case = mlp.hinge((2, 8, 1))
    data = data_for(case, 7)
    tape, marks, parameters, _ = capture(case, "mean")
    loops = roll(tape, marks)
    flipped = []
    for step in loops.instructions:
        if hasattr(step, "groups"):
            groups = tuple(group._replace(over=-group.over) for group in step.groups)
            step = replace(step, groups=groups)
        flipped.append(step)
    wrong = verify_loops(replace(loops, instructions=tuple(flipped)))
    results = execute(wrong, inputs_for(case, data, parameters, "mean"), 7)
    assert answer_of(wrong, results, case, data).bits() != eager(case, data, "mean").bits()


def test_marks_of_a_trace():
    import scalargrad as sg

    model = sg.nn.MLP(3, [4, 2])

    def loss(x, target):
        return sg.losses.cross_entropy(model(x), target)

    f = sg.compile(loss, batch="mean", backend="interpreter")
    x, targets = np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 1, 1, 0])
    value, gradient = f.value_and_grad(x, targets)
    trace = f._latest.trace
    marks = marks_of_trace(trace, "each", (Space.PARAMETER,), accumulate=True)
    loops = roll(trace.tape, marks, check=True)
    rows = np.column_stack((x, targets))
    results = execute(
        loops,
        {
            Space.PARAMETER: [p.data for p in f.parameters],
            Space.PARAMETER_GRADIENT: np.zeros(len(f.parameters)),
            Space.EXAMPLE: rows,
            Space.EXAMPLE_INDEX: rows.astype(np.int64),
            Space.ARGUMENT: rows[0],
            Space.INDEX: rows[0].astype(np.int64),
            Space.SCALAR: [1 / 4, 4.0],
        },
        4,
    )
    assert results[Space.PARAMETER_GRADIENT].tolist() == gradient.tolist()
    assert sg.functional.mean(results[Space.EXAMPLE_OUTPUT][:, 0].tolist()).data == value
