# The C face of calling.py.

cdef inline void call(size_t function, size_t environment) noexcept nogil:
    (<void (*)(size_t) noexcept nogil> function)(environment)

cdef inline (double, double) both(size_t function, double x) noexcept nogil:
    cdef double sine, cosine
    (<void (*)(double, double*, double*) noexcept nogil> function)(x, &sine, &cosine)
    return sine, cosine

cdef class Code:
    cdef size_t address
    cdef bint long

    cdef void launch(self, size_t environment) noexcept
