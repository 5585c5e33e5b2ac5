"""Native code against the reference executor: bit for bit, and that mistakes would be seen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from threads import in_threads

pytest.importorskip("llvmlite")

from compiler.loop_cases import (  # type: ignore[import-not-found]
    apply_cases,
    chain_cases,
    contract_cases,
    places_written,
    select_cases,
    walk_cases,
)
from programs import sparse
from programs.case import Case, capture, data_for, inputs_for
from programs.corpus import CORPUS
from scalargrad import ops
from scalargrad.compiler import abreast, emit, fuse, llvm, native, near, serial, straight
from scalargrad.compiler.arithmetic import Arithmetic
from scalargrad.compiler.loops import (
    MINUS,
    Apply,
    Contract,
    Group,
    Loop,
    Loops,
    Operand,
    Segment,
    Space,
    Walk,
)
from scalargrad.compiler.loops_check import verify
from scalargrad.compiler.reference import execute
from scalargrad.compiler.roll import roll
from scalargrad.errors import ShapeError

WIDE = settings(suppress_health_check=list(HealthCheck), deadline=None)
BATCHES = (1, 2, 7, 64, 100, 1000)
RESULTS = (Space.OUTPUT, Space.EXAMPLE_OUTPUT, Space.PARAMETER_GRADIENT, Space.EXAMPLE_GRADIENT)


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")


def bits(numbers: np.ndarray) -> np.ndarray:
    """Numbers as integers, every nan alike: IEEE leaves a nan's sign and payload open."""
    plain = np.where(np.isnan(numbers), np.nan, numbers)
    return plain.astype(np.float64).view(np.int64)


def agree(loops: Loops, inputs: Mapping[Space, np.ndarray], batch: int | None) -> None:
    """Native code gives the reference executor's bits wherever the program writes results."""
    expected = execute(loops, inputs, batch)
    got = native.build(loops, batch).execute(inputs)
    for space, places in places_written(loops).items():
        if space in got:
            np.testing.assert_array_equal(
                bits(got[space][..., places]), bits(expected[space][..., places]), space.name
            )


# --- every instruction, in every form -------------------------------------------------------------


@WIDE
@given(contract_cases())
def test_sums_of_any_form_have_the_bits_of_the_reference(case):
    agree(*case)


@WIDE
@given(apply_cases())
def test_operations_of_any_form_have_the_bits_of_the_reference(case):
    agree(*case)


@WIDE
@given(select_cases())
def test_indicators_and_takes_have_the_bits_of_the_reference(case):
    agree(*case)


@WIDE
@given(walk_cases())
def test_short_walks_have_the_bits_of_the_reference(case):
    agree(*case)


@pytest.mark.parametrize("strides", [(1, -1), (1, 1), (2, -1)])
def test_what_a_triangle_reads_of_a_walk_is_stored(strides, monkeypatch):
    """y[i] = sum(t[a i + b j] * p[j] for j <= i): the bound of what it reads may be below 0."""
    n = 9
    walk = elementwise(ops.ABS, Space.TEMPORARY, 0, Space.PARAMETER, [*range(n), *range(n)])
    left, right = Operand(Space.TEMPORARY, 0, strides), Operand(Space.PARAMETER, 0, (0, 1))
    triangle = Segment(left, right, (Loop(1, (1,)),))
    sums = Contract(Operand(Space.OUTPUT, 0, (1,)), (Loop(n),), (Group((triangle,)),))
    sizes = {Space.PARAMETER: n, Space.TEMPORARY: 2 * n, Space.OUTPUT: n}
    loops = Loops((walk, sums), sizes)
    verify(loops)
    p = np.random.default_rng(0).normal(size=n)
    for written_out in (serial.WRITTEN_OUT, -1):
        monkeypatch.setattr(serial, "WRITTEN_OUT", written_out)
        agree(loops, {Space.PARAMETER: p}, None)


def test_a_walk_in_parts_that_stores_too_little_is_found_out(monkeypatch):
    walk = elementwise(ops.ABS, Space.TEMPORARY, 0, Space.PARAMETER, [0, 1])
    copy = Apply(
        Operand(Space.OUTPUT, 0, (1,)), (Loop(2),), ops.NEG, (Operand(Space.TEMPORARY, 0, (1,)),)
    )
    sizes = dict.fromkeys((Space.PARAMETER, Space.TEMPORARY, Space.OUTPUT), 2)
    loops = Loops((walk, copy), sizes)
    agree(loops, {Space.PARAMETER: np.array([-3.0, 2.0])}, None)
    monkeypatch.setattr(straight, "_stored", lambda _, step, __: step.space != Space.TEMPORARY)
    with pytest.raises(AssertionError, match="OUTPUT"):
        agree(loops, {Space.PARAMETER: np.array([-3.0, 2.0])}, None)


@WIDE
@given(walk_cases(), st.sampled_from((1, 4, 20, straight.PART)))
def test_walks_written_out_in_parts_have_the_bits_of_the_reference(case, part):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serial, "WRITTEN_OUT", -1)
        patch.setattr(serial, "NARROW_TERMS", 100.0)
        patch.setattr(straight, "PART", part)
        agree(*case)


def test_memory_of_the_program_alone_is_not_the_callers():
    walk = elementwise(ops.ABS, Space.TEMPORARY, 0, Space.PARAMETER, [0, 1])
    frame = native.build(Loops((walk,), {Space.PARAMETER: 2, Space.TEMPORARY: 2})).frame()
    with pytest.raises(ValueError, match="TEMPORARY: only the program itself"):
        frame.bind(Space.TEMPORARY, np.zeros(2))


@pytest.mark.parametrize(("read", "stored"), [([], 2), ([0], 3), ([0, 1, 2], 4)])
def test_of_a_walk_in_parts_only_what_is_read_elsewhere_is_stored(read, stored, monkeypatch):
    """t[0] = |p[0]|, t[1] = |t[0]|, then in another part t[2] = |t[1]|, y[0] = |t[2]|."""
    monkeypatch.setattr(serial, "WRITTEN_OUT", -1)
    monkeypatch.setattr(straight, "PART", 4)  # an operation and its term count
    first = elementwise(ops.ABS, Space.TEMPORARY, 0, Space.TEMPORARY, [0, 0, 1, 2])
    first.left_space[0] = Space.PARAMETER
    first.space[3], first.at[3] = Space.OUTPUT, 0
    first.level[:] = np.arange(4)
    others = [
        Apply(Operand(Space.OUTPUT, 1 + k, ()), (), ops.NEG, (Operand(Space.TEMPORARY, place, ()),))
        for k, place in enumerate(read)
    ]
    sizes = {Space.PARAMETER: 1, Space.TEMPORARY: 3, Space.OUTPUT: 1 + len(read)}
    loops = Loops((first, *others), sizes)
    verify(loops)
    parts = native.build(loops).llvm_ir.split("define ")
    counts = [
        part.count("store double") for part in parts if part.startswith("internal void @part")
    ]
    assert sum(counts) == stored
    agree(loops, {Space.PARAMETER: np.array([-3.0])}, None)


@WIDE
@given(
    walk_cases(),
    st.sampled_from((serial.TOLD_APART, 0)),
    st.sampled_from((serial.CHUNK, 3)),
    st.sampled_from((serial.FAR, 0)),
    st.sampled_from((abreast.BYTES, 8)),
    st.booleans(),
)
def test_long_walks_have_the_bits_of_the_reference(case, told_apart, chunk, far, wide, together):
    with pytest.MonkeyPatch.context() as patch:
        if not together:
            patch.setattr(near, "prepare", lambda *_: None)
        patch.setattr(abreast, "BYTES", wide)
        patch.setattr(serial, "FAR", far)
        patch.setattr(serial, "WRITTEN_OUT", -1)
        patch.setattr(serial, "NARROW", 0.0)
        patch.setattr(serial, "TOLD_APART", told_apart)
        patch.setattr(serial, "CHUNK", chunk)
        agree(*case)


def elementwise(op: int, space: Space, start: int, source: Space, places: list[int]) -> Walk:
    """space[start + k] = op(source[places[k]])."""
    n = len(places)
    nothing, style = np.full(n, -1, np.int32), np.zeros(n, np.uint8)
    return Walk(
        np.full(n, op, np.uint8),
        np.full(n, space, np.uint8),
        np.arange(start, start + n, dtype=np.int32),
        np.zeros(n),
        np.arange(n + 1, dtype=np.int32),
        np.full(n, source, np.uint8),
        np.array(places, np.int32),
        style,
        nothing,
        style,
        np.zeros(n, np.int32),
    )


@pytest.mark.parametrize("batch", [1, 2, 3, 8, 9, 70])
def test_what_a_walk_reads_may_lie_apart_from_what_it_writes(batch, monkeypatch):
    """u[i] = -x[i], u[n + i] = tanh(u[n - 1 - i]), z[i] = u[n + i] for i < n."""
    n = 20
    first = Apply(
        Operand(Space.BATCHED, 0, (1,)), (Loop(n),), ops.NEG, (Operand(Space.EXAMPLE, 0, (1,)),)
    )
    walk = elementwise(ops.TANH, Space.BATCHED, n, Space.BATCHED, [*range(n)][::-1])
    results = Segment(Operand(Space.BATCHED, n, (1,)))
    last = Contract(Operand(Space.EXAMPLE_OUTPUT, 0, (1,)), (Loop(n),), (Group((results,)),))
    sizes = {Space.EXAMPLE: n, Space.BATCHED: 2 * n, Space.EXAMPLE_OUTPUT: n}
    loops = Loops((first, walk, last), sizes, batched=True)
    verify(loops)
    monkeypatch.setattr(serial, "WRITTEN_OUT", -1)
    agree(loops, {Space.EXAMPLE: np.random.default_rng(batch).normal(size=(batch, n))}, batch)


def test_examples_go_through_a_walk_abreast_where_they_fill_vectors(monkeypatch):
    """z[0] = |x[1]|, z[1] = |x[0]|."""
    walk = elementwise(ops.ABS, Space.EXAMPLE_OUTPUT, 0, Space.EXAMPLE, [1, 0])
    loops = Loops((walk,), {Space.EXAMPLE: 2, Space.EXAMPLE_OUTPUT: 2}, batched=True)
    monkeypatch.setattr(serial, "WRITTEN_OUT", -1)
    lanes = llvm.vector_bits()[0] // 64
    for batch in (1, lanes, 2 * lanes + 1, 40 * lanes + 3):
        program = native.build(loops, batch)
        calls = program.llvm_ir.count("call void @abreast(")
        assert calls == (1 if batch >= lanes > 1 else 0)
        # What follows the last example in the caller's array is not the walk's to write.
        x, z = np.random.default_rng(0).normal(size=(batch, 2)), np.full((batch + lanes, 2), 7.0)
        frame = program.frame()
        frame.bind(Space.EXAMPLE, x)
        frame.bind(Space.EXAMPLE_OUTPUT, z[:batch])
        frame.run()
        assert np.array_equal(z[:batch], np.abs(x[:, ::-1]))
        assert (z[batch:] == 7.0).all()


def test_of_all_walks_only_some_are_written_out(monkeypatch):
    def doubled(place: int) -> Walk:
        """y[place] = p[place] + p[place]."""
        bytes_, places = np.full(2, Space.PARAMETER, np.uint8), np.full(2, place, np.int32)
        return Walk(
            np.array([ops.ADD], np.uint8),
            np.array([Space.OUTPUT], np.uint8),
            np.array([place], np.int32),
            np.array([-0.0]),
            np.array([0, 2], np.int32),
            *(bytes_, places, bytes_, np.full(2, -1, np.int32), np.zeros(2, np.uint8)),
            np.zeros(1, np.int32),
        )

    loops = Loops(tuple(map(doubled, range(3))), {Space.PARAMETER: 3, Space.OUTPUT: 3})
    monkeypatch.setattr(serial, "ALL_WRITTEN_OUT", 4)
    monkeypatch.setattr(serial, "NARROW_WRITTEN_OUT", 0)
    program = native.build(loops)
    assert program.llvm_ir.count("call void @near(") == 1
    numbers = program.execute({Space.PARAMETER: np.array([1.0, 2.0, 3.0])})[Space.OUTPUT]
    assert numbers.tolist() == [2.0, 4.0, 6.0]


def test_a_walk_of_a_batch_finds_the_constants_of_its_steps(monkeypatch):
    """z[b] = x[b, 0] - x[b, 1], which has no constant of its own."""
    walk = Walk(
        np.array([ops.ADD], np.uint8),
        np.array([Space.EXAMPLE_OUTPUT], np.uint8),
        np.zeros(1, np.int32),
        np.array([-0.0]),
        np.array([0, 2], np.int32),
        np.full(2, Space.EXAMPLE, np.uint8),
        np.arange(2, dtype=np.int32),
        np.zeros(2, np.uint8),
        np.full(2, -1, np.int32),
        np.array([0, MINUS], np.uint8),
        np.zeros(1, np.int32),
    )
    loops = Loops((walk,), {Space.EXAMPLE: 2, Space.EXAMPLE_OUTPUT: 1}, batched=True)
    monkeypatch.setattr(serial, "WRITTEN_OUT", -1)
    x = np.arange(10.0).reshape(5, 2) ** 2
    got = native.build(loops, 5).execute({Space.EXAMPLE: x})[Space.EXAMPLE_OUTPUT]
    assert got.ravel().tolist() == (x[:, 0] - x[:, 1]).tolist()


@pytest.mark.parametrize("count", [1, 8, 19])
@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("op", [ops.TANH, ops.EXP, ops.SIGMOID, ops.POW, ops.POWER, ops.COS])
def test_functions_are_computed_for_several_nodes_of_a_level_at_once(op, batch, count, monkeypatch):
    """y[i] = f(x[i]) and then y[n + i] = f(y[i]), with x[n] as the second operand, if any."""
    given_, home = (Space.PARAMETER, Space.OUTPUT)
    if batch is not None:
        given_, home = (Space.EXAMPLE, Space.EXAMPLE_OUTPUT)
    arity = ops.BY_CODE[op].arity
    total = 2 * count
    left_space, left = np.full((total, arity), given_, np.uint8), np.full((total, arity), count)
    left_space[count:, 0] = home
    left[:, 0] = np.tile(np.arange(count), 2)
    walk = Walk(
        np.full(total, op, np.uint8),
        np.full(total, home, np.uint8),
        np.arange(total, dtype=np.int32),
        np.full(total, 0.3),
        np.arange(total + 1, dtype=np.int32) * arity,
        left_space.ravel(),
        left.ravel().astype(np.int32),
        np.zeros(arity * total, np.uint8),
        np.full(arity * total, -1, np.int32),
        np.zeros(arity * total, np.uint8),
        np.repeat(np.arange(2, dtype=np.int32), count),
    )
    sizes = {given_: count + 1, home: total}
    loops = Loops((walk,), sizes, batched=batch is not None)
    verify(loops)
    monkeypatch.setattr(serial, "WRITTEN_OUT", -1)
    rng = np.random.default_rng(count)
    numbers = rng.normal(size=(count + 1) * (batch or 1)) * 3.0
    agree(loops, {given_: numbers.reshape(batch, -1) if batch else numbers}, batch)
    if count > 1:
        numbers[:2] = np.inf, -800.0
        agree(loops, {given_: numbers.reshape(batch, -1) if batch else numbers}, batch)


@WIDE
@given(chain_cases())
def test_instructions_that_read_one_another_have_the_bits_of_the_reference(case):
    verify(case[0])
    agree(*case)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9, 16, 29])
@pytest.mark.parametrize("columns", [1, 2, 7, 8, 16, 27])
def test_blocks_are_turned_whatever_their_size(rows, columns):
    """y[i] = sum_j p[i, j] a[j], whose neighbours are `columns` apart; z[n - 1 - i] = y[i] p[n - i]."""
    last = rows - 1
    block = Operand(Space.PARAMETER, 0, (columns, 1))
    term = Segment(block, Operand(Space.ARGUMENT, 0, (0, 1)), (Loop(columns),))
    sums = Operand(Space.OUTPUT, 0, (1,))
    turned = Operand(Space.OUTPUT, rows + last, (-1,))
    factors = (sums, Operand(Space.PARAMETER, last, (-1,)))
    steps = (
        Contract(sums, (Loop(rows),), (Group((term,)),)),
        Apply(turned, (Loop(rows),), ops.MUL, factors),
    )
    sizes = {Space.PARAMETER: rows * columns, Space.ARGUMENT: columns, Space.OUTPUT: 2 * rows}
    rng = np.random.default_rng(rows)
    numbers = {space: rng.normal(size=sizes[space]) for space in (Space.PARAMETER, Space.ARGUMENT)}
    agree(Loops(steps, sizes), numbers, None)


@pytest.mark.parametrize("rows", [1, 2, 5, 8, 9, 30])
@pytest.mark.parametrize("first", [1, 2])
def test_the_lanes_of_a_triangle_run_side_by_side_and_end_where_it_ends(rows, first):
    """For k < i + first: y[i, k] = sum_j p[i, j] a[j, k] and z[i, k] = y[i, k] / p[i, 0]."""
    width = rows + first - 1
    lanes = (Loop(rows), Loop(first, (1,)))
    sums = Operand(Space.OUTPUT, 0, (width, 1))
    term = Segment(
        Operand(Space.PARAMETER, 0, (4, 0, 1)), Operand(Space.ARGUMENT, 0, (0, 4, 1)), (Loop(4),)
    )
    ratio = Operand(Space.OUTPUT, rows * width, (width, 1))
    steps = (
        Contract(sums, lanes, (Group((term,)),)),
        Apply(ratio, lanes, ops.DIV, (sums, Operand(Space.PARAMETER, 0, (4, 0)))),
    )
    sizes = {
        Space.PARAMETER: 4 * rows,
        Space.ARGUMENT: 4 * width,
        Space.OUTPUT: 2 * rows * width,
    }
    rng = np.random.default_rng(rows)
    numbers = {space: rng.normal(size=sizes[space]) for space in (Space.PARAMETER, Space.ARGUMENT)}
    loops = Loops(steps, sizes)
    agree(loops, numbers, None)
    program = native.build(loops)
    if rows > 1 and llvm.vector_bits()[0] > 128:  # registers of two lanes are not worth it
        assert re.search(r"fdiv <\d+ x double>", program.llvm_ir)
    got = program.execute(numbers)[Space.OUTPUT].reshape(2, rows, width)
    beyond = np.arange(width) >= np.arange(rows)[:, None] + first
    assert not got[:, beyond].any()


# --- real programs --------------------------------------------------------------------------------


def prepared(case: Case, batch: str | None, examples: int):
    tape, marks, parameters, _ = capture(case, batch, penalty=batch is not None)
    data = data_for(case, examples)
    return roll(tape, marks), inputs_for(case, data, parameters, batch)


@pytest.mark.parametrize("case", CORPUS, ids=str)
@pytest.mark.parametrize("batch", [None, 1, 7, 20], ids=lambda b: f"batch {b}")
def test_real_programs_have_the_bits_of_the_reference(case, batch):
    loops, inputs = prepared(case, None if batch is None else "mean", batch or 1)
    agree(loops, inputs, batch)


@pytest.mark.parametrize("case", [sparse.network(1500), sparse.dag(2000)], ids=str)
@pytest.mark.parametrize("batch", [None, 7, 20], ids=lambda b: f"batch {b}")
def test_large_programs_without_structure_have_the_bits_of_the_reference(case, batch):
    loops, inputs = prepared(case, None if batch is None else "mean", batch or 1)
    assert any(isinstance(step, Walk) for step in loops.instructions)
    agree(loops, inputs, batch)


@pytest.mark.parametrize("batch", BATCHES)
def test_a_batch_of_any_size(batch):
    loops, inputs = prepared(CORPUS[0], "sum", batch)
    agree(loops, inputs, batch)


@pytest.mark.parametrize(
    ("mode", "dtype", "bound"),
    [("fast", "float64", 1e-12), ("exact", "float32", 1e-5), ("fast", "float32", 1e-5)],
)
@pytest.mark.parametrize("case", CORPUS, ids=str)
def test_other_modes_are_within_their_bounds(case, mode, dtype, bound):
    for batch in (None, 20):
        loops, inputs = prepared(case, None if batch is None else "mean", batch or 1)
        expected = execute(loops, inputs, batch)
        got = native.build(loops, batch, mode, dtype).execute(inputs)
        for space in set(RESULTS) & set(got):
            scale = np.abs(expected[space]).max(initial=0.0)
            assert np.abs(got[space] - expected[space]).max(initial=0.0) <= bound * scale


@pytest.mark.parametrize("mode", native.MODES)
@pytest.mark.parametrize("cpu", [(512, 32, True), (256, 16, True), (128, 16, False)])
def test_sums_under_way_leave_registers_for_their_terms(cpu, mode, monkeypatch):
    """Of products of any shape: what a loop carries in vectors leaves room for two factors."""
    monkeypatch.setattr(llvm, "vector_bits", lambda: cpu)
    most = 0
    settings = native.Settings(24, mode, "float64", frozenset())
    for lanes in range(1, 30):
        ir, _ = native._emitted(product(lanes, 100)[0], settings)
        heads = re.findall(r"^b\d+:\n(?:  %\w+ = phi .*\n)+", ir, re.M)
        most = max(most, *(len(re.findall(r"phi <\d+ x double>", head)) for head in heads))
    assert 4 <= most <= cpu[1] - 2


# --- the checker can fail -------------------------------------------------------------------------


def product(lanes: int = 5, terms: int = 30) -> tuple[Loops, dict[Space, np.ndarray]]:
    """A matrix and a vector, and the sum over a batch of what comes out."""
    rng = np.random.default_rng(0)
    first = Contract(
        Operand(Space.BATCHED, 0, (1,)),
        (Loop(lanes),),
        (
            Group(
                (
                    Segment(
                        Operand(Space.PARAMETER, 0, (terms, 1)),
                        Operand(Space.EXAMPLE, 0, (0, 1)),
                        (Loop(terms),),
                    ),
                )
            ),
        ),
    )
    second = Contract(
        Operand(Space.OUTPUT, 0, (1,)),
        (Loop(lanes),),
        (Group((Segment(Operand(Space.BATCHED, 0, (1,))),), -1),),
    )
    sizes = {
        Space.PARAMETER: lanes * terms,
        Space.EXAMPLE: terms,
        Space.BATCHED: lanes,
        Space.OUTPUT: lanes,
    }
    given_ = {
        Space.PARAMETER: rng.normal(size=lanes * terms),
        Space.EXAMPLE: rng.normal(size=(50, terms)),
    }
    return Loops((first, second), sizes, batched=True), given_


def test_fused_sums_in_exact_mode_would_be_seen(monkeypatch):
    def fused(self, op, value, left, right, minus):
        return self.fused(left, right, value) if right is not None else self.add(value, left)

    loops, inputs = product()
    agree(loops, inputs, 50)
    monkeypatch.setattr(Arithmetic, "folded", fused)
    with pytest.raises(AssertionError):
        agree(loops, inputs, 50)


def test_a_batch_summed_in_the_other_order_would_be_seen(monkeypatch):
    bind = emit.Emitter.bind

    def ascending(self, operand, batched, loops, lanes=None, over=0):
        return bind(self, operand, batched, loops, lanes, abs(over))

    monkeypatch.setattr(emit.Emitter, "bind", ascending)
    loops, inputs = product()
    with pytest.raises(AssertionError):
        agree(loops, inputs, 50)


def chain(shift: int) -> tuple[Loops, dict[Space, np.ndarray]]:
    """t = exp(p); y = the element of t `shift` further on, plus 1."""
    lanes = (Loop(20),)
    steps = (
        Apply(
            Operand(Space.TEMPORARY, 0, (1,)), lanes, ops.EXP, (Operand(Space.PARAMETER, 0, (1,)),)
        ),
        Apply(
            Operand(Space.OUTPUT, 0, (1,)),
            lanes,
            ops.MUL,
            (Operand(Space.TEMPORARY, 19 * shift, (1 - 2 * shift,)),) * 2,
        ),
    )
    sizes = {Space.PARAMETER: 20, Space.TEMPORARY: 20, Space.OUTPUT: 20}
    return Loops(steps, sizes), {Space.PARAMETER: np.linspace(-1.0, 1.0, 20)}


def test_loops_are_shared_only_where_lanes_keep_to_themselves(monkeypatch):
    together, inputs = chain(0)
    assert [len(c.steps) for c in fuse.fuse(together)] == [2]
    assert fuse.fuse(together)[0].dead == {0}
    agree(together, inputs, None)
    apart, inputs = chain(1)
    assert [len(c.steps) for c in fuse.fuse(apart)] == [1, 1]
    agree(apart, inputs, None)
    monkeypatch.setattr(fuse, "same_lane", lambda a, b: True)
    with pytest.raises(AssertionError):
        agree(apart, inputs, None)


def update(count: int = 37) -> tuple[Loops, dict[Space, np.ndarray]]:
    """y = sum_j p[3 - j] a[i] before and after p <- p - lr * p, with a transposed read of p."""
    rows = (Loop(count),)

    def read(base: int) -> Contract:
        terms = Segment(
            Operand(Space.PARAMETER, 0, (8, 1)), Operand(Space.ARGUMENT, 0, (0, 1)), (Loop(8),)
        )
        return Contract(Operand(Space.OUTPUT, base, (1,)), rows, (Group((terms,)),))

    everything = (Loop(8 * count),)
    step = Contract(
        Operand(Space.PARAMETER, 0, (1,)),
        everything,
        (
            Group(
                (
                    Segment(
                        Operand(Space.ARGUMENT, 0, (0,)),
                        Operand(Space.PARAMETER, 0, (1,)),
                        minus=True,
                    ),
                )
            ),
        ),
        resume=True,
    )
    sizes = {Space.PARAMETER: 8 * count, Space.ARGUMENT: 8, Space.OUTPUT: 2 * count}
    rng = np.random.default_rng(1)
    numbers = {Space.PARAMETER: rng.normal(size=8 * count), Space.ARGUMENT: rng.normal(size=8)}
    return Loops((read(0), step, read(count)), sizes), numbers


def test_copies_of_parameters_do_not_outlive_their_update(monkeypatch):
    loops, inputs = update()
    agree(loops, inputs, None)
    monkeypatch.setattr(emit.Emitter, "forget", lambda self, step: None)
    with pytest.raises(AssertionError):
        agree(loops, inputs, None)


# --- calling --------------------------------------------------------------------------------------


def test_a_frame_runs_on_the_callers_arrays():
    loops, inputs = update()
    frame = native.build(loops).frame()
    parameters = inputs[Space.PARAMETER].copy()
    frame.bind(Space.PARAMETER, parameters)
    frame.arrays[Space.ARGUMENT][:] = inputs[Space.ARGUMENT]
    frame.run()
    frame.run()
    rate = inputs[Space.ARGUMENT][0]
    once = inputs[Space.PARAMETER] - rate * inputs[Space.PARAMETER]
    np.testing.assert_array_equal(parameters, once - rate * once)


@pytest.mark.parametrize(
    "array", [np.zeros(3), np.zeros(37 * 8, np.float32), np.zeros(2 * 37 * 8)[::2]]
)
def test_a_frame_refuses_arrays_that_do_not_fit(array):
    frame = native.build(update()[0]).frame()
    with pytest.raises(ShapeError, match=r"PARAMETER: expected a C-contiguous float64 array of"):
        frame.bind(Space.PARAMETER, array)


def test_a_program_serves_several_threads_each_with_its_frame():
    loops, inputs = prepared(CORPUS[0], "mean", 20)
    program = native.build(loops, 20)
    expected = program.execute(inputs)[Space.PARAMETER_GRADIENT]
    failures = []

    def work() -> None:
        for _ in range(20):
            got = program.execute(inputs)[Space.PARAMETER_GRADIENT]
            if not np.array_equal(got, expected):
                failures.append(got)

    in_threads(*[work] * 4)
    assert not failures


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "quick"}, "mode: expected 'exact' or 'fast', got 'quick'"),
        ({"dtype": "float16"}, "dtype: expected 'float64' or 'float32', got 'float16'"),
        ({"batch": None}, "batch: expected a batch size, got None"),
        ({"batch": 0}, "batch: expected 1 example or more, got 0"),
    ],
)
def test_unknown_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        native.build(product()[0], **{"batch": 2, **options})


def test_a_batch_for_a_program_without_one_is_refused():
    with pytest.raises(ValueError, match="None: the program has no batch"):
        native.build(update()[0], 4)


def test_a_program_is_code_of_its_own():
    program = native.build(replace(product()[0]), 50)
    assert "fmul" in program.llvm_ir
    assert "fmuladd" not in program.llvm_ir
    assert "fmuladd" in native.build(product()[0], 50, "fast").llvm_ir
