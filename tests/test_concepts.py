"""The concepts page: its examples run, and its drawing shows the numbers they compute."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from scalargrad import Graph, Value

pytestmark = pytest.mark.pure

DOCS = Path(__file__).parent.parent / "docs"


def test_the_examples_print_what_the_page_says() -> None:
    found = doctest.testfile(str(DOCS / "concepts.md"), module_relative=False, verbose=False)
    assert found.attempted > 20
    assert found.failed == 0


def test_the_drawing_shows_the_numbers_of_its_program() -> None:
    w, x, b, y = (Value(n, label) for n, label in ((2, "w"), (3, "x"), (1, "b"), (5, "y")))
    p = w * x
    s = p + b
    e = s - y
    loss = e**2
    loss.backward()
    drawing = (DOCS / "pictures" / "value-graph.svg").read_text(encoding="utf-8")
    texts = [t.replace("−", "-") for t in re.findall(r"<text[^>]*>([^<]*)</text>", drawing)]
    boxes = dict(zip(texts[0:16:2], texts[1:16:2]))
    names = ["w", "x", "b", "y", "p = w * x", "s = p + b", "e = s - y", "loss = e ** 2"]
    for name, value in zip(names, (w, x, b, y, p, s, e, loss)):
        assert boxes[name] == f"data {value.data:g} · grad {value.grad:g}"
    arrows = drawing.count("marker-end")
    assert arrows == sum(len(node.operands) for node in Graph(loss)) == 7
