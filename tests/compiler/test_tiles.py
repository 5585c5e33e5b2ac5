"""Tiles of sums: how they are stored, and when that is along their rows."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from scalargrad.compiler import clusters, copying, native, nests
from scalargrad.compiler.loops import Contract, Group, Loop, Loops, Operand, Segment, Space
from scalargrad.compiler.loops_check import verify
from scalargrad.compiler.plans import Machine
from scalargrad.compiler.plans import plan as make
from scalargrad.compiler.reference import execute
from scalargrad.compiler.tiles import Axis, Plan, Ref, Use

TERMS = 16


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Plan, bool]]:
    """The plans that were made, and whether they store their first result along the rows."""
    found = []

    def plan(axes, results, *rest):
        chosen = right(axes, results, *rest)
        found.append((chosen, chosen.crosses(results[0])))
        return chosen

    right = clusters.plan
    monkeypatch.setattr(clusters, "plan", plan)
    return found


def product(tokens: int, units: int) -> Loops:
    """y[i, j] = sum_k p[j, k] a[i, k]: a matrix times each row of another."""
    lanes = (Loop(tokens), Loop(units))
    left = Operand(Space.PARAMETER, 0, (0, TERMS, 1))
    right = Operand(Space.ARGUMENT, 0, (TERMS, 0, 1))
    group = Group((Segment(left, right, (Loop(TERMS),)),))
    step = Contract(Operand(Space.OUTPUT, 0, (units, 1)), lanes, (group,))
    sizes = {Space.PARAMETER: units * TERMS, Space.ARGUMENT: tokens * TERMS}
    return verify(Loops((step,), {**sizes, Space.OUTPUT: tokens * units}, batched=False))


def outputs(loops: Loops, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    inputs = {
        space: rng.integers(-99, 99, loops.size(space)) / 8
        for space in (Space.PARAMETER, Space.ARGUMENT)
    }
    got = native.build(loops, dtype=dtype).execute(inputs)[Space.OUTPUT]
    return got, execute(loops, inputs)[Space.OUTPUT]


@pytest.mark.parametrize("dtype", native.REALS)
@pytest.mark.parametrize("units", [5, 8, 27, 64])
@pytest.mark.parametrize("tokens", [5, 8, 16, 19])
def test_products_of_few_rows_are_right_in_every_shape(tokens, units, dtype):
    got, expected = outputs(product(tokens, units), dtype)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", native.REALS)
def test_vectors_of_tokens_are_stored_along_the_units(dtype, plans, monkeypatch):
    lanes = native.llvm.vector_bits()[0] // (8 * np.dtype(dtype).itemsize)
    loops = product(lanes, 8 * lanes)
    got, expected = outputs(loops, dtype)
    np.testing.assert_array_equal(got, expected)
    [(chosen, crossing)] = plans
    assert crossing
    assert chosen.height % lanes == 0
    monkeypatch.setattr(nests, "transposed", lambda function, kind, lines: lines)
    got, expected = outputs(loops, dtype)
    assert not np.array_equal(got, expected)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("registers", [16, 32])
def test_tiles_of_long_products_multiply_more_than_they_read(registers, steps):
    """y[i, j] = sum_k p[j, k] a[k, i]: also where every number for all lanes is a load."""
    terms = (Axis(784),)
    uses = (
        Use(Ref(Space.PARAMETER, 0, (0, 784, 1)), terms),
        Use(Ref(Space.ARGUMENT, 0, (1, 0, 64)), terms),
    )
    result = Ref(Space.OUTPUT, 0, (1, 64))
    machine = Machine(4, registers, steps)
    chosen = make((Axis(64), Axis(128)), (result,), uses, machine)
    assert (chosen.vector, chosen.rows) == (0, 1)
    reads, products = chosen.height + chosen.width, chosen.height * chosen.width
    assert reads <= 0.75 * products
    assert products + chosen.width + steps < registers


@pytest.mark.parametrize(
    ("registers", "steps", "terms", "most"),
    [(16, 1, 16, 8), (16, 1, 784, 12), (16, 2, 16, 12), (32, 1, 16, 24)],
)
def test_tiles_of_short_fused_sums_are_as_many_as_can_be_under_way(registers, steps, terms, most):
    axes = (Axis(96), Axis(16))
    left = Ref(0, 0, (terms, 0, 1))
    right = Ref(1, 0, (0, 1, 16))
    uses = [Use(left, (Axis(terms),)), Use(right, (Axis(terms),))]
    chosen = make(axes, [Ref(2, 0, (16, 1))], uses, Machine(4, registers, steps))
    shape = chosen.height * chosen.width
    assert shape == most if most == 8 else 8 < shape <= most


@pytest.mark.parametrize(("lanes", "registers", "turned"), [(4, 16, True), (16, 32, False)])
def test_squares_of_many_lanes_are_copied_rather_than_turned_sum_by_sum(lanes, registers, turned):
    """y[i, j] = sum_k x[i, j, k]."""
    use = Use(Ref(0, 0, (216, 27, 1)), (Axis(27),))
    machine = Machine(lanes, registers, 1, reduces=True)
    chosen = make((Axis(16), Axis(8)), [Ref(1, 0, (1, 16))], [use], machine)
    assert (chosen.turned, chosen.copies) == (turned, frozenset() if turned else {0})


def layer(units: int) -> Loops:
    """y[i] = sum_k p[i, k] x[k] for every example."""
    segment = Segment(
        Operand(Space.PARAMETER, 0, (TERMS, 1)), Operand(Space.EXAMPLE, 0, (0, 1)), (Loop(TERMS),)
    )
    result = Operand(Space.EXAMPLE_OUTPUT, 0, (1,))
    step = Contract(result, (Loop(units),), (Group((segment,)),))
    sizes = {Space.PARAMETER: units * TERMS, Space.EXAMPLE: TERMS, Space.EXAMPLE_OUTPUT: units}
    return verify(Loops((step,), sizes, batched=True))


def test_copies_lie_in_panels_as_tiles_read_them(monkeypatch):
    monkeypatch.setattr(native.llvm, "vector_bits", lambda: (256, 16, True))
    loops, batch, sizes = layer(6), 64, []

    def inputs(space: Space) -> np.ndarray:
        shape = (batch, TERMS) if space.batched else loops.size(space)
        return np.random.default_rng(0).integers(-99, 99, shape) / 8

    def panels(axes, refs, plan, size):
        sizes.append(size)
        return right(axes, refs, plan, size)

    right = clusters.in_panels
    monkeypatch.setattr(clusters, "in_panels", panels)
    numbers = {space: inputs(space) for space in (Space.PARAMETER, Space.EXAMPLE)}
    expected = execute(loops, numbers, batch)[Space.EXAMPLE_OUTPUT]
    got = native.build(loops, batch).execute(numbers)[Space.EXAMPLE_OUTPUT]
    np.testing.assert_array_equal(got, expected)
    assert sizes
    assert all(size % 4 == 0 and batch % size == 0 and size < batch for size in sizes)
    monkeypatch.setattr(copying, "transposed", lambda function, kind, lines: lines)
    got = native.build(loops, batch).execute(numbers)[Space.EXAMPLE_OUTPUT]
    assert not np.array_equal(got, expected)


def gradient(rows: int, units: int) -> Loops:
    """gp[i, j] = sum over the examples, from the last on, of x[units + i] x[j]."""
    segment = Segment(Operand(Space.EXAMPLE, units, (1, 0)), Operand(Space.EXAMPLE, 0, (0, 1)))
    result = Operand(Space.PARAMETER_GRADIENT, 0, (units, 1))
    step = Contract(result, (Loop(rows), Loop(units)), (Group((segment,), -1),))
    sizes = {Space.EXAMPLE: rows + units, Space.PARAMETER_GRADIENT: rows * units}
    return verify(Loops((step,), sizes, batched=True))


@pytest.mark.parametrize("dtype", native.REALS)
@pytest.mark.parametrize(("rows", "units"), [(64, 96), (97, 112), (83, 1040)])
def test_numbers_read_again_and_again_lie_in_the_order_of_reading(rows, units, dtype, monkeypatch):
    monkeypatch.setattr(native.llvm, "vector_bits", lambda: (256, 16, True))
    loops, batch, copies = gradient(rows, units), 64, []
    x = np.random.default_rng(0).normal(size=(batch, rows + units)).astype(dtype)
    expected = np.zeros((rows, units), dtype)
    for example in x[::-1]:
        expected += np.outer(example[units:], example[:units])

    def line(nest, cursors):
        copies.append(nest.refs)
        right(nest, cursors)

    def numbers():
        made = native.build(loops, batch, dtype=dtype)
        return made.execute({Space.EXAMPLE: x})[Space.PARAMETER_GRADIENT].reshape(rows, units)

    right = copying._line
    monkeypatch.setattr(copying, "_line", line)
    np.testing.assert_array_equal(numbers(), expected)
    assert copies
    for source, target in copies:  # lanes, examples from the last on, panels
        assert source.strides[:2] == (1, -(rows + units))
        assert target.strides[0] < target.strides[1] < target.strides[2]
    monkeypatch.setattr(copying, "_line", lambda nest, cursors: None)
    assert not np.array_equal(numbers(), expected)


@pytest.mark.parametrize(
    ("registers", "examples", "rows", "packed"),
    [(16, 64, 128, True), (32, 64, 128, False), (16, 4, 128, False), (16, 64, 8, False)],
)
def test_what_is_read_here_and_there_is_packed_if_it_is_much_and_read_often(
    registers, examples, rows, packed
):
    """y[i, j] = sum_k a[k, i] x[k, j]."""
    terms = (Axis(examples),)
    uses = (
        Use(Ref(Space.ARGUMENT, 0, (1, 0, rows)), terms),
        Use(Ref(Space.EXAMPLE, 0, (0, 1, 784)), terms),
    )
    result = Ref(Space.OUTPUT, 0, (784, 1))
    chosen = make((Axis(rows), Axis(784)), (result,), uses, Machine(4, registers, 2))
    assert (chosen.vector, chosen.rows) == (1, 0)
    assert (chosen.copies, chosen.around) == (frozenset({1} if packed else ()), packed)
