"""A graph and its groups as data for the page: arrays of numbers in base 64, texts in JSON.

Every float64 arrives with all its bits. The derivatives of each operation with respect to its
operands are part of the data, so that the page has only to multiply and to add, in the order of
the engine.

| entry | what it is |
|---|---|
| `count`, `leaves`, `root` | how many numbers; how many leaves, which come first; whose graph |
| `op` | the code of each number's operation, 0 for a leaf |
| `first` | where each number's operands begin in the two arrays that follow, and the end |
| `operands`, `partials` | each operand, and the derivative with respect to it |
| `data`, `grad` | what each Value holds |
| `constants` | exponents, slopes and indices, of the numbers in `constantAt` |
| `parameters`, `stale` | the parameters of a network; the results whose data is out of date |
| `names`, `lines` | texts, of the numbers in `namesAt` and `linesAt` |
| `places` | the group of each number |
| `parents`, `kinds`, `labels` | of each group, as in `groups` |
| `table` | what is known about each operation: `ops.TABLE` |
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ... import ops
from ...capture import capture
from ...engine import Value
from ..chain import differing, is_current
from ..drawing.parts import UNORDERED
from ..explanation import line_of
from ..names import Names
from .grouping import grouped

EDGES = 8  # operands of the average number, at most


class TooLarge(Exception):
    """The graph is larger than a page can hold; the message says by what measure."""


def record(root: Value, names: Names, limit: int) -> dict[str, Any]:
    """What the page needs to know. Raises `TooLarge` if there are more than `limit` numbers."""
    nodes, tape = capture([root])
    if len(nodes) > limit:
        raise TooLarge(f"has {len(nodes):,} numbers")
    counts = [len(v.operands) for v in nodes]
    if sum(counts) > EDGES * limit:
        raise TooLarge(f"has {sum(counts):,} operands")
    place = {v: k for k, v in enumerate(nodes)}
    operands = [[place[x] for x in v.operands] for v in nodes]
    codes = tape.op.tolist()
    data = np.array([v.data for v in nodes])
    results = range(tape.leaves, len(nodes))
    stale = []
    if len(differing(tape, data)):
        stale = [k for k in results if not is_current(nodes[k])]
    constant = [k for k in results if ops.BY_CODE[codes[k]].constant]
    named = [(k, text) for k, v in enumerate(nodes) if (text := names.of(v))]
    lines = [(k, line) for k in results if (line := line_of(nodes[k]))]
    at = place[root]
    groups = grouped(nodes, tape.leaves, operands, codes, at, names)
    return {
        "count": len(nodes),
        "root": at,
        "leaves": tape.leaves,
        "op": packed(tape.op, "u1"),
        "first": packed(np.concatenate(([0], np.cumsum(counts))), "<i4"),
        "operands": packed([x for inputs in operands for x in inputs], "<i4"),
        "partials": packed([p for v in nodes for p in v._local_grads], "<f8"),
        "data": packed(data, "<f8"),
        "grad": packed([v.grad for v in nodes], "<f8"),
        "constantAt": packed(constant, "<i4"),
        "constants": packed([nodes[k].const for k in constant], "<f8"),
        "parameters": packed([k for k, v in enumerate(nodes) if v in names.parameters], "<i4"),
        "stale": packed(stale, "<i4"),
        "namesAt": packed([k for k, _ in named], "<i4"),
        "names": [text for _, text in named],
        "linesAt": packed([k for k, _ in lines], "<i4"),
        "lines": [line for _, line in lines],
        "places": packed(groups.places, "<i4"),
        "parents": packed(groups.parents, "<i4"),
        "kinds": groups.kinds,
        "labels": groups.labels,
        "table": TABLE,
    }


TABLE = [
    {
        "code": row.code,
        "name": row.name,
        "symbol": row.symbol,
        "text": row.text,
        "slopes": row.slopes,
        "constant": row.constant,
        "unordered": row.name in UNORDERED,
        "plain": row.code == ops.MUL,  # a derivative of 0 is multiplied with, too: see `chain`
    }
    for row in ops.TABLE
]


def packed(numbers: ArrayLike | Sequence[float], kind: str) -> str:
    """Numbers as bytes, in base 64."""
    return base64.b64encode(np.asarray(numbers, dtype=kind).tobytes()).decode("ascii")


def written(entries: dict[str, Any]) -> str:
    """JSON that can stand inside a `script` element."""
    text = json.dumps(entries, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
