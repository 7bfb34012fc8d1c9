"""Batch normalization of the ranks of a communicator: what each does before, between and after their messages.

The same steps as in batch.pyx. 4c, 2c are words or sums times channels, w is a range (see words.pxd). In plain float64
there are no ranges, and the words are float64 too.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int64_t
from backward cimport (
    Backward, backward_of, factors_of_channel, gradient_rows, input_gradient, select_gradients,
)
from columns cimport largest_of_columns, range_of_columns, sum_columns, sum_gradient_columns
from exact cimport (
    largest_count, largest_of_rows, moments_of_words, range_of_rows, sum_row_values, sum_rows, total_of_words,
)
from float64 cimport add_rows, moments_of_words_float64, sum_rows_float64
from forward cimport Forward, factors_of_y, forward_of, moment_rows, normalize
from shape cimport Shape, shape_of
from words cimport WIDTH, parts_of, width_of


def rank_ranges(
    const floating[:, :, ::1] x,           # IN   (N, C, S), or (N, S, C) where channels_last, as all of its kind
    bint channels_last,                    # IN
    const unsigned char[:, ::1] mask_ns,   # IN   None: all values count
    const double[::1] count_n,             # IN   values that count in each row of sample n
    double[:, :, ::1] rows_3nc,            # OUT  x₀, Σ(x − x₀) and Σ(x − x₀)² of rows; None for columns: dense, exact
    double[::1] range_w,                   # OUT  of x₀ and μᵣ ± σᵣ over rows r, or of columns; None in float64
    int threads,                           # IN
):
    cdef Shape shape = shape_of(x, channels_last, rows_3nc is None)
    cdef Forward forward = forward_of(count_n, 0, None, None, 0, range_w is not None, rows_3nc, None)
    cdef Py_ssize_t part, c, width
    cdef const floating *values = &x[0, 0, 0]
    cdef const unsigned char *mask = &mask_ns[0, 0] if mask_ns is not None else NULL
    cdef double *highest = NULL
    cdef double *lowest = NULL
    if rows_3nc is not None:
        moment_rows(values, shape, channels_last, mask, forward, threads)
    if range_w is None:
        return
    range_w[0] = largest_count(forward.counts, shape.samples)
    highest = &range_w[1]
    lowest = highest + shape.channels
    for part in prange(parts_of(shape.channels), nogil=True, num_threads=threads, schedule="static"):
        c = part * WIDTH
        width = width_of(c, shape.channels)
        if shape.columns:
            range_of_columns(values + c, shape.channels, mask, shape.samples, width, highest + c, lowest + c)
        else:
            range_of_rows(forward.rows[0] + c, forward.rows[1] + c, forward.rows[2] + c, shape.channels, forward.counts,
                          shape.samples, width, highest + c, lowest + c)


def rank_sums(
    const floating[:, :, ::1] x,           # IN
    bint channels_last,                    # IN
    const unsigned char[:, ::1] mask_ns,   # IN
    const double[::1] count_n,             # IN
    const double[:, :, ::1] rows_3nc,      # IN
    const double[::1] range_w,             # IN   over all ranks; None in float64
    int64_t[:, ::1] words_4c,              # OUT  exact: Σn·m and Σ[n·m² + M2], two words each; m = μᵣ − centre, scaled
    double[:, ::1] sums_4c,                # OUT  in float64: Σx and Σx², two words each; None where the other isn't
    int threads,                           # IN
):
    cdef Shape shape = shape_of(x, channels_last, rows_3nc is None)
    cdef Py_ssize_t part, c, width
    cdef const unsigned char *mask = &mask_ns[0, 0] if mask_ns is not None else NULL
    for part in prange(parts_of(shape.channels), nogil=True, num_threads=threads, schedule="static"):
        c = part * WIDTH
        width = width_of(c, shape.channels)
        if words_4c is None:
            sum_rows_float64(&rows_3nc[0, 0, c], &rows_3nc[1, 0, c], &rows_3nc[2, 0, c], shape.channels, &count_n[0],
                             shape.samples, width, &sums_4c[0, c], shape.channels)
        elif shape.columns:
            sum_columns(&x[0, 0, 0] + c, shape.channels, mask, shape.samples, width, &range_w[1 + c],
                        &range_w[1 + shape.channels + c], &words_4c[0, c], shape.channels)
        else:
            sum_rows(&rows_3nc[0, 0, c], &rows_3nc[1, 0, c], &rows_3nc[2, 0, c], shape.channels, &count_n[0],
                     range_w[0], shape.samples, width, &range_w[1 + c], &range_w[1 + shape.channels + c],
                     &words_4c[0, c], shape.channels)


def rank_normalize(
    const floating[:, :, ::1] x,          # IN
    bint channels_last,                   # IN
    int64_t count,                        # IN   values per channel over all ranks, at least 1
    const double[::1] range_w,            # IN   over all ranks; None in float64
    const int64_t[:, ::1] words_4c,       # IN   over all ranks; None in float64
    const double[:, ::1] sums_4c,         # IN   over all ranks; None where sums are exact
    const double[::1] weight_c,           # IN   None: 1
    const double[::1] bias_c,             # IN   None: 0
    double eps,                           # IN
    const floating[:, :, ::1] residual,   # IN   added to the result, or None
    bint relu,                            # IN   whether negative values then become 0
    double[:, ::1] moments_5c,            # OUT  μ, var (biased), 1/√(var + eps), and the factors of y: scale and bias
    floating[:, :, ::1] y,                # OUT  (x − μ)·scale + bias
    int threads,                          # IN
):
    cdef Shape shape = shape_of(x, channels_last, False)
    cdef bint exact = words_4c is not None
    cdef Forward forward = forward_of(None, <double>count, weight_c, bias_c, eps, exact, None, moments_5c)
    cdef Py_ssize_t part, c, width, channels = moments_5c.shape[1]
    for part in range(parts_of(channels)):
        c = part * WIDTH
        width = width_of(c, channels)
        if words_4c is None:
            moments_of_words_float64(&sums_4c[0, c], channels, width, <double>count, eps, forward.mean + c,
                                     forward.var + c, forward.invstd + c)
        else:
            moments_of_words(&words_4c[0, c], channels, width, &range_w[1 + c], &range_w[1 + channels + c], range_w[0],
                             <double>count, eps, forward.mean + c, forward.var + c, forward.invstd + c)
    factors_of_y(forward, 0, channels)
    if shape.samples * shape.sample_stride > 0:
        normalize(&x[0, 0, 0], shape, channels_last, forward, &residual[0, 0, 0] if residual is not None else NULL,
                  relu, &y[0, 0, 0], threads)


def rank_gradient_ranges(
    const floating[:, :, ::1] x,       # IN   (N, C, S), or (N, S, C) where channels_last, as all of its kind
    const floating[:, :, ::1] dy,      # IN
    bint channels_last,                # IN
    const double[:, ::1] moments_5c,   # IN   of the forward
    const floating[:, :, ::1] y,       # IN   result of a forward with relu, or None
    floating[:, :, ::1] g,             # OUT  with relu: dy where y > 0, else 0; None without
    double[:, :, ::1] rows_2nc,        # OUT  Σg and Σg·(x − μ) of rows; None for columns: dense, exact
    double[:, ::1] largest_2c,         # OUT  of their magnitudes; infinite where one is not finite; None in float64
    int threads,                       # IN
):
    cdef Shape shape = shape_of(x, channels_last, rows_2nc is None)
    cdef Backward backward = backward_of(moments_5c, 0, largest_2c is not None, rows_2nc, None)
    cdef const floating *gradient = &dy[0, 0, 0]
    cdef Py_ssize_t part, k, c, width
    if y is not None:
        select_gradients(&y[0, 0, 0], gradient, shape, &g[0, 0, 0], threads)
        gradient = &g[0, 0, 0]
    if rows_2nc is not None:
        gradient_rows(&x[0, 0, 0], gradient, shape, channels_last, backward, threads)
    if largest_2c is None:
        return
    for part in prange(parts_of(shape.channels), nogil=True, num_threads=threads, schedule="static"):
        c = part * WIDTH
        width = width_of(c, shape.channels)
        if shape.columns:
            largest_of_columns(&x[0, 0, 0] + c, gradient + c, shape.channels, shape.samples, width, backward.mean + c,
                               &largest_2c[0, c], &largest_2c[1, c])
        else:
            for k in range(2):
                largest_of_rows(backward.rows[k] + c, shape.channels, shape.samples, width, &largest_2c[k, c])


def rank_gradient_sums(
    const floating[:, :, ::1] x,       # IN
    const floating[:, :, ::1] g,       # IN   dy, or what relu leaves of it
    bint channels_last,                # IN
    const double[:, ::1] moments_5c,   # IN
    double[:, :, ::1] rows_2nc,        # IN
    const double[:, ::1] largest_2c,   # IN   over all ranks; None in float64
    int64_t[:, ::1] words_4c,          # OUT  exact: Σg and Σg·(x − μ), scaled, two words each
    double[:, ::1] sums_2c,            # OUT  in float64; None where the other isn't
    int threads,                       # IN
):
    cdef Shape shape = shape_of(x, channels_last, rows_2nc is None)
    cdef Py_ssize_t part, k, c, width
    for part in prange(parts_of(shape.channels), nogil=True, num_threads=threads, schedule="static"):
        c = part * WIDTH
        width = width_of(c, shape.channels)
        if shape.columns:
            sum_gradient_columns(&x[0, 0, 0] + c, &g[0, 0, 0] + c, shape.channels, shape.samples, width,
                                 &moments_5c[0, c], &largest_2c[0, c], &largest_2c[1, c], &words_4c[0, c],
                                 shape.channels)
        else:
            for k in range(2):
                if words_4c is not None:
                    sum_row_values(&rows_2nc[k, 0, c], shape.channels, shape.samples, width, &largest_2c[k, c],
                                   &words_4c[2 * k, c], shape.channels)
                else:
                    add_rows(&rows_2nc[k, 0, c], shape.channels, shape.samples, width, &sums_2c[k, c])


def rank_input_gradient(
    const floating[:, :, ::1] x,           # IN
    const floating[:, :, ::1] g,           # IN   dy, or what relu leaves of it; may be dx
    bint channels_last,                    # IN
    const unsigned char[:, ::1] mask_ns,   # IN   None: all values count
    int64_t count,                         # IN   values per channel over all ranks
    const double[:, ::1] moments_5c,       # IN   of the forward
    const double[:, ::1] largest_2c,       # IN   over all ranks; None in float64
    const int64_t[:, :, ::1] words_g4c,    # IN   over all ranks, and of this one alone; None in float64
    const double[:, :, ::1] sums_g2c,      # IN   over all ranks, and of this one alone; None where sums are exact
    bint total,                            # IN   whether the gradients of weight and bias are those of all ranks
    double[:, ::1] gradients_4c,           # OUT  of weight and bias, and through the mean and the variance
    floating[:, :, ::1] dx,                # OUT
    int threads,                           # IN
):
    cdef Shape shape = shape_of(x, channels_last, False)
    cdef Backward backward = backward_of(moments_5c, <double>count, words_g4c is not None, None, gradients_4c)
    cdef Py_ssize_t k, group, c
    cdef double sums[2][2]
    for c in range(gradients_4c.shape[1]):
        for group in range(2):
            for k in range(2):
                if words_g4c is None:
                    sums[group][k] = sums_g2c[group, k, c]
                else:
                    sums[group][k] = total_of_words(words_g4c[group, 2 * k, c], words_g4c[group, 2 * k + 1, c],
                                                    largest_2c[k, c])
        factors_of_channel(backward, c, sums[0][0], sums[0][1])
        if not total:
            backward.dweight[c] = backward.invstd[c] * sums[1][1]
            backward.dbias[c] = sums[1][0]
    if shape.samples * shape.sample_stride > 0:
        input_gradient(&x[0, 0, 0], &g[0, 0, 0], shape, channels_last, &mask_ns[0, 0] if mask_ns is not None else NULL,
                       backward, &dx[0, 0, 0], threads)
