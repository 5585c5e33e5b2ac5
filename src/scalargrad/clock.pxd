# The C face of clock.py.

cdef unsigned long long time
cdef long long alive
cpdef unsigned long long tick() noexcept
cdef unsigned long long marks(Py_ssize_t count) noexcept
