import numpy as np
import pytest

from scalargrad.data.seeding import generator


def test_a_number_names_the_frozen_mersenne_twister():
    # The first draw of MT19937 with seed 1337, which NumPy promises to keep.
    assert generator(1337).random_sample() == np.random.RandomState(1337).random_sample()
    assert generator(np.int64(7)).randint(2**31) == generator(7).randint(2**31)


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
def test_a_generator_is_used_as_it_is(make):
    random = make(1)
    assert generator(random) is random


@pytest.mark.parametrize("seed", [None, "1", 1.0, True, [1]])
def test_other_kinds_are_refused(seed):
    with pytest.raises(TypeError, match=r"^seed is .*: expected a whole number"):
        generator(seed)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_numbers_out_of_range_are_refused(seed):
    with pytest.raises(ValueError, match=rf"^seed is {seed}: expected .* from 0 to 4294967295"):
        generator(seed)


def test_the_ends_of_the_range_are_accepted():
    assert generator(0).random_sample() != generator(2**32 - 1).random_sample()
