import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalargrad.data import moons


@settings(max_examples=200, deadline=None)
@given(n=st.integers(1, 400), noise=st.floats(0.0, 2.0), seed=st.integers(0, 2**32 - 1))
def test_equals_scikit_learn_bit_for_bit(n, noise, seed):
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = moons(n, noise, seed)
    x_sklearn, y_sklearn = datasets.make_moons(n, noise=noise, random_state=seed)
    assert x.tobytes() == np.ascontiguousarray(x_sklearn).tobytes()
    assert np.array_equal(y, y_sklearn)


def test_equals_what_micrograds_demo_draws_from_the_global_state():
    datasets = pytest.importorskip("sklearn.datasets")
    before = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(1337)  # noqa: NPY002
        x_demo, y_demo = datasets.make_moons(n_samples=100, noise=0.1)
    finally:
        np.random.set_state(before)  # noqa: NPY002
    x, y = moons(labels=(-1, 1))
    assert np.array_equal(x, x_demo)
    assert np.array_equal(y, 2 * y_demo - 1)


@pytest.mark.parametrize("n", [1, 2, 9, 100])
def test_without_noise_every_point_lies_on_its_half_circle(n):
    x, y = moons(n, noise=0.0, seed=4)
    assert (y == 0).sum() == n // 2
    for (horizontal, vertical), label in zip(x, y, strict=True):
        centre = (1.0, 0.5) if label else (0.0, 0.0)
        assert math.dist((horizontal, vertical), centre) == pytest.approx(1.0, rel=1e-15)
        assert (vertical <= 0.5) if label else (vertical >= 0.0)


def test_types_and_shapes():
    x, y = moons(7)
    assert (x.shape, x.dtype) == ((7, 2), np.float64)
    assert (y.shape, y.dtype) == ((7,), np.int64)


def test_labels_rename_the_classes_and_change_nothing_else():
    plain, signed = moons(50), moons(50, labels=(-1, 1))
    assert np.array_equal(plain.x, signed.x)
    assert np.array_equal(np.where(plain.y == 0, -1, 1), signed.y)


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    moons()
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize("labels", [(0.0, 1.0), (0,), (0, 1, 2), 3, ("a", "b")])
def test_labels_are_two_whole_numbers(labels):
    with pytest.raises(TypeError, match=r"^labels is .*: expected two whole numbers"):
        moons(labels=labels)


def test_labels_differ():
    with pytest.raises(ValueError, match=r"^labels is \(1, 1\): expected two different"):
        moons(labels=(1, 1))


@pytest.mark.parametrize("arguments", [{"n": 0}, {"noise": float("nan")}, {"seed": -1}])
def test_impossible_arguments_are_refused(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"^{name} is "):
        moons(**arguments)
