"""Looking inside: pure functions from graphs and results to data, text, pictures and pages."""

from . import explanation as explanation
from . import pictures as pictures
from .drawing import Drawing as Drawing
from .drawing import draw as draw
