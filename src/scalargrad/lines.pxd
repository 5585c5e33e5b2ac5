# The C face of lines.py.

cdef extern from "Python.h":
    ctypedef struct PyFrameObject
    PyFrameObject* PyEval_GetFrame()  # the innermost frame; the reference stays another's

cdef class Lines:
    cdef readonly list starts
    cdef readonly list names
    cdef object _latest

    cpdef int enter(self, unsigned long long number, str line) except -1

cdef str node_line()
