"""Sums of row values in float64, for the plain floating-point allreduce.

Σx and Σx² travel as two float64 each: the leading 26 bits, whose sums over ranks of like magnitude are
exact, and the rest. What is left of Σx² − (Σx)²/M after cancellation is then good to 2⁻⁷⁹ of Σx².
"""

from libc.math cimport fma, sqrt

cdef double NOISE = 2.0 ** -75  # differences below this share of Σx² are rounding


cdef inline void split(double high, double low, double *words) noexcept nogil:
    """Write the leading 26 bits of high + low, and the rest (Veltkamp 1968)."""
    cdef double spread = high * 134217729.0  # 2²⁷ + 1
    words[0] = spread - (spread - high)
    words[1] = (high - words[0]) + low


cdef inline double two_sum(double a, double b, double *error) noexcept nogil:
    """Return a + b rounded, and what the rounding lost (Knuth)."""
    cdef double total = a + b
    cdef double part = total - a
    error[0] = (a - (total - part)) + (b - part)
    return total


cdef inline double square_over(double high, double low, double count, double *rest) noexcept nogil:
    """Return (high + low)²/count as a rounded value and its rest."""
    cdef double square = high * high
    cdef double tail = fma(high, high, -square) + 2 * high * low
    cdef double quotient = square / count
    rest[0] = (fma(-quotient, count, square) + tail) / count
    return quotient


def moment_sums_float64(
    const double[:, ::1] first_nc,       # IN
    const double[:, ::1] deviation_nc,   # IN
    const double[:, ::1] square_nc,      # IN
    const double[::1] count_n,           # IN
    double[:, ::1] words_c4,             # OUT  Σx and Σx², two words each
):
    cdef Py_ssize_t n, c
    cdef double origin, total, count, centre, offset, m2, high, low, rest, squares, extra
    with nogil:
        for c in range(words_c4.shape[0]):
            origin = 0
            count = 0
            total = 0
            for n in range(first_nc.shape[0]):
                if count_n[n] > 0:
                    if count == 0:
                        origin = first_nc[n, c]
                    count += count_n[n]
                    total += count_n[n] * (first_nc[n, c] - origin) + deviation_nc[n, c]
            words_c4[c, 0] = words_c4[c, 1] = words_c4[c, 2] = words_c4[c, 3] = 0
            if count == 0:
                continue
            centre = total / count
            m2 = 0
            for n in range(first_nc.shape[0]):
                if count_n[n] > 0:
                    offset = (first_nc[n, c] - origin) - centre
                    m2 += square_nc[n, c] + 2 * offset * deviation_nc[n, c] + count_n[n] * offset * offset
            high = count * origin
            rest = fma(count, origin, -high)
            high = two_sum(high, total, &low)
            low = low + rest
            split(high, low, &words_c4[c, 0])
            squares = square_over(high, low, count, &rest)
            squares = two_sum(squares, m2, &extra)
            split(squares, extra + rest, &words_c4[c, 2])


def moments_from_sums_float64(
    const double[:, ::1] words_c4,   # IN   summed over all ranks
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
            high = two_sum(words_c4[c, 0], words_c4[c, 1], &low)
            squares = two_sum(words_c4[c, 2], words_c4[c, 3], &squares_low)
            of_mean = square_over(high, low, count, &rest)
            difference = (squares - of_mean) + (squares_low - rest)
            if difference <= NOISE * squares:
                difference = 0
            mean_c[c] = high / count + (fma(-(high / count), count, high) + low) / count
            var_c[c] = difference / count
            invstd_c[c] = 0 if var_c[c] + eps == 0 else 1 / sqrt(var_c[c] + eps)
