"""Calls answered at once: the same bits as by the long way, and refused where it is another call."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Value, losses, nn
from scalargrad.compiler import function, jit
from scalargrad.compiler.function import CompiledFunction
from scalargrad.compiler.variant import Variant
from threads import in_threads

pytest.importorskip("llvmlite")
pytestmark = pytest.mark.pure


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call waits for native code instead of being interpreted meanwhile."""
    monkeypatch.setattr(jit, "PATIENCE", 0)
    monkeypatch.setattr(jit, "TIERED", ())


@pytest.fixture(autouse=True)
def as_they_were() -> None:
    """Every test begins with the same parameters: some change them."""
    for w, number in zip(W, NUMBERS):
        w.data, w.grad = number, 0.0


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each call that found a `Launch`, whether one answered, or the long way was gone."""
    seen: list[bool] = []
    read = CompiledFunction._read
    long_ways = 0

    def counted(self: Any, *args: Any) -> Any:
        nonlocal long_ways
        long_ways += 1
        return read(self, *args)

    monkeypatch.setattr(CompiledFunction, "_read", counted)

    def watched(name: str, about: Callable[[Any, Any], Any]) -> None:
        ask = getattr(CompiledFunction, name)

        def asked(self: Any, *args: Any, **options: Any) -> Any:
            wrt = about(self, options.get("wrt"))
            known, before = wrt in self._launches, long_ways
            try:
                return ask(self, *args, **options)
            finally:
                if known:
                    seen.append(long_ways == before)

        monkeypatch.setattr(CompiledFunction, name, asked)

    watched("__call__", lambda f, wrt: None)
    watched("value_and_grad", lambda f, wrt: f._default if wrt is None else wrt)
    watched("backward", lambda f, wrt: "parameters")
    return seen


def bits(x: Any) -> Any:
    if isinstance(x, float):
        return x.hex()
    return x.tobytes() if isinstance(x, np.ndarray) else [bits(part) for part in x]


def network(seed: int = 0) -> tuple[nn.MLP, Any, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    model = nn.MLP(6, [9, 4], rng=random.Random(seed))
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(10, 6)), generator.integers(0, 4, 10)
    return model, lambda x, y: losses.cross_entropy(model(x), y), x, y


def grads_of(values: list[Value]) -> list[str]:
    return [p.grad.hex() for p in values]


def grads(model: nn.Module) -> list[str]:
    return grads_of(model.parameters())


@pytest.mark.parametrize("batch", ["mean", "sum"])
def test_the_bits_of_the_engine(batch: str, answers: list[bool]) -> None:
    model, loss, x, y = network()
    f = sg.compile(loss, batch=batch)
    reduced = {"mean": sg.mean, "sum": sg.total}[batch]
    for step in range(5):
        for p in model.parameters():
            p.data, p.grad = p.data * 1.125, 0.25
        x = x + 0.5
        total = reduced([loss(row, int(label)) for row, label in zip(x.tolist(), y)])
        total.backward()
        expected = grads(model)
        for p in model.parameters():
            p.grad = 0.25
        assert f.backward(x, y).hex() == total.data.hex()
        assert grads(model) == expected
        value, gradient = f.value_and_grad(x, y)
        for p in model.parameters():
            p.grad = 0.0
        total.backward()
        assert bits((value, *gradient.tolist())) == [total.data.hex(), *grads(model)]
        assert f(x, y).hex() == total.data.hex(), step
    assert answers == [True] * 11


def exactly(x: Any) -> Any:
    """All that can be seen of a result: types, structure, shapes, bits."""
    if isinstance(x, float):
        return x.hex()
    if isinstance(x, np.ndarray):
        return x.dtype, x.shape, x.tobytes(), x.flags.writeable, x.flags.owndata
    if isinstance(x, dict):
        return [(key, exactly(part)) for key, part in x.items()]
    return type(x), [exactly(part) for part in x] if isinstance(x, list | tuple) else x


def noise(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(size=shape)


def pick(values: Any, k: Any, x: Any) -> Any:
    return sg.take([*values, x], k) * x + k * 0.25


def scaled(x: Any, factor: float) -> Any:
    """x with all floats, and arrays, multiplied."""
    if isinstance(x, dict):
        return {key: scaled(part, factor) for key, part in x.items()}
    if isinstance(x, list | tuple):
        parts = [scaled(part, factor) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    if isinstance(x, np.ndarray):
        return (x * factor).astype(x.dtype)
    return x * factor if isinstance(x, float) else x


class Pair(NamedTuple):
    left: Any
    right: Any


NUMBERS = (0.75, -1.5, 2.25)
W = [*map(Value, NUMBERS)]


def squares(x):
    return sum(xk * xk * 1.1 for xk in x)


# function, how it is compiled, arguments, what gradients are with respect to
CALLS: dict[str, tuple[Any, dict[str, Any], tuple[Any, ...], list[Any]]] = {
    "a number": (lambda x: x.tanh() * x, {}, (0.7,), [None, 0]),
    "an integer": (lambda n, x: n * x.exp(), {}, (3, 0.7), [0, 1, (1, 0)]),
    "a list": (squares, {}, ([0.1, 0.2, -0.3],), [None, 0, (0,)]),
    "a list of integers": (squares, {}, ([1, 2, -3],), [None, (0, 0)]),
    "a tuple": (squares, {}, ((0.1, 0.2, -0.3),), [None, 0]),
    "an array": (squares, {}, (noise(7),), [None, 0]),
    "an array of integers": (squares, {}, (np.arange(7),), [None, 0]),
    "a matrix": (lambda x: sum(map(squares, x)), {}, (noise(3, 4),), [None]),
    "what is not used": (lambda x, y: x[0] * 2.0, {}, (noise(3), [1.0, 2.0]), [0, 1, (1, 0)]),
    "a bool beside it": (lambda x, up: x if up else -x, {}, (0.5, True), [0]),
    "selecting": (lambda k, x: pick(W, k, x), {}, (1, 0.5), [None, 0, 1, (1, "parameters")]),
    "selecting alone": (lambda k, x: sg.take([x, -x], k), {}, (1, 0.5), [1]),
    "a guard": (lambda x: W[0] * x if x > 0.0 else -x, {}, (0.5,), [None, 0, ("parameters", 0)]),
    "parameters": (lambda x: sg.dot(W, x), {}, (noise(3),), [None, 0, "parameters", (0,)]),
    "a comparison": (lambda x: x > 0.5, {}, (0.7,), [0]),
    "several results": (
        lambda x: {"a": [x[0] * 2.0, x[1]], "b": (x[0] > x[1], 3, None), "c": [], "d": (x[0],)},
        {},
        (noise(2),),
        [],
    ),
    "a list of results": (lambda x: [xk * 1.1 for xk in x], {}, (noise(9),), []),
    "an array of results": (lambda x: np.array([[xk * 1.1 for xk in x]]), {}, (noise(9),), []),
    "aux": (lambda x: (squares(x), {"x": list(x), "n": 4}), {"has_aux": True}, (noise(4),), [0]),
    "an integer and aux": (lambda x: (3, x), {"has_aux": True}, (0.5,), [0]),
    "a batch": (squares, {"batch": "mean"}, (noise(5, 3),), [None, (0,)]),
    "a batch of one": (squares, {"batch": "mean"}, (noise(1, 3),), [None, (0,)]),
    "a batch of numbers": (lambda x, y: x * y.exp(), {"batch": "sum"}, (noise(5), 0.5), [0, 1]),
    "a batch of matrices": (
        lambda x, y: sum(map(squares, x)) * y * W[2],
        {"batch": "mean"},
        (noise(5, 3, 2), np.arange(5)),
        [None, 0, 1, (1, "parameters", 0)],
    ),
    "a batch and what it shares": (
        lambda k, x, c: pick(W, k, x) * c,
        {"batch": "sum"},
        (np.array([1, 3, 0]), noise(3), 0.5),
        [None, 0, 1, 2, (2, 1)],
    ),
    "a batch and aux": (
        lambda x: (squares(x), {"x": list(x), "n": 4}),
        {"batch": "mean", "has_aux": True},
        (noise(5, 3),),
        [None, 0],
    ),
    "lists of lists": (
        lambda x: sum(map(squares, x)),
        {},
        ([[0.1, 0.2], [-0.3, 0.4], [0.5, 0.6]],),
        [None, 0, (0,)],
    ),
    "a dict": (
        lambda p, up: squares(p["w"][0]) * p["c"] + p["b"][1] if up else p["c"],
        {},
        ({"w": noise(2, 3), "b": [0.5, -0.25], "c": 0.75, "n": (3, None)}, True),
        [0, (0, 0)],
    ),
    "a named tuple": (
        lambda p, k: pick(W, k, p.left[0]["x"]) * p.right,
        {},
        (Pair(({"x": 0.5}, "name"), 2.0), 1),
        [None, 0, (0, "parameters")],
    ),
    "a guard inside": (
        lambda p: p["a"][0] * W[1] if p["b"][0] > 0.0 else -p["a"][0],
        {},
        ({"a": [0.5], "b": (1.5, 3)},),
        [None, 0],
    ),
    "a batch of lists": (squares, {"batch": "mean"}, ([[0.1, 0.2], [0.3, -0.4]],), [None, 0]),
    "a batch of one list": (squares, {"batch": "sum"}, ([[0.1, 0.2]],), [None, 0]),
    "a batch of numbers in a list": (
        lambda x, k: pick(W, k, x),
        {"batch": "mean"},
        ([0.1, 0.2, 0.3], [2, 0, 3]),
        [None, 0, (1, 0)],
    ),
    "a batch of dicts": (
        lambda p: squares(p["x"][0]) * p["c"][0],
        {"batch": "mean"},
        ([{"x": noise(2, 3), "c": (0.5, k)} for k in range(3)],),
        [None, 0],
    ),
    "a dict of batches": (
        lambda p, s: squares(p["x"]) * p["y"] * p["c"] * s[0] + s[1]["z"][0],
        {"batch": "mean"},
        (
            {"x": noise(3, 2), "y": [0.5, 0.25, -1.0], "c": 1.5, "up": True},
            (0.5, {"z": [(0.1,), (0.2,), (0.3,)]}),
        ),
        [None, 0, 1, (1, 0)],
    ),
    "a dict of batches and aux": (
        lambda p: (squares(p["x"]) * p["y"], {"y": p["y"], "x": list(p["x"])}),
        {"batch": "mean", "has_aux": True},
        ({"x": noise(3, 2), "y": [0.5, 0.25, -1.0]},),
        [None, 0],
    ),
    "a long batch": (squares, {"batch": "mean"}, (noise(80, 40),), [0]),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("call", CALLS)
def test_nobody_sees_which_way_it_went(call: str, dtype: str, answers: list[bool]) -> None:
    function, options, args, choices = CALLS[call]
    f = sg.compile(function, dtype=dtype, **options)
    g = sg.compile(function, dtype=dtype, **options)
    g._prepare = lambda *_: None  # type: ignore[method-assign]
    for step in range(5):
        given = [scaled(x, 1.0 + step / 8.0) for x in args]
        if call == "a batch and what it shares":
            given[0] = args[0]
        for k, w in enumerate(W):
            w.data += k / 16.0
        assert exactly(f(*given)) == exactly(g(*given))
        for wrt in choices:
            got, expected = f.value_and_grad(*given, wrt=wrt), g.value_and_grad(*given, wrt=wrt)
            assert exactly(got) == exactly(expected), wrt
        if g.parameters:
            for w in W:
                w.grad = 0.375
            expected = [g.backward(*given), *grads_of(W)]
            for w in W:
                w.grad = 0.375
            assert [f.backward(*given), *grads_of(W)] == expected
    # The first calls make ready; a gradient with respect to the default is one of the others.
    assert answers.count(True) >= 3 * (1 + len(choices)) - 1
    assert not answers.count(False)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradients_are_not_overwritten_by_the_next_call(dtype: str) -> None:
    f = sg.compile(lambda x, y: sg.dot(x, x) + y * y, dtype=dtype)
    kept = [f.value_and_grad(np.array([k, 1.0]), k, wrt=(0, 1))[1] for k in map(float, range(5))]
    assert [(x.tolist(), y) for x, y in kept] == [([2.0 * k, 2.0], 2.0 * k) for k in range(5)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_another_branch_has_another_gradient(dtype: str, answers: list[bool]) -> None:
    f = sg.compile(lambda x: x * x if x > 1.0 else x * 3.0, dtype=dtype)
    for x, slope in [(2.0, 4.0), (3.0, 6.0), (4.0, 8.0), (0.5, 3.0), (4.0, 8.0)]:
        assert f.value_and_grad(x)[1] == slope
    assert answers == [True, False, True]


def test_parameters_met_later_are_what_gradients_are_for_from_then_on() -> None:
    w = Value(3.0)
    f = sg.compile(lambda x: x * x if x < 0.0 else w * x)
    for _ in range(4):
        assert f.value_and_grad(-1.0) == (1.0, -2.0)
    for _ in range(4):
        assert exactly(f.value_and_grad(2.0)) == exactly((6.0, np.array([2.0])))
        assert exactly(f.value_and_grad(-1.0)) == exactly((1.0, np.array([0.0])))
        assert f.value_and_grad(-1.0, wrt=0) == (1.0, -2.0)


def test_a_position_is_an_integer_however_often_it_was_one() -> None:
    f = sg.compile(lambda x, y: x * y)
    for _ in range(4):
        assert f.value_and_grad(2.0, 3.0, wrt=1) == (6.0, 2.0)
        assert f.value_and_grad(2.0, 3.0, wrt=(0, 1)) == (6.0, (3.0, 2.0))
    for wrong in (True, 1.0, (0, True), (0.0, 1), "value", 2, [1]):
        with pytest.raises(ValueError, match="wrt"):
            f.value_and_grad(2.0, 3.0, wrt=wrong)  # type: ignore[arg-type]


def test_single_precision_rounds_what_goes_in_and_comes_out(answers: list[bool]) -> None:
    w = Value(0.1)
    f = sg.compile(lambda x: w * x, dtype="float32")
    single = np.float32
    for k in range(4):
        w.data, w.grad = 0.1 + k, 0.3
        x = 0.7 + k
        assert f(x) == float(single(w.data) * single(x))
        assert f.backward(x) == f(x)
        assert w.grad == float(single(0.3) + single(x))
    assert answers[-3:] == [True] * 3


def test_results_in_their_structure(answers: list[bool]) -> None:
    f = sg.compile(lambda x: {"sum": x[0] + x[1], "parts": [x[0] * 2.0, x[1] > 1.0]})
    got = [f([float(k), 1.5]) for k in range(5)]
    assert got == [{"sum": k + 1.5, "parts": [2.0 * k, True]} for k in range(5)]
    aux = sg.compile(lambda x: (x * x, [x, 2.0 * x]), batch="mean", has_aux=True)
    for k in range(4):
        value, rest = aux(np.array([1.0, k]))
        assert value == (1.0 + k * k) / 2.0
        assert rest.tolist() == [[1.0, 2.0], [k, 2.0 * k]]
    assert answers == [True] * 5


def test_results_are_not_overwritten_by_the_next_call() -> None:
    w = [Value(2.0), Value(3.0)]
    f = sg.compile(lambda x: [w[0] * x, w[1] * x])
    g = sg.compile(lambda x: w[0] * x + w[1])
    kept = [f(float(k)) for k in range(4)]
    assert kept == [[2.0 * k, 3.0 * k] for k in range(4)]
    gradients = [g.value_and_grad(float(k))[1] for k in range(4)]
    assert [gradient.tolist() for gradient in gradients] == [[k, 1.0] for k in range(4)]


def test_another_branch_is_not_answered_by_this_one(answers: list[bool]) -> None:
    w = Value(3.0)
    f = sg.compile(lambda x: w * x.sqrt() if x > 0.0 else -x)
    for x, expected in [(4.0, 6.0), (9.0, 9.0), (16.0, 12.0), (-3.0, 3.0), (4.0, 6.0)]:
        assert f(x) == expected
    assert answers == [True, False, True]
    w.grad = 1.0
    for x, expected in [(4.0, 3.0), (4.0, 5.0), (4.0, 7.0), (-1.0, 7.0)]:
        f.backward(x)
        assert w.grad == expected


def test_another_branch_with_other_parameters() -> None:
    a, b = Value(2.0), Value(5.0)
    f = sg.compile(lambda x: a * x if x > 0.0 else b * x)
    for _ in range(3):
        assert f.value_and_grad(1.0)[1].tolist() == [1.0]
    for _ in range(3):
        assert f.value_and_grad(-1.0)[1].tolist() == [0.0, -1.0]
        assert f.value_and_grad(1.0)[1].tolist() == [1.0, 0.0]
    for _ in range(3):
        assert f.value_and_grad(1.0)[1].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("wrong", [4, -1, 10**9])
def test_an_index_out_of_range_is_an_error_as_before(wrong: int, answers: list[bool]) -> None:
    values = [Value(float(k)) for k in range(4)]
    f = sg.compile(lambda k, x: sg.take(values, k) * x, batch="sum")
    for _ in range(3):
        assert f.backward(np.array([1, 3]), np.array([1.0, 2.0])) == 7.0
    before = [v.grad for v in values]
    with pytest.raises(IndexError, match="in example 1"):
        f.backward(np.array([1, wrong]), np.array([1.0, 2.0]))
    assert [v.grad for v in values] == before
    assert answers == [True, False]


def test_an_integer_too_large_to_be_exact_is_an_error_as_before() -> None:
    f = sg.compile(lambda n: n * 2.0)
    for k in range(4):
        assert f(k) == 2.0 * k
    with pytest.raises(ValueError, match="2\\^53"):
        f(2**54)


def changes(x: dict[str, Any]) -> list[Any]:
    """Arguments like x, and what could be mistaken for it."""
    a, b = x["a"], x["b"]
    wrong: list[Any] = [
        *({"a": a}, {**x, "c": 1.0}, {"b": b, "a": a}, {"a": a, "c": b}, None, "x", [a, b]),
        *({**x, "b": part} for part in (0, True, np.float64(0.5), np.float32(0.5), Value(0.5))),
        *({**x, "b": part} for part in ("0.5", None, 1j, [0.5], np.array(0.5), float("nan"))),
        *({**x, "b": part} for part in (2**1024, np.array([0.5]), float("inf"), -0.0, 2**60)),
    ]
    for k in range(2):
        for part in ([], [0.5], [0.5] * 4, (0.5, 0.25, 1.5), [0.5, 1, True], [0.5, "1", 2.0]):
            wrong.append({**x, "a": [*a[:k], part, *a[k + 1 :]]})
        for number in (1, False, None, float("nan"), np.float64(2.0), Value(2.0), "2", 1j, 2**1024):
            wrong.append({**x, "a": [*a[:k], [0.5, number, 1.0], *a[k + 1 :]]})
        for array in (np.ones(3), np.ones(3, int), np.ones((3, 1)), np.array([1.0, None, 2.0])):
            wrong.append({**x, "a": [*a[:k], array, *a[k + 1 :]]})
    return [*wrong, {**x, "a": tuple(a)}, {**x, "a": a[:1]}, {**x, "a": np.array(a)}]


def answered(f: Any, x: Any, **options: Any) -> Any:
    """What a call gives, or how it fails."""
    try:
        found = f(x, **options)
    except Exception as error:
        return type(error), str(error)
    return found.data.hex() if isinstance(found, Value) else exactly(found)


def test_what_is_nearly_the_same_is_answered_as_by_the_long_way() -> None:
    def parts(x: Any) -> Any:
        assert isinstance(x, dict)
        total = x["b"] * 2.0
        for row in x["a"]:
            for k, number in enumerate(row):
                total = total + number * number * (k + 1.5)
        return total

    usual = {"a": [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], "b": 0.5}
    f, g = sg.compile(parts), sg.compile(parts)
    g._prepare = lambda *_: None  # type: ignore[method-assign]
    for changed in changes(usual):
        for _ in range(3):
            assert answered(f, usual) == parts(usual).hex()
            assert answered(f.value_and_grad, usual)[1][0] == parts(usual).hex()
        assert None in f._launches
        for branches in g._branches.values():
            branches.filler = None
        assert answered(f, changed) == answered(g, changed), changed
        got, expected = (answered(h.value_and_grad, changed) for h in (f, g))
        assert got == expected, changed


def test_other_arguments_are_read_the_long_way(answers: list[bool]) -> None:
    f = sg.compile(lambda x: sg.total([xi * xi for xi in x]))
    for _ in range(3):
        assert f([1.0, 2.0]) == 5.0
    assert f([1.0, 2.0, 3.0]) == 14.0
    assert f((1.0, 2.0)) == 5.0
    assert f(np.array([1.0, 2.0])) == 5.0
    assert answers == [True, False, False, False]
    with pytest.raises(TypeError):
        f("ab")
    assert f(x=[1.0, 2.0]) == 5.0
    assert isinstance(f([Value(1.0)]), Value)


def test_other_numbers_of_examples(answers: list[bool]) -> None:
    w = Value(0.5)
    f = sg.compile(lambda x: w * x, batch="sum")
    for count in (3, 3, 3, 3, 2, 2, 2, 3, 3, 2, 3):
        assert f(np.arange(float(count))) == 0.5 * sum(range(count))
    assert answers == [True, True, False, False, True, True, True, True, True]


def test_calls_of_several_structures_take_turns(answers: list[bool]) -> None:
    w = [Value(0.1 * k - 0.4) for k in range(7)]

    def product(x: Any) -> Value:
        return sg.total([a * b for a, b in zip(x, w)]).tanh()

    f, rng = sg.compile(product), random.Random(3)
    calls: list[Any] = [[rng.gauss(0.0, 1.0) for _ in range(n)] for n in range(1, 8)]
    calls += [tuple(calls[2]), np.array(calls[4])]
    for _ in range(2):
        for x in calls:
            f.value_and_grad(x)
    answers.clear()
    for x in rng.choices(calls, k=60):
        y = product([Value(xk) for xk in x])
        for p in w:
            p.grad = 0.0
        y.backward()
        value, gradient = f.value_and_grad(x)
        assert bits((value, *gradient.tolist())) == [y.data.hex(), *grads_of(w)]
        w[rng.randrange(7)].data += 0.25
    assert answers == [True] * 60


def test_structures_that_were_not_asked_for_lately_are_forgotten() -> None:
    f = sg.compile(lambda x: sg.total(x) * 2.0)
    for _ in range(3):
        for n in range(1, function.LAUNCHES + 4):
            assert f([0.5] * n) == n
    assert len(f._launches[None]) == function.LAUNCHES


def steps(x: Any) -> Any:
    """A function of several branches."""
    for k in range(3):
        x = x * x - 0.5 if x > 0.25 * k else x * 0.5 + W[k]
    return x


def test_branches_take_turns(answers: list[bool]) -> None:
    f, rng = sg.compile(steps), random.Random(5)
    numbers = [rng.uniform(-2.0, 2.0) for _ in range(40)]
    for _ in range(3):
        for x in numbers:
            f.backward(x)
    answers.clear()
    for x in rng.choices(numbers, k=60):
        for p in W:
            p.grad = 0.5
        y = steps(Value(x))
        y.backward()
        expected = grads_of(W)
        for p in W:
            p.grad = 0.5
        assert f.backward(x).hex() == y.data.hex()
        assert grads_of(W) == expected
    assert answers == [True] * 60
    assert f.stats["variants"] > 4


def test_only_branches_that_can_answer_are_run() -> None:
    f = sg.compile(steps)
    for _ in range(2):
        for x in np.linspace(-2.0, 2.0, 41).tolist():
            f(x)
    first, *others = f._launches[None]
    ways = [launch.variant.outcomes for launch in others]
    assert len(set(ways)) == len(ways) == 4
    refused = 0
    for x in np.linspace(-2.0, 2.0, 41).tolist():
        answered = first.value((x,)) is not None
        refused += not answered
        assert answered == (first.flipped == -1)
        f(x)
        right = f._latest
        assert isinstance(right, Variant)
        if answered:
            assert right is first.variant
            continue
        k, taken = first.flipped, first.variant.outcomes
        able = [x for x in (first, *others) if x.follows(first)]
        expected = (*taken[:k], not taken[k])
        assert {x.variant.outcomes for x in able} == {w for w in ways if w[: k + 1] == expected}
        assert right in [x.variant for x in able]
    assert 0 < refused < 41


def test_rows_too_long_to_copy_are_read_where_they_are() -> None:
    f = sg.compile(lambda x: sg.total([xi * 2.0 for xi in x]), batch="sum")
    x = np.arange(100.0 * 40).reshape(100, 40)
    assert x.nbytes >= jit.LENT
    for k in range(4):
        assert f(x + k) == 2.0 * (x + k).sum()
        assert f((x + k).tolist()) == 2.0 * (x + k).sum()  # rows of its own
        assert f(x - k) == 2.0 * (x - k).sum()


def test_parameters_written_in_any_way_count() -> None:
    w = Value(1.0)
    f = sg.compile(lambda x: w * x)
    for k in range(3):
        assert f(2.0) == 2.0, k
    w.data = 4.0
    assert f(2.0) == 8.0
    graph = sg.Graph(w * 1.0)
    w.data = 5.0
    graph.forward()
    assert f(2.0) == 10.0
    model, loss, x, y = network()
    g = sg.compile(loss, batch="mean")
    for _ in range(3):
        g(x, y)
    trainer = sg.Trainer(model, losses.cross_entropy, sg.optim.SGD(lr=0.1), progress=False)
    trainer.fit(x, y, epochs=2)
    expected = sg.mean([loss(row, int(label)) for row, label in zip(x.tolist(), y)])
    assert g(x, y).hex() == expected.data.hex()


def test_who_works_with_the_program_himself_does_not_disturb() -> None:
    w = Value(3.0)
    f = sg.compile(lambda x: w * x)
    for _ in range(3):
        assert f(2.0) == 6.0

    def other(variant: Any, rows: Any) -> Any:
        variant.program.parameters[:] = 7.0
        return variant.program.forward(rows)

    assert f.work(other, 2.0)[1].item() == 14.0
    assert f(2.0) == 6.0
    assert f(2.0) == 6.0


def test_inside_other_functions_and_modes_it_steps_aside(answers: list[bool]) -> None:
    w = Value(3.0)
    f = sg.compile(lambda x: w * x)
    for _ in range(3):
        assert f(2.0) == 6.0
    assert sg.compile(lambda x: f(x) + 1.0)(2.0) == 7.0
    assert sg.grad(lambda x: f(x))(2.0) == 3.0
    for _ in range(3):
        assert f(2.0) == 6.0
    with sg.detect_anomaly(), pytest.raises(sg.AnomalyError):
        f(float("inf"))
    assert f(2.0) == 6.0


def test_what_can_be_looked_at_is_of_the_latest_call() -> None:
    w = Value(3.0)
    f = sg.compile(lambda x: (w * x).tanh())
    for _ in range(4):
        f(0.5)
        f.backward(0.5)
    f(0.5)
    assert f.stats["calls"] == 9
    forward = str(f.loops)
    f.backward(0.5)
    assert len(str(f.loops)) > len(forward)
    f(0.5)
    assert str(f.loops) == forward


def test_several_threads_take_turns() -> None:
    f = sg.compile(lambda x: (x * 2.0).exp() - x)
    wrong: list[float] = []

    def work(start: int) -> None:
        for k in range(300):
            x = (start * 300 + k) / 1000.0
            if f(x) != (Value(x) * 2.0).exp().data - x:
                wrong.append(x)

    in_threads(*(partial(work, k) for k in range(4)))
    assert not wrong


def test_code_that_is_kept_by_nobody_else_stays() -> None:
    f = sg.compile(lambda x: x * 3.0, batch="sum")
    ones = [np.ones(count) for count in range(1, jit.KEPT + 4)]
    for _ in range(3):
        assert f(ones[0]) == 3.0
    for x in ones[1:]:
        f.value_and_grad(x)
    assert f(ones[0]) == 3.0


def test_long_code_lets_other_threads_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from scalargrad.compiler import calling

    monkeypatch.setattr(calling, "LONG", 0)
    w = Value(3.0)
    f = sg.compile(lambda x: w * x)
    assert [f(float(k)) for k in range(5)] == [3.0 * k for k in range(5)]


def test_a_planted_error_is_seen(answers: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    from scalargrad.replay import Mirror

    class Blind:
        """A mirror that never looks at the Values again."""

        def __new__(cls, values: Any, data: Any, grad: Any) -> Any:
            data[:] = np.array([v.data for v in values])
            return Mirror([], data[:0], grad[:0])

    monkeypatch.setattr("scalargrad.compiler.variant.Mirror", Blind)
    w = Value(3.0)
    f = sg.compile(lambda x: w * x)
    assert [f(2.0) for _ in range(3)] == [6.0] * 3
    w.data = 4.0
    assert f(2.0) == 6.0  # wrong, as planted
    assert answers[-1]
