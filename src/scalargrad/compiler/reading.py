"""Reading arguments: nested lists, tuples, dicts and arrays into numbers and a signature."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..engine import Value
from ..errors import ShapeError
from ..trees import instead, unlike_an_array
from .condition import Condition
from .index import Index
from .structure import (
    INDEX,
    NUMBER,
    ArgumentError,
    Array,
    Batched,
    Floats,
    Items,
    Keyed,
    Row,
    Scalar,
    Signature,
    Static,
    describe,
)

Chunk: TypeAlias = Any  # a real number, a list of them, an array of them, or a Column


class HasValues(Exception):
    """Raised where an argument holds Values: the caller runs the function itself on them."""


def flatten(x: Any, chunks: list[Chunk]) -> Signature:
    """The signature of x; its numbers are appended to `chunks`, in order, as they come.

    Raises `ArgumentError` for what is no number or container of numbers, and `HasValues` if
    there are Values in it.
    """
    reader = _READERS.get(type(x))
    return (reader or _reader_for(x))(x, chunks)


def _number(x: Any, chunks: list[Chunk]) -> Signature:
    chunks.append(x)
    return NUMBER


def _index(x: Any, chunks: list[Chunk]) -> Signature:
    chunks.append(x)
    return INDEX


def _static(x: Any, chunks: list[Chunk]) -> Signature:
    return Static(type(x), x)


def _value(x: Any, chunks: list[Chunk]) -> Signature:
    raise HasValues


def _list(x: list[Any] | tuple[Any, ...], chunks: list[Chunk]) -> Signature:
    row = _row(x, set(map(_KIND_OF.get, map(type, x))))
    if row is not None:
        chunks.append(x)
        return row
    parts: list[Chunk] = []
    items = tuple([_part(item, f"[{k}]", parts) for k, item in enumerate(x)])
    row = _row(x, {item.kind if isinstance(item, Scalar) else None for item in items})
    if row is not None:
        chunks.append(parts)
        return row
    chunks += parts
    return Items(type(x), items)


def _row(x: list[Any] | tuple[Any, ...], kinds: set[str | None]) -> Row | None:
    """The signature of x if it holds nothing but numbers; `kinds` has None for anything else."""
    if not kinds or None in kinds or (len(kinds) > 1 and not isinstance(x, list)):
        return None
    return Row(type(x), len(x), "index" if kinds == {"index"} else "number")


def _dict(x: dict[Any, Any], chunks: list[Chunk]) -> Signature:
    items = tuple([_part(item, f"[{key!r}]", chunks) for key, item in x.items()])
    return Keyed(tuple(x), items)


def _part(x: Any, step: str, chunks: list[Chunk]) -> Signature:
    try:
        return flatten(x, chunks)
    except ArgumentError as error:
        error.path.insert(0, step)
        raise


_ARRAY_KINDS = {"f": "number", "i": "index", "u": "index"}


def _array(x: NDArray[Any], chunks: list[Chunk]) -> Signature:
    kind = _ARRAY_KINDS.get(x.dtype.kind)
    if kind is not None:
        chunks.append(x)
        return Array(x.shape, kind) if x.ndim else Scalar(kind)
    if x.dtype.kind == "O":
        if any(isinstance(item, Value | Index | Condition) for item in x.flat):
            raise HasValues
        raise ArgumentError(
            "expected an array of numbers, got one of objects: use numpy.asarray(..., dtype=float)"
        )
    hint = ": use .astype(float)" if x.dtype.kind == "b" else ""
    raise ArgumentError(f"expected an array of real numbers, got dtype {x.dtype}{hint}")


def _array_like(x: Any, chunks: list[Chunk]) -> Signature:
    return _array(np.asarray(x), chunks)


Reader: TypeAlias = Callable[[Any, list[Chunk]], Signature]

_READERS: dict[type, Reader] = {
    float: _number,
    int: _index,
    np.float64: _number,
    np.float32: _number,
    np.int64: _index,
    list: _list,
    tuple: _list,
    dict: _dict,
    np.ndarray: _array,
    type(None): _static,
    bool: _static,
    str: _static,
    Value: _value,
    Index: _value,
    Condition: _value,
}
_BASES: tuple[tuple[type, Reader], ...] = (
    (np.ndarray, _array),
    (list, _list),
    (tuple, _list),
    (dict, _dict),
    (str, _static),
)
_KIND_OF: dict[type, str] = {
    kind: "index" if reader is _index else "number"
    for kind, reader in _READERS.items()
    if reader in (_index, _number)
}


def _reader_for(x: Any) -> Reader:
    """The reader of a type that is not in the table: a subclass or something like a number."""
    if isinstance(x, np.bool_):
        return lambda y, chunks: _static(bool(y), chunks)
    fault = unlike_an_array(x)
    if fault is not None:
        raise ArgumentError(fault)
    for base, reader in _BASES:
        if isinstance(x, base):
            return reader
    if isinstance(x, numbers.Integral):
        return lambda y, chunks: _index(int(y), chunks)
    if isinstance(x, numbers.Real):
        return lambda y, chunks: _number(float(y), chunks)
    if hasattr(x, "__array__"):
        return _array_like
    text = repr(x)
    raise ArgumentError(
        "expected a number, a list, tuple or dict of numbers, or a NumPy array, "
        f"got {type(x).__name__} {text if len(text) <= 60 else text[:57] + '...'}{instead(x)}"
    )


# --- reading a batch ------------------------------------------------------------------------------


class Column(NamedTuple):
    """The numbers of an argument with a batch axis: one row of `block` for each example."""

    block: Floats


def flatten_batch(x: Any, chunks: list[Chunk]) -> Signature:
    """As `flatten`, where the leading axis of arrays and lists counts examples.

    Such arguments give a `Column` of the numbers of all examples and have a `Batched` signature.
    Tuples and dicts are looked into; a number, bool, str or None is the same for every example.
    Raises `ShapeError` for examples that differ in structure.
    """
    if isinstance(x, np.ndarray) and x.ndim:
        found: list[Chunk] = []
        whole = flatten(x, found)
        assert isinstance(whole, Array)
        item = Array(x.shape[1:], whole.kind) if x.ndim > 1 else Scalar(whole.kind)
        chunks.append(Column(x.reshape(len(x), prod(x.shape[1:]))))
        return Batched(np.ndarray, item)
    if isinstance(x, list):
        return _list_batch(x, chunks)
    if isinstance(x, tuple):
        items = [_batch_part(item, f"[{k}]", chunks) for k, item in enumerate(x)]
        return Items(type(x), tuple(items))
    if isinstance(x, dict):
        items = [_batch_part(item, f"[{key!r}]", chunks) for key, item in x.items()]
        return Keyed(tuple(x), tuple(items))
    if hasattr(x, "__array__") and not isinstance(x, Value | np.generic | np.ndarray):
        return flatten_batch(np.asarray(x), chunks)
    return flatten(x, chunks)


def _batch_part(x: Any, step: str, chunks: list[Chunk]) -> Signature:
    try:
        return flatten_batch(x, chunks)
    except ArgumentError as error:
        error.path.insert(0, step)
        raise


def _list_batch(x: list[Any], chunks: list[Chunk]) -> Signature:
    whole: list[Chunk] = []
    signature = _list(x, whole)
    if isinstance(signature, Row):
        chunks.append(Column(np.array(whole[0], np.float64)[:, None]))
        return Batched(list, Scalar(signature.kind))
    assert isinstance(signature, Items)
    if not x:
        chunks.append(Column(np.empty((0, 0))))
        return Batched(list, signature)
    first = signature.items[0]
    for b, item in enumerate(signature.items):
        if item != first:
            raise ShapeError(
                f"ragged batch: example {b} is {describe(item)}, example 0 is {describe(first)}: "
                "expected examples of one structure"
            )
    block = np.empty((len(x), first.size))
    for row, parts in zip(block, _grouped(whole, len(x))):
        fill(row, parts)
    chunks.append(Column(block))
    return Batched(list, first)


def _grouped(chunks: list[Chunk], groups: int) -> Iterator[list[Chunk]]:
    each = len(chunks) // groups
    return (chunks[b * each : (b + 1) * each] for b in range(groups))


def fill(row: Floats, chunks: list[Chunk]) -> None:
    """Write chunks into the row, side by side."""
    at = 0
    for chunk in chunks:
        numbers = np.asarray(chunk, np.float64).reshape(-1)
        row[at : at + len(numbers)] = numbers
        at += len(numbers)
