"""y = (x − μ)·scale + bias, computed in float64 and rounded once."""

from cython cimport floating


def normalize_ncs(
    const floating[:, :, ::1] x_ncs,    # IN
    const double[:, ::1] mean_nc,       # IN   (1 or N, C)
    const double[:, ::1] scale_nc,      # IN   (1 or N, C)
    const double[::1] bias_c,           # IN
    floating[:, :, ::1] y_ncs,          # OUT
):
    cdef Py_ssize_t n, m, c, s, count = x_ncs.shape[2]
    cdef bint per_sample = mean_nc.shape[0] > 1
    cdef double mean, scale, bias
    cdef const floating *x
    cdef floating *y
    with nogil:
        for n in range(x_ncs.shape[0]):
            m = n if per_sample else 0
            for c in range(x_ncs.shape[1]):
                x = &x_ncs[n, c, 0]
                y = &y_ncs[n, c, 0]
                mean = mean_nc[m, c]
                scale = scale_nc[m, c]
                bias = bias_c[c]
                for s in range(count):
                    y[s] = <floating>((x[s] - mean) * scale + bias)


def normalize_nsc(
    const floating[:, :, ::1] x_nsc,    # IN
    const double[:, ::1] mean_nc,       # IN   (1 or N, C)
    const double[:, ::1] scale_nc,      # IN   (1 or N, C)
    const double[::1] bias_c,           # IN
    floating[:, :, ::1] y_nsc,          # OUT
):
    cdef Py_ssize_t n, s, c, channels = x_nsc.shape[2]
    cdef bint per_sample = mean_nc.shape[0] > 1
    cdef const double *mean
    cdef const double *scale
    cdef const double *bias = &bias_c[0]
    cdef const floating *x
    cdef floating *y
    with nogil:
        for n in range(x_nsc.shape[0]):
            mean = &mean_nc[n if per_sample else 0, 0]
            scale = &scale_nc[n if per_sample else 0, 0]
            for s in range(x_nsc.shape[1]):
                x = &x_nsc[n, s, 0]
                y = &y_nsc[n, s, 0]
                for c in range(channels):
                    y[c] = <floating>((x[c] - mean[c]) * scale[c] + bias[c])


def normalize_rows(
    const floating[:, ::1] x_rd,     # IN
    const double[::1] mean_r,        # IN
    const double[::1] scale_r,       # IN
    const double[::1] weight_d,      # IN
    const double[::1] bias_d,        # IN
    floating[:, ::1] y_rd,           # OUT  (x − μ)·scale·weight + bias
):
    cdef Py_ssize_t r, d, features = x_rd.shape[1]
    cdef double mean, scale
    cdef const double *weight = &weight_d[0]
    cdef const double *bias = &bias_d[0]
    cdef const floating *x
    cdef floating *y
    with nogil:
        for r in range(x_rd.shape[0]):
            x = &x_rd[r, 0]
            y = &y_rd[r, 0]
            mean = mean_r[r]
            scale = scale_r[r]
            for d in range(features):
                y[d] = <floating>((x[d] - mean) * scale * weight[d] + bias[d])
