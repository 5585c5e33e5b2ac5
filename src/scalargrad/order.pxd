cdef int sort(list nodes, unsigned long long* keys) except -1
