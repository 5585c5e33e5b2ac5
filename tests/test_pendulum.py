"""The pendulum example: the physics is right, and the fit recovers what was hidden."""

from __future__ import annotations

import importlib.util
import math
import sys
from types import ModuleType

import pytest

import scalargrad as sg
from conftest import ROOT
from scalargrad import Value
from strategies import bits


@pytest.fixture(scope="module")
def pendulum() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pendulum", ROOT / "examples" / "pendulum.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pendulum"] = module
    spec.loader.exec_module(module)
    return module


def test_small_swings_are_harmonic(pendulum: ModuleType) -> None:
    length, damping, release = 0.8, 0.3, 1e-4
    angles = pendulum.swing(pendulum.Pendulum(length, damping, release))
    omega = math.sqrt(pendulum.GRAVITY / length - damping**2 / 4)
    for k, angle in enumerate(angles, 1):
        t = k * pendulum.STEP
        phase = math.cos(omega * t) + damping / (2 * omega) * math.sin(omega * t)
        assert angle == pytest.approx(release * math.exp(-damping * t / 2) * phase, abs=1e-9)


def test_without_damping_energy_is_kept(pendulum: ModuleType) -> None:
    body = pendulum.Pendulum(0.8, 0.0, 1.2)
    state = (body.release, 0.0)

    def energy(angle: float, speed: float) -> float:
        return 0.5 * speed**2 - pendulum.GRAVITY / body.length * math.cos(angle)

    before = energy(*state)
    for _ in range(pendulum.STEPS):
        state = pendulum.runge_kutta(lambda state: pendulum.rate(body, state), state)
    assert energy(*state) == pytest.approx(before, rel=1e-6)


def test_parameters_are_recovered(pendulum: ModuleType) -> None:
    found = pendulum.fit(pendulum.measure(pendulum.TRUTH, seed=1))
    assert found.pendulum.length == pytest.approx(0.8, abs=0.01)
    assert found.pendulum.damping == pytest.approx(0.35, abs=0.02)
    assert found.pendulum.release == pytest.approx(1.2, abs=0.02)
    assert found.misfits[-1] < 1.2 * pendulum.NOISE**2
    assert found.misfits[0] > 100 * found.misfits[-1]


def test_without_noise_they_are_recovered_exactly(
    pendulum: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pendulum, "NOISE", 0.0)
    found = pendulum.fit(pendulum.measure(pendulum.TRUTH, seed=1), steps=1200)
    assert list(found.pendulum) == pytest.approx(list(pendulum.TRUTH), abs=1e-4)


def test_compiled_is_eager_bit_for_bit(pendulum: ModuleType) -> None:
    measured = pendulum.measure(pendulum.TRUTH, seed=2)
    unknown = pendulum.Pendulum(*map(Value, pendulum.GUESS))
    eager = pendulum.misfit(unknown, [Value(x) for x in measured])
    eager.backward()
    expected = [bits(value.grad) for value in unknown]
    loss = sg.compile(lambda measured: pendulum.misfit(unknown, measured))
    value, gradient = loss.value_and_grad(measured)
    assert bits(value) == bits(eager.data)
    assert [bits(g) for g in gradient] == expected


def test_it_runs(pendulum: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    pendulum.main()
    text = capsys.readouterr().out
    assert "length        1.0000    0.79" in text or "length        1.0000    0.80" in text
    assert "times)" in text
