# Declares fixed_point.h. Cython takes the wide integers for long long and leaves their arithmetic to C.
from libc.stdint cimport int64_t, uint64_t

cdef extern from "fixed_point.h" nogil:
    ctypedef long long int128 "int128_t"
    ctypedef long long uint128 "uint128_t"
    ctypedef struct wide "wide_t":
        int128 high
        int128 low
    ctypedef struct uint256 "uint256_t":
        pass
    const int NO_EXPONENT
    const int NOT_FINITE
    int exponent_of(double value)
    int128 to_fixed(double value, int unit)
    void wide_add(wide *sum, double value, int unit)
    void wide_add_product(wide *sum, double a, double b, int unit)
    void words_from_int128(int128 value, int64_t *words)
    int128 int128_from_words(const int64_t *words)
    void words_from_wide(wide sum, int64_t *words)
    double divide_int128(int128 value, double divisor)
    uint256 square_256(uint128 a)
    uint256 words_times(const int64_t *words, uint64_t factor)
    uint256 shift_right_256(uint256 a, int bits)
    double difference_256(uint256 a, uint256 b)
