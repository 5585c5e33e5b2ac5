"""What Values are called: by their labels, or by where a program or a network holds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..coerce import shown
from ..engine import Value
from ..nn import Module


@dataclass(frozen=True, slots=True)
class Names:
    """The names of some Values, and which of them are parameters of a network."""

    texts: dict[Value, str] = field(default_factory=dict)
    parameters: set[Value] = field(default_factory=set)

    def of(self, v: Value) -> str:
        """The label of v, or else the name it was found under; "" if it has neither."""
        return v.label or self.texts.get(v, "")


def names_in(names: Mapping[str, Any] | Module | None) -> Names:
    """The names that a dictionary such as `locals()`, or a network, gives to Values.

    Values in lists, tuples, dictionaries, object arrays and networks are found too, and called as
    a program would write them: `xs[0][1]`, `model.layers[0].neurons[3].w[1]`. What begins with
    `_` is skipped; of several names a Value keeps the first, one of its own before a place in a
    list. Raises `TypeError` for anything that is no dictionary and no network.
    """
    found = Names()
    if names is None:
        return found
    if not isinstance(names, Mapping | Module):
        raise TypeError(
            f"names: expected a dictionary such as locals(), or a Module, got {shown(names)}"
        )
    if isinstance(names, Module):
        waiting = [("", names, False)]
    else:
        own = [(k, x) for k, x in names.items() if isinstance(k, str) and not k.startswith("_")]
        found.texts.update((x, name) for name, x in reversed(own) if isinstance(x, Value))
        waiting = [(name, x, False) for name, x in reversed(own) if not isinstance(x, Value)]
    visited: set[int] = set()
    while waiting:
        name, x, inside = waiting.pop()
        if isinstance(x, Value):
            found.texts.setdefault(x, name)
            if inside and x.op == "":
                found.parameters.add(x)
        elif id(x) not in visited:
            visited.add(id(x))
            waiting += reversed([(child, y, held) for child, y, held in _held(name, x, inside)])
    return found


def _held(name: str, x: Any, inside: bool) -> Iterator[tuple[str, Any, bool]]:
    """What x holds, how each is written, and whether it is inside a network."""
    if isinstance(x, Module):
        for key, child in vars(x).items():
            if not key.startswith("_"):
                yield f"{name}.{key}" if name else key, child, True
    else:
        for key, child in _items(x):
            yield f"{name}[{key!r}]", child, inside


def _items(x: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(x, list | tuple):
        return enumerate(x)
    if isinstance(x, dict):
        return [(key, child) for key, child in x.items() if isinstance(key, str | int)]
    if isinstance(x, np.ndarray) and x.dtype == object:
        return enumerate(x.tolist())
    return ()
