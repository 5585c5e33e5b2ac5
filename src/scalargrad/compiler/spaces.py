"""The arrays of a program, by what they are for: what a call of it needs to know of its `Loops`."""

from __future__ import annotations

from enum import IntEnum


class Space(IntEnum):
    """The arrays of a program."""

    PARAMETER = 0
    ARGUMENT = 1
    EXAMPLE = 2
    CONSTANT = 3
    SCALAR = 4
    TEMPORARY = 5
    BATCHED = 6
    PARAMETER_GRADIENT = 7
    ARGUMENT_GRADIENT = 8
    EXAMPLE_GRADIENT = 9
    OUTPUT = 10
    EXAMPLE_OUTPUT = 11
    STATE = 12
    INDEX = 13
    EXAMPLE_INDEX = 14

    @property
    def batched(self) -> bool:
        """Whether an element holds one number per example."""
        return self in _BATCHED

    @property
    def short(self) -> str:
        """The name in printed programs."""
        return _SHORT[self]


_BATCHED = frozenset(
    (
        Space.EXAMPLE,
        Space.BATCHED,
        Space.EXAMPLE_GRADIENT,
        Space.EXAMPLE_OUTPUT,
        Space.EXAMPLE_INDEX,
    )
)
_NAMES = ("p", "a", "x", "c", "s", "t", "u", "gp", "ga", "gx", "y", "z", "m", "i", "j")
_SHORT = dict(zip(Space, _NAMES))
INPUTS = (
    *(Space.PARAMETER, Space.ARGUMENT, Space.EXAMPLE, Space.CONSTANT, Space.SCALAR, Space.STATE),
    *(Space.INDEX, Space.EXAMPLE_INDEX),
)
INTEGERS = (Space.INDEX, Space.EXAMPLE_INDEX)
RESULTS = (
    *(Space.PARAMETER_GRADIENT, Space.ARGUMENT_GRADIENT, Space.EXAMPLE_GRADIENT),
    *(Space.OUTPUT, Space.EXAMPLE_OUTPUT),
)
IN_OUT = (Space.PARAMETER, Space.STATE)

SCALARS = 2  # the gradient of each example's loss, and the number of examples
SEED, BATCH = 0, 1
