"""micrograd's programs, run by scalargrad: the same numbers from the same seeds.

The programs below take `Value` and `MLP` as arguments, and are otherwise what a reader of
micrograd would write. micrograd itself needs more than a second for a step of the moons program,
so its losses are recorded here; a few steps also run side by side.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scalargrad.nn
from scalargrad import Value, losses

OURS = SimpleNamespace(Value=Value, MLP=scalargrad.nn.MLP, nn=scalargrad.nn)


@pytest.fixture(scope="module")
def micrograd() -> SimpleNamespace:
    engine = pytest.importorskip("micrograd.engine")
    nn = pytest.importorskip("micrograd.nn")
    return SimpleNamespace(Value=engine.Value, MLP=nn.MLP, nn=nn)


def numbers(values: Any) -> list[float]:
    return [float(v.data) for v in values]


# --- the moons program: max-margin loss, L2 penalty, decaying learning rate ------------------------


def moons(package: Any, steps: int, alpha: float = 1e-4) -> tuple[list[float], list[int], Any]:
    """The losses and the numbers of correct answers of each step, and the model."""
    datasets = pytest.importorskip("sklearn.datasets")
    np.random.seed(1337)  # noqa: NPY002
    random.seed(1337)
    inputs, labels = datasets.make_moons(n_samples=100, noise=0.1)
    labels = labels * 2 - 1
    model = package.MLP(2, [16, 16, 1])
    totals, correct = [], []
    for k in range(steps):
        scores = [model([package.Value(x) for x in row]) for row in inputs]
        margins = [(1 + -y * score).relu() for y, score in zip(labels, scores)]
        penalty = alpha * sum(p * p for p in model.parameters())
        total = sum(margins) * (1.0 / len(margins)) + penalty
        model.zero_grad()
        total.backward()
        for p in model.parameters():
            p.data -= (1.0 - 0.9 * k / 100) * p.grad
        totals.append(float(total.data))
        correct.append(sum((y > 0) == (s.data > 0) for y, s in zip(labels, scores)))
    return totals, correct, model


def test_all_hundred_steps_of_the_moons_program() -> None:
    totals, correct, model = moons(OURS, 100)
    assert totals == pytest.approx(MOONS_LOSSES, rel=0, abs=1e-9)
    assert correct == MOONS_CORRECT
    assert len(model.parameters()) == 337


@pytest.mark.pure
def test_the_first_steps_of_the_moons_program() -> None:
    totals, correct, _ = moons(OURS, 3)
    assert totals == pytest.approx(MOONS_LOSSES[:3], rel=0, abs=1e-9)
    assert correct == MOONS_CORRECT[:3]


def test_moons_side_by_side(micrograd: SimpleNamespace) -> None:
    ours, theirs = moons(OURS, 4), moons(micrograd, 4)
    assert ours[0] == pytest.approx(theirs[0], rel=0, abs=1e-9)
    assert ours[1] == theirs[1]
    assert numbers(ours[2].parameters()) == pytest.approx(
        numbers(theirs[2].parameters()), rel=0, abs=1e-9
    )
    gradients = [[float(p.grad) for p in run[2].parameters()] for run in (ours, theirs)]
    assert gradients[0] == pytest.approx(gradients[1], rel=0, abs=1e-9)


def test_a_program_that_differs_is_caught() -> None:
    totals, _, _ = moons(OURS, 2, alpha=1.001e-4)
    assert totals != pytest.approx(MOONS_LOSSES[:2], rel=0, abs=1e-9)


def test_the_hinge_loss_is_the_programs_margin() -> None:
    model = scalargrad.nn.MLP(2, [4, 1], rng=random.Random(0))
    for x, y in (([0.5, -1.0], 1), ([2.0, 0.25], -1), ([-3.0, 1.0], 1)):
        score = model(x)
        assert losses.hinge(score, y).data == (1 + -y * score).relu().data


# --- the 3-4-4-1 network of the lecture -----------------------------------------------------------

LECTURE_INPUTS = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
LECTURE_TARGETS = [1.0, -1.0, -1.0, 1.0]


def lecture(package: Any, steps: int, seed: int = 42) -> tuple[list[float], Any]:
    random.seed(seed)
    model = package.MLP(3, [4, 4, 1])
    totals = []
    for _ in range(steps):
        predictions = [model(x) for x in LECTURE_INPUTS]
        loss = sum((p - y) ** 2 for p, y in zip(predictions, LECTURE_TARGETS))
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data += -0.01 * p.grad
        totals.append(float(loss.data))
    return totals, model


@pytest.mark.pure
@pytest.mark.parametrize("seed", range(4))
def test_the_lectures_network_side_by_side(micrograd: SimpleNamespace, seed: int) -> None:
    ours, theirs = lecture(OURS, 30, seed), lecture(micrograd, 30, seed)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-9)
    assert numbers(ours[1].parameters()) == pytest.approx(
        numbers(theirs[1].parameters()), rel=0, abs=1e-9
    )


@pytest.mark.pure
def test_the_lectures_network_as_recorded() -> None:
    totals, model = lecture(OURS, 20)
    assert totals == pytest.approx(LECTURE_LOSSES, rel=1e-9)
    assert len(model.parameters()) == 41


# --- the same structure, draws and text -----------------------------------------------------------


@pytest.mark.pure
@given(
    st.integers(1, 4),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(0, 2**31),
)
@settings(max_examples=20)
def test_networks_start_alike_and_compute_alike(nin: int, nouts: list[int], seed: int) -> None:
    theirs_nn = pytest.importorskip("micrograd.nn")
    random.seed(seed)
    ours = scalargrad.nn.MLP(nin, nouts)
    state = random.getstate()
    random.seed(seed)
    theirs = theirs_nn.MLP(nin, nouts)
    assert random.getstate() == state
    assert repr(ours) == repr(theirs)
    assert numbers(ours.parameters()) == numbers(theirs.parameters())
    if 1 in nouts[:-1]:
        return  # micrograd cannot feed a layer from a single neuron
    x = [0.5 - k for k in range(nin)]
    outputs: Sequence[Any] = [ours(x), theirs(x)]
    if nouts[-1] == 1:
        outputs = [[y] for y in outputs]
    assert numbers(outputs[0]) == pytest.approx(numbers(outputs[1]), rel=1e-14)


@pytest.mark.pure
@pytest.mark.parametrize(
    "build",
    [
        lambda nn: nn.Neuron(3),
        lambda nn: nn.Neuron(3, False),
        lambda nn: nn.Neuron(3, nonlin=False),
        lambda nn: nn.Layer(3, 2),
        lambda nn: nn.Layer(3, 2, nonlin=False),
        lambda nn: nn.MLP(3, [2, 2]),
    ],
)
def test_every_way_to_build(micrograd: SimpleNamespace, build: Callable[[Any], Any]) -> None:
    random.seed(7)
    ours = build(scalargrad.nn)
    random.seed(7)
    theirs = build(micrograd.nn)
    assert repr(ours) == repr(theirs)
    assert numbers(ours.parameters()) == numbers(theirs.parameters())
    y, expected = ours([1.0, -2.0, 3.0]), theirs([1.0, -2.0, 3.0])
    one = not isinstance(y, list)
    assert numbers([y] if one else y) == pytest.approx(
        numbers([expected] if one else expected), rel=1e-14
    )


# --- numbers computed by micrograd 0.1.0 ----------------------------------------------------------

LECTURE_LOSSES = [
    4.737555695027552,
    4.533511003815975,
    4.329293653643479,
    4.151545364398278,
    3.992695524701877,
    3.847671892777515,
    3.7129290833394117,
    3.5859070355888414,
    3.4647119096542434,
    3.3479190931846645,
    3.257409143117422,
    3.1959597853865445,
    3.132993734268348,
    3.0677671311720225,
    3.012234512960833,
    2.9496555397525643,
    2.874108962397365,
    2.805840559266271,
    2.7371494501760436,
    2.675308071561177,
]

_CORRECT = """
    50 81 77 82 84 86 89 91 91 91 91 92 91 93 92 93 92 93 94 93
    91 93 97 95 95 95 92 95 97 96 95 97 95 97 97 98 96 99 95 98
    100 96 99 97 100 97 99 100 99 99 96 99 100 97 99 100 98 100 100 100
    99 100 100 100 99 100 99 100 100 99 100 100 100 100 100 100 100 100 100 100
    100 100 100 100 100 100 100 100 100 100 100 100 100 100 100 100 100 100 100 100
"""

_LOSSES = """
    0.8958441028683222 1.723590533697202 0.7429006313851133 0.7705641260584202
    0.36927933859765383 0.313545481918522 0.28142343497724337 0.2688873331398391
    0.2567147286057416 0.2704862551637922 0.2450702385365803 0.2509905529791504
    0.21560951851922944 0.23090378446402732 0.2015215122789943 0.22574506279282222
    0.19447987596204103 0.21089496199246366 0.15983077356303588 0.1845374874688391
    0.1897752285608764 0.19072704042579652 0.11733695088756485 0.12173524408232453
    0.12615712612770452 0.16049097780801663 0.1874719770524581 0.16741837891059408
    0.09586583491455405 0.08778783707420909 0.1173129756901185 0.09340146460619823
    0.12454454903103451 0.07984002652777274 0.07727519232921687 0.07661250143094464
    0.10610492379198366 0.09062808429265964 0.10671887043036932 0.05225659921975857
    0.06016009895234451 0.08596724533333945 0.05112107943179594 0.0524014240164284
    0.0453068417900155 0.07211073370655106 0.03334238651310238 0.031432227957511195
    0.03658536747111524 0.04829139382390262 0.09875114765619633 0.05449063965875466
    0.033926794357082915 0.05261517263568454 0.03250295251424938 0.02888327387207805
    0.04139151104027251 0.018987407426128457 0.025238335238837506 0.020796565213418786
    0.03259711157810244 0.017863351693480245 0.02300871783221179 0.022079325463581365
    0.029432917853529812 0.016251514644091813 0.028468534483264592 0.01399436554620875
    0.01555234484365126 0.03389119946160184 0.014229870065926941 0.013255281583285532
    0.012300277590022085 0.012676052498355872 0.020593811955954812 0.011845398205364491
    0.01601269747288297 0.025458360239222173 0.014382930289661939 0.011698962425818032
    0.012318500800515698 0.014121117031464268 0.011664591962446255 0.011589314549188698
    0.010990299347735225 0.010989226720691614 0.010988193757655071 0.010987200447388703
    0.010986246779084925 0.010985332742365276 0.010984458327280174 0.010983623524308865
    0.010982828324359071 0.010982072718767008 0.010981356699297043 0.010980680258141725
    0.01098004338792151 0.010979446081684675 0.010978888332907227 0.010978370135492719
"""

MOONS_CORRECT = [int(count) for count in _CORRECT.split()]
MOONS_LOSSES = [float(loss) for loss in _LOSSES.split()]
