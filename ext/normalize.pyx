"""y = (x − μ)·scale + bias, computed in float64 and rounded once."""

from cython cimport floating
from cython.parallel cimport prange


def normalize_ncs(
    const floating[:, :, ::1] x_ncs,    # IN
    const double[:, ::1] mean_nc,       # IN   (1 or N, C)
    const double[:, ::1] scale_nc,      # IN   (1 or N, C)
    const double[::1] bias_c,           # IN
    floating[:, :, ::1] y_ncs,          # OUT
    int threads,                        # IN
):
    cdef Py_ssize_t row, n, c, m, channels = x_ncs.shape[1]
    for row in prange(x_ncs.shape[0] * channels, nogil=True, num_threads=threads, schedule="static"):
        n = row // channels
        c = row % channels
        m = n if mean_nc.shape[0] > 1 else 0
        normalize_row(&x_ncs[n, c, 0], x_ncs.shape[2], mean_nc[m, c], scale_nc[m, c], bias_c[c], &y_ncs[n, c, 0])


cdef void normalize_row(
    const floating *x, Py_ssize_t count, double mean, double scale, double bias, floating *y
) noexcept nogil:
    cdef Py_ssize_t s
    for s in range(count):
        y[s] = <floating>((x[s] - mean) * scale + bias)


def normalize_nsc(
    const floating[:, :, ::1] x_nsc,    # IN
    const double[:, ::1] mean_nc,       # IN   (1 or N, C)
    const double[:, ::1] scale_nc,      # IN   (1 or N, C)
    const double[::1] bias_c,           # IN
    floating[:, :, ::1] y_nsc,          # OUT
    int threads,                        # IN
):
    cdef Py_ssize_t place, n, s, m, size = x_nsc.shape[1]
    for place in prange(x_nsc.shape[0] * size, nogil=True, num_threads=threads, schedule="static"):
        n = place // size
        s = place % size
        m = n if mean_nc.shape[0] > 1 else 0
        normalize_place(&x_nsc[n, s, 0], x_nsc.shape[2], &mean_nc[m, 0], &scale_nc[m, 0], &bias_c[0], &y_nsc[n, s, 0])


cdef void normalize_place(
    const floating *x, Py_ssize_t channels, const double *mean, const double *scale, const double *bias, floating *y
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(channels):
        y[c] = <floating>((x[c] - mean[c]) * scale[c] + bias[c])


def normalize_rows(
    const floating[:, ::1] x_rd,     # IN
    const double[::1] mean_r,        # IN
    const double[::1] scale_r,       # IN
    const double[::1] weight_d,      # IN
    const double[::1] bias_d,        # IN
    floating[:, ::1] y_rd,           # OUT  (x − μ)·scale·weight + bias
    int threads,                     # IN
):
    cdef Py_ssize_t r
    for r in prange(x_rd.shape[0], nogil=True, num_threads=threads, schedule="static"):
        normalize_features(
            &x_rd[r, 0], x_rd.shape[1], mean_r[r], scale_r[r], &weight_d[0], &bias_d[0], &y_rd[r, 0]
        )


cdef void normalize_features(
    const floating *x, Py_ssize_t features, double mean, double scale, const double *weight, const double *bias,
    floating *y,
) noexcept nogil:
    cdef Py_ssize_t d
    for d in range(features):
        y[d] = <floating>((x[d] - mean) * scale * weight[d] + bias[d])
