# The C layout of a Launch.

from scalargrad.compiler.building cimport Builder
from scalargrad.compiler.calling cimport Code
from scalargrad.replay cimport Mirror

cdef class Launch:
    cdef readonly object variant
    cdef readonly object rows
    cdef readonly object kernel
    cdef object purpose
    cdef readonly object filler
    cdef object program
    cdef object answer
    cdef Builder builder
    cdef object outputs
    cdef list slopes
    cdef object spread
    cdef bint several
    cdef list rounded
    cdef list returned
    cdef double[::1] shared
    cdef double[::1] own
    cdef object gradients
    cdef Mirror mirror
    cdef Code code
    cdef size_t environment
    cdef size_t[::1] slots
    cdef size_t place
    cdef double[:, ::1] given
    cdef double[::1] scalars
    cdef double[:, ::1] results
    cdef double[::1] expected
    cdef Py_ssize_t[::1] integers
    cdef Py_ssize_t[::1] ranges
    cdef double[::1] lengths
    cdef int[::1] selecting
    cdef long long[::1] index
    cdef long long[:, ::1] indices
    cdef long long[::1] rest
    cdef double seed
    cdef bint mean
    cdef readonly Py_ssize_t flipped

    cpdef bint follows(self, Launch other) except -1
    cpdef value(self, tuple args)
    cpdef value_and_grad(self, tuple args)
    cpdef backward(self, tuple args)
    cdef bint _fill(self, tuple args) except -1
    cdef bint _run(self) except -1
    cdef _answer(self)
    cdef _gradient(self)
    cdef _slope(self, Builder builder)
