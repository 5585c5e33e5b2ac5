# The C layout of a Replay and of a Mirror.

cdef extern from "Python.h":
    ctypedef struct PyObject
    # What a list holds, uncounted: counting takes longer than copying a number.
    PyObject** borrowed "PySequence_Fast_ITEMS"(list values)

cdef class Replay:
    cdef unsigned char[::1] op
    cdef int[::1] lhs
    cdef int[::1] rhs
    cdef double[::1] const
    cdef int[::1] many
    cdef long long[::1] index
    cdef double[::1] data
    cdef double[::1] grad
    cdef Py_ssize_t leaves
    cdef Py_ssize_t size

    cpdef void forward(self) noexcept nogil
    cpdef void backward(self) noexcept nogil

cdef class Mirror:
    cdef list values
    cdef double[::1] data
    cdef double[::1] grad
    cdef unsigned long long clock
    cdef bint fresh

    cpdef read(self)
    cpdef forget(self)
    cpdef read_grad(self)
    cpdef write_grad(self)
