"""Sums of row values in float64, for the plain floating-point allreduce."""

from float64 cimport moments_of_words_float64, sum_rows_float64
from words cimport WIDTH, parts_of, width_of


def moment_sums_float64(
    const double[:, ::1] first_nc,       # IN
    const double[:, ::1] deviation_nc,   # IN
    const double[:, ::1] square_nc,      # IN
    const double[::1] count_n,           # IN
    double[:, ::1] words_4c,             # OUT  Σx and Σx², two words each
):
    cdef Py_ssize_t part, c, samples = first_nc.shape[0], channels = words_4c.shape[1]
    with nogil:
        for part in range(parts_of(channels)):
            c = part * WIDTH
            sum_rows_float64(&first_nc[0, c], &deviation_nc[0, c], &square_nc[0, c], channels, &count_n[0], samples,
                             width_of(c, channels), &words_4c[0, c], channels)


def moments_from_sums_float64(
    const double[:, ::1] words_4c,   # IN   summed over all ranks
    double count,                    # IN   values per channel over all ranks, at least 1
    double eps,                      # IN
    double[::1] mean_c,              # OUT
    double[::1] var_c,               # OUT  biased
    double[::1] invstd_c,            # OUT  1/√(var + eps); 0 for a constant channel with eps = 0
):
    cdef Py_ssize_t channels = mean_c.shape[0]
    with nogil:
        moments_of_words_float64(&words_4c[0, 0], channels, channels, count, eps, &mean_c[0], &var_c[0], &invstd_c[0])
