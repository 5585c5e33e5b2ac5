"""Copies of operands to a better layout, as LLVM IR: their first axis becomes contiguous."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .ir import Counter, Function, Module, vector
from .moulds import Mould, mould_of
from .nests import Nest
from .places import LINE, Cursor, transposed
from .tiles import Axis, Division, Piece, Plan, Ref, pieces


class Block(NamedTuple):
    """A block of numbers to be copied: extents with the strides it has and is to have.

    Its first axis becomes contiguous; there is room in the target up to a whole vector.
    """

    source: Ref
    target: Ref
    extents: tuple[int, ...]
    examples: int | None = None  # which axis these are


def _loops(block: Block, width: int) -> tuple[list[int], tuple[int, ...], int]:
    """The axes to be walked along; those to be copied at once, and how far.

    These are axis 0 if it is contiguous in the source, or two axes for squares of numbers, or none.
    """
    source, target, extents, _ = block
    if source.strides[0] == 1:
        # Each panel is written from its beginning to its end.
        return sorted(range(1, len(extents)), key=lambda k: -target.strides[k]), (0,), extents[0]
    side = min(width, 1 << (extents[0] - 1).bit_length())
    across = [k for k, e in enumerate(extents) if k and e > 1 and source.strides[k] == 1]
    inner = (0, across[0]) if across and side > 1 else ()
    rest = [k for k in range(len(extents)) if k not in inner]
    return sorted(rest, key=lambda k: -abs(source.strides[k])), inner, side


def examples_at_once(block: Block, width: int) -> int:
    """How many examples a block is copied in steps of; 0 if it has none."""
    rest, _, side = _loops(block, width)
    return 0 if block.examples is None else 1 if block.examples in rest else side


def mould_of_copy(module: Module, block: Block) -> Mould | None:
    """What the code of a copy depends on."""
    return mould_of(module, block[:2], "copy", block.extents, block.examples)


def copy_block(function: Function, block: Block, division: Division | None = None) -> None:
    """Copy a block so that its first axis becomes contiguous; with a division, a worker's part.

    Where another axis is contiguous in the source, squares of numbers are read along it and
    transposed in registers.
    """
    extents = block.extents
    rest, inner, side = _loops(block, function.module.width)
    nest = Nest(function, [Axis(extent) for extent in extents], block[:2], Plan())
    if division is not None:
        axis = rest[0] if rest else 0
        if division.chunks and block.examples is not None:
            axis = block.examples
        step = 1 if axis in rest else side
        nest.divide(axis, -(-extents[axis] // step), division)

    def walk(left: Sequence[int], cursors: list[Cursor]) -> None:
        if not left:
            if len(inner) == 2:
                _squares(nest, cursors, inner[1], side)
            elif inner:
                _line(nest, cursors)
            else:
                _one(nest, cursors)
            return

        def inside(_: list[Counter], moved: list[Cursor]) -> None:
            walk(left[1:], moved)

        nest.along(left[0], extents[left[0]], 1, nothing, cursors, inside)

    nothing: list[Counter] = [0] * len(extents)
    walk(rest, [nest.start(ref) for ref in nest.refs])


def _one(nest: Nest, cursors: list[Cursor]) -> None:
    """Copy one number."""
    source, target = nest.refs
    number = nest.load(nest.real, source, cursors[0])
    pointer = nest.address(nest.real, target, cursors[1])
    nest.function.do(f"store {nest.real} {number}, ptr {pointer}, align {nest.module.size}")


def _line(nest: Nest, cursors: list[Cursor]) -> None:
    """Copy what is contiguous in the source, too."""
    source, target = nest.refs
    for piece in pieces(nest.axes[0].extent, nest.module.width, False):
        place = nest.move(source, cursors[0], 0, piece.first)
        numbers = nest.load_vector(nest.real, source, place, piece)
        pointer = nest.address(nest.real, target, nest.move(target, cursors[1], 0, piece.first))
        full = vector(nest.real, piece.width)
        nest.function.do(f"store {full} {numbers}, ptr {pointer}, align {nest.module.size}")


def _squares(nest: Nest, cursors: list[Cursor], across: int, side: int) -> None:
    """Copy axis 0 and the axis `across` in squares, and in parts of squares at their ends."""

    def blocks(axis: int, cursors: list[Cursor], body: Callable[[list[Cursor], int], None]) -> None:
        extent = nest.axes[axis].extent
        whole = extent // side * side

        def inside(_: list[Counter], moved: list[Cursor]) -> None:
            body(moved, side)

        def rest() -> None:
            body(nest.moved(cursors, axis, whole), extent - whole)

        nothing: list[Counter] = [0] * len(nest.axes)
        nest.along(axis, whole, side, nothing, cursors, inside, rest if whole < extent else None)

    def line(cursors: list[Cursor], rows: int) -> None:
        blocks(across, cursors, lambda at, columns: _square(nest, at, across, side, rows, columns))

    def column(cursors: list[Cursor], columns: int) -> None:
        blocks(0, cursors, lambda at, rows: _square(nest, at, across, side, rows, columns))

    if side * nest.module.size < LINE:
        # The squares that share lines of the target one after the other.
        blocks(across, cursors, column)
    else:
        blocks(0, cursors, line)


def _square(
    nest: Nest, cursors: list[Cursor], across: int, side: int, rows: int, columns: int
) -> None:
    """Transpose one square: those of its rows and columns that there are."""
    source, target = nest.refs
    full, read = vector(nest.real, side), Piece(0, side, columns)
    lines = [
        nest.load_vector(nest.real, source, nest.move(source, cursors[0], 0, k), read)
        for k in range(rows)
    ]
    lines += ["zeroinitializer"] * (side - rows)
    for k, column in enumerate(transposed(nest.function, nest.real, lines)[:columns]):
        pointer = nest.address(nest.real, target, nest.move(target, cursors[1], across, k))
        nest.function.do(f"store {full} {column}, ptr {pointer}, align {nest.module.size}")
