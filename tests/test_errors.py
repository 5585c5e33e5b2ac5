"""The exceptions: what each is caught as, says, and survives."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from scalargrad import errors

pytestmark = pytest.mark.pure

# What code that knows nothing of scalargrad would catch.
BUILTIN = {
    "StaleGraphError": RuntimeError,
    "AnomalyError": ArithmeticError,
    "TraceError": RuntimeError,
    "UnrepeatableError": RuntimeError,
    "ShapeError": ValueError,
    "StateError": ValueError,
    "DataError": ValueError,
    "CheckpointError": ValueError,
    "GradientError": AssertionError,
    "VerifyError": AssertionError,
    "MissingExtraError": ImportError,
}
CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, BaseException)
}
everyone = pytest.mark.parametrize("name", BUILTIN)


def example(name: str) -> Exception:
    if name == "MissingExtraError":
        return errors.MissingExtraError("matplotlib", "plot", "drawing a curve")
    error: Exception = CLASSES[name]("x: expected 2, got 3: pass 2")
    return error


def test_every_exception_is_listed() -> None:
    assert set(CLASSES) == {"ScalargradError", *BUILTIN}


@everyone
def test_an_exception_is_caught_by_either_name(name: str) -> None:
    kind = CLASSES[name]
    assert issubclass(kind, errors.ScalargradError)
    assert issubclass(kind, BUILTIN[name])
    assert kind.__doc__
    for caught in (kind, errors.ScalargradError, BUILTIN[name], Exception):
        with pytest.raises(caught):
            raise example(name)


@everyone
def test_an_exception_survives_a_process_boundary(name: str) -> None:
    error = example(name)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        other = pickle.loads(pickle.dumps(error, protocol))
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert other.args == error.args
    assert str(copy.copy(error)) == str(error)


def test_a_missing_library_is_named_with_the_remedy() -> None:
    error = errors.MissingExtraError("matplotlib", "plot", "drawing a curve")
    assert str(error) == (
        "drawing a curve needs matplotlib, which is not installed: "
        "pip install 'scalargrad[plot]' adds it"
    )
    assert (error.library, error.extra, error.purpose) == ("matplotlib", "plot", "drawing a curve")
    other = pickle.loads(pickle.dumps(error))
    assert (other.library, other.extra, other.purpose) == ("matplotlib", "plot", "drawing a curve")
