"""Flat graphs: the scalar graph with its sums gathered, before and after differentiation.

A chain of additions whose inner results are used once is one node here, a sum of terms; a
multiplication used once by a sum is a term of it, a product of two nodes. A sum of n products is
then one node with n terms instead of 2n - 1 nodes, and the loop over n is already visible.

The terms of a `take` are its candidates. If there are more than terms, they are leaves of one
space, as far apart as the two that are terms. The terms of a SCATTER are what is added, and the
first two candidates; those of one space add in the order of the graph, when all else is done.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import ops
from ..errors import VerifyError
from .loops import MINUS, SKIP_LEFT, SKIP_RIGHT, Space

# Kinds of nodes are the codes of the op table, ADD being a sum of any number of terms, and:
FOLD_MAXIMUM, FOLD_MINIMUM = 40, 41  # of any number of terms; no gradient flows through them
INDICATOR = 42  # 1.0 where an integer argument is `extra`
SCATTER = 43  # adds to the gradient of the candidate that an integer argument selects

LONE = 1  # extra: a sum, or maximum, of one term, to be computed as those of several are
OVER = 8  # style: this term, and all that follow, are added for each example, last example first


@dataclass(slots=True)
class Flat:
    """A graph of n nodes with t terms, operands before results.

    kind     uint8[n]    0 for a leaf
    const    float64[n]  the number of a constant leaf, the exponent or slope; the start of a sum;
                         how many candidates there are
    space    uint8[n]    where a leaf lies (`Space`); for a result TEMPORARY or BATCHED, or the
                         gradient it is, or adds to
    slot     int32[n]    place of a leaf, or of a gradient, in its space; place of the index
    extra    int32[n]    the candidate of an indicator; 1 for an index that is batched; LONE
    rank     int32[n]    orders the lanes of a pack: the place in the tape of the node this one
                         is, or is the gradient or partial of
    first    int32[n+1]  terms of node i: first[i] to first[i+1]
    left     int32[t]    first factor, or operand
    right    int32[t]    second factor, -1 for a term with one
    style    uint8[t]    MINUS, SKIP_RIGHT, SKIP_LEFT, OVER
    origin   int32[t]    place in the tape of the node that passes a gradient on to this term
    """

    kind: NDArray[np.uint8]
    const: NDArray[np.float64]
    space: NDArray[np.uint8]
    slot: NDArray[np.int32]
    extra: NDArray[np.int32]
    rank: NDArray[np.int32]
    first: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    style: NDArray[np.uint8]
    origin: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.kind)

    def cut(self, nodes: int, terms: int) -> Flat:
        """The graph of the first nodes, which have so many terms; it shares this one's arrays."""
        return Flat(
            *(getattr(self, name)[: nodes + (name == "first")] for name in NODE_ARRAYS),
            *(getattr(self, name)[:terms] for name in TERM_ARRAYS),
        )

    def operands(self, i: int) -> list[int]:
        """The nodes that node i reads, in order."""
        terms = slice(int(self.first[i]), int(self.first[i + 1]))
        pairs = zip(self.left[terms].tolist(), self.right[terms].tolist())
        return [j for pair in pairs for j in pair if j >= 0]

    def __str__(self) -> str:
        return "\n".join(f"v{i} = {self.line(i)}" for i in range(len(self)))

    def line(self, i: int) -> str:
        """Node i as text."""
        kind, const = int(self.kind[i]), float(self.const[i])
        space = Space(int(self.space[i]))
        if kind == ops.LEAF:
            return repr(const) if space == Space.CONSTANT else f"{space.short}[{self.slot[i]}]"
        if kind == INDICATOR:
            return f"i[{self.slot[i]}] == {self.extra[i]}"
        terms = range(int(self.first[i]), int(self.first[i + 1]))
        if kind == ops.ADD:
            start = [] if str(const) == "-0.0" else [repr(const)]
            text = " ".join(start + [self._term(t) for t in terms])
            return text.removeprefix("+ ")
        shown = [f"v{self.left[t]}" for t in terms]
        if kind in (FOLD_MAXIMUM, FOLD_MINIMUM):
            return f"{'max' if kind == FOLD_MAXIMUM else 'min'}({', '.join(shown)})"
        if kind == SCATTER:
            chosen = f"v{self.left[terms[1]]}, v{self.left[terms[2]]}, ... {int(const)}"
            return f"{space.short}: {self._term(terms[0])} at [{chosen}] of i[{self.slot[i]}]"
        if kind == ops.TAKE and len(terms) < const:
            shown.append(f"... {int(const)}")
        row = ops.BY_CODE[kind]
        c = f"i[{self.slot[i]}]" if kind == ops.TAKE else ops.constant_text(const)
        return row.text.format(*shown, c=c, operands=", ".join(shown))

    def _term(self, t: int) -> str:
        style = int(self.style[t])
        sign = "- " if style & MINUS else "+ "
        over = "each " if style & OVER else ""
        if self.right[t] < 0:
            return f"{sign}{over}v{self.left[t]}"
        mark = "*?" if style & (SKIP_LEFT | SKIP_RIGHT) else "*"
        return f"{sign}{over}v{self.left[t]} {mark} v{self.right[t]}"


NODE_ARRAYS = ("kind", "const", "space", "slot", "extra", "rank", "first")
TERM_ARRAYS = ("left", "right", "style", "origin")


def is_batched(graph: Flat) -> NDArray[np.bool_]:
    """Whether each node holds one number per example."""
    table = np.array([space.batched for space in Space])
    return table[graph.space]


def verify(graph: Flat) -> Flat:
    """The graph itself; raises `VerifyError` for the first node that breaks the form."""
    n, t = len(graph), len(graph.left)
    lengths = {len(x) for x in (graph.const, graph.space, graph.slot, graph.extra, graph.rank)}
    if lengths != {n} or len(graph.first) != n + 1:
        raise VerifyError(f"a graph of {n} nodes with arrays of {sorted(lengths)}")
    if {len(x) for x in (graph.right, graph.style, graph.origin)} != {t}:
        raise VerifyError(f"{t} terms with arrays of other lengths")
    counts = np.diff(graph.first)
    if graph.first[0] != 0 or graph.first[-1] != t or (counts < 0).any():
        raise VerifyError("first: expected to rise from 0 to the number of terms")
    owner = np.repeat(np.arange(n), counts)
    for name, operand, lowest in (("left", graph.left, 0), ("right", graph.right, -1)):
        wrong = (operand < lowest) | (operand >= owner)
        if wrong.any():
            i = int(owner[wrong][0])
            raise VerifyError(f"node {i}: its {name} operand {operand[wrong][0]} is not before it")
    _verify_kinds(graph, counts, owner)
    return graph


def _verify_kinds(graph: Flat, counts: NDArray[np.int32], owner: NDArray[np.int64]) -> None:
    arity = np.full(256, -2)
    arity[[ops.LEAF, INDICATOR]] = 0
    arity[SCATTER] = 3
    arity[[ops.ADD, FOLD_MAXIMUM, FOLD_MINIMUM, ops.TAKE]] = -1
    for row in ops.TABLE:
        if row.code not in (ops.ADD, ops.SUB, ops.MUL, ops.NEG, ops.TAKE):
            arity[row.code] = row.arity or -1
    wanted = arity[graph.kind]
    wrong = np.flatnonzero((wanted == -2) | ((wanted >= 0) & (wanted != counts)))
    if len(wrong):
        i = int(wrong[0])
        raise VerifyError(f"node {i}: kind {graph.kind[i]} with {counts[i]} terms")
    product = (graph.right >= 0) | (graph.style != 0)
    if (~np.isin(graph.kind[owner][product], (ops.ADD, SCATTER))).any():
        raise VerifyError("a product, or a styled term, outside a sum")
    batched = is_batched(graph)
    for operand in (graph.left, graph.right):
        mixed = (operand >= 0) & batched[operand] & ~batched[owner] & (graph.style & OVER == 0)
        if mixed.any():
            i = int(owner[mixed][0])
            raise VerifyError(f"node {i} is not batched but reads the batched {operand[mixed][0]}")
