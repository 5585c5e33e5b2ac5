"""Networks of single numbers as estimators of scikit-learn: for pipelines, searches, scores.

    from scalargrad.interop.sklearn import MLPClassifier
    model = make_pipeline(StandardScaler(), MLPClassifier((32,), random_state=0)).fit(x, y)
    model[-1].model_.layers[0].neurons[3].w[1]     # a Value, as every weight is

An estimator is an `nn.MLP` and the `Trainer` that fits it. Parameters and attributes have the names
and meanings that scikit-learn's own `MLPClassifier` and `MLPRegressor` give them, as far as they
are there.
"""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import losses
from ..compiler.function import CompiledFunction, by_value
from ..engine import Value
from ..errors import MissingExtraError
from ..functional import total
from ..nn import MLP, perceptron
from ..optim import SGD, Adam, AdamW, Optimizer, RMSprop
from ..train import EarlyStopping, History, Trainer
from ..train.step import Loss
from ._each import EachExample

try:
    from scipy.special import log_softmax, softmax
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d
except ImportError as error:
    raise MissingExtraError("scikit-learn", "sklearn", "scalargrad.interop.sklearn") from error

try:
    # To joblib's workers, which lack what a script defines, its functions are sent by value.
    from joblib.externals.loky.backend.reduction import register

    register(CompiledFunction, by_value)
except ImportError:  # a joblib with the loky of the system
    pass

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before scikit-learn 1.6 it is a method

    def validate_data(estimator: Any, X: Any, y: Any = "no_validation", **options: Any) -> Any:
        """X, and y if there is one, checked and with their features noted in the estimator."""
        return estimator._validate_data(X=X, y=y, **options)


Floats: TypeAlias = NDArray[np.float64]

SEEDS = 2**31 - 1

OPTIMIZERS: Mapping[str, Any] = {
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "sgd": lambda lr: SGD(lr=lr, momentum=0.9, nesterov=True),
}
# scikit-learn's words; all others are those of `nn.MLP`.
ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid"}
KNOWN = (*ACTIVATIONS, *perceptron.ACTIVATIONS)
# How weights start, by activation: of normal size where half the signal is cut off.
INITIAL = {"relu": "he", "leaky_relu": "he", "gelu": "he"}


class L2:
    """The penalty strength * (the sum of the squares of all weights), biases left out."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def __call__(self, model: Any) -> Value:
        """The penalty of an `nn.MLP`."""
        neurons = [neuron for layer in model.layers for neuron in layer.neurons]
        return self.strength * total([w * w for neuron in neurons for w in neuron.w])


def half_squared_error(prediction: Any, target: Any) -> Value:
    """Half the mean of (prediction - target)^2 over the outputs: scikit-learn's squared loss."""
    return 0.5 * losses.mse(prediction, target)


class NetworkEstimator(BaseEstimator):
    """What `MLPClassifier` and `MLPRegressor` share.

    Args:
        hidden_layer_sizes: neurons in each hidden layer; () for none, a number for one layer.
        activation: "relu", "tanh", "logistic", "identity", or another that `nn.MLP` has.
        optimizer: "adam", "adamw", "rmsprop", "sgd" (with Nesterov's momentum of 0.9), or one such
            as `optim.Adam(lr=optim.cosine(1e-2, steps=500))`, made without parameters.
        alpha: the loss has alpha / (2 * batch size) times the sum of the squared weights in it.
        batch_size: examples in a mini-batch; "auto" is 200, or all where there are fewer.
        learning_rate_init: the learning rate, for an optimizer given by name.
        max_iter: epochs at most.
        shuffle: whether to draw a new order for each epoch.
        random_state: decides the first weights, the order of examples and what is held out: an
            int for the same bits in every fit, a `RandomState`, or None.
        tol, n_iter_no_change: training ends after that many epochs in a row without a loss lower
            than the best by more than tol.
        verbose: whether to show a bar on standard error.
        warm_start: whether `fit` goes on from the present weights.
        early_stopping, validation_fraction: hold out a share of the examples, watch these in place
            of the loss, and return to the best weights.
        mode, dtype, compile: those of `scalargrad.Trainer`.

    Attributes:
        model_: the `nn.MLP`; `coefs_` and `intercepts_` are its weights as arrays.
        trainer_, history_: the `Trainer`, and the `History` of the latest fit, which can `plot()`.
        loss_curve_, loss_, n_iter_: the loss of each epoch, the last of them, and how many.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.
    """

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        optimizer: str | Optimizer = "adam",
        alpha: float = 1e-4,
        batch_size: int | str = "auto",
        learning_rate_init: float = 1e-3,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        mode: str = "exact",
        dtype: str = "float64",
        compile: bool = True,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.optimizer = optimizer
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.mode = mode
        self.dtype = dtype
        self.compile = compile

    model_: MLP
    trainer_: Trainer
    history_: History
    loss_curve_: list[float]

    # --- looking ----------------------------------------------------------------------------------

    @property
    def coefs_(self) -> list[Floats]:
        """The weights of each layer, shape (inputs, outputs), as scikit-learn has them."""
        return [
            np.array([[w.data for w in neuron.w] for neuron in layer.neurons]).T
            for layer in self.model_.layers
        ]

    @property
    def intercepts_(self) -> list[Floats]:
        """The biases of each layer."""
        return [np.array([n.b.data for n in layer.neurons]) for layer in self.model_.layers]

    # --- learning ---------------------------------------------------------------------------------

    def _learn(
        self, x: Floats, y: NDArray[Any], outputs: int, loss: Loss, monitor: str, once: bool
    ) -> None:
        """Fit the model to examples; `once`, as a part of them, go through them one time."""
        source = check_random_state(self.random_state)
        seeds = [int(source.randint(SEEDS)) for _ in range(3)]
        batch_size = self._batch_size(len(x))
        is_new = not hasattr(self, "model_") or not (once or self.warm_start)
        if is_new:
            self.model_ = self._model(x.shape[1], outputs, random.Random(seeds[0]))
            self._answer = EachExample(self.model_, self.mode, self.dtype)
        if is_new or not once:
            self.trainer_ = self._trainer(loss, batch_size, seeds[1])
            self.history_, self.loss_curve_, self.n_iter_ = History(), [], 0
        stopping: list[EarlyStopping] = []
        options: dict[str, Any] = {"metrics": []}
        if not once:
            patience, held_out = self.n_iter_no_change, self.early_stopping
            if held_out:
                x, y, options = self._hold_out(x, y, seeds[2])
            watched = monitor if held_out else "loss"
            stopping = [EarlyStopping(patience, self.tol, held_out, monitor=watched)]
        history = self.trainer_.fit(
            x,
            y,
            1 if once else self.max_iter,
            batch_size,
            self.shuffle,
            callbacks=stopping,
            **options,
        )
        self.history_ = history
        self.loss_curve_ = self.loss_curve_ + history.loss
        self.loss_ = self.loss_curve_[-1] if self.loss_curve_ else np.nan
        self.n_iter_ += len(history)
        if not (once or history.stopped or history.interrupted):
            warnings.warn(
                f"{type(self).__name__}: stopped after max_iter={self.max_iter} epochs, before the "
                "loss had settled: raise max_iter, or learning_rate_init",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _model(self, inputs: int, outputs: int, rng: random.Random) -> MLP:
        if self.activation not in KNOWN:
            raise ValueError(
                f"activation: expected one of {', '.join(KNOWN)}, got {self.activation!r}"
            )
        activation = ACTIVATIONS.get(self.activation, self.activation)
        hidden = self.hidden_layer_sizes
        sizes = list(hidden) if isinstance(hidden, Sequence | np.ndarray) else [hidden]
        init = INITIAL.get(activation, "xavier")
        return MLP(inputs, [*sizes, outputs], activation, init=init, rng=rng)

    def _trainer(self, loss: Loss, batch_size: int, seed: int) -> Trainer:
        return Trainer(
            self.model_,
            loss,
            self._optimizer(),
            # As scikit-learn has it: alpha is divided by the number of examples in a batch.
            penalty=L2(0.5 * self.alpha / batch_size) if self.alpha else None,
            mode=self.mode,
            dtype=self.dtype,
            compile=self.compile,
            seed=seed,
            progress=bool(self.verbose),
        )

    def _optimizer(self) -> Optimizer:
        if isinstance(self.optimizer, Optimizer):
            return copy.deepcopy(self.optimizer)
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer: expected one of {', '.join(OPTIMIZERS)} or one of scalargrad.optim, "
                f"without parameters, got {self.optimizer!r}"
            )
        made: Optimizer = OPTIMIZERS[self.optimizer](lr=self.learning_rate_init)
        return made

    def _batch_size(self, examples: int) -> int:
        size = 200 if self.batch_size == "auto" else self.batch_size
        if isinstance(size, str):
            raise ValueError(f'batch_size: expected an int or "auto", got {size!r}')
        return min(size, examples)

    def _hold_out(self, x: Floats, y: NDArray[Any], seed: int) -> tuple[Any, Any, dict[str, Any]]:
        """What is left to learn from, and what early stopping watches, as options of `fit`."""
        classes = y if isinstance(self, ClassifierMixin) else None
        x, xv, y, yv = train_test_split(
            x, y, test_size=self.validation_fraction, random_state=seed, stratify=classes
        )
        return x, y, {"validation": (xv, yv)}

    def _outputs(self, X: ArrayLike) -> Floats:
        """What the network answers, shape (n,) or (n, outputs)."""
        check_is_fitted(self, "model_")
        x = validate_data(self, X, reset=False, dtype=np.float64)
        return self._answer(x) if self.compile else self.trainer_.predict(x)


# --- the estimators -------------------------------------------------------------------------------


class MLPClassifier(ClassifierMixin, NetworkEstimator):
    """A network that tells classes apart, as `sklearn.neural_network.MLPClassifier`.

    It learns to make the cross-entropy small; two classes share one output. Early stopping watches
    the accuracy. Parameters and attributes are those of `NetworkEstimator`, and `classes_`, the
    labels in order.
    """

    classes_: NDArray[Any]

    def fit(self, X: ArrayLike, y: ArrayLike) -> MLPClassifier:
        """Learn from examples X, shape (n, features), and their labels y, shape (n,).

        Raises `ValueError` for fewer than two classes, for a parameter that makes no sense and, as
        `TypeError` sometimes, for examples that are no finite numbers; `AnomalyError` where
        training diverges. On Ctrl-C what was learned is kept.
        """
        x, labels = self._examples(X, y, reset=True)
        classes = np.unique(labels)
        if len(classes) < 2:
            raise ValueError(f"y: expected two classes or more, got 1 class: {classes[0]!r}")
        self._keep(classes, is_first=not (self.warm_start and hasattr(self, "model_")))
        return self._learned(x, labels, once=False)

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None
    ) -> MLPClassifier:
        """Go through these examples once, from the present weights and state of the optimizer.

        `classes` are all labels there will be; the first call needs them. Raises as `fit`.
        """
        is_first = not hasattr(self, "model_")
        if is_first and classes is None:
            raise ValueError("classes: expected all labels there will be, in the first partial_fit")
        x, labels = self._examples(X, y, reset=is_first)
        if classes is not None:
            self._keep(np.unique(np.asarray(classes)), is_first)
        return self._learned(x, labels, once=True)

    def _examples(self, X: Any, y: Any, reset: bool) -> tuple[Floats, NDArray[Any]]:
        x, y = validate_data(self, X, y, reset=reset, dtype=np.float64)
        check_classification_targets(y)
        return x, column_or_1d(y, warn=True)

    def _keep(self, classes: NDArray[Any], is_first: bool) -> None:
        """The labels; they stay what they are where the model does."""
        if not is_first and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"classes: expected those of the fit before, {self.classes_}, got {classes}: use "
                "another estimator for other classes"
            )
        self.classes_ = classes

    def _learned(self, x: Floats, labels: NDArray[Any], once: bool) -> MLPClassifier:
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise ValueError(f"y: expected only labels among {self.classes_}, got {unknown}")
        y = np.searchsorted(self.classes_, labels)
        loss: Loss = losses.cross_entropy
        if len(self.classes_) == 2:
            loss, y, outputs = losses.binary_cross_entropy, y.astype(np.float64), 1
        else:
            outputs = len(self.classes_)
        self._learn(x, y, outputs, loss, "accuracy", once)
        return self

    def decision_function(self, X: ArrayLike) -> Floats:
        """The network's outputs: shape (n,) for two classes, above 0 for the second; else (n, k)."""
        return self._outputs(X)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The likeliest label of each example, shape (n,)."""
        scores = self.decision_function(X)
        chosen = scores > 0 if scores.ndim == 1 else scores.argmax(axis=1)
        found: NDArray[Any] = self.classes_[chosen.astype(np.intp)]
        return found

    def predict_proba(self, X: ArrayLike) -> Floats:
        """The probability of each label, in the order of `classes_`, shape (n, k)."""
        found: Floats = softmax(self._logits(X), axis=1)
        return found

    def predict_log_proba(self, X: ArrayLike) -> Floats:
        """The logarithm of `predict_proba`, which does not overflow."""
        found: Floats = log_softmax(self._logits(X), axis=1)
        return found

    def _logits(self, X: ArrayLike) -> Floats:
        scores = self.decision_function(X)
        if scores.ndim == 2:
            return scores
        return np.stack([np.zeros_like(scores), scores], axis=1)


class MLPRegressor(RegressorMixin, NetworkEstimator):
    """A network that predicts numbers, as `sklearn.neural_network.MLPRegressor`.

    It learns to make half the mean squared error small. Early stopping watches that, where
    scikit-learn's watches R². Parameters and attributes are those of `NetworkEstimator`.
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> MLPRegressor:
        """Learn from examples X, shape (n, features), and targets y, shape (n,) or (n, outputs).

        Raises as `MLPClassifier.fit`.
        """
        return self._fitted(X, y, once=False)

    def partial_fit(self, X: ArrayLike, y: ArrayLike) -> MLPRegressor:
        """Go through these examples once, from the present weights and state of the optimizer."""
        return self._fitted(X, y, once=True)

    def _fitted(self, X: Any, y: Any, once: bool) -> MLPRegressor:
        reset = not (once and hasattr(self, "model_"))
        x, y = validate_data(
            self, X, y, reset=reset, dtype=np.float64, multi_output=True, y_numeric=True
        )
        y = np.asarray(y, dtype=np.float64)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        outputs = 1 if y.ndim == 1 else y.shape[1]
        self._learn(x, y, outputs, half_squared_error, "loss", once)
        return self

    def predict(self, X: ArrayLike) -> Floats:
        """The predicted numbers, shape (n,) or (n, outputs), as y was."""
        return self._outputs(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _more_tags(self) -> dict[str, bool]:  # scikit-learn before 1.6
        return {"multioutput": True}
