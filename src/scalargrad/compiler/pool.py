"""Lists of floats for results, made of lists and floats that nobody has any more.

Python takes 7 ns to make a float and to free it: for 200 of them longer than what computes them.
A `Pool` keeps the lists it gave out. One that nobody else holds by now is as good as freed, and is
given out again with other numbers in its floats; CPython's `zip` does so with its tuples. Floats
that somebody took out of it are left to him.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad.compiler.pool import is_ours, renew


@cython.final
@cython.cclass
class Pool:
    """Makes lists of the present `numbers`, from the list before last if that is free.

    The last list is still there, as a rule, when the next is asked for: `gradient = f(x)`.
    """

    numbers: cython.double[:]
    recent: list
    older: list

    def __init__(self, numbers: memoryview) -> None:
        self.numbers = numbers
        self.recent, self.older = [], []

    @cython.cfunc
    def listed(self) -> list:
        """The numbers as a new list."""
        if not cython.compiled:
            return self.numbers.tolist()
        k: cython.Py_ssize_t
        count: cython.Py_ssize_t = len(self.numbers)
        floats: list = self.older
        self.older = self.recent
        if not is_ours(floats) or len(floats) != count:
            floats = [None] * count
        for k in range(count):
            if not renew(floats, k, self.numbers[k]):
                floats[k] = self.numbers[k]
        self.recent = floats
        return floats
