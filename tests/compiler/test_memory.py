"""Where batched temporaries lie: the form that suits those who use them, and room for each."""

from __future__ import annotations

import numpy as np
import pytest

from scalargrad import ops
from scalargrad.compiler.loops import (
    Apply,
    Contract,
    Group,
    Instruction,
    Loop,
    Loops,
    Operand,
    Segment,
    Space,
)
from scalargrad.compiler.memory import Memory

LANES, BATCH = 8, 50


def relu(place: int, source: Operand, count: int = 16) -> Apply:
    """u[place + i] = relu(source)."""
    return Apply(Operand(Space.BATCHED, place, (1,)), (Loop(count),), ops.RELU, (source,))


def summed(place: int) -> Contract:
    """gp[i] = sum over the examples of u[place + i]."""
    group = Group((Segment(Operand(Space.BATCHED, place, (1,))),), 1)
    return Contract(Operand(Space.PARAMETER_GRADIENT, 0, (1,)), (Loop(16),), (group,))


def product(place: int, source: int) -> Contract:
    """u[place + i] = sum_j p[i + 16 j] u[source + j]."""
    terms = Segment(
        Operand(Space.PARAMETER, 0, (1, 16)), Operand(Space.BATCHED, source, (0, 1)), (Loop(16),)
    )
    return Contract(Operand(Space.BATCHED, place, (1,)), (Loop(16),), (Group((terms,)),))


def outer(place: int, other: Operand, units: int = 64, terms: int = 1) -> Contract:
    """gp[i, j] = sum over the examples and over k of u[place + i + 16 k] other[j]."""
    loops = (Loop(terms),) if terms > 1 else ()
    left = Operand(Space.BATCHED, place, (1, 0, 16)[: 2 + len(loops)])
    right = other._replace(strides=(*other.strides, 0)[: 2 + len(loops)])
    group = Group((Segment(left, right, loops),), 1)
    lanes = (Loop(16), Loop(units))
    return Contract(Operand(Space.PARAMETER_GRADIENT, 0, (units, 1)), lanes, (group,))


def memory(*steps: Instruction, batch: int = BATCH, registers: int = 32) -> Memory:
    sizes = {Space.PARAMETER: 256, Space.PARAMETER_GRADIENT: 1024, Space.EXAMPLE: 64}
    loops = Loops(steps, {**sizes, Space.BATCHED: 64}, batched=True)
    return Memory(loops, batch, LANES, registers)


def beside(where: Memory, place: int) -> bool:
    """Whether the examples of an element are neighbours."""
    return where.layout(Space.BATCHED, place).example == 1


def test_what_is_summed_over_the_examples_comes_one_after_the_other():
    where = memory(relu(0, Operand(Space.PARAMETER, 0, (1,))), summed(0))
    assert not beside(where, 0)


def test_what_few_lanes_compute_lies_side_by_side():
    example = Operand(Space.EXAMPLE, 0, (1,))
    where = memory(relu(0, example, 2), relu(2, Operand(Space.BATCHED, 0, (1,)), 2))
    assert beside(where, 0)
    assert beside(where, 2)


def test_all_layers_of_a_network_take_the_form_that_its_end_wants():
    first = relu(0, Operand(Space.EXAMPLE, 0, (0,)))
    where = memory(first, product(16, 0), product(32, 16), product(48, 32), summed(48))
    assert not any(beside(where, place) for place in (16, 32, 48))


@pytest.mark.parametrize(
    ("batch", "registers", "terms", "expected"),
    [(256, 16, 1, True), (256, 32, 1, False), (64, 16, 1, False), (256, 16, 3, False)],
)
def test_numbers_that_all_lanes_share_lie_in_the_order_of_the_sum(
    batch, registers, terms, expected
):
    """If there are many, if tiles are small, and if the sum is over nothing but the examples."""
    first = relu(0, Operand(Space.PARAMETER, 0, (1,)), 16 * terms)
    last = outer(0, Operand(Space.EXAMPLE, 0, (0, 1)), terms=terms)
    assert beside(memory(first, last, batch=batch, registers=registers), 0) == expected


def test_vectors_of_a_sum_over_the_examples_come_one_after_the_other():
    """Also where what they are multiplied with had better lie side by side."""
    first = relu(0, Operand(Space.PARAMETER, 0, (1,)))
    second = relu(16, Operand(Space.PARAMETER, 0, (1,)))
    both = outer(0, Operand(Space.BATCHED, 16, (0, 1)), 16)
    where = memory(first, second, both, batch=256, registers=16)
    assert (beside(where, 0), beside(where, 16)) == (True, False)


@pytest.mark.parametrize("batch", [1, 3, 8, 50, 64])
def test_no_two_elements_share_a_place(batch):
    steps = (
        *(relu(0, Operand(Space.EXAMPLE, 0, (1,)), 2), relu(2, Operand(Space.BATCHED, 0, (0,)))),
        *(product(18, 2), summed(18)),
    )
    loops = Loops(
        steps,
        {Space.PARAMETER: 256, Space.PARAMETER_GRADIENT: 16, Space.EXAMPLE: 2, Space.BATCHED: 34},
        batched=True,
    )
    where = Memory(loops, batch, LANES, 32)
    first, example = where.addresses(Space.BATCHED, np.arange(34, dtype=np.int32))
    places = first[:, None] + example[:, None] * np.arange(batch)
    assert len(np.unique(places)) == 34 * batch
    assert 0 <= places.min() <= places.max() < where.lengths[Space.BATCHED]
