"""Programs that are one large graph: `python -m benchmarks.graphs [--ten-million]`.

- A batch of points written out in a loop and traced as one program, against the same batch given
  to a program for one point.
- A graph at random, without any structure, against the interpreter; also deep and narrow ones,
  where every node reads what was computed a moment ago.
- The batch and the graph at random from a thousand nodes to a million: what compiling and running cost per node.
"""

from __future__ import annotations

import argparse
import gc
import math
import operator
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import scalargrad as sg
from benchmarks import harness, tasks
from benchmarks.bars import Bar

NODES_A_POINT = 658  # of the network below, with its loss
SIZES = (10**3, 10**4, 10**5, 10**6)
LARGEST = 10**7
POWERS = {10**3: "10³", 10**4: "10⁴", 10**5: "10⁵", 10**6: "10⁶", 10**7: "10⁷"}
BINARY = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "maximum": sg.maximum}
ON_FLOATS: dict[str, Callable[..., float]] = BINARY | {
    "maximum": max,
    "tanh": math.tanh,
    "sin": math.sin,
    "cos": math.cos,
    "abs": abs,
    "relu": lambda a: max(a, 0.0),
    "sigmoid": lambda a: 1.0 / (1.0 + math.exp(-a)),
}
INPUT = 0.1  # how often the right operand is an input
DRAWN = 4  # nodes at random, of which one is taken
TINY = 1e-300
MIXED = ("add", "sub", "mul", "tanh", "sin")
MIXES = {
    "add, sub, mul": ("add", "sub", "mul"),
    "and tanh, sin": MIXED,
    "and others": (*MIXED, "maximum", "relu", "abs", "cos", "sigmoid"),
}
WINDOWS = (2, 5, 30, 100, 1000)  # of how many nodes before it one reads some, in a deep graph
INPUTS = 16  # of a deep graph
FLAT = 2.0  # what still counts as flat: the greatest cost per node over that at 10^4 nodes


@dataclass(frozen=True, slots=True)
class Compiled:
    """A function of one call, compiled from nothing: what it took, and its code."""

    function: Any
    nodes: int
    tracing: float
    compiling: float
    run: Callable[[], object]


def compiled(
    function: Callable[..., Any], *args: Any, wrt: int | None = None, **options: Any
) -> Compiled:
    """Trace and compile for the gradient of one call, with respect to `wrt`."""
    f = sg.compile(function, **options)
    with _no_cache():
        f.value_and_grad(*args, wrt=wrt)
        kernel = f.native()
        harness.finished()
        f.value_and_grad(*args, wrt=wrt)  # its memory has the arguments now
    stats = f.stats
    compiling = sum(stats["seconds"].values())
    return Compiled(f, stats["nodes"], stats["trace_seconds"], compiling, kernel.frame.run)


@contextmanager
def _no_cache() -> Iterator[None]:
    """Compile as if for the first time."""
    known = os.environ.get("SCALARGRAD_CACHE")
    os.environ["SCALARGRAD_CACHE"] = "0"
    try:
        yield
    finally:
        del os.environ["SCALARGRAD_CACHE"]
        if known is not None:
            os.environ["SCALARGRAD_CACHE"] = known


# --- programs -------------------------------------------------------------------------------------


def written_out(task: tasks.Task) -> Callable[[Any, Any], sg.Value]:
    """The loss of a batch as one function of all its points."""

    def loss(x: Any, y: Any) -> sg.Value:
        losses = [task.loss(task.model(point), label) for point, label in zip(x, y)]
        mean = sum(losses, sg.Value(0.0)) * (1.0 / len(losses))
        return mean + task.penalty(task.model)

    return loss


def at_random(
    nodes: int, seed: int = 0, window: int | None = None, names: Sequence[str] = MIXED
) -> tuple[Callable[[Any], sg.Value], list[float]]:
    """A function of about so many nodes, each of earlier ones at random, and an argument for it.

    With a `window` a node reads some of so many nodes before it, or an input: the graph is deep and
    narrow. The result adds what no other node uses, so every node counts. Of some nodes drawn that
    becomes one whose number, for that argument, is nearest to 1 or -1: a deep graph left to chance is
    all zeros, and below a gradient of zero the interpreter has nothing to do.
    """
    rng = random.Random(seed)
    width = max(4, nodes // 20) if window is None else INPUTS
    x = [rng.choice((-1.0, 1.0)) * rng.uniform(0.1, 1.0) for _ in range(width)]
    operations, numbers = [], list(x)
    unused = set(range(width))
    for k in range(width, width + int(0.57 * nodes)):
        lowest = 0 if window is None else max(0, k - window)
        drawn = []
        for _ in range(DRAWN):
            left = rng.randrange(lowest, k)
            right = rng.randrange(width) if rng.random() < INPUT else rng.randrange(lowest, k)
            name = rng.choice(names)
            operands = (left, right) if name in BINARY else (left,)
            number = ON_FLOATS[name](*(numbers[i] for i in operands))
            drawn.append((abs(math.log(abs(number) or TINY)), number, operands, name))
        _, number, operands, name = min(drawn)
        numbers.append(number)
        unused.difference_update(operands)
        unused.add(k)
        operations.append((name, operands))
    last = sorted(unused)

    def function(x: list[sg.Value]) -> sg.Value:
        values = list(x)
        for name, operands in operations:
            if name in BINARY:
                values.append(BINARY[name](*(values[i] for i in operands)))
            else:
                values.append(getattr(values[operands[0]], name)())
        return sum((values[k].tanh() for k in last), sg.Value(0.0))

    return function, x


def interpreted(function: Callable[..., Any], x: Any) -> Callable[[], object]:
    """The same gradient by the interpreter."""
    f = sg.compile(function, backend="interpreter")
    return lambda: f.value_and_grad(x)


# --- tables ---------------------------------------------------------------------------------------


def batch(count: int = 100, rounds: int = 15, block: float = 0.03) -> list[Bar]:
    """A batch written out as one graph, and the batched program."""
    task = tasks.moons(count)
    whole = compiled(written_out(task), task.x, task.y)
    form = sg.compile(task.total, batch="mean")
    form.value_and_grad(task.x, task.y)
    works: dict[str, harness.Work] = {"whole": whole.run, "batched": form.native().frame.run}
    harness.finished()
    form.value_and_grad(task.x, task.y)
    times = harness.medians(works, rounds, block)
    took, ratio = whole.compiling, times["whole"] / times["batched"]
    name = f"{task.name}, as one graph of {whole.nodes:,} nodes"
    each = f"{1e6 * times['whole']:.1f} µs for {1e6 * times['batched']:.1f}"
    print(f"{name}: traced in {whole.tracing:.2f} s, compiled in {took:.2f} s, runs in {each}.\n")
    return [
        Bar(name, "compiles in ≤ 0.6 s", f"{took:.2f} s", took <= 0.6),
        Bar(name, "runs within 1.5 × the batched form", f"{ratio:.2f} × ({each})", ratio <= 1.5),
    ]


def irregular(nodes: int = 100_000, rounds: int = 15, block: float = 0.03) -> list[Bar]:
    """A graph at random, and the interpreter."""
    function, x = at_random(nodes)
    whole = compiled(function, x)
    slow = interpreted(function, x)
    assert whole.function.value_and_grad(x)[0] == sg.compile(function, backend="interpreter")(x)
    works: dict[str, harness.Work] = {
        "call": lambda: whole.function.value_and_grad(x),
        "interpreter": slow,
    }
    times = harness.medians(works, rounds, block)
    took, ratio = whole.compiling, times["call"] / times["interpreter"]
    each = f"{1e3 * times['call']:.2f} ms for {1e3 * times['interpreter']:.2f}"
    name = f"a graph at random of {whole.nodes:,} nodes"
    print(f"{name}: traced in {whole.tracing:.2f} s, compiled in {took:.2f} s, called in {each}.\n")
    return [
        Bar(name, "compiles in ≤ 2 s", f"{took:.2f} s", took <= 2.0),
        Bar(name, "no slower than the interpreter", f"{ratio:.2f} × its time ({each})", ratio <= 1),
    ]


def deep(
    nodes: int = 20_000,
    windows: Sequence[int] = WINDOWS,
    rounds: int = 9,
    block: float = 0.02,
) -> list[Bar]:
    """Deep and narrow graphs, and the interpreter: values, and gradients."""
    rows, ratios = [], []
    for mix, names in MIXES.items():
        for window in windows:
            function, x = at_random(nodes, window=window, names=names)
            argument = np.array(x)
            native, slow = sg.compile(function), sg.compile(function, backend="interpreter")
            row: list[object] = [mix, window]
            for ours, theirs in (
                (native, slow),
                (native.value_and_grad, slow.value_and_grad),
            ):
                ours(argument)
                native.native()
                harness.finished()
                works: dict[str, harness.Work] = {
                    "native": partial(ours, argument),
                    "interpreter": partial(theirs, argument),
                }
                times = harness.medians(works, rounds, block)
                ratios.append(times["native"] / times["interpreter"])
                each = [1e9 * time / native.stats["nodes"] for time in times.values()]
                row += [*map(_three, each), f"{ratios[-1]:.2f}"]
            rows.append(row)
    headings = ("operations", "window", "value ns per node", "interpreter", "ratio")
    print(harness.table((*headings, "gradient", "interpreter", "ratio"), rows), "\n")
    reached = f"{min(ratios):.2f} to {max(ratios):.2f} × its time"
    name = f"deep, narrow graphs of {nodes:,} nodes"
    return [Bar(name, "no slower than the interpreter", reached, max(ratios) <= 1)]


def growth(largest: int = SIZES[-1], rounds: int = 7) -> list[Bar]:
    """Nanoseconds per node of tracing, compiling and running, by size.

    The interpreter runs what has no structure, too.
    """
    sizes = [*SIZES, LARGEST] if largest > SIZES[-1] else [n for n in SIZES if n <= largest]
    rows, bars = [], []
    programs: dict[str, Callable[[int], tuple[Callable[..., Any], tuple[Any, ...]]]] = {
        "a batch written out": _points,
        "at random": _random,
    }
    for name, make in programs.items():
        costs, ratios = [], []
        for size in sizes:
            function, arguments = make(size)
            theirs = 0.0
            if make is _random:
                slow = interpreted(function, *arguments)
                theirs = harness.medians({"run": slow}, rounds, 0.02)["run"]
                del slow
                gc.collect()
            whole = compiled(function, *arguments)
            taken = harness.medians({"run": whole.run}, rounds, 0.02)["run"]
            costs.append((whole.compiling / whole.nodes, taken / whole.nodes))
            each = [whole.tracing / whole.nodes, *costs[-1]]
            if theirs:
                ratios.append(taken / theirs)
                each.append(theirs / whole.nodes)
            shown = [_three(1e9 * cost) for cost in each]
            rows.append((name, f"{whole.nodes:,}", *shown, *[""] * (4 - len(shown))))
            del whole, function, arguments
            gc.collect()
        for k, what in enumerate(("compile", "run")):
            # Below 10^4 nodes what a compilation costs in any case is most of it.
            per_node = [1e9 * cost[k] for cost in costs[min(1, len(costs) - 1) :]]
            reached = (
                f"{_three(per_node[0])} ns, then at most {_three(max(per_node[1:] or per_node))}"
            )
            flat = max(per_node) <= FLAT * per_node[0]
            text = f"{what} time per node flat, 10⁴ to {POWERS[sizes[-1]]} nodes"
            bars.append(Bar(f"growth, {name}", text, reached, flat))
        if ratios:
            text = f"no slower than the interpreter, 10³ to {POWERS[sizes[-1]]} nodes"
            reached = f"{min(ratios):.2f} to {max(ratios):.2f} × its time"
            bars.append(Bar(f"growth, {name}", text, reached, max(ratios) <= 1))
    headings = ("ns per node", "nodes", "trace", "compile", "run", "interpreter")
    print(harness.table(headings, rows), "\n")
    return bars


def _three(number: float) -> str:
    """A number to about three digits."""
    return f"{number:,.{2 if number < 10 else 0}f}"


def _points(nodes: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    task = tasks.moons(max(2, nodes // NODES_A_POINT))
    return written_out(task), (task.x, task.y)


def _random(nodes: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    function, x = at_random(nodes)
    return function, (np.array(x),)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument(
        "--ten-million", action="store_true", help="to 10^7 nodes: minutes, gigabytes"
    )
    largest = LARGEST if parser.parse_args().ten_million else SIZES[-1]
    harness.pin()
    print(f"{harness.machine()}; one thread\n")
    batch()
    irregular()
    deep()
    growth(largest)


if __name__ == "__main__":
    main()
