"""Sums of terms from chains of additions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scalargrad import Value, functional
from scalargrad.compiler import flat as flats
from scalargrad.compiler.flat import Flat, verify
from scalargrad.compiler.flatten import flatten
from scalargrad.compiler.loops import Space
from scalargrad.compiler.marks import marks_of
from scalargrad.errors import VerifyError
from scalargrad.graph import Graph

pytestmark = pytest.mark.pure


def flat_of(outputs, leaves, wanted=True) -> Flat:
    """The flat graph of outputs; `leaves` are parameters, other leaves constants."""
    graph = Graph(outputs)
    known = {id(v) for v in leaves}
    roles = [
        (Space.PARAMETER, 0.0) if id(v) in known else (Space.CONSTANT, v.data) for v in graph.leaves
    ]
    marks = marks_of(
        roles,
        [Space.CONSTANT] * len(graph.tape.index),
        wanted=(Space.PARAMETER,) if wanted else (),
    )
    return verify(flatten(graph.tape, marks)[0])


@pytest.fixture
def abcd():
    return [Value(x) for x in (2.0, -3.0, 0.5, 7.0)]


def lines(flat: Flat) -> list[str]:
    return [line for line in str(flat).splitlines() if "[" not in line]


def test_a_dot_product_is_one_node(abcd):
    a, b, c, d = abcd
    flat = flat_of(sum([a * b, c * d, a * d]), abcd)
    assert lines(flat)[1:] == ["v5 = 0.0 + v0 * v1 + v2 * v3 + v0 * v3"]


def test_terms_keep_their_order_and_origin(abcd):
    a, b, c, d = abcd
    early = c * d
    total = a + b
    flat = flat_of(total - early, abcd)
    assert lines(flat) == ["v4 = v0 + v1 - v2 * v3"]
    # The product was made first, so it is the last to pass its gradient on.
    assert flat.origin.tolist() == [5, 5, 4]


def test_signs_go_to_the_terms(abcd):
    a, b, c, _d = abcd
    assert lines(flat_of(-(a * b) - -c, abcd[:3])) == ["v3 = - v0 * v1 + v2"]
    assert lines(flat_of(-a, [a])) == ["v1 = - v0"]


def test_what_is_used_twice_stays(abcd):
    a, b, *_ = abcd
    product = a * b
    flat = flat_of(product + a + product, abcd[:2])
    assert lines(flat) == ["v2 = v0 * v1", "v3 = v2 + v0 + v2"]


def test_an_output_stays_though_used_once(abcd):
    a, b, c, _ = abcd
    inner = a + b
    flat = flat_of([inner + c, inner], abcd[:3])
    assert lines(flat) == ["v3 = v0 + v1", "v4 = v3 + v2"]


def test_a_sum_on_the_right_stays(abcd):
    a, b, c, _ = abcd
    assert lines(flat_of(a + (b + c), abcd[:3])) == ["v3 = v1 + v2", "v4 = v0 + v3"]


def test_only_plus_zero_is_a_start(abcd):
    a = abcd[0]
    assert lines(flat_of(0.0 + a, [a]))[-1] == "v2 = 0.0 + v0"
    assert lines(flat_of(-0.0 + a, [a]))[-1] == "v2 = v1 + v0"
    assert lines(flat_of(1.0 + a, [a]))[-1] == "v2 = v1 + v0"


def test_maxima_are_folded_where_no_gradient_flows(abcd):
    a, b, c, _ = abcd
    largest = functional.maximum(a, b, c)
    assert lines(flat_of(a * Value.apply("detach", largest), abcd[:3]))[0] == "v3 = max(v0, v1, v2)"
    assert lines(flat_of(largest, abcd[:3])) == ["v3 = max(v0, v1)", "v4 = max(v3, v2)"]
    assert lines(flat_of(largest, abcd[:3], wanted=False)) == ["v3 = max(v0, v1, v2)"]


def test_dead_code_and_fixed_selections(abcd):
    a, b, c, _ = abcd
    unused = a * 100.0  # noqa: F841
    flat = flat_of(Value.apply("take", a * b, b * c, const=1), abcd[:3])
    assert lines(flat) == ["v3 = v1 * v2", "v4 = v3"]


def corrupted(flat: Flat, **changes) -> Flat:
    return replace(flat, **changes)


def test_the_verifier_finds_planted_faults(abcd):
    a, b, *_ = abcd
    flat = flat_of((a * b).exp() + a, abcd[:2])
    later = flat.left.copy()
    later[0] = len(flat) - 1
    kind = flat.kind.copy()
    kind[-1] = 11  # exp, with the terms of a sum
    style = flat.style.copy()
    style[1] = flats.MINUS
    for broken, message in (
        (corrupted(flat, left=later), "left operand 4 is not before it"),
        (corrupted(flat, kind=kind), "kind 11 with 2 terms"),
        (corrupted(flat, style=style), "outside a sum"),
        (corrupted(flat, rank=flat.rank[1:]), "arrays of"),
        (corrupted(flat, first=flat.first[::-1].copy()), "expected to rise"),
        (corrupted(flat, space=np.where(flat.kind == 0, 2, 5).astype(np.uint8)), "not batched"),
    ):
        with pytest.raises(VerifyError, match=message):
            verify(broken)
