# The C layout of an Entrance.

from scalargrad.compiler.gate cimport Gate

cdef class Entrance:
    cdef Gate _gate
    cdef tuple _ways
    cdef public dict _launches
    cdef public object _default
    cdef public long long _calls
    cdef public object _latest

    cdef _ask(self, int asked, object about, tuple args, dict kwargs)
    cdef _at_once(self, int asked, object launches, tuple args)
