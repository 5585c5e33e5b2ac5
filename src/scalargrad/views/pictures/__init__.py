"""The pictures of a training run: pure functions from arrays to a matplotlib `Figure`.

| function | shows |
|---|---|
| `curves` | loss and metrics over the epochs |
| `decision_boundary` | a two-dimensional classifier's regions and its mistakes |
| `predictions` | images with their predicted and true labels |
| `confusion` | which class was taken for which |
| `regression` | predicted against true numbers |
| `save` | writes a picture to disk, whole or not at all |

They know nothing about Values or models: lists, arrays and one callable go in. Nothing global is
touched (no pyplot, no display, the caller's matplotlib settings stay as they are and have no
effect), so a picture looks the same everywhere, and a notebook shows it as a cell's result.
"""

from .confusion_matrix import confusion as confusion
from .files import save as save
from .gallery import predictions as predictions
from .plane import decision_boundary as decision_boundary
from .scatter import regression as regression
from .training import curves as curves
