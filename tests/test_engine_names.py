"""The names that micrograd's and microgpt's programs use."""

from __future__ import annotations

import pytest
from hypothesis import given
from micrograd.engine import Value as MicrogradValue

from scalargrad import Value, ops
from strategies import Program, on_values, same_bits, wild_programs

pytestmark = pytest.mark.pure


def test_prev_is_the_set_of_operands() -> None:
    a, b = Value(2.0), Value(3.0)
    assert (a * b)._prev == {a, b}
    assert (a * a)._prev == {a}
    assert a._prev == set()
    assert Value.apply("where", a, b, a)._prev == {a, b}


def test_children_are_the_operands_in_order() -> None:
    a, b = Value(2.0), Value(3.0)
    assert (a * b)._children == (a, b)
    assert (b / b)._children == (b, b)
    assert a._children == ()


def test_op_is_micrograds_symbol() -> None:
    ours, theirs = Value(2.0), MicrogradValue(2.0)
    for use in [
        lambda x: x,
        lambda x: x + 1,
        lambda x: x * x,
        lambda x: x**3,
        lambda x: x**2.12345678,
        lambda x: x**-1,
        lambda x: x.relu(),
    ]:
        assert use(ours)._op == use(theirs)._op
    assert [v._op for v in (ours - 1, ours / 2, -ours, ours**ours, ours.tanh(), abs(ours))] == [
        *("-", "/", "neg", "**", "tanh", "abs")
    ]


def test_every_operation_has_its_own_symbol() -> None:
    symbols = []
    for row in ops.TABLE:
        operands = [Value(0.5) for _ in range(row.arity or 2)]
        symbols.append(Value.apply(row.name, *operands, const=1.0)._op)
    assert len(set(symbols)) == len(ops.TABLE)
    assert all(symbols)


def test_local_gradients() -> None:
    a, b = Value(2.0), Value(4.0)
    assert (a * b)._local_grads == (4.0, 2.0)
    assert (a - b)._local_grads == (1.0, -1.0)
    assert (a / b)._local_grads == (0.25, -0.125)
    assert (a**3)._local_grads == (12.0,)
    assert a._local_grads == ()
    assert Value.apply("where", 3.0, a, b)._local_grads == (0.0, 1.0, 0.0)
    assert Value.apply("take", a, b, a, const=2)._local_grads == (0.0, 0.0, 1.0)


@given(program=wild_programs(max_steps=8))
def test_every_node_has_a_local_gradient_per_child(program: Program) -> None:
    for v in program.run([Value(x) for x in program.inputs], on_values):
        assert len(v._local_grads) == len(v._children) == len(v.operands)
        assert all(type(g) is float for g in v._local_grads)


# --- stepping through backward by hand --------------------------------------------------------------


def lecture_neuron() -> tuple[Value, ...]:
    """The neuron of micrograd's lecture: o = tanh(x1*w1 + x2*w2 + b)."""
    x1, x2 = Value(2.0, label="x1"), Value(0.0, label="x2")
    w1, w2 = Value(-3.0, label="w1"), Value(1.0, label="w2")
    b = Value(6.8813735870195432, label="b")
    x1w1, x2w2 = x1 * w1, x2 * w2
    both = x1w1 + x2w2
    n = both + b
    o = n.tanh()
    return x1, x2, w1, w2, b, x1w1, x2w2, both, n, o


def test_the_lectures_steps_by_hand() -> None:
    x1, x2, w1, w2, b, x1w1, x2w2, both, n, o = lecture_neuron()
    assert f"{o.data:.4f}" == "0.7071"
    o.grad = 1.0
    assert o._backward() is None
    assert f"{n.grad:.2f}" == "0.50"
    n._backward()
    assert f"{b.grad:.2f}" == f"{both.grad:.2f}" == "0.50"
    b._backward()
    both._backward()
    x2w2._backward()
    x1w1._backward()
    assert [f"{v.grad:.2f}" for v in (x1, w1, x2, w2)] == ["-1.50", "1.00", "0.50", "0.00"]


def test_stepping_gives_what_backward_gives() -> None:
    by_hand, at_once = lecture_neuron(), lecture_neuron()
    by_hand[-1].grad = 1.0
    for v in reversed(by_hand):
        v._backward()
    at_once[-1].backward()
    assert [v.grad for v in by_hand] == [v.grad for v in at_once]


def test_a_step_of_a_leaf_or_of_a_zero_gradient_does_nothing() -> None:
    x = Value(2.0)
    x.grad = 3.0
    x._backward()
    assert x.grad == 3.0
    y = x.log()
    y._backward()
    assert x.grad == 3.0


def depth_first(root: Value) -> list[Value]:
    """Micrograd's and microgpt's topological order."""
    order, visited = [], set()

    def build(v: Value) -> None:
        if v not in visited:
            visited.add(v)
            for child in v._children:
                build(child)
            order.append(v)

    build(root)
    return order


@given(program=wild_programs(max_steps=10))
def test_microgpts_own_backward_loop(program: Program) -> None:
    """`child.grad += local * v.grad` over `_children` and `_local_grads` is what an op does."""
    for step in program.steps:
        operands = [Value(k + 0.5) for k in range(len(step.operands))]
        ours = on_values(step.op, operands, step.constant)
        ours.backward()
        theirs = [0.0 + local * 1.0 for local in ours._local_grads]
        got = [v.grad for v in operands]
        if all(x - x == 0.0 for x in theirs):  # a partial of 0 times inf is not passed on
            assert same_bits(got, theirs)


def test_microgpts_own_backward_loop_on_a_graph() -> None:
    def build() -> tuple[list[Value], Value]:
        leaves = [Value(0.5 + k) for k in range(4)]
        a, b, c, d = leaves
        h = (a * b - c / d).tanh() + a**2 + b**c
        return leaves, (h * h + d.exp()).log() - h.relu()

    leaves, root = build()
    root.backward()
    other_leaves, other = build()
    other.grad = 1.0
    for v in reversed(depth_first(other)):
        for child, local in zip(v._children, v._local_grads):
            child.grad += local * v.grad
    assert [v.grad for v in other_leaves] == pytest.approx([v.grad for v in leaves], rel=1e-14)


def test_micrograds_own_backward_loop() -> None:
    leaves = [Value(-4.0), Value(2.0)]
    a, b = leaves
    root = ((a + b).relu() * 3 + b**3 - a / b) ** 2
    root.backward()
    expected, a.grad, b.grad = [a.grad, b.grad], 0.0, 0.0
    order = depth_first(root)
    for v in order:
        v.grad = 0.0
    root.grad = 1.0
    for v in reversed(order):
        v._backward()
    assert [a.grad, b.grad] == pytest.approx(expected, rel=1e-15)
