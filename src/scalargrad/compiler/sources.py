"""The source lines of a traced program: two integers a node, however long the lines are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..lines import Lines

_Found: TypeAlias = tuple[tuple[str, ...], NDArray[np.int32]]


class SourceLines(Mapping[int, str]):
    """Node of a tape -> "file:line" that made it, for results.

    `names[which[i]]` is the line of node i.
    """

    def __init__(self, names: Sequence[str], which: NDArray[np.int32]) -> None:
        self._find: Callable[[], _Found] = lambda: (tuple(names), which)

    @classmethod
    def of(
        cls, lines: Lines, numbers: Callable[[], NDArray[np.uint64]], leaves: int
    ) -> SourceLines:
        """The lines of the nodes with these creation numbers, of which the first are leaves.

        Looked up when first asked for: a program from the cache never asks.
        """
        made = cls((), np.empty(0, np.int32))
        made._find = lambda: _found(lines, numbers(), leaves)
        return made

    @cached_property
    def _both(self) -> _Found:
        return self._find()

    @property
    def names(self) -> tuple[str, ...]:
        """The different lines."""
        return self._both[0]

    @property
    def which(self) -> NDArray[np.int32]:
        """For each node the place of its line among the names; -1 where there is none."""
        return self._both[1]

    def frequent(self, nodes: NDArray[np.int32], most: int) -> list[tuple[str, int]]:
        """The lines that made most of these nodes, and how many, most frequent first."""
        which = self.which[nodes]
        counts = np.bincount(which[which >= 0], minlength=len(self.names))
        order = np.argsort(-counts, kind="stable")[:most].tolist()
        return [(self.names[k], int(counts[k])) for k in order if counts[k]]

    def __reduce__(self) -> tuple[type[SourceLines], _Found]:
        return SourceLines, self._both

    def __getitem__(self, node: int) -> str:
        if not 0 <= node < len(self.which) or self.which[node] < 0:
            raise KeyError(node)
        return self.names[int(self.which[node])]

    def __iter__(self) -> Iterator[int]:
        return iter(np.flatnonzero(self.which >= 0).tolist())

    def __len__(self) -> int:
        return int((self.which >= 0).sum())


def _found(lines: Lines, numbers: NDArray[np.uint64], leaves: int) -> _Found:
    starts, made_by = lines.runs
    known = {line: k for k, line in enumerate(dict.fromkeys(made_by))}
    names = np.full(1 + len(made_by), -1, np.int32)
    names[1:] = np.fromiter(map(known.__getitem__, made_by), np.int32, len(made_by))
    which = names[np.searchsorted(np.array(starts, np.uint64), numbers, side="right")]
    which[:leaves] = -1
    return tuple(known), which


NOWHERE = SourceLines((), np.empty(0, np.int32))
