"""Optimisers: how parameters move, given their gradients.

An update rule is a scalar function in plain arithmetic: `sgd`, `adam` and `rmsprop` below take
one parameter, its gradient and what is remembered about it, and return the new ones. The same
function serves a float, a `Value` (a compiler traces it) and a NumPy array of all parameters (the
eager step): addition, multiplication, division and the square root of IEEE 754 have one right
answer, so the three agree bit for bit.

    optimizer = Adam(model.parameters(), lr=1e-3)      # SGD, Adam, AdamW, RMSprop
    optimizer.zero_grad(); loss.backward(); optimizer.step()

Formulas and defaults are PyTorch's. A learning rate is a number, or a schedule: a function from
the step, 0 for the first update, to a number. `linear(1.0, 0.1, steps=100)` is one.
"""

from __future__ import annotations

from .optimizers import SGD as SGD
from .optimizers import Adam as Adam
from .optimizers import AdamW as AdamW
from .optimizers import Optimizer as Optimizer
from .optimizers import RMSprop as RMSprop
from .rules import adam as adam
from .rules import rmsprop as rmsprop
from .rules import sgd as sgd
from .schedules import SCHEDULES as SCHEDULES
from .schedules import Schedule as Schedule
from .schedules import cosine as cosine
from .schedules import linear as linear
from .schedules import step_decay as step_decay
from .schedules import warm_up as warm_up
