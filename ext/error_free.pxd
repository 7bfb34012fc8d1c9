# Declares error_free.h.
cdef extern from "error_free.h" nogil:
    double product_error(double a, double b, double product)
    double sum_error(double a, double b, double total)
    double quotient_rest(double high, double low, double divisor, double inverse, double quotient)
