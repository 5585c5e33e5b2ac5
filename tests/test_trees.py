"""Nested numbers taken apart and put together again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalargrad import Value
from scalargrad.trees import flatten, holds_value, joined, paths, replace

pytestmark = pytest.mark.pure

numbers = st.floats(-10.0, 10.0)
nested: st.SearchStrategy[Any] = st.recursive(
    numbers,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text("abc", max_size=2) | st.integers(0, 3), inner, max_size=3)
    ),
    max_leaves=12,
)


class Pair(NamedTuple):
    left: Any
    right: Any


@given(nested)
def test_taking_apart_and_putting_together_is_the_identity(x: Any) -> None:
    tree = flatten(x, "x")
    assert tree.nested(tree.leaves) == x
    assert len(paths(x, "x")) == len(tree.leaves) == len(tree.shapes)


@given(nested)
def test_paths_lead_to_their_numbers(x: Any) -> None:
    assert [eval(path, {"x": x}) for path in paths(x, "x")] == flatten(x, "x").leaves


def test_arrays_are_one_group_each() -> None:
    x = Pair([1.0, np.arange(6).reshape(2, 3)], {"b": 2.0, "a": np.array([True + 0.5])})
    tree = flatten(x, "x")
    assert tree.leaves == [1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 1.5, 2.0]
    assert tree.shapes == [(), (2, 3), (1,), ()]
    assert tree.spans == [(0, 1), (1, 7), (7, 8), (8, 9)]
    assert tree.form == "[[number, array(2, 3)], {'a': array(1,), 'b': number}]"
    back = tree.nested(tree.leaves)
    assert type(back) is Pair
    assert list(back.right) == ["b", "a"]
    np.testing.assert_equal(back, x)
    assert paths(x, "x")[6] == "x[0][1][1, 2]"


def test_forms_are_short_and_do_not_depend_on_the_order_of_keys() -> None:
    assert flatten([0.0] * 1000, "x").form == "[1000 of number]"
    assert flatten([[0.0] * 3] * 2, "x").form == "[2 of [3 of number]]"
    assert flatten({"a": 1, "b": 2}, "x").form == flatten({"b": 1, "a": 2}, "x").form
    assert flatten({1: 0.0, "a": 0.0}, "x").form == "{1: number, 'a': number}"
    assert flatten(OrderedDict(z=1.0), "x").nested([2.0]) == {"z": 2.0}


def test_values_stay_themselves() -> None:
    v = Value(1.0)
    tree = flatten([v, np.array([v, 2], object)], "x")
    assert tree.leaves[0] is tree.leaves[1] is v
    again = tree.nested(tree.leaves, of_values=True)
    assert again[0] is v
    assert again[1].dtype == object


def test_joined_trees_are_a_tuple() -> None:
    tree = joined([flatten([1.0, 2.0], "a"), flatten(3.0, "b")])
    assert tree.nested(tree.leaves) == ([1.0, 2.0], 3.0)
    assert tree.form == "[[2 of number], number]"
    assert joined([]).nested([]) == ()


@pytest.mark.parametrize(
    "x", [[1.0, {"a": (2.0, Value(1.0))}], np.array([1.0, Value(2.0)], object)]
)
def test_a_value_is_found_wherever_it_is(x: Any) -> None:
    assert holds_value(x)


@pytest.mark.parametrize(
    "x", [1.0, [1, (2, {"a": "text"})], np.ones(3), None, np.array([1.0], object)]
)
def test_no_value_is_found_where_there_is_none(x: Any) -> None:
    assert not holds_value(x)


def test_replace_changes_values_and_nothing_else() -> None:
    marker = object()
    x = Pair([Value(1.0), "text"], {"a": (Value(2.0), marker), "n": np.ones(2)})
    found = replace(x, lambda v: v.data * 10.0)
    assert type(found) is Pair
    assert found.left == [10.0, "text"]
    assert found.right["a"] == (20.0, marker)
    assert found.right["n"] is x.right["n"]
    array = replace(np.array([[Value(1.0), Value(2.0)]], object), lambda v: v.data)
    assert (array.dtype, array.tolist()) == (np.float64, [[1.0, 2.0]])
    mixed = replace(np.array([Value(1.0), "text"], object), lambda v: v.data)
    assert mixed.tolist() == [1.0, "text"]


@pytest.mark.parametrize(
    "x", [True, "1", None, 1j, np.bool_(True), object(), {1.0}, np.array([1j])]
)
def test_what_is_not_a_number_is_refused(x: Any) -> None:
    with pytest.raises(TypeError, match=r"x\['k'\]\[0\]: expected "):
        flatten({"k": [x]}, "x")


def test_what_float64_cannot_hold_is_named() -> None:
    with pytest.raises(OverflowError, match=r"^x\[1\]: expected a number .* an int of 1329 bits"):
        flatten([1.0, 10**400], "x")
