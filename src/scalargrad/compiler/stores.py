"""Writing some lanes of a vector in parts of 1, 2, 4 ... lanes.

Many CPUs without AVX-512 take as long for one masked store as for a dozen others.
"""

from __future__ import annotations

from .ir import Counter, Function, vector


def some_lanes(
    function: Function, kind: str, numbers: str, width: int, first: int, count: int
) -> str:
    """So many lanes of a vector of some width."""
    if count == 1:
        return function.emit(f"extractelement {vector(kind, width)} {numbers}, i32 {first}")
    return function.shuffled(kind, width, numbers, "poison", range(first, first + count))


def _store(function: Function, kind: str, numbers: str, width: int, pointer: str) -> None:
    size = 8 if kind == "double" else 4
    function.do(f"store {vector(kind, width)} {numbers}, ptr {pointer}, align {size}")


def store_known(
    function: Function, kind: str, numbers: str, width: int, pointer: str, first: int, count: int
) -> None:
    """Write so many lanes from the first on; lane 0 would be at the pointer."""
    while count:
        part = 1 << (count.bit_length() - 1)
        place = function.at(kind, pointer, first)
        _store(function, kind, some_lanes(function, kind, numbers, width, first, part), part, place)
        first, count = first + part, count - part


def store_first(
    function: Function, kind: str, numbers: str, width: int, pointer: str, count: Counter
) -> None:
    """Write the first lanes, of which there may be less than one, and more than the vector has."""
    whole, fewer, some, done = (function.label() for _ in range(4))
    every = function.emit(f"icmp sge i64 {count}, {width}")
    function.do(f"br i1 {every}, label %{whole}, label %{fewer}")
    function.begin(whole)
    _store(function, kind, numbers, width, pointer)
    function.do(f"br label %{done}")
    function.begin(fewer)
    any_ = function.emit(f"icmp sgt i64 {count}, 0")
    function.do(f"br i1 {any_}, label %{some}, label %{done}")
    function.begin(some)
    while width > 1:
        # One half of what there is to come: the first, if that is to be written itself.
        width //= 2
        low, high = (some_lanes(function, kind, numbers, 2 * width, k, width) for k in (0, width))
        bit = function.emit(f"and i64 {count}, {width}")
        there = function.emit(f"icmp ne i64 {bit}, 0")
        before, part, after = function.block, function.label(), function.label()
        function.do(f"br i1 {there}, label %{part}, label %{after}")
        function.begin(part)
        _store(function, kind, low, width, pointer)
        behind = function.at(kind, pointer, width)
        function.do(f"br label %{after}")
        function.begin(after)
        ways = (vector(kind, width), low, high), ("ptr", pointer, behind)
        numbers, pointer = (
            function.emit(f"phi {type_} [ {past}, %{before} ], [ {next_}, %{part} ]")
            for type_, past, next_ in ways
        )
    function.do(f"br label %{done}")
    function.begin(done)
