"""Sums, differences and products of few terms as operations of one kind: z + x * y.

A processor that cannot foresee which code comes next loses the time of many operations, and in a
walk through a graph without structure nobody can foresee it. So what is a sum of few terms becomes
one step, or a few: the numbers 1 and -0 are operands like others, a term that is subtracted
changes the sign of its y, and every step but the first has the result so far for its z. No bit
depends on it: -0 + a is a, a * 1 is a, and a + b is b + a.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import ops
from .loops import MINUS, Space, Walk

FEW = 4  # terms of a sum that is made in steps


def in_steps(walk: Walk, one: int, nothing: int) -> Walk:
    """The walk with its sums of few terms in steps; `one` and `nothing` are constants' places.

    A step is a sum of two terms, z and x * y, of which the second may be left out where a factor is
    zero. Results that take several steps come several times.
    """
    n, counts = len(walk.code), np.diff(walk.first)
    owner = np.repeat(np.arange(n), counts)
    own = np.arange(len(owner)) - walk.first[owner]
    stepwise = (walk.code == ops.ADD) & (counts >= 1) & (counts <= FEW)
    stepwise &= walk.const.view(np.int64) == np.float64(-0.0).view(np.int64)
    # The first of several terms is the first z if it is a number as it is. If only the second
    # one is, they change places.
    alone = walk.right < 0
    plain = alone & (walk.style & MINUS == 0)
    first = walk.first[:-1][stepwise & (counts > 1)]
    swapped = first[plain[first + 1] & ~plain[first]]
    own[swapped], own[swapped + 1] = 1, 0
    begins = np.zeros(n, bool)
    begins[owner[first]] = plain[first] | plain[first + 1]

    steps = np.where(stepwise, counts - begins, 1)
    node = np.repeat(np.arange(n), steps)
    start = np.zeros(len(node) + 1, np.int32)
    np.cumsum(np.where(stepwise, 2, counts)[node], out=start[1:])
    at = start[np.cumsum(steps) - steps]  # where the terms of each node begin
    space, place = np.zeros(start[-1], np.uint8), np.zeros(start[-1], np.int32)
    right_space, right, style = space.copy(), np.full_like(place, -1), space.copy()

    # z: the result so far; nothing yet; or the first term.
    z, result = start[:-1][stepwise[node]], node[stepwise[node]]
    space[z], place[z] = walk.space[result], walk.at[result]
    space[at[stepwise]], place[at[stepwise]] = Space.CONSTANT, nothing
    number = own - begins[owner]
    to = at[owner] + np.where(stepwise[owner], 2 * number + 1, own)
    to[number < 0] = at[owner[number < 0]]
    space[to], place[to] = walk.left_space, walk.left
    right_space[to], right[to], style[to] = walk.right_space, walk.right, walk.style
    alone &= stepwise[owner]
    style[to[alone]] &= MINUS
    single = to[alone & (number >= 0)]
    right_space[single], right[single] = Space.CONSTANT, one
    return replace(
        walk,
        code=walk.code[node],
        space=walk.space[node],
        at=walk.at[node],
        const=walk.const[node],
        first=start,
        left_space=space,
        left=place,
        right_space=right_space,
        right=right,
        style=style,
        level=walk.level[node],
    )
