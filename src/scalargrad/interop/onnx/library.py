"""ONNX, and the error where it is missing."""

from __future__ import annotations

from ...errors import MissingExtraError

try:
    import onnx
except ImportError:
    raise MissingExtraError("onnx", "onnx", "scalargrad.interop.onnx") from None

from onnx import checker, helper, numpy_helper, shape_inference

__all__ = ["checker", "helper", "numpy_helper", "onnx", "shape_inference"]
