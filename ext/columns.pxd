# Exact sums over columns (dense layers: a row is one value, a channel a column of (N, C)), of some neighbouring
# channels. The same steps and the same words as in exact.pxd, straight from the values.
#
# Values of sample n lie `stride` after those of sample n - 1; words of one channel lie `apart`.
from cython cimport floating
from libc.math cimport INFINITY
from libc.stdint cimport int64_t
from exact cimport sum_rows
from fixed_point cimport EXTRACTED, LEADING, add_block, centre_of, inverse_unit_of, reach_of
from loops cimport column_gradient_range, column_gradient_sums, column_range, column_sums
from words cimport MOMENT_WORDS, WIDTH, carry_all, clear


cdef inline void range_of_columns(
    const floating *x, Py_ssize_t stride, const unsigned char *mask, Py_ssize_t samples, Py_ssize_t width,
    double *highest, double *lowest,
) noexcept nogil:
    """Find max x and max −x of the samples that count (mask may be NULL)."""
    cdef floating most[WIDTH]
    cdef floating least[WIDTH]
    cdef floating poison[WIDTH]
    cdef Py_ssize_t n, c
    for c in range(width):
        most[c] = -INFINITY
        least[c] = INFINITY
        poison[c] = 0
    if mask is NULL:
        column_range(x, stride, samples, &most[0], &least[0], &poison[0], width)
    else:
        for n in range(samples):
            if mask[n]:
                column_range(x + n * stride, stride, 1, &most[0], &least[0], &poison[0], width)
    for c in range(width):
        highest[c] = most[c] if poison[c] == 0 else INFINITY
        lowest[c] = -least[c]


cdef inline void sum_columns(
    const floating *x, Py_ssize_t stride, const unsigned char *mask, Py_ssize_t samples, Py_ssize_t width,
    const double *highest, const double *lowest, int64_t *words, Py_ssize_t apart,
) noexcept nogil:
    """Sum m and m², m = x − centre of the range, scaled by its reach."""
    cdef double centre[WIDTH]
    cdef double scale[2][WIDTH]
    cdef double leading[2][WIDTH]
    cdef double following[2][WIDTH]
    cdef Py_ssize_t block, start, count, n, c
    for c in range(width):
        centre[c] = centre_of(highest[c], lowest[c])
        scale[0][c] = scale[1][c] = inverse_unit_of(reach_of(highest[c], lowest[c]))
    clear(words, apart, width)
    for block in range((samples + EXTRACTED - 1) // EXTRACTED):
        start = block * EXTRACTED
        count = min(EXTRACTED, samples - start)
        begin(leading, following, width)
        if mask is NULL:
            column_sums(x + start * stride, stride, count, centre, scale[0], leading[0], following[0], leading[1],
                        following[1], width)
        else:
            for n in range(start, start + count):
                if mask[n]:
                    column_sums(x + n * stride, stride, 1, centre, scale[0], leading[0], following[0], leading[1],
                                following[1], width)
        end(scale, leading, following, width, words, apart)
    carry_all(words, apart, width)


cdef inline void sum_columns_among_rows(
    const floating *x, Py_ssize_t stride, const unsigned char *mask, double most, Py_ssize_t samples, Py_ssize_t width,
    const double *highest, const double *lowest, int64_t *words, Py_ssize_t apart,
) noexcept nogil:
    """Do the same where other ranks have rows of up to ``most`` values, scaled as these are: rare, so one by one."""
    cdef double first[WIDTH]
    cdef double nothing[WIDTH]
    cdef int64_t row[MOMENT_WORDS * WIDTH]
    cdef double one = 1
    cdef Py_ssize_t n, w, c
    clear(words, apart, width)
    for c in range(width):
        nothing[c] = 0
    for n in range(samples):
        if mask is NULL or mask[n]:
            for c in range(width):
                first[c] = x[n * stride + c]
            sum_rows(first, nothing, nothing, 0, &one, most, 1, width, highest, lowest, row, WIDTH)
            for w in range(MOMENT_WORDS):
                for c in range(width):
                    words[w * apart + c] += row[w * WIDTH + c]
            carry_all(words, apart, width)


cdef inline void begin(double (*leading)[WIDTH], double (*following)[WIDTH], Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t k, c
    for k in range(2):
        for c in range(width):
            leading[k][c] = LEADING
            following[k][c] = 0


cdef inline void end(
    double (*scale)[WIDTH], double (*leading)[WIDTH], double (*following)[WIDTH], Py_ssize_t width, int64_t *words,
    Py_ssize_t apart,
) noexcept nogil:
    cdef Py_ssize_t k, c
    for k in range(2):
        for c in range(width):
            if scale[k][c] != 0:
                add_block(leading[k][c] - LEADING, following[k][c], words + 2 * k * apart + c,
                          words + (2 * k + 1) * apart + c)


cdef inline void largest_of_columns(
    const floating *x, const floating *dy, Py_ssize_t stride, Py_ssize_t samples, Py_ssize_t width,
    const double *mean, double *largest_dy, double *largest_product,
) noexcept nogil:
    """Find the largest |dy| and |dy·(x − μ)|; infinite where one is not finite."""
    cdef double total[2][WIDTH]
    cdef Py_ssize_t c
    for c in range(width):
        largest_dy[c] = largest_product[c] = total[0][c] = total[1][c] = 0
    column_gradient_range(x, dy, stride, samples, mean, largest_dy, largest_product, total[0], total[1], width)
    for c in range(width):
        largest_dy[c] = largest_dy[c] if total[0][c] < INFINITY else INFINITY
        largest_product[c] = largest_product[c] if total[1][c] < INFINITY else INFINITY


cdef inline void sum_gradient_columns(
    const floating *x, const floating *dy, Py_ssize_t stride, Py_ssize_t samples, Py_ssize_t width,
    const double *mean, const double *largest_dy, const double *largest_product, int64_t *words, Py_ssize_t apart,
) noexcept nogil:
    """Sum dy and dy·(x − μ), scaled by the largest."""
    cdef double scale[2][WIDTH]
    cdef double leading[2][WIDTH]
    cdef double following[2][WIDTH]
    cdef Py_ssize_t block, start, at, c
    for c in range(width):
        scale[0][c] = inverse_unit_of(largest_dy[c])
        scale[1][c] = inverse_unit_of(largest_product[c])
    clear(words, apart, width)
    for block in range((samples + EXTRACTED - 1) // EXTRACTED):
        start = block * EXTRACTED
        at = start * stride
        begin(leading, following, width)
        column_gradient_sums(x + at, dy + at, stride, min(EXTRACTED, samples - start), mean, scale[0], scale[1],
                             leading[0], following[0], leading[1], following[1], width)
        end(scale, leading, following, width, words, apart)
    carry_all(words, apart, width)
