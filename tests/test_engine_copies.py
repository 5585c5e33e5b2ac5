"""Copying and pickling Values and graphs of any depth."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from processes import run_python
from scalargrad import Value, live_values
from scalargrad.errors import StaleGraphError
from strategies import Program, on_values, same_bits, wild_programs

pytestmark = pytest.mark.pure


def pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


COPIES = {
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda thing, protocol=protocol: pickle.loads(
            pickle.dumps(thing, protocol)
        )
        for protocol in (0, 2, pickle.HIGHEST_PROTOCOL)
    },
}
copies = pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
Duplicate = Callable[[Any], Any]


def nodes_of(root: Value) -> list[Value]:
    """Everything root depends on, each once, in a depth-first order."""
    found, waiting = {root: None}, [root]
    while waiting:
        for v in waiting.pop().operands:
            if v not in found:
                found[v] = None
                waiting.append(v)
    return list(found)


def shape_of(root: Value) -> list[tuple[Any, ...]]:
    """All that a graph is made of but its identity; numbers as text, so that nan equals nan."""
    place = {v: k for k, v in enumerate(nodes_of(root))}
    return [(v.op, v._op, repr(v), v.label, tuple(place[w] for w in v.operands)) for v in place]


# --- leaves ---------------------------------------------------------------------------------------


@copies
def test_a_leaf(duplicate: Duplicate) -> None:
    v = Value(2.5, "x")
    v.grad = 0.5
    other = duplicate(v)
    assert type(other) is Value
    assert other is not v
    assert (other.data, other.grad, other.label, other.op) == (2.5, 0.5, "x", "")
    other.data, other.label = 3.0, "y"
    assert (v.data, v.label) == (2.5, "x")


@copies
def test_a_leaf_that_was_written_before(duplicate: Duplicate) -> None:
    v = Value(1.0)
    for k in range(5):
        v.data = k
    other = duplicate(v)
    y = other * 2
    y.backward()
    assert other.grad == 2.0


@copies
def test_a_container_keeps_its_sharing(duplicate: Duplicate) -> None:
    v = Value(1.0)
    a, (b, c), d = duplicate([v, (v, v * 2), {"v": v}])
    assert a is b is d["v"]
    assert c.operands[0] is a


# --- graphs ---------------------------------------------------------------------------------------


@copies
@given(program=wild_programs())
def test_any_graph(duplicate: Duplicate, program: Program) -> None:
    values = program.run([Value(x) for x in program.inputs], on_values)
    for k, v in enumerate(values):
        v.label = f"v{k}" if k % 2 else ""
    root = values[-1]
    root.backward()
    other = duplicate(root)
    assert shape_of(other) == shape_of(root)
    assert not set(nodes_of(other)) & set(nodes_of(root))
    root.backward()
    other.backward()
    assert shape_of(other) == shape_of(root)


@copies
def test_the_copy_is_apart_from_the_original(duplicate: Duplicate) -> None:
    x = Value(2.0, "x")
    y = x * x
    other = duplicate(y)
    other.backward()
    assert (x.grad, y.grad, other.operands[0].grad) == (0.0, 0.0, 4.0)
    x.data = 5.0
    other.backward()
    assert other.operands[0].grad == 8.0
    with pytest.raises(StaleGraphError):
        y.backward()


@copies
def test_sharing_inside_a_graph(duplicate: Duplicate) -> None:
    x = Value(3.0)
    h = x * x
    other = duplicate(h * h + x)
    product, leaf = other.operands
    assert product.operands[0] is product.operands[1]
    assert product.operands[0].operands == (leaf, leaf)
    other.backward()
    assert leaf.grad == 4 * 27.0 + 1.0


@copies
def test_a_model_and_its_loss_together(duplicate: Duplicate) -> None:
    parameters = [Value(k / 3, f"p{k}") for k in range(4)]
    loss = sum((p * p for p in parameters), Value(0.0))
    model, loss_copy = duplicate((parameters, loss))
    loss_copy.backward()
    assert [p.grad for p in model] == [2 * p.data for p in parameters]
    assert [p.label for p in model] == ["p0", "p1", "p2", "p3"]


@copies
def test_selections_keep_their_index_and_constants_their_value(duplicate: Duplicate) -> None:
    x = Value(-2.0)
    for y in [
        Value.apply("take", x, x * 2, x * 3, const=2),
        Value.apply("take", x, const=0),
        Value.apply("where", 0.0, x, x * 5),
        x.leaky_relu(0.125),
        x**3,
    ]:
        other = duplicate(y)
        assert (other.op, other._op) == (y.op, y._op)
        assert other._local_grads == y._local_grads
        other.backward()
        y.backward()
        assert shape_of(other) == shape_of(y)


@copies
def test_creation_order_survives(duplicate: Duplicate) -> None:
    """The order of accumulation, hence every bit of a gradient, is that of the original."""
    x = Value(1.0)
    parts = [x * c for c in (1e16, 1.0, -1e16, 3.0)]
    y = (parts[2] + parts[0]) + (parts[3] + parts[1])
    other = duplicate(y)
    y.backward()
    other.backward()
    leaf = other.operands[0].operands[0].operands[0]
    assert leaf.grad == x.grad


@pytest.mark.usefixtures("by_counts_alone")
@copies
def test_a_deep_chain(duplicate: Duplicate) -> None:
    depth = 100_000
    before = live_values()
    x = y = Value(1.0, "x")
    for k in range(depth):
        y = y + x if k % 3 else -y
    y.label = "y"
    other = duplicate(y)
    assert (other.data, other.label) == (y.data, "y")
    y.backward()
    other.backward()
    bottom = other
    for _ in range(depth):
        bottom = bottom.operands[0]
    assert (bottom.label, bottom.grad) == ("x", x.grad)
    del other, bottom, y
    assert live_values() == before + 1


@copies
def test_a_wide_selection(duplicate: Duplicate) -> None:
    candidates = [Value(k) for k in range(20_000)]
    y = Value.apply("take", *candidates, const=19_999)
    other = duplicate(y)
    other.backward()
    assert (other.data, other.operands[-1].grad) == (19_999.0, 1.0)


def test_deepcopy_of_many_results_of_one_graph() -> None:
    """A list of all results along a chain is copied in one walk, however it is ordered."""
    chain = [Value(1.0) + 0]
    for _ in range(20_000):
        chain.append(chain[-1] + 1)
    for others in (copy.deepcopy(chain), copy.deepcopy(chain[::-1])[::-1]):
        assert all(later.operands[0] is earlier for earlier, later in pairwise(others))


def test_deepcopy_uses_and_fills_the_memo() -> None:
    x = Value(1.0)
    y = x * 2
    stand_in = Value(7.0)
    memo: dict[int, Any] = {id(x): stand_in}
    other = copy.deepcopy(y, memo)
    assert other.operands[0] is stand_in
    assert memo[id(y)] is other


# --- shallow copies -------------------------------------------------------------------------------


def test_a_shallow_copy_shares_its_operands() -> None:
    x = Value(3.0, "x")
    y = x**2
    y.label = "y"
    y.grad = 5.0
    other = copy.copy(y)
    assert other is not y
    assert (other.data, other.grad, other.label, other.op) == (9.0, 5.0, "y", "pow")
    assert other.operands == (x,)
    other.backward()
    assert (x.grad, y.grad) == (6.0, 5.0)
    leaf = copy.copy(x)
    assert (leaf.data, leaf.label, leaf.operands) == (3.0, "x", ())


def test_a_shallow_copy_of_a_selection() -> None:
    a, b = Value(1.0), Value(2.0)
    other = copy.copy(Value.apply("take", a, b, const=1))
    assert other.operands == (a, b)
    other.backward()
    assert (a.grad, b.grad) == (0.0, 1.0)


# --- stale graphs stay stale ----------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [*COPIES.values(), copy.copy], ids=[*COPIES, "copy"])
@pytest.mark.parametrize("changed", ["leaf", "result"])
def test_a_stale_graph_stays_stale(duplicate: Duplicate, changed: str) -> None:
    x = Value(2.0)
    h = x * x
    y = -h
    (x if changed == "leaf" else h).data = 3.0
    other = duplicate(y)
    for root in (y, other):
        with pytest.raises(StaleGraphError):
            root.backward()
    assert shape_of(other) == shape_of(y)


@copies
def test_a_copy_becomes_stale_like_an_original(duplicate: Duplicate) -> None:
    x = Value(2.0)
    x.data = 3.0
    other = duplicate(x * 2)
    other.operands[0].data = 4.0
    with pytest.raises(StaleGraphError):
        other.backward()


def test_a_copied_result_overwritten_is_stale() -> None:
    other = copy.copy(Value(2.0) * 3)
    other.data = 1.0
    with pytest.raises(StaleGraphError):
        other.backward()


# --- between engines and processes ----------------------------------------------------------------

READ = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    y = pickle.load(file)
y.backward()
print(repr(y), y.label, *(v.grad for v in y.operands))
"""


@pytest.mark.parametrize("pure", [False, True])
def test_a_pickle_is_read_by_either_engine(pure: bool, tmp_path: Path) -> None:
    a, b = Value(2.0), Value(3.0)
    y = Value.apply("take", a * b, b**2, a.exp(), const=1)
    y.label = "y"
    path = tmp_path / "graph.pickle"
    path.write_bytes(pickle.dumps(y))
    assert (
        run_python("-c", READ, str(path), pure=pure) == "Value(data=9.0, grad=1.0) y 0.0 1.0 0.0\n"
    )


def test_same_bits_after_a_round_trip() -> None:
    numbers = [0.1, -0.0, 5e-324, 1.7976931348623157e308, float("inf"), float("nan")]
    values = [Value(x) for x in numbers]
    for v, x in zip(values, numbers):
        v.grad = x
    others = pickled(values)
    assert same_bits([v.data for v in others], numbers)
    assert same_bits([v.grad for v in others], [x + 0.0 for x in numbers])  # no grad is -0.0
