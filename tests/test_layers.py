"""The package's layers: imports point downwards only, and heavy libraries wait until needed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import scalargrad
from processes import run_python

PACKAGE = Path(scalargrad.__file__).parent

# From the bottom up. A module may import from lower layers and, without going in circles, from
# its own. A package (nn, compiler, ...) is one entry.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        *("errors", "_pure", "_plain", "_uncompiled", "clock", "coerce", "dependence", "lines"),
        *("modes", "rng"),
    ),
    ("ops", "order"),
    ("rules", "tape", "diagnose", "ufuncs"),
    ("watch",),
    ("node",),
    ("engine",),
    ("capture", "replay"),
    ("copies",),
    ("functional", "trees"),
    ("nn", "losses", "optim"),
    ("graph",),
    ("compiler",),
    ("transforms", "gradcheck"),
    ("train", "checkpoint", "data", "views"),
    ("interop",),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
LAYER = {unit: level for level, units in enumerate(LAYERS) for unit in units}
HEAVY = (
    *("matplotlib", "sklearn", "jax", "torch", "llvmlite", "scipy", "pandas", "onnx"),
    *("onnxruntime", "IPython"),
)
# What is imported when something in it is first asked for.
LATER = (
    *("scalargrad.views", "scalargrad.compiler.loops", "scalargrad.compiler.explain"),
    *("http.client", "ssl", "urllib.request", "numpy.random"),
)
# The files that alone may name a library, wherever in them.
OWNERS = {
    "llvmlite": "compiler/llvm",
    "jax": "compiler/jax",
    "torch": "interop/",
    "onnx": "interop/",
    "onnxruntime": "interop/",
    "scipy": "interop/",
}


def unit_of(module: str) -> str:
    """The entry of LAYERS a dotted module belongs to: `scalargrad.nn.layers` is in `nn`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def module_name(path: Path, root: Path) -> str:
    parts = [root.name, *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node, imports inside functions included, but not what stands under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield other
                yield from run_time_nodes(other)
        else:
            yield node
            yield from run_time_nodes(node)


def imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything the file imports at run time."""
    package = module_name(path, root).split(".")
    if path.name != "__init__.py":
        package.pop()
    for node in run_time_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{start}.{alias.name}"


def resolved(name: str, root: Path) -> str:
    """The module a name comes from: `scalargrad.Value` is in `scalargrad` itself."""
    parts = name.split(".")
    while len(parts) > 1:
        path = root.joinpath(*parts[1:])
        if path.is_dir() or path.with_suffix(".py").exists():
            break
        parts.pop()
    return ".".join(parts)


def internal_imports(root: Path) -> Iterator[tuple[Path, int, str, str]]:
    """File, line, importing unit and imported unit, of imports from one unit to another."""
    for path in sorted(root.rglob("*.py")):
        importer = unit_of(module_name(path, root))
        for line, name in imports(path, root):
            # `cython.cimports.scalargrad.rules` is the compiled face of `scalargrad.rules`.
            name = name.removeprefix("cython.cimports.")
            if name.split(".")[0] == root.name:
                imported = unit_of(resolved(name, root))
                if imported != importer:
                    yield path.relative_to(root), line, importer, imported


def layer_problems(root: Path) -> list[str]:
    """Imports that point upwards, and modules without a layer."""
    units = {unit_of(module_name(path, root)) for path in root.rglob("*.py")}
    problems = [f"{unit}: has no layer: add it to LAYERS" for unit in sorted(units - set(LAYER))]
    for path, line, importer, imported in internal_imports(root):
        if LAYER.get(imported, 0) > LAYER.get(importer, len(LAYERS)):
            problems.append(f"{path}:{line}: {importer} imports {imported}, a layer above it")
    return problems


def cycles(root: Path) -> list[str]:
    """Modules of one layer that import each other in a circle."""
    sideways: dict[str, set[str]] = {}
    for _, _, importer, imported in internal_imports(root):
        if LAYER.get(imported) == LAYER.get(importer):
            sideways.setdefault(importer, set()).add(imported)
    found: list[str] = []

    def follow(unit: str, path: tuple[str, ...]) -> None:
        if unit in path:
            found.append(" -> ".join([*path[path.index(unit) :], unit]))
            return
        for other in sorted(sideways.get(unit, ())):
            follow(other, (*path, unit))

    for unit in sorted(sideways):
        follow(unit, ())
    return found


def stray_imports(root: Path) -> list[str]:
    """Imports of a library outside the file it belongs to."""
    return [
        f"{path.relative_to(root)}:{line} imports {name}"
        for path in sorted(root.rglob("*.py"))
        for line, name in imports(path, root)
        if (owner := OWNERS.get(name.split(".")[0]))
        and not path.relative_to(root).as_posix().startswith(owner)
    ]


# --- the package ----------------------------------------------------------------------------------


def test_imports_point_downwards() -> None:
    assert layer_problems(PACKAGE) == []


def test_no_layer_goes_in_circles() -> None:
    assert cycles(PACKAGE) == []


def test_each_library_has_its_file() -> None:
    assert stray_imports(PACKAGE) == []


def test_the_layers_name_each_module_once() -> None:
    assert len(LAYER) == sum(map(len, LAYERS))
    assert {"errors", "ops", "rules", "engine", "functional", "nn"} <= set(LAYER)


def test_importing_the_package_imports_no_heavy_library() -> None:
    script = "import sys, scalargrad; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = set(run_python("-c", script).split())
    assert "scalargrad" in loaded
    assert loaded.isdisjoint(HEAVY), loaded.intersection(HEAVY)


def test_importing_the_package_imports_what_only_some_need_later() -> None:
    script = "import sys, numpy; old = set(sys.modules); {}; print(*set(sys.modules) - old)"
    loaded = set(run_python("-c", script.format("import scalargrad")).split())
    assert "scalargrad.compiler.function" in loaded
    assert loaded.isdisjoint(LATER), loaded.intersection(LATER)
    shown = run_python("-c", script.format("import scalargrad; scalargrad.draw")).split()
    assert "scalargrad.views" in shown


def test_names_that_are_imported_later_are_public_all_the_same() -> None:
    script = """
import scalargrad
assert {"views", "draw", "explore"} <= set(dir(scalargrad)) <= set(vars(scalargrad)) | {
    "views", "draw", "explore"}
from scalargrad import *
assert draw is scalargrad.draw is scalargrad.views.draw and explore is scalargrad.views.explore
assert not hasattr(scalargrad, "drew")
print(Value(2.0).data)
"""
    assert run_python("-c", script).strip() == "2.0"


def test_every_module_can_be_imported_first() -> None:
    """No module works only because another was imported before it."""
    modules = [
        module_name(path, PACKAGE)
        for path in sorted(PACKAGE.glob("*.py"))
        if path.stem not in ("__main__", "__init__")
    ]
    script = f"""
import importlib, sys
for name in {modules}:
    for loaded in [m for m in sys.modules if m.split(".")[0] == "scalargrad"]:
        del sys.modules[loaded]
    importlib.import_module(name)
"""
    run_python("-c", script, pure=True)


# --- the checker ----------------------------------------------------------------------------------


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A small package with the same name and layers, all of whose imports are right."""
    root = tmp_path / "scalargrad"
    files = {
        "__init__.py": "from .engine import Value as Value\nfrom . import nn as nn\n",
        "errors.py": "",
        "ops.py": "from .errors import ScalargradError\n",
        "engine.py": "import math\nfrom . import ops, rules\nfrom .errors import ScalargradError\n",
        "rules.py": "from .ops import *\n",
        "nn/__init__.py": "from .layers import Linear as Linear\n",
        "nn/layers.py": "from ..engine import Value\nfrom .module import Module\nimport numpy\n",
        "nn/module.py": "from scalargrad.engine import Value\n",
        "losses.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .cli import main\n",
        "cli.py": "from . import Value\nfrom scalargrad import nn, Value\n",
        "compiler/jax.py": "import jax\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_right_imports_are_no_problem(planted: Path) -> None:
    assert layer_problems(planted) == []
    assert cycles(planted) == []
    assert stray_imports(planted) == []


@pytest.mark.parametrize(
    ("file", "text", "importer", "imported"),
    [
        ("ops.py", "from .engine import Value\n", "ops", "engine"),
        ("ops.py", "from . import engine\n", "ops", "engine"),
        ("ops.py", "import scalargrad.engine\n", "ops", "engine"),
        ("ops.py", "from scalargrad import engine\n", "ops", "engine"),
        ("ops.py", "from scalargrad.nn.layers import Linear\n", "ops", "nn"),
        ("ops.py", "def late():\n    from . import engine\n", "ops", "engine"),
        (
            "ops.py",
            "if compiled:\n    from cython.cimports.scalargrad import engine\n",
            "ops",
            "engine",
        ),
        (
            "ops.py",
            "try:\n    pass\nexcept ImportError:\n    from . import engine\n",
            "ops",
            "engine",
        ),
        ("engine.py", "from . import Value\n", "engine", "__init__"),
        ("engine.py", "import scalargrad\n", "engine", "__init__"),
        ("nn/module.py", "from ..compiler import jax\n", "nn", "compiler"),
        ("nn/module.py", "from .. import cli\n", "nn", "cli"),
        ("nn/module.py", "from .. import Value\n", "nn", "__init__"),
        ("__init__.py", "from .cli import main\n", "__init__", "cli"),
    ],
)
def test_an_upward_import_is_caught(
    planted: Path, file: str, text: str, importer: str, imported: str
) -> None:
    (planted / file).write_text(text)
    problems = layer_problems(planted)
    assert len(problems) == 1
    assert problems[0].startswith(str(Path(file)))
    assert problems[0].endswith(f"{importer} imports {imported}, a layer above it")


def test_a_module_without_a_layer_is_caught(planted: Path) -> None:
    (planted / "helpers.py").write_text("")
    assert layer_problems(planted) == ["helpers: has no layer: add it to LAYERS"]


def test_a_circle_within_a_layer_is_caught(planted: Path) -> None:
    (planted / "losses.py").write_text("from .nn import Linear\n")
    assert cycles(planted) == []
    (planted / "nn" / "layers.py").write_text("def late():\n    from ..losses import mse\n")
    assert layer_problems(planted) == []
    assert "losses -> nn -> losses" in cycles(planted)


def test_a_library_in_the_wrong_file_is_caught(planted: Path) -> None:
    (planted / "losses.py").write_text("def late():\n    from jax.numpy import exp\n")
    assert stray_imports(planted) == ["losses.py:2 imports jax.numpy.exp"]
