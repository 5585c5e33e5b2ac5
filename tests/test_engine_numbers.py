"""A Value among other numbers: what it accepts, what it refuses, and how it reads and compares."""

from __future__ import annotations

import enum
import math
import numbers
import operator
import random
import weakref
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from scalargrad import Value, ops
from strategies import any_floats, same_bits

pytestmark = pytest.mark.pure

RELATIONS = [operator.lt, operator.le, operator.gt, operator.ge]
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]


class Whole(enum.IntEnum):
    TWO = 2


class MyFloat(float):
    pass


class MyReal(numbers.Rational):
    """The least that a number can be and still be `numbers.Real`."""

    numerator = 5
    denominator = 2
    __hash__ = object.__hash__

    def refuse(self, *others: Any) -> Any:
        return NotImplemented

    __abs__ = __add__ = __ceil__ = __eq__ = __floor__ = __floordiv__ = __le__ = __lt__ = refuse
    __mod__ = __mul__ = __neg__ = __pos__ = __pow__ = __radd__ = __rfloordiv__ = __rmod__ = refuse
    __rmul__ = __round__ = __rpow__ = __rsub__ = __rtruediv__ = __sub__ = __truediv__ = refuse
    __trunc__ = refuse

    def __float__(self) -> float:
        return 2.5


ACCEPTED: list[tuple[Any, float]] = [
    (3, 3.0),
    (-2.5, -2.5),
    (True, 1.0),
    (2**60 + 1, 2.0**60),
    (Fraction(1, 3), 1 / 3),
    (Whole.TWO, 2.0),
    (MyFloat(1.5), 1.5),
    (MyReal(), 2.5),
    (np.float64(0.1), 0.1),
    (np.float32(0.1), 0.10000000149011612),
    (np.float16(0.5), 0.5),
    (np.longdouble(2.0), 2.0),
    (np.int64(7), 7.0),
    (np.int8(-3), -3.0),
    (np.uint8(200), 200.0),
    (np.bool_(True), 1.0),
    (np.array(2.5), 2.5),
    (np.array(3), 3.0),
    (np.array(2.0, dtype=np.float32), 2.0),
    (np.array(False), 0.0),
    (math.inf, math.inf),
    (math.nan, math.nan),
]
REJECTED: list[Any] = [
    "1.0",
    b"1",
    1j,
    None,
    [1.0],
    (1.0,),
    {"a": 1.0},
    {1.0},
    np.array([1.0]),
    np.array([[1.0]]),
    np.array([]),
    np.array("1"),
    np.complex128(1.0),
    np.complex64(1.0),
    np.array(1j),
    np.datetime64(0, "s"),
    Decimal("1"),
    object,
    range(1),
]
accepted = pytest.mark.parametrize(("number", "expected"), ACCEPTED, ids=lambda x: repr(x)[:30])
rejected = pytest.mark.parametrize("thing", REJECTED, ids=lambda x: repr(x)[:30])


class HasShape:
    """Looks like an array without dimensions at first glance."""

    shape = ()


class HasShapeAndDtype(HasShape):
    dtype = None


# --- accepted -------------------------------------------------------------------------------------


@accepted
def test_accepted_as_data_gradient_slope_and_exponent(number: Any, expected: float) -> None:
    v = Value(number)
    assert type(v.data) is float
    assert same_bits([v.data], [expected])
    v.data = v.grad = number
    assert type(v.data) is type(v.grad) is float
    assert same_bits([v.data, v.grad], [expected, expected])
    assert same_bits([Value(-1.0).leaky_relu(number).data], [expected * -1.0])
    power = Value(2.0) ** number
    assert power.op == "pow"
    assert same_bits([power.data], [ops.power(2.0, expected)])


@accepted
@pytest.mark.parametrize("operate", BINARY)
def test_accepted_as_either_operand(
    number: Any, expected: float, operate: Callable[..., Value]
) -> None:
    right, plain_right = operate(Value(1.5), number), operate(Value(1.5), expected)
    left, plain_left = operate(number, Value(1.5)), operate(expected, Value(1.5))
    assert type(left) is type(right) is Value
    assert same_bits([right.data, left.data], [plain_right.data, plain_left.data])
    assert (right.op, left.op) == (plain_right.op, plain_left.op)
    assert [type(v.data) for v in (*left.operands, *right.operands)] == [float] * len(
        left.operands + right.operands
    )


@accepted
def test_accepted_by_apply(number: Any, expected: float) -> None:
    v = Value.apply("maximum", number, -1e9)
    assert same_bits([v.data], [expected])
    assert same_bits([Value.apply("pow", 2.0, const=number).data], [ops.power(2.0, expected)])


@accepted
@pytest.mark.parametrize("compare", RELATIONS)
def test_accepted_on_either_side_of_a_comparison(
    number: Any, expected: float, compare: Callable[..., bool]
) -> None:
    for other in (expected, 2.0, -1e9):
        assert compare(Value(other), number) is compare(other, expected)
        assert bool(compare(number, Value(other))) is compare(expected, other)


@pytest.mark.parametrize(
    "huge", [10**400, -(10**400), Fraction(10**400)], ids=["+", "-", "fraction"]
)
def test_an_integer_beyond_floats_is_an_overflow_as_in_python(huge: Any) -> None:
    v = Value(1.0)
    for use in [
        lambda: Value(huge),
        lambda: setattr(v, "data", huge),
        lambda: setattr(v, "grad", huge),
        lambda: v + huge,
        lambda: huge * v,
        lambda: v**huge,
        lambda: v < huge,
        lambda: v.leaky_relu(huge),
        lambda: Value.apply("pow", v, const=huge),
    ]:
        with pytest.raises(OverflowError):
            use()
    assert (v.data, v.grad) == (1.0, 0.0)


# --- refused --------------------------------------------------------------------------------------


@rejected
def test_a_refusal_names_the_argument(thing: Any) -> None:
    v = Value(1.0)
    kind = type(thing).__name__
    for name, use in [
        ("data", lambda: Value(thing)),
        ("data", lambda: setattr(v, "data", thing)),
        ("grad", lambda: setattr(v, "grad", thing)),
        ("slope", lambda: v.leaky_relu(thing)),
        ("operand", lambda: Value.apply("add", v, thing)),
        ("operand", lambda: Value.apply("add", thing, v)),
        ("exponent", lambda: Value.apply("pow", v, const=thing)),
        ("slope", lambda: Value.apply("leaky_relu", v, const=thing)),
        ("index", lambda: Value.apply("take", v, const=thing)),
    ]:
        with pytest.raises(TypeError, match=f"^{name}: expected a.* real number, got {kind} "):
            use()
    assert (v.data, v.grad) == (1.0, 0.0)


# Arrays with a shape combine with Values element by element: see test_engine_numpy.py.
@pytest.mark.parametrize(
    "thing",
    [x for x in REJECTED if not isinstance(x, np.ndarray) or x.ndim == 0],
    ids=lambda x: repr(x)[:30],
)
@pytest.mark.parametrize("operate", [*BINARY, *RELATIONS])
def test_refused_as_either_operand(thing: Any, operate: Callable[..., Any]) -> None:
    v = Value(1.0)
    for arguments in [(v, thing), (thing, v)]:
        with pytest.raises(TypeError):
            operate(*arguments)


@pytest.mark.parametrize("thing", ["1", b"1", 1j, None, [1.0], (1.0,), {"a": 1}, {1}])
def test_a_refused_operand_is_named(thing: Any) -> None:
    v, kind = Value(1.0), type(thing).__name__
    for operate in (operator.add, operator.sub, operator.mul, operator.truediv, *RELATIONS):
        with pytest.raises(TypeError, match=f"^operand: expected .* real number, got {kind} "):
            operate(v, thing)
    with pytest.raises(TypeError, match=f"^exponent: expected .* real number, got {kind} "):
        v**thing
    with pytest.raises(TypeError, match=f"^base: expected .* real number, got {kind} "):
        thing**v


def test_a_value_is_refused_where_a_plain_number_is_meant() -> None:
    v, other = Value(1.0), Value(2.0)
    for name, use in [
        ("data", lambda: Value(other)),  # type: ignore[arg-type]
        ("data", lambda: setattr(v, "data", other)),
        ("grad", lambda: setattr(v, "grad", other)),
        ("slope", lambda: v.leaky_relu(other)),
        ("exponent", lambda: Value.apply("pow", v, const=other)),
    ]:
        with pytest.raises(TypeError, match=rf"^{name}: .* use value\.data or value\.detach\(\)"):
            use()


@pytest.mark.parametrize("thing", [HasShape(), HasShapeAndDtype(), Value])
def test_what_only_looks_like_a_number_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"^data: expected a real number"):
        Value(thing)
    with pytest.raises(TypeError):
        Value(1.0) + thing


@pytest.mark.parametrize("label", [None, 1, 1.0, b"x", ["x"], Value(1.0)])
def test_a_label_that_is_no_string_is_refused(label: Any) -> None:
    v = Value(1.0, "kept")
    for use in (lambda: Value(1.0, label), lambda: setattr(v, "label", label)):
        with pytest.raises(TypeError, match=f"^label: expected a str, got {type(label).__name__} "):
            use()
    assert v.label == "kept"


def test_any_string_is_a_label() -> None:
    for label in ("x", "größe ✓", "", np.str_("w"), "a" * 10_000):
        assert Value(1.0, label).label == label


def test_long_things_are_shortened_in_messages() -> None:
    with pytest.raises(TypeError) as caught:
        Value(list(range(10_000)))  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


def test_a_custom_operand_may_answer_instead() -> None:
    class Mine:
        def __radd__(self, other: Any) -> str:
            return "mine"

        __rpow__ = __gt__ = __radd__

    v = Value(1.0)
    assert (v + Mine(), v ** Mine(), v < Mine()) == ("mine", "mine", "mine")


# --- attributes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["op", "operands", "number", "_prev", "_children", "_op", "foo"])
def test_other_attributes_cannot_be_set(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Value(1.0), name, 1)


@pytest.mark.parametrize("name", ["op", "operands", "number", "foo"])
def test_attributes_cannot_be_deleted(name: str) -> None:
    with pytest.raises(AttributeError):
        delattr(Value(1.0), name)


@pytest.mark.parametrize("name", ["data", "grad", "label"])
def test_what_can_be_written_cannot_be_deleted(name: str) -> None:
    v = Value(2.0, "x")
    with pytest.raises((AttributeError, NotImplementedError)):
        delattr(v, name)
    assert (v.data, v.grad, v.label) == (2.0, 0.0, "x")


def test_a_value_cannot_be_subclassed() -> None:
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Mine", (Value,), {})


def test_a_value_cannot_be_referred_to_weakly() -> None:
    with pytest.raises(TypeError, match="weak reference"):
        weakref.ref(Value(1.0))


# --- reading --------------------------------------------------------------------------------------


@given(x=any_floats())
def test_a_value_reads_as_its_number(x: float) -> None:
    v = Value(x)
    assert same_bits([float(v), v.data, math.copysign(1.0, v)], [x, x, math.copysign(1.0, x)])
    assert bool(v) is bool(x)
    assert f"{v:.3f}" == f"{x:.3f}"
    assert format(v, "+12.4e") == format(x, "+12.4e")
    assert f"{v:g}" == "{:g}".format(v) == f"{x:g}"  # noqa: UP032
    assert "%.2f" % v == "%.2f" % x  # noqa: UP031
    assert f"{v}" == repr(v) == f"Value(data={x!r}, grad=0.0)"
    assert complex(v) == complex(x) or x != x


@given(x=st.floats(-1e15, 1e15), digits=st.integers(-5, 5))
def test_rounding_and_truncating(x: float, digits: int) -> None:
    v = Value(x)
    assert round(v) == round(x)
    assert type(round(v)) is int
    assert round(v, digits) == round(x, digits)
    assert type(round(v, digits)) is float
    assert int(v) == int(x)
    assert (math.floor(v), math.ceil(v)) == (math.floor(x), math.ceil(x))


@pytest.mark.parametrize("x", [math.inf, -math.inf, math.nan])
def test_reading_what_has_no_integer_fails_as_for_floats(x: float) -> None:
    for read in (int, round):
        with pytest.raises((OverflowError, ValueError)) as ours:
            read(Value(x))
        with pytest.raises(type(ours.value), match=str(ours.value)):
            read(x)


def test_a_wrong_format_is_an_error() -> None:
    with pytest.raises(ValueError, match="format code"):
        f"{Value(1.0):zz}"


def test_a_value_is_no_index() -> None:
    with pytest.raises(TypeError):
        [1, 2, 3][Value(1.0)]  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        range(Value(3.0))  # type: ignore[call-overload]


@pytest.mark.parametrize("operate", [operator.mod, operator.floordiv, divmod, operator.matmul])
def test_operations_without_derivatives_do_not_exist(operate: Callable[..., Any]) -> None:
    for arguments in [(Value(5.0), 2.0), (5.0, Value(2.0))]:
        with pytest.raises(TypeError):
            operate(*arguments)


def test_the_math_module_reads_the_number() -> None:
    assert math.isclose(Value(2.0), 2.0)
    assert math.isclose(0.1 + 0.2, Value(0.3))
    assert math.sqrt(Value(4.0)) == 2.0
    assert math.isnan(Value(math.nan))
    assert math.fsum([Value(1.0), Value(2.0)]) == 3.0


# --- comparing ------------------------------------------------------------------------------------


@given(a=any_floats(), b=any_floats())
def test_comparisons_compare_the_numbers(a: float, b: float) -> None:
    for compare in RELATIONS:
        expected = compare(a, b)
        for arguments in [(Value(a), Value(b)), (Value(a), b), (a, Value(b))]:
            assert compare(*arguments) is expected
        for arguments in [(Value(a), np.float64(b)), (np.float64(a), Value(b))]:
            assert bool(compare(*arguments)) is expected


def test_extremes_and_sorting() -> None:
    rng = random.Random(3)
    values = [Value(rng.uniform(-5, 5)) for _ in range(50)]
    data = [v.data for v in values]
    assert max(values) is values[data.index(max(data))]
    assert min(values) is values[data.index(min(data))]
    assert [v.data for v in sorted(values)] == sorted(data)
    assert [v.data for v in sorted(values, reverse=True)] == sorted(data, reverse=True)
    assert max(0.0, Value(2.0)).data == 2.0  # type: ignore[union-attr]
    assert max(0.0, Value(-2.0)) == 0.0


def test_sorting_keeps_the_order_of_equals() -> None:
    values = [Value(1.0), Value(0.0), Value(1.0), Value(0.0)]
    ordered = sorted(values)
    assert [v is w for v, w in zip(ordered, [values[k] for k in (1, 3, 0, 2)])] == [True] * 4


def test_the_maximum_chosen_by_python_has_its_gradient() -> None:
    a, b = Value(1.0), Value(2.0)
    max(a * 3, b * 2).backward()
    assert (a.grad, b.grad) == (0.0, 2.0)


def test_equality_is_identity() -> None:
    a, b = Value(2.0), Value(2.0)
    assert a == a
    assert a != b
    assert not a == b  # noqa: SIM201
    for equal_number in (2.0, 2, np.float64(2.0), np.longdouble(2.0), Fraction(2), np.array(2.0)):
        assert not bool(a == equal_number)
        assert not bool(equal_number == a)
        assert bool(a != equal_number)
        assert bool(equal_number != a)
    assert a != "2.0"
    assert a is not None
    assert a != None  # noqa: E711


def test_membership_finds_the_node_and_not_the_number() -> None:
    a, b, c = Value(2.0), Value(2.0), Value(2.0)
    assert a in [b, a]
    assert c not in [a, b]
    assert 2.0 not in [a, b]
    assert [a, b].index(b) == 1
    assert {a: "a", b: "b"}[b] == "b"
    assert len({a, b, c, a + 0, a}) == 4
    assert {a, b} == {b, a}
    assert hash(a) == hash(a)
    assert hash(a) != hash(b)


def test_the_hash_does_not_follow_the_data() -> None:
    v = Value(2.0)
    names = {v: "v"}
    v.data = 7.0
    assert names[v] == "v"


def test_nan_compares_as_nan() -> None:
    v = Value(math.nan)
    assert not any(compare(v, 1.0) or compare(1.0, v) or compare(v, v) for compare in RELATIONS)
    assert v == v
    assert bool(v)


def test_truth_is_not_zero() -> None:
    assert [bool(Value(x)) for x in (0.0, -0.0, 1.0, -1.0, 5e-324)] == [False] * 2 + [True] * 3
    assert all([Value(1.0), Value(2.0)])
    assert not any([Value(0.0)])
