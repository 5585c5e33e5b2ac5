"""The later turns of a period: placed and checked all at once, without recovering their loops.

The loops of the first turns are recovered from the places of their operands. If in every later
turn each operand of each node lies as far from where it lay a turn before as in the first turns,
then the instructions are those of the first turns, moved as far.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .. import ops
from .flat import INDICATOR, Flat
from .layout import Layout
from .loops import Space
from .packs import Packs
from .tandems import Tandem

TRIED = 3  # turns whose loops are recovered: the second and the third show how far all moves


def place_turns(
    flat: Flat, packs: Packs, tandem: Tandem, layout: Layout, growth: Mapping[Space, int]
) -> int:
    """The number of turns that are like the second and third: the later ones of them are placed.

    The first `TRIED` turns have their places already, for which each took `growth` places. Without
    later turns like them the answer is `TRIED`, and nothing is placed.
    """
    sizes = np.diff(packs.first[tandem.start : tandem.stop + 1]).reshape(tandem.turns, -1)
    if (sizes != sizes[0]).any():
        return TRIED
    low, high = int(packs.first[tandem.start]), int(packs.first[tandem.stop])
    nodes = packs.members[low:high].reshape(tandem.turns, -1)
    terms = _terms(flat, nodes)
    if terms is None or np.isin(flat.kind[nodes[0]], (ops.TAKE, INDICATOR)).any():
        return TRIED
    later = np.arange(1, tandem.turns - TRIED + 1)[:, None]
    space, before = flat.space[nodes[0]], layout.address.copy()
    address = layout.address
    for own, grown in growth.items():
        temporary = nodes[:, space == own]
        if (address[temporary[2]] - address[temporary[1]] != grown).any():
            return TRIED
        address[temporary[TRIED:]] = address[temporary[2]] + later * grown
    turns = min(
        _even_turns(address[nodes]),
        *(_even_operands(flat, layout, operand[terms]) for operand in (flat.left, flat.right)),
    )
    lost = nodes[turns:]
    address[lost] = before[lost]
    for own, grown in growth.items():
        layout.reserve(own, (turns - TRIED) * grown)
    return turns


def _terms(flat: Flat, nodes: NDArray[np.int32]) -> NDArray[np.int64] | None:
    """The terms of the nodes, a row for each turn; None unless all turns do the same."""
    for field in (flat.kind, flat.space, flat.const.view(np.int64), flat.extra):
        if (field[nodes] != field[nodes[0]]).any():
            return None
    counts = (flat.first[nodes + 1] - flat.first[nodes]).astype(np.int64)
    if (counts != counts[0]).any():
        return None
    ends = np.cumsum(counts[0])
    within = np.arange(ends[-1]) - np.repeat(ends - counts[0], counts[0])
    terms: NDArray[np.int64] = np.repeat(flat.first[nodes], counts[0], axis=1) + within
    return terms if (flat.style[terms] == flat.style[terms[0]]).all() else None


def _even_turns(places: NDArray[np.int64]) -> int:
    """How many turns move as the third did from the second, `TRIED` at least."""
    steps = np.diff(places[1:], axis=0)
    uneven = np.flatnonzero((steps != steps[0]).any(axis=1))
    return max(int(uneven[0]) + 2 if len(uneven) else len(places), TRIED)


def _even_operands(flat: Flat, layout: Layout, operands: NDArray[np.int32]) -> int:
    """As `_even_turns`, for the operands of terms: those of the first turn may be others."""
    there = operands >= 0
    if (there != there[0]).any():
        return TRIED
    operands = operands[:, there[0]]
    spaces = flat.space[operands]
    places = layout.address[operands]
    constant = spaces[1] == Space.CONSTANT
    number = layout.canonical[places[1:, constant]]
    # Equal constants are read at the place of the first of them: that must move evenly, too.
    same, own = (number == number[0]).all(axis=0), (number == places[1:, constant]).all(axis=0)
    if not (same | own).all():
        return TRIED
    others = np.flatnonzero((spaces[1:] != spaces[1]).any(axis=1))
    return min(_even_turns(places), max(int(others[0]) + 1, TRIED) if len(others) else len(places))
