"""The concepts page: its examples run, and its drawing shows the numbers they compute."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from scalargrad import Value, draw

pytestmark = pytest.mark.pure

DOCS = Path(__file__).parent.parent / "docs"


def test_the_examples_print_what_the_page_says() -> None:
    found = doctest.testfile(str(DOCS / "concepts.md"), module_relative=False, verbose=False)
    assert found.attempted > 20
    assert found.failed == 0


def test_the_drawing_is_that_of_its_program() -> None:
    w, b = Value(2.0, label="w"), Value(1.0, label="b")
    x, y = Value(3.0, label="x"), Value(5.0, label="y")
    loss = (w * x + b - y) ** 2
    loss.label = "loss"
    loss.backward()
    drawing = (DOCS / "pictures" / "value-graph.svg").read_text(encoding="utf-8")
    assert drawing == draw(loss).svg
