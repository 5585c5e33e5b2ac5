"""The pages of the documentation: their examples run, and what they list is there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import scalargrad
from scalargrad import Value, draw

pytestmark = pytest.mark.pure

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("page", ["concepts.md", "training.md", "compiling.md"])
def test_the_examples_print_what_the_page_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testfile(str(DOCS / page), module_relative=False, verbose=False)
    assert found.attempted > 20
    assert found.failed == 0


PAGES = [DOCS.parent / "README.md", *DOCS.glob("*.md"), DOCS.parent / "examples" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [to for to in links if "://" not in to and not (page.parent / to).exists()]
    assert missing == []


def test_every_lesson_is_in_the_course() -> None:
    folder = DOCS.parent / "examples"
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert [file.name for file in folder.glob("*.py") if f"]({file.name})" not in text] == []


def test_the_map_of_the_compiler_names_every_file() -> None:
    text = (DOCS / "compiling.md").read_text(encoding="utf-8")
    table = text.partition("## Where it is written")[2]
    named = re.findall(r"`([a-z_]+)`", table)
    files = (Path(scalargrad.__file__).parent / "compiler").glob("[a-z]*.py")
    assert sorted(named) == sorted(file.stem for file in files)


def test_the_drawing_is_that_of_its_program() -> None:
    w, b = Value(2.0, label="w"), Value(1.0, label="b")
    x, y = Value(3.0, label="x"), Value(5.0, label="y")
    loss = (w * x + b - y) ** 2
    loss.label = "loss"
    loss.backward()
    drawing = (DOCS / "pictures" / "value-graph.svg").read_text(encoding="utf-8")
    assert drawing == draw(loss).svg
