import math

import numpy as np
import pytest

from scalargrad.data.arguments import count, deviation


def test_whole_numbers_and_deviations_come_back_as_python_numbers():
    assert count("n", np.int16(3)) == 3
    assert type(count("n", np.int16(3))) is int
    assert deviation("noise", np.float32(0.5)) == 0.5
    assert type(deviation("noise", 0)) is float


@pytest.mark.parametrize("value", [2.0, "2", None, True])
def test_a_count_must_be_whole(value):
    with pytest.raises(TypeError, match=r"^n is .*: expected a whole number$"):
        count("n", value)


@pytest.mark.parametrize("value", [0, -1])
def test_a_count_must_be_positive(value):
    with pytest.raises(ValueError, match=rf"^n is {value}: expected 1 or more$"):
        count("n", value)


@pytest.mark.parametrize("value", ["0.1", None, 1j, True])
def test_a_deviation_must_be_a_number(value):
    with pytest.raises(TypeError, match=r"^noise is .*: expected a number$"):
        deviation("noise", value)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_a_deviation_must_be_finite_and_not_negative(value):
    with pytest.raises(ValueError, match=r"^noise is .*: expected a finite standard deviation"):
        deviation("noise", value)
