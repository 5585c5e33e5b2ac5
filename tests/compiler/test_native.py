"""Native code against the reference executor, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

pytest.importorskip("llvmlite")

from compiler.loop_cases import (  # type: ignore[import-not-found]
    apply_cases,
    contract_cases,
    places_written,
    select_cases,
    walk_cases,
)

from scalargrad.compiler import native
from scalargrad.compiler.loops import Loops, Space
from scalargrad.compiler.reference import execute

SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None)


def bits(numbers: np.ndarray) -> np.ndarray:
    """Numbers as integers, every nan alike: IEEE leaves a nan's sign and payload open."""
    plain = np.where(np.isnan(numbers), np.nan, numbers)
    return plain.astype(np.float64).view(np.int64)


def agree(loops: Loops, inputs: Mapping[Space, np.ndarray], batch: int | None) -> None:
    """Native code gives the reference executor's bits wherever the program writes."""
    expected = execute(loops, inputs, batch)
    got = native.build(loops, batch).execute(inputs)
    for space, places in places_written(loops).items():
        if space in got:
            np.testing.assert_array_equal(
                bits(got[space][..., places]), bits(expected[space][..., places]), space.name
            )


@SLOW
@given(contract_cases())
def test_sums_of_any_form_have_the_bits_of_the_reference(case):
    agree(*case)


@SLOW
@given(apply_cases())
def test_operations_of_any_form_have_the_bits_of_the_reference(case):
    agree(*case)


@SLOW
@given(select_cases())
def test_indicators_and_takes_have_the_bits_of_the_reference(case):
    agree(*case)


@SLOW
@given(walk_cases())
def test_code_without_structure_has_the_bits_of_the_reference(case):
    agree(*case)
