"""The four tasks: their data, their network, and how results are told and drawn."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import data, losses
from ..data import Examples, Split
from ..engine import Value
from ..errors import DataError
from ..nn import MLP
from ..train import accuracy
from ..views.pictures.style import percent
from .images import drawn, read_image
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scores = NDArray[np.float64]
Predict = Callable[[Any], Scores]

MNIST_HELD_OUT = 1_000


@dataclass(frozen=True)
class Task:
    """What is particular to a task. `scores` are what the network answers, one row an example."""

    summary: str
    noun: str
    inputs: int
    outputs: int
    defaults: Settings
    load: Callable[[Settings], Split]
    loss: Callable[[Any, Any], Value]
    report: Callable[[Examples, Scores], str]
    mistakes: Callable[[Examples, Scores], list[int]]
    answer: Callable[[Any, Any], str]
    draw: Callable[[Examples, Scores, Predict], Mapping[str, Figure]]
    output: str = "linear"
    penalty: Callable[[Any], Value] | None = None
    side: int = 0  # of the images, in pixels
    fill: float = 1.0  # the part of that side which a digit fills
    reads_files: bool = False

    def network(self, settings: Settings, targets: NDArray[Any]) -> MLP:
        """The network before training."""
        model = MLP(**self.architecture(settings), init="he", rng=random.Random(settings.seed))
        if self.output == "relu":
            # Below 0 for every input, a rectifier has no gradient and would never learn.
            model.layers[-1].neurons[0].b.data = float(np.mean(targets))
        return model

    def architecture(self, settings: Settings) -> dict[str, Any]:
        """The arguments of the network's `MLP`."""
        return {
            "nin": self.inputs,
            "nouts": [*settings.hidden, self.outputs],
            "activation": "relu",
            "output": self.output,
        }

    def shown(self, x: Sequence[float]) -> str:
        """An input, for people."""
        if self.side:
            return drawn(np.reshape(np.asarray(x, dtype=np.float64), (self.side, self.side)))
        return f"({', '.join(f'{number:g}' for number in x)})"

    def image(self, path: str | os.PathLike[str]) -> list[float]:
        """The input that a picture file makes."""
        pixels: list[float] = read_image(path, self.side, self.fill).ravel().tolist()
        return pixels


def limited(train: Examples, settings: Settings) -> Examples:
    """The first `settings.examples` of the examples, which are in random order; 0 means all."""
    there = len(train.x)
    if settings.examples > there:
        raise DataError(f"--examples {settings.examples}: there are {there:,} to learn from")
    return Examples(*(each[: settings.examples or there] for each in train))


# --- points ---------------------------------------------------------------------------------------


def _load_toy(settings: Settings) -> Split:
    train, test = data.split(*data.toy_regression(300, seed=0), held_out=100, seed=0)
    return Split(limited(train, settings), test)


def _load_moons(settings: Settings) -> Split:
    points = data.moons(500, noise=0.1, labels=(-1, 1))
    train, test = data.split(*points, held_out=100, seed=0)
    return Split(limited(train, settings), test)


def small_weights(model: MLP) -> Value:
    """1e-4 times the sum of the squared parameters: of two fits, prefer the smoother."""
    return 1e-4 * sum((p * p for p in model.parameters()), Value(0.0))


def _report_error(test: Examples, scores: Scores) -> str:
    error = math.sqrt(float(np.mean((scores - test.y) ** 2)))
    return (
        f"root mean square error on {len(test.y)} points held out: {error:.2g}, "
        f"where the targets go up to {test.y.max():.2g}"
    )


def _largest_errors(test: Examples, scores: Scores) -> list[int]:
    order: list[int] = np.argsort(-np.abs(scores - test.y), kind="stable").tolist()
    return order[:5]


def _answer_number(scores: float, true: Any) -> str:
    return f"{scores:.4f}" + ("" if true is None else f", true is {true:.4f}")


def _answer_moon(scores: float, true: Any) -> str:
    moon = "lower" if scores > 0 else "upper"
    told = f"the {moon} moon, score {scores:+.2f} (above 0 means the lower one)"
    return told + ("" if true is None else _verdict((scores > 0) == (true > 0)))


def _verdict(right: bool) -> str:
    return ": right" if right else ": wrong"


def _draw_regression(test: Examples, scores: Scores, predict: Predict) -> dict[str, Figure]:
    from ..views import pictures

    title = "|x1| + |x2|, learned from points"
    return {"regression.png": pictures.regression(test.y, scores, title=title)}


def _draw_decision(test: Examples, scores: Scores, predict: Predict) -> dict[str, Figure]:
    from ..views import pictures

    return {"decision.png": pictures.decision_boundary(predict, *test)}


# --- images ---------------------------------------------------------------------------------------


def _load_digits(settings: Settings) -> Split:
    train, test = data.split(*data.digits(), held_out=0.2, seed=0)
    return Split(limited(train, settings), test)


def _load_mnist(settings: Settings) -> Split:
    if not settings.data:
        raise DataError(
            "mnist: its images are not part of scalargrad: pass --data DIR, a folder with the "
            "IDX files, and --download to fetch them into it"
        )
    train, test = _mnist_parts(Path(settings.data))
    train = limited(train, settings)
    return Split(Examples(train.x / 255, train.y), Examples(test.x / 255, test.y))


def _mnist_parts(folder: Path) -> Split:
    """Shuffled images, and others held out: from the other files, or the same where one is alone."""
    train_there, test_there = (any(folder.glob(f"{name}-images*")) for name in ("train", "t10k"))
    if train_there != test_there:
        alone = data.mnist(folder, part="train" if train_there else "test", dtype="uint8")
        return data.split(*alone, held_out=MNIST_HELD_OUT, seed=0)
    if not train_there:
        raise DataError(
            f"{folder}: no file train-images-idx3-ubyte or t10k-images-idx3-ubyte, gzipped or not: "
            "put MNIST's files there, or add --download"
        )
    train, test = data.mnist(folder, dtype="uint8")
    order = np.random.RandomState(0).permutation(len(train.x))
    _, held_out = data.split(*test, held_out=MNIST_HELD_OUT, seed=0)
    return Split(Examples(train.x[order], train.y[order]), held_out)


def _report_accuracy(test: Examples, scores: Scores) -> str:
    right = len(test.y) - len(_wrong(test, scores))
    share = percent(right / len(test.y))
    return f"accuracy on {len(test.y):,} held out: {share} ({right:,} right)"


def _wrong(test: Examples, scores: Scores) -> list[int]:
    pairs = zip(scores.tolist(), test.y.tolist())
    return [row for row, (score, true) in enumerate(pairs) if not accuracy(score, true)]


def probabilities(scores: Scores) -> Scores:
    """Softmax over the last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: Scores = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def _answer_digit(scores: Any, true: Any) -> str:
    chances = probabilities(np.asarray(scores))
    best, second = np.argsort(-chances, kind="stable")[:2]
    told = f"a {best} ({percent(chances[best])}), or else a {second} ({percent(chances[second])})"
    return told + ("" if true is None else f"; true is {true}{_verdict(best == true)}")


def _draw_images(test: Examples, scores: Scores, predict: Predict) -> dict[str, Figure]:
    from ..views import pictures

    guess, sure = scores.argmax(axis=1), probabilities(scores).max(axis=1)
    gallery = pictures.predictions(test.x, test.y, guess, confidence=sure)
    return {"predictions.png": gallery, "confusion.png": pictures.confusion(test.y, guess)}


TASKS: Mapping[str, Task] = {
    "toy": Task(
        summary="learn y = |x1| + |x2| from points",
        noun="points",
        inputs=2,
        outputs=1,
        output="relu",
        defaults=Settings("toy", (8,), epochs=100, batch_size=10, optimizer="adam", lr=0.03),
        load=_load_toy,
        loss=losses.mse,
        report=_report_error,
        mistakes=_largest_errors,
        answer=_answer_number,
        draw=_draw_regression,
    ),
    "moons": Task(
        summary="tell two half-moons of points apart",
        noun="points",
        inputs=2,
        outputs=1,
        defaults=Settings("moons", (16, 16), epochs=60, batch_size=20, optimizer="adam", lr=0.05),
        load=_load_moons,
        loss=losses.hinge,
        penalty=small_weights,
        report=_report_accuracy,
        mistakes=_wrong,
        answer=_answer_moon,
        draw=_draw_decision,
    ),
    "digits": Task(
        summary="read handwritten digits of 8 x 8 pixels",
        noun="images",
        inputs=64,
        outputs=10,
        defaults=Settings("digits", (32,), epochs=15, batch_size=16, optimizer="adamw", lr=0.02),
        load=_load_digits,
        loss=losses.cross_entropy,
        report=_report_accuracy,
        mistakes=_wrong,
        answer=_answer_digit,
        draw=_draw_images,
        side=8,
    ),
    "mnist": Task(
        summary="read handwritten digits of 28 x 28 pixels, from files (--data)",
        noun="images",
        inputs=784,
        outputs=10,
        defaults=Settings("mnist", (32,), epochs=5, batch_size=16, optimizer="adamw", lr=0.01),
        load=_load_mnist,
        loss=losses.cross_entropy,
        report=_report_accuracy,
        mistakes=_wrong,
        answer=_answer_digit,
        draw=_draw_images,
        side=28,
        fill=20 / 28,
        reads_files=True,
    ),
}
