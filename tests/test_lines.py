"""Where results are made: which line is recorded for which number, and what is remembered."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Value
from scalargrad.compiler.sources import SourceLines
from scalargrad.lines import Lines
from scalargrad.modes import modes

pytestmark = pytest.mark.pure


def above() -> str:
    """The line before the one that calls this."""
    return f"{__file__}:{sys._getframe(1).f_lineno - 1}"


def made(*numbers_and_lines: tuple[int, str]) -> Lines:
    lines = Lines()
    for number, line in numbers_and_lines:
        lines[number] = line
    return lines


def test_a_result_has_the_line_of_the_last_entry_before_it():
    lines = made((3, "a:1"), (4, "a:1"), (7, "b:2"), (9, "a:1"))
    assert [lines.get(k, "none") for k in (2, 3, 5, 7, 8, 9, 100)] == [
        *("none", "a:1", "a:1", "b:2", "b:2", "a:1", "a:1")
    ]


def test_only_changes_of_line_are_kept():
    line = "a:1"
    assert len(made(*((k, line) for k in range(1000)))) == 1
    assert len(Lines()) == 0


def test_results_have_their_lines_in_loops_and_comprehensions_and_below_the_library():
    lines = Lines()
    with modes(lines=lines):
        a = Value(2.0) * 3.0
        first = above()
        several = [a * k for k in range(3)]
        second = above()
        b = sg.functional.softmax(several)[0]
        third = above()
    assert lines.get(a.number) == first
    assert [lines.get(v.number) for v in several] == [second] * 3
    assert lines.get(b.number) == third


def test_the_lines_of_a_tape_leave_its_leaves_out():
    numbers = np.array([1, 4, 5, 7, 9], np.uint64)
    lines = SourceLines.of(made((5, "a:1"), (9, "b:2")), lambda: numbers, 1)
    assert lines == {2: "a:1", 3: "a:1", 4: "b:2"}
    assert lines.get(1) is None
    assert lines.frequent(np.array([2, 3, 4], np.int32), 1) == [("a:1", 2)]
    with pytest.raises(KeyError):
        lines[5]
