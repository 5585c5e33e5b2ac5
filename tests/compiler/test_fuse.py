"""Clusters: what shares its loops, what need not be stored, and where update rules go."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from scalargrad import ops
from scalargrad.compiler import fuse, llvm, native
from scalargrad.compiler.emit import Emitter
from scalargrad.compiler.ir import Module
from scalargrad.compiler.loops import (
    Apply,
    Contract,
    Group,
    Loop,
    Loops,
    Operand,
    Segment,
    Space,
)
from scalargrad.compiler.loops_check import verify
from scalargrad.compiler.plans import Machine, plan
from scalargrad.compiler.reference import execute
from scalargrad.compiler.tiles import Axis, Ref, Use

WIDTH, ROWS = 9, 5
UNREAD = frozenset({Space.PARAMETER_GRADIENT})
RATE = Operand(Space.ARGUMENT, WIDTH, (0,))


@pytest.fixture(autouse=True)
def _settings(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")
    monkeypatch.setattr(fuse, "MANY", 0)


def gradients(coupled: bool) -> tuple[Contract, ...]:
    """Of rows of weights with a bias behind each: sums over the examples.

    `coupled`: the gradient of a bias reads the first weight of its row.
    """
    example = Operand(Space.EXAMPLE, 0, (0, 1))
    weights = Contract(
        Operand(Space.PARAMETER_GRADIENT, 0, (WIDTH + 1, 1)),
        (Loop(ROWS), Loop(WIDTH)),
        (Group((Segment(example, Operand(Space.ARGUMENT, 0, (1, 0))),), -1),),
        start=0.0,
    )
    factor = Operand(
        Space.PARAMETER if coupled else Space.ARGUMENT, 0, (WIDTH + 1 if coupled else 1,)
    )
    bias = Contract(
        Operand(Space.PARAMETER_GRADIENT, WIDTH, (WIDTH + 1,)),
        (Loop(ROWS),),
        (Group((Segment(Operand(Space.EXAMPLE, 2, (0,)), factor),), -1),),
        start=0.0,
    )
    return weights, bias


def step(coupled: bool = False, momentum: bool = False) -> Loops:
    """Gradients, and p <- p - rate * g, or m <- m * rate + g, p <- p - m."""
    count = ROWS * (WIDTH + 1)
    everything = (Loop(count),)
    parameter, gradient, state, scaled = (
        Operand(space, 0, (1,))
        for space in (Space.PARAMETER, Space.PARAMETER_GRADIENT, Space.STATE, Space.TEMPORARY)
    )
    rules: tuple[Contract | Apply, ...] = (
        Contract(
            parameter,
            everything,
            (Group((Segment(RATE, gradient, minus=True),)),),
            resume=True,
        ),
    )
    if momentum:
        rules = (
            Apply(scaled, everything, ops.MUL, (state, RATE)),
            Apply(state, everything, ops.ADD, (scaled, gradient)),
            Apply(parameter, everything, ops.SUB, (parameter, state)),
        )
    sizes = {
        Space.PARAMETER: count,
        Space.PARAMETER_GRADIENT: count,
        Space.ARGUMENT: WIDTH + 1,
        Space.EXAMPLE: WIDTH,
    }
    if momentum:
        sizes |= {Space.STATE: count, Space.TEMPORARY: count}
    return verify(Loops((*gradients(coupled), *rules), sizes, batched=True))


def dividing() -> Loops:
    """Gradients, and m <- m + g, p <- p - m / sqrt(m^2): what has a divider is busy with it."""
    loops = step(momentum=True)
    *sums, _, _, update = loops.instructions
    everything, count = update.lanes, update.lanes[0].extent
    parameter, gradient, state, root = (
        Operand(space, 0, (1,))
        for space in (Space.PARAMETER, Space.PARAMETER_GRADIENT, Space.STATE, Space.TEMPORARY)
    )
    square, quotient = root._replace(base=count), root._replace(base=2 * count)
    rules = (
        Apply(state, everything, ops.ADD, (state, gradient)),
        Apply(square, everything, ops.MUL, (state, state)),
        Apply(root, everything, ops.SQRT, (square,)),
        Apply(quotient, everything, ops.DIV, (state, root)),
        Apply(parameter, everything, ops.SUB, (parameter, quotient)),
    )
    sizes = {**loops.sizes, Space.TEMPORARY: 3 * count}
    return verify(Loops((*sums, *rules), sizes, batched=True))


def numbers(loops: Loops, batch: int = 11) -> dict[Space, np.ndarray]:
    rng = np.random.default_rng(3)
    wanted = (Space.PARAMETER, Space.ARGUMENT, Space.STATE)
    given = {space: rng.normal(size=loops.size(space)) for space in wanted if loops.size(space)}
    return given | {Space.EXAMPLE: rng.normal(size=(batch, WIDTH))}


def check(loops: Loops, unread: frozenset[Space] = frozenset()) -> None:
    inputs = numbers(loops)
    expected = execute(loops, inputs, 11)
    got = native.build(loops, 11, unread=unread).execute(inputs)
    for space in (Space.PARAMETER, Space.STATE, Space.PARAMETER_GRADIENT):
        if space in got and space not in unread:
            np.testing.assert_array_equal(got[space], expected[space])


@pytest.mark.parametrize("momentum", [False, True])
def test_updates_run_in_the_loops_of_their_gradients(momentum):
    loops = step(momentum=momentum)
    clusters = fuse.fuse(loops, UNREAD)
    rules = 3 if momentum else 1
    assert [len(cluster.steps) for cluster in clusters] == [1 + rules, 1 + rules]
    check(loops, UNREAD)


def test_updates_stay_whole_where_gradients_are_read_or_the_rule_is_long(monkeypatch):
    loops = step(momentum=True)
    assert [len(cluster.steps) for cluster in fuse.fuse(loops)] == [1, 1, 3]
    check(loops)
    monkeypatch.setattr(fuse, "SHORT", 2)
    assert [len(cluster.steps) for cluster in fuse.fuse(loops, UNREAD)] == [1, 1, 3]
    check(loops, UNREAD)


def test_rules_that_wait_for_the_divider_run_beside_short_sums(monkeypatch):
    monkeypatch.setattr(fuse, "WIDE", 1)
    monkeypatch.setattr(fuse, "SHORT", 0)
    loops = dividing()

    def sizes(batch: int, divider: bool = True) -> list[int]:
        return [len(cluster.steps) for cluster in fuse.fuse(loops, batch=batch, divider=divider)]

    assert sizes(fuse.FEW) == [6, 6]
    check(loops)
    check(loops, UNREAD)
    whole = [1, 1, 5]
    assert sizes(fuse.FEW, divider=False) == whole
    assert sizes(fuse.FEW + 1) == whole
    monkeypatch.setattr(fuse, "WIDE", 26)
    assert sizes(fuse.FEW) == whole


@pytest.mark.parametrize("real", ["double", "float"])
def test_the_divider_is_spared_by_estimates_alone(real, monkeypatch):
    """Fast mode, too, runs rules beside sums where the CPU has none to compute roots with."""
    monkeypatch.setattr(fuse, "WIDE", 1)
    loops = dividing()

    def beside(bits: int, fast: bool) -> bool:
        width = bits // (64 if real == "double" else 32)
        emitter = Emitter(loops, Module(real, width, bits // 16, True, fast), fuse.FEW)
        emitter.run()
        *_, last = emitter.pieces
        return {Space.PARAMETER, Space.PARAMETER_GRADIENT} <= {t.array for t in last.writes}

    assert beside(512, False)
    assert not beside(512, True)
    assert beside(256, False)
    assert beside(256, True)


def test_sums_are_added_in_line_where_they_wait_for_the_divider(monkeypatch):
    """No more of them are under way than the four vectors that may wait."""
    monkeypatch.setattr(fuse, "WIDE", 1)
    monkeypatch.setattr(llvm, "vector_bits", lambda: (256, 16, True))
    ir = native.build(dividing(), fuse.FEW, "fast").llvm_ir
    heads = re.findall(r"^b\d+:\n(?:  %\w+ = phi .*\n)+", ir, re.M)
    assert 1 <= max(len(re.findall(r"phi <4 x double>", head)) for head in heads) <= 4


def test_tiles_are_small_where_vectors_wait_for_the_divider():
    axes, machine = (Axis(16), Axis(64)), Machine(lanes=8, registers=32, steps=2)
    result, (left, right) = Ref(0, 0, (64, 1)), (Ref(1, 0, (1, 0, 16)), Ref(2, 0, (0, 1, 64)))
    uses = [Use(left, (Axis(8),)), Use(right, (Axis(8),))]
    free, waiting = (plan(axes, [result], uses, machine, divider=cycles) for cycles in (0.0, 12.0))
    assert waiting.height * waiting.width <= 4 < free.height * free.width


def test_a_gradient_that_nobody_reads_is_not_stored():
    loops = step(momentum=True)
    for cluster in fuse.fuse(loops, UNREAD):
        stored = {
            cluster.steps[k].result.space
            for k in range(len(cluster.steps))
            if k not in cluster.dead
        }
        assert stored == {Space.STATE, Space.PARAMETER}
    check(loops, UNREAD)


def test_a_gradient_that_reads_other_parameters_comes_before_all_updates(monkeypatch):
    loops = step(coupled=True)
    check(loops, UNREAD)
    monkeypatch.setattr(fuse, "_may_wait", lambda loops, step: True)
    with pytest.raises(AssertionError):
        check(loops, UNREAD)


def test_few_parameters_are_updated_together(monkeypatch):
    monkeypatch.setattr(fuse, "MANY", 1000)
    loops = step()
    assert [len(cluster.steps) for cluster in fuse.fuse(loops, UNREAD)] == [1, 1, 1]
    check(loops, UNREAD)


def test_temporaries_read_elsewhere_are_stored():
    lanes = (Loop(6),)
    first, second = Operand(Space.TEMPORARY, 0, (1,)), Operand(Space.TEMPORARY, 6, (1,))
    turned = Operand(Space.TEMPORARY, 5, (-1,))
    parameter = Operand(Space.PARAMETER, 0, (1,))
    loops = Loops(
        (
            Apply(first, lanes, ops.EXP, (parameter,)),
            Apply(second, lanes, ops.MUL, (first, parameter)),
            Apply(Operand(Space.OUTPUT, 0, (1,)), lanes, ops.ADD, (turned, second)),
        ),
        {Space.PARAMETER: 6, Space.TEMPORARY: 12, Space.OUTPUT: 6},
    )
    clusters = fuse.fuse(verify(loops))
    assert [(len(cluster.steps), cluster.dead) for cluster in clusters] == [(2, set()), (1, set())]
    inputs = {Space.PARAMETER: np.linspace(-1.0, 1.0, 6)}
    np.testing.assert_array_equal(
        native.build(loops).execute(inputs)[Space.OUTPUT], execute(loops, inputs)[Space.OUTPUT]
    )


def test_one_loop_joins_as_many_lanes_in_two():
    rows, flat = (Loop(5), Loop(9)), (Loop(45),)
    example = Segment(
        Operand(Space.PARAMETER, 0, (9, 1, 0)), Operand(Space.ARGUMENT, 0, (1, 0, 1)), (Loop(3),)
    )
    loops = Loops(
        (
            Contract(Operand(Space.TEMPORARY, 0, (9, 1)), rows, (Group((example,)),)),
            Apply(
                Operand(Space.OUTPUT, 0, (1,)),
                flat,
                ops.MUL,
                (Operand(Space.TEMPORARY, 0, (1,)), Operand(Space.PARAMETER, 44, (-1,))),
            ),
        ),
        {Space.PARAMETER: 45, Space.ARGUMENT: 7, Space.TEMPORARY: 45, Space.OUTPUT: 45},
    )
    clusters = fuse.fuse(verify(loops))
    assert [(len(cluster.steps), cluster.dead) for cluster in clusters] == [(2, {0})]
    rng = np.random.default_rng(5)
    inputs = {Space.PARAMETER: rng.normal(size=45), Space.ARGUMENT: rng.normal(size=7)}
    np.testing.assert_array_equal(
        native.build(loops).execute(inputs)[Space.OUTPUT], execute(loops, inputs)[Space.OUTPUT]
    )
