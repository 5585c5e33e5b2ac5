"""What counts as a real number. `test_engine_numbers.py` tries the same through Values."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from scalargrad import Value
from scalargrad.coerce import combines, is_real, real, refuse_modulo, shown

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (2, 2.0),
        (-0.0, -0.0),
        (True, 1.0),
        (Fraction(1, 4), 0.25),
        (np.float32(0.5), 0.5),
        (np.uint8(7), 7.0),
        (np.bool_(False), 0.0),
        (np.array(3), 3.0),
        (math.inf, math.inf),
    ],
)
def test_real_numbers(x: Any, expected: float) -> None:
    assert is_real(x)
    number = real(x, "x")
    assert type(number) is float
    assert (number, math.copysign(1.0, number)) == (expected, math.copysign(1.0, expected))


class Shaped:
    shape = ()
    dtype: Any = None


class Typed(Shaped):
    dtype = np.dtype(object)


@pytest.mark.parametrize(
    "x",
    [
        *("1", b"1", 1j, None, [], (), {}, set(), object(), Decimal(1), range(1), float),
        *(np.array([1.0]), np.array(1j), np.array("1"), np.complex64(1), np.datetime64(0, "s")),
        *(Shaped(), Typed(), np.array(None)),
    ],
    ids=lambda x: shown(x).partition(" at 0x")[0][:30],  # the same in every process
)
def test_everything_else_is_refused_by_name(x: Any) -> None:
    assert not is_real(x)
    with pytest.raises(TypeError, match=r"^slope: expected a real number, got "):
        real(x, "slope")


def test_a_value_is_refused_with_the_remedy() -> None:
    with pytest.raises(TypeError, match=r"use value\.data or value\.detach\(\)$"):
        real(Value(1.0), "x")


def test_an_integer_beyond_floats_overflows_as_in_python() -> None:
    with pytest.raises(OverflowError):
        real(10**400, "x")


def test_things_are_shown_with_their_type_and_shortened() -> None:
    assert shown("a") == "str 'a'"
    assert shown(None) == "NoneType None"
    assert shown([1] * 100).startswith("list [1, 1, 1")
    assert shown([1] * 100).endswith("...")
    assert len(shown([1] * 100)) == len("list ") + 60


def test_what_combines_with_a_value() -> None:
    for number in (2, 0.5, True, Fraction(1, 3), np.float32(1.0), np.array(2)):
        assert combines(number, "operand")
    for other in (np.ones(2), object(), Decimal(1), Value(1.0)):
        assert not combines(other, "operand")
    for never in ("2", b"2", 1j, [1.0], (1.0,), {}, set(), None):
        with pytest.raises(TypeError, match="exponent: expected a Value or a real number, got"):
            combines(never, "exponent")


def test_powers_have_no_modulus() -> None:
    refuse_modulo(None)
    with pytest.raises(TypeError, match="modulo: expected None, got int 7"):
        refuse_modulo(7)
