"""The benchmarks at their smallest: the peers do our training step, and the scripts run."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from benchmarks import (
    bars,
    calls,
    compile_times,
    compiled,
    functions,
    graphs,
    harness,
    mnist,
    models,
    peers,
    recurrences,
    tasks,
    threads,
)
from benchmarks.bars import Bar
from benchmarks.ours import Fit
from benchmarks.peers import contestants, require_agreement
from benchmarks.peers.numpy_mlp import NumpyMLP
from benchmarks.steps import measure
from scalargrad.compiler.loops import Walk

SMALL = {
    "moons": tasks.moons(5),
    "images": tasks.images("SGD", hidden=4, batch=3, side=3),
    "images by Adam": tasks.images("Adam", hidden=4, batch=3, side=3),
    "a document": tasks.documents(1, length=3, context=4),
    "documents": tasks.documents(2, length=3, context=4),
}


def enter(name: str, task: tasks.Task, dtype: str) -> None:
    reason = contestants(task)[name].missing()
    if reason:
        pytest.skip(reason)
    require_agreement(task, name, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("work", SMALL)
def test_numpy_does_the_same_step(work, dtype):
    enter("NumPy", SMALL[work], dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("work", ["a document", "documents"])
def test_plain_numpy_does_the_same_step(work, dtype):
    enter("NumPy plain", SMALL[work], dtype)


@pytest.mark.parametrize("work", SMALL)
def test_plain_python_does_the_same_step(work):
    enter("plain Python", SMALL[work], "float64")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["PyTorch", "JAX jit"])
@pytest.mark.parametrize("work", SMALL)
def test_the_libraries_do_the_same_step(work, name, dtype):
    enter(name, SMALL[work], dtype)


@pytest.mark.parametrize(
    ("task", "dtype"),
    [(tasks.moons(7), "float64"), (tasks.documents(), "float32"), (tasks.documents(2), "float32")],
    ids=["moons", "a document", "documents"],
)
def test_c_does_the_same_step(task, dtype):
    enter("C", task, dtype)
    assert float("5e-324") * 1.0 > 0.0, "the peer's library made the process flush subnormals"


@pytest.mark.parametrize("flaw", ["loss", "gradients", "step"])
def test_a_peer_that_does_something_else_is_found_out(flaw, monkeypatch):
    class Wrong(NumpyMLP):
        def gradients(self):
            loss, found = super().gradients()
            if flaw == "loss":
                loss *= 1.0 + 1e-8
            if flaw == "gradients":
                found["layers.2.b"][0] += 1e-6
            return loss, found

        def step(self):
            loss = super().step()
            if flaw == "step":
                self.parameters *= 1.0 - 1e-5
            return loss

    wrong = peers.Contestant("numpy_mlp:NumpyMLP")
    monkeypatch.setattr("benchmarks.peers.numpy_mlp.NumpyMLP", Wrong)
    monkeypatch.setitem(peers.PERCEPTRON, "NumPy", wrong)
    with pytest.raises(AssertionError, match="NumPy, MLP 2-16-16-1"):
        require_agreement(tasks.moons(5), "NumPy", "float64")


def test_a_contestant_that_is_not_installed_is_left_out_with_the_reason(monkeypatch):
    absent = peers.Contestant("nowhere:Nobody", "no_such_library")
    monkeypatch.setitem(peers.PERCEPTRON, "PyTorch", absent)
    times = measure(
        SMALL["moons"],
        [("NumPy", "float64"), ("PyTorch", "float64")],
        [("exact", "float64")],
        rounds=1,
        block=0.0,
    )
    assert set(times.seconds) == {
        ("NumPy", "float64"),
        *(("exact", "float64", part) for part in ("code", "step", "gradients", "call")),
    }
    assert "PyTorch: left out, no_such_library is not installed." in times.table()
    assert times.ratio(("PyTorch", "float64"), ("exact", "float64", "step")) is None


def test_training_by_scalargrad_leaves_the_model_as_it_was():
    task = SMALL["images by Adam"]
    before = task.weights
    assert task.trained(1e-3, 2) < task.gradients()[0]
    assert all(np.array_equal(before[name], array) for name, array in task.weights.items())


def test_medians_are_of_as_many_calls_as_asked_for():
    count = [0, 0]

    def call(k):
        count[k] += 1

    taken = harness.medians({k: lambda k=k: call(k) for k in (0, 1)}, rounds=3)
    assert count == [4, 4]
    assert all(seconds >= 0.0 for seconds in taken.values())


def test_fit_is_timed_by_the_mini_batch():
    fit = Fit(SMALL["moons"], "exact", "float64", lr=1e-9)
    assert isinstance(fit, harness.OwnClock)
    taken = harness.turn(fit, 0.01)
    assert len(taken) >= 2
    assert sum(taken) * Fit.COPIES < 1.0


def test_bars_say_met_or_not_or_why_not_measured():
    text = bars.table(
        [Bar("a", "≥ 2", "3", True), Bar("b", "≥ 2", "1", False), Bar("c", "≥ 2", "no cc", None)]
    )
    assert [line.split("|")[4].strip() for line in text.splitlines()[2:]] == [
        "met",
        "not met",
        "not measured",
    ]


def test_calls(capsys):
    found = calls.report(rounds=1, block=0.0)
    assert [bar.met is not None for bar in found] == [True] * 3
    assert capsys.readouterr().out.count("value_and_grad") >= 4


def test_compile_times_in_a_process_of_their_own(tmp_path):
    cold, warm = (compile_times.run("document", str(tmp_path)) for _ in range(2))
    for taken in (cold, warm):
        assert 0.0 < taken["first"] < taken["native"]
    assert list(tmp_path.rglob("*.*"))  # the machine code is kept in the folder given


def test_graphs(capsys):
    assert len(graphs.batch(count=3, rounds=1, block=0.0)) == 2
    assert len(graphs.irregular(300, rounds=1, block=0.0)) == 2
    assert len(graphs.deep(200, windows=(3,), rounds=1, block=0.0)) == 1
    assert len(graphs.growth(largest=1000, rounds=1)) == 5
    assert "a batch written out" in capsys.readouterr().out


def test_recurrences_share_code(capsys):
    rows = [recurrences.measure("RNN, 16 wide", steps, 1, 0.0) for steps in (100, 300)]
    assert rows[0][3] == rows[1][3]  # nests
    recurrences.report(rounds=1, block=0.0, steps=(4,))
    assert capsys.readouterr().out.count("| 4 ") == 2


def test_functions_are_numpys(capsys):
    functions.report(rounds=1, block=0.0)
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(functions.FUNCTIONS)


SMALL_MODELS = (
    lambda: models.pendulum(3),
    lambda: models.cart_pole(2),
    lambda: models.bodies(3),
    lambda: models.gaussian_process(3),
    lambda: models.heat(4, 3),
    lambda: models.points(2, (2, 3, 1)),
)


@pytest.mark.parametrize("make", SMALL_MODELS, ids=lambda make: make().name)
def test_scalar_models_are_the_same_in_plain_numbers(make):
    model = make()
    value = model.program(np, model.unknowns, model.data)
    ours = graphs.compiled(
        lambda unknowns, data: model.program(np, unknowns, data),
        *(model.unknowns, model.data),
        wrt=0,
    )
    assert ours.function(model.unknowns, model.data) == pytest.approx(float(value), 1e-12)


def test_scalar_models(capsys):
    models.report(SMALL_MODELS, rounds=1, block=0.0)
    out = capsys.readouterr().out
    for make in SMALL_MODELS:
        assert out.count(f"| {make().name} ") >= 2
    assert ("CasADi is left out" in out) != ("CasADi, C" in out)


def test_threads(capsys):
    before = threads.sg.get_num_threads()
    threads.report(rounds=1, turn=0.0, names=("points, batch 100",))
    assert threads.sg.get_num_threads() == before
    assert "points, batch 100" in capsys.readouterr().out


@pytest.mark.parametrize("nodes", [100, 3000])
def test_in_a_graph_at_random_every_node_counts(nodes):
    function, x = graphs.at_random(nodes)
    found = graphs.compiled(function, x, backend="llvm")
    assert 0.8 * nodes < found.nodes < 1.25 * nodes
    value, slopes = found.function.value_and_grad(x)
    assert math.isfinite(value)
    assert np.count_nonzero(slopes) > 0.9 * len(x)


def test_a_graph_with_a_window_is_deep():
    def levels(window):
        function, x = graphs.at_random(3000, window=window)
        loops = graphs.compiled(function, x, backend="llvm").function.native().loops
        return max(int(step.level.max()) for step in loops.instructions if isinstance(step, Walk))

    assert levels(5) > 5 * levels(1000)


def test_images_a_second(mnist_directory, monkeypatch):
    monkeypatch.setattr(mnist, "FOLDERS", (mnist_directory,))
    x, y = mnist.sg.data.mnist(mnist.folder(), part="test")
    runs = mnist.measure(x[:64], y[:64], rounds=2, epochs=3)
    assert list(runs) == list(mnist.VARIANTS)
    for run in runs.values():
        assert len(run.taken) == 2 * 2
        assert 0.0 < run.accuracy <= 1.0


def test_without_images_the_reason_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "FOLDERS", (tmp_path,))
    (bar,) = mnist.report()
    assert bar.met is None
    assert str(tmp_path) in bar.reached


def test_one_part_by_the_command_line(capsys, monkeypatch):
    asked = []
    monkeypatch.setitem(compiled.OTHERS, "calls", lambda: asked.append("calls") or [])
    monkeypatch.setattr(harness, "pin", lambda: None)
    compiled.main(["--only", "calls"])
    assert asked == ["calls"]
    assert re.search(r"### calls.*### Bars", capsys.readouterr().out, re.DOTALL)
    with pytest.raises(SystemExit):
        compiled.main(["--only", "nothing"])
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
