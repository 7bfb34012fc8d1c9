"""Batch normalization of the ranks of a communicator: what each does before, between and after their messages.

The same steps as in batch.pyx. 4c, 2c are words or sums times channels, w is a range (see words.pxd). In plain float64
there are no ranges, and the words are float64 too.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int64_t
from numpy cimport ndarray
from arrays cimport doubles, integers, is_float32, mask_of, memory
from backward cimport (
    Backward, backward_of, factors_of_channel, gradient_rows, input_gradient, select_gradients,
)
from columns cimport largest_of_columns, range_of_columns, sum_columns, sum_columns_among_rows, sum_gradient_columns
from exact cimport (
    largest_count, largest_of_rows, moments_of_words, range_of_rows, sum_row_values, sum_rows, totals_of_words,
)
from float64 cimport add_rows, moments_of_words_float64, sum_rows_float64
from forward cimport Forward, factors_of_y, forward_of, moment_rows, normalize
from shape cimport Shape, shape_of
from words cimport WIDTH, parts_of, share_of

cdef extern from "parallel.h":
    pass


def rank_ranges(
    ndarray x,            # IN   (N, C, S), or (N, S, C) where channels_last, float32 or float64, as all of its kind
    bint channels_last,   # IN
    ndarray mask_ns,      # IN   uint8, or None: all values count
    ndarray count_n,      # IN   float64 (as all that isn't said to be other): values that count in each row of sample n
    ndarray rows_3nc,     # OUT  x₀, Σ(x − x₀) and Σ(x − x₀)² of rows; None for columns: dense, exact
    ndarray range_w,      # OUT  of x₀ and μᵣ ± σᵣ over rows r, or of columns; None in float64
    int threads,          # IN
):
    cdef Shape shape = shape_of(x, channels_last, rows_3nc is None)
    cdef Forward forward = forward_of(shape, count_n, 0, None, None, 0, range_w is not None, rows_3nc, None)
    if is_float32(x):
        ranges_of(<const float *>memory(x), shape, mask_of(mask_ns), forward, doubles(range_w), threads)
    else:
        ranges_of(<const double *>memory(x), shape, mask_of(mask_ns), forward, doubles(range_w), threads)


cdef void ranges_of(
    const floating *x, Shape shape, const unsigned char *mask, Forward forward, double *range_w, int threads
) noexcept:
    cdef Py_ssize_t part, c, width, share = share_of(shape.channels, threads)
    cdef double *highest
    cdef double *lowest
    if not shape.columns:
        moment_rows(x, shape, mask, forward, threads)
    if range_w is NULL:
        return
    range_w[0] = largest_count(forward.counts, shape.samples)
    highest = range_w + 1
    lowest = highest + shape.channels
    for part in prange(parts_of(shape.channels, share), nogil=True, num_threads=threads, schedule="static"):
        c = part * share
        width = min(share, shape.channels - c)
        if shape.columns:
            range_of_columns(x + c, shape.channels, mask, shape.samples, width, highest + c, lowest + c)
        else:
            range_of_rows(forward.rows[0] + c, forward.rows[1] + c, forward.rows[2] + c, shape.channels, forward.counts,
                          shape.samples, width, highest + c, lowest + c)


def rank_sums(
    ndarray x,            # IN   as above
    bint channels_last,   # IN
    ndarray mask_ns,      # IN   uint8, or None
    ndarray count_n,      # IN
    ndarray rows_3nc,     # IN
    ndarray range_w,      # IN   over all ranks; None in float64
    ndarray words_4c,     # OUT  int64: exact Σn·m and Σ[n·m² + M2], two words each; m = μᵣ − centre, scaled
    ndarray sums_4c,      # OUT  in float64: Σx and Σx², two words each; None where the other isn't
    int threads,          # IN
):
    cdef Shape shape = shape_of(x, channels_last, rows_3nc is None)
    cdef Forward forward = forward_of(shape, count_n, 0, None, None, 0, words_4c is not None, rows_3nc, None)
    if is_float32(x):
        sums_of(<const float *>memory(x), shape, mask_of(mask_ns), forward, doubles(range_w), integers(words_4c),
                doubles(sums_4c), threads)
    else:
        sums_of(<const double *>memory(x), shape, mask_of(mask_ns), forward, doubles(range_w), integers(words_4c),
                doubles(sums_4c), threads)


cdef void sums_of(
    const floating *x, Shape shape, const unsigned char *mask, Forward forward, const double *range_w, int64_t *words,
    double *sums, int threads,
) noexcept:
    cdef Py_ssize_t part, c, width, share = share_of(shape.channels, threads)
    cdef const double *highest = NULL
    cdef const double *lowest = NULL
    if range_w is not NULL:
        highest = range_w + 1
        lowest = highest + shape.channels
    for part in prange(parts_of(shape.channels, share), nogil=True, num_threads=threads, schedule="static"):
        c = part * share
        width = min(share, shape.channels - c)
        if not forward.exact:
            sum_rows_float64(forward.rows[0] + c, forward.rows[1] + c, forward.rows[2] + c, shape.channels,
                             forward.counts, shape.samples, width, sums + c, shape.channels)
        elif shape.columns and range_w[0] <= 1:
            sum_columns(x + c, shape.channels, mask, shape.samples, width, highest + c, lowest + c, words + c,
                        shape.channels)
        elif shape.columns:
            sum_columns_among_rows(x + c, shape.channels, mask, range_w[0], shape.samples, width, highest + c,
                                   lowest + c, words + c, shape.channels)
        else:
            sum_rows(forward.rows[0] + c, forward.rows[1] + c, forward.rows[2] + c, shape.channels, forward.counts,
                     range_w[0], shape.samples, width, highest + c, lowest + c, words + c, shape.channels)


def rank_normalize(
    ndarray x,            # IN   as above
    bint channels_last,   # IN
    int64_t count,        # IN   values per channel over all ranks, at least 1
    ndarray range_w,      # IN   over all ranks; None in float64
    ndarray words_4c,     # IN   int64: over all ranks; None in float64
    ndarray sums_4c,      # IN   over all ranks; None where sums are exact
    ndarray weight_c,     # IN   None: 1
    ndarray bias_c,       # IN   None: 0
    double eps,           # IN
    ndarray residual,     # IN   as x: added to the result, or None
    bint relu,            # IN   whether negative values then become 0
    ndarray moments_5c,   # OUT  μ, var (biased), 1/√(var + eps), and the factors of y: scale and bias
    ndarray y,            # OUT  as x: (x − μ)·scale + bias
    int threads,          # IN
):
    cdef Shape shape = shape_of(x, channels_last, False)
    cdef Forward forward = forward_of(shape, None, <double>count, weight_c, bias_c, eps, words_4c is not None, None,
                                      moments_5c)
    cdef const double *bounds = doubles(range_w)
    cdef const int64_t *words = integers(words_4c)
    cdef const double *sums = doubles(sums_4c)
    cdef Py_ssize_t part, c, width, share = share_of(shape.channels, threads)
    for part in range(parts_of(shape.channels, share)):
        c = part * share
        width = min(share, shape.channels - c)
        if not forward.exact:
            moments_of_words_float64(sums + c, shape.channels, width, forward.count, eps, forward.mean + c,
                                     forward.var + c, forward.invstd + c)
        else:
            moments_of_words(words + c, shape.channels, width, bounds + 1 + c, bounds + 1 + shape.channels + c,
                             bounds[0], forward.count, eps, forward.mean + c, forward.var + c, forward.invstd + c)
    factors_of_y(forward, 0, shape.channels)
    if is_float32(x):
        normalize(<const float *>memory(x), shape, forward, <const float *>memory(residual), relu, <float *>memory(y),
                  threads)
    else:
        normalize(<const double *>memory(x), shape, forward, <const double *>memory(residual), relu,
                  <double *>memory(y), threads)


def rank_gradient_ranges(
    ndarray x,            # IN   (N, C, S), or (N, S, C) where channels_last, float32 or float64, as all of its kind
    ndarray dy,           # IN   as x
    bint channels_last,   # IN
    ndarray moments_5c,   # IN   of the forward
    ndarray y,            # IN   as x: result of a forward with relu, or None
    ndarray g,            # OUT  as x: with relu dy where y > 0, else 0; None without
    ndarray rows_2nc,     # OUT  Σg and Σg·(x − μ) of rows; None for columns: dense, exact
    ndarray largest_2c,   # OUT  of their magnitudes; infinite where one is not finite; None in float64
    int threads,          # IN
):
    cdef Shape shape = shape_of(x, channels_last, rows_2nc is None)
    cdef Backward backward = backward_of(shape, moments_5c, 0, largest_2c is not None, rows_2nc, None)
    if is_float32(x):
        gradient_ranges_of(<const float *>memory(x), <const float *>memory(dy), shape, backward,
                           <const float *>memory(y), <float *>memory(g), doubles(largest_2c), threads)
    else:
        gradient_ranges_of(<const double *>memory(x), <const double *>memory(dy), shape, backward,
                           <const double *>memory(y), <double *>memory(g), doubles(largest_2c), threads)


cdef void gradient_ranges_of(
    const floating *x, const floating *dy, Shape shape, Backward backward, const floating *y, floating *g,
    double *largest, int threads,
) noexcept:
    cdef Py_ssize_t part, k, c, width, share = share_of(shape.channels, threads)
    if y is not NULL:
        select_gradients(y, dy, shape, g, threads)
        dy = g
    if not shape.columns:
        gradient_rows(x, dy, shape, backward, threads)
    if largest is NULL:
        return
    for part in prange(parts_of(shape.channels, share), nogil=True, num_threads=threads, schedule="static"):
        c = part * share
        width = min(share, shape.channels - c)
        if shape.columns:
            largest_of_columns(x + c, dy + c, shape.channels, shape.samples, width, backward.mean + c, largest + c,
                               largest + shape.channels + c)
        else:
            for k in range(2):
                largest_of_rows(backward.rows[k] + c, shape.channels, shape.samples, width,
                                largest + k * shape.channels + c)


def rank_gradient_sums(
    ndarray x,            # IN   as above
    ndarray g,            # IN   as x: dy, or what relu leaves of it
    bint channels_last,   # IN
    ndarray moments_5c,   # IN
    ndarray rows_2nc,     # IN
    ndarray largest_2c,   # IN   over all ranks; None in float64
    ndarray words_4c,     # OUT  int64: exact Σg and Σg·(x − μ), scaled, two words each
    ndarray sums_2c,      # OUT  in float64; None where the other isn't
    int threads,          # IN
):
    cdef Shape shape = shape_of(x, channels_last, rows_2nc is None)
    cdef Backward backward = backward_of(shape, moments_5c, 0, words_4c is not None, rows_2nc, None)
    if is_float32(x):
        gradient_sums_of(<const float *>memory(x), <const float *>memory(g), shape, backward, doubles(largest_2c),
                         integers(words_4c), doubles(sums_2c), threads)
    else:
        gradient_sums_of(<const double *>memory(x), <const double *>memory(g), shape, backward, doubles(largest_2c),
                         integers(words_4c), doubles(sums_2c), threads)


cdef void gradient_sums_of(
    const floating *x, const floating *g, Shape shape, Backward backward, const double *largest, int64_t *words,
    double *sums, int threads,
) noexcept:
    cdef Py_ssize_t part, k, c, width, channels = shape.channels, share = share_of(channels, threads)
    for part in prange(parts_of(channels, share), nogil=True, num_threads=threads, schedule="static"):
        c = part * share
        width = min(share, channels - c)
        if shape.columns:
            sum_gradient_columns(x + c, g + c, channels, shape.samples, width, backward.mean + c, largest + c,
                                 largest + channels + c, words + c, channels)
        else:
            for k in range(2):
                if backward.exact:
                    sum_row_values(backward.rows[k] + c, channels, shape.samples, width, largest + k * channels + c,
                                   words + 2 * k * channels + c, channels)
                else:
                    add_rows(backward.rows[k] + c, channels, shape.samples, width, sums + k * channels + c)


def rank_input_gradient(
    ndarray x,              # IN   as above
    ndarray g,              # IN   as x: dy, or what relu leaves of it; may be dx
    bint channels_last,     # IN
    ndarray mask_ns,        # IN   uint8, or None: all values count
    int64_t count,          # IN   values per channel over all ranks
    ndarray moments_5c,     # IN   of the forward
    ndarray largest_2c,     # IN   over all ranks; None in float64
    ndarray words_g4c,      # IN   int64: over all ranks, and of this one alone; None in float64
    ndarray sums_g2c,       # IN   over all ranks, and of this one alone; None where sums are exact
    bint total,             # IN   whether the gradients of weight and bias are those of all ranks
    ndarray gradients_4c,   # OUT  of weight and bias, and through the mean and the variance
    ndarray dx,             # OUT  as x
    int threads,            # IN
):
    cdef Shape shape = shape_of(x, channels_last, False)
    cdef Backward backward = backward_of(shape, moments_5c, <double>count, words_g4c is not None, None, gradients_4c)
    cdef Py_ssize_t part, k, start, width, c, channels = shape.channels
    cdef const double *largest = doubles(largest_2c)
    cdef const int64_t *words = integers(words_g4c)
    cdef const double *sums[4]  # over all ranks and of this one alone, of g and of g·(x − μ)
    cdef double totals[4][WIDTH]
    for part in range(parts_of(channels, WIDTH)):
        start = part * WIDTH
        width = min(WIDTH, channels - start)
        for k in range(4):
            if backward.exact:
                sums[k] = totals[k]
                totals_of_words(words + 2 * k * channels + start, channels, width, largest + k % 2 * channels + start,
                                totals[k])
            else:
                sums[k] = doubles(sums_g2c) + k * channels + start
        for c in range(width):
            factors_of_channel(backward, start + c, sums[0][c], sums[1][c])
            if not total:
                backward.dweight[start + c] = backward.invstd[start + c] * sums[3][c]
                backward.dbias[start + c] = sums[2][c]
    if is_float32(x):
        input_gradient(<const float *>memory(x), <const float *>memory(g), shape, mask_of(mask_ns), backward,
                       <float *>memory(dx), threads)
    else:
        input_gradient(<const double *>memory(x), <const double *>memory(g), shape, mask_of(mask_ns), backward,
                       <double *>memory(dx), threads)
