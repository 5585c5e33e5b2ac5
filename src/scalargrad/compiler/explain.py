"""Loops programs as text: what was found in the scalar program, one loop nest at a time."""

from __future__ import annotations

from collections import Counter

from .. import ops
from .loops import (
    BATCH,
    SEED,
    SKIP_LEFT,
    SKIP_RIGHT,
    Apply,
    Contract,
    Group,
    Indicator,
    Instruction,
    Loop,
    Loops,
    Operand,
    Repeat,
    Scatter,
    Segment,
    Space,
    Walk,
    count,
    leaves,
    segments,
    work,
)

_LETTERS = "ijklmnoqrvw"
_TURNS = ("t", "s", "u", "v")  # of repeats
_FOLD = {ops.ADD: "sum", ops.MAXIMUM: "max", ops.MINIMUM: "min"}


def listing(loops: Loops, batch: int = 1) -> str:
    """The whole program, a line for each instruction and one for each further segment.

    `batch` is the number of examples that the shares of the work are computed for.
    """
    total = max(sum(work(step, batch) for step in loops.instructions), 1)
    sizes = ", ".join(
        f"{space.name.lower()} {space.short}[{loops.size(space)}]"
        for space in Space
        if loops.size(space)
    )
    lines = [f"{len(loops.instructions)} instructions on {sizes}"]

    def add(number: str, step: Instruction, done: int, depth: int) -> None:
        margin = "  " * depth
        share = f"{100 * done / total:5.1f}%"
        if isinstance(step, Repeat):
            head = f"repeat {_TURNS[depth % 4]} in 0..{step.count}: {operation(step)}"
            lines.append(f"{number:>4}  {share}  {margin}{head}{_sources(step)}")
            again = done // max(work(step, batch), 1)
            for inner in step.body:
                add("", inner, again * work(Repeat((inner,), step.count), batch), depth + 1)
            return
        part, parts = step.origin.part
        split = f", part {part} of {parts}" if parts > 1 else ""
        what = operation(step, batch if loops.batched else None) + split
        lines.append(f"{number:>4}  {share}  {margin}{what}{_sources(step)}")
        lines.extend(f"              {margin}{line}" for line in pseudo_code(loops, step))

    for number, step in enumerate(loops.instructions):
        add(str(number), step, work(step, batch), 0)
    return "\n".join(lines)


def _sources(step: Instruction) -> str:
    """The source lines that an instruction, or the most of a repeat's, came from."""
    tally = Counter(line for leaf, _ in leaves((step,)) for line in leaf.origin.lines)
    return f"  {', '.join(line for line, _ in tally.most_common(3))}" if tally else ""


# --- pseudo-code ---------------------------------------------------------------------------------


def _loop(letter: str, loop: Loop) -> str:
    terms = [
        f"{'' if slope == 1 else '-' if slope == -1 else slope}{outer}"
        for slope, outer in (*zip(loop.moves, _TURNS), *zip(loop.slopes, _LETTERS))
        if slope
    ]
    if loop.extent or not terms:
        terms.append(str(loop.extent))
    return f"{letter}<{'+'.join(terms).replace('+-', '-')}"


def _loops(loops: tuple[Loop, ...], depth: int = 0) -> str:
    return ", ".join(_loop(_LETTERS[depth + k], loop) for k, loop in enumerate(loops))


def _place(operand: Operand) -> str:
    steps = (*zip(operand.moves, _TURNS), *zip(operand.strides, _LETTERS))
    terms = [
        f"{'' if stride == 1 else '-' if stride == -1 else stride}{letter}"
        for stride, letter in steps
        if stride
    ]
    if operand.base or not terms:
        terms.insert(0, str(operand.base))
    return "+".join(terms).replace("+-", "-")


def _operand(loops: Loops, operand: Operand) -> str:
    still = not any(operand.strides) and not any(operand.moves)
    if operand.space == Space.CONSTANT and still and not operand.indirect:
        return repr(float(loops.constants[operand.base]))
    if operand.space == Space.SCALAR:
        return {SEED: "seed", BATCH: "B"}.get(operand.base, f"s[{operand.base}]")
    place = f"table[{_place(operand)}]" if operand.indirect else _place(operand)
    return f"{operand.space.short}[{place}]"


def pseudo_code(loops: Loops, step: Instruction) -> list[str]:
    """The instruction as it would be written by hand; of a repeat, the body."""
    if isinstance(step, Walk):
        return [f"{len(step.code)} operations one after the other"]
    if isinstance(step, Repeat):
        return [line for inner in step.body for line in pseudo_code(loops, inner)]
    head = f"for {_loops(step.lanes)}: " if step.lanes else ""
    head += _operand(loops, step.result)
    if isinstance(step, Contract):
        return _sum(loops, step, head)
    if isinstance(step, Apply):
        shown = [_operand(loops, operand) for operand in step.operands]
        text = ops.BY_CODE[step.op].text.format(*shown, c=ops.constant_text(step.const))
        return [f"{head} = {text}"]
    index = _operand(loops, step.index)
    if isinstance(step, Indicator):
        return [f"{head} = {index} == {_place(step.candidate)}"]
    letter = _LETTERS[len(step.lanes)]
    if isinstance(step, Scatter):
        head = f"for {', '.join(_ranges(step))}: " if step.lanes or step.over else ""
        to, source = _operand(loops, step.result), _operand(loops, step.source)
        return [f"{head}{to} += {source} at {letter} = {index} of {step.count}"]
    return [f"{head} = {_operand(loops, step.source)} at {letter} = {index} of {step.count}"]


def _ranges(step: Scatter) -> list[str]:
    return [*(["b from B-1"] if step.over else []), *([_loops(step.lanes)] if step.lanes else [])]


def _sum(loops: Loops, step: Contract, head: str) -> list[str]:
    fold = _FOLD[step.op]
    start = "" if str(step.start) == "-0.0" or step.op != ops.ADD else f"{step.start!r} + "
    start = f"{_operand(loops, step.result)} + " if step.resume else start
    terms = [term for group in step.groups for term in _group(loops, group, len(step.lanes), fold)]
    lines = [f"{head} = {start}{terms[0] if terms else ''}".rstrip(" +")]
    return lines + [f"    {term if term[0] == '-' else '+ ' + term}" for term in terms[1:]]


def _group(loops: Loops, group: Group, depth: int, fold: str) -> list[str]:
    """The terms of a group: one for each segment, or one in all if they share loops."""
    over = ["b<B" if group.over > 0 else "b from B-1"] if group.over else []
    if not group.shared:
        return [_segment(loops, segment, depth, 0, over, fold) for segment in group.segments]
    terms = [_segment(loops, segment, depth, group.shared, [], fold) for segment in group.segments]
    inside = terms[0] + "".join(f" {t}" if t[0] == "-" else f" + {t}" for t in terms[1:])
    ranges = [*over, _loops(group.segments[0].loops[: group.shared], depth)]
    return [f"{fold}({inside} for {', '.join(ranges)})"]


def _segment(
    loops: Loops, segment: Segment, depth: int, shared: int, over: list[str], fold: str
) -> str:
    term = _operand(loops, segment.left)
    if segment.right is not None:
        mark = "*?" if segment.skip & (SKIP_LEFT | SKIP_RIGHT) else "*"
        term += f" {mark} {_operand(loops, segment.right)}"
    own = segment.loops[shared:]
    ranges = [*over, *([_loops(own, depth + shared)] if own else [])]
    if ranges:
        term = f"{fold}({term} for {', '.join(ranges)})"
    return f"- {term}" if segment.minus else term


# --- what an instruction is ----------------------------------------------------------------------


def operation(step: Instruction, batch: int | None = None) -> str:
    """The operation found: a matrix product with its sizes, an outer product, a reduction ..."""
    if isinstance(step, Walk):
        return f"{len(step.code)} scalar operations"
    if isinstance(step, Repeat):
        return f"{len(step.body)} instructions, {step.count} times"
    examples = step.result.space.batched
    own = "ragged" if any(loop.moves for loop in step.lanes) else count(step.lanes)
    lanes = f"{'B x ' if examples else ''}{own}"
    if isinstance(step, Contract):
        return _contraction(step, batch, lanes)
    if isinstance(step, Apply):
        return f"{ops.BY_CODE[step.op].name} of {lanes}"
    if isinstance(step, Indicator):
        return f"indicator of {lanes}"
    if isinstance(step, Scatter):
        return f"add {'B x ' if step.over else ''}{lanes} to those selected of {step.count}"
    return f"select {lanes} of {step.count}"


def _contraction(step: Contract, batch: int | None, lanes: str) -> str:
    found = list(segments(step))
    if step.op != ops.ADD:
        candidates = sum(count(step.lanes + s.loops) for _, s in found)
        return f"{_FOLD[step.op]} of {candidates} numbers in {lanes} rows"
    if not found:
        return f"nothing added to {lanes}" if step.resume else f"fill of {lanes}"
    group, main = max(found, key=lambda pair: count(step.lanes + pair[1].loops))
    over = group.over != 0
    if main.right is None:
        if main.loops or over:
            return f"reduction of {lanes} by {_sizes(main, over)}"
        return f"{'copy' if len(found) == 1 else 'sum'} of {lanes}"
    if not main.loops and not over:
        return f"{'product' if len(found) == 1 else 'sum of products'} of {lanes}"
    return _matrix(step, main, over)


def _sizes(segment: Segment, over: bool) -> str:
    sizes = [_size(loop) for loop in segment.loops]
    return " x ".join((["B"] if over else []) + sizes)


def _size(loop: Loop) -> str:
    return str(loop.extent) if loop.even else "ragged"


def _matrix(step: Contract, segment: Segment, over: bool) -> str:
    """A product of two matrices: rows that only the left operand sees, columns only the right."""
    assert segment.right is not None
    depth = len(step.lanes)
    rows: list[str] = []
    columns: list[str] = []
    both: list[str] = []
    for k, loop in enumerate(step.lanes):
        size = _size(loop)
        left, right = segment.left.strides[k], segment.right.strides[k]
        (both if bool(left) == bool(right) else rows if left else columns).append(size)
    if step.result.space.batched:
        left, right = segment.left.space.batched, segment.right.space.batched
        (both if left == right else rows if left else columns).insert(0, "B")
    inner = _sizes(segment, over)
    if not any(segment.left.strides[depth:]) and not over:
        inner = f"({inner})"
    prefix = f"{' x '.join(both)} times " if both else ""
    if rows and columns:
        return f"{prefix}matrix product {'x'.join(rows)} x {inner} . {inner} x {'x'.join(columns)}"
    if rows or columns:
        return f"{prefix}matrix-vector product {'x'.join(rows or columns)} x {inner} . {inner}"
    return f"{prefix}dot product over {inner}"
