"""Sums over rows: what one sample's run of S values in one channel gives to the statistics.

ncs is channels-first memory (N, C, S), nsc is channels-last memory (N, S, C).
"""

from cython cimport floating
from cython.parallel cimport prange
from rows cimport PLACE, gradient_row, gradient_rows_of_place, moment_row, moment_rows_of_place


def moment_rows_ncs(
    const floating[:, :, ::1] x_ncs,       # IN
    const unsigned char[:, ::1] mask_ns,   # IN   (0, 0): all values count
    double[:, ::1] first_nc,               # OUT  x₀, the row's first value that counts; its mean where that is far out
    double[:, ::1] deviation_nc,           # OUT  Σ(x − x₀)
    double[:, ::1] square_nc,              # OUT  Σ(x − x₀)²
    int threads,                           # IN
):
    cdef Py_ssize_t row, n, c, channels = x_ncs.shape[1], count = x_ncs.shape[2]
    cdef const floating *end = &x_ncs[0, 0, 0] + x_ncs.shape[0] * channels * count
    cdef bint masked = mask_ns.shape[0] > 0
    for row in prange(x_ncs.shape[0] * channels, nogil=True, num_threads=threads, schedule="static"):
        n = row // channels
        c = row % channels
        moment_row(&x_ncs[n, c, 0], end, &mask_ns[n, 0] if masked else NULL, count,
                   &first_nc[n, c], &deviation_nc[n, c], &square_nc[n, c], <const floating *>NULL)


def moment_rows_nsc(
    const floating[:, :, ::1] x_nsc,       # IN
    const unsigned char[:, ::1] mask_ns,   # IN   (0, 0): all values count
    double[:, ::1] first_nc,               # OUT
    double[:, ::1] deviation_nc,           # OUT
    double[:, ::1] square_nc,              # OUT
    int threads,                           # IN
):
    cdef Py_ssize_t part, n, c, channels = x_nsc.shape[2], parts = (channels + PLACE - 1) // PLACE
    cdef bint masked = mask_ns.shape[0] > 0
    for part in prange(x_nsc.shape[0] * parts, nogil=True, num_threads=threads, schedule="static"):
        n = part // parts
        c = part % parts * PLACE
        moment_rows_of_place(&x_nsc[n, 0, c], channels, &mask_ns[n, 0] if masked else NULL, x_nsc.shape[1],
                             min(PLACE, channels - c), &first_nc[n, c], &deviation_nc[n, c], &square_nc[n, c])


def gradient_rows_ncs(
    const floating[:, :, ::1] x_ncs,    # IN
    const floating[:, :, ::1] dy_ncs,   # IN
    const double[:, ::1] mean_nc,       # IN   (1 or N, C)
    double[:, ::1] sum_nc,              # OUT  Σ dy
    double[:, ::1] product_nc,          # OUT  Σ dy·(x − μ)
    int threads,                        # IN
):
    cdef Py_ssize_t row, n, c, channels = x_ncs.shape[1], count = x_ncs.shape[2]
    cdef Py_ssize_t size = x_ncs.shape[0] * channels * count
    cdef const floating *x_end = &x_ncs[0, 0, 0] + size
    cdef const floating *dy_end = &dy_ncs[0, 0, 0] + size
    cdef bint per_sample = mean_nc.shape[0] > 1
    for row in prange(x_ncs.shape[0] * channels, nogil=True, num_threads=threads, schedule="static"):
        n = row // channels
        c = row % channels
        gradient_row(&x_ncs[n, c, 0], x_end, &dy_ncs[n, c, 0], dy_end, count, mean_nc[n if per_sample else 0, c],
                     &sum_nc[n, c], &product_nc[n, c], <const floating *>NULL)


def gradient_rows_nsc(
    const floating[:, :, ::1] x_nsc,    # IN
    const floating[:, :, ::1] dy_nsc,   # IN
    const double[:, ::1] mean_nc,       # IN   (1 or N, C)
    double[:, ::1] sum_nc,              # OUT
    double[:, ::1] product_nc,          # OUT
    int threads,                        # IN
):
    cdef Py_ssize_t part, n, c, channels = x_nsc.shape[2], parts = (channels + PLACE - 1) // PLACE
    cdef bint per_sample = mean_nc.shape[0] > 1
    for part in prange(x_nsc.shape[0] * parts, nogil=True, num_threads=threads, schedule="static"):
        n = part // parts
        c = part % parts * PLACE
        gradient_rows_of_place(&x_nsc[n, 0, c], &dy_nsc[n, 0, c], channels, x_nsc.shape[1], min(PLACE, channels - c),
                               &mean_nc[n if per_sample else 0, c], &sum_nc[n, c], &product_nc[n, c])
