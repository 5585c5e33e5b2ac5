"""Index: an integer argument selects anew on every call, and counts as a number."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Value, losses, nn
from scalargrad.compiler import compile
from scalargrad.errors import TraceError

pytestmark = pytest.mark.pure


def test_one_trace_serves_every_index() -> None:
    table = [Value(float(k)) for k in range(5)]
    f = compile(lambda n: sg.take(table, n) * 2.0)
    assert [f(k) for k in range(5)] == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert f.stats["traces"] == 1
    for p in table:
        p.data += 1.0
    assert f(np.int64(3)) == 8.0
    assert f.stats["structures"] == 1


def test_the_chosen_one_gets_the_gradient() -> None:
    table = [Value(1.0), Value(2.0), Value(3.0)]
    f = compile(lambda n: sg.take(table, n) ** 2)
    for n in (2, 0, 2):
        expected = [0.0, 0.0, 0.0]
        expected[n] = 2.0 * table[n].data
        assert f.value_and_grad(n)[1].tolist() == expected


def test_embedding_and_cross_entropy() -> None:
    embedding, head = nn.Embedding(7, 3), nn.Linear(3, 7)

    def loss(token: Any, target: Any) -> Value:
        return losses.cross_entropy(head(embedding(token)), target)

    f = compile(loss)
    for token, target in ((0, 0), (3, 6), (6, 3), (3, 3)):
        assert f(token, target) == loss(token, target).data
    assert f.stats["traces"] == 1
    assert f.explain().count("take") >= 1


def test_arrays_and_lists_of_indices() -> None:
    table = [Value(10.0**k) for k in range(3)]
    f = compile(lambda tokens: sum(sg.take(table, t) for t in tokens[1:]))
    assert f(np.array([0, 1, 2], np.uint8)) == 110.0
    assert f([0, 2, 2]) == 200.0
    assert f((0, 0)) == 1.0


@pytest.mark.parametrize(
    "use",
    [
        lambda n, x: n * x,
        lambda n, x: x * n,
        lambda n, x: n + 1,
        lambda n, x: 1 - n,
        lambda n, x: x / n + n / 2,
        lambda n, x: -n + abs(n) + +n,
        lambda n, x: n**2 + 2**n + x**n + n**x,
        lambda n, x: n * n - n,
        lambda n, x: sg.maximum(n, x),
        lambda n, x: sg.where(n > 1, n, x),
        lambda n, x: sg.where(n == 2, x, 0.0) + sg.where(n != 3, 10.0, 0.0),
        lambda n, x: n.exp().tanh(),
        lambda n, x: np.exp(n) * np.float64(2.0) * n,
        lambda n, x: (np.array([n, x], dtype=object) * 2).sum(),
        lambda n, x: sg.functional.mean([n, x]) + sg.functional.dot([n], [x]),
        lambda n, x: losses.mse(x, n) + losses.binary_cross_entropy([x], [n * 0.0]),
        lambda n, x: 1.0 if n else 0.0,
        lambda n, x: 1.0 if n == 2 else 0.0,
        lambda n, x: 1.0 if n != 2 and n > 1 else 0.0,
        lambda n, x: 1.0 if n == n else 0.0,
        lambda n, x: 1.0 if 2.0 >= n >= x else 0.0,
        lambda n, x: max(n, x) * sorted([n, x, 1])[0],
        lambda n, x: 1.0 if n == "a" else 0.0,
        lambda n, x: 1.0 if n - 1 == 1 else 0.0,
        lambda n, x: 1.0 if n + 1 != 3 else 0.0,
        lambda n, x: 1.0 if 2 * n == n + 2 else 0.0,
        lambda n, x: 1.0 if n - 1 in (0, 2) else 0.0,
    ],
)
def test_as_a_number(use: Any) -> None:
    f = compile(lambda n, x: use(n, x) + 0.0 * x)
    for n, x in ((1, 0.5), (2, 3.0), (3, 2.0)):
        expected = use(Value(float(n)) if "exp" in use.__code__.co_names else n, Value(x))
        assert f(n, x) == pytest.approx(float(expected), rel=1e-15)


def test_hinge_in_a_batch_with_integer_labels() -> None:
    w = Value(0.5)
    f = compile(lambda x, y: losses.hinge(w * x, y), batch="mean")
    assert f([1.0, 2.0, -3.0], [1, -1, -1]) == (0.5 + 2.0 + 0.0) / 3


@pytest.mark.parametrize(
    ("what", "use"),
    [
        ("operator.index()", lambda n: [1.0, 2.0, 3.0][n]),
        ("operator.index()", lambda n: np.array([1.0, 2.0, 3.0])[n]),
        ("operator.index()", lambda n: sum(1.0 for _ in range(n))),
        ("a repetition", lambda n: [1.0] * n),
        ("a repetition", lambda n: n * (1.0,)),
        ("int()", int),
        ("hash()", lambda n: {1: 2.0}[n]),
        ("float()", float),
        ("round()", lambda n: round(n)),
        (".data", lambda n: n.data),
        ("%", lambda n: n % 2),
        ("//", lambda n: 7 // n),
        ("divmod()", lambda n: divmod(n, 2)[0]),
        ("&", lambda n: n & 1),
        ("<<", lambda n: Value(1.0) << n),
    ],
)
def test_uses_that_would_fix_it(what: str, use: Any) -> None:
    with pytest.raises(TraceError) as caught:
        compile(lambda n: use(n))(1)
    message = str(caught.value)
    assert message.startswith(what)
    assert re.search(f"{re.escape(__file__)}:[0-9]+", message)
    assert "n" in message
    if what in ("operator.index()", "int()", "hash()", "a repetition"):
        assert "scalargrad.take" in message
    elif what in ("%", "//", "divmod()", "&", "<<"):
        assert "pass the result as an argument" in message


def test_out_of_range_while_tracing() -> None:
    f = compile(lambda n: sg.take([1.0, 2.0], n))
    with pytest.raises(IndexError, match=r"^n: index 2 is out of range for 2 values: expected 0 "):
        f(2)
    assert f(1) == 2.0


def test_it_has_no_attributes_a_number_has_not() -> None:
    seen = []
    compile(lambda n: seen.append((hasattr(n, "shape"), hasattr(n, "_private"), repr(n))) or n)(1)
    assert seen == [(False, False, "Index(n)")]


def test_kept_after_the_trace_it_is_the_number_of_that_call() -> None:
    kept: list[Any] = []
    compile(lambda n: kept.append(n) or n)(3)
    assert (kept[0] == 3, kept[0] == 4, kept[0] != 3, kept[0] < 5) == (True, False, False, True)


def test_the_same_as_eager_take_in_the_graph() -> None:
    table = [Value(1.0), Value(2.0)]
    f = compile(lambda n: sg.take(table, n))
    f(1)
    assert f.graph.op_counts() == {"take": 1}
    assert f.graph.outputs[0].operands == tuple(table)
