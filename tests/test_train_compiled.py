"""The compiled step: the same training as the eager one, bit for bit, and what it refuses to hide."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Value, losses, nn, optim
from scalargrad.compiler import jit
from scalargrad.compiler.update import Update
from scalargrad.train import EarlyStopping, Trainer

OPTIMIZERS: dict[str, Callable[[], optim.Optimizer]] = {
    "sgd": lambda: optim.SGD(lr=0.05),
    "momentum": lambda: optim.SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda: optim.Adam(lr=0.02),
    "adam decay": lambda: optim.Adam(lr=0.02, weight_decay=1e-3),
    "adamw": lambda: optim.AdamW(lr=optim.cosine(0.05, steps=12)),
    "rmsprop": lambda: optim.RMSprop(lr=0.01),
    "rmsprop momentum": lambda: optim.RMSprop(lr=0.01, momentum=0.5, weight_decay=1e-3),
}


def penalty(model: nn.Module) -> Value:
    return 1e-3 * sg.total([p * p for p in model.parameters()])


def classes(n: int = 23) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    return generator.normal(size=(n, 3)), generator.integers(0, 4, n)


def trained(compile: bool, optimizer: str, **options: Any) -> tuple[list[str], list[Any]]:
    """Every parameter and gradient after training, and the history, with all their bits."""
    model = nn.MLP(3, [5, 4], activation="tanh", rng=random.Random(1))
    trainer = Trainer(
        model,
        losses.cross_entropy,
        OPTIMIZERS[optimizer](),
        compile=compile,
        progress=False,
        **options,
    )
    x, y = classes()
    history = trainer.fit(x, y, epochs=3, batch_size=5, validation=(x[:7], y[:7]))
    bits = [number.hex() for p in model.parameters() for number in (p.data, p.grad)]
    facts = [history.loss, history.metrics, history.validation_loss, history.validation_metrics]
    return bits, facts


def run_natively(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything compiled, and waited for, before it is first run."""
    pytest.importorskip("llvmlite")
    monkeypatch.setattr(jit, "PATIENCE", 0)
    monkeypatch.setattr(jit, "TIERED", ())


@pytest.mark.parametrize("native", [False, True], ids=["interpreted", "native"])
@pytest.mark.parametrize("penalised", [False, True], ids=["", "penalty"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_is_the_eager_training_bit_for_bit(
    optimizer: str, penalised: bool, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if native:
        run_natively(monkeypatch)
    options = {"penalty": penalty} if penalised else {}
    assert trained(True, optimizer, **options) == trained(False, optimizer, **options)


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, bool]]:
    """What native updates answered, in order; everything is compiled before it is first run."""
    run_natively(monkeypatch)
    answers: list[tuple[bool, bool]] = []
    right = Update.run

    def run(self: Update, scalars: Any) -> tuple[bool, bool]:
        answers.append(right(self, scalars))
        return answers[-1]

    monkeypatch.setattr(Update, "run", run)
    return answers


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_update_is_native_once_the_gradients_are(
    optimizer: str, updates: list[tuple[bool, bool]]
) -> None:
    trained(True, optimizer)
    assert updates == [(True, True)] * 15


def test_batches_that_are_read_in_place_and_batches_that_are_copied(
    updates: list[tuple[bool, bool]],
) -> None:
    x = np.random.default_rng(0).normal(size=(150, 40))
    y = (np.arange(150) * 7) % 3
    assert 22 * x[0].nbytes < jit.LENT <= 64 * x[0].nbytes

    def run(compile: bool) -> list[str]:
        model = nn.MLP(40, [3], rng=random.Random(1))
        options: dict[str, Any] = {"compile": compile, "progress": False}
        trainer = Trainer(model, losses.cross_entropy, optim.Adam(lr=0.01), **options)
        before = x.copy()
        trainer.fit(x, y, epochs=2, batch_size=64, validation=(x[::2], y[::2]))
        assert (x == before).all()
        return [p.data.hex() for p in model.parameters()]

    assert run(True) == run(False)
    assert len(updates) == 6


def test_a_planted_wrong_update_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    run_natively(monkeypatch)
    right = Update.run

    def run(self: Update, scalars: Any) -> tuple[bool, bool]:
        return right(self, {**scalars, "lr": scalars["lr"] * (1 + 2**-52)})

    expected = trained(False, "sgd")
    monkeypatch.setattr(Update, "run", run)
    assert trained(True, "sgd") != expected


def test_the_optimizers_state_is_the_eager_one_and_goes_on_from_there(
    updates: list[tuple[bool, bool]],
) -> None:
    def run(compile: bool) -> list[Any]:
        model = nn.MLP(3, [4], rng=random.Random(1))
        optimizer = optim.Adam(lr=0.05)
        options: dict[str, Any] = {"compile": compile, "progress": False}
        trainer = Trainer(model, losses.cross_entropy, optimizer, **options)
        trainer.fit(*classes(), epochs=1, batch_size=5)
        saved = optimizer.state_dict()
        trainer.fit(*classes(), epochs=1, batch_size=5)
        optimizer.load_state_dict(saved)
        trainer.fit(*classes(), epochs=1, batch_size=5)
        for p in model.parameters():
            p.grad = 0.5
        optimizer.step()
        # An array of one's own in place of the state is read like the old one.
        optimizer.state["mean"] = np.linspace(0.0, 1.0, len(optimizer.parameters))
        trainer.fit(*classes(), epochs=1, batch_size=5)
        state = [x.hex() for slot in optimizer.state.values() for x in slot.tolist()]
        return [optimizer.steps, state, [p.data.hex() for p in model.parameters()]]

    assert run(True) == run(False)
    assert len(updates) == 20


def test_a_rule_for_arrays_only_is_applied_to_arrays(updates: list[tuple[bool, bool]]) -> None:
    def clipped(p: Any, g: Any, *, lr: Any) -> tuple[Any]:
        return (p - lr * np.clip(g, -0.01, 0.01),)

    class Clipped(optim.SGD):
        def __init__(self) -> None:
            super().__init__(lr=0.5)
            self.rule = clipped

    def run(compile: bool) -> list[str]:
        model = nn.MLP(3, [4], rng=random.Random(1))
        options: dict[str, Any] = {"compile": compile, "progress": False}
        trainer = Trainer(model, losses.cross_entropy, Clipped(), **options)
        trainer.fit(*classes(), epochs=2, batch_size=5)
        return [p.data.hex() for p in model.parameters()]

    assert run(True) == run(False)
    assert not updates


@pytest.mark.parametrize(
    ("loss", "lr", "answer"),
    [
        (losses.mse, 1e308, (True, False)),
        (lambda p, t: (p - t) ** 2 + (0.0 * p).sqrt(), 0.1, (False, False)),
    ],
)
def test_a_step_to_infinity_is_refused_and_leaves_everything(
    loss: Any, lr: float, answer: tuple[bool, bool], updates: list[tuple[bool, bool]]
) -> None:
    def run(compile: bool) -> tuple[list[str], optim.Optimizer]:
        model = nn.MLP(2, [1], rng=random.Random(0))
        optimizer = optim.SGD(lr=lr, momentum=0.5)
        options: dict[str, Any] = {"compile": compile, "progress": False}
        trainer = Trainer(model, loss, optimizer, **options)
        with pytest.raises(sg.errors.AnomalyError) as caught:
            trainer.fit(np.eye(2), np.array([5.0, -5.0]), epochs=9, batch_size=1)
        return [str(caught.value), *(p.data.hex() for p in model.parameters())], optimizer

    (told, optimizer), (expected, _) = run(True), run(False)
    assert told == expected
    assert updates == [answer]
    assert optimizer.steps == 0
    assert optimizer.state["velocity"].tolist() == [0.0, 0.0, 0.0]


def test_a_branch_that_was_tried_in_vain_adds_no_gradient(
    updates: list[tuple[bool, bool]],
) -> None:
    def loss(p: Any, t: Any) -> Any:
        return (p - t) ** 2 if p > t else 3.0 * (t - p)

    def run(compile: bool) -> list[str]:
        model = nn.MLP(2, [1], rng=random.Random(0))
        options: dict[str, Any] = {"compile": compile, "progress": False, "penalty": penalty}
        trainer = Trainer(model, loss, optim.SGD(lr=0.1), **options)
        x = np.random.default_rng(0).normal(size=(12, 2))
        trainer.fit(x, x[:, 0] - x[:, 1], epochs=4, batch_size=1)
        return [p.data.hex() for p in model.parameters()]

    assert run(True) == run(False)


def test_a_planted_wrong_order_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from scalargrad.compiler.program import Interpreter

    right = Interpreter.backward

    def ascending(self: Any, rows: Any, seed: float, out: Any) -> Any:
        return right(self, np.ascontiguousarray(rows[::-1]), seed, out)[::-1]

    expected = trained(False, "sgd")
    monkeypatch.setattr(Interpreter, "backward", ascending)
    monkeypatch.setattr(jit, "PATIENCE", 10**12)
    assert trained(True, "sgd") != expected


def test_some_parameters_of_the_model_stay_where_they_are() -> None:
    def run(compile: bool) -> list[str]:
        model = nn.MLP(3, [5, 4], rng=random.Random(1))
        last = model.layers[-1].parameters()
        trainer = Trainer(
            model, losses.cross_entropy, optim.SGD(last, lr=0.1), compile=compile, progress=False
        )
        trainer.fit(*classes(), epochs=2, batch_size=4)
        return [p.data.hex() for p in model.parameters()]

    assert run(True) == run(False)


def test_a_value_that_only_the_loss_knows_counts_with_its_present_number() -> None:
    def run(compile: bool) -> list[float]:
        scale = Value(2.0)
        model = nn.MLP(2, [1], rng=random.Random(0))
        trainer = Trainer(
            model,
            lambda p, t: scale * (p - t) ** 2,
            optim.SGD(lr=0.01),
            compile=compile,
            progress=False,
        )
        x, y = np.eye(2), np.array([0.5, -0.5])
        trainer.fit(x, y, epochs=2, batch_size=2)
        scale.data = 0.25
        trainer.fit(x, y, epochs=2, batch_size=2)
        return [p.data for p in model.parameters()]

    assert run(True) == run(False)


def test_a_model_that_draws_random_numbers_is_not_frozen() -> None:
    class Noisy(nn.MLP):
        def __call__(self, x: Any) -> Any:
            return super().__call__([xi * generator.random() for xi in x])

    def run(compile: bool) -> list[float]:
        generator.seed(3)
        model = Noisy(3, [4], rng=random.Random(1))
        trainer = Trainer(
            model, losses.cross_entropy, optim.SGD(lr=0.1), compile=compile, progress=False
        )
        return trainer.fit(*classes(), epochs=3, batch_size=4).loss

    generator = random.Random()
    assert len(set(run(True))) == 3
    assert run(True)[0] != run(False)[1]


def test_a_model_that_tosses_a_coin_is_not_frozen() -> None:
    class Dropout(nn.MLP):
        def __call__(self, x: Any) -> Any:
            return super().__call__([xi if random.random() < 0.5 else 0.0 * xi for xi in x])

    def run(compile: bool) -> list[float]:
        random.seed(3)
        model = Dropout(3, [4], rng=random.Random(1))
        trainer = Trainer(
            model, losses.cross_entropy, optim.SGD(lr=0.0), compile=compile, progress=False
        )
        return trainer.fit(*classes(), epochs=4, batch_size=4).loss

    assert len(set(run(True))) == 4


def test_a_comparison_that_splits_a_batch_is_named_with_the_way_out() -> None:
    class Split(nn.MLP):
        def __call__(self, x: Any) -> Any:
            return super().__call__([xi if xi > 0 else 0.5 * xi for xi in x])

    model = Split(3, [4], rng=random.Random(1))
    trainer = Trainer(model, losses.cross_entropy, optim.SGD(lr=0.1), progress=False)
    with pytest.raises(sg.TraceError, match=r"where.*compile=False"):
        trainer.fit(*classes(), epochs=1)


def test_a_model_that_reads_numbers_is_named_with_the_way_out() -> None:
    class Reading(nn.MLP):
        def __call__(self, x: Any) -> Any:
            return [xi if xi.data > 0 else 0.0 * xi for xi in super().__call__(x)]

    model = Reading(3, [4], rng=random.Random(1))
    trainer = Trainer(model, losses.cross_entropy, optim.SGD(lr=0.1), progress=False)
    with pytest.raises(sg.errors.TraceError, match=r"compile=False"):
        trainer.fit(*classes(), epochs=1)
    other = Trainer(model, losses.cross_entropy, optim.SGD(lr=0.1), compile=False, progress=False)
    assert len(other.fit(*classes(), epochs=1)) == 1


def test_examples_of_different_lengths_are_run_eagerly() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            self.w = Value(0.5)

        def __call__(self, x: list[float]) -> Value:
            return sg.mean([self.w * xi for xi in x])

    trainer = Trainer(Mean(), losses.mse, optim.SGD(lr=0.1), progress=False)
    history = trainer.fit([[1.0], [1.0, 2.0]], [1.0, 2.0], epochs=40)
    assert history.loss[-1] < history.loss[0]


def test_early_stopping_puts_the_best_parameters_back() -> None:
    def run(compile: bool) -> list[str]:
        model = nn.MLP(3, [5, 4], rng=random.Random(1))
        trainer = Trainer(
            model, losses.cross_entropy, optim.SGD(lr=2.0), compile=compile, progress=False
        )
        x, y = classes()
        trainer.fit(x, y, epochs=9, validation=(x[:5], y[:5]), callbacks=[EarlyStopping(2)])
        return [p.data.hex() for p in model.parameters()]

    assert run(True) == run(False)


def test_options_are_those_of_compile() -> None:
    model = nn.MLP(3, [4])
    with pytest.raises(ValueError, match="mode: expected 'exact' or 'fast', got 'quick'"):
        Trainer(model, losses.cross_entropy, optim.SGD(), mode="quick")
    with pytest.raises(ValueError, match="dtype: expected"):
        Trainer(model, losses.cross_entropy, optim.SGD(), dtype="float16")
