"""Functions of several numbers: values, gradients, limits, errors, and that they can be traced."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from checking import ForbidReading, assert_gradient, gradient
from scalargrad import Value
from scalargrad import functional as F
from scalargrad.errors import AnomalyError, ShapeError
from scalargrad.graph import Graph
from scalargrad.modes import detect_anomaly, modes, no_grad

pytestmark = pytest.mark.pure

moderate = st.floats(-30, 30)
wide = st.floats(-1e4, 1e4)
LOGITS = [0.5, -1.25, 2.0, 0.0]
# log(e^0.5 + e^-1.25 + e^2 + e^0) and the softmax, by PyTorch in float64
LOGSUMEXP = 2.3344986126036624
SOFTMAX = [0.15969355003210822, 0.027750577932680404, 0.7156968377823844, 0.09685903425282705]
LOG_SOFTMAX = [-1.8344986126036624, -3.5844986126036624, -0.33449861260366254, -2.3344986126036624]


# --- arguments ------------------------------------------------------------------------------------


def test_a_value_passes_through_and_a_number_becomes_a_leaf() -> None:
    value = Value(3.0)
    assert F.as_value(value) is value
    assert F.as_value(np.float32(0.5)).data == 0.5
    assert F.as_values([value, 2])[0] is value
    assert [v.data for v in F.as_values(np.array([1.5, 2.5]))] == [1.5, 2.5]
    assert [v.data for v in F.as_values(x for x in (1, 2))] == [1.0, 2.0]


@pytest.mark.parametrize("wrong", ["1", None, 1j, [1.0], np.zeros(2)])
def test_what_is_not_a_real_number_is_refused_by_name(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"logit: expected a Value or a real number, got "):
        F.as_value(wrong, "logit")
    with pytest.raises(TypeError, match=r"row\[1\]: expected a Value or a real number, got "):
        F.as_values([1.0, wrong], "row")


def test_long_arguments_are_shortened_in_messages() -> None:
    with pytest.raises(TypeError) as error:
        F.as_value("x" * 1000)
    assert len(str(error.value)) < 150


@pytest.mark.parametrize("unordered", [{1.0, 2.0}, frozenset((1.0,)), {1.0: 2.0}])
def test_numbers_without_an_order_are_not_a_list(unordered: Any) -> None:
    with pytest.raises(TypeError, match="x: expected a list of Values or real numbers, got "):
        F.softmax(unordered)


def test_a_bare_number_is_not_a_list() -> None:
    with pytest.raises(TypeError, match="x: expected a list of Values or real numbers, got float"):
        F.softmax(1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got Value"):
        F.total(Value(1.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [F.mean, F.variance, F.softmax, F.log_softmax, F.logsumexp])
def test_what_an_empty_list_has_no_answer_for_is_refused(function: Callable[..., object]) -> None:
    with pytest.raises(ShapeError, match="x: expected at least one number, got an empty list"):
        function([])


# --- maximum, minimum, where ----------------------------------------------------------------------


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=6))
def test_maximum_and_minimum_are_those_of_python(x: list[float]) -> None:
    assert F.maximum(*x).data == max(x)
    assert F.minimum(*x).data == min(x)


@pytest.mark.parametrize("function", [F.maximum, F.minimum])
def test_nan_is_never_hidden(function: Callable[..., Value]) -> None:
    for x in ([math.nan, 1.0], [1.0, math.nan], [1.0, math.nan, 2.0]):
        assert math.isnan(function(*x).data)


def test_the_larger_operand_receives_the_gradient_and_equals_share_it() -> None:
    assert gradient(lambda x: F.maximum(*x), [1.0, 3.0, 2.0]) == [0.0, 1.0, 0.0]
    assert gradient(lambda x: F.minimum(*x), [1.0, 3.0, 2.0]) == [1.0, 0.0, 0.0]
    assert gradient(lambda x: F.maximum(*x), [2.0, 2.0]) == [0.5, 0.5]
    assert gradient(lambda x: F.minimum(*x), [2.0, 2.0]) == [0.5, 0.5]


def test_maximum_takes_numbers_and_values_in_any_mixture() -> None:
    x = Value(-2.0)
    assert F.maximum(0, x).data == 0.0
    assert F.maximum(x, np.float64(1.5), 1).data == 1.5
    assert F.maximum(x) is x
    with pytest.raises(TypeError, match="a: expected a Value or a real number"):
        F.maximum([1.0, 2.0])  # type: ignore[arg-type]


def test_where_chooses_and_only_the_chosen_side_learns() -> None:
    a, b = Value(2.0), Value(3.0)
    for condition, chosen, grads in ((True, 2.0, (1.0, 0.0)), (np.bool_(False), 3.0, (0.0, 1.0))):
        a.grad = b.grad = 0.0
        y = F.where(condition, a, b)
        y.backward()
        assert (y.op, y.data, (a.grad, b.grad)) == ("where", chosen, grads)


def test_the_side_not_taken_may_be_infinite() -> None:
    def safe_log(x: Value) -> Value:
        return F.where(x > 0, x.log(), 0.0)

    for x, value, slope in ((2.0, math.log(2.0), 0.5), (0.0, 0.0, 0.0), (-1.0, 0.0, 0.0)):
        leaf = Value(x)
        y = safe_log(leaf)
        y.backward()
        assert (y.data, leaf.grad) == (value, slope)


def test_where_accepts_the_condition_of_a_traced_comparison() -> None:
    class Traced:
        def as_value(self) -> Value:
            return Value.apply("less", x, 1.0)

    x = Value(0.5)
    y = F.where(Traced(), x * 10, x)
    assert y.data == 5.0
    assert y.operands[0].op == "less"


@pytest.mark.parametrize("wrong", [1, 0.0, "yes", None, Value(1.0), np.array([True])])
def test_where_refuses_what_is_not_a_comparison(wrong: object) -> None:
    with pytest.raises(TypeError, match="condition: expected a comparison such as x > 0, got"):
        F.where(wrong, 1.0, 2.0)  # type: ignore[arg-type]


# --- take -----------------------------------------------------------------------------------------


def test_take_is_a_node_over_the_chosen_candidate_and_only_that_one_learns() -> None:
    x = [Value(1.0), Value(2.0), Value(3.0)]
    y = F.take(x, 1)
    (y * 5).backward()
    assert (y.op, y.operands, y.data) == ("take", (x[1],), 2.0)
    assert [xk.grad for xk in x] == [0.0, 5.0, 0.0]


@given(st.lists(moderate, min_size=1, max_size=8), st.data())
def test_take_is_indexing(x: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(x) - 1))
    assert F.take(x, k).data == x[k]
    assert F.take(np.array(x), np.int64(k)).data == x[k]


def test_take_from_rows_gives_a_row() -> None:
    table = [[Value(10.0 * i + j) for j in range(3)] for i in range(4)]
    row = F.take(table, 2)
    assert [v.data for v in row] == [20.0, 21.0, 22.0]
    assert row[1].operands == (table[2][1],)
    assert [v.data for v in F.take(np.arange(6.0).reshape(3, 2), 1)] == [2.0, 3.0]


@pytest.mark.parametrize("wrong", [-1, 3, 10**30])
def test_an_index_out_of_range_is_named_with_the_length(wrong: int) -> None:
    with pytest.raises(IndexError, match=rf"index {wrong} is out of range for 3 values"):
        F.take([1.0, 2.0, 3.0], wrong)


@pytest.mark.parametrize("wrong", [True, np.bool_(True), 1.0, "1", None, Value(1.0)])
def test_an_index_that_is_not_an_int_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="index: expected an int, got"):
        F.take([1.0, 2.0, 3.0], wrong)  # type: ignore[arg-type]


def test_candidates_must_exist_and_have_one_width() -> None:
    with pytest.raises(ShapeError, match="at least one candidate"):
        F.take([], 0)
    with pytest.raises(ShapeError, match=r"values\[1\] has 1 numbers, values\[0\] has 2"):
        F.take([[1.0, 2.0], [3.0]], 0)


def test_a_traced_index_is_asked_for_a_number_or_a_row() -> None:
    asked: list[list[object]] = []

    class Traced:
        is_traced_index = True

        def take(self, values: Sequence[float]) -> Value:
            asked.append([*values])
            return Value(values[-1])

        def take_row(self, rows: Sequence[Sequence[float]]) -> list[Value]:
            asked.append([*rows])
            return [Value(x) for x in rows[-1]]

    assert F.take([1.0, 2.0], Traced()).data == 2.0
    assert [v.data for v in F.take([[1.0, 2.0], [3.0, 4.0]], Traced())] == [3.0, 4.0]
    assert asked == [[1.0, 2.0], [[1.0, 2.0], [3.0, 4.0]]]


# --- sums -----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(wide, wide), min_size=1, max_size=8))
def test_sums_add_from_left_to_right_to_the_bit(pairs: list[tuple[float, float]]) -> None:
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    expected, expected_dot = a[0], a[0] * b[0]
    for ak, bk in pairs[1:]:
        expected += ak
        expected_dot += ak * bk
    assert F.total(a).data == expected
    assert F.dot(a, b).data == expected_dot
    assert F.dot(F.as_values(a), np.array(b)).data == expected_dot
    assert F.mean(a).data == expected / len(a)


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=8))
def test_variance_is_the_mean_squared_distance_from_the_mean(x: list[int]) -> None:
    centre = Fraction(sum(x), len(x))
    exact = sum((xk - centre) ** 2 for xk in x) / len(x)
    assert F.variance(x).data == pytest.approx(float(exact), rel=1e-12, abs=1e-9)


def test_sums_of_nothing_are_zero_and_numbers_are_not_added_as_integers() -> None:
    assert F.total([]).data == 0.0
    assert F.dot([], []).data == 0.0
    assert F.dot(np.array([100], np.int8), np.array([100], np.int8)).data == 10000.0


def test_sums_have_no_extra_nodes() -> None:
    a, b = Value(1.0), Value(2.0)
    assert F.total([a, b]).operands == (a, b)
    assert F.mean([a]) is a
    products = F.dot([a, b], [b, a]).operands
    assert [p.operands for p in products] == [(a, b), (b, a)]


def test_dot_makes_the_nodes_of_the_sum_written_out() -> None:
    a, b = [Value(2.0), Value(3.0), Value(-1.0)], [Value(0.5), 4, np.float32(0.25)]

    def written_out() -> Value:
        return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]

    found, expected = Graph(F.dot(a, b)), Graph(written_out())
    assert [found.tape.operands(i) for i in range(len(found))] == [
        expected.tape.operands(i) for i in range(len(expected))
    ]
    assert found.tape.op.tolist() == expected.tape.op.tolist()
    assert [v.data for v in found.nodes] == [v.data for v in expected.nodes]


class _Unit:
    """What multiplies Values by a rule of its own, into what is no Value."""

    def __rmul__(self, other: Value) -> float:
        return 7.0 * other.data


def test_dot_leaves_products_to_what_has_a_rule_of_its_own() -> None:
    a = [Value(2.0), Value(3.0)]
    assert F.dot(a, [_Unit(), _Unit()]) == 35.0  # type: ignore[list-item, comparison-overlap]
    mixed = F.dot(a, [_Unit(), 2.0])  # type: ignore[list-item]
    assert mixed.data == 20.0
    assert mixed.op == "add"


def test_dot_keeps_no_operands_where_nobody_wants_gradients() -> None:
    with no_grad():
        assert F.dot([Value(2.0)], [Value(3.0)]).operands == ()
        assert F.dot([Value(2.0), Value(1.0)], [Value(3.0), Value(4.0)]).operands == ()
    with detect_anomaly(), pytest.raises(AnomalyError, match="inf"):
        F.dot([Value(1e308), Value(1.0)], [Value(10.0), Value(4.0)])


def test_dot_never_cuts_the_longer_list_short() -> None:
    with pytest.raises(ShapeError, match="dot: a has 2 numbers, b has 3"):
        F.dot([1.0, 2.0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    "f",
    [
        lambda x: F.total(x),
        lambda x: F.mean(x),
        lambda x: F.variance(x),
        lambda x: F.dot(x, x[::-1]),
        lambda x: F.dot(x, [1.0, 2.0, -3.0, 0.5]),
        lambda x: F.logsumexp(x),
        lambda x: F.softmax(x)[1] * 3 + F.softmax(x)[2],
        lambda x: F.log_softmax(x)[3] - 2 * F.log_softmax(x)[0],
        lambda x: F.maximum(*x) * F.minimum(*x),
    ],
)
def test_gradients_agree_with_central_differences(f: Callable[[list[Value]], Value]) -> None:
    assert_gradient(f, LOGITS)
    assert_gradient(f, [3.0, -7.0, 0.25, 4.0])


def test_a_wrong_gradient_is_caught() -> None:
    def forgets_the_normaliser(x: list[Value]) -> Value:
        return x[0].exp() / F.total([xk.exp() for xk in x]).detach()

    with pytest.raises(AssertionError):
        assert_gradient(forgets_the_normaliser, LOGITS)


# --- exponentials ---------------------------------------------------------------------------------


def test_numbers_computed_by_pytorch() -> None:
    assert F.logsumexp(LOGITS).data == pytest.approx(LOGSUMEXP, rel=1e-15)
    assert [v.data for v in F.softmax(LOGITS)] == pytest.approx(SOFTMAX, rel=1e-14)
    assert [v.data for v in F.log_softmax(LOGITS)] == pytest.approx(LOG_SOFTMAX, rel=1e-15)


@given(st.lists(wide, min_size=1, max_size=8), st.data())
@settings(max_examples=25, deadline=None)
def test_pytorch_agrees(x: list[float], data: st.DataObject) -> None:
    torch = pytest.importorskip("torch")
    k = data.draw(st.integers(0, len(x) - 1))
    for ours, theirs in (
        (F.logsumexp, lambda t: torch.logsumexp(t, 0)),
        (lambda v: F.softmax(v)[k], lambda t: torch.softmax(t, 0)[k]),
        (lambda v: F.log_softmax(v)[k], lambda t: torch.log_softmax(t, 0)[k]),
    ):
        values = [Value(xk) for xk in x]
        y = ours(values)
        y.backward()
        tensor = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        expected = theirs(tensor)
        expected.backward()
        assert y.data == pytest.approx(expected.item(), rel=1e-12, abs=1e-12)
        assert [v.grad for v in values] == pytest.approx(tensor.grad.tolist(), rel=1e-9, abs=1e-12)


@given(st.lists(wide, min_size=1, max_size=8))
@example([1e4, -1e4])
@example([1e308, -1e308])
def test_softmax_is_a_distribution_in_the_order_of_its_arguments(x: list[float]) -> None:
    p = [v.data for v in F.softmax(x)]
    assert math.fsum(p) == pytest.approx(1.0, abs=1e-14)
    assert all(0.0 <= pk <= 1.0 for pk in p)
    ranked = [pk for _, pk in sorted(zip(x, p))]
    assert all(low <= high for low, high in pairwise(ranked))


@given(st.lists(moderate, min_size=1, max_size=8), wide)
def test_a_shift_of_all_arguments_changes_nothing(x: list[float], shift: float) -> None:
    moved = [xk + shift for xk in x]
    assert [v.data for v in F.softmax(moved)] == pytest.approx(
        [v.data for v in F.softmax(x)], rel=1e-9, abs=1e-12
    )
    assert F.logsumexp(moved).data - shift == pytest.approx(F.logsumexp(x).data, abs=1e-9)


@given(st.lists(wide, min_size=1, max_size=8))
def test_logsumexp_is_a_smooth_maximum(x: list[float]) -> None:
    y = F.logsumexp(x).data
    assert max(x) <= y <= max(x) + math.log(len(x)) + 1e-11


@given(st.lists(moderate, min_size=1, max_size=6))
def test_the_gradient_of_logsumexp_is_softmax(x: list[float]) -> None:
    assert gradient(F.logsumexp, x) == pytest.approx([v.data for v in F.softmax(x)], rel=1e-13)


@given(st.lists(moderate, min_size=1, max_size=6))
def test_log_softmax_is_the_logarithm_of_softmax(x: list[float]) -> None:
    logs = [v.data for v in F.log_softmax(x)]
    assert logs == pytest.approx([math.log(v.data) for v in F.softmax(x)], abs=1e-12)


def test_infinities_have_their_limits() -> None:
    inf = math.inf
    assert F.logsumexp([-inf, -inf]).data == -inf
    assert F.logsumexp([inf, 0.0]).data == inf
    assert F.logsumexp([-inf, 2.0]).data == 2.0
    assert math.isnan(F.logsumexp([math.nan, 0.0]).data)
    assert [v.data for v in F.softmax([-inf, 1.0, 1.0])] == [0.0, 0.5, 0.5]
    assert [v.data for v in F.log_softmax([-inf, 3.0])] == [-inf, 0.0]
    assert gradient(F.logsumexp, [-inf, 2.0]) == [0.0, 1.0]


def never_overflows(softmax: Callable[[list[Value]], list[Value]]) -> bool:
    return all(
        math.isfinite(p.data)
        for x in ([1e4, -1e4], [-1e4, -1e4], [1e4, 1e4, 0.0])
        for p in softmax([Value(xk) for xk in x])
    )


def test_no_overflow_and_a_softmax_without_the_shift_is_caught() -> None:
    def unshifted(x: list[Value]) -> list[Value]:
        normaliser = F.total([xk.exp() for xk in x])
        return [xk.exp() / normaliser for xk in x]

    assert never_overflows(F.softmax)
    assert never_overflows(F.log_softmax)
    assert not never_overflows(unshifted)


def test_the_maximum_is_part_of_the_graph_and_gets_no_gradient() -> None:
    x = [Value(1.0), Value(2.0)]
    for y in (F.logsumexp(x), F.softmax(x)[0], F.log_softmax(x)[0]):
        ops, pending = {}, [y]
        while pending:
            node = pending.pop()
            ops[node.op] = node
            pending += node.operands
        y.backward()
        assert ops["detach"].operands[0].op == "maximum"
        assert ops["maximum"].grad == 0.0


def test_a_replayed_graph_finds_the_new_maximum() -> None:
    x = [Value(1.0), Value(2.0)]
    graph = Graph(F.logsumexp(x))
    x[0].data, x[1].data = 1e4, -1e4
    graph.forward()
    assert graph.outputs[0].data == F.logsumexp([1e4, -1e4]).data == 1e4


# --- tracing --------------------------------------------------------------------------------------


def test_no_function_looks_at_a_number() -> None:
    x, y = F.as_values(LOGITS), F.as_values([1.0, 2.0, 3.0, 4.0])
    with modes(tracer=ForbidReading()):
        F.maximum(*x)
        F.minimum(*x)
        F.where(True, x[0], x[1])
        F.take(x, 2)
        F.take([x, y], 1)
        F.total(x)
        F.dot(x, y)
        F.mean(x)
        F.variance(x)
        F.logsumexp(x)
        F.softmax(x)
        F.log_softmax(x)


def test_a_function_that_looks_is_caught() -> None:
    x = F.as_values(LOGITS)
    for looks in (lambda: max(x), lambda: float(x[0]), lambda: x[0].data, lambda: bool(x[0])):
        with modes(tracer=ForbidReading()), pytest.raises(AssertionError, match="while tracing"):
            looks()
