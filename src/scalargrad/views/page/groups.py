"""Boxes within boxes: every number is in one group, every group but the first in another."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Groups:
    """The groups of a graph's numbers. Group 0 is outermost and holds everything.

    `parents`, `kinds` and `labels` have an entry for each group, `places` for each number: the
    group that it is directly in.

    | kind | what it holds |
    |---|---|
    | all | everything |
    | module, unit | what is computed with the parameters of a part of a network; a unit has no parts |
    | sum | a sum of products, with all that only it uses |
    | repeat | the same operations again and again: numbers, or turns |
    | turn | one of these times |
    | part | a stretch of a long sequence |
    | leaves | numbers that are given, such as `xs` |
    """

    places: list[int]
    parents: list[int] = field(default_factory=lambda: [-1])
    kinds: list[str] = field(default_factory=lambda: ["all"])
    labels: list[str] = field(default_factory=lambda: [""])
    depths: list[int] = field(default_factory=lambda: [0])  # right as long as `parents` stay

    def __len__(self) -> int:
        return len(self.parents)

    def add(self, parent: int, kind: str, label: str) -> int:
        """A new group inside another; its number."""
        self.parents.append(parent)
        self.kinds.append(kind)
        self.labels.append(label)
        self.depths.append(self.depths[parent] + 1)
        return len(self.parents) - 1

    def common(self, a: int, b: int) -> int:
        """The smallest group that holds both."""
        while a != b:
            if self.depths[a] < self.depths[b]:
                b = self.parents[b]
            else:
                a = self.parents[a]
        return a

    def holds(self, outer: int, inner: int) -> bool:
        """Whether a group is another, or around it."""
        return self.common(outer, inner) == outer
