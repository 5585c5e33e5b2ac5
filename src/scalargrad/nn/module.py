"""`Module`: anything that has parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..engine import Value
from ..errors import StateError


class Module:
    """The base of every layer and network: it finds the parameters in its attributes.

    A parameter is a leaf `Value` held in an attribute, or in lists, tuples, dicts, NumPy object
    arrays or other modules held there, to any depth. Attributes whose name begins with `_` are
    skipped, and so are results of computations. Assign attributes in `__init__`; nothing needs
    to be registered.

        class Scale(Module):
            def __init__(self):
                self.factor = Value(1.0)

            def __call__(self, x):
                return [self.factor * xi for xi in x]

    `stacked` names attributes that hold a list of modules of one kind: `state_dict` puts them
    side by side in one array each, so that sixteen neurons become one weight matrix.
    """

    stacked: ClassVar[tuple[str, ...]] = ()

    def parameters(self) -> list[Value]:
        """Every parameter once, in the order in which the attributes were assigned."""
        found: dict[int, Value] = {}
        _gather(self, found, set())
        return list(found.values())

    def named_parameters(self) -> Iterator[tuple[str, Value]]:
        """Every parameter once with its path of attributes, such as `layers.0.neurons.3.w.1`."""
        seen: set[int] = set()
        for name, parameter in _walk(self, "", set()):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to 0."""
        for parameter in self.parameters():
            parameter.grad = 0.0

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """The parameters' numbers as float64 arrays by name, for saving.

        A Value becomes an array without dimensions, a list of Values a vector, a list of equally
        long lists a matrix, and so on; the name is the path of attributes to it. What `stacked`
        names is joined into one array with one more dimension, and its own name is left out: a
        `Layer(nin, nout)` gives `w`, shape (nout, nin), and `b`, shape (nout,), as PyTorch's
        `Linear` gives `weight` and `bias`. An `MLP` gives `layers.0.w`, `layers.0.b`, ...
        """
        return {name: block.astype(np.float64) for name, block in self._blocks().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set every parameter from `state`, a dictionary as `state_dict` gives.

        Raises `StateError`, listing every missing, unexpected, wrongly shaped or non-numeric
        entry, and `TypeError` for no dictionary; then nothing has been changed.
        """
        if not isinstance(state, Mapping):
            raise TypeError(
                f"state: expected a dictionary as state_dict() gives, got {type(state).__name__}"
            )
        blocks = self._blocks()
        arrays = {name: _as_array(state[name]) for name in blocks if name in state}
        problems = [f"{name} is missing" for name in blocks if name not in state]
        problems += [f"{name} is unexpected" for name in state if name not in blocks]
        for name, array in arrays.items():
            if isinstance(array, str):
                problems.append(f"{name} {array}")
            elif array.shape != blocks[name].shape:
                problems.append(f"{name} has shape {array.shape}, expected {blocks[name].shape}")
        numbers = [] if problems else _pair(blocks, arrays, problems)
        if problems:
            raise StateError(
                f"{type(self).__name__}.load_state_dict: {'; '.join(problems)}. Nothing was "
                "loaded: build the network with the sizes it had when the state was saved"
            )
        for parameter, number in numbers:
            parameter.data = number

    def _blocks(self) -> dict[str, NDArray[np.object_]]:
        """The parameters themselves, arranged as in `state_dict`."""
        blocks: dict[str, NDArray[np.object_]] = {}
        for name, block in _arranged(self, "", set()):
            if name in blocks:
                raise StateError(
                    f"{type(self).__name__} has two entries called {name}: rename an attribute"
                )
            blocks[name] = block
        return blocks

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {len(self.parameters())} parameters"


# --- walking through the attributes ---------------------------------------------------------------


def _children(x: Any) -> Iterable[tuple[Any, Any]]:
    """What x holds, with the name of each."""
    if isinstance(x, Module):
        return [item for item in vars(x).items() if not item[0].startswith("_")]
    if isinstance(x, list | tuple):
        return enumerate(x)
    if isinstance(x, dict):
        return x.items()
    if isinstance(x, np.ndarray) and x.dtype == object:
        return enumerate(x.tolist())
    return ()


def _first_visit(x: Any, visited: set[int]) -> bool:
    """Whether to go into x: a module that is found again, or inside itself, is left alone."""
    if not isinstance(x, Module):
        return True
    new = id(x) not in visited
    visited.add(id(x))
    return new


def _path(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


def _gather(x: Any, found: dict[int, Value], visited: set[int]) -> None:
    """Add every parameter in x to `found`, in the order of `_walk`, without the cost of names."""
    for _, child in _children(x):
        if isinstance(child, Value):
            if child.op == "":
                found.setdefault(id(child), child)
        elif _first_visit(child, visited):
            _gather(child, found, visited)


def _walk(x: Any, name: str, visited: set[int]) -> Iterator[tuple[str, Value]]:
    """Every parameter in x with its path, depth first."""
    if isinstance(x, Value):
        if x.op == "":
            yield name, x
    elif _first_visit(x, visited):
        for key, child in _children(x):
            yield from _walk(child, _path(name, key), visited)


# --- arranging parameters in arrays ---------------------------------------------------------------

Entries = Iterator[tuple[str, NDArray[np.object_]]]


def _arranged(x: Any, name: str, visited: set[int]) -> Entries:
    """The parameters in x as arrays with their paths: the largest arrays that lists make."""
    block = _rectangle(x)
    if block is not None:
        yield name, block
    elif _first_visit(x, visited):
        for key, child in _children(x):
            if isinstance(x, Module) and key in x.stacked:
                yield from _stacked(child, name, _path(name, key), visited)
            else:
                yield from _arranged(child, _path(name, key), visited)


def _stacked(modules: Any, name: str, path: str, visited: set[int]) -> Entries:
    """Modules with the same entries as one array per entry; others one by one, under `path`."""
    each = [dict(_arranged(module, "", visited)) for module in modules]
    shapes = [{key: block.shape for key, block in entries.items()} for entries in each]
    if all(shape == shapes[0] for shape in shapes):
        for key in shapes[0] if shapes else ():
            yield _path(name, key), np.stack([entries[key] for entries in each])
        return
    for k, entries in enumerate(each):
        for key, block in entries.items():
            yield _path(_path(path, k), key), block


def _rectangle(x: Any) -> NDArray[np.object_] | None:
    """x as an array of parameters if it is a parameter or a rectangular nested list of them."""
    if isinstance(x, Value):
        if x.op != "":
            return None
        block = np.empty((), dtype=object)
        block[()] = x
        return block
    if isinstance(x, Module | dict):
        return None
    blocks = [_rectangle(child) for _, child in _children(x)]
    parts = [block for block in blocks if block is not None]
    if not parts or len(parts) < len(blocks) or len({part.shape for part in parts}) > 1:
        return None
    return np.stack(parts)


# --- loading --------------------------------------------------------------------------------------


def _as_array(x: Any) -> NDArray[np.float64] | str:
    """x as float64, or what is wrong with it."""
    try:
        array = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        return f"is not an array of numbers ({error})"
    if array.dtype.kind not in "biuf":
        return f"is not an array of real numbers (dtype {array.dtype})"
    return array.astype(np.float64)


def _pair(
    blocks: dict[str, NDArray[np.object_]],
    arrays: dict[str, NDArray[np.float64] | str],
    problems: list[str],
) -> list[tuple[Value, float]]:
    """Each parameter with its new number; a shared one that is given two is a problem."""
    numbers: dict[int, tuple[Value, float]] = {}
    for name, block in blocks.items():
        new = np.asarray(arrays[name]).ravel().tolist()
        conflict = False
        for parameter, number in zip(block.ravel().tolist(), new):
            known = numbers.setdefault(id(parameter), (parameter, number))[1]
            conflict |= known != number and (known == known or number == number)
        if conflict:
            problems.append(f"{name} shares parameters with another entry but differs from it")
    return list(numbers.values())
