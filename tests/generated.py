"""Random programs from a seed: thousands a second, where Hypothesis draws tens.

The programs are `strategies.Program`s. Every operation occurs, with shared and duplicate operands,
dead code, n-ary selections, literals, and several outputs. Numbers are drawn so that poles, kinks
and branches not taken are common.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence

from scalargrad import Graph, Value, ops
from strategies import Literal, Program, Step, on_values

LONG = os.environ.get("SCALARGRAD_HYPOTHESIS") == "long"
COUNT = 200_000 if LONG else 10_000  # programs in a property test

EXPONENTS = (2.0, 2.0, 3.0, 1.0, 0.0, -1.0, 0.5, -0.5, 1.5, -2.0)
SLOPES = (0.01, 0.2, 0.0, 0.0, -0.5)
PLAIN = ("add", "mul", "sub", "neg", "add", "mul")  # as frequent as they are in real programs
# Where a side that is not taken is often inf or nan.
DARING = (
    *("where", "where", "maximum", "minimum", "relu", "take", "abs", "leaky_relu", "less"),
    *("log", "sqrt", "div", "pow", "power", "exp", "mul", "mul", "add", "tanh"),
)


def number(rng: random.Random) -> float:
    """A number a program might meet; now and then an extreme one."""
    kind = rng.random()
    if kind < 0.6:
        return rng.gauss(0.0, 1.5)
    if kind < 0.9:
        return rng.choice((0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 3.0))
    return rng.choice((1e-3, -1e-9, 30.0, -40.0, 800.0, -800.0, 1e-310, 5e-324, 1e160))


def _constant(rng: random.Random, name: str, arity: int) -> float:
    kind = ops.BY_NAME[name].constant
    if kind == "exponent":
        return rng.choice(EXPONENTS)
    if kind == "slope":
        return rng.choice(SLOPES)
    return float(rng.randrange(arity)) if kind == "index" else 0.0


def _step(rng: random.Random, slots: int, names: Sequence[str]) -> Step:
    name = rng.choice(names)
    arity = ops.BY_NAME[name].arity or rng.randint(1, 4)
    # Recent results more often, so that programs are deep as well as wide.
    operands: list[int | Literal] = [
        rng.randrange(slots) if rng.random() < 0.5 else max(0, slots - 1 - rng.randrange(4))
        for _ in range(arity)
    ]
    if arity == 2 and rng.random() < 0.2:
        operands[0 if name == "power" else rng.randrange(2)] = Literal(number(rng))
    return Step(name, tuple(operands), _constant(rng, name, arity))


def program(
    rng: random.Random, size: int = 14, names: Sequence[str] = tuple(ops.BY_NAME)
) -> Program:
    """A program of at most `size` steps on one to four inputs."""
    inputs = tuple(number(rng) for _ in range(rng.randint(1, 4)))
    likely = DARING if rng.random() < 0.4 else (*names, *PLAIN)
    allowed = [name for name in likely if name in names]
    count = rng.randint(1, size)
    steps = [_step(rng, len(inputs) + k, allowed) for k in range(count)]
    return Program(inputs, tuple(steps))


def run(program: Program, inputs: Sequence[float] | None = None) -> tuple[list[Value], list[Value]]:
    """The input Values and every Value computed, inputs first."""
    leaves = [Value(x) for x in (program.inputs if inputs is None else inputs)]
    return leaves, program.run(leaves, on_values)


def some_outputs(rng: random.Random, results: Sequence[Value]) -> list[Value]:
    """The last result, and perhaps others, leaves and duplicates too."""
    outputs = [results[-1]]
    if rng.random() < 0.3:
        outputs += rng.choices(results, k=rng.randint(1, 3))
    return outputs


# --- what may be expected of a derivative built as a graph ---------------------------------------


def _taken(node: Value, name: str) -> list[Value]:
    """The operands whose numbers the result really depends on."""
    operands = list(node.operands)
    if name in ("less", "less_equal"):
        return []
    if name == "where":
        return [operands[1] if operands[0].data != 0.0 else operands[2]]
    if name in ("take", "maximum", "minimum", "relu", "leaky_relu", "abs"):
        return [x for x, partial in zip(operands, node._local_grads) if partial != 0.0]
    return operands


def is_promised(outputs: Sequence[Value], results: Sequence[Value]) -> bool:
    """Whether the program is one whose derivative is promised bit for bit.

    Every number that was used is finite, and those that are not finite come from a pole or `exp`,
    not from the overflow of a sum or a product. And no gradient overflows: where one is infinite,
    it is at a root of 0 or below it.
    """
    for node in results:
        begins = not math.isfinite(node.data) and all(math.isfinite(x.data) for x in node.operands)
        whole = node.op == "pow" and node.const >= 0.0 and node.const.is_integer()
        if begins and (whole or node.op not in ("div", "pow", "power", "exp", "log", "sqrt")):
            return False
    waiting, seen = list(outputs), set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if not math.isfinite(node.data):
            return False
        waiting += _taken(node, node.op)
        if not _is_root(node) and not all(math.isfinite(d) for d in node._local_grads):
            return False
    return not _overflows(outputs)


def _is_root(node: Value) -> bool:
    return node.op in ("sqrt", "power") or (node.op == "pow" and 0.0 < node.const < 1.0)


def _overflows(outputs: Sequence[Value]) -> bool:
    """Whether finite numbers give an infinite gradient anywhere but at a root."""
    gradients: dict[Value, float] = {}
    for output in outputs:
        gradients[output] = gradients.get(output, 0.0) + 1.0
    for node in reversed(Graph(outputs).nodes):
        g = gradients.get(node, 0.0)
        for operand, d in zip(node.operands, node._local_grads):
            if g == 0.0 or (d == 0.0 and node.op != "mul"):
                continue
            before = gradients.get(operand, 0.0)
            gradients[operand] = before + d * g
            if math.isfinite(gradients[operand]) or not math.isfinite(before):
                continue
            if math.isfinite(g) and (math.isfinite(d) or not _is_root(node)):
                return True
    return False
