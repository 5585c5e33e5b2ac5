"""Calls: the arguments of one call as rows of numbers, and the signature they were read under.

The signature of a call is the key under which its trace is kept; a `Layout` is the plan, made
once for each signature, of where every number goes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..coerce import is_real, real, shown
from ..errors import ShapeError
from .filler import Filler
from .reading import Chunk, Column, flatten, flatten_batch
from .structure import (
    ArgumentError,
    Batched,
    Floats,
    Items,
    Keyed,
    Signature,
    Source,
    describe,
)
from .trace import Inputs

EXACT = 2.0**53  # integers up to here are exact as float64


class Call(NamedTuple):
    """The signatures of the positional arguments, and of the keyword arguments by name."""

    positional: tuple[Signature, ...]
    keywords: tuple[str, ...]
    named: tuple[Signature, ...]

    @property
    def parts(self) -> tuple[Signature, ...]:
        """The signatures of all arguments."""
        return self.positional + self.named

    def build(self, source: Source) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments made of the source."""
        arguments = [part.build(source) for part in self.positional]
        named = {name: part.build(source) for name, part in zip(self.keywords, self.named)}
        return arguments, named


class ArgumentNames:
    """The names of a function's arguments, and its rules for passing them."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._signature: inspect.Signature | None
        try:
            self._signature = inspect.signature(function)
        except (TypeError, ValueError):  # some built-in functions do not tell
            self._signature = None
        self._function = getattr(function, "__name__", type(function).__name__)
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        listed = self._signature.parameters.values() if self._signature else ()
        self._names = [p.name for p in listed if p.kind in kinds]
        self._rest = next((p.name for p in listed if p.kind is p.VAR_POSITIONAL), "arguments")

    def bind(
        self, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same call with everything positional that can be, so that equal calls look equal.

        Raises `TypeError` for a call that the function does not take.
        """
        if self._signature is None:
            return arguments, keywords
        self._refuse_unknown(keywords)
        try:
            bound = self._signature.bind(*arguments, **keywords)
        except TypeError as error:
            raise TypeError(f"{self._function}: {error}") from None
        return bound.args, bound.kwargs

    def _refuse_unknown(self, keywords: dict[str, Any]) -> None:
        # A name that is misspelt would else be reported as the argument that is missing for it.
        assert self._signature is not None
        named = {
            name: p.kind
            for name, p in self._signature.parameters.items()
            if p.kind not in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)
        }
        if inspect.Parameter.VAR_KEYWORD in named.values():
            return
        for keyword in keywords:
            if keyword not in named:
                raise TypeError(
                    f"{self._function}: expected arguments called {', '.join(named) or 'nothing'}, "
                    f"got one called {keyword}"
                )

    def name(self, position: int) -> str:
        """What the argument at a position is called."""
        if position < len(self._names):
            return self._names[position]
        return f"{self._rest}[{position - len(self._names)}]"


def read(
    names: ArgumentNames, arguments: tuple[Any, ...], keywords: dict[str, Any], batched: bool
) -> tuple[Call, list[Chunk]]:
    """The signature of a call and its numbers.

    Raises `TypeError` naming the argument that is not made of numbers, `ShapeError` for a ragged
    batch and `HasValues` if there are Values among the arguments.
    """
    reader = flatten_batch if batched else flatten
    chunks: list[Chunk] = []
    if not keywords:
        return Call(_read(reader, arguments, names.name, chunks), (), ()), chunks
    arguments, keywords = names.bind(arguments, keywords)
    positional = _read(reader, arguments, names.name, chunks)
    titles = tuple(keywords)
    named = _read(reader, tuple(keywords.values()), titles.__getitem__, chunks)
    return Call(positional, titles, named), chunks


def _read(
    reader: Callable[[Any, list[Chunk]], Signature],
    arguments: tuple[Any, ...],
    name: Callable[[int], str],
    chunks: list[Chunk],
) -> tuple[Signature, ...]:
    signatures: list[Signature] = []
    try:
        for x in arguments:
            signatures.append(reader(x, chunks))
    except ArgumentError as error:
        raise error.named(name(len(signatures))) from None
    except ShapeError as error:
        raise ShapeError(f"{name(len(signatures))}: {error}") from None
    return tuple(signatures)


def refuse_beyond_float64(
    names: ArgumentNames, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    """Raise `OverflowError`, naming it, for the first number that float64 cannot hold."""
    arguments, keywords = names.bind(arguments, keywords)
    for k, x in enumerate(arguments):
        _refuse_beyond_float64(x, names.name(k))
    for name, x in keywords.items():
        _refuse_beyond_float64(x, name)


def _refuse_beyond_float64(x: Any, name: str) -> None:
    if isinstance(x, list | tuple | dict):
        items = x.items() if isinstance(x, dict) else enumerate(x)
        for key, item in items:
            _refuse_beyond_float64(item, f"{name}[{key!r}]")
    elif is_real(x):
        real(x, name)


class Layout:
    """Where the numbers of calls of one signature go: m columns, one for each number."""

    def __init__(self, call: Call, names: ArgumentNames) -> None:
        self.call = call
        titles = [names.name(k) for k in range(len(call.positional))] + list(call.keywords)
        self.titles = tuple(titles)
        named = [name for part, title in zip(call.parts, titles) for name in part.names(title)]
        self.names = tuple(named)
        self.kinds = tuple(kind for part in call.parts for kind in part.kinds())
        self.shared = np.array([flag for part in call.parts for flag in _shared(part)], np.bool_)
        ends = np.cumsum([part.size for part in call.parts]).tolist()
        self.columns = [slice(end - part.size, end) for part, end in zip(call.parts, ends)]
        self.count = len(self.names)
        self._row = np.empty((1, self.count))
        self._places: list[Floats] | None = None

    def row(self, chunks: list[Chunk]) -> Floats:
        """The numbers of a single call as one row; the next call overwrites it."""
        if self._places is None:
            self._places = self._place(chunks)
        for place, chunk in zip(self._places, chunks):
            place[...] = chunk
        return self._row

    def _place(self, chunks: list[Chunk]) -> list[Floats]:
        places, at = [], 0
        for chunk in chunks:
            shape = np.shape(chunk)
            count = int(np.prod(shape))
            places.append(self._row[0, at : at + count].reshape(shape))
            at += count
        return places

    def rows(self, chunks: list[Chunk]) -> Floats:
        """The numbers of a batch, one row for each example.

        Raises `ShapeError` where arguments have different numbers of examples, or none.
        """
        rows = np.empty((self._examples(chunks), self.count))
        at = 0
        for chunk in chunks:
            block = chunk.block if isinstance(chunk, Column) else np.reshape(chunk, (1, -1))
            rows[:, at : at + block.shape[1]] = block
            at += block.shape[1]
        return rows

    def _examples(self, chunks: list[Chunk]) -> int:
        sizes = [len(chunk.block) for chunk in chunks if isinstance(chunk, Column)]
        parts = list(zip(self.titles, self.call.parts))
        titles = [title for title, part in parts for _ in _batches(part)]
        got = (f"{describe(part)} for {title}" for title, part in parts)
        return _common(list(zip(titles, sizes)), got)

    def inputs(self, row: Floats) -> Inputs:
        """What to trace the function with, for the numbers of one row."""
        build: Callable[[Source], tuple[Sequence[Any], Mapping[str, Any]]] = self.call.build
        return Inputs(row.tolist(), self.kinds, self.names, self.shared.tolist(), build)


def filler(layout: Layout) -> Filler | None:
    """The quick way to read calls of this layout; None for those with keyword arguments."""
    return None if layout.call.keywords else Filler(layout.call.positional, layout.count)


def _common(sizes: Sequence[tuple[str, int]], got: Iterable[str]) -> int:
    """The number of examples that all arguments with a batch axis have."""
    if not sizes:
        raise ShapeError(
            "batch: expected at least one array or list with an axis of examples, got "
            f"{' and '.join(got) or 'no arguments'}"
        )
    first, count = sizes[0]
    for title, size in sizes:
        if size != count:
            raise ShapeError(
                f"batch: {first} has {count} examples, {title} has {size}: expected equally many "
                "(numbers that all examples share are Values from outside the function)"
            )
    if count == 0:
        raise ShapeError(f"batch: expected at least one example, {first} is empty")
    return count


def _shared(part: Signature) -> Iterator[bool]:
    """For each number of an argument, whether it is the same for every example of a batch."""
    if isinstance(part, Items | Keyed):
        for item in part.items:
            yield from _shared(item)
    else:
        yield from (not isinstance(part, Batched) for _ in range(part.size))


def _batches(part: Signature) -> Iterator[Batched]:
    """The parts of an argument that have a batch axis."""
    if isinstance(part, Batched):
        yield part
    elif isinstance(part, Items | Keyed):
        for item in part.items:
            yield from _batches(item)


# --- batches of Values ----------------------------------------------------------------------------


def examples(
    names: ArgumentNames, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """The arguments of each example of a batch whose arguments may hold Values.

    Raises `ShapeError` where arguments have different numbers of examples, or none.
    """
    if keywords:
        arguments, keywords = names.bind(arguments, keywords)
    titles = [names.name(k) for k in range(len(arguments))] + list(keywords)
    sizes: list[tuple[str, int]] = []
    for title, x in zip(titles, (*arguments, *keywords.values())):
        sizes.extend((title, size) for size in _sizes(x))
    given = zip(titles, (*arguments, *keywords.values()))
    got = (f"{shown(x)} for {title}" for title, x in given)
    count = _common(sizes, got)
    for b in range(count):
        named = {name: _example(x, b) for name, x in keywords.items()}
        yield [_example(x, b) for x in arguments], named


def _members(x: Any) -> Sequence[Any] | None:
    """What a tuple or dict holds; None for anything else."""
    if isinstance(x, tuple):
        return x
    return list(x.values()) if isinstance(x, dict) else None


def _has_axis(x: Any) -> bool:
    return isinstance(x, list) or bool(getattr(x, "ndim", 0))


def _sizes(x: Any) -> Iterator[int]:
    members = _members(x)
    if members is not None:
        for member in members:
            yield from _sizes(member)
    elif _has_axis(x):
        yield len(x)


def _example(x: Any, b: int) -> Any:
    if isinstance(x, dict):
        return {key: _example(member, b) for key, member in x.items()}
    if isinstance(x, tuple):
        members = [_example(member, b) for member in x]
        return type(x)(*members) if hasattr(x, "_fields") else type(x)(members)
    return x[b] if _has_axis(x) else x
