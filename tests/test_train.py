"""Training: the same bits as the mathematics written out, whatever happens on the way."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalargrad import Value, data, functional, live_values, losses, nn, no_grad, optim
from scalargrad.checkpoint import load_checkpoint
from scalargrad.errors import AnomalyError, CheckpointError, ShapeError
from scalargrad.train import (
    Batch,
    EagerStep,
    EarlyStopping,
    Examples,
    History,
    Trainer,
    accuracy,
    metrics,
    progress,
)
from scalargrad.train.run import Plan, Run

pure = pytest.mark.pure


def mlp(seed: int = 0, sizes: tuple[int, ...] = (2, 4, 1), **options: Any) -> nn.MLP:
    return nn.MLP(sizes[0], list(sizes[1:]), rng=random.Random(seed), **options)


def numbers(model: nn.Module) -> list[float]:
    return [p.data for p in model.parameters()]


def l2(model: nn.Module) -> Value:
    return 1e-3 * sum((p * p for p in model.parameters()), Value(0.0))


def points(n: int = 20, seed: int = 0) -> data.Examples:
    return data.moons(n, noise=0.1, seed=seed, labels=(-1, 1))


def trainer(seed: int = 0, **options: Any) -> Trainer:
    options = {"loss": losses.hinge, "optimizer": optim.Adam(lr=0.05), **options}
    model = options.pop("model", None) or mlp(seed)
    return Trainer(model, options.pop("loss"), options.pop("optimizer"), seed=seed, **options)


def facts(history: History) -> list[Any]:
    """A history without what depends on the clock."""
    return [
        history.loss,
        history.metrics,
        history.validation_loss,
        history.validation_metrics,
        history.stopped,
    ]


# --- the step -------------------------------------------------------------------------------------


@pure
@given(
    n=st.integers(1, 7),
    seed=st.integers(0, 1000),
    activation=st.sampled_from(["relu", "tanh", "gelu"]),
    penalised=st.booleans(),
)
def test_a_step_has_the_bits_of_one_graph_of_the_whole_batch(
    n: int, seed: int, activation: str, penalised: bool
) -> None:
    model = mlp(seed, (3, 4, 3), activation=activation)
    rng = random.Random(seed)
    x = [[rng.gauss(0, 1) for _ in range(3)] for _ in range(n)]
    y = [rng.randrange(3) for _ in range(n)]
    penalty = l2 if penalised else None

    total = functional.mean([losses.cross_entropy(model(xi), yi) for xi, yi in zip(x, y)])
    if penalised:
        total = total + l2(model)
    model.zero_grad()
    total.backward()
    expected = [p.grad for p in model.parameters()]

    step = EagerStep(
        model, losses.cross_entropy, penalty, model.parameters(), optim.SGD(model.parameters())
    )
    batch = Batch(Examples(x, y), range(n))
    outcome = step.gradients(batch)
    assert [p.grad for p in model.parameters()] == expected
    assert outcome.loss == total.data
    assert outcome.predictions == [[v.data for v in model(xi)] for xi in x]
    forward = step.forward(batch)
    assert (forward.loss, forward.predictions) == (outcome.loss, outcome.predictions)
    assert [p.grad for p in model.parameters()] == expected  # forward leaves them alone


@pytest.mark.usefixtures("by_counts_alone")
def test_a_step_keeps_one_graph_alive_at_a_time() -> None:
    model = mlp(0, (3, 8, 2))
    alive: list[int] = []

    def loss(prediction: Any, target: Any) -> Value:
        alive.append(live_values())
        return losses.cross_entropy(prediction, target)

    step = EagerStep(model, loss, None, model.parameters(), optim.SGD(model.parameters()))
    before = live_values()
    step.gradients(Batch(Examples([[1.0, 2.0, 3.0]] * 9, [0] * 9), range(9)))
    assert live_values() == before
    assert max(alive) == min(alive)


@pure
@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_fit_is_the_loop_one_would_write(batch_size: int) -> None:
    x, y = points(7)
    mine, theirs = mlp(1), mlp(1)
    optimizer = optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        for k in range(0, 7, batch_size):
            pairs = list(zip(x[k : k + batch_size].tolist(), y[k : k + batch_size].tolist()))
            each = [losses.hinge(theirs(xi), yi) for xi, yi in pairs]
            total = functional.mean(each) + l2(theirs)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
    learner = trainer(model=mine, optimizer=optim.SGD(lr=0.1, momentum=0.9), penalty=l2)
    learner.fit(x, y, epochs=3, batch_size=batch_size, shuffle=False)
    assert numbers(mine) == numbers(theirs)


# --- epochs ---------------------------------------------------------------------------------------


@pure
def test_each_epoch_uses_every_example_once_in_a_new_order_from_the_seed() -> None:
    def orders(seed: int, shuffle: bool = True) -> list[list[float]]:
        seen: list[float] = []

        def loss(prediction: Value, target: float) -> Value:
            seen.append(target)
            return (prediction - target) ** 2

        learner = trainer(loss=loss, optimizer=optim.SGD(lr=0.0), compile=False)
        learner.rng.seed(seed)
        learner.fit(np.zeros((10, 2)), np.arange(10.0), 3, batch_size=4, shuffle=shuffle)
        del seen[0]  # the first example is tried before training
        return [seen[k : k + 10] for k in (0, 10, 20)]

    first = orders(0)
    assert all(sorted(order) == list(range(10)) for order in first)
    assert first[0] != first[1] != first[2]
    assert orders(0) == first
    assert orders(1) != first
    # Within a mini-batch the last comes first.
    assert orders(0, shuffle=False) == 3 * [[3, 2, 1, 0, 7, 6, 5, 4, 9, 8]]


@pure
def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    def run(seed: int) -> list[float]:
        model = mlp(0)
        trainer(seed, model=model).fit(*points(), epochs=2, batch_size=6)
        return numbers(model)

    assert run(3) == run(3)
    assert run(3) != run(4)


@pure
def test_history_holds_means_over_the_examples() -> None:
    x, y = points(7)
    learner = trainer(optimizer=optim.SGD(lr=0.0), penalty=l2)
    before = learner.evaluate(x, y)
    history = learner.fit(x, y, epochs=2, batch_size=4, validation=(x[:3], y[:3]))
    assert history.loss == pytest.approx([before["loss"]] * 2, rel=1e-14)
    assert history.metrics == {"accuracy": pytest.approx([before["accuracy"]] * 2)}
    held_out = learner.evaluate(x[:3], y[:3])
    assert history.validation_loss == [held_out["loss"]] * 2
    assert history.validation_metrics == {"accuracy": [held_out["accuracy"]] * 2}
    assert len(history) == len(history.seconds) == 2
    assert all(seconds > 0 for seconds in history.seconds)
    assert not history.interrupted
    assert history.stopped == ""


def test_a_second_fit_goes_on_where_the_first_ended() -> None:
    x, y = points()
    once, twice = mlp(0), mlp(0)
    trainer(model=once).fit(x, y, epochs=4, batch_size=5)
    learner = trainer(model=twice)
    learner.fit(x, y, epochs=1, batch_size=5)
    learner.fit(x, y, epochs=3, batch_size=5)
    assert numbers(once) == numbers(twice)


def test_it_learns() -> None:
    x, y = points(60)
    learner = trainer(model=mlp(0, (2, 8, 8, 1), init="he"), penalty=l2)
    history = learner.fit(x, y, epochs=40, batch_size=10)
    assert history.loss[-1] < 0.2 * history.loss[0]
    assert history.metrics["accuracy"][-1] >= 0.98
    assert learner.evaluate(*points(60, seed=1))["accuracy"] >= 0.95


def test_sequences_of_different_lengths(names_path: Path) -> None:
    names = data.names(names_path)[:12]
    vocabulary = data.Vocabulary.of(names)
    tokens = [vocabulary.encode(name) for name in names]
    assert len({len(each) for each in tokens}) > 1
    model = nn.GPT(len(vocabulary), 16, width=8, heads=2, rng=random.Random(0))
    learner = Trainer(model, losses.cross_entropy, optim.Adam(lr=0.02))
    history = learner.fit(
        [each[:-1] for each in tokens], [each[1:] for each in tokens], epochs=3, batch_size=4
    )
    assert history.loss[-1] < 0.9 * history.loss[0]
    assert 0 < history.metrics["accuracy"][-1] < 1
    with pytest.raises(ShapeError, match=r"differ in length.*call model\(x\) for each"):
        learner.predict([each[:-1] for each in tokens])


@pytest.mark.usefixtures("by_counts_alone")
def test_nothing_is_left_in_memory() -> None:
    x, y = points()
    learner = trainer(penalty=l2)

    def everything() -> None:
        learner.fit(x, y, epochs=2, validation=(x, y))
        learner.evaluate(x, y)
        learner.predict(x)

    everything()  # programs keep the Values they were traced from
    before = live_values()
    everything()
    assert live_values() == before


# --- predict and evaluate -------------------------------------------------------------------------


@pure
def test_predict_and_evaluate_only_look() -> None:
    x, y = points()
    learner = trainer()
    for p in learner.parameters:
        p.grad = 7.0
    before = numbers(learner.model)
    predicted = learner.predict(x)
    assert predicted.shape == (20,)
    assert predicted.dtype == np.float64
    assert predicted.tolist() == [learner.model(row).data for row in x]  # type: ignore[operator]
    measured = learner.evaluate(x, y)
    assert measured["loss"] == sum(max(0.0, 1 - t * p) for p, t in zip(predicted, y)) / 20
    assert measured["accuracy"] == np.mean((predicted > 0) == (y > 0))
    assert numbers(learner.model) == before
    assert {p.grad for p in learner.parameters} == {7.0}


def test_predict_gives_a_row_for_several_outputs() -> None:
    learner = trainer(model=mlp(0, (3, 2)), loss=losses.cross_entropy)
    assert learner.predict([[1.0, 2.0, 3.0]] * 5).shape == (5, 2)
    assert learner.predict(np.ones((1, 3), dtype=np.uint8)).shape == (1, 2)


# --- metrics --------------------------------------------------------------------------------------


@pure
@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        ([0.1, 0.9, 0.2], 1, 1.0),
        ([0.1, 0.9, 0.2], 2, 0.0),
        (0.3, 1, 1.0),
        (0.3, -1, 0.0),
        (-0.3, -1, 1.0),
        (-0.3, 0, 1.0),
        (0.0, 0, 1.0),
        (0.0, 1, 0.0),
        ([2.0], 1, 1.0),
        ([2.0], 0, 0.0),
        (math.nan, -1, 0.0),
        ([math.nan, 1.0], 0, 0.0),
        ([[1.0, 0.0], [1.0, 0.0]], [0, 1], 0.5),
        ([3.0, -1.0], [1, 1], 0.5),
        ([-math.inf, 0.0], 1, 1.0),
    ],
)
def test_accuracy(prediction: Any, target: Any, expected: float) -> None:
    assert accuracy(prediction, target) == expected


@pytest.mark.parametrize("shape", [(9,), (9, 1), (9, 7)], ids=str)
@pytest.mark.parametrize("classes", [(), (1,), (5,)], ids=str)
def test_accuracy_on_arrays_is_that_of_each_example(shape: Any, classes: Any) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = rng.integers(-2, 3, (*shape, *classes)).astype(float)  # with ties
        scores[rng.random(scores.shape) < 0.1] = np.nan
        targets = rng.integers(0, classes[0] if classes else 2, shape)
        each = sum(map(accuracy, scores.tolist(), targets.tolist()))
        assert metrics.sums({"a": accuracy}, scores, targets) == {"a": each}


def absolute_error(prediction: float, target: float) -> float:
    return abs(prediction - target)


def test_metrics_are_chosen_by_name_function_dictionary_or_loss() -> None:
    x, y = points(6)

    def measured(loss: Any = losses.mse, **options: Any) -> set[str]:
        return set(trainer(loss=loss).evaluate(x, y, **options))

    assert measured() == {"loss"}
    assert measured(losses.hinge) == {"loss", "accuracy"}
    assert measured(losses.hinge, metrics=[]) == {"loss"}
    assert measured(metrics="accuracy") == {"loss", "accuracy"}
    assert measured(metrics=["accuracy", absolute_error]) == {"loss", "accuracy", "absolute_error"}
    assert measured(metrics={"off by": absolute_error}) == {"loss", "off by"}
    learner = trainer(loss=losses.mse)
    off = learner.evaluate(x, y, metrics=absolute_error)["absolute_error"]
    assert off == pytest.approx(np.abs(learner.predict(x) - y).mean(), rel=1e-15)
    history = learner.fit(x, y, 1, metrics=[absolute_error], validation=(x, y))
    assert list(history.metrics) == list(history.validation_metrics) == ["absolute_error"]
    with pytest.raises(ValueError, match="'recall'"):
        measured(metrics=["recall"])
    with pytest.raises(ValueError, match="'accuracy' is taken"):
        measured(metrics=["accuracy", "accuracy"])
    with pytest.raises(ValueError, match="'loss' is taken"):
        measured(metrics={"loss": absolute_error})


# --- callbacks ------------------------------------------------------------------------------------


def test_callbacks_see_each_epoch_and_may_stop() -> None:
    seen: list[tuple[int, int]] = []
    learner = trainer()

    def callback(who: Trainer, epoch: int, history: History) -> None:
        assert who is learner
        seen.append((epoch, len(history)))
        if epoch == 3:
            who.stop("three is enough")

    history = learner.fit(*points(), epochs=10, callbacks=[callback])
    assert seen == [(1, 1), (2, 2), (3, 3)]
    assert history.stopped == "three is enough"
    assert not history.interrupted
    assert len(learner.fit(*points(), epochs=2)) == 2  # asked once, not for ever


class Scripted:
    """Puts made-up validation losses into the history, and the epoch's number into a parameter."""

    def __init__(self, *values: float, name: str = "loss") -> None:
        self.values, self.name = values, name

    def __call__(self, who: Trainer, epoch: int, history: History) -> None:
        series = history.series(self.name)
        series[-1] = self.values[epoch - 1]
        who.parameters[0].data = float(epoch)


@pytest.mark.parametrize(
    ("losses_", "options", "epochs", "best"),
    [
        ((5, 4, 3, 2, 1), {}, 5, 5),
        ((5, 3, 4, 4, 4), {"patience": 2}, 4, 2),
        ((5, 3, 4, 2, 4, 4), {"patience": 2}, 6, 4),
        ((5, 4.9, 4.8, 1, 1), {"patience": 2, "min_delta": 0.5}, 3, 1),
        ((3, 3, 3), {"patience": 1}, 2, 1),
        ((math.nan, 4, math.nan, 3, 3.5), {"patience": 2}, 5, 4),
        ((5, math.inf, math.nan), {"patience": 2}, 3, 1),
    ],
)
def test_early_stopping(
    losses_: tuple[float, ...], options: dict[str, Any], epochs: int, best: int
) -> None:
    for restore in (True, False):
        learner = trainer(optimizer=optim.SGD(lr=0.0))
        stopping = EarlyStopping(**options, restore_best=restore)
        history = learner.fit(
            *points(4),
            epochs=len(losses_),
            validation=points(4, seed=1),
            callbacks=[Scripted(*losses_), stopping],
        )
        assert len(history) == epochs
        assert bool(history.stopped) == (
            epochs < len(losses_) or epochs - best >= stopping.patience
        )
        assert learner.parameters[0].data == (best if restore else epochs)
    assert f"epoch {best}" in history.stopped or not history.stopped


def test_early_stopping_on_a_metric_and_without_validation() -> None:
    learner = trainer(optimizer=optim.SGD(lr=0.0))
    stopping = EarlyStopping(2, monitor="accuracy")
    scripted = Scripted(0.5, 0.9, 0.8, 0.85, 1.0, name="accuracy")
    history = learner.fit(*points(4), epochs=5, callbacks=[scripted, stopping])
    assert len(history) == 4
    assert learner.parameters[0].data == 2
    assert history.stopped == "accuracy has not improved since epoch 2 (0.9)"
    # The same object serves another run.
    assert len(learner.fit(*points(4), epochs=4, callbacks=[scripted, stopping])) == 4
    with pytest.raises(ValueError, match="'f1' is not measured: expected one of loss, accuracy"):
        learner.fit(*points(4), epochs=1, callbacks=[EarlyStopping(monitor="f1")])
    with pytest.raises(ValueError, match="patience"):
        EarlyStopping(0)
    with pytest.raises(ValueError, match="min_delta"):
        EarlyStopping(min_delta=math.nan)


def test_early_stopping_really_brings_back_the_best_parameters() -> None:
    x, y = points(16)
    held_out = data.moons(40, noise=0.6, seed=5, labels=(-1, 1))
    learner = trainer(model=mlp(0, (2, 16, 1)), optimizer=optim.Adam(lr=0.1))
    history = learner.fit(
        x, y, epochs=60, batch_size=4, validation=held_out, callbacks=[EarlyStopping(8)]
    )
    assert history.stopped
    assert learner.evaluate(*held_out)["loss"] == min(history.validation_loss)


# --- wrong arguments ------------------------------------------------------------------------------


GOOD_X, GOOD_Y = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [1, -1, 1]


@pytest.mark.parametrize(
    ("x", "y", "kind", "message"),
    [
        (GOOD_X, GOOD_Y[:2], ShapeError, "x has 3 examples and y has 2"),
        ([], [], ShapeError, "x is empty"),
        (np.empty((0, 2)), [], ShapeError, "x is empty"),
        ([[0.0, 1.0, 2.0]] * 3, GOOD_Y, ShapeError, r"x\[0\]: MLP expected 2 inputs, got 3"),
        ([[0.0, 1.0], [1.0], [1.0, 1.0]], GOOD_Y, ShapeError, r"x\[1\]: MLP expected 2 inputs"),
        ([0.0, 1.0, 2.0], GOOD_Y, ShapeError, r"x\[0\].*x has one dimension"),
        (
            [[0.0, math.nan], *GOOD_X[:2]],
            GOOD_Y,
            ValueError,
            r"x\[0\]\[1\] is nan: expected finite",
        ),
        (GOOD_X, [1.0, math.inf, 1.0], ValueError, r"y\[1\] is inf"),
        ([[0.0, 1.0], [math.inf], [0.0]], GOOD_Y, ValueError, r"x\[1\]\[0\] is inf"),
        ([[0.0, None], *GOOD_X[:2]], GOOD_Y, TypeError, r"x\[0\]\[1\]: expected a number"),
        ([["a", "b"]] * 3, GOOD_Y, TypeError, r"x\[0\]\[0\]: expected a number.*'a'"),
        ("abc", GOOD_Y, TypeError, "x: expected an array or list"),
        (5, GOOD_Y, TypeError, "x: expected an array or list of examples, got int 5"),
        (np.ma.masked_less(GOOD_X, 0.5), GOOD_Y, TypeError, "x: expected .*, got a masked one"),
        ([[0.0, 10**400]] * 3, GOOD_Y, OverflowError, r"x\[0\]\[1\]: .* an int of 1329 bits"),
        (GOOD_X, [1, -1, 0], ValueError, r"y\[2\] is 0: target: expected -1 or \+1"),
    ],
)
def test_bad_examples_are_named_before_anything_is_learned(
    x: Any, y: Any, kind: type[Exception], message: str
) -> None:
    learner = trainer()
    before = numbers(learner.model)
    with pytest.raises(kind, match=message):
        learner.fit(x, y, epochs=1, shuffle=False)
    assert numbers(learner.model) == before
    with pytest.raises(kind, match=message):
        learner.evaluate(x, y)


@pytest.mark.parametrize("y", [[0, 1, 3], [0, -1, 2], np.array([0, 7, 1])])
def test_a_label_out_of_range_is_found_before_training(y: Any) -> None:
    learner = trainer(model=mlp(0, (2, 3)), loss=losses.cross_entropy)
    before = numbers(learner.model)
    wrong = next(k for k, label in enumerate(y) if not 0 <= label <= 2)
    with pytest.raises(IndexError, match=rf"y\[{wrong}\] is {y[wrong]}: .*expected 0 to 2"):
        learner.fit(GOOD_X, y, epochs=1, batch_size=1)
    assert numbers(learner.model) == before
    with pytest.raises(IndexError, match=rf"y\[{wrong}\]"):
        learner.fit(GOOD_X, [0, 1, 2], epochs=1, validation=(GOOD_X, y))
    assert numbers(learner.model) == before


def test_float_labels_are_refused_by_cross_entropy() -> None:
    learner = trainer(model=mlp(0, (2, 3)), loss=losses.cross_entropy)
    with pytest.raises(TypeError, match=r"y\[0\] is 1.0: .*expected an int"):
        learner.fit(GOOD_X, [1.0, 2.0, 0.0], epochs=1)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs: expected 1 or more, got 0"),
        ({"epochs": 1.5}, TypeError, "epochs: expected a whole number, got float 1.5"),
        ({"batch_size": 0}, ValueError, "batch_size: expected 1 or more"),
        ({"batch_size": True}, TypeError, "batch_size: expected a whole number"),
        ({"validation": 3}, TypeError, r"validation: expected \(inputs, targets\), got int 3"),
        ({"validation": (GOOD_X, [1])}, ShapeError, "validation: x has 3 examples and y has 1"),
        ({"validation": ([[1.0]], [1])}, ShapeError, r"validation: x\[0\]: MLP expected 2 inputs"),
        ({"callbacks": 3}, TypeError, "callbacks: expected a list of functions, got int 3"),
        ({"checkpoint": 3}, TypeError, "checkpoint: expected the path of a file, got int 3"),
        ({"shuffle": "no"}, TypeError, "shuffle: expected True or False, got str 'no'"),
        ({"metrics": {"a": 3}}, TypeError, r"metrics\['a'\]: expected a function .*, got int 3"),
        ({"callbacks": [print, 3]}, TypeError, r"callbacks\[1\]: expected a function, got int 3"),
        ({"metrics": ["f1"]}, ValueError, "metrics: expected accuracy or functions"),
    ],
)
def test_bad_settings_of_fit(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        trainer().fit(GOOD_X, GOOD_Y, **{"epochs": 1, **options})


def test_an_error_of_the_model_names_the_example() -> None:
    model = nn.Embedding(3, 1, rng=random.Random(0))
    learner = Trainer(model, losses.mse, optim.SGD())
    with pytest.raises(IndexError, match=r"x\[2\]: index 5 is out of range"):
        learner.fit([0, 1, 5], [0.0, 1.0, 2.0], epochs=1, shuffle=False)

    class Odd(ValueError):
        def __init__(self, first: int, second: int) -> None:
            super().__init__("odd")

    def odd(prediction: Any, target: Any) -> Value:
        raise Odd(1, 2)

    with pytest.raises(Odd):
        trainer(loss=odd).evaluate(GOOD_X, GOOD_Y)


@pytest.mark.parametrize("compile", [True, False])
def test_bools_are_numbers(compile: bool) -> None:
    x, y = np.array([[True, False], [False, True]] * 4), np.array([True, False] * 4)
    options: dict[str, Any] = {"loss": losses.binary_cross_entropy, "compile": compile}
    one, other = trainer(**options), trainer(**options)
    one.fit(x, y, epochs=2)
    other.fit(x.astype(float), y.astype(float), epochs=2)
    assert numbers(one.model) == numbers(other.model)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_trains_a_model_of_its_own(copied: Any) -> None:
    x, y = points()
    one = trainer()
    one.fit(x, y, epochs=1)
    twin = copied(one)
    before = numbers(one.model)
    history = twin.fit(x, y, epochs=2)
    assert numbers(one.model) == before
    assert one.fit(x, y, epochs=2).loss == history.loss
    assert numbers(twin.model) == numbers(one.model) != before


def test_nothing_is_learned_in_silence_inside_no_grad() -> None:
    with no_grad(), pytest.raises(RuntimeError, match=r"inside no_grad\(\)"):
        trainer().fit(GOOD_X, GOOD_Y, epochs=1)


def test_bad_arguments_of_the_trainer() -> None:
    model = mlp()
    with pytest.raises(TypeError, match=r"model: expected an nn.Module"):
        Trainer(lambda x: x, losses.mse, optim.SGD())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="loss: expected a function"):
        Trainer(model, 0.5, optim.SGD())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"optimizer: expected one such as optim.Adam\(\)"):
        Trainer(model, losses.mse, optim.SGD)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="seed: expected an int"):
        Trainer(model, losses.mse, optim.SGD(), seed=0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="17 of its 34 parameters are not the model's"):
        Trainer(model, losses.mse, optim.SGD([*model.parameters(), *mlp().parameters()]))


def test_a_loss_or_penalty_that_is_no_value() -> None:
    with pytest.raises(TypeError, match=r"loss: expected loss.* to return a Value, got float"):
        trainer(loss=lambda p, t: (p.data - t) ** 2).fit(GOOD_X, GOOD_Y, epochs=1)
    with pytest.raises(TypeError, match=r"penalty: expected penalty\(model\) to return a Value"):
        trainer(penalty=lambda model: 0.1).fit(GOOD_X, GOOD_Y, epochs=1)


@pytest.mark.parametrize("fitted", [False, True])
def test_a_model_with_other_parameters_wants_another_trainer(fitted: bool) -> None:
    trainer = Trainer(nn.MLP(2, [3, 1]), losses.mse, optim.SGD(lr=0.01))
    x, y = np.ones((40, 2)), np.zeros(40)
    if fitted:
        trainer.fit(x, y, epochs=1)
    trainer.model.seen = [Value(1.0)]  # type: ignore[attr-defined]
    trainer.fit(x, y, epochs=1)
    trainer.model.layers[1] = nn.MLP(3, [1]).layers[0]  # type: ignore[attr-defined]
    uses = (
        *(lambda: trainer.fit(x, y, epochs=1), lambda: trainer.evaluate(x, y)),
        lambda: trainer.predict(x),
    )
    for use in uses:
        with pytest.raises(RuntimeError, match=r": 4 of the 13 parameters .* another trainer"):
            use()
    Trainer(trainer.model, losses.mse, optim.SGD(lr=0.01)).fit(x, y, epochs=1)


def test_an_optimizer_with_some_of_the_parameters_moves_only_those() -> None:
    model = mlp(0, (2, 4, 1))
    last = model.layers[-1].parameters()
    first = numbers(model.layers[0])
    before = numbers(model.layers[-1])
    Trainer(model, losses.hinge, optim.SGD(last, lr=0.1)).fit(*points(), epochs=1)
    assert numbers(model.layers[0]) == first
    assert numbers(model.layers[-1]) != before


# --- inf and nan ----------------------------------------------------------------------------------


def squares(prediction: Value, target: float) -> Value:
    return (prediction - target) ** 2


def line(*start: float) -> nn.MLP:
    model = mlp(0, (1, 1))
    for p, number in zip(model.parameters(), start):
        p.data = number
    return model


def test_an_infinite_loss_stops_with_the_parameters_of_the_last_good_batch() -> None:
    x, y = [[1.0], [2.0], [1e200], [3.0]], [1.0, 2.0, 3.0, 4.0]
    good, bad = line(0.5, 0.0), line(0.5, 0.0)
    learner = trainer(model=good, loss=squares, optimizer=optim.SGD(lr=0.01))
    learner.fit(x[:2], y[:2], epochs=1, batch_size=1, shuffle=False)
    learner = trainer(model=bad, loss=squares, optimizer=optim.SGD(lr=0.01))
    with pytest.raises(
        AnomalyError,
        match=r"the loss is inf in epoch 1, mini-batch 3: .*smaller learning rate \(now 0.01\).*"
        r"detect_anomaly",
    ):
        learner.fit(x, y, epochs=1, batch_size=1, shuffle=False)
    assert numbers(bad) == numbers(good)


def test_a_gradient_that_is_nan_while_the_loss_is_fine() -> None:
    model = line(0.0, 0.0)
    learner = trainer(model=model, loss=lambda p, t: (p * 0.0).sqrt(), optimizer=optim.SGD(lr=0.1))
    with pytest.raises(AnomalyError, match="a gradient is inf or nan in epoch 1, mini-batch 1"):
        learner.fit([[1.0]], [1.0], epochs=1)
    assert numbers(model) == [0.0, 0.0]


def test_a_step_that_overflows_is_taken_back() -> None:
    model = line(1.0, 2.0)
    learner = trainer(model=model, loss=squares, optimizer=optim.SGD(lr=1e308))
    with pytest.raises(AnomalyError, match="a parameter would become inf or nan in epoch 1"):
        learner.fit([[1e3]], [0.0], epochs=1)
    assert numbers(model) == [1.0, 2.0]


# --- checkpoints ----------------------------------------------------------------------------------


def resumable(
    path: Path | None, epochs: int = 4, loss: Any = losses.hinge, **changes: Any
) -> tuple[Trainer, History]:
    """A run with everything whose state matters: momentum, a schedule, early stopping."""
    settings: dict[str, Any] = {
        "model": mlp(0, (2, 4, 1)),
        "optimizer": optim.Adam(lr=optim.cosine(0.1, steps=40)),
        "seed": 5,
        "batch_size": 4,
        "shuffle": True,
        "train": points(14),
        "validation": points(6, seed=2),
        "callbacks": [EarlyStopping(3)],
        "metrics": ["accuracy"],
        "penalty": None,
        "compile": loss is losses.hinge,  # other losses here count their calls
        **changes,
    }
    learner = Trainer(
        settings["model"],
        loss,
        settings["optimizer"],
        seed=settings["seed"],
        penalty=settings["penalty"],
        compile=settings["compile"],
    )
    history = learner.fit(
        *settings["train"],
        epochs=epochs,
        batch_size=settings["batch_size"],
        shuffle=settings["shuffle"],
        validation=settings["validation"],
        callbacks=settings["callbacks"],
        metrics=settings["metrics"],
        checkpoint=path,
    )
    return learner, history


def state(learner: Trainer) -> Any:
    optimizer = learner.optimizer.state_dict()
    moments = {slot: array.tolist() for slot, array in optimizer.pop("state").items()}
    return numbers(learner.model), optimizer, moments, learner.rng.getstate()


def hinge_that_is_interrupted_at(call: int) -> Any:
    calls = 0

    def hinge(prediction: Any, target: Any) -> Value:
        nonlocal calls
        calls += 1
        if calls == call:
            signal.raise_signal(signal.SIGINT)
        return losses.hinge(prediction, target)

    hinge.__qualname__ = losses.hinge.__qualname__
    return hinge


# Of the calls of the loss the first 6 only try the labels; an epoch has 14, and 6 for validation.
@pytest.mark.parametrize("call", [7, 8, 11, 20, 21, 26, 27, 33, 47, 64, 85])
def test_a_run_interrupted_anywhere_resumes_to_the_same_bits(
    tmp_path: Path, call: int, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, expected = resumable(None)
    path = tmp_path / "run.safetensors"
    _, history = resumable(path, loss=hinge_that_is_interrupted_at(call))
    assert history.interrupted
    assert len(history) < 4
    told = capsys.readouterr().err
    assert told.startswith(f"Interrupted in epoch {len(history) + 1} of 4")
    assert f"training with the checkpoint {path} goes on from here" in told
    assert told.count("\n") == 1
    # Once more, to interrupt a run that was itself resumed.
    _, history = resumable(path, loss=hinge_that_is_interrupted_at(13))
    resumed, history = resumable(path)
    assert not history.interrupted
    assert facts(history) == facts(expected)
    assert state(resumed) == state(whole)
    # A finished run is not trained any further.
    again, history = resumable(path)
    assert facts(history) == facts(expected)
    assert state(again) == state(whole)


def test_more_epochs_continue_a_finished_run(tmp_path: Path) -> None:
    whole, expected = resumable(None, epochs=4)
    path = tmp_path / "run.safetensors"
    for epochs in (1, 3, 4):
        learner, history = resumable(path, epochs=epochs)
    assert facts(history) == facts(expected)
    assert state(learner) == state(whole)


def test_a_run_that_early_stopping_ended_stays_ended(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    options: dict[str, Any] = {"epochs": 9, "optimizer": optim.SGD(lr=0.0)}
    _, first = resumable(path, **options)
    assert first.stopped
    assert len(first) == 4
    _, second = resumable(path, **{**options, "optimizer": optim.SGD(lr=0.0)})
    assert facts(second) == facts(first)


def test_an_interrupted_run_does_not_go_back_to_the_best_epoch(tmp_path: Path) -> None:
    stopping = EarlyStopping(9)
    learner, history = resumable(
        tmp_path / "run.safetensors",
        loss=hinge_that_is_interrupted_at(50),
        callbacks=[stopping],
        optimizer=optim.SGD(lr=0.3),
    )
    assert history.interrupted
    assert numbers(learner.model) != stopping.parameters.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": mlp(0, (2, 5, 1))}, r"model layers.0.w was \[4, 2\], and here it is \[5, 2\]"),
        ({"model": mlp(0, (2, 4, 4, 1))}, r"model layers"),
        ({"loss": losses.mse}, "loss was 'hinge', and here it is 'mse'"),
        ({"penalty": l2}, "penalty was None, and here it is 'l2'"),
        ({"optimizer": optim.SGD(lr=0.1)}, "optimizer was 'Adam', and here it is 'SGD'"),
        ({"optimizer": optim.Adam(lr=0.1)}, "learning rate was"),
        ({"optimizer": optim.Adam(lr=optim.cosine(0.1, steps=41))}, "steps was 40, .* 41"),
        (
            {"optimizer": optim.Adam(lr=optim.cosine(0.1, steps=40), betas=(0.8, 0.999))},
            r"betas was \(0.9, 0.999\), and here it is \(0.8, 0.999\)",
        ),
        ({"seed": 6}, "seed was 5, and here it is 6"),
        ({"batch_size": 5}, "batch_size was 4, and here it is 5"),
        ({"shuffle": False}, "shuffle was True"),
        ({"train": points(14, seed=9)}, "training data was '14 examples, CRC-32"),
        ({"validation": None}, "validation data was '6 examples.*here it is 'none'"),
        ({"metrics": []}, "metrics was"),
        ({"callbacks": []}, r"stateful callbacks was \['EarlyStopping'\], and here it is \[\]"),
    ],
)
def test_a_checkpoint_of_another_run_names_what_differs(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "run.safetensors"
    resumable(path, epochs=1)
    before = path.read_bytes()
    model = change.get("model") or mlp(0, (2, 4, 1))
    start = numbers(model)
    with pytest.raises(CheckpointError, match=message) as caught:
        resumable(path, **{"model": model, **change})
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert numbers(model) == start


def test_a_callback_without_state_may_be_added_when_resuming(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    resumable(path, epochs=1)
    seen: list[int] = []

    def note(who: Trainer, epoch: int, history: History) -> None:
        seen.append(epoch)

    resumable(path, epochs=3, callbacks=[note, EarlyStopping(3)])
    assert seen == [2, 3]


def test_damaged_or_foreign_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    resumable(path, epochs=1)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"run\.safetensors: damaged"):
        resumable(path)
    from scalargrad.checkpoint import save_checkpoint

    save_checkpoint(path, model={}, optimizer={}, extra={"mine": 1})
    with pytest.raises(CheckpointError, match="not the checkpoint of such a run"):
        resumable(path)


def test_a_checkpoint_that_cannot_be_written_is_found_before_training(tmp_path: Path) -> None:
    model = mlp(0, (2, 4, 1))
    start = numbers(model)
    with pytest.raises(FileNotFoundError, match="folder does not exist"):
        resumable(tmp_path / "nowhere" / "run.safetensors", model=model)
    assert numbers(model) == start


SCRIPT = """
import random, sys, time
from scalargrad import data, losses, nn, optim
from scalargrad.train import Trainer

def slow(trainer, epoch, history):
    print(epoch, flush=True)
    time.sleep(float(sys.argv[2]))

model = nn.MLP(2, [8, 1], rng=random.Random(0))
trainer = Trainer(model, losses.hinge, optim.Adam(lr=optim.cosine(0.1, steps=60)), seed=3)
history = trainer.fit(*data.moons(40, labels=(-1, 1)), epochs=12, batch_size=8,
                      checkpoint=sys.argv[1], callbacks=[slow])
print("interrupted" if history.interrupted else "finished")
for p in model.parameters():
    print(p.data.hex())
print([loss.hex() for loss in history.loss])
"""


def script(tmp_path: Path, name: str, pause: float, **options: Any) -> subprocess.Popen[str]:
    """SCRIPT in a process of its own, where Ctrl-C is as in a terminal."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / name), str(pause)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def outcome(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    lines = out.splitlines()
    return lines[lines.index("finished") :]


posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX systems")


@posix
def test_a_killed_process_resumes_to_the_same_bits(tmp_path: Path) -> None:
    expected = outcome(script(tmp_path, "whole", 0, env={**os.environ, "PYTHONHASHSEED": "1"}))
    for after in (1, 3):
        process = script(tmp_path, "killed", 0.05)
        assert process.stdout is not None
        for _ in range(after):
            assert process.stdout.readline()
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        assert load_checkpoint(tmp_path / "killed")  # whole, whenever it happened
    assert outcome(script(tmp_path, "killed", 0)) == expected


@posix
def test_both_engines_train_to_the_same_bits(tmp_path: Path) -> None:
    runs = [
        outcome(script(tmp_path, name, 0, env={**os.environ, "SCALARGRAD_PURE": pure}))
        for name, pure in (("compiled", ""), ("pure", "1"))
    ]
    assert runs[0] == runs[1]


@posix
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    program = textwrap.dedent("""
        import random, resource, sys
        from scalargrad import data, losses, nn, optim
        from scalargrad.train import Trainer
        def fill(trainer, epoch, history):
            if epoch == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        trainer = Trainer(nn.MLP(2, [8, 1], rng=random.Random(0)), losses.hinge, optim.Adam())
        try:
            trainer.fit(*data.moons(8, labels=(-1, 1)), 4, checkpoint=sys.argv[1], callbacks=[fill])
        except OSError as error:
            print(error)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60
    )
    assert "cannot be written" in done.stdout, done.stderr
    assert len(load_checkpoint(path).extra["run"]["history"]["loss"]) == 1
    assert os.listdir(tmp_path) == [path.name]


# --- Ctrl-C ---------------------------------------------------------------------------------------


def pressing(*presses: int) -> Any:
    """A callback in whose n-th call Ctrl-C is pressed presses[n] times."""
    calls = iter(presses)

    def callback(who: Trainer, epoch: int, history: History) -> None:
        for _ in range(next(calls)):
            signal.raise_signal(signal.SIGINT)

    return callback


def test_ctrl_c_keeps_what_was_learned(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = points(12)
    expected = mlp(0)
    trainer(model=expected).fit(x, y, epochs=2, batch_size=4)
    learner = trainer()
    history = learner.fit(x, y, epochs=5, batch_size=4, callbacks=[pressing(0, 1)])
    assert history.interrupted
    assert len(history) == 2
    assert numbers(learner.model) == numbers(expected)
    told = capsys.readouterr().err
    assert told == (
        "Interrupted in epoch 3 of 5. What was learned is kept; training with "
        "fit(checkpoint=PATH) can be resumed.\n"
    )


def test_ctrl_c_drops_the_mini_batch_under_way(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = points(12)
    expected = mlp(0)
    learner = trainer(model=expected, seed=0)
    order = list(range(12))
    learner.rng.shuffle(order)
    learner.fit(x[order[:8]], y[order[:8]], epochs=1, batch_size=4, shuffle=False)
    # Three labels are tried, then come four examples of each mini-batch: this is in the third.
    interrupted = trainer(loss=hinge_that_is_interrupted_at(3 + 8 + 2), compile=False)
    history = interrupted.fit(x, y, epochs=5, batch_size=4)
    assert history.interrupted
    assert numbers(interrupted.model) == numbers(expected)
    assert "in epoch 1 of 5, after 2 of 3 mini-batches." in capsys.readouterr().err


def test_a_second_ctrl_c_passes_through_and_the_handler_is_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    learner = trainer()
    with pytest.raises(KeyboardInterrupt):
        learner.fit(*points(), epochs=5, callbacks=[pressing(2)])
    assert signal.getsignal(signal.SIGINT) is before
    learner.fit(*points(), epochs=1)
    assert signal.getsignal(signal.SIGINT) is before


class Interrupted(optim.SGD):
    """An optimizer during whose step Ctrl-C is pressed twice."""

    def step(self) -> None:
        half = len(self.parameters) // 2
        for p in self.parameters[:half]:
            p.data = 1.0
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        for p in self.parameters[half:]:
            p.data = 1.0


def test_not_even_two_of_them_leave_parameters_half_moved() -> None:
    model = mlp()
    with pytest.raises(KeyboardInterrupt):
        trainer(model=model, optimizer=Interrupted(lr=0.1)).fit(*points(), epochs=3)
    assert set(numbers(model)) == {1.0}


def test_ctrl_c_when_the_last_epoch_is_done_changes_nothing() -> None:
    history = trainer().fit(*points(), epochs=2, callbacks=[pressing(0, 1)])
    assert not history.interrupted
    assert len(history) == 2


def test_a_handler_of_ones_own_gets_the_second_ctrl_c() -> None:
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    try:
        history = trainer().fit(*points(), epochs=5, callbacks=[pressing(3)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert history.interrupted
    assert caught == [signal.SIGINT] * 2


def test_a_keyboard_interrupt_from_elsewhere_is_a_request_too() -> None:
    def impatient(who: Trainer, epoch: int, history: History) -> None:
        raise KeyboardInterrupt

    assert trainer().fit(*points(), epochs=5, callbacks=[impatient]).interrupted


def test_training_in_another_thread() -> None:
    learner = trainer()
    histories: list[History] = []
    thread = threading.Thread(target=lambda: histories.append(learner.fit(*points(), epochs=2)))
    thread.start()
    thread.join(timeout=60)
    assert len(histories[0]) == 2


@posix
def test_ctrl_c_in_a_terminal(tmp_path: Path) -> None:
    expected = outcome(script(tmp_path, "whole", 0))
    process = script(tmp_path, "stopped", 0.02)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "interrupted" in out
    assert err.startswith("Interrupted in epoch ")
    assert "Traceback" not in err
    assert outcome(script(tmp_path, "stopped", 0)) == expected


# --- progress, plot -------------------------------------------------------------------------------


def test_progress_is_shown_when_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    x, y = points()
    trainer().fit(x, y, epochs=2)
    trainer(progress=False).fit(x, y, epochs=2)
    assert capfd.readouterr() == ("", "")
    trainer(progress=True).fit(x, y, epochs=2, batch_size=1, validation=(x, y))
    shown = capfd.readouterr().err
    for part in ("epoch 2/2", "100%", "left", "loss ", "accuracy ", "%/"):
        assert part in shown


def test_a_bar_that_ends_within_an_epoch_shows_how_far_it_came(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "OFTEN", 1e9)
    examples, settled = Examples(np.zeros((10, 1)), np.zeros(10)), []
    plan = Plan(examples, None, {}, 2, 1, False, (), None)
    run = Run(rng=None)
    run.expect([])
    with progress.Bar(plan, run, True) as bar:
        for k in range(6):
            run.add(float(k), 1)
            bar.advance(lambda: settled.append(run.batch))
    shown = capfd.readouterr().err
    assert settled == [1]  # the first mini-batch was shown at once
    assert "epoch 1/2  30%" in shown
    assert "loss 2.50" in shown


@posix
def test_progress_is_shown_on_a_terminal() -> None:
    import fcntl
    import pty
    import struct
    import termios

    program = (
        "from scalargrad import *; from scalargrad.train import Trainer;"
        "Trainer(nn.MLP(2, [1]), losses.hinge, optim.SGD())"
        ".fit(*data.moons(40, labels=(-1, 1)), epochs=2, batch_size=1)"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", program], stderr=theirs)
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux reports that the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(timeout=60) == 0
    assert b"epoch 2/2 100%" in shown


def test_history_plots_itself() -> None:
    pytest.importorskip("matplotlib")
    x, y = points()
    learner = trainer()
    figure = learner.fit(x, y, epochs=3, validation=(x, y)).plot("moons")
    texts = {text.get_text() for text in figure.texts}
    assert {"moons", "Loss", "Accuracy"} <= texts
    assert len(figure.axes) == 2
    for axes in figure.axes:
        assert {"training", "validation"} <= {line.get_label() for line in axes.lines}
    assert len(learner.fit(x, y, epochs=1, metrics=[]).plot().axes) == 1
    with pytest.raises(ShapeError, match="empty"):
        History().plot()


def test_a_history_says_in_a_line_how_it_went() -> None:
    history = History()
    assert repr(history) == "History(0 epochs)"
    history.add({"loss": 1.0, "accuracy": 0.5}, {}, 0.1)
    assert repr(history) == "History(1 epoch, loss 1, accuracy 0.5)"
    history = History(stopped="no gain", interrupted=True)
    for loss in (1.0, 0.123456):
        history.add({"loss": loss}, {"loss": 0.25, "accuracy": 0.75}, 0.1)
    assert repr(history) == (
        "History(2 epochs, loss 0.1235, validation loss 0.25, validation accuracy 0.75, "
        "stopped: no gain, interrupted)"
    )


def test_a_checkpoint_is_plain_data(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    resumable(path, epochs=2)
    saved = load_checkpoint(path)
    assert saved.extra["configuration"]["batch_size"] == 4
    assert len(saved.extra["run"]["history"]["seconds"]) == 2
    header = path.read_bytes()[8:]
    document = json.JSONDecoder().raw_decode(header.decode("latin-1"))[0]
    assert "__metadata__" in document
