"""Data sets: made here, read from files, or downloaded and verified. Nothing here needs Values."""

from .digits import digits as digits
from .download import download as download
from .examples import Examples as Examples
from .examples import Split as Split
from .examples import split as split
from .idx import read_idx as read_idx
from .mnist import mnist as mnist
from .moons import moons as moons
from .names import names as names
from .toy import four_samples as four_samples
from .toy import toy_regression as toy_regression
from .vocabulary import Vocabulary as Vocabulary
