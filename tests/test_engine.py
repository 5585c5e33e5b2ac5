"""What a Value is, and that its numbers and gradients are right.

Random programs are compared with the rules of the op table bit for bit, and with 50-digit
arithmetic, central differences and micrograd to a tolerance.
"""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from micrograd.engine import Value as MicrogradValue

import exact
import scalargrad
from readme import readme
from scalargrad import Value, ops
from strategies import (
    MICROGRAD_OPS,
    SMOOTH_OPS,
    SYNTAX,
    Literal,
    Program,
    Step,
    expected_gradients,
    on_floats,
    on_values,
    programs,
    same_bits,
    wild_programs,
)

pytestmark = pytest.mark.pure

# --- birth ----------------------------------------------------------------------------------------


def test_a_new_value() -> None:
    v = Value(2.0)
    assert (v.data, v.grad, v.op, v.operands, v.label) == (2.0, 0.0, "", (), "")
    assert repr(v) == str(v) == "Value(data=2.0, grad=0.0)"
    assert type(v.data) is float
    assert type(v.grad) is float


def test_a_label() -> None:
    assert Value(1.0, "x").label == Value(1.0, label="x").label == "x"
    v = Value(1.0)
    v.label = "weight"
    assert v.label == "weight"
    v.label = ""
    assert v.label == ""


def test_labels_stay_with_their_values() -> None:
    values = [Value(k, f"v{k}" if k % 2 else "") for k in range(100)]
    del values[10:50]
    values += [Value(k) for k in range(100)]
    assert [v.label for v in values[:10]] == [f"v{k}" if k % 2 else "" for k in range(10)]
    assert [v.label for v in values[60:]] == [""] * 100


def test_there_is_one_value_class() -> None:
    from scalargrad.engine import Value as EngineValue

    assert scalargrad.Value is EngineValue
    assert Value.__module__ == "scalargrad.engine"


def test_operands_keep_their_order_and_duplicates() -> None:
    a, b = Value(2.0), Value(3.0)
    assert (a - b).operands == (a, b)
    assert (b - a).operands == (b, a)
    assert (a * a).operands == (a, a)
    assert Value.apply("where", a, b, a).operands == (a, b, a)
    assert Value.apply("take", b, a, b, b, const=1).operands == (b, a, b, b)
    assert a.exp().operands == (a,)


@pytest.mark.parametrize("row", ops.TABLE, ids=lambda row: row.name)
def test_op_names_the_operation(row: ops.Op) -> None:
    operands = [Value(0.5) for _ in range(row.arity or 2)]
    assert on_values(row.name, operands, 1.0).op == ("" if row.name == "detach" else row.name) or (
        row.name == "detach" and Value.apply("detach", operands[0]).op == "detach"
    )


# --- arithmetic -----------------------------------------------------------------------------------


def test_operators_with_numbers_on_either_side() -> None:
    v = Value(3.0)
    results = [v + 2, 2 + v, v - 2, 2 - v, v * 2, 2 * v, v / 2, 2 / v, v**2, 2**v, -v, +v, abs(-v)]
    expected = [5.0, 5.0, 1.0, -1.0, 6.0, 6.0, 1.5, 2 / 3, 9.0, 8.0, -3.0, 3.0, 3.0]
    assert [x.data for x in results] == expected
    names = ["add", "add", "sub", "sub", "mul", "mul", "div", "div", "pow", "power", "neg"]
    assert [x.op for x in results[:11]] == names
    assert [tuple(x.data for x in y.operands) for y in results[:8]] == [
        *((3.0, 2.0), (2.0, 3.0), (3.0, 2.0), (2.0, 3.0)),
        *((3.0, 2.0), (2.0, 3.0), (3.0, 2.0), (2.0, 3.0)),
    ]


def test_plus_is_the_value_itself() -> None:
    v = Value(3.0)
    assert +v is v


def test_augmented_assignment_makes_a_new_node() -> None:
    v = total = Value(3.0)
    total += 1
    total *= 2
    assert (v.data, total.data, total.op) == (3.0, 8.0, "mul")
    total.backward()
    assert v.grad == 2.0


def test_sum_starts_from_zero() -> None:
    values = [Value(k) for k in range(1, 5)]
    total = sum(values)
    assert total.data == 10.0
    total.backward()
    assert [v.grad for v in values] == [1.0] * 4


def test_leaky_relu_has_a_slope() -> None:
    assert Value(-2.0).leaky_relu().data == -0.02
    assert Value(-2.0).leaky_relu(0.5).data == -1.0
    assert Value(-2.0).leaky_relu(slope=0.25).data == -0.5
    assert Value(2.0).leaky_relu(0.5).data == 2.0


def test_abs_is_a_method_too() -> None:
    v = Value(-2.0)
    y = v.abs()
    y.backward()
    assert (y.data, y.op, v.grad) == (2.0, "abs", -1.0)


def test_apply_builds_any_operation() -> None:
    assert Value.apply("maximum", 2, 3.0).data == 3.0
    assert Value.apply("leaky_relu", -2.0, const=0.5).data == -1.0
    assert Value.apply("pow", 2.0, const=3).data == 8.0
    assert Value.apply("take", 1.0, 2.0, 3.0, const=2).data == 3.0
    assert Value.apply("where", 0.0, 1.0, 2.0).data == 2.0
    assert Value.apply("less", 1.0, 2.0).data == 1.0


def test_apply_refuses_an_unknown_operation() -> None:
    with pytest.raises(KeyError, match="sinh"):
        Value.apply("sinh", 1.0)


@pytest.mark.parametrize(
    ("name", "operands", "wanted"),
    [
        ("add", (1.0,), "2"),
        ("exp", (), "1"),
        ("where", (1.0, 2.0), "3"),
        ("take", (), "at least 1"),
    ],
)
def test_apply_refuses_a_wrong_number_of_operands(
    name: str, operands: tuple[float, ...], wanted: str
) -> None:
    with pytest.raises(TypeError, match=f"{name}: expected {wanted} operands, got {len(operands)}"):
        Value.apply(name, *operands)


@pytest.mark.parametrize("index", [-1, 2, 7_000_000, -(2**70), 0.5, math.nan, math.inf])
def test_apply_refuses_an_index_outside_the_candidates(index: float) -> None:
    with pytest.raises(IndexError, match="index: expected 0 to 1, got"):
        Value.apply("take", 1.0, 2.0, const=index)


def test_modular_powers_are_refused() -> None:
    for arguments in [(Value(2.0), 2, 3), (2, Value(2.0), 3), (Value(2.0), Value(2.0), 3)]:
        with pytest.raises(TypeError):
            pow(*arguments)


IEEE: list[tuple[str, Any, float]] = [
    ("x / 0", lambda: Value(1.0) / 0.0, math.inf),
    ("x / -0", lambda: Value(1.0) / -0.0, -math.inf),
    ("0 / 0", lambda: Value(0.0) / 0, math.nan),
    ("number / 0", lambda: 1 / Value(0.0), math.inf),
    ("log 0", lambda: Value(0.0).log(), -math.inf),
    ("log -1", lambda: Value(-1.0).log(), math.nan),
    ("sqrt -1", lambda: Value(-1.0).sqrt(), math.nan),
    ("exp 1000", lambda: Value(1000.0).exp(), math.inf),
    ("overflow of *", lambda: Value(1e200) * 1e200, math.inf),
    ("overflow of **", lambda: Value(1e200) ** 3, math.inf),
    ("overflow of odd **", lambda: Value(-1e200) ** 3, -math.inf),
    ("0 ** -1", lambda: Value(0.0) ** -1, math.inf),
    ("-0 ** -1", lambda: Value(-0.0) ** -1, -math.inf),
    ("0 ** -2.5", lambda: Value(0.0) ** -2.5, math.inf),
    ("-8 ** (1/3)", lambda: Value(-8.0) ** (1 / 3), math.nan),
    ("Value -8 ** (1/3)", lambda: Value(-8.0) ** Value(1 / 3), math.nan),
    ("number ** Value", lambda: (-8.0) ** Value(1 / 3), math.nan),
    ("inf - inf", lambda: Value(math.inf) - math.inf, math.nan),
    ("sin inf", lambda: Value(math.inf).sin(), math.nan),
    ("cos -inf", lambda: Value(-math.inf).cos(), math.nan),
    ("sigmoid -1000", lambda: Value(-1000.0).sigmoid(), 0.0),
    ("sigmoid 1000", lambda: Value(1000.0).sigmoid(), 1.0),
    ("softplus 1000", lambda: Value(1000.0).softplus(), 1000.0),
    ("softplus -1000", lambda: Value(-1000.0).softplus(), 0.0),
    ("tanh 1000", lambda: Value(1000.0).tanh(), 1.0),
    ("gelu -1000", lambda: Value(-1000.0).gelu(), -0.0),
    ("neg 0", lambda: -Value(0.0), -0.0),
]


@pytest.mark.parametrize(
    ("compute", "expected"), [row[1:] for row in IEEE], ids=[r[0] for r in IEEE]
)
def test_arithmetic_is_ieee_and_never_raises(compute: Any, expected: float) -> None:
    y = compute()
    assert same_bits([y.data], [expected])
    y.backward()  # nor does its derivative


@pytest.mark.parametrize("x", [-1e4, -800.0, 800.0, 1e4, 1e300, -1e300])
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus"])
def test_safe_functions_have_finite_derivatives_far_out(name: str, x: float) -> None:
    v = Value(x)
    getattr(v, name)().backward()
    assert v.grad == (1.0 if name == "softplus" and x > 0 else 0.0)


# --- gradients of whole programs ------------------------------------------------------------------


def test_the_example_of_micrograds_readme() -> None:
    values = readme()
    a, b, g = (values[name] for name in "abg")
    assert f"{g.data:.4f}" == "24.7041"
    g.backward()
    assert f"{a.grad:.4f}" == "138.8338"
    assert f"{b.grad:.4f}" == "645.5773"


def test_the_example_of_the_docstring() -> None:
    a, b = Value(2.0), Value(-3.0)
    c = a * b + a**2
    c.backward()
    assert (a.grad, b.grad) == (1.0, 2.0)


@given(program=wild_programs())
def test_any_program_follows_the_op_table_bit_for_bit(program: Program) -> None:
    values = program.run([Value(x) for x in program.inputs], applied)
    results = program.run(program.inputs, on_floats)
    assert same_bits([v.data for v in values], results)
    root = values[-1]
    root.backward()
    expected = expected_gradients(program, results)
    assert same_bits([v.grad for v in values], expected)


def applied(name: str, operands: list[Any], constant: float) -> Value:
    return Value.apply(name, *operands, const=constant)


@given(program=wild_programs([name for name in ops.BY_NAME if name != "detach"]))
def test_syntax_and_apply_are_the_same(program: Program) -> None:
    first, second = (
        program.run([Value(x) for x in program.inputs], apply) for apply in (on_values, applied)
    )
    first[-1].backward()
    second[-1].backward()
    assert [v.op for v in first] == [v.op for v in second]
    assert same_bits([v.data for v in first], [v.data for v in second])
    assert same_bits([v.grad for v in first], [v.grad for v in second])


@given(program=programs())
def test_values_and_gradients_against_mpmath(program: Program) -> None:
    assume(exact.is_well_conditioned(program, 1e-12))
    inputs = [Value(x) for x in program.inputs]
    y = program(*inputs)
    y.backward()
    value, gradients = exact.values_and_gradients(program)
    for got, want in zip([y.data, *(v.grad for v in inputs)], [value, *gradients]):
        assert abs(got - want) <= 1e-12 * abs(want), (got, want)


def test_most_random_programs_are_well_conditioned() -> None:
    """The filter of the test above lets most programs through, and stops what it should."""
    kept = []

    @given(program=programs())
    def count(program: Program) -> None:
        kept.append(exact.is_well_conditioned(program, 1e-12))

    count()
    assert sum(kept) > 0.8 * len(kept)
    near_one = 1.0 + 2.0**-40
    cancelling = Program((near_one,), (step("sub", 0, 1.0), step("log", 0), step("sub", 1, 2)))
    assert not exact.is_well_conditioned(cancelling, 1e-12)


def step(op: str, *operands: int | float) -> Step:
    return Step(op, tuple(x if isinstance(x, int) else Literal(x) for x in operands))


def central_difference(program: Program, k: int, step: float) -> float:
    """(f(x + h e_k) - f(x - h e_k)) / 2h, on floats."""
    ends = []
    for sign in (1.0, -1.0):
        inputs = list(program.inputs)
        inputs[k] += sign * step
        ends.append((inputs[k], program.run(inputs, on_floats)[-1]))
    (x1, y1), (x0, y0) = ends
    return (y1 - y0) / (x1 - x0)


@given(program=programs())
def test_gradients_against_central_differences(program: Program) -> None:
    inputs = [Value(x) for x in program.inputs]
    program(*inputs).backward()
    for k, v in enumerate(inputs):
        coarse, fine = (central_difference(program, k, h * abs(v.data)) for h in (2e-5, 1e-5))
        scale = max(abs(fine), 1e-3)
        # Two step sizes that disagree have met a kink, or a function that bends too fast for them.
        if abs(coarse - fine) < 1e-6 * scale:
            assert abs(v.grad - fine) < 1e-5 * scale, (k, v.grad, fine)


@given(program=programs(MICROGRAD_OPS))
def test_gradients_against_micrograd(program: Program) -> None:
    assume(exact.is_well_conditioned(program, 1e-12))
    ours = [Value(x) for x in program.inputs]
    theirs = [MicrogradValue(x) for x in program.inputs]
    y, z = program(*ours), program.run(theirs, on_micrograd)[-1]
    y.backward()
    z.backward()
    assert y.data == pytest.approx(z.data, rel=2e-12, abs=0)
    assert [v.grad for v in ours] == pytest.approx([v.grad for v in theirs], rel=2e-12, abs=0)


def on_micrograd(name: str, operands: list[Any], constant: float) -> MicrogradValue:
    if name == "relu":
        return operands[0].relu()
    return SYNTAX[name](*operands, *((constant,) if name == "pow" else ()))


def test_a_large_random_network_against_micrograd() -> None:
    rng = random.Random(7)
    weights = [rng.uniform(-1, 1) for _ in range(120)]

    def loss(make: Any) -> tuple[Any, list[Any]]:
        w = [make(x) for x in weights]
        hidden = [
            sum((w[12 * k + j] * (0.1 * j - 0.5) for j in range(12)), make(0.1)).relu()
            for k in range(8)
        ]
        outputs = [
            sum((w[96 + 8 * k + j] * hidden[j] for j in range(8)), make(0.0)) for k in range(3)
        ]
        return sum((y - 1) ** 2 for y in outputs), w

    ours, parameters = loss(Value)
    theirs, their_parameters = loss(MicrogradValue)
    ours.backward()
    theirs.backward()
    assert ours.data == pytest.approx(theirs.data, rel=1e-13)
    assert [p.grad for p in parameters] == pytest.approx(
        [p.grad for p in their_parameters], rel=1e-12, abs=1e-15
    )


def test_every_smooth_operation_occurs_in_random_programs() -> None:
    seen: set[str] = set()

    @settings(max_examples=300)
    @given(program=programs())
    def collect(program: Program) -> None:
        seen.update(step.op for step in program.steps)

    collect()
    assert seen == set(SMOOTH_OPS)
