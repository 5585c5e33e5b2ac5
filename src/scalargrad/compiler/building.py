"""Building results and gradients quickly, where they always come from the same memory.

A signature can rebuild a nested thing from any row (see `structure`), and looks at itself each
time. A `Builder` has looked once: it knows where its numbers lie and only fetches them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

try:
    import cython
except ModuleNotFoundError:
    from .. import _uncompiled as cython

if cython.compiled:
    from cython.cimports.scalargrad.compiler.pool import Pool
else:
    from .pool import Pool

from .structure import (
    Array,
    Batched,
    Floats,
    Keyed,
    Numbers,
    Row,
    Scalar,
    Signature,
    Static,
    sequence_of,
)

# What a Builder makes: a float; an int or bool; a list or tuple of floats; an array; a list, tuple
# or dict of what other Builders make; or always the same thing.
FLOAT = cython.declare(cython.int, 0)
COUNT = cython.declare(cython.int, 1)
FLOATS = cython.declare(cython.int, 2)
ARRAY = cython.declare(cython.int, 3)
ITEMS = cython.declare(cython.int, 4)
KEYED = cython.declare(cython.int, 5)
STATIC = cython.declare(cython.int, 6)


@cython.final
@cython.cclass
class Builder:
    """Builds the thing that a signature describes, from the present numbers of `rows`.

    Its numbers begin at column `start` of the only row; an array or list with a batch axis has a
    part of every row of `batch`. With `derivatives` they are floats whatever they are derivatives
    of.
    """

    kind: cython.int
    numbers: cython.double[::1]
    pool: Pool
    parts: list
    extra: Any

    def __init__(
        self,
        signature: Signature,
        rows: Floats,
        start: int,
        derivatives: bool,
        batch: Floats | None = None,
    ) -> None:
        columns = slice(start, start + signature.size)
        place = rows[0, columns]
        self.numbers = place.data
        self.parts = []
        if isinstance(signature, Scalar):
            counts = signature.kind != "number" and not derivatives
            self.kind, self.extra = COUNT if counts else FLOAT, Numbers.CASTS[signature.kind]
        elif isinstance(signature, Row):
            self.kind, self.extra, self.pool = FLOATS, signature.sequence, Pool(place.data)
        elif isinstance(signature, Array):
            self.kind, self.extra = ARRAY, place.reshape(signature.shape).copy
        elif isinstance(signature, Static):
            self.kind, self.extra = STATIC, signature.value
        elif isinstance(signature, Batched):
            assert batch is not None
            self._gather(signature, batch, columns)
        else:
            self.kind = KEYED if isinstance(signature, Keyed) else ITEMS
            self.extra = signature.keys if isinstance(signature, Keyed) else signature.sequence
            for item in signature.items:
                self.parts.append(Builder(item, rows, start, derivatives, batch))
                start += item.size

    def _gather(self, signature: Batched, batch: Floats, columns: slice) -> None:
        """Have derivatives come from every row of a batch."""
        item, self.extra = signature.item, list
        if signature.sequence is np.ndarray:
            shape = item.shape if isinstance(item, Array) else ()
            self.kind, self.extra = ARRAY, batch[:, columns].reshape(len(batch), *shape).copy
        elif isinstance(item, Scalar):
            self.kind, self.pool = FLOATS, Pool(batch[:, columns.start].data)
        else:
            self.kind = ITEMS
            for b in range(len(batch)):
                self.parts.append(Builder(item, batch[b : b + 1], columns.start, True))

    @cython.ccall
    def build(self) -> Any:
        """The thing, of its own memory."""
        k: cython.Py_ssize_t
        part: Builder
        items: list
        if self.kind == FLOAT:
            return self.numbers[0]
        if self.kind == ARRAY:
            return self.extra()
        if self.kind == STATIC:
            return self.extra
        if self.kind == COUNT:
            return self.extra(self.numbers[0])
        if self.kind == FLOATS:
            items = self.pool.listed()
        else:
            items = [None] * len(self.parts)
            for k in range(len(self.parts)):
                part = self.parts[k]
                items[k] = part.build()
        if self.kind == KEYED:
            return dict(zip(self.extra, items))
        return items if self.extra is list else sequence_of(self.extra, items)
