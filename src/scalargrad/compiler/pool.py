"""Lists of floats for results, made of floats that nobody has any more.

Python takes 7 ns to make a float and to free it: for 200 of them longer than what computes them.
A `Pool` keeps the floats it gave out. Those that nobody else holds by now are as good as freed, and
get other numbers; CPython's `zip` does so with its tuples.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad.compiler.pool import renew


@cython.final
@cython.cclass
class Pool:
    """Makes lists of the present `numbers`, each of the floats of the list before last.

    The last list is still there, as a rule, when the next is asked for: `gradient = f(x)`.
    """

    numbers: cython.double[:]
    recent: list
    older: list

    def __init__(self, numbers: memoryview) -> None:
        self.numbers = numbers
        self.recent, self.older = [None] * len(numbers), [None] * len(numbers)

    @cython.cfunc
    def listed(self) -> list:
        """The numbers as a new list."""
        if not cython.compiled:
            return self.numbers.tolist()
        k: cython.Py_ssize_t
        floats: list = self.older
        self.older = self.recent
        self.recent = floats
        for k in range(len(self.numbers)):
            if not renew(floats, k, self.numbers[k]):
                floats[k] = self.numbers[k]
        return floats[:]
