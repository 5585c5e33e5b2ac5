"""What several test files check with: central differences, traceability, contrast of colours, a
planted error."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from scalargrad import Value

Function = Callable[[list[Value]], Value]


def gradient(f: Function, x: Sequence[float]) -> list[float]:
    """df/dx[k] for each k, by `backward`."""
    values = [Value(xk) for xk in x]
    f(values).backward()
    return [value.grad for value in values]


def central_differences(f: Function, x: Sequence[float]) -> list[float]:
    """(f(x + h) - f(x - h)) / 2h along each axis, h = 1e-6."""

    def shifted(k: int, h: float) -> float:
        return f([Value(xj + h * (j == k)) for j, xj in enumerate(x)]).data

    return [(shifted(k, 1e-6) - shifted(k, -1e-6)) / 2e-6 for k in range(len(x))]


def assert_gradient(f: Function, x: Sequence[float]) -> None:
    """Fail unless `backward` agrees with central differences at x."""
    assert gradient(f, x) == pytest.approx(central_differences(f, x), rel=1e-6, abs=1e-8)


def change_last_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have native code give every number with another last bit."""
    from scalargrad.compiler.native import Frame

    right = Frame.run

    def wrong(self: Frame) -> None:
        right(self)
        for array in self.arrays.values():
            if array.dtype == np.float64:
                array *= 1.0 + 2.0**-52

    monkeypatch.setattr(Frame, "run", wrong)


class ForbidReading:
    """A tracer that refuses every look at a number: what runs under it can be compiled."""

    def made(self, value: Value) -> None:
        pass

    def read(self, value: Value, what: str) -> None:
        raise AssertionError(f"{what} was read while tracing")

    def truth(self, value: Value) -> bool:
        raise AssertionError("bool() was asked while tracing")

    def compare(self, *_: object) -> bool:
        raise AssertionError("two Values were compared while tracing")


def contrast(a: str, b: str) -> float:
    """Of two colours such as "#1f2328", as WCAG 2 defines it."""
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
