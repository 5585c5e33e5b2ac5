# The C face of rules.py: op codes as compile-time constants, so a switch over them is a jump table.

cdef enum:
    LEAF = 0
    ADD = 1
    SUB = 2
    MUL = 3
    DIV = 4
    NEG = 5
    POW = 6
    POWER = 7
    ABS = 8
    RELU = 9
    LEAKY_RELU = 10
    EXP = 11
    LOG = 12
    SQRT = 13
    TANH = 14
    SIGMOID = 15
    SIN = 16
    COS = 17
    SOFTPLUS = 18
    GELU = 19
    ERFC = 20
    MAXIMUM = 21
    MINIMUM = 22
    LESS = 23
    LESS_EQUAL = 24
    WHERE = 25
    TAKE = 26
    DETACH = 27

cdef inline double divide(double a, double b) noexcept nogil:
    return a / b

cdef double forward(int op, double a, double b, double c) noexcept nogil
cdef double partial(int op, int slot, double a, double b, double c, double y) noexcept nogil
