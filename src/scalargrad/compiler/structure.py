"""Nested arguments and results as one row of numbers, and back.

A compiled program knows only rows of float64. A *signature* says how lists, tuples, dicts, NumPy
arrays and plain numbers are laid out in such a row: it is small and hashable, so that it serves
as the key under which a trace is kept, and it can rebuild the nested thing from a row.

    f([0.5, 1.5], 3)   ->   row 0.5 1.5 3.0   and   (Row(list, 2, "number"), Scalar("index"))

Every number has a kind: "number" for floats, "index" for integers, which may select as well as
count. A list with both holds numbers, as it would in NumPy; a tuple keeps the kinds apart.
`None`, bool and str are not numbers: they are part of the signature itself.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..engine import Value
from ..errors import ShapeError
from .condition import Condition
from .index import Index

Floats: TypeAlias = NDArray[np.float64]
Chunk: TypeAlias = Any  # a real number, a list of them, or an array of them
Path: TypeAlias = list[str]


class ArgumentError(TypeError):
    """An argument that is not made of numbers; `path` leads to the offending part."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: Path = []

    def named(self, name: str) -> TypeError:
        """The error as the caller sees it, naming the argument."""
        return TypeError(f"{name}{''.join(self.path)}: {self.problem}")


class HasValues(Exception):
    """Raised where an argument holds Values: the caller runs the function itself on them."""


# --- signatures -----------------------------------------------------------------------------------


class Scalar(NamedTuple):
    """One number."""

    kind: str

    @property
    def size(self) -> int:
        """How many numbers of the row belong to this."""
        return 1

    def build(self, source: Source) -> Any:
        """The thing itself, made of the source's next numbers."""
        return source.one(self.kind)

    def names(self, name: str) -> Iterator[str]:
        """A name for each number."""
        yield name

    def kinds(self) -> Iterator[str]:
        """The kind of each number."""
        yield self.kind


class Row(NamedTuple):
    """A list or tuple of `length` numbers of one kind."""

    sequence: type
    length: int
    kind: str

    @property
    def size(self) -> int:
        """How many numbers of the row belong to this."""
        return self.length

    def build(self, source: Source) -> Any:
        """The thing itself, made of the source's next numbers."""
        return _sequence(self.sequence, source.several(self.length, self.kind))

    def names(self, name: str) -> Iterator[str]:
        """A name for each number."""
        return (f"{name}[{k}]" for k in range(self.length))

    def kinds(self) -> Iterator[str]:
        """The kind of each number."""
        return (self.kind for _ in range(self.length))


class Items(NamedTuple):
    """A list, tuple or named tuple of anything."""

    sequence: type
    items: tuple[Signature, ...]

    @property
    def size(self) -> int:
        """How many numbers of the row belong to this."""
        return sum(item.size for item in self.items)

    def build(self, source: Source) -> Any:
        """The thing itself, made of the source's next numbers."""
        return _sequence(self.sequence, [item.build(source) for item in self.items])

    def names(self, name: str) -> Iterator[str]:
        """A name for each number."""
        for k, item in enumerate(self.items):
            yield from item.names(f"{name}[{k}]")

    def kinds(self) -> Iterator[str]:
        """The kind of each number."""
        for item in self.items:
            yield from item.kinds()


class Keyed(NamedTuple):
    """A dict: its keys in order, and what each holds."""

    keys: tuple[Any, ...]
    items: tuple[Signature, ...]

    @property
    def size(self) -> int:
        """How many numbers of the row belong to this."""
        return sum(item.size for item in self.items)

    def build(self, source: Source) -> Any:
        """The thing itself, made of the source's next numbers."""
        return {key: item.build(source) for key, item in zip(self.keys, self.items)}

    def names(self, name: str) -> Iterator[str]:
        """A name for each number."""
        for key, item in zip(self.keys, self.items):
            yield from item.names(f"{name}[{key!r}]")

    def kinds(self) -> Iterator[str]:
        """The kind of each number."""
        for item in self.items:
            yield from item.kinds()


class Array(NamedTuple):
    """A NumPy array of numbers of one kind, with at least one axis."""

    shape: tuple[int, ...]
    kind: str

    @property
    def size(self) -> int:
        """How many numbers of the row belong to this."""
        return prod(self.shape)

    def build(self, source: Source) -> Any:
        """The thing itself, made of the source's next numbers."""
        return source.array(self.shape, self.kind)

    def names(self, name: str) -> Iterator[str]:
        """A name for each number."""
        return (f"{name}[{', '.join(map(str, at))}]" for at in np.ndindex(*self.shape))

    def kinds(self) -> Iterator[str]:
        """The kind of each number."""
        return (self.kind for _ in range(self.size))


class Static(NamedTuple):
    """Something that is no number and stays as it is: None, a bool, a str."""

    type: type
    value: Any

    @property
    def size(self) -> int:
        """How many numbers of the row belong to this."""
        return 0

    def build(self, source: Source) -> Any:
        """The thing itself, made of the source's next numbers."""
        return self.value

    def names(self, name: str) -> Iterator[str]:
        """A name for each number."""
        return iter(())

    def kinds(self) -> Iterator[str]:
        """The kind of each number."""
        return iter(())


class Batched(NamedTuple):
    """An array or list with a leading batch axis; `item` is one example of it."""

    sequence: type
    item: Signature

    @property
    def size(self) -> int:
        """How many numbers of one example's row belong to this."""
        return self.item.size

    def build(self, source: Source) -> Any:
        """One example, made of the source's next numbers; or all of them, if it has several."""
        return source.examples(self)

    def names(self, name: str) -> Iterator[str]:
        """A name for each number of one example."""
        return self.item.names(name)

    def kinds(self) -> Iterator[str]:
        """The kind of each number of one example."""
        return self.item.kinds()


Signature: TypeAlias = Scalar | Row | Items | Keyed | Array | Static | Batched
NUMBER, INDEX, TRUTH = Scalar("number"), Scalar("index"), Scalar("truth")


def _sequence(kind: type, items: list[Any]) -> Any:
    if kind is list:
        return items
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


# --- what a signature is rebuilt from -------------------------------------------------------------


class Source:
    """Hands out the parts of a row, from left to right."""

    def __init__(self, row: Sequence[Any] | Floats) -> None:
        self.row = row
        self.at = 0

    def _next(self, count: int) -> Any:
        self.at += count
        return self.row[self.at - count : self.at]

    def one(self, kind: str) -> Any:
        """The next thing."""
        return self._next(1)[0]

    def several(self, count: int, kind: str) -> list[Any]:
        """The next `count` things, as a list."""
        return list(self._next(count))

    def array(self, shape: tuple[int, ...], kind: str) -> Any:
        """The next things, as an array."""
        out = np.empty(prod(shape), dtype=object)
        out[:] = self._next(len(out))
        return out.reshape(shape)

    def examples(self, batched: Batched) -> Any:
        """One example of something that has a batch axis."""
        return batched.item.build(self)


class Numbers(Source):
    """A source of Python and NumPy numbers: results as the caller gets them."""

    CASTS: ClassVar[dict[str, Callable[[Any], Any]]] = {
        "number": float,
        "index": int,
        "truth": bool,
    }

    def one(self, kind: str) -> Any:
        """The next number, in the type its kind stands for."""
        return self.CASTS[kind](self._next(1)[0])

    def several(self, count: int, kind: str) -> list[Any]:
        """The next numbers, as a list."""
        return [self.CASTS[kind](number) for number in self._next(count)]

    def array(self, shape: tuple[int, ...], kind: str) -> Floats:
        """The next numbers, as a float64 array of their own."""
        numbers: Floats = self._next(prod(shape))
        return numbers.reshape(shape).copy()


class Gradients(Source):
    """A source of gradients, floats whatever the kind; `row` has one row for each example."""

    row: Floats

    def _next(self, count: int) -> Floats:
        self.at += count
        return self.row[0, self.at - count : self.at]

    def one(self, kind: str) -> float:
        """The next gradient."""
        return float(self._next(1)[0])

    def several(self, count: int, kind: str) -> list[float]:
        """The next gradients, as a list."""
        gradients: list[float] = self._next(count).tolist()
        return gradients

    def array(self, shape: tuple[int, ...], kind: str) -> Floats:
        """The next gradients, as an array of their own."""
        return self._next(prod(shape)).reshape(shape).copy()

    def examples(self, batched: Batched) -> Any:
        """The gradients of every example: an array with a batch axis, or a list."""
        start, self.at = self.at, self.at + batched.size
        block = self.row[:, start : self.at]
        if batched.sequence is not np.ndarray:
            return [batched.item.build(Gradients(row[None])) for row in block]
        shape = batched.item.shape if isinstance(batched.item, Array) else ()
        return block.reshape(len(block), *shape).copy()


# --- reading arguments ----------------------------------------------------------------------------


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
    kinds = set(map(_KIND_OF.get, map(type, x)))
    if kinds and None not in kinds and (len(kinds) == 1 or isinstance(x, list)):
        chunks.append(x)
        return Row(type(x), len(x), "index" if kinds == {"index"} else "number")
    return Items(type(x), tuple([_part(item, f"[{k}]", chunks) for k, item in enumerate(x)]))


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
_KIND_OF: dict[type, str] = {
    kind: "index" if reader is _index else "number"
    for kind, reader in _READERS.items()
    if reader in (_index, _number)
}


def _reader_for(x: Any) -> Reader:
    """The reader of a type that is not in the table: a subclass or something like a number."""
    if isinstance(x, np.bool_):
        return lambda y, chunks: _static(bool(y), chunks)
    for base, reader in ((np.ndarray, _array), (list, _list), (tuple, _list), (dict, _dict)):
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
        f"got {type(x).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
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
        whole = _array(x, found)
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
        chunks.append(Column(np.array(x, np.float64)[:, None]))
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


def describe(signature: Signature) -> str:
    """A signature in words: "a list of 3 numbers"."""
    if isinstance(signature, Scalar):
        return {"number": "a number", "index": "an integer", "truth": "a bool"}[signature.kind]
    if isinstance(signature, Row):
        noun = "integers" if signature.kind == "index" else "numbers"
        return f"a {signature.sequence.__name__} of {signature.length} {noun}"
    if isinstance(signature, Array):
        noun = "integers" if signature.kind == "index" else "numbers"
        return f"an array of {noun} of shape {signature.shape}"
    if isinstance(signature, Items):
        inside = ", ".join(map(describe, signature.items[:4]))
        more = ", ..." if len(signature.items) > 4 else ""
        return f"a {signature.sequence.__name__} of {len(signature.items)} ({inside}{more})"
    if isinstance(signature, Keyed):
        return f"a dict with the keys {list(signature.keys)!r}"
    if isinstance(signature, Batched):
        return f"a batch, each {describe(signature.item)}"
    return repr(signature.value)


# --- results --------------------------------------------------------------------------------------


def collect(x: Any, found: list[Value]) -> Signature:
    """The signature of what a traced function returned; its Values are appended to `found`.

    A number becomes a constant, and a comparison or an index its Value. Raises `ArgumentError`
    for a result that holds anything else.
    """
    if isinstance(x, Value):
        found.append(x)
        return NUMBER
    if isinstance(x, Index | Condition):
        found.append(x.as_value())
        return INDEX if isinstance(x, Index) else TRUTH
    if isinstance(x, list | tuple):
        return Items(type(x), tuple([_collect_part(y, f"[{k}]", found) for k, y in enumerate(x)]))
    if isinstance(x, dict):
        items = [_collect_part(y, f"[{key!r}]", found) for key, y in x.items()]
        return Keyed(tuple(x), tuple(items))
    if isinstance(x, np.ndarray) and x.ndim:
        for at in np.ndindex(*x.shape):
            kind = _collect_part(x[at], f"[{', '.join(map(str, at))}]", found)
            if kind is not NUMBER and kind is not INDEX:
                raise ArgumentError(f"expected an array of numbers, got {describe(kind)} in it")
        return Array(x.shape, "number")
    if isinstance(x, np.ndarray):
        return collect(x.item(), found)
    if x is None or isinstance(x, bool | str | np.bool_):
        return Static(type(x), x)
    if isinstance(x, numbers.Real):
        found.append(Value(x))
        return INDEX if isinstance(x, numbers.Integral) else NUMBER
    raise ArgumentError(
        "expected a Value, a number, or a list, tuple, dict or array of them, "
        f"got {type(x).__name__}"
    )


def _collect_part(x: Any, step: str, found: list[Value]) -> Signature:
    try:
        return collect(x, found)
    except ArgumentError as error:
        error.path.insert(0, step)
        raise
