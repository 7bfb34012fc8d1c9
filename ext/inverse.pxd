# 1/√(var + eps) of one process's own statistics, also where float64 can't hold the squares that a variance is made of.
from libc.math cimport INFINITY, NAN, sqrt

cdef extern from *:
    """
    #define SYNCBN_LEAST_VARIANCE 0x1p-1000
    """
    const double LEAST "SYNCBN_LEAST_VARIANCE"  # smaller ones are made of squares that have lost digits to underflow


cdef inline bint is_rare(double total) noexcept nogil:
    """Tell whether 1/√total has to be asked for."""
    return not LEAST <= total < INFINITY


cdef inline double rare_inverse(double total, bint constant) noexcept nogil:
    """Return NaN where squares overflowed or underflowed, since wrong digits or zeros might pass for results.

    Values that are constant have no squares to lose: with eps = 0, 0 makes their deviations from the mean 0.
    """
    if total == INFINITY or (total < LEAST and not constant):
        return NAN
    return 0 if total == 0 else 1 / sqrt(total)
