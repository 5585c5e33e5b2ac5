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
    """Makes lists of `size` floats, each time from what it gave out the time before last.

    The last list is still there, as a rule, when the next is asked for: `gradient = f(x)`.
    """

    recent: list
    older: list

    def __init__(self, size: int) -> None:
        self.recent, self.older = [None] * size, [None] * size

    @cython.cfunc
    def listed(self, numbers: cython.double[::1]) -> list:
        """The numbers as a new list."""
        if not cython.compiled:
            return numbers.tolist()
        k: cython.Py_ssize_t
        items: list = [None] * len(numbers)
        floats: list = self.older
        self.older = self.recent
        self.recent = floats
        for k in range(len(numbers)):
            if not renew(floats, k, numbers[k]):
                floats[k] = numbers[k]
            items[k] = floats[k]
        return items
