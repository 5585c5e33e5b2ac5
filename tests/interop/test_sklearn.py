"""Networks as estimators of scikit-learn: they keep its contract, and do what the trainer does."""

from __future__ import annotations

import copy
import pickle
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier as SklearnClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import scalargrad as sg
from processes import run_python
from scalargrad.interop.sklearn import L2, MLPClassifier, MLPRegressor, half_squared_error

QUICK: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "learning_rate_init": 0.03,
    "max_iter": 60,
    "random_state": 0,
}
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


CHECKED: dict[str, Any] = {
    **QUICK, "hidden_layer_sizes": (5,), "learning_rate_init": 0.1, "max_iter": 20, "tol": 1e-2,
    "n_iter_no_change": 5,
}  # fmt: skip


@parametrize_with_checks([MLPClassifier(**CHECKED), MLPRegressor(**CHECKED)])
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def blobs(classes: int = 3, n: int = 90, seed: int = 0) -> tuple[Any, Any]:
    source = np.random.default_rng(seed)
    y = np.arange(n) % classes
    angles = 2 * np.pi * y / classes
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1) + source.normal(0, 0.2, (n, 2))
    return x, y


def weights(model: Any) -> list[float]:
    return [p.data for p in model.parameters()]


# --- the same as by hand --------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_the_classifier_is_the_trainer(classes: int, mode: str) -> None:
    x, y = blobs(classes)
    names = np.array(["a", "b", "c"])[y]
    found = MLPClassifier((5,), max_iter=7, batch_size=20, alpha=0.1, random_state=3, mode=mode)
    found.fit(x, names)

    seeds = np.random.RandomState(3).randint(2**31 - 1, size=3)
    rng = random.Random(int(seeds[0]))
    model = sg.nn.MLP(2, [5, 1 if classes == 2 else 3], init="he", rng=rng)
    loss = sg.losses.binary_cross_entropy if classes == 2 else sg.losses.cross_entropy
    trainer = sg.Trainer(
        model, loss, sg.optim.Adam(lr=1e-3), penalty=L2(0.0025), mode=mode, seed=int(seeds[1])
    )
    history = trainer.fit(x, y.astype(float) if classes == 2 else y, 7, 20, metrics=[])

    assert weights(found.model_) == weights(model)
    assert found.loss_curve_ == history.loss
    assert (found.n_iter_, found.loss_) == (7, history.loss[-1])
    expected = trainer.predict(x)
    if mode == "exact":
        assert (found.decision_function(x) == expected).all()
    np.testing.assert_allclose(found.decision_function(x), expected, rtol=1e-12)


def test_the_regressor_is_the_trainer() -> None:
    x, _ = blobs()
    y = np.stack([x[:, 0] * x[:, 1], x[:, 0]], axis=1)
    found = MLPRegressor((4, 3), "tanh", max_iter=5, alpha=0.0, random_state=1).fit(x, y)
    seeds = np.random.RandomState(1).randint(2**31 - 1, size=3)
    model = sg.nn.MLP(2, [4, 3, 2], "tanh", init="xavier", rng=random.Random(int(seeds[0])))
    trainer = sg.Trainer(model, half_squared_error, sg.optim.Adam(lr=1e-3), seed=int(seeds[1]))
    trainer.fit(x, y, 5, 90)
    assert weights(found.model_) == weights(model)
    assert (found.predict(x) == trainer.predict(x)).all()


def test_compiling_changes_no_bit() -> None:
    x, y = blobs()
    settings = {**QUICK, "max_iter": 10}
    eager = MLPClassifier(**{**settings, "compile": False}).fit(x, y)
    compiled = MLPClassifier(**settings).fit(x, y)
    assert weights(eager.model_) == weights(compiled.model_)
    assert eager.loss_curve_ == compiled.loss_curve_
    assert (eager.predict_proba(x) == compiled.predict_proba(x)).all()
    assert (eager.predict_proba(x[:3]) == compiled.predict_proba(x[:3])).all()


def test_the_loss_is_scikit_learns() -> None:
    """From scikit-learn's weights, one step of plain gradient descent leads to its weights."""
    x, y = blobs()
    theirs = SklearnClassifier(
        (4,), "tanh", solver="sgd", momentum=0.0, alpha=0.5, max_iter=1, learning_rate_init=0.1,
        shuffle=False, random_state=0,
    )  # fmt: skip
    theirs.partial_fit(x, y, classes=[0, 1, 2])
    ours = MLPClassifier(
        (4,), "tanh", optimizer=sg.optim.SGD(lr=0.1), alpha=0.5, max_iter=1, shuffle=False
    ).fit(x, y)
    for layer, w, b in zip(ours.model_.layers, theirs.coefs_, theirs.intercepts_):
        for neuron, row, number in zip(layer.neurons, w.T, b):
            neuron.b.data = number
            for weight, each in zip(neuron.w, row):
                weight.data = each
    ours.partial_fit(x, y)
    theirs.partial_fit(x, y)
    assert ours.loss_ == pytest.approx(theirs.loss_)
    for a, b in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


# --- as an estimator ------------------------------------------------------------------------------


def test_scores_probabilities_and_labels_agree() -> None:
    for classes in (2, 3):
        x, y = blobs(classes)
        labels = np.array(["one", "three", "two"])[y]
        model = MLPClassifier(**QUICK).fit(x, labels)
        assert model.classes_.tolist() == sorted(set(labels))
        probabilities = model.predict_proba(x)
        assert probabilities.shape == (90, classes)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
        np.testing.assert_allclose(np.log(probabilities), model.predict_log_proba(x))
        assert (model.classes_[probabilities.argmax(axis=1)] == model.predict(x)).all()
        assert model.decision_function(x).shape == ((90,) if classes == 2 else (90, 3))
        assert model.score(x, labels) > 0.95


def test_the_same_seed_gives_the_same_bits() -> None:
    x, y = blobs()
    settings = {**QUICK, "max_iter": 3}
    first, second = (MLPClassifier(**settings).fit(x, y) for _ in range(2))
    assert weights(first.model_) == weights(second.model_)
    assert weights(first.fit(x, y).model_) == weights(second.model_)
    other = MLPClassifier(**{**settings, "random_state": 1}).fit(x, y)
    assert weights(other.model_) != weights(first.model_)
    state = np.random.RandomState(0)
    drawn = [MLPClassifier(**{**settings, "random_state": state}).fit(x, y) for _ in range(2)]
    assert weights(drawn[0].model_) == weights(first.model_) != weights(drawn[1].model_)


def test_pipelines_searches_and_clones() -> None:
    x, y = blobs()
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**CHECKED))
    grid = {"mlpclassifier__hidden_layer_sizes": [(), (4,)], "mlpclassifier__alpha": [0.0, 1e-3]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(x, y)
    assert search.best_score_ > 0.9
    assert cross_val_score(search.best_estimator_, x, y, cv=2).mean() > 0.9

    optimizer = sg.optim.SGD(lr=0.1)
    copied = clone(MLPClassifier(optimizer=optimizer).set_params(alpha=0.5))
    assert copied.get_params()["alpha"] == 0.5
    copied.set_params(max_iter=2).fit(x, y)
    assert not optimizer.parameters


@pytest.mark.parametrize("compiled", [False, True])
def test_pickles_and_copies_predict_and_go_on_alike(compiled: bool) -> None:
    x, y = blobs()
    model = MLPClassifier(**{**QUICK, "max_iter": 3, "compile": compiled}).fit(x, y)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert other.model_ is not model.model_
        assert (other.predict_proba(x) == model.predict_proba(x)).all()
        again = copy.deepcopy(model)
        assert weights(other.partial_fit(x, y).model_) == weights(again.partial_fit(x, y).model_)
        assert (other.predict_proba(x) == again.predict_proba(x)).all()


def test_every_weight_is_a_value() -> None:
    x, y = blobs()
    model = MLPClassifier(**{**QUICK, "max_iter": 2}).fit(x, y)
    weight = model.model_.layers[0].neurons[3].w[1]
    assert isinstance(weight, sg.Value)
    assert model.coefs_[0].shape == (2, 8)
    assert model.coefs_[0][1, 3] == weight.data
    assert model.intercepts_[1].shape == (3,)
    weight.data = 1000.0
    assert abs(model.decision_function(x)).max() > 10.0
    assert len(model.history_) == 2


def test_parts_and_warm_starts() -> None:
    x, y = blobs()
    parts = MLPClassifier(**QUICK)
    for k in range(5):
        parts.partial_fit(x, y, classes=[0, 1, 2] if k == 0 else None)
        assert parts.n_iter_ == len(parts.loss_curve_) == k + 1
    assert parts.loss_curve_[-1] < parts.loss_curve_[0]
    with pytest.raises(ValueError, match="expected all labels there will be"):
        MLPClassifier().partial_fit(x, y)
    with pytest.raises(ValueError, match=r"only labels among \[0 1 2\], got \[7\]"):
        parts.partial_fit(x, np.where(y == 2, 7, y))
    with pytest.raises(ValueError, match="expected those of the fit before"):
        parts.partial_fit(x, y, classes=[0, 1])

    warm = MLPClassifier(**{**QUICK, "max_iter": 5, "warm_start": True}).fit(x, y)
    first, model = warm.loss_curve_[0], warm.model_
    assert warm.fit(x, y).model_ is model
    assert warm.loss_curve_[0] < first
    assert warm.set_params(warm_start=False).fit(x, y).model_ is not model


def test_early_stopping_keeps_the_best_weights() -> None:
    x, y = blobs(n=120)
    model = MLPClassifier(
        **{**QUICK, "early_stopping": True, "validation_fraction": 0.25, "n_iter_no_change": 4}
    ).fit(x, y)
    seen = model.history_.validation_metrics["accuracy"]
    assert len(seen) == model.n_iter_ < 60
    assert max(seen) == seen[-5] > max(seen[:-5], default=0.0)
    target = x[:, 0] ** 2
    regressor = MLPRegressor(**{**QUICK, "early_stopping": True, "n_iter_no_change": 3})
    assert regressor.fit(x, target).history_.stopped


def test_it_says_when_it_should_have_gone_on() -> None:
    x, y = blobs()
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        MLPClassifier(**{**QUICK, "max_iter": 2}).fit(x, y)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop", sg.optim.Adam(lr=0.05)])
def test_optimizers(optimizer: Any) -> None:
    x, y = blobs()
    model = MLPClassifier(**{**QUICK, "optimizer": optimizer, "activation": "logistic"})
    assert model.fit(x, y).score(x, y) > 0.9


def test_ctrl_c_keeps_what_was_learned(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = blobs()

    class Pressing(sg.optim.SGD):
        def step(self) -> None:
            super().step()
            signal.raise_signal(signal.SIGINT)

    model = MLPClassifier(**{**QUICK, "optimizer": Pressing(lr=0.1), "batch_size": 10}).fit(x, y)
    assert model.history_.interrupted
    assert model.predict(x).shape == (90,)
    assert "Interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lbfgs"}, "optimizer: expected one of adam, adamw, rmsprop, sgd or one of"),
        (
            {"activation": "step"},
            "activation: expected one of identity, logistic, relu, .*softplus",
        ),
        ({"batch_size": "all"}, 'batch_size: expected an int or "auto"'),
        ({"mode": "quick"}, "mode: expected"),
    ],
)
def test_what_makes_no_sense_is_said(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**{**QUICK, **settings}).fit(*blobs())
    with pytest.raises(NotFittedError):
        MLPClassifier().predict([[1.0, 2.0]])


def test_what_a_script_defines_goes_to_the_workers_of_joblib(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        """
import joblib
import numpy as np
import scalargrad as sg
from scalargrad.interop.sklearn import MLPClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

def rate(step):
    return 0.1 / (1 + step)

@sg.compile
def twice(x):
    return 2 * x

class Scale:
    def __init__(self, factor):
        self.factor = sg.Value(factor)

    @sg.compile
    def times(self, x):
        return self.factor * x

x, y = sg.data.moons(n=40, noise=0.1, labels=(0, 1))
network = MLPClassifier((4,), max_iter=3, random_state=0, optimizer=sg.optim.Adam(lr=rate))
pipeline = make_pipeline(FunctionTransformer(twice), network)
grid = {"mlpclassifier__alpha": [1e-4, 1e-2]}
here, there = (GridSearchCV(pipeline, grid, cv=2, n_jobs=n).fit(x, y) for n in (1, 2))
for name in ("mean_test_score", "std_test_score"):
    assert here.cv_results_[name].tolist() == there.cv_results_[name].tolist()
functions = [twice, lambda x: twice(x) + 1.0, Scale(3.0).times]
print(joblib.Parallel(n_jobs=2)(joblib.delayed(f)(2.0) for f in functions))
"""
    )
    assert (
        run_python("-W", "ignore", str(script), PYTHONWARNINGS="ignore").strip()
        == "[4.0, 5.0, 6.0]"
    )
