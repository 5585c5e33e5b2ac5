"""Models of ONNX, run by ONNX Runtime, against the reference executor and the eager engine."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install 'scalargrad[onnx]'")
runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")


from onnx.reference import ReferenceEvaluator  # noqa: E402

import scalargrad as sg  # noqa: E402
from compiler.loop_cases import KINDS  # type: ignore[import-not-found]  # noqa: E402
from programs import algebra, physics, sparse  # noqa: E402
from programs.case import Case, capture, data_for, inputs_for  # noqa: E402
from programs.corpus import CORPUS  # noqa: E402
from scalargrad import losses, nn, ops  # noqa: E402
from scalargrad.compiler import arrays  # noqa: E402
from scalargrad.compiler.loops import Loops, Space  # noqa: E402
from scalargrad.compiler.reference import execute  # noqa: E402
from scalargrad.compiler.roll import roll  # noqa: E402
from scalargrad.errors import DataError, TraceError  # noqa: E402
from scalargrad.interop.onnx import export, from_onnx, to_onnx  # noqa: E402
from scalargrad.interop.onnx.builder import EXAMPLES, Builder, value_info  # noqa: E402
from scalargrad.interop.onnx.export import model_of  # noqa: E402
from scalargrad.interop.onnx.load import ACTIVATIONS  # noqa: E402

SOME = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=15)


def run_model(model: Any, inputs: dict[str, Any]) -> list[np.ndarray]:
    if not inputs:  # ONNX Runtime runs no model without any
        return ReferenceEvaluator(model).run(None, {})
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    content = model.SerializeToString()
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, inputs)
    return found


# --- loops ---------------------------------------------------------------------------------------


def by_onnx(loops: Loops, inputs: Any, batch: int | None) -> dict:
    """The program as a model that ONNX Runtime runs, in the form of `reference.execute`."""
    examples, builder = batch or 1, Builder()
    infos, feed, given = [], {}, {}
    numbers = {space: x for space, x in inputs.items() if loops.size(space)}
    if loops.size(Space.SCALAR):
        numbers[Space.SCALAR] = np.array([1.0 / examples, examples])
    for space, x in numbers.items():
        kind = np.int64 if space in (Space.INDEX, Space.EXAMPLE_INDEX) else np.float64
        row = np.asarray(x, kind).reshape(examples if space.batched else 1, -1)
        tensor = builder.input(space.name, row.shape, kind)
        infos.append(value_info(tensor.name, row.shape, kind))
        given[space], feed[tensor.name] = [tensor], row
    results = arrays.run(loops, given, examples, np.float64, builder)
    if not results:
        return {}
    outputs = [builder.output(f"{space.name} out", x) for space, x in results.items()]
    found = run_model(model_of(builder.graph("loops", infos, outputs)), feed)
    return {space: x if space.batched else x[0] for space, x in zip(results, found)}


def agree(loops: Loops, inputs: dict, batch: int | None, bound: float = 1e-12) -> None:
    # What Max and Min do to nan is left to the runtime.
    inputs = {
        space: np.where(np.isnan(x), 0.5, x) if x.dtype.kind == "f" else x
        for space, x in inputs.items()
    }
    expected = execute(loops, inputs, batch)
    for space, got in by_onnx(loops, inputs, batch).items():
        right = expected[space]
        finite = np.isfinite(right)
        # inf or nan: a factor that all terms share may be taken out of their sum.
        np.testing.assert_array_equal(np.isfinite(got), finite, err_msg=space.name)
        scale = max(1.0, float(np.abs(right[finite]).max(initial=0.0)))
        np.testing.assert_allclose(
            got[finite], right[finite], bound, bound * min(scale, 1e6), err_msg=space.name
        )


def agree_on(case: Case, batch: str | None, examples: int) -> None:
    tape, marks, parameters, _ = capture(case, batch)
    inputs = inputs_for(case, data_for(case, examples), parameters, batch)
    agree(roll(tape, marks), inputs, examples if batch else None)


@pytest.mark.parametrize("number", range(len(CORPUS)))
def test_the_corpus_and_its_gradients(number: int) -> None:
    batch, examples = (None, 1) if number % 2 else ("mean", 3)
    agree_on(CORPUS[number], batch, examples)


@pytest.mark.parametrize(
    "case", [sparse.dag(500), physics.pendulum(40), algebra.horner(30, 20)], ids=str
)
def test_long_programs(case: Case) -> None:
    agree_on(case, "sum", 2)


@pytest.mark.parametrize("kind", KINDS)
@SOME
@given(data=st.data())
def test_programs_of_each_kind(kind: str, data: st.DataObject) -> None:
    agree(*data.draw(KINDS[kind]))


# --- functions -----------------------------------------------------------------------------------


def seeded(number: int = 0) -> random.Random:
    return random.Random(number)


def rnn() -> Any:
    """A recurrent network over a sequence, written number by number."""
    inner, outer = nn.Linear(4, 4, rng=seeded()), nn.Linear(2, 4, rng=seeded(1))

    def states(xs: Any) -> Any:
        h = [0.0] * 4
        for x in xs:
            h = [(a + b).tanh() for a, b in zip(inner(h), outer(x))]
        return h

    return states


def rk4(state: Any, dt: Any) -> Any:
    """Twenty steps of a pendulum."""

    def slope(s: Any) -> Any:
        return [s[1], -(s[0].sin()) - 0.1 * s[1]]

    def moved(s: Any, k: Any, h: Any) -> Any:
        return [a + h * b for a, b in zip(s, k)]

    for _ in range(20):
        a = slope(state)
        b = slope(moved(state, a, 0.5 * dt))
        c = slope(moved(state, b, 0.5 * dt))
        d = slope(moved(state, c, dt))
        state = [
            s + dt / 6.0 * (p + 2.0 * q + 2.0 * r + t) for s, p, q, r, t in zip(state, a, b, c, d)
        ]
    return state


def irregular(x: Any) -> Any:
    """A program without any loops in it."""
    rng, values = seeded(3), list(x)
    for _ in range(400):
        a, b = rng.choice(values), rng.choice(values)
        values.append(rng.choice([a * b, a + b, a - b, a.sin(), sg.maximum(a, b)]) * 0.7)
    return values[-3:]


def chosen(table: Any, k: Any) -> Any:
    return sg.where(table[0] > table[1], sg.take(table, k) * 2.0, table[2] - 1.5)


def next_loss(model: Any) -> Any:
    return lambda tokens: losses.cross_entropy(model(tokens[:-1])[-1], tokens[-1])


def network(activation: str) -> Any:
    return nn.MLP(3, [16, 8, 2], activation, activation, rng=seeded())


GPT = nn.GPT(7, 5, 8, 2, 2, std=0.4, rng=seeded())
FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    **{f"mlp {name}": (network(name), ([0.0] * 3,)) for name in nn.perceptron.ACTIVATIONS},
    "one output": (nn.MLP(3, [4, 1], rng=seeded()), ([0.0] * 3,)),
    "gpt": (GPT, ([0] * 5,)),
    "loss of a document": (next_loss(GPT), ([0] * 5,)),
    "rnn": (rnn(), ([[0.0, 0.0]] * 30,)),
    "rk4": (rk4, ([0.5, 0.1], 0.05)),
    "irregular": (irregular, ([0.1, 0.2, 0.3],)),
    "where and take": (chosen, ([0.0] * 3, 0)),
    "gradient": (sg.grad(lambda x: sg.functional.dot(x, x).exp() * x[0].softplus()), ([0.1] * 3,)),
    "compiled": (sg.compile(lambda x, y: x * y - y.gelu()), (0.5, 0.5)),
    "powers": (lambda x: [x**2, x**-1, (x * x) ** 0.3, abs(x) ** x, (x * 3.0).erfc()], (0.5,)),
}


def drawn(example: Any, rng: np.random.Generator, batch: int | None) -> Any:
    """Numbers like an example of an argument, as an array."""
    x = np.asarray(example)
    shape = x.shape if batch is None else (batch, *x.shape)
    return rng.integers(0, 3, shape) if x.dtype.kind == "i" else rng.normal(size=shape)


def numbers(y: Any) -> Any:
    return [numbers(v) for v in y] if isinstance(y, list) else float(y)


def with_values(function: Any, rows: list[Any]) -> np.ndarray:
    """What the function gives, called with Values, as `grad` needs them."""

    def wrapped(x: Any) -> Any:
        if isinstance(x, list):
            return [wrapped(y) for y in x]
        return sg.Value(x) if isinstance(x, float) else x

    return np.array(numbers(function(*(wrapped(x.tolist()) for x in rows))))


def compare(name: str, dtype: str, batch: int | None, runner: Any, bound: float) -> None:
    function, example = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    args = [drawn(x, rng, batch) for x in example]
    model = to_onnx(function, *example, batch=batch is not None, dtype=dtype)
    feed = {
        info.name: x.astype(np.int64 if x.dtype.kind == "i" else dtype)
        for info, x in zip(model.graph.input, args)
    }
    (got,) = runner(model, feed)
    assert got.dtype == dtype
    examples = [args] if batch is None else [[x[b] for x in args] for b in range(batch)]
    right = np.array([with_values(function, each) for each in examples])
    right = right[0] if batch is None else right
    assert got.shape == right.shape
    np.testing.assert_allclose(got, right, bound, bound * max(1.0, np.abs(right).max()))


@pytest.mark.parametrize("batch", [None, 1, 6])
@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-12), ("float32", 2e-6)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_in_onnx_runtime(name: str, dtype: str, bound: float, batch: int | None) -> None:
    compare(name, dtype, batch, run_model, bound)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_in_the_reference_implementation(name: str) -> None:
    compare(
        name, "float64", 3, lambda model, feed: ReferenceEvaluator(model).run(None, feed), 1e-12
    )


def test_a_planted_error_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Builder.OPS, ops.TANH, lambda a, c: a * 1.0)
    with pytest.raises(AssertionError):
        compare("mlp tanh", "float64", 3, run_model, 1e-12)


def test_a_network_is_matrix_products() -> None:
    model = to_onnx(network("relu"), [0.0] * 3, batch=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["MatMul", "Add", "Relu"] * 3
    shapes = sorted(tuple(tensor.dims) for tensor in model.graph.initializer)
    assert shapes == sorted([(3, 16), (1, 16), (16, 8), (1, 8), (8, 2), (1, 2)])


def test_the_number_of_nodes_is_that_of_the_loops() -> None:
    sizes = [
        len(to_onnx(nn.GPT(7, 6, 8 * n, 2, 1, rng=seeded()), [0] * 6).graph.node) for n in (1, 2)
    ]
    assert sizes[0] == sizes[1] < 120


def test_inputs_outputs_and_the_rest_are_named() -> None:
    def step(state: Any, pair: Any, k: Any, how: str) -> Any:
        return {"a": state["p"][0] * pair[1], "b": (sg.take(state["p"], k), [pair[0], pair[0]])}

    model = to_onnx(step, {"p": np.zeros(2)}, (0.0, 1.0), 1, "x", batch=True, dtype="float32")
    inputs = {
        info.name: ([d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim])
        for info in model.graph.input
    }
    assert inputs == {
        "state.p": ["batch", 2],
        "pair.0": ["batch"],
        "pair.1": ["batch"],
        "k": ["batch"],
    }
    assert [info.name for info in model.graph.output] == ["output.a", "output.b.0", "output.b.1"]
    assert model.graph.input[3].type.tensor_type.elem_type == onnx.TensorProto.INT64
    assert model.graph.name == "step"
    assert model.producer_name == "scalargrad"
    assert {p.key: p.value for p in model.metadata_props} == {
        "function": "step",
        "parameters": "0",
        "dtype": "float32",
    }
    assert [(x.domain, x.version) for x in model.opset_import] == [("", 18)]
    feed = {
        "state.p": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32),
        **{f"pair.{k}": np.array([5.0, 6.0], np.float32) for k in (0, 1)},
        "k": np.array([1, 0]),
    }
    a, taken, pair = run_model(model, feed)
    assert (a.tolist(), taken.tolist(), pair.tolist()) == ([5, 18], [2, 3], [[5, 5], [6, 6]])


@pytest.mark.parametrize("index", [-1, 3, 1 << 40])
def test_an_index_out_of_range_gives_nan_for_its_example(index: int) -> None:
    model = to_onnx(lambda x, k: sg.take(x, k), [1.0, 2.0, 3.0], 0, batch=True)
    x, k = np.array([[1.0, 2.0, 3.0]] * 3), np.array([2, index, 0])
    (y,) = run_model(model, {"x": x, "k": k})
    np.testing.assert_array_equal(y, [3.0, np.nan, 1.0])


def test_the_parameters_have_their_present_numbers() -> None:
    w = sg.Value(2.0)
    f = sg.compile(lambda x: w * x)
    for number in (2.0, 3.0):
        w.data = number
        assert run_model(to_onnx(f, 1.0), {"x": np.array(5.0)})[0] == 5.0 * number


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(network("tanh"), path, [0.0] * 3, batch=True)
    before = path.read_bytes()
    assert onnx.load(path) == to_onnx(network("tanh"), [0.0] * 3, batch=True)
    with pytest.raises(TraceError):
        export(lambda x: x if x > 0.0 else -x, path, 1.0)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    with pytest.raises(OSError, match="missing"):
        export(network("tanh"), tmp_path / "missing" / "model.onnx", [0.0] * 3)


def test_what_cannot_be_exported_is_named() -> None:
    with pytest.raises(TraceError, match=r"whether .* at .*test_onnx.py:\d+.*scalargrad.where"):
        to_onnx(lambda x: x if x > 0.0 else -x, 1.0)
    with pytest.raises(ValueError, match="dtype: expected 'float64' or 'float32', got 'int8'"):
        to_onnx(lambda x: x, 1.0, dtype="int8")
    with pytest.raises(ValueError, match="batch='mean': say batch=True"):
        to_onnx(sg.compile(lambda x: x, batch="mean"), 1.0)
    with pytest.raises(ValueError, match=r"batch: .* has no arguments"):
        to_onnx(lambda: sg.Value(1.0), batch=True)
    with pytest.raises(ValueError, match="to return numbers"):
        to_onnx(lambda x: None, 1.0)
    with pytest.raises(TypeError, match="expected a number"):
        to_onnx(lambda x: x, object())


# --- reading -------------------------------------------------------------------------------------


def chain(*nodes: tuple[Any, ...], output: int = 2, **tensors: Any) -> Any:
    """A model of nodes (operation, inputs, options) that read one another: `h` is the last one."""
    made, at = [], "x"
    for k, (operation, inputs, options) in enumerate(nodes):
        names = [at if name == "h" else name for name in inputs]
        made.append(onnx.helper.make_node(operation, names, [f"h{k}"], f"node{k}", **options))
        at = f"h{k}"
    stored = [onnx.numpy_helper.from_array(np.asarray(x), name) for name, x in tensors.items()]
    infos = [
        value_info("x", (EXAMPLES, 2), np.float32),
        value_info(at, (EXAMPLES, output), np.float32),
    ]
    graph = onnx.helper.make_graph(made, "chain", infos[:1], infos[1:], stored)
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9
    )


W = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]], np.float32)
V = np.array([[1.0, 0.5, -1.0], [2.0, -0.25, 0.75]], np.float32)
B = np.array([0.5, -1.0, 2.0], np.float32)
MULTIPLIED = ("MatMul", ["h", "w"], {})


@pytest.mark.parametrize("kind", [*ACTIVATIONS, None])
def test_a_perceptron_written_by_others_is_read(kind: str | None, tmp_path: Path) -> None:
    middle = [] if kind is None else [(kind, ["h"], {})]
    model = chain(
        ("Flatten", ["h"], {}),
        MULTIPLIED,
        ("Add", ["b", "h"], {}),
        *middle,
        ("Gemm", ["h", "v", "c"], {"transB": 1}),
        ("Identity", ["h"], {}),
        ("Tanh", ["h"], {}),
        **{"w": W, "b": B, "v": V, "c": np.array([0.1, 0.2], np.float32)},
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    (right,) = ReferenceEvaluator(model).run(None, {"x": x})
    for source in (path, model):
        found = from_onnx(source)
        got = [numbers(found(row)) for row in x.tolist()]
        np.testing.assert_allclose(got, right, 1e-5, 1e-6)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "linear"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_network_that_was_exported_is_read_again(activation: str, outputs: int) -> None:
    model = nn.MLP(2, [4, outputs], activation, activation, rng=seeded())
    for v in model.parameters():
        v.data += 0.1
    found = from_onnx(to_onnx(model, [0.0, 0.0], batch=True))
    assert repr(found) == repr(model)
    for name, block in model.state_dict().items():
        np.testing.assert_array_equal(found.state_dict()[name], block)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (chain(MULTIPLIED, ("Softmax", ["h"], {}), w=W, output=3), "Softmax 'node1'"),
        (chain(("Relu", ["h"], {}), MULTIPLIED, w=W, output=3), "Relu 'node0'"),
        (
            chain(MULTIPLIED, ("Relu", ["h"], {}), ("Tanh", ["h"], {}), w=W, output=3),
            "Tanh 'node2'",
        ),
        (chain(MULTIPLIED, ("Add", ["h", "x"], {}), w=W, output=3), "a chain of layers"),
        (chain(MULTIPLIED, ("Mul", ["h", "h"], {}), w=W, output=3), "Mul 'node1'"),
        (
            chain(MULTIPLIED, ("LeakyRelu", ["h"], {"alpha": 0.2}), w=W, output=3),
            "alpha=0.01, got 0.2",
        ),
        (chain(MULTIPLIED, ("Gelu", ["h"], {"approximate": "tanh"}), w=W, output=3), "approximate"),
        (chain(("Gemm", ["h", "w"], {"alpha": 2.0}), w=W, output=3), "alpha=1.0, got 2.0"),
        (chain(("MatMul", ["w", "h"], {}), w=W.T), "times a known matrix"),
        (
            chain(MULTIPLIED, ("Add", ["h", "b"], {}), w=W, b=B[:, None], output=3),
            r"got shape \(3, 1\)",
        ),
        (chain(("Identity", ["h"], {})), "expected a product"),
        (
            chain(("MatMul", ["h", "w"], {}), w=np.ones((2, 3), np.int64), output=3),
            "expected floats",
        ),
    ],
)
def test_what_a_perceptron_has_not_is_named(model: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_onnx(model)


def test_bad_files_give_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(network("relu"), path, [0.0] * 3, batch=True)
    content = path.read_bytes()
    rng = seeded()
    for length in sorted(rng.sample(range(len(content)), 40)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"model\.onnx"):
            from_onnx(path)
    for _ in range(200):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError):  # as DataError is one; some bits make no difference
            from_onnx(path)
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "none.onnx")


def test_weights_in_other_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = chain(MULTIPLIED, w=np.ones((2, 3000), np.float32), output=3000)
    onnx.save(model, path, save_as_external_data=True, location="weights")
    with pytest.raises(DataError, match="'w' are in another file"):
        from_onnx(path)


def test_sizes_that_are_not_there_take_no_memory(tmp_path: Path) -> None:
    model = chain(MULTIPLIED, w=W, output=3)
    model.graph.initializer[0].dims[:] = [2, 1 << 50]
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError):
        from_onnx(path)
