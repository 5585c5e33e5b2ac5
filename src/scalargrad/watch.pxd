# The C face of watch.py.

from libc.stdint cimport uint64_t

cdef extern from "Python.h":
    ctypedef struct PyThreadState
    PyThreadState* PyThreadState_Get()
    uint64_t PyThreadState_GetID(PyThreadState* thread)

cdef int blocks
cdef int derivatives
cpdef object tracer()
cpdef int read(object v, str what) except -1
cpdef int converted(object v) except -1
cpdef int written(object v, str what) except -1
cpdef object equal(object v, object other, bint expected)
cdef bint made(object v, unsigned long long number, double data) except -1
cdef bint anomalies() except -1
cdef int backward(object v) except -1
