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
from scalargrad.compiler.loops import Space
from scalargrad.compiler.native import ALIGNMENT
from scalargrad.train import EarlyStopping, Trainer, compiled, joined
from scalargrad.train.joined import Joined

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
def runs(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The losses that runs of joined programs gave; all is compiled before it is first run."""
    run_natively(monkeypatch)
    losses: list[float] = []
    right = Joined.run

    def run(self: Joined, rows: Any, scalars: Any) -> float:
        losses.append(right(self, rows, scalars))
        return losses[-1]

    monkeypatch.setattr(Joined, "run", run)
    return losses


@pytest.mark.parametrize("penalised", [False, True], ids=["", "penalty"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_mini_batch_is_one_native_call(
    optimizer: str, penalised: bool, runs: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled.CompiledStep, "_apart", None)
    trained(True, optimizer, **({"penalty": penalty} if penalised else {}))
    assert len(runs) == 15


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_numbers_that_runs_share_start_at_a_cache_line(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_natively(monkeypatch)
    starts: set[int] = set()
    right = Joined.run

    def run(self: Joined, rows: Any, scalars: Any) -> float:
        shared = (Space.PARAMETER, Space.PARAMETER_GRADIENT, Space.STATE)
        starts.update(self.frame.arrays[space].ctypes.data % ALIGNMENT for space in shared)
        return right(self, rows, scalars)

    monkeypatch.setattr(Joined, "run", run)
    for width in range(3, 9):
        trainer = Trainer(
            nn.MLP(3, [width, 4], rng=random.Random(1)),
            losses.cross_entropy,
            optim.Adam(lr=0.01),
            dtype=dtype,
            progress=False,
        )
        trainer.fit(*classes(), epochs=1, batch_size=8)
    assert starts == {0}


def test_batches_that_are_read_in_place_and_batches_that_are_copied(
    runs: list[float],
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
    assert len(runs) == 6


def test_a_planted_wrong_update_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    run_natively(monkeypatch)
    right = Joined.run

    def run(self: Joined, rows: Any, scalars: Any) -> float:
        return right(self, rows, [x * (1 + 2**-52) for x in scalars])

    expected = trained(False, "sgd")
    monkeypatch.setattr(Joined, "run", run)
    assert trained(True, "sgd") != expected


def test_the_optimizers_state_is_the_eager_one_and_goes_on_from_there(
    runs: list[float],
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
    assert len(runs) == 20


def test_a_rule_for_arrays_only_is_applied_to_arrays(runs: list[float]) -> None:
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
    assert not runs


@pytest.mark.parametrize(
    ("loss", "lr"),
    [(losses.mse, 1e308), (lambda p, t: (p - t) ** 2 + (0.0 * p).sqrt(), 0.1)],
    ids=["parameter", "gradient"],
)
def test_a_step_to_infinity_is_refused_and_leaves_everything(
    loss: Any, lr: float, runs: list[float]
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
    assert runs
    assert optimizer.steps == 0
    assert optimizer.state["velocity"].tolist() == [0.0, 0.0, 0.0]


def test_a_branch_that_was_tried_in_vain_adds_no_gradient(
    runs: list[float],
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


class Turning(nn.Module):
    """Goes another way once its first parameter has become large."""

    def __init__(self) -> None:
        self.w, self.b = Value(0.1), Value(0.0)

    def __call__(self, x: Any) -> Value:
        return self.w * x + self.b if self.w < 0.3 else self.w * x * x - self.b


@pytest.mark.parametrize("native", [False, True])
def test_a_branch_that_training_itself_takes_is_traced_from_the_parameters_of_the_moment(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if native:
        run_natively(monkeypatch)

    def run(compile: bool) -> list[str]:
        model = Turning()
        options: dict[str, Any] = {"compile": compile, "progress": False, "penalty": turned}
        trainer = Trainer(model, losses.mse, optim.SGD(lr=0.05), **options)
        x = np.linspace(-1.0, 1.0, 12)
        history = trainer.fit(x, x, epochs=4, batch_size=3, validation=(x, x))
        assert model.w.data > 0.3
        return [p.data.hex() for p in model.parameters()] + [loss.hex() for loss in history.loss]

    def turned(model: Any) -> Value:
        return 1e-2 * model.w * model.w if model.w > 0.2 else 1e-2 * model.w

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


# --- what a joined program may not show ----------------------------------------------------------


def with_a_bad_one(place: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """40 examples, one with a target above 6, of which losses can make what they like."""
    x = np.random.default_rng(3).normal(size=(40, 2))
    y = x[:, 0] - x[:, 1]
    y[place] = 7.0
    return x, y


def stopped(
    compile: bool, loss: Any, optimizer: Callable[[], optim.Optimizer], place: int
) -> list[Any]:
    """What is told, and everything as it is afterwards, where training cannot go on."""
    model = nn.MLP(2, [3, 1], rng=random.Random(0))
    trainer = Trainer(model, loss, optimizer(), compile=compile, progress=False)
    with pytest.raises(sg.errors.AnomalyError) as caught:
        trainer.fit(*with_a_bad_one(place), epochs=2, batch_size=2, shuffle=False)
    numbers = [p.data.hex() for p in model.parameters()]
    state = [x.hex() for slot in trainer.optimizer.state.values() for x in slot.tolist()]
    return [str(caught.value), numbers, state, trainer.optimizer.steps]


def bad(strange: Callable[[Value], Value]) -> Callable[[Value, Any], Value]:
    """A loss that is strange for targets above 6."""
    return lambda p, t: sg.where(t > 6.0, strange(p), 1e-6 * (p - t) ** 2)


@pytest.mark.parametrize("every", [1, 4, 64])
@pytest.mark.parametrize("place", [29, 39], ids=["amid", "last"])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize(
    ("strange", "told"),
    [
        (lambda p: (p * 1e200) ** 2, "the loss is inf"),
        (lambda p: (0.0 * p).sqrt(), "a gradient is inf or nan"),
        (lambda p: p * 1e307, "a parameter would become inf or nan"),
    ],
    ids=["loss", "gradient", "parameter"],
)
def test_a_fault_found_late_is_told_as_if_at_once(
    strange: Any,
    told: str,
    momentum: float,
    place: int,
    every: int,
    runs: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "EVERY", every)

    def optimizer() -> optim.Optimizer:
        return optim.SGD(lr=100.0, momentum=momentum)

    expected = stopped(False, bad(strange), optimizer, place)
    assert expected[0].startswith(f"{told} in epoch 1, mini-batch {place // 2 + 1}")
    assert stopped(True, bad(strange), optimizer, place) == expected
    assert len(runs) > place // 2


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_in_every_mode_a_fault_leaves_what_was_before_it(
    mode: str, dtype: str, runs: list[float]
) -> None:
    def trainer() -> Trainer:
        model = nn.MLP(2, [3, 1], rng=random.Random(0))
        options: dict[str, Any] = {"mode": mode, "dtype": dtype, "progress": False}
        loss = bad(lambda p: (0.0 * p).sqrt())
        return Trainer(model, loss, optim.SGD(lr=10.0, momentum=0.5), **options)

    one, other = trainer(), trainer()
    x, y = with_a_bad_one(29)
    with pytest.raises(sg.errors.AnomalyError, match=r"gradient is .* epoch 1, mini-batch 15"):
        one.fit(x, y, epochs=1, batch_size=2, shuffle=False)
    other.fit(x[:28], y[:28], epochs=1, batch_size=2, shuffle=False)
    for mine, own in zip(one.parameters, other.parameters):
        assert mine.data.hex() == own.data.hex()
    assert one.optimizer.steps == other.optimizer.steps == 14
    assert np.array_equal(one.optimizer.state["velocity"], other.optimizer.state["velocity"])


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("batch_size", [4, 5, 23])
def test_gradients_that_nobody_reads_are_not_missed(
    batch_size: int, optimizer: str, runs: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from scalargrad.compiler import fuse

    monkeypatch.setattr(joined, "MANY", 0)
    monkeypatch.setattr(fuse, "MANY", 0)
    monkeypatch.setattr(fuse, "WIDE", 0)
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")  # which knows no such settings

    def run(compile: bool) -> list[str]:
        model = nn.MLP(3, [5, 4], activation="tanh", rng=random.Random(1))
        options: dict[str, Any] = {"compile": compile, "progress": False, "penalty": penalty}
        trainer = Trainer(model, losses.cross_entropy, OPTIMIZERS[optimizer](), **options)
        trainer.fit(*classes(), epochs=2, batch_size=batch_size)
        return [number.hex() for p in model.parameters() for number in (p.data, p.grad)]

    assert run(True) == run(False)
    assert len(runs) == 2 * -(-23 // batch_size)


def test_a_step_that_nobody_confirmed_did_not_happen(runs: list[float]) -> None:
    class Refusal(Exception):
        pass

    def measure(prediction: Any, target: Any) -> float:
        if len(runs) == 3:
            raise Refusal
        return 0.0

    model = nn.MLP(3, [4], rng=random.Random(1))
    trainer = Trainer(model, losses.cross_entropy, optim.Adam(lr=0.1), progress=False)
    x, y = classes()
    with pytest.raises(Refusal):
        trainer.fit(x, y, epochs=1, batch_size=5, shuffle=False, metrics=[measure])
    other = nn.MLP(3, [4], rng=random.Random(1))
    again = Trainer(other, losses.cross_entropy, optim.Adam(lr=0.1), progress=False)
    again.fit(x[:10], y[:10], epochs=1, batch_size=5, shuffle=False)
    assert [p.data for p in model.parameters()] == [p.data for p in other.parameters()]
    assert trainer.optimizer.steps == 2
    assert trainer.optimizer.state["mean"].tolist() == again.optimizer.state["mean"].tolist()


def test_other_examples_are_learned_by_the_same_programs(
    runs: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    build = joined.Recipe.build

    def counted(self: Any, examples: int, stores: bool) -> Any:
        built.append((examples, stores))
        return build(self, examples, stores)

    monkeypatch.setattr(joined.Recipe, "build", counted)

    def run(compile: bool) -> list[str]:
        model = nn.MLP(3, [4], rng=random.Random(1))
        options: dict[str, Any] = {"compile": compile, "progress": False}
        trainer = Trainer(model, losses.cross_entropy, optim.SGD(lr=0.1), **options)
        for count in (20, 23, 15):
            trainer.fit(*classes(count), epochs=1, batch_size=5)
        return [p.data.hex() for p in model.parameters()]

    assert run(True) == run(False)
    assert sorted(built) == [(3, True), (5, True)]


def test_a_label_out_of_range_is_named_as_ever(runs: list[float]) -> None:
    model = nn.MLP(3, [4], rng=random.Random(1))
    trainer = Trainer(model, losses.cross_entropy, optim.SGD(lr=0.1), progress=False)
    x, y = classes()
    trainer.fit(x, y, epochs=1)
    y[7] = 4
    with pytest.raises(IndexError, match=r"y\[7\] is 4"):
        trainer.fit(x, y, epochs=1)


def test_integers_as_inputs_select_and_count(runs: list[float]) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            self.table = nn.Embedding(5, 3, rng=random.Random(0))
            self.head = nn.MLP(6, [4], rng=random.Random(1))

        def __call__(self, x: Any) -> Any:
            return self.head([*self.table(x[0]), *self.table(x[1])])

    def run(compile: bool, y: Any, loss: Any) -> list[str]:
        model = Tokens()
        options: dict[str, Any] = {"compile": compile, "progress": False}
        trainer = Trainer(model, loss, optim.Adam(lr=0.05), **options)
        x = np.random.default_rng(0).integers(0, 5, (21, 2))
        trainer.fit(x, y, epochs=2, batch_size=4)
        return [p.data.hex() for p in model.parameters()]

    def counted(prediction: Any, target: Any) -> Any:
        return (prediction[0] - target) ** 2

    y = np.random.default_rng(1).integers(0, 4, 21)
    for loss in (losses.cross_entropy, counted):
        assert run(True, y, loss) == run(False, y, loss)
    assert len(runs) == 24
