"""The parameters of all traces, side by side."""

from __future__ import annotations

import numpy as np
import pytest

from scalargrad import Value
from scalargrad.compiler.parameters import ParameterList

pytestmark = pytest.mark.pure


def test_in_creation_order_and_once() -> None:
    a, b, c = Value(1.0), Value(2.0), Value(3.0)
    known = ParameterList()
    known.add([b, c])
    known.add([a, b])
    known.add([])
    assert known.values == [a, b, c]


def test_spread() -> None:
    a, b, c = Value(1.0), Value(2.0), Value(3.0)
    known = ParameterList()
    known.add([a, b, c])
    assert known.spread([c, a], np.array([3.0, 1.0])).tolist() == [1.0, 0.0, 3.0]
    whole = np.array([1.0, 2.0, 3.0])
    spread = known.spread([a, b, c], whole)
    assert spread.tolist() == whole.tolist()
    assert not np.shares_memory(spread, whole)
