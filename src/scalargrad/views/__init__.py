"""Looking inside: pure functions from graphs and results to data, text, pictures and pages.

`explanation`, `drawing` and `page` show a graph; `pictures`, which is imported where it is needed, a
training run.
"""

from . import explanation as explanation
from .drawing import Drawing as Drawing
from .drawing import draw as draw
from .page import Page as Page
from .page import explore as explore
