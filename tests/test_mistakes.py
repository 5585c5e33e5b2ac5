"""What users do wrong, and are told: the argument, what it got, what is expected, what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Value, losses, nn, optim

pytestmark = pytest.mark.pure

MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "text for a number": (
        lambda: Value("3"),  # type: ignore[arg-type]
        TypeError,
        "data: expected a real number, got str '3'",
    ),
    "a complex operand": (
        lambda: Value(1.0) + 1j,
        TypeError,
        "operand: expected a Value or a real number, got complex 1j",
    ),
    "a side of where": (
        lambda: sg.where(Value(1.0) > 0.0, "a", 1.0),  # type: ignore[arg-type]
        TypeError,
        "a: expected a Value or a real number, got str 'a'",
    ),
    "the other side of where": (
        lambda: sg.where(False, 1.0, None),  # type: ignore[arg-type]
        TypeError,
        "b: expected a Value or a real number, got NoneType None",
    ),
    "a number for a condition": (
        lambda: sg.where(Value(1.0), 1.0, 2.0),  # type: ignore[arg-type]
        TypeError,
        "condition: expected a comparison such as x > 0, got Value Value(data=1.0, grad=0.0)",
    ),
    "the maximum of a list": (
        lambda: sg.maximum([1.0, 2.0]),  # type: ignore[arg-type]
        TypeError,
        (
            "a: expected a Value or a real number, got list [1.0, 2.0]: pass its numbers one by one, "
            "as maximum(*numbers)"
        ),
    ),
    "the minimum with a text": (
        lambda: sg.minimum(1.0, 2.0, "a"),  # type: ignore[arg-type]
        TypeError,
        "others[1]: expected a Value or a real number, got str 'a'",
    ),
    "the softmax of a number": (
        lambda: sg.softmax(3.0),  # type: ignore[arg-type]
        TypeError,
        "x: expected a list of Values or real numbers, got float",
    ),
    "the mean of nothing": (
        lambda: sg.mean([]),
        sg.ShapeError,
        "x: expected at least one number, got an empty list",
    ),
    "lists of different lengths": (
        lambda: sg.dot([1.0], [1.0, 2.0]),
        sg.ShapeError,
        "dot: a has 1 numbers, b has 2: expected equally many",
    ),
    "a text in the second list": (
        lambda: sg.dot([1.0, 2.0], [1.0, "a"]),  # type: ignore[list-item]
        TypeError,
        "b[1]: expected a Value or a real number, got str 'a'",
    ),
    "a number for the second list": (
        lambda: sg.dot([1.0], 2.0),  # type: ignore[arg-type]
        TypeError,
        "b: expected a list of Values or real numbers, got float",
    ),
    "taking from a number": (
        lambda: sg.take(3.0, 0),  # type: ignore[arg-type]
        TypeError,
        "values: expected a list of numbers, or of rows of numbers, got float 3.0",
    ),
    "taking a text": (
        lambda: sg.take([1.0, None], 1),
        TypeError,
        "values[1]: expected a Value or a real number, got NoneType None",
    ),
    "taking with a float": (
        lambda: sg.take([1.0, 2.0], 1.0),  # type: ignore[arg-type]
        TypeError,
        (
            "index: expected an int, got float 1.0: convert it with int(...), an array with "
            ".astype(int), if it is a whole number"
        ),
    ),
    "a one-hot target": (
        lambda: losses.cross_entropy([0.1, 0.2], [0.0, 1.0]),  # type: ignore[arg-type]
        TypeError,
        (
            "target: expected an int, got list [0.0, 1.0]: one number selects, such as "
            "numpy.argmax of a list of zeros with a 1 in it"
        ),
    ),
    "many examples for one": (
        lambda: nn.MLP(2, [1])([[1.0, 2.0], [3.0, 4.0]]),  # type: ignore[list-item]
        TypeError,
        (
            "x[0]: expected a Value or a real number, got list [1.0, 2.0]: MLP takes one example at "
            "a time; for a list of them call it for each, [model(x) for x in xs], or compile with "
            'batch="mean"'
        ),
    ),
    "names of classes": (
        lambda: sg.Trainer(nn.MLP(1, [2]), losses.cross_entropy, optim.SGD()).fit(
            [[1.0], [2.0]], ["cat", "dog"], epochs=1
        ),
        TypeError,
        (
            "y[0]: expected a number or a list of numbers, got str 'cat': read numbers with "
            ".astype(float); numpy.unique(labels, return_inverse=True)[1] numbers classes"
        ),
    ),
    "taking what is not there": (
        lambda: sg.take([1.0, 2.0], -1),
        IndexError,
        "index -1 is out of range for 2 values: expected 0 to 1",
    ),
    "too few inputs": (
        lambda: nn.MLP(2, [1])([1.0]),
        sg.ShapeError,
        "MLP expected 2 inputs, got 1: nin is set in MLP(nin, nouts)",
    ),
    "a size for the sizes": (
        lambda: nn.MLP(2, 3),  # type: ignore[arg-type]
        TypeError,
        "nouts: expected a list of layer sizes such as [16, 16, 1], got 3",
    ),
    "an unknown activation": (
        lambda: nn.MLP(2, [1], activation="swish"),
        ValueError,
        (
            "activation: expected one of relu, leaky_relu, tanh, sigmoid, gelu, softplus, linear, "
            "got 'swish'"
        ),
    ),
    "a seed for a generator": (
        lambda: nn.MLP(2, [1], rng=3),  # type: ignore[arg-type]
        TypeError,
        "rng: expected a random.Random or None, got int: pass random.Random(seed)",
    ),
    "no vocabulary": (
        lambda: nn.GPT(0, 8),
        ValueError,
        "vocabulary: expected at least 1, got 0",
    ),
    "no context": (lambda: nn.GPT(5, 0), ValueError, "context: expected at least 1, got 0"),
    "too many tokens": (
        lambda: nn.GPT(5, 2)([0, 1, 2]),
        sg.ShapeError,
        "GPT expected 1 to 2 tokens, got 3: the context is set in GPT(vocabulary, context)",
    ),
    "another network's numbers": (
        lambda: nn.Linear(2, 1).load_state_dict(nn.Linear(3, 1).state_dict()),
        sg.StateError,
        (
            "Linear.load_state_dict: w has shape (1, 3), expected (1, 2). Nothing was loaded: build "
            "the network with the sizes it had when the state was saved"
        ),
    ),
    "targets of another length": (
        lambda: losses.mse([1.0], [1.0, 2.0]),
        sg.ShapeError,
        (
            "prediction and target must have equally many numbers, at least one: prediction has 1, "
            "target has 2"
        ),
    ),
    "a class that is none": (
        lambda: losses.cross_entropy([1.0, 2.0], 2),
        IndexError,
        "target 2 is not one of the 2 classes: expected 0 to 1",
    ),
    "no classes": (
        lambda: losses.nll([], 0),
        sg.ShapeError,
        "log_probs: expected a number for each class, got an empty list",
    ),
    "one number for logits": (
        lambda: losses.cross_entropy(Value(1.0), 0),  # type: ignore[arg-type]
        TypeError,
        (
            "logits: expected a list with a number for each class, got Value: for a single output "
            "use binary_cross_entropy"
        ),
    ),
    "a label of 0 for a margin": (
        lambda: losses.hinge(1.0, 0),
        ValueError,
        "target: expected -1 or +1 (2*y - 1 of 0 or 1), got 0",
    ),
    "a negative learning rate": (
        lambda: optim.SGD(lr=-1.0),
        ValueError,
        "lr: expected a finite number, 0 or more, got -1.0",
    ),
    "the class of a schedule": (
        lambda: optim.SGD(lr=optim.cosine),  # type: ignore[arg-type]
        TypeError,
        (
            "lr: expected a number or a schedule, got the class cosine: make a schedule of it, as "
            "cosine(0.1, ...)"
        ),
    ),
    "a parameter twice": (
        lambda: optim.SGD([Value(1.0)] * 2),
        ValueError,
        (
            "parameters: the Value at 1 is the one at 0 again, and would move twice a step: pass "
            "each parameter once"
        ),
    ),
    "a result for a parameter": (
        lambda: optim.SGD([Value(1.0) * 2.0]),
        ValueError,
        (
            "parameters: the Value at 0 is the result of 'mul', so it is computed afresh each time "
            "and cannot be learned: pass the leaves it is computed from"
        ),
    ),
    "a step without parameters": (
        lambda: optim.Adam().step(),
        RuntimeError,
        (
            "step: this Adam has no parameters yet: pass model.parameters() when making it, or to "
            "bind()"
        ),
    ),
    "the gradient of several results": (
        lambda: sg.grad(lambda x: [x, x])(1.0),
        TypeError,
        (
            "f: expected a function that returns one number, got one that returns list of 2 numbers: "
            "use jacobian for several, or has_aux=True for (number, anything else)"
        ),
    ),
    "the hessian of several results": (
        lambda: sg.hessian(lambda x: np.array([x, x]))(1.0),
        TypeError,
        (
            "f: expected a function that returns one number, got one that returns ndarray of 2 "
            "numbers: use jacobian for several, or has_aux=True for (number, anything else)"
        ),
    ),
    "a gradient of a text": (
        lambda: sg.grad(lambda x: x)("a"),
        TypeError,
        (
            "argument 0: expected a real number, a Value, or a list, tuple, dict or array of them, "
            "got str 'a'"
        ),
    ),
    "a direction of another shape": (
        lambda: sg.jvp(sg.total, ([1.0, 2.0],), ([1.0],)),
        sg.ShapeError,
        "tangents[0]: expected the structure of primals[0], [2 of number], got [number]",
    ),
    "an unknown mode": (
        lambda: sg.compile(sg.total, mode="quick"),
        ValueError,
        "mode: expected 'exact' or 'fast', got 'quick'",
    ),
    "reading a traced number": (
        lambda: sg.compile(lambda x: x * float(x), backend="interpreter")(1.0),
        sg.TraceError,
        "float() of x at ",
    ),
    "a list as a count": (
        lambda: sg.compile(lambda n: range(n), backend="interpreter")(3),
        sg.TraceError,
        "operator.index() of the integer argument n at ",
    ),
    "no examples": (
        lambda: sg.compile(sg.total, batch="mean", backend="interpreter")(np.zeros((0, 3))),
        sg.ShapeError,
        "batch: expected at least one example, x is empty",
    ),
    "a ragged batch": (
        lambda: sg.compile(sg.total, batch="sum", backend="interpreter")([[1.0, 2.0], [1.0]]),
        sg.ShapeError,
        (
            "x: ragged batch: example 1 is a list of 1 numbers, example 0 is a list of 2 numbers: "
            "expected examples of one structure"
        ),
    ),
    "an argument that is not there": (
        lambda: sg.compile(sg.total, backend="interpreter").value_and_grad([1.0], wrt=1),
        ValueError,
        (
            'wrt: expected "parameters" or the position of an argument, 0 to 0, or a tuple of these, '
            "got 1"
        ),
    ),
    "as many targets as inputs": (
        lambda: _fit(np.zeros((3, 2)), np.zeros(4)),
        sg.ShapeError,
        "x has 3 examples and y has 4: expected one target for each input",
    ),
    "a gap in the targets": (
        lambda: _fit(np.zeros((3, 2)), np.full(3, np.nan)),
        ValueError,
        "y[0] is nan: expected finite numbers; leave that example out, or fill the gap",
    ),
    "a number for metrics": (
        lambda: _fit(np.zeros((3, 2)), np.zeros(3), metrics=3),
        TypeError,
        "metrics: expected accuracy",
    ),
    "a name for an optimiser": (
        lambda: sg.Trainer(nn.MLP(2, [1]), losses.mse, "adam"),  # type: ignore[arg-type]
        TypeError,
        "optimizer: expected one such as optim.Adam(), got str 'adam'",
    ),
    "a graph of a number": (
        lambda: sg.Graph(3.0),  # type: ignore[arg-type]
        TypeError,
        "outputs: expected a Value or a sequence of Values, got float 3.0",
    ),
    "no points": (
        lambda: sg.data.moons(n=0),
        ValueError,
        "n is 0: expected 1 or more",
    ),
}


def _fit(x: Any, y: Any, **options: Any) -> None:
    trainer = sg.Trainer(nn.MLP(2, [1]), losses.mse, optim.SGD(lr=0.1), compile=False)
    trainer.fit(x, y, epochs=1, batch_size=2, **options)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_remedy(mistake: str) -> None:
    do, kind, message = MISTAKES[mistake]
    with pytest.raises(kind, match="^" + re.escape(message)) as caught:
        do()
    assert type(caught.value) is kind
