# Sums of row values without rounding (see fixed_point.h), and the statistics made from them: of some neighbouring
# channels.
#
# Three steps, so that any number of ranks gives the same bits: the range of the rows of each channel (combined over
# ranks by MAX), the sums of what is scaled by that range (combined by SUM), and the statistics from the sums.
#
# Row values of sample n lie `stride` after those of sample n - 1; words of one channel lie `apart`.
from libc.math cimport INFINITY, NAN, fabs, sqrt
from libc.stdint cimport int64_t
from error_free cimport product_error, quotient_rest, sum_error
from fixed_point cimport (
    FOLLOWING, LEADING, TOO_LARGE, add_block, bits_above, carry, centre_of, count_unit_of, inverse_unit_of, larger,
    reach_of, unit_of, words_high,
)
from words cimport BLOCK, WIDTH, clear, carry_all

cdef extern from *:
    """
    #define SYNCBN_ULP 0x1p-52
    #define SYNCBN_TINY 0x1p-480
    """
    const double ULP "SYNCBN_ULP"
    const double TINY "SYNCBN_TINY"  # squares of smaller values may underflow in float64


cdef inline double largest_count(const double *counts, Py_ssize_t samples) noexcept nogil:
    cdef Py_ssize_t n
    cdef double largest = 0
    for n in range(samples):
        largest = larger(largest, counts[n])
    return largest


cdef inline void range_of_rows(
    const double *first, const double *deviation, const double *square, Py_ssize_t stride, const double *counts,
    Py_ssize_t samples, Py_ssize_t width, double *highest, double *lowest,
) noexcept nogil:
    """Find the largest of x₀ and μᵣ + σᵣ over rows r, and the largest of −x₀ and σᵣ − μᵣ."""
    cdef Py_ssize_t n, c, row
    cdef double count, inverse, x0, shift, spread
    for c in range(width):
        highest[c] = lowest[c] = -INFINITY
    for n in range(samples):
        count = counts[n]
        if count == 0:
            continue
        inverse = 1 / count
        row = n * stride
        for c in range(width):
            x0 = first[row + c]
            shift = deviation[row + c] * inverse
            spread = sqrt(larger(0, square[row + c] - deviation[row + c] * shift) * inverse)
            if square[row + c] > 0:
                spread = spread + ULP * fabs(x0)  # so that the range of a row that varies is not empty
            highest[c] = larger(highest[c], larger(x0, x0 + shift + spread))
            lowest[c] = larger(lowest[c], larger(-x0, spread - (x0 + shift)))
            if not fabs(deviation[row + c]) + square[row + c] < INFINITY:
                highest[c] = INFINITY


cdef inline void sum_rows(
    const double *first, const double *deviation, const double *square, Py_ssize_t stride, const double *counts,
    double most, Py_ssize_t samples, Py_ssize_t width, const double *highest, const double *lowest,
    int64_t *words, Py_ssize_t apart,
) noexcept nogil:
    """Sum n·m and n·m² + M2 of rows of n ≤ ``most`` values, m = μᵣ − centre of the range, scaled by its reach."""
    cdef double centre[WIDTH]
    cdef double scale[WIDTH]
    cdef double leading[2][WIDTH]
    cdef double following[2][WIDTH]
    cdef Py_ssize_t block, n, c, row
    cdef double per_count_unit = 1 / count_unit_of(most)
    cdef double count, inverse, weight, total, offset, shift, shift_rest, m, m_rest, m2, value, rest, high
    cdef double square_m, square_rest, part
    for c in range(width):
        centre[c] = centre_of(highest[c], lowest[c])
        scale[c] = inverse_unit_of(reach_of(highest[c], lowest[c]))
    clear(words, apart, width)
    for block in range((samples + BLOCK - 1) // BLOCK):
        for c in range(width):
            leading[0][c] = leading[1][c] = following[0][c] = following[1][c] = 0
        for n in range(block * BLOCK, min((block + 1) * BLOCK, samples)):
            count = counts[n]
            if count == 0:
                continue
            inverse = 1 / count
            weight = count * per_count_unit
            row = n * stride
            for c in range(width):
                # D₁/n, and M2 = D₂ − D₁²/n, which may cancel; scaled first, so that no error of a product underflows
                total = deviation[row + c] * scale[c]
                shift = total * inverse
                shift_rest = quotient_rest(total, 0, count, inverse, shift)
                value = total * shift
                m2 = square[row + c] * scale[c] * scale[c] - value
                m2 = m2 - (product_error(total, shift, value) + total * shift_rest)
                # m = x₀ − centre + D₁/n, as m + m_rest
                rest = first[row + c] - centre[c]
                offset = rest * scale[c]
                rest = sum_error(first[row + c], -centre[c], rest) * scale[c]
                m = offset + shift
                m_rest = sum_error(offset, shift, m) + rest + shift_rest
                # n·m
                value = weight * m
                high = bits_above(value, LEADING)
                rest = (value - high) + (product_error(weight, m, value) + weight * m_rest)
                leading[0][c] += high
                following[0][c] += bits_above(rest, FOLLOWING)
                # n·m² + M2
                square_m = m * m
                square_rest = weight * (product_error(m, m, square_m) + 2 * m * m_rest)
                value = weight * square_m
                square_rest = square_rest + product_error(weight, square_m, value)
                part = larger(0, m2) * per_count_unit
                square_m = value + part
                square_rest = square_rest + sum_error(value, part, square_m)
                high = bits_above(square_m, LEADING)
                rest = (square_m - high) + square_rest
                leading[1][c] += high
                following[1][c] += bits_above(rest, FOLLOWING)
        for c in range(width):
            if scale[c] != 0:
                add_block(leading[0][c], following[0][c], words + c, words + apart + c)
                add_block(leading[1][c], following[1][c], words + 2 * apart + c, words + 3 * apart + c)
    carry_all(words, apart, width)


cdef inline void moments_of_words(
    const int64_t *words, Py_ssize_t apart, Py_ssize_t width, const double *highest, const double *lowest, double most,
    double count, double eps, double *mean, double *var, double *invstd,
) noexcept nogil:
    """Make the moments of ``count`` values from sums over all ranks, and 1/√(var + eps).

    The loop has no branches, so that it is compiled to vectors; ``rare`` sees to what it can't.
    """
    cdef double count_unit = count_unit_of(most), inverse = 1 / count
    cdef double units[WIDTH]
    cdef double scaled[WIDTH]
    cdef int64_t sum_low, sum_high, square_low, square_high
    cdef double centre, reach, high, low, mean_high, mean_low, raw, raw_low, of_mean, of_mean_low
    cdef Py_ssize_t c
    for c in range(width):
        centre = centre_of(highest[c], lowest[c])
        reach = reach_of(highest[c], lowest[c])
        units[c] = unit_of(reach) if reach > 0 else 0
        sum_low = words[c]
        sum_high = words[apart + c]
        square_low = words[2 * apart + c]
        square_high = words[3 * apart + c]
        carry(&sum_low, &sum_high)
        carry(&square_low, &square_high)
        # m̄ = Σn·m/M and Σ[n·m² + M2]/M, both as high + low
        high = words_high(sum_low, sum_high, &low)
        mean_high = high * inverse * count_unit
        mean_low = quotient_rest(high, low, count, inverse, high * inverse) * count_unit
        high = words_high(square_low, square_high, &low)
        raw = high * inverse * count_unit
        raw_low = quotient_rest(high, low, count, inverse, high * inverse) * count_unit
        of_mean = mean_high * mean_high
        of_mean_low = product_error(mean_high, mean_high, of_mean) + 2 * mean_high * mean_low
        # what cancels here is bounded by twice the number of rows: a row lies at either end of the range
        scaled[c] = larger(0, (raw - of_mean) + (raw_low - of_mean_low))
        mean[c] = centre + units[c] * (mean_high + mean_low)
        var[c] = scaled[c] * units[c] * units[c]
        invstd[c] = 1 / sqrt(var[c] + eps)
    for c in range(width):
        if not reach_of(highest[c], lowest[c]) < TOO_LARGE:
            mean[c] = var[c] = invstd[c] = NAN
        elif not (eps > 0 and var[c] + eps < INFINITY):
            invstd[c] = rare_invstd(centre_of(highest[c], lowest[c]), units[c], scaled[c])


cdef inline double rare_invstd(double centre, double unit, double scaled) noexcept nogil:
    """Return 1/√var where eps is 0, or where var is too large for float64 and is here without eps."""
    if scaled > 0 and unit >= TINY:
        return 1 / sqrt(scaled) / unit
    if 0 < fabs(centre) < TINY or 0 < unit < TINY:
        return NAN  # not known to be constant: squares may have been too small for float64
    return 0


cdef inline void largest_of_rows(
    const double *values, Py_ssize_t stride, Py_ssize_t samples, Py_ssize_t width, double *largest
) noexcept nogil:
    """Find the largest magnitude of each channel; infinite where a value is not finite."""
    cdef Py_ssize_t n, c
    cdef double value
    for c in range(width):
        largest[c] = 0
    for n in range(samples):
        for c in range(width):
            value = fabs(values[n * stride + c])
            if not value <= largest[c]:
                largest[c] = value if value < INFINITY else INFINITY


cdef inline void sum_row_values(
    const double *values, Py_ssize_t stride, Py_ssize_t samples, Py_ssize_t width, const double *largest,
    int64_t *words, Py_ssize_t apart,
) noexcept nogil:
    """Sum the values of each channel, scaled by the largest, to two words."""
    cdef double scale[WIDTH]
    cdef double leading[WIDTH]
    cdef double following[WIDTH]
    cdef Py_ssize_t block, n, c
    cdef double value, high
    for c in range(width):
        scale[c] = inverse_unit_of(largest[c])
        words[c] = words[apart + c] = 0
    for block in range((samples + BLOCK - 1) // BLOCK):
        for c in range(width):
            leading[c] = following[c] = 0
        for n in range(block * BLOCK, min((block + 1) * BLOCK, samples)):
            for c in range(width):
                value = values[n * stride + c] * scale[c]
                high = bits_above(value, LEADING)
                leading[c] += high
                following[c] += bits_above(value - high, FOLLOWING)
        for c in range(width):
            if scale[c] != 0:
                add_block(leading[c], following[c], words + c, words + apart + c)
    for c in range(width):
        carry(words + c, words + apart + c)


cdef inline void totals_of_words(
    const int64_t *words, Py_ssize_t apart, Py_ssize_t width, const double *largest, double *totals
) noexcept nogil:
    """Make float64 sums from words over all ranks."""
    cdef Py_ssize_t c
    cdef int64_t low_word, high_word
    cdef double low, unit
    for c in range(width):
        low_word = words[c]
        high_word = words[apart + c]
        carry(&low_word, &high_word)
        unit = unit_of(largest[c]) if largest[c] > 0 else 0
        totals[c] = words_high(low_word, high_word, &low) * (unit if largest[c] < TOO_LARGE else NAN)
