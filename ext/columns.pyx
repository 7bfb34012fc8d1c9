"""Exact sums over columns: dense layers, where a row is one value and a channel a column of (N, C).

The same three steps and the same words as in exact.pyx, straight from the values.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int64_t
from columns cimport largest_of_columns, range_of_columns, sum_columns, sum_gradient_columns
from words cimport WIDTH, width_of


def moment_ranges_columns(
    const floating[:, ::1] x_nc,          # IN
    const unsigned char[::1] mask_n,      # IN   (0,): all values count
    double[::1] range_w,                  # OUT
    int threads,                          # IN
):
    cdef Py_ssize_t c, samples = x_nc.shape[0], channels = x_nc.shape[1]
    cdef const unsigned char *mask = &mask_n[0] if mask_n.shape[0] > 0 else NULL
    range_w[0] = 1
    for c in prange(0, channels, WIDTH, nogil=True, num_threads=threads, schedule="static"):
        range_of_columns(&x_nc[0, c], channels, mask, samples, width_of(c, channels),
                         &range_w[1 + c], &range_w[1 + channels + c])


def moment_sums_columns(
    const floating[:, ::1] x_nc,          # IN
    const unsigned char[::1] mask_n,      # IN
    const double[::1] range_w,            # IN   over all ranks
    int64_t[:, ::1] words_4c,             # OUT  Σm and Σm², two words each; m = x − centre, scaled
    int threads,                          # IN
):
    cdef Py_ssize_t c, samples = x_nc.shape[0], channels = x_nc.shape[1]
    cdef const unsigned char *mask = &mask_n[0] if mask_n.shape[0] > 0 else NULL
    for c in prange(0, channels, WIDTH, nogil=True, num_threads=threads, schedule="static"):
        sum_columns(&x_nc[0, c], channels, mask, samples, width_of(c, channels),
                    &range_w[1 + c], &range_w[1 + channels + c], &words_4c[0, c], channels)


def largest_gradients_columns(
    const floating[:, ::1] x_nc,       # IN
    const floating[:, ::1] dy_nc,      # IN
    const double[::1] mean_c,          # IN
    double[:, ::1] largest_2c,         # OUT  of |dy| and |dy·(x − μ)|; infinite where one is not finite
    int threads,                       # IN
):
    cdef Py_ssize_t c, samples = x_nc.shape[0], channels = x_nc.shape[1]
    for c in prange(0, channels, WIDTH, nogil=True, num_threads=threads, schedule="static"):
        largest_of_columns(&x_nc[0, c], &dy_nc[0, c], channels, samples, width_of(c, channels), &mean_c[c],
                           &largest_2c[0, c], &largest_2c[1, c])


def gradient_sums_columns(
    const floating[:, ::1] x_nc,       # IN
    const floating[:, ::1] dy_nc,      # IN
    const double[::1] mean_c,          # IN
    const double[:, ::1] largest_2c,   # IN   over all ranks
    int64_t[:, ::1] words_4c,          # OUT  Σdy and Σdy·(x − μ), scaled, two words each
    int threads,                       # IN
):
    cdef Py_ssize_t c, samples = x_nc.shape[0], channels = x_nc.shape[1]
    for c in prange(0, channels, WIDTH, nogil=True, num_threads=threads, schedule="static"):
        sum_gradient_columns(&x_nc[0, c], &dy_nc[0, c], channels, samples, width_of(c, channels), &mean_c[c],
                             &largest_2c[0, c], &largest_2c[1, c], &words_4c[0, c], channels)
