# Steps of the backward of batch normalization: rows, totals, dx.
from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int64_t
from numpy cimport ndarray
from arrays cimport after, doubles
from columns cimport largest_of_columns, sum_gradient_columns
from exact cimport largest_of_rows, sum_row_values, totals_of_words
from float64 cimport add_rows
from loops cimport input_gradient_places, input_gradient_row, relu_gradient
from rows cimport band_of, gradient_row, gradient_rows_of_band
from shape cimport Shape, Tile, tile_of, tiles_of
from words cimport WIDTH


cdef struct Backward:
    double count
    bint exact
    const double *mean
    const double *invstd
    const double *scale
    double *rows[2]
    double *dweight
    double *dbias
    double *shift
    double *slope


cdef inline Backward backward_of(
    Shape shape, ndarray moments_5c, double count, bint exact, ndarray rows_2nc, ndarray gradients_4c
) noexcept:
    cdef Backward backward
    cdef double *moments = doubles(moments_5c)
    cdef double *rows = doubles(rows_2nc)
    cdef double *gradients = doubles(gradients_4c)
    cdef Py_ssize_t k
    backward.count = count
    backward.exact = exact
    backward.mean = moments
    backward.invstd = moments + 2 * shape.channels
    backward.scale = moments + 3 * shape.channels
    for k in range(2):
        backward.rows[k] = NULL if rows is NULL else rows + k * shape.samples * shape.channels
    if gradients is not NULL:
        backward.dweight = gradients
        backward.dbias = gradients + shape.channels
        backward.shift = gradients + 2 * shape.channels
        backward.slope = gradients + 3 * shape.channels
    return backward


cdef inline void select_gradients(
    const floating *y, const floating *dy, Shape shape, floating *g, int threads
) noexcept:
    """Find dy where y > 0, else 0."""
    cdef Py_ssize_t part, places = shape.samples * shape.size
    for part in prange(places, nogil=True, num_threads=threads, schedule="static"):
        relu_gradient(y + part * shape.channels, dy + part * shape.channels, shape.channels, g + part * shape.channels)


cdef inline void gradient_rows(
    const floating *x, const floating *dy, Shape shape, Backward backward, int threads
) noexcept:
    """Sum all rows."""
    cdef Py_ssize_t part, n, c, at, row, band = 1, parts = shape.channels, size = shape.samples * shape.sample_stride
    if shape.channels_last and shape.samples > 0:
        band = band_of(shape.samples, shape.channels, threads)
        parts = (shape.channels + band - 1) // band
    for part in prange(shape.samples * parts, nogil=True, num_threads=threads, schedule="static"):
        n = part // parts
        if shape.channels_last:
            c = part % parts * band
            at = n * shape.sample_stride + c
            row = n * shape.channels + c
            gradient_rows_of_band(x + at, dy + at, shape.channels, shape.size, min(band, shape.channels - c),
                                  shape.far, backward.mean + c, backward.rows[0] + row, backward.rows[1] + row)
        else:
            at = part * shape.size
            gradient_row(x + at, x + size, dy + at, dy + size, shape.size, backward.mean[part % parts],
                         backward.rows[0] + part, backward.rows[1] + part, <const floating *>NULL)


cdef inline void input_gradient(
    const floating *x, const floating *dy, Shape shape, const unsigned char *mask,
    Backward backward, floating *dx, int threads,
) noexcept:
    """Find all of dx."""
    cdef Py_ssize_t part, n, c, at, places = shape.samples * shape.size
    if shape.channels_last:
        for part in prange(tiles_of(places, shape.channels), nogil=True, num_threads=threads, schedule="static"):
            input_gradient_tile(x, dy, mask, tile_of(places, shape.channels, part), shape.channels, backward.mean,
                                backward.scale, backward.shift, backward.slope, dx)
    else:
        for part in prange(shape.samples * shape.channels, nogil=True, num_threads=threads, schedule="static"):
            at = part * shape.size
            n = part // shape.channels
            c = part % shape.channels
            input_gradient_row(x + at, dy + at, after(mask, n * shape.size), shape.size, backward.mean[c],
                               backward.scale[c], backward.shift[c], backward.slope[c], dx + at, 0)


cdef inline void input_gradient_tile(
    const floating *x, const floating *dy, const unsigned char *mask, Tile tile, Py_ssize_t channels,
    const double *mean, const double *scale, const double *shift, const double *slope, floating *dx,
) noexcept nogil:
    """Find dx of some places of channels-last memory."""
    cdef Py_ssize_t at = tile.start * channels
    input_gradient_places(x + at, dy + at, after(mask, tile.start), tile.places, channels, mean, scale, shift, slope,
                          dx + at)


cdef inline void totals_of_block(
    const floating *x, const floating *dy, Shape shape, Backward backward, Py_ssize_t start, Py_ssize_t width
) noexcept nogil:
    """Make the factors of dx, and the parameters' gradients, of up to 256 channels from their rows, or columns."""
    cdef double largest[2 * WIDTH]
    cdef double totals[2 * WIDTH]
    cdef int64_t words[4 * WIDTH]
    cdef const double *sums
    cdef Py_ssize_t k, c
    if shape.columns:
        largest_of_columns(x + start, dy + start, shape.channels, shape.samples, width, backward.mean + start,
                           largest, largest + WIDTH)
        sum_gradient_columns(x + start, dy + start, shape.channels, shape.samples, width, backward.mean + start,
                             largest, largest + WIDTH, words, WIDTH)
    for k in range(2):
        sums = NULL if shape.columns else backward.rows[k] + start
        if backward.exact:
            if not shape.columns:
                largest_of_rows(sums, shape.channels, shape.samples, width, largest + k * WIDTH)
                sum_row_values(sums, shape.channels, shape.samples, width, largest + k * WIDTH,
                               words + 2 * k * WIDTH, WIDTH)
            totals_of_words(words + 2 * k * WIDTH, WIDTH, width, largest + k * WIDTH, totals + k * WIDTH)
        else:
            add_rows(sums, shape.channels, shape.samples, width, totals + k * WIDTH)
    for c in range(width):
        factors_of_channel(backward, start + c, totals[c], totals[WIDTH + c])


cdef inline void factors_of_channel(Backward backward, Py_ssize_t c, double total, double product) noexcept nogil:
    cdef double invstd = backward.invstd[c]
    backward.dweight[c] = invstd * product
    backward.dbias[c] = total
    if backward.count == 0:
        backward.shift[c] = backward.slope[c] = 0
        return
    backward.shift[c] = backward.scale[c] * (total / backward.count)
    backward.slope[c] = backward.scale[c] * (invstd * (invstd * (product / backward.count)))  # invstd² may be too large
