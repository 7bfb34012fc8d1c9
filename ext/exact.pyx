"""Sums of row values without rounding (see fixed_point.h), and the statistics made from them.

Three steps, so that any number of ranks gives the same bits: the range of the rows of each channel
(combined over ranks by MAX), the sums of what is scaled by that range (combined by SUM), and the statistics
from the sums. 2c, 4c are words times channels, w is a range (see words.pxd).
"""

from libc.stdint cimport int64_t
from exact cimport (
    largest_count, largest_of_rows, moments_of_words, range_of_rows, sum_row_values, sum_rows, total_of_words,
)
from words cimport WIDTH, parts_of, width_of


def moment_ranges(
    const double[:, ::1] first_nc,       # IN
    const double[:, ::1] deviation_nc,   # IN
    const double[:, ::1] square_nc,      # IN
    const double[::1] count_n,           # IN   values that count in each row of sample n
    double[::1] range_w,                 # OUT  of x₀ and μᵣ ± σᵣ over rows r
):
    cdef Py_ssize_t samples = first_nc.shape[0], channels = first_nc.shape[1]
    with nogil:
        range_w[0] = largest_count(&count_n[0], samples)
        range_of_rows(&first_nc[0, 0], &deviation_nc[0, 0], &square_nc[0, 0], channels, &count_n[0], samples, channels,
                      &range_w[1], &range_w[1 + channels])


def moment_sums(
    const double[:, ::1] first_nc,       # IN
    const double[:, ::1] deviation_nc,   # IN
    const double[:, ::1] square_nc,      # IN
    const double[::1] count_n,           # IN
    const double[::1] range_w,           # IN   over all ranks
    int64_t[:, ::1] words_4c,            # OUT  Σn·m, then Σ[n·m² + M2], two words each; m = μᵣ − centre, scaled
):
    cdef Py_ssize_t part, c, samples = first_nc.shape[0], channels = first_nc.shape[1]
    with nogil:
        for part in range(parts_of(channels)):
            c = part * WIDTH
            sum_rows(&first_nc[0, c], &deviation_nc[0, c], &square_nc[0, c], channels, &count_n[0], range_w[0],
                     samples, width_of(c, channels), &range_w[1 + c], &range_w[1 + channels + c],
                     &words_4c[0, c], channels)


def moments_from_sums(
    const int64_t[:, ::1] words_4c,   # IN   summed over all ranks
    const double[::1] range_w,        # IN   over all ranks
    int64_t count,                    # IN   values per channel over all ranks, at least 1
    double eps,                       # IN
    double[::1] mean_c,               # OUT
    double[::1] var_c,                # OUT  biased
    double[::1] invstd_c,             # OUT  1/√(var + eps); 0 for a constant channel with eps = 0
):
    cdef Py_ssize_t part, c, channels = mean_c.shape[0]
    with nogil:
        for part in range(parts_of(channels)):
            c = part * WIDTH
            moments_of_words(&words_4c[0, c], channels, width_of(c, channels), &range_w[1 + c],
                             &range_w[1 + channels + c], range_w[0], <double>count, eps, &mean_c[c], &var_c[c],
                             &invstd_c[c])


def largest_gradients(
    const double[:, ::1] sum_nc,        # IN   Σ dy of each row
    const double[:, ::1] product_nc,    # IN   Σ dy·(x − μ)
    double[:, ::1] largest_2c,          # OUT  of their magnitudes; infinite where one is not finite
):
    cdef Py_ssize_t samples = sum_nc.shape[0], channels = sum_nc.shape[1]
    with nogil:
        largest_of_rows(&sum_nc[0, 0], channels, samples, channels, &largest_2c[0, 0])
        largest_of_rows(&product_nc[0, 0], channels, samples, channels, &largest_2c[1, 0])


def gradient_sums(
    const double[:, ::1] sum_nc,        # IN
    const double[:, ::1] product_nc,    # IN
    const double[:, ::1] largest_2c,    # IN   over all ranks
    int64_t[:, ::1] words_4c,           # OUT  sums over n, scaled, two words each
):
    cdef Py_ssize_t part, c, width, samples = sum_nc.shape[0], channels = sum_nc.shape[1]
    with nogil:
        for part in range(parts_of(channels)):
            c = part * WIDTH
            width = width_of(c, channels)
            sum_row_values(&sum_nc[0, c], channels, samples, width, &largest_2c[0, c], &words_4c[0, c], channels)
            sum_row_values(&product_nc[0, c], channels, samples, width, &largest_2c[1, c], &words_4c[2, c], channels)


def totals_from_sums(
    const int64_t[:, :, ::1] words_g4c,   # IN   of g groups of ranks: all of them, and this one alone
    const double[:, ::1] largest_2c,      # IN   over all ranks
    double[:, :, ::1] total_g2c,          # OUT
):
    cdef Py_ssize_t g, k, c
    with nogil:
        for g in range(total_g2c.shape[0]):
            for k in range(2):
                for c in range(total_g2c.shape[2]):
                    total_g2c[g, k, c] = total_of_words(
                        words_g4c[g, 2 * k, c], words_g4c[g, 2 * k + 1, c], largest_2c[k, c]
                    )
