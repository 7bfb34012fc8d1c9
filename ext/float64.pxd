# Sums of row values in float64, and the statistics made from them: of some neighbouring channels.
#
# Σx and Σx² travel as two float64 each: the leading 26 bits, whose sums over ranks of like magnitude are
# exact, and the rest. What is left of Σx² − (Σx)²/M after cancellation is then good to 2⁻⁷⁹ of Σx².
from libc.math cimport NAN, sqrt
from error_free cimport product_error, quotient_rest, sum_error
from words cimport WIDTH

cdef extern from *:
    """
    #define SYNCBN_SMALLEST_SQUARES 0x1p-950
    #define SYNCBN_NOISE 0x1p-75
    """
    const double SMALLEST_SQUARES "SYNCBN_SMALLEST_SQUARES"  # those below are not whole in float64
    const double NOISE "SYNCBN_NOISE"  # differences below this share of Σx² are rounding


cdef inline double leading_26_bits(double value) noexcept nogil:
    cdef double spread = value * 134217729.0  # 2²⁷ + 1 (Veltkamp 1968)
    return spread - (spread - value)


cdef inline double square_over(double high, double low, double count, double inverse, double *rest) noexcept nogil:
    """Return (high + low)²/count as a rounded value and its rest."""
    cdef double square = high * high
    cdef double tail = product_error(high, high, square) + 2 * high * low
    cdef double quotient = square * inverse
    rest[0] = quotient_rest(square, tail, count, inverse, quotient)
    return quotient


cdef inline void sum_rows_float64(
    const double *first, const double *deviation, const double *square, Py_ssize_t stride, const double *counts,
    Py_ssize_t samples, Py_ssize_t width, double *words, Py_ssize_t apart,
) noexcept nogil:
    """Sum x and x² of rows, each to two words that lie ``apart``."""
    cdef double total[WIDTH]
    cdef double m2[WIDTH]
    cdef Py_ssize_t n, c, row, one = 0
    cdef double count = 0, inverse, offset, high, low, rest, squares, extra
    cdef const double *origin
    while one < samples and counts[one] == 0:
        one += 1
    if one == samples:
        for n in range(4):
            for c in range(width):
                words[n * apart + c] = 0
        return
    origin = first + one * stride
    for c in range(width):
        total[c] = m2[c] = 0
    for n in range(one, samples):
        if counts[n] > 0:
            count += counts[n]
            row = n * stride
            for c in range(width):
                total[c] += counts[n] * (first[row + c] - origin[c]) + deviation[row + c]
    inverse = 1 / count
    for n in range(one, samples):
        if counts[n] > 0:
            row = n * stride
            for c in range(width):
                offset = (first[row + c] - origin[c]) - total[c] * inverse
                m2[c] += square[row + c] + 2 * offset * deviation[row + c] + counts[n] * offset * offset
    for c in range(width):
        high = count * origin[c]
        rest = product_error(count, origin[c], high)
        low = high + total[c]
        rest = rest + sum_error(high, total[c], low)
        high = low
        words[c] = leading_26_bits(high)
        words[apart + c] = (high - words[c]) + rest
        squares = square_over(high, rest, count, inverse, &rest)
        extra = squares + m2[c]
        rest = rest + sum_error(squares, m2[c], extra)
        words[2 * apart + c] = leading_26_bits(extra)
        words[3 * apart + c] = (extra - words[2 * apart + c]) + rest


cdef inline void moments_of_words_float64(
    const double *words, Py_ssize_t apart, Py_ssize_t width, double count, double eps,
    double *mean, double *var, double *invstd,
) noexcept nogil:
    """Make the moments of ``count`` values from sums over all ranks, and 1/√(var + eps)."""
    cdef Py_ssize_t c
    cdef double inverse = 1 / count, high, low, squares, squares_low, of_mean, rest, difference
    for c in range(width):
        high = words[c] + words[apart + c]
        low = sum_error(words[c], words[apart + c], high)
        squares = words[2 * apart + c] + words[3 * apart + c]
        squares_low = sum_error(words[2 * apart + c], words[3 * apart + c], squares)
        of_mean = square_over(high, low, count, inverse, &rest)
        difference = (squares - of_mean) + (squares_low - rest)
        if difference <= NOISE * squares:
            difference = 0
        mean[c] = high * inverse + quotient_rest(high, low, count, inverse, high * inverse)
        var[c] = difference / count
        if eps == 0 and squares < SMALLEST_SQUARES and (squares > 0 or high != 0):
            invstd[c] = NAN  # squares have lost their digits
        else:
            invstd[c] = 0 if var[c] + eps == 0 else 1 / sqrt(var[c] + eps)


cdef inline void add_rows(
    const double *values, Py_ssize_t stride, Py_ssize_t samples, Py_ssize_t width, double *total
) noexcept nogil:
    """Sum the values of each channel, in the order of samples."""
    cdef Py_ssize_t n, c
    for c in range(width):
        total[c] = 0
    for n in range(samples):
        for c in range(width):
            total[c] += values[n * stride + c]
