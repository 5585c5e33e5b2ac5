"""Scalar models of engineers against CasADi: `python -m benchmarks.models [--large]`.

Each program is written once, in single numbers, as `program(m, unknowns, data)`, where `m` has the
functions `sin`, `exp` and the like: NumPy for Values, CasADi for its SX expressions. What is
computed is the value and its gradient with respect to the unknowns. CasADi differentiates its
expressions, and runs them on a virtual machine of its own, or writes them as C, all operations one
after the other, which `cc -O3 -march=native` compiles: for minutes with `--large`. Its numbers are
compared with ours before it is timed.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

import scalargrad as sg
from benchmarks import harness
from benchmarks.graphs import compiled
from benchmarks.peers.casadi_peer import CALLS, CasADi, missing

Program = Callable[[Any, Sequence[Any], Sequence[float]], Any]
DT = 0.02
AGREEMENT = 1e-9


@dataclass(frozen=True, slots=True)
class Model:
    """A program with numbers for its unknowns and its data."""

    name: str
    program: Program
    unknowns: list[float]
    data: list[float]


def _runge_kutta(
    slope: Callable[..., Sequence[Any]], state: Sequence[Any], *inputs: Any
) -> list[Any]:
    """One step of the classical Runge-Kutta method."""

    def ahead(by: Sequence[Any], dt: float) -> list[Any]:
        return [s + d * dt for s, d in zip(state, by)]

    k1 = slope(state, *inputs)
    k2 = slope(ahead(k1, DT / 2), *inputs)
    k3 = slope(ahead(k2, DT / 2), *inputs)
    k4 = slope(ahead(k3, DT), *inputs)
    slopes = [a + 2.0 * b + 2.0 * c + d for a, b, c, d in zip(k1, k2, k3, k4)]
    return ahead(slopes, DT / 6)


def pendulum(steps: int = 200) -> Model:
    """Length and damping of a pendulum, from measurements of its angle."""

    def program(m: Any, unknowns: Sequence[Any], data: Sequence[float]) -> Any:
        length, damping = unknowns

        def slope(state: Sequence[Any]) -> Sequence[Any]:
            angle, speed = state
            return speed, -9.81 / length * m.sin(angle) - damping * speed

        state: Sequence[Any] = [1.0, 0.0]
        error = 0.0
        for measured in data:
            state = _runge_kutta(slope, state)
            error = error + (state[0] - measured) ** 2
        return error

    rng = random.Random(0)
    return Model(f"pendulum, {steps} steps", program, [0.9, 0.3], _normal(rng, steps))


def cart_pole(steps: int = 100) -> Model:
    """The forces that bring a pole on a cart upright: the derivative of the cost by each of them."""

    def program(m: Any, unknowns: Sequence[Any], data: Sequence[float]) -> Any:
        mass, pole, length = data

        def slope(state: Sequence[Any], force: Any) -> Sequence[Any]:
            _, angle, speed, turn = state
            s, c = m.sin(angle), m.cos(angle)
            below = mass + pole * s * s
            push = force + pole * s * (length * turn * turn + 9.81 * c)
            pull = -force * c - pole * length * turn * turn * c * s - (mass + pole) * 9.81 * s
            return speed, turn, push / below, pull / (length * below)

        state: Sequence[Any] = [0.0, 0.1, 0.0, 0.0]
        effort = 0.0
        for force in unknowns:
            state = _runge_kutta(slope, state, force)
            effort = effort + 0.01 * force * force
        place, angle, speed, turn = state
        return effort + place**2 + (m.cos(angle) + 1.0) ** 2 + speed**2 + turn**2

    return Model(
        f"cart-pole, {steps} forces", program, _normal(random.Random(0), steps), [1, 0.3, 0.5]
    )


def bodies(count: int = 32) -> Model:
    """The potential energy of bodies that attract each other; its gradient is their forces."""

    def program(m: Any, unknowns: Sequence[Any], data: Sequence[float]) -> Any:
        at = [unknowns[3 * i : 3 * i + 3] for i in range(count)]
        energy = 0.0
        for i in range(count):
            for j in range(i):
                apart = [a - b for a, b in zip(at[i], at[j])]
                distance = m.sqrt(apart[0] ** 2 + apart[1] ** 2 + apart[2] ** 2 + 0.01)
                energy = energy - data[i] * data[j] / distance
        return energy

    rng = random.Random(0)
    masses = [rng.uniform(0.5, 2.0) for _ in range(count)]
    return Model(f"{count} bodies", program, _normal(rng, 3 * count), masses)


def gaussian_process(points: int = 24) -> Model:
    """The likelihood of measurements under a Gaussian process, by a Cholesky factorisation."""

    def program(m: Any, unknowns: Sequence[Any], data: Sequence[float]) -> Any:
        height, width, noise = unknowns
        where, seen = data[:points], data[points:]
        rows: list[list[Any]] = []
        solved: list[Any] = []
        found = 0.0
        for i in range(points):
            row: list[Any] = []
            for j in range(i + 1):
                value = height * m.exp(-((where[i] - where[j]) ** 2) / width)
                for k in range(j):
                    value = value - row[k] * (rows[j][k] if j < i else row[k])
                row.append(value / rows[j][j] if j < i else m.sqrt(value + noise))
            left = seen[i]
            for k in range(i):
                left = left - row[k] * solved[k]
            rows.append(row)
            solved.append(left / row[i])
            found = found + m.log(row[i]) + 0.5 * solved[i] ** 2
        return found

    rng = random.Random(0)
    data = sorted(rng.uniform(0.0, 5.0) for _ in range(points)) + _normal(rng, points)
    return Model(f"Gaussian process, {points} points", program, [1.0, 0.7, 0.1], data)


def heat(points: int = 64, steps: int = 100) -> Model:
    """Where a rod was warm at first, from where it is warm in the end."""

    def program(m: Any, unknowns: Sequence[Any], data: Sequence[float]) -> Any:
        now = list(unknowns)
        for _ in range(steps):
            ends = [now[0], *now, now[-1]]
            bend = [a - 2.0 * b + c for a, b, c in zip(ends, ends[1:], ends[2:])]
            now = [a + 0.2 * b for a, b in zip(now, bend)]
        error = 0.0
        for a, b in zip(now, data):
            error = error + (a - b) ** 2
        return error

    rng = random.Random(0)
    return Model(
        f"heat, {points} points, {steps} steps", program, _normal(rng, points), _normal(rng, points)
    )


def points(count: int = 100, widths: Sequence[int] = (2, 16, 16, 1)) -> Model:
    """The hinge loss of a network on all its points, written out."""

    def program(m: Any, unknowns: Sequence[Any], data: Sequence[float]) -> Any:
        error = 0.0
        for k in range(count):
            left = iter(unknowns)
            now: list[Any] = list(data[3 * k : 3 * k + 2])
            for layer, width in enumerate(widths[1:], 1):
                following = []
                for _ in range(width):
                    value = next(left)
                    for number in now:
                        value = value + next(left) * number
                    following.append(m.tanh(value) if layer < len(widths) - 1 else value)
                now = following
            error = error + m.log(1.0 + m.exp(-data[3 * k + 2] * now[0]))
        return error / count

    rng = random.Random(0)
    size = sum(b * (a + 1) for a, b in pairwise(widths))
    weights = [rng.gauss(0.0, 0.4) for _ in range(size)]
    data = [x for _ in range(count) for x in (*_normal(rng, 2), rng.choice((-1.0, 1.0)))]
    return Model(f"network, {count} points", program, weights, data)


def _normal(rng: random.Random, count: int) -> list[float]:
    return [rng.gauss(0.0, 1.0) for _ in range(count)]


MODELS: tuple[Callable[[], Model], ...] = (pendulum, cart_pole, bodies, gaussian_process, heat)
LARGE: tuple[Callable[[], Model], ...] = (points,)


def measure(model: Model, rounds: int, block: float) -> list[list[str]]:
    """Rows of a table: ours, exact and fast, and CasADi's."""

    def function(unknowns: Any, data: Any) -> Any:
        return model.program(np, unknowns, data)

    contestants: dict[str, Callable[[], object]] = {}
    rows: dict[str, list[str]] = {}
    for mode in ("exact", "fast"):
        ours = compiled(function, model.unknowns, model.data, wrt=0, mode=mode)
        code = ours.function.native().frame.program.image.code
        name = f"scalargrad {mode}"
        contestants[name] = ours.run
        rows[name] = [f"{ours.tracing:.2f}", f"{ours.compiling:.2f}", f"{len(code):,}"]
    value, gradient = ours.function.value_and_grad(model.unknowns, model.data, wrt=0)
    if not missing():
        peer = CasADi(model.program, model.unknowns, model.data)
        peer.interpreted()
        _require_agreement(model, peer, value, gradient)
        written = peer.compile()
        peer.value[:], peer.gradient[:] = 0.0, 0.0
        written()
        _require_agreement(model, peer, value, gradient)
        contestants |= {"CasADi": peer.interpreted, "CasADi, C": written}
        rows["CasADi"] = [f"{peer.building:.2f}", "", ""]
        rows["CasADi, C"] = [f"{peer.building:.2f}", f"{peer.compiling:.2f}", f"{peer.code:,}"]
    taken = harness.medians(contestants, rounds, block)
    taken = {k: v / (CALLS if k == "CasADi, C" else 1) for k, v in taken.items()}
    return [
        [model.name, f"{ours.nodes:,}", name, *row, f"{1e6 * taken[name]:.1f}"]
        for name, row in rows.items()
    ]


def _require_agreement(model: Model, peer: CasADi, value: float, gradient: Any) -> None:
    """Raise `AssertionError` where CasADi's numbers are not ours."""
    scale = max(float(np.abs(gradient).max()), 1e-300)
    errors = abs(peer.value[0] - value) / abs(value), np.abs(peer.gradient - gradient).max() / scale
    assert max(errors) <= AGREEMENT, f"{model.name}: CasADi is off by {max(errors):.1e}"


def report(
    models: Sequence[Callable[[], Model]] = MODELS, rounds: int = 15, block: float = 0.02
) -> None:
    """Print the table."""
    if missing():
        print(f"CasADi is left out: {missing()}\n")
    headings = ("model", "nodes", "by", "building s", "compiling s", "bytes of code", "run µs")
    print(harness.table(headings, [r for make in models for r in measure(make(), rounds, block)]))


def main(arguments: Sequence[str] = ()) -> None:
    """Run all models."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models")
    parser.add_argument("--large", action="store_true", help="also a network of 65,000 nodes")
    options = parser.parse_args(arguments)
    harness.pin()
    sg.set_num_threads(1)
    print(f"{harness.machine()}; one thread\n")
    report((*MODELS, *LARGE) if options.large else MODELS)


if __name__ == "__main__":
    main(sys.argv[1:])
