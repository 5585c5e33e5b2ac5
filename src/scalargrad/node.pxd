# The C layout of a Value, 96 bytes, and what other compiled modules call.

cimport cython

# What every walk reads stands together in the middle: in memory that deals out blocks of 96 bytes
# it mostly shares one 64-byte cache line.
@cython.no_gc
cdef class Node:
    cdef double _data
    cdef double _grad
    cdef readonly unsigned long long number  # creation number: the tape's order
    cdef readonly unsigned short code
    cdef unsigned short flags
    cdef unsigned long long mark  # the last walk that reached this node
    cdef readonly unsigned long long version  # the clock when data was last written; 0: never
    cdef Node a
    cdef Node b
    cdef tuple rest  # all operands, for ops with more than two; a and b are None there
    cdef readonly double const  # the exponent, slope or index of an op that has one

cdef int MODIFIED
