"""`value.explain()`: the numbers are those of `backward`, and the text says where they come from."""

from __future__ import annotations

import doctest
import math
import random
import re

import numpy as np
import pytest
from hypothesis import given

import scalargrad as sg
from generated import program, run
from processes import run_python
from readme import readme
from scalargrad import Graph, StaleGraphError, TraceError, Value
from scalargrad.views import chain
from scalargrad.views.chain import Derivatives, passed_on
from scalargrad.views.formulas import operation, slopes
from scalargrad.views.names import names_in
from strategies import Program, same_bits, wild_programs

pytestmark = pytest.mark.pure


def test_the_first_thing_that_a_program_shows() -> None:
    script = "from scalargrad import Value; x = Value(3.0, 'x'); print(x.explain(x * x))"
    assert run_python("-c", script).startswith("x = 3, a leaf")


# --- the numbers ----------------------------------------------------------------------------------


def explains(drawn: Program) -> None:
    """The derivatives are those of `backward`, and each is the sum of what its uses pass on."""
    _, results = run(drawn)
    root = results[-1]
    before = [v.grad for v in results]
    derivatives = Derivatives(root)
    assert same_bits([v.grad for v in results], before)
    root.backward()
    reached = Graph(root).nodes
    assert all((v in derivatives) == (v in set(reached)) for v in results)
    for v in reached:
        if v is root and v.op == "":
            continue
        assert same_bits([derivatives.of(v)], [v.grad])
        total = 1.0 if v is root else 0.0
        for use in derivatives.uses(v):
            assert use.user.operands[use.slot] is v
            total += use.passed
        assert same_bits([total], [v.grad])
        users = [u for u in reached for operand in u.operands if operand is v]
        assert len(derivatives.uses(v)) == len(users)


def test_derivatives_are_those_of_backward_on_random_programs() -> None:
    for seed in range(500):
        explains(program(random.Random(seed)))


@given(wild_programs())
def test_derivatives_are_those_of_backward_on_any_program(drawn: Program) -> None:
    explains(drawn)


def test_a_rule_that_passes_zeros_on_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "_product", lambda code, partial, gradient: partial * gradient)
    with pytest.raises(AssertionError):
        test_derivatives_are_those_of_backward_on_random_programs()


def test_what_a_node_passes_on_arrives_at_its_operands() -> None:
    x, y = Value(math.inf), Value(0.0)
    assert passed_on(sg.maximum(x, y), 2.0) == (2.0, 0.0)
    assert passed_on(x * y, 0.0) == (0.0, 0.0)
    assert all(map(math.isnan, passed_on(Value(math.nan) * math.nan, 1.0)))


# --- the text -------------------------------------------------------------------------------------


def table(text: str, head: str) -> list[list[str]]:
    """The rows of the table in a text whose first column is called `head`, cell by cell."""
    lines = text.split("\n")
    start = next(k for k, line in enumerate(lines) if line.startswith(f"  {head}"))
    end = next((k for k in range(start, len(lines)) if not lines[k]), len(lines))
    return [re.split(r"  +", line.strip()) for line in lines[start + 1 : end]]


def test_why_is_the_gradient_of_the_readme_138() -> None:
    values = readme()
    a, g = values["a"], values["g"]
    g.backward()
    text = a.explain(g, values)
    assert text.startswith("a = -4, a leaf\n")
    assert "d(g)/d(a) is 138.834, a sum over the uses of a" in text
    assert table(text, "used in") == [
        ["b - a", "6", "-1", "6.94169", "-6.94169"],
        ["b + a", "-2", "1", "0", "0"],
        ["-a", "4", "-1", "-6.94169", "6.94169"],
        ["a * b", "-8", "b = 2", "83.3003", "166.601"],
        ["a + b", "-2", "1", "-27.7668", "-27.7668"],
        ["sum", "138.834"],
    ]
    assert text.endswith("a.grad holds this number.")


def test_a_result_says_how_it_was_made_and_what_it_passes_on() -> None:
    values = readme()
    e = values["e"]
    values["g"].backward()
    text = e.explain(names=values)
    assert text.split("\n")[:3] == ["e = c - d = (-1) - 6 = -7", "", "e.grad is -6.94169."]
    assert table(text, "operand") == [["c", "-1", "1", "-6.94169"], ["d", "6", "-1", "6.94169"]]
    both = e.explain(values["g"], values)
    assert table(both, "used in")[0] == ["e ** 2", "49", "2 * e ** (2 - 1) = -14", "0.495835", "-6.94169"]  # fmt: skip
    assert table(both, "operand") == table(text, "operand")


def test_values_without_names_are_called_by_their_numbers() -> None:
    x = Value(-0.5)
    text = (x * 3.0).tanh().explain()
    assert text.startswith("tanh(-1.5) = -0.905148\n")
    assert table(text, "operand") == [["(-0.5) * 3", "-1.5", "1 - (-0.905148) ** 2 = 0.180707", "0"]]  # fmt: skip
    assert "no backward() has reached it" in text
    assert x.explain().startswith("-0.5, a leaf\n\ngrad is 0 (no backward()")


def test_an_operand_used_twice_is_listed_twice() -> None:
    x = Value(3.0, "x")
    text = x.explain(x * x)
    assert table(text, "used in") == [["x * x", "9", "x = 3", "1", "3"]] * 2 + [["sum", "6"]]


def test_lines_are_shown_where_they_are_recorded() -> None:
    x = Value(2.0, "x")
    with sg.detect_anomaly():
        y = x * x
        text = x.explain(y)
        assert re.fullmatch(r"x \* x = 2 \* 2 = 4    test_explain\.py:\d+", y.explain().split("\n")[0])  # fmt: skip
    assert [row[-1][:15] for row in table(text, "used in")[:-1]] == ["test_explain.py"] * 2
    assert "test_explain.py" not in x.explain(y)


def test_what_grad_holds_is_compared_with_the_derivative() -> None:
    x = Value(2.0, "x")
    y = x * 3.0
    assert "x.grad is 0: backward() has not been called" in x.explain(y)
    y.backward()
    y.backward()
    assert "d(root)/d(x) is 3, a sum" in x.explain(y)
    assert "x.grad is 6: it holds what calls of backward() have added" in x.explain(y)


def test_a_root_and_what_it_does_not_depend_on() -> None:
    x, y = Value(2.0, "x"), Value(3.0, "y")
    z = x * 3.0
    assert "d(root)/d(this) is 1: backward() starts here." in z.explain(z)
    assert "d(root)/d(y) is 0: the root does not depend on it." in y.explain(z)
    assert "is 1: backward() starts here" in x.explain(x)


def test_of_many_uses_those_that_contribute_most_are_listed() -> None:
    w = Value(1.0, "w")
    loss = sg.total(w * (-1.0) ** k * k for k in range(100))
    rows = table(w.explain(loss), "used in")
    assert len(rows) == 12 + 2
    assert rows[-2][0] == "88 other uses"
    assert rows[-1] == ["sum", "-50"]
    listed = sum(float(row[-1]) for row in rows[:-2])
    assert listed + float(rows[-2][-1]) == -50


def test_infinite_contributions_are_listed_and_added_up() -> None:
    w = Value(0.0, "w")
    loss = sg.total([w.sqrt() * (1.0 if k % 2 else -1.0) for k in range(30)])
    assert table(w.explain(loss), "used in")[-1] == ["sum", "nan"]


def test_a_take_shows_the_candidate_that_was_taken() -> None:
    values = [Value(float(k), f"v{k}") for k in range(50)]
    out = Value.apply("take", *values, const=40)
    out.backward()
    text = out.explain()
    assert text.startswith("take([v0, v1, v2, ..., v49], 40) = take([0, 1")
    assert ["v40", "40", "1 if 40 == 40 else 0 = 1", "1"] in table(text, "operand")
    assert table(text, "operand")[-1] == ["38 other operands"]


def test_the_text_shows_itself_at_a_prompt() -> None:
    text = Value(2.0).explain()
    assert isinstance(text, str)
    assert repr(text) == str(text) == "2, a leaf\n\n" + text.split("\n\n", 1)[1]


def test_the_example_of_the_docstring() -> None:
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    example = parser.get_doctest(Value.explain.__doc__ or "", {"Value": Value}, "explain", None, 0)
    assert len(example.examples) == 3
    assert runner.run(example).failed == 0


@given(wild_programs())
def test_every_node_can_be_explained(drawn: Program) -> None:
    leaves, results = run(drawn)
    for v in (*leaves, *results):
        assert v.explain()
        assert v.explain(results[-1])


@given(wild_programs())
def test_formulas_of_any_program_have_balanced_parentheses(drawn: Program) -> None:
    for v in run(drawn)[1]:
        for text in (operation(v, lambda w: f"{w.data:.6g}"), *slopes(v, lambda w: "x + y")):
            assert text.count("(") == text.count(")")
            assert not text.startswith("(") or text.index(")") < len(text) - 1


# --- sizes and errors -----------------------------------------------------------------------------


def test_a_long_chain() -> None:
    x = Value(1.0, "x")
    y = x
    for _ in range(50_000):
        y = y + 1.0
    assert "d(root)/d(x) is 1, a sum" in x.explain(y)


def test_a_number_written_after_it_was_used_is_an_error() -> None:
    w = Value(2.0, "w")
    y = w * 3.0
    z = y + 1.0
    w.data = 5.0
    with pytest.raises(StaleGraphError, match=r"^explain: Value 'w', now 5.0"):
        y.explain()
    with pytest.raises(StaleGraphError, match=r"^explain: Value 'w', now 5.0"):
        z.explain(z)
    assert z.explain().startswith("6 + 1 = 7")
    y.data = 1.0
    with pytest.raises(StaleGraphError, match=r"a Value, now 1.0, an operand of"):
        z.explain()
    Graph(z).forward()
    assert z.explain(z).startswith("15 + 1 = 16")


def test_an_overwritten_result_is_an_error() -> None:
    y = Value(2.0, "w") * 3.0
    y.data = 1.0
    with pytest.raises(StaleGraphError, match=r"the result .* was overwritten with 1.0"):
        y.explain()


def test_arguments_of_other_types_are_errors() -> None:
    x = Value(1.0)
    with pytest.raises(TypeError, match=r"root: expected a Value .* got float 3.0"):
        x.explain(3.0)
    with pytest.raises(TypeError, match=r"names: expected a dictionary .* got list \[\]"):
        x.explain(names=[])


def test_a_number_being_traced_cannot_be_explained() -> None:
    def f(x: Value) -> Value:
        y = x * 2.0
        y.explain()
        return y

    with pytest.raises(TraceError, match=r"explain\(\)"):
        sg.compile(f)(1.0)


# --- names ----------------------------------------------------------------------------------------


def test_names_are_those_a_program_would_write() -> None:
    model = sg.nn.MLP(2, [2, 1])
    x, y = Value(1.0), Value(2.0)
    array = np.array([Value(3.0), 4.0], dtype=object)
    held = {"xs": [x, (y, 5)], "x": x, "d": {"k": Value(1.0)}, "model": model, "array": array}
    names = names_in({**held, "_hidden": [Value(7.0)], "held": held, "n": 3})
    assert names.of(x) == "x"
    assert names.of(y) == "xs[1][0]"
    assert names.of(held["d"]["k"]) == "d['k']"  # type: ignore[index]
    assert names.of(array[0]) == "array[0]"
    assert names.of(model.layers[1].neurons[0].w[1]) == "model.layers[1].neurons[0].w[1]"
    assert names.parameters == set(model.parameters())
    assert len(names.texts) == 4 + len(model.parameters())
    assert names_in(model).of(model.layers[0].neurons[1].b) == "layers[0].neurons[1].b"
    assert names.of(Value(1.0, "mine")) == "mine"
    assert names.of(Value(1.0)) == ""


def test_names_that_hold_themselves() -> None:
    loop: list[object] = [Value(1.0)]
    loop.append(loop)
    assert list(names_in({"loop": loop}).texts.values()) == ["loop[0]"]
