"""Equations of motion, integrated and differentiated."""

from __future__ import annotations

import random
from typing import Any

from scalargrad import Value, functional

from .case import Case, Made


def pendulum(steps: int = 10, h: float = 0.05) -> Case:
    """A damped pendulum by the classical Runge-Kutta method: parameters g/l and damping."""

    def make(rng: random.Random) -> Made:
        stiffness, damping = Value(2.0), Value(0.3)

        def slope(angle: Value, speed: Value) -> tuple[Value, Value]:
            return speed, -stiffness * angle.sin() - damping * speed

        def loss(x: list[Value], _: list[Any]) -> Value:
            angle, speed = x[0], x[1]
            for _step in range(steps):
                a1, s1 = slope(angle, speed)
                a2, s2 = slope(angle + h / 2 * a1, speed + h / 2 * s1)
                a3, s3 = slope(angle + h / 2 * a2, speed + h / 2 * s2)
                a4, s4 = slope(angle + h * a3, speed + h * s3)
                angle = angle + h / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
                speed = speed + h / 6 * (s1 + 2 * s2 + 2 * s3 + s4)
            return (angle - x[2]) ** 2 + (speed - x[3]) ** 2

        return [stiffness, damping], loss

    return Case(f"pendulum, {steps} steps", make, 4)


def cart_pole(steps: int = 8, h: float = 0.02) -> Case:
    """A pole on a cart that is pushed at every step: its masses and length are learned.

    Where the cart is decides nothing: in the gradient it runs ahead of the pole.
    """

    def make(rng: random.Random) -> Made:
        cart, pole, length = Value(1.0), Value(0.3), Value(0.5)

        def slope(state: list[Any], force: Any) -> list[Any]:
            _, angle, speed, turn = state
            s, c = angle.sin(), angle.cos()
            below = cart + pole * s * s
            push = force + pole * s * (length * turn * turn + 9.81 * c)
            pull = -force * c - pole * length * turn * turn * c * s - (cart + pole) * 9.81 * s
            return [speed, turn, push / below, pull / (length * below)]

        def ahead(state: list[Any], by: list[Any], dt: float) -> list[Any]:
            return [a + b * dt for a, b in zip(state, by)]

        def loss(x: list[Value], _: list[Any]) -> Value:
            state: list[Any] = list(x[:4])
            for force in x[4:]:
                k1 = slope(state, force)
                k2 = slope(ahead(state, k1, h / 2), force)
                k3 = slope(ahead(state, k2, h / 2), force)
                k4 = slope(ahead(state, k3, h), force)
                each = [a + 2 * b + 2 * c + d for a, b, c, d in zip(k1, k2, k3, k4)]
                state = ahead(state, each, h / 6)
            return functional.total(a * a for a in state)

        return [cart, pole, length], loss

    return Case(f"cart-pole, {steps} steps", make, 4 + steps)


def string(steps: int = 20, points: int = 12) -> Case:
    """A closed string that swings; its tension is learned from where it is in the end."""

    def make(rng: random.Random) -> Made:
        tension = Value(rng.uniform(0.1, 0.3))

        def loss(x: list[Value], _: list[Any]) -> Value:
            at, speed = list(x), [0.0 * xi for xi in x]
            for _ in range(steps):
                bend = [at[(i + 1) % points] - 2 * at[i] + at[i - 1] for i in range(points)]
                speed = [s + tension * b for s, b in zip(speed, bend)]
                at = [a + s for a, s in zip(at, speed)]
            return functional.total(a * a for a in at)

        return [tension], loss

    return Case(f"string of {points} points, {steps} steps", make, points)


def bodies(count: int = 8) -> Case:
    """The potential energy of bodies that attract each other, pair by pair; masses are learned."""

    def make(rng: random.Random) -> Made:
        masses = [Value(rng.uniform(0.5, 2.0)) for _ in range(count)]

        def energy(x: list[Value], _: list[Any]) -> Value:
            total = Value(0.0)
            for i in range(count):
                for j in range(i):
                    d = [x[3 * i + k] - x[3 * j + k] for k in range(3)]
                    distance = (d[0] * d[0] + d[1] * d[1] + d[2] * d[2] + 0.01) ** 0.5
                    total = total - masses[i] * masses[j] / distance
            return total

        return masses, energy

    return Case(f"{count} bodies", make, 3 * count)


def prey(steps: int = 12, every: int = 3, h: float = 0.05) -> Case:
    """Lotka and Volterra's equations by the Runge-Kutta method: their rates are learned from counts

    of prey and predators that are made every so many steps.
    """

    def make(rng: random.Random) -> Made:
        rates = [Value(rng.uniform(0.2, 0.9)) for _ in range(4)]

        def slope(prey: Any, hunters: Any) -> tuple[Any, Any]:
            met = prey * hunters
            return rates[0] * prey - rates[1] * met, rates[2] * met - rates[3] * hunters

        def loss(x: list[Value], _: list[Any]) -> Value:
            a, b, error = x[0], x[1], Value(0.0)
            for step in range(1, steps + 1):
                a1, b1 = slope(a, b)
                a2, b2 = slope(a + h / 2 * a1, b + h / 2 * b1)
                a3, b3 = slope(a + h / 2 * a2, b + h / 2 * b2)
                a4, b4 = slope(a + h * a3, b + h * b3)
                a = a + h / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
                b = b + h / 6 * (b1 + 2 * b2 + 2 * b3 + b4)
                if step % every == 0:
                    seen = 2 * (step // every)
                    error = error + (a - x[seen]) ** 2 + (b - x[seen + 1]) ** 2
            return error

        return rates, loss

    return Case(f"prey, {steps} steps, counted every {every}", make, 2 + 2 * (steps // every))
