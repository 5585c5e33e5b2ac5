"""The Rosenbrock example: SciPy converges with our gradients, and they are right."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import scalargrad
from scalargrad.compiler import compile
from scalargrad.transforms import grad, hessian, value_and_grad

pytestmark = pytest.mark.pure

optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")

EXAMPLE = Path(__file__).parent.parent / "examples" / "rosenbrock.py"
DIMENSIONS = 50 if scalargrad.compiled else 10


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rosenbrock_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_gradients_and_curvature_are_those_of_scipy(example: ModuleType) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        x = rng.normal(size=DIMENSIONS)
        value, slopes = value_and_grad(example.rosenbrock)(x)
        assert value == pytest.approx(optimize.rosen(x), rel=1e-14)
        np.testing.assert_allclose(slopes, optimize.rosen_der(x), rtol=1e-12, atol=1e-11)
        curvature = hessian(example.rosenbrock)(x)
        np.testing.assert_allclose(curvature, optimize.rosen_hess(x), rtol=1e-12, atol=1e-11)


def test_compiled_and_eager_give_the_same_bits(example: ModuleType) -> None:
    x = np.random.default_rng(1).normal(size=DIMENSIONS)
    compiled = compile(example.rosenbrock)
    eager_value, eager = value_and_grad(example.rosenbrock)(x)
    value, slopes = value_and_grad(compiled)(x)
    assert value == eager_value
    assert slopes.tobytes() == eager.tobytes()
    assert slopes.dtype == np.float64
    np.testing.assert_array_equal(compile(grad(example.rosenbrock))(x), eager)
    np.testing.assert_array_equal(
        compile(hessian(example.rosenbrock))(x), hessian(example.rosenbrock)(x)
    )


@pytest.mark.parametrize("way", ["by_gradients", "by_curvature"])
def test_it_converges(example: ModuleType, way: str) -> None:
    found = getattr(example, way)(DIMENSIONS)
    assert found.fun < 1e-10
    np.testing.assert_allclose(found.x, 1.0, atol=1e-8)


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B", "CG"])
def test_minimize_takes_an_eager_value_and_grad(example: ModuleType, method: str) -> None:
    found = optimize.minimize(
        value_and_grad(example.rosenbrock),
        np.array([-1.2, 1.0, -0.5, 0.8]),
        jac=True,
        method=method,
        options={"gtol": 1e-10} | ({"ftol": 1e-20} if method == "L-BFGS-B" else {}),
    )
    assert found.fun < 1e-10


def test_the_example_runs_and_says_how_it_went(
    example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    if not scalargrad.compiled:
        pytest.skip("minutes on the uncompiled engine")
    example.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["BFGS", "Newton"]
    assert all("every coordinate within" in line for line in lines)
