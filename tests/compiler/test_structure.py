"""Signatures: nested things become a row of numbers and come back the same."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalargrad.compiler.reading import fill, flatten, flatten_batch
from scalargrad.compiler.structure import (
    INDEX,
    NUMBER,
    Array,
    Batched,
    Gradients,
    Items,
    Keyed,
    Numbers,
    Row,
    Scalar,
    Source,
    Static,
    describe,
)

pytestmark = pytest.mark.pure
Point = namedtuple("Point", "x y")

numbers = st.floats(allow_nan=False) | st.integers(-(2**53), 2**53)
arrays = st.lists(st.floats(allow_nan=False), min_size=1, max_size=6).map(np.array)
leaves = numbers | arrays | st.none() | st.booleans() | st.text(max_size=3)
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=2) | st.integers(), inner, max_size=3)
        | st.tuples(inner, inner).map(lambda pair: Point(*pair))
    ),
    max_leaves=12,
)


def flattened(x: Any) -> tuple[Any, np.ndarray[Any, Any]]:
    chunks: list[Any] = []
    signature = flatten(x, chunks)
    row = np.empty(signature.size)
    fill(row, chunks)
    return signature, row


def same(x: Any, y: Any) -> bool:
    """Equal in structure, types and numbers; an int in a list of floats may have become one."""
    if isinstance(x, np.ndarray):
        return isinstance(y, np.ndarray) and x.shape == y.shape and bool((x == y).all())
    if isinstance(x, dict):
        return list(x) == list(y) and all(same(x[key], y[key]) for key in x)
    if isinstance(x, list | tuple):
        return type(x) is type(y) and len(x) == len(y) and all(map(same, x, y))
    return bool(x == y) and (isinstance(x, bool) == isinstance(y, bool))


@given(nested)
def test_there_and_back(x: Any) -> None:
    signature, row = flattened(x)
    assert same(x, signature.build(Numbers(row)))
    assert same(x, signature.build(Source(row.tolist())))


@given(nested)
def test_size_names_and_kinds_agree(x: Any) -> None:
    signature, row = flattened(x)
    names, kinds = list(signature.names("x")), list(signature.kinds())
    assert len(names) == len(kinds) == signature.size == len(row)
    assert len(set(names)) == len(names)
    for name, number in zip(names, row):
        assert float(eval(name, {"x": x})) == number


@given(nested, nested)
def test_equal_signatures_rebuild_alike(x: Any, y: Any) -> None:
    a, row = flattened(x)
    b, _ = flattened(y)
    if a == b:
        assert hash(a) == hash(b)
        assert same(a.build(Numbers(row)), b.build(Numbers(row)))


@pytest.mark.parametrize(
    ("x", "signature"),
    [
        (1.0, NUMBER),
        (1, INDEX),
        (np.float32(1.0), NUMBER),
        (np.uint8(1), INDEX),
        (np.array(1.0), NUMBER),
        ([1.0, 2.0], Row(list, 2, "number")),
        ([1, 2], Row(list, 2, "index")),
        ([1, 2.0], Row(list, 2, "number")),
        ((1, 2.0), Items(tuple, (INDEX, NUMBER))),
        ((1.0, 2.0), Row(tuple, 2, "number")),
        ([], Items(list, ())),
        ([[1.0], 2], Items(list, (Row(list, 1, "number"), INDEX))),
        ({"a": 1}, Keyed(("a",), (INDEX,))),
        (np.zeros((2, 3), np.float16), Array((2, 3), "number")),
        (np.zeros((2, 0), int), Array((2, 0), "index")),
        (None, Static(type(None), None)),
        (True, Static(bool, True)),
        ("a", Static(str, "a")),
    ],
    ids=repr,
)
def test_signatures(x: Any, signature: Any) -> None:
    assert flattened(x)[0] == signature


def test_true_is_not_one() -> None:
    assert flattened(True)[0] != flattened(1)[0]
    assert flattened([True])[0] != flattened([1])[0]


def test_kinds_become_types() -> None:
    out = Items(list, (Scalar("number"), Scalar("index"), Scalar("truth"), Row(tuple, 2, "index")))
    assert repr(out.build(Numbers(np.array([1.0, 2.0, 1.0, 3.0, 4.0])))) == "[1.0, 2, True, (3, 4)]"


def test_gradients_are_floats_and_keep_the_batch_axis() -> None:
    assert INDEX.build(Gradients(np.array([[2.0]]))) == 2.0
    assert Array((2,), "index").build(Gradients(np.array([[1.0, 2.0]]))).dtype == np.float64
    block = np.arange(6.0).reshape(3, 2)
    assert Batched(list, Row(list, 2, "number")).build(Gradients(block)) == block.tolist()
    assert Batched(np.ndarray, Array((2,), "number")).build(Gradients(block)).tolist() == (
        block.tolist()
    )
    assert Batched(np.ndarray, NUMBER).build(Gradients(block[:, :1])).shape == (3,)
    shared = Items(tuple, (NUMBER, Batched(list, NUMBER)))
    assert shared.build(Gradients(block)) == (0.0, [1.0, 3.0, 5.0])


def test_what_is_built_has_its_own_memory() -> None:
    row = np.arange(4.0)
    built = Array((2, 2), "number").build(Numbers(row))
    row[:] = 0.0
    assert built.tolist() == [[0.0, 1.0], [2.0, 3.0]]


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (1.0, "a number"),
        (1, "an integer"),
        ([1.0, 2.0], "a list of 2 numbers"),
        ((1, 2), "a tuple of 2 integers"),
        (np.zeros((2, 3)), "an array of numbers of shape (2, 3)"),
        ([[1.0], 2], "a list of 2 (a list of 1 numbers, an integer)"),
        ({"a": 1}, "a dict with the keys ['a']"),
        (None, "None"),
    ],
)
def test_in_words(x: Any, words: str) -> None:
    assert describe(flattened(x)[0]) == words


def test_a_batch_in_words() -> None:
    assert describe(flatten_batch([[1.0, 2.0]], [])) == "a batch, each a list of 2 numbers"
