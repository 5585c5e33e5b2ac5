"""Arguments as rows: what counts as a number, and how batches are split."""

from __future__ import annotations

import fractions
from typing import Any

import numpy as np
import pytest

from scalargrad import Value
from scalargrad.compiler.reading import Column, HasValues, flatten, flatten_batch
from scalargrad.compiler.structure import (
    INDEX,
    NUMBER,
    ArgumentError,
    Array,
    Batched,
    Items,
    Keyed,
    Row,
    Static,
)
from scalargrad.errors import ShapeError

pytestmark = pytest.mark.pure


def test_numbers_of_every_type() -> None:
    for x in (1.5, np.float64(1.5), np.float16(1.5), np.longdouble(1.5), fractions.Fraction(3, 2)):
        chunks: list[Any] = []
        assert flatten(x, chunks) == NUMBER
        assert float(chunks[0]) == 1.5
    for x in (2, np.int8(2), np.uint64(2)):
        chunks = []
        assert flatten(x, chunks) == INDEX
        assert int(chunks[0]) == 2


def test_lists_of_numbers_are_rows_whatever_the_types() -> None:
    half, three, zero = fractions.Fraction(1, 2), np.int8(3), np.array(0.0)
    for x, row in (
        ([half, 2.0], Row(list, 2, "number")),
        ([half, three, zero], Row(list, 3, "number")),
        ([three, 4], Row(list, 2, "index")),
        ((half, zero), Row(tuple, 2, "number")),
    ):
        chunks: list[Any] = []
        assert flatten(x, chunks) == row
        assert np.array(chunks[0], np.float64).tolist() == [float(number) for number in x]
        assert len(chunks) == 1
    assert flatten((half, three), chunks) == Items(tuple, (NUMBER, INDEX))
    assert flatten([half, None], chunks) == Items(list, (NUMBER, Static(type(None), None)))
    assert batch([half, three]) == (Batched(list, NUMBER), [[[0.5], [3.0]]])


def test_subclasses_and_things_like_arrays() -> None:
    class MyList(list[float]):
        pass

    class Series:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.array([1.0, 2.0])

    assert flatten(MyList([1.0, 2.0]), []) == Row(MyList, 2, "number")
    assert flatten(np.ma.array([1.0]), []) == Array((1,), "number")
    assert flatten(Series(), []) == Array((2,), "number")
    assert flatten_batch(Series(), []) == Batched(np.ndarray, NUMBER)


@pytest.mark.parametrize(
    "x", [Value(1.0), [Value(1.0)], (1.0, {"a": Value(1.0)}), np.array([Value(1.0), 2.0])], ids=repr
)
def test_values_are_noticed_at_any_depth(x: Any) -> None:
    for read in (flatten, flatten_batch):
        with pytest.raises(HasValues):
            read(x, [])


def test_errors_carry_the_path() -> None:
    with pytest.raises(ArgumentError) as caught:
        flatten({"a": [1.0, (2.0, {3})]}, [])
    assert str(caught.value.named("x")).startswith("x['a'][1][1]: expected a number")


def test_errors_in_a_batch_carry_the_path() -> None:
    with pytest.raises(ArgumentError) as caught:
        flatten_batch(({"a": [1.0, (2.0, {3})]}, 1.0), [])
    assert str(caught.value.named("x")).startswith("x[0]['a'][1][1]: expected a number")


def batch(x: Any) -> tuple[Any, list[Any]]:
    chunks: list[Any] = []
    signature = flatten_batch(x, chunks)
    return signature, [c.block.tolist() if isinstance(c, Column) else c for c in chunks]


def test_arrays_and_lists_are_batches() -> None:
    assert batch(np.array([1.0, 2.0])) == (Batched(np.ndarray, NUMBER), [[[1.0], [2.0]]])
    assert batch(np.array([[1, 2]])) == (Batched(np.ndarray, Array((2,), "index")), [[[1, 2]]])
    assert batch([1.0, 2.0]) == (Batched(list, NUMBER), [[[1.0], [2.0]]])
    assert batch([1, 2]) == (Batched(list, INDEX), [[[1.0], [2.0]]])
    assert batch([[1.0, 2.0], [3.0, 4.0]]) == (
        Batched(list, Row(list, 2, "number")),
        [[[1.0, 2.0], [3.0, 4.0]]],
    )
    assert batch([(1.0, [2, 3]), (4.0, [5, 6])]) == (
        Batched(list, Items(tuple, (NUMBER, Row(list, 2, "index")))),
        [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]],
    )
    assert batch([np.array([[1.0]]), np.array([[2.0]])])[0] == (
        Batched(list, Array((1, 1), "number"))
    )


def test_tuples_and_dicts_are_looked_into_and_numbers_are_shared() -> None:
    signature, chunks = batch(({"a": [1.0, 2.0]}, 3.0, None))
    assert signature == Items(
        tuple, (Keyed(("a",), (Batched(list, NUMBER),)), NUMBER, Static(type(None), None))
    )
    assert chunks == [[[1.0], [2.0]], 3.0]
    assert batch(np.array(2.0)) == (NUMBER, [np.array(2.0)])


def test_statics_are_the_same_in_every_example() -> None:
    signature, chunks = batch([("a", 1.0), ("a", 2.0)])
    assert signature == Batched(list, Items(tuple, (Static(str, "a"), NUMBER)))
    assert chunks == [[[1.0], [2.0]]]
    with pytest.raises(ShapeError, match=r"ragged batch: example 1 is"):
        batch([("a", 1.0), ("b", 2.0)])


def test_ragged_batches() -> None:
    for x in ([[1.0], [1.0, 2.0]], [[1], [1.0]], [{"a": 1.0}, {"b": 1.0}], [1.0, [2.0]]):
        with pytest.raises(ShapeError, match=r"^ragged batch: example 1 is .*, example 0 is"):
            batch(x)
