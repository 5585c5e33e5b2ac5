"""A program to be run in several ways: on Values, by the reference executor, by a back end."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scalargrad import Value, functional
from scalargrad.compiler.loops import Loops, Space
from scalargrad.compiler.marks import Marks
from scalargrad.compiler.reference import execute
from scalargrad.compiler.roll import roll
from scalargrad.graph import Graph
from scalargrad.tape import Tape


class Chosen:
    """An integer argument: `functional.take(values, chosen)` selects by it, and it remembers so."""

    is_traced_index = True

    def __init__(self, number: int, position: int, taken: dict[int, int]) -> None:
        self.number, self.position, self.taken = number, position, taken
        self.kept: list[Value] = []

    def take(self, values: Sequence[Any]) -> Value:
        node = Value.apply("take", *values, const=self.number)
        self.kept.append(node)
        self.taken[id(node)] = self.position
        return node

    def take_row(self, rows: Sequence[Sequence[Any]]) -> list[Value]:
        return [self.take(column) for column in zip(*rows)]


Function = Callable[[list[Value], list[Any]], Value]
Made = tuple[list[Value], Function]


@dataclass(frozen=True)
class Case:
    """A program of one example.

    `make(rng)` gives its parameters and the function of `numbers` real arguments and as many
    integer arguments as `choices`, number k of which is below choices[k].
    """

    name: str
    make: Callable[[random.Random], Made]
    numbers: int = 0
    choices: tuple[int, ...] = ()
    draw: Callable[[random.Random], float] = field(default=lambda rng: rng.gauss(0.0, 1.0))

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


@dataclass
class Answer:
    """The total over the batch, and its gradients."""

    loss: float
    parameters: list[float]
    arguments: list[list[float]]  # for each example
    finite: bool = True

    def bits(self) -> list[str]:
        flat = [self.loss, *self.parameters, *(x for row in self.arguments for x in row)]
        return ["nan" if x != x else float(x).hex() for x in flat]


@dataclass
class Data:
    """Arguments for each example."""

    numbers: list[list[float]]
    choices: list[list[int]]


def data_for(case: Case, examples: int, seed: int = 0) -> Data:
    rng = random.Random(seed)
    return Data(
        [[case.draw(rng) for _ in range(case.numbers)] for _ in range(examples)],
        [[rng.randrange(n) for n in case.choices] for _ in range(examples)],
    )


def eager(
    case: Case, data: Data, batch: str | None = None, penalty: bool = False, seed: int = 0
) -> Answer:
    """The program on Values, one example after the other, and `backward`."""
    parameters, function = case.make(random.Random(seed))
    examples, losses = [], []
    for numbers, choices in zip(data.numbers, data.choices):
        x = [Value(number) for number in numbers]
        examples.append(x)
        losses.append(function(x, [Chosen(c, k, {}) for k, c in enumerate(choices)]))
    loss = functional.mean(losses) if batch == "mean" else functional.total(losses)
    if penalty:
        loss = loss + weights(parameters)
    finite = all(np.isfinite(node.value.data) for node in Graph(loss))
    loss.backward()
    gradients = [[v.grad for v in x] for x in examples]
    return Answer(loss.data, [v.grad for v in parameters], gradients, finite)


def weights(parameters: list[Value]) -> Value:
    """An L2 penalty."""
    return 1e-4 * functional.total(p * p for p in parameters)


def capture(
    case: Case,
    batch: str | None = None,
    penalty: bool = False,
    seed: int = 0,
    shared: Sequence[int] = (),
    gradients: bool = True,
) -> tuple[Tape, Marks, list[Value], dict[int, str]]:
    """The tape of one example, its marks, and the parameters in their order.

    The arguments numbered in `shared` are the same for all examples.
    """
    parameters, function = case.make(random.Random(seed))
    data = data_for(case, 1, 99)
    taken: dict[int, int] = {}
    x = [Value(number) for number in data.numbers[0]]
    chosen = [Chosen(c, k, taken) for k, c in enumerate(data.choices[0])]
    outputs = [function(x, chosen)]
    if penalty:
        outputs.append(weights(parameters))
    graph = Graph(outputs)
    role = {id(v): (Space.PARAMETER, k) for k, v in enumerate(parameters)}
    for k, v in enumerate(x):
        batched = batch is not None and k not in shared
        role[id(v)] = (Space.EXAMPLE if batched else Space.ARGUMENT, k)
    leaves = [role.get(id(v), (Space.CONSTANT, 0)) for v in graph.leaves]
    tape = graph.tape
    index: list[tuple[Space, int]] = [(Space.CONSTANT, 0)] * len(tape.index)
    space = Space.INDEX if batch is None else Space.EXAMPLE_INDEX
    for node in graph:
        if id(node.value) in taken:
            index[tape.many[tape.lhs[node.number]]] = (space, taken[id(node.value)])
    m, n = len(x), len(chosen)
    sizes = {Space.PARAMETER: len(parameters)}
    sizes |= {Space.ARGUMENT: m, Space.INDEX: n} if batch is None else {}
    sizes |= {Space.EXAMPLE: m, Space.EXAMPLE_INDEX: n} if batch is not None else {}
    sizes |= {Space.ARGUMENT: m} if shared else {}
    wanted = (Space.PARAMETER, Space.ARGUMENT, Space.EXAMPLE) if gradients else ()
    marks = Marks(
        space=np.array([space for space, _ in leaves], np.uint8),
        place=np.array([place for _, place in leaves], np.int32),
        number=np.array([v.data for v in graph.leaves]),
        sizes=sizes,
        index_space=np.array([space for space, _ in index], np.uint8),
        index_place=np.array([place for _, place in index], np.int32),
        batch=batch,  # type: ignore[arg-type]
        penalty=penalty,
        wanted=wanted,
    )
    return tape, marks, parameters, {}


def inputs_for(
    case: Case, data: Data, parameters: list[Value], batch: str | None
) -> dict[Space, Any]:
    """What the executor is given."""
    numbers = np.array(data.numbers).reshape(len(data.numbers), case.numbers)
    choices = np.array(data.choices, np.int64).reshape(len(data.choices), len(case.choices))
    given: dict[Space, Any] = {Space.PARAMETER: np.array([p.data for p in parameters])}
    if batch is None:
        return given | {Space.ARGUMENT: numbers[0], Space.INDEX: choices[0]}
    return given | {Space.EXAMPLE: numbers, Space.EXAMPLE_INDEX: choices}


def answer_of(loops: Loops, results: dict[Space, Any], case: Case, data: Data) -> Answer:
    """What the program computed, arranged as `eager` does."""
    gradient = results.get(Space.PARAMETER_GRADIENT, np.empty(0)).tolist()
    if loops.batched:
        rows = results.get(Space.EXAMPLE_GRADIENT, np.empty((len(data.numbers), 0))).tolist()
    else:
        rows = [results.get(Space.ARGUMENT_GRADIENT, np.empty(0)).tolist()]
    return Answer(float(results[Space.OUTPUT][0]), gradient, rows)


def rolled(
    case: Case, data: Data, batch: str | None = None, penalty: bool = False, check: bool = True
) -> Answer:
    """The program through every stage of the compiler's analysis, and the reference executor."""
    tape, marks, parameters, _ = capture(case, batch, penalty)
    loops = roll(tape, marks, check=check)
    given = inputs_for(case, data, parameters, batch)
    results = execute(loops, given, len(data.numbers) if batch else None)
    return answer_of(loops, results, case, data)
