"""The compiler: from a Python function of single numbers to a program.

`compile` traces a function (`trace.py`), reads its arguments into rows of numbers
(`structure.py`, `arguments.py`) and has a back end run the trace (`program.py`).
"""

from ..errors import TraceError as TraceError
from .function import CompiledFunction as CompiledFunction
from .function import compile as compile
from .index import Index as Index
from .team import get_num_threads as get_num_threads
from .team import set_num_threads as set_num_threads
