"""The branches of a function for calls of one signature: which one answers, and tracing new ones.

Asking the truth of a comparison splits a function in two, like a railway switch. Each trace goes
one way through all its switches. A call runs the branch that was taken last; if a guard shows
that this call takes another way at some switch, a branch that begins with the same outcomes and
goes the other way there is run instead, or traced if there is none.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import TraceError
from .arguments import Layout, filler
from .program import Options
from .structure import Floats
from .trace import trace
from .variant import Variant

VARIANTS = 64  # branches traced for one signature
ASKING = (
    "asking for the truth, as `if` and max() do, and of each number of an array numpy.maximum, "
    "clip, where and sort"
)


class Branches:
    """All branches traced for calls of one signature.

    `name` is the function's, for messages; `learn` is told of every new branch.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        layout: Layout,
        options: Options,
        learn: Callable[[Variant], None],
    ) -> None:
        self.layout = layout
        self.filler = filler(layout)
        self.variants: dict[tuple[bool, ...], Variant] = {}
        self._function, self._name, self._options = function, name, options
        self._learn = learn
        self._latest: Variant | None = None
        # Where arithmetic may round otherwise than the trace did, a comparison of two nearly equal
        # numbers may contradict it: then the program's own answer stands.
        self._rounds = options.mode == "fast" or options.dtype != "float64"

    def run(
        self, rows: Floats, work: Callable[[Variant, Floats], Floats]
    ) -> tuple[Variant, Floats]:
        """The branch that these numbers take, and its outputs, which `work` computes.

        Row 0 decides which branch that is; then all others must agree. Raises `TraceError` if
        they do not or if there are too many branches, `IndexError` for an index out of range.
        """
        variant = self._latest or self._traced(rows)
        if variant.is_unconditional:
            self._latest = variant
            return variant, work(variant, rows)
        tried = []
        while True:
            variant.require_exact(rows)
            outside = variant.selects_outside(rows)
            outputs = work(variant, rows)
            wrong = variant.flipped(outputs)
            if outside is not None:
                variant.require_in_range(rows, outside, wrong)
            if wrong is None:
                break
            if not wrong[0].any():
                self._refuse_mixture(variant, wrong)
            tried.append(variant)
            following = self._following(variant, wrong[0], rows)
            if following in tried:
                if not self._rounds:
                    self._refuse_contradiction()
                break
            variant = following
        self._latest = variant
        return variant, outputs

    def _following(self, variant: Variant, wrong: NDArray[np.bool_], rows: Floats) -> Variant:
        """A variant that goes the other way where this one first went wrong."""
        first = int(np.argmax(wrong))
        taken = (*variant.outcomes[:first], not variant.outcomes[first])
        for outcomes, known in self.variants.items():
            if outcomes[: first + 1] == taken:
                return known
        return self._traced(rows)

    def _traced(self, rows: Floats) -> Variant:
        if len(self.variants) >= VARIANTS:
            lines = Counter(
                f"{guard.text} at {guard.line}"
                for variant in self.variants.values()
                for guard in variant.trace.guards
            )
            shown = "; ".join(line for line, _ in lines.most_common(3))
            raise TraceError(
                f"{self._name}: {VARIANTS} branches were traced, one for each combination of "
                f"outcomes of its comparisons ({shown}). Use scalargrad.where, maximum or "
                f"minimum, which are part of one program, instead of {ASKING}"
            )
        start = time.perf_counter()
        traced = trace(self._function, self.layout.inputs(rows[0]))
        variant = Variant(traced, self._options, time.perf_counter() - start)
        self._learn(variant)
        return self.variants.setdefault(variant.outcomes, variant)

    def _refuse_contradiction(self) -> NoReturn:
        raise TraceError(
            f"{self._name}: its comparisons come out differently each time they are made: it "
            "depends on something besides its arguments and parameters (random numbers, say), or "
            "another thread changes its parameters meanwhile"
        )

    def _refuse_mixture(self, variant: Variant, wrong: NDArray[np.bool_]) -> NoReturn:
        example = int(np.argmax(wrong.any(axis=1)))
        guard = variant.trace.guards[int(np.argmax(wrong[example]))]
        raise TraceError(
            f"{self._name}: {guard.text} at {guard.line} is {guard.outcome} for example 0 and "
            f"{not guard.outcome} for example {example}: all examples of a batch run one "
            f"program. Use scalargrad.where, maximum or minimum instead of {ASKING}"
        )
