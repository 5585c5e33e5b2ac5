# The C layout of Found, and its innermost steps.

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(object container)

cdef class Found:
    cdef unsigned long long* pairs  # the number of node 0, its address, the number of node 1, ...
    cdef readonly Py_ssize_t count
    cdef Py_ssize_t room
    cdef int grow(self) except -1
    cdef int sort(self) except -1

cdef inline int push(Found found, object node, unsigned long long number) except -1:
    if found.count == found.room:
        found.grow()
    found.pairs[2 * found.count] = number
    found.pairs[2 * found.count + 1] = <unsigned long long> <void*> node
    found.count += 1
    return 0

cdef inline object at(Found found, Py_ssize_t i):
    return <object> <void*> found.pairs[2 * i + 1]

cdef inline object pop(Found found):
    found.count -= 1
    return <object> <void*> found.pairs[2 * found.count + 1]

cdef list listed(Found found, Found others)
