"""The quick way to read arguments: it agrees with the thorough one, or declines."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalargrad import Value
from scalargrad.compiler import compile
from scalargrad.compiler.arguments import ArgumentNames, Call, Layout, filler, read
from scalargrad.compiler.filler import ROOMS
from scalargrad.compiler.reading import HasValues
from scalargrad.compiler.structure import INDEX, NUMBER, Items, Row
from scalargrad.errors import ShapeError

pytestmark = pytest.mark.pure


def f(*args: Any) -> None: ...


NAMES = ArgumentNames(f)


def thorough(args: tuple[Any, ...], batched: bool) -> tuple[Any, Any]:
    call, chunks = read(NAMES, args, {}, batched)
    layout = Layout(call, NAMES)
    return call, (layout.rows if batched else layout.row)(chunks)


class Pair(NamedTuple):
    """A named tuple: its type is part of what is expected."""

    left: Any
    right: Any


class Numbers(list[Any]):
    """A list with another name."""


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
nested = st.recursive(
    arguments,
    lambda parts: st.one_of(
        st.lists(parts, max_size=3),
        st.lists(parts, max_size=2).map(tuple),
        st.lists(parts, max_size=2).map(Numbers),
        st.tuples(parts, parts).map(lambda both: Pair(*both)),
        st.dictionaries(st.sampled_from(["a", "b", 1, (2, "c")]), parts, max_size=3),
        # Examples of one structure.
        st.tuples(parts, st.integers(1, 3)).map(lambda given: [given[0]] * given[1]),
    ),
    max_leaves=6,
)
calls = st.lists(nested, min_size=1, max_size=3).map(tuple)


@given(calls, calls, st.booleans())
def test_it_fills_the_same_row_or_none(first: Any, second: Any, batched: bool) -> None:
    try:
        call, _ = thorough(first, batched)
    except ShapeError:
        return
    fill = filler(Layout(call, NAMES)).fill
    for args in (first, second, first):
        agrees(fill, args, call, batched)


def agrees(fill: Any, args: tuple[Any, ...], call: Any, batched: bool) -> bool:
    """Whether it fills the rows, which must be those of the thorough way, of a call of this kind."""
    rows = fill(args)
    if rows is None:
        return False
    expected_call, expected = thorough(args, batched)
    assert expected_call == call
    np.testing.assert_array_equal(rows, expected)
    return True


# --- calls that are nearly alike ------------------------------------------------------------------

OTHERS = st.one_of(
    arguments,
    st.sampled_from([float("nan"), 2**2000, 1j, np.array("a"), np.array([None]), {1.0}]),
    st.sampled_from([np.float32(1.5), np.int64(3), np.bool_(True), np.float16(2.0)]),
    st.sampled_from([Value(1.0), [Value(1.0)], np.array([Value(1.0)])]),
)


def renewed(x: Any) -> Any:
    """The same structure with other numbers."""
    if isinstance(x, dict):
        return {key: renewed(part) for key, part in x.items()}
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*map(renewed, x))
    if isinstance(x, list | tuple):
        return type(x)(map(renewed, x))
    if isinstance(x, np.ndarray):
        return x + np.ones((), x.dtype)
    return type(x)(x + 1) if type(x) in (float, int) else x


def changed(x: Any, data: st.DataObject) -> Any:
    """x with one part of it replaced, removed, moved or added."""
    inside = isinstance(x, list | tuple | dict) and len(x)
    if not inside or data.draw(st.integers(0, 3)) == 0:
        return data.draw(OTHERS)
    items = list(x.items()) if isinstance(x, dict) else list(enumerate(x))
    k = data.draw(st.integers(0, len(items) - 1))
    how = data.draw(st.sampled_from(["inside", "inside", "without", "twice", "turned", "retyped"]))
    if how == "inside":
        items[k] = (items[k][0], changed(items[k][1], data))
    elif how == "without":
        del items[k]
    elif how == "twice":
        items.append(("again", items[k][1]))
    elif how == "turned":
        items.reverse()
    if isinstance(x, dict):
        return dict(items) if how != "retyped" else list(x.values())
    parts = [part for _, part in items]
    if how == "retyped":
        return tuple(parts) if isinstance(x, list) else parts
    if isinstance(x, Pair):
        return Pair(*parts) if len(parts) == 2 else tuple(parts)
    return type(x)(parts)


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(calls, st.booleans(), st.data())
def test_what_is_nearly_the_same_is_filled_alike_or_not_at_all(
    args: tuple[Any, ...], batched: bool, data: st.DataObject
) -> None:
    try:
        call, _ = thorough(args, batched)
    except ShapeError:
        return
    fill = filler(Layout(call, NAMES)).fill
    plain = filled_at_once(args)
    assert agrees(fill, args, call, batched) >= plain
    assert agrees(fill, renewed(args), call, batched) >= plain
    for _ in range(3):
        other = changed(args, data)
        agrees(fill, other if isinstance(other, tuple) else (other,), call, batched)
        assert agrees(fill, args, call, batched) >= plain


def filled_at_once(x: Any) -> bool:
    """Whether the quick way promises to read x: numbers of Python's types, not mixed in a list."""
    if isinstance(x, dict):
        return all(map(filled_at_once, x.values()))
    if isinstance(x, Numbers) or type(x) is np.float64:
        return False
    if isinstance(x, list | tuple):
        return len({type(part) for part in x if type(part) in (int, float)}) <= 1 and all(
            map(filled_at_once, x)
        )
    return not isinstance(x, np.ndarray) or x.ndim > 0


def quick(*args: Any, batched: bool = False) -> Any:
    return filler(Layout(thorough(args, batched)[0], NAMES))


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
    for huge in (2**1024, -(2**2000)):
        assert fill((*args[:1], huge, *args[2:])) is None
        assert fill((*args[:3], (5, huge), *args[4:])) is None
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


def test_rows_are_kept_for_a_few_numbers_of_examples() -> None:
    filler = quick(np.ones((2, 3)), batched=True)
    kept = {n: filler.fill((np.ones((n, 3)),)) for n in range(1, ROOMS + 1)}
    for n in (1, ROOMS, 2, 1):
        assert filler.fill((np.full((n, 3), float(n)),)) is kept[n]
        assert kept[n].tolist() == [[n] * 3] * n
    filler.fill((np.ones((ROOMS + 1, 3)),))
    assert filler.fill((np.ones((1, 3)),)) is kept[1]
    assert filler.fill((np.ones((3, 3)),)) is not kept[3]  # the longest not asked for


NESTED: dict[str, tuple[Any, list[Any]]] = {
    "lists of lists": (
        [[1.0, 2.0], [3.0, 4.0]],
        [
            *([[1.0, 2.0]], [[1.0, 2.0], [3.0]], [[1.0, 2.0], [3.0, 4]], [[1.0, 2.0], (3.0, 4.0)]),
            *([[1.0, 2.0], [3.0, True]], [[1.0, 2.0], [3.0, np.float64(4.0)]], [1.0, 2.0], 1.0),
            *([[1.0, 2.0], None], [[1.0, 2.0], [3.0, Value(4.0)]], ([1.0, 2.0], [3.0, 4.0]), []),
        ],
    ),
    "a dict": (
        {"w": np.ones((2, 2)), "b": [1.0], "n": 3, "on": True},
        [
            {"w": np.ones((2, 2)), "b": [1.0], "n": 3},
            {"w": np.ones((2, 2)), "b": [1.0], "n": 3, "on": True, "more": 1.0},
            {"b": [1.0], "w": np.ones((2, 2)), "n": 3, "on": True},
            {"w": np.ones((2, 2)), "b": [1.0], "m": 3, "on": True},
            {"w": np.ones((2, 2)), "b": [1.0], "n": 3.0, "on": True},
            {"w": np.ones((2, 2)), "b": [1.0], "n": 3, "on": False},
            {"w": np.ones((2, 2)), "b": [1.0], "n": 3, "on": 1},
            {"w": np.ones((2, 2), int), "b": [1.0], "n": 3, "on": True},
            {"w": np.ones(4), "b": [1.0], "n": 3, "on": True},
            OrderedDict(w=np.ones((2, 2)), b=[1.0], n=3, on=True),
        ],
    ),
    "a named tuple": (
        Pair(1.0, (2, "a", None)),
        [
            *((1.0, (2, "a", None)), Pair(1.0, (2, "b", None)), Pair(1.0, (2, "a"))),
            *(Pair(1.0, (2, "a", "")), Pair(1, (2, "a", None)), Pair((2, "a", None), 1.0)),
        ],
    ),
}


@pytest.mark.parametrize("name", NESTED)
def test_what_is_nested(name: str) -> None:
    x, others = NESTED[name]
    fill = quick(x).fill
    call, _ = thorough((x,), False)
    assert agrees(fill, (x,), call, False)
    assert agrees(fill, (renewed(x),), call, False)
    for other in others:
        assert fill((other,)) is None, other
        assert agrees(fill, (x,), call, False)


def test_batches_inside_of_what_is_nested() -> None:
    def args(count: int, more: int = 0) -> tuple[Any, ...]:
        x = np.arange(3.0 * count).reshape(count, 3)
        rows = [{"a": [float(k), 1.0], "b": k} for k in range(count + more)]
        return {"x": x, "c": 5.0}, (rows, 7), [float(k) for k in range(count)]

    fill = quick(*args(2), batched=True).fill
    call, _ = thorough(args(2), True)
    for count in (2, 1, 4, 4, 2):
        assert agrees(fill, args(count), call, True)
    assert fill(args(2, more=1)) is None
    assert fill(args(0)) is None
    assert fill(args(2, more=-1)) is None
    assert agrees(fill, args(2), call, True)


def test_arrays_of_examples_that_numpy_writes() -> None:
    fill = quick([np.ones(2), np.ones(2)], batched=True).fill
    for step in range(3):
        for kind in (np.float32, np.float64, np.float32):
            x = [np.array([k + step, 0.5], kind) for k in range(2 + step)]
            assert fill((x,)).tolist() == [[k + step, 0.5] for k in range(2 + step)]


def test_a_list_that_is_longer_than_it_says() -> None:
    class Endless(list[Any]):
        def __iter__(self) -> Any:
            return itertools.repeat(1.0)

    for x in (Endless([1.0, 2.0]), Numbers([1.0, 2.0])):
        quick = filler(Layout(Call((Row(type(x), 2, "number"),), (), ()), NAMES))
        assert (quick.fill((x,)) is None) == (type(x) is Endless)
        parts = Call((Items(type(x), (NUMBER, INDEX)),), (), ())
        assert filler(Layout(parts, NAMES)).fill((x,)) is None


def test_keywords_are_left_to_the_thorough_way() -> None:
    call, _ = read(ArgumentNames(lambda *, k: k), (), {"k": 1.0}, False)
    assert filler(Layout(call, NAMES)) is None


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
