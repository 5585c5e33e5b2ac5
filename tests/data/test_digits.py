import subprocess
import sys

import numpy as np
import pytest

from scalargrad.data import digits, split
from scalargrad.errors import MissingExtraError


def test_the_real_images_scaled_to_one():
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = digits()
    original = datasets.load_digits()
    assert (x.shape, x.dtype) == ((1797, 64), np.float64)
    assert (y.shape, y.dtype) == ((1797,), np.int64)
    assert (x.min(), x.max()) == (0.0, 1.0)
    assert np.array_equal(16.0 * x, original.images.reshape(1797, 64))
    assert np.array_equal(y, original.target)


def test_they_are_digits_that_can_be_told_apart():
    pytest.importorskip("sklearn")
    train, test = split(*digits(), held_out=0.25, seed=0)
    assert len(train.y) + len(test.y) == 1797
    distance = ((test.x[:, None, :] - train.x[None, :, :]) ** 2).sum(axis=2)
    assert (train.y[distance.argmin(axis=1)] == test.y).mean() > 0.97


def test_each_call_gives_arrays_of_its_own():
    pytest.importorskip("sklearn")
    digits().x[:] = 9.0
    assert digits().x.max() == 1.0


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"needs scikit-learn.*scalargrad\[sklearn\]"):
        digits()


def test_scikit_learn_is_not_imported_before_it_is_needed():
    check = "import sys, scalargrad.data; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
