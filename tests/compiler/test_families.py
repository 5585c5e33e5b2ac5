"""Selections among the rows of a table: the bits of the engine, and work for the rows chosen only."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scalargrad as sg
from scalargrad import Value, losses, nn, optim
from scalargrad.compiler import compile, families, jit
from scalargrad.compiler.families import in_families
from scalargrad.compiler.flatten import flatten
from scalargrad.compiler.loops import Contract, Loops, Operand, Scatter, Space, Take
from scalargrad.compiler.loops_check import verify
from scalargrad.compiler.marks import marks_of_trace
from scalargrad.compiler.reference import execute
from scalargrad.compiler.roll import roll
from scalargrad.compiler.stats import Stats
from scalargrad.errors import VerifyError

pytest.importorskip("llvmlite")


@pytest.fixture(autouse=True)
def _short_lists() -> Iterator[None]:
    """Short lists, too, are none; and every call waits for native code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "FEW", 2)
        patch.setattr(jit, "PATIENCE", 0)
        patch.setattr(jit, "TIERED", ())
        yield


def parameters(rng: random.Random, *shape: int) -> Any:
    if not shape:
        return Value(rng.gauss(0.0, 1.0))
    return [parameters(rng, *shape[1:]) for _ in range(shape[0])]


# --- programs: of a table, a row of weights and the tokens ------------------------------------------

Program = Callable[[Any, Any, Any], Value]


def bag(table: Any, w: Any, tokens: Any) -> Value:
    rows = [sg.take(table, token) for token in tokens]
    return sg.dot([sg.total(column).tanh() for column in zip(*rows)], w)


def recurrence(table: Any, w: Any, tokens: Any) -> Value:
    h = [0.5 * wk for wk in w]
    for token in tokens:
        h = [(a * b - x).tanh() for a, b, x in zip(h, w, sg.take(table, token))]
    return sg.total(h)


def plain_sum(table: Any, w: Any, tokens: Any) -> Value:
    rows = [sg.take(table, token) for token in tokens]
    return sg.total(x if k % 2 else -x for row in rows for k, x in enumerate(row))


def pairs(table: Any, w: Any, tokens: Any) -> Value:
    """Tokens in no order, some of them twice."""
    order = random.Random(1).choices(range(len(tokens)), k=3 * len(tokens))
    rows = [sg.take(table, tokens[k]) for k in order]
    return sg.total(a * b for one, two in pairwise(rows) for a, b in zip(one, two))


def untaken(table: Any, w: Any, tokens: Any) -> Value:
    rows = [sg.take(table, token) for token in tokens]
    zero = w[0] * 0.0
    return sg.total(sg.where(x > 0.0, x * wk, zero) for row in rows for x, wk in zip(row, w))


def decayed(table: Any, w: Any, tokens: Any) -> Value:
    """The whole table is used, after all tokens."""
    return bag(table, w, tokens) + 0.1 * sg.total(x * x for row in table for x in row)


def tied(table: Any, w: Any, tokens: Any) -> Value:
    """The whole table is used between the tokens."""
    loss = Value(0.0)
    for one, two in pairwise(tokens):
        x = sg.take(table, one)
        loss = loss + losses.cross_entropy([sg.dot(row, x) for row in table], two)
    return loss * w[0]


def begun(table: Any, w: Any, tokens: Any) -> Value:
    """One row is used before all tokens."""
    return bag(table, [a * b for a, b in zip(w, sg.take(table, 1))], tokens)


def uneven(table: Any, w: Any, tokens: Any) -> Value:
    """Of some rows only some columns are used."""
    rows = [sg.take(table, token)[: 1 + k % len(w)] for k, token in enumerate(tokens)]
    return sg.total((x * wk).tanh() for row in rows for x, wk in zip(row, w))


def halves(table: Any, w: Any, tokens: Any) -> Value:
    """Two tables that have rows in common."""
    return bag(table, w, tokens) + bag(table[1:] + table[:1], w, tokens[:1])


def shifted(table: Any, w: Any, tokens: Any) -> Value:
    """Two lists that overlap, in turn."""
    numbers = [x for row in table for x in row]
    lists = numbers[:-1], numbers[1:]
    chosen = [sg.take(lists[k % 2], token) for k, token in enumerate(tokens)]
    return sg.total((x * w[k % len(w)]).tanh() for k, x in enumerate(chosen))


SCATTERED: dict[str, Program] = {
    f.__name__: f for f in (bag, recurrence, plain_sum, pairs, untaken, uneven)
}
PROGRAMS = SCATTERED | {f.__name__: f for f in (decayed, tied, begun, halves, shifted)}


def bits(numbers: Any) -> list[int]:
    found: list[int] = np.asarray(numbers, np.float64).ravel().view(np.int64).tolist()
    return found


def eager(f: Program, table: Any, w: Any, examples: list[list[int]], batch: str | None) -> Value:
    if batch is None:
        return f(table, w, examples[0])
    total = sg.total([f(table, w, tokens) for tokens in examples])
    return total / len(examples) if batch == "mean" else total


@pytest.mark.parametrize("backend", ["llvm", "interpreter"])
@pytest.mark.parametrize("batch", [None, "mean", "sum"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_have_the_bits_of_the_engine(name: str, batch: Any, backend: Any) -> None:
    rng = random.Random(7)
    f, table, w = PROGRAMS[name], parameters(rng, 5, 6), parameters(rng, 6)
    examples = [[rng.randrange(5) for _ in range(7)] for _ in range(9)]
    given_ = examples[0] if batch is None else np.array(examples)
    compiled = compile(lambda tokens: f(table, w, tokens), batch=batch, backend=backend)
    found, gradient = compiled.value_and_grad(given_)
    loss = eager(f, table, w, examples, batch)
    loss.backward()
    assert bits(found) == bits(loss.data)
    assert bits(gradient) == bits([p.grad for p in compiled.parameters])
    before = [p.grad for p in compiled.parameters]
    compiled.backward(given_)
    again = [p.grad for p in compiled.parameters]
    for p, grad in zip(compiled.parameters, before):
        p.grad = grad
    eager(f, table, w, examples, batch).backward()
    assert bits(again) == bits([p.grad for p in compiled.parameters])


def rolled(f: Program, table: Any, w: Any, uses: int, batch: Any) -> tuple[Loops, Any]:
    """The loops of the loss and its gradient, and the compiled function."""
    compiled = compile(lambda tokens: f(table, w, tokens), batch=batch)
    tokens: Any = [1] * uses if batch is None else [[1] * uses]
    trace = compiled.trace(tokens)
    marks = marks_of_trace(trace, batch, (Space.PARAMETER,))
    return roll(trace.tape, marks, check=True), compiled


@pytest.mark.parametrize("batch", [None, "mean"])
@pytest.mark.parametrize("name", PROGRAMS)
@given(data=st.data())
@settings(max_examples=8)
def test_the_reference_has_the_bits_of_the_engine(
    name: str, batch: Any, data: st.DataObject
) -> None:
    rng = random.Random(data.draw(st.integers(0, 10**6)))
    rows, width, uses = (data.draw(st.integers(3, 7)) for _ in range(3))
    f, table, w = PROGRAMS[name], parameters(rng, rows, width), parameters(rng, width)
    loops, traced = rolled(f, table, w, uses, batch)
    scatters = [step for step in loops.nests if isinstance(step, Scatter)]
    if name in SCATTERED or batch is None:
        assert bool(scatters) == (name not in ("tied", "begun", "shifted"))
    assert all(step.over == (batch is not None) for step in scatters)
    count = 1 if batch is None else data.draw(st.integers(1, 5))
    examples = [[rng.randrange(rows) for _ in range(uses)] for _ in range(count)]
    values = traced.parameters
    inputs: dict[Space, Any] = {Space.PARAMETER: [v.data for v in values]}
    if batch is None:
        inputs |= {Space.INDEX: examples[0], Space.ARGUMENT: np.array(examples[0], float)}
    else:
        inputs |= {Space.EXAMPLE_INDEX: examples, Space.EXAMPLE: np.array(examples, float)}
        inputs |= {Space.INDEX: [0] * uses, Space.ARGUMENT: [0.0] * uses}
    out = execute(loops, {s: x for s, x in inputs.items() if loops.size(s)}, len(examples))
    loss = eager(f, table, w, examples, batch)
    loss.backward()
    assert bits(out[Space.OUTPUT]) == bits([loss.data])
    assert bits(out[Space.PARAMETER_GRADIENT]) == bits([v.grad for v in values])


def test_what_is_found_grows_neither_with_the_table_nor_with_its_uses() -> None:
    live = []
    for rows, uses in ((50, 2), (50, 20), (500, 20)):
        rng = random.Random(0)
        table, w = parameters(rng, rows, 3), parameters(rng, 3)
        trace = compile(partial(bag, table, w)).trace([1] * uses)
        marks, stats = marks_of_trace(trace, None, (Space.PARAMETER,)), Stats()
        loops = roll(trace.tape, marks, stats=stats)
        assert len([step for step in loops.nests if isinstance(step, Scatter | Take)]) == 2
        live.append(stats.live)
    assert live[1] - live[0] < 18 * 3 * 4  # a few nodes for each use of a column
    assert live[2] == live[1]


def one_of(values: Any, w: Any, n: Any) -> Value:
    chosen: Value = sg.take(values, n)
    return chosen * w[0] + sg.total(w)


def test_lists_that_are_short_or_uneven_are_spelled_out() -> None:
    w = parameters(random.Random(0), 9)
    for values, brief in ((w[:2], False), (w[:3], True), (w[::2], True), ([*w[:3], w[5]], False)):
        trace = compile(partial(one_of, values, w)).trace(1)
        found = in_families(trace.tape, marks_of_trace(trace))
        assert found.any() == brief
        flat, _ = flatten(trace.tape, marks_of_trace(trace))
        assert ("..." in str(flat)) == brief


def test_one_index_of_a_batch_may_be_the_same_for_all_examples() -> None:
    rng = random.Random(5)
    table, w = parameters(rng, 5, 3), parameters(rng, 3)
    f = compile(lambda tokens, n: recurrence(table, w, [*tokens, n]), batch="sum", backend="llvm")
    examples = [[rng.randrange(5) for _ in range(4)] for _ in range(20)]
    _, gradient = f.value_and_grad(np.array(examples), 2)
    eager(recurrence, table, w, [[*tokens, 2] for tokens in examples], "sum").backward()
    assert bits(gradient) == bits([p.grad for p in f.parameters])


@pytest.mark.parametrize("batch", [None, "sum"])
def test_a_table_may_be_an_argument(batch: Any) -> None:
    rng = np.random.default_rng(2)
    f = compile(lambda table, n: sg.take(table, n)[1] ** 2, batch=batch, backend="llvm")
    tables, chosen = rng.normal(size=(6, 4, 3)), np.array([3, 0, 0, 1, 2, 3])
    if batch is None:
        found, gradient = f.value_and_grad(tables[0], 3)
        tables, chosen, gradient = tables[:1], chosen[:1], gradient[None]
    else:
        found, gradient = f.value_and_grad(tables, chosen)
    expected = np.zeros_like(tables)
    for k, n in enumerate(chosen):
        expected[k, n, 1] = 2.0 * tables[k, n, 1]
    assert bits(gradient) == bits(expected)
    assert found == pytest.approx(sum(tables[k, n, 1] ** 2 for k, n in enumerate(chosen)))


@pytest.mark.parametrize("wrong", [-1, 4])
def test_an_index_outside_the_table_is_an_error_on_every_call(wrong: int) -> None:
    table = parameters(random.Random(0), 4, 2)
    f = compile(lambda n: sg.total(sg.take(table, n)), backend="llvm")
    f.backward(3)
    before = [p.grad for p in f.parameters]
    with pytest.raises(IndexError, match=rf"n: index {wrong} is out of range for 4 values"):
        f.backward(wrong)
    assert [p.grad for p in f.parameters] == before


@pytest.mark.parametrize("penalty", [False, True])
@pytest.mark.parametrize("rule", [optim.SGD, optim.Adam])
def test_training_has_the_bits_of_the_eager_steps(rule: Any, penalty: bool) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            rng = random.Random(4)
            self.table, self.head = nn.Embedding(6, 3, rng=rng), nn.Linear(3, 6, rng=rng)

        def __call__(self, tokens: Any) -> list[Value]:
            rows = [self.table(token) for token in tokens]
            return self.head([sg.total(column).tanh() for column in zip(*rows)])

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, (12, 4)), rng.integers(0, 6, 12)
    learned = []
    for compiled in (False, True):
        model = Model()
        decay = (lambda m: 0.01 * sg.total(p * p for p in m.parameters())) if penalty else None
        trainer = sg.Trainer(
            model, losses.cross_entropy, rule(lr=0.1), penalty=decay, compile=compiled, seed=1
        )
        trainer.fit(x, y, epochs=3, batch_size=5)
        learned.append(bits([p.data for p in model.parameters()]))
    assert learned[0] == learned[1]


def test_explain_says_what_is_added_where() -> None:
    table, w = parameters(random.Random(0), 50, 3), parameters(random.Random(0), 3)
    f = compile(lambda tokens: bag(table, w, tokens), backend="llvm")
    f.value_and_grad([1, 2])
    shown = f.explain()
    assert "add 6 to those selected of 50" in shown
    assert "gp[j+3k] += t[" in shown
    assert " at k = i[1-i] of 50" in shown


def test_a_scatter_that_breaks_the_rules_is_named() -> None:
    table, w = parameters(random.Random(0), 5, 4), parameters(random.Random(0), 4)
    loops, _ = rolled(bag, table, w, 6, None)
    verify(loops)

    def changed(**changes: Any) -> Any:
        steps = [
            replace(step, **changes) if isinstance(step, Scatter) else step
            for step in loops.instructions
        ]
        return replace(loops, instructions=tuple(steps))

    (step,) = [step for step in loops.nests if isinstance(step, Scatter)]
    faults = {
        "PARAMETER_GRADIENT": {"count": 50},
        "cannot add to": {"result": step.result._replace(space=Space.TEMPORARY)},
        "goes over the batch": {"over": True},
        "not an integer argument": {"index": Operand(Space.ARGUMENT, 0, step.index.strides)},
        "strides": {"source": step.source._replace(strides=())},
        "is an integer, read as a number": {"source": step.index._replace()},
    }
    for message, fault in faults.items():
        with pytest.raises(VerifyError, match=message):
            verify(changed(**fault))
    fills = [s for s in loops.instructions if isinstance(s, Contract) and not s.groups]
    early = [s for s in loops.instructions if s is not fills[0]]
    with pytest.raises(VerifyError, match="not written yet"):
        verify(replace(loops, instructions=(*early, fills[0])))
