"""Sums of row values in float64, for the plain floating-point allreduce.

Σx and Σx² travel as two float64 each: the leading 26 bits, whose sums over ranks of like magnitude are
exact, and the rest. What is left of Σx² − (Σx)²/M after cancellation is then good to 2⁻⁷⁹ of Σx².
"""

from libc.math cimport NAN, sqrt
from error_free cimport product_error, quotient_rest, sum_error
from words cimport WIDTH, parts_of, width_of

cdef double TINY = 2.0 ** -950   # squares below are not whole in float64
cdef double NOISE = 2.0 ** -75  # differences below this share of Σx² are rounding


cdef inline double leading_26_bits(double value) noexcept nogil:
    cdef double spread = value * 134217729.0  # 2²⁷ + 1 (Veltkamp 1968)
    return spread - (spread - value)


cdef inline double square_over(double high, double low, double count, double *rest) noexcept nogil:
    """Return (high + low)²/count as a rounded value and its rest."""
    cdef double square = high * high
    cdef double tail = product_error(high, high, square) + 2 * high * low
    cdef double quotient = square / count
    rest[0] = quotient_rest(square, tail, count, quotient)
    return quotient


def moment_sums_float64(
    const double[:, ::1] first_nc,       # IN
    const double[:, ::1] deviation_nc,   # IN
    const double[:, ::1] square_nc,      # IN
    const double[::1] count_n,           # IN
    double[:, ::1] words_4c,             # OUT  Σx and Σx², two words each
):
    cdef Py_ssize_t part
    with nogil:
        for part in range(parts_of(words_4c.shape[1])):
            sum_moments(first_nc, deviation_nc, square_nc, count_n, words_4c, part * WIDTH)


cdef void sum_moments(
    const double[:, ::1] first_nc, const double[:, ::1] deviation_nc, const double[:, ::1] square_nc,
    const double[::1] count_n, double[:, ::1] words_4c, Py_ssize_t start,
) noexcept nogil:
    cdef double total[WIDTH]
    cdef double m2[WIDTH]
    cdef Py_ssize_t width = width_of(start, words_4c.shape[1])
    cdef Py_ssize_t n, c, samples = first_nc.shape[0], one = 0
    cdef double count = 0, offset, high, low, rest, squares, extra
    cdef const double *first
    cdef const double *deviation
    cdef const double *square
    cdef const double *origin
    while one < samples and count_n[one] == 0:
        one += 1
    if one == samples:
        for n in range(4):
            for c in range(start, start + width):
                words_4c[n, c] = 0
        return
    origin = &first_nc[one, start]
    for c in range(width):
        total[c] = m2[c] = 0
    for n in range(one, samples):
        if count_n[n] > 0:
            count += count_n[n]
            first = &first_nc[n, start]
            deviation = &deviation_nc[n, start]
            for c in range(width):
                total[c] += count_n[n] * (first[c] - origin[c]) + deviation[c]
    for n in range(one, samples):
        if count_n[n] > 0:
            first = &first_nc[n, start]
            deviation = &deviation_nc[n, start]
            square = &square_nc[n, start]
            for c in range(width):
                offset = (first[c] - origin[c]) - total[c] / count
                m2[c] += square[c] + 2 * offset * deviation[c] + count_n[n] * offset * offset
    for c in range(width):
        high = count * origin[c]
        rest = product_error(count, origin[c], high)
        low = high + total[c]
        rest = rest + sum_error(high, total[c], low)
        high = low
        words_4c[0, start + c] = leading_26_bits(high)
        words_4c[1, start + c] = (high - words_4c[0, start + c]) + rest
        squares = square_over(high, rest, count, &rest)
        extra = squares + m2[c]
        rest = rest + sum_error(squares, m2[c], extra)
        words_4c[2, start + c] = leading_26_bits(extra)
        words_4c[3, start + c] = (extra - words_4c[2, start + c]) + rest


def moments_from_sums_float64(
    const double[:, ::1] words_4c,   # IN   summed over all ranks
    double count,                    # IN   values per channel over all ranks, at least 1
    double eps,                      # IN
    double[::1] mean_c,              # OUT
    double[::1] var_c,               # OUT  biased
    double[::1] invstd_c,            # OUT  1/√(var + eps); 0 for a constant channel with eps = 0
):
    cdef Py_ssize_t c
    cdef double high, low, squares, squares_low, of_mean, rest, difference
    with nogil:
        for c in range(mean_c.shape[0]):
            high = words_4c[0, c] + words_4c[1, c]
            low = sum_error(words_4c[0, c], words_4c[1, c], high)
            squares = words_4c[2, c] + words_4c[3, c]
            squares_low = sum_error(words_4c[2, c], words_4c[3, c], squares)
            of_mean = square_over(high, low, count, &rest)
            difference = (squares - of_mean) + (squares_low - rest)
            if difference <= NOISE * squares:
                difference = 0
            mean_c[c] = high / count + quotient_rest(high, low, count, high / count)
            var_c[c] = difference / count
            if eps == 0 and squares < TINY and (squares > 0 or high != 0):
                invstd_c[c] = NAN  # squares have lost their digits
            else:
                invstd_c[c] = 0 if var_c[c] + eps == 0 else 1 / sqrt(var_c[c] + eps)
