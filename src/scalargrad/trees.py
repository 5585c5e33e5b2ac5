"""Numbers in nested lists, tuples, dicts and NumPy arrays, as one flat list, and back.

    tree = flatten({"w": [1.0, 2.0], "b": array}, "argument 0")
    tree.leaves                                  the numbers, in order
    tree.nested(others)                          other numbers in the same containers

Its `shapes` say how the numbers are grouped: one shape for each array, () for each lone number. Its
`form` describes the containers: "[number, array(2, 3)]". Dicts are taken in the order of their
keys where these can be sorted, so that equal dicts have equal forms.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import is_dataclass
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .coerce import real
from .engine import Value

Scalar: TypeAlias = Value | float
Rebuild: TypeAlias = Callable[[Iterator[Any]], Any]


class Tree(NamedTuple):
    """A nested container taken apart."""

    leaves: list[Scalar]
    shapes: list[tuple[int, ...]]
    rebuild: Rebuild
    form: str

    def nested(self, flat: Sequence[Any], of_values: bool = False) -> Any:
        """The numbers of `flat` in the containers of this tree: floats, or else Values."""
        found = []
        for shape, (start, end) in zip(self.shapes, self.spans):
            array = flat[start] if shape == () else array_of(flat[start:end], shape, of_values)
            found.append(array)
        return self.of_groups(found)

    def of_groups(self, groups: Sequence[Any]) -> Any:
        """One thing for each of the shapes, in the containers of this tree."""
        return self.rebuild(iter(groups))

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where in the flat list each group begins and ends."""
        ends = np.cumsum([prod(shape) for shape in self.shapes]).tolist()
        return list(zip([0, *ends], ends))


def array_of(flat: Sequence[Any], shape: tuple[int, ...], of_values: bool) -> Any:
    """An array of floats, or of Values: of dtype object."""
    if not of_values:
        return np.array(flat, np.float64).reshape(shape)
    array = np.empty(len(flat), object)
    array[:] = flat
    return array.reshape(shape)


def flatten(x: Any, name: str) -> Tree:
    """x taken apart; integers become floats.

    Raises `TypeError`, saying where (`name` and the path below it), for anything that is neither
    a real number nor a Value: bools too, since a truth value has no derivative.
    """
    leaves: list[Scalar] = []
    shapes: list[tuple[int, ...]] = []
    rebuild, form = _take_apart(x, name, leaves, shapes)
    return Tree(leaves, shapes, rebuild, form)


def unlike_an_array(x: Any) -> str | None:
    """What is wrong with an array whose numbers, or operators, are not those of an array of them."""
    if np.ma.is_masked(x):
        return (
            "expected an array of numbers, got a masked one: use .filled(number), or .compressed()"
        )
    if isinstance(x, np.matrix):
        return (
            "expected an array of numbers, got a numpy.matrix, whose * and ** are those of "
            "matrices: use numpy.asarray"
        )
    return None


def instead(x: Any) -> str:
    """What to use instead of an x that is taken for no numbers: the end of a message."""
    if is_dataclass(x):
        return ": of classes with fields, a NamedTuple is taken"
    if isinstance(x, set | frozenset):
        return ": a set has no order, so use a list"
    return (
        ": use list(...) of it"
        if isinstance(x, Iterable) and not isinstance(x, str | bytes)
        else ""
    )


def joined(trees: Sequence[Tree]) -> Tree:
    """The tree of a tuple of things, from the tree of each."""
    leaves = [x for tree in trees for x in tree.leaves]
    shapes = [shape for tree in trees for shape in tree.shapes]
    form = _row([tree.form for tree in trees])
    return Tree(
        leaves, shapes, lambda groups: tuple([tree.rebuild(groups) for tree in trees]), form
    )


def _take_apart(
    x: Any, name: str, leaves: list[Scalar], shapes: list[tuple[int, ...]]
) -> tuple[Rebuild, str]:
    if isinstance(x, list | tuple):
        parts = [_take_apart(y, f"{name}[{k}]", leaves, shapes) for k, y in enumerate(x)]
        make = getattr(type(x), "_make", type(x))
        return lambda groups: make([part(groups) for part, _ in parts]), _row(
            [form for _, form in parts]
        )
    if isinstance(x, dict):
        keys = list(x)
        named = {
            key: _take_apart(x[key], f"{name}[{key!r}]", leaves, shapes) for key in _ordered(keys)
        }
        form = f"{{{', '.join(f'{key!r}: {form}' for key, (_, form) in named.items())}}}"

        def rebuilt(groups: Iterator[Any]) -> dict[Any, Any]:
            found = {key: part(groups) for key, (part, _) in named.items()}
            return {key: found[key] for key in keys}  # a function may depend on the order it gave

        return rebuilt, form
    if type(x) is not np.ndarray and hasattr(x, "__array__") and not isinstance(x, np.generic):
        fault = unlike_an_array(x)
        if fault is not None:
            raise TypeError(f"{name}: {fault}")
        x = np.asarray(x)
    if isinstance(x, np.ndarray) and x.ndim:
        leaves += _array_numbers(x, name)
        shapes.append(x.shape)
        return next, f"array{x.shape}"
    leaves.append(_number(x, name))
    shapes.append(())
    return next, "number"


def _ordered(keys: list[Any]) -> list[Any]:
    try:
        return sorted(keys)
    except TypeError:  # keys of several types
        return keys


def _row(forms: Sequence[str]) -> str:
    if len(forms) > 1 and len(set(forms)) == 1:
        return f"[{len(forms)} of {forms[0]}]"
    return f"[{', '.join(forms)}]"


def _array_numbers(x: Any, name: str) -> list[Scalar]:
    if x.dtype.kind in "iuf":
        floats: list[Scalar] = x.astype(np.float64).ravel().tolist()
        return floats
    if x.dtype.kind != "O":
        raise TypeError(
            f"{name}: expected an array of real numbers or Values, got one of dtype {x.dtype}"
        )
    return [_number(x[at], f"{name}[{', '.join(map(str, at))}]") for at in np.ndindex(*x.shape)]


def _number(x: Any, name: str) -> Scalar:
    if isinstance(x, Value):
        return x
    if hasattr(x, "as_value"):  # a comparison or an integer of a program that is being traced
        found: Value = x.as_value()
        return found
    if isinstance(x, numbers.Real) and not isinstance(x, bool):
        return real(x, name)
    if isinstance(x, np.ndarray) and x.ndim == 0 and x.dtype.kind in "iufO":
        return _number(x.item(), name)
    text = repr(x)
    raise TypeError(
        f"{name}: expected a real number, a Value, or a list, tuple, dict or array of them, "
        f"got {type(x).__name__} {text if len(text) <= 60 else text[:57] + '...'}{instead(x)}"
    )


def holds_value(x: Any) -> bool:
    """Whether x is a Value, or a container with one in it."""
    if isinstance(x, list | tuple):
        return any(map(holds_value, x))
    if isinstance(x, dict):
        return any(map(holds_value, x.values()))
    if isinstance(x, np.ndarray):
        return x.dtype.kind == "O" and any(map(holds_value, x.ravel().tolist()))
    return isinstance(x, Value) or hasattr(x, "as_value")


def replace(x: Any, change: Callable[[Value], Any]) -> Any:
    """x with every Value in its containers changed; whatever else it holds stays as it is."""
    if isinstance(x, Value):
        return change(x)
    if isinstance(x, list | tuple):
        changed = [replace(y, change) for y in x]
        return type(x)._make(changed) if hasattr(x, "_make") else type(x)(changed)
    if isinstance(x, dict):
        return {k: replace(y, change) for k, y in x.items()}
    if isinstance(x, np.ndarray) and x.dtype.kind == "O":
        flat = [replace(y, change) for y in x.ravel().tolist()]
        return array_of(flat, x.shape, not all(isinstance(y, float) for y in flat))
    return x


def paths(x: Any, name: str) -> list[str]:
    """Where each number of x stands, in the order of `flatten`: "name[0]", "name['w'][1, 2]"."""
    if isinstance(x, list | tuple):
        return [path for k, y in enumerate(x) for path in paths(y, f"{name}[{k}]")]
    if isinstance(x, dict):
        return [path for key in _ordered(list(x)) for path in paths(x[key], f"{name}[{key!r}]")]
    if isinstance(x, np.ndarray) and x.ndim:
        return [f"{name}[{', '.join(map(str, at))}]" for at in np.ndindex(*x.shape)]
    return [name]
