"""What every test shares: which engine runs, where real data lies, how long Hypothesis searches.

Environment: `SCALARGRAD_PURE=1` runs the uncompiled engine (with `-m pure` for the subset that is
quick enough there); `SCALARGRAD_REQUIRE_COMPILED=1` makes it an error if the engine is not
compiled; `SCALARGRAD_HYPOTHESIS` is `default`, `ci` or `long`.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import hypothesis
import pytest

import scalargrad
from scalargrad.compiler.background import later

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PACKAGE = Path(scalargrad.__file__).parent
DATA = ROOT.parent / "shared" / "data"

# Test files are imported one by one (`--import-mode=importlib`); what they share is found here.
sys.path.insert(0, str(TESTS))
sys.path.append(str(ROOT))  # for the benchmarks

# Every stage of every program is verified, and no code of an earlier run is taken from the cache.
os.environ.update(SCALARGRAD_VERIFY="1", SCALARGRAD_CACHE="0")

# Shells start background jobs deaf to Ctrl-C, which some tests press.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("default", max_examples=100, deadline=None)
hypothesis.settings.register_profile(
    "ci", max_examples=200, deadline=None, derandomize=True, print_blob=True
)
hypothesis.settings.register_profile("long", max_examples=5000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("SCALARGRAD_HYPOTHESIS") or "default")


@pytest.fixture
def by_counts_alone() -> Iterator[None]:
    """What is freed meanwhile is freed by reference counts, and is none of other tests' remains."""
    later(lambda: None).result()  # a compilation keeps its program until it ends
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def is_set(variable: str) -> bool:
    """Whether an environment variable is on, read as the package reads it."""
    return os.environ.get(variable, "") not in ("", "0")


def wrong_engine(compiled: bool, require_compiled: bool, pure: bool) -> str:
    """Why the engine that runs is not the one asked for; "" if it is."""
    if pure and compiled:
        return "SCALARGRAD_PURE is set, but the compiled engine was imported"
    if require_compiled and not pure and not compiled:
        return (
            "SCALARGRAD_REQUIRE_COMPILED is set, but the engine is not compiled: "
            "python setup.py build_ext --inplace"
        )
    return ""


def outdated(package: Path) -> list[str]:
    """The compiled modules whose source was edited after they were built."""
    binaries = (
        (source, binary)
        for source in package.rglob("*.py")
        for suffix in EXTENSION_SUFFIXES
        if (binary := source.with_suffix(suffix)).exists()
    )
    return [
        source.name
        for source, binary in binaries
        if source.stat().st_mtime > binary.stat().st_mtime
    ]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", help="also run tests that take minutes")


def pytest_configure(config: pytest.Config) -> None:
    problem = wrong_engine(
        scalargrad.compiled, is_set("SCALARGRAD_REQUIRE_COMPILED"), is_set("SCALARGRAD_PURE")
    )
    if problem:
        raise pytest.UsageError(problem)


def engine_report() -> list[str]:
    """Which engine the tests ran on."""
    engine = "compiled" if scalargrad.compiled else "pure (uncompiled)"
    lines = [f"scalargrad {scalargrad.__version__}, engine: {engine}, from {PACKAGE}"]
    if scalargrad.compiled and outdated(PACKAGE):
        lines.append(f"warning: edited since they were compiled: {', '.join(outdated(PACKAGE))}")
    return lines


def pytest_report_header(config: pytest.Config) -> list[str]:
    return engine_report()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # `-q`, the default here, hides the header.
    if not terminalreporter.showheader:
        for line in engine_report():
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    if config.getoption("--runslow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes minutes: pass --runslow"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository."""
    if not DATA.is_dir():
        pytest.skip(f"no real data: expected a folder {DATA}")
    return DATA


@pytest.fixture(scope="session")
def mnist_directory(shared_data: Path) -> Path:
    """The 10,000 real MNIST images as IDX files."""
    directory = shared_data / "mnist10k"
    if not list(directory.glob("*.gz")):
        pytest.skip(f"no MNIST images: expected .gz files in {directory}")
    return directory


@pytest.fixture(scope="session")
def names_path(shared_data: Path) -> Path:
    """A text file of real first names, one per line."""
    path = shared_data / "names.txt"
    if not path.is_file():
        pytest.skip(f"no names: expected a file {path}")
    return path
