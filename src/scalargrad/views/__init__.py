"""Looking inside: pure functions from graphs and results to data, text, pictures and pages.

`explanation` and `drawing` show a graph; `pictures`, which is imported where it is needed, a
training run.
"""

from . import explanation as explanation
from .drawing import Drawing as Drawing
from .drawing import draw as draw
