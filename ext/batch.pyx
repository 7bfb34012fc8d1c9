"""Batch normalization of one process alone, in one call a direction.

In channels-first memory the steps follow each other for one block of channels after the other, while the block is in
cache; meanwhile the next block and the memory of the result are fetched. In channels-last memory a block of channels is
torn out of the order that memory is read in, which costs more than it saves: each step goes through the whole array.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt
from libc.stdint cimport int64_t
from numpy cimport ndarray
from arrays cimport after, doubles, is_float32, mask_of, memory
from backward cimport (
    Backward, backward_of, gradient_rows, input_gradient, select_gradients, totals_of_block,
)
from forward cimport Forward, factors_of_y, forward_of, moment_rows, moments_of_block, normalize
from loops cimport input_gradient_row, normalize_row, relu_gradient
from rows cimport gradient_row, moment_row
from shape cimport Shape, shape_of
from words cimport WIDTH, parts_of, share_of

cdef extern from "parallel.h":
    pass


cdef enum:
    BLOCK_BYTES = 1 << 17  # of x: with y (or dy and dx) and the next block it stays in the second-level cache


cdef Py_ssize_t block_of(Shape shape, Py_ssize_t itemsize, int threads) noexcept:
    """Return the number of channels that share the cache, with at least one block a thread."""
    cdef Py_ssize_t block = BLOCK_BYTES // (shape.samples * shape.size * itemsize)
    return max(1, min(block, WIDTH, (shape.channels + threads - 1) // threads))


def batch_forward(
    ndarray x,               # IN   (N, C, S), or (N, S, C) where channels_last, float32 or float64, as all of its kind
    bint channels_last,      # IN
    ndarray mask_ns,         # IN   uint8, or None: all values count
    ndarray count_n,         # IN   float64 (as all that isn't said to be other): values that count in each row of n
    int64_t count,           # IN   values per channel, at least 1
    ndarray weight_c,        # IN   None: 1
    ndarray bias_c,          # IN   None: 0
    double eps,              # IN
    bint exact,              # IN   exact sums, else float64
    ndarray residual,        # IN   as x: added to the result, or None
    bint relu,               # IN   whether negative values then become 0
    Py_ssize_t block,        # IN   channels of channels-first memory that go together, up to 256; 0: as fit the cache
    ndarray rows_3nc,        # OUT  x₀, Σ(x − x₀) and Σ(x − x₀)² of rows; None for columns: dense, exact
    ndarray moments_5c,      # OUT  μ, var (biased), 1/√(var + eps), and the factors of y: scale and bias
    ndarray y,               # OUT  as x: (x − μ)·scale + bias
    int threads,             # IN
):
    cdef Shape shape = shape_of(x, channels_last, exact)
    cdef Forward forward = forward_of(shape, count_n, <double>count, weight_c, bias_c, eps, exact, rows_3nc, moments_5c)
    if is_float32(x):
        forward_all(<const float *>memory(x), shape, mask_of(mask_ns), forward, <const float *>memory(residual), relu,
                    block, <float *>memory(y), threads)
    else:
        forward_all(<const double *>memory(x), shape, mask_of(mask_ns), forward, <const double *>memory(residual), relu,
                    block, <double *>memory(y), threads)


cdef void forward_all(
    const floating *x, Shape shape, const unsigned char *mask, Forward forward, const floating *residual, bint relu,
    Py_ssize_t block, floating *y, int threads,
) noexcept:
    cdef Py_ssize_t part, c, parts, share = share_of(shape.channels, threads)
    if shape.channels_last:
        if not shape.columns:
            moment_rows(x, shape, mask, forward, threads)
        for part in prange(parts_of(shape.channels, share), nogil=True, num_threads=threads, schedule="static"):
            c = part * share
            moments_of_block(x, shape, mask, forward, c, min(share, shape.channels - c))
        normalize(x, shape, forward, residual, relu, y, threads)
    else:
        block = min(block, WIDTH) or block_of(shape, sizeof(floating), threads)
        parts = (shape.channels + block - 1) // block
        for part in prange(parts, nogil=True, num_threads=threads, schedule="static"):
            forward_block(x, shape, mask, forward, residual, relu, part * block,
                          min(block, shape.channels - part * block), y)


def batch_inference(
    ndarray x,               # IN   (N, C, S), or (N, S, C) where channels_last, float32 or float64, as all of its kind
    bint channels_last,      # IN
    ndarray mean_c,          # IN
    ndarray var_c,           # IN
    ndarray weight_c,        # IN   None: 1
    ndarray bias_c,          # IN   None: 0
    double eps,              # IN
    ndarray residual,        # IN   as x: added to the result, or None
    bint relu,               # IN   whether negative values then become 0
    ndarray moments_5c,      # OUT  μ, var, 1/√(var + eps), scale and bias
    ndarray y,               # OUT  as x: (x − μ)·scale + bias
    int threads,             # IN
):
    cdef Shape shape = shape_of(x, channels_last, False)
    cdef Forward forward = forward_of(shape, None, 0, weight_c, bias_c, eps, False, None, moments_5c)
    cdef const double *mean = doubles(mean_c)
    cdef const double *var = doubles(var_c)
    cdef Py_ssize_t c
    for c in range(shape.channels):
        forward.mean[c] = mean[c]
        forward.var[c] = var[c]
        forward.invstd[c] = 1 / sqrt(var[c] + eps)
    factors_of_y(forward, 0, shape.channels)
    if is_float32(x):
        normalize(<const float *>memory(x), shape, forward, <const float *>memory(residual), relu,
                  <float *>memory(y), threads)
    else:
        normalize(<const double *>memory(x), shape, forward, <const double *>memory(residual), relu,
                  <double *>memory(y), threads)


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
            moment_row(x + row * shape.size, end, after(mask, n * shape.size), shape.size, forward.rows[0] + row,
                       forward.rows[1] + row, forward.rows[2] + row, y + row * shape.size)
    moments_of_block(x, shape, mask, forward, start, width)
    for n in range(shape.samples):
        for c in range(start, start + width):
            at = (n * shape.channels + c) * shape.size
            normalize_row(x + at, shape.size, forward.mean[c], forward.scale[c], forward.shift[c], after(residual, at),
                          relu, y + at, x + at + width * shape.size)


def batch_backward(
    ndarray x,               # IN   (N, C, S), or (N, S, C) where channels_last, float32 or float64, as all of its kind
    ndarray dy,              # IN   as x
    bint channels_last,      # IN
    ndarray mask_ns,         # IN   uint8, or None: all values count
    int64_t count,           # IN   values per channel; 0: μ and var are constants
    ndarray moments_5c,      # IN   of the forward
    bint exact,              # IN   exact sums, else float64
    ndarray y,               # IN   as x: result of a forward with relu, or None
    Py_ssize_t block,        # IN   channels of channels-first memory that go together, up to 256; 0: as fit the cache
    ndarray rows_2nc,        # OUT  Σg and Σg·(x − μ) of rows; None for columns
    ndarray gradients_4c,    # OUT  of weight and bias, and through the mean and the variance
    ndarray g,               # OUT  as x: with relu dy where y > 0, else 0; or None
    ndarray dx,              # OUT  as x
    int threads,             # IN
):
    cdef Shape shape = shape_of(x, channels_last, exact)
    cdef Backward backward = backward_of(shape, moments_5c, <double>count, exact, rows_2nc, gradients_4c)
    if is_float32(x):
        backward_all(<const float *>memory(x), <const float *>memory(dy), shape, mask_of(mask_ns),
                     <const float *>memory(y), backward, block, <float *>memory(g), <float *>memory(dx), threads)
    else:
        backward_all(<const double *>memory(x), <const double *>memory(dy), shape, mask_of(mask_ns),
                     <const double *>memory(y), backward, block, <double *>memory(g), <double *>memory(dx), threads)


cdef void backward_all(
    const floating *x, const floating *dy, Shape shape, const unsigned char *mask, const floating *y,
    Backward backward, Py_ssize_t block, floating *g, floating *dx, int threads,
) noexcept:
    cdef Py_ssize_t part, c, parts, share = share_of(shape.channels, threads)
    if g is NULL:
        g = dx
    if shape.channels_last:
        if y is not NULL:
            select_gradients(y, dy, shape, g, threads)
            dy = g
        if not shape.columns:
            gradient_rows(x, dy, shape, backward, threads)
        for part in prange(parts_of(shape.channels, share), nogil=True, num_threads=threads, schedule="static"):
            c = part * share
            totals_of_block(x, dy, shape, backward, c, min(share, shape.channels - c))
        input_gradient(x, dy, shape, mask, backward, dx, threads)
    else:
        block = min(block, WIDTH) or block_of(shape, sizeof(floating), threads)
        parts = (shape.channels + block - 1) // block
        for part in prange(parts, nogil=True, num_threads=threads, schedule="static"):
            backward_block(x, dy, shape, mask, y, backward, part * block, min(block, shape.channels - part * block),
                           g, dx)


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
            input_gradient_row(x + at, dy + at, after(mask, n * shape.size), shape.size, backward.mean[c],
                               backward.scale[c], backward.shift[c], backward.slope[c], dx + at, width * shape.size)
