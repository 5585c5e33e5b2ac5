import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalargrad.data import four_samples, toy_regression


@settings(deadline=None)
@given(
    n=st.integers(1, 300),
    noise=st.floats(0.0, 10.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_shapes_and_ranges(n, noise, seed):
    x, y = toy_regression(n, noise=noise, seed=seed)
    assert x.shape == (n, 2)
    assert y.shape == (n,)
    assert x.dtype == y.dtype == np.float64
    assert np.all((x >= -1.0) & (x < 1.0))
    assert np.all(y >= 0.0)


def test_four_rectifiers_and_a_rectified_output_represent_it_exactly():
    x, y = toy_regression(500, seed=5)
    hidden = np.maximum(x @ np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]), 0.0)
    assert np.array_equal(np.maximum(hidden @ np.ones(4), 0.0), y)


def test_noise_changes_the_targets_and_not_the_points():
    clean, noisy = toy_regression(2000, seed=1), toy_regression(2000, noise=0.1, seed=1)
    assert np.array_equal(clean.x, noisy.x)
    # Far enough from 0 that no target was clipped; 5 standard errors of a deviation from 2,000.
    difference = (noisy.y - clean.y)[clean.y > 0.6]
    assert difference.std() == pytest.approx(0.1, rel=5 / np.sqrt(2 * len(difference)))
    assert abs(difference.mean()) < 5 * 0.1 / np.sqrt(len(difference))


def test_the_seed_decides():
    first, again, other = (toy_regression(noise=0.1, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.x, again.x)
    assert np.array_equal(first.y, again.y)
    assert not np.array_equal(first.x, other.x)


def test_a_numpy_generator_may_be_passed_and_moves_on():
    random = np.random.default_rng(0)
    first, second = toy_regression(seed=random), toy_regression(seed=random)
    assert not np.array_equal(first.x, second.x)


@pytest.mark.parametrize("arguments", [{"n": 0}, {"noise": -1.0}, {"seed": -1}])
def test_impossible_arguments_are_refused(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"^{name} is "):
        toy_regression(**arguments)


def test_four_samples():
    x, y = four_samples()
    assert x.tolist() == [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
    assert y.tolist() == [1.0, -1.0, -1.0, 1.0]
    x[0, 0] = 9.0
    assert four_samples().x[0, 0] == 2.0
