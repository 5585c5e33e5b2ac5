"""Random programs, compiled: the eager engine's bits, for values and every gradient.

The programs have parameters, numbers and integers as arguments, comparisons that branch, indices
that select, and results that are shared, dead, duplicated or constant. Each is called again with
other arguments and other parameters, which takes other branches.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import generated
import scalargrad as sg
from scalargrad import Value, functional, replay
from scalargrad.compiler import CompiledFunction, compile, trace, variant
from scalargrad.compiler.condition import RELATIONS
from scalargrad.compiler.variant import Variant
from scalargrad.errors import TraceError
from strategies import on_values, same_bits, wild_programs

pytestmark = pytest.mark.pure

PROGRAMS = 50_000 if generated.LONG else 2_000
BATCHES = 10_000 if generated.LONG else 400


class Branching:
    """A random function of parameters, numbers and integers that branches and selects.

    It is straight-line code from `generated`, interspersed with statements of this kind:
    `v9 = v3 if v2 < v5 else v4 + v7` and `v10 = take([v1, v4, v8], n)`.
    """

    def __init__(self, rng: random.Random, branches: bool = True) -> None:
        self.program = generated.program(rng)
        count = len(self.program.inputs)
        self.parameters = [Value(x) for x in self.program.inputs[: rng.randint(0, count)]]
        self.numbers = count - len(self.parameters)
        self.integers = rng.choice((0, 0, 1, 2))
        self.seed = rng.random()
        self.branches = branches
        self.outputs = rng.choice((1, 1, 2, 3))

    def __call__(self, numbers: Sequence[Any], integers: Sequence[Any]) -> Any:
        rng = random.Random(self.seed)
        results = [*self.parameters, *numbers]
        for step in self.program.steps:
            operands = [results[x] if isinstance(x, int) else x.number for x in step.operands]
            made = on_values(step.op, operands, step.constant)
            results.append(self._statement(rng, results, made, integers))
        if self.outputs == 1:
            return results[-1]
        return {"last": results[-1], "some": rng.choices(results, k=self.outputs - 1)}

    def _statement(
        self, rng: random.Random, results: list[Any], made: Value, integers: Sequence[Any]
    ) -> Any:
        kind, a, b = rng.random(), rng.choice(results), rng.choice(results)
        if kind < 0.1 and self.branches:
            if a < b:
                return made
            return a + made if made > b or not a else b
        if kind < 0.15 and self.branches:
            return max(a, b, made)
        if kind < 0.25:
            return sg.where(a >= b, made, a)
        if kind < 0.35 and integers:
            return sg.take([a, b, made], rng.choice(integers))
        if kind < 0.4 and integers:
            return made + rng.choice(integers) * a
        return made

    def arguments(self, rng: random.Random) -> tuple[list[float], list[int]]:
        numbers = [generated.number(rng) for _ in range(self.numbers)]
        return numbers, [rng.randrange(3) for _ in range(self.integers)]


def eager(f: Branching, numbers: list[float], integers: list[int]) -> tuple[Any, list[float]]:
    """Results and gradients of the numbers, added into the parameters."""
    leaves = [Value(x) for x in numbers]
    result = f(leaves, integers)
    if f.outputs == 1:
        result.backward()
        return [result.data], [x.grad for x in leaves]
    return [result["last"].data, *(x.data for x in result["some"])], []


def gradients(f: Branching) -> list[float]:
    return [p.grad for p in f.parameters]


def disagreement(rng: random.Random, f: Branching, compiled: CompiledFunction) -> str:
    """What a call of the compiled function gets wrong; "" if nothing."""
    numbers, integers = f.arguments(rng)
    for p in f.parameters:
        p.grad = 0.0
    eager(f, numbers, integers)
    from_zero = {p: p.grad for p in f.parameters}
    for p in f.parameters:
        p.grad = rng.choice((0.0, -0.0, 0.1))
    before = gradients(f)
    values, at_numbers = eager(f, numbers, integers)
    expected = gradients(f)
    for p, grad in zip(f.parameters, before):
        p.grad = grad
    if f.outputs > 1:
        out = compiled(numbers, integers)
        return "" if same_bits([out["last"], *out["some"]], values) else "values"
    if not same_bits([compiled(numbers, integers)], values):
        return "value"
    value, (at_0, at_w) = compiled.value_and_grad(numbers, integers, wrt=(0, "parameters"))
    if not same_bits([value], values) or not same_bits(at_0, at_numbers):
        return "value_and_grad of the arguments"
    if not same_bits(at_w, [from_zero[p] for p in compiled.parameters]):
        return "value_and_grad of the parameters"
    if gradients(f) != before:
        return "value_and_grad wrote gradients"
    if not same_bits([compiled.backward(numbers, integers)], values):
        return "value of backward"
    return "" if same_bits(gradients(f), expected) else "backward of the parameters"


def change(rng: random.Random, f: Branching) -> None:
    for p in f.parameters:
        p.data = generated.number(rng)


def check(seed: int, calls: int = 3) -> str:
    rng = random.Random(seed)
    f = Branching(rng)
    compiled = compile(f, backend="interpreter")
    for call in range(calls):
        wrong = disagreement(rng, f, compiled)
        if wrong:
            return f"seed {seed}, call {call}: {wrong}\n{f.program}"
        change(rng, f)
    return ""


def test_compiled_is_eager_bit_for_bit() -> None:
    for seed in range(PROGRAMS):
        assert not check(seed)


@given(wild_programs(), st.integers(0, 2**32))
@settings(max_examples=100)
def test_compiled_is_eager_on_wild_numbers(program: Any, seed: int) -> None:
    rng = random.Random(seed)
    first = rng.randint(0, len(program.inputs))
    parameters = [Value(x) for x in program.inputs[:first]]
    f = compile(lambda *x: program(*parameters, *x), backend="interpreter")
    for _ in range(2):
        leaves = [Value(x) for x in program.inputs[first:]]
        result = program(*parameters, *leaves)
        for p in parameters:
            p.grad = 0.0
        result.backward()
        expected = [p.grad for p in parameters]
        for p in parameters:
            p.grad = 0.0
        assert same_bits([f.backward(*program.inputs[first:])], [result.data])
        assert same_bits([p.grad for p in parameters], expected)
        for p in parameters:
            p.data = rng.choice(program.inputs)


def batch_disagreement(seed: int, reduce: str) -> str:
    rng = random.Random(seed)
    f = Branching(rng, branches=False)
    f.outputs = 1
    if f.numbers + f.integers == 0:
        return ""
    compiled = compile(lambda x: f(x[0], x[1]), batch=reduce, backend="interpreter")
    for _ in range(2):
        rows = [f.arguments(rng) for _ in range(rng.choice((1, 2, 3, 7)))]
        shared = rng.random() < 0.3 and f.numbers > 0 and f.integers > 0
        if shared:
            rows = [(rows[0][0], integers) for _, integers in rows]
        for p in f.parameters:
            p.grad = rng.choice((0.0, 0.1))
        before = gradients(f)
        leaves = [[Value(x) for x in numbers] for numbers, _ in rows]
        if shared:
            leaves = [leaves[0]] * len(rows)
        results = [f(x, integers) for x, (_, integers) in zip(leaves, rows)]
        total = (functional.mean if reduce == "mean" else functional.total)(results)
        total.backward()
        expected = gradients(f)
        for p, grad in zip(f.parameters, before):
            p.grad = grad
        columns: Any = ([list(numbers) for numbers, _ in rows], [list(n) for _, n in rows])
        if shared:
            columns = (tuple(rows[0][0]), columns[1])
        wrt = (0,) if f.numbers else ("parameters",)
        value, (at_x,) = compiled.value_and_grad(columns, wrt=wrt)
        if not same_bits([value], [total.data]):
            return f"seed {seed}: value"
        if not f.numbers:
            at_x = [[]]
        found = at_x[0] if shared else [g for row in at_x[0] for g in row]
        wanted = leaves[0] if shared else [x for row in leaves for x in row]
        if not same_bits(found, [x.grad for x in wanted]):
            return f"seed {seed}: gradient of the arguments"
        if not same_bits([compiled.backward(columns)], [total.data]):
            return f"seed {seed}: value of backward"
        if not same_bits(gradients(f), expected):
            return f"seed {seed}: gradient of the parameters"
        change(rng, f)
    return ""


@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_a_batch_is_the_eager_loop_bit_for_bit(reduce: str) -> None:
    for seed in range(BATCHES):
        assert not batch_disagreement(seed, reduce)


# --- faults that these tests must see -----------------------------------------------------------


def seen(check: Callable[[int], str], seeds: int = 300) -> bool:
    """Whether a check finds the fault: by other numbers, or because a program contradicts itself."""
    try:
        return any(check(seed) for seed in range(seeds))
    except TraceError:
        return True


def test_a_program_without_guards_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Variant, "flipped", lambda self, outputs: None)
    assert seen(check)


def test_an_index_of_the_first_call_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = trace._indexed

    def fixed(tape: Any, nodes: Any, tracer: Any) -> Any:
        tracer.indices.clear()
        return genuine(tape, nodes, tracer)

    monkeypatch.setattr(trace, "_indexed", fixed)
    assert seen(check)


def test_parameters_of_the_first_call_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_then(values: list[Value], data: memoryview, grad: memoryview) -> Any:
        return replay.Mirror([Value(v.data) for v in values], data, grad)

    monkeypatch.setattr(variant, "Mirror", of_then)
    assert seen(check)


def test_a_condition_the_wrong_way_round_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RELATIONS, operator.ge, ("less", True, ">="))
    assert seen(check)


def test_examples_in_ascending_order_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = Variant.backward

    def ascending(self: Variant, rows: Any, seed: float, out: Any, accumulate: bool) -> Any:
        turned = None if out is None else out[::-1].copy()
        outputs = genuine(self, rows[::-1].copy(), seed, turned, accumulate)
        if out is not None:
            out[:] = turned[::-1]
        return outputs[::-1].copy()

    monkeypatch.setattr(Variant, "backward", ascending)
    assert seen(lambda seed: batch_disagreement(seed, "sum"))
