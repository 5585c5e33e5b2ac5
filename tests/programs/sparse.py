"""Programs without structure: a sparse random network, and random operations."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import Any

from scalargrad import Value, maximum, ops

from .case import Case, Made


def network(nodes: int = 200, inputs: int = 10, fan_in: int = 4) -> Case:
    """Every neuron reads some earlier ones, at random; all are compared with the largest input."""

    def make(rng: random.Random) -> Made:
        wires = [
            [rng.randrange(inputs + k) for _ in range(rng.randint(1, fan_in))] for k in range(nodes)
        ]
        w = [[Value(rng.gauss(0.0, 0.7)) for _ in sources] for sources in wires]

        def run(x: list[Value], _: list[Any]) -> Value:
            values = list(x)
            largest = Value.apply("detach", functools.reduce(maximum, x))
            for sources, weights in zip(wires, w):
                total = sum(a * values[s] for a, s in zip(weights, sources)) - largest
                values.append(total.tanh() if len(sources) % 2 else total.relu())
            return sum(values[-inputs:])

        return [v for row in w for v in row], run

    return Case(f"sparse network, {nodes} neurons", make, inputs)


EXPONENTS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)
SLOPES = (0.01, 0.2, 0.0)
NAMES = tuple(row.name for row in ops.TABLE)
FREQUENT = ("add", "mul", "sub") * 4


def operations(seed: int, steps: int = 30, choices: int = 2) -> Case:
    """Any operations of the op table on any earlier results: shared, repeated, dead, constant.

    Some `take` by an integer argument, which all have 4 candidates.
    """
    shape = random.Random(seed)
    inputs, parameters = shape.randint(0, 4), shape.randint(0, 4)

    def make(rng: random.Random) -> Made:
        # The same seed draws the same program every time; the numbers are drawn from `rng`.
        random.Random(seed)
        values = [Value(rng.choice((rng.uniform(-2, 2), 0.0, 1.0))) for _ in range(parameters)]

        def run(x: list[Value], i: list[Any]) -> Value:
            rng = random.Random(seed + 1)
            results: list[Any] = [*values, *x]
            if not results:
                results.append(Value(0.5))
            for _ in range(steps):
                results.append(_step(rng, results, i))
            return results[-1]

        return values, run

    return Case(
        f"random operations {seed}",
        make,
        inputs,
        (4,) * choices,
        lambda rng: rng.choice((rng.uniform(-2, 2), rng.uniform(-2, 2), 0.0, 1.0)),
    )


def _step(rng: random.Random, results: Sequence[Any], chosen: Sequence[Any]) -> Value:
    row = ops.BY_NAME[rng.choice(NAMES + FREQUENT)]
    selects = row.name == "take" and bool(chosen) and rng.random() < 0.7
    arity = 4 if selects else row.arity or rng.randint(1, 4)
    operands = [_operand(rng, results, place) for place in range(arity)]
    if selects:
        operands = [x if isinstance(x, Value) else Value(x) for x in operands]
        taken: Value = rng.choice(chosen).take(operands)
        return taken
    const = 0.0
    if row.constant:
        const = {
            "exponent": rng.choice(EXPONENTS),
            "slope": rng.choice(SLOPES),
            "index": float(rng.randrange(arity)),
        }[row.constant]
    return Value.apply(row.name, *operands, const=const)


def _operand(rng: random.Random, results: Sequence[Any], place: int) -> Any:
    kind = rng.random()
    if kind < 0.1 and place > 0:
        return rng.choice((0.0, 1.0, -1.0, 2.0, 0.5))
    if kind < 0.6:
        return rng.choice(results)
    return rng.choice(results[-4:])


def dag(nodes: int = 1000, inputs: int = 50, window: int | None = None) -> Case:
    """Random sums, products and functions of any earlier two results (or the last `window`)."""

    def make(rng: random.Random) -> Made:
        def run(x: list[Value], _: list[Any]) -> Value:
            rng = random.Random(1)
            results, unused = list(x), set(range(inputs))
            for k in range(inputs, nodes):
                lowest = 0 if window is None else max(0, k - window)
                a, b = rng.randrange(lowest, k), rng.randrange(lowest, k)
                kind = rng.random()
                if kind < 0.4:
                    results.append(results[a] + results[b])
                elif kind < 0.8:
                    results.append(results[a] * results[b])
                else:
                    results.append((results[a] - results[b]).tanh())
                unused -= {a, b}
                unused.add(k)
            return sum(results[k].tanh() for k in sorted(unused))

        return [], run

    return Case(f"random graph of {nodes} nodes", make, inputs)
