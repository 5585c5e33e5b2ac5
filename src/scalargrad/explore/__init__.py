"""Looking inside: pure functions from graphs and results to data, pictures and pages."""

from . import pictures as pictures
