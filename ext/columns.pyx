"""Exact sums over columns: dense layers, where a row is one value and a channel a column of (N, C).

The same three steps and the same words as in exact.pyx, straight from the values.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t
from error_free cimport product_error
from fixed_point cimport FOLLOWING, LEADING, add_block, bits_above, inverse_unit_of, larger
from words cimport BLOCK, WIDTH, carry_all, centre_in, clear, reach_in, width_of


def moment_ranges_columns(
    const floating[:, ::1] x_nc,          # IN
    const unsigned char[::1] mask_n,      # IN   (0,): all values count
    double[::1] range_w,                  # OUT
    int threads,                          # IN
):
    cdef Py_ssize_t start, channels = x_nc.shape[1]
    range_w[0] = 1
    for start in prange(0, channels, WIDTH, nogil=True, num_threads=threads, schedule="static"):
        range_columns(x_nc, mask_n, range_w, start)


cdef void range_columns(
    const floating[:, ::1] x_nc, const unsigned char[::1] mask_n, double[::1] range_w, Py_ssize_t start
) noexcept nogil:
    cdef floating highest[WIDTH]
    cdef floating lowest[WIDTH]
    cdef floating poison[WIDTH]
    cdef Py_ssize_t width = width_of(start, x_nc.shape[1])
    cdef Py_ssize_t n, c
    cdef const floating *x
    for c in range(width):
        highest[c] = -INFINITY
        lowest[c] = INFINITY
        poison[c] = 0
    for n in range(x_nc.shape[0]):
        if mask_n.shape[0] > 0 and not mask_n[n]:
            continue
        x = &x_nc[n, start]
        for c in range(width):
            highest[c] = x[c] if x[c] > highest[c] else highest[c]
            lowest[c] = x[c] if x[c] < lowest[c] else lowest[c]
            poison[c] += x[c] * 0  # not 0 once a value is not finite
    for c in range(width):
        range_w[1 + start + c] = highest[c] if poison[c] == 0 else INFINITY
        range_w[1 + x_nc.shape[1] + start + c] = -lowest[c]


def moment_sums_columns(
    const floating[:, ::1] x_nc,          # IN
    const unsigned char[::1] mask_n,      # IN
    const double[::1] range_w,            # IN   over all ranks
    int64_t[:, ::1] words_4c,             # OUT  Σm and Σm², two words each; m = x − centre, scaled
    int threads,                          # IN
):
    cdef Py_ssize_t start, channels = words_4c.shape[1]
    for start in prange(0, channels, WIDTH, nogil=True, num_threads=threads, schedule="static"):
        sum_columns(x_nc, mask_n, range_w, words_4c, start)


cdef void sum_columns(
    const floating[:, ::1] x_nc, const unsigned char[::1] mask_n, const double[::1] range_w,
    int64_t[:, ::1] words_4c, Py_ssize_t start,
) noexcept nogil:
    cdef double centre[WIDTH]
    cdef double scale[WIDTH]
    cdef double leading[2][WIDTH]
    cdef double following[2][WIDTH]
    cdef Py_ssize_t width = width_of(start, words_4c.shape[1])
    cdef Py_ssize_t samples = x_nc.shape[0]
    cdef Py_ssize_t block, n, c
    cdef double m, high, square, rest
    cdef const floating *x
    for c in range(width):
        centre[c] = centre_in(range_w, start + c)
        scale[c] = inverse_unit_of(reach_in(range_w, start + c))
    clear(words_4c, start, width)
    for block in range((samples + BLOCK - 1) // BLOCK):
        for c in range(width):
            leading[0][c] = leading[1][c] = following[0][c] = following[1][c] = 0
        for n in range(block * BLOCK, min((block + 1) * BLOCK, samples)):
            if mask_n.shape[0] > 0 and not mask_n[n]:
                continue
            x = &x_nc[n, start]
            for c in range(width):
                m = (x[c] - centre[c]) * scale[c]
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
                add_block(leading[0][c], following[0][c], &words_4c[0, start + c], &words_4c[1, start + c])
                add_block(leading[1][c], following[1][c], &words_4c[2, start + c], &words_4c[3, start + c])
    carry_all(words_4c, start, width)


def largest_gradients_columns(
    const floating[:, ::1] x_nc,       # IN
    const floating[:, ::1] dy_nc,      # IN
    const double[::1] mean_c,          # IN
    double[:, ::1] largest_2c,         # OUT  of |dy| and |dy·(x − μ)|; infinite where one is not finite
    int threads,                       # IN
):
    cdef Py_ssize_t start, channels = largest_2c.shape[1]
    for start in prange(0, channels, WIDTH, nogil=True, num_threads=threads, schedule="static"):
        largest_columns(x_nc, dy_nc, mean_c, largest_2c, start)


cdef void largest_columns(
    const floating[:, ::1] x_nc, const floating[:, ::1] dy_nc, const double[::1] mean_c, double[:, ::1] largest_2c,
    Py_ssize_t start,
) noexcept nogil:
    cdef double largest[2][WIDTH]
    cdef double poison[2][WIDTH]
    cdef Py_ssize_t width = width_of(start, largest_2c.shape[1])
    cdef Py_ssize_t n, c
    cdef double product
    cdef const double *mean = &mean_c[start]
    cdef const floating *x
    cdef const floating *dy
    for c in range(width):
        largest[0][c] = largest[1][c] = poison[0][c] = poison[1][c] = 0
    for n in range(x_nc.shape[0]):
        x = &x_nc[n, start]
        dy = &dy_nc[n, start]
        for c in range(width):
            product = dy[c] * (x[c] - mean[c])
            largest[0][c] = larger(largest[0][c], fabs(dy[c]))
            largest[1][c] = larger(largest[1][c], fabs(product))
            poison[0][c] += dy[c] * 0.0
            poison[1][c] += product * 0.0
    for c in range(width):
        largest_2c[0, start + c] = largest[0][c] if poison[0][c] == 0 else INFINITY
        largest_2c[1, start + c] = largest[1][c] if poison[1][c] == 0 else INFINITY


def gradient_sums_columns(
    const floating[:, ::1] x_nc,       # IN
    const floating[:, ::1] dy_nc,      # IN
    const double[::1] mean_c,          # IN
    const double[:, ::1] largest_2c,   # IN   over all ranks
    int64_t[:, ::1] words_4c,          # OUT  Σdy and Σdy·(x − μ), scaled, two words each
    int threads,                       # IN
):
    cdef Py_ssize_t start, channels = words_4c.shape[1]
    for start in prange(0, channels, WIDTH, nogil=True, num_threads=threads, schedule="static"):
        sum_gradient_columns(x_nc, dy_nc, mean_c, largest_2c, words_4c, start)


cdef void sum_gradient_columns(
    const floating[:, ::1] x_nc, const floating[:, ::1] dy_nc, const double[::1] mean_c,
    const double[:, ::1] largest_2c, int64_t[:, ::1] words_4c, Py_ssize_t start,
) noexcept nogil:
    cdef double scale[2][WIDTH]
    cdef double leading[2][WIDTH]
    cdef double following[2][WIDTH]
    cdef Py_ssize_t width = width_of(start, words_4c.shape[1])
    cdef Py_ssize_t samples = x_nc.shape[0]
    cdef Py_ssize_t block, n, c, k
    cdef double value, high
    cdef const double *mean = &mean_c[start]
    cdef const floating *x
    cdef const floating *dy
    for c in range(width):
        scale[0][c] = inverse_unit_of(largest_2c[0, start + c])
        scale[1][c] = inverse_unit_of(largest_2c[1, start + c])
    clear(words_4c, start, width)
    for block in range((samples + BLOCK - 1) // BLOCK):
        for c in range(width):
            leading[0][c] = leading[1][c] = following[0][c] = following[1][c] = 0
        for n in range(block * BLOCK, min((block + 1) * BLOCK, samples)):
            x = &x_nc[n, start]
            dy = &dy_nc[n, start]
            for c in range(width):
                value = dy[c] * scale[0][c]
                high = bits_above(value, LEADING)
                leading[0][c] += high
                following[0][c] += bits_above(value - high, FOLLOWING)
                value = dy[c] * (x[c] - mean[c]) * scale[1][c]
                high = bits_above(value, LEADING)
                leading[1][c] += high
                following[1][c] += bits_above(value - high, FOLLOWING)
        for k in range(2):
            for c in range(width):
                if scale[k][c] != 0:
                    add_block(
                        leading[k][c], following[k][c], &words_4c[2 * k, start + c], &words_4c[2 * k + 1, start + c]
                    )
    carry_all(words_4c, start, width)
