"""Where results are made: which line is recorded for which number, and what is remembered."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest

import scalargrad as sg
from scalargrad import Value
from scalargrad.compiler.sources import SourceLines
from scalargrad.lines import Lines
from scalargrad.modes import modes
from threads import in_threads, restless

pytestmark = pytest.mark.pure


def above() -> str:
    """The line before the one that calls this."""
    return f"{__file__}:{sys._getframe(1).f_lineno - 1}"


def here() -> str:
    """The line that calls this."""
    return f"{__file__}:{sys._getframe(1).f_lineno}"


def made(*numbers_and_lines: tuple[int, str]) -> Lines:
    lines = Lines()
    for number, line in numbers_and_lines:
        lines.enter(number, line)
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


LIBRARY = """
import types
def once(x):
    return x.exp()

def often(x, times):
    return [once(x) for _ in range(times)]

def drawn(x):
    while True:
        yield x.exp()

def drawn_below(x):
    while True:
        yield once(x)

async def awaited(x, tell):
    while True:
        tell(x.exp())
        await turn()

async def awaited_below(x, tell):
    while True:
        tell(once(x))
        await turn()

@types.coroutine
def turn():
    yield

def called(function, x):
    return [function(x), once(x), function(x)]
"""


def library() -> dict[str, Any]:
    """Functions of a module that believes it lies inside the package."""
    found: dict[str, Any] = {}
    path = os.path.join(os.path.dirname(sg.__file__), "losses.py")
    exec(compile(LIBRARY, path, "exec"), found)
    return found


def test_nodes_below_the_library_have_the_line_that_called_it():
    inside, lines, x = library(), Lines(), Value(0.5)
    with modes(lines=lines):
        for _ in range(3):
            made = inside["once"](x)
            first = above()
            several = inside["often"](x, 3)
            second = above()
            assert lines.get(made.number) == first
            assert [lines.get(v.number) for v in several] == [second] * 3


@pytest.mark.parametrize("name", ["drawn", "drawn_below"])
def test_a_generator_of_the_library_has_the_line_that_goes_on_with_it(name: str):
    lines = Lines()
    with modes(lines=lines):
        generator = library()[name](Value(0.5))
        for _ in range(3):
            a, b = next(generator), next(generator)
            first = above()
            c, d = next(generator), next(generator)
            second = above()
            assert [lines.get(v.number) for v in (a, b, c, d)] == [first, first, second, second]


@pytest.mark.parametrize("name", ["awaited", "awaited_below"])
def test_a_coroutine_of_the_library_has_the_line_that_goes_on_with_it(name: str):
    lines, results = Lines(), []
    with modes(lines=lines):
        coroutine = library()[name](Value(0.5), results.append)
        coroutine.send(None)
        first = above()
        coroutine.send(None)
        second = above()
        coroutine.close()
    assert [lines.get(v.number) for v in results] == [first, second]


def test_what_the_library_calls_has_lines_of_its_own():
    inside, lines, x = library(), Lines(), Value(0.5)

    def double(x: Value) -> Value:
        return x * 2.0

    with modes(lines=lines):
        a, b, c = inside["called"](double, x)
        outer = above()
    inner = f"{__file__}:{double.__code__.co_firstlineno + 1}"
    assert [lines.get(v.number) for v in (a, b, c)] == [inner, outer, inner]


def test_operations_of_one_line_are_one_entry():
    lines, x = Lines(), Value(0.5)
    with modes(lines=lines):
        x * x + x * 2.0 - x / 3.0
        line = above()
    assert lines.runs[1] == [line]


def test_threads_record_lines_of_their_own():
    results: dict[int, list[tuple[Value, str]]] = {}
    kept = [Lines(), Lines(), None]

    def work(k: int) -> None:
        made = results[k] = []
        with modes(lines=kept[k]):
            x = Value(0.5)
            for _ in range(2000):
                made.append((x * 2.0, here()))
                made.append((x + 3.0, here()))

    with restless():
        in_threads(*(partial(work, k) for k in range(3)))
    for k, lines in enumerate(kept):
        if lines is not None:
            assert [lines.get(v.number) for v, _ in results[k]] == [line for _, line in results[k]]
    assert not set(kept[0].runs[0]) & set(kept[1].runs[0])


def test_blocks_inside_blocks_record_where_they_are_told():
    outer, inner, x = Lines(), Lines(), Value(0.5)
    with modes(lines=outer):
        a = x * 2.0
        with modes(lines=inner):
            b = x * 3.0
        c = x * 4.0
        with modes(lines=None):
            x * 5.0
    x * 6.0
    assert [len(outer), len(inner)] == [2, 1]
    assert outer.runs[0] == [a.number, c.number]
    assert inner.runs[0] == [b.number]


def test_the_lines_of_a_tape_leave_its_leaves_out():
    numbers = np.array([1, 4, 5, 7, 9], np.uint64)
    lines = SourceLines.of(made((5, "a:1"), (9, "b:2")), lambda: numbers, 1)
    assert lines == {2: "a:1", 3: "a:1", 4: "b:2"}
    assert lines.get(1) is None
    assert lines.frequent(np.array([2, 3, 4], np.int32), 1) == [("a:1", 2)]
    with pytest.raises(KeyError):
        lines[5]
