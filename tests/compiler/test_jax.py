"""The JAX back end and JAX functions, against the reference executor and the interpreter."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'scalargrad[jax]'")

import scalargrad as sg  # noqa: E402
from compiler.loop_cases import (  # type: ignore[import-not-found]  # noqa: E402
    KINDS,
    contract_cases,
)
from processes import run_python  # noqa: E402
from programs import algebra, mlp, physics, recurrent, sparse  # noqa: E402
from programs.case import Case, capture, data_for, inputs_for  # noqa: E402
from programs.corpus import CORPUS  # noqa: E402
from scalargrad import Value, ops  # noqa: E402
from scalargrad.compiler import arrays, levels, points  # noqa: E402
from scalargrad.compiler import jax as library  # noqa: E402
from scalargrad.compiler.arrays import dot  # noqa: E402
from scalargrad.compiler.jax import OPS, enable_x64  # noqa: E402
from scalargrad.compiler.loops import (  # noqa: E402
    Apply,
    Contract,
    Group,
    Loop,
    Loops,
    Operand,
    Repeat,
    Scatter,
    Segment,
    Space,
)
from scalargrad.compiler.reference import execute  # noqa: E402
from scalargrad.compiler.roll import roll  # noqa: E402
from scalargrad.compiler.slices import seen  # noqa: E402
from scalargrad.errors import ShapeError, TraceError  # noqa: E402

jnp = jax.numpy
SOME = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=25)


def parts(inputs: dict[Space, Any]) -> dict[Space, list[Any]]:
    return {space: [x] for space, x in inputs.items()}


def by_jax(loops: Loops, inputs: Any, batch: int | None, dtype: Any = np.float64) -> dict:
    """The program run by JAX, in the form of `reference.execute`."""
    examples = batch or 1

    def row(space: Space, x: Any) -> np.ndarray:
        kind = np.int32 if space in (Space.INDEX, Space.EXAMPLE_INDEX) else dtype
        return np.asarray(x, kind).reshape(examples if space.batched else 1, -1)

    rows = {space: row(space, x) for space, x in inputs.items() if loops.size(space)}
    if loops.size(Space.SCALAR):
        rows[Space.SCALAR] = np.array([[1.0 / examples, examples]], dtype)
    with enable_x64(True):
        function = jax.jit(lambda given: arrays.run(loops, parts(given), examples, dtype, library))
        results = function(rows)
        assert all(x.dtype == dtype for x in results.values())
    return {space: np.asarray(x if space.batched else x[0]) for space, x in results.items()}


def tame(inputs: dict) -> dict:
    """The inputs without numbers that XLA takes for 0."""
    return {
        space: np.where(np.abs(x) < 1e-300, 0, x) if x.dtype.kind == "f" else x
        for space, x in inputs.items()
    }


def agree(loops: Loops, inputs: dict, batch: int | None, bound: float = 1e-12) -> None:
    inputs = tame(inputs)
    constants = np.where(np.abs(loops.constants) < 1e-300, 0, loops.constants)
    loops = replace(loops, constants=constants)
    expected = execute(loops, inputs, batch)
    dtype = np.float64 if bound < 1e-8 else np.float32
    for space, got in by_jax(loops, inputs, batch, dtype).items():
        right = expected[space]
        finite = np.isfinite(right)
        # inf or nan: a factor that all terms share may be taken out of their sum.
        np.testing.assert_array_equal(np.isfinite(got), finite, err_msg=space.name)
        scale = max(1.0, float(np.abs(right[finite]).max(initial=0.0)))
        np.testing.assert_allclose(
            got[finite], right[finite], bound, bound * min(scale, 1e6), err_msg=space.name
        )


# --- programs ------------------------------------------------------------------------------------


def agree_on(case: Case, batch: str | None, examples: int, bound: float = 1e-12) -> None:
    tape, marks, parameters, _ = capture(case, batch)
    inputs = inputs_for(case, data_for(case, examples), parameters, batch)
    loops = roll(tape, marks)
    agree(loops, inputs, examples if batch else None, bound)


@pytest.mark.parametrize("number", range(len(CORPUS)))
def test_the_corpus(number: int) -> None:
    batch, examples = (None, 1) if number % 2 else ("mean", 3)
    agree_on(CORPUS[number], batch, examples)


@pytest.mark.parametrize("case", [mlp.cross_entropy(20, 8, 5), recurrent.rnn()], ids=str)
def test_in_float32(case: Case) -> None:
    agree_on(case, "mean", 3, 1e-5)


@pytest.mark.parametrize(
    "case", [sparse.dag(500), physics.pendulum(40), algebra.horner(30, 20)], ids=str
)
def test_long_programs(case: Case) -> None:
    agree_on(case, "sum", 2)


def test_random_programs() -> None:
    for seed in range(6):
        agree_on(sparse.operations(seed, 30), None, 1)


# --- instructions --------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [ops.MAXIMUM, ops.MINIMUM])
def test_an_extremum_of_many_numbers_keeps_nan(op: int) -> None:
    x = np.random.default_rng(0).normal(size=(8, 136, 4))
    x[0, 0, 0] = np.nan
    with enable_x64(True):
        folded = jax.jit(lambda x: library.FOLDS[op](x, axis=(0, 2), keepdims=True))(x)
    assert folded.shape == (1, 136, 1)
    assert np.isnan(folded).ravel().tolist() == [True] + [False] * 135


@pytest.mark.parametrize("small", [0, library.SMALL])
@SOME
@given(case=contract_cases())
def test_contractions(case: Any, small: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "SMALL", small)
        agree(*case)


@pytest.mark.parametrize("summed", [(3,), (1, 3)])
def test_products_of_matrices(summed: tuple[int, ...]) -> None:
    """The last axis is both factors'; the first three are the left's, the right's or both's."""
    rng = np.random.default_rng(0)
    shape = (2, 3, 4, 5)
    for owners in itertools.product((0, 1, None), repeat=3):
        left, right = (
            rng.normal(size=[1 if k == other else e for k, e in zip((*owners, None), shape)])
            for other in (0, 1)
        )
        with enable_x64(True):
            got = dot(library, jnp.asarray(left), jnp.asarray(right), summed)
        close(got, (left * right).sum(axis=summed, keepdims=True))


@pytest.mark.parametrize("op", [ops.ADD, ops.MAXIMUM, ops.MINIMUM])
@pytest.mark.parametrize("growth", [1, 20])
def test_rows_of_a_triangle(op: int, growth: int) -> None:
    """Row i has 1 + growth * i terms, all of a sign for which a 0 among them would be seen."""
    lanes = (Loop(6),)
    source = Operand(Space.ARGUMENT, 0, (7, 1))
    terms = Segment(source, None, (Loop(1, (growth,)),), minus=op == ops.MAXIMUM)
    start = {ops.ADD: -0.0, ops.MAXIMUM: -np.inf, ops.MINIMUM: np.inf}[op]
    step = Contract(Operand(Space.OUTPUT, 5, (-1,)), lanes, (Group((terms,)),), start, op=op)
    loops = Loops((step,), {Space.OUTPUT: 6, Space.ARGUMENT: 150})
    numbers = np.random.default_rng(0).uniform(1.0, 2.0, 150)
    agree(loops, {Space.ARGUMENT: numbers}, None)


@pytest.mark.parametrize("over", [0, 1])
def test_large_products_may_be_subtracted(over: int) -> None:
    lanes = (Loop(9), Loop(8))
    left = Operand(Space.EXAMPLE if over else Space.PARAMETER, 0, (11, 0, 1))
    right = Operand(Space.EXAMPLE if over else Space.ARGUMENT, 0, (0, 1, 8))
    terms = Segment(left, right, (Loop(11),), minus=True)
    step = Contract(Operand(Space.OUTPUT, 0, (8, 1)), lanes, (Group((terms,), over),), 2.5)
    sizes = {Space.OUTPUT: 72, Space.PARAMETER: 99, Space.ARGUMENT: 99, Space.EXAMPLE: 99}
    if not over:
        del sizes[Space.EXAMPLE]
    rng = np.random.default_rng(0)
    inputs = {s: rng.normal(size=(3, 99) if s.batched else 99) for s in sizes if s != Space.OUTPUT}
    agree(Loops((step,), sizes, batched=bool(over)), inputs, 3 if over else None)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "contractions"])
@SOME
@given(data=st.data())
def test_programs_of_each_kind(kind: str, data: st.DataObject) -> None:
    agree(*data.draw(KINDS[kind]))


def test_repeats_whose_tables_move_and_that_write_what_they_read() -> None:
    """Turn t doubles parameter table[t] and adds it up; all turns read the first sum, too."""
    table = np.array([3, 0, 2, 1, 1, 3, 0, 2], np.int32)
    place = Operand(Space.PARAMETER, 0, (), True, (1,))

    def moved(base: int, *moves: int) -> Operand:
        return Operand(Space.TEMPORARY, base, (), moves=moves)

    def total(result: Operand, *terms: Operand) -> Contract:
        return Contract(result, (), (Group(tuple(map(Segment, terms))),))

    start = Contract(Operand(Space.TEMPORARY, 0), (), (), 0.0)
    double = Apply(place, (), ops.ADD, (place, place))
    first = (double, total(moved(1, 1), moved(0, 1), place), total(moved(9, 1), moved(1), place))
    second = total(moved(5, 1), place._replace(base=4), moved(4))
    everything = Operand(Space.TEMPORARY, 0, (1,))
    end = Apply(Operand(Space.OUTPUT, 0, (1,)), (Loop(13),), ops.NEG, (everything,))
    loops = Loops(
        (start, Repeat(first, 4), Repeat((second,), 4), end),
        {Space.PARAMETER: 4, Space.TEMPORARY: 13, Space.OUTPUT: 13},
        table=table,
    )
    agree(loops, {Space.PARAMETER: np.array([1.0, 2.0, 3.0, 4.0])}, None)


@pytest.mark.parametrize(
    "row", [row for row in ops.TABLE if row.arity is not None], ids=lambda r: r.name
)
def test_every_operation_on_special_numbers(row: ops.Op) -> None:
    special = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -2.5, 3.0, 1e-200, 700.0, -700.0, np.inf, -np.inf]
    rng = random.Random(row.code)
    operands = [[rng.choice([*special, np.nan]) for _ in range(200)] for _ in range(row.arity)]
    consts = (2.0, -1.0, 1.0, 0.5, 3.0, -2.5, 0.0) if row.constant else (0.0,)
    with enable_x64(True):
        for const in consts:
            got = OPS[row.code](*map(jnp.asarray, operands), const)
            extra = (const,) if row.constant else ()
            expected = [row.forward(*numbers, *extra) for numbers in zip(*operands)]
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-300)


# --- patterns ------------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_what_is_evenly_apart_is_seen_by_slices(data: Any) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), max_size=3)))
    strides = tuple(data.draw(st.integers(-9, 20)) for _ in shape)
    base = sum(-s * (e - 1) for s, e in zip(strides, shape) if s < 0) + data.draw(st.integers(0, 3))
    places = points.Box(tuple(map(Loop, shape))).places(Operand(Space.PARAMETER, base, strides))
    pattern = points.even(places)
    assert pattern is not None
    x = np.arange(2.0 * (places.max() + 1 + data.draw(st.integers(0, 5)))).reshape(2, -1)
    if not pattern.overlaps:
        np.testing.assert_array_equal(seen(library, x, pattern), x[:, places])
    if places.size > 2:
        places.flat[places.size // 2] += 1
        assert points.even(places) is None or places.size == 2


def test_rows_of_several_arrays_are_one_block() -> None:
    owner = np.tile([1, 1, 1, 2], 50).astype(np.int32)
    place = np.where(owner == 2, np.arange(200) // 4, np.cumsum(owner == 1) - 1)
    (block,) = points.blocks(owner, place)
    assert block == points.Block((points.Run(1, 0, 3, 3), points.Run(2, 0, 1, 1)), 50)
    rng = np.random.default_rng(0)
    assert points.blocks(owner, rng.permutation(200)) is None


def test_a_long_sum_of_a_walk_is_a_sum_of_sums() -> None:
    nodes = levels._Nodes()
    inputs = [nodes.slot(int(Space.PARAMETER), k) for k in range(100)]
    nodes.sum(0.0, [levels._Term(slot) for slot in inputs])
    assert max(len(terms) for _, _, terms in nodes.sums) <= levels.TERMS
    assert max(nodes.level) == 2


def test_the_number_of_operations_is_that_of_the_nests() -> None:
    """Not one more for a network of many times the size."""

    def operations(case: Case) -> int:
        tape, marks, parameters, _ = capture(case, "mean")
        loops = roll(tape, marks)
        inputs = inputs_for(case, data_for(case, 3), parameters, "mean")
        rows = {
            space: jnp.asarray(x) if space.batched else jnp.asarray(x)[None]
            for space, x in inputs.items()
        }
        rows[Space.SCALAR] = jnp.array([[1.0 / 3.0, 3.0]])
        made = jax.make_jaxpr(
            lambda given: arrays.run(loops, parts(given), 3, np.float32, library)
        )(rows)
        return len(made.jaxpr.eqns)

    small, large = (
        operations(mlp.cross_entropy(30, 20, 15)),
        operations(mlp.cross_entropy(90, 60, 25)),
    )
    assert abs(small - large) <= 0.1 * large
    assert large < 400


# --- compiled functions --------------------------------------------------------------------------


def network(**options: Any) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    model = sg.nn.MLP(2, [8, 3], activation="tanh", rng=random.Random(0))
    rng = np.random.default_rng(0)

    def loss(x: Any, y: Any) -> Value:
        return sg.losses.cross_entropy(model(x), y)

    return model, sg.compile(loss, **options), rng.normal(size=(7, 2)), rng.integers(0, 3, 7)


def close(got: Any, expected: Any, bound: float = 1e-12) -> None:
    np.testing.assert_allclose(got, expected, rtol=bound, atol=bound)


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("batch", ["mean", "sum"])
def test_a_batch(batch: str, dtype: str, bound: float) -> None:
    _, exact, x, y = network(batch=batch, backend="interpreter")
    _, f, _, _ = network(batch=batch, backend="jax", mode="fast", dtype=dtype)
    close(f(x, y), exact(x, y), bound)
    for wrt in (None, 0, ("parameters", 0)):
        value, gradient = f.value_and_grad(x, y, wrt=wrt)
        expected, right = exact.value_and_grad(x, y, wrt=wrt)
        close(value, expected, bound)
        for a, b in zip(gradient, right) if isinstance(wrt, tuple) else [(gradient, right)]:
            close(a, b, bound)
    close(f(x[:1], y[:1]), exact(x[:1], y[:1]), bound)


def test_backward_adds() -> None:
    w = Value(1.5)
    f = sg.compile(lambda x, y: (w * x - y) ** 2, batch="mean", backend="jax", mode="fast")
    f.backward([1.0, 2.0], [0.5, 1.0])
    once = w.grad
    assert once == pytest.approx(np.mean([2 * 1.0 * 1.0, 2 * 2.0 * 2.0]))
    f.backward([1.0, 2.0], [0.5, 1.0])
    assert w.grad == pytest.approx(2 * once)
    w.data = 3.0
    assert f([1.0], [1.0]) == pytest.approx(4.0)


def test_what_a_batch_shares() -> None:
    def f(x: Any, s: Any) -> Value:
        return (x * s).exp()

    oracle = sg.compile(f, batch="sum", backend="interpreter")
    value, gradients = oracle.value_and_grad([1.0, 2.0], 0.5, wrt=(0, 1))
    fast = sg.compile(f, batch="sum", backend="jax", mode="fast")
    got, found = fast.value_and_grad([1.0, 2.0], 0.5, wrt=(0, 1))
    g = fast.jax_function([1.0, 2.0], 0.5)
    with enable_x64(True):
        slopes = jax.grad(g, (1, 2))(jnp.zeros(0), jnp.array([1.0, 2.0]), 0.5)
    close(got, value)
    for k in (0, 1):
        close(found[k], gradients[k])
        close(slopes[k], gradients[k])


def test_branches_indices_and_structures() -> None:
    table = [Value(2.0), Value(5.0), Value(7.0)]

    @sg.compile(backend="jax", mode="fast")
    def f(x: Any, n: Any) -> Any:
        if x[0] > 0.0:
            return {"a": sg.take(table, n) * x[1], "b": (x[0] - 1.0, 3)}
        return {"a": x[0], "b": (sg.where(x[1] < 0.0, x[1].log(), x[1]), n)}

    assert f([1.0, 2.0], 1) == {"a": 10.0, "b": (0.0, 3)}
    assert f([-1.0, 2.0], 1) == {"a": -1.0, "b": (2.0, 1)}
    assert f([1.0, 2.0], 2)["a"] == 14.0
    assert f.stats["variants"] == 2
    with pytest.raises(IndexError, match="n"):
        f([1.0, 2.0], 3)


def test_a_function_without_results_parameters_or_arguments() -> None:
    assert sg.compile(lambda x: None, backend="jax", mode="fast")(1.0) is None
    assert sg.compile(lambda: 3.0, backend="jax", mode="fast")() == 3.0
    assert sg.compile(lambda x: [None]).jax_function(1.0)(jnp.zeros(0), 1.0) == [None]
    value, gradient = sg.compile(lambda x: x * 0 + 1.0, backend="jax", mode="fast").value_and_grad(
        2.0
    )
    assert (value, gradient) == (1.0, 0.0)


def test_a_branch_not_taken_gives_no_nan() -> None:
    f = sg.compile(lambda x: sg.where(x > 0.0, x.sqrt(), -x), backend="jax", mode="fast")
    assert f.value_and_grad(-4.0) == (4.0, -1.0)
    assert f.value_and_grad(4.0) == (2.0, 0.25)
    g = f.jax_function(4.0)
    assert jax.grad(g, 1)(jnp.zeros(0), -4.0) == -1.0


def test_it_can_be_looked_at_and_is_honest() -> None:
    _, f, x, y = network(batch="mean", backend="jax", mode="fast")
    f.backward(x, y)
    assert "run by XLA, through JAX" in f.explain()
    assert "matrix product" in f.explain()
    assert f.loops.nests
    with pytest.raises(TraceError, match='backend="llvm"'):
        f.llvm_ir()
    with pytest.raises(ValueError, match=r"^mode: expected 'fast' for backend 'jax', got 'exact'"):
        sg.compile(lambda x: x, backend="jax")
    assert not jax.config.jax_enable_x64  # what the user has set stays as it was


# --- functions for JAX ---------------------------------------------------------------------------


def of(g: Any, dtype: Any = None) -> Any:
    return jnp.array([p.data for p in g.parameters], dtype)


def test_a_jax_function_is_pure_and_differentiable() -> None:
    _, f, x, y = network(batch="mean")
    g = f.jax_function(x, y)
    assert g.parameters == f.parameters
    with enable_x64(True):
        value, gradient = jax.jit(jax.value_and_grad(g))(of(g), x, y)
        expected, right = f.value_and_grad(x, y)
        close(value, expected)
        close(gradient, right)
        close(jax.grad(g, 1)(of(g), jnp.asarray(x), y), f.value_and_grad(x, y, wrt=0)[1])
        close(g(of(g), x[:3], y[:3]), f(x[:3], y[:3]))  # any number of examples
        both = jax.vmap(g, (0, None, None))(jnp.stack([of(g), 2 * of(g)]), x, y)
        close(both[0], expected)
        _, slope = jax.jvp(lambda p: g(p, x, y), (of(g),), (jnp.ones(len(right)),))
        close(slope, right.sum())
    assert g(of(g), x, y).dtype == np.float32


def test_second_derivatives_are_those_of_scalargrad() -> None:
    def f(v: Any) -> Value:
        return (v[0] * v[1].exp()).sin() + v[2].tanh() * v[0]

    point = [0.5, -0.25, 1.5]
    g = sg.compile(f).jax_function(point)
    with enable_x64(True):
        close(jax.hessian(g, 1)(jnp.zeros(0), jnp.array(point)), sg.hessian(f)(point))


def test_a_jax_function_keeps_the_structure() -> None:
    w = Value(3.0)

    def f(pair: Any, named: Any, flag: bool) -> Any:
        a, b = pair
        return {
            "sum": a + named["c"][1] * w,
            "list": [b, a * b],
            "n": 4,
            "none": None if flag else a,
        }

    g = sg.compile(f).jax_function((1.0, 2.0), {"c": np.array([5.0, 6.0])}, True)
    result = g(jnp.array([3.0]), (1.0, 2.0), {"c": jnp.array([5.0, 6.0])}, True)
    assert result == {"sum": 19.0, "list": [2.0, 2.0], "n": 4, "none": None}
    slopes = jax.jacobian(lambda p: g(p, (1.0, 2.0), {"c": jnp.array([5.0, 6.0])}, True)["sum"])
    assert slopes(jnp.array([3.0])) == 6.0
    with pytest.raises(TypeError, match="flag: expected True"):
        g(jnp.array([3.0]), (1.0, 2.0), {"c": jnp.array([5.0, 6.0])}, False)
    with pytest.raises(ShapeError, match=r"named\['c'\]: expected shape \(2,\), got \(3,\)"):
        g(jnp.array([3.0]), (1.0, 2.0), {"c": jnp.ones(3)}, True)
    with pytest.raises(ShapeError, match="parameters: expected an array of shape"):
        g(jnp.ones(2), (1.0, 2.0), {"c": jnp.ones(2)}, True)
    with pytest.raises(TypeError, match="expected 3 arguments after the parameters"):
        g(jnp.ones(1), (1.0, 2.0))


def test_an_index_out_of_range_is_nan() -> None:
    table = [Value(2.0), Value(5.0)]
    g = sg.compile(lambda n, x: sg.take(table, n) * x).jax_function(1, 2.0)
    p = of(g)
    assert g(p, 1, 3.0) == 15.0
    assert jax.grad(g)(p, 1, 3.0).tolist() == [0.0, 3.0]
    for n in (2, -1):
        assert np.isnan(g(p, n, 3.0))
        assert np.isnan(jax.grad(g)(p, n, 3.0)).all()


def test_what_cannot_be_a_jax_function_says_so() -> None:
    with pytest.raises(TraceError, match=r"asks whether .* scalargrad\.where"):
        sg.compile(lambda x: x if x > 0.0 else -x).jax_function(1.0)
    with pytest.raises(ValueError, match="has_aux"):
        sg.compile(lambda x: (x, x), has_aux=True).jax_function(1.0)
    with pytest.raises(ShapeError, match="one number"):
        sg.compile(lambda x: [x, x], batch="mean").jax_function([1.0])


SHARDED = """
import jax, jax.numpy as jnp, numpy as np, random
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import scalargrad as sg
jax.config.update("jax_enable_x64", True)
model = sg.nn.MLP(3, [8, 4], rng=random.Random(0))
f = sg.compile(lambda x, y: sg.losses.cross_entropy(model(x), y), batch="mean")
rng = np.random.default_rng(0)
x, y = rng.normal(size=(16, 3)), rng.integers(0, 4, 16)
g = f.jax_function(x, y)
p = jnp.array([v.data for v in g.parameters])
sharding = NamedSharding(Mesh(np.array(jax.devices()), ("examples",)), PartitionSpec("examples"))
xs, ys = jax.device_put(x, sharding), jax.device_put(y, sharding)
step = jax.jit(jax.value_and_grad(g)).lower(p, xs, ys).compile()
value, gradient = step(p, xs, ys)
expected, right = f.value_and_grad(x, y)
print(len(xs.devices()), "all-reduce" in step.as_text(), np.allclose(value, expected, 1e-12),
      np.allclose(gradient, right, 1e-12, 1e-14))
"""


def test_examples_can_be_shared_out_among_devices() -> None:
    flags = "--xla_force_host_platform_device_count=4"
    assert run_python("-c", SHARDED, XLA_FLAGS=flags, JAX_PLATFORMS="cpu") == "4 True True True\n"


@pytest.mark.parametrize("batch", [None, "mean"])
@pytest.mark.parametrize("per_example", [False, True])
def test_what_is_added_to_chosen_rows(batch: str | None, per_example: bool) -> None:
    rng = random.Random(3)
    table = [[Value(rng.gauss(0, 1)) for _ in range(3)] for _ in range(60)]

    def f(rows: Any, tokens: Any) -> Value:
        chosen = [sg.take(rows if per_example else table, token) for token in tokens]
        return sg.total((x * (k + 1)).tanh() for k, row in enumerate(chosen) for x in row)

    tokens = np.array([[5, 0, 59, 5, 7], [5, 5, 5, 5, 5], [1, 2, 3, 4, 59]])
    rows = np.random.default_rng(3).normal(size=(3, 60, 3))
    given_ = (rows, tokens) if batch else (rows[0], tokens[0])
    wrt = 0 if per_example else "parameters"
    by_xla = sg.compile(f, backend="jax", mode="fast", batch=batch)
    by_steps = sg.compile(f, backend="interpreter", batch=batch)
    value, gradient = by_xla.value_and_grad(*given_, wrt=wrt)
    right, expected = by_steps.value_and_grad(*given_, wrt=wrt)
    np.testing.assert_allclose(value, right, rtol=1e-12)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)
    if not per_example:
        assert any(isinstance(step, Scatter) for step in by_xla.loops.instructions)
