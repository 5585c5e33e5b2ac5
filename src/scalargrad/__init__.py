"""Automatic differentiation where every number is a node."""

from __future__ import annotations

from . import _pure as _pure  # first: it decides which engine is imported
from .engine import Value as Value
from .engine import compiled as compiled
from .engine import detect_anomaly as detect_anomaly
from .engine import live_values as live_values
from .engine import no_grad as no_grad
from .graph import Graph as Graph

__version__ = "0.1.0"
