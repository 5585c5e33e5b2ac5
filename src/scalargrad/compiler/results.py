"""Results: what a traced function returns, as a signature; and a batch of it, stacked."""

from __future__ import annotations

import numbers
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine import Value
from ..trees import instead
from .condition import Condition
from .index import Index
from .structure import (
    INDEX,
    NUMBER,
    TRUTH,
    ArgumentError,
    Array,
    Items,
    Keyed,
    Numbers,
    Row,
    Scalar,
    Signature,
    Static,
    describe,
    sequence_of,
)


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
        items = [_collect_part(y, f"[{k}]", found) for k, y in enumerate(x)]
        if type(x) in (list, tuple) and items and all(item is NUMBER for item in items):
            return Row(type(x), len(items), "number")
        return Items(type(x), tuple(items))
    if isinstance(x, dict):
        items = [_collect_part(y, f"[{key!r}]", found) for key, y in x.items()]
        return Keyed(tuple(x), tuple(items))
    if isinstance(x, np.ndarray) and x.ndim:
        every = x.ravel().tolist()
        if all(type(y) is Value for y in every):  # as a rule, and there may be many
            found += every
            return Array(x.shape, "number")
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
        f"got {type(x).__name__}{instead(x)}"
    )


def _collect_part(x: Any, step: str, found: list[Value]) -> Signature:
    try:
        return collect(x, found)
    except ArgumentError as error:
        error.path.insert(0, step)
        raise


# --- stacking the results of a batch --------------------------------------------------------------

DTYPES = {"number": np.float64, "index": np.int64, "truth": np.bool_}


def stack(signature: Signature, block: NDArray[Any]) -> Any:
    """The results of all examples of a batch, from one row of `block` for each.

    A number becomes an array over the examples, a rectangle of numbers (an array, or lists of
    one length) an array whose first axis are the examples. Dicts, and lists and tuples that are
    no rectangles, keep their form around what they hold.
    """
    form = _form(signature)
    if form is not None:
        shape, dtype = form
        dtype = block.dtype if block.dtype == object else dtype
        return block.reshape(len(block), *shape).astype(dtype)
    if isinstance(signature, Items | Keyed):
        ends = np.cumsum([item.size for item in signature.items]).tolist()
        parts = [
            stack(item, block[:, end - item.size : end]) for item, end in zip(signature.items, ends)
        ]
        if isinstance(signature, Keyed):
            return dict(zip(signature.keys, parts))
        return sequence_of(signature.sequence, parts)
    return signature.value if isinstance(signature, Static) else None


def floats(signature: Signature) -> tuple[int, ...] | None:
    """The shape of the array that `stack` gives for an example, where that is one of floats."""
    form = _form(signature)
    return form[0] if form is not None and form[1] is np.float64 else None


def answers(signature: Signature, block: NDArray[Any]) -> Any:
    """The results of all examples of a batch: one array, or a list of them if they are none."""
    stacked = stack(signature, block)
    if isinstance(stacked, np.ndarray):
        return stacked
    return [signature.build(Numbers(row)) for row in block]


def pair(signature: Signature) -> tuple[Signature, Signature]:
    """The two parts of a tuple of two; `TypeError`, as for a result of `has_aux`, for another."""
    if isinstance(signature, Row) and signature.sequence is tuple and signature.length == 2:
        return NUMBER, NUMBER
    if isinstance(signature, Items) and signature.sequence is tuple and len(signature.items) == 2:
        return signature.items[0], signature.items[1]
    raise TypeError(
        f"result: expected a pair (loss, aux) because of has_aux=True, got {describe(signature)}"
    )


@lru_cache(maxsize=256, typed=True)
def _form(signature: Signature) -> tuple[tuple[int, ...], Any] | None:
    """The shape and the dtype of the array that holds the numbers; None where they need more."""
    shape = _rectangle(signature)
    if shape is None:
        return None
    kinds = set(signature.kinds())
    return shape, DTYPES[kinds.pop() if len(kinds) == 1 else "number"]


def _rectangle(signature: Signature) -> tuple[int, ...] | None:
    """The shape of numbers nested in arrays and lists of one length; None for anything else."""
    if isinstance(signature, Scalar):
        return ()
    if isinstance(signature, Array):
        return signature.shape
    if isinstance(signature, Row):
        return (signature.length,)
    if isinstance(signature, Items) and signature.items and signature.sequence in (list, tuple):
        shapes = {_rectangle(item) for item in signature.items}
        inner = shapes.pop()
        return None if shapes or inner is None else (len(signature.items), *inner)
    return None
