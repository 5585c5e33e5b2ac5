# The C face of pool.py: lists that nobody else has, and the numbers inside such floats.

cdef extern from *:
    """
    /* Without the interpreter's lock a count says little; without counts, nothing. */
    #if defined(Py_GIL_DISABLED) || defined(PYPY_VERSION)
    #define SG_IS_OURS(x) 0
    #else
    #define SG_IS_OURS(x) (Py_REFCNT(x) == 1)
    #endif

    static CYTHON_INLINE int sg_renew(PyObject *floats, Py_ssize_t k, double number) {
        PyObject *x = PyList_GET_ITEM(floats, k);
        if (!SG_IS_OURS(x) || !PyFloat_CheckExact(x)) return 0;
        ((PyFloatObject *) x)->ob_fval = number;
        return 1;
    }
    """
    bint is_ours "SG_IS_OURS"(list floats) noexcept
    bint renew "sg_renew"(list floats, Py_ssize_t k, double number) noexcept

cdef class Pool:
    cdef double[:] numbers
    cdef list recent
    cdef list older

    cdef list listed(self)
