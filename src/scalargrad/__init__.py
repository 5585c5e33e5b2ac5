"""Automatic differentiation where every number is a node.

    Value                        one number: its gradient, and how it was made
    Graph                        everything an output depends on, to be run again
    compile                      a function of numbers as a program, in native code
    grad, jacobian, hessian ...  functions in, derivatives out; `check_grads` tries them
    nn, losses, optim, Trainer   networks of single numbers, and what trains them
    draw, explore                a graph as a picture, or as a page to look around in
    data                         data sets
    interop                      the same for PyTorch, SciPy, scikit-learn and others

`docs/concepts.md` explains the first three; `scalargrad doctor` says what is installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import _pure as _pure  # first: it decides which engine is imported
from . import data as data
from . import errors as errors
from . import interop as interop
from . import losses as losses
from . import nn as nn
from . import optim as optim
from .clock import live_values as live_values
from .compiler import Index as Index
from .compiler import compile as compile
from .compiler import get_num_threads as get_num_threads
from .compiler import set_num_threads as set_num_threads
from .engine import Value as Value
from .engine import compiled as compiled
from .errors import AnomalyError as AnomalyError
from .errors import CheckpointError as CheckpointError
from .errors import DataError as DataError
from .errors import GradientError as GradientError
from .errors import MissingExtraError as MissingExtraError
from .errors import ScalargradError as ScalargradError
from .errors import ShapeError as ShapeError
from .errors import StaleGraphError as StaleGraphError
from .errors import StateError as StateError
from .errors import TraceError as TraceError
from .errors import UnrepeatableError as UnrepeatableError
from .errors import VerifyError as VerifyError
from .functional import dot as dot
from .functional import log_softmax as log_softmax
from .functional import logsumexp as logsumexp
from .functional import maximum as maximum
from .functional import mean as mean
from .functional import minimum as minimum
from .functional import softmax as softmax
from .functional import take as take
from .functional import total as total
from .functional import variance as variance
from .functional import where as where
from .gradcheck import check_grads as check_grads
from .graph import Graph as Graph
from .modes import detect_anomaly as detect_anomaly
from .modes import no_grad as no_grad
from .rng import manual_seed as manual_seed
from .train import EarlyStopping as EarlyStopping
from .train import History as History
from .train import Trainer as Trainer
from .transforms import grad as grad
from .transforms import hessian as hessian
from .transforms import jacobian as jacobian
from .transforms import jvp as jvp
from .transforms import value_and_grad as value_and_grad
from .transforms import vjp as vjp

if TYPE_CHECKING:
    from . import views as views
    from .views import draw as draw
    from .views import explore as explore

__version__ = "0.1.0"

# What shows graphs is a good part of the package, and is imported when it is first asked for.
_SHOWING = ("views", "draw", "explore")
__all__ = [name for name in (*globals(), *_SHOWING) if not name.startswith("_")]


def __getattr__(name: str) -> Any:
    if name not in _SHOWING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    views = importlib.import_module(f"{__name__}.views")
    globals().update(draw=views.draw, explore=views.explore)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_SHOWING})
