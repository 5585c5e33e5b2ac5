# What other compiled modules use of the engine.

from scalargrad.node cimport MODIFIED, Node

cdef class Value(Node):
    pass

cdef bint is_stale(Node v) noexcept
