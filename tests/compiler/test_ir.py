"""Loops as they are written: each pass finds its counter, its pointers and what is carried."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from scalargrad.compiler import linking, llvm
from scalargrad.compiler.calling import Code
from scalargrad.compiler.ir import Counter, Function, Module

SIZE, MIDDLE = 4000, 2000
# stop, step, and whether only the running program knows the stop
LOOPS = st.lists(
    st.tuples(st.integers(0, 7), st.integers(1, 3), st.booleans()), min_size=1, max_size=3
)
# a stride for each of three loops, and where it starts
PLACES = st.lists(
    st.tuples(*[st.sampled_from([-27, -1, 0, 1, 2, 8, 27])] * 3, st.integers(-9, 9)),
    min_size=1,
    max_size=4,
)


def run(function: Function, *arrays: np.ndarray) -> None:
    function.module.finish(function)
    library = linking.load(llvm.compile_text(function.module.text()), {}, ["run"])
    environment = np.array([array.ctypes.data for array in arrays], np.uintp)
    Code(library.addresses["run"], 1).run(environment.ctypes.data)


def tally(function: Function, pointer: str, number: Counter) -> None:
    """Add a number and 1 to what is at a pointer."""
    before = function.emit(f"load i64, ptr {pointer}, align 8")
    after = function.emit(f"add i64 {before}, {function.add(number, 1)}")
    function.do(f"store i64 {after}, ptr {pointer}, align 8")


@given(loops=LOOPS, places=PLACES, read=st.booleans(), late=st.booleans(), turns=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_pointers_that_move_with_counters(loops, places, read, late, turns):
    """`read`: the passes look at a counter. `late`: they begin in the innermost loop."""
    function = Function(Module(), "run", linkage="")

    def start(move: int) -> str:
        return function.turned("i64", function.pointer(0), (move,))

    def nest(level: int, counters: list[Counter], known: list[tuple[str, int]]) -> None:
        if level == len(loops):
            for (pointer, offset), strides in zip(known, places):
                if late:
                    pointer, offset = function.at("i64", pointer, offset), 0
                    for counter, stride in zip(counters, strides):
                        pointer, offset = function.moved("i64", pointer, counter, stride, offset)
                tally(function, function.at("i64", pointer, offset), counters[-1] if read else 0)
            return

        def inside(counter: Counter, _: list[str]) -> list[str]:
            moved = known
            if not late:
                moved = [
                    function.moved("i64", *at[:1], counter, strides[level], at[1])
                    for at, strides in zip(known, places)
                ]
            nest(level + 1, [*counters, counter], moved)
            return []

        stop, step, hidden = loops[level]
        end = function.at("i64", function.pointer(1), level)
        limit = function.emit(f"load i64, ptr {end}, align 8") if hidden else stop
        function.loop(limit, step, [], [], inside)

    def turn() -> None:
        nest(0, [], [(start(27), MIDDLE + base) for *_, base in places])

    function.repeat(turns, turn)
    found, stops = np.zeros(SIZE, np.int64), np.array([stop for stop, _, _ in loops])
    run(function, found, stops)

    expected = np.zeros(SIZE, np.int64)
    for number, *counters in product(
        range(turns), *(range(a, b, c) for a, (b, c, _) in zip([0] * 3, loops))
    ):
        for *strides, base in places:
            place = MIDDLE + base + 27 * number + sum(c * s for c, s in zip(counters, strides))
            expected[place] += 1 + (counters[-1] if read else 0)
    np.testing.assert_array_equal(found, expected)


def test_what_is_carried_goes_on_from_pass_to_pass():
    function = Function(Module(), "run", linkage="")

    def inside(counter: Counter, carried: list[str]) -> list[str]:
        return [str(function.add(carried[0], function.multiply(counter, 5)))]

    (total,) = function.loop(10, 3, ["i64"], ["100"], inside)
    function.do(f"store i64 {total}, ptr {function.pointer(0)}, align 8")
    found = np.zeros(1, np.int64)
    run(function, found)
    assert found[0] == 100 + 5 * (0 + 3 + 6 + 9)


def test_a_loop_counts_what_its_code_reads_and_no_more():
    def carried(*strides: int, read: bool) -> int:
        function = Function(Module(), "run", linkage="")

        def inside(counter: Counter, _: list[str]) -> list[str]:
            for k, stride in enumerate(strides):
                pointer, _ = function.moved("i64", function.pointer(k), counter, stride)
                tally(function, pointer, counter if read else 0)
            return []

        function.loop(10, 1, [], [], inside)
        return sum(line.count(" phi ") for line in function.lines)

    assert carried(27, read=False) == carried(1, read=True) == 1  # a multiple, the counter
    assert carried(27, 27, 27, read=False) == carried(1, 1, read=False) == 1
    assert carried(27, 5, read=False) == carried(27, read=True) == carried(27, 1, read=False) == 2
