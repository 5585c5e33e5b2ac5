# What Python's own headers have for a Filler.

cdef extern from "Python.h":
    ctypedef struct PyObject
    # What a list or tuple holds, uncounted.
    PyObject** borrowed "PySequence_Fast_ITEMS"(object items)
