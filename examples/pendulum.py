"""Recover a pendulum's length and damping from noisy measurements of its angle.

A pendulum of length L with damping c swings by

    angle'' = -(g / L) * sin(angle) - c * angle'

There is no formula for the solution, so we integrate: 200 steps of the classical Runge-Kutta
method (RK4). The integrator is ordinary Python on single numbers. Because L, c and the angle at
which the pendulum was released are Values, the misfit between the simulated and the measured
angles knows its derivative with respect to all three, through all 200 steps, and gradient descent
finds the pendulum that explains the measurements.

    python examples/pendulum.py

Run eagerly, each evaluation makes some 13,000 nodes. `sg.compile` traces them once; from then on
the same program, to the last bit, runs without making any.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import scalargrad as sg
from scalargrad import Value

GRAVITY = 9.81  # m/s^2
STEP = 0.02  # s
STEPS = 200  # four seconds, a little more than two swings
NOISE = 0.02  # rad: the standard deviation of one measurement

Number = Any  # a float or a Value: the physics does not mind


class Pendulum(NamedTuple):
    """What we do not know: a length in m, a damping in 1/s, the angle of release in rad."""

    length: Number
    damping: Number
    release: Number


TRUTH = Pendulum(length=0.8, damping=0.35, release=1.2)
GUESS = Pendulum(length=1.0, damping=0.1, release=1.0)

State = tuple[Number, Number]  # angle, and its rate of change


def sine(angle: Number) -> Number:
    """sin for floats and Values alike."""
    return angle.sin() if isinstance(angle, Value) else math.sin(angle)


def rate(pendulum: Pendulum, state: State) -> State:
    """How fast the state changes: the equation of motion."""
    angle, speed = state
    return speed, -(GRAVITY / pendulum.length) * sine(angle) - pendulum.damping * speed


def moved(state: State, direction: State, time: float) -> State:
    """The state after following a direction for some time."""
    return state[0] + time * direction[0], state[1] + time * direction[1]


def runge_kutta(f: Callable[[State], State], state: State) -> State:
    """One step of RK4: the slope at the beginning, twice in the middle and at the end, averaged."""
    k1 = f(state)
    k2 = f(moved(state, k1, STEP / 2))
    k3 = f(moved(state, k2, STEP / 2))
    k4 = f(moved(state, k3, STEP))
    slope = tuple(a + 2 * b + 2 * c + d for a, b, c, d in zip(k1, k2, k3, k4))
    return moved(state, slope, STEP / 6)


def swing(pendulum: Pendulum) -> list[Number]:
    """The angle after each step, for a pendulum released at rest."""
    state: State = (pendulum.release, 0.0 * pendulum.release)
    angles = []
    for _ in range(STEPS):
        state = runge_kutta(lambda state: rate(pendulum, state), state)
        angles.append(state[0])
    return angles


def measure(pendulum: Pendulum, seed: int) -> list[float]:
    """Angles as a camera would see them: the true ones with normally distributed errors."""
    rng = random.Random(seed)
    return [angle + rng.gauss(0.0, NOISE) for angle in swing(pendulum)]


def misfit(pendulum: Pendulum, measured: Sequence[Number]) -> Number:
    """The mean squared difference between simulation and measurement, in rad^2."""
    return sum((a - b) ** 2 for a, b in zip(swing(pendulum), measured)) / STEPS


class Fit(NamedTuple):
    """The pendulum found, the misfit before each step, and seconds of the fastest step."""

    pendulum: Pendulum
    misfits: list[float]
    seconds: float


def fit(measured: Sequence[float], steps: int = 400) -> Fit:
    """Start from GUESS and follow the gradient of the misfit downhill, with Adam."""
    unknown = Pendulum(*(Value(number, name) for name, number in GUESS._asdict().items()))

    # The Values in `unknown` exist before the trace, so they are the parameters of the program;
    # the measurements are its argument.
    @sg.compile
    def loss(measured: list[Value]) -> Value:
        return misfit(unknown, measured)

    optimizer = sg.optim.Adam(list(unknown), lr=0.02)
    misfits = []
    seconds = math.inf
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        misfits.append(loss.backward(measured))
        optimizer.step()
        seconds = min(seconds, time.perf_counter() - start)
    return Fit(Pendulum(*(value.data for value in unknown)), misfits, seconds)


def eager_seconds(measured: Sequence[float]) -> float:
    """How long one evaluation with its gradient takes without compiling."""
    unknown = Pendulum(*map(Value, GUESS))
    start = time.perf_counter()
    misfit(unknown, measured).backward()
    return time.perf_counter() - start


def main() -> None:
    """Measure a pendulum, forget what it was, and find it again."""
    measured = measure(TRUTH, seed=1)
    found = fit(measured)
    print(f"{STEPS} angles, each wrong by about {NOISE} rad")
    print(
        f"misfit: {found.misfits[0]:.6f} at the start, {found.misfits[-1]:.6f} at the end", end=""
    )
    print(f" (the noise alone: {NOISE**2:.6f})")
    print(f"\n{'':10}{'start':>10}{'found':>10}{'true':>10}")
    for name, start, here, true in zip(TRUTH._fields, GUESS, found.pendulum, TRUTH):
        print(f"{name:10}{start:10.4f}{here:10.4f}{true:10.4f}")
    eager = min(eager_seconds(measured) for _ in range(5))
    print(f"\none step: {1e3 * found.seconds:.3f} ms compiled, {1e3 * eager:.1f} ms eager", end="")
    print(f" ({eager / found.seconds:.0f} times)")


if __name__ == "__main__":
    main()
