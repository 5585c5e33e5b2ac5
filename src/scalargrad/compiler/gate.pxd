# The C layout of a Gate.

cdef extern from "pythread.h":
    unsigned long get_ident "PyThread_get_thread_ident"()

cdef class Gate:
    cdef unsigned long inside
    cdef Py_ssize_t waiting
    cdef bint rung
    cdef object bell

    cpdef bint enter(self) except -1
    cpdef leave(self)
    cdef _open(self)
    cdef _wait(self)
