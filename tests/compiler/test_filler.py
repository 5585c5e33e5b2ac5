"""The quick way to read arguments: it agrees with the thorough one, or declines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalargrad import Value
from scalargrad.compiler import compile
from scalargrad.compiler.arguments import ArgumentNames, Layout, filler, read
from scalargrad.compiler.reading import HasValues
from scalargrad.errors import ShapeError

pytestmark = pytest.mark.pure


def f(*args: Any) -> None: ...


NAMES = ArgumentNames(f)


def thorough(args: tuple[Any, ...], batched: bool) -> tuple[Any, Any]:
    call, chunks = read(NAMES, args, {}, batched)
    layout = Layout(call, NAMES)
    return call, (layout.rows if batched else layout.row)(chunks)


numbers = st.floats(allow_nan=False, width=32) | st.integers(-1000, 1000) | st.booleans()
arguments = st.one_of(
    numbers,
    st.none(),
    st.sampled_from(["a", "b"]),
    st.lists(numbers, max_size=3),
    st.lists(numbers, max_size=3).map(tuple),
    st.lists(st.lists(st.floats(-9, 9), min_size=2, max_size=2), min_size=1, max_size=3),
    st.lists(st.floats(-9, 9), min_size=1, max_size=3).map(np.array),
    st.lists(st.integers(-9, 9), min_size=1, max_size=3).map(np.array),
    st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=3).map(np.float32),
    st.floats(-9, 9).map(lambda x: np.full((2, 1), x)),
    st.floats(-9, 9).map(np.array),
    st.floats(-9, 9).map(np.float64),
)
calls = st.lists(arguments, min_size=1, max_size=3).map(tuple)


@given(calls, calls, st.booleans())
def test_it_fills_the_same_row_or_none(first: Any, second: Any, batched: bool) -> None:
    try:
        call, _ = thorough(first, batched)
    except ShapeError:
        return
    quick = filler(Layout(call, NAMES), batched)
    if quick is None:
        return
    for args in (first, second, first):
        rows = quick.fill(args)
        if rows is None:
            continue
        expected_call, expected = thorough(args, batched)
        assert expected_call == call
        assert rows.tolist() == expected.tolist()


def quick(*args: Any, batched: bool = False) -> Any:
    return filler(Layout(thorough(args, batched)[0], NAMES), batched)


def test_what_it_takes() -> None:
    fill = quick(1.0, 2, [3.0, 4.0], (5, 6), np.array([[7.0, 8.0]]), np.array([9]), "a", None).fill
    args = (0.5, 3, [1.5, 2.5], (7, 8), np.array([[1.0, 2.0]]), np.array([4]), "a", None)
    assert fill(args).tolist() == [[0.5, 3.0, 1.5, 2.5, 7.0, 8.0, 1.0, 2.0, 4.0]]
    assert fill(args) is fill(args)
    others = (1, 2.0, [3, 4.0], (5, 6.0), np.array([[7, 8]]), np.array([9.0]), "b", False)
    for k, other in enumerate(others):
        assert fill((*args[:k], other, *args[k + 1 :])) is None
    assert fill(args[:-1]) is None
    assert fill((*args[:2], [1.0], *args[3:])) is None
    assert fill((*args[:2], (1.0, 2.0), *args[3:])) is None
    assert fill((*args[:4], np.array([1.0, 2.0]), *args[5:])) is None
    assert fill((True, *args[1:])) is None
    assert fill((*args[:1], True, *args[2:])) is None
    assert fill((Value(1.0), *args[1:])) is None
    assert fill((*args[:2], [1.0, Value(2.0)], *args[3:])) is None


def test_batches_of_any_length() -> None:
    fill = quick(np.ones((2, 3)), np.array([1, 2]), 5.0, batched=True).fill
    for count in (1, 4, 4, 2):
        x, n = np.arange(3.0 * count).reshape(count, 3), np.arange(count)
        rows = fill((x, n, 7.0))
        assert rows.tolist() == [[*a, b, 7.0] for a, b in zip(x.tolist(), n.tolist())]
    assert fill((np.ones((2, 3)), np.array([1]), 5.0)) is None
    assert fill((np.ones((0, 3)), np.array([], int), 5.0)) is None
    assert fill((np.ones((2, 4)), np.array([1, 2]), 5.0)) is None
    assert fill((np.ones((2, 3)), np.array([1, 2]), 5)) is None
    assert fill((1.0, np.array([1, 2]), 5.0)) is None
    assert fill((np.asfortranarray(np.eye(3)), np.array([1, 2, 3]), 0.0))[:, :3].tolist() == (
        np.eye(3).tolist()
    )


@pytest.mark.parametrize(
    ("args", "batched"),
    [(([[1.0]],), False), (({"a": 1.0},), False), (([1.0, 2.0],), True), (((1.0, [2.0]),), True)],
)
def test_what_is_nested_is_left_to_the_thorough_way(args: Any, batched: bool) -> None:
    assert filler(Layout(thorough(args, batched)[0], NAMES), batched) is None


def test_keywords_are_too() -> None:
    call, _ = read(ArgumentNames(lambda *, k: k), (), {"k": 1.0}, False)
    assert filler(Layout(call, NAMES), False) is None


def test_calls_that_alternate() -> None:
    w = Value(2.0)
    g = compile(lambda x: sum(w * a for a in x) if hasattr(x, "__len__") else w * x)
    for _ in range(2):
        assert g(1.0) == 2.0
        assert g(1) == 2.0
        assert g([1.0, 2.0]) == 6.0
        assert g(np.array([1.0, 2.0])) == 6.0
        assert g((1, 2)) == 6.0
        assert isinstance(g(Value(1.0)), Value)
        assert isinstance(g([1.0, Value(1.0)]), Value)
    assert g.stats["structures"] == 5


def test_has_values_is_raised_by_the_thorough_way_alone() -> None:
    with pytest.raises(HasValues):
        thorough(([Value(1.0)],), False)
    assert quick([1.0]).fill(([Value(1.0)],)) is None


@pytest.mark.parametrize("batched", [False, True])
def test_arrays_of_every_kind_and_layout(batched: bool) -> None:
    plain = np.arange(12.0).reshape(4, 3)
    read_only = plain.copy()
    read_only.flags.writeable = False
    floats = [
        *(plain, plain * -0.5, plain[:, ::-1], np.asfortranarray(plain), plain[::-1], read_only),
        *(plain.astype(kind) for kind in (">f8", "f4", "f2", "g")),
    ]
    integers = [plain.astype(kind) for kind in ("i8", "u8", ">i8", "i4", "u2", "i1")]
    integers.append(np.asfortranarray(integers[0]))
    for arrays, others in ((floats, integers), (integers, floats)):
        fill = quick(arrays[0], batched=batched).fill
        for x in arrays:
            rows = fill((x,))
            assert rows is not None, x.dtype
            assert rows.ravel().tolist() == x.ravel().tolist()
        for x in others:
            assert fill((x,)) is None, x.dtype
        strange = (arrays[0][:, :2], arrays[0][None], arrays[0][0, 0, ...], arrays[0] > 0)
        for x in (*strange, arrays[0].astype(object), arrays[0].astype("i8").view("M8[D]")):
            assert fill((x,)) is None, x.dtype
