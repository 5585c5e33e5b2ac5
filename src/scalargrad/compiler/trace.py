"""Tracing: run a function once on Values, and keep the graph it leaves behind.

There is no second language to trace: the function runs as it always does, on fresh Values in
place of its numbers, and the nodes it makes, in creation order, are the program. A `Tracer`
watches for what a graph cannot hold. A number that is read would be that of this call for ever:
`TraceError`. A comparison whose truth is asked becomes a guard: part of the program that later
calls check.

Which leaf is what follows from creation numbers. Values older than the trace are parameters;
then come the arguments; leaves made by the function itself are constants.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter, is_
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import ops, replay, ufuncs
from ..coerce import Number
from ..dependence import Dependence
from ..engine import Value
from ..errors import TraceError, UnrepeatableError
from ..functional import as_value
from ..graph import Graph
from ..lines import Lines, raising_line, user_line
from ..modes import modes
from ..tape import Tape
from .condition import RELATIONS, Condition
from .index import Index
from .randomness import Generators
from .results import collect
from .sources import SourceLines
from .structure import ArgumentError, Floats, Signature, Source


@dataclass(frozen=True, slots=True)
class Guard:
    """A comparison whose truth the function asked: `outcome` holds for this trace only.

    `text` is the comparison and `line` the file and line that asked.
    """

    line: str
    text: str
    outcome: bool


class Selection(NamedTuple):
    """An integer argument that selects: it must be in 0 ... length - 1.

    `guards` is how many guards came before: where one of those does not hold, the selection
    would not have been made.
    """

    argument: int
    length: int
    guards: int


@dataclass(frozen=True, slots=True)
class Trace:
    """One run of a function as a program: what every back end starts from. Holds no Values.

    A call brings m numbers, its *flattened arguments* (see `structure`), as one row of float64.

    tape        the instructions; nodes 0 ... p - 1 are the p parameters in creation order, then
                come the arguments that are used, then the constants, then the results.
                `tape.outputs` are the function's results in order, then one node for each guard
    data        float64[n], each node's number during the trace; constants keep theirs
    parameters  int32[p]: 0 ... p - 1
    arguments   int32[m]: the node of each flattened argument; -1 for one that is not used as a
                number
    shared      bool[m]: in a batch, whether the argument is the same for every example
    constants   int32[]: the leaves whose numbers never change
    indices     int32[slots]: for each entry of `tape.index` the flattened argument that holds
                the index; -1 where the index is fixed and in `tape.index`
    lengths     int32[slots]: how many candidates that index selects among
    selections  the ranges within which arguments must select
    guards      the truth that was asked of comparisons. The output node of a guard is 1.0 where
                it holds and 0.0 where not: unless that equals `outcome` the answer is void
    outputs     how the results are nested
    names       a name for each flattened argument: `x[0]`
    kinds       "number" or "index" (an integer) for each flattened argument
    lines       node -> "file:line" that made it, for results
    """

    tape: Tape
    data: Floats
    parameters: NDArray[np.int32]
    arguments: NDArray[np.int32]
    shared: NDArray[np.bool_]
    constants: NDArray[np.int32]
    indices: NDArray[np.int32]
    lengths: NDArray[np.int32]
    selections: tuple[Selection, ...]
    guards: tuple[Guard, ...]
    outputs: Signature
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    lines: SourceLines

    @property
    def results(self) -> int:
        """How many of `tape.outputs` are results; the others are guards."""
        return len(self.tape.outputs) - len(self.guards)


class Traced(NamedTuple):
    """A trace with the Values it was made of: the parameters, in creation order, and the graph."""

    trace: Trace
    parameters: list[Value]
    graph: Graph


class Inputs(NamedTuple):
    """What a function is traced with: its flattened arguments and how to rebuild them.

    `numbers`, `kinds` ("number" or "index"), `names` and `shared` have one entry for each
    flattened argument; `build` makes positional and keyword arguments from stand-ins for them.
    """

    numbers: Sequence[float]
    kinds: Sequence[str]
    names: Sequence[str]
    shared: Sequence[bool]
    build: Callable[[Source], tuple[Sequence[Any], Mapping[str, Any]]]


# --- watching ------------------------------------------------------------------------------------


class Tracer:
    """What the engine reports to while a function is traced.

    `oldest` is the first creation number of the trace: leaves before it are parameters, and
    leaves after the last of the `arguments` are constants of the function.
    """

    def __init__(self, oldest: int) -> None:
        self.oldest = oldest
        self.arguments: dict[int, int] = {}  # creation number -> flattened position
        self.guards: list[tuple[Guard, Value]] = []
        self.indices: dict[int, Index] = {}  # creation number of a `take` -> what selects
        self.selections: dict[Selection, None] = {}
        self.refusal: TraceError | None = None
        # Whether a Value depends on an argument or a parameter.
        self.varies = Dependence(self._varies)
        # Whether it depends on a Value that was there before.
        self.from_outside = Dependence(lambda v: True if v.number < oldest else None)
        # Tables that were selected from, by their first number and size: their rows and columns.
        self._tables: dict[tuple[int, int], tuple[list[list[Any]], list[tuple[Value, ...]]]] = {}
        self._looking = False
        self.finished = False

    # What the engine calls.

    def refuse_no_grad(self) -> None:
        """Called for a result made under `no_grad`."""
        raise self.refused(
            f"no_grad() at {user_line()}, inside a function that is being compiled: a compiled "
            "program has one graph. Call .detach() on the results that shall pass no gradient on"
        )

    def read(self, v: Value, what: str) -> None:
        """Called when a number is read: refuses one that may differ on another call."""
        if self._looking or not self.varies(v):
            return
        raise self.refused(
            f"{what} of {_shown(v)} at {user_line()}, inside a function that is being "
            "compiled: it depends on an argument or a parameter, and the program would keep the "
            f"number of this call for ever. {_remedy(what)}"
        )

    def wrote(self, v: Value, what: str) -> None:
        """Called when a number is written: a graph has no assignments."""
        raise self.refused(
            f"{what} of {_shown(v)} was assigned at {user_line()}, inside a function that "
            "is being compiled: the compiled program would not do it again. Return the new number "
            "and assign it outside"
        )

    def truth(self, v: Value) -> bool:
        """Called for `bool(v)`: whether v is not 0, guarded."""
        if not self.varies(v):
            return self._number(v) != 0.0
        return self.guard(Value.apply("where", v, 1.0, 0.0), f"{_shown(v)} is not 0")

    def compare(
        self, relation: Callable[[Any, Any], bool], a: Value, other: Number
    ) -> bool | Condition:
        """Called for `a < b` and its like: a Condition, or a bool where both are constants."""
        b = other if isinstance(other, Value) else Value(other)
        if not self.varies(a) and not self.varies(b):
            return relation(self._number(a), self._number(b))
        name, exchanged, sign = RELATIONS[relation]
        operands = (b, a) if exchanged else (a, b)
        text = f"{_shown(a)} {sign} {_shown(b)}"
        return Condition(self, lambda: Value.apply(name, *operands), text)

    def equal(self, a: Value, other: Value | Number, expected: bool) -> Any:
        """Called for `a == other`, or `!=`: a Condition where both come from arguments alone.

        Such numbers are plain ones where the function is called eagerly. One that depends on a
        parameter is a Value there too, which equals nothing but itself, and so do constants.
        """
        b = other if isinstance(other, Value) else Value(other)
        if self.from_outside(a) or self.from_outside(b) or not (self.varies(a) or self.varies(b)):
            return NotImplemented

        def node() -> Value:
            both = Value.apply("less_equal", a, b) * Value.apply("less_equal", b, a)
            return both if expected else 1.0 - both

        return Condition(self, node, f"{_shown(a)} {'==' if expected else '!='} {_shown(b)}")

    # What conditions and indices call.

    def refused(self, message: str) -> TraceError:
        """The error to raise, remembered: NumPy answers it with an error of its own."""
        self.refusal = TraceError(message)
        return self.refusal

    def guard(self, node: Value, text: str) -> bool:
        """Whether node is not 0, which every later call of this program must answer alike."""
        outcome = self._number(node) != 0.0
        if not self.finished and all(known is not node for _, known in self.guards):
            self.guards.append((Guard(user_line(), text, outcome), node))
        return outcome

    def selected(self, node: Value, index: Index, length: int) -> None:
        """Remember that the `take` node is selected by an argument."""
        self.indices[node.number] = index
        self.selections[Selection(index.position, length, len(self.guards))] = None

    def columns(self, rows: Sequence[Sequence[Any]]) -> list[tuple[Value, ...]]:
        """The columns of a table, the same tuples each time as long as it is the same Values."""
        table = [row if type(row) is list else list(row) for row in rows]
        if not table[0]:
            return []
        key = id(table[0][0]), len(table)
        known, columns = self._tables.get(key, (None, []))
        if known is None or not all(map(_same, known, table)):
            columns = [tuple([as_value(x, "values") for x in column]) for column in zip(*table)]
            if all(type(x) is Value for row in table for x in row):
                self._tables[key] = [list(row) for row in table], columns
        return columns

    def index_of(self, node: Value) -> Value | None:
        """The number that selects in a `take` node; None where the index is fixed."""
        index = self.indices.get(node.number)
        return None if index is None else index.as_value()

    # What may differ on another call.

    def _varies(self, v: Value) -> bool | None:
        # What an argument selects varies, whatever it selects among.
        if v.number < self.oldest or v.number in self.arguments or v.number in self.indices:
            return True
        return None

    def _number(self, v: Value) -> float:
        self._looking = True
        try:
            return v.data
        finally:
            self._looking = False


def _same(row: list[Any], other: list[Any]) -> bool:
    """Whether two lists hold the same objects."""
    return len(row) == len(other) and all(map(is_, row, other))


def _remedy(what: str) -> str:
    if "backward" in what or "grad" in what:
        return "For derivatives inside a program use scalargrad.grad or value_and_grad"
    if what == ".data":
        return (
            "The same number without a derivative is v.detach(), a Value; to choose by it use "
            "scalargrad.maximum, minimum or where, and for a stable softmax scalargrad.softmax"
        )
    return (
        "Stay with Values: x.exp() and the like instead of math.exp(x), lists or arrays of objects "
        "(numpy.zeros(n, object)) instead of arrays of floats, scalargrad.maximum, minimum or "
        "where to choose, .detach() to stop a gradient"
    )


def _shown(v: Value) -> str:
    """A Value in a message: its label, its number if it is a leaf without one, or its operation."""
    if v.label:
        return v.label
    if v.op == "":
        return f"{v!r}".removeprefix("Value(data=").partition(",")[0]
    return f"a result of {v.op}"


# --- tracing --------------------------------------------------------------------------------------


def trace(function: Callable[..., Any], inputs: Inputs) -> Traced:
    """Run the function on stand-ins for its flattened arguments and capture what it computes.

    Raises `TraceError` where the function does what a program cannot repeat, `TypeError` for a
    result that is no number, and whatever the function raises.
    """
    tracer = Tracer(Value(0.0).number)
    stand_ins = [_stand_in(tracer, inputs, k) for k in range(len(inputs.numbers))]
    arguments, keywords = inputs.build(Source(stand_ins))
    lines = Lines()
    results: list[Value] = []
    generators = Generators(function)
    try:
        with modes(tracer=tracer, lines=lines, grad=True, anomaly=False):
            outcome = function(*arguments, **keywords)
            try:
                outputs = collect(outcome, results)
            except ArgumentError as error:
                raise error.named("result") from None
            # A function may return nothing that varies, or nothing at all; a graph has outputs.
            roots = results + [node for _, node in tracer.guards] or [Value(0.0)]
    except Exception as error:
        refusal = tracer.refusal or _explained(error)
        if refusal is None or error is refusal:
            raise
        raise refusal from error
    finally:
        tracer.finished = True
    if generators.put_back():
        raise UnrepeatableError(
            "the function draws random numbers (from random, numpy.random or a generator), and the "
            "program would use those of this call for ever: draw them outside, and pass them as "
            "arguments"
        )
    graph = Graph(roots, lines)
    _refuse_old_results(graph, tracer.oldest)
    return _assembled(graph, lines, tracer, inputs, outputs, len(results))


# What NumPy says where an array of Values cannot do what one of numbers can, and what to do.
_NUMPYS = {
    "The truth value of an array": (
        "ask each number by itself, or use scalargrad.where, maximum or minimum to choose in "
        "the program"
    ),
    "loop of ufunc does not support": ufuncs.HAVE,
    "' not supported for the input types": ufuncs.HAVE,
}


def _explained(error: Exception) -> TraceError | None:
    """What to say instead of an error of NumPy's about an array of Values."""
    said = str(error)
    for words, remedy in _NUMPYS.items():
        if words in said and isinstance(error, TypeError | ValueError):
            line = raising_line(error)
            return TraceError(
                f"{said} (at {line}, inside a function that is being compiled): {remedy}"
            )
    return None


def _stand_in(tracer: Tracer, inputs: Inputs, k: int) -> Value | Index:
    number, name = inputs.numbers[k], inputs.names[k]
    leaf = Value(number, name)
    tracer.arguments[leaf.number] = k
    return Index(tracer, leaf, int(number), k, name) if inputs.kinds[k] == "index" else leaf


def _refuse_old_results(graph: Graph, oldest: int) -> None:
    leaves = graph.tape.leaves
    if leaves < len(graph) and graph.nodes[leaves].number < oldest:
        old = graph.nodes[leaves]
        raise TraceError(
            f"the function uses {old.label or 'a result'} ({old.op} = {old.data!r}) that was "
            "computed before it was called: called eagerly it would keep that number, compiled "
            "it would compute it anew. Compute it inside the function, or use its .detach(), "
            "which is a number of its own"
        )


def _assembled(
    graph: Graph,
    lines: Lines,
    tracer: Tracer,
    inputs: Inputs,
    outputs: Signature,
    results: int,
) -> Traced:
    tape, nodes = graph.tape, graph.nodes
    arguments = np.full(len(inputs.numbers), -1, np.int32)
    constant: list[int] = []
    number = attrgetter("number")
    parameters = bisect_left(nodes, tracer.oldest, hi=tape.leaves, key=number)
    for i in range(parameters, tape.leaves):
        k = tracer.arguments.get(nodes[i].number)
        if k is None:
            constant.append(i)
        else:
            arguments[k] = i
    tape, indices, lengths = _indexed(tape, nodes, tracer)
    if results + len(tracer.guards) == 0:
        tape = replace(tape, outputs=tape.outputs[:0])
    traced = Trace(
        tape=tape,
        data=_data(nodes),
        parameters=np.arange(parameters, dtype=np.int32),
        arguments=arguments,
        shared=np.array(inputs.shared, np.bool_),
        constants=np.array(constant, np.int32),
        indices=indices,
        lengths=lengths,
        selections=tuple(tracer.selections),
        guards=tuple(guard for guard, _ in tracer.guards),
        outputs=outputs,
        names=tuple(inputs.names),
        kinds=tuple(inputs.kinds),
        lines=_lines(graph, lines),
    )
    return Traced(traced, nodes[:parameters], graph)


def _data(nodes: list[Value]) -> Floats:
    data, versions = np.empty(len(nodes)), np.empty(len(nodes), np.uint64)
    replay.read_leaves(nodes, data.data, versions.data)
    return data


def _lines(graph: Graph, lines: Lines) -> SourceLines:
    nodes = graph.nodes

    def numbers() -> NDArray[np.uint64]:
        found = np.empty(len(nodes), np.uint64)
        replay.read_numbers(nodes, found.data)
        return found

    return SourceLines.of(lines, numbers, graph.tape.leaves)


def _indexed(
    tape: Tape, nodes: Sequence[Value], tracer: Tracer
) -> tuple[Tape, NDArray[np.int32], NDArray[np.int32]]:
    """The tape with a slot of `index` for each argument and number of candidates.

    Also gives, for each slot, the argument (-1 if it is fixed) and the number of candidates.
    """
    many = tape.many.copy()
    slots: dict[tuple[int, int, int], int] = {}  # (argument, candidates, fixed index) -> slot
    for i in np.flatnonzero(tape.op == ops.TAKE).tolist():
        at = int(tape.lhs[i])
        selector = tracer.indices.get(nodes[i].number)
        argument = -1 if selector is None else selector.position
        fixed = int(tape.index[tape.many[at]]) if selector is None else 0
        many[at] = slots.setdefault((argument, int(tape.rhs[i]), fixed), len(slots))
    keys = np.array(list(slots), np.int64).reshape(-1, 3)
    tape = replace(tape, many=many, index=keys[:, 2].copy())
    return tape, keys[:, 0].astype(np.int32), keys[:, 1].astype(np.int32)
