# The C layout of a Value: 96 bytes.

cdef class Value:
    cdef double _data
    cdef double _grad
    cdef readonly double const  # the exponent, slope or index of an op that has one
    cdef readonly unsigned long long number  # creation number: the tape's order
    cdef unsigned long long mark  # the last traversal that reached this node
    cdef unsigned long long version  # the clock when data was last written; 0: never
    cdef Value a
    cdef Value b
    cdef tuple rest  # all operands, for ops with more than two
    cdef readonly unsigned short code
    cdef unsigned short flags

cdef unsigned long long now() noexcept
cdef bint watched() noexcept
