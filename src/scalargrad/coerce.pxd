# The C face of coerce.py.

cpdef double real(object x, str name) except? -1.0
