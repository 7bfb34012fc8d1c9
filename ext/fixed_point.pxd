# Declares fixed_point.h.
from libc.stdint cimport int64_t

cdef extern from "fixed_point.h" nogil:
    const double LEADING
    const double FOLLOWING
    const double TOO_LARGE
    Py_ssize_t EXTRACTED
    double bits_above(double value, double constant)
    void add_block(double leading, double following, int64_t *low, int64_t *high)
    void carry(int64_t *low, int64_t *high)
    double words_high(int64_t low_word, int64_t high_word, double *low)
    double unit_of(double reach)
    double inverse_unit_of(double reach)
    double larger(double a, double b)
    double centre_of(double highest, double highest_negative)
    double reach_of(double highest, double highest_negative)
    double count_unit_of(double count)
