"""Which of two that give the same answers is the quicker.

Native code of a graph without structure goes through its operations one by one, as the interpreter
does, and is quicker at it. But the interpreter leaves out what lies below a gradient of zero: where
that is most of a graph, as beside branches that are not taken, it may be done first. What numbers
will come cannot be known when the code is written, so the two answer some calls in turn.

Each answers several in a row. A processor learns by heart which way a program's branches go, and the
interpreter has one for every operation: what it has run some times it may run in a third of the time.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from math import inf
from time import thread_time
from typing import TypeVar

Result = TypeVar("Result")

ROUNDS = 8  # calls that each of them answers
# The interpreter's turn ends sooner where it has no hope: after so many calls, if the quickest of them
# took so many times what the code's quickest took.
ENOUGH, HOPELESS = 3, 4.0
LONG_WAY = 3e-6  # seconds that a call takes on top where it is not the code that answers it
LEAST = 1e-6  # seconds that any call takes
# What a contest may take, of the time until the next: 1 part in so many of it, in twice as many
# after the same one has won again.
OFTEN, SELDOM = 32, 1024


class Contest:
    """Between native code and the interpreter: calls in turn, then all for the quicker one.

    As numbers change, so may the share that the interpreter leaves out. So there is another contest
    later on, and another: often enough that the slower one is not asked for long, and so seldom
    that they take no time that counts.

    `rest` is an array of one number, how many calls remain until the next contest: positive where
    the code answers them, negative where the interpreter does, 0 during a contest. Who has code
    answer without asking here first counts it down. `seconds` are those of the latest contest, for
    a call answered by the interpreter and by the code; None before the end of the first.
    """

    def __init__(self) -> None:
        self.rest = array("q", [0])
        self.seconds: tuple[float, float] | None = None
        self._patience = OFTEN
        self._winner: bool | None = None
        self._call_up()

    def _call_up(self) -> None:
        # Whose turn it is, whether the code's; how many calls of it are over; each one's quickest.
        self._code, self._calls, self._best = True, 0, {False: inf, True: inf}

    @property
    def code(self) -> bool:
        """Whether the code is to answer the next call."""
        rest = self.rest[0]
        return rest > 0 if rest else self._code

    @property
    def won(self) -> bool:
        """Whether the code answers all calls until the next contest."""
        return self.rest[0] > 0

    def timed(self, run: Callable[[], Result]) -> Result:
        """Run whoever is to answer the next call."""
        rest = self.rest[0]
        if rest:
            self.rest[0] = rest - 1 if rest > 0 else rest + 1
            return run()
        code, began = self._code, thread_time()
        result = run()
        self._best[code] = min(self._best[code], thread_time() - began)
        self._calls += 1
        if code and self._calls >= ROUNDS:
            self._code, self._calls = False, 0
        elif not code and (self._calls >= ROUNDS or self._hopeless):
            self._decide()
        return result

    @property
    def _hopeless(self) -> bool:
        interpreter, code = self._best[False], self._best[True]
        return self._calls >= ENOUGH and interpreter > HOPELESS * code + LONG_WAY

    def _decide(self) -> None:
        interpreter, code = self._best[False], self._best[True]
        won = code <= interpreter + LONG_WAY
        self._patience = min(2 * self._patience, SELDOM) if won is self._winner else OFTEN
        self._winner, self.seconds = won, (interpreter, code)
        quicker, slower = (code, interpreter) if won else (interpreter, code)
        calls = (self._calls if won else ROUNDS) * (slower + 2 * LONG_WAY) / (quicker + LEAST)
        self.rest[0] = int(self._patience * calls) * (1 if won else -1)
        self._call_up()
