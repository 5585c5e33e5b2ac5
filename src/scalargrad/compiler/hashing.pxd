# The C face of hashing.py: inlined into the modules that use it.

cdef inline unsigned long long mix(unsigned long long h, unsigned long long x) noexcept nogil:
    h = (h ^ x) * 0x9E3779B97F4A7C15ULL
    return h ^ (h >> 29)
