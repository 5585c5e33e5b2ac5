"""Which of two that give the same answers is the quicker.

Native code of a graph without structure goes through its operations one by one, as the interpreter
does, and is quicker at it. But the interpreter leaves out what lies below a gradient of zero: where
that is most of a graph, as beside branches that are not taken, it may be done first. What numbers
will come cannot be known when the code is written, so the two answer some calls in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import thread_time
from typing import TypeVar

Result = TypeVar("Result")

ROUNDS = 3  # calls that each of them answers
LONG_WAY = 1e-5  # seconds that a call takes on top where it is not the code that answers it
REST = 64  # calls that the interpreter answers, once it has won, before it has to win again


class Contest:
    """Between the interpreter and native code: calls in turn, then all for the quicker one.

    As numbers change, so may the share that the interpreter leaves out. So where it has won, there
    is another contest later on, each time after twice as many calls.
    """

    def __init__(self) -> None:
        self._rest, self._resting = REST, 0
        self._begin()

    def _begin(self) -> None:
        self._left, self._best = 2 * ROUNDS, {False: inf, True: inf}
        self.code = False  # whether the code is to answer the next call

    @property
    def won(self) -> bool:
        """Whether the code answers all calls from now on."""
        return self.code and not self._left

    def timed(self, run: Callable[[], Result]) -> Result:
        """Run whoever is to answer the next call."""
        if not self._left:
            self._resting -= 1
            if not (self.code or self._resting):
                self._begin()
            return run()
        began = thread_time()
        result = run()
        self._best[self.code] = min(self._best[self.code], thread_time() - began)
        self._left -= 1
        if self._left:
            self.code = not self.code
        else:
            self.code = self._best[True] <= self._best[False] + LONG_WAY
            self._resting, self._rest = self._rest, 2 * self._rest
        return result
