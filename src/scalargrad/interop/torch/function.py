"""A scalar program as part of a PyTorch model: tensors in, tensors out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ...compiler.arguments import ArgumentNames, read
from ...compiler.function import CompiledFunction
from ...compiler.program import Options
from ...compiler.results import collect
from ...compiler.structure import (
    ArgumentError,
    Array,
    Items,
    Keyed,
    Row,
    Scalar,
    Signature,
    Source,
    Static,
    describe,
    members,
    sequence_of,
    tensor_shape,
)
from ...engine import Value
from ...errors import ShapeError
from .derivatives import Outputs, Program
from .library import Tensor, torch


def torch_function(function: Callable[..., Any], *args: Any) -> TorchFunction:
    """A function of single numbers as a `torch.nn.Module`, compiled, with its derivatives.

        def drag(velocity, density):                  numbers in, numbers out
            speed = (velocity[0] ** 2 + velocity[1] ** 2).sqrt()
            return [-coefficient * density * speed * v for v in velocity]

        f = torch_function(drag, [1.0, 0.0], 1.2)     an example of a call
        f(velocities, 1.2)                            a tensor of shape (..., 2) gives one

    `function` is a plain or a compiled one. The example decides how arguments are nested: for a
    number comes a tensor of shape (...), for a list of n numbers or an array of them one of shape
    (..., n); tuples and dicts stay what they are. The axes in front are those of the examples,
    any number of them, and are broadcast. An integer may select (`sg.take`), and takes integer
    tensors. None, bools and strings are part of the program.

    The result is nested like what the function returns, with tensors of shape (...) for numbers
    and (..., n) for lists. It has the dtype and the device of the arguments, and is computed in
    float64 on the CPU. The Values that the function uses are its parameters: see `TorchFunction`.

    Derivatives, of any order, are scalargrad's own: no nan from a branch that is not taken, no
    rule of PyTorch's for a corner. `torch.autograd.gradcheck` and `gradgradcheck` pass, and
    `torch.func.grad`, `jacrev` and `vmap` work; forward mode (`jacfwd`) PyTorch refuses.

    Raises `TypeError` for an example that is not made of numbers, `ValueError` for a function
    compiled with a batch, and whatever tracing the function raises. Where the function asks for
    the truth of a comparison, all examples of a call must agree, or it is a `TraceError`.
    """
    options = Options()
    if isinstance(function, CompiledFunction):
        options = function.options
        if options.batch is not None:
            raise ValueError(
                f"function: expected one of a single example, got {function.__name__}, compiled "
                f"with batch={options.batch!r}: axes in front of the tensors are the examples"
            )
    names = ArgumentNames(function)
    call, chunks = read(names, tuple(map(_numpy, args)), {}, batched=False)
    return TorchFunction(_Calls(function, names, call.positional, chunks, options))


class TorchFunction(torch.nn.Module):
    """What `torch_function` makes; call it with tensors, or numbers and arrays in their place.

    weight      the numbers of the Values that the function uses, a float64 `torch.nn.Parameter`
                of shape (p,), in the order in which the Values were made; None where there are
                none
    captured    those Values. They have their own numbers until `write_back` gives them these
    """

    def __init__(self, calls: _Calls) -> None:
        super().__init__()
        self._calls = calls
        start = torch.tensor([v.data for v in self.captured], dtype=torch.float64)
        self.weight = torch.nn.Parameter(start) if self.captured else None

    @property
    def captured(self) -> list[Value]:
        """The Values that the function uses."""
        return list(self._calls.program.values)

    def write_back(self) -> None:
        """Give the Values of `captured` the numbers of `weight`."""
        if self.weight is not None:
            for value, number in zip(self.captured, self.weight.tolist()):
                value.data = number

    def forward(self, *args: Any) -> Any:
        """The function's result; see `torch_function`.

        Raises `TypeError` for a wrong number of arguments, or for one that is not made of
        numbers, and `ShapeError` for a shape that does not fit.
        """
        calls = self._calls
        columns = calls.columns(args)
        weight = calls.nothing if self.weight is None else self.weight
        given = [x.numbers for x in columns if x.given]
        floating = [x.dtype for x in given if x.is_floating_point()] or [weight.dtype]
        dtype = functools.reduce(torch.promote_types, floating)
        device = next((x.device for x in given if x.device.type != "cpu"), weight.device)
        axes = _front(columns, calls.name)
        numbers = _rows(columns, "number", axes, torch.float64)
        indices = _rows(columns, "index", axes, torch.int64)
        found = Outputs.apply(calls.program, _on_cpu(weight, torch.float64), numbers, indices)
        return calls.result(found if device.type == "cpu" else found.to(device), axes, dtype)

    def extra_repr(self) -> str:
        """What PyTorch shows of the module."""
        return f"{self._calls.name}, parameters={len(self.captured)}"


# --- calls ---------------------------------------------------------------------------------------


class _Column(NamedTuple):
    """Numbers of an argument, [..., count], of one kind; `given` by the caller as a tensor."""

    numbers: Tensor
    kind: str
    given: bool


class _Calls:
    """How arguments become rows, and outputs results; all copies of a module share it."""

    def __init__(
        self,
        function: Callable[..., Any],
        names: ArgumentNames,
        signatures: tuple[Signature, ...],
        chunks: Sequence[Any],
        options: Options,
    ) -> None:
        self.name = getattr(function, "__name__", type(function).__name__)
        self._function, self._signatures = function, signatures
        self._titles = [names.name(k) for k in range(len(signatures))]
        self._kinds = [kind for signature in signatures for kind in signature.kinds()]
        self._results: Signature | None = None
        self.nothing = torch.empty(0, dtype=torch.float64)
        row = np.concatenate([np.empty(0), *(np.asarray(x, float).ravel() for x in chunks)])[None]
        selects = np.array([kind == "index" for kind in self._kinds], bool)
        example = row[:, ~selects], row[:, selects].astype(np.int64)
        self.program = Program(self.name, self._body, options, example=example)

    def _body(self, numbers: Sequence[Any], indices: Sequence[Any]) -> list[Value]:
        """The numbers in the function's result; `numbers` may have more than it takes."""
        left = {"number": iter(numbers), "index": iter(indices)}
        source = Source([next(left[kind]) for kind in self._kinds])
        found: list[Value] = []
        result = self._function(*[signature.build(source) for signature in self._signatures])
        try:
            results = collect(result, found)
        except ArgumentError as error:
            raise error.named("result") from None
        if self._results not in (None, results):
            assert self._results is not None
            raise ShapeError(
                f"{self.name}: expected the same structure from every branch, got "
                f"{describe(results)} after {describe(self._results)}"
            )
        self._results = results
        return found

    def columns(self, args: Sequence[Any]) -> list[_Column]:
        """The numbers of the arguments."""
        if len(args) != len(self._signatures):
            raise TypeError(
                f"{self.name}: expected {len(self._signatures)} arguments "
                f"({', '.join(self._titles)}), got {len(args)}"
            )
        return [
            column
            for title, signature, x in zip(self._titles, self._signatures, args)
            for column in _columns(signature, x, title)
        ]

    def result(self, block: Tensor, axes: tuple[int, ...], dtype: Any) -> Any:
        """The result, from its numbers [rows, count]."""
        assert self._results is not None
        return _nested(self._results, block, axes, dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Calls:
        return self


def _numpy(x: Any) -> Any:
    """An example of an argument, with arrays in place of tensors."""
    if isinstance(x, torch.Tensor):
        return x.detach().cpu().numpy()
    if isinstance(x, list | tuple):
        return sequence_of(type(x), [_numpy(item) for item in x])
    return {key: _numpy(item) for key, item in x.items()} if isinstance(x, dict) else x


def _columns(signature: Signature, x: Any, name: str) -> Iterator[_Column]:
    """The numbers of an argument, in order."""
    shape = tensor_shape(signature)
    if isinstance(signature, Static):
        if type(x) is not signature.type or x != signature.value:
            raise TypeError(f"{name}: expected {signature.value!r}, as in the example, got {x!r}")
    elif shape is not None and not (shape and isinstance(x, list | tuple)):
        yield _column(signature, shape, x, name)
    else:
        parts = members(_unpacked(signature))
        keyed = isinstance(signature, Keyed)
        fits = isinstance(x, dict) if keyed else isinstance(x, list | tuple)
        if not fits:
            raise TypeError(f"{name}: expected {describe(signature)}, got {type(x).__name__}")
        if len(x) != len(parts) or (keyed and any(key not in x for key, _ in parts)):
            held = f"the keys {list(x)!r}" if keyed else f"{len(x)} things"
            raise ShapeError(f"{name}: expected {describe(signature)}, got {held}")
        for key, part in parts:
            yield from _columns(part, x[key], f"{name}[{key!r}]")


def _unpacked(signature: Signature) -> Signature:
    """An array as what a list of its parts is; anything else as it is."""
    if not isinstance(signature, Array):
        return signature
    length, *inner = signature.shape
    item = Array(tuple(inner), signature.kind) if inner else Scalar(signature.kind)
    return Items(list, (item,) * length)


def _column(signature: Signature, shape: tuple[int, ...], x: Any, name: str) -> _Column:
    given = isinstance(x, torch.Tensor)
    try:
        numbers = x if given else torch.from_numpy(np.array(x))
    except TypeError:
        raise TypeError(
            f"{name}: expected a tensor, or {describe(signature)}, got {type(x).__name__}"
        ) from None
    axes = numbers.ndim - len(shape)
    if axes < 0 or tuple(numbers.shape[axes:]) != shape:
        expected = ", ".join(["...", *map(str, shape)])
        raise ShapeError(
            f"{name}: expected shape ({expected}) for {describe(signature)}, "
            f"got {tuple(numbers.shape)}"
        )
    kind = next(signature.kinds(), "number")
    if numbers.is_complex() or (kind == "index" and numbers.is_floating_point()):
        wanted = "integers, as in the example" if kind == "index" else "real numbers"
        raise TypeError(f"{name}: expected {wanted}, got {numbers.dtype}")
    if len(shape) != 1:
        numbers = numbers.reshape((*numbers.shape[:axes], prod(shape)))
    return _Column(numbers, kind, given)


def _front(columns: Sequence[_Column], name: str) -> tuple[int, ...]:
    """The axes of examples that all arguments have together."""
    shapes = [tuple(x.numbers.shape[:-1]) for x in columns]
    if len(set(shapes)) == 1:
        return shapes[0]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(
            f"{name}: expected axes in front of the arguments that can be broadcast, got "
            f"{', '.join(map(str, shapes))}"
        ) from None


def _on_cpu(x: Tensor, dtype: Any) -> Tensor:
    """x itself where it is there and of that type: each call of PyTorch counts, as in `_rows`."""
    return x if x.dtype is dtype and x.device.type == "cpu" else x.to("cpu", dtype)


def _rows(columns: Sequence[_Column], kind: str, axes: tuple[int, ...], dtype: Any) -> Tensor:
    """The numbers of one kind, [examples, count], on the CPU."""
    parts = [_on_cpu(x.numbers, dtype) for x in columns if x.kind == kind]
    if not parts:
        return torch.empty((prod(axes), 0), dtype=dtype)
    if len(parts) > 1:
        parts = [x if x.shape[:-1] == axes else x.expand((*axes, x.shape[-1])) for x in parts]
    row = torch.cat(parts, -1) if len(parts) > 1 else parts[0].expand((*axes, parts[0].shape[-1]))
    return row if row.ndim == 2 else row.reshape(prod(axes), row.shape[-1])


def _nested(signature: Signature, block: Tensor, axes: tuple[int, ...], dtype: Any) -> Any:
    """Tensors in the structure of a result, from its numbers [rows, count]."""
    shape = tensor_shape(signature)
    if isinstance(signature, Static):
        return signature.value
    if shape is not None:
        kind = next(signature.kinds(), "number")
        whole = (*axes, *shape)
        x = block if block.shape == whole else block.reshape(whole)
        return x != 0.0 if kind == "truth" else x.to(torch.int64 if kind == "index" else dtype)
    parts, items, at = members(signature), [], 0
    for _, part in parts:
        items.append(_nested(part, block[:, at : at + part.size], axes, dtype))
        at += part.size
    if isinstance(signature, Keyed):
        return dict(zip(signature.keys, items))
    assert isinstance(signature, Row | Items)
    return sequence_of(signature.sequence, items)
