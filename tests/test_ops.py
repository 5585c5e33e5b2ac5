"""The op table: complete, consistent, and the same arithmetic as the compiled rules and the engine.

The checkers take a table, so that they can be shown a wrong one.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
from hypothesis import given

import exact
from scalargrad import Value, ops, rules
from strategies import (
    ALL_OPS,
    DOMAINS,
    EXPONENTS,
    SLOPES,
    SMOOTH_OPS,
    SPECIAL_FLOATS,
    any_floats,
    bits,
    fewer_examples,
    moderate_floats,
    on_values,
    same_bits,
)

pytestmark = pytest.mark.pure

RULES_PXD = Path(ops.__file__).with_name("rules.pxd").read_text()
CONSTANTS = {
    "exponent": (*EXPONENTS, -0.0, math.inf, 1e308),
    "slope": SLOPES,
    "index": (0.0, 2.0),
}
TAKEN = 3  # how many candidates `take` is tried with


def arity_of(row: ops.Op) -> int:
    return TAKEN if row.arity is None else row.arity


def constants_of(row: ops.Op) -> tuple[tuple[float, ...], ...]:
    """The constants to try an op with, each as the arguments that follow the operands."""
    return tuple((c,) for c in CONSTANTS[row.constant]) if row.constant else ((),)


# --- checkers: each takes a table and returns what is wrong with it ---------------------------------


def missing_columns(table: Sequence[ops.Op]) -> list[str]:
    """Rows that lack a column, or have one that does not do its work."""
    return [f"{row[1]}: {problem}" for row in table for problem in _row_problems(row)]


def _row_problems(row: ops.Op) -> Iterable[str]:
    if len(row) != len(ops.Op._fields):
        yield f"{len(row)} columns instead of {len(ops.Op._fields)}"
        return
    if not (isinstance(row.code, int) and row.code > 0):
        yield f"code {row.code!r} is not a positive int"
    if not (isinstance(row.name, str) and row.name.isidentifier() and row.name.islower()):
        yield f"name {row.name!r} is not a lower-case identifier"
    if row.arity not in (None, 1, 2, 3):
        yield f"arity {row.arity!r}"
    if not row.symbol:
        yield "no symbol"
    if row.constant not in ("", *CONSTANTS):
        yield f"unknown constant {row.constant!r}"
        return
    if row.ufunc and not _is_ufunc(row.ufunc, row.arity):
        yield f"ufunc {row.ufunc!r} is not NumPy's function of {row.arity} arguments"
    yield from _text_problems(row)
    yield from _slope_problems(row)
    yield from _function_problems(row)


def _is_ufunc(name: str, arity: int | None) -> bool:
    ufunc = getattr(np, name, None)
    return isinstance(ufunc, np.ufunc) and ufunc.nin == arity and ufunc.__name__ == name


def _text_problems(row: ops.Op) -> Iterable[str]:
    fields = {field for _, field, _, _ in string.Formatter().parse(row.text or "") if field}
    expected = {"operands"} if row.arity is None else {str(k) for k in range(row.arity)}
    if row.constant:
        expected.add("c")
    if fields != expected:
        yield f"text {row.text!r} shows {sorted(fields)} instead of {sorted(expected)}"


def _slope_problems(row: ops.Op) -> Iterable[str]:
    if not (isinstance(row.slopes, tuple) and len(row.slopes) == (row.arity or 1)):
        yield f"slopes {row.slopes!r} are not one per operand"
        return
    allowed = {"y", *(str(k) for k in range(row.arity or 0))}
    allowed |= {"c"} if row.constant else set()
    allowed |= {"k"} if row.arity is None else set()
    for slope in row.slopes:
        fields = {field for _, field, _, _ in string.Formatter().parse(slope) if field}
        if not slope or not fields <= allowed:
            yield f"slope {slope!r} shows {sorted(fields)}, of which only {sorted(allowed)} exist"


def _function_problems(row: ops.Op) -> Iterable[str]:
    operands = [0.25 * (k + 1) for k in range(arity_of(row))]
    constants = constants_of(row)[0]
    try:
        y = row.forward(*operands, *constants)
        partials = row.partials(*operands, *constants, y)
    except TypeError as error:
        yield f"not callable with its operands: {error}"
        return
    if not isinstance(y, float):
        yield f"forward gives {type(y).__name__}"
    if not (
        isinstance(partials, tuple)
        and len(partials) == len(operands)
        and all(isinstance(p, float) for p in partials)
    ):
        yield f"partials gives {partials!r} for {len(operands)} operands"


def code_problems(table: Sequence[ops.Op], enum: dict[str, int]) -> list[str]:
    """Codes that are not 1, 2, 3 ... in order, repeated names, and disagreements with the C enum."""
    problems = []
    if [row.code for row in table] != list(range(1, len(table) + 1)):
        problems.append("codes are not dense and ascending from 1")
    for column in ("name", "ufunc"):
        entries = [entry for row in table if (entry := getattr(row, column))]
        if len(set(entries)) != len(entries):
            problems.append(f"a {column} is repeated")
    named = {row.name.upper(): row.code for row in table} | {"LEAF": 0}
    if named != enum:
        differing = sorted(set(named.items()) ^ set(enum.items()))
        problems.append(f"the table and the enum disagree on {differing}")
    return problems


def enum_of(pxd: str) -> dict[str, int]:
    """The names and codes of the enum in a .pxd file."""
    body = re.search(r"cdef enum:\n((?:    .*\n|\n)+)", pxd)
    assert body, "no enum"
    return {name: int(code) for name, code in re.findall(r"(\w+) = (\d+)", body[1])}


Evaluate = Callable[[ops.Op, Sequence[float], Sequence[float]], tuple[float, list[float]]]


def by_table(
    row: ops.Op, operands: Sequence[float], constants: Sequence[float]
) -> tuple[float, list[float]]:
    """Result and partials, by the op table."""
    y = row.forward(*operands, *constants)
    return y, list(row.partials(*operands, *constants, y))


def by_rules(
    row: ops.Op, operands: Sequence[float], constants: Sequence[float]
) -> tuple[float, list[float]]:
    """Result and partials, by `rules`, which knows `where` by its two sides and its condition."""
    if row.name == "where":
        condition, a, b = operands
        y = rules.evaluate(row.code, a, b, condition)
        sides = [rules.differentiate(row.code, slot, a, b, condition, y) for slot in (0, 1)]
        return y, [0.0, *sides]
    a, b = (*operands, 0.0)[:2]
    c = constants[0] if constants else 0.0
    y = rules.evaluate(row.code, a, b, c)
    return y, [rules.differentiate(row.code, slot, a, b, c, y) for slot in range(len(operands))]


def by_table_on_values(
    row: ops.Op, operands: Sequence[float], constants: Sequence[float]
) -> tuple[float, list[float]]:
    """Result and partials, by the op table's own arithmetic done on Values."""
    values = [Value(x) for x in operands]
    y = Value(row.forward(*operands, *constants))
    return y.data, [float(p) for p in row.partials(*values, *constants, y)]


def by_local_gradients(
    row: ops.Op, operands: Sequence[float], constants: Sequence[float]
) -> tuple[float, list[float]]:
    """Result and partials, as a node of the engine reports them."""
    y = on_values(row.name, [Value(x) for x in operands], *constants or (0.0,))
    return y.data, list(y._local_grads)


def by_backward(
    row: ops.Op, operands: Sequence[float], constants: Sequence[float]
) -> tuple[float, list[float]]:
    """Result and gradients, by the engine."""
    values = [Value(x) for x in operands]
    y = on_values(row.name, values, *constants or (0.0,))
    y.backward()
    return y.data, [v.grad for v in values]


def disagreements(
    table: Sequence[ops.Op],
    evaluate: Evaluate,
    samples: Iterable[float],
    added_to_zero: bool = False,
) -> list[str]:
    """Where `evaluate` and the table's own columns differ by a bit.

    A gradient is a partial added to 0, so there -0.0 is 0.0.
    """
    found, samples = [], list(samples)
    for row in table:
        for constants in constants_of(row):
            for operands in product(samples, repeat=arity_of(row)):
                y, partials = by_table(row, operands, constants)
                if added_to_zero:
                    partials = [0.0 + p for p in partials]
                got = evaluate(row, operands, constants)
                if not same_bits([y, *partials], [got[0], *got[1]]):
                    found.append(f"{row.name}{(*operands, *constants)}: {(y, partials)} {got}")
    return found


WITHOUT_TAKE = [row for row in ops.TABLE if row.name != "take"]  # rules has no code for it
SMALL = [row for row in ops.TABLE if arity_of(row) < 3]
FEW = (0.0, -0.0, 1.0, -2.5, math.inf, -math.inf, math.nan, 5e-324)  # for operations of three


# --- the table is complete --------------------------------------------------------------------------


def test_every_row_has_every_column() -> None:
    assert missing_columns(ops.TABLE) == []


def test_codes_are_dense_and_agree_with_the_compiled_enum() -> None:
    assert code_problems(ops.TABLE, enum_of(RULES_PXD)) == []


def test_the_codes_have_names_in_the_module() -> None:
    assert {row.name: getattr(ops, row.name.upper()) for row in ops.TABLE} == {
        row.name: row.code for row in ops.TABLE
    }
    assert ops.LEAF == 0


def test_the_indices_hold_every_row() -> None:
    assert {code: ops.BY_CODE[code] for code in range(1, len(ops.TABLE) + 1)} == ops.BY_CODE
    assert [ops.BY_NAME[row.name] for row in ops.TABLE] == list(ops.TABLE)
    assert sorted(ops.BY_UFUNC) == sorted(row.ufunc for row in ops.TABLE if row.ufunc)
    assert all(ops.BY_UFUNC[name].ufunc == name for name in ops.BY_UFUNC)


def planted(row_name: str, /, **columns: Any) -> list[ops.Op]:
    """The table with other columns in one row."""
    return [row._replace(**columns) if row.name == row_name else row for row in ops.TABLE]


@pytest.mark.parametrize(
    "columns",
    [
        {"code": 0},
        {"code": None},
        {"name": "Tan H"},
        {"name": ""},
        {"arity": 4},
        {"arity": 2},
        {"symbol": ""},
        {"symbol": None},
        {"text": ""},
        {"text": None},
        {"text": "tanh({1})"},
        {"text": "tanh({0}, {c:g})"},
        {"forward": None},
        {"forward": lambda a, b: a},
        {"forward": lambda a: 1},
        {"partials": None},
        {"partials": lambda a: (1.0,)},
        {"partials": lambda a, y: 1.0},
        {"partials": lambda a, y: (1.0, 1.0)},
        {"partials": lambda a, y: ()},
        {"slopes": None},
        {"slopes": ()},
        {"slopes": ("",)},
        {"slopes": ("1 - {1}",)},
        {"slopes": ("{c}",)},
        {"slopes": ("{y}", "{y}")},
        {"constant": "shift"},
        {"ufunc": "tan_h"},
        {"ufunc": "add"},
    ],
)
def test_a_missing_or_broken_column_is_caught(columns: dict[str, Any]) -> None:
    assert missing_columns(planted("tanh", **columns)) != []


def test_a_short_row_is_caught() -> None:
    table = [*ops.TABLE[:-1], ops.TABLE[-1][:-1]]
    assert missing_columns(table) == ["detach: 9 columns instead of 10"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("table", "enum"),
    [
        (planted("tanh", code=15), RULES_PXD),
        (planted("tanh", name="sin"), RULES_PXD),
        (planted("tanh", ufunc="sin"), RULES_PXD),
        (ops.TABLE[1:], RULES_PXD),
        (ops.TABLE[::-1], RULES_PXD),
        (ops.TABLE, RULES_PXD.replace("TANH = 14", "TANH = 41")),
        (ops.TABLE, RULES_PXD.replace("TANH = 14", "TANH2 = 14")),
        (ops.TABLE, RULES_PXD.replace("    TANH = 14\n", "")),
        (ops.TABLE, RULES_PXD.replace("    LEAF = 0\n", "")),
    ],
)
def test_wrong_codes_are_caught(table: Sequence[ops.Op], enum: str) -> None:
    assert code_problems(table, enum_of(enum)) != []


# --- derivatives as formulas ------------------------------------------------------------------------

FORMULA_NAMES = {
    **{name: getattr(ops, name) for name in ("log", "exp", "sqrt", "sin", "cos", "sigmoid")},
    "pi": math.pi,
    "sign": lambda a: float(np.sign(a)),
    "Phi": lambda a: 0.5 * math.erfc(-a / math.sqrt(2)),
    "phi": lambda a: math.exp(-a * a / 2) / math.sqrt(2 * math.pi),
}


def wrong_slopes(table: Sequence[ops.Op]) -> list[str]:
    """Rows whose formulas, worked out, are not their partials."""
    found = []
    for row in table:
        for constants in constants_of(row):
            for operands in product((0.3, 1.7, 2.0), repeat=arity_of(row)):
                y, partials = by_table(row, operands, constants)
                texts = row.slopes * len(operands) if row.arity is None else row.slopes
                for k, (text, partial) in enumerate(zip(texts, partials)):
                    c = ops.constant_text(constants[0]) if constants else ""
                    formula = text.format(*map(repr, operands), y=repr(y), c=c, k=k)
                    try:
                        number = eval(formula, {"inf": math.inf, "nan": math.nan, **FORMULA_NAMES})
                    except (OverflowError, ZeroDivisionError):
                        continue
                    if not np.isclose(number, partial, rtol=1e-9, equal_nan=True):
                        found.append(f"{row.name}: {formula} is {number}, not {partial}")
    return found


def test_the_formulas_of_the_partials_are_the_partials() -> None:
    assert wrong_slopes(ops.TABLE) == []


@pytest.mark.parametrize(
    ("name", "slopes"),
    [
        ("tanh", ("1 - {0} ** 2",)),
        ("sub", ("1", "1")),
        ("div", ("{1}", "-{0} / {1} ** 2")),
        ("pow", ("{c} * {0} ** {c}",)),
        ("take", ("1",)),
    ],
)
def test_a_planted_wrong_formula_is_caught(name: str, slopes: tuple[str, ...]) -> None:
    assert wrong_slopes(planted(name, slopes=slopes)) != []


# --- the same arithmetic everywhere ---------------------------------------------------------------

DONE_BY = [
    pytest.param(by_rules, False, id="rules"),
    pytest.param(by_table_on_values, False, id="partials on Values"),
    pytest.param(by_local_gradients, False, id="_local_grads"),
    pytest.param(by_backward, True, id="backward"),
]


def _sampled(evaluate: Evaluate) -> list[tuple[Sequence[ops.Op], Sequence[float]]]:
    triples = [row for row in WITHOUT_TAKE if arity_of(row) == 3]
    if evaluate is not by_rules:
        triples = [row for row in ops.TABLE if arity_of(row) == 3]
    return [(SMALL, SPECIAL_FLOATS), (triples, FEW)]


@pytest.mark.parametrize(("evaluate", "added_to_zero"), DONE_BY)
def test_special_numbers_agree_bit_for_bit(evaluate: Evaluate, added_to_zero: bool) -> None:
    for table, samples in _sampled(evaluate):
        assert disagreements(table, evaluate, samples, added_to_zero) == []


@pytest.mark.parametrize(("evaluate", "added_to_zero"), DONE_BY)
@given(operands=st.lists(any_floats(), min_size=3, max_size=3), constant=any_floats())
def test_any_numbers_agree_bit_for_bit(
    evaluate: Evaluate, added_to_zero: bool, operands: list[float], constant: float
) -> None:
    for row in WITHOUT_TAKE:
        constants = (constant,) if row.constant else ()
        y, partials = by_table(row, operands[: row.arity], constants)
        got_y, got = evaluate(row, operands[: row.arity], constants)
        if added_to_zero:
            partials = [0.0 + p for p in partials]
        assert same_bits([y, *partials], [got_y, *got]), row.name


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("tanh", {"forward": lambda a: math.tanh(a) * (1.0 + 2.0**-52)}),
        ("tanh", {"partials": lambda a, y: (1.0 + y * y,)}),
        ("mul", {"partials": lambda a, b, y: (a, b)}),
        ("sub", {"partials": lambda a, b, y: (1.0, 1.0)}),
        ("relu", {"partials": lambda a, y: (1.0,)}),
        ("relu", {"forward": lambda a: max(0.0, a)}),
        ("maximum", {"partials": lambda a, b, y: (1.0 if a > b else 0.0, 1.0 if b > a else 0.0)}),
        ("pow", {"partials": lambda a, n, y: (n * y / a if a else 0.0,)}),
        ("log", {"forward": lambda a: math.log(a) if a > 0.0 else -math.inf}),
        ("where", {"partials": lambda c, a, b, y: (0.0, 1.0, 0.0)}),
    ],
)
def test_a_planted_wrong_rule_is_caught(name: str, columns: dict[str, Any]) -> None:
    row = ops.BY_NAME[name]._replace(**columns)
    samples = FEW if row.arity == 3 else SPECIAL_FLOATS
    assert disagreements([row], by_rules, samples) != []
    assert disagreements([row], by_backward, samples, added_to_zero=True) != []


def test_every_operation_is_checked() -> None:
    assert set(ALL_OPS) == set(exact.FORWARD) | set(exact.WITH_CONSTANT) | {"take"}


# --- the derivatives are derivatives --------------------------------------------------------------


def relative_error(got: float, want: mpmath.mpf) -> float:
    """|got - want| relative to want, or to 1e-3 where want is smaller (a derivative near 0)."""
    return float(abs(mpmath.mpf(got) - want) / max(abs(want), mpmath.mpf("1e-3")))


def in_domain(row: ops.Op, operands: Sequence[float]) -> bool:
    return row.name not in DOMAINS or DOMAINS[row.name](*operands)


def operands_of(row: ops.Op) -> st.SearchStrategy[list[float]]:
    """Operands for an operation where it is smooth enough."""
    count = arity_of(row)
    numbers = st.lists(moderate_floats(), min_size=count, max_size=count)
    return numbers.filter(lambda operands: in_domain(row, operands))


@pytest.mark.parametrize("name", ALL_OPS)
@fewer_examples
@given(data=st.data())
def test_forward_and_partials_against_mpmath(name: str, data: st.DataObject) -> None:
    row = ops.BY_NAME[name]
    operands = data.draw(operands_of(row))
    constants = data.draw(st.sampled_from(constants_of(row)[:9]))
    y, partials = by_table(row, operands, constants)
    assert relative_error(y, exact.forward(name, operands, *constants)) < 1e-14
    for slot, got in enumerate(partials):
        want = exact.partial(name, slot, operands, *constants)
        assert relative_error(got, want) < 1e-12, (slot, got, want)


@pytest.mark.parametrize("name", SMOOTH_OPS)
@fewer_examples
@given(data=st.data())
def test_the_partials_as_a_graph_give_second_derivatives(name: str, data: st.DataObject) -> None:
    row = ops.BY_NAME[name]
    operands = data.draw(operands_of(row))
    constants = data.draw(st.sampled_from(constants_of(row)[:9]))
    values = [Value(x) for x in operands]
    y = on_values(name, values, *constants or (0.0,))
    for slot, first in enumerate(row.partials(*values, *constants, y)):
        for v in values:
            v.grad = 0.0
        if isinstance(first, Value):
            first.backward()
        second = exact.partial(name, slot, operands, *constants or (0.0,), 2)
        assert relative_error(values[slot].grad, second) < 1e-11, slot


# --- the IEEE functions the table is written in ---------------------------------------------------

NUMPY_NAMES = {
    "divide": np.divide,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "pow": np.power,
}


@pytest.mark.parametrize("name", NUMPY_NAMES)
def test_ieee_functions_answer_as_numpy_does(name: str) -> None:
    ours, theirs = getattr(ops, name), NUMPY_NAMES[name]
    for operands in product(SPECIAL_FLOATS, repeat=theirs.nin):
        if name == "pow" and operands[1] == 0.5:
            continue  # NumPy takes the square root, whose -0.0 is not C's
        with np.errstate(all="ignore"):
            want = float(theirs(*map(np.float64, operands)))
        got = ours(*operands)
        if math.isfinite(want) and want != 0.0:
            assert got == pytest.approx(want, rel=1e-14, abs=5e-324), operands
        else:
            assert bits(got) == bits(want), operands


@pytest.mark.parametrize("a", [-1000.0, -40.0, -1.0, 0.0, 1.0, 40.0, 1000.0, 1e300, -1e300])
def test_squashing_functions_do_not_overflow(a: float) -> None:
    assert 0.0 <= ops.sigmoid(a) <= 1.0
    assert ops.softplus(a) == pytest.approx(max(a, 0.0), abs=0.7)
    assert abs(ops.tanh(a)) <= 1.0
    assert ops.gelu(a) == pytest.approx(max(a, 0.0), abs=0.2)


@pytest.mark.parametrize("a", [-30.0, -1e-8, 1e-8, 2.0, 30.0])
def test_squashing_functions_lose_no_digits(a: float) -> None:
    for name in ("sigmoid", "softplus", "gelu", "tanh", "erfc"):
        want = exact.forward(name, [a])
        if abs(want) > 1e-200:
            assert relative_error(float(getattr(ops, name)(a) / want), mpmath.mpf(1)) < 1e-13, name


# --- conventions where mathematics leaves a choice -------------------------------------------------


def partials_at(name: str, *operands: float) -> tuple[float, ...]:
    row = ops.BY_NAME[name]
    operand_count = arity_of(row)
    y = row.forward(*operands)
    assert len(row.partials(*operands, y)) == operand_count
    return row.partials(*operands, y)


def test_equal_operands_share_the_gradient_of_an_extremum() -> None:
    assert partials_at("maximum", 2.0, 2.0) == (0.5, 0.5)
    assert partials_at("minimum", 2.0, 2.0) == (0.5, 0.5)
    assert partials_at("maximum", 0.0, -0.0) == (0.5, 0.5)


def test_kinks_at_zero() -> None:
    assert partials_at("abs", 0.0) == (0.0,)
    assert partials_at("relu", 0.0) == (0.0,)
    assert partials_at("relu", math.nan) == (1.0,)
    assert ops.BY_NAME["leaky_relu"].partials(0.0, 0.01, 0.0) == (0.01,)


def test_powers_at_the_edges() -> None:
    pow_, power = ops.BY_NAME["pow"], ops.BY_NAME["power"]
    assert pow_.partials(0.0, 0.0, 1.0) == (0.0,)
    assert pow_.partials(0.0, 1.0, 0.0) == (1.0,)
    assert pow_.partials(0.0, 2.0, 0.0) == (0.0,)
    assert pow_.partials(-3.0, 3.0, -27.0) == (27.0,)
    assert power.partials(0.0, 2.0, 0.0) == (0.0, 0.0)
    assert power.partials(0.0, 0.0, 1.0) == (0.0, 0.0)
    assert power.partials(2.0, 0.0, 1.0) == (0.0, math.log(2.0))
    assert math.isnan(pow_.forward(-2.0, 0.5))
    assert math.isnan(power.forward(-2.0, 0.5))


def test_nan_is_contagious() -> None:
    for name in ("maximum", "minimum"):
        assert math.isnan(ops.BY_NAME[name].forward(math.nan, 1.0))
        assert math.isnan(ops.BY_NAME[name].forward(1.0, math.nan))
    assert math.isnan(ops.relu(math.nan))
    assert math.isnan(ops.sigmoid(math.nan))
    assert math.isnan(ops.softplus(math.nan))


def test_where_passes_the_gradient_to_the_side_taken_whatever_makes_the_condition_true() -> None:
    for condition, want in [
        (1.0, (0, 1, 0)),
        (0.0, (0, 0, 1)),
        (3.0, (0, 1, 0)),
        (-0.0, (0, 0, 1)),
    ]:
        assert partials_at("where", condition, 5.0, 7.0) == want
    assert partials_at("where", math.nan, 5.0, 7.0) == (0.0, 1.0, 0.0)
