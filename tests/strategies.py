"""Random scalar programs for property tests, and ways to run them.

A `Program` is straight-line code: a few inputs, then steps, each one operation on earlier results
or literal numbers. It has everything a graph can have: shared and duplicate operands, dead code,
n-ary selections, and every operation of the op table. It runs on whatever numbers one gives it:

    program(*values)                    # Values, through the operators and methods users write
    program.run(inputs, apply)          # anything: apply(op name, operands, constant)

`programs()` draws well-behaved ones, whose results stay finite, moderate and away from kinks, so
that they can be compared with other arithmetic to a tolerance. `wild_programs()` draws any, with
zeros, infinities, nan and denormals among the numbers, for comparisons bit for bit.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import hypothesis.strategies as st
from hypothesis import settings

from scalargrad import Value, ops

# For tests of a single operation, which have less to search through than those of whole programs.
fewer_examples = settings(max_examples=max(25, settings.default.max_examples // 4))

SPECIAL_FLOATS = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 2.0, 3.0, math.pi),
    *(math.inf, -math.inf, math.nan),
    *(5e-324, -5e-324, 2.2250738585072014e-308, 1e-310),
    *(1.7976931348623157e308, -1.7976931348623157e308, 1e200, -1e200),
    *(1e-17, -1e-17, 1e-200, 36.7, -36.7, 709.78, 709.79, -745.13, -745.14),
    *(9007199254740993.0, 4503599627370497.5, -2.5, 0.1, -0.1),
)
EXPONENTS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.7, 2.0, 3.0)
SLOPES = (0.01, 0.2, -0.5, 0.0)

# How a user writes each operation; what is missing here has no syntax and goes through `apply`.
SYNTAX: dict[str, Callable[..., Value]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "power": operator.pow,
    "abs": abs,
    "relu": Value.relu,
    "exp": Value.exp,
    "log": Value.log,
    "sqrt": Value.sqrt,
    "tanh": Value.tanh,
    "sigmoid": Value.sigmoid,
    "sin": Value.sin,
    "cos": Value.cos,
    "softplus": Value.softplus,
    "gelu": Value.gelu,
    "erfc": Value.erfc,
    "pow": lambda a, exponent: a**exponent,
    "leaky_relu": lambda a, slope: a.leaky_relu(slope),
}


def on_values(name: str, operands: Sequence[Any], constant: float) -> Value:
    """The operation as a user writes it on Values (`a + b`, `a.relu()`)."""
    if name in SYNTAX:
        constants = (constant,) if ops.BY_NAME[name].constant else ()
        return SYNTAX[name](*operands, *constants)
    return Value.apply(name, *operands, const=constant)


def on_floats(name: str, operands: Sequence[float], constant: float) -> float:
    """The operation on plain floats, by the op table."""
    row = ops.BY_NAME[name]
    return row.forward(*operands, *((constant,) if row.constant else ()))


class Literal(NamedTuple):
    """A number written in the program's text."""

    number: float


class Step(NamedTuple):
    """One operation; an operand is the index of an earlier result (inputs first) or a literal."""

    op: str
    operands: tuple[int | Literal, ...]
    constant: float = 0.0

    def __str__(self) -> str:
        shown = [repr(x.number) if isinstance(x, Literal) else f"v{x}" for x in self.operands]
        text = ops.BY_NAME[self.op].text
        return text.format(*shown, c=self.constant, operands=", ".join(shown))


class Program(NamedTuple):
    """Straight-line code over scalars; its result is that of the last step."""

    inputs: tuple[float, ...]
    steps: tuple[Step, ...]

    def run(
        self, inputs: Iterable[Any], apply: Callable[[str, Sequence[Any], float], Any]
    ) -> list[Any]:
        """Every number the program computes, inputs first."""
        results = list(inputs)
        for step in self.steps:
            operands = [x.number if isinstance(x, Literal) else results[x] for x in step.operands]
            results.append(apply(step.op, operands, step.constant))
        return results

    def __call__(self, *inputs: Any) -> Any:
        return self.run(inputs, on_values)[-1]

    def __str__(self) -> str:
        first = len(self.inputs)
        lines = [f"v{k} = {x!r}" for k, x in enumerate(self.inputs)]
        lines += [f"v{first + k} = {step}" for k, step in enumerate(self.steps)]
        return "\n".join(lines)

    __repr__ = __str__


# --- when an operation is well-behaved ----------------------------------------------------------

SMALL, LARGE = 1e-2, 1e2

# The operands an operation is drawn for when results are to be compared to a tolerance: inside its
# domain, not so far out that it is flat, and not at a kink, where a derivative is a convention.
DOMAINS: dict[str, Callable[..., bool]] = {
    "div": lambda a, b: abs(b) > 0.1,
    "power": lambda a, b: 0.1 < a < 10.0 and abs(b) < 4.0,
    "pow": lambda a: 0.1 < a < 10.0,
    "log": lambda a: a > 0.1 and abs(a - 1.0) > 0.01,
    "sqrt": lambda a: a > 0.1,
    "exp": lambda a: abs(a) < 4.0,
    "sin": lambda a: abs(a) < 20.0,
    "cos": lambda a: abs(a) < 20.0,
    "relu": lambda a: abs(a) > 0.01,
    "abs": lambda a: abs(a) > 0.01,
    "leaky_relu": lambda a: abs(a) > 0.01,
    "tanh": lambda a: abs(a) < 4.0,
    "sigmoid": lambda a: abs(a) < 8.0,
    "softplus": lambda a: abs(a) < 8.0,
    "gelu": lambda a: abs(a) < 3.0,
    "erfc": lambda a: abs(a) < 3.0,
    "maximum": lambda a, b: abs(a - b) > 0.01,
    "minimum": lambda a, b: abs(a - b) > 0.01,
    "less": lambda a, b: abs(a - b) > 0.01,
    "less_equal": lambda a, b: abs(a - b) > 0.01,
}
ZERO_IS_FINE = ("relu", "less", "less_equal", "where", "take", "detach")


def _behaves(op: str, operands: Sequence[float], constant: float) -> bool:
    if op in DOMAINS and not DOMAINS[op](*operands):
        return False
    y = on_floats(op, operands, constant)
    return SMALL < abs(y) < LARGE or (y == 0.0 and op in ZERO_IS_FINE)


# --- drawing ------------------------------------------------------------------------------------


def moderate_floats() -> st.SearchStrategy[float]:
    """Numbers between 0.05 and 5 of either sign."""
    magnitude = st.floats(0.05, 5.0, allow_subnormal=False)
    return st.tuples(magnitude, st.sampled_from((1.0, -1.0))).map(lambda pair: pair[0] * pair[1])


def any_floats() -> st.SearchStrategy[float]:
    """Any float64, the special ones often."""
    return st.sampled_from(SPECIAL_FLOATS) | st.floats() | st.floats(-10.0, 10.0)


ALL_OPS = tuple(row.name for row in ops.TABLE)
# `detach` and `less` have no derivative to compare; the others do.
SMOOTH_OPS = tuple(name for name in ALL_OPS if name not in ("detach", "less", "less_equal"))
MICROGRAD_OPS = ("add", "sub", "mul", "div", "neg", "pow", "relu")


def _draw_constant(draw: st.DrawFn, op: str, arity: int, numbers: Any) -> float:
    constant = ops.BY_NAME[op].constant
    if constant == "index":
        return float(draw(st.integers(0, arity - 1)))
    if constant == "exponent":
        return draw(st.sampled_from(EXPONENTS) | numbers)
    return draw(st.sampled_from(SLOPES) | numbers) if constant else 0.0


def _draw_step(draw: st.DrawFn, op: str, slots: int, numbers: Any, literals: bool) -> Step:
    arity = ops.BY_NAME[op].arity or draw(st.integers(1, 5))
    # Later results more often than earlier ones, so that programs are deep as well as wide.
    slot = st.integers(0, slots - 1) | st.integers(max(0, slots - 3), slots - 1)
    operands: list[int | Literal] = [draw(slot) for _ in range(arity)]
    if literals and arity > 1 and op not in ("where", "take") and draw(st.integers(0, 3)) == 0:
        # `v ** 2.0` is the op "pow"; "power" has a Value as its exponent.
        place = 0 if op == "power" else draw(st.integers(0, arity - 1))
        operands[place] = Literal(draw(numbers))
    return Step(op, tuple(operands), _draw_constant(draw, op, arity, numbers))


@st.composite
def wild_programs(
    draw: st.DrawFn,
    names: Sequence[str] = ALL_OPS,
    max_steps: int = 16,
    max_inputs: int = 4,
    numbers: st.SearchStrategy[float] | None = None,
    literals: bool = True,
) -> Program:
    """Any program over the named operations, with any numbers."""
    numbers = any_floats() if numbers is None else numbers
    inputs = draw(st.lists(numbers, min_size=1, max_size=max_inputs))
    count = draw(st.integers(1, max_steps))
    steps = [
        _draw_step(draw, draw(st.sampled_from(names)), len(inputs) + k, numbers, literals)
        for k in range(count)
    ]
    return Program(tuple(inputs), tuple(steps))


@st.composite
def programs(
    draw: st.DrawFn,
    names: Sequence[str] = SMOOTH_OPS,
    max_steps: int = 16,
    max_inputs: int = 3,
    literals: bool = True,
) -> Program:
    """A program whose every result is finite, of moderate size and away from kinks.

    An operation that would misbehave on the operands drawn for it is replaced by a product, a
    difference or the like, whichever behaves first, so little that is drawn is thrown away.
    """
    numbers = moderate_floats()
    inputs = draw(st.lists(numbers, min_size=1, max_size=max_inputs))
    results, steps = list(inputs), []
    for _ in range(draw(st.integers(1, max_steps))):
        step = _draw_step(draw, draw(st.sampled_from(names)), len(results), numbers, literals)
        for candidate in (step, *_replacements(step, names, len(results))):
            operands = [
                x.number if isinstance(x, Literal) else results[x] for x in candidate.operands
            ]
            if _behaves(candidate.op, operands, candidate.constant):
                steps.append(candidate)
                results.append(on_floats(candidate.op, operands, candidate.constant))
                break
    if not steps:
        steps.append(Step("mul", (0, Literal(2.0))))
    return Program(tuple(inputs), tuple(steps))


def _replacements(step: Step, names: Sequence[str], slots: int) -> list[Step]:
    slot = next(x for x in step.operands if isinstance(x, int))
    other = (slot + 1) % slots
    tried = [
        Step("mul", (slot, other)),
        Step("tanh", (slot,)),
        Step("sub", (slot, Literal(0.3))),
        Step("mul", (slot, Literal(0.1))),
        Step("add", (slot, other)),
    ]
    turned = tried[slots % 5 :] + tried[: slots % 5]
    return [replacement for replacement in turned if replacement.op in names]


# --- comparing ----------------------------------------------------------------------------------


def bits(x: float) -> bytes:
    """The 64 bits of a float, with every nan the same."""
    return struct.pack("<d", math.nan if x != x else x)


def same_bits(xs: Iterable[float], ys: Iterable[float]) -> bool:
    """Whether two sequences of floats agree bit for bit, signs of zero included, nan as nan."""
    return [bits(x) for x in xs] == [bits(y) for y in ys]


def expected_gradients(
    program: Program, results: Sequence[float], visiting: Iterable[int] | None = None
) -> list[float]:
    """The gradients `backward` promises, computed from the op table by its rules alone.

    Reverse creation order (or `visiting`, other positions of steps in order, to see that order
    matters); a node of gradient 0 passes nothing on; nor does a partial of 0, but for products,
    which are plain IEEE arithmetic.
    """
    first = len(program.inputs)
    gradients = [0.0] * len(results)
    gradients[-1] = 1.0
    for k in reversed(range(len(program.steps))) if visiting is None else visiting:
        step, y, g = program.steps[k], results[first + k], gradients[first + k]
        row = ops.BY_NAME[step.op]
        if g == 0.0:
            continue
        data = [x.number if isinstance(x, Literal) else results[x] for x in step.operands]
        constants = (step.constant,) if row.constant else ()
        for operand, partial in zip(step.operands, row.partials(*data, *constants, y)):
            if isinstance(operand, int) and (partial != 0.0 or step.op == "mul"):
                gradients[operand] += partial * g
    return gradients
