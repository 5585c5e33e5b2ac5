"""Functions that draw random numbers are refused, whatever they draw them from."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Value, losses, nn, optim
from scalargrad.compiler import compile, randomness

pytestmark = pytest.mark.pure

PYTHONS, NUMPYS, OLD = random.Random(1), np.random.default_rng(1), np.random.RandomState(1)


def helper(x: Any) -> Any:
    return NUMPYS.normal() * x


class Noise(nn.Module):
    """A module that keeps its generator deep inside of it."""

    def __init__(self) -> None:
        self.parts = {"generators": [random.Random(2)]}

    def __call__(self, x: Any) -> Any:
        return x * self.parts["generators"][0].random()


class Slotted:
    """A callable whose method, and nothing else, knows of a generator."""

    __slots__ = ()

    def __call__(self, x: Any) -> Any:
        return x + PYTHONS.gauss(0.0, 1.0)


NOISE = Noise()
inner = np.random.default_rng(3)
DRAWING: dict[str, Callable[..., Any]] = {
    "the random module": lambda x: x * random.random(),
    "numpy.random": lambda x: x * np.random.rand(),  # noqa: NPY002
    "a global": lambda x: x * PYTHONS.random(),
    "a global of NumPy's": lambda x: x * NUMPYS.random(),
    "one of NumPy's old ones": lambda x: x * OLD.rand(),
    "a function inside": lambda x: sum(helper(y) for y in [x]),
    "a default": lambda x, rng=PYTHONS: x * rng.random(),
    "a closure": (lambda rng: lambda x: x * rng.random())(inner),
    "a partial": functools.partial(lambda rng, x: x * rng.random(), PYTHONS),
    "an object": NOISE,
    "a method": NOISE.__call__,
    "an object with slots": Slotted(),
    "a compiled function": compile(helper),
}


def states() -> list[Any]:
    numpys = np.random.get_state(legacy=False)  # noqa: NPY002
    own = NOISE.parts["generators"][0]
    return [
        *(random.getstate(), str(numpys), PYTHONS.getstate(), own.getstate()),
        *(str(NUMPYS.bit_generator.state), str(OLD.get_state(legacy=False))),
        str(inner.bit_generator.state),
    ]


@pytest.mark.parametrize("what", DRAWING)
def test_a_function_that_draws_is_refused_and_has_not_drawn(what: str) -> None:
    before = states()
    with pytest.raises(sg.UnrepeatableError, match="random"):
        compile(DRAWING[what])(1.0)
    assert states() == before
    DRAWING[what](Value(1.0))
    assert states() != before  # the test sees draws


def test_a_function_that_could_draw_but_does_not() -> None:
    class Model(nn.MLP):
        def __init__(self) -> None:
            super().__init__(2, [1], rng=random.Random(0))
            self.generator, self.training = random.Random(4), False

        def __call__(self, x: Any) -> Any:
            return super().__call__(
                [xi * self.generator.random() for xi in x] if self.training else x
            )

    model = Model()
    f = compile(lambda x: model(x) * (random.random() if model.training else 1.0))
    assert f([1.0, 2.0]) == model([1.0, 2.0]).data
    system = random.SystemRandom()  # has no state
    assert compile(lambda x: x * len([system]))(2.0) == 2.0


def test_what_refers_to_itself_is_looked_at_once() -> None:
    knot: list[Any] = [{}]
    knot[0]["again"] = knot
    assert compile(lambda x: x * len(knot))(3.0) == 3.0
    many = [[Value(1.0)] for _ in range(3)]
    found = list(randomness._reachable(lambda: (many, knot, NOISE, OLD)))
    assert len(found) == len(set(map(id, found))) >= 2
    assert OLD in found


@pytest.mark.parametrize(
    "rng", [random.Random(5), np.random.default_rng(5)], ids=["Python", "NumPy"]
)
def test_training_with_noise_is_that_of_the_engine(rng: Any) -> None:
    class Dropout(nn.MLP):
        def __call__(self, x: Any) -> Any:
            return super().__call__([xi if rng.random() < 0.5 else 0.0 * xi for xi in x])

    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(12, 3)), generator.normal(size=12)

    def run(compile: bool) -> list[str]:
        nonlocal rng
        rng = type(rng)(7) if isinstance(rng, random.Random) else np.random.default_rng(7)
        random.seed(8)
        model = Dropout(3, [4, 1], rng=random.Random(1))
        trainer = sg.Trainer(model, losses.mse, optim.SGD(lr=0.1), compile=compile, progress=False)
        trainer.fit(x, y, epochs=3, batch_size=4)
        return [p.data.hex() for p in model.parameters()]

    assert run(True) == run(False)
