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


def soft_alignment(size: int = 5) -> Case:
    """Soft dynamic time warping, Cuturi & Blondel (2017): least costs are smooth minima.

    How smooth they are is learned, and how much it costs to be apart.
    """

    def make(rng: random.Random) -> Made:
        smooth, apart = Value(rng.uniform(0.3, 0.6)), Value(rng.uniform(0.5, 1.5))

        def least(costs: list[Any]) -> Value:
            lower = [-(cost / smooth) for cost in costs]
            top = sg.maximum(*lower)
            return -smooth * (top + sg.total((x - top).exp() for x in lower).log())

        def cost(x: list[Value], _: list[Any]) -> Value:
            before: list[Any] = [0.0, *[1e6] * size]
            for i in range(size):
                row: list[Any] = [1e6]
                for j in range(size):
                    distance = (x[i] - x[size + j]) ** 2 * apart
                    row.append(distance + least([before[j + 1], row[j], before[j]]))
                before = row
            result = before[-1]
            assert isinstance(result, Value)
            return result

        return [smooth, apart], cost

    return Case(f"soft alignment of {size} and {size} numbers", make, 2 * size)


def option(steps: int = 8) -> Case:
    """An American put in a binomial tree, Cox, Ross & Rubinstein (1979); the argument is its strike.

    Its gradient are its "Greeks".
    """

    def make(rng: random.Random) -> Made:
        price, rate, spread = Value(100.0), Value(0.03), Value(rng.uniform(0.2, 0.3))

        def worth(x: list[Value], _: list[Any]) -> Value:
            strike, dt = 100.0 + 5.0 * x[0], 1.0 / steps
            up = (spread * dt**0.5).exp()
            down, discount = 1.0 / up, (-rate * dt).exp()
            chance = ((rate * dt).exp() - down) / (up - down)

            def now(i: int, j: int) -> Value:
                return sg.maximum(strike - price * up**j * down ** (i - j), 0.0)

            values = [now(steps, j) for j in range(steps + 1)]
            for i in reversed(range(steps)):
                held = [
                    discount * (chance * values[j + 1] + (1.0 - chance) * values[j])
                    for j in range(i + 1)
                ]
                values = [sg.maximum(value, now(i, j)) for j, value in enumerate(held)]
            return values[0]

        return [price, rate, spread], worth

    return Case(f"an option in {steps} steps", make, 1)
