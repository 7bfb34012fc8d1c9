"""Batch normalization of one process alone, in one call a direction.

The steps, and so the bits, are those of rows.pyx or columns.pyx, exact.pyx or float64.pyx, normalize.pyx and
gradients.pyx. In channels-first memory they follow each other for one block of channels after the other, while the
block is in cache. In channels-last memory a block of channels would be torn out of each cache line's neighbourhood: the
steps go through the whole array, in order of its memory.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt
from libc.stdint cimport int64_t
from columns cimport largest_of_columns, range_of_columns, sum_columns, sum_gradient_columns
from exact cimport (
    largest_count, largest_of_rows, moments_of_words, range_of_rows, sum_row_values, sum_rows, total_of_words,
)
from float64 cimport moments_of_words_float64, sum_rows_float64
from loops cimport input_gradient_place, input_gradient_row, normalize_place, normalize_row, relu_gradient
from rows cimport PLACE, gradient_row, gradient_rows_of_place, moment_row, moment_rows_of_place
from words cimport WIDTH, parts_of, width_of

cdef struct Shape:
    Py_ssize_t samples
    Py_ssize_t channels
    Py_ssize_t size  # values of a row
    Py_ssize_t sample_stride  # values of a sample
    bint columns  # exact sums straight from values: a row is one value


cdef Shape shape_of(const floating[:, :, ::1] x, bint channels_last, bint exact) noexcept nogil:
    cdef Shape shape
    shape.samples = x.shape[0]
    shape.channels = x.shape[2] if channels_last else x.shape[1]
    shape.size = x.shape[1] if channels_last else x.shape[2]
    shape.sample_stride = x.shape[1] * x.shape[2]
    shape.columns = exact and channels_last and shape.size == 1
    return shape


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


cdef Forward forward_of(
    const double[::1] weight_c, const double[::1] bias_c, double count, double eps, bint exact,
    double[:, ::1] moments_5c,
) noexcept nogil:
    cdef Forward forward
    cdef Py_ssize_t k
    forward.counts = NULL
    forward.count = count
    forward.eps = eps
    forward.exact = exact
    forward.weight = &weight_c[0] if weight_c is not None else NULL
    forward.bias = &bias_c[0] if bias_c is not None else NULL
    for k in range(3):
        forward.rows[k] = NULL
    if moments_5c is not None:
        forward.mean = &moments_5c[0, 0]
        forward.var = &moments_5c[1, 0]
        forward.invstd = &moments_5c[2, 0]
        forward.scale = &moments_5c[3, 0]
        forward.shift = &moments_5c[4, 0]
    return forward


def batch_forward(
    const floating[:, :, ::1] x,           # IN   (N, C, S), or (N, S, C) where channels_last, as all of its kind
    bint channels_last,                    # IN
    const unsigned char[:, ::1] mask_ns,   # IN   None: all values count
    const double[::1] count_n,             # IN   values that count in each row of sample n
    int64_t count,                         # IN   values per channel, at least 1
    const double[::1] weight_c,            # IN   None: 1
    const double[::1] bias_c,              # IN   None: 0
    double eps,                            # IN
    bint exact,                            # IN   exact sums, else float64
    const floating[:, :, ::1] residual,    # IN   added to the result, or None
    bint relu,                             # IN   whether negative values then become 0
    Py_ssize_t block,                      # IN   channels of channels-first memory that fit in cache, at most 128
    double[:, :, ::1] rows_3nc,            # OUT  x₀, Σ(x − x₀) and Σ(x − x₀)² of rows; None for columns: dense, exact
    double[:, ::1] moments_5c,             # OUT  μ, var (biased), 1/√(var + eps), and the factors of y: scale and bias
    floating[:, :, ::1] y,                 # OUT  (x − μ)·scale + bias
    int threads,                           # IN
):
    cdef Shape shape = shape_of(x, channels_last, exact)
    cdef Forward forward = forward_of(weight_c, bias_c, <double>count, eps, exact, moments_5c)
    cdef Py_ssize_t part, k, c, parts = (shape.channels + block - 1) // block
    cdef const floating *values = &x[0, 0, 0]
    cdef const unsigned char *mask = &mask_ns[0, 0] if mask_ns is not None else NULL
    cdef const floating *added = &residual[0, 0, 0] if residual is not None else NULL
    forward.counts = &count_n[0]
    for k in range(3):
        forward.rows[k] = &rows_3nc[k, 0, 0] if rows_3nc is not None else NULL
    if channels_last:
        if not shape.columns:
            moment_rows(values, shape, channels_last, mask, forward, threads)
        for part in prange(parts_of(shape.channels), nogil=True, num_threads=threads, schedule="static"):
            c = part * WIDTH
            moments_of_block(values, shape, mask, forward, c, width_of(c, shape.channels))
        normalize(values, shape, channels_last, forward, added, relu, &y[0, 0, 0], threads)
    else:
        for part in prange(parts, nogil=True, num_threads=threads, schedule="static"):
            forward_block(values, shape, mask, forward, added, relu, part * block,
                          min(block, shape.channels - part * block), &y[0, 0, 0])


def batch_inference(
    const floating[:, :, ::1] x,           # IN   (N, C, S), or (N, S, C) where channels_last, as all of its kind
    bint channels_last,                    # IN
    const double[::1] mean_c,              # IN
    const double[::1] var_c,               # IN
    const double[::1] weight_c,            # IN   None: 1
    const double[::1] bias_c,              # IN   None: 0
    double eps,                            # IN
    const floating[:, :, ::1] residual,    # IN   added to the result, or None
    bint relu,                             # IN   whether negative values then become 0
    double[:, ::1] moments_5c,             # OUT  μ, var, 1/√(var + eps), scale and bias
    floating[:, :, ::1] y,                 # OUT  (x − μ)·scale + bias
    int threads,                           # IN
):
    cdef Shape shape = shape_of(x, channels_last, False)
    cdef Forward forward = forward_of(weight_c, bias_c, 0, eps, False, moments_5c)
    cdef const floating *added = &residual[0, 0, 0] if residual is not None else NULL
    cdef Py_ssize_t c
    for c in range(shape.channels):
        forward.mean[c] = mean_c[c]
        forward.var[c] = var_c[c]
        forward.invstd[c] = 1 / sqrt(var_c[c] + eps)
    factors_of_y(forward, 0, shape.channels)
    normalize(&x[0, 0, 0], shape, channels_last, forward, added, relu, &y[0, 0, 0], threads)


cdef void moment_rows(
    const floating *x, Shape shape, bint channels_last, const unsigned char *mask, Forward forward, int threads
) noexcept:
    """Sum all rows."""
    cdef Py_ssize_t part, n, c, row, parts = shape.channels
    cdef const floating *end = x + shape.samples * shape.sample_stride
    if channels_last:
        parts = (shape.channels + PLACE - 1) // PLACE
    for part in prange(shape.samples * parts, nogil=True, num_threads=threads, schedule="static"):
        n = part // parts
        if channels_last:
            c = part % parts * PLACE
            row = n * shape.channels + c
            moment_rows_of_place(
                x + n * shape.sample_stride + c, shape.channels, NULL if mask is NULL else mask + n * shape.size,
                shape.size, min(PLACE, shape.channels - c), forward.rows[0] + row, forward.rows[1] + row,
                forward.rows[2] + row,
            )
        else:
            moment_row(x + part * shape.size, end, NULL if mask is NULL else mask + n * shape.size, shape.size,
                       forward.rows[0] + part, forward.rows[1] + part, forward.rows[2] + part,
                       <const floating *>NULL)


cdef void normalize(
    const floating *x, Shape shape, bint channels_last, Forward forward, const floating *residual, bint relu,
    floating *y, int threads,
) noexcept:
    """Normalize all values."""
    cdef Py_ssize_t part, c, at
    if channels_last:
        for part in prange(shape.samples * shape.size, nogil=True, num_threads=threads, schedule="static"):
            at = part * shape.channels
            normalize_place(x + at, shape.channels, forward.mean, forward.scale, forward.shift,
                            NULL if residual is NULL else residual + at, relu, y + at)
    else:
        for part in prange(shape.samples * shape.channels, nogil=True, num_threads=threads, schedule="static"):
            at = part * shape.size
            c = part % shape.channels
            normalize_row(x + at, shape.size, forward.mean[c], forward.scale[c], forward.shift[c],
                          NULL if residual is NULL else residual + at, relu, y + at, NULL)


cdef void forward_block(
    const floating *x, Shape shape, const unsigned char *mask, Forward forward, const floating *residual, bint relu,
    Py_ssize_t start, Py_ssize_t width, floating *y,
) noexcept nogil:
    """Normalize channels ``start`` and following of channels-first memory."""
    cdef const floating *end = x + shape.samples * shape.sample_stride
    cdef Py_ssize_t n, c, row, at
    for n in range(shape.samples):
        for c in range(start, start + width):
            row = n * shape.channels + c
            moment_row(x + row * shape.size, end, NULL if mask is NULL else mask + n * shape.size, shape.size,
                       forward.rows[0] + row, forward.rows[1] + row, forward.rows[2] + row, y + row * shape.size)
    moments_of_block(x, shape, mask, forward, start, width)
    for n in range(shape.samples):
        for c in range(start, start + width):
            at = (n * shape.channels + c) * shape.size
            normalize_row(x + at, shape.size, forward.mean[c], forward.scale[c], forward.shift[c],
                          NULL if residual is NULL else residual + at, relu, y + at, x + at + width * shape.size)


cdef void moments_of_block(
    const floating *x, Shape shape, const unsigned char *mask, Forward forward, Py_ssize_t start, Py_ssize_t width
) noexcept nogil:
    """Make the moments of up to 128 channels from their rows, or columns."""
    cdef double highest[WIDTH]
    cdef double lowest[WIDTH]
    cdef int64_t words[4 * WIDTH]
    cdef double words_float64[4 * WIDTH]
    cdef const double *first = NULL
    cdef const double *deviation = NULL
    cdef const double *square = NULL
    cdef double most = 1
    cdef Py_ssize_t c
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


def batch_backward(
    const floating[:, :, ::1] x,           # IN   (N, C, S), or (N, S, C) where channels_last, as all of its kind
    const floating[:, :, ::1] dy,          # IN
    bint channels_last,                    # IN
    const unsigned char[:, ::1] mask_ns,   # IN   None: all values count
    int64_t count,                         # IN   values per channel; 0: μ and var are constants
    const double[:, ::1] moments_5c,       # IN   of the forward
    bint exact,                            # IN   exact sums, else float64
    const floating[:, :, ::1] y,           # IN   result of a forward with relu, or None
    Py_ssize_t block,                      # IN   channels of channels-first memory that fit in cache, at most 128
    double[:, :, ::1] rows_2nc,            # OUT  Σg and Σg·(x − μ) of rows; None for columns
    double[:, ::1] gradients_4c,           # OUT  of weight and bias, and through the mean and the variance
    floating[:, :, ::1] g,                 # OUT  with relu: dy where y > 0, else 0; or None
    floating[:, :, ::1] dx,                # OUT
    int threads,                           # IN
):
    cdef Shape shape = shape_of(x, channels_last, exact)
    cdef Backward backward
    cdef Py_ssize_t part, k, n, c, at, parts, size = shape.samples * shape.sample_stride
    cdef const floating *values = &x[0, 0, 0]
    cdef const floating *gradient = &dy[0, 0, 0]
    cdef const floating *result = &y[0, 0, 0] if y is not None else NULL
    cdef const unsigned char *mask = &mask_ns[0, 0] if mask_ns is not None else NULL
    cdef floating *out = &dx[0, 0, 0]
    cdef floating *selected = &g[0, 0, 0] if g is not None else out
    backward.count = <double>count
    backward.exact = exact
    backward.mean = &moments_5c[0, 0]
    backward.invstd = &moments_5c[2, 0]
    backward.scale = &moments_5c[3, 0]
    for k in range(2):
        backward.rows[k] = &rows_2nc[k, 0, 0] if rows_2nc is not None else NULL
    backward.dweight = &gradients_4c[0, 0]
    backward.dbias = &gradients_4c[1, 0]
    backward.shift = &gradients_4c[2, 0]
    backward.slope = &gradients_4c[3, 0]
    if not channels_last:
        parts = (shape.channels + block - 1) // block
        for part in prange(parts, nogil=True, num_threads=threads, schedule="static"):
            backward_block(values, gradient, shape, mask, result, backward, part * block,
                           min(block, shape.channels - part * block), selected, out)
        return
    if result is not NULL:
        for part in prange(shape.samples * shape.size, nogil=True, num_threads=threads, schedule="static"):
            at = part * shape.channels
            relu_gradient(result + at, gradient + at, shape.channels, selected + at)
        gradient = selected
    if not shape.columns:
        parts = (shape.channels + PLACE - 1) // PLACE
        for part in prange(shape.samples * parts, nogil=True, num_threads=threads, schedule="static"):
            n = part // parts
            c = part % parts * PLACE
            at = n * shape.sample_stride + c
            gradient_rows_of_place(
                values + at, gradient + at, shape.channels, shape.size, min(PLACE, shape.channels - c),
                backward.mean + c, backward.rows[0] + n * shape.channels + c, backward.rows[1] + n * shape.channels + c,
            )
    for part in prange(parts_of(shape.channels), nogil=True, num_threads=threads, schedule="static"):
        c = part * WIDTH
        totals_of_block(values, gradient, shape, backward, c, width_of(c, shape.channels))
    parts = shape.samples * shape.size
    for part in prange(parts, nogil=True, num_threads=threads, schedule="static"):
        at = part * shape.channels
        input_gradient_place(values + at, gradient + at, mask is NULL or mask[part] != 0, shape.channels,
                             backward.mean, backward.scale, backward.shift, backward.slope, out + at)


cdef void backward_block(
    const floating *x, const floating *dy, Shape shape, const unsigned char *mask, const floating *y,
    Backward backward, Py_ssize_t start, Py_ssize_t width, floating *g, floating *dx,
) noexcept nogil:
    """Find the gradients of channels ``start`` and following of channels-first memory."""
    cdef Py_ssize_t n, c, row, at, size = shape.samples * shape.sample_stride
    if y is not NULL:
        for n in range(shape.samples):
            at = n * shape.sample_stride + start * shape.size
            relu_gradient(y + at, dy + at, width * shape.size, g + at)
        dy = g
    for n in range(shape.samples):
        for c in range(start, start + width):
            row = n * shape.channels + c
            at = row * shape.size
            gradient_row(x + at, x + size, dy + at, dy + size, shape.size, backward.mean[c],
                         backward.rows[0] + row, backward.rows[1] + row, dx + at)
    totals_of_block(x, dy, shape, backward, start, width)
    for n in range(shape.samples):
        for c in range(start, start + width):
            at = (n * shape.channels + c) * shape.size
            input_gradient_row(x + at, dy + at, NULL if mask is NULL else mask + n * shape.size, shape.size,
                               backward.mean[c], backward.scale[c], backward.shift[c], backward.slope[c], dx + at,
                               width * shape.size)


cdef void totals_of_block(
    const floating *x, const floating *dy, Shape shape, Backward backward, Py_ssize_t start, Py_ssize_t width
) noexcept nogil:
    """Make the factors of dx, and the parameters' gradients, of up to 128 channels from their rows, or columns."""
    cdef double largest[2 * WIDTH]
    cdef double totals[2 * WIDTH]
    cdef int64_t words[4 * WIDTH]
    cdef const double *sums
    cdef Py_ssize_t k, n, c
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
            for c in range(width):
                totals[k * WIDTH + c] = total_of_words(
                    words[2 * k * WIDTH + c], words[(2 * k + 1) * WIDTH + c], largest[k * WIDTH + c]
                )
        else:
            for c in range(width):
                totals[k * WIDTH + c] = 0
            for n in range(shape.samples):
                for c in range(width):
                    totals[k * WIDTH + c] += sums[n * shape.channels + c]
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
