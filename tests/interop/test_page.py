"""The page about other libraries: each section's examples run where its library is installed."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import scalargrad as sg

PAGE = (Path(__file__).parents[2] / "docs" / "interop.md").read_text(encoding="utf-8")
LIBRARIES = {"SciPy": "scipy", "scikit-learn": "sklearn", "PyTorch": "torch", "ONNX": "onnx"}
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("title", SECTIONS)
def test_the_examples_print_what_the_page_says(title: str) -> None:
    pytest.importorskip(LIBRARIES[title])
    examples = doctest.DocTestParser().get_doctest(SECTIONS[title], {}, title, "interop.md", 0)
    assert len(examples.examples) > 5
    told: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(examples, out=told.append)
    assert result.failed == 0, "".join(told)


def test_every_module_has_a_line_and_a_section() -> None:
    named = set(re.findall(r"^\| `sg\.interop\.(\w+)`", PAGE, re.MULTILINE))
    assert {LIBRARIES[title] for title in SECTIONS} == named == set(dir(sg.interop))
