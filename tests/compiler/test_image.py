"""What is kept of native programs: named by all that matters, whole, and rebuilt where it is not."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Value, losses, nn, optim
from scalargrad.compiler import image, jit, native, roll
from scalargrad.compiler.cache import SUFFIX, Cache
from scalargrad.compiler.image import Image, name_of
from scalargrad.compiler.loops import Space
from scalargrad.compiler.marks import marks_of_trace
from scalargrad.compiler.trace import Trace

pytest.importorskip("llvmlite")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own; every call waits for native code."""
    monkeypatch.setattr(jit, "PATIENCE", 0)
    monkeypatch.setattr(jit, "TIERED", ())
    monkeypatch.delenv("SCALARGRAD_CACHE", raising=False)
    monkeypatch.setattr("scalargrad.compiler.cache.directory", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def rolls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A mark for each time a program was analysed."""
    seen: list[Any] = []
    right = roll.roll

    def counted(*args: Any, **options: Any) -> Any:
        seen.append(args)
        return right(*args, **options)

    monkeypatch.setattr(roll, "roll", counted)
    return seen


def network(seed: int = 0) -> tuple[Any, Any, Any]:
    model = nn.MLP(3, [5, 4], rng=random.Random(seed))
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(10, 3)), generator.integers(0, 4, 10)
    return lambda x, y: losses.cross_entropy(model(x), y), x, y


def answer(
    loss: Any, x: Any, y: Any, **options: Any
) -> tuple[Any, sg.compiler.function.CompiledFunction]:
    f = sg.compile(loss, batch="mean", **options)
    value, gradient = f.value_and_grad(x, y)
    return (value.hex(), gradient.tobytes()), f


def test_a_program_is_analysed_once_whatever_its_numbers(rolls: list[Any]) -> None:
    for seed in range(3):
        got, f = answer(*network(seed))
        expected, _ = answer(*network(seed), backend="interpreter")
        assert got == expected
        assert f.native().frame.program.cached == (seed > 0)
    assert len(rolls) == 1
    assert "matrix product" in f.explain()  # which has it analysed
    assert f.stats["seconds"]["derive"] > 0
    assert f.llvm_ir().count("define") >= 1
    assert len(rolls) == 2


def test_other_programs_have_other_names(rolls: list[Any]) -> None:
    loss, x, y = network()
    answer(loss, x, y)
    for options in ({"mode": "fast"}, {"dtype": "float32"}):
        answer(loss, x, y, **options)
    answer(loss, x[:9], y[:9])
    answer(lambda x, y: loss(x, y) * 2.0, x, y)
    answer(lambda x, y: loss(x, y) * 3.0, x, y)
    sg.compile(loss, batch="mean")(x, y)
    assert len(rolls) == 7


def traced() -> Trace:
    w = [Value(2.0), Value(3.0), Value(4.0)]

    def function(x: Any, k: int) -> Value:
        return sg.where(x > 1.0, w[0] * x + 0.5, sg.take(w, k) ** 3.0)

    f = sg.compile(function, backend="interpreter")
    return f.trace(0.5, 1)


def test_the_name_depends_on_everything_but_the_numbers_of_a_call() -> None:
    found = traced()
    marks = marks_of_trace(found, None, (Space.PARAMETER,), accumulate=True)
    name = name_of(found.tape, marks, "exact")
    assert name_of(found.tape, marks, "exact") == name
    others = [name_of(found.tape, marks, "fast")]
    for field in ("op", "lhs", "rhs", "const", "many", "index", "outputs"):
        array = getattr(found.tape, field).copy()
        array[-1] += 1
        others.append(name_of(replace(found.tape, **{field: array}), marks, "exact"))
    for field in ("space", "place", "index_space", "index_place"):
        array = getattr(marks, field).copy()
        array[0] += 1
        others.append(name_of(found.tape, marks._replace(**{field: array}), "exact"))
    for changed in (
        {"batch": "mean"},
        {"penalty": True},
        {"wanted": ()},
        {"accumulate": False},
        {"sizes": {**marks.sizes, Space.PARAMETER: 9}},
    ):
        others.append(name_of(found.tape, marks._replace(**changed), "exact"))
    numbers = marks.number.copy()
    numbers[found.constants[0]] += 1.0
    others.append(name_of(found.tape, marks._replace(number=numbers), "exact"))
    assert len({name, *others}) == 1 + len(others)
    numbers = marks.number.copy()
    numbers[found.parameters] += 1.0
    assert name_of(found.tape, marks._replace(number=numbers), "exact") == name


def test_another_compiler_gives_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = traced()
    marks = marks_of_trace(found)
    name = name_of(found.tape, marks)
    assert {"roll.py", "emit.py", "ops.py"} <= {entry[0] for entry in image._compiler()}
    monkeypatch.setattr(image, "_compiler", lambda: (("roll.py", 1, 2),))
    assert name_of(found.tape, marks) != name


def built() -> Image:
    w = [Value(float(k)) for k in range(4)]
    f = sg.compile(lambda k, x: sg.take(w, k) * x.tanh() + 1.5, backend="llvm")
    f(1, 0.5)
    return f.native().frame.program.image


def test_what_is_packed_is_unpacked() -> None:
    one = built()
    other = Image.unpack(one.pack())
    assert other is not None
    for field in ("code", "sizes", "lengths", "slots", "scratch", "terms"):
        assert getattr(other, field) == getattr(one, field)
    for field in ("constants", "table", "walks"):
        mine, own = getattr(other, field), getattr(one, field)
        assert mine.dtype == own.dtype
        assert mine.tolist() == own.tolist()


@pytest.mark.parametrize("length", [0, 3, 8, 20, 200])
def test_what_is_no_image_is_refused(length: int) -> None:
    packed = built().pack()
    assert Image.unpack(packed[:length]) is None
    assert Image.unpack(b"\xff" * length) is None
    assert Image.unpack((2).to_bytes(8, "little") + b"{}" + packed) is None
    assert Image.unpack(packed.replace(b'"<f8"', b'"|O8"')) is None


@pytest.mark.parametrize("damage", [lambda x: x[:-9], lambda x: x[:70], lambda x: b"", None])
def test_a_damaged_entry_is_made_anew(folder: Path, rolls: list[Any], damage: Any) -> None:
    expected, _ = answer(*network())
    (path,) = folder.glob(f"*{SUFFIX}")
    if damage is None:  # right by its digest, and yet nothing that this compiler wrote
        Cache(folder).put(path.stem, b"a program of somebody else")
    else:
        path.write_bytes(damage(path.read_bytes()))
    for times in (2, 2):
        assert answer(*network())[0] == expected
        assert len(rolls) == times


def test_the_cache_can_be_turned_off(
    folder: Path, rolls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALARGRAD_CACHE", "0")
    for _ in range(2):
        _, f = answer(*network())
        assert not f.native().frame.program.cached
    assert len(rolls) == 2
    assert not list(folder.iterdir())


def test_training_goes_on_from_the_cache_to_the_same_bits(rolls: list[Any]) -> None:
    def trained(optimizer: optim.Optimizer, compile: bool = True) -> list[str]:
        model = nn.MLP(3, [5, 4], rng=random.Random(0))
        options: dict[str, Any] = {"compile": compile, "progress": False}
        trainer = sg.Trainer(model, losses.cross_entropy, optimizer, **options)
        _, x, y = network()
        trainer.fit(x, y, epochs=3, batch_size=5)
        return [p.data.hex() for p in model.parameters()]

    for make in (
        lambda: optim.SGD(lr=0.1),
        lambda: optim.SGD(lr=0.1, momentum=0.5),
        lambda: optim.SGD(lr=0.1, momentum=0.5, nesterov=True),
        lambda: optim.Adam(lr=0.1),
    ):
        expected, before = trained(make(), compile=False), len(rolls)
        assert trained(make()) == expected
        assert len(rolls) == before + 1
        assert trained(make()) == expected
        assert len(rolls) == before + 1


def test_the_program_is_the_one_that_is_built(folder: Path) -> None:
    _, f = answer(*network())
    kernel = f.native()
    again = native.build(kernel.loops, 10)
    assert again.llvm_ir == f.llvm_ir()
    assert (
        again.image.pack()[: -len(again.image.code)]
        == kernel.frame.program.image.pack()[: -len(kernel.frame.program.image.code)]
    )
