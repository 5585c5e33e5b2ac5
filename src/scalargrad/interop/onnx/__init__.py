"""ONNX: scalar programs as models that other runtimes run.

`export` writes a function of single numbers to a file, `to_onnx` makes the model, and `from_onnx`
reads a perceptron that another library has written. Raises `MissingExtraError` where the library
`onnx` is missing.
"""

from .export import export as export
from .export import to_onnx as to_onnx
from .load import from_onnx as from_onnx
