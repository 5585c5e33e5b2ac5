"""The engine compiled, uncompiled, and without Cython: one behaviour, the same bits everywhere."""

from __future__ import annotations

import ast
import os
import time
from pathlib import Path

import pytest

import conftest
import scalargrad
from processes import environment, run_python
from scalargrad import _uncompiled

PACKAGE = Path(scalargrad.__file__).parent


def needs_compiled_engine() -> None:
    if run_python("-c", "import scalargrad; print(scalargrad.compiled)", pure=False) != "True\n":
        pytest.skip("the engine is not compiled here, so there is nothing to compare with")


# --- which engine ---------------------------------------------------------------------------------


@pytest.mark.pure
def test_compiled_says_which_engine_runs() -> None:
    if conftest.is_set("SCALARGRAD_PURE"):
        assert scalargrad.compiled is False
    if conftest.is_set("SCALARGRAD_REQUIRE_COMPILED") and not conftest.is_set("SCALARGRAD_PURE"):
        assert scalargrad.compiled is True


SOURCES = """
import scalargrad, sys
from scalargrad import engine, rules
print(scalargrad.compiled, engine.compiled, *{m.__file__.rsplit(".", 1)[1] for m in (engine, rules)})
"""


def test_an_environment_variable_chooses_the_source() -> None:
    assert run_python("-c", SOURCES, pure=True) == "False False py\n"
    needs_compiled_engine()
    for off in ("", "0"):
        text = run_python("-c", SOURCES, SCALARGRAD_PURE=off)
        assert text.split()[:2] == ["True", "True"]
        assert text.split()[2] in ("so", "pyd")


def test_every_compiled_module_runs_as_source() -> None:
    """No module of the package comes from a binary when the source is asked for."""
    script = (
        "import pkgutil, importlib, sys, scalargrad\n"
        "for m in pkgutil.iter_modules(scalargrad.__path__):\n"
        "    if not m.name.startswith('__'): importlib.import_module('scalargrad.' + m.name)\n"
        "print(*(n for n, m in sys.modules.items() if n.startswith('scalargrad')"
        " and not (m.__file__ or '').endswith('.py')))"
    )
    assert run_python("-c", script, pure=True).strip() == ""


# --- the same behaviour ---------------------------------------------------------------------------


def test_a_table_of_expressions_is_the_same_on_both_engines() -> None:
    needs_compiled_engine()
    compiled, pure = (
        run_python("-W", "ignore", "engine_report.py", "expressions", pure=pure).splitlines()
        for pure in (False, True)
    )
    assert len(compiled) > 1500
    differing = [f"compiled: {a}\nuncompiled: {b}" for a, b in zip(compiled, pure) if a != b]
    assert not differing, "\n\n".join(differing)
    assert len(compiled) == len(pure)


def test_random_programs_have_the_same_bits_on_both_engines() -> None:
    needs_compiled_engine()
    compiled, pure = (
        run_python("engine_report.py", "programs", "1500", "7", pure=pure) for pure in (False, True)
    )
    assert len(compiled.splitlines()) == 1500
    assert compiled == pure


@pytest.mark.pure
def test_two_processes_have_the_same_bits() -> None:
    reports = {
        run_python("engine_report.py", "programs", "200", "11", PYTHONHASHSEED=seed)
        for seed in ("0", "1", "4242", "random")
    }
    assert len(reports) == 1


@pytest.mark.pure
def test_another_seed_has_other_bits() -> None:
    reports = {run_python("engine_report.py", "programs", "20", seed) for seed in ("1", "2")}
    assert len(reports) == 2


TRAINING = """
import random
from scalargrad import Value
rng = random.Random(3)
w = [Value(rng.uniform(-1, 1)) for _ in range(25)]
for step in range(30):
    x = [rng.gauss(0, 1) for _ in range(4)]
    hidden = [sum((w[4 * k + i] * x[i] for i in range(4)), w[20 + k]).tanh() for k in range(5)]
    loss = (sum(hidden) - 0.3) ** 2 + sum(p * p for p in set(w[:3]) & set(w)) * 0.0
    for p in w:
        p.grad = 0.0
    loss.backward()
    for p in w:
        p.data -= 0.1 * p.grad
print(*(p.data.hex() for p in w))
"""


def test_training_ends_in_the_same_bits_everywhere() -> None:
    results = {
        run_python("-c", TRAINING, pure=pure, PYTHONHASHSEED=seed)
        for pure in (False, True)
        for seed in ("0", "77")
    }
    assert len(results) == 1


# --- uncompiled, without Cython -------------------------------------------------------------------

WITHOUT_CYTHON = """
import os, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].lower() == "cython":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
sys.path.insert(0, "")
sys.argv = ["engine_report.py", *sys.argv[1:]]
import scalargrad
assert not scalargrad.compiled
assert not [name for name in sys.modules if name.split(".")[0].lower() == "cython"]
path = os.path.abspath("engine_report.py")
with open(path) as file:
    exec(compile(file.read(), path, "exec"))
"""


@pytest.mark.pure
def test_the_engine_runs_without_cython() -> None:
    without = run_python("-c", WITHOUT_CYTHON, "programs", "200", "5", pure=True)
    assert without == run_python("engine_report.py", "programs", "200", "5", pure=True)
    assert len(without.splitlines()) == 200


@pytest.mark.pure
def test_expressions_are_the_same_without_cython() -> None:
    arguments = ("expressions",)
    without = run_python("-W", "ignore", "-c", WITHOUT_CYTHON, *arguments, pure=True)
    assert without == run_python("-W", "ignore", "engine_report.py", *arguments, pure=True)


class CythonNames(ast.NodeVisitor):
    """Collects the attributes of `cython` that running a source as plain Python looks up.

    Annotations are never evaluated, and the body of `if cython.compiled:` is not entered.
    """

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        pass

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for part in (*node.decorator_list, node.args, *node.body):
            self.visit(part)

    def visit_If(self, node: ast.If) -> None:
        compiled_only = ast.unparse(node.test) == "cython.compiled"
        for part in node.orelse if compiled_only else (node.test, *node.body, *node.orelse):
            self.visit(part)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and node.value.id == "cython":
            self.found.add(node.attr)
        self.generic_visit(node)


def cython_names(source: str) -> set[str]:
    """What the source needs of `cython` when it is not compiled: all but pointer types."""
    names = CythonNames()
    names.visit(ast.parse(source))
    return {name for name in names.found if not name.startswith(("p_", "pp_"))}


@pytest.mark.pure
def test_decorators_and_casts_do_nothing() -> None:
    def function(x: int) -> int:
        return x

    for decorate in (_uncompiled.cclass, _uncompiled.cfunc, _uncompiled.inline, _uncompiled.nogil):
        assert decorate(function) is function
    assert _uncompiled.exceptval(check=False)(function) is function
    assert _uncompiled.freelist(8)(function) is function
    assert _uncompiled.declare(_uncompiled.int, 3) == 3
    assert _uncompiled.cast(_uncompiled.double, 2.5) == 2.5
    assert _uncompiled.cast(_uncompiled.Py_ssize_t, 2.5) == 2
    assert type(_uncompiled.cast(_uncompiled.Py_ssize_t, 2.0)) is int
    assert _uncompiled.cast(object, function) is function
    assert _uncompiled.compiled is False


SOURCE = """
@cython.cfunc
def f(a: cython.double, b: cython.int = 3) -> cython.void:
    c: cython.longlong = cython.cast(cython.uint, cython.cast(cython.p_int, b))
    d: cython.ushort
    if cython.compiled:
        from cython.cimports.libc.math import exp
        return cython.address(a)
    elif cython.other:
        return cython.sizeof(a)
"""


@pytest.mark.pure
def test_names_of_cython_are_found_in_a_source() -> None:
    assert cython_names(SOURCE) == {"cfunc", "cast", "uint", "other", "sizeof"}


@pytest.mark.pure
@pytest.mark.parametrize(
    "path",
    [path for path in PACKAGE.rglob("*.py") if "_uncompiled as cython" in path.read_text()],
    ids=lambda path: path.name,
)
def test_the_stand_in_for_cython_has_every_name(path: Path) -> None:
    missing = cython_names(path.read_text()) - set(dir(_uncompiled))
    assert not missing


# --- a quiet end ----------------------------------------------------------------------------------

AT_EXIT = """
import sys, scalargrad
y = scalargrad.Value(1.0, "y")
for _ in range(3000):
    y = y + 1.0
class Keeper: pass
keeper = Keeper()
keeper.self, keeper.value = keeper, y
sys.modules["elsewhere"] = type(sys)("elsewhere")
sys.modules["elsewhere"].value = y * 2
"""


@pytest.mark.pure
@pytest.mark.parametrize("pure", [False, True])
def test_values_alive_at_exit_make_no_noise(pure: bool) -> None:
    assert run_python("-c", AT_EXIT, pure=pure) == ""


# --- the test session's own checks ----------------------------------------------------------------


@pytest.mark.pure
@pytest.mark.parametrize(
    ("compiled", "require_compiled", "pure", "problem"),
    [
        (True, False, False, ""),
        (True, True, False, ""),
        (False, False, False, ""),
        (False, True, False, "SCALARGRAD_REQUIRE_COMPILED"),
        (False, False, True, ""),
        (False, True, True, ""),
        (True, False, True, "SCALARGRAD_PURE"),
        (True, True, True, "SCALARGRAD_PURE"),
    ],
)
def test_the_wrong_engine_fails_the_session(
    compiled: bool, require_compiled: bool, pure: bool, problem: str
) -> None:
    found = conftest.wrong_engine(compiled, require_compiled, pure)
    assert problem in found
    assert bool(found) == bool(problem)


@pytest.mark.pure
def test_an_edited_source_is_noticed(tmp_path: Path) -> None:
    from importlib.machinery import EXTENSION_SUFFIXES

    source = tmp_path / "engine.py"
    source.write_text("")
    (tmp_path / "plain.py").write_text("")
    binary = tmp_path / f"engine{EXTENSION_SUFFIXES[0]}"
    binary.write_text("")
    now = time.time()
    os.utime(source, (now, now))
    os.utime(binary, (now + 10, now + 10))
    assert conftest.outdated(tmp_path) == []
    os.utime(binary, (now - 10, now - 10))
    assert conftest.outdated(tmp_path) == ["engine.py"]


@pytest.mark.pure
def test_variables_are_read_as_the_package_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, expected in [("", False), ("0", False), ("1", True), ("yes", True)]:
        monkeypatch.setenv("SCALARGRAD_PURE", text)
        assert conftest.is_set("SCALARGRAD_PURE") is expected
        from scalargrad import _pure

        assert _pure.wanted() is expected
    assert environment(pure=True)["SCALARGRAD_PURE"] == "1"
