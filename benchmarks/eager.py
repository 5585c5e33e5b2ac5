"""The eager engine against other scalar engines: `python -m benchmarks.eager`.

One program, a network's layers of multiply-adds, runs on

- scalargrad's Value,
- micrograd's Value (the published package),
- a plain-Python Value with `__slots__` and local gradients, in the manner of microgpt,
- plain floats, forward only: what the interpreter's own loop costs.

Times are per node of the graph: one result of one operation.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from micrograd.engine import Value as MicrogradValue

import scalargrad as sg
from benchmarks import harness
from benchmarks.peers.plain import PlainValue

ROWS = COLUMNS = 24  # small enough for micrograd's recursion
NODES = ROWS * COLUMNS * 2 + ROWS - 1


def layer(weights: list[list[Any]], inputs: list[Any]) -> Any:
    """Sum over rows of sum over columns of w * x: the program every contestant runs."""
    outputs = []
    for row in weights:
        activation = row[0]
        for w, x in zip(row, inputs):
            activation = activation + w * x
        outputs.append(activation)
    result = outputs[0]
    for output in outputs[1:]:
        result = result + output
    return result


def phases(make: Callable[[float], Any], rounds: int) -> tuple[float, float, float]:
    """Median nanoseconds per node of forward, backward and freeing."""
    generator = random.Random(0)
    weights = [[make(generator.uniform(-1, 1)) for _ in range(COLUMNS)] for _ in range(ROWS)]
    inputs = [make(generator.uniform(-1, 1)) for _ in range(COLUMNS)]
    taken: list[list[float]] = [[], [], []]
    clock = time.perf_counter
    for _ in range(rounds):
        start = clock()
        result = layer(weights, inputs)
        forward = clock()
        if not isinstance(result, float):
            result.backward()
        backward = clock()
        del result
        freed = clock()
        for phase, duration in zip(taken, (forward - start, backward - forward, freed - backward)):
            phase.append(duration)
    middle = [sorted(phase)[len(phase) // 2] / NODES * 1e9 for phase in taken]
    return middle[0], middle[1], middle[2]


def compare() -> str:
    contestants: dict[str, Callable[[float], Any]] = {
        "scalargrad": sg.Value,
        "plain Python Value": PlainValue,
        "micrograd": MicrogradValue,
        "plain floats": float,
    }
    rounds = {"scalargrad": 200, "plain Python Value": 30, "micrograd": 10, "plain floats": 200}
    results = {}
    for name, make in contestants.items():
        gc.collect()
        if name == "micrograd":  # its closures are cycles, which only the collector frees
            gc.enable()
        else:
            gc.disable()
        results[name] = phases(make, rounds[name])
    gc.enable()
    ours = sum(results["scalargrad"])
    rows = []
    for name, (forward, backward, free) in results.items():
        whole = forward + backward + free
        ratio = f"{whole / ours:.1f}" if name != "plain floats" else ""
        rows.append(
            (name, f"{forward:.0f}", f"{backward:.0f}", f"{free:.0f}", f"{whole:.0f}", ratio)
        )
    loop = results["plain floats"][0]
    headings = ("ns per node", "forward", "backward", "free", "total", "times ours")
    note = (
        f"forward / the same loop on floats: {results['scalargrad'][0] / loop:.2f} (bar 2.5)\n"
        f"plain Python Value / ours: {sum(results['plain Python Value']) / ours:.1f} (bar 14)"
    )
    return harness.table(headings, rows) + "\n\n" + note


def chain(length: int) -> tuple[float, float, float]:
    """Nanoseconds per node to build, differentiate and free a chain."""
    clock = time.perf_counter
    one = sg.Value(1.0)
    x = sg.Value(0.5)
    start = clock()
    for _ in range(length):
        x = x + one
    built = clock()
    x.backward()
    differentiated = clock()
    del x
    freed = clock()
    scale = 1e9 / length
    return (
        (built - start) * scale,
        (differentiated - built) * scale,
        (freed - differentiated) * scale,
    )


def growth() -> str:
    rows = []
    for length in (10**3, 10**4, 10**5, 10**6, 10**7):
        repeats = max(1, 10**5 // length)
        runs = sorted(chain(length) for _ in range(repeats))
        build, backward, free = runs[len(runs) // 2]
        rows.append((f"{length:,}", f"{build:.0f}", f"{backward:.0f}", f"{free:.0f}"))
    return harness.table(("chain of nodes", "build ns/node", "backward", "free"), rows)


def resident_bytes() -> int:
    """Resident memory of this process, in bytes (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def memory() -> str:
    count = 10**6
    one = sg.Value(1.0)
    before = resident_bytes()
    x = sg.Value(0.5)
    for _ in range(count):
        x = x + one
    per_node = (resident_bytes() - before) / count
    del x
    steps = training_memory()
    return (
        f"bytes of one Value (sys.getsizeof): {sys.getsizeof(sg.Value(0.0))}\n"
        f"resident bytes per live node, a graph of 10^6: {per_node:.0f} (bar 112)\n"
        f"resident memory gained over 10,000 training steps, collector off: {steps / 1024:.0f} KiB"
    )


def training_memory() -> int:
    sg.manual_seed(0)
    model = sg.nn.MLP(3, [4, 4, 1])
    optimizer = sg.optim.SGD(model.parameters(), lr=0.01)
    gc.disable()

    def step() -> None:
        loss = (model([1.0, 2.0, 3.0]) - 1.0) ** 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(100):
        step()
    before = resident_bytes()
    for _ in range(10_000):
        step()
    gained = resident_bytes() - before
    gc.enable()
    return gained


def main() -> None:
    print(f"{harness.machine()}; engine compiled: {sg.compiled}\n")
    print(compare(), "\n")
    print(growth(), "\n")
    print(memory())


if __name__ == "__main__":
    main()
