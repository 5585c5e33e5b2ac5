"""Packs: nodes that do the same to the same kinds of operands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from programs import gpt, mlp
from programs.case import capture
from scalargrad import ops
from scalargrad.compiler.flatten import flatten
from scalargrad.compiler.layout import Layout, verify_layout
from scalargrad.compiler.loops import Space
from scalargrad.compiler.packs import LEAVES, find_packs, ordered, verify_packs
from scalargrad.compiler.simplify import simplify
from scalargrad.errors import VerifyError

pytestmark = pytest.mark.pure


def forward(case):
    tape, marks, *_ = capture(case, gradients=False)
    return simplify(*flatten(tape, marks))[0]


def test_a_layer_is_a_pack():
    flat = forward(mlp.hinge((2, 5, 3, 1)))
    packs = find_packs(flat)
    verify_packs(flat, packs)
    # matrix products and relus of the two layers, the output, the loss
    assert [len(packs.nodes(k)) for k in range(len(packs))] == [5, 5, 3, 3, 1, 1, 1]


def test_packs_and_places_print():
    flat = forward(mlp.hinge((2, 2, 1)))
    packs = find_packs(flat)
    for k, line in enumerate(str(packs).splitlines()):
        name, _, nodes = line.partition(" = ")
        assert name == f"pack {LEAVES + k}"
        assert [int(node[1:]) for node in nodes.split()] == packs.nodes(k).tolist()
    layout = Layout(flat)
    lines = str(layout).splitlines()
    assert len(lines) == len(flat)
    for i in np.flatnonzero(layout.address >= 0):
        space = Space(int(flat.space[i])).short
        assert lines[i] == f"v{i} at {space}[{layout.address[i]}]"


def test_ragged_rows_stay_together():
    flat = forward(gpt.document(4, vocabulary=5, width=4, heads=2))
    packs = find_packs(flat)
    verify_packs(flat, packs)
    scores = [k for k in range(len(packs)) if len(packs.nodes(k)) == 2 * (1 + 2 + 3 + 4)]
    assert scores


def test_lanes_are_ordered_by_rank():
    flat = forward(mlp.hinge((2, 5, 3, 1)))
    packs = find_packs(flat)
    for k in range(len(packs)):
        assert (np.diff(flat.rank[packs.nodes(k)]) > 0).all()


def test_coarse_packs_are_fewer():
    flat = forward(gpt.document(4, vocabulary=5, width=4, heads=2))
    fine, coarse = find_packs(flat), find_packs(flat, coarse=True)
    verify_packs(flat, coarse)
    assert len(coarse) < len(fine)


def test_enough_packs_are_the_first_ones():
    flat = forward(gpt.document(4, vocabulary=5, width=4, heads=2))
    order = ordered(flat)
    key = order.level[order.nodes].astype(np.int64) << 32 | flat.rank[order.nodes]
    assert (np.diff(key) > 0).all()
    packs = find_packs(flat, order)
    assert packs.complete
    for most in range(0, len(packs), 7):
        some = find_packs(flat, order, most=most)
        assert not some.complete or most == len(packs) - 1
        assert len(some) == most + 1
        looked_for = order.nodes[: len(some.members)]
        assert np.array_equal(np.sort(some.members), np.sort(looked_for))
        assert np.array_equal(some.pack[looked_for], packs.pack[looked_for])
        assert (some.pack[order.nodes[len(some.members) :]] == -1).all()


def test_the_verifier_finds_planted_faults():
    flat = forward(mlp.hinge((2, 5, 3, 1)))
    packs = find_packs(flat)
    swapped = packs.members.copy()
    swapped[[0, -1]] = swapped[[-1, 0]]
    with pytest.raises(VerifyError, match="not the one it is a member of"):
        verify_packs(flat, replace(packs, members=swapped))
    with pytest.raises(VerifyError, match="exactly one pack"):
        verify_packs(flat, replace(packs, members=packs.members[:-1]))
    merged = packs.pack.copy()
    merged[merged >= LEAVES] = LEAVES
    one = replace(packs, pack=merged, first=np.array([0, len(packs.members)], np.int32))
    with pytest.raises(VerifyError, match="reads node"):
        verify_packs(flat, one)
    kind = flat.kind.copy()
    kind[packs.nodes(1)[0]] = ops.TANH
    with pytest.raises(VerifyError, match="different operations"):
        verify_packs(replace(flat, kind=kind), packs)


def test_places_are_checked():
    flat = forward(mlp.hinge((2, 5, 3, 1)))
    layout = Layout(flat)
    with pytest.raises(VerifyError, match="has no place"):
        verify_layout(flat, layout)
    layout.address[:] = 0
    with pytest.raises(VerifyError, match="share a place"):
        verify_layout(flat, layout)


def test_equal_constants_have_one_canonical_place():
    flat = forward(gpt.document(4, vocabulary=5, width=4, heads=2))
    layout = Layout(flat)
    numbers = layout.constants
    assert np.array_equal(numbers[layout.canonical], numbers)
    assert len(np.unique(layout.canonical)) == len(np.unique(numbers))
