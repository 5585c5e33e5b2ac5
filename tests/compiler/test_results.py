"""What a function returns: as Values and a signature, and a batch of it stacked."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest

from scalargrad import Value
from scalargrad.compiler.results import collect, pair, stack
from scalargrad.compiler.structure import (
    INDEX,
    NUMBER,
    TRUTH,
    ArgumentError,
    Array,
    Items,
    Keyed,
    Row,
    Static,
)

pytestmark = pytest.mark.pure
Point = namedtuple("Point", "x y")


def test_collect() -> None:
    a, b = Value(1.0), Value(2.0)
    found: list[Value] = []
    signature = collect([a, (b, 3), {"k": np.array([[a, 4.0]])}, Point(b, None), [a, a]], found)
    assert signature == Items(
        list,
        (
            NUMBER,
            Items(tuple, (NUMBER, INDEX)),
            Keyed(("k",), (Array((1, 2), "number"),)),
            Items(Point, (NUMBER, Static(type(None), None))),
            Row(list, 2, "number"),
        ),
    )
    assert [v.data for v in found] == [1.0, 2.0, 3.0, 1.0, 4.0, 2.0, 1.0, 1.0]
    assert found[0] is a
    assert found[5] is b
    assert collect(np.array(1.5), []) == NUMBER
    assert collect(np.array(a), []) == NUMBER


@pytest.mark.parametrize(
    ("result", "path"),
    [
        ({1}, ""),
        ([1.0, {1}], "[1]"),
        ({"a": [1j]}, "['a'][0]"),
        (np.array([[1.0, None]]), "[0, 1]"),
    ],
)
def test_collect_refuses(result: Any, path: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        collect(result, [])
    message = str(caught.value.named("result"))
    assert message.startswith(f"result{path}: expected") or "expected an array" in message


BLOCK = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (Row(list, 3, "number"), BLOCK),
        (Items(list, (NUMBER, NUMBER, NUMBER)), BLOCK),
        (Array((3,), "number"), BLOCK),
        (Items(tuple, (Items(list, (NUMBER,)),) * 3), BLOCK[:, :, None]),
        (Items(list, (Array((1, 3), "number"),)), BLOCK[:, None, None, :]),
        (Items(list, (INDEX, INDEX, INDEX)), BLOCK.astype(int)),
        (Items(list, (TRUTH, TRUTH, TRUTH)), BLOCK != 0),
    ],
    ids=repr,
)
def test_rectangles_become_arrays(signature: Any, expected: Any) -> None:
    stacked = stack(signature, BLOCK)
    assert stacked.dtype == expected.dtype
    assert stacked.tolist() == expected.tolist()


def test_other_structures_keep_their_form() -> None:
    ragged = Items(tuple, (Row(list, 2, "number"), NUMBER))
    first, second = stack(ragged, BLOCK)
    assert first.tolist() == [[0.0, 1.0], [3.0, 4.0]]
    assert second.tolist() == [2.0, 5.0]
    named = stack(Keyed(("a", "b"), (Row(list, 3, "number"), Static(str, "s"))), BLOCK)
    assert named["a"].tolist() == BLOCK.tolist()
    assert named["b"] == "s"
    point = stack(Items(Point, (NUMBER, Row(list, 2, "number"))), BLOCK)
    assert type(point) is Point
    assert point.x.tolist() == [0.0, 3.0]
    assert stack(Items(list, ()), BLOCK[:, :0]) == []


def test_stacking_copies() -> None:
    block = BLOCK.copy()
    stacked = stack(Row(list, 3, "number"), block)
    block[:] = 0.0
    assert stacked.tolist() == BLOCK.tolist()


def test_pair() -> None:
    assert pair(Items(tuple, (NUMBER, INDEX))) == (NUMBER, INDEX)
    assert pair(Row(tuple, 2, "number")) == (NUMBER, NUMBER)
    for other in (NUMBER, Row(list, 2, "number"), Row(tuple, 3, "number"), Items(tuple, ())):
        with pytest.raises(TypeError, match=r"^result: expected a pair \(loss, aux\)"):
            pair(other)
