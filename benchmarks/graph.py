"""Replaying a captured graph against making it anew: `python -m benchmarks.graph`.

One program, an MLP's hinge loss over some points, is computed forward and backward by

- the eager engine, which makes every node anew (and frees it),
- `Graph.forward()` and `Graph.backward()`, which also write every Value's number back,
- the interpreter alone, over its own arrays,
- `sg.compile`, a whole call from Python: arguments in, gradients added to the parameters,
- the design of the C ports: every node an object of its own that points to its operands and to
  the functions that compute it forward and backward, visited in topological order. (Order found
  once, as here; the ports find it again for every backward pass.) Compiled with the system's
  `cc -O3`; left out where there is none.

Times are nanoseconds per node of the graph, leaves not counted; "backward" is given for those
that can run it without running forward. All but the eager engine keep the
order of the nodes from one run to the next. The gradients are compared bit for bit.
"""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import scalargrad as sg
from benchmarks import harness
from scalargrad import ops
from scalargrad.replay import Replay

Work = Callable[[], object]
COLUMNS = ("forward", "backward", "both")

PORT = r"""
#include <stdlib.h>

typedef struct node node;
struct node {
    double data, grad;
    node *a, *b;
    void (*forward)(node *);
    void (*backward)(node *);
};

static void add_f(node *v) { v->data = v->a->data + v->b->data; }
static void add_b(node *v) { v->a->grad += v->grad; v->b->grad += v->grad; }
static void sub_f(node *v) { v->data = v->a->data - v->b->data; }
static void sub_b(node *v) { v->a->grad += v->grad; v->b->grad -= v->grad; }
static void mul_f(node *v) { v->data = v->a->data * v->b->data; }
static void mul_b(node *v) {
    v->a->grad += v->b->data * v->grad;
    v->b->grad += v->a->data * v->grad;
}
static void div_f(node *v) { v->data = v->a->data / v->b->data; }
static void div_b(node *v) {
    v->a->grad += 1.0 / v->b->data * v->grad;
    v->b->grad -= v->data / v->b->data * v->grad;
}
static void relu_f(node *v) { v->data = v->a->data < 0.0 ? 0.0 : v->a->data; }
static void relu_b(node *v) { if (v->data > 0.0) v->a->grad += v->grad; }

static void (*const FORWARD[])(node *) = {add_f, sub_f, mul_f, div_f, relu_f};
static void (*const BACKWARD[])(node *) = {add_b, sub_b, mul_b, div_b, relu_b};

node **build(int n, int leaves, const int *kind, const int *a, const int *b, const double *data) {
    node **nodes = malloc(n * sizeof *nodes);
    for (int i = 0; i < n; i++) {
        node *v = nodes[i] = calloc(1, sizeof *v);
        v->data = data[i];
        if (i < leaves) continue;
        v->a = nodes[a[i]];
        v->b = b[i] < 0 ? NULL : nodes[b[i]];
        v->forward = FORWARD[kind[i]];
        v->backward = BACKWARD[kind[i]];
    }
    return nodes;
}

void forward(node **nodes, int n, int leaves) {
    for (int i = leaves; i < n; i++) nodes[i]->forward(nodes[i]);
}

void backward(node **nodes, int n, int leaves) {
    for (int i = leaves; i < n; i++) nodes[i]->grad = 0.0;
    nodes[n - 1]->grad = 1.0;
    for (int i = n - 1; i >= leaves; i--) nodes[i]->backward(nodes[i]);
}

void gradients(node **nodes, int leaves, double *grad) {
    for (int i = 0; i < leaves; i++) grad[i] = nodes[i]->grad;
}
"""
KINDS = {"add": 0, "sub": 1, "mul": 2, "div": 3, "relu": 4}  # the functions of the port above


# --- the program ----------------------------------------------------------------------------------


class Moons:
    """The mean hinge loss of an MLP 2-16-16-1 over `count` points."""

    def __init__(self, count: int) -> None:
        rng = random.Random(1)
        self.model = sg.nn.MLP(2, [16, 16, 1], rng=rng)
        self.x = [[rng.gauss(0.0, 1.0), rng.gauss(0.0, 1.0)] for _ in range(count)]
        self.y = [rng.choice((-1.0, 1.0)) for _ in range(count)]

    def __call__(self, x: list[list[sg.Value]], y: list[sg.Value]) -> sg.Value:
        losses = [(1.0 - t * self.model(row)).relu() for row, t in zip(x, y)]
        return sg.functional.mean(losses)

    def eager(self) -> sg.Value:
        """The loss, on Values."""
        rows = [[sg.Value(a) for a in row] for row in self.x]
        return self(rows, [sg.Value(t) for t in self.y])

    def gradients(self, backward: Work) -> list[float]:
        """The parameters' gradients after one backward pass from zero."""
        self.model.zero_grad()
        backward()
        return [p.grad for p in self.model.parameters()]


# --- contestants ----------------------------------------------------------------------------------


class Port:
    """The graph as the C ports keep it."""

    def __init__(self, graph: sg.Graph, library: ctypes.CDLL) -> None:
        tape = graph.tape
        kinds = np.array([KINDS.get(row.name, -1) for row in map(_row, tape.op)], np.int32)
        lhs, rhs = tape.lhs.astype(np.int32), tape.rhs.astype(np.int32)
        data = np.array([v.data for v in graph.nodes])
        arrays = [array.ctypes.data_as(ctypes.c_void_p) for array in (kinds, lhs, rhs, data)]
        library.build.restype = ctypes.c_void_p
        self._library, self._leaves = library, tape.leaves
        nodes = ctypes.c_void_p(library.build(len(tape), tape.leaves, *arrays))
        self._run = (nodes, len(tape), tape.leaves)

    def forward(self) -> None:
        self._library.forward(*self._run)

    def backward(self) -> None:
        self._library.backward(*self._run)

    def gradients(self) -> list[float]:
        grad = np.zeros(self._leaves)
        self._library.gradients(self._run[0], self._leaves, grad.ctypes.data_as(ctypes.c_void_p))
        return grad.tolist()


def _row(code: int) -> ops.Op:
    return ops.BY_CODE.get(int(code), ops.BY_NAME["detach"])


def compiled_port(folder: Path) -> ctypes.CDLL | None:
    """The port's library, built by the system's C compiler; None where there is none."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    source, library = folder / "port.c", folder / "port.so"
    source.write_text(PORT)
    flags = ["-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", str(library), str(source)], check=True)
    return ctypes.CDLL(str(library))


class Interpreter:
    """The interpreter over arrays of its own, without a Value in sight."""

    def __init__(self, graph: sg.Graph) -> None:
        self.tape = graph.tape
        self.data = np.array([v.data for v in graph.nodes])
        self.grad = np.zeros(len(graph))
        self._replay = Replay(self.tape, self.data.data, self.grad.data)
        self.forward = self._replay.forward

    def backward(self) -> None:
        self.grad[self.tape.leaves :] = 0.0
        self.grad[-1] = 1.0
        self._replay.backward()


def contestants(
    program: Moons, graph: sg.Graph, library: ctypes.CDLL | None
) -> dict[str, dict[str, Work]]:
    """By name: what runs forward, backward alone where that can be, and both."""
    interpreter, compiled = Interpreter(graph), sg.compile(program, backend="interpreter")
    x, y = np.array(program.x), np.array(program.y)
    found: dict[str, dict[str, Work]] = {
        "eager": {"forward": program.eager, "both": lambda: program.eager().backward()},
        "Graph": _parts(graph),
        "interpreter": _parts(interpreter),
        "sg.compile": {
            "forward": lambda: compiled(x, y),
            "both": lambda: compiled.backward(x, y),
        },
    }
    wanted = program.gradients(found["eager"]["both"])
    assert program.gradients(found["Graph"]["both"]) == wanted
    assert program.gradients(found["sg.compile"]["both"]) == wanted
    found["interpreter"]["both"]()
    assert interpreter.grad[: len(wanted)].tolist() == wanted
    if library is not None:
        port = Port(graph, library)
        found["C port"] = _parts(port)
        found["C port"]["both"]()
        assert port.gradients()[: len(wanted)] == wanted
    return found


def _parts(thing: sg.Graph | Interpreter | Port) -> dict[str, Work]:
    def both() -> None:
        thing.forward()
        thing.backward()

    return {"forward": thing.forward, "backward": thing.backward, "both": both}


# --- the tables -----------------------------------------------------------------------------------


def compare(count: int, library: ctypes.CDLL | None) -> str:
    """Nanoseconds per node of each contestant, for the loss over `count` points."""
    program = Moons(count)
    graph = sg.Graph(program.eager())
    nodes = len(graph) - graph.tape.leaves
    works = contestants(program, graph, library)
    repeat = max(4, 20_000 // nodes)

    def repeated(work: Work) -> Work:
        def run() -> None:
            for _ in range(repeat):
                work()

        return run

    times = harness.medians(
        {
            f"{name} {part}": repeated(work)
            for name, parts in works.items()
            for part, work in parts.items()
        }
    )
    scale, base = 1e9 / (repeat * nodes), times["interpreter both"]
    rows = []
    for name, parts in works.items():
        cells = [f"{scale * times[f'{name} {k}']:.2f}" if k in parts else "" for k in COLUMNS]
        rows.append((name, *cells, f"{times[f'{name} both'] / base:.2f}"))
    headings = ("ns per node", *COLUMNS, "of the interpreter's")
    return f"{count} points, {nodes} nodes\n\n" + harness.table(headings, rows)


def capture(count: int) -> str:
    """What capturing the loss over `count` points costs, and freeing the graph again."""
    program = Moons(count)
    loss = program.eager()
    nodes = len(sg.Graph(loss))
    seconds = harness.medians({"capture": lambda: sg.Graph(loss)})["capture"]
    nbytes = sg.Graph(loss).nbytes / nodes
    cost = f"{1e9 * seconds / nodes:.1f} ns and {nbytes:.1f} bytes a node (bars 15 and 40)"
    return f"capturing a graph of {nodes} nodes: {cost}"


def main() -> None:
    print(f"{harness.machine()}; engine compiled: {sg.compiled}\n")
    with tempfile.TemporaryDirectory() as folder:
        library = compiled_port(Path(folder))
        if library is None:
            print("No C compiler was found (cc, gcc, clang): the C port is left out.\n")
        for count in (1, 100):
            print(compare(count, library), "\n")
    for count in (11, 100):  # within the second-level cache, and beyond it
        print(capture(count))


if __name__ == "__main__":
    main()
