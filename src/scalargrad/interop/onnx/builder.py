"""A graph of ONNX under construction, as a `Library` of arrays: every operation adds a node.

What is known beforehand, the parameters and constants, is moved about at once: a transposed
matrix of weights is an initializer of its own and no `Transpose`. An operation that is there
already is not added again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ... import ops
from ...compiler.library import State
from .library import helper, numpy_helper, onnx
from .operations import OPS

# Stands for the number of examples in a shape: more than any axis may have.
EXAMPLES = 1 << 40
LAST = np.iinfo(np.int64).max
Key: TypeAlias = tuple[Any, ...]


class Tensor:
    """An array of the graph; `numbers` if it is known what is in it.

    `plain` is a tensor of the same numbers in a row of axes that was reshaped to this one.
    """

    __array_ufunc__ = None  # NumPy's arrays leave arithmetic with tensors to these

    def __init__(
        self,
        builder: Builder,
        shape: Sequence[int],
        dtype: DTypeLike,
        name: str = "",
        numbers: NDArray[Any] | None = None,
        plain: Tensor | None = None,
    ) -> None:
        self.builder, self.shape, self.dtype = builder, tuple(shape), np.dtype(dtype)
        self.name, self.numbers, self.plain = name, numbers, plain

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    # --- shape and type --------------------------------------------------------------------------

    def reshape(self, *shape: Any) -> Tensor:
        """As NumPy's."""
        wanted = list(shape[0] if shape and not isinstance(shape[0], int) else shape)
        if -1 in wanted:
            known = prod(n for n in wanted if n != -1)
            wanted[wanted.index(-1)] = prod(self.shape) // known
        if tuple(wanted) == self.shape:
            return self
        if self.numbers is not None:
            return self._known(self.numbers.reshape(wanted))
        source = self if self.plain is None else self.plain
        if tuple(wanted) == source.shape:
            return source
        dims = np.array([-1 if n >= EXAMPLES else n for n in wanted], np.int64)
        found = self.builder.node("Reshape", [source, dims], wanted, self.dtype)
        found.plain = source
        return found

    def transpose(self, *order: Any) -> Tensor:
        """As NumPy's, with all axes given."""
        axes = list(order[0] if order and not isinstance(order[0], int) else order)
        if axes == sorted(axes):
            return self
        if self.numbers is not None:
            return self._known(self.numbers.transpose(axes))
        shape = [self.shape[k] for k in axes]
        return self.builder.node("Transpose", [self], shape, self.dtype, perm=axes)

    def astype(self, dtype: DTypeLike) -> Tensor:
        """As NumPy's."""
        if self.dtype == dtype:
            return self
        if self.numbers is not None:
            return self._known(self.numbers.astype(dtype))
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.builder.node("Cast", [self], self.shape, dtype, to=kind)

    def _known(self, numbers: NDArray[Any]) -> Tensor:
        return self.builder.constant(numbers, self.name)

    # --- arithmetic ------------------------------------------------------------------------------

    def _with(self, operation: str, other: Any, dtype: DTypeLike | None = None) -> Tensor:
        return self.builder.elementwise(operation, self, other, dtype=dtype)

    def __add__(self, other: Any) -> Tensor:
        return self._with("Add", other)

    def __radd__(self, other: Any) -> Tensor:
        return self.builder.elementwise("Add", other, self)

    def __sub__(self, other: Any) -> Tensor:
        return self._with("Sub", other)

    def __rsub__(self, other: Any) -> Tensor:
        return self.builder.elementwise("Sub", other, self)

    def __mul__(self, other: Any) -> Tensor:
        return self._with("Mul", other)

    def __rmul__(self, other: Any) -> Tensor:
        return self.builder.elementwise("Mul", other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return self._with("Div", other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return self.builder.elementwise("Div", other, self)

    def __neg__(self) -> Tensor:
        return self.builder.elementwise("Neg", self)

    def __eq__(self, other: Any) -> Any:
        return self._with("Equal", other, bool)

    def __lt__(self, other: Any) -> Tensor:
        return self._with("Less", other, bool)

    def __le__(self, other: Any) -> Tensor:
        return self._with("LessOrEqual", other, bool)

    def __gt__(self, other: Any) -> Tensor:
        return self._with("Greater", other, bool)

    def __ge__(self, other: Any) -> Tensor:
        return self._with("GreaterOrEqual", other, bool)

    def __and__(self, other: Any) -> Tensor:
        return self._with("And", other, bool)

    def __or__(self, other: Any) -> Tensor:
        return self._with("Or", other, bool)

    __hash__ = object.__hash__


class Builder:
    """The nodes and initializers of a graph. See `compiler.library.Library` for its operations."""

    def __init__(self) -> None:
        self.initializers: dict[str, Any] = {}
        self.examples: Tensor | None = None  # a batched input
        self._nodes: list[Any] = []
        self._known: list[dict[Key, Tensor]] = [{}]  # of each graph around this place
        self._outputs: set[str] = set()
        self._names: dict[str, int] = {}
        self._stored: dict[Key, str] = {}

    # --- nodes -----------------------------------------------------------------------------------

    def name(self, title: str) -> str:
        """A name that no other tensor has: the title, if it is free."""
        number = self._names[title] = self._names.get(title, -1) + 1
        return self.name(f"{title}_{number}") if number else title

    def input(self, title: str, shape: Sequence[int], dtype: DTypeLike) -> Tensor:
        """An input of the graph."""
        found = Tensor(self, shape, dtype, self.name(title))
        if shape and shape[0] == EXAMPLES:
            self.examples = found
        return found

    def constant(self, numbers: NDArray[Any], title: str = "constant") -> Tensor:
        """See `Library`."""
        return Tensor(self, numbers.shape, numbers.dtype, title, np.asarray(numbers))

    def node(
        self, operation: str, inputs: Sequence[Any], shape: Sequence[int], dtype: Any, **how: Any
    ) -> Tensor:
        """The result of an operation of ONNX."""
        names = [self._named(x) for x in inputs]
        key = (operation, *names, *((k, str(v)) for k, v in sorted(how.items())))
        for known in self._known:
            if key in known:
                return known[key]
        result = Tensor(self, shape, dtype, self.name(operation.lower()))
        self._add(operation, names, [result.name], **how)
        self._known[-1][key] = result
        return result

    def _add(self, operation: str, names: list[str], results: list[str], **how: Any) -> None:
        self._nodes.append(helper.make_node(operation, names, results, results[0], **how))

    def _named(self, x: Any) -> str:
        """The name of a tensor, of an initializer for what is known."""
        if isinstance(x, Tensor) and x.numbers is None:
            return x.name
        title, given = (x.name, x.numbers) if isinstance(x, Tensor) else ("constant", x)
        numbers = np.array(given, order="C")
        key = numbers.dtype.str, numbers.shape, numbers.tobytes()
        if key not in self._stored:
            name = self._stored[key] = self.name(title)
            self.initializers[name] = numpy_helper.from_array(numbers, name)
        return self._stored[key]

    def output(self, title: str, x: Tensor) -> Any:
        """Have x as an output of the graph, of this name if it is free."""
        name = self.name(title)
        own = [node for node in self._nodes if x.numbers is None and x.name in node.output]
        if own and x.name not in self._outputs and len(self._known) == 1:
            for node in self._nodes:
                _rename(node, x.name, name)
            x.name = name
        else:
            self._add("Identity", [self._named(x)], [name])
        self._outputs.add(name)
        return value_info(name, x.shape, x.dtype)

    def graph(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """The whole graph, without what does not lead to an output."""
        nodes = _used(self._nodes, {output.name for output in outputs})
        wanted = {name for node in nodes for name in _reads(node)}
        stored = [tensor for name, tensor in self.initializers.items() if name in wanted]
        return helper.make_graph(nodes, name, inputs, outputs, stored)

    @contextmanager
    def _inside(self) -> Iterator[list[Any]]:
        """A graph within the graph, whose nodes may read what is around it."""
        outer, self._nodes = self._nodes, []
        self._known.append({})
        try:
            yield self._nodes
        finally:
            self._nodes = outer
            self._known.pop()

    # --- operations on single numbers ------------------------------------------------------------

    OPS, SMALL = OPS, 0

    def elementwise(self, operation: str, *operands: Any, dtype: DTypeLike | None = None) -> Tensor:
        """The operation of ONNX on single numbers; Python's and NumPy's take the tensor's dtype."""
        own = next(x for x in operands if isinstance(x, Tensor)).dtype
        operands = tuple(x if isinstance(x, Tensor) else np.asarray(x, own) for x in operands)
        shape = np.broadcast_shapes(*(x.shape for x in operands))
        return self.node(operation, operands, shape, own if dtype is None else dtype)

    def where(self, condition: Any, a: Any, b: Any) -> Tensor:
        """See `Library`."""
        own = next(x for x in (a, b) if isinstance(x, Tensor)).dtype
        parts = [x if isinstance(x, Tensor) else np.asarray(x, own) for x in (a, b)]
        shape = np.broadcast_shapes(condition.shape, *(x.shape for x in parts))
        return self.node("Where", [condition, *parts], shape, own)

    # --- whole arrays ----------------------------------------------------------------------------

    def broadcast_to(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """See `Library`."""
        shape = tuple(shape)
        if x.shape == shape:
            return x
        if x.numbers is not None and EXAMPLES not in shape:
            return self.constant(np.broadcast_to(x.numbers, shape), x.name)
        return self.node("Expand", [x, self._shape(shape)], shape, x.dtype)

    def _shape(self, shape: Sequence[int]) -> Any:
        """A shape as a tensor."""
        if EXAMPLES not in shape:
            return np.array(shape, np.int64)
        examples = self.node("Shape", [self.examples], [1], np.int64, start=0, end=1)
        at = list(shape).index(EXAMPLES)
        parts: list[Any] = [
            np.array(shape[:at], np.int64),
            examples,
            np.array(shape[at + 1 :], np.int64),
        ]
        return self.node(
            "Concat", [x for x in parts if x.shape != (0,)], [len(shape)], np.int64, axis=0
        )

    def concatenate(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        """See `Library`."""
        if len(xs) == 1:
            return xs[0]
        if all(x.numbers is not None for x in xs):
            return self.constant(np.concatenate([x.numbers for x in xs], axis), xs[0].name)
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        return self.node("Concat", xs, shape, xs[0].dtype, axis=axis)

    def cut(self, x: Tensor, start: int, stop: int, step: int = 1) -> Tensor:
        """See `Library`."""
        return self._slices(x, [x.ndim - 1], [start], [stop], [step])

    def flip(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """See `Library`."""
        return self._slices(x, list(axes), [-1] * len(axes), [-LAST] * len(axes), [-1] * len(axes))

    def _slices(
        self, x: Tensor, axes: list[int], start: list[int], stop: list[int], step: list[int]
    ) -> Tensor:
        shape, index = list(x.shape), [slice(None)] * x.ndim
        for axis, *parts in zip(axes, start, stop, step):
            if parts == [0, shape[axis], 1]:
                continue
            index[axis] = slice(parts[0], None if parts[1] == -LAST else parts[1], parts[2])
            shape[axis] = len(range(*index[axis].indices(shape[axis])))
        if index == [slice(None)] * x.ndim:
            return x
        if x.numbers is not None:
            return self.constant(x.numbers[tuple(index)], x.name)
        how = [np.array(part, np.int64) for part in (start, stop, axes, step)]
        return self.node("Slice", [x, *how], shape, x.dtype)

    def pad(self, x: Tensor, more: int) -> Tensor:
        """See `Library`."""
        if x.numbers is not None:
            return self.constant(np.pad(x.numbers, [(0, 0)] * (x.ndim - 1) + [(0, more)]), x.name)
        pads = np.array([0] * (2 * x.ndim - 1) + [more], np.int64)
        return self.node("Pad", [x, pads], (*x.shape[:-1], x.shape[-1] + more), x.dtype)

    def product(
        self, left: Tensor, right: Tensor, summed: tuple[Any, Any], kept: tuple[Any, Any]
    ) -> Tensor:
        """See `Library`."""
        free = [
            [k for k in range(x.ndim) if k not in (*summed[own], *kept[own])]
            for own, x in enumerate((left, right))
        ]
        left = left.transpose([*kept[0], *free[0], *summed[0]])
        right = right.transpose([*kept[1], *summed[1], *free[1]])
        both = left.shape[: len(kept[0])]
        if not free[0] and not free[1]:
            return self.fold("ReduceSum", left * right, tuple(range(len(both), left.ndim)), False)
        rows = left.shape[len(both) : len(both) + len(free[0])]
        columns = right.shape[right.ndim - len(free[1]) :] if free[1] else ()
        terms = prod(right.shape[len(both) : right.ndim - len(columns)])
        inside = rows if not both else (prod(rows),)  # a matrix may have any axes in front
        inside = inside or (1,)
        left = left.reshape(*both, *inside, terms)
        right = right.reshape(*both, terms, prod(columns))
        shape = (*both, *inside, prod(columns))
        found = self.node("MatMul", [left, right], shape, left.dtype)
        return found.reshape(*both, *rows, *columns)

    # --- places ----------------------------------------------------------------------------------

    def take(self, x: Tensor, places: Any, axis: int = 1) -> Tensor:
        """See `Library`."""
        if not isinstance(places, Tensor):
            places = np.asarray(places, np.int64)
            if x.numbers is not None:
                return self.constant(np.take(x.numbers, places, axis), x.name)
        shape = (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])
        return self.node("Gather", [x, places], shape, x.dtype, axis=axis)

    def choose(self, x: Tensor, chosen: Tensor) -> Tensor:
        """See `Library`."""
        last = np.array(x.shape[-1] - 1, np.int64)
        chosen = self.node("Clip", [chosen, np.array(0), last], chosen.shape, chosen.dtype)
        axes = range(x.ndim - 1)
        mine = [k for k in axes if x.shape[k] > 1]
        other = [k for k in axes if chosen.shape[k] > 1]
        shape = np.broadcast_shapes(x.shape[:-1], chosen.shape[:-1])
        if set(mine) & set(other):
            x = self.broadcast_to(x, (*shape, x.shape[-1]))
            chosen = self.broadcast_to(chosen, (*shape, 1))
            how = {"axis": x.ndim - 1}
            return self.node("GatherElements", [x, chosen], (*shape, 1), x.dtype, **how)
        # Every row of numbers for every choice: no number needs to be copied beforehand.
        x = x.reshape([x.shape[k] for k in mine] + [x.shape[-1]])
        found = self.take(x, chosen.reshape([chosen.shape[k] for k in other]), axis=len(mine))
        made = [*mine, *other]
        found = found.transpose(sorted(range(len(made)), key=made.__getitem__))
        return found.reshape(*shape, 1)

    def put(self, x: Tensor, places: Any, numbers: Tensor, axis: int = 1) -> Tensor:
        """See `Library`."""
        at = places if isinstance(places, Tensor) else self.constant(np.asarray(places, np.int64))
        at = at.reshape([-1 if k == axis else 1 for k in range(x.ndim)])
        at = self.broadcast_to(at, numbers.shape)
        return self.node("ScatterElements", [x, at, numbers], x.shape, x.dtype, axis=axis)

    def add_at(self, x: Tensor, slots: Tensor, numbers: Tensor, together: bool) -> Tensor:
        """See `Library`."""
        if together:
            slots, numbers = slots.reshape(1, -1), numbers.reshape(1, -1)
        how = {"axis": 1, "reduction": "add"}
        return self.node("ScatterElements", [x, slots, numbers], x.shape, x.dtype, **how)

    def window(self, x: Tensor, start: Any, count: int) -> Tensor:
        """See `Library`."""
        if not isinstance(start, Tensor):
            return self._slices(x, [1], [start], [start + count], [1])
        start = start.reshape(1)
        shape = (x.shape[0], count, *x.shape[2:])
        ends = [x, start, start + count, np.array([1], np.int64)]
        return self.node("Slice", ends, shape, x.dtype)

    def write(self, x: Tensor, numbers: Tensor, start: Any) -> Tensor:
        """See `Library`."""
        return self.put(x, start + np.arange(numbers.shape[1]), numbers)

    # --- sums ------------------------------------------------------------------------------------

    def fold(self, operation: str, x: Tensor, axis: Any, keepdims: bool) -> Tensor:
        """The numbers along some axes added up, or the greatest or least of them."""
        axes = list(axis) if isinstance(axis, tuple) else [axis]
        shape = [1 if k in axes else n for k, n in enumerate(x.shape) if keepdims or k not in axes]
        where = [x, np.array(axes, np.int64)]
        return self.node(operation, where, shape, x.dtype, keepdims=int(keepdims))

    @property
    def FOLDS(self) -> dict[int, Callable[..., Tensor]]:
        """See `Library`."""

        def folding(operation: str) -> Callable[..., Tensor]:
            return lambda x, axis, keepdims=False: self.fold(operation, x, axis, keepdims)

        return {op: folding(operation) for op, operation in FOLDING.items()}

    # --- turns -----------------------------------------------------------------------------------

    def repeat(self, count: int, turn: Callable[[Tensor, State], State], state: State) -> State:
        """See `Library`."""
        number = Tensor(self, (), np.int64, self.name("turn"))
        going = Tensor(self, (), bool, self.name("going"))
        present = {k: Tensor(self, x.shape, x.dtype, self.name("state")) for k, x in state.items()}
        with self._inside() as nodes:
            after = turn(number, present)
            outputs = [self.output(f"{going.name}_on", going)]
            outputs += [self.output(f"{present[k].name}_after", after[k]) for k in state]
        inputs = [value_info(x.name, x.shape, x.dtype) for x in (number, going, *present.values())]
        body = helper.make_graph(nodes, self.name("body"), inputs, outputs)
        done = {k: Tensor(self, x.shape, x.dtype, self.name("done")) for k, x in state.items()}
        begin = np.array(count, np.int64), np.array(True)
        names = [self._named(x) for x in (*begin, *state.values())]
        self._add("Loop", names, [x.name for x in done.values()], body=body)
        return done

    def scan(
        self, turn: Callable[..., Tensor], state: Tensor, tables: Sequence[NDArray[Any]]
    ) -> Tensor:
        """See `Library`."""
        tables = [x.astype(np.int64) if x.dtype.kind == "i" else x for x in tables]
        present = Tensor(self, state.shape, state.dtype, self.name("state"))
        rows = [Tensor(self, x.shape[1:], x.dtype, self.name("row")) for x in tables]
        with self._inside() as nodes:
            outputs = [self.output(f"{present.name}_after", turn(present, *rows))]
        inputs = [value_info(x.name, x.shape, x.dtype) for x in (present, *rows)]
        body = helper.make_graph(nodes, self.name("body"), inputs, outputs)
        done = Tensor(self, state.shape, state.dtype, self.name("done"))
        names = [self._named(x) for x in (state, *tables)]
        self._add("Scan", names, [done.name], body=body, num_scan_inputs=len(rows))
        return done


FOLDING = {ops.ADD: "ReduceSum", ops.MAXIMUM: "ReduceMax", ops.MINIMUM: "ReduceMin"}


def value_info(name: str, shape: Sequence[int], dtype: DTypeLike) -> Any:
    """An input or output of a graph: an axis of examples is called `batch`."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    dims = ["batch" if n == EXAMPLES else None if n > EXAMPLES else n for n in shape]
    return helper.make_tensor_value_info(name, kind, dims)


def _rename(node: Any, old: str, new: str) -> None:
    """Call a tensor by another name in a node and the graphs in it."""
    for names in (node.input, node.output):
        names[:] = [new if name == old else name for name in names]
    for attribute in node.attribute:
        for inner in attribute.g.node:
            _rename(inner, old, new)


def _reads(node: Any) -> Iterator[str]:
    """The names that a node and the graphs in it read."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for inner in attribute.g.node:
                yield from _reads(inner)
            yield from (output.name for output in attribute.g.output)


def _used(nodes: Sequence[Any], wanted: set[str]) -> list[Any]:
    """The nodes that lead to what is wanted."""
    wanted, kept = set(wanted), []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            wanted.update(_reads(node))
            kept.append(node)
    return kept[::-1]
