# Steps of the forward of batch normalization: rows, moments, y.
from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int64_t
from numpy cimport ndarray
from arrays cimport after, doubles
from columns cimport range_of_columns, sum_columns
from exact cimport largest_count, moments_of_words, range_of_rows, sum_rows
from float64 cimport moments_of_words_float64, sum_rows_float64
from loops cimport normalize_places, normalize_row
from rows cimport band_of, moment_row, moment_rows_of_band
from shape cimport Shape, Tile, tile_of, tiles_of
from words cimport WIDTH


cdef struct Forward:
    const double *counts
    double count
    double eps
    bint exact
    const double *weight  # NULL: 1
    const double *bias  # NULL: 0
    double *rows[3]
    double *mean
    double *var
    double *invstd
    double *scale
    double *shift


cdef inline Forward forward_of(
    Shape shape, ndarray count_n, double count, ndarray weight_c, ndarray bias_c, double eps, bint exact,
    ndarray rows_3nc, ndarray moments_5c,
) noexcept:
    cdef Forward forward
    cdef double *rows = doubles(rows_3nc)
    cdef double *moments = doubles(moments_5c)
    cdef Py_ssize_t k
    forward.counts = doubles(count_n)
    forward.count = count
    forward.eps = eps
    forward.exact = exact
    forward.weight = doubles(weight_c)
    forward.bias = doubles(bias_c)
    for k in range(3):
        forward.rows[k] = NULL if rows is NULL else rows + k * shape.samples * shape.channels
    if moments is not NULL:
        forward.mean = moments
        forward.var = moments + shape.channels
        forward.invstd = moments + 2 * shape.channels
        forward.scale = moments + 3 * shape.channels
        forward.shift = moments + 4 * shape.channels
    return forward


cdef inline void moment_rows(
    const floating *x, Shape shape, const unsigned char *mask, Forward forward, int threads
) noexcept:
    """Sum all rows."""
    cdef Py_ssize_t part, n, c, row, band = 1, parts = shape.channels
    cdef const floating *end = x + shape.samples * shape.sample_stride
    if shape.channels_last and shape.samples > 0:
        band = band_of(shape.samples, shape.channels, threads)
        parts = (shape.channels + band - 1) // band
    for part in prange(shape.samples * parts, nogil=True, num_threads=threads, schedule="static"):
        n = part // parts
        if shape.channels_last:
            c = part % parts * band
            row = n * shape.channels + c
            moment_rows_of_band(
                x + n * shape.sample_stride + c, shape.channels, after(mask, n * shape.size), shape.size,
                min(band, shape.channels - c), shape.far, forward.rows[0] + row, forward.rows[1] + row,
                forward.rows[2] + row,
            )
        else:
            moment_row(x + part * shape.size, end, after(mask, n * shape.size), shape.size, forward.rows[0] + part,
                       forward.rows[1] + part, forward.rows[2] + part, <const floating *>NULL)


cdef inline void normalize(
    const floating *x, Shape shape, Forward forward, const floating *residual, bint relu, floating *y, int threads
) noexcept:
    """Normalize all values."""
    cdef Py_ssize_t part, c, at, places = shape.samples * shape.size
    if shape.channels_last:
        for part in prange(tiles_of(places, shape.channels), nogil=True, num_threads=threads, schedule="static"):
            normalize_tile(x, tile_of(places, shape.channels, part), shape.channels, forward.mean, forward.scale,
                           forward.shift, residual, relu, y)
    else:
        for part in prange(shape.samples * shape.channels, nogil=True, num_threads=threads, schedule="static"):
            at = part * shape.size
            c = part % shape.channels
            normalize_row(x + at, shape.size, forward.mean[c], forward.scale[c], forward.shift[c], after(residual, at),
                          relu, y + at, NULL)


cdef inline void normalize_tile(
    const floating *x, Tile tile, Py_ssize_t channels, const double *mean, const double *scale, const double *shift,
    const floating *residual, bint relu, floating *y,
) noexcept nogil:
    """Normalize some places of channels-last memory."""
    cdef Py_ssize_t at = tile.start * channels
    normalize_places(x + at, tile.places, channels, mean, scale, shift, after(residual, at), relu, y + at)


cdef inline void moments_of_block(
    const floating *x, Shape shape, const unsigned char *mask, Forward forward, Py_ssize_t start, Py_ssize_t width
) noexcept nogil:
    """Make the moments of up to 256 channels from their rows, or columns."""
    cdef double highest[WIDTH]
    cdef double lowest[WIDTH]
    cdef int64_t words[4 * WIDTH]
    cdef double words_float64[4 * WIDTH]
    cdef const double *first = NULL
    cdef const double *deviation = NULL
    cdef const double *square = NULL
    cdef double most = 1
    if not shape.columns:
        first = forward.rows[0] + start
        deviation = forward.rows[1] + start
        square = forward.rows[2] + start
    if forward.exact:
        if shape.columns:
            range_of_columns(x + start, shape.channels, mask, shape.samples, width, highest, lowest)
            sum_columns(x + start, shape.channels, mask, shape.samples, width, highest, lowest, words, WIDTH)
        else:
            most = largest_count(forward.counts, shape.samples)
            range_of_rows(first, deviation, square, shape.channels, forward.counts, shape.samples, width,
                          highest, lowest)
            sum_rows(first, deviation, square, shape.channels, forward.counts, most, shape.samples, width,
                     highest, lowest, words, WIDTH)
        moments_of_words(words, WIDTH, width, highest, lowest, most, forward.count, forward.eps,
                         forward.mean + start, forward.var + start, forward.invstd + start)
    else:
        sum_rows_float64(first, deviation, square, shape.channels, forward.counts, shape.samples, width,
                         words_float64, WIDTH)
        moments_of_words_float64(words_float64, WIDTH, width, forward.count, forward.eps,
                                 forward.mean + start, forward.var + start, forward.invstd + start)
    factors_of_y(forward, start, width)


cdef inline void factors_of_y(Forward forward, Py_ssize_t start, Py_ssize_t width) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(start, start + width):
        forward.scale[c] = forward.invstd[c] if forward.weight is NULL else forward.weight[c] * forward.invstd[c]
        forward.shift[c] = 0 if forward.bias is NULL else forward.bias[c]
