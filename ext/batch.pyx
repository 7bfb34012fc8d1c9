"""Batch normalization of one process alone, in one call a direction.

In channels-first memory the steps follow each other for one block of channels after the other, while the block is in
cache; meanwhile the next block and the memory of the result are fetched. In channels-last memory a block of channels is
torn out of the order that memory is read in, which costs more than it saves: each step goes through the whole array.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt
from libc.stdint cimport int64_t
from backward cimport (
    Backward, backward_of, gradient_rows, input_gradient, select_gradients, totals_of_block,
)
from forward cimport Forward, factors_of_y, forward_of, moment_rows, moments_of_block, normalize
from loops cimport input_gradient_row, normalize_row, relu_gradient
from rows cimport gradient_row, moment_row
from shape cimport Shape, shape_of
from words cimport WIDTH, parts_of, width_of


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
    cdef Forward forward = forward_of(count_n, <double>count, weight_c, bias_c, eps, exact, rows_3nc, moments_5c)
    cdef Py_ssize_t part, c, parts = (shape.channels + block - 1) // block
    cdef const floating *values = &x[0, 0, 0]
    cdef const unsigned char *mask = &mask_ns[0, 0] if mask_ns is not None else NULL
    cdef const floating *added = &residual[0, 0, 0] if residual is not None else NULL
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
    cdef Forward forward = forward_of(None, 0, weight_c, bias_c, eps, False, None, moments_5c)
    cdef const floating *added = &residual[0, 0, 0] if residual is not None else NULL
    cdef Py_ssize_t c
    for c in range(shape.channels):
        forward.mean[c] = mean_c[c]
        forward.var[c] = var_c[c]
        forward.invstd[c] = 1 / sqrt(var_c[c] + eps)
    factors_of_y(forward, 0, shape.channels)
    normalize(&x[0, 0, 0], shape, channels_last, forward, added, relu, &y[0, 0, 0], threads)


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
    cdef Backward backward = backward_of(moments_5c, <double>count, exact, rows_2nc, gradients_4c)
    cdef Py_ssize_t part, c, parts = (shape.channels + block - 1) // block
    cdef const floating *values = &x[0, 0, 0]
    cdef const floating *gradient = &dy[0, 0, 0]
    cdef const floating *result = &y[0, 0, 0] if y is not None else NULL
    cdef const unsigned char *mask = &mask_ns[0, 0] if mask_ns is not None else NULL
    cdef floating *out = &dx[0, 0, 0]
    cdef floating *selected = &g[0, 0, 0] if g is not None else out
    if channels_last:
        if result is not NULL:
            select_gradients(result, gradient, shape, selected, threads)
            gradient = selected
        if not shape.columns:
            gradient_rows(values, gradient, shape, channels_last, backward, threads)
        for part in prange(parts_of(shape.channels), nogil=True, num_threads=threads, schedule="static"):
            c = part * WIDTH
            totals_of_block(values, gradient, shape, backward, c, width_of(c, shape.channels))
        input_gradient(values, gradient, shape, channels_last, mask, backward, out, threads)
    else:
        for part in prange(parts, nogil=True, num_threads=threads, schedule="static"):
            backward_block(values, gradient, shape, mask, result, backward, part * block,
                           min(block, shape.channels - part * block), selected, out)


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
