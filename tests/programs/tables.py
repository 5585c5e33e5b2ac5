"""Dynamic programs: tables filled from one corner, whose entries on a diagonal have no order."""

from __future__ import annotations

import random
from typing import Any

import scalargrad as sg
from scalargrad import Value

from .case import Case, Made


def alignment(size: int = 6) -> Case:
    """The least cost of turning the first `size` arguments into the others, Wagner & Fischer (1974)

    with a learned cost for leaving a number out, adding one, and changing one into another.
    """

    def make(rng: random.Random) -> Made:
        out, added, changed = (Value(rng.uniform(0.5, 1.5)) for _ in range(3))

        def cost(x: list[Value], _: list[Any]) -> Value:
            before = [Value(0.0)]
            for _j in range(size):
                before.append(before[-1] + added)
            for i in range(size):
                row = [before[0] + out]
                for j in range(size):
                    apart = x[i] - x[size + j]
                    other = sg.minimum(row[-1] + added, before[j + 1] + out)
                    row.append(sg.minimum(other, before[j] + apart * apart * changed))
                before = row
            return before[-1]

        return [out, added, changed], cost

    return Case(f"alignment of {size} and {size} numbers", make, 2 * size)
