"""ONNX, and the error where it is missing."""

from __future__ import annotations

from ...errors import MissingExtraError

try:
    import onnx
except ImportError:
    raise MissingExtraError("onnx", "onnx", "scalargrad.interop.onnx") from None

from google.protobuf.message import DecodeError
from onnx import checker, helper, numpy_helper

__all__ = ["DecodeError", "checker", "helper", "numpy_helper", "onnx"]
