"""Update rules: scalar functions in plain arithmetic, of a float, a Value or an array of floats.

An option that is off is an argument left out, so which arithmetic is done never depends on a
number: what is traced once is right for every step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops

Scalar = Any  # a float, a Value, or an array of floats


def _sqrt(x: Scalar) -> Scalar:
    return ops.sqrt(x) if isinstance(x, float) else np.sqrt(x)


def _divide(a: Scalar, b: Scalar) -> Scalar:
    return ops.divide(a, b) if isinstance(a, float) and isinstance(b, float) else a / b


def sgd(
    p: Scalar,
    g: Scalar,
    velocity: Scalar = None,
    *,
    lr: Scalar,
    momentum: Scalar = None,
    weight_decay: Scalar = None,
    nesterov: bool = False,
) -> tuple[Scalar, ...]:
    """Gradient descent, with momentum where `velocity` is given (Sutskever et al., 2013).

        g <- g + weight_decay * p
        velocity <- momentum * velocity + g
        p <- p - lr * velocity                        (plain: lr * g)
        p <- p - lr * (g + momentum * velocity)       (nesterov)

    Returns (p,), or (p, velocity) with momentum.
    """
    if weight_decay is not None:
        g = g + weight_decay * p
    if velocity is None:
        return (p - lr * g,)
    velocity = momentum * velocity + g
    direction = g + momentum * velocity if nesterov else velocity
    return p - lr * direction, velocity


def adam(
    p: Scalar,
    g: Scalar,
    mean: Scalar,
    square: Scalar,
    *,
    rate: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
    weight_decay: Scalar = None,
    keep: Scalar = None,
) -> tuple[Scalar, Scalar, Scalar]:
    """Adam (Kingma & Ba, 2015), and AdamW (Loshchilov & Hutter, 2019) where `keep` is given.

        p <- keep * p                                 (AdamW: keep = 1 - lr * weight_decay)
        g <- g + weight_decay * p                     (Adam)
        mean <- beta1 * mean + (1 - beta1) * g
        square <- beta2 * square + (1 - beta2) * g^2
        p <- p - rate * mean / (sqrt(square) + eps)

    `rate` and `eps` carry the bias correction of step t = 1, 2, ... (Kingma & Ba, end of section
    2): with r = sqrt(1 - beta2^t), rate = lr * r / (1 - beta1^t) and eps is r times the eps of
    `Adam`. Then the last line is p - lr * mean' / (sqrt(square') + eps), mean' and square' being
    the means divided by 1 - beta^t. Returns (p, mean, square).
    """
    if keep is not None:
        p = keep * p
    if weight_decay is not None:
        g = g + weight_decay * p
    mean = beta1 * mean + (1.0 - beta1) * g
    square = beta2 * square + (1.0 - beta2) * g * g
    return p - _divide(rate * mean, _sqrt(square) + eps), mean, square


def rmsprop(
    p: Scalar,
    g: Scalar,
    square: Scalar,
    velocity: Scalar = None,
    *,
    lr: Scalar,
    alpha: Scalar,
    eps: Scalar,
    momentum: Scalar = None,
    weight_decay: Scalar = None,
) -> tuple[Scalar, ...]:
    """RMSprop (Tieleman & Hinton, 2012), with momentum where `velocity` is given.

        g <- g + weight_decay * p
        square <- alpha * square + (1 - alpha) * g^2
        g <- g / (sqrt(square) + eps)
        velocity <- momentum * velocity + g
        p <- p - lr * velocity                        (plain: lr * g)

    Returns (p, square), or (p, square, velocity) with momentum.
    """
    if weight_decay is not None:
        g = g + weight_decay * p
    square = alpha * square + (1.0 - alpha) * g * g
    g = _divide(g, _sqrt(square) + eps)
    if velocity is None:
        return p - lr * g, square
    velocity = momentum * velocity + g
    return p - lr * velocity, square, velocity
