"""Prints what the engine does with a table of expressions and with random programs.

A test runs this on the compiled and on the uncompiled engine, with several hash seeds, and
compares every character.

    python engine_report.py expressions
    python engine_report.py programs COUNT SEED
"""

from __future__ import annotations

import copy
import math
import operator
import pickle
import random
import re
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

import scalargrad
from scalargrad import Value, ops
from strategies import ALL_OPS, EXPONENTS, SLOPES, SPECIAL_FLOATS, on_values

NUMBERS = (
    *("1", "2.5", "-0.0", "True", "10**400", "2**60 + 1", "math.inf", "math.nan"),
    *("Fraction(1, 3)", "np.float32(0.1)", "np.int64(3)", "np.bool_(True)", "np.array(2)"),
    *("'1'", "b'1'", "1j", "None", "[1.0]", "(1,)", "{}", "{1}", "Decimal(1)", "Ellipsis"),
    *("np.array([1.0, 2.0])", "np.complex64(1)", "np.array('s')", "Value(3.0, 'y')"),
)
USES = (
    *("Value({0})", "set_data(x, {0})", "set_grad(x, {0})", "Value(1.0, {0})", "set_label(x, {0})"),
    *("x + {0}", "{0} + x", "x - {0}", "{0} - x", "x * {0}", "{0} * x", "x / {0}", "{0} / x"),
    *("x ** {0}", "{0} ** x", "x < {0}", "{0} < x", "x >= {0}", "{0} >= x", "x == {0}", "{0} != x"),
    *("x.leaky_relu({0})", "apply('maximum', x, {0})", "apply('pow', x, const={0})"),
    *("apply('take', x, 2.0, const={0})", "apply('where', {0}, x, 2.0)", "pow(x, 2, {0})"),
    *("np.maximum(x, {0})", "np.add({0}, x)", "round(x, {0})"),
)
OTHERS = (
    *("repr(x)", "str(x)", "f'{x:.3f}'", "f'{x:>8}'", "f'{x:q}'", "int(x)", "round(x)", "bool(x)"),
    *("float(x)", "complex(x)", "math.floor(x)", "hash(x) == hash(x)", "abs(-x)", "+x is x"),
    *("x.op", "x.operands", "x.label", "(x * 2).op", "(x * 2).operands", "x._prev", "(x**2)._op"),
    *("(x ** 2.12345678)._op", "(x * 2)._local_grads", "(x / 3)._children", "x._backward()"),
    *("Value()", "Value(1, 2, 3)", "Value(1.0, foo=2)", "x.relu(1)", "x.nothing", "x(1)", "x[0]"),
    *("set_op(x)", "set_foo(x)", "set_number(x)", "delete(x, 'op')", "delete(x, 'foo')"),
    *("type('W', (Value,), {})", "x % 2", "x // 2", "x @ x", "x & 1", "~x", "divmod(x, 2)"),
    *("apply('sinh', x)", "apply('add', x)", "apply('take')", "apply('exp', x, x)", "apply()"),
    *("apply('take', x, 1.0, const=-1)", "apply('take', x, 1.0, const=0.5)", "math.isclose(x, 2)"),
    *("sorted([x, Value(1.0), Value(-3.0)])", "max(x, Value(9.0))", "sum([x, x, 1])", "len(x)"),
    *("copy.copy(x * 2)", "copy.deepcopy(x * 2)", "pickle.loads(pickle.dumps(x * 2)).operands"),
    *(
        "stale_leaf()",
        "stale_result()",
        "stale_copy()",
        "anomaly('x / 0')",
        "anomaly('(x - 3).log()')",
    ),
    *("anomaly('(x - x) ** -1.5')", "anomaly('(-x).leaky_relu(math.inf)')", "gradient_anomaly()"),
    *("anomaly('apply(\"where\", 0.0, x, math.nan)')", "without_gradient('x * x')"),
    *("without_gradient('apply(\"take\", x, 2, const=1)')", "x.detach()", "(x * 2).detach().op"),
    *("np.exp(x)", "np.log1p(x)", "np.isnan(x)", "np.array([x, x]).sum()", "np.array([x]) @ [2.0]"),
    *("np.float64(2) * x", "np.float64(2) < x", "np.array(x) + x", "x + np.array(x)"),
    *("np.multiply.outer(x, [1.0, 2.0])", "scalargrad.live_values() > 0"),
)
# Messages that Python or Cython writes itself differ in the name of the type and in grammar.
TYPE_NAME = re.compile(r"scalargrad\.engine\.Value")
WRITTEN_BY_PYTHON = re.compile(
    r"(unsupported operand type|not supported between|positional argument|keyword argument"
    r"|has no attribute|no setter|not writable|no deleter|read-only|object is not|has no len"
    r"|doesn't define|cannot be interpreted|incorrect type|__del__|recursion|bad operand)"
)


def attempt(expression: str, scope: dict[str, Any]) -> str:
    """The result as text, with what a backward pass through it gives; or the exception."""
    try:
        result = eval(expression, scope)
        if isinstance(result, Value) and result.op:
            result.backward()
            return f"{result!r} {result.op} {result.operands!r}"
        return f"{type(result).__name__} {result!r}"
    except Exception as error:
        text = TYPE_NAME.sub("Value", str(error))
        if WRITTEN_BY_PYTHON.search(text):
            text = "..."
        return f"{type(error).__name__}: {text}"


def setter(name: str) -> Any:
    def set_it(v: Value, thing: Any = 1) -> tuple[Any, ...]:
        setattr(v, name, thing)
        return v.data, v.grad, v.label

    return set_it


def namespace() -> dict[str, Any]:
    """What the expressions may use; x is 2."""
    x = Value(2.0, "x")
    names = {name: setter(name) for name in ("data", "grad", "label", "op", "foo", "number")}
    scope: dict[str, Any] = {
        **{f"set_{name}": function for name, function in names.items()},
        **{"x": x, "Value": Value, "apply": Value.apply, "np": np, "math": math, "copy": copy},
        **{"pickle": pickle, "Fraction": Fraction, "Decimal": Decimal, "scalargrad": scalargrad},
        "delete": delattr,
    }

    def stale_leaf() -> None:
        y = x * 3 + x
        x.data = 5.0
        y.backward()

    def stale_result(duplicate: Any = lambda v: v) -> None:
        h = x * 3
        y = -h
        h.data = 7.0
        duplicate(y).backward()

    def anomaly(expression: str) -> Any:
        with scalargrad.detect_anomaly():
            return eval(expression, scope)

    def gradient_anomaly() -> None:
        with scalargrad.detect_anomaly():
            (x - x).sqrt().backward()

    def without_gradient(expression: str) -> tuple[Any, ...]:
        with scalargrad.no_grad():
            result = eval(expression, scope)
        return result.data, result.op, result.operands

    scope |= {"stale_leaf": stale_leaf, "stale_result": stale_result, "anomaly": anomaly}
    scope |= {"stale_copy": lambda: stale_result(copy.deepcopy)}
    scope |= {"gradient_anomaly": gradient_anomaly, "without_gradient": without_gradient}
    return scope


def report_expressions() -> None:
    expressions = [use.format(number) for use in USES for number in NUMBERS]
    for expression in [*expressions, *OTHERS]:
        scope = namespace()
        with np.errstate(all="ignore"):
            print(f"{expression:45} {attempt(expression, scope)}")
        print(f"{'':45} {scope['x']!r}")


def random_program(rng: random.Random) -> list[Value]:
    """A graph of up to 40 random operations on special and ordinary numbers."""

    def number() -> float:
        return rng.choice(SPECIAL_FLOATS) if rng.random() < 0.2 else rng.gauss(0.0, 3.0)

    values = [Value(number(), f"v{k}") for k in range(rng.randint(1, 5))]
    for _ in range(rng.randint(1, 40)):
        row = ops.BY_NAME[rng.choice(ALL_OPS)]
        arity = row.arity or rng.randint(1, 5)
        operands: list[Any] = [rng.choice(values) for _ in range(arity)]
        if arity == 2 and rng.random() < 0.3:
            operands[0 if row.name == "power" else rng.randrange(2)] = number()
        constants = {"exponent": EXPONENTS, "slope": SLOPES, "index": range(arity), "": (0.0,)}
        values.append(on_values(row.name, operands, float(rng.choice(constants[row.constant]))))
    return values


def report_programs(count: int, seed: int) -> None:
    rng = random.Random(seed)
    for k in range(count):
        values = random_program(rng)
        values[-1].backward()
        values[rng.randrange(len(values))].backward()
        # As sets come in the order of hashes, they show whether an order depends on one.
        ordered = sorted({*values}, key=operator.attrgetter("label"))
        print(k, ordered[-1].label, *(f"{v.data.hex()},{v.grad.hex()}" for v in values))


if __name__ == "__main__":
    if sys.argv[1] == "expressions":
        report_expressions()
    else:
        report_programs(int(sys.argv[2]), int(sys.argv[3]))
