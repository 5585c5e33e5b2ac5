"""Random programs written with loops over lists, from the call to native code: the engine's bits.

Straight-line programs of a few operations have no loops to be found. These are made of the steps
that users' programs are made of, each with operands that go through the numbers in some order, and
so have nests of every form, in all ways in which one can feed another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import scalargrad as sg
from checking import change_last_bits
from scalargrad import Value
from scalargrad.compiler import jit
from strategies import same_bits

pytest.importorskip("llvmlite")

Numbers = list[Any]
CANDIDATES = 3


@pytest.fixture(autouse=True, scope="module")
def at_once() -> Any:
    """Every call waits for native code instead of being interpreted meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "PATIENCE", 0)
        patch.setattr(jit, "TIERED", ())
        yield


# --- what the programs consist of -----------------------------------------------------------------

# How n numbers are taken from a list, again from its start where it is shorter.
ORDERS: tuple[Callable[[int], Sequence[int]], ...] = (
    lambda n: range(n),
    lambda n: [-1 - i for i in range(n)],
    lambda n: range(0, 2 * n, 2),
    lambda n: [i // 2 for i in range(n)],
    lambda n: [0] * n,
    lambda n: [i * i + 1 for i in range(n)],
)


def running(a: Numbers, b: Numbers) -> Numbers:
    out = [a[0]]
    for x in a[1:]:
        out.append(out[-1] * 0.5 + x)
    return out


def recurrence(a: Numbers, b: Numbers) -> Numbers:
    h, out = b[0], []
    for x in a:
        h = (h * b[-1] + x).tanh()
        out.append(h)
    return out


def matrix(a: Numbers, b: Numbers) -> Numbers:
    rows = [[b[(i * len(a) + j) % len(b)] for j in range(len(a))] for i in range(4)]
    return [sum((w * x for w, x in zip(row, a)), 0.0) for row in rows]


def triangle(a: Numbers, b: Numbers) -> Numbers:
    return [sum((a[j] * b[i - j] for j in range(i + 1)), 0.0) for i in range(len(a))]


def window(a: Numbers, b: Numbers) -> Numbers:
    return [b[0] * x + b[-1] * y for x, y in pairwise(a)] or [a[0] - b[0]]


def pairs(a: Numbers, b: Numbers) -> Numbers:
    return [sum(((x - y) ** 2 for i, x in enumerate(a) for y in b[: i + 1]), 0.25)]


STEPS: dict[str, Callable[[Numbers, Numbers], Numbers]] = {
    "product": lambda a, b: [x * y for x, y in zip(a, b)],
    "sum": lambda a, b: [x + 0.5 * y for x, y in zip(a, b)],
    "difference": lambda a, b: [x - y for x, y in zip(a, b)],
    "quotient": lambda a, b: [x / (y * y + 1.0) for x, y in zip(a, b)],
    "tanh": lambda a, b: [x.tanh() for x in a],
    "relu": lambda a, b: [x.relu() * y for x, y in zip(a, b)],
    "larger": lambda a, b: [sg.maximum(x, y, 0.125) for x, y in zip(a, b)],
    "where": lambda a, b: [sg.where(x < y, 2.0 * x, y) for x, y in zip(a, b)],
    "softmax": lambda a, b: sg.softmax(a),
    "logsumexp": lambda a, b: [sg.logsumexp(a), *b],
    "joined": lambda a, b: (a + b)[:15],
    **{f.__name__: f for f in (running, recurrence, matrix, triangle, window, pairs)},
}


class Operand(NamedTuple):
    """A list made before, and how many numbers are taken from it in which order."""

    which: int
    order: int
    count: int


class Program(NamedTuple):
    """Parameters, then the steps; a look-up by the integer argument may be among them."""

    weights: list[float]
    steps: list[tuple[str, Operand, Operand]]
    selects: bool
    penalty: bool

    def function(self, weights: list[Value]) -> Callable[[Numbers, Any], Value]:
        """The program of one example, with these parameters."""

        def fitted(made: list[Numbers], operand: Operand) -> Numbers:
            of = made[operand.which % len(made)]
            return [of[i % len(of)] for i in ORDERS[operand.order](operand.count)]

        def function(x: Numbers, k: Any) -> Value:
            made = [list(x), list(weights)]
            if self.selects:
                table = [weights[i % len(weights)] * x[-1] for i in range(CANDIDATES)]
                made.append([sg.take(table, k), x[0]])
            for name, a, b in self.steps:
                left = fitted(made, a)
                made.append(STEPS[name](left, fitted(made, b._replace(count=len(left)))))
            result = sg.total(x for part in made[-2:] for x in part)
            return result + 1e-3 * sg.total(w * w for w in weights) if self.penalty else result

        return function


counts = st.integers(1, 12)
operands = st.builds(Operand, st.integers(0, 9), st.integers(0, len(ORDERS) - 1), counts)
numbers = st.floats(-2.0, 2.0, allow_subnormal=False)
programs = st.builds(
    Program,
    weights=st.lists(numbers, min_size=1, max_size=9),
    steps=st.lists(
        st.tuples(st.sampled_from(sorted(STEPS)), operands, operands), min_size=1, max_size=7
    ),
    selects=st.booleans(),
    penalty=st.booleans(),
)


# --- comparing ------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """The value, asked for twice, and the gradients of the parameters and of the numbers."""

    values: list[float]
    weights: list[float]
    numbers: list[float]


def both(
    program: Program, batch: str | None, examples: int, seed: int
) -> list[tuple[Answer, Answer]]:
    """What the engine and native code give, for two calls with other numbers and parameters."""
    rng = random.Random(seed)
    weights = [Value(w) for w in program.weights]
    function = program.function(weights)
    compiled = sg.compile(function, batch=batch)
    size = rng.randint(1, 7)
    found = []
    for _ in range(2):
        rows = [[rng.gauss(0.0, 1.0) for _ in range(size)] for _ in range(examples)]
        chosen = [rng.randrange(CANDIDATES) for _ in range(examples)]
        leaves = [[Value(x) for x in row] for row in rows]
        for w in weights:
            w.data, w.grad = w.data + 0.125, 0.0
        each = [function(x, k) for x, k in zip(leaves, chosen)]
        total = sg.mean(each) if batch == "mean" else sg.total(each) if batch else each[0]
        total.backward()
        wanted = Answer(
            [total.data] * 2, [w.grad for w in weights], [v.grad for row in leaves for v in row]
        )
        call = (np.array(rows), np.array(chosen)) if batch else (rows[0], chosen[0])
        for w in weights:
            w.grad = 0.0
        value = compiled.backward(*call)
        again, at_numbers = compiled.value_and_grad(*call, wrt=0)
        got = Answer([value, again], [w.grad for w in weights], np.ravel(at_numbers).tolist())
        found.append((wanted, got))
    return found


def is_finite(answer: Answer) -> bool:
    return bool(np.isfinite([*answer.values, *answer.weights, *answer.numbers]).all())


@given(programs, st.sampled_from([None, "mean", "sum"]), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=max(10, settings.default.max_examples // 4))
def test_native_code_has_the_bits_of_the_engine(
    program: Program, batch: str | None, examples: int, seed: int
) -> None:
    answers = both(program, batch, examples if batch else 1, seed)
    assume(all(is_finite(wanted) for wanted, _ in answers))
    for wanted, got in answers:
        for ours, theirs in zip(got, wanted):
            assert same_bits(ours, theirs)


def test_the_last_bit_of_a_number_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    change_last_bits(monkeypatch)
    every = [
        (name, Operand(0, 0, 5), Operand(1, k % len(ORDERS), 5)) for k, name in enumerate(STEPS)
    ]
    program = Program([0.5, -1.0, 0.75], every, True, True)
    wanted, got = both(program, "mean", 3, 0)[0]
    assert is_finite(wanted)
    assert not same_bits(got.values, wanted.values)
