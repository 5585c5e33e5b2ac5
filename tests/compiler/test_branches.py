"""Branches: finding the one that answers, also where a back end rounds otherwise than the trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scalargrad.compiler import compile, variant
from scalargrad.compiler.program import BACKENDS, Backend, Interpreter, Options
from scalargrad.errors import TraceError

pytestmark = pytest.mark.pure


class Nearly(Interpreter):
    """The interpreter, with an error in the outcome of comparisons of nearly equal numbers."""

    def forward(self, rows: Any) -> Any:
        outputs = super().forward(rows)
        nearly = np.abs(rows[:, 0]) < 1e-6
        outputs[nearly, 1:] = 1.0 - outputs[nearly, 1:]
        return outputs


@pytest.fixture
def nearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        variant,
        "BACKENDS",
        dict.fromkeys(BACKENDS, Backend(Nearly, ("float64",), ("exact", "fast"))),
    )


@pytest.mark.usefixtures("nearly")
def test_fast_mode_lets_the_program_s_own_comparison_stand() -> None:
    f = compile(lambda x: x + 10.0 if x > 0 else x - 10.0, mode="fast")
    assert f(1.0) == 11.0
    assert f(-1.0) == -11.0
    assert abs(abs(f(1e-9)) - 10.0) < 1e-6  # either side, but an answer
    assert f(1.0) == 11.0
    g = compile(lambda x: x + 10.0 if x > 0 else x - 10.0, mode="fast")
    assert abs(abs(g(1e-9)) - 10.0) < 1e-6
    assert g(-1.0) == -11.0


@pytest.mark.usefixtures("nearly")
def test_exact_mode_does_not() -> None:
    f = compile(lambda x: x + 10.0 if x > 0 else x - 10.0)
    assert f(1.0) == 11.0
    with pytest.raises(TraceError, match="come out differently each time"):
        f(1e-9)


def test_a_function_that_answers_otherwise_when_traced_again() -> None:
    thresholds = iter((0.0, -5.0))
    f = compile(lambda x: x if x > next(thresholds) else -x)
    assert f(1.0) == 1.0
    with pytest.raises(TraceError, match=r"something besides its arguments and parameters"):
        f(-1.0)


def test_the_latest_branch_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    genuine = variant.Variant.forward
    monkeypatch.setattr(
        variant.Variant, "forward", lambda self, rows: runs.append(1) or genuine(self, rows)
    )
    f = compile(lambda x: x if x > 0 else -x)
    for x in (1.0, -1.0, -2.0, -3.0, 4.0, 5.0):
        f(x)
    assert len(runs) == 6 + 2  # one more each time the branch changed


def test_options_say_when_rounding_may_differ() -> None:
    assert Options().mode == "exact"
    f = compile(lambda x: x, mode="fast")
    f(1.0)
    assert [b._rounds for b in f._branches.values()] == [True]
