"""The Loops form: its geometry, its printer, its verifier and the reference executor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scalargrad import ops
from scalargrad.compiler.loops import (
    MINUS,
    SKIP_RIGHT,
    Apply,
    Contract,
    Group,
    Indicator,
    Loop,
    Loops,
    Operand,
    Segment,
    Space,
    Take,
    Walk,
    counters,
    work,
)
from scalargrad.compiler.loops_check import verify
from scalargrad.compiler.reference import execute
from scalargrad.errors import ShapeError, VerifyError

pytestmark = pytest.mark.pure
S = Space


def program(*steps, batch=True, constants=(), table=(), **sizes) -> Loops:
    return Loops(
        steps,
        {S[name.upper()]: size for name, size in sizes.items()},
        np.array(constants, np.float64),
        np.array(table, np.int32),
        batch,
    )


LINEAR = Contract(
    Operand(S.BATCHED, 0, (1,)),
    (Loop(4),),
    (
        Group(
            (Segment(Operand(S.PARAMETER, 0, (3, 1)), Operand(S.EXAMPLE, 0, (0, 1)), (Loop(3),)),)
        ),
    ),
    start=0.0,
)
RELU = Apply(Operand(S.BATCHED, 4, (1,)), (Loop(4),), ops.RELU, (Operand(S.BATCHED, 0, (1,)),))
RAGGED = Contract(
    Operand(S.TEMPORARY, 0, (1,)),
    (Loop(4),),
    (Group((Segment(Operand(S.BATCHED, 4, (0, 1)), None, (Loop(1, (1,)),)),), -1),),
)
TOTAL = Contract(
    Operand(S.OUTPUT, 0), (), (Group((Segment(Operand(S.TEMPORARY, 0, (1,)), None, (Loop(4),)),)),)
)
SIZES = {"parameter": 12, "example": 3, "batched": 8, "temporary": 4, "output": 1}


def layer() -> Loops:
    return program(LINEAR, RELU, RAGGED, TOTAL, **SIZES)


def test_counters_of_a_triangle():
    assert counters((Loop(3), Loop(1, (1,)))).tolist() == [
        *([0, 0], [1, 0], [1, 1], [2, 0], [2, 1], [2, 2])
    ]
    with pytest.raises(ValueError, match="negative"):
        counters((Loop(3), Loop(1, (-1,))))


def test_executes_a_layer():
    rng = np.random.default_rng(0)
    p, x = rng.normal(size=12), rng.normal(size=(5, 3))
    results = execute(verify(layer()), {S.PARAMETER: p, S.EXAMPLE: x}, 5)
    hidden = np.maximum(x @ p.reshape(4, 3).T, 0.0)
    assert results[S.BATCHED].shape == (5, 8)
    assert results[S.OUTPUT][0] == pytest.approx(np.cumsum(hidden, axis=1).sum(), rel=1e-14)


def test_sums_are_added_in_the_stated_order():
    big = [1e16, 1.0, -1e16]
    for order, expected in (((0, 1, 2), 0.0), ((0, 2, 1), 1.0)):
        terms = tuple(Segment(Operand(S.ARGUMENT, k)) for k in order)
        step = Contract(Operand(S.OUTPUT, 0), (), (Group(terms),))
        loops = program(step, batch=False, argument=3, output=1)
        assert execute(verify(loops), {S.ARGUMENT: big})[S.OUTPUT][0] == expected


def test_the_order_over_the_batch_is_stated():
    rows = np.array([[1e16, 1.0], [3.0, 2.0], [-1e16, 4.0]])
    for over in (1, -1):
        both = (Segment(Operand(S.EXAMPLE, 0)), Segment(Operand(S.EXAMPLE, 1), minus=True))
        step = Contract(Operand(S.OUTPUT, 0), (), (Group(both, over),))
        loops = verify(program(step, example=2, output=1))
        total = 0.0
        for a, b in rows.tolist()[::over]:
            total = total + a - b
        assert execute(loops, {S.EXAMPLE: rows}, 3)[S.OUTPUT][0] == total


def test_start_and_zeros():
    nothing = Segment(Operand(S.ARGUMENT, 0), Operand(S.ARGUMENT, 1), skip=SKIP_RIGHT)
    for start, skip, expected in (
        (-0.0, SKIP_RIGHT, -0.0),
        (2.5, SKIP_RIGHT, 2.5),
        (2.5, 0, np.nan),
    ):
        step = Contract(
            Operand(S.OUTPUT, 0), (), (Group((nothing._replace(skip=skip),)),), start=start
        )
        loops = program(step, batch=False, argument=2, output=1)
        got = execute(loops, {S.ARGUMENT: [np.inf, 0.0]})[S.OUTPUT]
        assert repr(float(got[0])) == repr(float(expected))


def test_resume_adds_to_what_is_there():
    step = Contract(
        Operand(S.PARAMETER_GRADIENT, 0, (1,)),
        (Loop(2),),
        (Group((Segment(Operand(S.PARAMETER, 0, (1,))),)),),
        resume=True,
    )
    loops = verify(program(step, batch=False, parameter=2, parameter_gradient=2))
    given = {S.PARAMETER: [1.0, 2.0], S.PARAMETER_GRADIENT: [10.0, 20.0]}
    assert execute(loops, given)[S.PARAMETER_GRADIENT].tolist() == [11.0, 22.0]


def test_selections_indicators_tables_and_walks():
    steps = (
        Take(
            Operand(S.BATCHED, 0, (1,)),
            (Loop(2),),
            Operand(S.EXAMPLE_INDEX, 0, (0,)),
            Operand(S.PARAMETER, 0, (1, 2)),
            3,
        ),
        Indicator(
            Operand(S.BATCHED, 2, (1,)),
            (Loop(3),),
            Operand(S.EXAMPLE_INDEX, 0, (0,)),
            Operand(S.CONSTANT, 0, (1,)),
        ),
        Contract(
            Operand(S.BATCHED, 5, (1,)),
            (Loop(2),),
            (
                Group(
                    (
                        Segment(
                            Operand(S.PARAMETER, 0, (3, 1), indirect=True),
                            Operand(S.BATCHED, 2, (0, 1)),
                            (Loop(3),),
                        ),
                    )
                ),
            ),
        ),
        Walk(
            code=np.array([ops.ADD, ops.MAXIMUM, ops.TANH], np.uint8),
            space=np.full(3, S.BATCHED, np.uint8),
            at=np.array([7, 8, 9], np.int32),
            const=np.array([0.5, 0.0, 0.0]),
            first=np.array([0, 2, 5, 6], np.int32),
            left_space=np.array([S.PARAMETER, S.BATCHED, *[S.BATCHED] * 4], np.uint8),
            left=np.array([1, 0, 0, 1, 7, 8], np.int32),
            right_space=np.array([S.PARAMETER, *[0] * 5], np.uint8),
            right=np.array([2, -1, -1, -1, -1, -1], np.int32),
            style=np.array([MINUS, 0, 0, 0, 0, 0], np.uint8),
            level=np.arange(3, dtype=np.int32),
        ),
        Contract(Operand(S.EXAMPLE_OUTPUT, 0), (), (Group((Segment(Operand(S.BATCHED, 9)),)),)),
    )
    loops = program(
        *steps,
        table=[5, 3, 1, 0, 2, 4],
        parameter=6,
        example_index=1,
        batched=10,
        example_output=1,
    )
    p = np.array([1.0, -2.0, 3.0, 4.0, 0.5, 6.0])
    results = execute(verify(loops), {S.PARAMETER: p, S.EXAMPLE_INDEX: [[1], [2]]}, 2)
    for row, i in zip(results[S.BATCHED], (1, 2)):
        assert row[:2].tolist() == p[2 * i : 2 * i + 2].tolist()
        assert row[2:5].tolist() == [float(i == k) for k in range(3)]
        assert row[5:7].tolist() == [p[[5, 3, 1][i]], p[[0, 2, 4][i]]]
        assert row[7] == 0.5 - p[1] * p[2] + row[0]
        assert row[8] == max(row[0], row[1], row[7])
        assert row[9] == pytest.approx(np.tanh(row[8]), rel=1e-15)
    assert "3 operations one after the other" in str(loops)


def test_executor_refuses_inputs_of_another_shape():
    with pytest.raises(ShapeError, match="PARAMETER"):
        execute(layer(), {S.PARAMETER: np.zeros(11), S.EXAMPLE: np.zeros((1, 3))}, 1)
    with pytest.raises(ShapeError, match="PARAMETER"):
        execute(layer(), {S.EXAMPLE: np.zeros((1, 3))}, 1)


def test_print_shows_what_was_found():
    text = str(layer())
    assert "matrix product 4 x 3 . 3 x B" in text
    assert "for i<4: u[i] = 0.0 + sum(p[3i+j] * x[j] for j<3)" in text
    assert "for i<4: u[4+i] = relu(u[i])" in text
    assert "for i<4: t[i] = sum(u[4+j] for b from B-1, j<i+1)" in text


def test_work_counts_terms():
    assert [work(step, 10) for step in layer().instructions] == [120, 40, 100, 4]


def moved(step, **changes):
    return replace(step, **changes)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ((moved(LINEAR, lanes=(Loop(5),)), RELU, RAGGED, TOTAL), "PARAMETER 0 to 14"),
        ((moved(LINEAR, lanes=(Loop(3),)), RELU, RAGGED, TOTAL), "not written yet"),
        ((RELU, LINEAR, RAGGED, TOTAL), "not written yet"),
        ((LINEAR, LINEAR, RELU, RAGGED, TOTAL), "written twice"),
        ((moved(LINEAR, result=Operand(S.BATCHED, 0, (0,))), RELU, RAGGED, TOTAL), "written twice"),
        ((LINEAR, RELU, RAGGED), "OUTPUT: element 0 is never written"),
        ((LINEAR, moved(RELU, result=Operand(S.EXAMPLE, 0, (0,))), RAGGED, TOTAL), "input"),
        ((LINEAR, moved(RELU, op=ops.ADD), RAGGED, TOTAL), "op 1 with 1 operands"),
        (
            (LINEAR, moved(RELU, operands=(Operand(S.BATCHED, 0),)), RAGGED, TOTAL),
            "0 strides for 1",
        ),
        ((LINEAR, RELU, moved(RAGGED, op=ops.MUL), TOTAL), "cannot fold"),
        (
            (LINEAR, RELU, moved(RAGGED, groups=(Group(RAGGED.groups[0].segments),)), TOTAL),
            "unbatched result reads the batched",
        ),
        ((moved(LINEAR, groups=(Group(LINEAR.groups[0].segments, 1),)),), "the result is batched"),
        ((LINEAR, RELU, moved(RAGGED, resume=True), TOTAL), "cannot resume"),
        ((LINEAR, RELU, moved(RAGGED, lanes=(Loop(-1),)), TOTAL), "negative"),
        (
            (moved(LINEAR, result=LINEAR.result._replace(indirect=True)), RELU, RAGGED, TOTAL),
            "of the table",
        ),
    ],
)
def test_the_verifier_finds_planted_faults(broken, message):
    with pytest.raises(VerifyError, match=message):
        verify(program(*broken, **SIZES))


def test_the_verifier_checks_sizes_and_indices():
    with pytest.raises(VerifyError, match="without a batch"):
        verify(program(batch=False, example=3))
    with pytest.raises(VerifyError, match="constants: 2 numbers"):
        verify(program(constants=(1.0, 2.0), constant=3))
    wrong = Indicator(Operand(S.BATCHED, 0), (), Operand(S.EXAMPLE, 0), Operand(S.CONSTANT, 0))
    with pytest.raises(VerifyError, match="not an integer argument"):
        verify(program(wrong, example=1, batched=1))


def test_the_verifier_checks_walks():
    walk = Walk(
        code=np.array([ops.TANH], np.uint8),
        space=np.array([S.TEMPORARY], np.uint8),
        at=np.zeros(1, np.int32),
        const=np.zeros(1),
        first=np.array([0, 1], np.int32),
        left_space=np.array([S.ARGUMENT], np.uint8),
        left=np.zeros(1, np.int32),
        right_space=np.zeros(1, np.uint8),
        right=np.full(1, -1, np.int32),
        style=np.zeros(1, np.uint8),
        level=np.zeros(1, np.int32),
    )
    good = program(walk, batch=False, argument=1, temporary=1)
    verify(good)
    for change, message in (
        ({"left": np.ones(1, np.int32)}, "ARGUMENT 1 to 1"),
        ({"left_space": np.array([S.TEMPORARY], np.uint8)}, "not written yet"),
        ({"left_space": np.array([S.EXAMPLE], np.uint8)}, "reads the batched"),
        ({"space": np.array([S.ARGUMENT], np.uint8)}, "input"),
        ({"code": np.array([ops.POWER], np.uint8)}, "with 1 operands"),
    ):
        with pytest.raises(VerifyError, match=message):
            verify(replace(good, instructions=(replace(walk, **change),)))
    with pytest.raises(VerifyError, match="written twice"):
        verify(replace(good, instructions=(walk, walk)))
    twice = replace(
        walk,
        **{name: np.tile(getattr(walk, name), 2) for name in ("code", "space", "const", "style")},
        at=np.arange(2, dtype=np.int32),
        first=np.arange(3, dtype=np.int32),
        left_space=np.array([S.ARGUMENT, S.TEMPORARY], np.uint8),
        left=np.zeros(2, np.int32),
        right_space=np.zeros(2, np.uint8),
        right=np.full(2, -1, np.int32),
        level=np.array([1, 2], np.int32),
    )
    good = program(twice, batch=False, argument=1, temporary=2)
    verify(good)
    with pytest.raises(VerifyError, match="of its own level"):
        verify(replace(good, instructions=(replace(twice, level=np.ones(2, np.int32)),)))


def test_only_the_first_term_of_a_walks_sum_is_the_number_that_it_goes_on_from():
    own, other = S.ARGUMENT_GRADIENT, S.ARGUMENT

    def summed(*spaces: S) -> Loops:
        walk = Walk(
            code=np.array([ops.ADD], np.uint8),
            space=np.array([own], np.uint8),
            at=np.zeros(1, np.int32),
            const=np.full(1, -0.0),
            first=np.array([0, 2], np.int32),
            left_space=np.array(spaces, np.uint8),
            left=np.zeros(2, np.int32),
            right_space=np.zeros(2, np.uint8),
            right=np.full(2, -1, np.int32),
            style=np.zeros(2, np.uint8),
            level=np.zeros(1, np.int32),
        )
        return program(walk, batch=False, argument=1, argument_gradient=1)

    verify(summed(own, other))
    with pytest.raises(VerifyError, match="not written yet"):
        verify(summed(other, own))
