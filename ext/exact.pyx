"""Sums of row values without rounding (see fixed_point.h), and the statistics made from them.

Three steps, so that any number of ranks gives the same bits: the range of the rows of each channel
(combined over ranks by MAX), the sums of what is scaled by that range (combined by SUM), and the statistics
from the sums. 2c, 4c are words times channels, w is a range (see words.pxd).
"""

from libc.math cimport INFINITY, NAN, fabs, sqrt
from libc.stdint cimport int64_t
from error_free cimport product_error, quotient_rest, sum_error
from fixed_point cimport (
    FOLLOWING, LEADING, TOO_LARGE, add_block, bits_above, carry, count_unit_of, inverse_unit_of, larger, unit_of,
    words_high,
)
from words cimport BLOCK, WIDTH, carry_all, centre_in, clear, parts_of, reach_in, width_of

cdef double ULP = 2.0 ** -52
cdef double TINY = 2.0 ** -480  # squares of smaller values may underflow in float64


def moment_ranges(
    const double[:, ::1] first_nc,       # IN
    const double[:, ::1] deviation_nc,   # IN
    const double[:, ::1] square_nc,      # IN
    const double[::1] count_n,           # IN   values that count in each row of sample n
    double[::1] range_w,                 # OUT  of x₀ and μᵣ ± σᵣ over rows r
):
    cdef Py_ssize_t n, c, channels = first_nc.shape[1]
    cdef double count, x0, shift, spread
    cdef double *highest = &range_w[1]
    cdef double *lowest = highest + channels  # negative
    with nogil:
        range_w[0] = 0
        for c in range(channels):
            highest[c] = lowest[c] = -INFINITY
        for n in range(first_nc.shape[0]):
            count = count_n[n]
            if count == 0:
                continue
            range_w[0] = larger(range_w[0], count)
            for c in range(channels):
                x0 = first_nc[n, c]
                shift = deviation_nc[n, c] / count
                spread = sqrt(larger(0, square_nc[n, c] - deviation_nc[n, c] * shift) / count)
                if square_nc[n, c] > 0:
                    spread = spread + ULP * fabs(x0)  # so that the range of a row that varies is not empty
                highest[c] = larger(highest[c], larger(x0, x0 + shift + spread))
                lowest[c] = larger(lowest[c], larger(-x0, spread - (x0 + shift)))
                if not fabs(deviation_nc[n, c]) + square_nc[n, c] < INFINITY:
                    highest[c] = INFINITY


def moment_sums(
    const double[:, ::1] first_nc,       # IN
    const double[:, ::1] deviation_nc,   # IN
    const double[:, ::1] square_nc,      # IN
    const double[::1] count_n,           # IN
    const double[::1] range_w,           # IN   over all ranks
    int64_t[:, ::1] words_4c,            # OUT  Σn·m, then Σ[n·m² + M2], two words each; m = μᵣ − centre, scaled
):
    cdef Py_ssize_t part
    with nogil:
        for part in range(parts_of(words_4c.shape[1])):
            sum_moments(first_nc, deviation_nc, square_nc, count_n, range_w, words_4c, part * WIDTH)


cdef void sum_moments(
    const double[:, ::1] first_nc, const double[:, ::1] deviation_nc, const double[:, ::1] square_nc,
    const double[::1] count_n, const double[::1] range_w, int64_t[:, ::1] words_4c,
    Py_ssize_t start,
) noexcept nogil:
    cdef double centre[WIDTH]
    cdef double scale[WIDTH]
    cdef double leading[2][WIDTH]
    cdef double following[2][WIDTH]
    cdef Py_ssize_t width = width_of(start, words_4c.shape[1])
    cdef Py_ssize_t samples = first_nc.shape[0]
    cdef Py_ssize_t block, n, c
    cdef double per_count_unit = 1 / count_unit_of(range_w[0])
    cdef double count, weight, offset, shift, shift_rest, m, m_rest, m2, value, rest, high, square, square_rest, part
    cdef const double *first
    cdef const double *deviations
    cdef const double *squares
    for c in range(width):
        centre[c] = centre_in(range_w, start + c)
        scale[c] = inverse_unit_of(reach_in(range_w, start + c))
    clear(words_4c, start, width)
    for block in range((samples + BLOCK - 1) // BLOCK):
        for c in range(width):
            leading[0][c] = leading[1][c] = following[0][c] = following[1][c] = 0
        for n in range(block * BLOCK, min((block + 1) * BLOCK, samples)):
            count = count_n[n]
            if count == 0:
                continue
            weight = count * per_count_unit
            first = &first_nc[n, start]
            deviations = &deviation_nc[n, start]
            squares = &square_nc[n, start]
            for c in range(width):
                # D₁/n, and M2 = D₂ − D₁²/n, which may cancel
                shift = deviations[c] / count
                shift_rest = quotient_rest(deviations[c], 0, count, shift)
                value = deviations[c] * shift
                m2 = squares[c] - value - (product_error(deviations[c], shift, value) + deviations[c] * shift_rest)
                # m = x₀ − centre + D₁/n, as m + m_rest
                offset = first[c] - centre[c]
                m = offset + shift
                m_rest = sum_error(offset, shift, m) + sum_error(first[c], -centre[c], offset) + shift_rest
                m_rest = m_rest * scale[c]
                m = m * scale[c]
                # n·m
                value = weight * m
                high = bits_above(value, LEADING)
                rest = (value - high) + (product_error(weight, m, value) + weight * m_rest)
                leading[0][c] += high
                following[0][c] += bits_above(rest, FOLLOWING)
                # n·m² + M2
                square = m * m
                square_rest = weight * (product_error(m, m, square) + 2 * m * m_rest)
                value = weight * square
                square_rest = square_rest + product_error(weight, square, value)
                part = larger(0, m2) * scale[c] * scale[c] * per_count_unit
                square = value + part
                square_rest = square_rest + sum_error(value, part, square)
                high = bits_above(square, LEADING)
                rest = (square - high) + square_rest
                leading[1][c] += high
                following[1][c] += bits_above(rest, FOLLOWING)
        for c in range(width):
            if scale[c] != 0:
                add_block(leading[0][c], following[0][c], &words_4c[0, start + c], &words_4c[1, start + c])
                add_block(leading[1][c], following[1][c], &words_4c[2, start + c], &words_4c[3, start + c])
    carry_all(words_4c, start, width)


def moments_from_sums(
    const int64_t[:, ::1] words_4c,   # IN   summed over all ranks
    const double[::1] range_w,        # IN   over all ranks
    int64_t count,                    # IN   values per channel over all ranks, at least 1
    double eps,                       # IN
    double[::1] mean_c,               # OUT
    double[::1] var_c,                # OUT  biased
    double[::1] invstd_c,             # OUT  1/√(var + eps); 0 for a constant channel with eps = 0
):
    cdef Py_ssize_t c
    cdef double total = <double>count, count_unit = count_unit_of(range_w[0])
    with nogil:
        for c in range(mean_c.shape[0]):
            one_moment(
                words_4c[0, c], words_4c[1, c], words_4c[2, c], words_4c[3, c],
                centre_in(range_w, c), reach_in(range_w, c), count_unit, total, eps,
                &mean_c[c], &var_c[c], &invstd_c[c],
            )


cdef inline void one_moment(
    int64_t sum_low, int64_t sum_high, int64_t square_low, int64_t square_high, double centre, double reach,
    double count_unit, double count, double eps, double *mean, double *var, double *invstd,
) noexcept nogil:
    cdef double unit, high, low, mean_high, mean_low, raw, raw_low, of_mean, of_mean_low, scaled
    if not reach < TOO_LARGE:
        mean[0] = var[0] = invstd[0] = NAN
        return
    unit = unit_of(reach) if reach > 0 else 0
    carry(&sum_low, &sum_high)
    carry(&square_low, &square_high)
    # m̄ = Σn·m/M and Σ[n·m² + M2]/M, both as high + low
    high = words_high(sum_low, sum_high, &low)
    mean_high = high / count * count_unit
    mean_low = quotient_rest(high, low, count, high / count) * count_unit
    high = words_high(square_low, square_high, &low)
    raw = high / count * count_unit
    raw_low = quotient_rest(high, low, count, high / count) * count_unit
    of_mean = mean_high * mean_high
    of_mean_low = product_error(mean_high, mean_high, of_mean) + 2 * mean_high * mean_low
    # what cancels here is bounded by twice the number of rows: a row lies at either end of the range
    scaled = larger(0, (raw - of_mean) + (raw_low - of_mean_low))
    mean[0] = centre + unit * mean_high
    var[0] = scaled * unit * unit
    if eps > 0 and var[0] + eps < INFINITY:
        invstd[0] = 1 / sqrt(var[0] + eps)
    elif scaled > 0 and unit >= TINY:
        invstd[0] = 1 / sqrt(scaled) / unit  # var may be too large for float64, and is here without eps
    elif 0 < fabs(centre) < TINY or 0 < unit < TINY:
        invstd[0] = NAN  # not known to be constant: squares may have been too small for float64
    else:
        invstd[0] = 0


def largest_gradients(
    const double[:, ::1] sum_nc,        # IN   Σ dy of each row
    const double[:, ::1] product_nc,    # IN   Σ dy·(x − μ)
    double[:, ::1] largest_2c,          # OUT  of their magnitudes; infinite where one is not finite
):
    with nogil:
        largest_values(sum_nc, &largest_2c[0, 0])
        largest_values(product_nc, &largest_2c[1, 0])


cdef void largest_values(const double[:, ::1] values_nc, double *largest) noexcept nogil:
    cdef Py_ssize_t n, c
    for c in range(values_nc.shape[1]):
        largest[c] = 0
    for n in range(values_nc.shape[0]):
        for c in range(values_nc.shape[1]):
            if not fabs(values_nc[n, c]) <= largest[c]:
                largest[c] = fabs(values_nc[n, c]) if fabs(values_nc[n, c]) < INFINITY else INFINITY


def gradient_sums(
    const double[:, ::1] sum_nc,        # IN
    const double[:, ::1] product_nc,    # IN
    const double[:, ::1] largest_2c,    # IN   over all ranks
    int64_t[:, ::1] words_4c,           # OUT  sums over n, scaled, two words each
):
    cdef Py_ssize_t part, channels = words_4c.shape[1]
    with nogil:
        clear(words_4c, 0, channels)
        for part in range(parts_of(channels)):
            sum_values(sum_nc, largest_2c, words_4c, 0, part * WIDTH)
            sum_values(product_nc, largest_2c, words_4c, 1, part * WIDTH)
        carry_all(words_4c, 0, channels)


cdef void sum_values(
    const double[:, ::1] values_nc, const double[:, ::1] largest_2c, int64_t[:, ::1] words_4c, Py_ssize_t k,
    Py_ssize_t start,
) noexcept nogil:
    """Add the k-th of the two sums to its words."""
    cdef double scale[WIDTH]
    cdef double leading[WIDTH]
    cdef double following[WIDTH]
    cdef Py_ssize_t width = width_of(start, words_4c.shape[1])
    cdef Py_ssize_t samples = values_nc.shape[0]
    cdef Py_ssize_t block, n, c
    cdef double value, high
    cdef const double *values
    for c in range(width):
        scale[c] = inverse_unit_of(largest_2c[k, start + c])
    for block in range((samples + BLOCK - 1) // BLOCK):
        for c in range(width):
            leading[c] = following[c] = 0
        for n in range(block * BLOCK, min((block + 1) * BLOCK, samples)):
            values = &values_nc[n, start]
            for c in range(width):
                value = values[c] * scale[c]
                high = bits_above(value, LEADING)
                leading[c] += high
                following[c] += bits_above(value - high, FOLLOWING)
        for c in range(width):
            if scale[c] != 0:
                add_block(leading[c], following[c], &words_4c[2 * k, start + c], &words_4c[2 * k + 1, start + c])


def totals_from_sums(
    const int64_t[:, :, ::1] words_g4c,   # IN   of g groups of ranks: all of them, and this one alone
    const double[:, ::1] largest_2c,      # IN   over all ranks
    double[:, :, ::1] total_g2c,          # OUT
):
    cdef Py_ssize_t g, k, c
    with nogil:
        for g in range(total_g2c.shape[0]):
            for k in range(2):
                for c in range(total_g2c.shape[2]):
                    total_g2c[g, k, c] = one_total(
                        words_g4c[g, 2 * k, c], words_g4c[g, 2 * k + 1, c], largest_2c[k, c]
                    )


cdef inline double one_total(int64_t low_word, int64_t high_word, double largest) noexcept nogil:
    cdef double low
    if not largest < TOO_LARGE:
        return NAN
    carry(&low_word, &high_word)
    return words_high(low_word, high_word, &low) * (unit_of(largest) if largest > 0 else 0)
