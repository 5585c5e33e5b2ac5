"""Through which nodes of a flat graph gradients flow, and who passes one on to each node."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad.rules import DETACH, LESS, LESS_EQUAL, WHERE
else:
    from ..ops import DETACH, LESS, LESS_EQUAL, WHERE

from .flat import FOLD_MAXIMUM, Flat

FIRST_FOLD = cython.declare(cython.int, FOLD_MAXIMUM)  # kinds from here on pass no gradient on


def reach(flat: Flat, wanted_: NDArray[np.uint8], roots_: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Bit k of i is set where a gradient flows from root k through node i to something wanted."""
    found = np.zeros(len(flat), np.uint8)
    roots: cython.int[::1] = roots_.data
    kind: cython.uchar[::1] = flat.kind.data
    first: cython.int[::1] = flat.first.data
    left: cython.int[::1] = flat.left.data
    right: cython.int[::1] = flat.right.data
    needs: cython.uchar[::1] = wanted_.copy().data
    reached: cython.uchar[::1] = found.data
    size: cython.int = len(kind)
    i: cython.int
    t: cython.int
    k: cython.int
    code: cython.int
    for i in range(size):
        code = kind[i]
        if code in (LESS, LESS_EQUAL, DETACH) or code >= FIRST_FOLD:
            continue
        for t in range(first[i] + (code == WHERE), first[i + 1]):
            if needs[left[t]] or (right[t] >= 0 and needs[right[t]]):
                needs[i] = 1
                break
    for k in range(len(roots)):
        if needs[roots[k]]:
            reached[roots[k]] |= 1 << k
    for i in range(size - 1, -1, -1):
        if reached[i] == 0:
            continue
        for t in range(first[i] + (kind[i] == WHERE), first[i + 1]):
            if needs[left[t]]:
                reached[left[t]] |= reached[i]
            if right[t] >= 0 and needs[right[t]]:
                reached[right[t]] |= reached[i]
    return found


def contributions(
    flat: Flat, reached: NDArray[np.uint8], brief: NDArray[np.uint8]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]:
    """Who passes a gradient on to each node: terms and slots, in the order of `backward`.

    Those of node i are `terms[targets[i]:targets[i + 1]]`; slot 0 is the left factor. Selections
    that are `brief` pass nothing on here.
    """
    order: cython.int[::1] = _backward(flat, reached, brief).data
    left: cython.int[::1] = flat.left.data
    right: cython.int[::1] = flat.right.data
    live: cython.uchar[::1] = reached.data
    targets = np.zeros(len(flat) + 1, np.int32)
    ends: cython.int[::1] = targets.data
    i: cython.int
    t: cython.int
    k: cython.int
    for k in range(len(order)):
        t = order[k]
        if live[left[t]]:
            ends[left[t] + 1] += 1
        if right[t] >= 0 and live[right[t]]:
            ends[right[t] + 1] += 1
    for i in range(len(live)):
        ends[i + 1] += ends[i]
    terms = np.empty(max(int(targets[len(flat)]), 1), np.int32)
    slots = np.empty(max(int(targets[len(flat)]), 1), np.uint8)
    found: cython.int[::1] = terms.data
    side: cython.uchar[::1] = slots.data
    fill: cython.int[::1] = targets.copy().data
    for k in range(len(order)):
        t = order[k]
        i = left[t]
        if live[i]:
            found[fill[i]] = t
            side[fill[i]] = 0
            fill[i] += 1
        i = right[t]
        if i >= 0 and live[i]:
            found[fill[i]] = t
            side[fill[i]] = 1
            fill[i] += 1
    return targets, terms, slots


def _backward(
    flat: Flat, reached: NDArray[np.uint8], brief_: NDArray[np.uint8]
) -> NDArray[np.int32]:
    """The terms that pass a gradient on, in the order in which they do.

    By descending origin: a counting sort, stable within an origin.
    """
    highest: cython.int = int(flat.origin.max()) if len(flat.origin) else 0
    kind: cython.uchar[::1] = flat.kind.data
    first: cython.int[::1] = flat.first.data
    origin: cython.int[::1] = flat.origin.data
    live: cython.uchar[::1] = reached.data
    brief: cython.uchar[::1] = brief_.data
    place: cython.int[::1] = np.zeros(highest + 2, np.int32).data
    i: cython.int
    t: cython.int
    k: cython.int
    for i in range(len(kind)):
        if live[i] and not brief[i]:
            for t in range(first[i] + (kind[i] == WHERE), first[i + 1]):
                place[highest - origin[t] + 1] += 1
    for k in range(highest + 1):
        place[k + 1] += place[k]
    terms = np.empty(place[highest + 1], np.int32)
    if not len(terms):
        return terms
    order: cython.int[::1] = terms.data
    for i in range(len(kind)):
        if live[i] and not brief[i]:
            for t in range(first[i] + (kind[i] == WHERE), first[i + 1]):
                order[place[highest - origin[t]]] = t
                place[highest - origin[t]] += 1
    return terms
