"""y = (x − μ)·scale + bias, computed in float64 and rounded once; then, in x's dtype, a residual and relu."""

from cython cimport floating
from cython.parallel cimport prange
from loops cimport normalize_place, normalize_row


def normalize_ncs(
    const floating[:, :, ::1] x_ncs,    # IN
    const double[:, ::1] mean_nc,       # IN   (1 or N, C)
    const double[:, ::1] scale_nc,      # IN   (1 or N, C)
    const double[::1] bias_c,           # IN
    const floating[:, :, ::1] residual,  # IN   added to the result; (0, 0, 0): none
    bint relu,                          # IN   whether negative values then become 0
    floating[:, :, ::1] y_ncs,          # OUT
    int threads,                        # IN
):
    cdef Py_ssize_t row, n, c, m, channels = x_ncs.shape[1]
    cdef bint added = residual.shape[0] > 0
    for row in prange(x_ncs.shape[0] * channels, nogil=True, num_threads=threads, schedule="static"):
        n = row // channels
        c = row % channels
        m = n if mean_nc.shape[0] > 1 else 0
        normalize_row(&x_ncs[n, c, 0], x_ncs.shape[2], mean_nc[m, c], scale_nc[m, c], bias_c[c],
                      &residual[n, c, 0] if added else NULL, relu, &y_ncs[n, c, 0], NULL)


def normalize_nsc(
    const floating[:, :, ::1] x_nsc,    # IN
    const double[:, ::1] mean_nc,       # IN   (1 or N, C)
    const double[:, ::1] scale_nc,      # IN   (1 or N, C)
    const double[::1] bias_c,           # IN
    const floating[:, :, ::1] residual,  # IN   added to the result; (0, 0, 0): none
    bint relu,                          # IN   whether negative values then become 0
    floating[:, :, ::1] y_nsc,          # OUT
    int threads,                        # IN
):
    cdef Py_ssize_t place, n, s, m, size = x_nsc.shape[1]
    cdef bint added = residual.shape[0] > 0
    for place in prange(x_nsc.shape[0] * size, nogil=True, num_threads=threads, schedule="static"):
        n = place // size
        s = place % size
        m = n if mean_nc.shape[0] > 1 else 0
        normalize_place(&x_nsc[n, s, 0], x_nsc.shape[2], &mean_nc[m, 0], &scale_nc[m, 0], &bias_c[0],
                        &residual[n, s, 0] if added else NULL, relu, &y_nsc[n, s, 0])
