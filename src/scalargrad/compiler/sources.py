"""The source lines of a traced program: two integers a node, however long the lines are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..lines import Lines


class SourceLines(Mapping[int, str]):
    """Node of a tape -> "file:line" that made it, for results.

    `names[which[i]]` is the line of node i; `which[i]` is -1 where there is none.
    """

    def __init__(self, names: Sequence[str], which: NDArray[np.int32]) -> None:
        self.names, self.which = tuple(names), which

    @classmethod
    def of(cls, lines: Lines, numbers: NDArray[np.uint64], leaves: int) -> SourceLines:
        """The lines of the nodes with these creation numbers, of which the first are leaves."""
        starts, made_by = lines.runs
        known: dict[str, int] = {}
        names = np.array([-1, *(known.setdefault(line, len(known)) for line in made_by)], np.int32)
        which = names[np.searchsorted(np.array(starts, np.uint64), numbers, side="right")]
        which[:leaves] = -1
        return cls(tuple(known), which)

    def frequent(self, nodes: NDArray[np.int32], most: int) -> list[tuple[str, int]]:
        """The lines that made most of these nodes, and how many, most frequent first."""
        which = self.which[nodes]
        counts = np.bincount(which[which >= 0], minlength=len(self.names))
        order = np.argsort(-counts, kind="stable")[:most].tolist()
        return [(self.names[k], int(counts[k])) for k in order if counts[k]]

    def __getitem__(self, node: int) -> str:
        if not 0 <= node < len(self.which) or self.which[node] < 0:
            raise KeyError(node)
        return self.names[int(self.which[node])]

    def __iter__(self) -> Iterator[int]:
        return iter(np.flatnonzero(self.which >= 0).tolist())

    def __len__(self) -> int:
        return int((self.which >= 0).sum())


NOWHERE = SourceLines((), np.empty(0, np.int32))
