"""Examples of different lengths: a program for each, and the bits of the eager training."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scalargrad as sg
from scalargrad import Value, losses, nn, optim
from scalargrad.compiler import jit
from scalargrad.errors import AnomalyError, TraceError
from scalargrad.train import Trainer
from scalargrad.train.ragged import RaggedStep
from scalargrad.train.step import EagerStep


class Bag(nn.Module):
    """Scores of three classes at every place, each from the numbers up to there."""

    def __init__(self) -> None:
        self.layer = nn.Layer(2, 3, activation="tanh", rng=random.Random(0))

    def __call__(self, x: list[float]) -> list[list[Value]]:
        sums = [sg.total(x[: k + 1]) for k in range(len(x))]
        return [self.layer([number, each]) for number, each in zip(sums, x)]


def penalty(model: nn.Module) -> Value:
    return 1e-2 * sg.total([p * p for p in model.parameters()])


def sentences(lengths: list[int], seed: int = 0) -> tuple[list[list[float]], list[list[int]]]:
    rng = random.Random(seed)
    x = [[rng.gauss(0.0, 1.0) for _ in range(length)] for length in lengths]
    return x, [[rng.randrange(3) for _ in each] for each in x]


def trainer(compile: bool = True, model: nn.Module | None = None, **options: Any) -> Trainer:
    options.setdefault("optimizer", optim.Adam(lr=0.05))
    return Trainer(model or Bag(), losses.cross_entropy, compile=compile, progress=False, **options)


def facts(learner: Trainer, history: sg.History) -> list[Any]:
    """Every number of a run, with all its bits."""
    numbers = [(p.data.hex(), p.grad.hex()) for p in learner.parameters]
    measured = [history.metrics, history.validation_loss, history.validation_metrics]
    return [numbers, history.loss, *measured]


MIXED = [2, 3, 1, 3, 3, 2, 2, 1, 3, 2, 1, 2, 3, 3, 1, 2] * 2


@given(
    st.permutations(MIXED),
    st.integers(1, 7),
    st.booleans(),
    st.sampled_from([optim.SGD(lr=0.1), optim.SGD(lr=0.1, momentum=0.9), optim.Adam(lr=0.05)]),
)
@settings(max_examples=15, deadline=None)
def test_training_is_the_eager_training_bit_for_bit(
    lengths: list[int], batch_size: int, penalised: bool, optimizer: optim.Optimizer
) -> None:
    x, y = sentences(lengths)
    runs = []
    for compile in (True, False):
        hyper = {name: number for name, number in optimizer.hyper.items() if number}
        fresh = type(optimizer)(lr=optimizer.learning_rate(), **hyper)
        learner = trainer(compile, optimizer=fresh, penalty=penalty if penalised else None)
        history = learner.fit(x, y, 3, batch_size, validation=(x * 3, y * 3))
        assert type(learner._step) is (RaggedStep if compile else EagerStep)
        runs.append(facts(learner, history))
    assert runs[0] == runs[1]


def test_native_code_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llvmlite")
    monkeypatch.setattr(jit, "PATIENCE", 0)
    monkeypatch.setattr(jit, "TIERED", ())
    x, y = sentences(MIXED)
    runs = []
    for compile in (True, False):
        learner = trainer(compile)
        runs.append(facts(learner, learner.fit(x, y, epochs=3, batch_size=4)))
    assert runs[0] == runs[1]


def test_a_planted_wrong_share_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = RaggedStep._backward
    x, y = sentences(MIXED)
    learner, other = trainer(), trainer(compile=False)
    monkeypatch.setattr(
        RaggedStep, "_backward", lambda self, example, count: right(self, example, count + 1)
    )
    assert facts(learner, learner.fit(x, y, 1)) != facts(other, other.fit(x, y, 1))


@pytest.mark.parametrize(
    ("x", "epochs"),
    [
        ([[1.0] * (k + 1) for k in range(12)], 3),  # each length comes thrice
        ([[1.0, True], [1.0]] * 20, 3),  # each truth value would have a program of its own
    ],
    ids=["rare", "bools"],
)
def test_what_would_be_traced_too_often_is_run_eagerly(x: list[list[float]], epochs: int) -> None:
    learner = trainer()
    learner.fit(x, [[k % 3 for k in range(len(each))] for each in x], epochs)
    assert type(learner._step) is EagerStep


def test_a_model_that_draws_random_numbers_is_not_frozen() -> None:
    class Noisy(Bag):
        def __call__(self, x: list[float]) -> list[list[Value]]:
            return super().__call__([number + random.random() for number in x])

    x, y = sentences(MIXED)
    learner = trainer(model=Noisy())
    learner.fit(x, y, epochs=2)
    assert type(learner._step) is EagerStep


def test_a_model_that_reads_numbers_is_named_with_the_way_out() -> None:
    class Reading(Bag):
        def __call__(self, x: list[Any]) -> list[list[Value]]:
            return super().__call__([float(number) for number in x])

    x, y = sentences(MIXED)
    with pytest.raises(TraceError, match=r"float\(\) of .*compile=False"):
        trainer(model=Reading()).fit(x, y, epochs=2)


def test_a_label_out_of_range_is_named_with_its_example() -> None:
    x, y = sentences(MIXED)
    y[5] = [0, 7]
    messages = []
    for compile in (True, False):
        with pytest.raises(IndexError) as caught:
            trainer(compile).fit(x, y, epochs=2)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith("y[5] is [0, 7]: ")


def test_a_fault_leaves_what_was_before_it() -> None:
    x, y = sentences(MIXED)
    runs = []
    for compile in (True, False):
        learner = trainer(compile, optimizer=optim.SGD(lr=1e200), penalty=penalty)
        with pytest.raises(AnomalyError) as caught:
            learner.fit(x, y, epochs=2, batch_size=3)
        runs.append((str(caught.value), [p.data.hex() for p in learner.parameters]))
    assert runs[0] == runs[1]


def test_a_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    x, y = sentences(MIXED)
    for epochs in (2, 4):
        learner = trainer()
        history = learner.fit(x, y, epochs, batch_size=4, checkpoint=tmp_path / "run.safetensors")
    other = trainer()
    assert facts(learner, history) == facts(other, other.fit(x, y, 4, batch_size=4))
