"""Coordinates within the columns: near what each item is joined to, and never overlapping.

The places minimise the sum of weight * distance^2 over all links, under the condition that the
items of a column keep their order and their gaps: column by column, each time exactly, by pooling
adjacent violators (Barlow et al., 1972).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum  # the built-in sum gives other bits in Python 3.12, hence other pictures

ROUNDS = 40


@dataclass(frozen=True, slots=True)
class Link:
    """Two items of neighbouring columns that want to be level, `shift` apart: y[b] - y[a] = shift."""

    a: int
    b: int
    shift: float
    weight: float


def placed(
    columns: Sequence[Sequence[int]], gaps: Sequence[Sequence[float]], links: Sequence[Link]
) -> list[float]:
    """The middle of each item; `gaps[c][k]` is the least distance of item k from k - 1 in column c."""
    pulls: dict[int, list[tuple[int, float, float]]] = {
        item: [] for column in columns for item in column
    }
    for link in links:
        pulls[link.a].append((link.b, -link.shift, link.weight))
        pulls[link.b].append((link.a, link.shift, link.weight))
    y = [0.0] * len(pulls)
    for column, gap in zip(columns, gaps):
        place = -fsum(gap) / 2
        for item, least in zip(column, gap):
            place += least
            y[item] = place
    forth = list(zip(columns, gaps))
    for turn in range(ROUNDS):
        for column, gap in forth if turn % 2 == 0 else reversed(forth):
            weights = [fsum(weight for _, _, weight in pulls[item]) for item in column]
            wishes = [
                fsum(weight * (y[other] + shift) for other, shift, weight in pulls[item]) / total
                if total
                else y[item]
                for item, total in zip(column, weights)
            ]
            for item, place in zip(column, spread(wishes, [w or 1.0 for w in weights], gap)):
                y[item] = place
    return y


def spread(wishes: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The places in order, `gaps[k]` or more from one to the next, nearest to the wishes.

    Nearest in the sum of weight * distance^2. `gaps[0]` has no meaning.
    """
    offsets, offset = [], 0.0
    for k, gap in enumerate(gaps):
        offset += gap if k else 0.0
        offsets.append(offset)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, how many
    for wish, weight, offset in zip(wishes, weights, offsets):
        mean, total, count = wish - offset, weight, 1
        while blocks and blocks[-1][0] >= mean:
            other, heavy, many = blocks.pop()
            mean = (mean * total + other * heavy) / (total + heavy)
            total, count = total + heavy, count + many
        blocks.append((mean, total, count))
    starts = [mean for mean, _, count in blocks for _ in range(count)]
    return [start + offset for start, offset in zip(starts, offsets)]
