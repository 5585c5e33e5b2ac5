"""Seeds and generators: what is drawn, from where, and what is refused."""

from __future__ import annotations

import random

import numpy as np
import pytest

from scalargrad.rng import generator, manual_seed

pytestmark = pytest.mark.pure


def test_a_seed_makes_draws_repeatable_and_is_that_of_random() -> None:
    manual_seed(1337)
    ours = [random.random(), random.gauss(0, 1)]
    random.seed(1337)
    assert ours == [random.random(), random.gauss(0, 1)]


def test_without_a_generator_the_shared_one_is_used() -> None:
    manual_seed(7)
    drawn = generator().uniform(-1, 1)
    manual_seed(7)
    assert drawn == random.uniform(-1, 1)


def test_a_generator_of_ones_own_leaves_the_shared_one_alone() -> None:
    manual_seed(7)
    state = random.getstate()
    assert generator(random.Random(3)).random() == random.Random(3).random()
    assert random.getstate() == state


@pytest.mark.parametrize("wrong", [True, 1.5, "1337", None])
def test_a_seed_is_an_int(wrong: object) -> None:
    with pytest.raises(TypeError, match="seed: expected an int, got"):
        manual_seed(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [1337, np.random.default_rng(0), random])
def test_a_generator_is_a_random_random(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"rng: expected a random\.Random or None, got"):
        generator(wrong)
