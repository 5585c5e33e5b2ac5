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

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


class ArgumentError(TypeError):
    """An argument that is not made of numbers; `path` leads to the offending part."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: list[str] = []

    def named(self, name: str) -> TypeError:
        """The error as the caller sees it, naming the argument."""
        return TypeError(f"{name}{''.join(self.path)}: {self.problem}")


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
        return sequence_of(self.sequence, source.several(self.length, self.kind))

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
        return sequence_of(self.sequence, [item.build(source) for item in self.items])

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


def sequence_of(kind: type, items: list[Any]) -> Any:
    """A list, tuple or named tuple of the items."""
    if kind is list:
        return items
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


# --- as tensors -----------------------------------------------------------------------------------


def tensor_shape(signature: Signature) -> tuple[int, ...] | None:
    """The shape of the one tensor that can stand for it; None where it takes several, or none.

    That is a number, an array, and a list of such things of one shape and kind: tuples and dicts
    hold separate things.
    """
    if isinstance(signature, Scalar):
        return ()
    if isinstance(signature, Array):
        return signature.shape
    if isinstance(signature, Row) and signature.sequence is list:
        return (signature.length,)
    if isinstance(signature, Items) and signature.sequence is list:
        shapes = {tensor_shape(item) for item in signature.items}
        if len(shapes) == 1 and len(set(signature.kinds())) == 1:
            inner = shapes.pop()
            return None if inner is None else (len(signature.items), *inner)
    return None


def members(signature: Signature) -> list[tuple[Any, Signature]]:
    """What a container holds, with the index or key of each."""
    if isinstance(signature, Row):
        return [(k, Scalar(signature.kind)) for k in range(signature.length)]
    if isinstance(signature, Items):
        return list(enumerate(signature.items))
    return list(zip(signature.keys, signature.items)) if isinstance(signature, Keyed) else []


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

    row: Floats
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
        numbers: list[Any] = self._next(count).tolist()
        return numbers if kind == "number" else list(map(self.CASTS[kind], numbers))

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


# --- in words -------------------------------------------------------------------------------------


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
