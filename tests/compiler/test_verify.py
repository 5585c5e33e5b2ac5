"""The verifier: what the rules allow passes, and every planted fault is caught and named."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

import scalargrad
from generated import program, run, some_outputs
from scalargrad import Graph, Value, ops
from scalargrad.compiler.adjoint import adjoint
from scalargrad.compiler.verify import verify
from scalargrad.errors import VerifyError
from scalargrad.replay import Replay
from scalargrad.tape import Tape, tape_of

pytestmark = pytest.mark.pure

COUNT = 400 if scalargrad.compiled else 60

# Nodes 0, 1, 2 are leaves; then, by number:
#   3 = 0 + 1      4 = relu(3)      5 = 4 ** 2      6 = 5 if 3 else 2
#   7 = take([6, 0], 1)             8 = leaky_relu(7, 0.1)
SAMPLE = tape_of(
    3,
    [
        (ops.ADD, 0, 1),
        (ops.RELU, 3, -1),
        (ops.POW, 4, 0),
        (ops.WHERE, 0, 3),
        (ops.TAKE, 3, 2),
        (ops.LEAKY_RELU, 7, 1),
    ],
    const=[2.0, 0.1],
    many=[3, 5, 2, 0, 5, 6, 0],
    index=[1],
    outputs=[8, 0, 8],
)


def changed(tape: Tape, name: str, place: int, entry: int) -> Tape:
    """The tape with one entry of one array overwritten."""
    array = getattr(tape, name).copy()
    array[place] = entry
    return replace(tape, **{name: array})


def is_valid(tape: Tape) -> bool:
    """The rules of `Tape` once more, one node at a time."""
    n, leaves = len(tape.op), tape.leaves
    rows = zip(tape.op.tolist(), tape.lhs.tolist(), tape.rhs.tolist())
    many, index = tape.many.tolist(), tape.index.tolist()
    for i, (code, a, b) in enumerate(rows):
        if i < leaves or code == ops.LEAF or code not in ops.BY_CODE:
            if i >= leaves or (code, a, b) != (ops.LEAF, -1, -1):
                return False
            continue
        if code in (ops.WHERE, ops.TAKE):
            if a < 0 or b < 1 or (code == ops.WHERE and b != 3):
                return False
            if code == ops.TAKE and a + 2 > len(many):
                return False
            first = many[a + 1] if code == ops.TAKE else a
            if first < 0 or first + b > len(many):
                return False
            operands = many[first : first + b]
            if code == ops.TAKE and not (0 <= many[a] < len(index) and 0 <= index[many[a]] < b):
                return False
        elif ops.BY_CODE[code].arity == 2:
            operands = [a, b]
        else:
            operands = [a]
            allowed = range(len(tape.const)) if ops.BY_CODE[code].constant else [-1]
            if b not in allowed:
                return False
        if not all(0 <= j < i for j in operands):
            return False
    return all(0 <= j < n for j in tape.outputs.tolist())


def random_tape(seed: int) -> Tape:
    rng = random.Random(seed)
    _, results = run(program(rng))
    return Graph(some_outputs(rng, results)).tape


# --- what is right passes -----------------------------------------------------------------------------


def test_the_sample_is_right_and_comes_back() -> None:
    assert verify(SAMPLE) is SAMPLE
    assert is_valid(SAMPLE)


def test_every_captured_graph_and_every_adjoint_passes() -> None:
    for seed in range(COUNT):
        leaves, results = run(program(random.Random(seed)))
        graph = Graph(results[-1])
        verify(graph.tape)
        verify(adjoint(graph, leaves).tape)
        verify(Graph(results[-1], since=results[len(results) // 2].number).tape)


def test_the_smallest_tapes_pass() -> None:
    verify(tape_of(0, []))
    verify(tape_of(1, [], outputs=[0]))
    verify(Graph(Value(1.0)).tape)


# --- what is wrong is named ---------------------------------------------------------------------------

FAULTS: dict[str, tuple[Tape, str]] = {
    "leaf among the results": (changed(SAMPLE, "op", 4, 0), "node 4 .*no leaf comes after"),
    "result among the leaves": (changed(SAMPLE, "op", 1, ops.NEG), "node 1 .*leaves come first"),
    "unknown op": (changed(SAMPLE, "op", 3, 200), "node 3 .*op 200, unknown.*in ops.TABLE"),
    "leaf with an operand": (changed(SAMPLE, "lhs", 2, 0), "node 2 .*lhs = rhs = -1"),
    "leaf with a second one": (changed(SAMPLE, "rhs", 0, 5), "node 0 .*lhs = rhs = -1"),
    "operand of later": (changed(SAMPLE, "lhs", 3, 5), "node 3 .*add.*lhs is an earlier node"),
    "operand of itself": (changed(SAMPLE, "rhs", 3, 3), "node 3 .*rhs is an earlier node"),
    "operand below 0": (changed(SAMPLE, "rhs", 3, -1), "node 3 .*rhs is an earlier node"),
    "operand past the end": (changed(SAMPLE, "lhs", 4, 2**31 - 1), "node 4 .*relu.*earlier"),
    "unary with two": (changed(SAMPLE, "rhs", 4, 0), "node 4 .*rhs = -1"),
    "pow's operand": (changed(SAMPLE, "lhs", 5, 5), "node 5 .*pow.*earlier"),
    "pow's constant past the end": (changed(SAMPLE, "rhs", 5, 2), "node 5 .*constant, 0 to 1"),
    "pow's constant below 0": (changed(SAMPLE, "rhs", 5, -1), "node 5 .*constant"),
    "slope past the end": (changed(SAMPLE, "rhs", 8, 9), "node 8 .*leaky_relu.*constant"),
    "where of two": (changed(SAMPLE, "rhs", 6, 2), "node 6 .*rhs = 3"),
    "where past the end": (changed(SAMPLE, "lhs", 6, 5), "node 6 .*many, which has 7 entries"),
    "where before 0": (changed(SAMPLE, "lhs", 6, -1), "node 6 .*many"),
    "condition of later": (changed(SAMPLE, "many", 0, 7), "node 6 .*operand 0 is an earlier"),
    "side of later": (changed(SAMPLE, "many", 2, 6), "node 6 .*operand 2 is an earlier"),
    "take of none": (changed(SAMPLE, "rhs", 7, 0), "node 7 .*rhs >= 1"),
    "take of fewer than none": (changed(SAMPLE, "rhs", 7, -1), "node 7 .*rhs >= 1"),
    "take past the end": (changed(SAMPLE, "lhs", 7, 6), "node 7 .*many"),
    "candidates past the end": (changed(SAMPLE, "rhs", 7, 3), "node 7 .*many"),
    "candidates before 0": (changed(SAMPLE, "many", 4, -1), "node 7 .*many"),
    "slot past the end": (changed(SAMPLE, "many", 3, 1), "node 7 .*slot.*0 to 0"),
    "slot below 0": (changed(SAMPLE, "many", 3, -1), "node 7 .*slot"),
    "candidate of later": (changed(SAMPLE, "many", 6, 7), "node 7 .*candidate is an earlier"),
    "candidate below 0": (changed(SAMPLE, "many", 5, -1), "node 7 .*candidate"),
    "index past the end": (changed(SAMPLE, "index", 0, 2), "node 7 .*one of its candidates"),
    "index below 0": (changed(SAMPLE, "index", 0, -1), "node 7 .*one of its candidates"),
    "output past the end": (changed(SAMPLE, "outputs", 1, 9), "output 1 is node 9: .*0 to 8"),
    "output below 0": (changed(SAMPLE, "outputs", 2, -1), "output 2 is node -1"),
    "more leaves than nodes": (replace(SAMPLE, leaves=10), "leaves must be between 0 and 9"),
    "fewer leaves than none": (replace(SAMPLE, leaves=-1), "leaves must be between 0 and 9"),
    "one leaf too many": (replace(SAMPLE, leaves=4), "node 3 .*leaves come first"),
    "one leaf too few": (replace(SAMPLE, leaves=2), "node 2 .*no leaf comes after"),
    "lhs too short": (replace(SAMPLE, lhs=SAMPLE.lhs[:-1]), "lhs has 8 entries, op has 9"),
    "rhs too long": (replace(SAMPLE, rhs=np.append(SAMPLE.rhs, SAMPLE.rhs)), "rhs has 18 entries"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught_and_named(fault: str) -> None:
    tape, message = FAULTS[fault]
    with pytest.raises(VerifyError, match=f"tape: .*{message}"):
        verify(tape)


@pytest.mark.parametrize("name", ["op", "lhs", "rhs", "const", "many", "index", "outputs"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda array: array.tolist(),
        lambda array: array.astype(np.float32),
        lambda array: array.reshape(1, -1),
        lambda array: np.repeat(np.append(array, array), 2)[::2],
        lambda array: None,
    ],
)
def test_arrays_of_another_kind_are_caught(name: str, spoil: Callable[[Any], Any]) -> None:
    tape = replace(SAMPLE, **{name: spoil(getattr(SAMPLE, name))})
    with pytest.raises(VerifyError, match=f"tape: {name} must "):
        verify(tape)


def test_every_array_of_a_tape_is_looked_at() -> None:
    arrays = [f.name for f in fields(Tape) if f.name != "leaves"]
    assert set(arrays) == {"op", "lhs", "rhs", "const", "many", "index", "outputs"}


def test_random_faults_are_caught_exactly_where_a_rule_is_broken() -> None:
    caught = passed = 0
    for seed in range(COUNT):
        rng = random.Random(seed)
        tape = random_tape(seed)
        for _ in range(10):
            name = rng.choice(["op", "lhs", "rhs", "many", "index", "outputs"])
            if not len(getattr(tape, name)):
                continue
            entry = rng.choice([rng.randint(-2, len(tape) + 1), rng.randint(0, 29)])
            place = rng.randrange(len(getattr(tape, name)))
            broken = changed(tape, name, place, max(entry, 0) if name == "op" else entry)
            if is_valid(broken):
                passed += 1
                data, grad = np.ones(len(tape)), np.ones(len(tape))
                replay = Replay(verify(broken), data.data, grad.data)
                replay.forward()
                replay.backward()
            else:
                caught += 1
                with pytest.raises(VerifyError):
                    verify(broken)
    assert caught > COUNT
    assert passed > COUNT


def test_a_large_tape_passes() -> None:
    x = y = Value(1.0)
    for k in range(100_000 if scalargrad.compiled else 5_000):
        y = Value.apply("where", x, y * x, y) if k % 4 else (y * x).relu() + x
    verify(Graph(y).tape)
