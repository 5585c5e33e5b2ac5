import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalargrad.data import Examples, Split, split
from scalargrad.errors import ShapeError


@settings(deadline=None)
@given(n=st.integers(2, 200), data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_each_example_lands_in_exactly_one_half_beside_its_target(n, data, seed):
    held_out = data.draw(st.integers(1, n - 1))
    x = np.arange(2 * n).reshape(n, 2)
    y = np.arange(n)
    train, test = split(x, y, held_out=held_out, seed=seed)
    assert len(test.x) == len(test.y) == held_out
    assert sorted([*train.y, *test.y]) == list(range(n))
    for part in (train, test):
        assert np.array_equal(part.x, x[part.y])


def test_names_and_unpacking():
    divided = split([[0], [1], [2], [3]], [0, 1, 2, 3], held_out=0.25)
    (x_train, _), (_, y_test) = divided
    assert isinstance(divided, Split)
    assert isinstance(divided.train, Examples)
    assert x_train is divided.train.x
    assert y_test is divided.test.y


@pytest.mark.parametrize(
    ("n", "held_out", "size"),
    [(100, 0.07, 7), (1797, 0.2, 359), (10, np.float32(0.5), 5), (10, np.int64(3), 3), (2, 1, 1)],
)
def test_fractions_round_to_the_nearest_and_whole_numbers_count(n, held_out, size):
    assert len(split(range(n), range(n), held_out=held_out).test.y) == size


def test_the_seed_decides():
    x = y = np.arange(50)
    first, again, other = (split(x, y, seed=seed).test.y for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_halves_are_copies():
    x, y = np.arange(10.0), np.arange(10)
    split(x, y).train.x[:] = -1.0
    assert x.min() == 0.0


@pytest.mark.parametrize(("x", "y"), [([1, 2], [1]), (1, 1)])
def test_lengths_must_agree(x, y):
    with pytest.raises(ShapeError, match=r"^x has shape .* and y has shape"):
        split(x, y)


@pytest.mark.parametrize("held_out", [0, 10, 11, -1, 0.01, 0.99])
def test_neither_half_may_be_empty(held_out):
    with pytest.raises(ValueError, match="of the 10 examples: expected at least one"):
        split(range(10), range(10), held_out=held_out)


@pytest.mark.parametrize("held_out", [0.0, 1.0, 3.0, -0.5, float("nan")])
def test_a_fraction_lies_between_0_and_1(held_out):
    with pytest.raises(ValueError, match="a fraction lies between 0 and 1"):
        split(range(10), range(10), held_out=held_out)


@pytest.mark.parametrize("held_out", ["0.2", None, True])
def test_held_out_must_be_a_number(held_out):
    with pytest.raises(TypeError, match=r"^held_out is "):
        split(range(10), range(10), held_out=held_out)
