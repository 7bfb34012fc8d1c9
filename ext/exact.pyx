"""Sums of row values without rounding, in integers (see fixed_point.h).

Three steps, so that any number of ranks gives the same bits: the exponents of the largest row of each
channel (combined over ranks by MAX), the sums on the grid that these give (combined by SUM), and the
statistics from the sums. c2, c3, c4, c5 are channels times words.
"""

from libc.math cimport NAN, fabs, fma, ldexp, sqrt
from libc.stdint cimport int16_t, int64_t
from fixed_point cimport (
    NO_EXPONENT, NOT_FINITE, difference_256, divide_int128, exponent_of, int128, int128_from_words,
    shift_right_256, square_256, to_fixed, uint128, uint256, wide, wide_add, wide_add_product, words_from_int128,
    words_from_wide, words_times,
)

cdef enum:
    SUM_BITS = 80      # grid of sums of x: 2⁻⁸⁰ of the largest row's; sums of 2³⁰ rows fit two words
    SQUARE_BITS = 130  # grid of sums of x²: x² of a float64 needs 106; sums of 2²⁸ rows fit three words
    SMALLEST = -450    # squares of values below 2⁻⁴⁵⁰ may underflow in float64


cdef inline void larger(int16_t *exponent, int other) noexcept nogil:
    if other > exponent[0]:
        exponent[0] = other


def moment_exponents(
    const double[:, ::1] first_nc,       # IN
    const double[:, ::1] deviation_nc,   # IN
    const double[:, ::1] square_nc,      # IN
    const double[::1] count_n,           # IN   values that count in each row of sample n
    int16_t[:, ::1] exponent_c2,         # OUT  of the largest Σx and Σx² of a row
):
    cdef Py_ssize_t n, c
    cdef double x0
    with nogil:
        for c in range(exponent_c2.shape[0]):
            exponent_c2[c, 0] = NO_EXPONENT
            exponent_c2[c, 1] = NO_EXPONENT
        for n in range(first_nc.shape[0]):
            for c in range(first_nc.shape[1]):
                x0 = first_nc[n, c]
                larger(&exponent_c2[c, 0], exponent_of(count_n[n] * fabs(x0) + fabs(deviation_nc[n, c])))
                larger(&exponent_c2[c, 1], exponent_of(count_n[n] * x0 * x0 + square_nc[n, c]))


def moment_sums(
    const double[:, ::1] first_nc,       # IN
    const double[:, ::1] deviation_nc,   # IN
    const double[:, ::1] square_nc,      # IN
    const double[::1] count_n,           # IN
    const int16_t[:, ::1] exponent_c2,   # IN   the largest over all ranks
    int64_t[:, ::1] words_c5,            # OUT  Σx in two words, Σx² in three
):
    cdef Py_ssize_t n, c
    cdef int sum_unit, square_unit
    cdef double x0, product, rest
    cdef int128 total
    cdef wide squares
    with nogil:
        for c in range(words_c5.shape[0]):
            total = 0
            squares.high = 0
            squares.low = 0
            if exponent_c2[c, 0] != NOT_FINITE and exponent_c2[c, 1] != NOT_FINITE:
                sum_unit = exponent_c2[c, 0] - SUM_BITS
                square_unit = exponent_c2[c, 1] - SQUARE_BITS
                for n in range(first_nc.shape[0]):
                    x0 = first_nc[n, c]
                    # Σx = n·x₀ + Σ(x − x₀), as exact terms
                    product = count_n[n] * x0
                    rest = fma(count_n[n], x0, -product)
                    total = total + to_fixed(product, sum_unit)
                    total = total + to_fixed(rest, sum_unit)
                    total = total + to_fixed(deviation_nc[n, c], sum_unit)
                    # Σx² = n·x₀² + 2x₀·Σ(x − x₀) + Σ(x − x₀)², as exact terms
                    wide_add_product(&squares, product, x0, square_unit)
                    if rest != 0:
                        wide_add_product(&squares, rest, x0, square_unit)
                    if deviation_nc[n, c] != 0:
                        wide_add_product(&squares, 2 * x0, deviation_nc[n, c], square_unit)
                    wide_add(&squares, square_nc[n, c], square_unit)
            words_from_int128(total, &words_c5[c, 0])
            words_from_wide(squares, &words_c5[c, 2])


def moments_from_sums(
    const int64_t[:, ::1] words_c5,      # IN   summed over all ranks
    const int16_t[:, ::1] exponent_c2,   # IN
    int64_t count,                       # IN   values per channel over all ranks, at least 1
    double eps,                          # IN
    double[::1] mean_c,                  # OUT
    double[::1] var_c,                   # OUT  biased
    double[::1] invstd_c,                # OUT  1/√(var + eps); 0 for a constant channel with eps = 0
):
    cdef Py_ssize_t c
    cdef int sum_unit, square_unit, shift
    cdef int128 total
    cdef uint128 magnitude
    cdef uint256 count_squares, square
    with nogil:
        for c in range(mean_c.shape[0]):
            if exponent_c2[c, 0] == NOT_FINITE or exponent_c2[c, 1] == NOT_FINITE:
                mean_c[c] = NAN
                var_c[c] = NAN
                invstd_c[c] = NAN
                continue
            sum_unit = exponent_c2[c, 0] - SUM_BITS
            square_unit = exponent_c2[c, 1] - SQUARE_BITS
            total = int128_from_words(&words_c5[c, 0])
            mean_c[c] = ldexp(divide_int128(total, <double>count), sum_unit)
            # var = (count·Σx² − (Σx)²) / count², the difference without rounding
            magnitude = <uint128>(-total if total < 0 else total)
            count_squares = words_times(&words_c5[c, 2], count)
            square = square_256(magnitude)
            shift = square_unit - 2 * sum_unit
            if shift >= 0:
                square = shift_right_256(square, shift)
            else:
                count_squares = shift_right_256(count_squares, -shift)
                square_unit = 2 * sum_unit
            var_c[c] = ldexp(difference_256(count_squares, square) / count / count, square_unit)
            if var_c[c] + eps > 0:
                invstd_c[c] = 1 / sqrt(var_c[c] + eps)
            elif NO_EXPONENT < exponent_c2[c, 0] < SMALLEST:
                invstd_c[c] = NAN  # not known to be constant: the squares are too small for float64
            else:
                invstd_c[c] = 0


def value_exponents(
    const double[:, ::1] values_nc,   # IN
    int16_t[::1] exponent_c,          # OUT
):
    cdef Py_ssize_t n, c
    with nogil:
        for c in range(exponent_c.shape[0]):
            exponent_c[c] = NO_EXPONENT
        for n in range(values_nc.shape[0]):
            for c in range(values_nc.shape[1]):
                larger(&exponent_c[c], exponent_of(values_nc[n, c]))


def value_sums(
    const double[:, ::1] values_nc,   # IN
    const int16_t[::1] exponent_c,    # IN   the largest over all ranks
    int64_t[:, ::1] words_c2,         # OUT  Σ over n
):
    cdef Py_ssize_t n, c
    cdef int128 total
    with nogil:
        for c in range(words_c2.shape[0]):
            total = 0
            if exponent_c[c] != NOT_FINITE:
                for n in range(values_nc.shape[0]):
                    total = total + to_fixed(values_nc[n, c], exponent_c[c] - SUM_BITS)
            words_from_int128(total, &words_c2[c, 0])


def totals_from_sums(
    const int64_t[:, ::1] words_c2,   # IN   summed over all ranks
    const int16_t[::1] exponent_c,    # IN
    double[::1] total_c,              # OUT
):
    cdef Py_ssize_t c
    with nogil:
        for c in range(total_c.shape[0]):
            if exponent_c[c] == NOT_FINITE:
                total_c[c] = NAN
            else:
                total_c[c] = ldexp(divide_int128(int128_from_words(&words_c2[c, 0]), 1), exponent_c[c] - SUM_BITS)
