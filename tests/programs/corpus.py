"""The corpus, in sizes that are quick to run."""

from __future__ import annotations

from . import algebra, convolution, gpt, mlp, physics, recurrent, sparse, tables
from .case import Case

CORPUS: tuple[Case, ...] = (
    mlp.hinge(),
    mlp.cross_entropy(20, 8, 5),
    mlp.hinge_whole_batch(6),
    gpt.document(4, vocabulary=7, width=8, heads=2),
    recurrent.rnn(),
    recurrent.lstm(),
    convolution.convolution(6, 2),
    physics.pendulum(4),
    physics.cart_pole(5),
    physics.bodies(5),
    algebra.cholesky(),
    algebra.rosenbrock(),
    algebra.horner(),
    sparse.network(80),
    mlp.deep(12),
    tables.alignment(),
    tables.soft_alignment(3),
    tables.option(5),
    physics.prey(6),
    gpt.document(4, vocabulary=5, width=4, heads=2, layers=4),
)
