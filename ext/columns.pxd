# Exact sums over columns (dense layers: a row is one value, a channel a column of (N, C)), of some neighbouring
# channels. The same steps and the same words as in exact.pxd, straight from the values.
#
# Values of sample n lie `stride` after those of sample n - 1; words of one channel lie `apart`.
from cython cimport floating
from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t
from error_free cimport product_error
from fixed_point cimport FOLLOWING, LEADING, add_block, bits_above, centre_of, inverse_unit_of, larger, reach_of
from words cimport BLOCK, WIDTH, carry_all, clear


cdef inline void range_of_columns(
    const floating *x, Py_ssize_t stride, const unsigned char *mask, Py_ssize_t samples, Py_ssize_t width,
    double *highest, double *lowest,
) noexcept nogil:
    """Find max x and max −x of the samples that count (mask may be NULL)."""
    cdef floating most[WIDTH]
    cdef floating least[WIDTH]
    cdef floating poison[WIDTH]
    cdef Py_ssize_t n, c
    cdef const floating *values
    for c in range(width):
        most[c] = -INFINITY
        least[c] = INFINITY
        poison[c] = 0
    for n in range(samples):
        if mask is not NULL and not mask[n]:
            continue
        values = x + n * stride
        for c in range(width):
            most[c] = values[c] if values[c] > most[c] else most[c]
            least[c] = values[c] if values[c] < least[c] else least[c]
            poison[c] += values[c] * 0  # not 0 once a value is not finite
    for c in range(width):
        highest[c] = most[c] if poison[c] == 0 else INFINITY
        lowest[c] = -least[c]


cdef inline void sum_columns(
    const floating *x, Py_ssize_t stride, const unsigned char *mask, Py_ssize_t samples, Py_ssize_t width,
    const double *highest, const double *lowest, int64_t *words, Py_ssize_t apart,
) noexcept nogil:
    """Sum m and m², m = x − centre of the range, scaled by its reach."""
    cdef double centre[WIDTH]
    cdef double scale[WIDTH]
    cdef double leading[2][WIDTH]
    cdef double following[2][WIDTH]
    cdef Py_ssize_t block, n, c
    cdef double m, high, square, rest
    cdef const floating *values
    for c in range(width):
        centre[c] = centre_of(highest[c], lowest[c])
        scale[c] = inverse_unit_of(reach_of(highest[c], lowest[c]))
    clear(words, apart, width)
    for block in range((samples + BLOCK - 1) // BLOCK):
        for c in range(width):
            leading[0][c] = leading[1][c] = following[0][c] = following[1][c] = 0
        for n in range(block * BLOCK, min((block + 1) * BLOCK, samples)):
            if mask is not NULL and not mask[n]:
                continue
            values = x + n * stride
            for c in range(width):
                m = (values[c] - centre[c]) * scale[c]
                high = bits_above(m, LEADING)
                leading[0][c] += high
                following[0][c] += bits_above(m - high, FOLLOWING)
                square = m * m
                high = bits_above(square, LEADING)
                leading[1][c] += high
                rest = square - high
                if floating is double:
                    # Where one value lies far out, all others' squares round alike: an error of N/2 roundings.
                    rest = rest + product_error(m, m, square)
                following[1][c] += bits_above(rest, FOLLOWING)
        for c in range(width):
            if scale[c] != 0:
                add_block(leading[0][c], following[0][c], words + c, words + apart + c)
                add_block(leading[1][c], following[1][c], words + 2 * apart + c, words + 3 * apart + c)
    carry_all(words, apart, width)


cdef inline void largest_of_columns(
    const floating *x, const floating *dy, Py_ssize_t stride, Py_ssize_t samples, Py_ssize_t width,
    const double *mean, double *largest_dy, double *largest_product,
) noexcept nogil:
    """Find the largest |dy| and |dy·(x − μ)|; infinite where one is not finite."""
    cdef double poison[2][WIDTH]
    cdef Py_ssize_t n, c
    cdef double product
    cdef const floating *values
    cdef const floating *gradients
    for c in range(width):
        largest_dy[c] = largest_product[c] = poison[0][c] = poison[1][c] = 0
    for n in range(samples):
        values = x + n * stride
        gradients = dy + n * stride
        for c in range(width):
            product = gradients[c] * (values[c] - mean[c])
            largest_dy[c] = larger(largest_dy[c], fabs(gradients[c]))
            largest_product[c] = larger(largest_product[c], fabs(product))
            poison[0][c] += gradients[c] * 0.0
            poison[1][c] += product * 0.0
    for c in range(width):
        largest_dy[c] = largest_dy[c] if poison[0][c] == 0 else INFINITY
        largest_product[c] = largest_product[c] if poison[1][c] == 0 else INFINITY


cdef inline void sum_gradient_columns(
    const floating *x, const floating *dy, Py_ssize_t stride, Py_ssize_t samples, Py_ssize_t width,
    const double *mean, const double *largest_dy, const double *largest_product, int64_t *words, Py_ssize_t apart,
) noexcept nogil:
    """Sum dy and dy·(x − μ), scaled by the largest."""
    cdef double scale[2][WIDTH]
    cdef double leading[2][WIDTH]
    cdef double following[2][WIDTH]
    cdef Py_ssize_t block, n, c, k
    cdef double value, high
    cdef const floating *values
    cdef const floating *gradients
    for c in range(width):
        scale[0][c] = inverse_unit_of(largest_dy[c])
        scale[1][c] = inverse_unit_of(largest_product[c])
    clear(words, apart, width)
    for block in range((samples + BLOCK - 1) // BLOCK):
        for c in range(width):
            leading[0][c] = leading[1][c] = following[0][c] = following[1][c] = 0
        for n in range(block * BLOCK, min((block + 1) * BLOCK, samples)):
            values = x + n * stride
            gradients = dy + n * stride
            for c in range(width):
                value = gradients[c] * scale[0][c]
                high = bits_above(value, LEADING)
                leading[0][c] += high
                following[0][c] += bits_above(value - high, FOLLOWING)
                value = gradients[c] * (values[c] - mean[c]) * scale[1][c]
                high = bits_above(value, LEADING)
                leading[1][c] += high
                following[1][c] += bits_above(value - high, FOLLOWING)
        for k in range(2):
            for c in range(width):
                if scale[k][c] != 0:
                    add_block(leading[k][c], following[k][c],
                              words + 2 * k * apart + c, words + (2 * k + 1) * apart + c)
    carry_all(words, apart, width)
