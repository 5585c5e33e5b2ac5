# The C layout of a Builder.

cdef class Builder:
    cdef int kind
    cdef double[::1] numbers
    cdef object view
    cdef list parts
    cdef object extra

    cpdef build(self)
