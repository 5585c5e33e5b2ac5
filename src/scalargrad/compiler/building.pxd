# The C layout of a Builder.

from scalargrad.compiler.pool cimport Pool

cdef class Builder:
    cdef int kind
    cdef double[::1] numbers
    cdef Pool pool
    cdef list parts
    cdef object extra

    cpdef build(self)
