"""The exceptions scalargrad raises on purpose.

Each is also the built-in exception a caller would expect (`ValueError`, `ImportError`, ...), so
code written without scalargrad in mind still catches it. Every message names the argument, what
was got, what was expected and what to do.
"""

from __future__ import annotations


class ScalargradError(Exception):
    """Base of every exception defined here."""


class StaleGraphError(ScalargradError, RuntimeError):
    """`backward()` on a graph whose numbers were changed after it was built."""


class AnomalyError(ScalargradError, ArithmeticError):
    """A value or gradient became inf or nan inside `detect_anomaly()`."""


class TraceError(ScalargradError, RuntimeError):
    """A number was read where the program, or the derivative, would not know what it came from."""


class UnrepeatableError(TraceError):
    """A traced function draws random numbers: each call of it is another program."""


class ShapeError(ScalargradError, ValueError):
    """Two things that must have the same length, or a stated one, have not."""


class StateError(ScalargradError, ValueError):
    """A state dictionary with missing, extra or wrong-sized entries."""


class DataError(ScalargradError, ValueError):
    """A data file that is damaged or is not what its name says."""


class CheckpointError(ScalargradError, ValueError):
    """A checkpoint or saved model that cannot be read back."""


class GradientError(ScalargradError, AssertionError):
    """`check_grads` found a derivative that disagrees with finite differences."""


class VerifyError(ScalargradError, AssertionError):
    """A compiler pass produced a program that breaks the rules of its own form."""


class MissingExtraError(ScalargradError, ImportError):
    """An optional library is needed for this and is not installed."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {library}, which is not installed: "
            f"pip install 'scalargrad[{extra}]' adds it"
        )
        self.library, self.extra, self.purpose = library, extra, purpose

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        return MissingExtraError, (self.library, self.extra, self.purpose)
